//! A document as a plain value: it checks edits, merges them, and keeps the text's old versions.
//!
//! **Every session has a replica.** A browser says "at position 5 of version 12, delete 3, insert this". Its replica is
//! a copy of the document with exactly the updates that the browser has seen. The edit is checked and made there, and
//! becomes an update, which the main copy merges. The other clients get the changes that the merge made in the
//! latest text. No code here shifts positions: yrs makes copies with the same updates have the same text.
//!
//! | copy | has seen | writes under |
//! |---|---|---|
//! | main | all versions | nothing: it only merges |
//! | a session's replica | versions up to the one of its last edit, and that edit | a number of its own meanwhile |
//!
//! A replica may write under a number only if it has all earlier edits under that number; otherwise two edits would
//! have one name. So a replica that starts at an old version takes a number that has written nothing since.
//!
//! The figures behind the choice of yrs, from `benches/peers/text`, for a client that is ten edits behind:
//!
//! | | a text of 1 KB | 100 KB | for each edit that a replica gets | an update |
//! |---|---|---|---|---|
//! | loro, an edit at an old version | 0.8 ms | 13 ms | | |
//! | automerge, the same | 0.6 ms | 55 ms | | |
//! | loro, an edit in a replica, merged | 34 us | 142 us | 25 us | 97 bytes |
//! | yrs, the same | 3 us | 25 us | 0.6 us | 16 bytes |

use std::collections::HashMap;
use std::sync::mpsc;

use fanfare::channel::UserId;
use serde::{Deserialize, Serialize};
use yrs::types::Delta;
use yrs::updates::decoder::Decode;
use yrs::{
    ClientID, Doc, GetString, Observable, OffsetKind, Options, Out, ReadTxn, StateVector, Text, TextRef, Transact,
    Update,
};

/// The longest text, in UTF-16 code units, which is how a browser counts.
const LONGEST: i64 = 64 << 10;
/// The most changes in one edit.
const CHANGES: usize = 32;
/// How many versions are kept. Past it the older half becomes one state.
pub(crate) const VERSIONS: usize = 20_000;
/// The same in bytes of updates.
pub(crate) const BYTES: usize = 8 << 20;
/// The largest state in bytes; it includes deleted text. Past it the document restarts with its current text.
pub(crate) const STATE: usize = 1 << 20;

/// One change: at a position, deletes a number of code units and inserts a text. `[position, deleted, inserted]` as
/// JSON. In a list, each change applies to the result of the one before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Splice(pub(crate) u32, pub(crate) u32, pub(crate) String);

/// One open page of one user.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Author {
    pub(crate) user: UserId,
    pub(crate) session: String,
}

/// The record of an edit: the difference between its version and the one before.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) author: Author,
    /// Its number in the session; 0 for an edit by the server.
    pub(crate) edit: u64,
    /// Unix time, in milliseconds.
    pub(crate) time: u64,
    pub(crate) update: Vec<u8>,
}

/// An edit, as a browser requests it.
#[derive(Debug, Deserialize)]
pub(crate) struct Edit {
    /// Its number in the session, from 1 on.
    pub(crate) edit: u64,
    /// The version of the text in which it was made.
    pub(crate) version: u64,
    pub(crate) changes: Vec<Splice>,
}

/// The outcome of an edit: its changes to the version before; `None` if it was made already; or why it is refused.
pub(crate) type Outcome = Result<Option<Vec<Splice>>, String>;

#[derive(Debug)]
pub(crate) struct Document {
    main: Replica,
    /// The changes that the last merges made in the main copy.
    merged: mpsc::Receiver<Vec<Splice>>,
    /// The version before the first row, and its text as one update.
    pub(crate) base: (u64, Vec<u8>),
    pub(crate) rows: Vec<Row>,
    /// For each replica number, from 1 on, the version of the last edit under it.
    wrote: Vec<u64>,
    sessions: HashMap<Author, Session>,
}

#[derive(Debug, Default)]
struct Session {
    /// The number of its last edit, and the version that this edit made.
    edit: u64,
    version: u64,
    replica: Option<Replica>,
}

