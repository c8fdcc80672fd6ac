//! The client's side of permessage-deflate (RFC 7692).
//!
//! A copy of each message is inflated; the others only have to be the same bytes, which all servers here send to
//! all clients. To inflate every delivery would keep the client's core busier than the server's. Bytes that differ
//! are inflated too, so nothing is taken for a message that is none. That needs one message in flight.

use flate2::{Decompress, FlushDecompress};

use super::wire::Agreed;

/// What a sender leaves out at the end of a message.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

pub(super) struct Inflater {
    stream: Decompress,
    agreed: Agreed,
    /// The last message, as it came and with the tail; and what it says.
    compressed: Vec<u8>,
    plain: Vec<u8>,
}

impl Inflater {
    /// Makes one for messages that take no more than `most` bytes.
    pub(super) fn new(agreed: Agreed, most: usize) -> Self {
        let (stream, compressed) = (Decompress::new(false), Vec::with_capacity(most));
        // One byte more than there may be: full, it holds too much.
        Self { stream, agreed, compressed, plain: Vec::with_capacity(most + 1) }
    }

    /// Returns the message; `None` when it is none.
    pub(super) fn inflate(&mut self, compressed: &[u8]) -> Option<&[u8]> {
        if self.compressed.strip_suffix(&TAIL) == Some(compressed) {
            return Some(&self.plain);
        }
        self.compressed.clear();
        self.compressed.extend_from_slice(compressed);
        self.compressed.extend_from_slice(&TAIL);
        self.plain.clear();
        if self.agreed == Agreed::EachAlone {
            self.stream.reset(false);
        }
        let before = self.stream.total_in();
        self.stream.decompress_vec(&self.compressed, &mut self.plain, FlushDecompress::Sync).ok()?;
        let all_read = self.stream.total_in() - before == self.compressed.len() as u64;
        (all_read && self.plain.len() < self.plain.capacity()).then_some(&self.plain)
    }
}
