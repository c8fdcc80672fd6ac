//! Who is in which room. Several windows of one name are one user.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fanfare::group::ChannelBox;

use crate::Reply;

/// The users of all rooms, with the number of their connections.
#[derive(Clone, Default)]
pub(crate) struct Presence(Arc<Mutex<Rooms>>);

type Rooms = HashMap<String, BTreeMap<String, usize>>;

/// A user is in a room as long as this lives.
pub(crate) struct Here {
    presence: Presence,
    channels: ChannelBox,
    room: String,
    name: String,
}

impl Presence {
    /// Notes a connection, and tells the room.
    pub(crate) fn enter(&self, channels: &ChannelBox, room: &str, name: &str) -> Here {
        let mut rooms = self.lock();
        *rooms.entry(room.to_owned()).or_default().entry(name.to_owned()).or_default() += 1;
        tell(&rooms, channels, room);
        Here { presence: self.clone(), channels: channels.clone(), room: room.to_owned(), name: name.to_owned() }
    }

    fn lock(&self) -> MutexGuard<'_, Rooms> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        let mut rooms = self.presence.lock();
        if let Some(users) = rooms.get_mut(&self.room) {
            if let Some(connections) = users.get_mut(&self.name) {
                *connections -= 1;
            }
            users.retain(|_, connections| *connections > 0);
        }
        tell(&rooms, &self.channels, &self.room);
        rooms.retain(|_, users| !users.is_empty());
    }
}

/// Sent under the lock, which a group send never keeps long: the lists go out in the order of the changes.
fn tell(rooms: &Rooms, channels: &ChannelBox, room: &str) {
    let users = rooms.get(room).into_iter().flat_map(BTreeMap::keys).cloned().collect();
    if let Err(error) = channels.group_send(room, &Reply::Presence { users }) {
        eprintln!("chat: {error}");
    }
}