/// A copy of the document.
#[derive(Debug)]
struct Replica {
    doc: Doc,
    text: TextRef,
    /// The number under which it writes.
    number: u64,
    /// The latest version that it includes.
    version: u64,
}

/// The numbers of copies that do not write.
const MAIN: u64 = u32::MAX as u64;
const READER: u64 = 0;

impl Document {
    pub(crate) fn new(base: (u64, Vec<u8>), rows: Vec<Row>) -> Self {
        let latest = base.0 + rows.len() as u64;
        let mut main = Replica::new(MAIN);
        main.bring(&base, &rows, latest);
        let numbers = main.doc.transact().state_vector().iter().map(|(number, _)| number.get()).max().unwrap_or(0);
        let (tell, merged) = mpsc::channel();
        main.text.observe("merged", move |txn, event| drop(tell.send(splices(event.delta(txn)))));
        let mut sessions: HashMap<Author, Session> = HashMap::new();
        for (row, version) in rows.iter().zip(base.0 + 1..).filter(|(row, _)| row.edit > 0) {
            sessions.insert(row.author.clone(), Session { edit: row.edit, version, replica: None });
        }
        Self { main, merged, base, rows, wrote: vec![latest; numbers as usize], sessions }
    }

    pub(crate) fn latest(&self) -> u64 {
        self.base.0 + self.rows.len() as u64
    }

    pub(crate) fn text(&self) -> String {
        self.main.text()
    }

    /// Returns the number of the last edit of a session, 0 before the first.
    pub(crate) fn last_edit(&self, author: &Author) -> u64 {
        self.sessions.get(author).map_or(0, |session| session.edit)
    }

    /// Drops the replicas of pages that are gone.
    pub(crate) fn keep_replicas(&mut self, is_here: impl Fn(&Author) -> bool) {
        for (author, session) in &mut self.sessions {
            session.replica.take_if(|_| !is_here(author));
        }
        self.sessions.retain(|_, session| session.edit > 0 || session.replica.is_some());
    }

    /// Applies a browser's edit.
    pub(crate) fn edit(&mut self, author: &Author, asked: &Edit, time: u64) -> Outcome {
        let (latest, oldest) = (self.latest(), self.base.0);
        let Edit { edit, version, .. } = asked;
        let (next, least) = self.sessions.get(author).map_or((1, 0), |session| (session.edit + 1, session.version));
        if *edit == 0 {
            return Err("edits are numbered from 1 on".into());
        } else if *edit < next {
            return Ok(None);
        } else if *edit > next {
            return Err(format!("edit {edit} skips numbers: the next one of this session is {next}"));
        } else if *version > latest {
            return Err(format!("there is no version {version}: the latest is {latest}"));
        } else if *version < least {
            return Err(format!(
                "version {version} lacks this session's last edit: wait for its answer, version {least}"
            ));
        } else if *version < oldest {
            return Err(format!("version {version} is too old to be edited: the oldest kept version is {oldest}"));
        }
        let replica = self.sessions.get_mut(author).and_then(|session| session.replica.take());
        // A refused edit may have advanced the replica beyond this edit's version.
        let replica = replica.filter(|replica| replica.version <= *version);
        let mut replica = replica.unwrap_or_else(|| Replica::new(self.free_number(*version)));
        let made = self.make(author, &mut replica, asked, time);
        let session = self.sessions.entry(author.clone()).or_default();
        session.replica = Some(replica);
        if made.is_ok() {
            (session.edit, session.version) = (*edit, latest + 1);
        }
        made
    }

    /// Restores the text of an old version, by an edit of the latest one.
    pub(crate) fn restore(&mut self, author: &Author, version: u64, time: u64) -> Outcome {
        let (oldest, latest) = (self.base.0, self.latest());
        let kept = || format!("there is no version {version}: {oldest} to {latest} are kept");
        let then = self.text_at(version).ok_or_else(kept)?;
        let change = difference(&self.text(), &then).ok_or_else(|| format!("the text is that of version {version}"))?;
        let mut replica = Replica::new(self.free_number(latest));
        self.make(author, &mut replica, &Edit { edit: 0, version: latest, changes: vec![change] }, time)
    }

