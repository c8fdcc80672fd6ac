//! The one door to concurrency: std in a normal build, loom in a model.
//!
//! Every file of the lower floors takes its atomics, locks, cells and maps from here, and this is
//! the only file that says `cfg(loom)`. loom cannot look inside `arc-swap` or `scc`, so
//! [`SnapshotCell`] and [`NameMap`] have stand-ins there: what the models prove is our protocol
//! over a cell and a map that are linearisable, not those two crates.
//!
//! [`guard`] runs user code and turns a panic into a value. In a model it lets panics through:
//! otherwise a failing assertion inside a listener would become a report, and the model would pass.

use std::num::NonZeroU64;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

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

#[cfg(not(loom))]
pub(crate) use real::{NameMap, SnapshotCache, SnapshotCell, SnapshotGuard};

#[cfg(loom)]
pub(crate) use model::{NameMap, SnapshotCache, SnapshotCell, SnapshotGuard};

/// Declares a thread local with a constant first value, so that no access asks whether it is there yet.
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
/// No user code runs under a lock of ours, so what the lock protects is whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Adds one to `count` unless it is `barred`, with Acquire either way; returns whether it did.
pub(crate) fn increment_unless(count: &atomic::AtomicUsize, barred: usize) -> bool {
    // A guess instead of a load: costs a failed compare-and-swap now and then, and lets loom see
    // the race with the other thread (see `SnapshotCell::update` of the model).
    let mut seen = 1;
    while seen != barred {
        match count.compare_exchange_weak(seen, seen + 1, atomic::Ordering::Acquire, atomic::Ordering::Acquire) {
            Ok(_) => return true,
            Err(actual) => seen = actual,
        }
    }
    false
}

/// Returns a number that this process has not had before.
pub(crate) fn unique_number() -> NonZeroU64 {
    // A model's atomics live as long as one of its runs.
    #[cfg(loom)]
    loom::lazy_static! {
        static ref NEXT: atomic::AtomicU64 = atomic::AtomicU64::new(1);
    }
    #[cfg(not(loom))]
    static NEXT: atomic::AtomicU64 = atomic::AtomicU64::new(1);
    // Relaxed: only the number itself matters.
    NonZeroU64::new(NEXT.fetch_add(1, atomic::Ordering::Relaxed)).expect("no process counts to 2^64")
}

/// Returns a number for this thread: threads get theirs in turn.
pub(crate) fn thread_number() -> usize {
    static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    std::thread_local! {
        // Relaxed: only the number itself matters.
        static NUMBER: usize = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
    NUMBER.with(|number| *number)
}

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

/// Runs user code; a panic comes back as its message.
#[inline]
pub(crate) fn guard<R>(run: impl FnOnce() -> R) -> Result<R, String> {
    #[cfg(loom)]
    return Ok(run());
    // Unwind safety: nothing of ours is half-changed while user code runs, and what the closure
    // captured is either dropped or the user's own to judge.
    #[cfg(not(loom))]
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).map_err(panic_message)
}

/// Returns what a panic said; a payload whose own destructor panics is leaked.
#[cold]
#[cfg(not(loom))]
fn panic_message(payload: Box<dyn std::any::Any + Send>) -> String {
    let message = if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic whose payload is not a string".to_owned()
    };
    if let Err(second) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(second);
    }
    message
}

#[cfg(not(loom))]
mod real {
    use std::borrow::Borrow;
    use std::hash::Hash;
    use std::marker::PhantomData;

    use super::Arc;

    /// A borrowed snapshot: keeps its value alive, costs no shared write.
    ///
    /// Never hold one across an `.await`: past eight held by a thread each costs more.
    pub(crate) type SnapshotGuard<T> = arc_swap::Guard<Arc<T>>;

    /// A cell that publishes immutable values; readers never wait.
    pub(crate) struct SnapshotCell<T>(arc_swap::ArcSwap<T>);

    impl<T> SnapshotCell<T> {
        pub(crate) fn new(value: Arc<T>) -> Self {
            Self(arc_swap::ArcSwap::new(value))
        }

        /// Returns the current value without writing to a shared cache line.
        #[inline]
        pub(crate) fn load(&self) -> SnapshotGuard<T> {
            self.0.load()
        }

        /// Returns a value that was current a moment ago: a hint, on which nothing may depend.
        #[inline]
        pub(crate) fn peek(&self) -> SnapshotGuard<T> {
            self.load()
        }

