//! The floors of the crate, read from its source: no file uses one of a floor above it, and no files use each other
//! in a circle. So a reader may begin at the lowest floor and never meets a name that is explained further up.
//!
//! `cargo test --test floors -- --nocapture` prints all arrows of the circles.

#![allow(missing_docs, reason = "tests")]

mod graph;
mod parse;
mod tokens;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use graph::{Arrow, Circle, arrows, circles};

/// The floors, lowest first: a folder or a file of src each.
const FLOORS: [&str; 12] =
    ["sync", "snapshot", "name", "clock", "observe", "dispatch", "frame", "channel", "group", "ws", "docs", "lib"];

/// The rooms of a folder, lowest first. Each is a set of files and folders in it, and may use those before it.
/// Whatever of the folder is not listed stands above the rooms.
const ROOMS: &[(&str, &[&[&str]])] = &[
    ("dispatch/", &[&["engine/"]]),
    (
        "group/",
        &[
            &["name.rs", "error.rs"],
            &["history/"],
            &["options.rs"],
            &["delivery/"],
            &["users.rs", "idle.rs", "registry.rs"],
            &["presence/", "membership.rs"],
            &["offline/"],
        ],
    ),
    ("ws/", &[&["proto/"]]),
];

const FIX: &str = "move the item down, or pass it as a value or a trait object";

#[test]
fn no_file_uses_one_of_a_floor_above_it() {
    let arrows = arrows(&sources());
    let upward: Vec<String> = arrows.iter().filter_map(upward).collect();
    println!("{} arrows between files, {} of them upward", arrows.len(), upward.len());
    assert!(upward.is_empty(), "upward arrows:\n{}\nFor each: {FIX}.", upward.join("\n"));
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    let files = sources();
    let arrows = arrows(&files);
    let circles = circles(&arrows);
    println!("{}", without_front_pages(&files, &arrows));
    for circle in &circles {
        println!("All arrows of the circle of {} files:\n{}", circle.files.len(), lines(&circle.arrows));
    }
    let found: Vec<String> = circles.iter().map(message).collect();
    assert!(found.is_empty(), "{} circles:\n{}For each: {FIX}.", found.len(), found.concat());
}

/// Says what is wrong with `arrow`, if it leads upward.
fn upward(arrow: &Arrow) -> Option<String> {
    let (from, to) = (floor(&arrow.from), floor(&arrow.to));
    if from < to {
        return Some(format!("{arrow}: {} stands below {}", FLOORS[from], FLOORS[to]));
    }
    ROOMS.iter().find_map(|(folder, rooms)| {
        let (from, to) = (arrow.from.strip_prefix(folder)?, arrow.to.strip_prefix(folder)?);
        let (from, to) = (room(rooms, from), room(rooms, to));
        let name =
            |room: usize| rooms.get(room).map_or("the files beside its rooms".to_owned(), |room| room.join(", "));
        (from < to).then(|| format!("{arrow}: in {folder}, {} stands below {}", name(from), name(to)))
    })
}

fn floor(file: &str) -> usize {
    let name = file.split(['/', '.']).next().unwrap_or(file);
    let floor = FLOORS.iter().position(|floor| *floor == name);
    floor
        .unwrap_or_else(|| panic!("src/{file} is not on a floor: say in FLOORS, in {}, where `{name}` stands", file!()))
}

fn room(rooms: &[&[&str]], file: &str) -> usize {
    let holds = |room: &&[&str]| room.iter().any(|part| file.starts_with(part));
    rooms.iter().position(holds).unwrap_or(rooms.len())
}

fn message(circle: &Circle) -> String {
    let files: Vec<&str> = circle.files.iter().map(String::as_str).collect();
    format!("{} files: {}\n  the shortest way round:\n{}\n", files.len(), files.join(", "), lines(&circle.shortest))
}

/// A line for every two files, with all that the one names of the other.
fn lines(arrows: &[Arrow]) -> String {
    let mut pairs: BTreeMap<(&str, &str), (Arrow, BTreeSet<&str>)> = BTreeMap::new();
    for arrow in arrows {
        let (_, paths) = pairs.entry((&arrow.from, &arrow.to)).or_insert_with(|| (arrow.clone(), BTreeSet::new()));
        paths.insert(&arrow.path);
    }
    let merged = pairs.into_values().map(|(first, paths)| {
        let path = paths.into_iter().collect::<Vec<_>>().join(", ");
        format!("    {}", Arrow { path, ..first })
    });
    merged.collect::<Vec<_>>().join("\n")
}

/// Counts the circles that stay when no module uses the files of its own folder: those between equals.
fn without_front_pages(files: &[(String, String)], arrows: &[Arrow]) -> String {
    let is_front_page = |file: &str| {
        let folder = file.trim_end_matches("mod.rs").trim_end_matches(".rs").trim_end_matches('/').to_owned() + "/";
        files.iter().any(|(other, _)| other != file && other.starts_with(&folder))
    };
    let equals: Vec<Arrow> = arrows.iter().filter(|arrow| !is_front_page(&arrow.from)).cloned().collect();
    let sizes = |arrows| circles(arrows).iter().map(|circle| circle.files.len()).collect::<Vec<_>>();
    format!("files in circles: {:?}; without the modules above them: {:?}", sizes(arrows), sizes(&equals))
}

