//! [`Outbox`]: the frames that wait for one client, a bounded queue. A plain value.
//!
//! It holds frames only while the client's socket pushes back. Always: `bytes` and `messages` are the sums over the
//! queue and the staged pieces; no piece is empty; only the front piece may be the rest of a frame that is half out,
//! and that piece is never dropped.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::ops::Range;

use bytes::{Buf, Bytes};

use smallvec::SmallVec;

use crate::sync::Arc;

/// The most frames written in one system call.
const SLICES: usize = 32;

/// The most bytes and messages of replays that may wait for one client on top of its limits.
const MAX_CREDIT: (usize, usize) = (16 << 20, 65_536);

/// The limits of a channel's outbox, and what happens past them.
///
/// An outbox takes memory only while messages wait in it. The bytes of a group's frame count for each client, although
/// all clients share them.
///
/// ```
/// use fanfare::channel::{OutboxLimits, Overflow};
///
/// let limits = OutboxLimits::default().max_messages(64).overflow(Overflow::DropOldest);
/// assert_eq!((limits.max_messages, limits.max_bytes), (64, 1 << 20));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutboxLimits {
    /// The most bytes that may wait, including frame headers.
    pub max_bytes: usize,
    /// The most messages that may wait.
    pub max_messages: usize,
    /// What happens to a message that does not fit.
    pub overflow: Overflow,
}

impl OutboxLimits {
    /// Sets how many bytes may wait, including frame headers: 1 MiB by default. An empty outbox takes a single larger
    /// message.
    #[must_use]
    pub fn max_bytes(mut self, max_bytes: usize) -> Self {
        self.max_bytes = max_bytes;
        self
    }

    /// Sets how many messages may wait: 1024 by default.
    #[must_use]
    pub fn max_messages(mut self, max_messages: usize) -> Self {
        self.max_messages = max_messages;
        self
    }

    /// Sets what happens to a message that does not fit: [`Overflow::Close`] by default. A group may have its own rule.
    #[must_use]
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }
}

impl Default for OutboxLimits {
    fn default() -> Self {
        Self { max_bytes: 1 << 20, max_messages: 1024, overflow: Overflow::Close }
    }
}

/// What happens to a message for a client that reads too slowly: `fanfare::docs::groups` has an example of each rule.
///
/// Only whole messages are dropped, and each is counted; pings, closes and the answer to the latest ping are never
/// dropped. A message makes room for another only if it was itself sent under `DropOldest` or `Conflate`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overflow {
    /// All waiting messages are dropped, and the channel is closed with code 1013; the client reconnects and begins
    /// afresh. The default: no message is ever missing in the middle.
    #[default]
    Close,
    /// The new message is dropped.
    DropNewest,
    /// The oldest waiting messages are dropped until the new one fits.
    DropOldest,
    /// As `DropOldest`, and a message replaces a waiting one with the same key, whether or not the outbox is full: the
    /// latest value wins. Messages of a group without a key share one key.
    Conflate,
}

/// The outcomes of the messages to one client. At any time the three counts add up to the messages sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutboxCounts {
    /// Messages that the kernel has taken whole. The client may not have read them yet.
    pub written: u64,
    /// Messages that wait in the outbox.
    pub waiting: usize,
    /// The bytes that wait, including frame headers and control frames.
    pub waiting_bytes: usize,
    /// Messages that were refused because the channel was closed or its outbox full, were dropped from the outbox for
    /// newer ones, or were lost with the connection.
    pub dropped: u64,
}

/// What may happen to a waiting piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// A ping or close: it is not a message, and never dropped.
    Control,
    /// A pong: it is not a message, and dropped only for a later pong.
    #[cfg(feature = "ws")]
    Pong,
    /// Waits until it is written or the channel ends.
    Keep,
    /// May be dropped for a newer message.
    Yield,
    /// As `Yield`, and is replaced by a message with the same key.
    Replace(ValueKey),
}

/// What a message is the latest value of: the number of its group (0: none), and a name within it.
pub(crate) type ValueKey = (u64, Option<Arc<str>>);

#[derive(Debug)]
struct QueuedFrame {
    bytes: Bytes,
    rule: Rule,
}

