//! [`Budget`]: the bytes that a presence frame has left for users. Plain values.

use super::entry::PresenceUser;
use crate::channel::UserId;

/// The longest frame, header included.
pub(super) const MAX_FRAME: usize = 64 << 10;
/// The most bytes that a frame has beside its users: a group's name of 255 escaped bytes, and numbers.
pub(super) const HEAD: usize = 1024;
/// The most bytes that a user's entry has beside its id and info, including the comma behind it.
const USER: usize = 96;

/// The bytes left in a frame for users.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget(usize);

impl Budget {
    pub(super) fn new() -> Self {
        Self(MAX_FRAME - HEAD)
    }

    /// Takes `len` bytes; returns false when fewer are left.
    pub(super) fn take(&mut self, len: usize) -> bool {
        let left = self.0.checked_sub(len);
        self.0 = left.unwrap_or(self.0);
        left.is_some()
    }
}

/// Returns the most bytes that a user's entry may take.
pub(super) fn user_len(user: &PresenceUser) -> usize {
    id_len(&user.id) + user.info.len() + USER
}

/// Returns the bytes that an id takes, including the quotes and a comma.
pub(super) fn id_len(id: &UserId) -> usize {
    // An id has no control characters, so only these two characters are escaped.
    id.len() + id.bytes().filter(|byte| matches!(byte, b'"' | b'\\')).count() + 3
}
