//! [`Frame`]: a frame whose payload arrives, and how it is unmasked.

use bytes::Buf;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    pub(super) fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// A frame whose header is complete and whose payload is arriving.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) fin: bool,
    /// Whether it is the first of a compressed message; those after it do not say.
    pub(super) compressed: bool,
    pub(super) opcode: Opcode,
    /// Payload bytes that have not arrived yet; as declared, so never a reason to allocate.
    pub(super) remaining: u64,
    /// The masking key, turned so that its first byte belongs to the next byte of the payload.
    pub(super) mask: [u8; 4],
}

impl Frame {
    /// Moves what `input` holds of this frame to the end of `payload`, unmasked.
    pub(super) fn read(&mut self, input: &mut impl Buf, payload: &mut Vec<u8>) {
        while self.remaining > 0 && input.has_remaining() {
            let chunk = input.chunk();
            // Saturating: a frame longer than memory is as long as memory here.
            let rest = usize::try_from(self.remaining).unwrap_or(usize::MAX);
            let taken = chunk.len().min(rest);
            let start = payload.len();
            self.reserve(payload, taken, rest);
            payload.extend_from_slice(&chunk[..taken]);
            unmask(&mut payload[start..], self.mask);
            self.mask.rotate_left(taken % 4);
            self.remaining -= taken as u64;
            input.advance(taken);
        }
    }

    /// Copies what `input` holds of this frame to `piece`, unmasked, until either is at its end.
    pub(super) fn read_piece<'a>(&mut self, input: &mut impl Buf, piece: &'a mut [u8]) -> &'a [u8] {
        let rest = usize::try_from(self.remaining).unwrap_or(usize::MAX);
        let len = piece.len().min(input.remaining()).min(rest);
        let piece = &mut piece[..len];
        input.copy_to_slice(piece);
        unmask(piece, self.mask);
        self.mask.rotate_left(len % 4);
        self.remaining -= len as u64;
        piece
    }

    /// Makes room for `taken` bytes: at least doubles, so that growing is linear in total, but never
    /// goes past the end of the last frame, so that a finished message fits its memory.
    fn reserve(&self, payload: &mut Vec<u8>, taken: usize, rest: usize) {
        if payload.capacity() - payload.len() >= taken {
            return;
        }
        let doubled = payload.len().max(taken);
        payload.reserve_exact(if self.fin { doubled.min(rest) } else { doubled });
    }
}

/// Applies `mask` to `bytes`, whose first byte is masked by the first of the key.
fn unmask(bytes: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn unmasking_twice_gives_back_what_was_sent(
            bytes in prop::collection::vec(any::<u8>(), 0..40),
            mask in any::<[u8; 4]>(),
        ) {
            let mut twice = bytes.clone();
            unmask(&mut twice, mask);
            for (i, byte) in twice.iter().enumerate() {
                prop_assert_eq!(*byte, bytes[i] ^ mask[i % 4]);
            }
            unmask(&mut twice, mask);
            prop_assert_eq!(twice, bytes);
        }
    }
}
