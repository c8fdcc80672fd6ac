//! [`ProtocolError`]: what a client did wrong.

use std::{error::Error, fmt};

use crate::frame::close_code::CloseCode;

/// The rule of RFC 6455, or the limit of ours, that a client broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProtocolError {
    /// A reserved bit was set that no agreed extension defines here: with permessage-deflate, the first one marks a
    /// compressed message, in its first frame.
    ReservedBits,
    /// A frame had an undefined opcode, which the variant holds.
    ReservedOpcode(u8),
    /// A frame was not masked; a client has to mask all of them.
    Unmasked,
    /// A control frame declared more than 125 bytes.
    ControlTooLong,
    /// A control frame was marked as a fragment.
    ControlFragmented,
    /// A frame's length was written in more bytes than it needs.
    LengthNotMinimal,
    /// A frame declared a length of 2^63 bytes or more.
    LengthTooLarge,
    /// A continuation frame came while no message was under way.
    NothingToContinue,
    /// A new message began before the last frame of the previous one.
    MessageUnfinished,
    /// A close frame held a single byte, which is half a code.
    CloseTooShort,
    /// A close frame gave a code, in the variant, that must not be sent.
    CloseCode(u16),
    /// The reason of a close frame was not UTF-8.
    ReasonNotUtf8,
    /// A text message was not UTF-8.
    TextNotUtf8,
    /// A frame declared more than [`Limits::max_frame_size`](super::Limits::max_frame_size).
    FrameTooBig,
    /// A message exceeded [`Limits::max_message_size`](super::Limits::max_message_size), or was too long for it on the
    /// wire.
    MessageTooBig,
    /// A message held more than 128 empty frames before its last one.
    TooManyEmptyFragments,
    /// The payload of a compressed message was not a DEFLATE stream, or stopped in the middle of one.
    BadDeflate,
}

impl ProtocolError {
    /// Returns the code to close the connection with: 1002, 1007 or 1009.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfare::channel::CloseCode;
    /// use fanfare::ws::decoder::ProtocolError;
    ///
    /// assert_eq!(ProtocolError::Unmasked.close_code(), CloseCode::PROTOCOL_ERROR);
    /// assert_eq!(ProtocolError::TextNotUtf8.close_code(), CloseCode::INVALID);
    /// assert_eq!(ProtocolError::MessageTooBig.close_code(), CloseCode::TOO_BIG);
    /// ```
    #[must_use]
    pub fn close_code(&self) -> CloseCode {
        match self {
            Self::ReasonNotUtf8 | Self::TextNotUtf8 | Self::BadDeflate => CloseCode::INVALID,
            Self::FrameTooBig | Self::MessageTooBig | Self::TooManyEmptyFragments => CloseCode::TOO_BIG,
            _ => CloseCode::PROTOCOL_ERROR,
        }
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReservedBits => f.write_str("reserved bit set without a meaning"),
            Self::ReservedOpcode(opcode) => write!(f, "reserved opcode {opcode:#x}"),
            Self::Unmasked => f.write_str("client frame is not masked"),
            Self::ControlTooLong => f.write_str("control frame is longer than 125 bytes"),
            Self::ControlFragmented => f.write_str("control frame is fragmented"),
            Self::LengthNotMinimal => f.write_str("frame length is not in its shortest form"),
            Self::LengthTooLarge => f.write_str("frame length is 2^63 bytes or more"),
            Self::NothingToContinue => f.write_str("continuation frame without a message"),
            Self::MessageUnfinished => f.write_str("new message inside an unfinished one"),
            Self::CloseTooShort => f.write_str("close frame holds half a code"),
            Self::CloseCode(code) => write!(f, "close code {code} must not be sent"),
            Self::ReasonNotUtf8 => f.write_str("close reason is not utf-8"),
            Self::TextNotUtf8 => f.write_str("text message is not utf-8"),
            Self::FrameTooBig => f.write_str("frame exceeds the size limit"),
            Self::MessageTooBig => f.write_str("message exceeds the size limit"),
            Self::TooManyEmptyFragments => f.write_str("message has too many empty fragments"),
            Self::BadDeflate => f.write_str("compressed message is not a deflate stream"),
        }
    }
}

impl Error for ProtocolError {}
