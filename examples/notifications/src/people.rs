//! The list of all users who have ever signed in, in a file of its own, which survives a restart and a kill.

use std::path::Path;
use std::sync::Arc;

use fanfare::channel::UserId;
use redb::{Database, ReadableTable, ReadableTableMetadata, TableDefinition};

const PEOPLE: TableDefinition<&str, ()> = TableDefinition::new("people");

/// The list, of at most `most` users. Cheap to clone.
#[derive(Clone)]
pub(crate) struct People {
    database: Arc<Database>,
    most: u64,
}

impl People {
    pub(crate) fn open(path: &Path, most: u64) -> Result<Self, fanfare::Error> {
        let database = Database::builder().set_cache_size(1 << 20).create(path)?;
        let transaction = database.begin_write()?;
        transaction.open_table(PEOPLE)?;
        transaction.commit()?;
        Ok(Self { database: Arc::new(database), most })
    }

    /// Puts a user on the list, if there is room; returns whether the user is on it.
    pub(crate) async fn meet(&self, user: &UserId) -> Result<bool, fanfare::Error> {
        let (people, user) = (self.clone(), user.clone());
        tokio::task::spawn_blocking(move || people.add(&user)).await?
    }

    /// Returns all users on the list.
    pub(crate) async fn all(&self) -> Result<Vec<UserId>, fanfare::Error> {
        let people = self.clone();
        tokio::task::spawn_blocking(move || {
            let table = people.database.begin_read()?.open_table(PEOPLE)?;
            table.range::<&str>(..)?.map(|row| Ok(UserId::new(row?.0.value())?)).collect()
        })
        .await?
    }

    fn add(&self, user: &UserId) -> Result<bool, fanfare::Error> {
        // Most users are known: they do not wait for the disk.
        if self.database.begin_read()?.open_table(PEOPLE)?.get(user.as_str())?.is_some() {
            return Ok(true);
        }
        // Only one write transaction runs at a time, so the limit is exact.
        let transaction = self.database.begin_write()?;
        {
            let mut table = transaction.open_table(PEOPLE)?;
            if table.len()? >= self.most && table.get(user.as_str())?.is_none() {
                return Ok(false);
            }
            table.insert(user.as_str(), ())?;
        }
        transaction.commit()?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn users_are_remembered_up_to_the_limit() {
        let path = std::env::temp_dir().join(format!("people-{}", std::process::id()));
        let [ada, bob, cleo] = ["ada", "bob", "cleo"].map(|name| UserId::new(name).expect("it is a name"));
        for _ in 0..2 {
            let people = People::open(&path, 2).expect("the temporary folder can be written");
            for (user, fits) in [(&bob, true), (&ada, true), (&cleo, false), (&bob, true)] {
                assert_eq!(people.meet(user).await.expect("it can be written"), fits, "{user}");
            }
            assert_eq!(people.all().await.expect("it can be read"), [ada.clone(), bob.clone()]);
        }
        std::fs::remove_file(path).expect("it is there");
    }
}