impl QueuedFrame {
    fn is_message(&self) -> bool {
        matches!(self.rule, Rule::Keep | Rule::Yield | Rule::Replace(_))
    }

    fn may_go(&self) -> bool {
        matches!(self.rule, Rule::Yield | Rule::Replace(_))
    }
}

/// The outcome of an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offered {
    pub(crate) taken: bool,
    /// The number of messages dropped for it.
    pub(crate) evicted: usize,
}

#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct Outbox {
    /// First, since every send reads it to find out whether the outbox is empty.
    bytes: usize,
    queue: VecDeque<QueuedFrame>,
    messages: usize,
    /// The front piece is the rest of a frame whose start was written.
    front_begun: bool,
    /// Bytes and messages granted to replays on top of the limits, until the outbox is empty.
    credit: (usize, usize),
    /// Bytes and messages that a writer has taken out of the queue but not yet written.
    staged: (usize, usize),
    /// Bytes written since the beginning.
    #[cfg(feature = "ws")]
    taken: u64,
}

impl Outbox {
    /// Returns whether no piece is queued or staged.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Returns the number of messages that are not written whole yet.
    pub(crate) fn messages(&self) -> usize {
        self.messages
    }

    /// Returns the number of bytes that are not written yet.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the number of bytes written from the outbox since the beginning.
    #[cfg(feature = "ws")]
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    /// Appends a message if it fits, or if its rule lets older ones make room.
    pub(crate) fn offer(&mut self, bytes: Bytes, rule: Rule, limits: &OutboxLimits) -> Offered {
        let mut evicted = 0;
        if matches!(rule, Rule::Replace(_)) {
            evicted += self.remove_equal(&rule);
        }
        let makes_room = matches!(rule, Rule::Yield | Rule::Replace(_));
        if !self.fits(bytes.len(), limits) && makes_room {
            evicted += self.make_room(bytes.len(), limits);
        }
        let taken = self.fits(bytes.len(), limits);
        if taken {
            self.append(bytes, rule);
        }
        Offered { taken, evicted }
    }

    /// Returns whether a message fits. An empty outbox takes one of any size, so that a single large message passes.
    pub(crate) fn fits(&self, len: usize, limits: &OutboxLimits) -> bool {
        self.is_empty() || (self.messages < self.most_messages(limits) && self.bytes + len <= self.most_bytes(limits))
    }

    /// Grants a replay room on top of the limits, so that it takes none from live messages. A replay that would exceed
    /// [`MAX_CREDIT`] gets none: its client asks again and again, and reads nothing.
    pub(crate) fn grant(&mut self, bytes: usize, messages: usize) {
        let sum = (self.credit.0.saturating_add(bytes), self.credit.1.saturating_add(messages));
        if sum.0 <= MAX_CREDIT.0 && sum.1 <= MAX_CREDIT.1 {
            self.credit = sum;
        }
    }

    fn most_bytes(&self, limits: &OutboxLimits) -> usize {
        limits.max_bytes.saturating_add(self.credit.0)
    }

    fn most_messages(&self, limits: &OutboxLimits) -> usize {
        limits.max_messages.saturating_add(self.credit.1)
    }

    /// Appends a piece regardless of the limits: for control frames, and the rest of a frame that is half out.
    pub(crate) fn append(&mut self, bytes: Bytes, rule: Rule) {
        debug_assert!(!bytes.is_empty(), "a frame has a header");
        let piece = QueuedFrame { bytes, rule };
        self.bytes += piece.bytes.len();
        self.messages += usize::from(piece.is_message());
        self.queue.push_back(piece);
    }

    /// Appends a pong, in place of a waiting one: only the latest ping must be answered (RFC 6455, section 5.5.3). So a
    /// client that pings and never reads does not grow its outbox.
    #[cfg(feature = "ws")]
    pub(crate) fn append_pong(&mut self, pong: Bytes) {
        self.remove_equal(&Rule::Pong);
        self.append(pong, Rule::Pong);
    }

    /// Appends the rest of a frame whose start was just written. The outbox was empty.
    pub(crate) fn append_rest(&mut self, rest: Bytes, rule: Rule) {
        self.append(rest, rule);
        self.front_begun = true;
    }

