//! [`RedbStore`]: offline queues in a redb file (feature `redb`).
//!
//! ```text
//! table     key             value
//! meta      name            number: "version", "last_id", "size"
//! records   user, 0, id     the record, encoded
//! ends      (expires, id)   the user
//! ```
//!
//! The key of a record is a byte string built here, not a tuple: redb changed the format of tuples that hold a text in
//! 3.0, and 4.0 cannot read the old one. Tuples of numbers are stored alike in all versions.
//!
//! Always: `ends` has one row for each record, and "size" is the sum of the sizes of all records. A commit is atomic
//! and keeps both.

use std::fmt;
use std::path::{Path, PathBuf};

use redb::{Database, DatabaseError, ReadableTable, Table, TableDefinition, TableHandle};

use super::record::Record;
use super::store::{Change, OfflineStore, StoreState};
use crate::Error;
use crate::channel::UserId;

const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
/// Keyed by [`key_of`].
const RECORDS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("records");
const ENDS: TableDefinition<(u64, u64), &str> = TableDefinition::new("ends");

const VERSION: &str = "version";
const LAST_ID: &str = "last_id";
const SIZE: &str = "size";

/// The version that this library writes. In version 1 the keys of records were tuples.
const THIS_VERSION: u64 = 2;
/// The bytes of pages kept in memory. redb's default is 1 GiB.
const CACHE: usize = 32 << 20;

/// Keeps offline queues in a file: they outlast the process, even if it is killed.
///
/// A commit returns when the changes are on the disk. A thousand changes cost the same as one, so the box's writer
/// commits all waiting changes together. One process at a time has the file open; the next process continues with its
/// contents.
///
/// After a process was killed, [`open`](Self::open) reads the whole file once to repair it. So does the first operation
/// after a disk error. While the disk is full, sends fail; once it has space, they succeed again. The file does not
/// shrink, but the space of removed records is reused.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use fanfare::channel::UserId;
/// use fanfare::group::ChannelBox;
/// use fanfare::group::offline::{OfflineOptions, RedbStore};
///
/// # let folder = std::env::temp_dir().join(format!("fanfare-doc-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder)?;
/// let path = folder.join("offline.redb");
/// let ada = UserId::new("ada")?;
///
/// let channels = ChannelBox::builder().offline(OfflineOptions::default().store(RedbStore::open(&path)?)).build();
/// assert!(RedbStore::open(&path).is_err(), "the file is in use");
/// let sent = channels.user(&ada).send("while you were out").await?;
/// channels.offline().close().await;
///
/// // Another day, another process:
/// let channels = ChannelBox::builder().offline(OfflineOptions::default().store(RedbStore::open(&path)?)).build();
/// assert_eq!(channels.user(&ada).pending().await?[0].id(), sent.id);
/// # channels.offline().close().await;
/// # std::fs::remove_dir_all(folder)?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct RedbStore {
    path: PathBuf,
    /// `None` after an error: redb refuses further operations on the database until it is opened again.
    database: Option<Database>,
}

impl RedbStore {
    /// Opens a file, or creates it. This may block for a while: do not call it on a runtime's thread.
    ///
    /// # Errors
    ///
    /// When another process or box has the file open, when it is not a file of offline queues or has another version,
    /// and when it cannot be read or written.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, RedbOpenError> {
        let path = path.as_ref().to_owned();
        let database = Some(open(&path)?);
        Ok(Self { path, database })
    }

    fn with<R>(&mut self, run: impl FnOnce(&Database) -> Result<R, Error>) -> Result<R, Error> {
        let database = match &mut self.database {
            Some(database) => database,
            none => none.insert(open(&self.path)?),
        };
        run(database).inspect_err(|_| self.database = None)
    }
}

fn open(path: &Path) -> Result<Database, RedbOpenError> {
    // Format 3: later versions of redb cannot read the older one.
    let mut builder = Database::builder();
    builder.create_with_file_format_v3(true).set_cache_size(CACHE);
    let database = builder.create(path).map_err(RedbOpenError::of)?;
    prepare(&database)?;
    Ok(database)
}

