//! [`SnapshotCell`], a cell that publishes immutable values, and [`SnapshotCache`], one owner's copy of its value.
//!
//! loom cannot look inside `arc-swap`, so a model has a stand-in, which is linearisable too.

#[cfg(loom)]
pub(crate) use model::{SnapshotCache, SnapshotCell, SnapshotGuard};
#[cfg(not(loom))]
pub(crate) use real::{SnapshotCache, SnapshotCell, SnapshotGuard};

#[cfg(not(loom))]
mod real {
    use std::marker::PhantomData;

    use crate::sync::Arc;

    /// A borrowed snapshot, which keeps its value alive without a write to shared memory.
    ///
    /// Never hold one across an `.await`: when a thread holds more than eight, each further one costs more.
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

        /// Returns a value that was current a moment ago: a hint, on which correctness must not depend.
        #[inline]
        pub(crate) fn peek(&self) -> SnapshotGuard<T> {
            self.load()
        }

        /// Replaces the value with the result of `change`, or leaves it when that is `None`.
        ///
        /// `change` must be pure: it runs again when another thread was faster. The replaced value
        /// is returned, so that the caller decides where it is dropped.
        pub(crate) fn update<R>(&self, mut change: impl FnMut(&T) -> Option<(T, R)>) -> Option<(Arc<T>, R)> {
            let mut current = self.0.load();
            loop {
                let (next, answer) = change(&current)?;
                let seen = self.0.compare_and_swap(&*current, Arc::new(next));
                if Arc::ptr_eq(&seen, &current) {
                    return Some((arc_swap::Guard::into_inner(seen), answer));
                }
                current = seen;
            }
        }
    }

    /// One owner's copy of the value in a cell of `H`: a load costs one comparison while the cell does not change.
    ///
    /// It keeps its value alive until the next load, also after the cell has another one.
    pub(crate) struct SnapshotCache<H, T>(arc_swap::cache::Cache<CellOf<H, T>, Arc<T>>);

    /// Dereferences to the cell inside an `H`, as the cache wants it.
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

        /// Returns the current value: the cached one if the cell still has it.
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
}

#[cfg(loom)]
mod model {
    use crate::sync::Arc;
    use crate::sync::atomic::{AtomicUsize, Ordering};

    pub(crate) type SnapshotGuard<T> = Arc<T>;

    /// A loom atomic index into a list of all versions ever published.
    ///
    /// The list is behind a std lock on purpose: a loom lock would add release edges that the real
    /// cell lacks, and would hide a missing fence.
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

        /// The first try is made on a guess, the newest version, without a load of the index: loom remembers only
        /// the last access to an atomic, and a load right before the compare-and-swap would make it forget the
        /// other thread's access, and with it the race.
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
                match self.index.compare_exchange(seen, index, Ordering::AcqRel, Ordering::Acquire) {
                    Ok(_) => return Some((current, answer)),
                    Err(actual) => seen = actual,
                }
            }
        }
    }

    /// Holds one version; checks it by a relaxed load of the index, as the real cache does.
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
            if cell.index.load(Ordering::Relaxed) != self.index {
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
}
