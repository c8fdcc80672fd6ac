//! Reads one source file: which modules it has, what they define and import, and which paths its code names.
//!
//! Comments, strings, attributes and items under `#[cfg(test)]` are left out. A macro is read as it stands: a path in
//! its body counts for the file that defines it.

use crate::tokens::{Token, is_word, tokens};

/// A path as its segments, such as `["crate", "sync", "lock"]`.
pub(crate) type Path = Vec<String>;

/// What one file says.
#[derive(Debug, Default)]
pub(crate) struct Source {
    /// The file's own module first, then every inline one.
    pub(crate) modules: Vec<Path>,
    /// The items that a module defines itself.
    pub(crate) items: Vec<(Path, String)>,
    pub(crate) imports: Vec<Import>,
    pub(crate) references: Vec<Reference>,
    /// Names of types, functions and macros that the code uses without a path, with their lines.
    pub(crate) words: Vec<(String, usize)>,
}

/// One name that a `use` brings into a module.
#[derive(Debug)]
pub(crate) struct Import {
    pub(crate) module: Path,
    pub(crate) line: usize,
    pub(crate) path: Path,
    pub(crate) name: String,
    /// Whether the `use` has a visibility: then it is a re-export.
    pub(crate) shown: bool,
    /// Whether the `use` stands in a module, and not in a function.
    pub(crate) binds: bool,
}

/// A path in code, such as `super::state::Diff` in a signature.
#[derive(Debug)]
pub(crate) struct Reference {
    pub(crate) module: Path,
    pub(crate) line: usize,
    pub(crate) path: Path,
}

/// Reads the text of the file whose module is `module`.
pub(crate) fn parse(module: &[&str], text: &str) -> Source {
    let tokens = tokens(text);
    let module: Path = module.iter().map(|&segment| segment.to_owned()).collect();
    let source = Source { modules: vec![module.clone()], ..Source::default() };
    let mut parser = Parser { tokens: &tokens, at: 0, depth: 0, open: vec![(module, 0)], source };
    while parser.at < tokens.len() {
        parser.step();
    }
    parser.source
}

struct Parser<'a> {
    tokens: &'a [Token<'a>],
    at: usize,
    /// How many brackets of any kind are open.
    depth: usize,
    /// The modules around us, each with the depth of its items.
    open: Vec<(Path, usize)>,
    source: Source,
}

const ITEMS: [&str; 8] = ["fn", "struct", "enum", "trait", "type", "const", "static", "union"];

impl<'a> Parser<'a> {
    fn step(&mut self) {
        match self.peek(0) {
            "#" if ["[", "!"].contains(&self.peek(1)) => self.attribute(),
            "mod" if self.peek(2) == "{" => self.open_module(),
            // Its file is found in the folder.
            "mod" => self.at += 2,
            "pub" => self.visibility(),
            // `use<'a>` in a type captures a lifetime.
            "use" if self.peek(1) != "<" => self.import(false),
            "type" if self.alias().is_some() => {}
            "macro_rules" => {
                self.define(2);
                self.at += 3;
            }
            word if ITEMS.contains(&word) => {
                self.define(1);
                // The name of a function is not a use of it; a type such as `fn(u8)` has none.
                self.at += 1 + usize::from(word == "fn" && is_word(self.peek(1)));
            }
            "{" | "(" | "[" => {
                self.depth += 1;
                self.at += 1;
            }
            "}" | ")" | "]" => self.close(),
            word if is_word(word) => self.path(),
            _ => self.at += 1,
        }
    }

