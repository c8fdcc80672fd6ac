//! The reading half of the protocol, without any socket: bytes in, events out (RFC 6455, section 5).
//!
//! What a client declares costs nothing: memory grows with the bytes that have arrived, up to the
//! message limit, and a header that breaks a rule or the limit is refused before its payload comes.
//! After an error or a close the decoder ignores what follows. A plain value, no synchronisation.
//!
//! It is public so that a fuzzer, or a server of one's own, can drive it.

use std::fmt;

use bytes::{Buf, Bytes, BytesMut};

/// Decodes the frames of one client.
///
/// ```
/// use fanfare::ws::decoder::{Decoder, Event};
///
/// let mut decoder = Decoder::new(1024);
/// decoder.feed(&[0x81, 0x82, 0, 0, 0, 0, b'h']); // text, masked with zeros, its last byte is late
/// assert_eq!(decoder.next_event(), Ok(None));
/// decoder.feed(b"i");
/// assert_eq!(decoder.next_event(), Ok(Some(Event::Text("hi".into()))));
/// ```
#[derive(Debug)]
pub struct Decoder {
    /// What has arrived and is not decoded.
    arrived: BytesMut,
    max_message_size: usize,
    /// The message whose last fragment has not come yet.
    begun: Option<Begun>,
    /// A close or an error came: nothing more will.
    ended: bool,
}

#[derive(Debug)]
struct Begun {
    is_text: bool,
    payload: BytesMut,
    /// Bytes of a text that are known to be whole characters.
    checked: usize,
}

/// What a client sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A text message, all fragments of it.
    Text(String),
    /// A binary message, all fragments of it.
    Binary(Bytes),
    /// A ping; a pong with the same payload is due.
    Ping(Bytes),
    /// A pong.
    Pong(Bytes),
    /// The client closes; nothing follows.
    Close {
        /// The code, if the client gave one.
        code: Option<u16>,
        /// The reason, perhaps empty.
        reason: String,
    },
}

/// How a client broke the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProtocolError {
    /// A frame is not masked (section 5.1).
    Unmasked,
    /// A reserved bit is set without an extension that gives it a meaning (section 5.2).
    ReservedBit,
    /// The opcode is a reserved one (section 5.2).
    ReservedOpcode,
    /// The length is not in its shortest form, or has the top bit set (section 5.2).
    BadLength,
    /// A control frame is longer than 125 bytes, or fragmented (section 5.5).
    BadControl,
    /// A continuation without a message, or a new message within one (section 5.4).
    BadFragment,
    /// A close frame of one byte, or with a code that must not be sent (section 7.4).
    BadClose,
    /// A text, or the reason of a close, is not UTF-8 (section 8.1).
    NotUtf8,
    /// A message is larger than the server takes.
    TooLarge,
}

impl ProtocolError {
    /// Returns the code to close the connection with (section 7.4.1).
    #[must_use]
    pub fn close_code(self) -> u16 {
        match self {
            Self::NotUtf8 => 1007,
            Self::TooLarge => 1009,
            _ => 1002,
        }
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unmasked => "frame is not masked",
            Self::ReservedBit => "reserved bit is set",
            Self::ReservedOpcode => "opcode is reserved",
            Self::BadLength => "length is not in its shortest form",
            Self::BadControl => "control frame is fragmented or longer than 125 bytes",
            Self::BadFragment => "fragments are out of order",
            Self::BadClose => "close frame has a bad code",
            Self::NotUtf8 => "text is not UTF-8",
            Self::TooLarge => "message is too large",
        })
    }
}

impl std::error::Error for ProtocolError {}

/// A frame's header, checked.
struct Header {
    fin: bool,
    opcode: u8,
    mask: [u8; 4],
    header_len: usize,
    payload_len: usize,
}

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

impl Decoder {
    /// Makes a decoder that takes messages of up to that many bytes, all fragments together.
    #[must_use]
    pub fn new(max_message_size: usize) -> Self {
        Self { arrived: BytesMut::new(), max_message_size, begun: None, ended: false }
    }

    /// Takes bytes as they arrive.
    pub fn feed(&mut self, bytes: &[u8]) {
        if !self.ended {
            self.arrived.extend_from_slice(bytes);
        }
    }

