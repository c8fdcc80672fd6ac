//! The file of lots and bids, by redb.
//!
//! ```text
//! table   key          value
//! meta    name         number: "auction_version", "last_lot"
//! lots    lot          the lot without its bids, as JSON
//! bids    (lot, seq)   the bid, as JSON
//! ```
//!
//! When a method returns, its data is on disk. A commit costs the same for one bid as for a hundred. All methods block.

use std::path::Path;
use std::time::SystemTime;

use redb::{Builder, Database, DatabaseError, ReadableTable, TableDefinition, WriteTransaction};

use crate::lot::{Bid, Lot};

const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
const LOTS: TableDefinition<u64, &[u8]> = TableDefinition::new("lots");
const BIDS: TableDefinition<(u64, u64), &[u8]> = TableDefinition::new("bids");

const VERSION: &str = "auction_version";
const LAST_LOT: &str = "last_lot";

/// The version of the file that this program writes.
const THIS_VERSION: u64 = 1;
/// The size of redb's page cache, in bytes. The default is 1 GiB.
const CACHE: usize = 16 << 20;

/// How many lots may be open at a time.
pub(crate) const MOST_OPEN: usize = 50;
/// How many of these one seller may have, so that no seller fills the house alone.
pub(crate) const MOST_OF_ONE: usize = 20;
/// How many closed lots are kept: the newest.
const MOST_CLOSED: usize = 12;

#[derive(Debug)]
pub(crate) struct Store(Database);

/// A new lot, and the old ones removed to make room.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) lot: Lot,
    pub(crate) gone: Vec<u64>,
}

impl Store {
    /// Opens or creates the file; true if it is new.
    pub(crate) fn open(path: &Path) -> Result<(Self, bool), fanfare::Error> {
        let database = builder().create(path).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => {
                "another process has the file open; choose another file with DATA".into()
            }
            error => fanfare::Error::from(error),
        })?;
        let store = Self(database);
        let is_new = store.prepare()?.ok_or("is not a file of this auction; choose another file with DATA")?;
        Ok((store, is_new))
    }

    /// Makes the tables of a new file. Returns whether the file is new; `None` if it is not this program's.
    fn prepare(&self) -> Result<Option<bool>, fanfare::Error> {
        let transaction = self.0.begin_write()?;
        let is_new = transaction.list_tables()?.next().is_none();
        {
            let mut meta = transaction.open_table(META)?;
            if is_new {
                meta.insert(VERSION, THIS_VERSION)?;
            }
            if meta.get(VERSION)?.is_none_or(|version| version.value() != THIS_VERSION) {
                return Ok(None);
            }
            transaction.open_table(LOTS)?;
            transaction.open_table(BIDS)?;
        }
        transaction.commit()?;
        Ok(Some(is_new))
    }

    /// Returns all lots with their bids.
    pub(crate) fn lots(&self) -> Result<Vec<Lot>, fanfare::Error> {
        let transaction = self.0.begin_read()?;
        let (lots, bids) = (transaction.open_table(LOTS)?, transaction.open_table(BIDS)?);
        let with_bids = |row: &[u8]| {
            let mut lot: Lot = serde_json::from_slice(row)?;
            for bid in bids.range((lot.id, 0)..=(lot.id, u64::MAX))? {
                lot.bids.push(serde_json::from_slice(bid?.1.value())?);
            }
            Ok(lot)
        };
        lots.iter()?.map(|row| with_bids(row?.1.value())).collect()
    }

    /// Opens a lot under a new number; `None` if too many are open.
    pub(crate) fn add(&self, mut lot: Lot) -> Result<Option<Opened>, fanfare::Error> {
        let transaction = self.0.begin_write()?;
        let mut closed = Vec::new();
        {
            let mut meta = transaction.open_table(META)?;
            let lots = transaction.open_table(LOTS)?;
            let (mut open, mut of_one) = (0, 0);
            for row in lots.iter()? {
                let kept: Lot = serde_json::from_slice(row?.1.value())?;
                match kept.is_closed {
                    true => closed.push(kept.id),
                    false => (open, of_one) = (open + 1, of_one + usize::from(kept.seller == lot.seller)),
                }
            }
            if open >= MOST_OPEN || (lot.seller.is_some() && of_one >= MOST_OF_ONE) {
                return Ok(None);
            }
            // A new file starts above the numbers of a deleted one, which pages and notices may still have.
            lot.id = meta.get(LAST_LOT)?.map_or_else(seconds, |last| last.value()) + 1;
            meta.insert(LAST_LOT, lot.id)?;
        }
        put(&transaction, &lot, &[])?;
        // Numbers rise with time: the oldest come first.
        closed.truncate(closed.len().saturating_sub(MOST_CLOSED));
        for id in &closed {
            transaction.open_table(LOTS)?.remove(id)?;
            transaction.open_table(BIDS)?.retain_in((*id, 0)..=(*id, u64::MAX), |_, _| false)?;
        }
        transaction.commit()?;
        Ok(Some(Opened { lot, gone: closed }))
    }

    /// Writes a lot and its new bids.
    pub(crate) fn save(&self, lot: &Lot, new: &[Bid]) -> Result<(), fanfare::Error> {
        let transaction = self.0.begin_write()?;
        put(&transaction, lot, new)?;
        Ok(transaction.commit()?)
    }
}

