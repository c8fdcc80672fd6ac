//! The two kinds of socket below a channel: plain TCP, and anything that reads and writes.

use std::io;
use std::pin::Pin;
use std::sync::PoisonError;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::channel::{Out, Transport};
use crate::sync::{Arc, Mutex, Weak};

/// The reading half.
pub(super) enum Source {
    Tcp(Arc<TcpStream>),
    /// Never locked, only reached by `get_mut`: the lock makes a channel `Sync`, which hyper's io is not.
    Io(Mutex<ReadHalf<Box<dyn Io>>>),
}

/// What a generic connection can do.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

impl Source {
    /// Reads what is there; 0 at the end.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => loop {
                ready!(stream.poll_read_ready(cx))?;
                match stream.try_read(buffer) {
                    // Readiness may be spurious.
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    result => return Poll::Ready(result),
                }
            },
            Self::Io(half) => {
                let half = half.get_mut().unwrap_or_else(PoisonError::into_inner);
                let mut buffer = ReadBuf::new(buffer);
                ready!(Pin::new(half).poll_read(cx, &mut buffer))?;
                Poll::Ready(Ok(buffer.filled().len()))
            }
        }
    }
}

/// Plain TCP: written by whoever sends; a task waits only while the socket pushes back.
pub(super) struct Tcp {
    stream: Arc<TcpStream>,
    /// Of the connection: a send may come from a thread without one.
    runtime: Handle,
}

impl Tcp {
    pub(super) fn new(stream: Arc<TcpStream>) -> Self {
        Self { stream, runtime: Handle::current() }
    }
}

impl Transport for Tcp {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.try_write(bytes)
    }

    fn await_room(&self, out: Weak<Out>) {
        let stream = Arc::clone(&self.stream);
        // Ends when the outbox is empty; `shut_down` makes the socket ready and the outbox empty.
        self.runtime.spawn(async move {
            while stream.writable().await.is_ok() {
                let Some(out) = out.upgrade() else { return };
                if !out.flush() {
                    return;
                }
            }
        });
    }

    fn runtime(&self) -> Option<Handle> {
        Some(self.runtime.clone())
    }

    fn finish_writing(&self) {
        // A peer that is gone makes this fail, and needs it no more.
        let _ = socket2::SockRef::from(&*self.stream).shutdown(std::net::Shutdown::Write);
    }

    fn shut_down(&self) {
        let _ = socket2::SockRef::from(&*self.stream).shutdown(std::net::Shutdown::Both);
    }
}

/// Anything else: one task writes, as long as the connection lives.
pub(super) struct Queued {
    due: Arc<Notify>,
    runtime: Handle,
}

impl Queued {
    /// Returns the transport, the reading half, and what starts the writer.
    pub(super) fn new(io: Box<dyn Io>) -> (Self, Source, impl FnOnce(Weak<Out>)) {
        let (read, write) = tokio::io::split(io);
        let due = Arc::new(Notify::new());
        let start = {
            let due = Arc::clone(&due);
            move |out| drop(tokio::spawn(write_queued(write, out, due)))
        };
        (Self { due, runtime: Handle::current() }, Source::Io(Mutex::new(read)), start)
    }
}

impl Transport for Queued {
    fn try_write(&self, _bytes: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn await_room(&self, _out: Weak<Out>) {
        self.due.notify_one();
    }

    fn runtime(&self) -> Option<Handle> {
        Some(self.runtime.clone())
    }

    fn finish_writing(&self) {
        self.due.notify_one();
    }

    fn shut_down(&self) {
        self.due.notify_one();
    }
}

/// Writes the outbox piece by piece, until the connection is finished or dead.
async fn write_queued(mut write: WriteHalf<Box<dyn Io>>, out: Weak<Out>, due: Arc<Notify>) {
    loop {
        let Some(strong) = out.upgrade() else { break };
        let next = strong.begin_front();
        let is_over = strong.is_over();
        drop(strong);
        let written = match next {
            Some(piece) => tokio::select! {
                result = write.write_all(&piece) => result.map(|()| piece.len()),
                // A shut connection does not wait for its peer to read.
                () = dead(&out, &due) => break,
            },
            None if is_over => break,
            None => {
                due.notified().await;
                continue;
            }
        };
        let (Ok(written), Some(out)) = (written, out.upgrade()) else {
            if let Some(out) = out.upgrade() {
                out.die();
            }
            break;
        };
        out.wrote_front(written);
    }
    let _ = write.shutdown().await;
}

async fn dead(out: &Weak<Out>, due: &Notify) {
    while out.upgrade().is_some_and(|out| !out.is_dead()) {
        due.notified().await;
    }
}
