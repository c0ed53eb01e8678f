//! `[audit]` and `[[audit.ship]]`.

use std::path::Path;
use std::time::Duration;

use super::login::secret;
use super::tree::Table;
use super::{storage, value, webhook};
use crate::config::load::Surroundings;
use crate::config::{Audit, AuditSync, Ship, ShipTo};

pub(super) const KEYS: &[&str] = &["directory", "key", "sync", "checkpoint_entries", "checkpoint_s", "file_mb", "ship"];
pub(super) const SHIP_KEYS: &[&str] = &[
    "name",
    "directory",
    "url",
    "secret_file",
    "secret_env",
    "ca",
    "bucket",
    "region",
    "endpoint",
    "prefix",
    "access_key_file",
    "access_key_env",
    "secret_key_file",
    "secret_key_env",
];

/// The keys by which a place is told, each with those that mean something beside it.
const PLACES: [(&str, &[&str]); 3] =
    [("directory", &[]), ("url", &["secret_file", "secret_env", "ca"]), ("bucket", storage::BUCKET_KEYS)];

/// Where the log is kept when the file does not say.
const DIRECTORY: &str = "/var/lib/tonewall/audit";

/// The section; `Some(None)`: it is not there, and no log is kept.
pub(super) fn read(root: &Table<'_>, around: &Surroundings<'_>) -> Option<Option<Audit>> {
    let table = root.child("audit", "audit");
    if !table.is_there() {
        return Some(None);
    }
    let file = |text: &str| value::file(text, around.directory);
    let directory = table.get("directory").map_or_else(|| Some(DIRECTORY.into()), |v| v.parsed(file));
    let key = table.require("key", "\"/etc/tonewall/audit.key\"").and_then(|v| v.parsed(file));
    let sync = match table.get("sync") {
        Some(v) => v.one_of(&[("always", AuditSync::Always), ("second", AuditSync::Second)]),
        None => Some(AuditSync::Always),
    };
    let number = |name, usual: u64, range: std::ops::RangeInclusive<u64>| match table.get(name) {
        Some(v) => v.integer(range),
        None => Some(usual),
    };
    let entries = number("checkpoint_entries", 1_000, 1..=1_000_000);
    let seconds = number("checkpoint_s", 10, 1..=3_600);
    let megabytes = number("file_mb", 16, 1..=1_024);
    let mut ships: Vec<Option<Ship>> = Vec::new();
    for table in table.children("ship", "audit.ship[]") {
        let ship = ship(&table, around);
        if let Some(name) = ship.as_ref().map(|ship| &ship.name)
            && ships.iter().flatten().any(|other| other.name == *name)
        {
            table.fault("name", format!("a place named {name:?} stands above already"));
        }
        ships.push(ship);
    }
    Some(Some(Audit {
        directory: directory?,
        key: key?,
        sync: sync?,
        checkpoint_entries: entries?,
        checkpoint_every: Duration::from_secs(seconds?),
        file_bytes: megabytes? * 1_000_000,
        ships: ships.into_iter().collect::<Option<_>>()?,
    }))
}

fn ship(table: &Table<'_>, around: &Surroundings<'_>) -> Option<Ship> {
    let name = table.require("name", "\"witness\"").and_then(|v| v.parsed(value::name));
    let given: Vec<_> = PLACES.iter().filter(|(key, _)| table.has(key)).collect();
    let to = match given[..] {
        [(place, fitting)] => {
            let others = SHIP_KEYS.iter().filter(|key| !["name", place].contains(key) && !fitting.contains(key));
            for key in others.filter(|key| table.has(key)) {
                table.fault(key, format!("is of no use with {place}"));
            }
            match *place {
                "directory" => table
                    .get("directory")
                    .and_then(|v| v.parsed(|text| value::file(text, around.directory)))
                    .map(ShipTo::Directory),
                "url" => address(table, around),
                _ => storage::bucket_of(table, around).map(|bucket| ShipTo::Bucket(Box::new(bucket))),
            }
        }
        [] => {
            table.fault("directory", "is missing; give one of directory, url, bucket");
            None
        }
        [(first, _), (second, _), ..] => {
            table.fault(second, format!("{first} and {second} are given; only one can hold"));
            None
        }
    };
    Some(Ship { name: name?, to: to? })
}

fn address(table: &Table<'_>, around: &Surroundings<'_>) -> Option<ShipTo> {
    let url = table.get("url").and_then(|v| v.parsed(|text| webhook::url(text, true)));
    let token =
        if table.has("secret_file") || table.has("secret_env") { secret(table, around).map(Some) } else { Some(None) };
    let ca = match table.get("ca") {
        Some(v) => v.string().map(|text| Some(around.directory.join(Path::new(text)))),
        None => Some(None),
    };
    url.zip(token).zip(ca).map(|((url, token), ca)| ShipTo::Url { url, token, ca })
}
