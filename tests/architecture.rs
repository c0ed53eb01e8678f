//! The shape of the house, held by reading the source: rooms import downwards only, only `rt` touches clocks, sockets,
//! tasks and threads, only the guard makes [`Masked`] media, and no file grows into two jobs. The checks are pure
//! functions over text and are themselves tested on planted violations.
//!
//! [`Masked`]: tonewall::guard::Masked

use std::fs;
use std::path::{Path, PathBuf};

/// The rooms by rank; a room may import rooms of lower rank only (`src/lib.rs` and docs/architecture.md).
const RANKS: &[(&str, u8)] = &[
    ("cli", 9),
    ("rt", 8),
    ("control", 7),
    ("web", 7),
    ("testkit", 7),
    ("call", 6),
    ("record", 5),
    ("audit", 5),
    ("capture", 5),
    ("psp", 5),
    ("media", 4),
    ("guard", 3),
    ("dtmf", 2),
    ("dsp", 1),
    ("rtp", 1),
    ("srtp", 1),
    ("sdp", 1),
    ("sip", 1),
    ("config", 0),
    ("obs", 0),
    ("base", 0),
];

/// The one edge between rooms of rank 0: everything may use `base`.
const FLOOR: &str = "base";

/// What only `rt` may do, as it looks in code.
const RT_ONLY: &[&str] = &[
    "Instant::now",
    "SystemTime::now",
    "UdpSocket::bind",
    "UdpSocket::connect",
    "TcpStream::connect",
    "TcpListener",
    "Socket::new",
    "spawn(",
    "spawn_blocking(",
    "thread::",
    "sleep(",
];

/// The longest a file may be, in lines.
const LONGEST: usize = 700;

/// The one file that makes masked blocks of what was sealed: audited sound only.
const REOPENS: &str = "src/record/reopen.rs";

/// One breach, as printed.
fn breach(path: &str, line: usize, what: &str) -> String {
    format!("{path}:{line}: {what}")
}

/// Every breach in one source file; `path` from the crate root (`src/sip/dialog.rs`).
fn breaches(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let lines = text.lines().count();
    if lines > LONGEST {
        found.push(breach(path, lines, &format!("{lines} lines; over {LONGEST} a file has two jobs")));
    }
    let code = code_only(text);
    let Some(room) = room_of(path) else { return found };
    for (line, target) in edges(path, &code) {
        if !may_import(room, &target) {
            found.push(breach(path, line, &format!("{room} imports {target}, which is not below it")));
        }
    }
    let product = if is_test_file(path) { String::new() } else { without_tests(&code) };
    for (index, line) in product.lines().enumerate() {
        if room != "rt" {
            for act in RT_ONLY.iter().filter(|act| contains_word(line, act)) {
                found.push(breach(path, index + 1, &format!("{act} outside src/rt")));
            }
        }
        if room != "guard" && contains_word(line, "Masked::new") {
            found.push(breach(path, index + 1, "Masked::new outside src/guard"));
        }
        if room != "guard" && path != REOPENS && contains_word(line, "reopened(") {
            found.push(breach(path, index + 1, "sealed sound reopened outside its one place"));
        }
    }
    found
}

fn room_of(path: &str) -> Option<&str> {
    let inside = path.strip_prefix("src/")?;
    let room = inside.split('/').next()?;
    let room = room.strip_suffix(".rs").unwrap_or(room);
    RANKS.iter().find(|(name, _)| *name == room).map(|(name, _)| *name)
}

fn may_import(room: &str, target: &str) -> bool {
    let rank = |name: &str| RANKS.iter().find(|(known, _)| *known == name).map(|(_, rank)| *rank);
    match (rank(room), rank(target)) {
        (Some(from), Some(to)) => room == target || to < from || (target == FLOOR && from == 0),
        _ => false,
    }
}

fn is_test_file(path: &str) -> bool {
    path.ends_with("_tests.rs") || path.ends_with("/tests.rs") || path.contains("/tests/")
}

/// `line` has `word` and what stands before it is no longer name.
fn contains_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
}

/// The rooms a file reaches, with lines: `crate::room`, `crate::{room, …}`, and `super` chains that end at the root.
fn edges(path: &str, code: &str) -> Vec<(usize, String)> {
    let depth = path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod").split('/').count();
    let mut found = Vec::new();
    for (start, _) in code.match_indices("crate::").chain(code.match_indices("super::")) {
        if code[..start].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':' || c == '$') {
            continue;
        }
        let mut rest = &code[start..];
        if let Some(after) = rest.strip_prefix("crate::") {
            rest = after;
        } else {
            let mut climbs = 0;
            while let Some(after) = rest.strip_prefix("super::") {
                climbs += 1;
                rest = after;
            }
            if climbs < depth {
                continue;
            }
        }
        let is_crate = code[start..].starts_with("crate");
        for (offset, name) in heads(rest) {
            let at = code.len() - rest.len() + offset;
            let line = code[..at].matches('\n').count() + 1;
            let is_room = RANKS.iter().any(|(room, _)| *room == name);
            if is_room || is_crate && name.starts_with(|c: char| c.is_lowercase()) {
                found.push((line, name));
            }
        }
    }
    found
}

