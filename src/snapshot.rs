//! The chunked immutable list behind listener tables and group members.
//!
//! A [`Snapshot`] is a sorted list in chunks that clones share. A clone copies the spine; a change
//! copies the one chunk it touches, unless nobody else shares it. So the next table is a clone with
//! one change, whatever the old one is still used for, and an owner under a lock changes its list
//! in place as long as no reader holds a clone. Reading is a walk over slices.
//!
//! ```text
//! One    [ item item item ]                          up to 64 items, the first 4 in place
//! Many   [ · · · ]                                   the spine
//!          | | +-> [ item ]                          an append opens a chunk, it splits none
//!          | +---> [ item item .. item ]             64 items at most, 256 in a list above 4096
//!          +-----> [ item item .. item ]
//! ```
//!
//! Always: no chunk of a `Many` is empty, keys rise strictly over the whole list, `len` is the sum
//! of the chunks' lengths. Plain values, no synchronisation.

use std::ops::ControlFlow;

use smallvec::SmallVec;

use crate::sync::Arc;

/// An item of a [`Snapshot`]: it knows where it belongs.
pub(crate) trait Keyed: Clone {
    type Key: Ord;

    fn key(&self) -> Self::Key;
}

/// Chunk sizes: many small chunks make a change cheap, few large ones keep the spine short.
const SMALL_CHUNK: usize = 64;
const LARGE_CHUNK: usize = 256;
/// A list longer than this uses large chunks.
const LARGE_LIST: usize = 4096;
/// Items that a list of one chunk holds without another allocation.
const IN_PLACE: usize = 4;

/// An immutable list, sorted by key.
#[derive(Clone)]
pub(crate) struct Snapshot<T> {
    spine: Spine<T>,
    len: usize,
}

#[derive(Clone)]
enum Spine<T> {
    One(SmallVec<[T; IN_PLACE]>),
    Many(Vec<Chunk<T>>),
}

type Chunk<T> = Arc<Vec<T>>;

/// Where a key is, or where it would go.
struct Place {
    chunk: usize,
    index: usize,
}

