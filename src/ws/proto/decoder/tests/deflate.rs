//! What the decoder makes of compressed messages. What it is fed is compressed by flate2 at all levels, with the
//! window fresh for each message, or written out by hand.

use flate2::{Compress, Compression, FlushCompress};

use super::super::inflate::Inflater;
use super::super::message::PLAIN_PIECE;
use super::*;

const RSV1: u8 = 0x40;

/// "Hello" as RFC 7692 compresses it: 7.2.3.1, with two blocks, 7.2.3.3 stored, 7.2.3.4 with a final block.
const HELLO: [&[u8]; 4] = [
    b"\xf2\x48\xcd\xc9\xc9\x07\x00",
    b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00",
    b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00",
    b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00",
];

/// An empty block with fixed codes, as a whole number of bytes: followed by an empty stored one.
const EMPTY_BLOCKS: &[u8] = b"\x02\x00\x00\x00\xff\xff";

/// An empty final block.
const EMPTY_FINAL: &[u8] = b"\x03\x00";

fn deflate(plain: &[u8], level: u32) -> Vec<u8> {
    let mut compressor = Compress::new(Compression::new(level), false);
    let mut out = Vec::with_capacity(plain.len() * 2 + 100);
    compressor.compress_vec(plain, &mut out, FlushCompress::Sync).expect("compresses");
    assert_eq!(compressor.total_in(), plain.len() as u64);
    assert!(out.ends_with(&[0, 0, 0xff, 0xff]) && out.len() < out.capacity());
    out.truncate(out.len() - 4);
    out
}

/// What comes out of `bytes`; the same, whole or byte by byte.
fn inflate_with(limits: Limits, bytes: &[u8]) -> (Vec<DecoderEvent>, Option<ProtocolError>) {
    let whole = feed(&mut Decoder::with_deflate(limits), [bytes]);
    assert_eq!(whole, feed(&mut Decoder::with_deflate(limits), bytes.chunks(1)), "byte by byte");
    whole
}

fn inflate(bytes: &[u8]) -> (Vec<DecoderEvent>, Option<ProtocolError>) {
    inflate_with(Limits::default(), bytes)
}

#[track_caller]
fn assert_bad(payload: &[u8]) {
    assert_eq!(inflate(&frame(FIN | RSV1 | TEXT, payload)), (vec![], Some(ProtocolError::BadDeflate)), "{payload:?}");
}

fn limit(max_message_size: usize) -> Limits {
    Limits { max_message_size, ..Limits::default() }
}

#[test]
fn the_samples_of_the_rfc_are_read() {
    for hello in HELLO {
        assert_eq!(inflate(&frame(FIN | RSV1 | TEXT, hello)), (vec![text("Hello")], None));
        for cut in 0..=hello.len() {
            let (first, rest) = hello.split_at(cut);
            let sent = [frame(RSV1 | TEXT, first), frame(FIN | PING, b"p"), frame(FIN | CONTINUATION, rest)].concat();
            assert_eq!(inflate(&sent), (vec![DecoderEvent::Ping("p".into()), text("Hello")], None));
        }
    }
}

#[test]
fn compressed_and_plain_messages_may_alternate() {
    let hello = frame(FIN | RSV1 | BINARY, HELLO[0]);
    let sent = [hello.clone(), frame(FIN | TEXT, b"plain"), hello].concat();
    let binary = DecoderEvent::Binary("Hello".into());
    assert_eq!(inflate(&sent), (vec![binary.clone(), text("plain"), binary], None));
}

#[test]
fn no_message_refers_to_an_earlier_one() {
    // RFC 7692, 7.2.3.2: the second "Hello", with the window of the first, is a reference to it.
    let sent = [frame(FIN | RSV1 | TEXT, HELLO[0]), frame(FIN | RSV1 | TEXT, b"\xf2\x00\x11\x00\x00")].concat();
    assert_eq!(inflate(&sent), (vec![text("Hello")], Some(ProtocolError::BadDeflate)));
}

#[test]
fn an_empty_message_has_one_byte_or_none() {
    for empty in [&[][..], &[0], EMPTY_FINAL] {
        assert_eq!(inflate(&frame(FIN | RSV1 | TEXT, empty)), (vec![text("")], None));
    }
}

#[test]
fn only_the_first_frame_of_a_message_is_marked() {
    let reserved = Some(ProtocolError::ReservedBits);
    for opcode in [PING, PONG, CLOSE] {
        assert_eq!(inflate(&frame(FIN | RSV1 | opcode, b"")), (vec![], reserved));
    }
    let marked_twice = [frame(RSV1 | TEXT, b""), frame(FIN | RSV1 | CONTINUATION, HELLO[0])].concat();
    assert_eq!(inflate(&marked_twice), (vec![], reserved));
    let marked_late = [frame(TEXT, b""), frame(FIN | RSV1 | CONTINUATION, HELLO[0])].concat();
    assert_eq!(inflate(&marked_late), (vec![], reserved));
    for bit in [0x20, 0x10] {
        assert_eq!(inflate(&frame(FIN | RSV1 | bit | TEXT, HELLO[0])), (vec![], reserved));
    }
}

