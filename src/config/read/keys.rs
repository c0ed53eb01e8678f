//! `[keys.current]` and `[[keys.old]]`. The keys themselves are fetched by whoever opens the recorder.

use std::path::Path;
use std::time::Duration;

use super::tree::Table;
use super::value;
use crate::config::{KekCommand, KekRef, KekSource, KekToken, Keys, SecretPlace};

pub(super) const KEYS: &[&str] = &["current", "old"];
pub(super) const KEK_KEYS: &[&str] = &[
    "id",
    "file",
    "env",
    "command",
    "pkcs11",
    "passphrase_file",
    "passphrase_env",
    "passphrase_command",
    "token",
    "label",
    "pin_file",
    "pin_env",
    "pin_command",
    "timeout_s",
    "refresh_s",
    "cache_s",
];

/// The ways to name a key, one of which must stand.
const SOURCES: [&str; 4] = ["file", "env", "command", "pkcs11"];
const PASSPHRASE: [&str; 3] = ["passphrase_file", "passphrase_env", "passphrase_command"];
const PIN: [&str; 3] = ["pin_file", "pin_env", "pin_command"];

pub(super) fn read(root: &Table<'_>, directory: &Path) -> Keys {
    let table = root.child("keys", "keys");
    let current = table.child("current", "keys.current");
    let old = table.children("old", "keys.old[]");
    let mut seen: Vec<String> = Vec::new();
    let mut read = |table: &Table<'_>| {
        let id = table.require("id", "\"2026-01\"").and_then(|v| v.parsed(value::name));
        let source = source(table, directory);
        if let Some(id) = &id {
            if seen.contains(id) {
                table.fault("id", format!("a key with the id {id:?} stands above already"));
            }
            seen.push(id.clone());
        }
        Some(KekRef { id: id?, source: source? })
    };
    Keys {
        current: if current.is_there() { read(&current) } else { None },
        old: old.iter().filter_map(&mut read).collect(),
    }
}

fn source(table: &Table<'_>, directory: &Path) -> Option<KekSource> {
    let given: Vec<_> = SOURCES.into_iter().filter(|key| table.has(key)).collect();
    let [key] = given[..] else {
        match given[..] {
            [_, second, ..] => table.fault(second, format!("{} are given; only one can hold", given.join(" and "))),
            _ => table.fault(
                "file",
                "is missing; give one of file, env, command, pkcs11, \
                                      for instance file = \"kek-2026-01.hex\"",
            ),
        }
        return None;
    };
    // What belongs to another source would be read by nobody.
    let belongs: &[&str] = match key {
        "file" => &PASSPHRASE,
        "command" => &["timeout_s", "refresh_s", "cache_s"],
        "pkcs11" => &["token", "label", "pin_file", "pin_env", "pin_command", "timeout_s"],
        _ => &[],
    };
    let mut fits = true;
    for other in KEK_KEYS.iter().copied().filter(|other| table.has(other)) {
        if other != "id" && other != key && !belongs.contains(&other) {
            table.fault(other, format!("is not read with {key}"));
            fits = false;
        }
    }
    let seconds = |key, usual, range| table.get(key).map_or(Some(usual), |v| v.integer(range)).map(Duration::from_secs);
    let path = |key| {
        table.get(key)?.parsed(|text| match text {
            "" => Err("is empty".to_owned()),
            text => Ok(directory.join(text)),
        })
    };
    let found = match key {
        "file" => {
            let passphrase = secret(table, &PASSPHRASE, directory, false);
            KekSource::File { file: path("file")?, passphrase: passphrase? }
        }
        "env" => KekSource::Variable(table.get("env")?.parsed(variable)?),
        "command" => {
            let argv = argv(table, "command", directory);
            let timeout = seconds("timeout_s", 10, 1..=120);
            let refresh = seconds("refresh_s", 300, 1..=86_400);
            let cache = seconds("cache_s", 3_600, 0..=2_592_000);
            let (refresh, cache) = (refresh?, cache?);
            if cache < refresh {
                let (cache, refresh) = (cache.as_secs(), refresh.as_secs());
                table.fault(
                    "cache_s",
                    format!(
                        "{cache} s is shorter than refresh_s, {refresh} s: the key would be \
                                                gone before it is asked for again"
                    ),
                );
                return None;
            }
            KekSource::Command(KekCommand { argv: argv?, timeout: timeout?, refresh, cache })
        }
        _ => {
            let words = |key, example| {
                table.require(key, example)?.parsed(|text| match text.len() {
                    1..=32 => Ok(text.to_owned()),
                    n => Err(format!("has {n} bytes; 1 to 32 are wanted")),
                })
            };
            let (token, label) = (words("token", "\"tonewall\""), words("label", "\"kek-2026-01\""));
            let pin = secret(table, &PIN, directory, true);
            let timeout = seconds("timeout_s", 10, 1..=120);
            let (module, pin) = (path("pkcs11")?, pin??);
            KekSource::Token(KekToken { module, token: token?, label: label?, pin, timeout: timeout? })
        }
    };
    fits.then_some(found)
}

/// Where a passphrase or PIN is; `Some(None)`: nowhere, and it need not be.
fn secret(table: &Table<'_>, keys: &[&'static str; 3], directory: &Path, needed: bool) -> Option<Option<SecretPlace>> {
    let given: Vec<_> = keys.iter().copied().filter(|key| table.has(key)).collect();
    match given[..] {
        [] if !needed => Some(None),
        [] => {
            table.fault(keys[0], format!("is missing; give one of {}", keys.join(", ")));
            None
        }
        [key] if key == keys[0] => table.get(key)?.string().map(|text| Some(SecretPlace::File(directory.join(text)))),
        [key] if key == keys[1] => table.get(key)?.parsed(variable).map(|name| Some(SecretPlace::Variable(name))),
        [key] => argv(table, key, directory).map(|argv| Some(SecretPlace::Command(argv))),
        [_, second, ..] => {
            table.fault(second, format!("{} are given; only one can hold", given.join(" and ")));
            None
        }
    }
}

/// Program and arguments; a program with a `/` in it that does not begin with one is found from the file's directory.
fn argv(table: &Table<'_>, key: &str, directory: &Path) -> Option<Vec<String>> {
    let value = table.get(key)?;
    let mut argv = value.each(|item| item.string().map(str::to_owned))?;
    match argv.first_mut() {
        Some(program) if !program.is_empty() => {
            if program.contains('/') {
                *program = directory.join(&*program).display().to_string();
            }
            Some(argv)
        }
        _ => {
            value.wrong("is empty; the program and its arguments are wanted, [\"/usr/local/bin/kek\", \"2026-01\"]");
            None
        }
    }
}

fn variable(text: &str) -> Result<String, String> {
    let fine = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !text.is_empty() && text.chars().all(fine) && !text.starts_with(|c: char| c.is_ascii_digit()) {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is no name of an environment variable"))
    }
}
