//! [`block_until`]: blocks a thread on a poll function.

use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use super::{Arc, thread};

/// Blocks this thread until `poll` is ready; returns false when `deadline` comes first.
pub(crate) fn block_until(deadline: Option<Instant>, mut poll: impl FnMut(&mut Context<'_>) -> Poll<()>) -> bool {
    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut cx = Context::from_waker(&waker);
    while poll(&mut cx).is_pending() {
        match deadline {
            None => thread::park(),
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return false;
                }
                // A model has no time, and so no deadlines.
                #[cfg(not(loom))]
                thread::park_timeout(left);
            }
        }
    }
    true
}
