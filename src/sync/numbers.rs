//! Numbers unique within the process, and a number for each thread.

use std::num::NonZeroU64;

use super::atomic;

/// Returns a number that this process has not used before.
pub(crate) fn unique_number() -> NonZeroU64 {
    // The atomics of a model live for one of its runs.
    #[cfg(loom)]
    loom::lazy_static! {
        static ref NEXT: atomic::AtomicU64 = atomic::AtomicU64::new(1);
    }
    #[cfg(not(loom))]
    static NEXT: atomic::AtomicU64 = atomic::AtomicU64::new(1);
    // Relaxed: only the number itself matters.
    NonZeroU64::new(NEXT.fetch_add(1, atomic::Ordering::Relaxed)).expect("no process counts to 2^64")
}

/// Returns the number of this thread: threads are numbered in the order of their first call.
pub(crate) fn thread_number() -> usize {
    static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    std::thread_local! {
        // Relaxed: only the number itself matters.
        static NUMBER: usize = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
    NUMBER.with(|number| *number)
}