/// The first names of a path or of a braced group of paths, with offsets.
fn heads(rest: &str) -> Vec<(usize, String)> {
    let name_at = |at: usize| {
        let name: String = rest[at..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        (!name.is_empty()).then_some((at, name))
    };
    if !rest.starts_with('{') {
        return name_at(0).into_iter().collect();
    }
    let (mut found, mut depth, mut fresh) = (Vec::new(), 0, true);
    for (at, c) in rest.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => break,
            '}' => depth -= 1,
            ',' if depth == 1 => fresh = true,
            c if c.is_whitespace() => {}
            _ => {
                if fresh && depth == 1 {
                    found.extend(name_at(at));
                }
                fresh = false;
            }
        }
    }
    found
}

/// The text with comments, strings and characters blanked, lines kept.
fn code_only(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let blank = |c: char| if c == '\n' { '\n' } else { ' ' };
    let mut at = 0;
    while at < chars.len() {
        let next = |offset: usize| chars.get(at + offset).copied().unwrap_or('\0');
        let end = match (chars[at], next(1)) {
            ('/', '/') => chars[at..].iter().position(|c| *c == '\n').map_or(chars.len(), |length| at + length),
            ('/', '*') => block_comment(&chars, at),
            ('r', '"' | '#')
                if at == 0 || !(chars[at - 1].is_alphanumeric() || chars[at - 1] == '_') || chars[at - 1] == 'b' =>
            {
                raw_string(&chars, at).unwrap_or(at)
            }
            ('"', _) => quoted(&chars, at, '"'),
            ('\'', '\\') => quoted(&chars, at, '\''),
            ('\'', _) if next(2) == '\'' => at + 3,
            _ => at,
        };
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            out.extend(chars[at..end.min(chars.len())].iter().map(|c| blank(*c)));
            at = end;
        }
    }
    out
}

fn block_comment(chars: &[char], start: usize) -> usize {
    let (mut depth, mut at) = (0, start);
    while at + 1 < chars.len() {
        match (chars[at], chars[at + 1]) {
            ('/', '*') => depth += 1,
            ('*', '/') => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return at;
        }
    }
    chars.len()
}

fn raw_string(chars: &[char], start: usize) -> Option<usize> {
    let hashes = chars[start + 1..].iter().take_while(|c| **c == '#').count();
    if chars.get(start + 1 + hashes) != Some(&'"') {
        return None;
    }
    let close: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let body = start + 2 + hashes;
    let length = chars[body..].windows(close.len()).position(|window| window == close);
    Some(length.map_or(chars.len(), |length| body + length + close.len()))
}

