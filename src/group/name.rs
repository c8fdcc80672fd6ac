//! The names that a group may have.

/// The longest group name, in bytes.
pub const MAX_NAME_LEN: usize = 255;

/// Returns whether a group can have this name: 1 to 255 bytes, without control characters.
pub(super) fn is_valid(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_NAME_LEN && !name.chars().any(char::is_control)
}
