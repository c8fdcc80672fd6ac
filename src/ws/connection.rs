//! One connection, driven by the task that also runs its handler: reads its client's frames, answers
//! control frames, writes what waits, keeps time, and ends it in order (RFC 6455, section 7.1).
//!
//! ```text
//! phase      reads            leaves it by
//! Talking    messages         -> Leaving   we close: a close frame is queued
//!                             -> Left      the client's close is here, ours is queued
//!                             -> Broken    the client broke the protocol; our close is queued
//! Leaving    until its close  -> Left      it came
//! Left       nothing          -> Over      all is out
//! Broken     and discards     -> Left      the client has ended its side; ours may not be out yet
//! Over       nothing          never; any phase gets here when the socket fails or a deadline passes
//! ```

use std::io;
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::time::Instant;

use super::mailbox::{Mailbox, MailboxState, Receiver};
use super::proto::decoder::{Decoder, DecoderEvent, ProtocolError};
use super::rate::Excess;
use super::times::{Alarm, Pace, Times, later};
use super::transport::Socket;
use crate::channel::{Channel, CloseCode, Link, LinkState, Message, RecvError};
use crate::sync::Arc;

/// How long a client has to answer a close, and once more as long to read what goes before it.
const CLOSE_DEADLINE: Duration = Duration::from_secs(5);
/// Bytes read at a time, on the stack: an idle connection keeps no buffer.
const READ_SIZE: usize = 8 << 10;
/// Messages and control frames between two yields, so that a busy client does not block its thread for others.
const EVENTS_PER_TURN: u32 = 64;

pub(super) struct Connection {
    socket: Socket,
    decoder: Decoder,
    /// Read, not yet decoded: empty unless a message waits to be received, or the client is throttled.
    input: BytesMut,
    /// Bytes decoded since the last message.
    wire: usize,
    link: Arc<Link>,
    mailbox: Arc<Mailbox>,
    phase: Phase,
    /// Not reading because a message waits to be received.
    paused: bool,
    /// How many messages and control frames may still be taken in this turn of the task.
    events_left: u32,
    times: Times,
    alarm: Alarm,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Talking,
    Leaving,
    Left,
    Broken,
    Over,
}

impl Connection {
    /// Makes a connection whose client has sent `input` right after its request.
    pub(super) fn new(socket: Socket, input: &[u8], decoder: Decoder, pace: Pace, link: Arc<Link>) -> Self {
        Self {
            socket,
            decoder,
            input: input.into(),
            wire: 0,
            link,
            mailbox: Arc::default(),
            phase: Phase::Talking,
            paused: false,
            events_left: EVENTS_PER_TURN,
            times: Times::new(pace),
            alarm: Alarm::default(),
        }
    }

    /// Returns the channel of this connection.
    pub(super) fn channel(&self) -> Channel {
        Channel::new(Arc::clone(&self.link), Box::new(Receiver(Arc::clone(&self.mailbox))))
    }

    /// Begins a turn of the connection's task, in which it may be polled many times.
    pub(super) fn begin_turn(&mut self) {
        self.events_left = EVENTS_PER_TURN;
    }

