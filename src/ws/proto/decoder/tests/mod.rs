//! What the decoder accepts, what it refuses and with which code, and that neither depends on how
//! the bytes were split.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::frame::close_code::CloseCode;

#[cfg(feature = "deflate")]
mod deflate;

const FIN: u8 = 0x80;
const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

const MASK: [u8; 4] = [0xa1, 0x0b, 0xfe, 0x37];

/// A masked frame with `first` as its first byte and its length in the shortest form.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        len @ 0..=125 => bytes.push(0x80 | len as u8),
        len @ 126..=0xffff => {
            bytes.push(0x80 | 126);
            bytes.extend((len as u16).to_be_bytes());
        }
        len => {
            bytes.push(0x80 | 127);
            bytes.extend((len as u64).to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
}

/// A header that declares `len` bytes, and nothing after it.
fn header_only(first: u8, len: u64) -> Vec<u8> {
    let mut bytes = vec![first, 0x80 | 127];
    bytes.extend(len.to_be_bytes());
    bytes.extend(MASK);
    bytes
}

fn close_payload(code: u16, reason: &[u8]) -> Vec<u8> {
    [&code.to_be_bytes(), reason].concat()
}

/// Everything that comes out of `pieces`, fed one after the other.
fn decode_pieces<'a>(
    limits: Limits,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<DecoderEvent>, Option<ProtocolError>) {
    feed(&mut Decoder::new(limits), pieces)
}

fn feed<'a>(
    decoder: &mut Decoder,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<DecoderEvent>, Option<ProtocolError>) {
    let mut events = Vec::new();
    for mut piece in pieces {
        loop {
            match decoder.decode(&mut piece) {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(error) => return (events, Some(error)),
            }
        }
        assert!(piece.is_empty());
    }
    (events, None)
}

fn decode_with(limits: Limits, bytes: &[u8]) -> (Vec<DecoderEvent>, Option<ProtocolError>) {
    let whole = decode_pieces(limits, [bytes]);
    assert_eq!(whole, decode_pieces(limits, bytes.chunks(1)), "byte by byte");
    whole
}

fn decode(bytes: &[u8]) -> (Vec<DecoderEvent>, Option<ProtocolError>) {
    decode_with(Limits::default(), bytes)
}

#[track_caller]
fn assert_events(bytes: &[u8], expected: &[DecoderEvent]) {
    assert_eq!(decode(bytes), (expected.to_vec(), None));
}

#[track_caller]
fn assert_refused(bytes: &[u8], expected: ProtocolError, code: u16) {
    assert_eq!(decode(bytes), (vec![], Some(expected)));
    assert_eq!(expected.close_code().get(), code);
}

fn text(text: &str) -> DecoderEvent {
    DecoderEvent::Text(Bytes::copy_from_slice(text.as_bytes()))
}

// Messages

#[test]
fn messages_and_control_frames_come_out_as_sent() {
    let sent = [
        frame(FIN | TEXT, "grüß dich".as_bytes()),
        frame(FIN | BINARY, &[0xff, 0x00]),
        frame(FIN | TEXT, b""),
        frame(FIN | PING, b"p"),
        frame(FIN | PONG, &[b'q'; 125]),
        frame(FIN | CLOSE, &close_payload(1001, b"bye")),
    ];
    assert_events(
        &sent.concat(),
        &[
            text("grüß dich"),
            DecoderEvent::Binary(Bytes::from_static(&[0xff, 0x00])),
            text(""),
            DecoderEvent::Ping("p".into()),
            DecoderEvent::Pong(vec![b'q'; 125].into()),
            DecoderEvent::Close { code: Some(CloseCode::GOING_AWAY), reason: "bye".into() },
        ],
    );
}

#[test]
fn control_frames_may_interrupt_a_fragmented_message() {
    let sent = [
        frame(TEXT, b"one "),
        frame(FIN | PING, b"a"),
        frame(CONTINUATION, b"two "),
        frame(FIN | PONG, b"b"),
        frame(FIN | CONTINUATION, b"three"),
        frame(FIN | BINARY, b"next"),
    ];
    assert_events(
        &sent.concat(),
        &[
            DecoderEvent::Ping("a".into()),
            DecoderEvent::Pong("b".into()),
            text("one two three"),
            DecoderEvent::Binary("next".into()),
        ],
    );
}

#[test]
fn each_form_of_length_is_read() {
    for len in [0, 1, 7, 8, 9, 125, 126, 127, 0xffff, 0x1_0000, 0x1_0001] {
        let payload: Vec<u8> = (0..len).map(|i| i as u8).collect();
        assert_events(&frame(FIN | BINARY, &payload), &[DecoderEvent::Binary(payload.into())]);
    }
}

// Frames that break a rule

