//! [`OfflineStore`]: the port behind which a database keeps the offline queues.

use super::record::Record;
use crate::Error;
use crate::channel::UserId;

/// Keeps the records of all users' offline queues.
///
/// One thread calls it, the box's own writer: it may block. It decides nothing; it keeps what it is told.
/// A database of your own needs a table of records by user and id, in order, and an index of them by
/// [`expires`](Record::expires); [`Record::encode`] makes a value of a record.
///
/// What is relied on:
///
/// - `commit` is all or nothing, and durable when it returns `Ok`. After an error the writer takes nothing for
///   granted and loads anew.
/// - The changes of a commit are made in their order; those of one user and id follow each other.
/// - Nobody else changes the records meanwhile: two boxes have two stores.
///
/// A method that panics is taken for one that returned an error.
pub trait OfflineStore: Send + 'static {
    /// Returns what is known of the store as a whole. Asked at the beginning, and after an error.
    ///
    /// # Errors
    ///
    /// Whatever went wrong; whoever has asked for something is told.
    fn state(&mut self) -> Result<StoreState, Error>;

    /// Returns the records of a user, by rising ids.
    ///
    /// # Errors
    ///
    /// As [`state`](Self::state).
    fn load(&mut self, user: &UserId) -> Result<Vec<Record>, Error>;

    /// Makes all changes or none.
    ///
    /// # Errors
    ///
    /// As [`state`](Self::state); then none of them was made.
    fn commit(&mut self, changes: &[Change]) -> Result<(), Error>;

    /// Returns up to `most` records whose end is at `now` or before, the earliest end first: the writer removes them.
    ///
    /// # Errors
    ///
    /// As [`state`](Self::state).
    fn expired(&mut self, now: u64, most: usize) -> Result<Vec<(UserId, Record)>, Error>;
}

/// What is known of a store as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreState {
    /// The highest id that was ever put, whether or not its record is still there: ids are not used again.
    pub last_id: u64,
    /// The [`size`](Record::size)s of all records together.
    pub size: u64,
}

/// One change of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Keeps a record, instead of one of that id if there is one.
    Put {
        /// Whose it is.
        user: UserId,
        /// The record.
        record: Record,
    },
    /// Removes a record, if it is there.
    Remove {
        /// Whose it is.
        user: UserId,
        /// Its id.
        id: u64,
    },
}
