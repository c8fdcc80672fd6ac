//! The arrows between files: resolves what the files name, and finds circles.
//!
//! A path leads to the file that *defines* its item: re-exports and imports on the way are followed. So `pub use
//! child::Item` in a parent is not an arrow, unless the parent's code names `Item` too. Where an item comes from
//! another crate, or from a macro, the path leads to the last module on it.
//!
//! Out of sight are methods: a file that calls one needs no path to the file of the `impl`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use crate::parse::{Path, Source, parse};

/// How many re-exports are followed for one path, so that two globs or names cannot lead round and round.
const MAX_HOPS: usize = 16;

/// "This file, at this line, uses that file."
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Arrow {
    pub(crate) from: String,
    pub(crate) line: usize,
    pub(crate) to: String,
    /// What the line says, such as `super::state::Diff`.
    pub(crate) path: String,
}

impl fmt::Display for Arrow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "src/{}:{} -> src/{} ({})", self.from, self.line, self.to, self.path)
    }
}

/// Files that use each other, directly or through others.
#[derive(Debug)]
pub(crate) struct Circle {
    pub(crate) files: BTreeSet<String>,
    /// All arrows between the files.
    pub(crate) arrows: Vec<Arrow>,
    /// The fewest arrows that lead from one of the files back to it.
    pub(crate) shortest: Vec<Arrow>,
}

/// Returns the arrows between `files`: pairs of a path below src and a text.
pub(crate) fn arrows(files: &[(String, String)]) -> Vec<Arrow> {
    let sources: Vec<(&str, Source)> =
        files.iter().map(|(file, text)| (file.as_str(), parse(&module_of(file), text))).collect();
    let tree = Tree::new(&sources);
    let found: BTreeSet<Arrow> = sources.iter().flat_map(|(file, source)| tree.arrows_of(file, source)).collect();
    found.into_iter().collect()
}

/// The module of a file: `["crate", "group", "log"]` for `group/log.rs`.
fn module_of(file: &str) -> Vec<&str> {
    let stem = file.trim_end_matches(".rs").trim_end_matches("/mod");
    std::iter::once("crate").chain(stem.split('/').filter(|&segment| segment != "lib")).collect()
}

/// All modules of a crate, by path.
#[derive(Debug, Default)]
struct Tree {
    modules: BTreeMap<Path, Module>,
}

#[derive(Debug, Default)]
struct Module {
    file: String,
    /// By name, the files that define it: two if one is for another feature.
    items: BTreeMap<String, BTreeSet<String>>,
    imports: BTreeMap<String, Vec<Path>>,
}

impl Tree {
    fn new(sources: &[(&str, Source)]) -> Self {
        let mut tree = Self::default();
        for (file, source) in sources {
            for (at, module) in source.modules.iter().enumerate() {
                let known = tree.modules.entry(module.clone()).or_default();
                // A module may be a file with one feature and inline without it: the file is its home.
                if at == 0 || known.file.is_empty() {
                    known.file = (*file).to_owned();
                }
            }
            for (module, item) in &source.items {
                let known = tree.modules.entry(module.clone()).or_default();
                known.items.entry(item.clone()).or_default().insert((*file).to_owned());
            }
            for import in source.imports.iter().filter(|import| import.binds) {
                let known = tree.modules.entry(import.module.clone()).or_default();
                known.imports.entry(import.name.clone()).or_default().push(import.path.clone());
            }
        }
        tree
    }

    fn arrows_of(&self, file: &str, source: &Source) -> Vec<Arrow> {
        let mut found = Vec::new();
        let mut add = |module: &Path, line: usize, path: &Path| {
            for to in self.resolve(module, path, 0).into_iter().filter(|to| to != file) {
                found.push(Arrow { from: file.to_owned(), line, to, path: path.join("::") });
            }
        };
        for import in &source.imports {
            if !import.shown || !self.is_below(&import.module, &import.path) {
                add(&import.module, import.line, &import.path);
            } else if let Some((_, line)) = source.words.iter().find(|(word, _)| *word == import.name) {
                // The code names what the file re-exports.
                add(&import.module, *line, &import.path);
            }
        }
        for reference in &source.references {
            add(&reference.module, reference.line, &reference.path);
        }
        found
    }

    /// Whether `path`, in `module`, leads to a child of it.
    fn is_below(&self, module: &Path, path: &Path) -> bool {
        self.absolute(module, path).is_some_and(|path| path.len() > module.len() && path.starts_with(module))
    }

