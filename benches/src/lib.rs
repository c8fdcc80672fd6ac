//! What the benches share: the payload, the listeners, the obvious alternatives, and how figures are printed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

pub use figures::{Figure, in_processes, line, median, quantile};

mod figures;
pub mod served;

/// A payload of 32 bytes, passed by reference.
#[derive(Clone, Debug, Default)]
pub struct Payload {
    /// What listeners add up.
    pub amount: u64,
    /// What they do not look at.
    pub rest: [u64; 3],
}

/// A listener behind a pointer, as every alternative keeps it.
pub type Call = Arc<dyn Fn(&Payload) + Send + Sync>;

/// Returns a listener that does one relaxed load and store on a cell of its own.
pub fn listener() -> impl Fn(&Payload) + Send + Sync + 'static {
    let cell = AtomicU64::new(0);
    move |payload| cell.store(cell.load(Ordering::Relaxed).wrapping_add(payload.amount), Ordering::Relaxed)
}

/// The floor: a vector that nobody can change, and a loop.
pub fn raw(listeners: usize) -> Vec<Call> {
    (0..listeners).map(|_| Arc::new(listener()) as Call).collect()
}

/// Calls them in order: the loop of every alternative of ours.
///
/// Four in a row, as an emit does it: a shorter loop takes up to half as long again, depending on
/// where in a cache line the compiler happens to put it.
#[inline(always)]
pub fn call_each<C>(calls: &[C], payload: &Payload)
where
    C: std::ops::Deref<Target: Fn(&Payload)>,
{
    let (fours, rest) = calls.as_chunks::<4>();
    for [first, second, third, fourth] in fours {
        first(payload);
        second(payload);
        third(payload);
        fourth(payload);
    }
    rest.iter().for_each(|call| call(payload));
}

/// What many write first: a vector under a lock that is held while the listeners run.
#[derive(Default)]
pub struct Locked(RwLock<Vec<Call>>);

impl Locked {
    /// Makes one with that many listeners.
    #[must_use]
    pub fn new(listeners: usize) -> Self {
        Self(RwLock::new(raw(listeners)))
    }

    /// Calls them all under the read lock.
    pub fn emit(&self, payload: &Payload) {
        call_each(&self.0.read().unwrap_or_else(PoisonError::into_inner), payload);
    }
}

impl std::fmt::Debug for Locked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Locked").finish_non_exhaustive()
    }
}

/// The best that can be done: the same closures side by side in memory, and pointers to them.
#[must_use]
pub fn packed(listeners: usize) -> Vec<&'static (dyn Fn(&Payload) + Send + Sync)> {
    let closures: Vec<_> = (0..listeners).map(|_| listener()).collect();
    // Leaked: a bench makes a few.
    closures.leak().iter().map(|call| call as _).collect()
}

/// A small generator of numbers that look random, the same in each run (xorshift64*).
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// Starts it anywhere but at 0.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    /// Returns a number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % end
    }
}
