//! The transport keys of `[[trunk]]`: how the peer is reached and known beyond its address.

use std::path::Path;
use std::time::Duration;

use super::tree::Table;
use super::{login, value};
use crate::config::load::Surroundings;
use crate::config::{CertificateFiles, Challenge, Link, Login, Place, Probe, Register, Remote, TrunkTls};

/// Keys of trunks on TLS listeners only.
pub(in crate::config) const TLS_KEYS: [&str; 5] = ["tls_ca", "tls_names", "tls_mutual", "tls_certificate", "tls_key"];

/// Keys that mean something with `probe_s` only.
const PROBE_KEYS: [&str; 2] = ["probe_lost", "probe_good"];

/// The transport keys as read; `None` where the file is wrong.
#[derive(Clone)]
pub(in crate::config) struct Draft {
    targets: Option<Vec<Remote>>,
    failover_ms: Option<u64>,
    probe: Option<Probe>,
    max_calls_per_s: Option<u64>,
    login: Option<Option<Login>>,
    challenge: Option<Option<Challenge>>,
    register: Option<Option<Register>>,
    /// There when `tls_ca` is.
    pub(in crate::config) tls: Option<Option<TrunkTls>>,
}

/// Reads the keys; `targets` are the trunk's remotes, their hosts the peer's names where the file gives none.
pub(super) fn read(table: &Table<'_>, around: &Surroundings<'_>, targets: Option<Vec<Remote>>) -> Draft {
    let number = |key, range, default| match table.get(key) {
        Some(v) => v.integer(range),
        None => Some(default),
    };
    let hosts: Vec<String> = targets.iter().flatten().map(|target| host(&target.place)).collect();
    Draft {
        failover_ms: number("failover_ms", 500..=32_000, 4_000),
        probe: probe(table),
        max_calls_per_s: number("max_calls_per_s", 1..=10_000, 0),
        tls: tls(table, around.directory, hosts),
        login: login::login(table, around),
        challenge: login::challenge(table, around),
        register: login::register(table),
        targets,
    }
}

/// The keys a recorder has of these: it neither calls nor registers.
pub(super) fn of_recorder(table: &Table<'_>, around: &Surroundings<'_>, targets: Option<Vec<Remote>>) -> Draft {
    let hosts: Vec<String> = targets.iter().flatten().map(|target| host(&target.place)).collect();
    let failover_ms = match table.get("failover_ms") {
        Some(v) => v.integer(500..=32_000),
        None => Some(4_000),
    };
    Draft {
        failover_ms,
        probe: probe(table),
        max_calls_per_s: Some(0),
        tls: tls(table, around.directory, hosts),
        login: Some(None),
        challenge: Some(None),
        register: Some(None),
        targets,
    }
}

fn host(place: &Place) -> String {
    match place {
        Place::At(at) => at.ip().to_string(),
        Place::Name { host, .. } => host.clone(),
    }
}

fn probe(table: &Table<'_>) -> Option<Probe> {
    let usual = Probe::default();
    let every = match table.get("probe_s") {
        Some(v) => v.integer(0..=3_600).map(Duration::from_secs),
        None => {
            for key in PROBE_KEYS.into_iter().filter(|key| table.has(key)) {
                table.fault(key, "is read with probe_s only");
            }
            Some(usual.every)
        }
    };
    let count = |key, default| match table.get(key) {
        Some(v) => v.integer(1..=20).map(|count| count as u32),
        None => Some(default),
    };
    let (lost, good) = (count("probe_lost", usual.lost), count("probe_good", usual.good));
    Some(Probe { every: every?, lost: lost?, good: good? })
}

impl Draft {
    pub(super) fn finish(&self) -> Option<Link> {
        Some(Link {
            tls: self.tls.clone()?,
            targets: self.targets.clone()?,
            former: Vec::new(),
            failover: Duration::from_millis(self.failover_ms?),
            probe: self.probe?,
            max_calls_per_s: u32::try_from(self.max_calls_per_s?).ok()?,
            login: self.login.clone()?,
            challenge: self.challenge.clone()?,
            register: self.register.clone()?,
        })
    }
}

fn tls(table: &Table<'_>, directory: &Path, hosts: Vec<String>) -> Option<Option<TrunkTls>> {
    let Some(ca) = table.get("tls_ca") else { return Some(None) };
    let ca = ca.parsed(|text| value::file(text, directory));
    let names = match table.get("tls_names") {
        Some(v) => {
            let names = v.each(|item| item.parsed(value::tls_name));
            if names.as_ref().is_some_and(Vec::is_empty) {
                v.wrong("is empty; at least one name is wanted");
            }
            names
        }
        None => Some(hosts),
    };
    let mutual = match table.get("tls_mutual") {
        Some(v) => v.boolean(),
        None => Some(true),
    };
    let file = |key: &str| table.get(key).map(|v| v.parsed(|text| value::file(text, directory)));
    let certificate = match (file("tls_certificate"), file("tls_key")) {
        (None, None) => Some(None),
        (Some(chain), Some(key)) => chain.zip(key).map(|(chain, key)| Some(CertificateFiles { chain, key })),
        (Some(_), None) => {
            table.fault("tls_key", "is missing; tls_certificate needs its private key");
            None
        }
        (None, Some(_)) => {
            table.fault("tls_certificate", "is missing; tls_key needs its certificate");
            None
        }
    };
    Some(Some(TrunkTls { ca: ca?, names: names?, mutual: mutual?, certificate: certificate? }))
}
