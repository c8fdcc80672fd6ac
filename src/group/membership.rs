//! [`Membership`]: a channel is a member of a group as long as this value lives.

use std::fmt;

use super::delivery::member::Seat;
use super::delivery::state::Member;
use super::presence::Rooms;
use crate::sync::{Arc, Weak};

/// A channel's membership of a group, which ends when this is dropped.
///
/// It also ends with the channel or its connection.
///
/// ```
/// use fanfare::channel::Channel;
/// use fanfare::group::ChannelBox;
///
/// let channels = ChannelBox::new();
/// let (channel, _far_end) = Channel::in_memory();
/// let membership = channels.join(&channel, "room")?;
/// assert_eq!((membership.group(), channels.group("room").member_count()), ("room", 1));
///
/// drop(membership);
/// assert_eq!((channels.group("room").member_count(), channels.groups().len()), (0, 0));
/// # Ok::<(), fanfare::group::JoinError>(())
/// ```
#[must_use = "the channel leaves the group when this is dropped"]
pub struct Membership {
    seat: Seat,
    rooms: Weak<Rooms>,
}

impl Membership {
    pub(super) fn new(member: Arc<Member>, rooms: &Arc<Rooms>) -> Self {
        Self { seat: Seat::new(member), rooms: Arc::downgrade(rooms) }
    }

    pub(super) fn member(&self) -> &Arc<Member> {
        self.seat.member()
    }

    /// Returns the presence of the box, unless the box is gone.
    pub(super) fn rooms(&self) -> Option<Arc<Rooms>> {
        self.rooms.upgrade()
    }

    /// Returns the name of the group.
    #[must_use]
    pub fn group(&self) -> &str {
        &self.member().group.name
    }

    /// Leaves the group now. Messages sent before are still delivered. Returns false when the channel had left before.
    pub fn leave(&self) -> bool {
        self.seat.end()
    }
}

impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Membership").field("group", &self.group()).field("channel", &self.member().channel).finish()
    }
}
