//! `[[trunk.header]]` and the number keys of `[[route]]`.

use super::tree::Table;
use super::trunk::or;
use super::value;
use crate::config::{HeaderAction, HeaderRule, Numbers, Rewrite};

pub(super) const HEADER_KEYS: &[&str] = &["do", "name", "from", "match", "value"];

/// Headers no rule may read: they are the peers' own secrets.
const SECRET: [&str; 2] = ["authorization", "proxy-authorization"];

/// The header rules of a trunk, in order.
pub(super) fn headers(trunk: &Table<'_>) -> Option<Vec<HeaderRule>> {
    trunk.children("header", "trunk[].header[]").iter().map(header).collect()
}

fn header(table: &Table<'_>) -> Option<HeaderRule> {
    let words = [("set", &["value"][..]), ("remove", &[]), ("copy", &["from"]), ("rewrite", &["match", "value"])];
    let does = table.require("do", "\"set\"").and_then(|v| v.one_of(&words.map(|(word, _)| (word, word))));
    let name = table.require("name", "\"X-Site\"").and_then(|v| v.parsed(value::passed_header));
    let does = does?;
    let wanted = words.iter().find(|(word, _)| *word == does).map_or(&[][..], |(_, keys)| *keys);
    for key in wanted {
        table.require(key, "\"…\"")?;
    }
    for key in ["from", "match", "value"].into_iter().filter(|key| table.has(key)) {
        if !(wanted.contains(&key) || does == "copy" && key != "from") {
            table.fault(key, format!("is not read with do = {does:?}"));
        }
    }
    let text = |key: &str| table.get(key).and_then(|v| v.parsed(plain));
    let action = match does {
        "set" => HeaderAction::Set(text("value")?),
        "remove" => HeaderAction::Remove,
        "rewrite" => HeaderAction::Rewrite(rewrite(table, ("match", "value"), false)??),
        _ => {
            let from = table.get("from")?.parsed(|text| match text.to_ascii_lowercase() {
                name if SECRET.contains(&name.as_str()) => Err(format!("{text:?} is a secret of the caller's")),
                _ => value::header(text),
            })?;
            HeaderAction::Copy { from, by: rewrite(table, ("match", "value"), false)? }
        }
    };
    Some(HeaderRule { name: name?, action })
}

/// A pattern and its template; they stand together.
fn rewrite(table: &Table<'_>, (pattern, template): (&str, &str), whole: bool) -> Option<Option<Rewrite>> {
    let (has_pattern, has_template) = (table.has(pattern), table.has(template));
    if !has_pattern && !has_template {
        return Some(None);
    }
    if has_pattern != has_template {
        let (here, missing) = if has_pattern { (pattern, template) } else { (template, pattern) };
        table.fault(here, format!("stands without {missing}"));
        return None;
    }
    let text = table.get(template)?.parsed(plain)?;
    table.get(pattern)?.parsed(|pattern| Rewrite::new(pattern, &text, whole)).map(Some)
}

/// Text fit for a header value.
fn plain(text: &str) -> Result<String, String> {
    if text.len() > 512 || text.chars().any(char::is_control) {
        return Err("is longer than 512 bytes or holds a control character".to_owned());
    }
    Ok(text.to_owned())
}

/// What a route makes of numbers.
pub(super) fn numbers(table: &Table<'_>) -> Option<Numbers> {
    let called = rewrite(table, ("match", "number"), true);
    let caller = rewrite(table, ("caller_match", "caller_number"), true);
    let strip = or(table, "strip", 0, |v| v.integer(0..=32));
    let add = or(table, "add", String::new(), |v| v.parsed(value::prefix));
    Some(Numbers { called: called?, caller: caller?, strip: usize::try_from(strip?).ok()?, add: add? })
}