#[test]
fn a_reserved_bit_is_refused() {
    for bit in [0x40, 0x20, 0x10] {
        assert_refused(&frame(FIN | bit | TEXT, b"x"), ProtocolError::ReservedBits, 1002);
        assert_refused(&frame(FIN | bit | PING, b"x"), ProtocolError::ReservedBits, 1002);
    }
}

#[test]
fn a_reserved_opcode_is_refused() {
    for opcode in [3, 4, 5, 6, 7, 0xb, 0xc, 0xd, 0xe, 0xf] {
        let error = ProtocolError::ReservedOpcode(opcode);
        assert_refused(&frame(FIN | opcode, b"x"), error, 1002);
    }
}

#[test]
fn an_unmasked_frame_is_refused() {
    assert_refused(b"\x81\x05hello", ProtocolError::Unmasked, 1002);
    assert_refused(b"\x88\x00", ProtocolError::Unmasked, 1002);
}

#[test]
fn a_control_frame_of_126_bytes_is_refused() {
    for opcode in [CLOSE, PING, PONG] {
        let sent = frame(FIN | opcode, &[b'x'; 126]);
        assert_refused(&sent, ProtocolError::ControlTooLong, 1002);
    }
}

#[test]
fn a_fragmented_control_frame_is_refused() {
    for opcode in [CLOSE, PING, PONG] {
        assert_refused(&frame(opcode, b""), ProtocolError::ControlFragmented, 1002);
    }
}

#[test]
fn a_length_not_in_its_shortest_form_is_refused() {
    let short_as_16 = [&[FIN | TEXT, 0x80 | 126, 0, 125][..], &MASK].concat();
    assert_refused(&short_as_16, ProtocolError::LengthNotMinimal, 1002);
    let short_as_64 = header_only(FIN | TEXT, 0xffff);
    assert_refused(&short_as_64, ProtocolError::LengthNotMinimal, 1002);
}

#[test]
fn a_length_of_2_to_the_63_is_refused() {
    assert_refused(&header_only(FIN | BINARY, 1 << 63), ProtocolError::LengthTooLarge, 1002);
    assert_refused(&header_only(FIN | BINARY, u64::MAX), ProtocolError::LengthTooLarge, 1002);
    assert_refused(&header_only(FIN | BINARY, (1 << 63) - 1), ProtocolError::MessageTooBig, 1009);
}

#[test]
fn a_continuation_needs_a_message() {
    assert_refused(&frame(CONTINUATION, b"x"), ProtocolError::NothingToContinue, 1002);
    let after_a_whole_one = [frame(FIN | TEXT, b"x"), frame(FIN | CONTINUATION, b"y")].concat();
    let (events, error) = decode(&after_a_whole_one);
    assert_eq!((events, error), (vec![text("x")], Some(ProtocolError::NothingToContinue)));
}

#[test]
fn a_message_may_not_begin_inside_another() {
    for opcode in [TEXT, BINARY] {
        let sent = [frame(TEXT, b"x"), frame(FIN | opcode, b"y")].concat();
        assert_refused(&sent, ProtocolError::MessageUnfinished, 1002);
    }
}

// Close

#[test]
fn close_codes_that_may_be_sent_pass_and_others_do_not() {
    for code in 0..=u16::MAX {
        let sent = frame(FIN | CLOSE, &close_payload(code, b""));
        let (events, error) = decode_pieces(Limits::default(), [&sent[..]]);
        match code {
            1000..=1003 | 1007..=1014 | 3000..=4999 => {
                assert_eq!(events, [DecoderEvent::Close { code: CloseCode::try_new(code), reason: String::new() }]);
            }
            _ => {
                assert_eq!((events, error), (vec![], Some(ProtocolError::CloseCode(code))));
            }
        }
    }
    assert_eq!(ProtocolError::CloseCode(1005).close_code(), CloseCode::PROTOCOL_ERROR);
}

#[test]
fn a_close_may_be_empty_but_not_one_byte() {
    assert_events(&frame(FIN | CLOSE, b""), &[DecoderEvent::Close { code: None, reason: String::new() }]);
    assert_refused(&frame(FIN | CLOSE, b"\x03"), ProtocolError::CloseTooShort, 1002);
}

#[test]
fn a_reason_that_is_not_utf8_is_refused() {
    let sent = frame(FIN | CLOSE, &close_payload(1000, b"caf\xc3"));
    assert_refused(&sent, ProtocolError::ReasonNotUtf8, 1007);
}

#[test]
fn data_after_close_is_ignored() {
    let sent =
        [frame(TEXT, b"never finished"), frame(FIN | CLOSE, b""), frame(FIN | TEXT, b"late"), b"\xff\xff\xff".to_vec()];
    assert_events(&sent.concat(), &[DecoderEvent::Close { code: None, reason: String::new() }]);
}

