//! Rust sources read just far enough to check how the crate is put together: comments, literals
//! and test-only items are blanked, and what is left is cut into words.
#![allow(clippy::expect_used)]

use std::{fs, ops::Range, path::Path};

/// One source file.
#[derive(Debug)]
pub(crate) struct Source {
    /// Its place below the package, with `/` between names: `src/log/mod.rs`.
    pub(crate) path: String,
    /// All of it.
    pub(crate) text: String,
    /// `text` with comments and literals blanked; every byte keeps its place.
    pub(crate) whole: String,
    /// `whole` with test-only items blanked too.
    pub(crate) code: String,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let whole = without_comments(text);
        let code = without_tests(&whole);
        Self { path: path.to_owned(), text: text.to_owned(), whole, code }
    }

    /// The module it is, from the crate's root: `["log", "segment"]`, and nothing for `lib.rs`.
    pub(crate) fn module(&self) -> Vec<String> {
        let inner = self.path.strip_prefix("src/").unwrap_or(&self.path);
        let names = inner.trim_end_matches(".rs").trim_end_matches("/mod");
        match names {
            "lib" => Vec::new(),
            _ => names.split('/').map(str::to_owned).collect(),
        }
    }

    /// The line, from 1, in which byte `at` lies.
    pub(crate) fn line(&self, at: usize) -> usize {
        self.text[..at].matches('\n').count() + 1
    }
}

/// Every `.rs` file below `folder` of this package, by path; nothing if there is no such folder.
pub(crate) fn read_all(folder: &str) -> Vec<Source> {
    paths(folder)
        .into_iter()
        .filter(|path| path.ends_with(".rs"))
        .map(|path| Source::new(&path, &read(&path)))
        .collect()
}