/// Creates the tables of a new file, or checks the version of an existing one.
fn prepare(database: &Database) -> Result<(), RedbOpenError> {
    let transaction = database.begin_write().map_err(other)?;
    let names: Vec<_> = transaction.list_tables().map_err(other)?.map(|table| table.name().to_owned()).collect();
    if !names.is_empty() && !names.iter().any(|name| name == META.name()) {
        return Err(RedbOpenError::SomethingElse);
    }
    {
        let mut meta = transaction.open_table(META).map_err(something_else)?;
        let version = meta.get(VERSION).map_err(other)?.map(|version| version.value());
        match version {
            Some(THIS_VERSION) => {}
            Some(found) => return Err(RedbOpenError::Version(found)),
            None if !names.is_empty() => return Err(RedbOpenError::SomethingElse),
            None => _ = meta.insert(VERSION, THIS_VERSION).map_err(other)?,
        }
        transaction.open_table(RECORDS).map_err(something_else)?;
        transaction.open_table(ENDS).map_err(something_else)?;
    }
    transaction.commit().map_err(other)
}

fn other(error: impl Into<redb::Error>) -> RedbOpenError {
    RedbOpenError::Redb(Box::new(error.into()))
}

fn something_else(error: redb::TableError) -> RedbOpenError {
    match error {
        redb::TableError::Storage(error) => other(error),
        _ => RedbOpenError::SomethingElse,
    }
}

impl OfflineStore for RedbStore {
    fn state(&mut self) -> Result<StoreState, Error> {
        self.with(|database| {
            let meta = database.begin_read()?.open_table(META)?;
            let number = |name| Ok::<_, Error>(meta.get(name)?.map_or(0, |number| number.value()));
            Ok(StoreState { last_id: number(LAST_ID)?, size: number(SIZE)? })
        })
    }

    fn load(&mut self, user: &UserId) -> Result<Vec<Record>, Error> {
        self.with(|database| {
            let records = database.begin_read()?.open_table(RECORDS)?;
            let rows = records.range(&*key_of(user, 0)..=&*key_of(user, u64::MAX))?;
            rows.map(|row| Ok(Record::decode(row?.1.value())?)).collect()
        })
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), Error> {
        self.with(|database| commit(database, changes))
    }

    fn expired(&mut self, now: u64, most: usize) -> Result<Vec<(UserId, Record)>, Error> {
        self.with(|database| expired(database, now, most))
    }
}

/// Returns the key of a record: the keys of one user are adjacent, in the order of ids.
///
/// A user id contains no 0, which is a control character. So the first 0 ends the user id, and a user whose id is a
/// prefix of another's comes before it with all of its records.
fn key_of(user: &str, id: u64) -> Vec<u8> {
    [user.as_bytes(), &[0], &id.to_be_bytes()].concat()
}

fn commit(database: &Database, changes: &[Change]) -> Result<(), Error> {
    // The durability is `Immediate`, redb's default.
    let transaction = database.begin_write()?;
    {
        let mut meta = transaction.open_table(META)?;
        let mut tables = Tables {
            records: transaction.open_table(RECORDS)?,
            ends: transaction.open_table(ENDS)?,
            last_id: meta.get(LAST_ID)?.map_or(0, |id| id.value()),
            size: meta.get(SIZE)?.map_or(0, |size| size.value()),
        };
        for change in changes {
            match change {
                Change::Put { user, record } => tables.put(user, record)?,
                Change::Remove { user, id } => tables.remove(user, *id)?,
            }
        }
        meta.insert(LAST_ID, tables.last_id)?;
        meta.insert(SIZE, tables.size)?;
    }
    Ok(transaction.commit()?)
}

fn expired(database: &Database, now: u64, most: usize) -> Result<Vec<(UserId, Record)>, Error> {
    let transaction = database.begin_read()?;
    let (records, ends) = (transaction.open_table(RECORDS)?, transaction.open_table(ENDS)?);
    let mut expired = Vec::new();
    for row in ends.range(..=(now, u64::MAX))?.take(most) {
        let (end, user) = row?;
        let record = records.get(&*key_of(user.value(), end.value().1))?.ok_or("an expiry row has no record")?;
        expired.push((UserId::new(user.value())?, Record::decode(record.value())?));
    }
    Ok(expired)
}

/// The tables and sums that one commit changes.
struct Tables<'t> {
    records: Table<'t, &'static [u8], &'static [u8]>,
    ends: Table<'t, (u64, u64), &'static str>,
    last_id: u64,
    size: u64,
}

