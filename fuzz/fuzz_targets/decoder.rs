//! Claims about `fanfare::ws::decoder`:
//! - on any bytes it neither panics nor holds more than twice the bytes that have arrived, and its events do not
//!   depend on how the bytes were split;
//! - valid messages come out as they went in, however they were cut into frames and reads, and whatever control frames
//!   interrupt them.
//!
//! Run it with `cargo +nightly fuzz run decoder -- -max_total_time=45`.
#![no_main]

mod wire;

use arbitrary::Arbitrary;
use fanfare::ws::decoder::{Decoder, DecoderEvent, Limits, ProtocolError};
use libfuzzer_sys::fuzz_target;
use wire::{pieces, push_frame, push_message};

/// Small, so that the fuzzer exceeds them.
const LIMITS: Limits = limits(300, 1000);

const fn limits(max_frame_size: usize, max_message_size: usize) -> Limits {
    Limits::new().max_frame_size(max_frame_size).max_message_size(max_message_size)
}

#[derive(Arbitrary, Debug)]
enum Input<'a> {
    Bytes { reads: Vec<u8>, bytes: &'a [u8] },
    Messages { reads: Vec<u8>, mask: [u8; 4], frames: Vec<u8>, messages: Vec<Sent<'a>> },
}

#[derive(Arbitrary, Debug)]
enum Sent<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
    Ping(&'a [u8]),
    Pong(&'a [u8]),
}

fuzz_target!(|input: Input| match input {
    Input::Bytes { reads, bytes } => {
        let whole = decode(LIMITS, [bytes]);
        assert_eq!(whole, decode(LIMITS, pieces(bytes, &reads)), "split by reads");
        assert_eq!(whole, decode(LIMITS, bytes.chunks(1)), "byte by byte");
    }
    Input::Messages { reads, mask, frames, messages } => {
        let bytes = encode(&messages, &frames, mask);
        let expected: Vec<DecoderEvent> = messages.iter().map(Sent::event).collect();
        let decoded = decode(Limits::default(), pieces(&bytes, &reads));
        assert_eq!(decoded, (expected, None));
    }
});

fn decode<'a>(
    limits: Limits,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<DecoderEvent>, Option<ProtocolError>) {
    let mut decoder = Decoder::new(limits);
    let mut events = Vec::new();
    let mut arrived = 0;
    for mut piece in pieces {
        arrived += piece.len();
        loop {
            match decoder.decode(&mut piece) {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(decoder.allocated(), 0);
                    return (events, Some(error));
                }
            }
        }
        assert!(piece.is_empty());
        assert!(decoder.allocated() <= 2 * arrived);
        assert!(decoder.allocated() <= 2 * limits.max_message_size + 2 * 125);
    }
    (events, None)
}

impl Sent<'_> {
    /// Returns the event that the decoder makes of it.
    fn event(&self) -> DecoderEvent {
        match *self {
            Self::Text(text) => DecoderEvent::Text(text.to_owned().into()),
            Self::Binary(bytes) => DecoderEvent::Binary(bytes.to_vec().into()),
            Self::Ping(bytes) => DecoderEvent::Ping(fitting(bytes).to_vec().into()),
            Self::Pong(bytes) => DecoderEvent::Pong(fitting(bytes).to_vec().into()),
        }
    }
}

/// Returns the bytes that fit into a control frame.
fn fitting(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len().min(125)]
}

/// Returns `messages` as masked frames, the data cut into fragments.
///
/// Pings and pongs are held back, and go behind the first fragment of the next message.
fn encode(messages: &[Sent<'_>], cuts: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut cuts = cuts.iter().copied().cycle();
    let mut control = Vec::new();
    for message in messages {
        match *message {
            Sent::Text(text) => push_message(&mut out, 0x1, text.as_bytes(), &mut cuts, &mut control, mask),
            Sent::Binary(bytes) => push_message(&mut out, 0x2, bytes, &mut cuts, &mut control, mask),
            Sent::Ping(bytes) => push_frame(&mut control, 0x89, fitting(bytes), mask),
            Sent::Pong(bytes) => push_frame(&mut control, 0x8a, fitting(bytes), mask),
        }
    }
    out.append(&mut control);
    out
}
