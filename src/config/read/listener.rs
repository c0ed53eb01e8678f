//! `[[listener]]`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::tree::{Table, Value};
use super::value;
use crate::config::{CertificateFiles, Listener, ListenerOptions, MediaPlace, Transport};

pub(super) const KEYS: &[&str] = &[
    "name",
    "transport",
    "address",
    "advertise",
    "certificate",
    "key",
    "handshakes_per_source",
    "sips",
    "tcp",
    "keepalive_s",
    "media_address",
    "media_advertise",
];
/// Keys of TLS listeners only.
const TLS_KEYS: [&str; 4] = ["certificate", "key", "handshakes_per_source", "sips"];

/// A listener as read; `None` where the file is wrong.
pub(in crate::config) struct Draft<'a> {
    pub(in crate::config) table: Table<'a>,
    pub(in crate::config) name: Option<String>,
    pub(in crate::config) transport: Option<Transport>,
    pub(in crate::config) address: Option<SocketAddr>,
    advertise: Option<SocketAddr>,
    pub(in crate::config) options: Option<ListenerOptions>,
}

pub(super) fn read<'a>(table: Table<'a>, directory: &Path) -> Draft<'a> {
    let name = table.require("name", "\"carrier-udp\"").and_then(|v| v.parsed(value::name));
    let transport = match table.get("transport") {
        Some(v) => v.one_of(&[("udp", Transport::Udp), ("tcp", Transport::Tcp), ("tls", Transport::Tls)]),
        None => Some(Transport::Udp),
    };
    let address = table.require("address", "\"192.0.2.5:5060\"").and_then(|v| v.parsed(value::address));
    let advertise = match table.get("advertise") {
        Some(v) => advertised(&v, address),
        None => {
            if address.is_some_and(|at| at.ip().is_unspecified()) {
                table.fault(
                    "advertise",
                    "is missing, and needed because address is the unspecified one; peers are told this address",
                );
            }
            address
        }
    };
    let options = options(&table, transport, directory);
    Draft { table, name, transport, address, advertise, options }
}

fn advertised(v: &Value<'_>, bound: Option<SocketAddr>) -> Option<SocketAddr> {
    let at = v.parsed(value::remote)?;
    if bound.is_some_and(|bound| bound.is_ipv4() != at.is_ipv4()) {
        v.unfit("is of the other IP version than address");
    }
    Some(at)
}

fn options(table: &Table<'_>, transport: Option<Transport>, directory: &Path) -> Option<ListenerOptions> {
    let usual = ListenerOptions::default();
    let handshakes_per_source = match table.get("handshakes_per_source") {
        Some(v) => v.integer(1..=10_000).map(|most| most as u32),
        None => Some(usual.handshakes_per_source),
    };
    let sips = match table.get("sips") {
        Some(v) => v.boolean(),
        None => Some(usual.sips),
    };
    let tcp = match table.get("tcp") {
        Some(v) => {
            if matches!(transport, Some(Transport::Tcp | Transport::Tls)) {
                v.unfit("is read with transport = \"udp\" only");
            }
            v.boolean()
        }
        None => Some(usual.tcp),
    };
    let media = media(table);
    let keepalive = match table.get("keepalive_s") {
        Some(v) => v.integer(0..=3_600).map(Duration::from_secs),
        None => Some(usual.keepalive),
    };
    let certificates = match transport {
        Some(Transport::Tls) => certificates(table, directory),
        Some(Transport::Udp | Transport::Tcp) => {
            for key in TLS_KEYS.into_iter().filter(|key| table.has(key)) {
                table.fault(key, "is read with transport = \"tls\" only");
            }
            Some(Vec::new())
        }
        None => None,
    };
    Some(ListenerOptions {
        certificates: certificates?,
        handshakes_per_source: handshakes_per_source?,
        sips: sips?,
        tcp: tcp?,
        media: media?,
        keepalive: keepalive?,
    })
}

/// `media_address` and `media_advertise`.
fn media(table: &Table<'_>) -> Option<Option<MediaPlace>> {
    let advertise = table.get("media_advertise");
    let Some(bound) = table.get("media_address") else {
        if advertise.is_some() {
            table.fault("media_advertise", "is read with media_address only");
        }
        return Some(None);
    };
    let address = bound.parsed(value::ip)?;
    if address.is_multicast() {
        bound.wrong("is a multicast address");
    }
    let advertise = match advertise {
        Some(v) => super::media::advertised(&v, Some(address))?,
        None if address.is_unspecified() => {
            table.fault("media_advertise", "is missing, and needed because media_address is the unspecified one");
            return None;
        }
        None => address,
    };
    Some(Some(MediaPlace { address, advertise }))
}

/// The pairs of `certificate` and `key`, each one file or a list of files.
fn certificates(table: &Table<'_>, directory: &Path) -> Option<Vec<CertificateFiles>> {
    let chains = table.require("certificate", "\"sip.pem\"").and_then(|v| files(v, directory));
    let keys = table.require("key", "\"sip.key\"").and_then(|v| files(v, directory));
    let (chains, keys) = (chains?, keys?);
    if chains.len() != keys.len() {
        table.fault("key", format!("{} certificates and {} keys; one key each is wanted", chains.len(), keys.len()));
        return None;
    }
    Some(chains.into_iter().zip(keys).map(|(chain, key)| CertificateFiles { chain, key }).collect())
}

fn files(v: Value<'_>, directory: &Path) -> Option<Vec<PathBuf>> {
    let items = v.one_or_more()?;
    if items.is_empty() {
        v.wrong("is empty; at least one file is wanted");
        return None;
    }
    items.iter().map(|item| item.parsed(|text| value::file(text, directory))).collect()
}

impl Draft<'_> {
    pub(super) fn finish(&self) -> Option<Listener> {
        Some(Listener {
            name: self.name.clone()?,
            transport: self.transport?,
            address: self.address?,
            advertise: self.advertise?,
            options: self.options.clone()?,
        })
    }
}
