//! The rules of the house that a program can check: sizes, characters, unfinished work, `unsafe`,
//! unreachable files, and pictures of formats that are the same in the code and in the docs.
//!
//! Each rule is a function from a source to its faults, and is itself tried on a bad example.

mod source;

use source::{Source, closing, tokens};

/// Most lines from the opening to the closing brace of a function.
const FUNCTION_LINES_MAX: usize = 70;
/// Most lines of a file in `src`, not counting tests.
const FILE_LINES_MAX: usize = 800;
/// Most characters of a line.
const LINE_CHARS_MAX: usize = 100;
/// The only places with `unsafe` code.
const UNSAFE: [&str; 4] =
    ["src/vfs/os.rs", "src/memtable/", "src/codec/prefetch.rs", "src/sorted/pages/tree.rs"];
/// Words of unfinished work; in halves, so that this list does not match itself.
const UNFINISHED: [(&str, &str); 6] =
    [("TO", "DO"), ("FIX", "ME"), ("XX", "X"), ("db", "g!"), ("to", "do!"), ("unimplem", "ented!")];

type Rule = fn(&Source) -> Vec<String>;

fn all_faults(folder: &str, rules: &[Rule]) -> Vec<String> {
    let sources = source::read_all(folder);
    sources.iter().flat_map(|source| rules.iter().flat_map(|rule| rule(source))).collect()
}

#[track_caller]
fn none(faults: Vec<String>) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// What `rule` says about a file of this text.
fn tried(rule: Rule, path: &str, text: &str) -> Vec<String> {
    rule(&Source::new(path, text))
}

#[test]
fn src_is_tidy() {
    let rules: [Rule; 6] = [introduction, functions, length, lines, unfinished, unsafe_code];
    none(all_faults("src", &rules));
}

#[test]
fn the_rest_is_tidy() {
    let rules: [Rule; 4] = [introduction, functions, lines, unfinished];
    for folder in ["examples", "tests", "benches"] {
        none(all_faults(folder, &rules));
    }
}

#[test]
fn every_file_is_reachable() {
    none(unreachable(&source::read_all("src")));
}

#[test]
fn no_path_of_a_machine() {
    let text = |path: &String| {
        let endings = [".rs", ".md", ".toml", ".sh", ".yml", ".py"];
        path.starts_with(".ci/") || endings.iter().any(|ending| path.ends_with(ending))
    };
    none(
        source::paths("").iter().filter(|path| text(path)).flat_map(|p| machine_paths(p)).collect(),
    );
}

#[test]
fn pictures_of_formats_are_in_the_docs() {
    none(pictures(&source::read_all("src"), &source::read("docs/format.md")));
}

/// Every file says what it is for before anything else.
fn introduction(source: &Source) -> Vec<String> {
    let starts = source.text.starts_with("//!");
    (!starts).then(|| format!("{}:1: does not start with `//!`", source.path)).into_iter().collect()
}

#[test]
fn introductions_are_missed() {
    assert_eq!(tried(introduction, "a.rs", "//! For x.\nfn f() {}"), [""; 0]);
    assert_eq!(tried(introduction, "a.rs", "fn f() {}").len(), 1);
}

/// No function is long.
fn functions(source: &Source) -> Vec<String> {
    let all = tokens(&source.code);
    let mut faults = Vec::new();
    for at in 1..all.len() {
        let named = all[at].1.starts_with(|c: char| c == '_' || c.is_ascii_alphabetic());
        if all[at - 1].1 != "fn" || !named {
            continue;
        }
        let mut open = at;
        while open < all.len() && !matches!(all[open].1, "{" | ";") {
            let skip = matches!(all[open].1, "(" | "[");
            open = if skip { closing(&all, open).unwrap_or(open) + 1 } else { open + 1 };
        }
        let Some(end) = closing(&all, open).filter(|_| all.get(open).is_some_and(|t| t.1 == "{"))
        else {
            continue;
        };
        let lines = source.code[all[open].0..all[end].0].matches('\n').count() + 1;
        if lines > FUNCTION_LINES_MAX {
            let line = source.line(all[at].0);
            faults.push(format!("{}:{line}: `{}` has {lines} lines", source.path, all[at].1));
        }
    }
    faults
}

#[test]
fn long_functions_are_found() {
    let body = |lines: usize| {
        format!("trait T {{ fn g(x: [u8; 2]); }}\nfn f(x: [u8; 2]) {{{}}}", "\n".repeat(lines - 1))
    };
    assert_eq!(tried(functions, "a.rs", &body(70)), [""; 0]);
    assert_eq!(tried(functions, "a.rs", &body(71)), ["a.rs:2: `f` has 71 lines"]);
    let test = format!("#[cfg(test)]\nmod tests {{ {} }}", body(71));
    assert_eq!(tried(functions, "a.rs", &test), [""; 0]);
}

