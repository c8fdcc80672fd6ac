//! loro: a version is its frontiers, the ids of its last operations.

use std::sync::{Arc, mpsc};

use loro::event::Diff;
use loro::{CommitOptions, ExportMode, Frontiers, LoroDoc, LoroText, TextDelta};

use crate::document::{Document, Edit, EditsThePast, Replicated, author_name};

pub(crate) struct Text {
    doc: LoroDoc,
    text: LoroText,
}

impl Text {
    fn with_doc(doc: LoroDoc) -> Self {
        // Not saved with the document. Changes of one author would otherwise become one.
        doc.set_change_merge_interval(-1);
        let text = doc.get_text("text");
        Self { doc, text }
    }

    fn splice(&self, author: usize, edit: &Edit) {
        self.text.splice_utf16(edit.at, edit.deleted, &edit.inserted).expect("a position in the text");
        self.doc.commit_with(CommitOptions::new().commit_msg(&author_name(author)).timestamp(1));
    }
}

impl Document for Text {
    const NAME: &'static str = "loro";
    type Version = Frontiers;

    fn new() -> Self {
        Self::with_doc(LoroDoc::new())
    }

    fn edit(&mut self, author: usize, edit: &Edit) {
        self.splice(author, edit);
    }

    fn edit_and_export(&mut self, author: usize, edit: &Edit) -> Vec<u8> {
        let before = self.doc.oplog_vv();
        self.splice(author, edit);
        self.doc.export(ExportMode::updates(&before)).expect("an update")
    }

    fn version(&mut self) -> Frontiers {
        self.doc.oplog_frontiers()
    }

    fn text(&self) -> String {
        self.text.to_string()
    }

    fn text_at(&mut self, version: &Frontiers) -> String {
        self.doc.checkout(version).expect("a known version");
        let text = self.text.to_string();
        self.doc.checkout_to_latest();
        text
    }

    fn save(&mut self) -> Vec<u8> {
        self.doc.export(ExportMode::Snapshot).expect("a snapshot")
    }

    fn load(bytes: &[u8]) -> Self {
        Self::with_doc(LoroDoc::from_snapshot(bytes).expect("a snapshot"))
    }

    fn import(&mut self, update: &[u8]) {
        self.doc.import(update).expect("an update");
    }
}

impl EditsThePast for Text {
    fn edit_at(&mut self, author: usize, base: &Frontiers, edit: &Edit) -> Vec<Edit> {
        let latest = self.doc.oplog_frontiers();
        self.doc.set_detached_editing(true);
        self.doc.checkout(base).expect("a known version");
        self.splice(author, edit);
        self.doc.set_detached_editing(false);
        self.doc.checkout_to_latest();
        let batch = self.doc.diff(&latest, &self.doc.oplog_frontiers()).expect("known versions");
        batch.iter().flat_map(|(_, diff)| edits(diff)).collect()
    }
}

impl Replicated for Text {
    fn replica(&mut self) -> Self {
        // It has a random name of its own.
        Self::load(&self.save())
    }

    fn merge(&mut self, update: &[u8]) -> Vec<Edit> {
        let (tell, told) = mpsc::channel();
        let _listens = self.doc.subscribe_root(Arc::new(move |event| {
            drop(tell.send(event.events.iter().flat_map(|change| edits(&change.diff)).collect::<Vec<_>>()));
        }));
        self.import(update);
        told.try_iter().flatten().collect()
    }
}

/// Deltas count Unicode scalars: the same here, where all is ASCII.
fn edits(diff: &Diff<'_>) -> Vec<Edit> {
    let Diff::Text(delta) = diff else { unreachable!("only the text changes") };
    let mut at = 0;
    let mut edits = Vec::new();
    for step in delta {
        match step {
            TextDelta::Retain { retain, .. } => at += retain,
            TextDelta::Delete { delete } => edits.push(Edit { at, deleted: *delete, inserted: String::new() }),
            TextDelta::Insert { insert, .. } => {
                edits.push(Edit { at, deleted: 0, inserted: insert.clone() });
                at += insert.chars().count();
            }
        }
    }
    edits
}
