//! The chunked immutable map behind listener tables and group members.
//!
//! A [`Snapshot`] is a list of values sorted by key, in chunks that clones share. A clone copies the
//! spine; a change copies the one chunk it touches, unless no clone shares it. So the next listener table
//! is a clone with one change, while emits still run the old one; and an owner under a lock changes its
//! list in place as long as no reader holds a clone. Reading is a walk over slices.
//!
//! ```text
//! One    keys [ 1 2 3 ]  values [ a b c ]               up to 64, the first 4 in place
//! Many   [ · · · ]                                      the spine
//!          | | +-> keys [ 9 ]      values [ i ]         an append opens a chunk, it splits none
//!          | +---> keys [ 4 .. 8 ] values [ d .. h ]    64 at most, 256 in a list above 4096
//!          +-----> keys [ 1 .. 3 ] values [ a .. c ]
//! ```
//!
//! Keys and values are stored apart: a walk reads values only, and touches few cache lines.
//!
//! Always: no chunk of a `Many` is empty, a chunk has as many keys as values, keys rise strictly over
//! the whole list, `len` is the sum of the chunks' lengths. Plain values, no synchronisation.

use smallvec::SmallVec;

use crate::sync::Arc;

/// Chunk sizes: many small chunks make a change cheap, few large ones keep the spine short.
const SMALL_CHUNK: usize = 64;
const LARGE_CHUNK: usize = 256;
/// A list longer than this uses large chunks.
const LARGE_LIST: usize = 4096;
/// Values that a list of one chunk holds without another allocation.
const IN_PLACE: usize = 4;

/// A value that a list gives up by this call, never by a plain drop: a drop of user code may need a guard.
pub(crate) trait Release {
    /// Gives up one reference to the shared value.
    fn release(self);
}

/// An immutable list of values, sorted by key.
#[derive(Clone)]
pub(crate) struct Snapshot<K, V: Release> {
    spine: Spine<K, V>,
    len: usize,
}

#[derive(Clone)]
enum Spine<K, V: Release> {
    One { values: SmallVec<[V; IN_PLACE]>, keys: SmallVec<[K; IN_PLACE]> },
    Many(Vec<Arc<Chunk<K, V>>>),
}

#[derive(Clone)]
struct Chunk<K, V: Release> {
    keys: Vec<K>,
    values: Vec<V>,
}

impl<K, V: Release> Drop for Snapshot<K, V> {
    fn drop(&mut self) {
        if let Spine::One { values, .. } = &mut self.spine {
            values.drain(..).for_each(V::release);
        }
    }
}

impl<K, V: Release> Drop for Chunk<K, V> {
    fn drop(&mut self) {
        self.values.drain(..).for_each(V::release);
    }
}

/// The place of an entry in a list, or of one to insert: the number of its chunk, and the index there.
#[derive(Clone, Copy, Default)]
pub(crate) struct Place {
    pub(crate) chunk: usize,
    pub(crate) index: usize,
}

impl<K: Ord + Clone, V: Clone + Release> Snapshot<K, V> {
    pub(crate) fn new() -> Self {
        Self { spine: Spine::One { values: SmallVec::new(), keys: SmallVec::new() }, len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[cfg(feature = "groups")]
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the value of this key.
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        let place = self.find(key).ok()?;
        Some(&self.values(place.chunk)?[place.index])
    }

    /// Returns the values from this key to the end of a chunk; none when the list has no key from this one on.
    #[cfg(feature = "groups")]
    pub(crate) fn run_from(&self, key: &K) -> &[V] {
        let (Ok(place) | Err(place)) = self.find(key);
        match self.values(place.chunk) {
            Some(values) if place.index < values.len() => &values[place.index..],
            _ => self.values(place.chunk + 1).unwrap_or(&[]),
        }
    }

    /// Inserts a value; false when its key is taken.
    pub(crate) fn insert(&mut self, key: K, value: V) -> bool {
        let Err(place) = self.find(&key) else { return false };
        let size = self.chunk_size();
        match &mut self.spine {
            Spine::One { values, keys } if keys.len() < SMALL_CHUNK => {
                keys.insert(place.index, key);
                values.insert(place.index, value);
            }
            Spine::One { values, keys } => {
                let first = Chunk { keys: std::mem::take(keys).into_vec(), values: std::mem::take(values).into_vec() };
                let mut chunks = vec![Arc::new(first)];
                insert(&mut chunks, &place, (key, value), SMALL_CHUNK);
                self.spine = Spine::Many(chunks);
            }
            Spine::Many(chunks) => insert(chunks, &place, (key, value), size),
        }
        self.len += 1;
        true
    }

    /// Removes the value of this key; false when there is none.
    pub(crate) fn remove(&mut self, key: &K) -> bool {
        let Ok(place) = self.find(key) else { return false };
        let size = self.chunk_size();
        match &mut self.spine {
            Spine::One { values, keys } => {
                keys.remove(place.index);
                values.remove(place.index).release();
            }
            Spine::Many(chunks) => {
                remove(chunks, &place, size);
                if let [only] = &chunks[..] {
                    let (keys, values) = (only.keys.iter().cloned().collect(), only.values.iter().cloned().collect());
                    self.spine = Spine::One { values, keys };
                }
            }
        }
        self.len -= 1;
        true
    }

    /// Returns all values, if they are one chunk.
    #[inline(always)]
    pub(crate) fn single(&self) -> Option<&[V]> {
        let Spine::One { values, .. } = &self.spine else { return None };
        Some(values)
    }

    /// Returns the values, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &V> {
        (0..).map_while(|chunk| self.values(chunk)).flatten()
    }