/// No file is long. Lines of tests do not count.
fn length(source: &Source) -> Vec<String> {
    let tests = source.whole.lines().zip(source.code.lines()).filter(|(a, b)| a != b).count();
    let lines = source.text.lines().count() - tests;
    let is_test = source.path.contains("/tests");
    let fault = lines > FILE_LINES_MAX && !is_test;
    fault.then(|| format!("{}: has {lines} lines", source.path)).into_iter().collect()
}

#[test]
fn long_files_are_found() {
    let text =
        |lines: usize| "fn f() {}\n".repeat(lines) + "#[cfg(test)]\nmod tests {\n\nfn f(){}}";
    assert_eq!(tried(length, "src/a.rs", &text(799)), [""; 0]);
    assert_eq!(tried(length, "src/a.rs", &text(810)), ["src/a.rs: has 811 lines"]);
}

/// Lines fit a screen and are ASCII. Comments may hold long links and tables.
fn lines(source: &Source) -> Vec<String> {
    let mut faults = Vec::new();
    for (i, line) in source.text.lines().enumerate() {
        let place = format!("{}:{}", source.path, i + 1);
        let comment =
            line.trim_start().strip_prefix("//").map(|c| c.trim_start_matches(['/', '!']));
        let may_be_long =
            comment.is_some_and(|c| c.contains("://") || c.trim_start().starts_with('|'));
        let chars = line.chars().count();
        if chars > LINE_CHARS_MAX && !may_be_long {
            faults.push(format!("{place}: has {chars} characters"));
        }
        if let Some(odd) = line.chars().find(|c| !matches!(c, ' '..='~')) {
            faults.push(format!("{place}: has {odd:?}, which is not printable ASCII"));
        }
    }
    faults
}

#[test]
fn bad_lines_are_found() {
    let long = "x".repeat(101);
    let fine = format!("{}\n    // https://x.org/{long}\n/// | {long} |", "x".repeat(100));
    assert_eq!(tried(lines, "a.rs", &fine), [""; 0]);
    assert_eq!(tried(lines, "a.rs", &format!("\n{long}")), ["a.rs:2: has 101 characters"]);
    let odd = "a.rs:1: has '\u{e4}', which is not printable ASCII";
    assert_eq!(tried(lines, "a.rs", "// \u{e4}"), [odd]);
    assert_eq!(tried(lines, "a.rs", "\tx").len(), 1);
}

/// Nothing is left to be done.
fn unfinished(source: &Source) -> Vec<String> {
    let mut faults = Vec::new();
    for (i, line) in source.text.lines().enumerate() {
        for (head, tail) in UNFINISHED {
            let word = format!("{head}{tail}");
            let in_word = |c: char| c == '_' || c.is_ascii_alphanumeric();
            let is_whole = |at: usize| {
                !line[..at].ends_with(in_word) && !line[at + word.len()..].starts_with(in_word)
            };
            if line.match_indices(&word).any(|(at, _)| is_whole(at)) {
                faults.push(format!("{}:{}: still has a {word}", source.path, i + 1));
            }
        }
    }
    faults
}

#[test]
fn unfinished_work_is_found() {
    for (head, tail) in UNFINISHED {
        let text = format!("//! It.\n// {head}{tail} later\nfn a{head}{tail}b() {{}}");
        let fault = format!("a.rs:2: still has a {head}{tail}");
        assert_eq!(tried(unfinished, "a.rs", &text), [fault]);
    }
}

/// `unsafe` is only where it may be, and every block and impl says why it is sound.
fn unsafe_code(source: &Source) -> Vec<String> {
    let all = tokens(&source.code);
    let allowed = UNSAFE.iter().any(|place| source.path.starts_with(place));
    let mut faults = Vec::new();
    for at in (0..all.len()).filter(|at| all[*at].1 == "unsafe") {
        let line = source.line(all[at].0);
        if !allowed {
            faults.push(format!("{}:{line}: `unsafe` is not allowed in this file", source.path));
        }
        let needs_reason = matches!(all.get(at + 1), Some((_, "{" | "impl")));
        if needs_reason && !is_reasoned(&source.text, line) {
            faults.push(format!("{}:{line}: `unsafe` without a SAFETY comment", source.path));
        }
    }
    faults
}

/// Whether a comment with SAFETY ends on this line, or at most two lines of code above it.
fn is_reasoned(text: &str, line: usize) -> bool {
    let above: Vec<_> = text.lines().take(line).map(str::trim).collect();
    let mut code = 0;
    for text in above.iter().rev() {
        if text.contains("// SAFETY: ") {
            return true;
        }
        code += usize::from(!text.starts_with("//"));
        if code > 3 {
            return false;
        }
    }
    false
}

