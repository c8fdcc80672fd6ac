//! [`Inflater`]: the compressed payload of one message (RFC 7692, section 7.2.2), inflated as it arrives.
//!
//! It begins with the message and ends with it: no message refers to an earlier one, because the client agreed to
//! `client_no_context_takeover`. Pure: bytes in, bytes out, a piece at a time.

use flate2::{Decompress, FlushDecompress, Status};

use super::error::ProtocolError;

/// The bytes that every message leaves out, then an empty final block.
///
/// They are the rest of an empty stored block, after which another block begins. That the inflater takes the final
/// block as one shows that the message did not stop in the middle of something.
const TAIL: [u8; 6] = [0, 0, 0xff, 0xff, 3, 0];

#[derive(Debug)]
pub(super) struct Inflater {
    stream: Decompress,
    /// How much the frames of this message may still declare.
    wire_left: u64,
    /// Whether nothing has been read since the start, or since a final block.
    between_streams: bool,
}

impl Inflater {
    /// Bytes of memory of an inflater, for any input; 32 KiB of them are the window.
    pub(super) const SIZE: usize = 48 << 10;

    /// Creates an inflater for a message whose frames may declare `max_wire` bytes together.
    pub(super) fn new(max_wire: u64) -> Self {
        Self { stream: Decompress::new(false), wire_left: max_wire, between_streams: true }
    }

    /// Counts what a frame declares.
    pub(super) fn declare(&mut self, len: u64) -> Result<(), ProtocolError> {
        self.wire_left = self.wire_left.checked_sub(len).ok_or(ProtocolError::MessageTooBig)?;
        Ok(())
    }

    /// Inflates from the front of `wire` into `plain`: returns how much came out and whether there may be more.
    ///
    /// The output counts even when the next byte is an error: the result must not depend on where a read ended.
    pub(super) fn step(&mut self, wire: &mut &[u8], plain: &mut [u8]) -> (usize, Result<bool, ProtocolError>) {
        let before = (self.stream.total_in(), self.stream.total_out());
        let status = self.stream.decompress(wire, plain, FlushDecompress::None);
        // Both fit: they are at most as long as the two slices.
        let taken = (self.stream.total_in() - before.0) as usize;
        let made = (self.stream.total_out() - before.1) as usize;
        *wire = &wire[taken..];
        self.between_streams &= taken == 0;
        let more = match status {
            Ok(Status::StreamEnd) => {
                // Some clients flush by a final block; then another stream follows in the same message.
                self.stream.reset(false);
                self.between_streams = true;
                Ok(!wire.is_empty())
            }
            Ok(_) if made == plain.len() => Ok(true),
            Ok(_) if wire.is_empty() => Ok(false),
            Ok(_) if taken > 0 => Ok(true),
            Ok(_) | Err(_) => Err(ProtocolError::BadDeflate),
        };
        (made, more)
    }

    /// Returns whether the message may end here, after the omitted bytes are put back.
    pub(super) fn ends_here(&mut self) -> bool {
        // Lenient where no data can be lost: an empty message without its one byte, a final block without a next one.
        if self.between_streams {
            return true;
        }
        let mut tail = &TAIL[..];
        let (made, more) = self.step(&mut tail, &mut [0; 1]);
        made == 0 && more == Ok(false) && self.between_streams
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inflater_takes_no_more_than_its_size() {
        let mut inflater = None;
        let used = allocation_counter::measure(|| inflater = Some(Box::new(Inflater::new(0))));
        assert!((32 << 10..=Inflater::SIZE as u64).contains(&used.bytes_max), "{used:?}");

        let mut inflater = inflater.expect("just made");
        let used = allocation_counter::measure(|| {
            // Final blocks: each starts the inflater anew.
            for _ in 0..1000 {
                assert_eq!(inflater.step(&mut &b"\xf3\x48\xcd\xc9\xc9\x07\x00"[..], &mut [0; 9]), (5, Ok(false)));
            }
        });
        assert_eq!(used.count_total, 0);
    }
}
