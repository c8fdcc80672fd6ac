//! As much of the protocol (RFC 6455) as a load client and a plain loop of writes need.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::ops::Range;

use fanfare_benches::Random;
use serde::Serialize;

/// The sample key of RFC 6455, section 1.3, and the answer to it: nobody here has to hash.
pub(super) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub(super) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

pub(super) const TEXT: u8 = 0x81;
/// The first reserved bit says that it is compressed.
pub(super) const COMPRESSED_TEXT: u8 = 0xc1;
pub(super) const CLOSE: u8 = 0x88;
const MASKED: u8 = 0x80;
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// The longest header that is read here: 2 bytes, a length of 8, and a mask.
const MAX_HEADER: usize = 14;

/// What both sides have agreed on about compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Agreed {
    /// There is none.
    Plain,
    /// The server compresses each message alone.
    EachAlone,
    /// What the server sends is one stream: a message may refer to those before.
    OneStream,
}

/// Does the client's part of the handshake on a blocking socket, up to the empty line.
pub(super) fn shake_hands(stream: &mut TcpStream, offers_deflate: bool) -> io::Result<Agreed> {
    let host = stream.peer_addr()?;
    let offer = if offers_deflate { "Sec-WebSocket-Extensions: permessage-deflate\r\n" } else { "" };
    write!(
        stream,
        "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{offer}\r\n"
    )?;
    let mut answer = Vec::with_capacity(256);
    while !answer.ends_with(b"\r\n\r\n") {
        // One by one: what follows the empty line belongs to somebody else.
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        answer.push(byte[0]);
    }
    let answer = String::from_utf8_lossy(&answer);
    if !answer.starts_with("HTTP/1.1 101 ") || !answer.contains(ACCEPT) {
        return Err(io::Error::other(format!("the server does not upgrade: {answer}")));
    }
    Ok(match (answer.contains("permessage-deflate"), answer.contains("server_no_context_takeover")) {
        (false, _) => Agreed::Plain,
        (true, true) => Agreed::EachAlone,
        (true, false) => Agreed::OneStream,
    })
}

/// Reads what there is, at least a byte, behind what is in `bytes`.
pub(super) fn read_more(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> io::Result<()> {
    let mut buffer = [0; 64 << 10];
    match stream.read(&mut buffer)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        n => {
            bytes.extend_from_slice(&buffer[..n]);
            Ok(())
        }
    }
}

/// What the first bytes of a buffer are.
pub(super) struct Frame {
    /// The first byte: FIN and the opcode.
    pub(super) kind: u8,
    pub(super) mask: Option<[u8; 4]>,
    pub(super) payload: Range<usize>,
}

/// Finds the frame at the front; `None` until all of it is there.
pub(super) fn front(bytes: &[u8]) -> Option<Frame> {
    let (kind, second) = (*bytes.first()?, *bytes.get(1)?);
    let (mut header, len) = match second & !MASKED {
        126 => (4, u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?).into()),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize),
        len => (2, len.into()),
    };
    let mask = if second & MASKED == 0 {
        None
    } else {
        header += 4;
        Some(bytes.get(header - 4..header)?.try_into().ok()?)
    };
    (bytes.len() >= header + len).then_some(Frame { kind, mask, payload: header..header + len })
}

/// Masks or unmasks.
pub(super) fn mask(bytes: &mut [u8], mask: [u8; 4]) {
    bytes.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
}

/// Writes a text frame behind what is in `bytes`, masked as clients do or not as servers do.
pub(super) fn write_text(bytes: &mut Vec<u8>, payload: &[u8], masked: bool) {
    write_header(bytes, TEXT, payload.len(), masked);
    if masked {
        bytes.extend_from_slice(&MASK);
    }
    let start = bytes.len();
    bytes.extend_from_slice(payload);
    if masked {
        mask(&mut bytes[start..], MASK);
    }
}

/// Writes the header of a frame, up to the mask.
pub(super) fn write_header(bytes: &mut Vec<u8>, kind: u8, len: usize, masked: bool) {
    let flag = if masked { MASKED } else { 0 };
    bytes.push(kind);
    match len {
        0..=125 => bytes.push(flag | len as u8),
        _ => {
            let len = u16::try_from(len).expect("no message here is longer");
            bytes.push(flag | 126);
            bytes.extend_from_slice(&len.to_be_bytes());
        }
    }
}

/// A message as JSON; the fields are serialised in this order.
#[derive(Serialize)]
pub(super) struct Message<'a> {
    seq: &'a str,
    at: &'a str,
    text: &'a str,
}

/// The messages of one run: each has a number and a time, and what else is in it depends on the number alone.
#[derive(Clone)]
pub(super) struct Payload {
    /// All of one length; they take turns.
    variants: Vec<Vec<u8>>,
}

const PROSE: &str = "It was not much of a message, but it had somewhere to be, and it said so to everyone in turn. ";
const SEQ: Range<usize> = 8..24;
const AT: Range<usize> = 32..48;
const REST: usize = 48;
/// Lists of 2 KiB until one comes again: four times what a compressor remembers.
const LISTS: u64 = 64;