    /// Returns the next event, or `None` when it has not arrived whole.
    ///
    /// # Errors
    ///
    /// When the client broke the protocol. Nothing more is decoded then.
    pub fn next_event(&mut self) -> Result<Option<Event>, ProtocolError> {
        while !self.ended {
            let result = match self.header() {
                Ok(Some(header)) if self.arrived.len() >= header.header_len + header.payload_len => self.frame(&header),
                Ok(_) => {
                    // Nothing is kept for an idle client.
                    if self.arrived.is_empty() {
                        self.arrived = BytesMut::new();
                    }
                    return Ok(None);
                }
                Err(error) => Err(error),
            };
            match result {
                Ok(None) => {}
                Ok(Some(event)) => {
                    if matches!(event, Event::Close { .. }) {
                        self.end();
                    }
                    return Ok(Some(event));
                }
                Err(error) => {
                    self.end();
                    return Err(error);
                }
            }
        }
        Ok(None)
    }

    fn end(&mut self) {
        *self = Self { ended: true, ..Self::new(self.max_message_size) };
    }

    /// Returns the next frame's header when it is there, having checked all that it says.
    fn header(&self) -> Result<Option<Header>, ProtocolError> {
        let bytes = &self.arrived[..];
        let &[first, second, ..] = bytes else { return Ok(None) };
        let (fin, opcode) = (first & 0x80 != 0, first & 0x0f);
        let is_control = opcode >= CLOSE;
        if first & 0x70 != 0 {
            return Err(ProtocolError::ReservedBit);
        }
        if !matches!(opcode, CONTINUATION | TEXT | BINARY | CLOSE | PING | PONG) {
            return Err(ProtocolError::ReservedOpcode);
        }
        if second & 0x80 == 0 {
            return Err(ProtocolError::Unmasked);
        }
        let short = second & 0x7f;
        if is_control && (!fin || short > 125) {
            return Err(ProtocolError::BadControl);
        }
        if !is_control && (opcode == CONTINUATION) != self.begun.is_some() {
            return Err(ProtocolError::BadFragment);
        }
        let (declared, length_end) = match short {
            126 => {
                let Some(length) = bytes.get(2..4) else { return Ok(None) };
                (length.iter().fold(0, |n, byte| n << 8 | u64::from(*byte)), 4)
            }
            127 => {
                let Some(length) = bytes.get(2..10) else { return Ok(None) };
                (length.iter().fold(0, |n, byte| n << 8 | u64::from(*byte)), 10)
            }
            short => (u64::from(short), 2),
        };
        let shortest = match length_end {
            4 => declared > 125,
            10 => declared > 0xffff && declared >> 63 == 0,
            _ => true,
        };
        if !shortest {
            return Err(ProtocolError::BadLength);
        }
        let before = if is_control { 0 } else { self.begun.as_ref().map_or(0, |begun| begun.payload.len()) };
        let room = if is_control { 125 } else { self.max_message_size - before };
        let Some(payload_len) = usize::try_from(declared).ok().filter(|len| *len <= room) else {
            return Err(ProtocolError::TooLarge);
        };
        let Some(&mask) = bytes.get(length_end..).and_then(|rest| rest.first_chunk()) else { return Ok(None) };
        Ok(Some(Header { fin, opcode, mask, header_len: length_end + 4, payload_len }))
    }

    /// Takes a whole frame off; a fragment that is not the last is no event.
    fn frame(&mut self, header: &Header) -> Result<Option<Event>, ProtocolError> {
        self.arrived.advance(header.header_len);
        let mut payload = self.arrived.split_to(header.payload_len);
        unmask(&mut payload, header.mask);
        match header.opcode {
            PING => Ok(Some(Event::Ping(payload.freeze()))),
            PONG => Ok(Some(Event::Pong(payload.freeze()))),
            CLOSE => close(&payload).map(Some),
            opcode => self.data(opcode, header.fin, payload),
        }
    }

