//! The codes that a close frame may carry.

/// Tells whether a close frame may carry `code`: registered with IANA and not for local use only
/// (1004 to 1006, 1015), or in the ranges left to libraries (3000) and applications (4000).
pub(crate) fn is_close_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// Panics when a client would have to take a close of this code for a broken protocol.
#[track_caller]
pub(crate) fn require_close_code(code: u16) {
    assert!(is_close_code(code), "close code {code} must not be sent: use 1000, or one of your own from 3000 to 4999");
}
