//! Which crate should keep the text of a collaborative editor's server?
//!
//! A client sends a splice (position, characters deleted, text inserted) that it made at some version of the document;
//! the server brings it to the latest one, tells all what it became there, and keeps who wrote what. It can make the
//! edit at that version of its only document (`late`), or keep a replica for each client that has seen what the client
//! has, make the edit there, and merge it (`merging`). Beside three CRDTs stands a rope with a list of splices.
//!
//! One JSON object a line, with the median, the least and the most of three rounds, in which the crates take
//! turns. No round of a case lasts longer than [`BOUND`]: `done` says how far it got.
//! Words as arguments name the cases to run: typing, exporting, late, merging, keeping.

mod automerge;
mod document;
mod loro;
mod report;
mod splices;
mod yrs;

use std::time::{Duration, Instant};

use document::{Document, EditsThePast, Replicated, Typist, apply_all};
use report::Report;

/// The longest that one crate may take for one round of a case, or of one row of `late`.
const BOUND: Duration = Duration::from_secs(5);
const ROUNDS: usize = 3;
const EDITS: usize = 100_000;
/// Late edits in one round of a row.
const LATE: usize = 30;
/// Single updates that a document takes in after its snapshot.
const UPDATES: usize = 1_000;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let runs = |case: &str| wanted.is_empty() || wanted.iter().any(|word| word == case);
    macro_rules! rounds {
        ($case:ident: $($name:ident),*) => {
            if runs(stringify!($case)) {
                let mut report = Report::new(stringify!($case));
                for _ in 0..ROUNDS {
                    $($case::<$name::Text>(&mut report);)*
                }
                report.print();
            }
        };
    }
    rounds!(typing: loro, yrs, automerge, splices);
    rounds!(exporting: loro, yrs, automerge, splices);
    rounds!(late: loro, automerge, splices);
    rounds!(merging: loro, yrs);
    rounds!(keeping: loro, yrs, automerge, splices);
}

/// Single characters, each a change of its own.
fn typing<D: Document>(report: &mut Report) {
    let (mut document, mut typist) = (D::new(), Typist::new(1, 0));
    let begun = Instant::now();
    let done = until_bound(EDITS, |number| document.edit(author(number), &typist.next(1)));
    report.row::<D>("").add("us_per_edit", micros(begun) / done as f64).add("done", done as f64);
    assert_eq!(document.text().len(), typist.len, "{} lost characters", D::NAME);
}

/// The same, with the bytes to persist for each.
fn exporting<D: Document>(report: &mut Report) {
    let (mut document, mut typist) = (D::new(), Typist::new(1, 0));
    let mut bytes = 0;
    let begun = Instant::now();
    let done = until_bound(EDITS, |number| bytes += document.edit_and_export(author(number), &typist.next(1)).len());
    report
        .row::<D>("")
        .add("us_per_edit", micros(begun) / done as f64)
        .add("bytes_per_edit", bytes as f64 / done as f64)
        .add("done", done as f64);
}

/// One client whose edits come when others have made `behind` more; what it says is told from the server's text.
fn late<D: EditsThePast>(report: &mut Report) {
    for_sizes::<D>(|saved, row, behind| {
        let mut document = D::load(saved);
        let mut mirror = document.text();
        let mut typist = Typist::new(3, mirror.len());
        let mut spent = Duration::ZERO;
        let done = until_bound(LATE, |_| {
            let base = document.version();
            let edit = typist.anywhere(mirror.len());
            for number in 0..behind {
                let other = typist.next(1);
                document.edit(author(number), &other);
                apply_all(&mut mirror, &[other]);
            }
            let begun = Instant::now();
            let became = document.edit_at(7, &base, &edit);
            spent += begun.elapsed();
            apply_all(&mut mirror, &became);
            typist.has_len(mirror.len());
        });
        assert_eq!(mirror, document.text(), "{}: what was told is not what happened", D::NAME);
        let spent = spent.as_secs_f64() * 1e6 / done as f64;
        report.row::<D>(row).add("us_per_edit", spent).add("done", done as f64);
    });
}