    /// Returns the front pieces, for one vectored write.
    pub(crate) fn slices(&self) -> SmallVec<[IoSlice<'_>; SLICES]> {
        self.queue.iter().take(SLICES).map(|piece| IoSlice::new(&piece.bytes)).collect()
    }

    /// Removes `written` bytes from the front, and returns the number of messages that they complete.
    pub(crate) fn advance(&mut self, mut written: usize) -> usize {
        let before = self.messages;
        self.bytes -= written;
        #[cfg(feature = "ws")]
        {
            self.taken += written as u64;
        }
        while let Some(front) = self.queue.front_mut()
            && written > 0
        {
            let part = front.bytes.len().min(written);
            front.bytes.advance(part);
            written -= part;
            self.front_begun = !front.bytes.is_empty();
            if front.bytes.is_empty() {
                self.drop_one(0);
            }
        }
        self.release();
        before - self.messages
    }

    /// Takes pieces of about `most` bytes out of the queue, joined, for a writer that has to wait. They can no longer
    /// be dropped. Call [`staged_out`](Self::staged_out) before the next `stage`.
    #[cfg(feature = "ws")]
    pub(crate) fn stage(&mut self, most: usize) -> Option<Bytes> {
        let mut size = 0;
        let fitting = self.queue.iter().take_while(|piece| {
            size += piece.bytes.len();
            size <= most
        });
        let count = fitting.count().max(1).min(self.queue.len());
        let joined = match count {
            0 => return None,
            1 => self.queue[0].bytes.clone(),
            _ => {
                let mut joined = bytes::BytesMut::with_capacity(size.min(most));
                self.queue.iter().take(count).for_each(|piece| joined.extend_from_slice(&piece.bytes));
                joined.freeze()
            }
        };
        let messages = self.queue.drain(..count).filter(QueuedFrame::is_message).count();
        self.front_begun = false;
        self.staged = (joined.len(), messages);
        Some(joined)
    }

    /// Counts the staged pieces as written, and returns the number of messages among them.
    #[cfg(feature = "ws")]
    pub(crate) fn staged_out(&mut self) -> usize {
        let (bytes, messages) = std::mem::take(&mut self.staged);
        self.bytes -= bytes;
        self.taken += bytes as u64;
        self.messages -= messages;
        self.release();
        messages
    }

    /// Drops all messages except one that is half out, and returns how many there were. Control frames stay.
    pub(crate) fn drop_waiting(&mut self) -> usize {
        let begun = usize::from(self.front_begun);
        self.drop_some(begun..self.queue.len(), QueuedFrame::is_message)
    }

    /// Drops everything, and returns the number of messages.
    pub(crate) fn clear(&mut self) -> usize {
        std::mem::take(self).messages
    }

    fn remove_equal(&mut self, rule: &Rule) -> usize {
        let begun = usize::from(self.front_begun);
        // There is at most one, and searching a thousand pieces costs less than a system call.
        match self.queue.iter().skip(begun).position(|piece| piece.rule == *rule) {
            Some(at) => {
                self.drop_one(begun + at);
                1
            }
            None => 0,
        }
    }

    /// Drops the oldest messages that may go until `len` bytes fit; drops none when that is not enough.
    fn make_room(&mut self, len: usize, limits: &OutboxLimits) -> usize {
        let begun = usize::from(self.front_begun);
        let (mut bytes, mut messages) = (self.bytes + len, self.messages + 1);
        let (most_bytes, most_messages) = (self.most_bytes(limits), self.most_messages(limits));
        let end = self.queue.iter().enumerate().skip(begun).find_map(|(at, piece)| {
            if piece.may_go() {
                bytes -= piece.bytes.len();
                messages -= 1;
            }
            let fits = bytes <= most_bytes && messages <= most_messages;
            // A single message of any size passes.
            (fits || messages == 1 && bytes == len).then_some(at + 1)
        });
        end.map_or(0, |end| self.drop_some(begun..end, QueuedFrame::may_go))
    }