#[test]
fn what_is_not_deflate_is_refused() {
    // A reserved type of block, a length that its check does not match, a reference to before the beginning.
    for payload in [&b"\x07"[..], b"\x00\x05\x00\xfb\xffHello\x00", b"\xf2\x00\x11\x00\x00"] {
        assert_bad(payload);
    }
    assert_eq!(ProtocolError::BadDeflate.close_code(), CloseCode::INVALID);
}

#[test]
fn a_stream_that_stops_in_the_middle_is_refused() {
    for hello in &HELLO[..3] {
        for len in 1..hello.len() {
            let (events, error) = inflate(&frame(FIN | RSV1 | TEXT, &hello[..len]));
            // The first byte of a flush ends a message: here an empty one, there "He".
            let is_whole = [&b"\x00"[..], b"\xf2\x48\x05\x00"].contains(&&hello[..len]);
            assert_eq!((events.is_empty(), error.is_some()), (!is_whole, !is_whole), "{len} of {hello:?}");
        }
    }
}

#[test]
fn the_limit_counts_inflated_bytes_exactly() {
    for level in [0, 1, 6, 9] {
        for size in [10, 1000, PLAIN_PIECE, 100_000] {
            let sent = |more| frame(FIN | RSV1 | TEXT, &deflate(&vec![b'x'; size + more], level));
            let (events, error) = inflate_with(limit(size), &sent(0));
            assert_eq!((events, error), (vec![DecoderEvent::Text(vec![b'x'; size].into())], None));
            for more in [1, 2, size] {
                assert_eq!(inflate_with(limit(size), &sent(more)), (vec![], Some(ProtocolError::MessageTooBig)));
            }
        }
    }
}

#[test]
fn the_limit_of_frames_counts_what_is_sent() {
    let limits = Limits { max_frame_size: HELLO[0].len(), ..limit(5) };
    assert_eq!(inflate_with(limits, &frame(FIN | RSV1 | TEXT, HELLO[0])), (vec![text("Hello")], None));
    let refused = inflate_with(limits, &frame(FIN | RSV1 | TEXT, HELLO[3]));
    assert_eq!(refused, (vec![], Some(ProtocolError::FrameTooBig)));
}

#[test]
fn a_bomb_is_refused_within_the_bound() {
    let bomb = frame(FIN | RSV1 | BINARY, &deflate(&vec![0; 16 << 20], 9));
    assert!(bomb.len() < 20_000);
    let mut decoder = Decoder::with_deflate(Limits::default());
    let used = allocation_counter::measure(|| {
        assert_eq!(decoder.decode(&mut &bomb[..]), Err(ProtocolError::MessageTooBig));
    });
    // The old and the new place of a payload that grows.
    assert!(used.bytes_max <= (2 << 20) + Inflater::SIZE as u64, "{used:?}");
    assert_eq!(decoder.allocated(), 0);
}

#[test]
fn memory_follows_what_was_inflated() {
    let payload = deflate(&vec![b'x'; 1 << 20], 1);
    let limits = Limits { max_frame_size: usize::MAX, max_message_size: usize::MAX };
    let mut decoder = Decoder::with_deflate(limits);
    let header = header_only(RSV1 | BINARY, (1 << 63) - 1);
    assert_eq!(decoder.decode(&mut &header[..]), Ok(None));
    assert_eq!(decoder.allocated(), Inflater::SIZE);

    let sent = frame(BINARY, &payload);
    for byte in sent[sent.len() - payload.len()..].chunks(1) {
        assert_eq!(decoder.decode(&mut &byte[..]), Ok(None));
        let inflated = decoder.message.as_ref().map_or(0, |message| message.payload.len());
        assert!(decoder.allocated() <= 2 * inflated + Inflater::SIZE);
    }
}

#[test]
fn a_message_that_arrives_whole_fits_its_memory() {
    let sent = frame(FIN | RSV1 | TEXT, &deflate(&[b'x'; 2000], 1));
    let mut decoder = Decoder::with_deflate(Limits::default());
    let mut event = None;
    let used = allocation_counter::measure(|| event = decoder.decode(&mut &sent[..]).expect("valid"));
    assert!(event.is_some());
    assert_eq!((used.bytes_current, used.count_current), (2000, 1));
    assert_eq!(decoder.allocated(), 0);
}

