//! [`Frame`]: a payload serialised and framed once, for any number of connections.
//!
//! A server does not mask its frames (RFC 6455, section 5.1), so the same bytes serve every client.
//! A frame is header and payload in one piece; a clone shares it. Plain values, no synchronisation.

use std::fmt;

use bytes::Bytes;
use serde::Serialize;

/// The longest header of an unmasked frame: two bytes and a length of eight.
const MAX_HEADER: usize = 10;

const FIN: u8 = 0x80;

/// What a frame carries (RFC 6455, section 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// UTF-8 text.
    Text = 1,
    /// Bytes.
    Binary = 2,
    /// The end of the connection, with a code and a reason.
    Close = 8,
    /// A question whether the peer is there.
    Ping = 9,
    /// The answer to it.
    Pong = 10,
}

/// A WebSocket message, encoded once. Cheap to clone: clones share the bytes.
///
/// ```
/// use fanfare::frame::{Frame, Opcode};
///
/// let frame = Frame::json(&("score", 3))?;
/// assert_eq!(frame.opcode(), Opcode::Text);
/// assert_eq!(frame.payload(), br#"["score",3]"#);
/// assert_eq!(frame.bytes().len(), 2 + 11);
/// # Ok::<(), fanfare::frame::EncodeError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    bytes: Bytes,
    header: u8,
    opcode: Opcode,
}

impl Frame {
    /// Makes a text frame.
    #[must_use]
    pub fn text(text: impl AsRef<str>) -> Self {
        Self::new(Opcode::Text, text.as_ref().as_bytes())
    }

    /// Makes a binary frame.
    #[must_use]
    pub fn binary(payload: impl AsRef<[u8]>) -> Self {
        Self::new(Opcode::Binary, payload.as_ref())
    }

    /// Makes a text frame of the payload's JSON.
    ///
    /// # Errors
    ///
    /// When `payload` cannot be serialised; `serde_json` says what it met.
    pub fn json<T: Serialize + ?Sized>(payload: &T) -> Result<Self, EncodeError> {
        // The header's place is left free in front, so that the payload is written once and stays.
        let mut buffer = vec![0; MAX_HEADER];
        serde_json::to_writer(&mut buffer, payload).map_err(EncodeError)?;
        Ok(Self::headed(Opcode::Text, buffer))
    }

    /// Makes a close frame; a reason longer than 123 bytes is cut between characters.
    pub(crate) fn close(code: u16, reason: &str) -> Self {
        let cut = (0..=reason.len().min(123)).rev().find(|at| reason.is_char_boundary(*at)).unwrap_or(0);
        Self::new(Opcode::Close, &[&code.to_be_bytes(), &reason.as_bytes()[..cut]].concat())
    }

    /// Makes the answer to a ping.
    #[cfg(feature = "ws")]
    pub(crate) fn pong(payload: &[u8]) -> Self {
        Self::new(Opcode::Pong, payload)
    }

    /// Makes a question whether the peer is there.
    #[cfg(feature = "ws")]
    pub(crate) fn ping() -> Self {
        Self::new(Opcode::Ping, &[])
    }

    fn new(opcode: Opcode, payload: &[u8]) -> Self {
        let mut buffer = Vec::with_capacity(MAX_HEADER + payload.len());
        buffer.resize(MAX_HEADER, 0);
        buffer.extend_from_slice(payload);
        Self::headed(opcode, buffer)
    }

    /// Writes the header into the place before the payload.
    fn headed(opcode: Opcode, mut buffer: Vec<u8>) -> Self {
        let len = buffer.len() - MAX_HEADER;
        let header = match len {
            0..=125 => 2,
            126..=0xffff => 4,
            _ => MAX_HEADER,
        };
        let start = MAX_HEADER - header;
        buffer[start] = FIN | opcode as u8;
        // Each length fits its place: the header's size was chosen by it.
        match header {
            2 => buffer[start + 1] = len as u8,
            4 => {
                buffer[start + 1] = 126;
                buffer[start + 2..MAX_HEADER].copy_from_slice(&(len as u16).to_be_bytes());
            }
            _ => {
                buffer[start + 1] = 127;
                buffer[start + 2..MAX_HEADER].copy_from_slice(&(len as u64).to_be_bytes());
            }
        }
        Self { bytes: Bytes::from(buffer).slice(start..), header: header as u8, opcode }
    }

    /// Returns what the frame carries.
    #[must_use]
    pub fn opcode(&self) -> Opcode {
        self.opcode
    }

    /// Returns the payload.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.bytes[usize::from(self.header)..]
    }

    /// Returns header and payload, as they go out.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame").field("opcode", &self.opcode).field("payload_len", &self.payload().len()).finish()
    }
}

/// A payload that cannot be serialised; nothing was sent.
#[derive(Debug)]
pub struct EncodeError(serde_json::Error);

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("payload is not serialisable as JSON")
    }
}

impl std::error::Error for EncodeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_the_shortest_that_holds_the_length() {
        for (len, header) in [(0, 2), (125, 2), (126, 4), (0xffff, 4), (0x10000, 10)] {
            let frame = Frame::binary(vec![7; len]);
            assert_eq!((frame.bytes().len(), frame.payload().len()), (header + len, len));
        }
        assert_eq!(&Frame::binary([7; 126]).bytes()[..4], [0x82, 126, 0, 126]);
        assert_eq!(&Frame::text("hi").bytes()[..], [0x81, 2, b'h', b'i']);
        assert_eq!(&Frame::binary(vec![0; 0x10000]).bytes()[..10], [0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn a_close_frame_has_its_code_and_a_reason_cut_between_characters() {
        let frame = Frame::close(1013, &"ä".repeat(100));
        assert_eq!(frame.payload()[..2], 1013u16.to_be_bytes());
        assert_eq!(std::str::from_utf8(&frame.payload()[2..]), Ok(&*"ä".repeat(61)));
    }
}
