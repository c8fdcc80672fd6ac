//! What tests over real sockets need: a server on a free port, a client that is not ours, and one that may misbehave.

#![allow(dead_code, reason = "no program of tests uses all of it")]

use std::future::IntoFuture;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use bytes::{Buf, BytesMut};
use fanfare::channel::{Channel, Message as Received, Sender};
use fanfare::frame::Frame;
use fanfare::ws::Upgrade;
use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

pub(crate) type Ours = fanfare::ws::Server<TcpListener>;
pub(crate) type Client = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// The opcodes that a client by hand needs.
pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("it comes in time")
}

/// Waits until what nobody tells of is so.
pub(crate) async fn until(is_so: impl Fn() -> bool) {
    let look = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    soon(look).await;
}

/// Serves one handler at `/`, on a free port.
pub(crate) async fn serve<F, Fut>(handler: F) -> SocketAddr
where
    F: Fn(Channel) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<(), fanfare::Error>> + Send + 'static,
{
    serve_with(|upgrade| upgrade, handler).await
}

/// As [`serve`], with options.
pub(crate) async fn serve_with<F, Fut>(
    options: impl Fn(Upgrade) -> Upgrade + Clone + Send + Sync + 'static,
    handler: F,
) -> SocketAddr
where
    F: Fn(Channel) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<(), fanfare::Error>> + Send + 'static,
{
    let route = async move |upgrade: Upgrade| options(upgrade).run(handler);
    serve_router(Router::new().route("/", get(route))).await
}

pub(crate) async fn serve_router(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(axum::serve(listener, router).into_future());
    address
}

/// As [`serve_router`], by our own loop.
pub(crate) async fn serve_ours(router: Router, options: impl FnOnce(Ours) -> Ours) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(options(fanfare::ws::serve(listener, router)).into_future());
    address
}

pub(crate) async fn connect(address: SocketAddr) -> Client {
    soon(connect_async(format!("ws://{address}/"))).await.expect("the handshake is good").0
}

pub(crate) async fn next(client: &mut Client) -> Message {
    soon(client.next()).await.expect("the connection lives").expect("the protocol is kept")
}

/// Receives until the server closes, and returns its code.
pub(crate) async fn close_code(client: &mut Client) -> u16 {
    loop {
        if let Message::Close(close) = next(client).await {
            return close.expect("a server gives its reason").code.into();
        }
    }
}

/// A handler that sends everything back.
pub(crate) async fn echo(mut channel: Channel) -> Result<(), fanfare::Error> {
    while let Some(Ok(received)) = channel.recv_message().await {
        channel.send_frame(&match received {
            Received::Text(text) => Frame::text(text),
            Received::Binary(bytes) => Frame::binary(bytes),
        })?;
    }
    Ok(())
}

/// What handlers tell a test.
pub(crate) fn tells<T>() -> (mpsc::UnboundedSender<T>, mpsc::UnboundedReceiver<T>) {
    mpsc::unbounded_channel()
}

/// Receives what a handler tells.
pub(crate) async fn told<T>(tells: &mut mpsc::UnboundedReceiver<T>) -> T {
    soon(tells.recv()).await.expect("a handler tells")
}

/// Tells whether nothing more is sent to a client, and what was adds up.
pub(crate) fn assert_adds_up(sender: &Sender, sent: u64) {
    let counts = sender.counts();
    assert_eq!(counts.written + counts.waiting as u64 + counts.dropped, sent, "{counts:?}");
}

/// A client that has shaken hands and speaks the protocol by hand.
pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
    arrived: BytesMut,
}

