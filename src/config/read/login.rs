//! `[trunk.login]`, `[trunk.challenge]` and `[trunk.register]`: digest authentication and registration. Secrets stand in
//! files or the environment, never in the text.

use std::path::Path;
use std::time::Duration;

use super::tree::Table;
use crate::config::load::Surroundings;
use crate::config::{Login, Register, Secret, SecretSource};

pub(super) const LOGIN_KEYS: &[&str] = &["user", "secret_file", "secret_env", "realm"];
pub(super) const REGISTER_KEYS: &[&str] = &["address", "expires_s"];

/// Shortest secret taken, in characters.
const LEAST: usize = 8;

/// The login `key` of a trunk; `Some(None)`: there is none.
pub(super) fn login(trunk: &Table<'_>, key: &str, around: &Surroundings<'_>) -> Option<Option<Login>> {
    let table = trunk.child(key, &format!("trunk[].{key}"));
    if !table.is_there() {
        return Some(None);
    }
    let text = |key, example| table.require(key, example).and_then(|v| v.parsed(plain));
    let (user, realm) = (text("user", "\"tonewall\""), text("realm", "\"carrier.example\""));
    let secret = secret(&table, around);
    Some(Some(Login { user: user?, secret: secret?, realm: realm? }))
}

fn plain(text: &str) -> Result<String, String> {
    if (1..=128).contains(&text.len()) && !text.chars().any(char::is_control) {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is not 1 to 128 printable characters"))
    }
}

pub(super) fn secret(table: &Table<'_>, around: &Surroundings<'_>) -> Option<Secret> {
    let given: Vec<_> = ["secret_file", "secret_env"].into_iter().filter(|key| table.has(key)).collect();
    let key = match given[..] {
        [] => {
            table.fault("secret_file", "is missing; give one of secret_file, secret_env");
            return None;
        }
        [key] => key,
        [_, second, ..] => {
            table.fault(second, format!("{} are given; only one can hold", given.join(" and ")));
            return None;
        }
    };
    table.get(key)?.parsed(|text| {
        let source = match key {
            "secret_file" => SecretSource::File(around.directory.join(Path::new(text))),
            _ => SecretSource::Variable(text.to_owned()),
        };
        let secret = (around.secret)(&source)?;
        if secret.chars().count() < LEAST {
            return Err(format!("the secret has fewer than {LEAST} characters and could be guessed"));
        }
        Ok(Secret::new(secret))
    })
}

/// `[trunk.register]`; `Some(None)`: there is none.
pub(super) fn register(trunk: &Table<'_>) -> Option<Option<Register>> {
    let table = trunk.child("register", "trunk[].register");
    if !table.is_there() {
        return Some(None);
    }
    let address = table.require("address", "\"sip:4711@carrier.example\"").and_then(|v| v.parsed(address_of_record));
    let expires = match table.get("expires_s") {
        Some(v) => v.integer(60..=86_400),
        None => Some(600),
    };
    let (user, domain) = address?;
    Some(Some(Register { user, domain, expires: Duration::from_secs(expires?) }))
}

fn address_of_record(text: &str) -> Result<(String, String), String> {
    let bad = || format!("{text:?} is no address of record, such as \"sip:4711@carrier.example\"");
    let (user, domain) = text.strip_prefix("sip:").and_then(|rest| rest.split_once('@')).ok_or_else(bad)?;
    let user_fine = |c: char| c.is_ascii_alphanumeric() || "+-_.!~*'()%".contains(c);
    let domain_fine = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
    let fine = (1..=64).contains(&user.len())
        && user.chars().all(user_fine)
        && (1..=253).contains(&domain.len())
        && domain.chars().all(domain_fine);
    if fine { Ok((user.to_owned(), domain.to_ascii_lowercase())) } else { Err(bad()) }
}
