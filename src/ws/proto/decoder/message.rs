//! [`PartialMessage`]: a message of text or bytes on its way, over all its frames.

use bytes::Buf;

use super::error::ProtocolError;
use super::event::DecoderEvent;
use super::frame::{Frame, Opcode};
#[cfg(feature = "deflate")]
use super::inflate::Inflater;
#[cfg(not(feature = "deflate"))]
use super::no_inflate::Inflater;

/// How many empty frames one message may hold before its last one.
///
/// Only these escape the limit on size; with this limit every message ends. A client that streams
/// may well send a few, never hundreds.
const MAX_EMPTY_FRAGMENTS: u32 = 128;

/// A compressed message is unmasked this much at a time, and inflated that much: a typical one whole.
const WIRE_PIECE: usize = 1 << 10;
pub(super) const PLAIN_PIECE: usize = 4 << 10;

/// A data message from its first frame to its last.
#[derive(Debug)]
pub(super) struct PartialMessage {
    is_text: bool,
    pub(super) payload: Vec<u8>,
    /// How much of `payload` is known to be UTF-8; at most three bytes of a started code point follow.
    checked: usize,
    /// Empty frames so far, the last one aside.
    empty: u32,
    /// Where the payload comes from if it is compressed.
    inflater: Option<Box<Inflater>>,
}

impl PartialMessage {
    /// Begins the message whose first frame is `frame`, and which may grow to `limit` bytes.
    pub(super) fn new(frame: &Frame, limit: usize) -> Self {
        let is_text = frame.opcode == Opcode::Text;
        Self { is_text, payload: Vec::new(), checked: 0, empty: 0, inflater: inflater(frame, limit) }
    }

    pub(super) fn allocated(&self) -> usize {
        self.payload.capacity() + if self.inflater.is_some() { Inflater::SIZE } else { 0 }
    }

    /// Checks the length that a frame declares; what it inflates to is not known before it has arrived.
    pub(super) fn declare(&mut self, len: u64, limit: usize) -> Result<(), ProtocolError> {
        if let Some(inflater) = &mut self.inflater {
            return inflater.declare(len);
        }
        if len > limit.saturating_sub(self.payload.len()) as u64 {
            return Err(ProtocolError::MessageTooBig);
        }
        Ok(())
    }

    /// Moves what `input` holds of `frame` to the end of the payload.
    pub(super) fn read(&mut self, frame: &mut Frame, input: &mut impl Buf, limit: usize) -> Result<(), ProtocolError> {
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
        // Checked before the limit: the first error in the stream counts, however much is inflated at once.
        self.check_arrived()?;
        if fitting.len() < inflated.len() {
            return Err(ProtocolError::MessageTooBig);
        }
        Ok(())
    }

    pub(super) fn count_empty(&mut self) -> Result<(), ProtocolError> {
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

    pub(super) fn into_event(mut self) -> Result<DecoderEvent, ProtocolError> {
        if self.inflater.as_mut().is_some_and(|inflater| !inflater.ends_here()) {
            return Err(ProtocolError::BadDeflate);
        }
        if !self.is_text {
            return Ok(DecoderEvent::Binary(self.payload.into()));
        }
        if self.checked < self.payload.len() {
            return Err(ProtocolError::TextNotUtf8);
        }
        Ok(DecoderEvent::Text(self.payload.into()))
    }
}

/// Makes the inflater that the message beginning with `frame` needs.
fn inflater(frame: &Frame, limit: usize) -> Option<Box<Inflater>> {
    #[cfg(feature = "deflate")]
    if frame.compressed {
        let max_wire = (limit as u64).saturating_mul(2).saturating_add(1 << 10);
        return Some(Box::new(Inflater::new(max_wire)));
    }
    #[cfg(not(feature = "deflate"))]
    let _ = limit;
    debug_assert!(!frame.compressed, "refused by the header");
    None
}