    fn peek(&self, ahead: usize) -> &'a str {
        self.tokens.get(self.at + ahead).map_or("", |token| token.text)
    }

    fn line(&self) -> usize {
        self.tokens.get(self.at).map_or(0, |token| token.line)
    }

    fn module(&self) -> Path {
        self.open[self.open.len() - 1].0.clone()
    }

    fn in_module(&self) -> bool {
        self.open[self.open.len() - 1].1 == self.depth
    }

    fn open_module(&mut self) {
        let mut module = self.module();
        module.push(self.peek(1).to_owned());
        self.depth += 1;
        self.source.modules.push(module.clone());
        self.open.push((module, self.depth));
        self.at += 3;
    }

    fn close(&mut self) {
        if self.open.len() > 1 && self.in_module() {
            self.open.pop();
        }
        self.depth = self.depth.saturating_sub(1);
        self.at += 1;
    }

    fn define(&mut self, ahead: usize) {
        if self.in_module() && is_word(self.peek(ahead)) {
            self.source.items.push((self.module(), self.peek(ahead).to_owned()));
        }
    }

    /// Steps over `pub(in crate::ws)`, which uses nothing, and reads the import behind it, if there is one.
    fn visibility(&mut self) {
        let bounded = self.peek(1) == "(" && (self.peek(2) == "in" || self.peek(3) == ")");
        self.at += 1;
        if bounded {
            self.skip_group();
        }
        if self.peek(0) == "use" {
            self.import(true);
        }
    }

    /// Reads `type Error = dispatch::BoxError;` as an import: a plain alias is a re-export with a page of its own.
    fn alias(&mut self) -> Option<()> {
        let target = self.tokens.get(self.at + 3..)?;
        let end = target.iter().position(|token| token.text != "::" && !is_word(token.text))?;
        if self.peek(2) != "=" || end < 3 || target[end].text != ";" || !self.in_module() {
            return None;
        }
        let path = target[..end].iter().filter(|token| token.text != "::").map(|token| token.text.to_owned()).collect();
        let (module, line, name) = (self.module(), self.line(), self.peek(1).to_owned());
        self.source.imports.push(Import { module, line, path, name, shown: true, binds: true });
        self.at += 3 + end;
        Some(())
    }

    /// Steps over an attribute, and over the item below it if only tests have that.
    fn attribute(&mut self) {
        self.at += 1 + usize::from(self.peek(1) == "!");
        let start = self.at;
        self.skip_group();
        let text: String = self.tokens[start..self.at].iter().map(|token| token.text).collect();
        if text.starts_with("[cfg(test)") || text.starts_with("[cfg(all(test,") {
            while !["{", "}", ";", ""].contains(&self.peek(0)) {
                self.skip();
            }
            if self.peek(0) != "}" {
                self.skip();
            }
        }
    }

    /// Steps over one token, or from an opening bracket to behind its partner.
    fn skip(&mut self) {
        if ["{", "(", "["].contains(&self.peek(0)) { self.skip_group() } else { self.at += 1 }
    }

    fn skip_group(&mut self) {
        self.at += 1;
        while !["}", ")", "]", ""].contains(&self.peek(0)) {
            self.skip();
        }
        self.at += 1;
    }

    fn import(&mut self, shown: bool) {
        self.at += 1;
        self.branch(Path::new(), shown);
    }

    /// Reads one branch of a `use`, below `path`: `a::b`, `a::{b, c as d}` or `a::*`.
    fn branch(&mut self, mut path: Path, shown: bool) {
        loop {
            let line = self.line();
            match self.peek(0) {
                "{" => return self.branches(&path, shown),
                "::" => self.at += 1,
                segment => {
                    path.push(segment.to_owned());
                    self.at += 1;
                    if self.peek(0) != "::" {
                        return self.leaf(path, shown, line);
                    }
                }
            }
        }
    }

    fn branches(&mut self, path: &Path, shown: bool) {
        self.at += 1;
        while !["}", ""].contains(&self.peek(0)) {
            self.branch(path.clone(), shown);
            self.at += usize::from(self.peek(0) == ",");
        }
        self.at += 1;
    }

    fn leaf(&mut self, mut path: Path, shown: bool, line: usize) {
        if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
            path.pop();
        }
        let mut name = path[path.len() - 1].clone();
        if self.peek(0) == "as" {
            name = self.peek(1).to_owned();
            self.at += 2;
        }
        let (module, binds) = (self.module(), self.in_module());
        self.source.imports.push(Import { module, line, path, name, shown, binds });
    }

    /// Reads a path in code, or a word alone.
    fn path(&mut self) {
        let line = self.line();
        let inner = self.at > 0 && [".", "::"].contains(&self.tokens[self.at - 1].text);
        let mut path = vec![self.peek(0).to_owned()];
        self.at += 1;
        while self.peek(0) == "::" && is_word(self.peek(1)) {
            path.push(self.peek(1).to_owned());
            self.at += 2;
        }
        // A type is named by an import, which is an arrow already.
        let is_type = path[0].starts_with(char::is_uppercase);
        if !inner && path.len() > 1 && !is_type {
            self.source.references.push(Reference { module: self.module(), line, path });
        } else if !inner && (is_type || ["(", "!"].contains(&self.peek(0))) {
            self.source.words.push((path.swap_remove(0), line));
        }
    }
}

