//! [`block_until`]: a thread that waits for what a task would be woken for.

use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use super::{Arc, thread};

/// Blocks this thread until `poll` is ready; false when `deadline` comes first.
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
                // A model knows no time: it has no deadlines either.
                #[cfg(not(loom))]
                thread::park_timeout(left);
            }
        }
    }
    true
}
