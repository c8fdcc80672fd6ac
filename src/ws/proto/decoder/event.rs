//! [`DecoderEvent`]: the decoder's output.

use bytes::Bytes;

use super::error::ProtocolError;
use crate::frame::close_code::CloseCode;

/// A message, a control frame, or the close of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecoderEvent {
    /// A text message, complete; the bytes are valid UTF-8.
    Text(Bytes),
    /// A binary message, complete.
    Binary(Bytes),
    /// A ping, to be answered by a pong with the same payload.
    Ping(Bytes),
    /// An answer to a ping, or an unsolicited heartbeat.
    Pong(Bytes),
    /// The client closes, or answers our close; nothing comes after it.
    Close {
        /// The code, if the client gave one; it is one that may be sent back.
        code: Option<CloseCode>,
        /// The reason, empty if the client gave none.
        reason: String,
    },
}

impl DecoderEvent {
    /// Makes the event of a close frame.
    pub(super) fn close(payload: &[u8]) -> Result<Self, ProtocolError> {
        let (code, reason) = match payload {
            [] => {
                return Ok(Self::Close { code: None, reason: String::new() });
            }
            [_] => return Err(ProtocolError::CloseTooShort),
            [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
        };
        let Some(code) = CloseCode::try_new(code) else {
            return Err(ProtocolError::CloseCode(code));
        };
        let Ok(reason) = simdutf8::basic::from_utf8(reason) else {
            return Err(ProtocolError::ReasonNotUtf8);
        };
        Ok(Self::Close { code: Some(code), reason: reason.to_owned() })
    }
}
