//! [`Frame`]: a payload serialised and framed once, for any number of connections.
//!
//! A server does not mask its frames (RFC 6455, section 5.1), so the same bytes serve every client. A frame is header
//! and payload in one piece, never changed, and a clone shares it.
//!
//! The same holds for the compressed frame, which is sent only to clients that agreed on permessage-deflate. The first
//! caller that needs it makes it, for all clones. The only synchronisation is its `OnceLock`.

pub(crate) mod close_code;
#[cfg(feature = "deflate")]
mod deflate;
mod draft;
mod pieces;
mod wire;

use std::fmt;

use bytes::Bytes;
use serde::Serialize;
use serde::de::IgnoredAny;

use close_code::CloseCode;
pub(crate) use draft::{Draft, tail};
pub(crate) use pieces::{Piece, pieces};
pub use wire::Opcode;
use wire::{FIN, JSON_CAPACITY, MAX_HEADER, headed, headless};

use crate::sync::Arc;
#[cfg(feature = "deflate")]
use crate::sync::OnceLock;

/// A WebSocket message, encoded once. Cheap to clone: clones share the bytes, and the compressed bytes too.
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
#[derive(Clone)]
pub struct Frame(Arc<Encoded>);

struct Encoded {
    bytes: Bytes,
    opcode: Opcode,
    /// The payload was serialised here, so it is JSON.
    json: bool,
    /// The message compressed, once it was needed; `None` inside when compression does not make it shorter.
    #[cfg(feature = "deflate")]
    deflated: OnceLock<Option<Bytes>>,
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
    /// When `payload` cannot be serialised; the source is `serde_json`'s error.
    pub fn json<T: Serialize + ?Sized>(payload: &T) -> Result<Self, EncodeError> {
        let mut buffer = headless(JSON_CAPACITY);
        serde_json::to_writer(&mut buffer, payload).map_err(EncodeError)?;
        Ok(Self::of(Opcode::Text, buffer, true))
    }

    /// Returns whether the payload is JSON text.
    pub(crate) fn is_json(&self) -> bool {
        let is_json = || serde_json::from_slice::<IgnoredAny>(self.payload()).is_ok();
        self.0.json || (self.opcode() == Opcode::Text && is_json())
    }

    /// Makes a close frame; a reason longer than 123 bytes is cut between characters.
    pub(crate) fn close(code: CloseCode, reason: &str) -> Self {
        let cut = (0..=reason.len().min(123)).rev().find(|at| reason.is_char_boundary(*at)).unwrap_or(0);
        Self::new(Opcode::Close, &[&code.get().to_be_bytes(), &reason.as_bytes()[..cut]].concat())
    }

    /// Makes a pong, the answer to a ping.
    #[cfg(feature = "ws")]
    pub(crate) fn pong(payload: &[u8]) -> Self {
        Self::new(Opcode::Pong, payload)
    }

    /// Makes a ping.
    #[cfg(feature = "ws")]
    pub(crate) fn ping() -> Self {
        Self::new(Opcode::Ping, &[])
    }

    fn new(opcode: Opcode, payload: &[u8]) -> Self {
        let mut buffer = headless(payload.len());
        buffer.extend_from_slice(payload);
        Self::of(opcode, buffer, false)
    }

    fn of(opcode: Opcode, buffer: Vec<u8>, json: bool) -> Self {
        Self::from_parts(headed(FIN | opcode as u8, buffer), opcode, json)
    }

    fn from_parts(bytes: Bytes, opcode: Opcode, json: bool) -> Self {
        Self(Arc::new(Encoded {
            bytes,
            opcode,
            json,
            #[cfg(feature = "deflate")]
            deflated: OnceLock::new(),
        }))
    }

    /// Returns the frame's opcode: what it carries.
    #[must_use]
    pub fn opcode(&self) -> Opcode {
        self.0.opcode
    }

    /// Returns the payload.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        // As `write_header` wrote it.
        let header = match self.bytes()[1] {
            127 => MAX_HEADER,
            126 => 4,
            _ => 2,
        };
        &self.bytes()[header..]
    }

    /// Returns header and payload, as they are sent.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.0.bytes
    }

    /// Returns header and compressed payload, as permessage-deflate sends them (RFC 7692).
    ///
    /// Returns `None` for control frames, for payloads of less than 256 bytes, and for payloads that do not get
    /// shorter: then send [`bytes`](Self::bytes). A client that agreed to compression takes either.
    ///
    /// The first call compresses, for all clones: about 4 µs for 2 KiB of JSON, 3 ms for 1 MiB. A concurrent call waits
    /// for it. Each message is compressed on its own, so the server's handshake has to promise
    /// `server_no_context_takeover`, as the answer of `ws::deflate::negotiate` does.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfare::frame::Frame;
    ///
    /// let frame = Frame::text("all the same ".repeat(100));
    /// assert!(frame.deflated().is_some_and(|deflated| deflated.len() < 100));
    /// assert_eq!(Frame::text("short").deflated(), None);
    /// ```
    #[cfg(feature = "deflate")]
    #[must_use]
    pub fn deflated(&self) -> Option<&Bytes> {
        self.0.deflated.get_or_init(|| deflate::deflate(self.opcode(), self.payload())).as_ref()
    }

    /// Returns the bytes for a client that takes compressed frames, if `deflates`, or does not.
    pub(crate) fn wire(&self, deflates: bool) -> &Bytes {
        #[cfg(feature = "deflate")]
        if deflates && let Some(deflated) = self.deflated() {
            return deflated;
        }
        #[cfg(not(feature = "deflate"))]
        let _ = deflates;
        self.bytes()
    }
}

impl PartialEq for Frame {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for Frame {}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame").field("opcode", &self.opcode()).field("payload_len", &self.payload().len()).finish()
    }
}

/// A payload cannot be serialised as JSON; nothing was sent.
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
    fn a_frame_takes_two_allocations_and_a_clone_none() {
        let text = "x".repeat(2000);
        let used = |make: &dyn Fn() -> Frame| {
            let mut frame = None;
            (allocation_counter::measure(|| frame = Some(make())).count_current, frame)
        };
        let (allocations, frame) = used(&|| Frame::text(&text));
        assert_eq!(allocations, 2);
        assert_eq!(used(&|| Frame::json(&text).expect("a string is json")).0, 2);
        assert_eq!(used(&|| frame.clone().expect("just made")).0, 0);
    }

    #[test]
    fn a_close_frame_has_its_code_and_a_reason_cut_between_characters() {
        let frame = Frame::close(CloseCode::TRY_AGAIN_LATER, &"ä".repeat(100));
        assert_eq!(frame.payload()[..2], 1013u16.to_be_bytes());
        assert_eq!(std::str::from_utf8(&frame.payload()[2..]), Ok(&*"ä".repeat(61)));
    }
}
