//! [`RedbStore`]: offline queues in a file, by redb (feature `redb`).
//!
//! ```text
//! table     key             value
//! meta      name            number: "version", "last_id", "size"
//! records   (user, id)      the record, encoded
//! ends      (expires, id)   the user
//! ```
//!
//! Always: `ends` has one row for each record, and "size" is the sum of the sizes of all records. Every commit keeps
//! it so, all or nothing.

use std::fmt;
use std::path::{Path, PathBuf};

use redb::{Database, DatabaseError, ReadableTable, Table, TableDefinition, TableHandle};

use super::record::Record;
use super::store::{Change, OfflineStore, StoreState};
use crate::Error;
use crate::channel::UserId;

const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
const RECORDS: TableDefinition<(&str, u64), &[u8]> = TableDefinition::new("records");
const ENDS: TableDefinition<(u64, u64), &str> = TableDefinition::new("ends");

const VERSION: &str = "version";
const LAST_ID: &str = "last_id";
const SIZE: &str = "size";

/// What this version of the library writes.
const THIS_VERSION: u64 = 1;
/// Pages that are kept in memory. redb would keep 1 GiB.
const CACHE: usize = 32 << 20;

/// Keeps offline queues in a file: they outlast the process, also one that is killed.
///
/// A commit returns when it is on the disk. It costs the same for one change as for a thousand, so the box's writer
/// takes what waits together. One process has the file; one after it goes on where that stopped.
///
/// After a process was killed, [`open`](Self::open) reads the whole file once to set it right. So does whatever is asked
/// next after an error of the disk, a full one for example: until there is room again sends fail, and then they do not.
/// A file does not get smaller; the room of what is gone is used again.
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
/// assert!(RedbStore::open(&path).is_err(), "one has the file");
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
    /// `None` after an error: redb takes nothing more for a database that has had one, it has to be opened anew.
    database: Option<Database>,
}

impl RedbStore {
    /// Opens a file, and makes it when there is none. It may take a while: not on a thread of a runtime.
    ///
    /// # Errors
    ///
    /// When another process or box has the file, when it is something else or of another version, and when it cannot
    /// be read or written.
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
    // The newer file format: later versions of redb read no other.
    let mut builder = Database::builder();
    builder.create_with_file_format_v3(true).set_cache_size(CACHE);
    let database = builder.create(path).map_err(RedbOpenError::of)?;
    prepare(&database)?;
    Ok(database)
}

/// Makes the tables of a new file, and looks whether an old one is of this version.
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
            let rows = records.range((user.as_str(), 0)..=(user.as_str(), u64::MAX))?;
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

fn commit(database: &Database, changes: &[Change]) -> Result<(), Error> {
    // Its durability is `Immediate`, redb's own choice.
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
        let record = records.get((user.value(), end.value().1))?.ok_or("an end without a record")?;
        expired.push((UserId::new(user.value())?, Record::decode(record.value())?));
    }
    Ok(expired)
}

/// The tables in one commit.
struct Tables<'t> {
    records: Table<'t, (&'static str, u64), &'static [u8]>,
    ends: Table<'t, (u64, u64), &'static str>,
    last_id: u64,
    size: u64,
}

impl Tables<'_> {
    fn put(&mut self, user: &UserId, record: &Record) -> Result<(), Error> {
        let bytes = record.encode();
        let replaced = self.records.insert((user.as_str(), record.id), &*bytes)?;
        let replaced = replaced.map(|replaced| Record::decode(replaced.value())).transpose()?;
        self.forget(replaced)?;
        self.ends.insert((record.expires, record.id), user.as_str())?;
        self.size += record.size();
        self.last_id = self.last_id.max(record.id);
        Ok(())
    }

    fn remove(&mut self, user: &UserId, id: u64) -> Result<(), Error> {
        let removed = self.records.remove((user.as_str(), id))?;
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
    /// Another process has it open, or another store of this one.
    InUse,
    /// It is no file of offline queues.
    SomethingElse,
    /// It was written in a version of the format that this library does not know.
    Version(u64),
    /// redb cannot open, read or write it.
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
                f.write_str("the file of offline queues is in use: one process, and one box of it, can have it open")
            }
            Self::SomethingElse => f.write_str("the file is a database of something else than offline queues"),
            Self::Version(found) => {
                write!(f, "the file of offline queues is of version {found}, and this library knows {THIS_VERSION}")
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

    #[test]
    fn a_file_of_another_version_is_refused_and_left_as_it_is() {
        let folder = Folder::new("version");
        let path = folder.0.join("queue");
        let store = RedbStore::open(&path).expect("it is new");
        let database = store.database.expect("it is open");
        let transaction = database.begin_write().expect("it is open");
        transaction.open_table(META).and_then(|mut meta| Ok(meta.insert(VERSION, 2).map(drop)?)).expect("it is there");
        transaction.commit().expect("it is open");
        drop(database);
        for _ in 0..2 {
            let refused = RedbStore::open(&path).expect_err("nobody knows version 2");
            assert!(matches!(refused, RedbOpenError::Version(2)), "{refused}");
            assert!(refused.to_string().contains("version 2, and this library knows 1"));
        }
    }

    /// A file on a disk that is full now and then.
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
        let ada = UserId::new("ada").expect("it is one");
        let put = |id| {
            let payload = Some(bytes::Bytes::from("1"));
            let record =
                Record { id, time: 0, expires: 1, urgency: super::super::record::Urgency::Low, key: None, payload };
            [Change::Put { user: ada.clone(), record }]
        };
        store.commit(&put(1)).expect("there is room");
        is_full.store(true, std::sync::atomic::Ordering::Relaxed);
        let error = store.commit(&put(2)).expect_err("there is none");
        assert!(store.database.is_none(), "{error}");
        assert_eq!(store.state().expect("it is opened anew"), StoreState { last_id: 1, size: 65 });
        store.commit(&put(3)).expect("there is room again");
        let ids: Vec<_> = store.load(&ada).expect("it is good").iter().map(Record::id).collect();
        assert_eq!(ids, [1, 3]);
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