impl Raw {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::shake_hands(soon(TcpStream::connect(address)).await.expect("the port is open"), address).await
    }

    /// As `connect`, with a small receive buffer: it pushes back early.
    pub(crate) async fn connect_small(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("there are sockets");
        socket.set_recv_buffer_size(4096).expect("it takes a size");
        Self::shake_hands(soon(socket.connect(address)).await.expect("the port is open"), address).await
    }

    /// As `connect`, offering permessage-deflate.
    pub(crate) async fn connect_deflating(address: SocketAddr) -> Self {
        let (client, head) = Self::ask(address, "Sec-WebSocket-Extensions: permessage-deflate\r\n").await;
        assert!(head.contains("permessage-deflate"), "{head}");
        client
    }

    /// Asks for a channel with more headers, each with its line end, and returns the head of the answer.
    pub(crate) async fn ask(address: SocketAddr, headers: &str) -> (Self, String) {
        let mut stream = soon(TcpStream::connect(address)).await.expect("the port is open");
        // A server that refuses may not read to the end.
        let _ = soon(stream.write_all(upgrade(address, headers).as_bytes())).await;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match soon(stream.read_u8()).await {
                Ok(byte) => head.push(byte),
                Err(_) => break,
            }
        }
        (Self { stream, arrived: BytesMut::new() }, String::from_utf8_lossy(&head).into_owned())
    }

    async fn shake_hands(mut stream: TcpStream, address: SocketAddr) -> Self {
        stream.write_all(upgrade(address, "").as_bytes()).await.expect("it is sent");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(soon(stream.read_u8()).await.expect("an answer comes"));
        }
        assert!(head.starts_with(b"HTTP/1.1 101"));
        Self { stream, arrived: BytesMut::new() }
    }

    /// Sends bytes as they are; a server that has closed may refuse them.
    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        let _ = soon(self.stream.write_all(bytes)).await;
    }

    /// Sends a whole message, or a control frame.
    pub(crate) async fn send(&mut self, opcode: u8, payload: &[u8]) {
        self.send_bytes(&masked(0x80 | opcode, payload)).await;
    }

    /// Receives a frame; `None` when the connection is over. Dropping the future loses nothing.
    pub(crate) async fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some(frame) = take_frame(&mut self.arrived) {
                return Some(frame);
            }
            match soon(self.stream.read_buf(&mut self.arrived)).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// As `frame`, reading a little at each tick.
    pub(crate) async fn frame_within(&mut self, pace: &mut tokio::time::Interval) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some(frame) = take_frame(&mut self.arrived) {
                return Some(frame);
            }
            pace.tick().await;
            let mut chunk = [0; 2000];
            match soon(self.stream.read(&mut chunk)).await {
                Ok(0) | Err(_) => return None,
                Ok(n) => self.arrived.extend_from_slice(&chunk[..n]),
            }
        }
    }

    /// Receives until the server closes, and returns its code; `None` when the connection ends without.
    pub(crate) async fn close_code(&mut self) -> Option<u16> {
        loop {
            if let (CLOSE, payload) = self.frame().await? {
                return Some(u16::from_be_bytes([payload[0], payload[1]]));
            }
        }
    }

    /// Ends the connection with a reset.
    pub(crate) fn reset(self) {
        self.stream.set_zero_linger().expect("it is a socket");
    }
}

/// The request for a channel, with more headers.
pub(crate) fn upgrade(address: SocketAddr, headers: &str) -> String {
    format!(
        "GET / HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    )
}

/// Makes a frame as a client sends it; the key is zero, so that the payload stays readable.
pub(crate) fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        len @ 0..=125 => frame.push(0x80 | len as u8),
        len @ 126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend((len as u16).to_be_bytes());
        }
        len => {
            frame.push(0x80 | 127);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

/// Takes a whole frame of a server off the front: opcode with reserved bits, and payload.
fn take_frame(bytes: &mut BytesMut) -> Option<(u8, Vec<u8>)> {
    let (header, len) = match *bytes.get(1)? {
        126 => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize),
        short => (2, usize::from(short)),
    };
    if bytes.len() < header + len {
        return None;
    }
    let opcode = bytes[0] & 0x7f;
    bytes.advance(header);
    Some((opcode, bytes.split_to(len).to_vec()))
}
