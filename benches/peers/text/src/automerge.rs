//! automerge: a version is the hashes of its last changes.

use automerge::transaction::{CommitOptions, Transactable};
use automerge::{
    ActorId, AutoCommit, ChangeHash, LoadOptions, ObjId, ObjType, Patch, PatchAction, ROOT, ReadDoc, TextEncoding,
};

use crate::document::{Document, Edit, author_name};

pub(crate) struct Text {
    doc: AutoCommit,
    text: ObjId,
}

impl Text {
    fn splice(&mut self, author: usize, edit: &Edit) {
        let deleted = isize::try_from(edit.deleted).expect("a short edit");
        self.doc.splice_text(&self.text, edit.at, deleted, &edit.inserted).expect("a position in the text");
        self.doc.commit_with(CommitOptions::default().with_message(author_name(author)).with_time(1));
    }
}

impl Document for Text {
    const NAME: &'static str = "automerge";
    const WAYS: &'static [&'static str] = &["isolate", "fork", "cursor"];
    type Version = Vec<ChangeHash>;

    fn new() -> Self {
        let mut doc = AutoCommit::new_with_encoding(TextEncoding::Utf16CodeUnit);
        let text = doc.put_object(ROOT, "text", ObjType::Text).expect("a new document");
        doc.commit();
        // From here on, each export has one change.
        doc.save_incremental();
        Self { doc, text }
    }

    fn edit(&mut self, author: usize, edit: &Edit) {
        self.splice(author, edit);
    }

    fn edit_and_export(&mut self, author: usize, edit: &Edit) -> Vec<u8> {
        self.splice(author, edit);
        self.doc.save_incremental()
    }

    fn edit_at(&mut self, way: &str, author: usize, base: &Vec<ChangeHash>, edit: &Edit) -> Vec<Edit> {
        let latest = self.doc.get_heads();
        match way {
            "isolate" => {
                self.doc.isolate(base);
                self.splice(author, edit);
                self.doc.integrate();
            }
            "fork" => {
                let mut fork = Self { doc: self.doc.fork_at(base).expect("a known version"), text: self.text.clone() };
                fork.doc.set_actor(ActorId::random());
                fork.splice(author, edit);
                self.doc.merge(&mut fork.doc).expect("a fork of this document");
            }
            // No merge: the place of the edit is looked up in the latest text, and the edit made there.
            // What others wrote into a deleted range is deleted with it.
            _ => {
                let place = |at| {
                    let cursor = self.doc.get_cursor(&self.text, at, Some(base)).expect("a position in the text");
                    self.doc.get_cursor_position(&self.text, &cursor, None).expect("a cursor of this text")
                };
                let at = place(edit.at);
                let deleted = if edit.deleted == 0 { 0 } else { place(edit.at + edit.deleted) - at };
                let edit = Edit { at, deleted, inserted: edit.inserted.clone() };
                self.splice(author, &edit);
                return vec![edit];
            }
        }
        let now = self.doc.get_heads();
        self.doc.diff(&latest, &now).iter().map(edit_of).collect()
    }

    fn version(&mut self) -> Vec<ChangeHash> {
        self.doc.get_heads()
    }

    fn text(&self) -> String {
        self.doc.text(&self.text).expect("the text")
    }

    fn text_at(&mut self, version: &Vec<ChangeHash>) -> String {
        self.doc.text_at(&self.text, version).expect("a known version")
    }

    fn save(&mut self) -> Vec<u8> {
        self.doc.save()
    }

    fn load(bytes: &[u8]) -> Self {
        let options = LoadOptions::new().text_encoding(TextEncoding::Utf16CodeUnit);
        let doc = AutoCommit::load_with_options(bytes, options).expect("a saved document");
        let (_, text) = doc.get(ROOT, "text").expect("a document").expect("a text in it");
        Self { doc, text }
    }

    fn import(&mut self, update: &[u8]) {
        self.doc.load_incremental(update).expect("an update");
    }
}

fn edit_of(patch: &Patch) -> Edit {
    match &patch.action {
        PatchAction::SpliceText { index, value, .. } => Edit { at: *index, deleted: 0, inserted: value.make_string() },
        PatchAction::DeleteSeq { index, length } => Edit { at: *index, deleted: *length, inserted: String::new() },
        other => unreachable!("only the text changes: {other}"),
    }
}
