//! Writes a simulated run as a pcap file (the classic format, link type RAW: bare IPv4), so that Wireshark can show it.
//! Datagrams and times go in; file bytes come out. IPv4 only; the simulation uses nothing else.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Link type "raw IP" in pcap's registry.
const LINKTYPE_RAW: u32 = 101;

/// A pcap file being written.
#[derive(Debug, Clone)]
pub struct Pcap {
    bytes: Vec<u8>,
}

impl Default for Pcap {
    fn default() -> Self {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&0xa1b2_c3d4u32.to_le_bytes());
        bytes.extend_from_slice(&2u16.to_le_bytes());
        bytes.extend_from_slice(&4u16.to_le_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(&65_535u32.to_le_bytes());
        bytes.extend_from_slice(&LINKTYPE_RAW.to_le_bytes());
        Self { bytes }
    }
}

impl Pcap {
    /// Adds a UDP datagram seen `at` after the start of the run.
    pub fn add(&mut self, at: Duration, from: SocketAddr, to: SocketAddr, payload: &[u8]) {
        let (IpAddr::V4(source), IpAddr::V4(target)) = (from.ip(), to.ip()) else { return };
        let udp = 8 + payload.len();
        let total = 20 + udp;
        self.bytes.extend_from_slice(&(at.as_secs() as u32).to_le_bytes());
        self.bytes.extend_from_slice(&at.subsec_micros().to_le_bytes());
        self.bytes.extend_from_slice(&(total as u32).to_le_bytes());
        self.bytes.extend_from_slice(&(total as u32).to_le_bytes());
        let mut ip = [0u8; 20];
        ip[0] = 0x45;
        ip[2..4].copy_from_slice(&(total as u16).to_be_bytes());
        ip[8] = 64;
        ip[9] = 17;
        ip[12..16].copy_from_slice(&source.octets());
        ip[16..20].copy_from_slice(&target.octets());
        let sum: u32 = ip.chunks_exact(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum();
        let sum = !(((sum & 0xffff) + (sum >> 16)) as u16);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        self.bytes.extend_from_slice(&ip);
        self.bytes.extend_from_slice(&from.port().to_be_bytes());
        self.bytes.extend_from_slice(&to.port().to_be_bytes());
        self.bytes.extend_from_slice(&(udp as u16).to_be_bytes());
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(payload);
    }

    /// The file so far.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_has_its_lengths_right() {
        let mut pcap = Pcap::default();
        let at = Duration::from_micros(1_500_000);
        pcap.add(at, "10.0.0.1:5060".parse().unwrap(), "10.0.0.2:5060".parse().unwrap(), b"hello");
        let bytes = pcap.bytes();
        assert_eq!(bytes.len(), 24 + 16 + 20 + 8 + 5);
        assert_eq!(bytes[24..28], 1u32.to_le_bytes());
        assert_eq!(bytes[28..32], 500_000u32.to_le_bytes());
        assert_eq!(bytes[32..36], 33u32.to_le_bytes());
    }
}
