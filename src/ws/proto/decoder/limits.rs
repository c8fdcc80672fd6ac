//! [`Limits`]: how much a client may send at once.

/// How much a client may send at once.
///
/// Messages may come in any number of frames of any size, so a limit for frames alone bounds nothing;
/// it only refuses earlier. Control frames count towards neither limit: they hold at most 125 bytes.
///
/// For a compressed message, the inflated bytes count, and the first byte too many is an error. On the wire, its frames
/// together may have twice as many bytes plus 1 KiB, which bounds compressed data that inflates to nothing.
///
/// # Examples
///
/// ```
/// use fanfare::ws::decoder::{Decoder, Limits, ProtocolError};
///
/// let limits = Limits::new().max_message_size(4);
/// let mut five_bytes: &[u8] = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
/// let refused = Decoder::new(limits).decode(&mut five_bytes);
/// assert_eq!(refused, Err(ProtocolError::MessageTooBig));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The most payload bytes that one frame may declare, as on the wire; by default what the message may have.
    ///
    /// Incompressible data is a little longer compressed: a limit equal to that of the message would refuse some
    /// messages that just fit.
    pub max_frame_size: usize,
    /// The most payload bytes of one message, over all its frames, inflated; 1 MiB by default.
    pub max_message_size: usize,
}

impl Limits {
    /// Returns the limits that an [`Upgrade`](crate::ws::Upgrade) has by default.
    #[must_use]
    pub const fn new() -> Self {
        Self { max_frame_size: usize::MAX, max_message_size: 1 << 20 }
    }

    /// Sets the field of this name.
    #[must_use]
    pub const fn max_frame_size(mut self, bytes: usize) -> Self {
        self.max_frame_size = bytes;
        self
    }

    /// Sets the field of this name.
    #[must_use]
    pub const fn max_message_size(mut self, bytes: usize) -> Self {
        self.max_message_size = bytes;
        self
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::new()
    }
}
