//! The floor: a loop over epoll, and for each message a loop of write(2) of the same bytes over all sockets.
//!
//! No queue, no groups, no limits: a client that does not read ends it, and so does one that leaves. Asked to
//! compress for each client, it has a compressor for each, as most servers do unless told otherwise: zlib's level
//! 6, and a message may refer to those before.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};

use fanfare_benches::served::{Books, Counts, answer_questions};
use flate2::{Compress, Compression, FlushCompress};
use rustix::buffer::spare_capacity;
use rustix::event::epoll;

use super::terms::{Deflate, Terms};
use super::wire::{self, ACCEPT, KEY};

const LISTENER: u64 = u64::MAX;

struct Client {
    stream: TcpStream,
    upgraded: bool,
    /// Read, but not whole.
    rest: Vec<u8>,
    compressor: Option<Compress>,
}

pub(super) fn serve(terms: Terms) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let books = Books::default();
    answer_questions(listener.local_addr()?.port(), {
        let books = books.clone();
        move |question| books.answer(question)
    });
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;
    let mut clients = Vec::new();
    let mut events = Vec::with_capacity(1024);
    let mut frame = Vec::new();
    loop {
        events.clear();
        epoll::wait(&epoll, spare_capacity(&mut events), None)?;
        for event in &events {
            match event.data.u64() {
                LISTENER => accept(&listener, &mut clients, terms, |stream, number| {
                    epoll::add(&epoll, stream, epoll::EventData::new_u64(number), epoll::EventFlags::IN)
                })?,
                number => {
                    read(&mut clients[number as usize], &books)?;
                    while take_frame(&mut clients[number as usize], &mut frame)? {
                        books.sent(true);
                        write_to_all(&mut clients, &frame)?;
                    }
                }
            }
        }
    }
}

fn accept(
    listener: &TcpListener,
    clients: &mut Vec<Client>,
    terms: Terms,
    watch: impl Fn(&TcpStream, u64) -> rustix::io::Result<()>,
) -> io::Result<()> {
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        watch(&stream, clients.len() as u64)?;
        let compressor = (terms.deflate == Deflate::Each).then(|| Compress::new(Compression::default(), false));
        clients.push(Client { stream, upgraded: false, rest: Vec::new(), compressor });
    }
}

fn read(client: &mut Client, books: &Books) -> io::Result<()> {
    let mut buffer = [0; 8 << 10];
    match client.stream.read(&mut buffer)? {
        0 => return Err(ErrorKind::UnexpectedEof.into()),
        n => client.rest.extend_from_slice(&buffer[..n]),
    }
    if !client.upgraded && client.rest.ends_with(b"\r\n\r\n") {
        assert!(String::from_utf8_lossy(&client.rest).contains(KEY), "a handshake with the sample key");
        let extension =
            if client.compressor.is_some() { "Sec-WebSocket-Extensions: permessage-deflate\r\n" } else { "" };
        write!(
            client.stream,
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {ACCEPT}\r\n{extension}\r\n"
        )?;
        client.rest.clear();
        client.upgraded = true;
        books.joined(client.stream.peer_addr()?.port(), Counts::default);
    }
    Ok(())
}

/// Takes a message off what a client has sent, and makes of it the frame for all.
fn take_frame(client: &mut Client, frame: &mut Vec<u8>) -> io::Result<bool> {
    if !client.upgraded {
        return Ok(false);
    }
    let Some(wire::Frame { mask, payload, .. }) = wire::front(&client.rest) else { return Ok(false) };
    let mask = mask.ok_or_else(|| io::Error::other("clients mask"))?;
    let end = payload.end;
    wire::mask(&mut client.rest[payload.clone()], mask);
    frame.clear();
    wire::write_text(frame, &client.rest[payload], false);
    client.rest.drain(..end);
    Ok(true)
}

fn write_to_all(clients: &mut [Client], frame: &[u8]) -> io::Result<()> {
    let mut compressed = Vec::new();
    for client in clients {
        let frame = match &mut client.compressor {
            Some(compressor) => {
                compress(compressor, frame, &mut compressed)?;
                &compressed
            }
            None => frame,
        };
        if (&client.stream).write(frame)? < frame.len() {
            return Err(io::Error::other("a client does not read, and the floor has no queue"));
        }
    }
    Ok(())
}

/// Makes of a frame the compressed one.
fn compress(compressor: &mut Compress, frame: &[u8], compressed: &mut Vec<u8>) -> io::Result<()> {
    let payload = wire::front(frame).expect("it was written whole").payload;
    let mut deflated = Vec::with_capacity(payload.len() + 64);
    compressor.compress_vec(&frame[payload], &mut deflated, FlushCompress::Sync).map_err(io::Error::other)?;
    // What every flush ends with is left out.
    assert!(deflated.ends_with(&[0, 0, 0xff, 0xff]), "it fits");
    deflated.truncate(deflated.len() - 4);
    compressed.clear();
    wire::write_header(compressed, wire::COMPRESSED_TEXT, deflated.len(), false);
    compressed.extend_from_slice(&deflated);
    Ok(())
}
