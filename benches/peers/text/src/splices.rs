//! Without any CRDT, for reference: a rope, and the list of all splices. A version is a place in that list.
//!
//! It is the fastest, and what it promises is what its authors have thought of. A CRDT's copies converge by
//! construction, however many there are and whatever they did offline; that is worth microseconds.

use ropey::Rope;

use crate::document::{Document, Edit, EditsThePast};

pub(crate) struct Text {
    rope: Rope,
    log: Vec<Change>,
}

struct Change {
    author: u32,
    at: u32,
    deleted: String,
    inserted: String,
}

/// An edit on its way past others: ranges to delete, which others may have split, and a text to insert.
struct Late {
    at: usize,
    deleted: Vec<(usize, usize)>,
}

impl Late {
    /// Moves it past a splice that came before. Where both insert at one place, it comes second.
    fn pass(&mut self, at: usize, deleted: usize, inserted: usize) {
        let end = at + deleted;
        self.at = match self.at {
            before if before < at => before,
            after if after >= end => after - deleted + inserted,
            _ => at + inserted,
        };
        let ranges = std::mem::take(&mut self.deleted);
        for (from, to) in ranges {
            if from < at {
                self.deleted.push((from, to.min(at)));
            }
            if to > end {
                self.deleted.push((from.max(end) - deleted + inserted, to - deleted + inserted));
            }
        }
    }
}

impl Change {
    fn lens(&self) -> (usize, usize, usize) {
        (self.at as usize, utf16_len(&self.deleted), utf16_len(&self.inserted))
    }
}

impl Text {
    fn change(&mut self, author: usize, edit: &Edit) {
        let deleted = splice(&mut self.rope, edit.at, edit.deleted, &edit.inserted);
        let (author, at) = (author as u32, edit.at as u32);
        self.log.push(Change { author, at, deleted, inserted: edit.inserted.clone() });
    }
}

impl Document for Text {
    const NAME: &'static str = "splices";
    type Version = usize;

    fn new() -> Self {
        Self { rope: Rope::new(), log: Vec::new() }
    }

    fn edit(&mut self, author: usize, edit: &Edit) {
        self.change(author, edit);
    }

    fn edit_and_export(&mut self, author: usize, edit: &Edit) -> Vec<u8> {
        self.change(author, edit);
        encode(&self.log[self.log.len() - 1..])
    }

    fn version(&mut self) -> usize {
        self.log.len()
    }

    fn text(&self) -> String {
        self.rope.to_string()
    }

    fn text_at(&mut self, version: &usize) -> String {
        let mut rope = self.rope.clone();
        for change in self.log[*version..].iter().rev() {
            splice(&mut rope, change.at as usize, utf16_len(&change.inserted), &change.deleted);
        }
        rope.to_string()
    }

    fn save(&mut self) -> Vec<u8> {
        encode(&self.log)
    }

    fn load(bytes: &[u8]) -> Self {
        let mut text = Self::new();
        text.import(bytes);
        text
    }

    fn import(&mut self, mut update: &[u8]) {
        while !update.is_empty() {
            let author = take_number(&mut update);
            let at = take_number(&mut update);
            let deleted = take_text(&mut update);
            let inserted = take_text(&mut update);
            splice(&mut self.rope, at as usize, utf16_len(&deleted), &inserted);
            self.log.push(Change { author, at, deleted, inserted });
        }
    }
}

impl EditsThePast for Text {
    fn edit_at(&mut self, author: usize, base: &usize, edit: &Edit) -> Vec<Edit> {
        let edits = pass_all(edit, self.log[*base..].iter().map(Change::lens));
        for edit in &edits {
            self.change(author, edit);
        }
        edits
    }
}

/// What an edit becomes after others that it did not know: each a position, and the lengths deleted and inserted.
fn pass_all(edit: &Edit, others: impl Iterator<Item = (usize, usize, usize)>) -> Vec<Edit> {
    let mut late = Late { at: edit.at, deleted: vec![(edit.at, edit.at + edit.deleted)] };
    for (at, deleted, inserted) in others {
        late.pass(at, deleted, inserted);
    }
    // From the end, so that none moves another; the insertion stands before all of them.
    let ranges = late.deleted.iter().rev().filter(|(from, to)| from < to);
    let mut edits: Vec<_> =
        ranges.map(|&(from, to)| Edit { at: from, deleted: to - from, inserted: String::new() }).collect();
    if !edit.inserted.is_empty() {
        edits.push(Edit { at: late.at, deleted: 0, inserted: edit.inserted.clone() });
    }
    edits
}

fn splice(rope: &mut Rope, at: usize, deleted: usize, inserted: &str) -> String {
    let from = rope.utf16_cu_to_char(at);
    let to = rope.utf16_cu_to_char(at + deleted);
    let gone = if from == to { String::new() } else { rope.slice(from..to).to_string() };
    rope.remove(from..to);
    rope.insert(from, inserted);
    gone
}

fn utf16_len(text: &str) -> usize {
    text.encode_utf16().count()
}

fn encode(changes: &[Change]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for change in changes {
        bytes.extend(change.author.to_le_bytes());
        bytes.extend(change.at.to_le_bytes());
        for text in [&change.deleted, &change.inserted] {
            bytes.extend((text.len() as u32).to_le_bytes());
            bytes.extend(text.as_bytes());
        }
    }
    bytes
}

fn take_number(bytes: &mut &[u8]) -> u32 {
    let (number, rest) = bytes.split_first_chunk().expect("a number");
    *bytes = rest;
    u32::from_le_bytes(*number)
}

fn take_text(bytes: &mut &[u8]) -> String {
    let len = take_number(bytes) as usize;
    let (text, rest) = bytes.split_at(len);
    *bytes = rest;
    str::from_utf8(text).expect("text").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Dice;

    /// Every character has its own name: what others wrote stays, and of the range deleted all goes that was there.
    #[test]
    fn a_late_edit_deletes_what_it_saw_and_nothing_else() {
        let mut dice = Dice::new(4);
        for _ in 0..20_000 {
            let mut names =
                (0..).filter_map(char::from_u32).filter(|name| name.is_alphanumeric() && name.len_utf16() == 1);
            let base: Vec<char> = names.by_ref().take(12).collect();
            let mut text = base.clone();
            let others: Vec<_> = (0..dice.below(6))
                .map(|_| {
                    let at = dice.below(text.len() + 1);
                    let (deleted, inserted) = (dice.below((text.len() - at).min(3) + 1), dice.below(3));
                    text.splice(at..at + deleted, names.by_ref().take(inserted)).for_each(drop);
                    (at, deleted, inserted)
                })
                .collect();
            let at = dice.below(base.len() + 1);
            let deleted = dice.below(base.len() - at + 1);
            let expected: Vec<char> =
                text.iter().copied().filter(|name| !base[at..at + deleted].contains(name)).collect();
            let edit = Edit { at, deleted, inserted: "*".to_owned() };
            for edit in pass_all(&edit, others.iter().copied()) {
                text.splice(edit.at..edit.at + edit.deleted, edit.inserted.chars()).for_each(drop);
            }
            let star = text.iter().position(|name| *name == '*').expect("it was inserted");
            assert!(base[..at].iter().all(|name| !text[star..].contains(name)), "what stood before it does");
            assert!(base[at..].iter().all(|name| !text[..star].contains(name)), "what stood behind it does");
            text.remove(star);
            assert_eq!(text, expected, "{edit:?} after {others:?}");
        }
    }
}
