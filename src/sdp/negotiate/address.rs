//! Where media may be sent (security requirement R15): only into the trunk's media networks, and never to an address
//! by which a peer could make us speak to ourselves, to a group, or to a well-known service.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::policy::Policy;
use crate::config::Network;

/// Why media may not be sent to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressFault {
    /// Ports below 1024 belong to services.
    #[error("media port is below 1024")]
    Port,
    /// Multicast group.
    #[error("media address is multicast")]
    Multicast,
    /// Limited or directed broadcast.
    #[error("media address is a broadcast address")]
    Broadcast,
    /// 169.254/16 or fe80::/10.
    #[error("media address is link-local")]
    LinkLocal,
    /// 0/8, 240/4 or ::.
    #[error("media address is reserved")]
    Reserved,
    /// Loopback, without a loopback network on the trunk.
    #[error("media address is loopback")]
    Loopback,
    /// An address or port of ours.
    #[error("media address is ours")]
    Own,
    /// In none of the trunk's media networks.
    #[error("media address is outside the trunk's media networks")]
    Outside,
}

/// Judges a media address of a peer by its trunk's policy. Loopback needs a trunk network that lies in loopback; an
/// address of ours (a PBX on the same machine) needs a network of exactly that address, and may never name a port of
/// ours.
pub fn check_address(at: SocketAddr, policy: &Policy) -> Result<(), AddressFault> {
    let ip = at.ip().to_canonical();
    if at.port() < 1024 {
        return Err(AddressFault::Port);
    }
    if ip.is_multicast() {
        return Err(AddressFault::Multicast);
    }
    match ip {
        IpAddr::V4(v4) => {
            if v4.is_broadcast() || directed_broadcast(v4, &policy.networks) {
                return Err(AddressFault::Broadcast);
            }
            if v4.is_link_local() {
                return Err(AddressFault::LinkLocal);
            }
            if v4.octets()[0] == 0 || v4.octets()[0] >= 240 {
                return Err(AddressFault::Reserved);
            }
        }
        IpAddr::V6(v6) => {
            if v6.is_unicast_link_local() {
                return Err(AddressFault::LinkLocal);
            }
            if v6.is_unspecified() {
                return Err(AddressFault::Reserved);
            }
        }
    }
    let networks = || policy.networks.iter().filter(|network| network.contains(ip));
    let own = policy.own.addresses.iter().any(|address| address.to_canonical() == ip);
    let own_port = policy.own.ports.iter().any(|(first, last)| (*first..=*last).contains(&at.port()));
    if (own || ip.is_loopback()) && own_port {
        return Err(AddressFault::Own);
    }
    if ip.is_loopback() {
        return if networks().any(|network| network.address.is_loopback()) {
            Ok(())
        } else {
            Err(AddressFault::Loopback)
        };
    }
    if own && !networks().any(is_host) {
        return Err(AddressFault::Own);
    }
    if networks().next().is_some() { Ok(()) } else { Err(AddressFault::Outside) }
}

fn is_host(network: &Network) -> bool {
    network.prefix == if network.address.is_ipv4() { 32 } else { 128 }
}

/// Whether `ip` is the last address of one of the networks.
fn directed_broadcast(ip: Ipv4Addr, networks: &[Network]) -> bool {
    networks.iter().filter(|network| (1..=30).contains(&network.prefix) && network.contains(ip.into())).any(|network| {
        let host = u32::MAX.checked_shr(network.prefix.into()).unwrap_or(0);
        u32::from(ip) & host == host
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sdp::negotiate::policy::Own;
    use smallvec::smallvec;

    fn policy(networks: &[(&str, u8)]) -> Policy {
        let network = |(text, prefix): &(&str, u8)| Network { address: text.parse().expect("ip"), prefix: *prefix };
        Policy {
            codecs: smallvec![],
            unmaskable: crate::config::Unmaskable::Strip,
            t38: crate::config::T38::Refuse,
            events: true,
            ptime_ms: 20,
            srtp: crate::config::Srtp::Off,
            keying: crate::config::SrtpKeying::Sdes,
            fingerprint: None,
            suites: smallvec![],
            rtcp_mux: false,
            latch: false,
            networks: networks.iter().map(network).collect(),
            own: Own {
                addresses: vec!["203.0.113.5".parse().expect("ip"), "127.0.0.1".parse().expect("ip")],
                ports: vec![(20_000, 29_999), (5060, 5060)],
            },
        }
    }

    #[test]
    fn each_kind_of_address_gets_its_verdict() {
        use AddressFault::*;
        let wide = policy(&[("0.0.0.0", 0), ("::", 0)]);
        let narrow = policy(&[("198.51.100.0", 24), ("203.0.113.5", 32), ("127.0.0.0", 8)]);
        for (at, wide_verdict, narrow_verdict) in [
            ("198.51.100.7:4000", Ok(()), Ok(())),
            ("[::ffff:198.51.100.7]:4000", Ok(()), Ok(())),
            ("192.0.2.1:4000", Ok(()), Err(Outside)),
            ("[2001:db8::1]:4000", Ok(()), Err(Outside)),
            ("198.51.100.7:1023", Err(Port), Err(Port)),
            ("198.51.100.255:4000", Ok(()), Err(Broadcast)),
            ("224.0.0.1:4000", Err(Multicast), Err(Multicast)),
            ("[ff02::1]:4000", Err(Multicast), Err(Multicast)),
            ("255.255.255.255:4000", Err(Broadcast), Err(Broadcast)),
            ("169.254.169.254:4000", Err(LinkLocal), Err(LinkLocal)),
            ("[fe80::1]:4000", Err(LinkLocal), Err(LinkLocal)),
            ("0.1.2.3:4000", Err(Reserved), Err(Reserved)),
            ("[::]:4000", Err(Reserved), Err(Reserved)),
            ("250.0.0.1:4000", Err(Reserved), Err(Reserved)),
            ("127.0.0.1:4000", Err(Loopback), Ok(())),
            ("[::1]:4000", Err(Loopback), Err(Loopback)),
            ("[::ffff:127.0.0.1]:4000", Err(Loopback), Ok(())),
            ("127.0.0.1:20000", Err(Own), Err(Own)),
            ("127.0.0.9:5060", Err(Own), Err(Own)),
            ("203.0.113.5:4000", Err(Own), Ok(())),
            ("203.0.113.5:20002", Err(Own), Err(Own)),
        ] {
            let parsed: SocketAddr = at.parse().expect("address");
            assert_eq!(check_address(parsed, &wide), wide_verdict, "wide {at}");
            assert_eq!(check_address(parsed, &narrow), narrow_verdict, "narrow {at}");
        }
    }
}
