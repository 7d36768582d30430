//! The floors of the crate, enforced: modules import from floors below only, and never in a circle.
//!
//! Goal: whoever reads a module need only know what lies below it. Method: read every path in
//! `src` that starts with `crate`, `super` or `self` (comments, strings and tests aside), follow
//! it through re-exports to the file it ends in, and check the arrows that result.

mod source;

use source::{Inline, Source, Token};
use std::collections::{BTreeMap, BTreeSet};

/// The top-level modules by floor. `lib.rs` stands above them all and may use any.
const FLOORS: [&[&str]; 8] = [
    &["error", "value", "codec", "key"],
    &["vfs"],
    &["sorted", "log", "cache"],
    &["memtable", "manifest", "table"],
    &["lsm", "btree", "hash", "clustered", "sort", "smb"],
    &["db"],
    &["check"],
    &["fuzzing"],
];

/// Arrows between modules of one floor: who may import whom.
const SIBLINGS: [(&str, &str); 5] = [
    ("codec", "error"),
    ("key", "error"),
    ("sorted", "cache"),
    ("table", "memtable"),
    ("table", "manifest"),
];

/// Folders whose files may import each other in circles, each for a reason.
/// `table`: handles write batches, batches take handles, and both know the state they act on.
const KNOTS: [&str; 1] = ["table"];

type Module = Vec<String>;

/// One import: the importing file, its line, and the file in which the imported name lives.
#[derive(Debug)]
struct Arrow {
    from: Module,
    to: Module,
    place: String,
}

#[test]
fn imports_point_down() {
    let sources = source::read_all("src");
    let (arrows, _) = Crate::read(&sources).arrows();
    assert!(
        arrows.iter().any(|arrow| arrow.from[..] == ["key", "decode"] && arrow.to == ["error"])
    );
    let faults = check(&sources);
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// All that is wrong with the imports of `sources`, one sentence each.
fn check(sources: &[Source]) -> Vec<String> {
    let crate_ = Crate::read(sources);
    let (arrows, mut faults) = crate_.arrows();
    for top in crate_.files.iter().filter_map(|module| module.first()) {
        if floor(top).is_none() {
            faults.push(format!("src/{top} has no floor: give it one in tests/layers.rs"));
        }
    }
    faults.extend(arrows.iter().filter_map(wrong_way));
    let tops = arrows.iter().filter(|a| !a.from.is_empty() && a.from[0] != a.to[0]);
    faults.extend(circles(tops.map(|a| (vec![a.from[0].clone()], vec![a.to[0].clone()]))));
    let files = arrows.iter().filter(|a| !is_family(a) && !is_knot(a));
    faults.extend(circles(files.map(|a| (a.from.clone(), a.to.clone()))));
    faults.sort();
    faults.dedup();
    faults
}

/// A folder's `mod.rs` may know its files, and they may use what it defines.
fn is_family(arrow: &Arrow) -> bool {
    arrow.to.starts_with(&arrow.from) || arrow.from.starts_with(&arrow.to)
}

fn is_knot(arrow: &Arrow) -> bool {
    arrow.from.first() == arrow.to.first() && KNOTS.iter().any(|top| arrow.from[0] == *top)
}

fn floor(top: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&top))
}

/// What is wrong with an arrow between two top-level modules, if anything is.
fn wrong_way(arrow: &Arrow) -> Option<String> {
    let (from, to) = (arrow.from.first()?.as_str(), arrow.to.first()?.as_str());
    let (high, low) = (floor(from)?, floor(to)?);
    if from == to || low < high || SIBLINGS.contains(&(from, to)) {
        return None;
    }
    let why = if low == high { "a sibling that is not listed" } else { "which is above it" };
    Some(format!("{}: {from} (F{high}) imports {to} (F{low}), {why}", arrow.place))
}