    /// `path`, seen from `module`, as a path from the root; none if it leads out of the crate.
    fn absolute(&self, module: &Path, path: &[String]) -> Option<Path> {
        let (head, tail) = path.split_first()?;
        match head.as_str() {
            "crate" => Some(path.to_vec()),
            "self" => Some(join(module, tail)),
            "super" => {
                let mut up = module[..module.len() - 1].to_vec();
                let more = tail.iter().take_while(|segment| *segment == "super").count();
                up.truncate(up.len().saturating_sub(more));
                Some(join(&up, &tail[more..]))
            }
            _ if self.modules.contains_key(&join(module, &path[..1])) => Some(join(module, path)),
            _ => {
                let targets = self.modules.get(module)?.imports.get(head)?;
                targets.iter().any(|target| target[0] != *head).then(|| join(module, path))
            }
        }
    }

    /// The files that `path` names, seen from `module`; none if it leads out of the crate.
    fn resolve(&self, module: &Path, path: &[String], hops: usize) -> BTreeSet<String> {
        match self.absolute(module, path) {
            Some(path) if hops < MAX_HOPS && !path.is_empty() => self.find(&path[..1], &path[1..], hops),
            _ => BTreeSet::new(),
        }
    }

    /// Walks down `path` from `module`: through children, and through imports to where they lead.
    fn find(&self, module: &[String], path: &[String], hops: usize) -> BTreeSet<String> {
        let Some(scope) = self.modules.get(module) else { return BTreeSet::new() };
        let here = BTreeSet::from([scope.file.clone()]);
        let Some((head, tail)) = path.split_first() else { return here };
        let child = join(module, &path[..1]);
        if self.modules.contains_key(&child) {
            return self.find(&child, tail, hops);
        }
        if let Some(files) = scope.items.get(head) {
            return files.clone();
        }
        let targets = scope.imports.get(head).into_iter().flatten();
        let module = module.to_vec();
        let found: BTreeSet<String> =
            targets.flat_map(|target| self.resolve(&module, &join(target, tail), hops + 1)).collect();
        if found.is_empty() { here } else { found }
    }
}

fn join(path: &[String], more: &[String]) -> Path {
    [path, more].concat()
}

/// Returns all circles, the largest first.
pub(crate) fn circles(arrows: &[Arrow]) -> Vec<Circle> {
    let files: BTreeSet<&str> = arrows.iter().map(|arrow| arrow.from.as_str()).collect();
    let ways: BTreeMap<&str, BTreeMap<&str, Vec<&Arrow>>> =
        files.iter().map(|&file| (file, ways_from(arrows, file))).collect();
    let leads = |from: &str, to: &str| ways.get(from).is_some_and(|ways| ways.contains_key(to));
    let mut knots: Vec<BTreeSet<String>> = files
        .iter()
        .filter(|file| leads(file, file))
        .map(|file| files.iter().filter(|other| leads(file, other) && leads(other, file)))
        .map(|knot| knot.map(|&file| file.to_owned()).collect())
        .collect();
    knots.sort_by_key(|knot: &BTreeSet<String>| (usize::MAX - knot.len(), knot.clone()));
    knots.dedup();
    knots.into_iter().map(|knot| circle(knot, arrows)).collect()
}

fn circle(files: BTreeSet<String>, arrows: &[Arrow]) -> Circle {
    let inside = |arrow: &&Arrow| files.contains(&arrow.from) && files.contains(&arrow.to);
    let arrows: Vec<Arrow> = arrows.iter().filter(inside).cloned().collect();
    let back = files.iter().filter_map(|file| ways_from(&arrows, file).remove(file.as_str()));
    let shortest = back.min_by_key(Vec::len).unwrap_or_default().into_iter().cloned().collect();
    Circle { files, arrows, shortest }
}

/// By file, a shortest way from `start` to it; `start` itself is there if a way leads back.
fn ways_from<'a>(arrows: &'a [Arrow], start: &str) -> BTreeMap<&'a str, Vec<&'a Arrow>> {
    let mut ways: BTreeMap<&str, Vec<&Arrow>> = BTreeMap::new();
    let mut next = VecDeque::from([(start.to_owned(), Vec::new())]);
    while let Some((file, way)) = next.pop_front() {
        for arrow in arrows.iter().filter(|arrow| arrow.from == file) {
            if !ways.contains_key(arrow.to.as_str()) {
                let way: Vec<&Arrow> = way.iter().copied().chain([arrow]).collect();
                ways.insert(&arrow.to, way.clone());
                next.push_back((arrow.to.clone(), way));
            }
        }
    }
    ways
}
