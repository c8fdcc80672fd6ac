//! The server that one writes with axum and a broadcast channel: a peer of `benches/fanout.sh`, which starts it.
//!
//! As in axum's chat example, a connection has two tasks: one sends to all what its client says, the other
//! sends to the client what all say. The queue between them holds 1024 messages for the slowest; whoever
//! falls further behind misses the oldest, and is told how many.
//!
//! `--tasks=one` does both in one task that selects. That takes longer, since each message to send makes it
//! look for one to read, for which tungstenite zeroes its read buffer: 128 KiB, unless there is
//! `--read-buffer=BYTES`. `--runtime=multi` replaces the runtime of one thread.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{env, io};

use axum::Router;
use axum::extract::connect_info::ConnectInfo;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::get;
use axum::serve::ListenerExt;
use fanfare_benches::served::{Books, Counts, answer_questions};
use futures_util::{Sink, SinkExt, StreamExt};
use tokio::net::TcpListener;
use tokio::runtime;
use tokio::sync::broadcast::{self, error::RecvError};

/// Messages that wait for the slowest client.
const CAPACITY: usize = 1024;

fn main() -> io::Result<()> {
    let mut runtime = match argument("--runtime=").as_deref() {
        Some("multi") => runtime::Builder::new_multi_thread(),
        _ => runtime::Builder::new_current_thread(),
    };
    runtime.worker_threads(1).enable_all().build()?.block_on(serve())
}

fn argument(name: &str) -> Option<String> {
    env::args().find_map(|argument| argument.strip_prefix(name).map(str::to_owned))
}

async fn serve() -> io::Result<()> {
    let one_task = argument("--tasks=").as_deref() == Some("one");
    let read_buffer = argument("--read-buffer=").map(|bytes| bytes.parse().expect("a number of bytes"));
    let books = Books::default();
    let (everybody, _) = broadcast::channel(CAPACITY);
    let route = {
        let books = books.clone();
        async move |ConnectInfo(peer): ConnectInfo<SocketAddr>, upgrade: WebSocketUpgrade| -> Response {
            let upgrade = match read_buffer {
                Some(bytes) => upgrade.read_buffer_size(bytes),
                None => upgrade,
            };
            upgrade.on_upgrade(async move |socket| {
                let client = Client::join(everybody, &books, peer.port());
                if one_task {
                    client.serve_in_one_task(socket).await
                } else {
                    client.serve_in_two(socket).await
                }
                books.left(peer.port());
            })
        }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    answer_questions(port, move |question| books.answer(question));
    // Without this, messages wait for the client's acknowledgement of the one before, up to 40 ms.
    let listener = listener.tap_io(|stream| _ = stream.set_nodelay(true));
    let app = Router::new().route("/", get(route));
    axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await
}

struct Client {
    books: Books,
    everybody: broadcast::Sender<Message>,
    messages: broadcast::Receiver<Message>,
    missed: Arc<AtomicU64>,
}

impl Client {
    fn join(everybody: broadcast::Sender<Message>, books: &Books, port: u16) -> Self {
        let (messages, missed) = (everybody.subscribe(), Arc::new(AtomicU64::new(0)));
        books.joined(port, {
            let missed = Arc::clone(&missed);
            move || Counts { dropped: missed.load(Ordering::Relaxed), ..Counts::default() }
        });
        Self { books: books.clone(), everybody, messages, missed }
    }

    async fn serve_in_two(self, socket: WebSocket) {
        let Self { books, everybody, mut messages, missed } = self;
        let (mut write, mut read) = socket.split();
        let writer = tokio::spawn(async move {
            loop {
                let message = messages.recv().await;
                if !pass_on(message, &mut write, &missed).await {
                    break;
                }
            }
        });
        while let Some(Ok(message)) = read.next().await {
            send_to_all(message, &everybody, &books);
        }
        writer.abort();
    }

    async fn serve_in_one_task(mut self, mut socket: WebSocket) {
        loop {
            tokio::select! {
                received = socket.recv() => match received {
                    Some(Ok(message)) => send_to_all(message, &self.everybody, &self.books),
                    Some(Err(_)) | None => break,
                },
                message = self.messages.recv() => {
                    if !pass_on(message, &mut socket, &self.missed).await {
                        break;
                    }
                }
            }
        }
    }
}

fn send_to_all(message: Message, everybody: &broadcast::Sender<Message>, books: &Books) {
    if matches!(message, Message::Text(_) | Message::Binary(_)) {
        books.sent(everybody.send(message).is_ok());
    }
}

/// Sends to the client what all say; false when that is over.
async fn pass_on(
    message: Result<Message, RecvError>,
    client: &mut (impl Sink<Message> + Unpin),
    missed: &AtomicU64,
) -> bool {
    match message {
        Ok(message) => client.send(message).await.is_ok(),
        Err(RecvError::Lagged(messages)) => {
            missed.fetch_add(messages, Ordering::Relaxed);
            true
        }
        Err(RecvError::Closed) => false,
    }
}
