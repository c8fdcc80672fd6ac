//! What waits for one client: a bounded queue of bytes. A plain value.
//!
//! It holds something only while the client's socket pushes back. Always: `bytes` is the sum of the
//! lengths; no piece is empty; only the front piece may be the rest of a frame that is half out.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

/// How much may wait for one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboxLimits {
    /// Bytes, framing included. 1 MiB by default.
    pub bytes: usize,
    /// Pieces: messages, or runs of group messages that go out in one write. 1024 by default.
    pub messages: usize,
}

impl Default for OutboxLimits {
    fn default() -> Self {
        Self { bytes: 1 << 20, messages: 1024 }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Outbox {
    queue: VecDeque<Bytes>,
    bytes: usize,
    /// The front piece is the rest of a frame whose start is out.
    front_begun: bool,
}

impl Outbox {
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    #[cfg(all(test, feature = "ws"))]
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn front(&self) -> Option<&Bytes> {
        self.queue.front()
    }

    /// Appends `piece` if it fits; an empty outbox takes one of any size, so that one large message passes.
    pub(crate) fn push(&mut self, piece: Bytes, limits: &OutboxLimits) -> bool {
        let fits = self.queue.len() < limits.messages && self.bytes + piece.len() <= limits.bytes;
        if fits || self.queue.is_empty() {
            self.push_control(piece);
            return true;
        }
        false
    }

    /// Appends whatever the limits: for the close frame, and the rest of what is half out.
    pub(crate) fn push_control(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.bytes += piece.len();
            self.queue.push_back(piece);
        }
    }

    /// Returns the front piece, which is on its way out from now on.
    #[cfg(feature = "ws")]
    pub(crate) fn begin_front(&mut self) -> Option<Bytes> {
        self.front_begun = !self.queue.is_empty();
        self.queue.front().cloned()
    }

    /// Takes note that `written` bytes of the front piece are out.
    pub(crate) fn advance(&mut self, written: usize) {
        let Some(front) = self.queue.front_mut() else { return };
        self.bytes -= written;
        front.advance(written);
        self.front_begun = !front.is_empty();
        if front.is_empty() {
            self.queue.pop_front();
        }
    }

    /// Appends the rest of a piece whose start went out just now; the outbox is empty before.
    pub(crate) fn push_rest(&mut self, rest: Bytes, begun: bool) {
        self.push_control(rest);
        self.front_begun = begun && !self.queue.is_empty();
    }

    /// Drops all that is not half out, and returns how many pieces that were.
    pub(crate) fn drop_waiting(&mut self) -> usize {
        let keep = usize::from(self.front_begun);
        let dropped = self.queue.len().saturating_sub(keep);
        self.queue.truncate(keep);
        self.bytes = self.queue.iter().map(Bytes::len).sum();
        dropped
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: OutboxLimits = OutboxLimits { bytes: 10, messages: 3 };

    #[test]
    fn takes_what_fits_and_one_large_message_when_empty() {
        let mut outbox = Outbox::default();
        assert!(outbox.push(Bytes::from_static(&[0; 20]), &LIMITS));
        assert!(!outbox.push(Bytes::from_static(&[0; 1]), &LIMITS));
        outbox.clear();
        assert!((0..3).all(|_| outbox.push(Bytes::from_static(&[0; 1]), &LIMITS)));
        assert!(!outbox.push(Bytes::from_static(&[0; 1]), &LIMITS), "three messages are the limit");
    }

    #[test]
    fn keeps_the_frame_that_is_half_out_when_the_rest_is_dropped() {
        let mut outbox = Outbox::default();
        for _ in 0..3 {
            assert!(outbox.push(Bytes::from_static(b"abc"), &LIMITS));
        }
        outbox.advance(1);
        assert_eq!(outbox.drop_waiting(), 2);
        assert_eq!(outbox.front().map(|front| &front[..]), Some(&b"bc"[..]));
        outbox.advance(2);
        assert!(outbox.is_empty());
        assert!(outbox.push(Bytes::from_static(b"abc"), &LIMITS));
        assert_eq!(outbox.drop_waiting(), 1, "a frame that is not begun can go");
    }
}