    /// Returns the text of a version; `None` if the version is not kept.
    pub(crate) fn text_at(&self, version: u64) -> Option<String> {
        (self.base.0..=self.latest()).contains(&version).then(|| self.reader(version).text())
    }

    fn reader(&self, version: u64) -> Replica {
        let mut reader = Replica::new(READER);
        reader.bring(&self.base, &self.rows, version);
        reader
    }

    /// Makes an edit in a replica, merges it, and keeps its row. A refused edit changes nothing.
    fn make(&mut self, author: &Author, replica: &mut Replica, asked: &Edit, time: u64) -> Outcome {
        let Edit { edit, version, changes } = asked;
        if replica.version == 0 && *version == self.latest() {
            // A new replica takes the whole state at once.
            replica.merge(&self.main.state());
            replica.version = *version;
        }
        replica.bring(&self.base, &self.rows, *version);
        let (longer, inserted) = check(&replica.text(), changes)?;
        // In an old version, other edits may have deleted the same text since: then only the insertions count.
        let longer = if *version == self.latest() { longer } else { inserted };
        if inserted > 0 && self.main.len() + longer > LONGEST {
            return Err(format!("the text would have more than {LONGEST} UTF-16 code units: delete something first"));
        }
        let update = replica.make(changes);
        self.main.merge(&update);
        self.rows.push(Row { author: author.clone(), edit: *edit, time, update });
        let number = replica.number as usize;
        self.wrote.resize(self.wrote.len().max(number), 0);
        self.wrote[number - 1] = self.latest();
        Ok(Some(self.merged.try_iter().flatten().collect()))
    }

    /// Returns a number that no replica has, and under which nothing was written since `version`.
    fn free_number(&self, version: u64) -> u64 {
        let is_taken = |number| {
            let mut replicas = self.sessions.values().filter_map(|session| session.replica.as_ref());
            replicas.any(|replica| replica.number == number)
        };
        let wrote = |number: u64| self.wrote.get(number as usize - 1).copied().unwrap_or(0);
        (1..).find(|number| wrote(*number) <= version && !is_taken(*number)).expect("numbers do not run out")
    }

    /// Merges the older half of the versions into one state while there are too many; returns whether it did.
    pub(crate) fn fold(&mut self, versions: usize, bytes: usize, state: usize) -> bool {
        let mut folded = false;
        while self.rows.len() > versions || self.rows.iter().map(|row| row.update.len()).sum::<usize>() > bytes {
            let old = self.rows.len().div_ceil(2);
            let version = self.base.0 + old as u64;
            self.base = (version, self.reader(version).state());
            self.rows.drain(..old);
            self.sessions.retain(|_, session| session.version > version || session.replica.is_some());
            folded = true;
        }
        if folded && self.base.1.len() > state {
            self.begin_anew();
        }
        folded
    }

    /// Drops all versions except the latest, and all deleted text.
    fn begin_anew(&mut self) {
        let text = Replica::new(1);
        text.make(&[Splice(0, 0, self.text())]);
        let sessions = std::mem::take(&mut self.sessions);
        *self = Self::new((self.latest(), text.state()), Vec::new());
        self.sessions = sessions.into_iter().map(|(it, session)| (it, Session { replica: None, ..session })).collect();
    }
}

impl Replica {
    fn new(number: u64) -> Self {
        let options = Options { offset_kind: OffsetKind::Utf16, ..Options::with_client_id(ClientID::new(number)) };
        let doc = Doc::with_options(options);
        let text = doc.get_or_insert_text("text");
        Self { doc, text, number, version: 0 }
    }

    /// Applies the updates up to `version` that the replica lacks.
    fn bring(&mut self, (oldest, state): &(u64, Vec<u8>), rows: &[Row], version: u64) {
        if self.version < *oldest {
            self.merge(state);
            self.version = *oldest;
        }
        for row in &rows[(self.version - oldest) as usize..(version - oldest) as usize] {
            self.merge(&row.update);
        }
        self.version = version;
    }

    fn text(&self) -> String {
        self.text.get_string(&self.doc.transact())
    }