impl<T: Keyed> Snapshot<T> {
    pub(crate) fn new() -> Self {
        Self { spine: Spine::One(SmallVec::new()), len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[cfg(feature = "groups")]
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the item with this key.
    pub(crate) fn get(&self, key: &T::Key) -> Option<&T> {
        let place = self.find(key).ok()?;
        Some(&self.chunk(place.chunk)[place.index])
    }

    /// Puts `item` in its place; false when its key is taken.
    pub(crate) fn insert(&mut self, item: T) -> bool {
        let Err(place) = self.find(&item.key()) else { return false };
        let size = self.chunk_size();
        match &mut self.spine {
            Spine::One(items) if items.len() < SMALL_CHUNK => items.insert(place.index, item),
            Spine::One(items) => {
                let mut chunks = vec![Arc::new(std::mem::take(items).into_vec())];
                insert(&mut chunks, &place, item, SMALL_CHUNK);
                self.spine = Spine::Many(chunks);
            }
            Spine::Many(chunks) => insert(chunks, &place, item, size),
        }
        self.len += 1;
        true
    }

    /// Takes the item of this key out; false when there is none.
    pub(crate) fn remove(&mut self, key: &T::Key) -> bool {
        let Ok(place) = self.find(key) else { return false };
        let size = self.chunk_size();
        match &mut self.spine {
            Spine::One(items) => drop(items.remove(place.index)),
            Spine::Many(chunks) => {
                remove(chunks, &place, size);
                if chunks.len() < 2 {
                    self.spine = one_or_many(std::mem::take(chunks));
                }
            }
        }
        self.len -= 1;
        true
    }

    /// Returns the list of the items that `keep` accepts; untouched chunks stay shared.
    pub(crate) fn retain(&self, mut keep: impl FnMut(&T) -> bool) -> Self {
        let spine = match &self.spine {
            Spine::One(items) => Spine::One(items.iter().filter(|item| keep(item)).cloned().collect()),
            Spine::Many(chunks) => one_or_many(chunks.iter().filter_map(|chunk| retained(chunk, &mut keep)).collect()),
        };
        let mut list = Self { spine, len: 0 };
        list.len = list.chunks().map(<[T]>::len).sum();
        list
    }

    /// Visits the items in order, a slice at a time, until `visit` breaks.
    #[inline]
    pub(crate) fn try_for_each_chunk<B>(&self, mut visit: impl FnMut(&[T]) -> ControlFlow<B>) -> ControlFlow<B> {
        match &self.spine {
            Spine::One(items) => visit(items),
            Spine::Many(chunks) => chunks.iter().try_for_each(|chunk| visit(chunk)),
        }
    }

    /// Returns the items as slices, in order.
    fn chunks(&self) -> impl Iterator<Item = &[T]> {
        (0..self.chunk_count()).map(|number| self.chunk(number))
    }

    /// Returns the items, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks().flatten()
    }

    /// Returns the number of chunks that [`chunk`](Self::chunk) serves.
    pub(crate) fn chunk_count(&self) -> usize {
        match &self.spine {
            Spine::One(_) => 1,
            Spine::Many(chunks) => chunks.len(),
        }
    }

    /// Returns one chunk by number.
    #[inline]
    pub(crate) fn chunk(&self, number: usize) -> &[T] {
        match &self.spine {
            Spine::One(items) => items,
            Spine::Many(chunks) => &chunks[number],
        }
    }

    fn chunk_size(&self) -> usize {
        if self.len > LARGE_LIST { LARGE_CHUNK } else { SMALL_CHUNK }
    }

    /// Returns where `key` is (`Ok`) or belongs (`Err`).
    fn find(&self, key: &T::Key) -> Result<Place, Place> {
        // The last chunk that starts at or before the key; the first one when all start later.
        let chunk = match &self.spine {
            Spine::One(_) => 0,
            Spine::Many(chunks) => chunks.partition_point(|chunk| chunk[0].key() <= *key).saturating_sub(1),
        };
        match self.chunk(chunk).binary_search_by(|item| item.key().cmp(key)) {
            Ok(index) => Ok(Place { chunk, index }),
            Err(index) => Err(Place { chunk, index }),
        }
    }
}

/// Puts `item` into its chunk; a full chunk is split, or followed by a new one for an append.
fn insert<T: Clone>(chunks: &mut Vec<Chunk<T>>, place: &Place, item: T, size: usize) {
    let chunk = &mut chunks[place.chunk];
    if chunk.len() < size {
        own(chunk, 1).insert(place.index, item);
    } else if place.index == chunk.len() {
        chunks.insert(place.chunk + 1, Arc::new(vec![item]));
    } else {
        let left = own(chunk, 0);
        let mut right = left.split_off(left.len() / 2);
        match place.index.checked_sub(left.len()) {
            Some(index) if index > 0 => right.insert(index, item),
            _ => left.insert(place.index, item),
        }
        chunks.insert(place.chunk + 1, Arc::new(right));
    }
}

/// Takes one item out; a chunk under a quarter joins a neighbour that has room for it.
fn remove<T: Clone>(chunks: &mut Vec<Chunk<T>>, place: &Place, size: usize) {
    let at = place.chunk;
    let left = chunks[at].len() - 1;
    if left == 0 {
        chunks.remove(at);
        return;
    }
    own(&mut chunks[at], 0).remove(place.index);
    // Half a chunk stays free in the joined one, or the next few inserts would split it again.
    let fits = |neighbour: usize| left < size / 4 && chunks.get(neighbour).is_some_and(|n| n.len() + left <= size / 2);
    let joined = match at {
        1.. if fits(at - 1) => at - 1,
        _ if fits(at + 1) => at,
        _ => return,
    };
    let right = chunks.remove(joined + 1);
    own(&mut chunks[joined], right.len()).extend_from_slice(&right);
}

/// Returns the chunk's own items, copied first if somebody shares them.
fn own<T: Clone>(chunk: &mut Chunk<T>, room: usize) -> &mut Vec<T> {
    if Arc::get_mut(chunk).is_none() {
        // One allocation for the copy and what comes in.
        let mut copy = Vec::with_capacity(chunk.len() + room);
        copy.extend_from_slice(chunk);
        *chunk = Arc::new(copy);
    }
    Arc::get_mut(chunk).expect("nobody else has the copy")
}

/// Returns what `keep` leaves of a chunk, the chunk itself when that is all of it.
fn retained<T: Clone>(chunk: &Chunk<T>, keep: &mut impl FnMut(&T) -> bool) -> Option<Chunk<T>> {
    let kept: Vec<T> = chunk.iter().filter(|item| keep(item)).cloned().collect();
    match kept.len() {
        0 => None,
        all if all == chunk.len() => Some(Arc::clone(chunk)),
        _ => Some(Arc::new(kept)),
    }
}

fn one_or_many<T: Clone>(chunks: Vec<Chunk<T>>) -> Spine<T> {
    match &chunks[..] {
        [] => Spine::One(SmallVec::new()),
        [only] => Spine::One(only.iter().cloned().collect()),
        _ => Spine::Many(chunks),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    impl Keyed for u32 {
        type Key = u32;

        fn key(&self) -> u32 {
            *self
        }
    }

    impl Snapshot<u32> {
        fn with(&self, n: u32) -> Option<Self> {
            let mut next = self.clone();
            next.insert(n).then_some(next)
        }

        fn without(&self, n: u32) -> Option<Self> {
            let mut next = self.clone();
            next.remove(&n).then_some(next)
        }

        fn check(&self, model: &[u32]) {
            assert_eq!(self.iter().copied().collect::<Vec<_>>(), model);
            assert_eq!(self.len(), model.len());
            if let Spine::Many(chunks) = &self.spine {
                assert!(chunks.len() > 1, "one chunk is a `One`");
                assert!(chunks.iter().all(|chunk| (1..=LARGE_CHUNK).contains(&chunk.len())));
            }
        }
    }

    fn range(from: u32, to: u32) -> Snapshot<u32> {
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
                            prop_assert!(list.insert(n));
                            before.check(&model);
                        }
                        model.insert(at, n);
                    }
                    (true, Ok(_)) => prop_assert!(!list.insert(n)),
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
            list.retain(|n| n % 3 == 0).check(&model.iter().copied().filter(|n| n % 3 == 0).collect::<Vec<_>>());
        }
    }

    #[test]
    fn appends_fill_chunks_and_split_none() {
        let list = range(0, 640);
        assert_eq!(list.chunk_count(), 10);
        list.check(&(0..640).collect::<Vec<_>>());
    }

    #[test]
    fn a_change_shares_the_chunks_it_does_not_touch() {
        let (before, after) = (range(0, 640), range(0, 640).without(70).expect("70 is there"));
        let Spine::Many(mut chunks) = before.spine.clone() else { panic!("640 items are many chunks") };
        assert_eq!(after.chunk_count(), chunks.len());
        let next = before.without(70).expect("70 is there");
        let Spine::Many(next) = next.spine else { panic!("639 items are many chunks") };
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
        assert!(matches!(list.spine, Spine::One(_)));
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
