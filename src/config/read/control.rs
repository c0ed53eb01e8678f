//! `[control]` and `[[control.key]]`.

use std::net::SocketAddr;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::tree::Table;
use super::value;
use crate::config::load::Surroundings;
use crate::config::{ApiKey, Control, Role, SecretSource};

pub(super) const KEYS: &[&str] = &["address", "panel_origins", "key"];
pub(super) const API_KEYS: &[&str] = &["name", "role", "sha256", "key_file", "key_env"];

/// Shortest key text taken, in characters.
const LEAST: usize = 16;

/// The section as read; `None` where the file is wrong.
pub(in crate::config) struct Draft {
    pub(in crate::config) address: Option<SocketAddr>,
    keys: Vec<Option<ApiKey>>,
    panel_origins: Option<Vec<String>>,
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
    let panel_origins = match table.get("panel_origins") {
        None => Some(Vec::new()),
        Some(list) => list.each(|origin| origin.parsed(web_origin)),
    };
    Some(Draft { address, keys, panel_origins })
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

/// A web origin (RFC 6454): scheme, host, port and nothing else. Plain `http` only for this machine.
fn web_origin(text: &str) -> Result<String, String> {
    let (scheme, authority) = text.split_once("://").ok_or_else(form)?;
    // It goes into a header as it is: nothing but what an origin is made of.
    let plain = authority.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.[]:".contains(&b));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    if !plain || host.is_empty() || port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return Err(form());
    }
    let local = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
    if scheme != "https" && !(scheme == "http" && local) {
        return Err("must be an https origin; http is taken for localhost only".to_owned());
    }
    Ok(text.to_owned())
}

fn form() -> String {
    "must be a web origin such as \"https://crm.example.com\": no path, no user, no wildcard".to_owned()
}

fn hash(text: &str) -> Result<[u8; 32], String> {
    if text.chars().count() < LEAST {
        return Err(format!("the key text has fewer than {LEAST} characters and could be guessed"));
    }
    Ok(Sha256::digest(text.as_bytes()).into())
}

impl Draft {
    pub(super) fn finish(&self) -> Option<Control> {
        Some(Control {
            address: self.address?,
            keys: self.keys.iter().cloned().collect::<Option<_>>()?,
            panel_origins: self.panel_origins.clone()?,
        })
    }
}
