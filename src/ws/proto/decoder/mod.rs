//! Reads what a WebSocket client sends (RFC 6455): bytes in, [`Event`]s out, no socket anywhere.
//!
//! The module is public, rather than hidden, for two reasons: [`ProtocolError`] reaches users as the
//! cause of a lost connection, and whoever brings another transport (or a fuzzer) needs exactly
//! this and nothing else.
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
//! - A [`Close`](Event::Close) or an error is the last thing that comes out.
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

#[cfg(feature = "deflate")]
mod inflate;

/// Without the feature nothing is compressed, and this has no values.
#[cfg(not(feature = "deflate"))]
mod inflate {
    use super::ProtocolError;

    #[derive(Debug)]
    pub(super) enum Inflater {}

    impl Inflater {
        pub(super) const SIZE: usize = 0;

        pub(super) fn declare(&mut self, _: u64) -> Result<(), ProtocolError> {
            match *self {}
        }

        pub(super) fn step(&mut self, _: &mut &[u8], _: &mut [u8]) -> (usize, Result<bool, ProtocolError>) {
            match *self {}
        }

        pub(super) fn ends_here(&mut self) -> bool {
            match *self {}
        }
    }
}

use std::{error::Error, fmt, mem};

use bytes::{Buf, Bytes};

use crate::frame::is_close_code;

use inflate::Inflater;

/// A control frame may carry this much and no more (RFC 6455, section 5.5).
const MAX_CONTROL_PAYLOAD: u64 = 125;

/// The longest header of a masked frame: two bytes, a 64-bit length, the masking key.
const MAX_HEADER: usize = 14;

/// How many empty frames one message may hold before its last one.
///
/// Only these escape the limit on size; with this limit every message ends. A client that streams
/// may well send a few, never hundreds.
const MAX_EMPTY_FRAGMENTS: u32 = 128;

/// A compressed message is unmasked this much at a time, and inflated that much: a typical one whole.
const WIRE_PIECE: usize = 1 << 10;
const PLAIN_PIECE: usize = 4 << 10;

/// Turns the bytes of one client into [`Event`]s.
///
/// # Examples
///
/// ```
/// use fanfare::ws::decoder::{Decoder, Event, Limits};
///
/// // "Hello" as a browser sends it: masked with the four bytes after the length (RFC 6455, 5.7).
/// let mut input: &[u8] = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
/// let mut decoder = Decoder::new(Limits::default());
///
/// assert_eq!(decoder.decode(&mut input)?, Some(Event::Text("Hello".into())));
/// assert_eq!(decoder.decode(&mut input)?, None);
/// # Ok::<(), fanfare::ws::decoder::ProtocolError>(())
/// ```
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    /// Whether permessage-deflate was agreed.
    deflate: bool,
    state: State,
    /// The data message that is under way, from its first frame to its last.
    message: Option<Message>,
    /// The payload of the control frame that is under way; it may interrupt `message`.
    control: Vec<u8>,
}