#[test]
fn an_error_is_final() {
    let mut decoder = Decoder::new(Limits::default());
    let sent = [frame(TEXT, b"begun"), b"\x81\x00".to_vec()].concat();
    assert_eq!(decoder.decode(&mut &sent[..]), Err(ProtocolError::Unmasked));
    assert_eq!(decoder.allocated(), 0);

    let late = frame(FIN | TEXT, b"late");
    let mut late = &late[..];
    assert_eq!(decoder.decode(&mut late), Err(ProtocolError::Unmasked));
    assert!(late.is_empty());
}

// Size

#[test]
fn the_limits_are_exact() {
    let limits = Limits { max_frame_size: 8, max_message_size: 10 };
    let refused = |error| (vec![], Some(error));

    let (events, error) = decode_with(limits, &frame(FIN | BINARY, &[0; 8]));
    assert_eq!((events.len(), error), (1, None));
    let decoded = decode_with(limits, &frame(FIN | BINARY, &[0; 9]));
    assert_eq!(decoded, refused(ProtocolError::FrameTooBig));

    let exact = [frame(BINARY, &[0; 8]), frame(FIN | CONTINUATION, &[0; 2])].concat();
    assert_eq!(decode_with(limits, &exact).0.len(), 1);
    let one_more = [frame(BINARY, &[0; 8]), frame(FIN | CONTINUATION, &[0; 3])].concat();
    assert_eq!(decode_with(limits, &one_more), refused(ProtocolError::MessageTooBig));

    assert_eq!(ProtocolError::FrameTooBig.close_code(), CloseCode::TOO_BIG);
    assert_eq!(ProtocolError::MessageTooBig.close_code(), CloseCode::TOO_BIG);
}

#[test]
fn control_frames_do_not_count_towards_the_limits() {
    let limits = Limits { max_frame_size: 1, max_message_size: 1 };
    let (events, error) = decode_with(limits, &frame(FIN | PING, &[0; 125]));
    assert_eq!((events.len(), error), (1, None));
}

#[test]
fn a_declared_length_allocates_nothing() {
    let limits = Limits { max_frame_size: usize::MAX, max_message_size: usize::MAX };
    let mut decoder = Decoder::new(limits);
    let mut sent = header_only(FIN | BINARY, (1 << 63) - 1);
    assert_eq!(decoder.decode(&mut &sent[..]), Ok(None));
    assert_eq!(decoder.allocated(), 0);

    sent = vec![0; 1000];
    assert_eq!(decoder.decode(&mut &sent[..]), Ok(None));
    assert!(decoder.allocated() <= 2000, "{}", decoder.allocated());
}

#[test]
fn a_finished_message_leaves_no_memory_behind() {
    let mut decoder = Decoder::new(Limits::default());
    let sent = [frame(FIN | BINARY, &[7; 5000]), frame(FIN | PING, b"p")].concat();
    let mut input = &sent[..];
    while let Ok(Some(_)) = decoder.decode(&mut input) {}
    assert_eq!(decoder.allocated(), 0);
}

#[test]
fn endless_fragments_end_at_the_limit_for_messages() {
    let limits = Limits { max_message_size: 10_000, ..Limits::default() };
    let mut decoder = Decoder::new(limits);
    assert_eq!(decoder.decode(&mut &frame(BINARY, b"x")[..]), Ok(None));

    let fragment = frame(CONTINUATION, b"x");
    for _ in 1..10_000 {
        assert_eq!(decoder.decode(&mut &fragment[..]), Ok(None));
        assert!(decoder.allocated() <= 20_000);
    }
    let refused = decoder.decode(&mut &fragment[..]);
    assert_eq!(refused, Err(ProtocolError::MessageTooBig));
}

#[test]
fn a_million_empty_fragments_are_refused_early() {
    let mut decoder = Decoder::new(Limits::default());
    assert_eq!(decoder.decode(&mut &frame(TEXT, b"")[..]), Ok(None));

    let empty = frame(CONTINUATION, b"");
    let refused_at = (2..1_000_000).find(|_| decoder.decode(&mut &empty[..]).is_err());
    assert_eq!(refused_at, Some(129));
    assert_eq!(decoder.allocated(), 0);
    assert_eq!(ProtocolError::TooManyEmptyFragments.close_code(), CloseCode::TOO_BIG);
}

#[test]
fn some_empty_fragments_are_fine() {
    let mut sent = frame(TEXT, b"");
    sent.extend(frame(CONTINUATION, b"").repeat(100));
    sent.extend(frame(CONTINUATION, b"still "));
    sent.extend(frame(CONTINUATION, b"").repeat(27));
    sent.extend(frame(FIN | CONTINUATION, b"here"));
    assert_events(&sent, &[text("still here")]);
}