#[test]
fn endless_empty_blocks_end() {
    for blocks in [EMPTY_BLOCKS, EMPTY_FINAL] {
        let limits = limit(10_000);
        let mut decoder = Decoder::with_deflate(limits);
        assert_eq!(decoder.decode(&mut &frame(RSV1 | TEXT, b"")[..]), Ok(None));
        let fragment = frame(CONTINUATION, &blocks.repeat(100));
        let ended = (1..1_000).find(|_| decoder.decode(&mut &fragment[..]).is_err());
        let most = (2 * limits.max_message_size + 1024) / (blocks.len() * 100);
        assert_eq!(ended, Some(most + 1));
        assert_eq!(decoder.allocated(), 0);
    }
}

#[test]
fn empty_fragments_count_for_compressed_messages_too() {
    let mut decoder = Decoder::with_deflate(Limits::default());
    assert_eq!(decoder.decode(&mut &frame(RSV1 | TEXT, b"")[..]), Ok(None));
    let empty = frame(CONTINUATION, b"");
    assert_eq!((2..1000).find(|_| decoder.decode(&mut &empty[..]).is_err()), Some(129));
}

#[test]
fn inflated_text_is_checked_as_it_grows() {
    let sent = frame(RSV1 | TEXT, &deflate(b"fine until \xff and on it goes", 0));
    let refused = feed(&mut Decoder::with_deflate(Limits::default()), [&sent[..sent.len() - 10]]);
    assert_eq!(refused, (vec![], Some(ProtocolError::TextNotUtf8)));

    let half_a_crab = frame(FIN | RSV1 | TEXT, &deflate(&"🦀".as_bytes()[..2], 6));
    assert_eq!(inflate(&half_a_crab), (vec![], Some(ProtocolError::TextNotUtf8)));
}

#[test]
fn the_first_thing_wrong_is_what_is_reported() {
    // Not UTF-8, then over the limit, then not deflate.
    let stored = |plain: &[u8]| deflate(plain, 0);
    let sent = [&stored(b"ab\xffcdef")[..], b"\x00\x00\xff\xff", b"\x07"].concat();
    let refused = inflate_with(limit(4), &frame(FIN | RSV1 | TEXT, &sent));
    assert_eq!(refused, (vec![], Some(ProtocolError::TextNotUtf8)));

    let sent = [&stored(b"abcdef")[..], b"\x00\x00\xff\xff", b"\x07"].concat();
    let refused = inflate_with(limit(4), &frame(FIN | RSV1 | TEXT, &sent));
    assert_eq!(refused, (vec![], Some(ProtocolError::MessageTooBig)));
    let refused = inflate_with(limit(6), &frame(FIN | RSV1 | TEXT, &sent));
    assert_eq!(refused, (vec![], Some(ProtocolError::BadDeflate)));
}

#[test]
fn our_own_compressed_frames_are_read() {
    let message = "over and over and ".repeat(1000);
    let sent = crate::frame::Frame::text(&message);
    let payload = &sent.deflated().expect("repeats shrink")[2..];
    // The header of a frame of this length has two bytes more.
    assert_eq!(inflate(&frame(FIN | RSV1 | TEXT, &payload[2..])), (vec![text(&message)], None));
}

proptest! {
    #[test]
    fn compressed_messages_come_out_as_they_went_in(
        messages in prop::collection::vec((".{0,300}", 0..10_u32, any::<prop::sample::Index>()), 1..5),
        cuts in prop::collection::vec(1..60_usize, 1..10),
    ) {
        let mut sent = Vec::new();
        for (message, level, split) in &messages {
            let payload = deflate(message.as_bytes(), *level);
            let (first, rest) = payload.split_at(split.index(payload.len() + 1));
            sent.extend(frame(RSV1 | TEXT, first));
            sent.extend(frame(FIN | CONTINUATION, rest));
        }
        let expected: Vec<DecoderEvent> = messages.iter().map(|(message, ..)| text(message)).collect();
        let decoded = feed(&mut Decoder::with_deflate(Limits::default()), cut(&sent, &cuts));
        prop_assert_eq!(decoded, (expected, None));
    }

    #[test]
    fn what_is_inflated_does_not_depend_on_the_split(
        mut payload in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..60),
            (prop::collection::vec(any::<u8>(), 0..500), 0..10_u32).prop_map(|(plain, level)| deflate(&plain, level)),
            (".{0,300}", 0..10_u32).prop_map(|(plain, level)| deflate(plain.as_bytes(), level)),
        ],
        damage in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
        opcode in prop::sample::select(vec![TEXT, BINARY]),
        cuts in prop::collection::vec(1..40_usize, 1..10),
    ) {
        if let (Some((at, byte)), false) = (damage, payload.is_empty()) {
            *at.get_mut(&mut payload) = byte;
        }
        let sent = frame(FIN | RSV1 | opcode, &payload);
        let whole = inflate_with(limit(300), &sent);
        prop_assert_eq!(whole, feed(&mut Decoder::with_deflate(limit(300)), cut(&sent, &cuts)));
    }
}