impl Tables<'_> {
    fn put(&mut self, user: &UserId, record: &Record) -> Result<(), Error> {
        let bytes = record.encode();
        let replaced = self.records.insert(&*key_of(user, record.id), &*bytes)?;
        let replaced = replaced.map(|replaced| Record::decode(replaced.value())).transpose()?;
        self.forget(replaced)?;
        self.ends.insert((record.expires, record.id), user.as_str())?;
        self.size += record.size();
        self.last_id = self.last_id.max(record.id);
        Ok(())
    }

    fn remove(&mut self, user: &UserId, id: u64) -> Result<(), Error> {
        let removed = self.records.remove(&*key_of(user, id))?;
        let removed = removed.map(|removed| Record::decode(removed.value())).transpose()?;
        self.forget(removed)
    }

    fn forget(&mut self, record: Option<Record>) -> Result<(), Error> {
        let Some(record) = record else { return Ok(()) };
        self.size -= record.size();
        self.ends.remove((record.expires, record.id))?;
        Ok(())
    }
}

/// Why a file could not be opened.
#[derive(Debug)]
#[non_exhaustive]
pub enum RedbOpenError {
    /// Another process, or another store of this process, has the file open.
    InUse,
    /// The file is a database, but not one of offline queues.
    SomethingElse,
    /// The file has a version of the format that this library does not support.
    Version(u64),
    /// redb cannot open, read or write the file.
    Redb(Error),
}

impl RedbOpenError {
    fn of(error: DatabaseError) -> Self {
        match error {
            DatabaseError::DatabaseAlreadyOpen => Self::InUse,
            error => Self::Redb(Box::new(redb::Error::from(error))),
        }
    }
}

impl fmt::Display for RedbOpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse => {
                f.write_str("the file of offline queues is in use: only one box of one process can have it open")
            }
            Self::SomethingElse => f.write_str("the file is not a database of offline queues"),
            Self::Version(found) => {
                write!(f, "the file of offline queues has version {found}, this library reads {THIS_VERSION}")
            }
            Self::Redb(_) => f.write_str("the file of offline queues cannot be opened"),
        }
    }
}

