//! `[keys.current]` and `[[keys.old]]`. The key files themselves are read by whoever opens the recorder.

use std::path::Path;

use super::tree::Table;
use super::value;
use crate::config::{KekRef, Keys};

pub(super) const KEYS: &[&str] = &["current", "old"];
pub(super) const KEK_KEYS: &[&str] = &["id", "file"];

pub(super) fn read(root: &Table<'_>, directory: &Path) -> Keys {
    let table = root.child("keys", "keys");
    let current = table.child("current", "keys.current");
    let old = table.children("old", "keys.old[]");
    let mut seen: Vec<String> = Vec::new();
    let mut read = |table: &Table<'_>| {
        let id = table.require("id", "\"2026-01\"").and_then(|v| v.parsed(value::name));
        let file = table.require("file", "\"kek-2026-01.hex\"").and_then(|v| v.string());
        if let Some(id) = &id {
            if seen.contains(id) {
                table.fault("id", format!("a key with the id {id:?} stands above already"));
            }
            seen.push(id.clone());
        }
        let file = match file {
            Some("") => {
                table.fault("file", "is empty");
                None
            }
            file => file.map(|file| directory.join(file)),
        };
        Some(KekRef { id: id?, file: file? })
    };
    Keys {
        current: if current.is_there() { read(&current) } else { None },
        old: old.iter().filter_map(&mut read).collect(),
    }
}
