//! Frames as a client sends them, for the targets that decode them.

/// Cuts `bytes` into pieces of the lengths in `lens`, repeated.
pub fn pieces<'a>(bytes: &'a [u8], lens: &[u8]) -> Vec<&'a [u8]> {
    let mut rest = bytes;
    let mut pieces = Vec::new();
    for &len in [1].iter().chain(lens).cycle() {
        let Some((piece, after)) = rest.split_at_checked(len.max(1).into()) else {
            break;
        };
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    pieces
}

/// Appends the masked frames of one message, in fragments of the lengths in `cuts`: 0 keeps the rest in one frame, 255
/// makes an empty fragment, of which a message may have 128.
///
/// `first` is the opcode and the reserved bits; `control` goes behind the first fragment, and is emptied.
pub fn push_message(
    out: &mut Vec<u8>,
    mut first: u8,
    payload: &[u8],
    cuts: &mut impl Iterator<Item = u8>,
    control: &mut Vec<u8>,
    mask: [u8; 4],
) {
    let mut rest = payload;
    let mut empty = 0;
    while let Some(cut @ 1..) = cuts.next() {
        let len = if cut == 255 { 0 } else { cut.into() };
        empty += u8::from(len == 0);
        let Some((fragment, after)) = rest.split_at_checked(len).filter(|_| empty <= 128) else {
            break;
        };
        push_frame(out, first, fragment, mask);
        out.append(control);
        first = 0;
        rest = after;
    }
    out.append(control);
    push_frame(out, 0x80 | first, rest, mask);
}

pub fn push_frame(out: &mut Vec<u8>, first: u8, payload: &[u8], mask: [u8; 4]) {
    out.push(first);
    match payload.len() {
        len @ 0..=125 => out.push(0x80 | len as u8),
        len @ 126..=0xffff => {
            out.push(0x80 | 126);
            out.extend((len as u16).to_be_bytes());
        }
        len => {
            out.push(0x80 | 127);
            out.extend((len as u64).to_be_bytes());
        }
    }
    out.extend(mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
}
