//! Claims about compressed messages (`Decoder::with_deflate`, `Frame::deflated`):
//! - valid ones come out as they went in, whatever the level, the flushes, the frames and the reads;
//! - those of `Frame::deflated` do as well;
//! - any bytes, as a stream or as a compressed payload, neither panic nor take more memory than allowed, and the events
//!   do not depend on how the bytes were split.
//!
//! Run it with `cargo +nightly fuzz run deflate -- -max_total_time=45`.
#![no_main]

mod wire;

use arbitrary::Arbitrary;
use fanfare::frame::Frame;
use fanfare::ws::decoder::{Decoder, DecoderEvent, Limits, ProtocolError};
use libfuzzer_sys::fuzz_target;
use miniz_oxide::deflate::core::{CompressorOxide, create_comp_flags_from_zip_params};
use miniz_oxide::deflate::stream::deflate;
use miniz_oxide::{MZFlush, MZStatus};
use wire::{pieces, push_message};

/// Small, so that the fuzzer exceeds them.
const LIMITS: Limits = Limits::new().max_frame_size(300).max_message_size(1000);

/// The memory of an inflater, and of a control frame.
const FIXED: usize = (48 << 10) + 2 * 125;

#[derive(Arbitrary, Debug)]
enum Input<'a> {
    Bytes { reads: Vec<u8>, bytes: &'a [u8] },
    Payload { reads: Vec<u8>, frames: Vec<u8>, is_text: bool, payload: &'a [u8] },
    Damaged { reads: Vec<u8>, frames: Vec<u8>, message: Message<'a>, at: u16, byte: u8 },
    Messages { reads: Vec<u8>, mask: [u8; 4], frames: Vec<u8>, messages: Vec<Message<'a>> },
}

#[derive(Arbitrary, Debug)]
struct Message<'a> {
    data: Data<'a>,
    /// How often the data is repeated, so that there is something to compress.
    repeat: u8,
    how: How,
}

#[derive(Arbitrary, Debug)]
enum Data<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
}

#[derive(Arbitrary, Debug)]
enum How {
    Plain,
    Deflated { level: u8, strategy: u8, flush_every: u8 },
    ByFrame,
}

fuzz_target!(|input: Input| match input {
    Input::Bytes { reads, bytes } => assert_split_is_no_matter(bytes, &reads),
    Input::Payload { reads, frames, is_text, payload } => {
        let first = if is_text { 0x41 } else { 0x42 };
        assert_split_is_no_matter(&framed(first, payload, &frames), &reads);
    }
    Input::Damaged { reads, frames, message, at, byte } => {
        let (first, mut payload) = message.encode();
        if let Some(damaged) = payload.get_mut(usize::from(at)) {
            *damaged = byte;
        }
        assert_split_is_no_matter(&framed(first, &payload, &frames), &reads);
    }
    Input::Messages { reads, mask, frames, messages } => {
        let mut bytes = Vec::new();
        let mut cuts = frames.iter().copied().cycle();
        for message in &messages {
            let (first, payload) = message.encode();
            push_message(&mut bytes, first, &payload, &mut cuts, &mut Vec::new(), mask);
        }
        let expected: Vec<DecoderEvent> = messages.iter().map(Message::event).collect();
        let decoded = decode(Limits::default(), pieces(&bytes, &reads));
        assert_eq!(decoded, (expected, None));
    }
});

/// Returns the frames of one message, with a mask of zeros.
fn framed(first: u8, payload: &[u8], cuts: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    push_message(&mut bytes, first, payload, &mut cuts.iter().copied().cycle(), &mut Vec::new(), [0; 4]);
    bytes
}

fn assert_split_is_no_matter(bytes: &[u8], reads: &[u8]) {
    let whole = decode(LIMITS, [bytes]);
    assert_eq!(whole, decode(LIMITS, pieces(bytes, reads)), "split by reads");
    assert_eq!(whole, decode(LIMITS, bytes.chunks(1)), "byte by byte");
}

fn decode<'a>(
    limits: Limits,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<DecoderEvent>, Option<ProtocolError>) {
    let mut decoder = Decoder::with_deflate(limits);
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
        assert!(decoder.allocated() <= limits.max_message_size.max(2 * arrived) + FIXED);
    }
    (events, None)
}

impl Message<'_> {
    fn opcode(&self) -> u8 {
        match self.data {
            Data::Text(_) => 0x1,
            Data::Binary(_) => 0x2,
        }
    }

    fn plain(&self) -> Vec<u8> {
        let once = match self.data {
            Data::Text(text) => text.as_bytes(),
            Data::Binary(bytes) => bytes,
        };
        once.repeat(1 + usize::from(self.repeat % 32))
    }

    /// Returns the event that the decoder makes of it.
    fn event(&self) -> DecoderEvent {
        match self.data {
            Data::Text(_) => DecoderEvent::Text(self.plain().into()),
            Data::Binary(_) => DecoderEvent::Binary(self.plain().into()),
        }
    }

    /// Returns the opcode with its reserved bits, and the payload.
    fn encode(&self) -> (u8, Vec<u8>) {
        let plain = self.plain();
        let opcode = self.opcode();
        match self.how {
            How::Plain => (opcode, plain),
            How::Deflated { level, strategy, flush_every } => {
                (0x40 | opcode, compress(&plain, level, strategy, flush_every))
            }
            How::ByFrame => match Frame::binary(&plain).deflated() {
                None => (opcode, plain),
                Some(deflated) => {
                    assert_eq!(deflated[0], 0xc2);
                    let header = match deflated[1] {
                        127 => 10,
                        126 => 4,
                        _ => 2,
                    };
                    (0x40 | opcode, deflated[header..].to_vec())
                }
            },
        }
    }
}

/// Compresses `plain` with a window of its own and leaves out the end of the last flush. Level 0 stores.
fn compress(plain: &[u8], level: u8, strategy: u8, flush_every: u8) -> Vec<u8> {
    let flags = create_comp_flags_from_zip_params((level % 11).into(), -15, (strategy % 5).into());
    let mut compressor = CompressorOxide::new(flags);
    // A flush takes a few bytes: a flush after every byte would exceed the limit on the wire.
    let piece_len = if flush_every < 8 { plain.len().max(1) } else { flush_every.into() };
    let mut out = Vec::new();
    let mut buffer = vec![0; plain.len() * 2 + 200];
    let mut push = |mut rest: &[u8]| {
        loop {
            let result = deflate(&mut compressor, rest, &mut buffer, MZFlush::Sync);
            out.extend(&buffer[..result.bytes_written]);
            rest = &rest[result.bytes_consumed..];
            if rest.is_empty() && result.bytes_written < buffer.len() {
                assert!(matches!(result.status, Ok(MZStatus::Ok)) || result.bytes_written == 0);
                break;
            }
        }
    };
    if plain.is_empty() {
        push(plain);
    }
    plain.chunks(piece_len).for_each(&mut push);
    assert!(out.ends_with(&[0, 0, 0xff, 0xff]), "{out:?}");
    out.truncate(out.len() - 4);
    out
}