/// The files of src with their texts, without those that only tests have.
fn sources() -> Vec<(String, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders = vec![src.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("src can be listed") {
            let path = entry.expect("src can be listed").path();
            if path.is_dir() && !path.ends_with("tests") {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") && !path.ends_with("tests.rs") {
                let name = path.strip_prefix(&src).expect("it was found in src");
                let name = name.to_string_lossy().replace('\\', "/");
                found.push((name, std::fs::read_to_string(&path).expect("a source file is text")));
            }
        }
    }
    found.sort();
    found
}

/// A small tree with a root, whose files are `path = text`, a line each.
fn planted(tree: &str) -> Vec<(String, String)> {
    let files = tree.lines().filter_map(|line| line.trim().split_once(" = "));
    let files = std::iter::once(("lib.rs", "")).chain(files);
    files.map(|(file, text)| (file.to_owned(), text.to_owned())).collect()
}

fn shown(arrows: &[Arrow]) -> Vec<String> {
    arrows.iter().map(|arrow| format!("{} -> {} ({})", arrow.from, arrow.to, arrow.path)).collect()
}

#[test]
fn a_planted_arrow_upward_is_found() {
    let files = planted(
        "channel/mod.rs = use crate::sync::Arc; pub struct Channel; fn send(group: &crate::group::Group) {}
         group/mod.rs = mod delivery; pub use delivery::Group; pub struct Shared;
         group/delivery/mod.rs = use super::users::Users; pub struct Group;
         group/users.rs = use super::Group; use crate::channel::Channel; pub struct Users;
         sync.rs = pub use std::sync::Arc;",
    );
    let found: Vec<String> = arrows(&files).iter().filter_map(upward).collect();
    let expected = [
        "src/channel/mod.rs:1 -> src/group/delivery/mod.rs (crate::group::Group): channel stands below group",
        "src/group/delivery/mod.rs:1 -> src/group/users.rs (super::users::Users): in group/, delivery/ stands below \
         users.rs, idle.rs, registry.rs",
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_planted_circle_is_found_with_the_shortest_way_round() {
    let files = planted(
        "lib.rs = mod a; mod b; mod c; mod d;
         a.rs = use crate::b::{B, more}; pub struct A;
         b.rs = pub struct B; fn b() { crate::c::call!() }
         c.rs = use super::{a::A, b}; fn c() { b::more() }
         d.rs = use crate::a::A;",
    );
    let found = circles(&arrows(&files));
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].files, BTreeSet::from(["a.rs", "b.rs", "c.rs"].map(str::to_owned)));
    assert_eq!(shown(&found[0].shortest), ["b.rs -> c.rs (crate::c::call)", "c.rs -> b.rs (b::more)"]);
    assert_eq!(found[0].arrows.len(), 6);
}

#[test]
fn a_module_and_its_child_are_a_circle_only_if_each_uses_what_the_other_defines() {
    let child = "room/child.rs = use super::{Other, Shared}; pub struct Child;";
    let other = "room/other.rs = pub struct Other;";
    let circles_with = |parent: &str| circles(&arrows(&planted(&format!("{parent}\n{child}\n{other}")))).len();
    assert_eq!(circles_with("room/mod.rs = mod child; pub use child::Child; pub use other::Other; struct Shared;"), 0);
    assert_eq!(circles_with("room/mod.rs = pub use other::Other; struct Shared(child::Child);"), 1);
    assert_eq!(circles_with("room/mod.rs = pub use child::Child; pub use other::Other; struct Shared(Child);"), 1);
    assert_eq!(circles_with("room/mod.rs = use self::child::Child; use other::Other; use crate::a::Shared;"), 0);
}

#[test]
fn a_path_leads_to_the_file_that_defines_the_item() {
    let files = planted(
        "lib.rs = pub type Error = deep::Inner; pub use deep::Inner as Outer;
         deep/mod.rs = mod inner; mod twice; pub use self::twice::Again; pub(crate) use inner::Inner;
         deep/inner.rs = pub struct Inner; pub mod sealed { pub trait Sealed {} }
         deep/twice.rs = pub use super::inner::Inner as Again;
         user.rs = use crate::{Error, Outer}; use crate::deep::Again; fn f() -> impl crate::deep::inner::sealed::Sealed {}
         stranger.rs = use std::deep::Inner; use redb::Again; fn f(deep: u8) { serde::deep::call() }",
    );
    let found: Vec<Arrow> = arrows(&files).into_iter().filter(|arrow| !arrow.from.starts_with("deep")).collect();
    assert!(found.iter().all(|arrow| arrow.from == "user.rs" && arrow.to == "deep/inner.rs"), "{:?}", shown(&found));
    assert_eq!(found.len(), 4);
}