impl Payload {
    /// Makes messages of that many bytes that all say the same.
    pub(super) fn new(len: usize) -> Self {
        let bare = Self::render("");
        let text: String =
            PROSE.chars().cycle().take(len.checked_sub(bare.len()).expect("60 bytes at least")).collect();
        Self { variants: vec![Self::render(&text)] }
    }

    /// Makes messages of that many bytes that are lists, as servers send them: each compresses to about a third.
    pub(super) fn orders(len: usize) -> Self {
        let mut random = Random::new(7);
        Self { variants: (0..LISTS).map(|_| orders(len, &mut random)).collect() }
    }

    fn render(text: &str) -> Vec<u8> {
        let zeros = "0000000000000000";
        serde_json::to_vec(&Message { seq: zeros, at: zeros, text }).expect("strings are JSON")
    }

    /// Returns the bytes that a frame of such a message may take.
    pub(super) fn max_frame(&self) -> usize {
        MAX_HEADER + self.variants[0].len() + SAVED_TAIL.len() + OFFSET_DIGITS
    }

    pub(super) fn stamped(&mut self, seq: u64, at: u64) -> &str {
        let variant = seq as usize % self.variants.len();
        let bytes = &mut self.variants[variant];
        write_hex(&mut bytes[SEQ], seq);
        write_hex(&mut bytes[AT], at);
        str::from_utf8(bytes).expect("it is ASCII")
    }

    /// Returns what `stamped` returns before it is serialised; not for lists.
    pub(super) fn message(&mut self, seq: u64, at: u64) -> Message<'_> {
        let text = self.stamped(seq, at);
        Message { seq: &text[SEQ], at: &text[AT], text: &text[REST + 10..text.len() - 2] }
    }

    /// Returns the number and the time of a message that came whole, and `None` for any other bytes.
    pub(super) fn read(&self, received: &[u8]) -> Option<(u64, u64)> {
        let (seq, at) = (read_hex(received.get(SEQ)?)?, read_hex(received.get(AT)?)?);
        let sent = &self.variants[seq as usize % self.variants.len()];
        let rest = received.get(REST..sent.len() - 1)?;
        let is_whole = rest == &sent[REST..sent.len() - 1]
            && match &received[sent.len() - 1..] {
                b"}" => true,
                tail => is_saved(tail),
            };
        is_whole.then_some((seq, at))
    }
}

/// What a message of a group that keeps a history has behind its own fields; an offset follows, and the last brace.
const SAVED_TAIL: &[u8] = br#","group":"all","offset":"#;
/// It is padded with spaces.
const OFFSET_DIGITS: usize = 16;

/// Tells whether this is what a member of such a group hears first.
pub(super) fn is_joined(received: &[u8]) -> bool {
    received.starts_with(br#"{"type":"joined","#)
}

fn is_saved(tail: &[u8]) -> bool {
    let offset = tail.strip_prefix(SAVED_TAIL).and_then(|tail| tail.strip_suffix(b"}"));
    offset
        .is_some_and(|offset| offset.len() == OFFSET_DIGITS && offset.trim_ascii_start().iter().all(u8::is_ascii_digit))
}

/// Writes a message with a list, and prose for what is left of its bytes.
fn orders(len: usize, random: &mut Random) -> Vec<u8> {
    let mut bytes = Payload::render("");
    bytes.truncate(REST);
    bytes.extend_from_slice(br#"","orders":["#);
    loop {
        let order = order(random);
        if bytes.len() + order.len() + 100 > len {
            break;
        }
        bytes.extend_from_slice(order.as_bytes());
    }
    // The last comma.
    bytes.pop();
    bytes.extend_from_slice(br#"],"text":""#);
    bytes.extend(PROSE.bytes().cycle().take(len - bytes.len() - 2));
    bytes.extend_from_slice(br#""}"#);
    bytes
}

/// An element of a list, and a comma.
fn order(random: &mut Random) -> String {
    let user = ["ada", "bob", "grace", "linus", "margaret", "niklaus"][random.below(6)];
    let (side, state) = (["buy", "sell"][random.below(2)], ["open", "partly filled", "filled"][random.below(3)]);
    let (id, symbol) = (100_000 + random.below(900_000), ["ACME", "INIT", "UMBR", "WAYN"][random.below(4)]);
    let (price, quantity) = (random.below(1_000_000) as f64 / 100.0, 1 + random.below(500));
    format!(
        r#"{{"id":{id},"user":"{user}","symbol":"{symbol}","side":"{side}","price":{price},"quantity":{quantity},"state":"{state}"}},"#
    )
}

fn write_hex(digits: &mut [u8], mut number: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdef"[number as usize % 16];
        number /= 16;
    }
}

fn read_hex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |number, digit| Some(number << 4 | u64::from(char::from(*digit).to_digit(16)?)))
}