    /// Returns the keys and their values, in order.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&K, &V)> {
        (0..).map_while(|chunk| Some(self.keys(chunk).iter().zip(self.values(chunk)?))).flatten()
    }

    /// Returns the values of one chunk by number, in order; `None` past the last.
    #[inline(always)]
    pub(crate) fn values(&self, chunk: usize) -> Option<&[V]> {
        match &self.spine {
            Spine::One { values, .. } => (chunk == 0).then_some(values),
            Spine::Many(chunks) => chunks.get(chunk).map(|chunk| &chunk.values[..]),
        }
    }

    /// Returns the key and the value at this place.
    pub(crate) fn at(&self, place: Place) -> (&K, &V) {
        let values = self.values(place.chunk).expect("a place is in one of the chunks");
        (&self.keys(place.chunk)[place.index], &values[place.index])
    }

    fn keys(&self, chunk: usize) -> &[K] {
        match &self.spine {
            Spine::One { keys, .. } if chunk == 0 => keys,
            Spine::One { .. } => &[],
            Spine::Many(chunks) => chunks.get(chunk).map_or(&[], |chunk| &chunk.keys),
        }
    }

    /// Returns the last value.
    pub(crate) fn last(&self) -> Option<&V> {
        match &self.spine {
            Spine::One { values, .. } => values.last(),
            Spine::Many(chunks) => chunks.last()?.values.last(),
        }
    }

    fn chunk_size(&self) -> usize {
        if self.len > LARGE_LIST { LARGE_CHUNK } else { SMALL_CHUNK }
    }

    /// Returns where `key` is (`Ok`) or belongs (`Err`).
    fn find(&self, key: &K) -> Result<Place, Place> {
        // The last chunk that starts at or before the key; the first one when all start later.
        let chunk = match &self.spine {
            Spine::One { .. } => 0,
            Spine::Many(chunks) => chunks.partition_point(|chunk| chunk.keys[0] <= *key).saturating_sub(1),
        };
        match self.keys(chunk).binary_search(key) {
            Ok(index) => Ok(Place { chunk, index }),
            Err(index) => Err(Place { chunk, index }),
        }
    }
}

impl<K: Clone, V: Clone + Release> Chunk<K, V> {
    fn insert(&mut self, index: usize, (key, value): (K, V)) {
        self.keys.insert(index, key);
        self.values.insert(index, value);
    }

    fn remove(&mut self, index: usize) {
        self.keys.remove(index);
        self.values.remove(index).release();
    }

    fn split_off(&mut self, index: usize) -> Self {
        Self { keys: self.keys.split_off(index), values: self.values.split_off(index) }
    }

    /// Copies the chunk with room for more entries, so that an insert after it allocates nothing.
    fn copy(&self, room: usize) -> Self {
        let (mut keys, mut values) =
            (Vec::with_capacity(self.keys.len() + room), Vec::with_capacity(self.keys.len() + room));
        keys.extend_from_slice(&self.keys);
        values.extend_from_slice(&self.values);
        Self { keys, values }
    }
}

type Chunks<K, V> = Vec<Arc<Chunk<K, V>>>;

