//! `[storage]`, `[[storage.retention]]` and `[storage.s3]`.

use std::path::Path;
use std::time::Duration;

use super::tree::Table;
use super::value;
use crate::config::hint::hint;
use crate::config::load::Surroundings;
use crate::config::{DiskWatch, KeepRule, S3, Secret, SecretSource, Storage};

pub(super) const KEYS: &[&str] = &["recordings", "payments", "stall_s", "least_free_mb", "retention", "s3"];
pub(super) const RETENTION_KEYS: &[&str] = &["trunk", "label", "keep_days"];
pub(super) const S3_KEYS: &[&str] = &[
    "bucket",
    "region",
    "endpoint",
    "prefix",
    "access_key_file",
    "access_key_env",
    "secret_key_file",
    "secret_key_env",
    "ca",
    "keep_local_h",
];

/// What says where a bucket is and who we are to it.
pub(super) const BUCKET_KEYS: &[&str] =
    &["region", "endpoint", "prefix", "access_key_file", "access_key_env", "secret_key_file", "secret_key_env", "ca"];

/// Where recordings go when the file does not say.
const RECORDINGS: &str = "/var/lib/tonewall/recordings";

/// Where the state of payments is kept when the file does not say.
const PAYMENTS: &str = "/var/lib/tonewall/payments.db";

/// `trunks`: the names of all trunks, if all could be read.
pub(super) fn read(table: &Table<'_>, around: &Surroundings<'_>, trunks: Option<&Vec<&str>>) -> Option<Storage> {
    let place = |key, usual, what: &str| {
        table.get(key).map_or(Some(usual), |v| match v.string() {
            Some("") => {
                v.wrong(format!("is empty; a {what} is wanted"));
                None
            }
            text => text,
        })
    };
    let recordings = place("recordings", RECORDINGS, "directory");
    let payments = place("payments", PAYMENTS, "file");
    let usual = DiskWatch::default();
    let stall = match table.get("stall_s") {
        Some(v) => v.integer(1..=600).map(Duration::from_secs),
        None => Some(usual.stall),
    };
    let least_free = match table.get("least_free_mb") {
        Some(v) => v.integer(1..=100_000_000).map(|megabytes| Some(megabytes * 1_000_000)),
        None => Some(usual.least_free),
    };
    let rules = table.children("retention", "storage.retention[]");
    let retention: Vec<_> = rules.iter().map(|table| rule(table, trunks)).collect();
    let s3 = s3(&table.child("s3", "storage.s3"), around);
    Some(Storage {
        recordings: around.directory.join(recordings?),
        payments: around.directory.join(payments?),
        disk: DiskWatch { stall: stall?, least_free: least_free? },
        retention: retention.into_iter().collect::<Option<_>>()?,
        s3: s3?,
    })
}

fn rule(table: &Table<'_>, trunks: Option<&Vec<&str>>) -> Option<KeepRule> {
    let optional = |key| match table.get(key) {
        Some(v) => v.string().map(|text| Some((v, text))),
        None => Some(None),
    };
    let trunk = optional("trunk");
    if let (Some(Some((value, name))), Some(known)) = (&trunk, trunks)
        && !known.contains(name)
    {
        value.unfit(format!("no trunk is named {name:?}{}", hint(name, known.iter().copied())));
    }
    let trunk = trunk.map(|found| found.map(|(_, name)| name.to_owned()));
    let label = match optional("label") {
        Some(Some((value, text))) => match text.split_once('=') {
            Some((key, wanted)) if !key.is_empty() => Some(Some((key.to_owned(), wanted.to_owned()))),
            _ => {
                value.wrong(format!("{text:?} is no label, such as \"team=north\""));
                None
            }
        },
        found => found.map(|_| None),
    };
    let days = table.require("keep_days", "90").and_then(|v| v.integer(0..=36_500));
    Some(KeepRule { trunk: trunk?, label: label?, keep_days: u32::try_from(days?).ok()? })
}

/// `Some(None)`: there is none.
fn s3(table: &Table<'_>, around: &Surroundings<'_>) -> Option<Option<S3>> {
    if !table.is_there() {
        return Some(None);
    }
    let store = bucket_of(table, around);
    let keep_local = match table.get("keep_local_h") {
        Some(v) => v.integer(0..=876_000).map(|hours| Some(Duration::from_secs(hours * 3_600))),
        None => Some(None),
    };
    Some(Some(S3 { keep_local: keep_local?, ..store? }))
}

