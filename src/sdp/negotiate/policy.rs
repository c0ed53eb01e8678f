//! What a trunk allows in session descriptions.

use std::net::IpAddr;

use smallvec::SmallVec;

use crate::config::{Codec, Config, Network, Srtp, SrtpKeying, SrtpSuite, T38, TrunkId, Unmaskable};
use crate::sdp::attr::fingerprint::Fingerprint;

/// What is offered to and accepted from the peers of one trunk.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Codecs in order of preference.
    pub codecs: SmallVec<[Codec; 2]>,
    /// What happens to codecs that cannot be masked.
    pub unmaskable: Unmaskable,
    /// What happens to fax in place of the audio.
    pub t38: T38,
    /// Offer and accept telephone-event.
    pub events: bool,
    /// Packet time asked for when the other leg asks for none, in ms.
    pub ptime_ms: u8,
    /// Whether media is encrypted.
    pub srtp: Srtp,
    /// How keys are agreed.
    pub keying: SrtpKeying,
    /// Fingerprint of our certificate; without one nothing is agreed by DTLS.
    pub fingerprint: Option<Fingerprint>,
    /// Cipher suites in order of preference.
    pub suites: SmallVec<[SrtpSuite; 3]>,
    /// Offer RTP and RTCP on one port.
    pub rtcp_mux: bool,
    /// The peer's address may be learnt from its packets.
    pub latch: bool,
    /// Where media may go.
    pub networks: Vec<Network>,
    /// Addresses and ports of our own, where media may not go.
    pub own: Own,
}

/// Our own addresses and ports.
#[derive(Debug, Clone, Default)]
pub struct Own {
    /// Addresses we bind and advertise, for media, SIP and the API.
    pub addresses: Vec<IpAddr>,
    /// First and last port of ranges in use.
    pub ports: Vec<(u16, u16)>,
}

impl Policy {
    /// The policy of a trunk. `trunk` must be of this configuration.
    pub fn new(config: &Config, trunk: TrunkId) -> Self {
        let trunk = &config.trunks[trunk.0];
        Self {
            codecs: SmallVec::from_slice(&trunk.codecs),
            unmaskable: trunk.unmaskable,
            t38: trunk.t38,
            events: trunk.dtmf.events,
            ptime_ms: trunk.ptime_ms,
            srtp: trunk.srtp,
            keying: trunk.srtp_keying,
            fingerprint: None,
            suites: SmallVec::from_slice(&trunk.srtp_suites),
            rtcp_mux: trunk.rtcp_mux,
            latch: trunk.latch,
            networks: trunk.media.clone(),
            own: Own::new(config),
        }
    }
}

impl Policy {
    /// The same where the mask is in force or may come at any moment: nothing passes that cannot be masked.
    pub fn guarded(&self) -> Self {
        let unmaskable = match self.unmaskable {
            Unmaskable::Pass => Unmaskable::Strip,
            other => other,
        };
        Self { unmaskable, t38: T38::Refuse, ..self.clone() }
    }

    /// Whether a codec may be agreed on.
    pub(super) fn allows(&self, codec: Codec) -> bool {
        if codec.can_be_masked() { self.codecs.contains(&codec) } else { self.unmaskable == Unmaskable::Pass }
    }
}

impl Own {
    /// Everything a configuration binds or advertises.
    pub fn new(config: &Config) -> Self {
        let mut own =
            Own { addresses: vec![config.media.address, config.media.advertise], ports: vec![config.media.ports] };
        for listener in &config.listeners {
            own.addresses.extend([listener.address.ip(), listener.advertise.ip()]);
            own.addresses.extend(listener.options.media.iter().flat_map(|place| [place.address, place.advertise]));
            own.ports.extend([listener.address, listener.advertise].map(|at| (at.port(), at.port())));
        }
        if let Some(control) = &config.control {
            own.addresses.push(control.address.ip());
            own.ports.push((control.address.port(), control.address.port()));
        }
        own.addresses.retain(|address| !address.is_unspecified());
        own.addresses.sort();
        own.addresses.dedup();
        own
    }
}
