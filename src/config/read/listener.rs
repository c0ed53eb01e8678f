//! `[[listener]]`.

use std::net::SocketAddr;

use super::tree::{Table, Value};
use super::value;
use crate::config::{Listener, Transport};

pub(super) const KEYS: &[&str] = &["name", "transport", "address", "advertise"];

/// A listener as read; `None` where the file is wrong.
pub(in crate::config) struct Draft<'a> {
    pub(in crate::config) table: Table<'a>,
    pub(in crate::config) name: Option<String>,
    pub(in crate::config) transport: Option<Transport>,
    pub(in crate::config) address: Option<SocketAddr>,
    advertise: Option<SocketAddr>,
}

pub(super) fn read(table: Table<'_>) -> Draft<'_> {
    let name = table.require("name", "\"carrier-udp\"").and_then(|v| v.parsed(value::name));
    let transport = match table.get("transport") {
        Some(v) => v.one_of(&[("udp", Transport::Udp), ("tcp", Transport::Tcp)]),
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
    Draft { table, name, transport, address, advertise }
}

fn advertised(v: &Value<'_>, bound: Option<SocketAddr>) -> Option<SocketAddr> {
    let at = v.parsed(value::remote)?;
    if bound.is_some_and(|bound| bound.is_ipv4() != at.is_ipv4()) {
        v.unfit("is of the other IP version than address");
    }
    Some(at)
}

impl Draft<'_> {
    pub(super) fn finish(&self) -> Option<Listener> {
        Some(Listener {
            name: self.name.clone()?,
            transport: self.transport?,
            address: self.address?,
            advertise: self.advertise?,
        })
    }
}
