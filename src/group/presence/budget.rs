//! How much of a presence frame is left for users. Plain values.

use super::entry::PresenceUser;
use crate::channel::UserId;

/// The longest frame, header included.
pub(super) const MAX_FRAME: usize = 64 << 10;
/// What a frame has beside its users at most: a group's name of 255 bytes, each of them escaped, and numbers.
pub(super) const HEAD: usize = 1024;
/// What a user's entry has beside its id and its info at most, the comma behind it included.
const USER: usize = 96;

/// Bytes that are left in a frame for users.
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

/// Returns how many bytes an entry takes at most.
pub(super) fn user_len(user: &PresenceUser) -> usize {
    id_len(&user.id) + user.info.len() + USER
}

/// Returns how many bytes an id takes, the quotes and a comma included.
pub(super) fn id_len(id: &UserId) -> usize {
    // An id has no control characters: these two alone are escaped.
    id.len() + id.bytes().filter(|byte| matches!(byte, b'"' | b'\\')).count() + 3
}