    /// Returns the whole state as one update.
    fn state(&self) -> Vec<u8> {
        self.doc.transact().encode_state_as_update_v1(&StateVector::default())
    }

    fn len(&self) -> i64 {
        i64::from(self.text.len(&self.doc.transact()))
    }

    fn merge(&self, update: &[u8]) {
        let update = Update::decode_v1(update).expect("an update that this program has made");
        self.doc.transact_mut().apply_update(update).expect("an update of this document");
    }

    /// Makes changes that were checked, and returns the update that makes them in other copies.
    fn make(&self, changes: &[Splice]) -> Vec<u8> {
        let mut txn = self.doc.transact_mut();
        for Splice(position, deleted, inserted) in changes {
            if *deleted > 0 {
                self.text.remove_range(&mut txn, *position, *deleted);
            }
            if !inserted.is_empty() {
                self.text.insert(&mut txn, *position, inserted);
            }
        }
        txn.encode_update_v1()
    }
}

/// Checks changes against their text; returns by how much they lengthen it, and how much they insert.
fn check(text: &str, changes: &[Splice]) -> Result<(i64, i64), String> {
    if !(1..=CHANGES).contains(&changes.len()) {
        return Err(format!("an edit has 1 to {CHANGES} changes"));
    }
    let mut units: Vec<u16> = text.encode_utf16().collect();
    let (before, mut inserts) = (units.len(), 0);
    for Splice(position, deleted, inserted) in changes {
        let (from, to) = (*position as usize, *position as usize + *deleted as usize);
        if to > units.len() {
            return Err(format!("a change ends at {to}, and its text at {}", units.len()));
        }
        // Between the two halves of a character.
        let splits = |at: usize| at < units.len() && (0xdc00..0xe000).contains(&units[at]);
        if splits(from) || splits(to) {
            return Err(format!("a change from {from} to {to} splits a character: count UTF-16 code units"));
        }
        if inserted.chars().any(|letter| letter.is_control() && !matches!(letter, '\n' | '\t')) {
            return Err("a text has no control characters except tabs and line feeds".into());
        }
        units.splice(from..to, inserted.encode_utf16());
        inserts += inserted.encode_utf16().count() as i64;
    }
    Ok((units.len() as i64 - before as i64, inserts))
}

/// Returns the change from one text to the other, between their common start and common end.
fn difference(from: &str, to: &str) -> Option<Splice> {
    let same = |(a, b): &(char, char)| a == b;
    let start = from.chars().zip(to.chars()).take_while(same).map(|(letter, _)| letter.len_utf8()).sum::<usize>();
    let (from_rest, to_rest) = (&from[start..], &to[start..]);
    let ends = from_rest.chars().rev().zip(to_rest.chars().rev());
    let end = ends.take_while(same).map(|(letter, _)| letter.len_utf8()).sum::<usize>();
    let (deleted, inserted) = (&from_rest[..from_rest.len() - end], &to_rest[..to_rest.len() - end]);
    let units = |text: &str| text.encode_utf16().count() as u32;
    (deleted != inserted).then(|| Splice(units(&from[..start]), units(deleted), inserted.to_owned()))
}

