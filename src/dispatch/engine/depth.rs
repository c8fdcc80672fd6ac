//! How deep this thread is in emits that run inside listeners, over all dispatchers.
//!
//! A chain of listeners that emit each other for ever would overflow the stack, which nothing can
//! catch. Past [`MAX_DEPTH`] an emit calls nobody and says so in its report. An async emit is counted
//! while it is polled.

use std::cell::Cell;

use crate::sync::const_thread_local;

/// How many emits may run inside one another on one thread, over all dispatchers.
///
/// One more calls nobody; its report has a failure with [`FailureCause::TooDeep`](crate::dispatch::FailureCause::TooDeep).
pub const MAX_DEPTH: usize = 64;

const_thread_local! {
    static DEPTH: Cell<usize> = Cell::new(0);
}

/// One level, until it is dropped.
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
