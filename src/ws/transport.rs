//! The two kinds of socket below a channel: plain TCP, and anything that reads and writes.
//!
//! A sender writes plain TCP itself, on its own thread; the connection's own task, its driver, goes on when
//! the socket takes bytes again. Anything else needs `&mut` and a task to be woken: the driver writes.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::channel::{Link, Transport};
use crate::sync::Arc;

/// Bytes that go out in one write where the driver writes.
const STAGE: usize = 60 << 10;

/// The interface of a connection that is not plain TCP.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// The driver's side of a connection.
pub(super) enum Socket {
    Tcp(Arc<Tcp>),
    Io {
        io: Box<dyn Io>,
        /// Bytes taken out of the outbox, not yet written.
        staged: Bytes,
        /// Whether bytes were written since the last flush.
        dirty: bool,
    },
    /// The connection is over, and its descriptor given back.
    Gone,
}

impl Socket {
    pub(super) fn io(io: impl Io + 'static) -> Self {
        Self::Io { io: Box::new(io), staged: Bytes::new(), dirty: false }
    }

    pub(super) fn tcp(stream: TcpStream) -> Self {
        Self::Tcp(Arc::new(Tcp(stream)))
    }

    /// Returns the other side, for the connection's [`Link`].
    pub(super) fn transport(&self) -> Arc<dyn Transport> {
        match self {
            Self::Tcp(tcp) => Arc::clone(tcp) as _,
            Self::Io { .. } | Self::Gone => Arc::new(ByDriver),
        }
    }

    /// Reads the available bytes; 0 at the end.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(tcp) => loop {
                ready!(tcp.0.poll_read_ready(cx))?;
                match tcp.0.try_read(buffer) {
                    // Readiness may be spurious.
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    result => return Poll::Ready(result),
                }
            },
            Self::Io { io, .. } => {
                let mut buffer = ReadBuf::new(buffer);
                ready!(Pin::new(io).poll_read(cx, &mut buffer))?;
                Poll::Ready(Ok(buffer.filled().len()))
            }
            Self::Gone => Poll::Ready(Ok(0)),
        }
    }

    /// Writes the outbox; ready when it is empty.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>, link: &Arc<Link>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(tcp) => {
                // Each turn ends in a write that pushes back, and so clears the readiness.
                while !link.is_empty() {
                    ready!(tcp.0.poll_write_ready(cx))?;
                    link.flush();
                }
                Poll::Ready(Ok(()))
            }
            Self::Io { io, staged, dirty } => loop {
                if staged.is_empty() {
                    let Some(next) = link.stage(STAGE) else {
                        if *dirty {
                            ready!(Pin::new(&mut *io).poll_flush(cx))?;
                            *dirty = false;
                        }
                        return Poll::Ready(Ok(()));
                    };
                    *staged = next;
                }
                match ready!(Pin::new(&mut *io).poll_write(cx, staged))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    written => staged.advance(written),
                }
                *dirty = true;
                if staged.is_empty() {
                    link.staged_out();
                }
            },
            Self::Gone => Poll::Ready(Ok(())),
        }
    }

    /// Ends our side of the stream. Called again until it is ready.
    pub(super) fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            // If the peer is gone, either fails, and neither is needed.
            Self::Tcp(tcp) => drop(SockRef::from(&tcp.0).shutdown(Shutdown::Write)),
            Self::Io { io, .. } => drop(ready!(Pin::new(io).poll_shutdown(cx))),
            Self::Gone => {}
        }
        Poll::Ready(())
    }

    /// Returns whether the peer has ended its side of the stream, even if unread bytes come before the end.
    ///
    /// Only TCP knows. The readiness that it looks at is of the socket, not of this call.
    pub(super) fn has_hung_up(&self, cx: &mut Context<'_>) -> bool {
        let Self::Tcp(tcp) = self else { return false };
        let ready = std::pin::pin!(tcp.0.ready(tokio::io::Interest::READABLE)).poll(cx);
        matches!(ready, Poll::Ready(Ok(ready)) if ready.is_read_closed())
    }
}

/// Plain TCP, written from any thread.
pub(super) struct Tcp(TcpStream);

impl Transport for Tcp {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn try_write_vectored(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(pieces)
    }

    fn shut_down(&self) {
        let _ = SockRef::from(&self.0).shutdown(Shutdown::Both);
    }
}

/// Writes nothing: everything goes to the outbox and wakes the driver, which also ends the connection.
struct ByDriver;

impl Transport for ByDriver {
    fn try_write(&self, _bytes: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn shut_down(&self) {}
}