/// Circles of modules: one through each arrow that has to go for there to be none.
fn circles(arrows: impl Iterator<Item = (Module, Module)>) -> Vec<String> {
    let mut left: BTreeMap<Module, BTreeSet<Module>> = BTreeMap::new();
    for (from, to) in arrows {
        left.entry(to.clone()).or_default();
        left.entry(from).or_default().insert(to);
    }
    let mut found = Vec::new();
    loop {
        // Take away whoever imports nobody that is left, until nobody does: circles remain.
        while let Some(leaf) = left.iter().find(|(_, to)| to.iter().all(|m| !left.contains_key(m)))
        {
            let leaf = leaf.0.clone();
            left.remove(&leaf);
        }
        let Some(start) = left.keys().next() else { return found };
        let mut walk = vec![start.clone()];
        let back = loop {
            let last = &walk[walk.len() - 1];
            let next = left[last].iter().find(|module| left.contains_key(*module));
            let next = next.unwrap_or(last).clone();
            if let Some(start) = walk.iter().position(|module| *module == next) {
                break start;
            }
            walk.push(next);
        };
        let circle = walk[back..].iter().chain([&walk[back]]).map(|module| module.join("::"));
        let names = circle.collect::<Vec<_>>().join(" -> ");
        found.push(format!("modules import each other in a circle: {names}"));
        let (last, to) = (walk[walk.len() - 1].clone(), walk[back].clone());
        left.entry(last).or_default().remove(&to);
    }
}

/// Every file of the crate, and what names its modules import.
struct Crate<'a> {
    sources: Vec<(Module, &'a Source)>,
    files: BTreeSet<Module>,
    /// Names that a module imports, and where they really are.
    imports: BTreeMap<Module, BTreeMap<String, Module>>,
}

/// A path in the code: its segments, and the name it is imported as.
struct Import {
    path: Vec<String>,
    name: String,
}

impl<'a> Crate<'a> {
    fn read(all: &'a [Source]) -> Self {
        let tests = test_modules(all);
        let sources: Vec<_> = all
            .iter()
            .map(|source| (source.module(), source))
            .filter(|(module, _)| !tests.iter().any(|test| module.starts_with(test)))
            .collect();
        let files = sources.iter().map(|(module, _)| module.clone()).collect();
        let mut read = Self { sources, files, imports: BTreeMap::new() };
        read.imports = read.sources.iter().map(|(m, s)| (m.clone(), read.imported(m, s))).collect();
        read
    }

    /// The names that `use` brings into `module`, with absolute paths.
    fn imported(&self, module: &Module, source: &Source) -> BTreeMap<String, Module> {
        let all = source::tokens(&source.code);
        let mut found = BTreeMap::new();
        let mut inline = Inline::default();
        for at in 0..all.len() {
            inline.step(&all, at);
            if all[at].1 != "use" || !inline.names().is_empty() {
                continue;
            }
            for import in tree(&all, &mut (at + 1), &[]) {
                let path = match import.path[0].as_str() {
                    "crate" | "super" | "self" => absolute(module, &import.path),
                    child => {
                        let path: Module =
                            module.iter().cloned().chain(import.path.clone()).collect();
                        let ours = [&module[..], &[child.to_owned()]].concat();
                        self.files.contains(&ours).then_some(path)
                    }
                };
                found.extend(path.map(|path| (import.name, path)));
            }
        }
        found
    }

    /// All arrows between files, and what could not be followed.
    fn arrows(&self) -> (Vec<Arrow>, Vec<String>) {
        let (mut arrows, mut faults) = (Vec::new(), Vec::new());
        for (module, source) in &self.sources {
            let all = source::tokens(&source.code);
            let mut inline = Inline::default();
            for at in 0..all.len() {
                inline.step(&all, at);
                let paths = paths_at(&all, at);
                if paths.is_empty() {
                    continue;
                }
                let place = format!("{}:{}", source.path, source.line(all[at].0));
                let within = [&module[..], &inline.names()].concat();
                for path in paths.iter().filter_map(|path| absolute(&within, path)) {
                    match self.home(&path, 0) {
                        Some(to) if to.is_empty() && !module.is_empty() => faults.push(format!(
                            "{place}: crate::{} is in no module that this test knows",
                            path.join("::")
                        )),
                        Some(to) if to != *module => {
                            arrows.push(Arrow { from: module.clone(), to, place: place.clone() });
                        }
                        _ => {}
                    }
                }
            }
        }
        (arrows, faults)
    }

    /// The file in which the thing at `path` is, through re-exports; nothing if outside the crate.
    fn home(&self, path: &[String], steps: usize) -> Option<Module> {
        let deepest = (0..=path.len()).rev().find(|n| self.files.contains(&path[..*n]))?;
        let (module, rest) = path.split_at(deepest);
        let Some(name) = rest.first() else { return Some(module.to_vec()) };
        match self.imports[module].get(name) {
            Some(to) if steps < 16 => self.home(&[&to[..], &rest[1..]].concat(), steps + 1),
            _ => Some(module.to_vec()),
        }
    }
}

