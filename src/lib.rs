#![cfg_attr(docsrs, feature(doc_cfg))]
// The front page is README.md, whose links name files, as a code host and a registry want them. Markdown takes the first
// definition of a label; so these, before it, lead to what rustdoc has instead. `.ci/links.sh` compares their labels.
#![cfg_attr(all(doc, feature = "ws"), doc = include_str!("docs/front/pictures.md"))]
#![cfg_attr(all(doc, feature = "ws"), doc = include_str!("docs/front/pages.md"))]
#![cfg_attr(all(doc, feature = "ws"), doc = include_str!("docs/front/files.md"))]
#![cfg_attr(feature = "ws", doc = include_str!("../README.md"))]
// The README's server needs `ws`, and hidden doctest lines would show on a code host: without `ws` the page is shorter.
#![cfg_attr(not(feature = "ws"), doc = include_str!("docs/front/without_ws.md"))]

mod sync;

mod snapshot;

pub mod name;

#[cfg(feature = "groups")]
mod clock;

#[cfg(feature = "metrics")]
pub mod observe;
#[cfg(not(feature = "metrics"))]
mod observe;

pub mod dispatch;

#[cfg(feature = "groups")]
pub mod frame;

#[cfg(feature = "groups")]
pub mod channel;

#[cfg(feature = "groups")]
pub mod group;

#[cfg(feature = "ws")]
pub mod ws;

pub mod docs;

/// A boxed error, as the handler of a connection returns it. `?` converts any error type into it.
pub type Error = dispatch::BoxError;

pub use dispatch::{Dispatcher, Event, EventError, Listener, Priority, Report, Subscription};
pub use name::Key;
