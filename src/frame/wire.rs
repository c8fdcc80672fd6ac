//! The header of an unmasked frame (RFC 6455, section 5.2), and buffers that leave room for it.
//!
//! A payload is written behind [`MAX_HEADER`] free bytes; once its length is known, the header goes right before it.

use bytes::{Buf, Bytes};

/// The longest header of an unmasked frame: two bytes and a length of eight.
pub(super) const MAX_HEADER: usize = 10;

/// The first bit of a header: the message ends with this frame.
pub(super) const FIN: u8 = 0x80;

/// The first capacity of a JSON payload: small messages fit, and larger ones are moved less often.
pub(super) const JSON_CAPACITY: usize = 128;

/// What a frame carries (RFC 6455, section 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// UTF-8 text.
    Text = 1,
    /// Bytes.
    Binary = 2,
    /// The end of the connection, with a code and a reason.
    Close = 8,
    /// Asks the peer for a pong.
    Ping = 9,
    /// The answer to a ping.
    Pong = 10,
}

/// Makes a buffer with free space for the header, so that the payload is written once and not moved.
pub(super) fn headless(capacity: usize) -> Vec<u8> {
    let mut buffer = Vec::with_capacity(MAX_HEADER + capacity);
    buffer.resize(MAX_HEADER, 0);
    buffer
}

/// Writes the header into a buffer that [`headless`] made, and returns the bytes of the frame.
pub(super) fn headed(first: u8, mut buffer: Vec<u8>) -> Bytes {
    // Without spare capacity `Bytes` takes the buffer as it is. A frame may also stay in a history for long.
    buffer.shrink_to_fit();
    let start = write_header(&mut buffer, first, MAX_HEADER);
    let mut bytes = Bytes::from(buffer);
    bytes.advance(start);
    bytes
}

/// Writes the header before the payload, which begins at the index `payload`; returns the index where the header
/// begins.
pub(super) fn write_header(buffer: &mut [u8], first: u8, payload: usize) -> usize {
    let len = buffer.len() - payload;
    let (short_len, long_len): (u8, &[u8]) = match len {
        0..=125 => (len as u8, &[]),
        126..=0xffff => (126, &(len as u16).to_be_bytes()),
        _ => (127, &(len as u64).to_be_bytes()),
    };
    let start = payload - 2 - long_len.len();
    buffer[start] = first;
    buffer[start + 1] = short_len;
    buffer[start + 2..payload].copy_from_slice(long_len);
    start
}
