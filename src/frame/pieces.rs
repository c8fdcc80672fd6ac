//! Joins consecutive frames into pieces, so that one write sends many frames.

use bytes::{Bytes, BytesMut};

/// The approximate size of a piece.
pub(crate) const PIECE: usize = 60 << 10;

/// Consecutive frames, joined: their number and their bytes.
pub(crate) struct Piece {
    pub(crate) frames: usize,
    pub(crate) bytes: Bytes,
}

/// Joins the bytes of frames; a single frame or a large one is not copied.
pub(crate) fn pieces<'w>(wires: impl ExactSizeIterator<Item = &'w Bytes>) -> Vec<Piece> {
    let wires: Vec<_> = wires.collect();
    let mut pieces = Vec::new();
    let mut rest = &wires[..];
    while !rest.is_empty() {
        let mut size = 0;
        let fitting = rest.iter().take_while(|wire| {
            size += wire.len();
            size <= PIECE
        });
        let (run, behind) = rest.split_at(fitting.count().max(1));
        pieces.push(Piece { frames: run.len(), bytes: joined(run) });
        rest = behind;
    }
    pieces
}

fn joined(run: &[&Bytes]) -> Bytes {
    if let [only] = run {
        return Bytes::clone(only);
    }
    let mut bytes = BytesMut::with_capacity(run.iter().map(|wire| wire.len()).sum());
    run.iter().for_each(|wire| bytes.extend_from_slice(wire));
    bytes.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Frame;

    #[test]
    fn small_frames_are_joined_and_a_large_one_is_not_copied() {
        let frames = [100, 100, PIECE, 100].map(|len| Frame::binary(vec![1; len]));
        let pieces = pieces(frames.iter().map(Frame::bytes));
        let sizes: Vec<_> = pieces.iter().map(|piece| (piece.frames, piece.bytes.len())).collect();
        assert_eq!(sizes, [(2, 204), (1, PIECE + 4), (1, 102)]);
        assert_eq!(pieces[1].bytes.as_ptr(), frames[2].bytes().as_ptr());
    }
}