    /// Makes progress as far as possible. Ready when the connection has ended.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.phase == Phase::Over {
            return Poll::Ready(());
        }
        let state = self.link.poll_state(cx);
        match self.poll_step(state, cx) {
            Ok(()) => {}
            Err(error) => self.end(error, cx),
        }
        if self.phase == Phase::Over { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Returns whether the handler's turn has made work: it received the message that reading waits for, or dropped
    /// the channel. If not, the task is woken when that happens.
    pub(super) fn poll_more(&self, cx: &Context<'_>) -> bool {
        match self.mailbox.poll_state(cx) {
            MailboxState::Free => self.paused,
            MailboxState::Taken => false,
            MailboxState::Abandoned => self.link.close(CloseCode::NORMAL, "") || self.paused,
        }
    }

    fn poll_step(&mut self, state: LinkState, cx: &mut Context<'_>) -> io::Result<()> {
        if state == LinkState::Dead {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if state == LinkState::Closing && self.phase == Phase::Talking {
            self.leave(Phase::Leaving, None, cx);
        }
        self.poll_read(cx)?;
        self.poll_times(cx)?;
        if self.events_left == 0 {
            // Woken when other tasks, and other sockets, have had their turn.
            let _ = pin!(tokio::task::yield_now()).poll(cx);
        }
        let flushed = self.socket.poll_flush(cx, &self.link)?.is_ready();
        // Our close is out: then the end of the stream. Of a client that broke the protocol its own end
        // is awaited, so that unread bytes do not reset the connection under our close.
        if flushed
            && matches!(self.phase, Phase::Left | Phase::Broken)
            && self.socket.poll_finish(cx).is_ready()
            && self.phase == Phase::Left
        {
            self.finish(cx);
        }
        Ok(())
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while self.is_reading() {
            if !self.input.is_empty() {
                let mut input = std::mem::take(&mut self.input);
                self.decode(&mut input, cx);
                // An idle client keeps no buffer.
                if !input.is_empty() {
                    self.input = input;
                }
                continue;
            }
            let mut buffer = [0; READ_SIZE];
            match self.socket.poll_read(cx, &mut buffer)? {
                Poll::Pending => return Ok(()),
                Poll::Ready(0) if self.phase == Phase::Broken => self.phase = Phase::Left,
                Poll::Ready(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Poll::Ready(n) => self.read(&buffer[..n], cx),
            }
        }
        Ok(())
    }

    fn is_reading(&mut self) -> bool {
        self.paused = self.phase == Phase::Talking && self.mailbox.state() == MailboxState::Taken;
        if self.events_left == 0 {
            return false;
        }
        match self.phase {
            Phase::Talking => !self.paused && self.times.resume.is_none(),
            Phase::Leaving | Phase::Broken => true,
            Phase::Left | Phase::Over => false,
        }
    }

    fn read(&mut self, mut bytes: &[u8], cx: &Context<'_>) {
        self.times.hear();
        if self.phase == Phase::Broken {
            return;
        }
        self.charge(0, bytes.len(), cx);
        self.decode(&mut bytes, cx);
        self.input.extend_from_slice(bytes);
    }

    /// Decodes until a message is there, the client or its turn has to wait, or `input` is empty.
    fn decode(&mut self, input: &mut impl Buf, cx: &Context<'_>) {
        while self.times.resume.is_none() && self.events_left > 0 {
            let before = input.remaining();
            let decoded = self.decoder.decode(input);
            self.wire += before - input.remaining();
            let message = match decoded {
                Ok(None) => return,
                Ok(Some(event)) => self.take(event, cx),
                Err(error) => {
                    self.fail(error, cx);
                    None
                }
            };
            if !matches!(self.phase, Phase::Talking | Phase::Leaving) {
                // Data after the client's close, or after it broke the protocol, is ignored.
                return input.advance(input.remaining());
            }
            // Messages that cross our close are lost, as the protocol allows.
            if let Some(message) = message
                && self.phase == Phase::Talking
            {
                self.times.spoke();
                self.link.touch();
                self.mailbox.put(message, cx);
                if self.mailbox.state() == MailboxState::Taken {
                    return;
                }
            }
        }
    }

    /// Answers a control frame, or returns the message.
    fn take(&mut self, event: DecoderEvent, cx: &Context<'_>) -> Option<Message> {
        self.events_left -= 1;
        let inflated = self.inflated(&event);
        self.charge(1, inflated, cx);
        match event {
            DecoderEvent::Text(text) => {
                Some(Message::Text(String::from_utf8(text.into()).expect("the decoder lets only UTF-8 through")))
            }
            DecoderEvent::Binary(bytes) => Some(Message::Binary(bytes)),
            DecoderEvent::Ping(payload) => {
                self.link.send_pong(&payload);
                None
            }
            DecoderEvent::Pong(_) => None,
            DecoderEvent::Close { code, .. } => {
                // Ours goes out behind what was sent before; when we closed first it is out already.
                self.link.close(code.unwrap_or(CloseCode::NORMAL), "");
                self.leave(Phase::Left, None, cx);
                None
            }
        }
    }

    /// Returns by how many bytes a message exceeds its size on the wire, which was counted as it arrived.
    fn inflated(&mut self, event: &DecoderEvent) -> usize {
        match event {
            DecoderEvent::Text(payload) | DecoderEvent::Binary(payload) => {
                payload.len().saturating_sub(std::mem::take(&mut self.wire))
            }
            _ => 0,
        }
    }

    /// Counts received messages and bytes against the client's rate.
    fn charge(&mut self, messages: u32, bytes: usize, cx: &Context<'_>) {
        let Some(allowance) = &mut self.times.allowance else { return };
        if self.phase != Phase::Talking {
            return;
        }
        let now = Instant::now();
        let Some(wait) = allowance.take(messages, bytes, now) else { return };
        match allowance.limit.excess {
            Excess::Throttle => self.times.resume = Some(now + wait),
            Excess::Close => {
                let reason = "client sends faster than it may".to_owned();
                self.link.close(CloseCode::POLICY, &reason);
                self.leave(Phase::Broken, Some(RecvError::Protocol { code: CloseCode::POLICY, reason }), cx);
            }
        }
    }

    fn fail(&mut self, error: ProtocolError, cx: &Context<'_>) {
        let (code, reason) = (error.close_code(), error.to_string());
        self.link.close(code, &reason);
        self.leave(Phase::Broken, Some(RecvError::Protocol { code, reason }), cx);
    }

    /// Stops talking: no message is received after this.
    fn leave(&mut self, phase: Phase, error: Option<RecvError>, cx: &Context<'_>) {
        self.phase = phase;
        self.times.resume = None;
        self.times.close_due.get_or_insert_with(|| Instant::now() + CLOSE_DEADLINE);
        self.mailbox.end(error, cx);
    }

    /// Checks the clock, and sets the alarm to the next due time.
    fn poll_times(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while let Some(due) = self.next_time() {
            if self.alarm.poll(due, cx).is_pending() {
                return Ok(());
            }
            self.on_time(Instant::now(), cx)?;
        }
        Ok(())
    }

    /// Returns the next due time.
    fn next_time(&self) -> Option<Instant> {
        // Once a close is out the channel's own end is behind it.
        let end = if self.times.close_due.is_none() { self.link.end() } else { None };
        [self.times.next(), end.map(|end| end.at)].into_iter().flatten().min()
    }

    fn on_time(&mut self, now: Instant, cx: &mut Context<'_>) -> io::Result<()> {
        if self.phase == Phase::Talking && self.link.end().is_some_and(|end| end.at <= now) {
            self.link.expire();
            self.leave(Phase::Leaving, None, cx);
        }
        if self.times.resume.is_some_and(|resume| resume <= now) {
            self.times.resume = None;
            self.poll_read(cx)?;
        }
        if self.times.close_due.is_some_and(|due| due <= now) {
            if self.link.is_empty() || self.times.extended {
                return Err(io::ErrorKind::TimedOut.into());
            }
            // Something goes before the close still: once more as long for that.
            (self.times.extended, self.times.close_due) = (true, Some(now + CLOSE_DEADLINE));
        }
        if self.phase != Phase::Talking {
            return Ok(());
        }
        if self.times.idle_due().is_some_and(|due| due <= now) {
            if self.is_deaf() {
                // Messages sent since may lie unread: then the client is not idle.
                self.times.spoke();
                return Ok(());
            }
            self.link.close(CloseCode::GOING_AWAY, "nothing was said for too long");
            self.leave(Phase::Leaving, None, cx);
            return Ok(());
        }
        if self.times.beat_due.is_some_and(|due| due <= now) {
            self.beat(now, cx)?;
        }
        Ok(())
    }

    /// Handles the end of the silence, or of the wait for an answer.
    fn beat(&mut self, now: Instant, cx: &mut Context<'_>) -> io::Result<()> {
        let Some(interval) = self.times.pace.heartbeat else { return Ok(()) };
        let timeout = self.times.pace.heartbeat_timeout;
        // While no message is received, no answer is read either; a client's disconnect may still be noticed.
        let is_deaf = self.is_deaf();
        // A throttled client is read to its end in time; when the handler receives a message is unknown.
        if self.mailbox.state() == MailboxState::Taken && self.socket.has_hung_up(cx) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // A socket that was full takes more only when the client has read: our ping is still before it.
        let reads = self.times.see_reading(&self.link);
        let asked = std::mem::take(&mut self.times.asked);
        if std::mem::take(&mut self.times.heard) || is_deaf || reads {
            self.times.beat_due = Some(later(now, interval));
        } else if asked && timeout.is_some() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "client does not answer pings"));
        } else {
            self.link.send_ping();
            self.times.asked = true;
            self.times.beat_due = Some(later(now, timeout.unwrap_or(interval)));
        }
        Ok(())
    }

    /// Returns whether reading from the client is stopped now.
    fn is_deaf(&self) -> bool {
        self.mailbox.state() == MailboxState::Taken || self.times.resume.is_some()
    }

    fn end(&mut self, error: io::Error, cx: &Context<'_>) {
        // After a close has begun, a client may disconnect without an answer.
        let error = (self.phase == Phase::Talking).then_some(RecvError::Lost(error));
        self.mailbox.end(error, cx);
        self.finish(cx);
    }

    fn finish(&mut self, cx: &Context<'_>) {
        self.phase = Phase::Over;
        // Taking the last message no longer frees anything: reading has stopped for good.
        self.paused = false;
        self.input = BytesMut::new();
        self.mailbox.end(None, cx);
        self.link.die();
        self.socket = Socket::Gone;
        // Leaves its groups now, before the handler notices.
        self.link.retire();
    }

    /// Begins the close; false if it has begun before.
    pub(super) fn close(&self, code: CloseCode, reason: &str) -> bool {
        self.link.close(code, reason)
    }

    pub(super) fn link(&self) -> &Arc<Link> {
        &self.link
    }
}
