//! [`OfflineStore`]: the interface to a database that keeps the offline queues.

use super::record::Record;
use crate::Error;
use crate::channel::UserId;

/// Keeps the records of all users' offline queues.
///
/// Only the box's writer thread calls it, so a method may block. A store makes no decisions: it keeps and returns
/// records. Your own database needs a table of records ordered by user and id, and an index by
/// [`expires`](Record::expires); [`Record::encode`] turns a record into bytes.
///
/// The box relies on this:
///
/// - `commit` is atomic, and durable when it returns `Ok`. After an error the writer discards its copies and loads the
///   records again.
/// - `commit` makes the changes in their order; it may change one record several times.
/// - Only this box changes the records: two boxes need two stores.
///
/// A panic in a method counts as an error.
pub trait OfflineStore: Send + 'static {
    /// Returns the highest id and the size of the store. Called at the beginning, and after an error.
    ///
    /// # Errors
    ///
    /// When the store cannot be read. Every operation that needed it returns the error to its caller.
    fn state(&mut self) -> Result<StoreState, Error>;

    /// Returns the records of a user, by rising ids.
    ///
    /// # Errors
    ///
    /// As [`state`](Self::state).
    fn load(&mut self, user: &UserId) -> Result<Vec<Record>, Error>;

    /// Makes all changes, or none.
    ///
    /// # Errors
    ///
    /// When the store cannot be written; then it has made none of the changes.
    fn commit(&mut self, changes: &[Change]) -> Result<(), Error>;

    /// Returns up to `most` records that expire at `now` or before, the earliest first; the writer removes them.
    ///
    /// # Errors
    ///
    /// As [`state`](Self::state).
    fn expired(&mut self, now: u64, most: usize) -> Result<Vec<(UserId, Record)>, Error>;
}

/// The highest id and the size of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreState {
    /// The highest id that was ever put, even if its record was removed: ids are not used again.
    pub last_id: u64,
    /// The [`size`](Record::size)s of all records together.
    pub size: u64,
}

/// One change of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Keeps a record, in place of the user's record with that id, if there is one.
    Put {
        /// The user to whom the record belongs.
        user: UserId,
        /// The record.
        record: Record,
    },
    /// Removes a record, if it is there.
    Remove {
        /// The user to whom the record belongs.
        user: UserId,
        /// The record's id.
        id: u64,
    },
}
