//! The server that one writes with axum and a broadcast channel: a peer of `benches/fanout.sh`, which starts it.
//!
//! One task per connection selects between what its client says, which it sends to all, and what all say,
//! which it sends to its client. The queue between them holds 1024 messages for the slowest; whoever falls
//! further behind misses the oldest, and is told how many.
//!
//! `--read-buffer=BYTES` replaces axum's read buffer of 128 KiB; `--runtime=multi` the runtime of one thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{env, io};

use axum::Router;
use axum::extract::connect_info::ConnectInfo;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::get;
use axum::serve::ListenerExt;
use fanfare_benches::served::{Books, answer_questions};
use tokio::net::TcpListener;
use tokio::runtime;
use tokio::sync::broadcast::{self, error::RecvError};

/// Messages that wait for the slowest client.
const CAPACITY: usize = 1024;

fn main() -> io::Result<()> {
    let read_buffer = argument("--read-buffer=").map(|bytes| bytes.parse().expect("a number of bytes"));
    let mut runtime = match argument("--runtime=").as_deref() {
        Some("multi") => runtime::Builder::new_multi_thread(),
        _ => runtime::Builder::new_current_thread(),
    };
    runtime.worker_threads(1).enable_all().build()?.block_on(serve(read_buffer))
}

fn argument(name: &str) -> Option<String> {
    env::args().find_map(|argument| argument.strip_prefix(name).map(str::to_owned))
}

async fn serve(read_buffer: Option<usize>) -> io::Result<()> {
    let books = Books::default();
    let (everybody, _) = broadcast::channel(CAPACITY);
    let route = {
        let books = books.clone();
        async move |ConnectInfo(peer): ConnectInfo<std::net::SocketAddr>, upgrade: WebSocketUpgrade| -> Response {
            let upgrade = match read_buffer {
                Some(bytes) => upgrade.read_buffer_size(bytes),
                None => upgrade,
            };
            upgrade.on_upgrade(move |socket| pass_on(socket, everybody, books, peer.port()))
        }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    answer_questions(port, move |question| books.answer(question));
    // Without this, messages wait for the client's acknowledgement of the one before, up to 40 ms.
    let listener = listener.tap_io(|stream| _ = stream.set_nodelay(true));
    let app = Router::new().route("/", get(route));
    axum::serve(listener, app.into_make_service_with_connect_info::<std::net::SocketAddr>()).await
}

async fn pass_on(mut socket: WebSocket, everybody: broadcast::Sender<Message>, books: Books, port: u16) {
    let mut messages = everybody.subscribe();
    let missed = Arc::new(AtomicU64::new(0));
    books.joined(port, {
        let missed = Arc::clone(&missed);
        move || missed.load(Ordering::Relaxed)
    });
    loop {
        tokio::select! {
            received = socket.recv() => match received {
                Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => {
                    books.sent(everybody.send(message).is_ok());
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(_)) | Err(_)) | None => break,
            },
            message = messages.recv() => match message {
                Ok(message) => {
                    if socket.send(message).await.is_err() {
                        break;
                    }
                }
                Err(RecvError::Lagged(messages)) => _ = missed.fetch_add(messages, Ordering::Relaxed),
                Err(RecvError::Closed) => break,
            },
        }
    }
    books.left(port);
}
