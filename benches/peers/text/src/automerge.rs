//! automerge: a version is the hashes of its last changes.

use automerge::transaction::{CommitOptions, Transactable};
use automerge::{AutoCommit, ChangeHash, LoadOptions, ObjId, ObjType, Patch, PatchAction, ROOT, ReadDoc, TextEncoding};

use crate::document::{Document, Edit, EditsThePast, author_name};

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

impl EditsThePast for Text {
    fn edit_at(&mut self, author: usize, base: &Vec<ChangeHash>, edit: &Edit) -> Vec<Edit> {
        let latest = self.doc.get_heads();
        self.doc.isolate(base);
        self.splice(author, edit);
        self.doc.integrate();
        let now = self.doc.get_heads();
        self.doc.diff(&latest, &now).iter().map(edit_of).collect()
    }
}

fn edit_of(patch: &Patch) -> Edit {
    match &patch.action {
        PatchAction::SpliceText { index, value, .. } => Edit { at: *index, deleted: 0, inserted: value.make_string() },
        PatchAction::DeleteSeq { index, length } => Edit { at: *index, deleted: *length, inserted: String::new() },
        other => unreachable!("only the text changes: {other}"),
    }
}
