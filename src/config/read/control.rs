//! `[control]` and `[[control.key]]`.

use std::net::SocketAddr;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::tree::Table;
use super::value;
use crate::config::load::Surroundings;
use crate::config::{ApiKey, Control, Role, SecretSource};

pub(super) const KEYS: &[&str] = &["address", "key"];
pub(super) const API_KEYS: &[&str] = &["name", "role", "sha256", "key_file", "key_env"];

/// Shortest key text taken, in characters.
const LEAST: usize = 16;

/// The section as read; `None` where the file is wrong.
pub(in crate::config) struct Draft {
    pub(in crate::config) address: Option<SocketAddr>,
    keys: Vec<Option<ApiKey>>,
}

/// `None` when the section is not there.
pub(super) fn read(root: &Table<'_>, around: &Surroundings<'_>) -> Option<Draft> {
    root.get("control")?;
    let table = root.child("control", "control");
    let address = table.require("address", "\"127.0.0.1:8080\"").and_then(|v| v.parsed(value::address));
    let tables = table.children("key", "control.key[]");
    if tables.is_empty() && table.get("key").is_none() {
        table.fault(
            "key",
            "no API key is named, so nobody could use the API; add [[control.key]] or leave [control] out",
        );
    }
    let mut keys: Vec<Option<ApiKey>> = Vec::new();
    for table in &tables {
        let key = api_key(table, around);
        if let Some(key) = &key {
            let known = || keys.iter().flatten();
            if known().any(|other| other.name == key.name) {
                table.fault("name", format!("a key named {:?} stands above already", key.name));
            }
            if known().any(|other| other.sha256 == key.sha256) {
                table.fault_here("the same key text stands above already, under another name");
            }
        }
        keys.push(key);
    }
    Some(Draft { address, keys })
}

fn api_key(table: &Table<'_>, around: &Surroundings<'_>) -> Option<ApiKey> {
    let name = table.require("name", "\"crm\"").and_then(|v| v.parsed(value::name));
    let role = table.require("role", "\"integration\"").and_then(|v| {
        v.one_of(&[
            ("admin", Role::Admin),
            ("supervisor", Role::Supervisor),
            ("integration", Role::Integration),
            ("agent", Role::Agent),
            ("auditor", Role::Auditor),
        ])
    });
    let given: Vec<_> = ["sha256", "key_file", "key_env"].into_iter().filter(|key| table.get(key).is_some()).collect();
    let sha256 = match given[..] {
        [] => {
            table.fault("sha256", "is missing; give one of sha256, key_file, key_env");
            None
        }
        ["sha256"] => table.get("sha256").and_then(|v| v.parsed(value::sha256)),
        [key] => table.get(key).and_then(|v| {
            v.parsed(|text| {
                let source = if key == "key_file" {
                    SecretSource::File(around.directory.join(Path::new(text)))
                } else {
                    SecretSource::Variable(text.to_owned())
                };
                hash(&(around.secret)(&source)?)
            })
        }),
        [_, second, ..] => {
            table.fault(second, format!("{} are given; only one can hold", given.join(" and ")));
            None
        }
    };
    Some(ApiKey { name: name?, role: role?, sha256: sha256? })
}

fn hash(text: &str) -> Result<[u8; 32], String> {
    if text.chars().count() < LEAST {
        return Err(format!("the key text has fewer than {LEAST} characters and could be guessed"));
    }
    Ok(Sha256::digest(text.as_bytes()).into())
}

impl Draft {
    pub(super) fn finish(&self) -> Option<Control> {
        Some(Control { address: self.address?, keys: self.keys.iter().cloned().collect::<Option<_>>()? })
    }
}