/// Converts yrs's report of a merge to a list of changes.
fn splices(delta: &[Delta]) -> Vec<Splice> {
    let mut at = 0;
    let mut changes: Vec<Splice> = Vec::new();
    for step in delta {
        match step {
            Delta::Retain(len, _) => at += len,
            Delta::Deleted(len) => changes.push(Splice(at, *len, String::new())),
            Delta::Inserted(Out::Any(yrs::Any::String(text)), _) => {
                changes.push(Splice(at, 0, text.to_string()));
                at += text.encode_utf16().count() as u32;
            }
            Delta::Inserted(..) => unreachable!("a text has nothing but text"),
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn author(name: &str) -> Author {
        Author { user: UserId::new(name).expect("a name"), session: format!("{name}1") }
    }

    fn empty() -> Document {
        Document::new((0, Vec::new()), Vec::new())
    }

    fn again(document: &Document) -> Document {
        Document::new(document.base.clone(), document.rows.clone())
    }

    fn edit(edit: u64, version: u64, changes: &[(u32, u32, &str)]) -> Edit {
        let changes = changes.iter().map(|(at, deleted, text)| Splice(*at, *deleted, (*text).to_owned())).collect();
        Edit { edit, version, changes }
    }

    fn apply(text: &str, changes: &[Splice]) -> String {
        let mut units: Vec<u16> = text.encode_utf16().collect();
        for Splice(at, deleted, inserted) in changes {
            let at = *at as usize;
            units.splice(at..at + *deleted as usize, inserted.encode_utf16());
        }
        String::from_utf16(&units).expect("no half of a character")
    }

    /// xorshift: every run draws the same numbers.
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, limit: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 % limit as u64) as usize
        }

        /// Returns a change of this text that does not split a character.
        fn change(&mut self, text: &str) -> Splice {
            let letters: Vec<char> = text.chars().collect();
            let units = |letters: &[char]| letters.iter().map(|letter| letter.len_utf16() as u32).sum();
            let from = self.below(letters.len() + 1);
            let to = (from + self.below(4)).min(letters.len());
            let word = ["a", "bc", "\u{1f600}", "d\ne", "\u{e9}"][self.below(5)];
            Splice(units(&letters[..from]), units(&letters[from..to]), word.to_owned())
        }
    }

    #[test]
    fn edits_at_old_versions_match_the_changes_sent_and_survive_a_restart_and_a_fold() {
        let mut dice = Dice(7);
        let mut document = empty();
        let mut mirror = String::new();
        // The version and text that each of five pages has seen.
        let mut pages: Vec<(Author, u64, u64, String)> =
            ["ada", "bob", "cleo", "dan", "eve"].map(|name| (author(name), 0, 0, String::new())).into();
        for round in 1..=1500_u64 {
            let (who, last, version, text) = &mut pages[dice.below(5)];
            let mut then = text.clone();
            let changes = (0..=dice.below(3)).map(|_| {
                let change = dice.change(&then);
                then = apply(&then, std::slice::from_ref(&change));
                change
            });
            let asked = Edit { edit: *last + 1, version: *version, changes: changes.collect() };
            if *version >= document.base.0 {
                let told = document.edit(who, &asked, round).expect("it is good").expect("it is new");
                mirror = apply(&mirror, &told);
                assert_eq!(mirror, document.text(), "the changes sent lead to the same text");
                assert_eq!(document.edit(who, &asked, round), Ok(None), "the same edit is made once");
                *last += 1;
            }
            (*version, *text) = (document.latest(), mirror.clone());
            if round % 97 == 0 {
                document = again(&document);
            }
            if round % 400 == 0 {
                assert!(document.fold(150, BYTES, STATE));
                assert_eq!((document.text_at(document.base.0 - 1), document.rows.len() <= 150), (None, true));
            }
            assert_eq!(document.text(), mirror);
        }
        let (version, text) = (pages[0].2, pages[0].3.clone());
        assert_eq!(again(&document).text_at(version), Some(text), "an old version");
    }

    #[test]
    fn a_state_that_is_mostly_deleted_text_begins_anew_and_edits_go_on() {
        let (ada, bob) = (author("ada"), author("bob"));
        let mut document = empty();
        document.edit(&bob, &edit(1, 0, &[(0, 0, "kept")]), 0).expect("it is good");
        for number in 1..=200 {
            let change = if number % 2 == 1 { (2, 0, "gone") } else { (2, 4, "") };
            document.edit(&ada, &edit(number, document.latest(), &[change]), number).expect("it is good");
        }
        assert!(document.fold(100, BYTES, 10));
        assert_eq!((document.base.0, document.rows.len(), document.text().as_str()), (201, 0, "kept"));
        assert!(document.base.1.len() < 100, "{} bytes", document.base.1.len());
        let asked = edit(201, 201, &[(4, 0, "!")]);
        assert_eq!(document.edit(&ada, &asked, 0), Ok(Some(vec![Splice(4, 0, "!".into())])));
        assert_eq!(document.edit(&ada, &asked, 0), Ok(None), "ada's edits are still known");
        document.restore(&bob, 201, 0).expect("it is kept");
        assert_eq!((document.text().as_str(), again(&document).text().as_str()), ("kept", "kept"));
    }

    #[test]
    fn an_invalid_edit_is_refused_and_changes_nothing() {
        let ada = author("ada");
        let mut document = empty();
        let mut refused = |asked: Edit, why: &str| {
            let error = document.edit(&ada, &asked, 0).expect_err("it cannot be");
            assert!(error.contains(why), "{error}");
        };
        refused(edit(1, 0, &[(1, 0, "x")]), "a change ends at 1");
        refused(edit(1, 0, &[(u32::MAX, u32::MAX, "x")]), "its text at 0");
        refused(edit(1, 0, &[(0, 0, "\u{1f600}"), (1, 0, "x")]), "splits a character");
        refused(edit(1, 0, &[(0, 0, "\r")]), "no control characters");
        refused(edit(1, 0, &[]), "1 to 32 changes");
        refused(edit(1, 1, &[(0, 0, "x")]), "no version 1");
        refused(edit(0, 0, &[(0, 0, "x")]), "from 1 on");
        refused(edit(3, 0, &[(0, 0, "x")]), "skips");
        refused(edit(1, 0, &[(0, 0, &"x".repeat(LONGEST as usize + 1))]), "65536");
        assert_eq!(document.edit(&ada, &edit(1, 0, &[(0, 0, "x")]), 0), Ok(Some(vec![Splice(0, 0, "x".into())])));
        let error = document.edit(&ada, &edit(2, 0, &[(0, 0, "x")]), 0).expect_err("it is too early");
        assert!(error.contains("wait for its answer"), "{error}");
        assert_eq!((document.text(), document.latest()), ("x".to_owned(), 1));
        // A refused edit does not disturb the edits after it.
        assert!(document.edit(&author("bob"), &edit(1, 1, &[(1, 0, "y")]), 0).is_ok());
        assert!(document.edit(&ada, &edit(2, 2, &[(9, 0, "x")]), 0).is_err());
        assert!(document.edit(&ada, &edit(2, 1, &[(1, 0, "z")]), 0).is_ok());
        assert_eq!(document.text().len(), 3);
    }

    #[test]
    fn two_users_replacing_the_same_text_do_not_exceed_the_limit() {
        let (ada, bob) = (author("ada"), author("bob"));
        let mut document = empty();
        let (a, b, c) = ("a".repeat(LONGEST as usize), "b".repeat(LONGEST as usize), "c".repeat(LONGEST as usize));
        let all = LONGEST as u32;
        assert!(document.edit(&ada, &edit(1, 0, &[(0, 0, &a)]), 0).is_ok());
        assert!(document.edit(&ada, &edit(2, 1, &[(0, all, &b)]), 0).is_ok());
        assert!(document.edit(&bob, &edit(1, 1, &[(0, all, &c)]), 0).is_err());
        assert_eq!((document.text() == b, document.latest(), document.last_edit(&ada)), (true, 2, 2));
        let told = document.edit(&bob, &edit(1, 2, &[(1, 1, "")]), 0);
        assert_eq!(told, Ok(Some(vec![Splice(1, 1, String::new())])));
        assert_eq!(again(&document).text(), document.text());
    }

    #[test]
    fn an_old_version_is_restored_by_an_ordinary_edit() {
        let ada = author("ada");
        let mut document = empty();
        assert!(document.edit(&ada, &edit(1, 0, &[(0, 0, "one \u{1f600} two")]), 0).is_ok());
        assert!(document.edit(&ada, &edit(2, 1, &[(4, 2, "\u{1f601}")]), 0).is_ok());
        assert!(document.restore(&ada, 9, 0).is_err());
        let told = document.restore(&ada, 1, 0);
        assert_eq!(told, Ok(Some(vec![Splice(4, 2, String::new()), Splice(4, 0, "\u{1f600}".into())])));
        assert_eq!((document.text(), document.latest()), ("one \u{1f600} two".to_owned(), 3));
        // A restore has no edit number: the session's own numbers go on.
        assert!(document.edit(&ada, &edit(3, 3, &[(0, 4, "")]), 0).is_ok());
    }
}