/// The text of the file at `path` of this package.
pub(crate) fn read(path: &str) -> String {
    let bytes = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect(path);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Every file below `folder` of this package, sorted; not what was built, nor the history.
pub(crate) fn paths(folder: &str) -> Vec<String> {
    let mut found = Vec::new();
    let full = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    for entry in fs::read_dir(full).into_iter().flatten() {
        let entry = entry.expect("an entry of a folder");
        let name = entry.file_name().into_string().expect("a name in UTF-8");
        if name == "target" || name == ".git" {
            continue;
        }
        let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
        if entry.path().is_dir() {
            found.extend(paths(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// A word, `::`, or one other character, and where it starts.
pub(crate) type Token<'a> = (usize, &'a str);

/// Cuts blanked code into tokens.
pub(crate) fn tokens(code: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(first) = code[at..].chars().next() {
        let rest = &code[at..];
        let len = match first {
            '_' | 'a'..='z' | 'A'..='Z' | '0'..='9' => {
                rest.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(rest.len())
            }
            ':' if rest.starts_with("::") => 2,
            _ => first.len_utf8(),
        };
        if !first.is_whitespace() {
            found.push((at, &rest[..len]));
        }
        at += len;
    }
    found
}

/// One `mod name;`, declared in the module `within` the file's own.
pub(crate) struct Declared {
    pub(crate) within: Vec<String>,
    pub(crate) name: String,
}

/// The modules that live in other files.
pub(crate) fn declared(code: &str) -> Vec<Declared> {
    let all = tokens(code);
    let mut found = Vec::new();
    let mut inline = Inline::default();
    for at in 0..all.len() {
        inline.step(&all, at);
        if let [(_, "mod"), (_, name), (_, ";"), ..] = all[at..] {
            found.push(Declared { within: inline.names(), name: name.to_owned() });
        }
    }
    found
}

/// The stack of inline `mod name { .. }` around a token.
#[derive(Default)]
pub(crate) struct Inline {
    open: Vec<Option<String>>,
}

impl Inline {
    pub(crate) fn step(&mut self, all: &[Token<'_>], at: usize) {
        match all[at].1 {
            "{" => {
                let named = at >= 2 && all[at - 2].1 == "mod";
                self.open.push(named.then(|| all[at - 1].1.to_owned()));
            }
            "}" => drop(self.open.pop()),
            _ => {}
        }
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.open.iter().flatten().cloned().collect()
    }
}

/// Replaces `range` by spaces, but for the ends of lines.
fn blank(text: &mut [u8], range: Range<usize>) {
    for byte in &mut text[range] {
        if *byte != b'\n' {
            *byte = b' ';
        }
    }
}

fn into_text(mut bytes: Vec<u8>) -> String {
    for byte in bytes.iter_mut().filter(|byte| !byte.is_ascii()) {
        *byte = b' ';
    }
    String::from_utf8(bytes).expect("only ASCII is left")
}

fn without_comments(text: &str) -> String {
    let mut out = text.as_bytes().to_vec();
    let mut at = 0;
    while at < text.len() {
        let len = comment(&text.as_bytes()[at..]).or_else(|| literal(text.as_bytes(), at));
        if let Some(len) = len {
            let end = text.len().min(at + len);
            blank(&mut out, at..end);
            at = end;
        } else {
            at += 1;
        }
    }
    into_text(out)
}

fn find(bytes: &[u8], wanted: &[u8]) -> usize {
    bytes.windows(wanted.len()).position(|w| w == wanted).unwrap_or(bytes.len())
}

/// The length of the comment that starts here.
fn comment(rest: &[u8]) -> Option<usize> {
    if rest.starts_with(b"//") {
        return Some(find(rest, b"\n"));
    }
    let mut at = 2;
    let mut depth = usize::from(rest.starts_with(b"/*"));
    if depth == 0 {
        return None;
    }
    while depth > 0 && at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest[at..].starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
        } else {
            at += 1;
        }
    }
    Some(at)
}

/// The length of the string or character literal that starts at `at`.
fn literal(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = &bytes[at..];
    let in_word = at > 0 && (bytes[at - 1] == b'_' || bytes[at - 1].is_ascii_alphanumeric());
    let prefix = rest.iter().take_while(|b| matches!(b, b'b' | b'c' | b'r')).count();
    if prefix > 0 && !in_word && rest[..prefix].contains(&b'r') {
        let hashes = rest[prefix..].iter().take_while(|b| **b == b'#').count();
        let open = prefix + hashes;
        if rest.get(open) == Some(&b'"') {
            let close = [&b"\""[..], &vec![b'#'; hashes]].concat();
            return Some(open + 1 + find(&rest[open + 1..], &close) + close.len());
        }
    }
    match rest[0] {
        b'"' => Some(quoted(rest, b'"')),
        b'\'' if rest.get(1) == Some(&b'\\') => Some(quoted(rest, b'\'')),
        b'\'' => {
            let text = String::from_utf8_lossy(&rest[1..rest.len().min(6)]).into_owned();
            let char_len = text.chars().next()?.len_utf8();
            (rest.get(1 + char_len) == Some(&b'\'')).then_some(char_len + 2)
        }
        _ => None,
    }
}

/// The length of a literal with escapes, both quotes included.
fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    at + 1
}

/// Blanks items under `#[cfg(test)]` and `#[cfg(all(test, ..))]`; under `#![cfg(test)]`, the lot.
fn without_tests(whole: &str) -> String {
    let all = tokens(whole);
    let mut out = whole.as_bytes().to_vec();
    for at in 0..all.len() {
        let cfg = match all[at..] {
            [(_, "#"), (_, "!"), (_, "["), (_, "cfg"), (_, "("), (_, "test"), ..] => {
                return into_text(
                    whole.bytes().map(|b| if b == b'\n' { b } else { b' ' }).collect(),
                );
            }
            [(_, "#"), (_, "["), (_, "cfg"), (_, "("), (_, "test"), (_, ")"), ..] => true,
            [(_, "#"), (_, "["), (_, "cfg"), (_, "("), (_, "all"), _, (_, "test"), ..] => true,
            _ => false,
        };
        if cfg {
            let end = item_end(&all, at).map_or(whole.len(), |end| all[end].0 + 1);
            blank(&mut out, all[at].0..end);
        }
    }
    into_text(out)
}

/// The last token of the item (or field, or statement) whose attributes start at token `at`.
fn item_end(all: &[Token<'_>], mut at: usize) -> Option<usize> {
    while all.get(at)?.1 == "#" {
        at = closing(all, at + 1)? + 1;
    }
    let words = all[at..].iter().map(|token| token.1);
    let kind = words.take_while(|word| *word != "{").find(|word| {
        matches!(*word, "fn" | "mod" | "impl" | "struct" | "enum" | "trait" | "macro_rules" | "use")
    });
    let ends_in_block = !matches!(kind, None | Some("use"));
    loop {
        match all.get(at)?.1 {
            ";" => return Some(at),
            "," if kind.is_none() => return Some(at),
            "{" if ends_in_block => return closing(all, at),
            "(" | "[" | "{" => at = closing(all, at)?,
            "}" => return Some(at - 1),
            _ => {}
        }
        at += 1;
    }
}

/// The token that closes the bracket at token `at`.
pub(crate) fn closing(all: &[Token<'_>], at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (i, (_, token)) in all.iter().enumerate().skip(at) {
        match *token {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(i);
        }
    }
    None
}
