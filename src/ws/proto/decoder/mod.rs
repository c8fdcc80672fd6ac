//! Reads what a WebSocket client sends (RFC 6455): bytes in, [`DecoderEvent`]s out, no socket anywhere.
//!
//! The module is public for programs with a transport of their own, and for fuzzers: they need exactly this
//! and nothing else. A handler never sees a [`ProtocolError`]: its channel returns
//! [`RecvError::Protocol`](crate::channel::RecvError::Protocol), with the error's close code and its text.
//!
//! What always holds:
//! - Every byte is looked at once. The decoder keeps no input of its own: it takes bytes from the
//!   caller's buffer, and the payload is unmasked in the message it will be delivered in. A message
//!   that has arrived as a whole costs one allocation and one copy. A compressed one (RFC 7692) is
//!   unmasked and inflated by pieces of fixed size, each copied to its message.
//! - Memory follows what has arrived, never what a header declares: at most twice the bytes of the
//!   unfinished message. For a compressed one these are the inflated bytes, up to the limit, and 48
//!   KiB come on top until it is complete. Between messages the decoder owns no memory at all.
//! - What comes out does not depend on how the bytes were split on their way in.
//! - Text is checked as it arrives. The first byte that cannot be UTF-8 ends the connection, whether
//!   or not its frame is complete; a code point that is split over two frames is accepted.
//! - A [`Close`](DecoderEvent::Close) or an error is the last thing that comes out.
//!
//! ```text
//!            14 header bytes or fewer           payload unmasked (and inflated) into `control` or `message`
//!   Header ----------------------------> Payload ---------------------------------+
//!     ^  \                                  |  \                                  |
//!     |   \ header breaks a rule            |   \ not UTF-8, not DEFLATE, too big | frame complete
//!     |    v                                |    v                                |
//!     |   Failed(error)                     |   Failed(error)                     |
//!     +-- message goes on, or Text, Binary, Ping, Pong ---------------------------+-- Close --> Closed
//! ```

mod error;
mod event;
mod frame;
mod header;
#[cfg(feature = "deflate")]
mod inflate;
mod limits;
mod message;
#[cfg(not(feature = "deflate"))]
mod no_inflate;

use std::mem;

use bytes::Buf;

use self::frame::{Frame, Opcode};
use self::header::Header;
use self::message::PartialMessage;

pub use self::error::ProtocolError;
pub use self::event::DecoderEvent;
pub use self::limits::Limits;

/// Turns the bytes of one client into [`DecoderEvent`]s.
///
/// # Examples
///
/// ```
/// use fanfare::ws::decoder::{Decoder, DecoderEvent, Limits};
///
/// // "Hello" as a browser sends it: masked with the four bytes after the length (RFC 6455, 5.7).
/// let mut input: &[u8] = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
/// let mut decoder = Decoder::new(Limits::default());
///
/// assert_eq!(decoder.decode(&mut input)?, Some(DecoderEvent::Text("Hello".into())));
/// assert_eq!(decoder.decode(&mut input)?, None);
/// # Ok::<(), fanfare::ws::decoder::ProtocolError>(())
/// ```
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    /// Whether permessage-deflate was agreed.
    deflate: bool,
    state: Reading,
    /// The data message that is under way, from its first frame to its last.
    message: Option<PartialMessage>,
    /// The payload of the control frame that is under way; it may interrupt `message`.
    control: Vec<u8>,
}