#[test]
fn unreasoned_unsafe_is_found() {
    let good = "// SAFETY: a reason\n// of two lines.\nlet x =\n    unsafe { f() };";
    assert_eq!(tried(unsafe_code, "src/memtable/arena.rs", good), [""; 0]);
    let elsewhere = tried(unsafe_code, "src/log/mod.rs", good);
    assert_eq!(elsewhere, ["src/log/mod.rs:4: `unsafe` is not allowed in this file"]);
    let bare = "//! No unsafe {\nunsafe fn g() {}\nunsafe impl Send for X {}";
    let fault = "src/vfs/os.rs:3: `unsafe` without a SAFETY comment";
    assert_eq!(tried(unsafe_code, "src/vfs/os.rs", bare), [fault]);
    let far = "// SAFETY: far\na();\nb();\nc();\nunsafe { f() }";
    assert_eq!(tried(unsafe_code, "src/vfs/os.rs", far).len(), 1);
}

/// Every file is a module that some other file declares.
fn unreachable(sources: &[Source]) -> Vec<String> {
    let mut declared = vec![Vec::new()];
    for source in sources {
        let place = |d: source::Declared| [source.module(), d.within, vec![d.name]].concat();
        declared.extend(source::declared(&source.whole).into_iter().map(place));
    }
    let lost = sources.iter().filter(|source| !declared.contains(&source.module()));
    lost.map(|source| format!("{}: no `mod` declares this file", source.path)).collect()
}

#[test]
fn lost_files_are_found() {
    let file = |path, text| Source::new(path, text);
    let lib = file("src/lib.rs", "mod a;\n#[cfg(test)]\nmod b;\n// mod c;");
    let a = file("src/a/mod.rs", "mod d { mod e; }");
    let files = [lib, a, file("src/b.rs", ""), file("src/c.rs", ""), file("src/a/d/e.rs", "")];
    assert_eq!(unreachable(&files), ["src/c.rs: no `mod` declares this file"]);
}

/// Neither the folder around this package nor another absolute path of a machine is written down.
fn machine_paths(path: &str) -> Vec<String> {
    let around = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    let around = around.and_then(|folder| folder.to_str()).filter(|folder| folder.len() > 1);
    let text = source::read(path);
    let mut faults = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let usual = [concat!("/wo", "rk"), concat!("/ro", "ot"), concat!("/ho", "me")];
        if usual.into_iter().chain(around).any(|folder| is_below(line, folder)) {
            faults.push(format!("{path}:{}: names a folder of some machine", i + 1));
        }
    }
    faults
}

/// Whether `line` has an absolute path to something in `folder`.
fn is_below(line: &str, folder: &str) -> bool {
    let is_path =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '/' | '}');
    line.match_indices(&format!("{folder}/")).any(|(at, _)| !line[..at].ends_with(is_path))
}

#[test]
fn machine_paths_are_found() {
    assert!(is_below("cd /some/where/else", "/some/where"));
    assert!(is_below("\"/some/where/else\"", "/some/where"));
    assert!(!is_below("https://x.org/some/where/else", "/some/where"));
    assert!(!is_below("awesome/some/where/else", "/some/where"));
    assert!(!is_below("/some/whereabouts", "/some/where"));
}

/// Every marked picture of a format is in `docs`, and every picture there is in some module.
fn pictures(sources: &[Source], docs: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let mut drawn = Vec::new();
    for source in sources {
        let text = source.text.lines().map_while(|line| line.strip_prefix("//!"));
        let text: Vec<_> = text.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
        for picture in marked(&text.join("\n")) {
            if !marked(docs).contains(&picture) {
                let name = picture.lines().next().unwrap_or_default();
                faults.push(format!("{}: `{name}` is not so in docs/format.md", source.path));
            }
            drawn.push(picture);
        }
    }
    for picture in marked(docs).iter().filter(|picture| !drawn.contains(picture)) {
        let name = picture.lines().next().unwrap_or_default();
        faults.push(format!("docs/format.md: `{name}` is not so in any module's docs"));
    }
    faults
}

/// The fenced blocks of text in `markdown` that start with `Format:`.
fn marked(markdown: &str) -> Vec<String> {
    let after_fences = markdown.split("```text\n").skip(1);
    let blocks = after_fences.filter_map(|block| block.split_once("\n```")).map(|(block, _)| block);
    blocks.filter(|block| block.starts_with("Format:")).map(str::to_owned).collect()
}

#[test]
fn wrong_pictures_are_found() {
    let module = |text: &str| [Source::new("src/a.rs", text)];
    let code = module("//! A.\n//! ```text\n//! Format: a\n//!\n//!   +--+\n//! ```\n//! B\n");
    let docs = |inner| format!("# Formats\n\n```text\n{inner}\n```\n\n```text\nother\n```\n");
    assert_eq!(pictures(&code, &docs("Format: a\n\n  +--+")), [""; 0]);
    assert_eq!(pictures(&code, &docs("Format: a\n\n  +-+")).len(), 2);
    let gone = ["docs/format.md: `Format: a` is not so in any module's docs"];
    assert_eq!(pictures(&module("//! A.\n"), &docs("Format: a\n\n  +--+")), gone);
}
