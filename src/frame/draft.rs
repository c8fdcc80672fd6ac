//! [`Draft`]: a JSON frame whose offset in a group's history is not known yet.
//!
//! A saved message carries `"group"` and `"offset"` as its last fields. The payload is serialised before the group's
//! lock is taken, with room for a number of any length. Under the lock only the number is filled in. JSON allows spaces
//! before a number, so the length of the frame is known, and the header written, beforehand.

use std::ops::Range;

use bytes::{Buf, Bytes};
use serde::Serialize;

use super::wire::{FIN, JSON_CAPACITY, MAX_HEADER, Opcode, write_header};
use super::{EncodeError, Frame};

/// Written before a payload that is not an object, and so cannot hold the fields.
const DATA: &[u8] = br#"{"data":"#;
/// The digits of 2^53, the largest offset that JavaScript represents exactly.
const DIGITS: usize = 16;
/// The room before a payload, for a header and [`DATA`].
const HEAD: usize = MAX_HEADER + DATA.len();

/// A JSON frame that lacks its offset.
pub(crate) struct Draft {
    buffer: Vec<u8>,
    /// The index in the buffer at which the frame begins.
    start: usize,
    digits: Range<usize>,
}

impl Draft {
    /// Serialises a payload; `tail` is what [`tail`] returns, and comes behind it.
    pub(crate) fn json<T: Serialize + ?Sized>(payload: &T, tail: &[u8]) -> Result<Self, EncodeError> {
        let mut buffer = Vec::with_capacity(HEAD + JSON_CAPACITY + tail.len() + DIGITS);
        buffer.resize(HEAD, 0);
        serde_json::to_writer(&mut buffer, payload).map_err(EncodeError)?;
        Ok(Self::new(buffer, tail))
    }

    /// Makes a draft of an existing frame, if it is JSON.
    pub(crate) fn of(frame: &Frame, tail: &[u8]) -> Option<Self> {
        if !frame.is_json() {
            return None;
        }
        let mut buffer = Vec::with_capacity(HEAD + frame.payload().len() + tail.len() + DIGITS + 1);
        buffer.resize(HEAD, 0);
        buffer.extend_from_slice(frame.payload().trim_ascii());
        Some(Self::new(buffer, tail))
    }

    fn new(mut buffer: Vec<u8>, tail: &[u8]) -> Self {
        let mut payload = HEAD;
        if buffer[HEAD] == b'{' {
            buffer.pop();
            if buffer[HEAD + 1..].iter().all(u8::is_ascii_whitespace) {
                // No field comes before the comma that the tail begins with.
                buffer.extend_from_slice(&tail[1..]);
            } else {
                buffer.extend_from_slice(tail);
            }
        } else {
            payload -= DATA.len();
            buffer[payload..HEAD].copy_from_slice(DATA);
            buffer.extend_from_slice(tail);
        }
        let digits = buffer.len()..buffer.len() + DIGITS;
        buffer.resize(digits.end, b' ');
        buffer.push(b'}');
        // A frame may stay in a history for long, so its buffer is shrunk: now, since no lock is held.
        buffer.shrink_to_fit();
        let start = write_header(&mut buffer, FIN | Opcode::Text as u8, payload);
        Self { buffer, start, digits }
    }

    /// Returns the length of the frame, header included.
    pub(crate) fn len(&self) -> usize {
        self.buffer.len() - self.start
    }

    /// Fills in the offset.
    pub(crate) fn finish(mut self, offset: u64) -> Frame {
        let mut rest = offset;
        for digit in self.buffer[self.digits].iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        let mut bytes = Bytes::from(self.buffer);
        bytes.advance(self.start);
        Frame::from_parts(bytes, Opcode::Text, true)
    }
}

/// Returns the bytes that a saved message of `group` has between its payload and the offset.
pub(crate) fn tail(group: &str) -> Box<[u8]> {
    let mut tail = br#","group":"#.to_vec();
    serde_json::to_writer(&mut tail, group).expect("a string is json");
    tail.extend_from_slice(br#","offset":"#);
    tail.into()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn drafted(payload: &Value, offset: u64) -> Frame {
        Draft::json(payload, &tail("a \"room\"")).expect("json").finish(offset)
    }

    fn read(frame: &Frame) -> Value {
        serde_json::from_slice(frame.payload()).expect("json")
    }

    #[test]
    fn an_object_keeps_its_fields_and_gets_two_more() {
        let frame = drafted(&json!({"type": "edit", "user": "ada"}), 42);
        let expected = json!({"type": "edit", "user": "ada", "group": "a \"room\"", "offset": 42});
        assert_eq!(read(&frame), expected);
        let of = Draft::of(&Frame::json(&json!({"type": "edit", "user": "ada"})).expect("json"), &tail("a \"room\""));
        assert_eq!(of.expect("an object").finish(42), frame);
    }

    #[test]
    fn a_payload_that_is_not_an_object_becomes_the_data_of_one() {
        for payload in [json!("hello"), json!([1, 2]), json!(null), json!(true), json!(1.5)] {
            assert_eq!(read(&drafted(&payload, 1)), json!({"data": payload, "group": "a \"room\"", "offset": 1}));
        }
        assert_eq!(read(&drafted(&json!({}), 3)), json!({"group": "a \"room\"", "offset": 3}));
    }

    #[test]
    fn any_offset_and_any_length_has_a_whole_frame() {
        for offset in [0, 9, 10, 9_999_999_999_999_999] {
            for len in [0, 60, 70, 125, 126, 0xffff, 0x10000] {
                let frame = drafted(&json!({"x": "y".repeat(len)}), offset);
                assert_eq!(read(&frame)["offset"], offset);
                let header = frame.bytes().len() - frame.payload().len();
                let expected = match frame.payload().len() {
                    0..=125 => 2,
                    126..=0xffff => 4,
                    _ => 10,
                };
                assert_eq!((header, frame.bytes()[0]), (expected, 0x81));
            }
        }
    }

    #[test]
    fn a_frame_that_is_not_json_has_no_draft() {
        for frame in [Frame::binary(b"{}"), Frame::text("hello"), Frame::text("{"), Frame::text("")] {
            assert!(Draft::of(&frame, &tail("room")).is_none());
        }
        let spaced = Draft::of(&Frame::text(" {\"a\" : 1 } "), &tail("room")).expect("it is json").finish(1);
        assert_eq!(read(&spaced), json!({"a": 1, "group": "room", "offset": 1}));
        let empty = Draft::of(&Frame::text("{ }"), &tail("room")).expect("it is json").finish(1);
        assert_eq!(read(&empty), json!({"group": "room", "offset": 1}));
    }
}
