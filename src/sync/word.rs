//! Changes of one atomic word by compare-and-swap.

use super::atomic::{AtomicUsize, Ordering};

/// Changes a word to the result of `next`, by `swap`, a compare-and-swap; returns the value before.
///
/// Returns `Err` with the value for which `next` returned `None`; the word is unchanged then. Both closures run again
/// each time another thread was faster.
///
/// Like `fetch_update`, except that it begins with `guess` instead of a load. `next` must return `Some` for the guess,
/// or the word is never read. A wrong guess costs one failed compare-and-swap. The reason is loom: it remembers only
/// the last access to an atomic, and a load right before the compare-and-swap would make it forget the other thread's
/// access, and with it the race.
#[inline]
pub(crate) fn update_from<V: Copy>(
    guess: V,
    next: impl Fn(V) -> Option<V>,
    swap: impl Fn(V, V) -> Result<V, V>,
) -> Result<V, V> {
    let mut seen = guess;
    loop {
        let Some(wanted) = next(seen) else { return Err(seen) };
        match swap(seen, wanted) {
            Ok(before) => return Ok(before),
            Err(actual) => seen = actual,
        }
    }
}

/// Adds one to `count` unless it is `barred`, with Acquire either way; returns whether it did.
pub(crate) fn increment_unless(count: &AtomicUsize, barred: usize) -> bool {
    let next = |seen| (seen != barred).then(|| seen + 1);
    let swap = |seen, next| count.compare_exchange_weak(seen, next, Ordering::Acquire, Ordering::Acquire);
    update_from(1, next, swap).is_ok()
}
