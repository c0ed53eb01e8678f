//! `[media]`.

use std::net::IpAddr;
use std::time::Duration;

use super::tree::{Table, Value};
use super::value;
use crate::config::Media;

pub(super) const KEYS: &[&str] = &["address", "advertise", "ports", "workers", "inactivity_s", "port_quarantine_s"];

/// The section as read; `None` where the file is wrong.
pub(in crate::config) struct Draft {
    pub(in crate::config) address: Option<IpAddr>,
    pub(in crate::config) ports: Option<(u16, u16)>,
    advertise: Option<IpAddr>,
    workers: Option<u64>,
    inactivity_s: Option<u64>,
    port_quarantine_s: Option<u64>,
}

pub(super) fn read(root: &Table<'_>) -> Draft {
    let table = root.child("media", "media");
    if !table.is_there() {
        if !root.has("media") {
            table.fault_here(
                "the section is missing; it says where RTP is taken, for instance [media] address = \"192.0.2.5\"",
            );
        }
        let (advertise, workers, inactivity_s, port_quarantine_s) = (None, None, None, None);
        return Draft { address: None, ports: None, advertise, workers, inactivity_s, port_quarantine_s };
    }
    let address = table.require("address", "\"192.0.2.5\"").and_then(|v| v.parsed(value::ip));
    if address.is_some_and(|ip| ip.is_multicast()) {
        table.fault("address", "is a multicast address");
    }
    let advertise = match table.get("advertise") {
        Some(v) => advertised(&v, address),
        None => {
            if address.is_some_and(|ip| ip.is_unspecified()) {
                table.fault(
                    "advertise",
                    "is missing, and needed because address is the unspecified one; it is written into SDP",
                );
            }
            address
        }
    };
    let ports = match table.get("ports") {
        Some(v) => ports(&v),
        None => Some((20_000, 29_999)),
    };
    let number = |key, range, default| match table.get(key) {
        Some(v) => v.integer(range),
        None => Some(default),
    };
    let workers = number("workers", 0..=256, 0);
    let inactivity_s = number("inactivity_s", 5..=86_400, 60);
    let port_quarantine_s = number("port_quarantine_s", 0..=300, 2);
    Draft { address, ports, advertise, workers, inactivity_s, port_quarantine_s }
}

pub(super) fn advertised(v: &Value<'_>, bound: Option<IpAddr>) -> Option<IpAddr> {
    let ip = v.parsed(value::ip)?;
    if ip.is_unspecified() || ip.is_multicast() {
        v.wrong("is no address of a single host");
    }
    if bound.is_some_and(|bound| bound.is_ipv4() != ip.is_ipv4()) {
        v.unfit("is of the other IP version than address");
    }
    Some(ip)
}

/// `[first, last]`: even first, odd last, so that every RTP port has its RTCP port.
fn ports(v: &Value<'_>) -> Option<(u16, u16)> {
    let both = v.each(|item| item.integer(1024..=65_535))?;
    let [first, last] = both[..] else {
        v.wrong("takes two numbers, the first and the last port: [20000, 29999]");
        return None;
    };
    if first % 2 == 1 {
        v.wrong(format!("the first port, {first}, is odd; RTP takes even ports and RTCP the next odd one"));
    } else if last % 2 == 0 {
        v.wrong(format!("the last port, {last}, is even; it is the RTCP port of the last pair"));
    } else if last < first + 3 {
        v.wrong(format!("{first} to {last} is no room for one call, which takes four ports"));
    } else {
        return Some((u16::try_from(first).ok()?, u16::try_from(last).ok()?));
    }
    None
}

impl Draft {
    pub(super) fn finish(&self) -> Option<Media> {
        Some(Media {
            address: self.address?,
            advertise: self.advertise?,
            ports: self.ports?,
            workers: usize::try_from(self.workers?).ok()?,
            inactivity: Duration::from_secs(self.inactivity_s?),
            port_quarantine: Duration::from_secs(self.port_quarantine_s?),
        })
    }
}