/// Modules in files of their own that exist only for tests.
fn test_modules(all: &[Source]) -> Vec<Module> {
    let mut found = Vec::new();
    for source in all {
        let place = |d: source::Declared| [source.module(), d.within, vec![d.name]].concat();
        let kept: Vec<_> = source::declared(&source.code).into_iter().map(place).collect();
        let all = source::declared(&source.whole).into_iter().map(place);
        found.extend(all.filter(|module| !kept.contains(module)));
    }
    found
}

/// The paths that start at token `at`, if it is a `crate`, `super` or `self` that starts one.
fn paths_at(all: &[Token<'_>], at: usize) -> Vec<Vec<String>> {
    let starts = matches!(all[at].1, "crate" | "super" | "self");
    let before = if at == 0 { "" } else { all[at - 1].1 };
    if !starts || matches!(before, "::" | "in") || all.get(at + 1).map(|t| t.1) != Some("::") {
        return Vec::new();
    }
    tree(all, &mut at.clone(), &[]).into_iter().map(|import| import.path).collect()
}

/// Reads `a::b`, `a::{b, c as d}` and the like from token `at` on.
fn tree(all: &[Token<'_>], at: &mut usize, prefix: &[String]) -> Vec<Import> {
    let word = |at: usize| all.get(at).map_or("", |token| token.1);
    let mut path = prefix.to_vec();
    loop {
        if word(*at) == "{" {
            let mut found = Vec::new();
            *at += 1;
            while !matches!(word(*at), "}" | "") {
                found.extend(tree(all, at, &path));
                *at += usize::from(word(*at) == ",");
            }
            *at += 1;
            return found;
        }
        if !word(*at).starts_with(|c: char| c == '_' || c == '*' || c.is_ascii_alphabetic()) {
            *at += usize::from(!matches!(word(*at), "}" | "," | ";"));
            break;
        }
        path.push(word(*at).to_owned());
        *at += 1;
        if word(*at) != "::" {
            break;
        }
        *at += 1;
    }
    // `use a::{self}` names `a` itself.
    if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
        path.pop();
    }
    let mut name = path.last().cloned().unwrap_or_default();
    if word(*at) == "as" {
        name = word(*at + 1).to_owned();
        *at += 2;
    }
    if path.is_empty() { Vec::new() } else { vec![Import { path, name }] }
}

/// A path from the crate's root, for one that starts with `crate`, `super` or `self` in `module`.
fn absolute(module: &[String], path: &[String]) -> Option<Module> {
    let mut base = module.to_vec();
    let mut rest = path;
    match rest.split_first()?.0.as_str() {
        "crate" => (base, rest) = (Vec::new(), &rest[1..]),
        "self" => rest = &rest[1..],
        _ => {}
    }
    while let Some((_, tail)) = rest.split_first().filter(|(first, _)| *first == "super") {
        base.pop()?;
        rest = tail;
    }
    base.extend(rest.iter().cloned());
    Some(base)
}

/// The faults of a crate made of these files.
fn check_texts(texts: &[(&str, &str)]) -> Vec<String> {
    let sources: Vec<_> = texts.iter().map(|(path, text)| Source::new(path, text)).collect();
    check(&sources)
}

#[test]
fn an_arrow_down_is_fine() {
    let lib = "mod error; mod vfs; mod log; pub use error::Error;";
    let log = "use crate::{Error, vfs::{self, File}};\nfn f() { super::vfs::open(); }";
    let files = [("src/lib.rs", lib), ("src/error.rs", ""), ("src/log/mod.rs", log)];
    assert_eq!(check_texts(&[&files[..], &[("src/vfs/mod.rs", "")]].concat()), [""; 0]);
}

#[test]
fn an_arrow_up_is_caught() {
    let lib = ("src/lib.rs", "mod error; mod db; mod log; mod vfs; pub use db::Db;");
    let rest = [("src/error.rs", ""), ("src/db/mod.rs", ""), ("src/log/mod.rs", "mod segment;")];
    let with = |path, text| check_texts(&[&[lib], &rest[..], &[(path, text)]].concat());

    let direct = with("src/vfs/mod.rs", "\nuse crate::{error::Error, db::commit};");
    assert_eq!(direct, ["src/vfs/mod.rs:2: vfs (F1) imports db (F5), which is above it"]);
    let in_code = with("src/log/segment.rs", "fn f() { let x = super::super::db::open(); }");
    assert_eq!(in_code, ["src/log/segment.rs:1: log (F2) imports db (F5), which is above it"]);
    let exported = with("src/vfs/mod.rs", "use crate::Db;");
    assert_eq!(exported, ["src/vfs/mod.rs:1: vfs (F1) imports db (F5), which is above it"]);
    let nested = with("src/vfs/mod.rs", "mod inner { fn f() { super::super::db::open() } }");
    assert_eq!(nested, ["src/vfs/mod.rs:1: vfs (F1) imports db (F5), which is above it"]);
}

#[test]
fn what_only_looks_like_an_arrow_is_not() {
    let vfs = r##"
        //! See crate::db::Db.
        /* crate::db::Db /* nested */ crate::db */
        const A: &str = "crate::db::Db\" crate::db::Db";
        const B: &str = r#"crate::db::Db" crate::db::Db"#;
        const C: (char, u8) = ('"', b'\''); fn f<'a>(_: &'a str) {}
        pub(in crate::db) fn g() {}
        #[cfg(test)] use crate::db::{A, B};
        #[cfg(test)]
        mod tests { fn f() { crate::db::open(); } }
        #[cfg(all(test, unix))] #[rustfmt::skip] fn h(_: [u8; 2]) { crate::db::open(); }
        #[cfg(test)] mod model;
    "##;
    let model = ("src/vfs/model.rs", "use crate::db::Db;");
    let files = [("src/lib.rs", ""), ("src/db/mod.rs", ""), ("src/vfs/mod.rs", vfs), model];
    assert_eq!(check_texts(&files), [""; 0]);
    let real = format!("{vfs} fn z() {{ crate::db::open() }}");
    let files = [("src/lib.rs", ""), ("src/db/mod.rs", ""), ("src/vfs/mod.rs", &real)];
    assert_eq!(check_texts(&files).len(), 1);
}