impl std::error::Error for RedbOpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Redb(error) => Some(&**error),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(std::path::PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("fanfare-redb-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).expect("there is a folder for such");
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn ada() -> UserId {
        UserId::new("ada").expect("it is one")
    }

    fn record(id: u64) -> Record {
        let payload = Some(bytes::Bytes::from("1"));
        Record { id, time: 0, expires: 1, urgency: super::super::record::Urgency::Low, key: None, payload }
    }

    fn ids(records: &[Record]) -> Vec<u64> {
        records.iter().map(Record::id).collect()
    }

    /// Writes a version into a file, which is created if necessary, and applies `change`.
    fn file_of_version(path: &Path, version: u64, change: impl FnOnce(&redb::WriteTransaction)) {
        let database = Database::create(path).expect("nobody has it");
        let transaction = database.begin_write().expect("it is open");
        transaction
            .open_table(META)
            .and_then(|mut meta| Ok(meta.insert(VERSION, version).map(drop)?))
            .expect("it is new");
        change(&transaction);
        transaction.commit().expect("it is open");
    }

    #[test]
    fn a_file_of_another_version_is_refused_and_left_as_it_is() {
        let folder = Folder::new("version");
        let path = folder.0.join("queue");
        drop(RedbStore::open(&path).expect("it is new"));
        file_of_version(&path, 3, |_| {});
        for _ in 0..2 {
            let refused = RedbStore::open(&path).expect_err("nobody knows version 3");
            assert!(matches!(refused, RedbOpenError::Version(3)), "{refused}");
            assert!(refused.to_string().contains("version 3, this library reads 2"));
        }
    }

    #[test]
    fn a_file_with_the_keys_of_version_1_is_refused_and_left_as_it_is() {
        const OLD: TableDefinition<(&str, u64), &[u8]> = TableDefinition::new("records");
        let folder = Folder::new("old");
        let path = folder.0.join("queue");
        file_of_version(&path, 1, |transaction| {
            let mut records = transaction.open_table(OLD).expect("it is new");
            records.insert(("ada", 1), &*record(1).encode()).expect("it is open");
        });
        let refused = RedbStore::open(&path).expect_err("it has other keys");
        assert_eq!(refused.to_string(), "the file of offline queues has version 1, this library reads 2");
        let database = Database::open(&path).expect("it is a database still");
        let records = database.begin_read().expect("it is open").open_table(OLD).expect("it is as it was");
        assert!(records.get(("ada", 1)).expect("it is good").is_some());
    }

    #[test]
    fn users_whose_ids_begin_alike_have_a_queue_each() {
        let folder = Folder::new("alike");
        let mut store = RedbStore::open(folder.0.join("queue")).expect("it is new");
        let users =
            ["a", "ad", "ada", "ada ", "ada!", "ada\u{a0}", "adam", "b"].map(|id| UserId::new(id).expect("it is one"));
        // These ids have bytes of all kinds, 0 and letters among them; no two users share an id.
        let ids_of = |user| [1, 0x61_0000, 0x6d00_6461_0000_0000, u64::MAX - 0xff].map(|id: u64| id + user);
        let put = |(user, id): (&UserId, u64)| Change::Put { user: user.clone(), record: record(id) };
        let numbered = || users.iter().zip(0..);
        let puts: Vec<_> = numbered().flat_map(|(user, n)| ids_of(n).map(|id| put((user, id)))).collect();
        store.commit(&puts).expect("there is room");
        for (user, n) in numbered() {
            assert_eq!(ids(&store.load(user).expect("it is good")), ids_of(n), "{user:?}");
        }
        store.commit(&[Change::Remove { user: ada(), id: ids_of(2)[0] }]).expect("there is room");
        for (user, n) in numbered() {
            let left = if *user == ada() { &ids_of(n)[1..] } else { &ids_of(n) };
            assert_eq!(ids(&store.load(user).expect("it is good")), left, "{user:?}");
        }
        let expired = store.expired(1, usize::MAX).expect("it is good");
        assert!(
            expired.iter().all(|(user, record)| numbered().any(|(at, n)| at == user && ids_of(n).contains(&record.id)))
        );
        assert_eq!(expired.len(), puts.len() - 1);
        assert!(UserId::new("ada\0").is_err(), "a user id cannot contain the byte that ends it in a key");
    }

    /// A file on a disk that is full at times.
    #[derive(Debug)]
    struct Full {
        file: redb::backends::FileBackend,
        is_full: std::sync::Arc<std::sync::atomic::AtomicBool>,
    }

    impl redb::StorageBackend for Full {
        fn len(&self) -> std::io::Result<u64> {
            self.file.len()
        }
        fn read(&self, offset: u64, len: usize) -> std::io::Result<Vec<u8>> {
            self.file.read(offset, len)
        }
        fn set_len(&self, len: u64) -> std::io::Result<()> {
            self.file.set_len(len)
        }
        fn sync_data(&self, eventual: bool) -> std::io::Result<()> {
            self.file.sync_data(eventual)
        }
        fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
            if self.is_full.load(std::sync::atomic::Ordering::Relaxed) {
                return Err(std::io::ErrorKind::StorageFull.into());
            }
            self.file.write(offset, data)
        }
    }

    #[test]
    fn after_an_error_of_the_disk_the_file_is_opened_anew_and_has_all_that_was_committed() {
        let folder = Folder::new("full");
        let path = folder.0.join("queue");
        drop(RedbStore::open(&path).expect("it is new"));
        let is_full = std::sync::Arc::default();
        let file = std::fs::OpenOptions::new().read(true).write(true).open(&path).expect("it is there");
        let file = redb::backends::FileBackend::new(file).expect("nobody has it");
        let backend = Full { file, is_full: std::sync::Arc::clone(&is_full) };
        let database = Database::builder().create_with_backend(backend).expect("it is one");
        let mut store = RedbStore { path, database: Some(database) };
        let put = |id| [Change::Put { user: ada(), record: record(id) }];
        store.commit(&put(1)).expect("there is room");
        is_full.store(true, std::sync::atomic::Ordering::Relaxed);
        let error = store.commit(&put(2)).expect_err("there is none");
        assert!(store.database.is_none(), "{error}");
        assert_eq!(store.state().expect("it is opened anew"), StoreState { last_id: 1, size: 65 });
        store.commit(&put(3)).expect("there is room again");
        assert_eq!(ids(&store.load(&ada()).expect("it is good")), [1, 3]);
    }

    #[test]
    fn a_database_of_something_else_is_refused() {
        let folder = Folder::new("else");
        let path = folder.0.join("users");
        let database = Database::create(&path).expect("it is new");
        let transaction = database.begin_write().expect("it is open");
        transaction.open_table(TableDefinition::<u64, u64>::new("users")).map(drop).expect("it is new");
        transaction.commit().expect("it is open");
        drop(database);
        assert!(matches!(RedbStore::open(&path), Err(RedbOpenError::SomethingElse)));
        std::fs::write(&path, "no database at all").expect("it can be written");
        assert!(matches!(RedbStore::open(&path), Err(RedbOpenError::Redb(_))));
    }
}