    /// Drops the pieces of `range` for which `which` returns true, and returns how many messages there were.
    fn drop_some(&mut self, range: Range<usize>, which: impl Fn(&QueuedFrame) -> bool) -> usize {
        let before = self.messages;
        let (mut at, mut end) = (range.start, range.end);
        while at < end {
            if which(&self.queue[at]) {
                self.drop_one(at);
                end -= 1;
            } else {
                at += 1;
            }
        }
        before - self.messages
    }

    fn drop_one(&mut self, at: usize) {
        // `remove` moves the shorter side: near the front, where the oldest pieces are, that is little.
        if let Some(piece) = self.queue.remove(at) {
            self.bytes -= piece.bytes.len();
            self.messages -= usize::from(piece.is_message());
        }
    }

    /// Frees the memory with the last piece, since an outbox is in use only while the socket pushes back.
    fn release(&mut self) {
        if self.queue.is_empty() {
            self.queue = VecDeque::new();
            self.credit = (0, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: OutboxLimits = OutboxLimits { max_bytes: 10, max_messages: 3, overflow: Overflow::Close };
    const TAKEN: Offered = Offered { taken: true, evicted: 0 };
    const REFUSED: Offered = Offered { taken: false, evicted: 0 };

    fn piece(byte: u8, len: usize) -> Bytes {
        vec![byte; len].into()
    }

    fn keyed(name: &str) -> Rule {
        Rule::Replace((7, Some(name.into())))
    }

    fn evicting(evicted: usize) -> Offered {
        Offered { taken: true, evicted }
    }

    /// Returns the waiting pieces, one letter each.
    fn waiting(outbox: &Outbox) -> String {
        assert_eq!(outbox.bytes, outbox.queue.iter().map(|piece| piece.bytes.len()).sum::<usize>());
        assert_eq!(outbox.messages, outbox.queue.iter().filter(|piece| piece.is_message()).count());
        outbox.queue.iter().map(|piece| char::from(piece.bytes[0])).collect()
    }

    #[test]
    fn takes_what_fits_and_one_large_message_when_empty() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.offer(piece(b'a', 20), Rule::Keep, &LIMITS), TAKEN);
        assert_eq!(outbox.offer(piece(b'b', 1), Rule::Keep, &LIMITS), REFUSED);
        assert_eq!(outbox.clear(), 1);
        assert!((0..3).all(|_| outbox.offer(piece(b'a', 1), Rule::Keep, &LIMITS) == TAKEN));
        assert_eq!(outbox.offer(piece(b'b', 1), Rule::Keep, &LIMITS), REFUSED, "three messages are the limit");
    }

    #[test]
    fn keeps_the_frame_that_is_half_out_and_control_frames_when_the_rest_is_dropped() {
        let mut outbox = Outbox::default();
        for byte in *b"abc" {
            outbox.append(piece(byte, 3), Rule::Keep);
        }
        outbox.append(piece(b'!', 2), Rule::Control);
        assert_eq!(outbox.advance(4), 1);
        assert_eq!(outbox.drop_waiting(), 1);
        assert_eq!(waiting(&outbox), "b!");
        assert_eq!((outbox.advance(2), outbox.advance(2)), (1, 0));
        assert!(outbox.is_empty());
    }

    #[test]
    fn one_write_may_complete_many_messages() {
        let mut outbox = Outbox::default();
        for byte in *b"abcd" {
            outbox.append(piece(byte, 3), Rule::Keep);
        }
        assert_eq!(outbox.slices().len(), 4);
        assert_eq!(outbox.advance(10), 3);
        assert_eq!((waiting(&outbox).as_str(), outbox.bytes(), outbox.messages()), ("d", 2, 1));
    }

    #[test]
    fn the_oldest_that_may_go_makes_room_and_nothing_else_does() {
        let mut outbox = Outbox::default();
        outbox.append(piece(b'k', 2), Rule::Keep);
        outbox.append(piece(b'a', 4), Rule::Yield);
        outbox.append(piece(b'b', 4), Rule::Yield);
        assert_eq!(outbox.offer(piece(b'c', 4), Rule::Yield, &LIMITS), evicting(1));
        assert_eq!(waiting(&outbox), "kbc");
        assert_eq!(outbox.offer(piece(b'd', 9), Rule::Yield, &LIMITS), REFUSED, "it would not fit beside what is kept");
        assert_eq!(waiting(&outbox), "kbc", "so nothing was dropped for it");
        assert_eq!(outbox.offer(piece(b'd', 1), Rule::Keep, &LIMITS), REFUSED);
        assert_eq!(outbox.offer(piece(b'd', 8), Rule::Yield, &LIMITS), evicting(2));
        assert_eq!(waiting(&outbox), "kd");
    }

    #[test]
    fn a_replay_has_room_of_its_own_until_nothing_waits() {
        let mut outbox = Outbox::default();
        outbox.append(piece(b'a', 10), Rule::Keep);
        outbox.grant(20, 4);
        assert!((0..4).all(|_| outbox.offer(piece(b'r', 5), Rule::Keep, &LIMITS) == TAKEN));
        assert_eq!(outbox.offer(piece(b'b', 1), Rule::Keep, &LIMITS), REFUSED, "all thirty bytes are taken");
        outbox.advance(10);
        assert_eq!(outbox.offer(piece(b'b', 10), Rule::Keep, &LIMITS), TAKEN, "a live one has the room of live ones");
        outbox.advance(30);
        assert!((0..3).all(|_| outbox.offer(piece(b'c', 3), Rule::Keep, &LIMITS) == TAKEN));
        assert_eq!(outbox.offer(piece(b'd', 1), Rule::Keep, &LIMITS), REFUSED, "the room went with the replay");
        outbox.grant(MAX_CREDIT.0, 1);
        outbox.grant(1, 1);
        assert_eq!(outbox.credit, (MAX_CREDIT.0, 1));
    }

    #[test]
    fn a_large_message_may_take_the_place_of_all_that_may_go() {
        let mut outbox = Outbox::default();
        outbox.append(piece(b'a', 4), Rule::Yield);
        outbox.append(piece(b'b', 4), Rule::Yield);
        assert_eq!(outbox.offer(piece(b'c', 20), Rule::Yield, &LIMITS), evicting(2));
        assert_eq!(waiting(&outbox), "c");
    }

    #[test]
    fn the_latest_value_of_a_key_wins_and_goes_behind_what_waits() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.offer(piece(b'a', 1), keyed("x"), &LIMITS), TAKEN);
        assert_eq!(outbox.offer(piece(b'b', 1), keyed("y"), &LIMITS), TAKEN);
        assert_eq!(outbox.offer(piece(b'c', 1), keyed("x"), &LIMITS), evicting(1));
        assert_eq!(waiting(&outbox), "bc");
        let other_group = Rule::Replace((8, Some("x".into())));
        assert_eq!(outbox.offer(piece(b'd', 1), other_group, &LIMITS), TAKEN);
        assert_eq!(
            outbox.offer(piece(b'e', 1), keyed("z"), &LIMITS),
            evicting(1),
            "a fourth key takes the oldest's place"
        );
        assert_eq!(waiting(&outbox), "cde");
    }

    #[test]
    fn a_value_that_is_half_out_is_not_replaced() {
        let mut outbox = Outbox::default();
        outbox.append_rest(piece(b'a', 3), keyed("x"));
        assert_eq!(outbox.offer(piece(b'b', 1), keyed("x"), &LIMITS), TAKEN);
        assert_eq!(outbox.offer(piece(b'c', 1), keyed("x"), &LIMITS), evicting(1));
        assert_eq!(waiting(&outbox), "ac");
    }

    #[cfg(feature = "ws")]
    #[test]
    fn what_is_staged_counts_until_it_is_out() {
        let mut outbox = Outbox::default();
        for byte in *b"abc" {
            outbox.append(piece(byte, 3), Rule::Keep);
        }
        assert_eq!(outbox.stage(7).as_deref(), Some(&b"aaabbb"[..]));
        assert_eq!((outbox.bytes(), outbox.messages(), outbox.is_empty()), (9, 3, false));
        assert_eq!(outbox.staged_out(), 2);
        assert_eq!(outbox.stage(1).as_deref(), Some(&b"ccc"[..]), "one piece at least");
        assert_eq!((outbox.staged_out(), outbox.bytes(), outbox.is_empty()), (1, 0, true));
        assert_eq!(outbox.stage(1), None);
    }
}
