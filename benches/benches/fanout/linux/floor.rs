//! The floor: a loop over epoll, and for each message a loop of write(2) of the same bytes over all sockets.
//!
//! No queue, no groups, no limits: a client that does not read ends it, and so does one that leaves.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};

use fanfare_benches::served::{Books, answer_questions};
use rustix::buffer::spare_capacity;
use rustix::event::epoll;

use super::wire::{self, ACCEPT, KEY};

const LISTENER: u64 = u64::MAX;

struct Client {
    stream: TcpStream,
    upgraded: bool,
    /// Read, but not whole.
    rest: Vec<u8>,
}

pub(super) fn serve() -> io::Result<()> {
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
                LISTENER => accept(&listener, &mut clients, |stream, number| {
                    epoll::add(&epoll, stream, epoll::EventData::new_u64(number), epoll::EventFlags::IN)
                })?,
                number => {
                    read(&mut clients[number as usize], &books)?;
                    while take_frame(&mut clients[number as usize], &mut frame)? {
                        books.sent(true);
                        write_to_all(&clients, &frame)?;
                    }
                }
            }
        }
    }
}

fn accept(
    listener: &TcpListener,
    clients: &mut Vec<Client>,
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
        clients.push(Client { stream, upgraded: false, rest: Vec::new() });
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
        write!(
            client.stream,
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
        )?;
        client.rest.clear();
        client.upgraded = true;
        books.joined(client.stream.peer_addr()?.port(), || 0);
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

fn write_to_all(clients: &[Client], frame: &[u8]) -> io::Result<()> {
    for client in clients {
        if (&client.stream).write(frame)? < frame.len() {
            return Err(io::Error::other("a client does not read, and the floor has no queue"));
        }
    }
    Ok(())
}