        /// Replaces the value by what `change` makes of it, or leaves it when that is `None`.
        ///
        /// `change` must be pure: it runs again when another thread was faster. The replaced value
        /// is returned, so that the caller decides where it is dropped.
        pub(crate) fn update<R>(&self, mut change: impl FnMut(&T) -> Option<(T, R)>) -> Option<(Arc<T>, R)> {
            let mut current = self.0.load();
            loop {
                let (next, answer) = change(&current)?;
                let next = Arc::new(next);
                #[cfg(fault = "lost_update")]
                {
                    let old = self.0.swap(next);
                    return Some((old, answer));
                }
                #[cfg(not(fault = "lost_update"))]
                {
                    let seen = self.0.compare_and_swap(&*current, next);
                    if Arc::ptr_eq(&seen, &current) {
                        return Some((arc_swap::Guard::into_inner(seen), answer));
                    }
                    current = seen;
                }
            }
        }
    }

    /// One owner's copy of what a cell of `H` holds: a load costs one comparison while nothing changes.
    ///
    /// It keeps that value alive, also after another took its place, until the next load.
    pub(crate) struct SnapshotCache<H, T>(arc_swap::cache::Cache<CellOf<H, T>, Arc<T>>);

    /// Gives the cache its cell, whatever the cell is part of.
    struct CellOf<H, T>(Arc<H>, PhantomData<fn() -> T>);

    impl<H, T> Clone for CellOf<H, T> {
        fn clone(&self) -> Self {
            Self(Arc::clone(&self.0), PhantomData)
        }
    }

    impl<H: AsRef<SnapshotCell<T>>, T> std::ops::Deref for CellOf<H, T> {
        type Target = arc_swap::ArcSwap<T>;

        #[inline]
        fn deref(&self) -> &Self::Target {
            &(*self.0).as_ref().0
        }
    }

    impl<H: AsRef<SnapshotCell<T>>, T> SnapshotCache<H, T> {
        pub(crate) fn new(holder: Arc<H>) -> Self {
            Self(arc_swap::cache::Cache::new(CellOf(holder, PhantomData)))
        }

        /// Returns the current value: the one at hand if the cell still has it.
        #[inline]
        pub(crate) fn load(&mut self) -> &Arc<T> {
            self.0.load()
        }
    }

    impl<H, T> Clone for SnapshotCache<H, T> {
        fn clone(&self) -> Self {
            Self(self.0.clone())
        }
    }

    /// A concurrent map from names (or ids) to shared values; it shrinks with what is in it.
    pub(crate) struct NameMap<K, V: ?Sized>(scc::HashIndex<K, Arc<V>, foldhash::fast::RandomState>);

    impl<K: Clone + Hash + Eq + 'static, V: ?Sized + 'static> NameMap<K, V> {
        pub(crate) fn new() -> Self {
            // Thread locals end in the reverse order of their beginning. The map needs those of its epochs to its
            // end, so they begin before a thread local that the map is made for; else its drop would abort.
            drop(scc::Guard::new());
            Self(scc::HashIndex::with_hasher(foldhash::fast::RandomState::default()))
        }

        /// Runs `read` on the value of `key`. An epoch is held meanwhile: never call user code in it.
        #[inline]
        pub(crate) fn with<Q, R>(&self, key: &Q, read: impl FnOnce(&Arc<V>) -> R) -> Option<R>
        where
            K: Borrow<Q>,
            Q: Hash + Eq + ?Sized,
        {
            self.0.peek_with(key, |_, value| read(value))
        }

        /// Returns the value of `key`, inserting `fresh` when there is none.
        pub(crate) fn get_or_insert(&self, key: K, fresh: Arc<V>) -> Arc<V> {
            Arc::clone(self.0.entry_sync(key).or_insert(fresh).get())
        }

        /// Removes `key` if it still maps to `value`; returns whether it did.
        pub(crate) fn remove_if_same<Q>(&self, key: &Q, value: &Arc<V>) -> bool
        where
            K: Borrow<Q>,
            Q: Hash + Eq + ?Sized,
        {
            self.0.remove_if_sync(key, |found| Arc::ptr_eq(found, value))
        }

        pub(crate) fn len(&self) -> usize {
            self.0.len()
        }

        /// Returns the values present now; one inserted or removed meanwhile may be among them or not.
        pub(crate) fn values(&self) -> Vec<Arc<V>> {
            self.0.iter(&scc::Guard::new()).map(|(_, value)| Arc::clone(value)).collect()
        }
    }
}

#[cfg(loom)]
mod model {
    use std::borrow::Borrow;
    use std::collections::HashMap;
    use std::hash::Hash;

    use super::Arc;
    use super::atomic::{AtomicUsize, Ordering};

    pub(crate) type SnapshotGuard<T> = Arc<T>;

    /// A loom atomic index into a list of all versions ever published.
    ///
    /// The list is behind a std lock on purpose: a loom lock would add release edges that the real
    /// cell does not give, and would hide a missing fence.
    pub(crate) struct SnapshotCell<T> {
        index: AtomicUsize,
        versions: std::sync::Mutex<Vec<Arc<T>>>,
    }

    impl<T> SnapshotCell<T> {
        pub(crate) fn new(value: Arc<T>) -> Self {
            Self { index: AtomicUsize::new(0), versions: std::sync::Mutex::new(vec![value]) }
        }