#[test]
fn siblings_must_be_listed() {
    let lib = ("src/lib.rs", "mod cache; mod log; mod sorted;");
    let with = |sorted, log| {
        let sorted = ("src/sorted/mod.rs", sorted);
        check_texts(&[lib, ("src/cache/mod.rs", ""), sorted, ("src/log/mod.rs", log)])
    };
    assert_eq!(with("use crate::cache::Cache;", ""), [""; 0]);
    let fault = "src/log/mod.rs:1: log (F2) imports cache (F2), a sibling that is not listed";
    assert_eq!(with("", "use crate::cache::Cache;"), [fault]);
}

#[test]
fn circles_are_caught() {
    let lib = ("src/lib.rs", "mod cache; mod sorted;");
    let sorted = ("src/sorted/mod.rs", "use crate::cache::Cache;");
    let top = check_texts(&[lib, sorted, ("src/cache/mod.rs", "use crate::sorted::Run;")]);
    let circle = "modules import each other in a circle: cache -> sorted -> cache";
    assert!(top.contains(&circle.to_owned()), "{top:?}");

    // Inside a folder, through what its mod.rs re-exports; the mod.rs itself may know its children.
    let folder = ("src/vfs/mod.rs", "mod a; mod b; mod c; pub use a::A; use b::B; struct M;");
    let files =
        |a, b| [lib, folder, ("src/vfs/a.rs", a), ("src/vfs/b.rs", b), ("src/vfs/c.rs", "")];
    assert_eq!(check_texts(&files("use super::{B, M};", "use super::{M, c};")), [""; 0]);
    let inside = check_texts(&files("use super::B;", "use super::A;"));
    assert_eq!(inside, ["modules import each other in a circle: vfs::a -> vfs::b -> vfs::a"]);
}

#[test]
fn unknown_modules_and_names_are_caught() {
    let files = [("src/lib.rs", "mod misc;"), ("src/misc.rs", "use crate::vanished::Thing;")];
    let faults = check_texts(&files);
    assert_eq!(
        faults,
        [
            "src/misc has no floor: give it one in tests/layers.rs",
            "src/misc.rs:1: crate::vanished::Thing is in no module that this test knows",
        ]
    );
}
