//! loro: a version is its frontiers, the ids of its last operations.

use std::sync::{Arc, Mutex};

use loro::event::Diff;
use loro::{CommitOptions, ExportMode, Frontiers, LoroDoc, LoroText, TextDelta};

use crate::document::{Document, Edit, author_name};
use crate::splices::pass_all;

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

    /// What makes the text of one version that of another.
    fn between(&self, from: &Frontiers, to: &Frontiers) -> Vec<Edit> {
        let batch = self.doc.diff(from, to).expect("known versions");
        batch.iter().flat_map(|(_, diff)| edits(diff)).collect()
    }
}

impl Document for Text {
    const NAME: &'static str = "loro";
    const WAYS: &'static [&'static str] = &["checkout", "fork", "diff"];
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

    fn edit_at(&mut self, way: &str, author: usize, base: &Frontiers, edit: &Edit) -> Vec<Edit> {
        match way {
            "checkout" => {
                let latest = self.doc.oplog_frontiers();
                self.doc.set_detached_editing(true);
                self.doc.checkout(base).expect("a known version");
                self.splice(author, edit);
                self.doc.set_detached_editing(false);
                self.doc.checkout_to_latest();
                self.between(&latest, &self.doc.oplog_frontiers())
            }
            "fork" => {
                let fork = Self::with_doc(self.doc.fork_at(base).expect("a known version"));
                let before = fork.doc.oplog_vv();
                fork.splice(author, edit);
                let update = fork.doc.export(ExportMode::updates(&before)).expect("an update");
                let told = Arc::new(Mutex::new(Vec::new()));
                let telling = told.clone();
                let _told = self.doc.subscribe_root(Arc::new(move |event| {
                    telling.lock().unwrap().extend(event.events.iter().flat_map(|change| edits(&change.diff)));
                }));
                self.import(&update);
                std::mem::take(&mut told.lock().unwrap())
            }
            // No merge: the edit is moved past what others did since, and made in the latest text.
            _ => {
                let since = self.between(base, &self.doc.oplog_frontiers());
                let edits =
                    pass_all(edit, since.iter().map(|other| (other.at, other.deleted, other.inserted.chars().count())));
                for edit in &edits {
                    self.splice(author, edit);
                }
                edits
            }
        }
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
