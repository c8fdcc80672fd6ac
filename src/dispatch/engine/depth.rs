//! The depth of nested emits on this thread, over all dispatchers.
//!
//! Listeners that emit each other's events without end would overflow the stack, which nothing can catch.
//! Past [`MAX_DEPTH`] an emit calls no listener, and its report has a failure. An async emit counts while it
//! is polled.

use std::cell::Cell;

use crate::sync::const_thread_local;

/// How many emits may be nested on one thread, over all dispatchers.
///
/// A deeper emit calls no listener; its report has a failure with
/// [`FailureCause::TooDeep`](crate::dispatch::FailureCause::TooDeep).
pub const MAX_DEPTH: usize = 64;

const_thread_local! {
    static DEPTH: Cell<usize> = Cell::new(0);
}

/// One level of nesting, until it is dropped.
pub(crate) struct Depth {
    outside: usize,
}

impl Depth {
    #[inline]
    pub(crate) fn enter() -> Self {
        DEPTH.with(|depth| {
            let outside = depth.get();
            depth.set(outside + 1);
            Self { outside }
        })
    }

    #[inline]
    pub(crate) fn is_over(&self) -> bool {
        self.outside >= MAX_DEPTH
    }
}

impl Drop for Depth {
    #[inline]
    fn drop(&mut self) {
        DEPTH.with(|depth| depth.set(self.outside));
    }
}
