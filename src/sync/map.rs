//! [`NameMap`]: a concurrent map from names (or ids) to shared values.
//!
//! loom cannot look inside `scc`, so a model has a stand-in, which is linearisable too.

#[cfg(loom)]
pub(crate) use model::NameMap;
#[cfg(not(loom))]
pub(crate) use real::NameMap;

#[cfg(not(loom))]
mod real {
    use std::borrow::Borrow;
    use std::hash::Hash;

    use crate::sync::Arc;

    /// A concurrent map from names (or ids) to shared values; it shrinks as entries are removed.
    pub(crate) struct NameMap<K, V: ?Sized>(scc::HashIndex<K, Arc<V>, foldhash::fast::RandomState>);

    impl<K: Clone + Hash + Eq + 'static, V: ?Sized + 'static> NameMap<K, V> {
        pub(crate) fn new() -> Self {
            // Thread locals are dropped in the reverse order of their creation. The drop of a map needs the thread
            // local of its epochs, and aborts without it. So that one is created first, in case the map is in a
            // thread local itself.
            drop(scc::Guard::new());
            Self(scc::HashIndex::with_hasher(foldhash::fast::RandomState::default()))
        }

        /// Runs `read` on the value of `key`. An epoch is held meanwhile: `read` must not call user code.
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

        /// Returns the values present now, with or without those that are inserted or removed meanwhile.
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

    use crate::sync::Arc;

    fn lock<T>(mutex: &loom::sync::Mutex<T>) -> loom::sync::MutexGuard<'_, T> {
        mutex.lock().expect("a model stops at its first panic")
    }

    /// A map behind a lock of loom's, so that a model can switch threads between any two calls.
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
