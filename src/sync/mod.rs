//! The one source of concurrency primitives: std in a normal build, loom in a model.
//!
//! Every file of the lower floors takes its atomics, locks, cells and maps from here, and this is the
//! only folder that says `cfg(loom)`. loom cannot look inside `arc-swap` or `scc`, so [`SnapshotCell`]
//! and [`NameMap`] have stand-ins in a model. The models prove our protocol over a linearisable cell and
//! map; they do not prove those two crates.

mod cell;
mod guard;
mod map;
mod numbers;
mod wait;
mod word;

pub(crate) use std::sync::{Arc, OnceLock, Weak};

#[cfg(loom)]
pub(crate) use loom::{
    sync::{Mutex, MutexGuard, atomic},
    thread,
};
#[cfg(not(loom))]
pub(crate) use std::{
    sync::{Mutex, MutexGuard, atomic},
    thread,
};

pub(crate) use cell::{SnapshotCache, SnapshotCell, SnapshotGuard};
pub(crate) use guard::guard;
pub(crate) use map::NameMap;
pub(crate) use numbers::{thread_number, unique_number};
pub(crate) use wait::block_until;
pub(crate) use word::{increment_unless, update_from};

/// Declares a thread local with a constant first value, so that no access checks whether it is initialised.
macro_rules! const_thread_local {
    ($(#[$attribute:meta])* static $name:ident: $type:ty = $first:expr;) => {
        #[cfg(not(loom))]
        std::thread_local! {
            $(#[$attribute])*
            static $name: $type = const { $first };
        }
        #[cfg(loom)]
        loom::thread_local! {
            $(#[$attribute])*
            static $name: $type = $first;
        }
    };
}
pub(crate) use const_thread_local;

/// Locks `mutex`, also when a thread panicked while it held the lock.
///
/// No user code runs under our locks, so the protected value is consistent.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