        fn version(&self, index: usize) -> Arc<T> {
            Arc::clone(&self.versions.lock().expect("no code runs under this lock")[index])
        }

        pub(crate) fn load(&self) -> SnapshotGuard<T> {
            // Acquire: pairs with the Release of `update`.
            self.version(self.index.load(Ordering::Acquire))
        }

        /// Does not touch the index: a hint orders nothing, and a load would hide races (see `update`).
        pub(crate) fn peek(&self) -> SnapshotGuard<T> {
            Arc::clone(self.versions.lock().expect("no code runs under this lock").last().expect("it starts with one"))
        }

        /// The first try is made on a guess, the newest version, without a load of the index: loom
        /// remembers one access to an atomic, and a load of one's own right before the
        /// compare-and-swap would make it forget the other thread's, and with it the race.
        pub(crate) fn update<R>(&self, mut change: impl FnMut(&T) -> Option<(T, R)>) -> Option<(Arc<T>, R)> {
            let mut seen = self.versions.lock().expect("no code runs under this lock").len() - 1;
            loop {
                let current = self.version(seen);
                let Some((next, answer)) = change(&current) else {
                    let newest = self.index.load(Ordering::Acquire);
                    if newest == seen {
                        return None;
                    }
                    seen = newest;
                    continue;
                };
                let index = {
                    let mut versions = self.versions.lock().expect("no code runs under this lock");
                    versions.push(Arc::new(next));
                    versions.len() - 1
                };
                #[cfg(fault = "lost_update")]
                {
                    self.index.store(index, Ordering::Release);
                    return Some((current, answer));
                }
                #[cfg(not(fault = "lost_update"))]
                match self.index.compare_exchange(seen, index, Ordering::AcqRel, Ordering::Acquire) {
                    Ok(_) => return Some((current, answer)),
                    Err(actual) => seen = actual,
                }
            }
        }
    }

    /// Knows which version it has; asks by a relaxed load, as the real one does.
    pub(crate) struct SnapshotCache<H, T> {
        holder: Arc<H>,
        index: usize,
        value: Arc<T>,
    }

    impl<H: AsRef<SnapshotCell<T>>, T> SnapshotCache<H, T> {
        pub(crate) fn new(holder: Arc<H>) -> Self {
            let cell = (*holder).as_ref();
            let index = cell.index.load(Ordering::Acquire);
            let value = cell.version(index);
            Self { holder, index, value }
        }

        pub(crate) fn load(&mut self) -> &Arc<T> {
            let cell = (*self.holder).as_ref();
            if !cfg!(fault = "stale_publisher") && cell.index.load(Ordering::Relaxed) != self.index {
                self.index = cell.index.load(Ordering::Acquire);
                self.value = cell.version(self.index);
            }
            &self.value
        }
    }

    impl<H, T> Clone for SnapshotCache<H, T> {
        fn clone(&self) -> Self {
            Self { holder: Arc::clone(&self.holder), index: self.index, value: Arc::clone(&self.value) }
        }
    }

    fn lock<T>(mutex: &loom::sync::Mutex<T>) -> loom::sync::MutexGuard<'_, T> {
        mutex.lock().expect("a model stops at its first panic")
    }

    /// A locked map. The lock is loom's, so that a model switches threads between any two calls.
    pub(crate) struct NameMap<K, V: ?Sized>(loom::sync::Mutex<HashMap<K, Arc<V>>>);

    impl<K: Hash + Eq, V: ?Sized> NameMap<K, V> {
        pub(crate) fn new() -> Self {
            Self(loom::sync::Mutex::new(HashMap::new()))
        }

        pub(crate) fn with<Q, R>(&self, key: &Q, read: impl FnOnce(&Arc<V>) -> R) -> Option<R>
        where
            K: Borrow<Q>,
            Q: Hash + Eq + ?Sized,
        {
            // `read` may reach a point where loom switches threads: never under the lock.
            let found = lock(&self.0).get(key).cloned();
            found.as_ref().map(read)
        }

        pub(crate) fn get_or_insert(&self, key: K, fresh: Arc<V>) -> Arc<V> {
            Arc::clone(lock(&self.0).entry(key).or_insert(fresh))
        }

        pub(crate) fn remove_if_same<Q>(&self, key: &Q, value: &Arc<V>) -> bool
        where
            K: Borrow<Q>,
            Q: Hash + Eq + ?Sized,
        {
            let removed = {
                let mut map = lock(&self.0);
                if map.get(key).is_some_and(|found| Arc::ptr_eq(found, value)) { map.remove(key) } else { None }
            };
            removed.is_some()
        }

        pub(crate) fn len(&self) -> usize {
            lock(&self.0).len()
        }

        pub(crate) fn values(&self) -> Vec<Arc<V>> {
            lock(&self.0).values().cloned().collect()
        }
    }
}