impl Decoder {
    /// Creates a decoder for one connection, at the first byte after the handshake.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, deflate: false, state: State::Header(Header::default()), message: None, control: Vec::new() }
    }

    /// Creates a decoder for a connection that agreed on permessage-deflate, as
    /// [`negotiate`](crate::ws::deflate::negotiate) answers it: each message is compressed on its own, or not at all.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfare::ws::decoder::{Decoder, Event, Limits};
    ///
    /// // "Hello", compressed (RFC 7692, 7.2.3.1), with a mask of zeros.
    /// let mut input: &[u8] = b"\xc1\x87\0\0\0\0\xf2\x48\xcd\xc9\xc9\x07\x00";
    /// let mut decoder = Decoder::with_deflate(Limits::default());
    ///
    /// assert_eq!(decoder.decode(&mut input)?, Some(Event::Text("Hello".into())));
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
    /// it again with what is left. After a [`Close`](Event::Close) the rest is taken and ignored.
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
    /// use fanfare::ws::decoder::{Decoder, Event, Limits};
    ///
    /// let mut decoder = Decoder::new(Limits::default());
    /// let mut received = BytesMut::from(&b"\x89\x80\x01\x02"[..]);
    /// assert_eq!(decoder.decode(&mut received)?, None);
    ///
    /// received.extend_from_slice(b"\x03\x04");
    /// assert_eq!(decoder.decode(&mut received)?, Some(Event::Ping("".into())));
    /// assert!(received.is_empty());
    /// # Ok::<(), fanfare::ws::decoder::ProtocolError>(())
    /// ```
    pub fn decode(&mut self, input: &mut impl Buf) -> Result<Option<Event>, ProtocolError> {
        match self.next_event(input) {
            Ok(event) => {
                if let Some(Event::Close { .. }) = event {
                    self.end(State::Closed);
                }
                Ok(event)
            }
            Err(error) => {
                self.end(State::Failed(error));
                Err(error)
            }
        }
    }

    /// Returns how many bytes of memory the unfinished message and control frame take up.
    #[must_use]
    pub fn allocated(&self) -> usize {
        self.message.as_ref().map_or(0, Message::allocated) + self.control.capacity()
    }

    fn next_event(&mut self, input: &mut impl Buf) -> Result<Option<Event>, ProtocolError> {
        loop {
            match &mut self.state {
                State::Header(header) => {
                    let Some(frame) = header.read(self.deflate, input)? else {
                        return Ok(None);
                    };
                    self.begin(&frame)?;
                    self.state = State::Payload(frame);
                }
                State::Payload(frame) => {
                    if frame.opcode.is_control() {
                        frame.read(input, &mut self.control);
                    } else if let Some(message) = &mut self.message {
                        message.read(frame, input, self.limits.max_message_size)?;
                    }
                    if frame.remaining > 0 {
                        return Ok(None);
                    }
                    let (opcode, fin) = (frame.opcode, frame.fin);
                    self.state = State::Header(Header::default());
                    if let Some(event) = self.complete(opcode, fin)? {
                        return Ok(Some(event));
                    }
                }
                State::Closed => {
                    input.advance(input.remaining());
                    return Ok(None);
                }
                State::Failed(error) => {
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
            (opcode, none) => none.insert(Message::new(opcode == Opcode::Text, self.limits.inflater(frame))),
        };
        message.declare(frame.remaining, self.limits.max_message_size)?;
        if frame.remaining == 0 && !frame.fin {
            message.count_empty()?;
        }
        Ok(())
    }

    /// Makes the event of a frame whose payload is complete; a fragment makes none.
    fn complete(&mut self, opcode: Opcode, fin: bool) -> Result<Option<Event>, ProtocolError> {
        match opcode {
            Opcode::Ping => Ok(Some(Event::Ping(mem::take(&mut self.control).into()))),
            Opcode::Pong => Ok(Some(Event::Pong(mem::take(&mut self.control).into()))),
            Opcode::Close => close_event(&self.control).map(Some),
            Opcode::Continuation | Opcode::Text | Opcode::Binary if !fin => Ok(None),
            Opcode::Continuation | Opcode::Text | Opcode::Binary => {
                self.message.take().map(Message::into_event).transpose()
            }
        }
    }

    /// Enters a final state; what was under way will never be delivered.
    fn end(&mut self, state: State) {
        self.state = state;
        self.message = None;
        self.control = Vec::new();
    }
}

/// What a client has said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A text message, complete; the bytes are valid UTF-8.
    Text(Bytes),
    /// A binary message, complete.
    Binary(Bytes),
    /// A ping, to be answered by a pong with the same payload.
    Ping(Bytes),
    /// An answer to a ping, or a heartbeat nobody asked for.
    Pong(Bytes),
    /// The client closes, or answers our close; nothing comes after it.
    Close {
        /// The code, if the client gave one; it is one that may be sent back.
        code: Option<u16>,
        /// The reason, empty if the client gave none.
        reason: String,
    },
}

/// How much a client may send at once.
///
/// Messages may come in any number of frames of any size, so a limit for frames alone bounds nothing;
/// it only refuses earlier. Control frames count towards neither: they hold 125 bytes at the most.
///
/// Of a compressed message, the inflated bytes count as the message's, and the first one too many ends it. On the
/// wire, its frames together may take twice as many and 1 KiB: compressed data that stands for nothing ends too.
///
/// # Examples
///
/// ```
/// use fanfare::ws::decoder::{Decoder, Limits, ProtocolError};
///
/// let limits = Limits { max_message_size: 4, ..Limits::default() };
/// let mut five_bytes: &[u8] = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
/// let refused = Decoder::new(limits).decode(&mut five_bytes);
/// assert_eq!(refused, Err(ProtocolError::MessageTooBig));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most payload bytes that one frame may declare, as on the wire; by default what the message may have.
    ///
    /// What does not shrink is a little longer compressed: a limit as small as that of the message would refuse some
    /// messages that just fit.
    pub max_frame_size: usize,
    /// The most payload bytes of one message, over all its frames, inflated; 1 MiB by default.
    pub max_message_size: usize,
}

