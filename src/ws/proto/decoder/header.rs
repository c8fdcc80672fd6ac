//! [`Header`]: the first 6 to 14 bytes of a frame (RFC 6455, section 5.2).

use bytes::Buf;

use super::error::ProtocolError;
use super::frame::{Frame, Opcode};

/// A control frame may carry this much and no more (RFC 6455, section 5.5).
const MAX_CONTROL_PAYLOAD: u64 = 125;

/// The longest header of a masked frame: two bytes, a 64-bit length, the masking key.
const MAX_HEADER: usize = 14;

/// As much of a frame's header as has arrived.
#[derive(Debug, Default)]
pub(super) struct Header {
    bytes: [u8; MAX_HEADER],
    len: usize,
}

impl Header {
    /// Reads on; `None` when `input` ran out first.
    pub(super) fn read(&mut self, deflate: bool, input: &mut impl Buf) -> Result<Option<Frame>, ProtocolError> {
        if !self.fill(2, input) {
            return Ok(None);
        }
        let [first, second, ..] = self.bytes;
        let (fin, compressed, opcode) = parse_first(first, deflate)?;
        let short_len = parse_second(second, fin, opcode)?;
        let end_of_length = match short_len {
            127 => 10,
            126 => 4,
            _ => 2,
        };
        if !self.fill(end_of_length + 4, input) {
            return Ok(None);
        }
        let [_, _, b2, b3, b4, b5, b6, b7, b8, b9, ..] = self.bytes;
        let (remaining, least) = match short_len {
            127 => (u64::from_be_bytes([b2, b3, b4, b5, b6, b7, b8, b9]), 1 << 16),
            126 => (u16::from_be_bytes([b2, b3]).into(), 126),
            len => (len.into(), 0),
        };
        if remaining >> 63 == 1 {
            return Err(ProtocolError::LengthTooLarge);
        }
        if remaining < least {
            return Err(ProtocolError::LengthNotMinimal);
        }
        let mut mask = [0; 4];
        mask.copy_from_slice(&self.bytes[end_of_length..end_of_length + 4]);
        Ok(Some(Frame { fin, compressed, opcode, remaining, mask }))
    }

    /// Takes bytes until `len` of them are here, and says whether they are.
    fn fill(&mut self, len: usize, input: &mut impl Buf) -> bool {
        let taken = len.saturating_sub(self.len).min(input.remaining());
        input.copy_to_slice(&mut self.bytes[self.len..self.len + taken]);
        self.len += taken;
        self.len >= len
    }
}

fn parse_first(byte: u8, deflate: bool) -> Result<(bool, bool, Opcode), ProtocolError> {
    let begins_message = matches!(byte & 0x0f, 0x1 | 0x2);
    let meaningful = if deflate && begins_message { 0x40 } else { 0 };
    if byte & 0x70 & !meaningful != 0 {
        return Err(ProtocolError::ReservedBits);
    }
    let opcode = match byte & 0x0f {
        0x0 => Opcode::Continuation,
        0x1 => Opcode::Text,
        0x2 => Opcode::Binary,
        0x8 => Opcode::Close,
        0x9 => Opcode::Ping,
        0xa => Opcode::Pong,
        reserved => return Err(ProtocolError::ReservedOpcode(reserved)),
    };
    Ok((byte & 0x80 != 0, byte & 0x40 != 0, opcode))
}

fn parse_second(byte: u8, fin: bool, opcode: Opcode) -> Result<u8, ProtocolError> {
    let short_len = byte & 0x7f;
    if byte & 0x80 == 0 {
        return Err(ProtocolError::Unmasked);
    }
    if opcode.is_control() && !fin {
        return Err(ProtocolError::ControlFragmented);
    }
    if opcode.is_control() && u64::from(short_len) > MAX_CONTROL_PAYLOAD {
        return Err(ProtocolError::ControlTooLong);
    }
    Ok(short_len)
}