impl Decoder {
    /// Creates a decoder for one connection, at the first byte after the handshake.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, deflate: false, state: Reading::Header(Header::default()), message: None, control: Vec::new() }
    }

    /// Creates a decoder for a connection that agreed on permessage-deflate, as
    /// [`negotiate`](crate::ws::deflate::negotiate) answers it: each message is compressed on its own, or not at all.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfare::ws::decoder::{Decoder, DecoderEvent, Limits};
    ///
    /// // "Hello", compressed (RFC 7692, 7.2.3.1), with a mask of zeros.
    /// let mut input: &[u8] = b"\xc1\x87\0\0\0\0\xf2\x48\xcd\xc9\xc9\x07\x00";
    /// let mut decoder = Decoder::with_deflate(Limits::default());
    ///
    /// assert_eq!(decoder.decode(&mut input)?, Some(DecoderEvent::Text("Hello".into())));
    /// assert_eq!(decoder.allocated(), 0);
    /// # Ok::<(), fanfare::ws::decoder::ProtocolError>(())
    /// ```
    #[cfg(feature = "deflate")]
    #[must_use]
    pub fn with_deflate(limits: Limits) -> Self {
        Self { deflate: true, ..Self::new(limits) }
    }

    /// Takes bytes from the front of `input` until an event is complete, and returns it.
    ///
    /// `Ok(None)` means that all of `input` has been taken and that more is needed; until then, call
    /// it again with what is left. After a [`Close`](DecoderEvent::Close) the rest is taken and ignored.
    ///
    /// # Errors
    ///
    /// The client broke the protocol or a limit: the connection has to be closed with
    /// [`ProtocolError::close_code`]. Later calls take all of `input` and return the same error.
    ///
    /// # Examples
    ///
    /// Frames may arrive in any pieces; a `BytesMut` that was read into works as well.
    ///
    /// ```
    /// use bytes::BytesMut;
    /// use fanfare::ws::decoder::{Decoder, DecoderEvent, Limits};
    ///
    /// let mut decoder = Decoder::new(Limits::default());
    /// let mut received = BytesMut::from(&b"\x89\x80\x01\x02"[..]);
    /// assert_eq!(decoder.decode(&mut received)?, None);
    ///
    /// received.extend_from_slice(b"\x03\x04");
    /// assert_eq!(decoder.decode(&mut received)?, Some(DecoderEvent::Ping("".into())));
    /// assert!(received.is_empty());
    /// # Ok::<(), fanfare::ws::decoder::ProtocolError>(())
    /// ```
    pub fn decode(&mut self, input: &mut impl Buf) -> Result<Option<DecoderEvent>, ProtocolError> {
        match self.next_event(input) {
            Ok(event) => {
                if let Some(DecoderEvent::Close { .. }) = event {
                    self.end(Reading::Closed);
                }
                Ok(event)
            }
            Err(error) => {
                self.end(Reading::Failed(error));
                Err(error)
            }
        }
    }

    /// Returns how many bytes of memory the unfinished message and control frame take up.
    #[must_use]
    pub fn allocated(&self) -> usize {
        self.message.as_ref().map_or(0, PartialMessage::allocated) + self.control.capacity()
    }

    fn next_event(&mut self, input: &mut impl Buf) -> Result<Option<DecoderEvent>, ProtocolError> {
        loop {
            match &mut self.state {
                Reading::Header(header) => {
                    let Some(frame) = header.read(self.deflate, input)? else {
                        return Ok(None);
                    };
                    self.begin(&frame)?;
                    self.state = Reading::Payload(frame);
                }
                Reading::Payload(frame) => {
                    if frame.opcode.is_control() {
                        frame.read(input, &mut self.control);
                    } else if let Some(message) = &mut self.message {
                        message.read(frame, input, self.limits.max_message_size)?;
                    }
                    if frame.remaining > 0 {
                        return Ok(None);
                    }
                    let (opcode, fin) = (frame.opcode, frame.fin);
                    self.state = Reading::Header(Header::default());
                    if let Some(event) = self.complete(opcode, fin)? {
                        return Ok(Some(event));
                    }
                }
                Reading::Closed => {
                    input.advance(input.remaining());
                    return Ok(None);
                }
                Reading::Failed(error) => {
                    input.advance(input.remaining());
                    return Err(*error);
                }
            }
        }
    }

    /// Checks `frame` against the limits and the message under way, before any of its payload.
    fn begin(&mut self, frame: &Frame) -> Result<(), ProtocolError> {
        if frame.opcode.is_control() {
            return Ok(());
        }
        if frame.remaining > self.limits.max_frame_size as u64 {
            return Err(ProtocolError::FrameTooBig);
        }
        let message = match (frame.opcode, &mut self.message) {
            (Opcode::Continuation, Some(message)) => message,
            (Opcode::Continuation, None) => return Err(ProtocolError::NothingToContinue),
            (_, Some(_)) => return Err(ProtocolError::MessageUnfinished),
            (_, none) => none.insert(PartialMessage::new(frame, self.limits.max_message_size)),
        };
        message.declare(frame.remaining, self.limits.max_message_size)?;
        if frame.remaining == 0 && !frame.fin {
            message.count_empty()?;
        }
        Ok(())
    }

    /// Makes the event of a frame whose payload is complete; a fragment makes none.
    fn complete(&mut self, opcode: Opcode, fin: bool) -> Result<Option<DecoderEvent>, ProtocolError> {
        match opcode {
            Opcode::Ping => Ok(Some(DecoderEvent::Ping(mem::take(&mut self.control).into()))),
            Opcode::Pong => Ok(Some(DecoderEvent::Pong(mem::take(&mut self.control).into()))),
            Opcode::Close => DecoderEvent::close(&self.control).map(Some),
            Opcode::Continuation | Opcode::Text | Opcode::Binary if !fin => Ok(None),
            Opcode::Continuation | Opcode::Text | Opcode::Binary => {
                self.message.take().map(PartialMessage::into_event).transpose()
            }
        }
    }

    /// Enters a final state; what was under way will never be delivered.
    fn end(&mut self, state: Reading) {
        self.state = state;
        self.message = None;
        self.control = Vec::new();
    }
}

/// Where in the stream the next byte belongs.
#[derive(Debug)]
enum Reading {
    Header(Header),
    Payload(Frame),
    Closed,
    Failed(ProtocolError),
}

#[cfg(test)]
mod tests;