/// The paths that a file in `crate::group::log` names, imports first.
#[cfg(test)]
fn paths(text: &str) -> Vec<String> {
    let source = parse(&["crate", "group", "log"], text);
    let imports = source.imports.iter().map(|import| &import.path);
    imports.chain(source.references.iter().map(|reference| &reference.path)).map(|path| path.join("::")).collect()
}

#[test]
fn comments_strings_and_attributes_name_nothing() {
    let text = r##"
        //! See [`crate::a::A`].
        /* crate::b::B /* super::c::C */ crate::d::D */
        #[doc = "crate::e::E"]
        #[cfg_attr(test, allow(crate::f::lint))]
        fn one<'a>(quote: &'a str) -> char { let _ = ("\"crate::g::G", r#""crate::h::H"#, b"crate::i", '"'); '\'' }
        pub(in crate::group) fn two() { crate::j::call() }
    "##;
    assert_eq!(paths(text), ["crate::j::call"]);
}

#[test]
fn items_that_only_tests_have_name_nothing() {
    let text = "
        #[cfg(test)] use crate::a::A;
        #[cfg(all(test, unix))] mod tests { use super::*; mod inner { use crate::b::B; } }
        #[cfg(test)] fn one(x: [u8; 2]) -> u8 { crate::c::call() }
        #[cfg(not(test))] use crate::d::D;
    ";
    assert_eq!(paths(text), ["crate::d::D"]);
}

#[test]
fn a_group_is_read_as_its_paths() {
    let text = "use crate::{a::{self, B}, c::{D as E, f::G,},\n super_::h};\npub(crate) use super::super::i::J;";
    let expected =
        ["crate::a", "crate::a::B", "crate::c::D", "crate::c::f::G", "crate::super_::h", "super::super::i::J"];
    assert_eq!(paths(text), expected);
    let imports = parse(&["crate"], text).imports;
    assert_eq!((imports[2].name.as_str(), imports[2].shown), ("E", false));
    assert_eq!((imports[4].line, imports[5].line, imports[5].shown), (2, 3, true));
}

#[test]
fn paths_in_code_are_read_in_macros_signatures_and_inline_modules() {
    let text = "
        fn one(a: &super::a::A) -> Result<(), crate::Error> { crate::sync::count!(EMITS, self::b::c::<u8>()) }
        mod inner { fn two() { let x = |_| super::super::d::E::new(1); } }
        macro_rules! three { () => { $crate::f::g() } }
        type Four = fn(u8);
        const FIVE: fn(u8) -> u8 = one;
    ";
    let expected =
        ["super::a::A", "crate::Error", "crate::sync::count", "self::b::c", "super::super::d::E::new", "crate::f::g"];
    assert_eq!(paths(text), expected);
    let source = parse(&["crate", "x"], text);
    let references: Vec<(String, usize)> = source.references.iter().map(|r| (r.module.join("::"), r.line)).collect();
    assert_eq!(references[2], ("crate::x".to_owned(), 2));
    assert_eq!(references[4], ("crate::x::inner".to_owned(), 3));
    let items: Vec<String> =
        source.items.iter().map(|(module, item)| format!("{}::{item}", module.join("::"))).collect();
    let expected = ["crate::x::one", "crate::x::inner::two", "crate::x::three", "crate::x::Four", "crate::x::FIVE"];
    assert_eq!(items, expected);
}
