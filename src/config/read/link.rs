//! The transport keys of `[[trunk]]`: how the peer is reached and known beyond its address.

use std::net::IpAddr;
use std::path::Path;

use super::tree::Table;
use super::value;
use crate::config::{CertificateFiles, TrunkTls};

/// Keys of trunks on TLS listeners only.
pub(in crate::config) const TLS_KEYS: [&str; 5] = ["tls_ca", "tls_names", "tls_mutual", "tls_certificate", "tls_key"];

/// The transport keys as read; `None` where the file is wrong.
#[derive(Clone)]
pub(in crate::config) struct Draft {
    /// There when `tls_ca` is.
    pub(in crate::config) tls: Option<Option<TrunkTls>>,
}

/// Reads the keys; `hosts` are the peer's addresses, its names where the file gives none.
pub(super) fn read(table: &Table<'_>, directory: &Path, hosts: &[IpAddr]) -> Draft {
    Draft { tls: tls(table, directory, hosts) }
}

fn tls(table: &Table<'_>, directory: &Path, hosts: &[IpAddr]) -> Option<Option<TrunkTls>> {
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
        None => Some(hosts.iter().map(IpAddr::to_string).collect()),
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