    fn data(&mut self, opcode: u8, fin: bool, payload: BytesMut) -> Result<Option<Event>, ProtocolError> {
        let mut begun = match self.begun.take() {
            Some(mut begun) => {
                begun.payload.unsplit(payload);
                begun
            }
            None => Begun { is_text: opcode == TEXT, payload, checked: 0 },
        };
        if begun.is_text {
            begun.check(fin)?;
        }
        if !fin {
            self.begun = Some(begun);
            return Ok(None);
        }
        Ok(Some(if begun.is_text {
            // Checked just now, piece by piece; the conversion only looks once more.
            Event::Text(String::from_utf8(begun.payload.into()).map_err(|_| ProtocolError::NotUtf8)?)
        } else {
            Event::Binary(begun.payload.freeze())
        }))
    }
}

impl Begun {
    /// Checks what has come of a text; a character may be cut at the end, unless that is the text's.
    fn check(&mut self, is_whole: bool) -> Result<(), ProtocolError> {
        match simdutf8::compat::from_utf8(&self.payload[self.checked..]) {
            Ok(_) => self.checked = self.payload.len(),
            Err(error) if error.error_len().is_none() && !is_whole => self.checked += error.valid_up_to(),
            Err(_) => return Err(ProtocolError::NotUtf8),
        }
        Ok(())
    }
}

fn close(payload: &[u8]) -> Result<Event, ProtocolError> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() {
            Ok(Event::Close { code: None, reason: String::new() })
        } else {
            Err(ProtocolError::BadClose)
        };
    };
    let code = u16::from_be_bytes(*code);
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(ProtocolError::BadClose);
    }
    let reason = simdutf8::basic::from_utf8(reason).map_err(|_| ProtocolError::NotUtf8)?;
    Ok(Event::Close { code: Some(code), reason: reason.to_owned() })
}