impl Limits {
    /// Makes the inflater that the message beginning with `frame` needs.
    fn inflater(&self, frame: &Frame) -> Option<Box<Inflater>> {
        #[cfg(feature = "deflate")]
        if frame.compressed {
            let max_wire = (self.max_message_size as u64).saturating_mul(2).saturating_add(1 << 10);
            return Some(Box::new(Inflater::new(max_wire)));
        }
        debug_assert!(!frame.compressed, "refused by the header");
        None
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_frame_size: usize::MAX, max_message_size: 1 << 20 }
    }
}

/// The rule of RFC 6455, or the limit of ours, that a client broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProtocolError {
    /// A reserved bit was set that nothing agreed on gives a meaning here: the first one marks a compressed message,
    /// in the first of its frames.
    ReservedBits,
    /// The opcode, in the variant, is one that nobody has defined.
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
    /// A frame declared more than [`Limits::max_frame_size`].
    FrameTooBig,
    /// A message grew past [`Limits::max_message_size`], or took too much for that on the wire.
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
    /// use fanfare::ws::decoder::ProtocolError;
    ///
    /// assert_eq!(ProtocolError::Unmasked.close_code(), 1002);
    /// assert_eq!(ProtocolError::TextNotUtf8.close_code(), 1007);
    /// assert_eq!(ProtocolError::MessageTooBig.close_code(), 1009);
    /// ```
    #[must_use]
    pub fn close_code(&self) -> u16 {
        match self {
            Self::ReasonNotUtf8 | Self::TextNotUtf8 | Self::BadDeflate => 1007,
            Self::FrameTooBig | Self::MessageTooBig | Self::TooManyEmptyFragments => 1009,
            _ => 1002,
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

/// Where in the stream the next byte belongs.
#[derive(Debug)]
enum State {
    Header(Header),
    Payload(Frame),
    Closed,
    Failed(ProtocolError),
}

/// As much of a frame's header as has arrived.
#[derive(Debug, Default)]
struct Header {
    bytes: [u8; MAX_HEADER],
    len: usize,
}

impl Header {
    /// Reads on; `None` when `input` ran out first.
    fn read(&mut self, deflate: bool, input: &mut impl Buf) -> Result<Option<Frame>, ProtocolError> {
        if !self.fill(2, input) {
            return Ok(None);
        }
        let [first, second, ..] = self.bytes;
        let (fin, compressed, opcode) = parse_first(first, deflate)?;
        let short_len = parse_second(second, fin, opcode)?;
        let end_of_length = match short_len {
            127 => 10,
            126 => 4,
            _ => 2,
        };
        if !self.fill(end_of_length + 4, input) {
            return Ok(None);
        }
        let [_, _, b2, b3, b4, b5, b6, b7, b8, b9, ..] = self.bytes;
        let (remaining, least) = match short_len {
            127 => (u64::from_be_bytes([b2, b3, b4, b5, b6, b7, b8, b9]), 1 << 16),
            126 => (u16::from_be_bytes([b2, b3]).into(), 126),
            len => (len.into(), 0),
        };
        if remaining >> 63 == 1 {
            return Err(ProtocolError::LengthTooLarge);
        }
        if remaining < least {
            return Err(ProtocolError::LengthNotMinimal);
        }
        let mut mask = [0; 4];
        mask.copy_from_slice(&self.bytes[end_of_length..end_of_length + 4]);
        Ok(Some(Frame { fin, compressed, opcode, remaining, mask }))
    }

    /// Takes bytes until `len` of them are here, and says whether they are.
    fn fill(&mut self, len: usize, input: &mut impl Buf) -> bool {
        let taken = len.saturating_sub(self.len).min(input.remaining());
        input.copy_to_slice(&mut self.bytes[self.len..self.len + taken]);
        self.len += taken;
        self.len >= len
    }
}

fn parse_first(byte: u8, deflate: bool) -> Result<(bool, bool, Opcode), ProtocolError> {
    let begins_message = matches!(byte & 0x0f, 0x1 | 0x2);
    let meaningful = if deflate && begins_message { 0x40 } else { 0 };
    if byte & 0x70 & !meaningful != 0 {
        return Err(ProtocolError::ReservedBits);
    }
    let opcode = match byte & 0x0f {
        0x0 => Opcode::Continuation,
        0x1 => Opcode::Text,
        0x2 => Opcode::Binary,
        0x8 => Opcode::Close,
        0x9 => Opcode::Ping,
        0xa => Opcode::Pong,
        reserved => return Err(ProtocolError::ReservedOpcode(reserved)),
    };
    Ok((byte & 0x80 != 0, byte & 0x40 != 0, opcode))
}

fn parse_second(byte: u8, fin: bool, opcode: Opcode) -> Result<u8, ProtocolError> {
    let short_len = byte & 0x7f;
    if byte & 0x80 == 0 {
        return Err(ProtocolError::Unmasked);
    }
    if opcode.is_control() && !fin {
        return Err(ProtocolError::ControlFragmented);
    }
    if opcode.is_control() && u64::from(short_len) > MAX_CONTROL_PAYLOAD {
        return Err(ProtocolError::ControlTooLong);
    }
    Ok(short_len)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// A frame whose header is complete and whose payload is arriving.
#[derive(Debug)]
struct Frame {
    fin: bool,
    /// Whether it is the first of a compressed message; those after it do not say.
    compressed: bool,
    opcode: Opcode,
    /// Payload bytes that have not arrived yet; as declared, so never a reason to allocate.
    remaining: u64,
    /// The masking key, turned so that its first byte belongs to the next byte of the payload.
    mask: [u8; 4],
}

impl Frame {
    /// Moves what `input` holds of this frame to the end of `payload`, unmasked.
    fn read(&mut self, input: &mut impl Buf, payload: &mut Vec<u8>) {
        while self.remaining > 0 && input.has_remaining() {
            let chunk = input.chunk();
            // Saturating: a frame longer than memory is as long as memory here.
            let rest = usize::try_from(self.remaining).unwrap_or(usize::MAX);
            let taken = chunk.len().min(rest);
            let start = payload.len();
            self.reserve(payload, taken, rest);
            payload.extend_from_slice(&chunk[..taken]);
            unmask(&mut payload[start..], self.mask);
            self.mask.rotate_left(taken % 4);
            self.remaining -= taken as u64;
            input.advance(taken);
        }
    }

    /// Copies what `input` holds of this frame to `piece`, unmasked, until either is at its end.
    fn read_piece<'a>(&mut self, input: &mut impl Buf, piece: &'a mut [u8]) -> &'a [u8] {
        let rest = usize::try_from(self.remaining).unwrap_or(usize::MAX);
        let len = piece.len().min(input.remaining()).min(rest);
        let piece = &mut piece[..len];
        input.copy_to_slice(piece);
        unmask(piece, self.mask);
        self.mask.rotate_left(len % 4);
        self.remaining -= len as u64;
        piece
    }

    /// Makes room for `taken` bytes: at least doubles, so that growing is linear in total, but never
    /// goes past the end of the last frame, so that a finished message fits its memory.
    fn reserve(&self, payload: &mut Vec<u8>, taken: usize, rest: usize) {
        if payload.capacity() - payload.len() >= taken {
            return;
        }
        let doubled = payload.len().max(taken);
        payload.reserve_exact(if self.fin { doubled.min(rest) } else { doubled });
    }
}

/// Applies `mask` to `bytes`, whose first byte is masked by the first of the key.
fn unmask(bytes: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
}

/// A data message from its first frame to its last.
#[derive(Debug)]
struct Message {
    is_text: bool,
    payload: Vec<u8>,
    /// How much of `payload` is known to be UTF-8; at most three bytes of a started code point follow.
    checked: usize,
    /// Empty frames so far, the last one aside.
    empty: u32,
    /// Where the payload comes from if it is compressed.
    inflater: Option<Box<Inflater>>,
}

impl Message {
    fn new(is_text: bool, inflater: Option<Box<Inflater>>) -> Self {
        Self { is_text, payload: Vec::new(), checked: 0, empty: 0, inflater }
    }

    fn allocated(&self) -> usize {
        self.payload.capacity() + if self.inflater.is_some() { Inflater::SIZE } else { 0 }
    }

    /// Checks the length that a frame declares; what it inflates to is not known before it has arrived.
    fn declare(&mut self, len: u64, limit: usize) -> Result<(), ProtocolError> {
        if let Some(inflater) = &mut self.inflater {
            return inflater.declare(len);
        }
        if len > limit.saturating_sub(self.payload.len()) as u64 {
            return Err(ProtocolError::MessageTooBig);
        }
        Ok(())
    }

    /// Moves what `input` holds of `frame` to the end of the payload.
    fn read(&mut self, frame: &mut Frame, input: &mut impl Buf, limit: usize) -> Result<(), ProtocolError> {
        if self.inflater.is_some() {
            return self.inflate(frame, input, limit);
        }
        frame.read(input, &mut self.payload);
        self.check_arrived()
    }

    fn inflate(&mut self, frame: &mut Frame, input: &mut impl Buf, limit: usize) -> Result<(), ProtocolError> {
        let (mut wire, mut plain) = ([0; WIRE_PIECE], [0; PLAIN_PIECE]);
        loop {
            let mut piece = frame.read_piece(input, &mut wire);
            if piece.is_empty() {
                return Ok(());
            }
            while self.inflate_step(&mut piece, &mut plain, limit)? {}
        }
    }

    /// Inflates as much of `wire` as `plain` holds, and says whether there may be more.
    fn inflate_step(&mut self, wire: &mut &[u8], plain: &mut [u8], limit: usize) -> Result<bool, ProtocolError> {
        let Some(inflater) = &mut self.inflater else {
            return Ok(false);
        };
        let (made, more) = inflater.step(wire, plain);
        self.append(&plain[..made], limit)?;
        more
    }

    /// Adds `inflated` to the payload, as far as the limit.
    fn append(&mut self, inflated: &[u8], limit: usize) -> Result<(), ProtocolError> {
        let room = limit - self.payload.len();
        let fitting = &inflated[..inflated.len().min(room)];
        if self.payload.capacity() - self.payload.len() < fitting.len() {
            // At least doubles, so that growing is linear in total, but not past the limit.
            self.payload.reserve_exact(self.payload.len().max(fitting.len()).min(room));
        }
        self.payload.extend_from_slice(fitting);
        // Before the limit: what came first is what is wrong, however much of it was inflated at once.
        self.check_arrived()?;
        if fitting.len() < inflated.len() {
            return Err(ProtocolError::MessageTooBig);
        }
        Ok(())
    }

    fn count_empty(&mut self) -> Result<(), ProtocolError> {
        self.empty += 1;
        if self.empty > MAX_EMPTY_FRAGMENTS {
            return Err(ProtocolError::TooManyEmptyFragments);
        }
        Ok(())
    }

    /// Checks the text that has arrived since the last check.
    fn check_arrived(&mut self) -> Result<(), ProtocolError> {
        if !self.is_text {
            return Ok(());
        }
        match simdutf8::compat::from_utf8(&self.payload[self.checked..]) {
            Ok(valid) => self.checked += valid.len(),
            // A code point has begun; what follows decides.
            Err(error) if error.error_len().is_none() => self.checked += error.valid_up_to(),
            Err(_) => return Err(ProtocolError::TextNotUtf8),
        }
        Ok(())
    }

    fn into_event(mut self) -> Result<Event, ProtocolError> {
        if self.inflater.as_mut().is_some_and(|inflater| !inflater.ends_here()) {
            return Err(ProtocolError::BadDeflate);
        }
        if !self.is_text {
            return Ok(Event::Binary(self.payload.into()));
        }
        if self.checked < self.payload.len() {
            return Err(ProtocolError::TextNotUtf8);
        }
        Ok(Event::Text(self.payload.into()))
    }
}

fn close_event(payload: &[u8]) -> Result<Event, ProtocolError> {
    let (code, reason) = match payload {
        [] => {
            return Ok(Event::Close { code: None, reason: String::new() });
        }
        [_] => return Err(ProtocolError::CloseTooShort),
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
    };
    if !is_close_code(code) {
        return Err(ProtocolError::CloseCode(code));
    }
    let Ok(reason) = simdutf8::basic::from_utf8(reason) else {
        return Err(ProtocolError::ReasonNotUtf8);
    };
    Ok(Event::Close { code: Some(code), reason: reason.to_owned() })
}

#[cfg(test)]
mod tests;
