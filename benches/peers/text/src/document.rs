//! What every crate must do here, and the typist who makes them do it.

/// One splice: at this position, so many UTF-16 code units deleted, this inserted.
#[derive(Clone, Debug)]
pub(crate) struct Edit {
    pub(crate) at: usize,
    pub(crate) deleted: usize,
    pub(crate) inserted: String,
}

/// The only document of a server. Positions count UTF-16 code units, as in a browser.
pub(crate) trait Document: Sized {
    const NAME: &'static str;
    /// What the server keeps to find a version again.
    type Version: Clone;

    fn new() -> Self;
    /// Makes an edit at the latest version, as a change of its own with its author.
    fn edit(&mut self, author: usize, edit: &Edit);
    /// The same, and returns the bytes that make it in another copy of the document.
    fn edit_and_export(&mut self, author: usize, edit: &Edit) -> Vec<u8>;
    fn version(&mut self) -> Self::Version;
    fn text(&self) -> String;
    fn text_at(&mut self, version: &Self::Version) -> String;
    fn save(&mut self) -> Vec<u8>;
    fn load(bytes: &[u8]) -> Self;
    fn import(&mut self, update: &[u8]);
}

/// One that can go back.
pub(crate) trait EditsThePast: Document {
    /// Makes an edit at an old version, and returns what it does to the latest text, one splice after another.
    fn edit_at(&mut self, author: usize, base: &Self::Version, edit: &Edit) -> Vec<Edit>;
}

/// One that merges what its copies did.
pub(crate) trait Replicated: Document {
    /// Makes a copy that writes for itself.
    fn replica(&mut self) -> Self;
    /// Takes an update in, and returns what it does to the text, one splice after another.
    fn merge(&mut self, update: &[u8]) -> Vec<Edit>;
}

/// The message that carries the author of a change.
pub(crate) fn author_name(author: usize) -> String {
    format!("user-{author}")
}

/// Does edits one after another to a text of ASCII.
pub(crate) fn apply_all(text: &mut String, edits: &[Edit]) {
    for edit in edits {
        text.replace_range(edit.at..edit.at + edit.deleted, &edit.inserted);
    }
}

/// Steele and Vigna's splitmix64: every round throws the same.
#[derive(Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((bits ^ (bits >> 31)) % limit as u64).expect("below a usize")
    }
}

/// Types at a cursor, takes one edit in ten back, and goes elsewhere after a hundred edits or so.
#[derive(Debug)]
pub(crate) struct Typist {
    dice: Dice,
    cursor: usize,
    pub(crate) len: usize,
}

impl Typist {
    pub(crate) fn new(seed: u64, len: usize) -> Self {
        Self { dice: Dice::new(seed), cursor: len, len }
    }

    /// The next edit, of pieces of `size` characters.
    pub(crate) fn next(&mut self, size: usize) -> Edit {
        if self.dice.below(100) == 0 {
            self.cursor = self.dice.below(self.len + 1);
        }
        if self.cursor >= size && self.dice.below(10) == 0 {
            self.cursor -= size;
            self.len -= size;
            return Edit { at: self.cursor, deleted: size, inserted: String::new() };
        }
        let letter = b"etaoin shrdlu\n"[self.dice.below(14)];
        let edit = Edit { at: self.cursor, deleted: 0, inserted: char::from(letter).to_string().repeat(size) };
        self.cursor += size;
        self.len += size;
        edit
    }

    /// An edit anywhere in a text of this length; one in five deletes a few characters.
    pub(crate) fn anywhere(&mut self, len: usize) -> Edit {
        let at = self.dice.below(len + 1);
        if self.dice.below(5) == 0 {
            return Edit { at, deleted: 8.min(len - at), inserted: String::new() };
        }
        Edit { at, deleted: 0, inserted: "x".to_owned() }
    }

    /// A text that others changed too.
    pub(crate) fn has_len(&mut self, len: usize) {
        self.len = len;
        self.cursor = self.cursor.min(len);
    }
}
