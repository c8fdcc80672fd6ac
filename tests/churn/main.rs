//! Load tests: users and clients come and go on several threads. Environment variables set the size.
//!
//! At more than the default size run the tests one after the other, with `--test-threads=1`.

#![allow(missing_docs, reason = "tests")]

#[cfg(feature = "ws")]
#[path = "../sockets/mod.rs"]
mod sockets;
#[path = "../view/mod.rs"]
mod view;

mod presence;
#[cfg(feature = "ws")]
mod recovery;