// Text

#[test]
fn a_code_point_may_be_split_over_frames() {
    let crab = "🦀".as_bytes();
    for cut in 0..=crab.len() {
        let sent = [frame(TEXT, &crab[..cut]), frame(FIN | CONTINUATION, &crab[cut..])].concat();
        assert_events(&sent, &[text("🦀")]);
    }
}

#[test]
fn text_that_is_not_utf8_is_refused() {
    let invalid: [&[u8]; 9] = [
        b"\xff",
        b"ok\x80",
        b"\xc0\xaf",         // '/' in two bytes
        b"\xed\xa0\x80",     // a surrogate
        b"\xf4\x90\x80\x80", // past U+10FFFF
        b"\xe2\x82",         // half a code point at the end
        b"\xf0\x9f\xa6",
        b"\xc3(",
        b"long enough for the wide path of the checker, and then some more of it: \xfe",
    ];
    for bytes in invalid {
        assert_refused(&frame(FIN | TEXT, bytes), ProtocolError::TextNotUtf8, 1007);
        for cut in 0..=bytes.len() {
            let sent = [frame(TEXT, &bytes[..cut]), frame(FIN | CONTINUATION, &bytes[cut..])];
            assert_refused(&sent.concat(), ProtocolError::TextNotUtf8, 1007);
        }
    }
}

#[test]
fn invalid_text_fails_before_its_message_ends() {
    let mut decoder = Decoder::new(Limits::default());
    assert_eq!(decoder.decode(&mut &frame(TEXT, b"\xf4")[..]), Ok(None));
    // 0x90 cannot follow 0xf4; neither the frame nor the message is complete.
    let sent = frame(CONTINUATION, b"\x90\x80\x80 and more");
    let refused = decoder.decode(&mut &sent[..7]);
    assert_eq!(refused, Err(ProtocolError::TextNotUtf8));
}

#[test]
fn errors_read_as_one_lower_case_fact() {
    let errors = [
        ProtocolError::ReservedBits,
        ProtocolError::ReservedOpcode(3),
        ProtocolError::CloseCode(1005),
        ProtocolError::TextNotUtf8,
        ProtocolError::TooManyEmptyFragments,
        ProtocolError::BadDeflate,
    ];
    for error in errors {
        let message = error.to_string();
        assert!(message.starts_with(char::is_lowercase) && !message.ends_with('.'), "{message}");
    }
    assert_eq!(ProtocolError::ReservedOpcode(11).to_string(), "reserved opcode 0xb");
}

// Any bytes, any split

/// Cuts `bytes` into pieces as long as `cuts` says, over and over.
fn cut<'a>(bytes: &'a [u8], cuts: &[usize]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = bytes;
    cuts.iter().cycle().map_while(move |&cut| {
        let (piece, after) = rest.split_at_checked(cut).unwrap_or((rest, &[]));
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

/// Frames that are mostly valid, so that sequences get far, with some bytes of noise.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        8 => prop::sample::select(vec![TEXT, BINARY, CONTINUATION, FIN | TEXT, FIN | CONTINUATION]),
        4 => prop::sample::select(vec![FIN | PING, FIN | PONG, FIN | BINARY]),
        1 => any::<u8>(),
    ];
    let payload = prop_oneof![".{0,40}".prop_map(String::into_bytes), prop::collection::vec(any::<u8>(), 0..140),];
    let piece = prop_oneof![
        20 => (first, payload).prop_map(|(first, payload)| frame(first, &payload)),
        1 => prop::collection::vec(any::<u8>(), 0..20),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn what_comes_out_does_not_depend_on_the_split(
        bytes in stream(),
        cuts in prop::collection::vec(1..40_usize, 1..10),
    ) {
        let limits = Limits { max_frame_size: 130, max_message_size: 300 };
        let whole = decode_with(limits, &bytes);

        prop_assert_eq!(whole, decode_pieces(limits, cut(&bytes, &cuts)));
    }

    #[test]
    fn text_is_accepted_exactly_when_std_accepts_it(
        payload in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..12),
            ".{0,80}".prop_map(String::into_bytes),
        ],
        cut in any::<prop::sample::Index>(),
    ) {
        let cut = cut.index(payload.len() + 1);
        let sent = [frame(TEXT, &payload[..cut]), frame(FIN | CONTINUATION, &payload[cut..])];
        let expected = match std::str::from_utf8(&payload) {
            Ok(valid) => (vec![text(valid)], None),
            Err(_) => (vec![], Some(ProtocolError::TextNotUtf8)),
        };
        prop_assert_eq!(decode(&sent.concat()), expected);
    }
}
