//! The operations on a connection while its lock is held: those of [`Access`].

use std::io;
use std::ops::ControlFlow;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::time::Instant;

use super::outbox::{Overflow, Rule};
use super::port::{Outcome, Route};
use super::state::{Access, Inner, LinkState};
use super::waitlist::Ticket;
use crate::frame::close_code::CloseCode;
use crate::frame::{Frame, pieces};
use crate::observe::channels::{NO_CLOSE, Why};
use crate::sync::Arc;

impl Access<'_> {
    /// Sends a message.
    pub(crate) fn push(&mut self, frame: &Frame, route: &Route<'_>) -> Outcome {
        if !self.takes_messages() {
            return self.lose();
        }
        let bytes = self.link.wire(frame);
        if !self.inner.outbox.is_empty() {
            return self.queue(bytes.clone(), route);
        }
        match self.write(bytes) {
            None => self.lose(),
            Some(written) if written == bytes.len() => {
                self.inner.written += 1;
                Outcome::Written
            }
            Some(written) => self.queue_rest(bytes, written, route),
        }
    }

    /// Sends many frames that were joined into one piece. Returns true when all of it was written, the common case.
    /// Otherwise calls `note` with the outcome of each frame, in order.
    pub(crate) fn push_joined<'f>(
        &mut self,
        joined: &[u8],
        frames: impl ExactSizeIterator<Item = (&'f Frame, Route<'f>)>,
        mut note: impl FnMut(Outcome),
    ) -> bool {
        let mut written = 0;
        if self.takes_messages() && self.inner.outbox.is_empty() {
            written = self.write(joined).unwrap_or(0);
            if written == joined.len() {
                self.inner.written += frames.len() as u64;
                return true;
            }
        }
        for (frame, route) in frames {
            let bytes = self.link.wire(frame);
            let part = written.min(bytes.len());
            written -= part;
            note(match part {
                0 => self.push_behind(bytes, &route),
                _ if part == bytes.len() => {
                    self.inner.written += 1;
                    Outcome::Written
                }
                _ => self.queue_rest(bytes, part, &route),
            });
        }
        false
    }

    /// Returns whether the channel is open. Closes it first if its time is over, so that it gets nothing more even if
    /// no timer has run yet.
    pub(super) fn takes_messages(&mut self) -> bool {
        if self.inner.mortal {
            self.expire();
        }
        self.inner.state == LinkState::Open
    }

    /// Closes the channel if its time is over.
    #[cold]
    pub(super) fn expire(&mut self) {
        if let Some(end) = self.inner.life.as_ref().and_then(|life| life.end())
            && end.at <= Instant::now()
        {
            self.close(end.code, end.reason);
        }
    }

    /// Sends frames that the client has missed, joined into pieces. They have room in the outbox on top of its limits,
    /// up to the bound of `Outbox::grant`, and none is dropped for another.
    pub(super) fn replay(&mut self, frames: &[Frame]) {
        let route = Route { overflow: Some(Overflow::Close), ..Route::default() };
        let link = self.link;
        let wires = || frames.iter().map(|frame| link.wire(frame));
        let (pieces, bytes) = (pieces(wires()), wires().map(Bytes::len).sum());
        self.inner.outbox.grant(bytes, frames.len());
        let mut rest = frames;
        for piece in pieces {
            let (run, behind) = rest.split_at(piece.frames);
            self.push_joined(&piece.bytes, run.iter().map(|frame| (frame, route)), |_| ());
            rest = behind;
        }
    }

    /// Queues a message of a run, after an earlier one was not written whole.
    fn push_behind(&mut self, bytes: &Bytes, route: &Route<'_>) -> Outcome {
        if self.inner.state != LinkState::Open { self.lose() } else { self.queue(bytes.clone(), route) }
    }

    /// Passes on the frames that wait in the logs of this connection's groups.
    pub(super) fn catch_up(&mut self) {
        // Taken out for the walk, since a feed pushes through `self`. The lock keeps other threads from looking.
        let feeds = std::mem::take(&mut self.inner.feeds);
        feeds.iter().for_each(|feed| feed.catch_up(self));
        self.inner.feeds = feeds;
    }

    #[cold]
    fn lose(&mut self) -> Outcome {
        self.count_dropped(Why::Closed, 1);
        Outcome::Closed
    }

    /// Queues a message behind the waiting ones, as its rule allows.
    #[cold]
    fn queue(&mut self, bytes: Bytes, route: &Route<'_>) -> Outcome {
        let overflow = route.overflow.unwrap_or(self.link.terms.options.outbox.overflow);
        let was_empty = self.inner.outbox.is_empty();
        let offered = self.inner.outbox.offer(bytes, route.rule(overflow), &self.link.terms.options.outbox);
        self.count_dropped(Why::Replaced, offered.evicted);
        if offered.taken {
            if was_empty {
                self.await_room();
            }
            return Outcome::Queued;
        }
        if overflow != Overflow::Close {
            self.count_dropped(Why::Full, 1);
            return Outcome::Full;
        }
        self.count_dropped(Why::Overflow, 1);
        self.drop_waiting(Why::Overflow);
        self.close(CloseCode::TRY_AGAIN_LATER, "client reads too slowly");
        Outcome::Overflowed
    }

    /// Drops all waiting messages except one that is half out.
    pub(super) fn drop_waiting(&mut self, why: Why) {
        let dropped = self.inner.outbox.drop_waiting();
        self.count_dropped(why, dropped);
    }

    fn count_dropped(&mut self, why: Why, messages: usize) {
        if messages > 0 {
            self.inner.dropped += messages as u64;
            self.notes.dropped(why, messages);
        }
    }

    /// Queues a message whose first `written` bytes the sink has taken; the outbox is empty.
    #[cold]
    fn queue_rest(&mut self, bytes: &Bytes, written: usize, route: &Route<'_>) -> Outcome {
        if written == 0 {
            return self.queue(bytes.clone(), route);
        }
        let overflow = route.overflow.unwrap_or(self.link.terms.options.outbox.overflow);
        // A slice shares the bytes of the frame with every other connection.
        self.inner.outbox.append_rest(bytes.slice(written..), route.rule(overflow));
        self.await_room();
        Outcome::Queued
    }

    pub(super) fn push_control(&mut self, mut bytes: Bytes) {
        if self.inner.state == LinkState::Dead {
            return;
        }
        if !self.inner.outbox.is_empty() {
            return self.inner.outbox.append(bytes, Rule::Control);
        }
        let Some(written) = self.write(&bytes) else { return };
        if written < bytes.len() {
            match written {
                0 => self.inner.outbox.append(bytes, Rule::Control),
                _ => self.inner.outbox.append_rest(bytes.split_off(written), Rule::Control),
            }
            self.await_room();
        }
    }

    pub(super) fn close(&mut self, code: CloseCode, reason: &str) -> bool {
        if self.inner.state != LinkState::Open {
            return false;
        }
        self.push_control(Frame::close(code, reason).bytes().clone());
        if self.inner.state == LinkState::Open {
            self.inner.state = LinkState::Closing;
            self.note_closed(code.get());
        }
        true
    }

    pub(super) fn die(&mut self) {
        if self.inner.state == LinkState::Open {
            self.note_closed(NO_CLOSE);
        }
        self.inner.state = LinkState::Dead;
        let lost = self.inner.outbox.clear();
        self.count_dropped(Why::Lost, lost);
        if let Some(transport) = self.inner.transport.take() {
            transport.shut_down();
        }
    }

    fn note_closed(&mut self, code: u16) {
        self.inner.open.end();
        self.notes.closed(code);
    }

    /// Returns ready when `is_so` or the connection is over; otherwise the task of `cx` is woken when either may have
    /// changed.
    ///
    /// The look and the registration are one step under the lock. Another thread's change comes
    ///
    /// 1. before this call: `is_so` sees it; or
    /// 2. after it: the waker is in `watchers`, and the `locked` call that makes the change wakes all of them.
    ///
    /// A wake takes every watcher off the list, whatever it waits for. A future whose condition does not hold yet polls
    /// again, and is registered again.
    pub(super) fn watch(&mut self, ticket: Ticket, cx: &Context<'_>, is_so: impl Fn(&Inner) -> bool) -> Poll<()> {
        if self.inner.state == LinkState::Dead || is_so(&self.inner) {
            return Poll::Ready(());
        }
        self.inner.watchers.put(ticket, cx.waker());
        Poll::Pending
    }

    fn await_room(&mut self) {
        // Also when nothing was written: the far end may have made room after the sink pushed back and before this.
        self.tell_far = true;
        if let Some(transport) = &self.inner.transport {
            transport.await_room(Arc::downgrade(self.link) as _);
        }
    }

    pub(super) fn flush(&mut self) {
        while !self.inner.outbox.is_empty() {
            match self.write_front() {
                Ok(ControlFlow::Continue(())) => {}
                Ok(ControlFlow::Break(())) => return self.await_room(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return self.await_room(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return self.die(),
            }
        }
    }

    /// Writes the front of the outbox, many frames in one call; returns `Break` when the sink took only a part.
    fn write_front(&mut self) -> io::Result<ControlFlow<()>> {
        let Inner { outbox, transport, .. } = &mut *self.inner;
        let Some(transport) = transport else { return Err(io::ErrorKind::BrokenPipe.into()) };
        let slices = outbox.slices();
        let offered: usize = slices.iter().map(|slice| slice.len()).sum();
        let written = transport.try_write_vectored(&slices)?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        drop(slices);
        self.tell_far = true;
        self.inner.written += self.inner.outbox.advance(written) as u64;
        Ok(if written < offered { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }

    /// Writes until the sink pushes back, and returns the number of written bytes; `None` when the connection broke.
    fn write(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut written = 0;
        while written < bytes.len() {
            match self.inner.transport.as_ref()?.try_write(&bytes[written..]) {
                Ok(0) => return self.broken(),
                Ok(n) => {
                    written += n;
                    self.tell_far = true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Some(written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return self.broken(),
            }
        }
        Some(written)
    }

    #[cold]
    fn broken(&mut self) -> Option<usize> {
        self.die();
        None
    }
}
