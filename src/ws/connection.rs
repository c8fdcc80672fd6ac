//! One connection: reads its client's frames, answers control frames, ends it in order.
//!
//! Reading is pulled by `Channel::recv`; after the handler's end, by the connection's own task until
//! the close handshake is done or its time is up (RFC 6455, section 7.1).

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use tokio::time::Sleep;

use super::decoder::{Decoder, Event, Limits, ProtocolError};
use super::transport::Source;
use crate::channel::{Inbox, Message, NORMAL, Out, RecvError, State};
use crate::sync::Arc;

/// How long a client has to answer a close.
const CLOSE_DEADLINE: Duration = Duration::from_secs(5);
/// Bytes read at a time, on the stack: an idle connection keeps no buffer.
const READ_SIZE: usize = 8 << 10;

pub(super) struct Connection {
    source: Source,
    decoder: Decoder,
    /// Read, not yet decoded: empty between two reads, unless a message was handed out in between.
    input: BytesMut,
    out: Arc<Out>,
    /// Runs from the moment this sees that a close was begun.
    deadline: Option<Pin<Box<Sleep>>>,
    /// The client broke the protocol: what it still sends is not looked at.
    failed: bool,
    ended: bool,
}

impl Connection {
    /// Makes a connection whose client has sent `input` already, right behind its request.
    pub(super) fn new(source: Source, input: &[u8], limits: Limits, out: Arc<Out>) -> Self {
        let decoder = Decoder::new(limits);
        Self { source, decoder, input: input.into(), out, deadline: None, failed: false, ended: false }
    }

    /// Returns the next message, or `None` to be asked again, with more bytes.
    fn decode(&mut self, state: State) -> Option<Result<Message, RecvError>> {
        loop {
            let message = match self.decoder.decode(&mut self.input) {
                Ok(None) => {
                    // All of it is decoded: nothing is kept for an idle client.
                    self.input = BytesMut::new();
                    return None;
                }
                Ok(Some(Event::Ping(payload))) => {
                    if state == State::Open {
                        self.out.send_pong(&payload);
                    }
                    continue;
                }
                Ok(Some(Event::Pong(_))) => continue,
                Ok(Some(Event::Close { code, .. })) => {
                    // Ours goes out behind what was sent before; when we closed first it is out already.
                    self.out.close(code.unwrap_or(NORMAL), "");
                    self.ended = true;
                    return None;
                }
                Ok(Some(Event::Text(text))) => {
                    Message::Text(String::from_utf8(text.into()).expect("the decoder lets only UTF-8 through"))
                }
                Ok(Some(Event::Binary(bytes))) => Message::Binary(bytes),
                Err(error) => return Some(Err(self.fail(error))),
            };
            // What a client sends across our close is lost, as the protocol has it.
            if state == State::Open {
                return Some(Ok(message));
            }
        }
    }

    fn fail(&mut self, error: ProtocolError) -> RecvError {
        let (code, reason) = (error.close_code(), error.to_string());
        self.out.close(code, &reason);
        self.failed = true;
        RecvError::Protocol { code, reason }
    }

    fn lost(&mut self, error: io::Error, state: State) -> Option<Result<Message, RecvError>> {
        self.out.die();
        self.ended = true;
        // A client may go without a word once a close was begun.
        (state == State::Open).then_some(Err(RecvError::Lost(error)))
    }

    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(CLOSE_DEADLINE)));
        deadline.as_mut().poll(cx).is_ready()
    }
}

impl Inbox for Connection {
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Message, RecvError>>> {
        loop {
            let state = self.out.poll_state(cx);
            if self.ended {
                return Poll::Ready(None);
            }
            if state == State::Dead {
                return Poll::Ready(self.lost(io::ErrorKind::BrokenPipe.into(), State::Open));
            }
            if state == State::Closing && self.is_late(cx) {
                return Poll::Ready(self.lost(io::ErrorKind::TimedOut.into(), state));
            }
            if self.failed {
                // Our close goes out, then the end of the stream; the client's own end is awaited, so
                // that unread bytes do not reset the connection under our close.
                self.out.finish_when_empty();
            } else if let Some(received) = self.decode(state) {
                return Poll::Ready(Some(received));
            } else if self.ended {
                return Poll::Ready(None);
            }
            let mut buffer = [0; READ_SIZE];
            match self.source.poll_read(cx, &mut buffer) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0)) => return Poll::Ready(self.lost(io::ErrorKind::UnexpectedEof.into(), state)),
                Poll::Ready(Ok(_)) if self.failed => {}
                Poll::Ready(Ok(n)) => self.input.extend_from_slice(&buffer[..n]),
                Poll::Ready(Err(error)) => return Poll::Ready(self.lost(error, state)),
            }
        }
    }
}

/// Ends a connection whose handler is done: the close handshake, then the socket.
pub(super) async fn finish(out: &Arc<Out>, mut inbox: Box<dyn Inbox>) {
    let handshake = async {
        while poll_fn(|cx| inbox.poll_recv(cx)).await.is_some() {}
        poll_fn(|cx| out.poll_empty(cx)).await;
    };
    // The inbox has a deadline of its own; this one covers an outbox that a silent client never empties.
    let _ = tokio::time::timeout(2 * CLOSE_DEADLINE, handshake).await;
    out.die();
}