/// Inserts an entry into its chunk. A full chunk is split; an append behind it opens a new chunk instead.
fn insert<K: Clone, V: Clone + Release>(chunks: &mut Chunks<K, V>, place: &Place, entry: (K, V), size: usize) {
    let chunk = &mut chunks[place.chunk];
    let len = chunk.keys.len();
    if len < size {
        own(chunk, 1).insert(place.index, entry);
    } else if place.index == len {
        chunks.insert(place.chunk + 1, Arc::new(Chunk { keys: vec![entry.0], values: vec![entry.1] }));
    } else {
        let left = own(chunk, 0);
        let mut right = left.split_off(len / 2);
        match place.index.checked_sub(len / 2) {
            Some(index) if index > 0 => right.insert(index, entry),
            _ => left.insert(place.index, entry),
        }
        chunks.insert(place.chunk + 1, Arc::new(right));
    }
}

/// Removes one entry. A chunk that is less than a quarter full joins a neighbour with room for it.
fn remove<K: Clone, V: Clone + Release>(chunks: &mut Chunks<K, V>, place: &Place, size: usize) {
    let at = place.chunk;
    let left = chunks[at].keys.len() - 1;
    if left == 0 {
        chunks.remove(at);
        return;
    }
    own(&mut chunks[at], 0).remove(place.index);
    // The joined chunk is at most half full, or the next few inserts would split it again.
    let fits =
        |neighbour: usize| left < size / 4 && chunks.get(neighbour).is_some_and(|n| n.keys.len() + left <= size / 2);
    let joined = match at {
        1.. if fits(at - 1) => at - 1,
        _ if fits(at + 1) => at,
        _ => return,
    };
    let right = chunks.remove(joined + 1);
    let left = own(&mut chunks[joined], right.keys.len());
    left.keys.extend_from_slice(&right.keys);
    left.values.extend_from_slice(&right.values);
}