/// Takes the mask off (section 5.3), eight bytes at a time.
fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    // A word is two masks long, so the rest begins where the mask does.
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![first];
        match payload.len() {
            len @ 0..=125 => bytes.push(0x80 | len as u8),
            len @ 126..=0xffff => {
                bytes.push(0x80 | 126);
                bytes.extend_from_slice(&(len as u16).to_be_bytes());
            }
            len => {
                bytes.push(0x80 | 127);
                bytes.extend_from_slice(&(len as u64).to_be_bytes());
            }
        }
        bytes.extend_from_slice(&MASK);
        bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        bytes
    }

    fn decode(pieces: &[&[u8]]) -> (Vec<Event>, Option<ProtocolError>) {
        let mut decoder = Decoder::new(1 << 20);
        let mut events = Vec::new();
        for piece in pieces {
            decoder.feed(piece);
            loop {
                match decoder.next_event() {
                    Ok(Some(event)) => events.push(event),
                    Ok(None) => break,
                    Err(error) => return (events, Some(error)),
                }
            }
        }
        (events, None)
    }

    fn error_of(bytes: &[u8]) -> Option<ProtocolError> {
        decode(&[bytes]).1
    }

    #[test]
    fn messages_come_whole_whatever_their_fragments_and_what_lies_between() {
        let bytes = [
            frame(0x01, "gr\u{fc}".as_bytes()).as_slice(),
            &frame(0x89, b"ping"),
            &frame(0x00, &[]),
            &frame(0x80, b"n"),
            &frame(0x82, &[0xff; 70_000]),
        ]
        .concat();
        let expected = vec![
            Event::Ping(Bytes::from_static(b"ping")),
            Event::Text("gr\u{fc}n".into()),
            Event::Binary(vec![0xff; 70_000].into()),
        ];
        assert_eq!(decode(&[&bytes]), (expected.clone(), None));
        let single: Vec<_> = bytes.chunks(1).collect();
        assert_eq!(decode(&single), (expected, None));
    }

    #[test]
    fn a_character_may_be_cut_by_a_fragment_but_not_by_the_end() {
        let cut = [frame(0x01, &[0xe2, 0x82]), frame(0x80, &[0xac])].concat();
        assert_eq!(decode(&[&cut]).0, [Event::Text("€".into())]);
        assert_eq!(error_of(&frame(0x81, &[0xe2, 0x82])), Some(ProtocolError::NotUtf8));
    }

    #[test]
    fn a_bad_character_is_refused_at_its_fragment() {
        let bytes = frame(0x01, &[b'a', 0xff]);
        assert_eq!(error_of(&bytes), Some(ProtocolError::NotUtf8));
        let across = [frame(0x01, &[0xe2]), frame(0x00, &[0x28])].concat();
        assert_eq!(error_of(&across), Some(ProtocolError::NotUtf8));
    }

    #[test]
    fn every_broken_rule_is_refused() {
        let unmasked = [0x81, 0x01, b'a'];
        let long_control = frame(0x89, &[0; 126]);
        let mut top_bit = vec![0x82, 0xff, 0x80];
        top_bit.extend([0; 7]);
        let cases: [(&[u8], ProtocolError); 16] = [
            (&unmasked, ProtocolError::Unmasked),
            (&frame(0xc1, b""), ProtocolError::ReservedBit),
            (&frame(0x83, b""), ProtocolError::ReservedOpcode),
            (&frame(0x8b, b""), ProtocolError::ReservedOpcode),
            (&long_control, ProtocolError::BadControl),
            (&frame(0x09, b""), ProtocolError::BadControl),
            (&frame(0x80, b"x"), ProtocolError::BadFragment),
            (&[frame(0x01, b"a"), frame(0x81, b"b")].concat(), ProtocolError::BadFragment),
            (&[0x82, 0xfe, 0, 125], ProtocolError::BadLength),
            (&[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff], ProtocolError::BadLength),
            (&top_bit, ProtocolError::BadLength),
            (&frame(0x88, &[3]), ProtocolError::BadClose),
            (&frame(0x88, &1005u16.to_be_bytes()), ProtocolError::BadClose),
            (&frame(0x88, &999u16.to_be_bytes()), ProtocolError::BadClose),
            (&frame(0x88, &[0x03, 0xe8, 0xff]), ProtocolError::NotUtf8),
            (&[0x82, 0xff, 0, 0, 0, 0, 0x7f, 0, 0, 0], ProtocolError::TooLarge),
        ];
        for (bytes, error) in cases {
            assert_eq!(error_of(bytes), Some(error), "{bytes:?}");
        }
    }

    #[test]
    fn a_declared_length_allocates_nothing() {
        let mut decoder = Decoder::new(usize::MAX);
        decoder.feed(&[0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
        assert_eq!(decoder.next_event(), Ok(None));
        assert!(decoder.arrived.capacity() < 1024);
    }

    #[test]
    fn the_limit_counts_all_fragments_and_is_exact() {
        let fragments = |last: usize| [frame(0x02, &[0; 600]), frame(0x80, &vec![0; last])].concat();
        for (last, error) in [(424, None), (425, Some(ProtocolError::TooLarge))] {
            let mut decoder = Decoder::new(1024);
            decoder.feed(&fragments(last));
            assert_eq!(decoder.next_event().err(), error);
        }
    }

    #[test]
    fn a_million_empty_fragments_cost_no_memory() {
        let mut decoder = Decoder::new(1024);
        decoder.feed(&frame(0x02, b""));
        let empty = frame(0x00, b"").repeat(1000);
        for _ in 0..1000 {
            decoder.feed(&empty);
            assert_eq!(decoder.next_event(), Ok(None));
            assert_eq!(decoder.begun.as_ref().map(|begun| begun.payload.len()), Some(0));
        }
        assert!(decoder.arrived.capacity() <= 4 * empty.len());
    }

    #[test]
    fn nothing_is_decoded_after_a_close() {
        let bytes = [frame(0x88, &[]), frame(0x81, b"late")].concat();
        assert_eq!(decode(&[&bytes]).0, [Event::Close { code: None, reason: String::new() }]);
    }

    proptest! {
        #[test]
        fn how_bytes_are_cut_does_not_matter(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..5),
            cut in 1usize..50,
        ) {
            let mut all: Vec<u8> = payloads.iter().flat_map(|payload| frame(0x82, payload)).collect();
            all.extend(bytes);
            let pieces: Vec<_> = all.chunks(cut).collect();
            prop_assert_eq!(decode(&[&all]), decode(&pieces));
        }
    }
}
