//! The documents' file, by redb.
//!
//! ```text
//! table   key              value
//! bases   document         the version before its first row, and that text as one update
//! rows    document, version   user, session, edit number, time, update
//! ```
//!
//! When a method returns, its data is on disk. A commit costs the same for one row as for a hundred. All methods block.

use std::path::Path;

use fanfare::channel::UserId;
use redb::{Database, ReadableTableMetadata, TableDefinition};
use serde::Serialize;

use crate::document::{Author, Document, Row};

const BASES: TableDefinition<&str, (u64, &[u8])> = TableDefinition::new("bases");
const ROWS: TableDefinition<(&str, u64), Kept> = TableDefinition::new("rows");

type Kept = (&'static str, &'static str, u64, u64, &'static [u8]);

/// The size of redb's page cache, in bytes. The default is 1 GiB.
const CACHE: usize = 16 << 20;
/// The most documents in the file.
const DOCUMENTS: u64 = 1000;
/// Edits of one user with less time than this between them are one entry of the history, in milliseconds.
const PAUSE: u64 = 10_000;

#[derive(Debug)]
pub(crate) struct Store(Database);

/// Consecutive edits of one user without a long pause: the versions `from` to `to`.
#[derive(Debug, Serialize)]
pub(crate) struct Entry {
    pub(crate) user: String,
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// Unix time of the last edit, in milliseconds.
    pub(crate) time: u64,
    /// Unix time of the first edit, in milliseconds.
    pub(crate) begun: u64,
}

impl Store {
    pub(crate) fn open(path: &Path) -> Result<Self, fanfare::Error> {
        let database = Database::builder().create_with_file_format_v3(true).set_cache_size(CACHE).create(path);
        let database = database.map_err(start::Problem::with(path))?;
        let transaction = database.begin_write()?;
        transaction.open_table(BASES)?;
        transaction.open_table(ROWS)?;
        transaction.commit()?;
        Ok(Self(database))
    }

    /// Reads a document, or starts an empty one; `None` if there are too many.
    pub(crate) fn load(&self, name: &str) -> Result<Option<Document>, fanfare::Error> {
        let transaction = self.0.begin_read()?;
        let (bases, rows) = (transaction.open_table(BASES)?, transaction.open_table(ROWS)?);
        let base = match bases.get(name)? {
            Some(base) => (base.value().0, base.value().1.to_vec()),
            None if bases.len()? >= DOCUMENTS => return Ok(None),
            None => (0, Vec::new()),
        };
        let mut kept = Vec::new();
        for row in rows.range((name, 0)..=(name, u64::MAX))? {
            let row = row?.1;
            let (user, session, edit, time, update) = row.value();
            let author = Author { user: UserId::new(user)?, session: session.to_owned() };
            kept.push(Row { author, edit, time, update: update.to_vec() });
        }
        Ok(Some(Document::new(base, kept)))
    }

    /// Writes a document's rows since a version, in one commit, and removes folded rows.
    pub(crate) fn save(&self, name: &str, document: &Document, since: u64) -> Result<(), fanfare::Error> {
        let transaction = self.0.begin_write()?;
        {
            let (version, state) = &document.base;
            let mut bases = transaction.open_table(BASES)?;
            let mut rows = transaction.open_table(ROWS)?;
            let old = bases.insert(name, (*version, &**state))?.map(|old| old.value().0);
            if old.is_some_and(|old| old < *version) {
                rows.retain_in((name, 0)..=(name, *version), |_, _| false)?;
            }
            let first = since.max(*version);
            for (row, version) in document.rows[(first - version) as usize..].iter().zip(first + 1..) {
                let Row { author, edit, time, update } = row;
                rows.insert((name, version), (&*author.user, &*author.session, *edit, *time, &**update))?;
            }
        }
        Ok(transaction.commit()?)
    }

    /// Returns the history before a version, latest first, and the oldest kept version.
    pub(crate) fn history(&self, name: &str, before: u64, limit: usize) -> Result<(Vec<Entry>, u64), fanfare::Error> {
        let transaction = self.0.begin_read()?;
        let (bases, rows) = (transaction.open_table(BASES)?, transaction.open_table(ROWS)?);
        let oldest = bases.get(name)?.map_or(0, |base| base.value().0);
        let mut entries: Vec<Entry> = Vec::new();
        for row in rows.range((name, 0)..(name, before))?.rev() {
            let (key, row) = row?;
            let ((_, version), (user, _, _, time, _)) = (key.value(), row.value());
            let is_full = entries.len() == limit;
            match entries.last_mut() {
                Some(entry) if entry.user == user && entry.begun.saturating_sub(time) < PAUSE => {
                    (entry.from, entry.begun) = (version, time);
                }
                _ if is_full => break,
                _ => entries.push(Entry { user: user.to_owned(), from: version, to: version, time, begun: time }),
            }
        }
        Ok((entries, oldest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{Edit, Splice};

    #[test]
    fn folded_rows_are_removed_and_the_rest_is_read_back() -> Result<(), fanfare::Error> {
        let file = std::env::temp_dir().join(format!("collab-store-{}.redb", std::process::id()));
        let store = Store::open(&file)?;
        let mut document = store.load("notes")?.ok_or("there is room")?;
        let author = Author { user: UserId::new("ada")?, session: "s1".into() };
        for number in 1..=20 {
            let edit = Edit { edit: number, version: number - 1, changes: vec![Splice(0, 0, number.to_string())] };
            document.edit(&author, &edit, number * PAUSE)?;
            document.fold(8, usize::MAX, usize::MAX);
            store.save("notes", &document, number - 1)?;
        }
        let (entries, oldest) = store.history("notes", u64::MAX, 3)?;
        assert_eq!((oldest, entries.len(), entries[0].to, entries[2].from), (document.base.0, 3, 20, 18));
        assert_eq!(store.history("notes", 18, 1)?.0[0].to, 17);
        let again = store.load("notes")?.ok_or("it is there")?;
        assert_eq!((again.text(), again.latest(), again.rows.len()), (document.text(), 20, document.rows.len()));
        assert!(oldest > 0 && again.text_at(oldest - 1).is_none() && again.last_edit(&author) == 20);
        // A document whose name is a prefix is another document.
        assert_eq!(store.load("note")?.ok_or("there is room")?.latest(), 0);
        std::fs::remove_file(file)?;
        Ok(())
    }
}