/// Returns the chunk to change, as a copy if another list shares it.
fn own<K: Clone, V: Clone + Release>(chunk: &mut Arc<Chunk<K, V>>, room: usize) -> &mut Chunk<K, V> {
    if Arc::get_mut(chunk).is_none() {
        *chunk = Arc::new(chunk.copy(room));
    }
    Arc::get_mut(chunk).expect("the copy is not shared")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    impl Release for u32 {
        fn release(self) {}
    }

    impl Snapshot<u32, u32> {
        fn with(&self, n: u32) -> Option<Self> {
            let mut next = self.clone();
            next.insert(n, n).then_some(next)
        }

        fn without(&self, n: u32) -> Option<Self> {
            let mut next = self.clone();
            next.remove(&n).then_some(next)
        }

        fn chunk_count(&self) -> usize {
            (0..).take_while(|chunk| self.values(*chunk).is_some()).count()
        }

        fn check(&self, model: &[u32]) {
            assert_eq!(self.iter().copied().collect::<Vec<_>>(), model);
            assert!(self.entries().all(|(key, value)| key == value));
            assert_eq!(self.len(), model.len());
            if let Spine::Many(chunks) = &self.spine {
                assert!(chunks.len() > 1, "one chunk is a `One`");
                assert!(chunks.iter().all(|chunk| (1..=LARGE_CHUNK).contains(&chunk.keys.len())));
            }
        }
    }

    fn range(from: u32, to: u32) -> Snapshot<u32, u32> {
        (from..to).fold(Snapshot::new(), |list, n| list.with(n).expect("keys are new"))
    }

    proptest! {
        #[test]
        fn agrees_with_a_sorted_vec(ops in prop::collection::vec((any::<bool>(), 0u32..600), 0..1500)) {
            let (mut list, mut model) = (Snapshot::new(), Vec::new());
            for (add, n) in ops {
                match (add, model.binary_search(&n)) {
                    (true, Err(at)) => {
                        // Every other change is made in place, and a clone must not see it.
                        if n % 2 == 0 {
                            list = list.with(n).expect("the key is new");
                        } else {
                            let before = list.clone();
                            prop_assert!(list.insert(n, n));
                            before.check(&model);
                        }
                        model.insert(at, n);
                    }
                    (true, Ok(_)) => prop_assert!(!list.insert(n, n)),
                    (false, Ok(at)) => {
                        if n % 2 == 0 {
                            list = list.without(n).expect("the key is there");
                        } else {
                            prop_assert!(list.remove(&n));
                        }
                        model.remove(at);
                    }
                    (false, Err(_)) => prop_assert!(list.without(n).is_none()),
                }
                prop_assert_eq!(list.get(&n).is_some(), add);
            }
            list.check(&model);
        }
    }

    #[test]
    fn appends_fill_chunks_and_split_none() {
        let list = range(0, 640);
        assert_eq!(list.chunk_count(), 10);
        list.check(&(0..640).collect::<Vec<_>>());
    }

    #[test]
    fn chunks_have_their_size_and_the_last_value_is_found() {
        let full = range(0, SMALL_CHUNK as u32);
        assert_eq!((full.chunk_count(), full.single().map(<[u32]>::len)), (1, Some(SMALL_CHUNK)));
        let two = range(0, SMALL_CHUNK as u32 + 1);
        assert_eq!((two.chunk_count(), two.values(1), two.single()), (2, Some(&[SMALL_CHUNK as u32][..]), None));
        assert_eq!((full.last(), two.last(), range(0, 0).last()), (Some(&63), Some(&64), None));
        let long = range(0, LARGE_LIST as u32 + 2 * LARGE_CHUNK as u32);
        assert_eq!(long.values(LARGE_LIST / SMALL_CHUNK).map(<[u32]>::len), Some(LARGE_CHUNK));
        // A full chunk is split where something goes in between.
        let split = range(0, 64).with(1000).and_then(|list| list.with(999)).and_then(|list| list.without(999));
        let split = split.and_then(|list| list.with(500)).expect("the keys are new, or there");
        assert_eq!(split.len(), 66);
        assert!((0..).map_while(|chunk| split.values(chunk)).all(|chunk| chunk.len() <= SMALL_CHUNK));
    }

    #[test]
    fn a_thin_chunk_joins_either_neighbour_and_leaves_room() {
        let without = |list: Snapshot<u32, u32>, keys: std::ops::Range<u32>| {
            keys.fold(list, |list, n| list.without(n).expect("the key is there"))
        };
        let sizes = |list: &Snapshot<u32, u32>| {
            (0..).map_while(|chunk| list.values(chunk)).map(<[u32]>::len).collect::<Vec<_>>()
        };
        // Three chunks of 64. One under a quarter joins a neighbour if both fill at most half a chunk.
        let right = without(range(0, 192), 81..128);
        assert_eq!(sizes(&without(right.clone(), 0..48)), [16, 17, 64]);
        assert_eq!(sizes(&without(right, 0..49)), [32, 64]);
        let left = without(range(0, 192), 17..64);
        assert_eq!(sizes(&without(left, 64..113)), [32, 64]);
        let quarters = without(without(range(0, 192), 80..128), 0..48);
        assert_eq!(sizes(&quarters), [16, 16, 64], "a quarter is not thin");
        let fuller = without(range(0, 192), 18..64);
        assert_eq!(sizes(&without(fuller, 64..113)), [18, 15, 64]);
    }

    #[test]
    fn a_change_shares_the_chunks_it_does_not_touch() {
        let (before, after) = (range(0, 640), range(0, 640).without(70).expect("70 is there"));
        let Spine::Many(mut chunks) = before.spine.clone() else { panic!("640 items are many chunks") };
        assert_eq!(after.chunk_count(), chunks.len());
        let next = before.without(70).expect("70 is there");
        let Spine::Many(next) = &next.spine else { panic!("639 items are many chunks") };
        chunks.remove(1);
        let shared = next.iter().filter(|chunk| chunks.iter().any(|old| Arc::ptr_eq(old, chunk))).count();
        assert_eq!(shared, 9);
    }

    #[test]
    fn removals_join_thin_chunks_and_shrink_back_to_one() {
        let mut list = range(0, 6400);
        for n in 0..6390 {
            list = list.without(n).expect("the key is there");
        }
        list.check(&(6390..6400).collect::<Vec<_>>());
        assert!(matches!(list.spine, Spine::One { .. }));
        let mut sparse = range(0, 6400);
        for n in (0..6400).filter(|n| n % 64 != 0) {
            sparse = sparse.without(n).expect("the key is there");
        }
        assert!(sparse.chunk_count() <= 8, "100 items in {} chunks", sparse.chunk_count());
    }

    #[test]
    fn an_old_list_is_not_changed_by_a_new_one() {
        let old = range(0, 100);
        let _new = old.without(5).expect("5 is there").with(1000).expect("1000 is new");
        old.check(&(0..100).collect::<Vec<_>>());
    }
}