/// A bucket, where it is and who we are to it; nothing is kept of what goes there.
pub(super) fn bucket_of(table: &Table<'_>, around: &Surroundings<'_>) -> Option<S3> {
    let bucket = table.require("bucket", "\"recordings\"").and_then(|v| v.parsed(bucket));
    let text = |key, usual: &str| table.get(key).map_or_else(|| Some(usual.to_owned()), |v| v.parsed(word));
    let region = text("region", "us-east-1");
    let prefix = table.get("prefix").map_or_else(|| Some(String::new()), |v| v.parsed(prefix));
    let endpoint = match table.get("endpoint") {
        Some(v) => v.parsed(endpoint).map(Some),
        None => Some(None),
    };
    let access_key = secret(table, ["access_key_file", "access_key_env"], around);
    let secret_key = secret(table, ["secret_key_file", "secret_key_env"], around);
    let ca = match table.get("ca") {
        Some(v) => v.string().map(|text| Some(around.directory.join(Path::new(text)))),
        None => Some(None),
    };
    Some(S3 {
        bucket: bucket?,
        region: region?,
        endpoint: endpoint?,
        prefix: prefix?,
        access_key: access_key?,
        secret_key: secret_key?,
        ca: ca?,
        keep_local: None,
    })
}

fn secret(table: &Table<'_>, keys: [&'static str; 2], around: &Surroundings<'_>) -> Option<Secret> {
    let [file, variable] = keys;
    let key = match (table.has(file), table.has(variable)) {
        (true, false) => file,
        (false, true) => variable,
        (false, false) => {
            table.fault(file, format!("is missing; give one of {file}, {variable}"));
            return None;
        }
        (true, true) => {
            table.fault(variable, format!("{file} and {variable} are given; only one can hold"));
            return None;
        }
    };
    table.get(key)?.parsed(|text| {
        let source = match key == file {
            true => SecretSource::File(around.directory.join(text)),
            false => SecretSource::Variable(text.to_owned()),
        };
        match (around.secret)(&source)? {
            text if text.is_empty() => Err("holds nothing".to_owned()),
            text => Ok(Secret::new(text)),
        }
    })
}

fn bucket(text: &str) -> Result<String, String> {
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-._".contains(c);
    if (3..=63).contains(&text.len()) && text.chars().all(fine) {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is no bucket: 3 to 63 small letters, digits, - . _"))
    }
}

fn word(text: &str) -> Result<String, String> {
    value::name(text)
}

fn prefix(text: &str) -> Result<String, String> {
    let fine = |c: char| c.is_ascii_alphanumeric() || "-._/".contains(c);
    let good = text.len() <= 256 && text.chars().all(fine) && !text.starts_with('/') && !text.contains("//");
    match (good && !text.split('/').any(|part| part == "." || part == ".."), text) {
        (false, _) => {
            Err(format!("{text:?} is no beginning of keys: letters, digits, - . _ / and no / at the beginning"))
        }
        (true, text) if text.is_empty() || text.ends_with('/') => Ok(text.to_owned()),
        (true, text) => Ok(format!("{text}/")),
    }
}

/// An address of a store: https, or http to this machine.
fn endpoint(text: &str) -> Result<String, String> {
    let bad = || format!("{text:?} is no address of a store, such as \"https://s3.example.com\"");
    let (scheme, rest) = text.split_once("://").ok_or_else(bad)?;
    let authority = rest.trim_end_matches('/');
    let fine = |c: char| c.is_ascii_alphanumeric() || "-.:[]".contains(c);
    if authority.is_empty() || !authority.chars().all(fine) {
        return Err(bad());
    }
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    match scheme {
        "https" => Ok(format!("https://{authority}")),
        "http" if matches!(host, "127.0.0.1" | "localhost" | "[::1]") => Ok(format!("http://{authority}")),
        "http" => Err(format!("{text:?} is not encrypted: use https (http only to this machine)")),
        _ => Err(bad()),
    }
}