fn quoted(chars: &[char], start: usize, quote: char) -> usize {
    let mut at = start + 1;
    while at < chars.len() && chars[at] != quote {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// Blanks every item under `#[cfg(test)]`, lines kept. `code` must be free of strings and comments.
fn without_tests(code: &str) -> String {
    let mut out = code.to_owned();
    while let Some(start) = out.find("#[cfg(test)]") {
        let rest = &out[start..];
        let body = rest.find(['{', ';']).unwrap_or(rest.len() - 1);
        let mut length = body + 1;
        if rest.as_bytes()[body] == b'{' {
            let mut depth = 0;
            for (at, c) in rest.char_indices().skip_while(|(at, _)| *at < body) {
                depth += i32::from(c == '{') - i32::from(c == '}');
                length = at + c.len_utf8();
                if depth == 0 {
                    break;
                }
            }
        }
        let blanked: String = rest[..length].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        out.replace_range(start..start + length, &blanked);
    }
    out
}

fn rust_files(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            rust_files(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

#[test]
fn the_house_keeps_its_shape() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    rust_files(&root.join("src"), &mut files);
    assert!(files.len() > 40, "only {} source files were found", files.len());
    files.sort();
    let mut found = Vec::new();
    for file in files {
        let path = file.strip_prefix(root).expect("under the root").to_string_lossy().replace('\\', "/");
        let text = fs::read_to_string(&file).expect("a source file");
        found.extend(breaches(&path, &text));
    }
    assert!(found.is_empty(), "{} breaches:\n{}", found.len(), found.join("\n"));
}

#[test]
fn every_room_has_a_rank_and_every_rank_a_room() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let map = fs::read_to_string(root.join("src/lib.rs")).expect("the map");
    let mut rooms: Vec<&str> =
        map.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    let mut ranked: Vec<&str> = RANKS.iter().map(|(room, _)| *room).collect();
    rooms.sort_unstable();
    ranked.sort_unstable();
    assert_eq!(rooms, ranked);
    for (room, rank) in RANKS {
        let row = map.lines().find(|line| line.starts_with(&format!("//! | {rank} |")));
        assert!(row.is_some_and(|row| row.contains(&format!("[`{room}`]"))), "{room} is not in row {rank} of the map");
    }
}

fn planted(path: &str, text: &str) -> usize {
    breaches(path, text).len()
}

#[test]
fn a_climbing_or_sideways_import_is_caught() {
    assert_eq!(planted("src/sip/dialog.rs", "use crate::call::Engine;\n"), 1);
    assert_eq!(planted("src/sip/dialog.rs", "use crate::sdp::Session;\n"), 1);
    assert_eq!(planted("src/obs/event.rs", "use crate::config::Config;\n"), 1);
    assert_eq!(planted("src/sip/dialog.rs", "use crate::{base::Random, media::{Worker, x}, rt};\n"), 2);
    assert_eq!(planted("src/sip/dialog.rs", "fn f() { let x: Option<crate::call::Engine> = None; }\n"), 1);
    assert_eq!(planted("src/sip/mod.rs", "use super::media::Worker;\n"), 1);
    assert_eq!(planted("src/sip/dialog.rs", "use super::super::media::Worker;\n"), 1);
    assert_eq!(planted("src/sip/dialog.rs", "use crate::nonsense::X;\n"), 1);
    assert_eq!(planted("src/base/ids.rs", "#[cfg(test)]\nmod tests {\n    use crate::testkit::Sim;\n}\n"), 1);
}

#[test]
fn downward_imports_words_and_strings_are_not() {
    let fine = "//! crate::call is above\nuse crate::base::{Random, ids::Leg};\nuse crate::config::Config;\n\
        use super::{framer, media};\n/* crate::rt */ const S: &str = \"crate::rt spawn( \\\" thread::\";\n\
        const R: &str = r#\"crate::rt \" \"#; const C: char = '\"'; fn f<'a>(x: &'a str) {}\nuse crate::sip::msg;\n";
    assert_eq!(breaches("src/sip/msg/mod.rs", fine), Vec::<String>::new());
    assert_eq!(planted("src/config/load.rs", "use crate::base::Random;\n"), 0);
    assert_eq!(planted("src/cli/demo.rs", "use crate::{testkit, rt::node, base};\n"), 0);
}

#[test]
fn clocks_sockets_tasks_and_threads_outside_rt_are_caught() {
    for act in [
        "let t = Instant::now();",
        "let t = std::time::SystemTime::now();",
        "let s = UdpSocket::bind(a);",
        "use std::net::TcpListener;",
        "tokio::spawn(x);",
        "std::thread::scope(f);",
        "tokio::time::sleep(d).await;",
    ] {
        let text = format!("fn f() {{\n    {act}\n}}\n");
        assert_eq!(planted("src/call/engine.rs", &text), 1, "{act}");
        assert_eq!(planted("src/rt/node.rs", &text), 0, "{act}");
        assert_eq!(planted("src/call/engine.rs", &format!("#[cfg(test)]\nmod tests {{\n{text}}}\n")), 0, "{act}");
        assert_eq!(planted("src/call/engine_tests.rs", &text), 0, "{act}");
        assert_eq!(planted("src/call/engine.rs", &format!("#[cfg(test)]\nmod tests {{}}\n{text}")), 1, "{act}");
    }
    assert_eq!(planted("src/call/engine.rs", "fn f() { respawn(1); oversleep(2); }\n"), 0);
}

#[test]
fn masked_media_made_outside_the_guard_is_caught() {
    assert_eq!(planted("src/media/session.rs", "fn f() { Masked::new(packet) }\n"), 1);
    assert_eq!(planted("src/guard/path.rs", "fn f() { Masked::new(packet) }\n"), 0);
    assert_eq!(planted("src/rt/forward.rs", "fn f() { MaskedBlock::reopened(samples) }\n"), 1);
    assert_eq!(planted("src/record/siprec/sound.rs", "fn f() { Masked::<Box<Block>>::reopened(samples) }\n"), 1);
    assert_eq!(planted("src/record/reopen.rs", "fn f() { MaskedBlock::reopened(samples) }\n"), 0);
}

#[test]
fn a_file_with_two_jobs_is_caught() {
    assert_eq!(planted("src/call/engine.rs", &"\n".repeat(LONGEST + 1)), 1);
    assert_eq!(planted("src/call/engine.rs", &"\n".repeat(LONGEST)), 0);
}