/// The same with a replica for that client: the edit is made there and merged here, and then the replica gets what
/// the others did.
fn merging<D: Replicated>(report: &mut Report) {
    for_sizes::<D>(|saved, row, behind| {
        let mut document = D::load(saved);
        let mut replica = document.replica();
        let mut mirror = document.text();
        let mut typist = Typist::new(3, mirror.len());
        let (mut merges, mut follows) = (Duration::ZERO, Duration::ZERO);
        let done = until_bound(LATE, |_| {
            let edit = typist.anywhere(mirror.len());
            let others: Vec<_> = (0..behind).map(|_| typist.next(1)).collect();
            apply_all(&mut mirror, &others);
            let others = others.iter().enumerate();
            let updates: Vec<_> =
                others.map(|(number, other)| document.edit_and_export(author(number), other)).collect();
            let begun = Instant::now();
            let update = replica.edit_and_export(7, &edit);
            let became = document.merge(&update);
            merges += begun.elapsed();
            let begun = Instant::now();
            updates.iter().for_each(|update| replica.import(update));
            follows += begun.elapsed();
            apply_all(&mut mirror, &became);
            typist.has_len(mirror.len());
        });
        assert_eq!(mirror, document.text(), "{}: what was told is not what happened", D::NAME);
        assert_eq!(mirror, replica.text(), "{}: the copies differ", D::NAME);
        let per_edit = |spent: Duration| spent.as_secs_f64() * 1e6 / done as f64;
        let row = report.row::<D>(row);
        row.add("us_per_edit", per_edit(merges)).add("us_to_follow", per_edit(follows)).add("done", done as f64);
    });
}

/// Saved texts of 1 and 100 KB, each for a client that is 1, 10 and 100 edits behind.
fn for_sizes<D: Document>(mut row: impl FnMut(&[u8], &str, usize)) {
    for kilobytes in [1, 100] {
        let (mut written, mut typist) = (D::new(), Typist::new(2, 0));
        let begun = Instant::now();
        while typist.len < kilobytes * 1024 && begun.elapsed() < BOUND {
            written.edit(0, &typist.next(8));
        }
        let saved = written.save();
        for behind in [1, 10, 100] {
            row(&saved, &format!(r#","kilobytes":{kilobytes},"behind":{behind}"#), behind);
        }
    }
}

/// The text of the past, the bytes of the whole, and back from them; then updates one by one.
fn keeping<D: Document>(report: &mut Report) {
    let (mut document, mut typist) = (D::new(), Typist::new(1, 0));
    let mut half = None;
    let done = until_bound(EDITS, |number| {
        document.edit(author(number), &typist.next(1));
        if number == EDITS / 2 {
            half = Some((document.version(), document.text()));
        }
    });
    let row = report.row::<D>("");
    row.add("edits", done as f64);
    if let Some((version, was)) = half {
        let begun = Instant::now();
        let text = document.text_at(&version);
        row.add("ms_for_text_at_half", micros(begun) / 1e3);
        assert_eq!(text, was, "{} remembers another text", D::NAME);
    }
    let begun = Instant::now();
    let saved = document.save();
    row.add("ms_to_save", micros(begun) / 1e3).add("bytes_saved", saved.len() as f64);
    let begun = Instant::now();
    let mut loaded = D::load(&saved);
    let text = loaded.text();
    row.add("ms_to_load", micros(begun) / 1e3);
    assert_eq!(text, document.text(), "{} loads another text", D::NAME);
    let updates: Vec<_> =
        (0..UPDATES).map(|number| document.edit_and_export(author(number), &typist.next(1))).collect();
    let begun = Instant::now();
    let done = until_bound(UPDATES, |number| loaded.import(&updates[number]));
    row.add("us_per_import", micros(begun) / done as f64).add("imported", done as f64);
    assert!(done < UPDATES || loaded.text() == document.text(), "{} replays to another text", D::NAME);
}

/// Four people take turns of twenty edits.
fn author(number: usize) -> usize {
    number / 20 % 4
}

/// Does it up to `times` times, and returns how often there was time for it.
fn until_bound(times: usize, mut work: impl FnMut(usize)) -> usize {
    let end = Instant::now() + BOUND;
    for number in 0..times {
        work(number);
        if Instant::now() >= end {
            return number + 1;
        }
    }
    times
}

fn micros(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1e6
}
