//! yrs: a version is a snapshot, which holds all deletions until then.
//!
//! It edits no old version, and writing one into a document of its own (`encode_state_from_snapshot`) gives bytes
//! that yrs 0.28.1 cannot read where the version ends within a block. What is left is to compare two versions.

use yrs::types::text::ChangeKind;
use yrs::updates::decoder::Decode;
use yrs::{
    Any, ClientID, Doc, GetString, OffsetKind, Options, Out, ReadTxn, Snapshot, StateVector, Text as _, TextRef,
    Transact, TransactionMut, Update,
};

use crate::document::{Document, Edit, author_name};
use crate::splices::pass_all;

pub(crate) struct Text {
    doc: Doc,
    text: TextRef,
}

impl Text {
    fn with_client(client: u64) -> Self {
        // Without `skip_gc` the text of old versions is gone.
        let options =
            Options { offset_kind: OffsetKind::Utf16, skip_gc: true, ..Options::with_client_id(ClientID::new(client)) };
        let doc = Doc::with_options(options);
        let text = doc.get_or_insert_text("text");
        Self { doc, text }
    }

    fn splice(&self, txn: &mut TransactionMut<'_>, edit: &Edit) {
        let (at, deleted) = (edit.at as u32, edit.deleted as u32);
        if deleted > 0 {
            self.text.remove_range(txn, at, deleted);
        }
        self.text.insert(txn, at, &edit.inserted);
    }
}

impl Document for Text {
    const NAME: &'static str = "yrs";
    const WAYS: &'static [&'static str] = &["diff"];
    type Version = Snapshot;

    fn new() -> Self {
        Self::with_client(1)
    }

    fn edit(&mut self, author: usize, edit: &Edit) {
        // The origin is told to those who observe; it is kept nowhere.
        let mut txn = self.doc.transact_mut_with(author_name(author).as_str());
        self.splice(&mut txn, edit);
    }

    fn edit_and_export(&mut self, author: usize, edit: &Edit) -> Vec<u8> {
        let mut txn = self.doc.transact_mut_with(author_name(author).as_str());
        self.splice(&mut txn, edit);
        txn.encode_update_v1()
    }

    fn edit_at(&mut self, _way: &str, author: usize, base: &Snapshot, edit: &Edit) -> Vec<Edit> {
        let latest = self.version();
        let mut txn = self.doc.transact_mut_with(author_name(author).as_str());
        let chunks = self.text.diff_range(&mut txn, Some(&latest), Some(base), |change| change.kind);
        let mut others = Vec::new();
        let mut at = 0;
        for chunk in chunks {
            let Out::Any(Any::String(text)) = chunk.insert else { unreachable!("only text was inserted") };
            let len = text.encode_utf16().count();
            match chunk.ychange {
                Some(ChangeKind::Removed) => others.push((at, len, 0)),
                Some(ChangeKind::Added) => others.push((at, 0, len)),
                None => {}
            }
            if chunk.ychange != Some(ChangeKind::Removed) {
                at += len;
            }
        }
        let edits = pass_all(edit, others.into_iter());
        for edit in &edits {
            self.splice(&mut txn, edit);
        }
        edits
    }

    fn version(&mut self) -> Snapshot {
        self.doc.transact().snapshot()
    }

    fn text(&self) -> String {
        self.text.get_string(&self.doc.transact())
    }

    fn text_at(&mut self, version: &Snapshot) -> String {
        let chunks = self.text.diff_range(&mut self.doc.transact_mut(), Some(version), None, |_| ());
        chunks.into_iter().map(|chunk| chunk.insert.to_string(&self.doc.transact())).collect()
    }

    fn save(&mut self) -> Vec<u8> {
        self.doc.transact().encode_state_as_update_v1(&StateVector::default())
    }

    fn load(bytes: &[u8]) -> Self {
        // A client that comes back needs a number that it never had; the updates of one round come from the first.
        let mut text = Self::with_client(3);
        text.import(bytes);
        text
    }

    fn import(&mut self, update: &[u8]) {
        let update = Update::decode_v1(update).expect("an update");
        self.doc.transact_mut().apply_update(update).expect("an update that fits");
    }
}