/// Returns the seconds since 1970.
fn seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn builder() -> Builder {
    let mut builder = Database::builder();
    // The newer file format: later versions of redb read only this one.
    builder.create_with_file_format_v3(true).set_cache_size(CACHE);
    builder
}

fn put(transaction: &WriteTransaction, lot: &Lot, new: &[Bid]) -> Result<(), fanfare::Error> {
    transaction.open_table(LOTS)?.insert(lot.id, &*serde_json::to_vec(lot)?)?;
    let mut bids = transaction.open_table(BIDS)?;
    for bid in new {
        bids.insert((lot.id, bid.seq), &*serde_json::to_vec(bid)?)?;
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use fanfare::channel::UserId;
    use fanfare::group::offline::RedbStore;
    use redb::StorageBackend;
    use redb::backends::InMemoryBackend;

    use super::*;
    use crate::money::Cents;

    impl Store {
        /// Returns a store in memory, and a flag that makes its writes fail.
        pub(crate) fn in_memory() -> (Self, Arc<AtomicBool>) {
            let is_broken = Arc::new(AtomicBool::new(false));
            let disk = Disk { memory: InMemoryBackend::new(), is_broken: Arc::clone(&is_broken) };
            let store = Self(builder().create_with_backend(disk).expect("memory works"));
            assert_eq!(store.prepare().expect("memory works"), Some(true));
            (store, is_broken)
        }

        /// Blocks all other writes, as a slow disk does.
        pub(crate) fn hold(&self) -> WriteTransaction {
            self.0.begin_write().expect("the disk works")
        }
    }

    #[derive(Debug)]
    struct Disk {
        memory: InMemoryBackend,
        is_broken: Arc<AtomicBool>,
    }

    impl StorageBackend for Disk {
        fn len(&self) -> io::Result<u64> {
            self.memory.len()
        }

        fn read(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
            self.memory.read(offset, len)
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            self.memory.set_len(len)
        }

        fn sync_data(&self, eventual: bool) -> io::Result<()> {
            self.memory.sync_data(eventual)
        }

        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            match self.is_broken.load(Ordering::SeqCst) {
                true => Err(io::Error::other("no space left")),
                false => self.memory.write(offset, data),
            }
        }
    }

    fn lot() -> Lot {
        Lot::new("A teapot".into(), None, Cents::new(1000).expect("it is an amount"), 60_000, 10_000)
    }

    fn add(store: &Store) -> Option<Opened> {
        store.add(lot()).expect("memory works")
    }

    #[test]
    fn numbers_rise_and_open_and_closed_lots_are_bounded() {
        let (store, _) = Store::in_memory();
        let mut lots: Vec<_> = (0..MOST_OPEN).map(|_| add(&store).expect("there is room").lot).collect();
        let first = lots[0].id;
        assert!(lots.iter().map(|lot| lot.id).eq(first..first + MOST_OPEN as u64));
        assert!(add(&store).is_none());
        for lot in &mut lots[..MOST_CLOSED + 2] {
            assert!(lot.close(60_000));
            store.save(lot, &[]).expect("memory works");
        }
        let opened = add(&store).expect("there is room again");
        assert_eq!((opened.lot.id, opened.gone), (first + MOST_OPEN as u64, vec![first, first + 1]), "the oldest go");
        let kept = store.lots().expect("memory works");
        assert_eq!((kept.len(), kept[0].id), (MOST_OPEN - 1, first + 2));
    }

    #[test]
    fn one_seller_does_not_fill_the_house_and_a_new_file_has_new_numbers() {
        let (store, _) = Store::in_memory();
        let of = |name: &str| Lot { seller: Some(UserId::new(name).expect("it is a name")), ..lot() };
        for _ in 0..MOST_OF_ONE {
            assert!(store.add(of("sue")).expect("memory works").is_some());
        }
        assert!(store.add(of("sue")).expect("memory works").is_none());
        let opened = store.add(of("bob")).expect("memory works").expect("there is room for others");
        assert!(opened.lot.id > 1_700_000_000, "it is not that of a file from before");
    }

    #[test]
    fn a_file_of_something_else_is_refused_and_left_as_it_is() {
        let folder = std::env::temp_dir().join(format!("auction-store-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("the folder can be made");
        let file = folder.join("notices.redb");
        drop(RedbStore::open(&file).expect("it can be made"));
        let error = Store::open(&file).expect_err("it is another program's").to_string();
        assert!(error.contains("is not a file of this auction; choose another file with DATA"), "{error}");
        RedbStore::open(&file).expect("nothing was done to it");
        std::fs::write(&file, "something else").expect("it can be written");
        Store::open(&file).expect_err("it is not a database");
        assert_eq!(std::fs::read(&file).expect("it is there"), b"something else");
        std::fs::remove_dir_all(folder).expect("it was there");
    }
}
