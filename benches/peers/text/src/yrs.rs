//! yrs: a version is a snapshot, which holds all deletions until then.
//!
//! It edits no old version, and writing one into a document of its own (`encode_state_from_snapshot`) gives bytes
//! that yrs 0.28.1 cannot read where the version ends within a block. What is left is a replica that stays there.

use std::sync::mpsc;

use yrs::types::Delta;
use yrs::updates::decoder::Decode;
use yrs::{
    Any, ClientID, Doc, GetString, Observable, OffsetKind, Options, Out, ReadTxn, Snapshot, StateVector, Text as _,
    TextRef, Transact, TransactionMut, Update,
};

use crate::document::{Document, Edit, Replicated, author_name};

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

impl Replicated for Text {
    fn replica(&mut self) -> Self {
        let mut replica = Self::with_client(4);
        replica.import(&self.save());
        replica
    }

    fn merge(&mut self, update: &[u8]) -> Vec<Edit> {
        let (tell, told) = mpsc::channel();
        self.text.observe("merge", move |txn, event| drop(tell.send(edits(event.delta(txn)))));
        self.import(update);
        self.text.unobserve("merge");
        told.try_iter().flatten().collect()
    }
}

fn edits(delta: &[Delta]) -> Vec<Edit> {
    let mut at = 0;
    let mut edits = Vec::new();
    for step in delta {
        match step {
            Delta::Retain(len, _) => at += *len as usize,
            Delta::Deleted(len) => edits.push(Edit { at, deleted: *len as usize, inserted: String::new() }),
            Delta::Inserted(Out::Any(Any::String(text)), _) => {
                edits.push(Edit { at, deleted: 0, inserted: text.to_string() });
                at += text.encode_utf16().count();
            }
            Delta::Inserted(..) => unreachable!("only text was inserted"),
        }
    }
    edits
}
