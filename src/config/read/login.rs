//! `[trunk.login]`, `[trunk.challenge]` and `[trunk.register]`: digest authentication and registration. Secrets stand in
//! files or the environment, never in the text.

use std::path::Path;
use std::time::Duration;

use super::tree::Table;
use crate::config::load::Surroundings;
use crate::config::{Challenge, DigestAlgorithm, Login, Register, Secret, SecretSource};

pub(super) const LOGIN_KEYS: &[&str] = &["user", "secret_file", "secret_env", "realm"];
pub(super) const CHALLENGE_KEYS: &[&str] = &["user", "secret_file", "secret_env", "realm", "algorithms"];
pub(super) const REGISTER_KEYS: &[&str] = &["address", "expires_s"];

/// Shortest secret taken, in characters.
const LEAST: usize = 8;

/// `[trunk.login]`; `Some(None)`: there is none.
pub(super) fn login(trunk: &Table<'_>, around: &Surroundings<'_>) -> Option<Option<Login>> {
    let table = trunk.child("login", "trunk[].login");
    if table.is_there() { who(&table, around).map(Some) } else { Some(None) }
}

fn who(table: &Table<'_>, around: &Surroundings<'_>) -> Option<Login> {
    let text = |key, example| table.require(key, example).and_then(|v| v.parsed(plain));
    let (user, realm) = (text("user", "\"tonewall\""), text("realm", "\"carrier.example\""));
    let secret = secret(table, around);
    Some(Login { user: user?, secret: secret?, realm: realm? })
}

/// `[trunk.challenge]`; `Some(None)`: there is none.
pub(super) fn challenge(trunk: &Table<'_>, around: &Surroundings<'_>) -> Option<Option<Challenge>> {
    let table = trunk.child("challenge", "trunk[].challenge");
    if !table.is_there() {
        return Some(None);
    }
    let login = who(&table, around);
    let words = [("SHA-256", DigestAlgorithm::Sha256), ("MD5", DigestAlgorithm::Md5)];
    let algorithms = match table.get("algorithms") {
        None => vec![DigestAlgorithm::Sha256, DigestAlgorithm::Md5],
        Some(v) => {
            let read = v.each(|item| item.one_of(&words))?;
            if read.is_empty() || (read.len() == 2 && read[0] == read[1]) || read.len() > 2 {
                v.wrong("must name SHA-256, MD5 or both, each once");
                return None;
            }
            read
        }
    };
    Some(Some(Challenge { login: login?, algorithms }))
}

fn plain(text: &str) -> Result<String, String> {
    if (1..=128).contains(&text.len()) && !text.chars().any(char::is_control) {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is not 1 to 128 printable characters"))
    }
}

/// Where a secret stands: in a file or in an environment variable.
pub(super) const SECRET: [&str; 2] = ["secret_file", "secret_env"];

pub(super) fn secret(table: &Table<'_>, around: &Surroundings<'_>) -> Option<Secret> {
    secret_of(table, around, SECRET)
}

/// The same under other keys: a file's, a variable's.
pub(super) fn secret_of(table: &Table<'_>, around: &Surroundings<'_>, keys: [&'static str; 2]) -> Option<Secret> {
    let given: Vec<_> = keys.into_iter().filter(|key| table.has(key)).collect();
    let key = match given[..] {
        [] => {
            table.fault(keys[0], format!("is missing; give one of {}", keys.join(", ")));
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
            key if key == keys[0] => SecretSource::File(around.directory.join(Path::new(text))),
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
