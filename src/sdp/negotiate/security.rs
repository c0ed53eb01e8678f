//! Encryption of the stream: what a peer's description offers by its transport and keys, judged by the trunk's policy,
//! and the keys that are ours. Facts of one leg only: no key ever crosses to the other leg.
//!
//! ```text
//!                     RTP/AVP           RTP/AVP with keys       RTP/SAVP with keys     RTP/SAVP without
//!  srtp = "off"       plain             plain                   488                    488
//!  srtp = "optional"  plain             keys                    keys                   488
//!  srtp = "required"  488               keys                    keys                   488
//! ```
//!
//! With `srtp_keying = "dtls"` a fingerprint stands for the keys, and `UDP/TLS/RTP/SAVP` for `RTP/SAVP`.

use rand::{Rng, SeedableRng};
use zeroize::{Zeroize, Zeroizing};

use super::policy::Policy;
use super::refusal::Refusal;
use crate::base::Random;
use crate::base::key::MediaKey;
use crate::config::{Srtp, SrtpKeying, SrtpSuite};
use crate::sdp::attr::crypto::{Crypto, CryptoFault};
use crate::sdp::attr::fingerprint::{self, Fingerprint};
use crate::sdp::attr::setup::Setup;
use crate::sdp::{MediaLine, Section, Session};

/// Keys that are usable, in the peer's order.
pub(super) type Keys = Vec<Crypto>;

/// What a peer's section offers; neither: plain media.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Offered {
    /// Usable keys.
    pub(super) keys: Keys,
    /// Keys are there, and why none of them is usable; they are left out of an offer, but an answer stands by them.
    pub(super) unusable: Option<CryptoFault>,
    /// The peer's certificate, and who begins.
    pub(super) dtls: Option<(Fingerprint, Setup)>,
}

/// A leg's handshake as agreed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DtlsMedia {
    /// Of the certificate the peer must show.
    pub fingerprint: Fingerprint,
    /// We begin.
    pub active: bool,
    /// Names the session of the handshake.
    pub peering: u64,
}

/// A leg's keys as agreed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SrtpMedia {
    /// Cipher suite.
    pub suite: SrtpSuite,
    /// The peer's key.
    pub rx: MediaKey,
    /// Ours.
    pub tx: MediaKey,
    /// Names the session of the keys: they change within it by a re-key.
    pub peering: u64,
}

/// Reads what a section offers.
pub(super) fn read(session: &Session, section: &Section, policy: &Policy) -> Result<Offered, Refusal> {
    let refuse = |reason: String| Err(Refusal::not_acceptable(302, reason));
    let line = section.media();
    if !line.is_plain_rtp() && !line.is_secure_rtp() {
        return refuse("media transport is none of RTP/AVP, RTP/AVPF, RTP/SAVP, RTP/SAVPF".to_owned());
    }
    if line.is_secure_rtp() && policy.srtp == Srtp::Off {
        return refuse(format!("encrypted media ({}) is not allowed on this trunk; offer RTP/AVP", profile(line)));
    }
    match (policy.srtp, policy.keying) {
        (Srtp::Off, _) => Ok(Offered::default()),
        (_, SrtpKeying::Sdes) => read_keys(section, policy),
        (_, SrtpKeying::Dtls) => read_certificate(session, section, policy),
    }
}

fn read_certificate(session: &Session, section: &Section, policy: &Policy) -> Result<Offered, Refusal> {
    let refuse = |reason: &str| Err(Refusal::not_acceptable(302, reason));
    let line = section.media();
    if line.is_secure_rtp() && !line.is_dtls() {
        return refuse("keys in the session description (RTP/SAVP) are not taken here; offer UDP/TLS/RTP/SAVP");
    }
    let here = |name| section.attributes(name).chain(session.attributes(name));
    let certificate = here("fingerprint").find_map(fingerprint::parse).zip(here("setup").find_map(Setup::parse));
    match certificate.filter(|_| policy.fingerprint.is_some()) {
        Some(dtls) => Ok(Offered { dtls: Some(dtls), ..Offered::default() }),
        None if line.is_dtls() => refuse("UDP/TLS/RTP/SAVP wants a=fingerprint with SHA-256 and a=setup"),
        None if policy.srtp == Srtp::Required => {
            refuse("unencrypted media is not allowed on this trunk; offer UDP/TLS/RTP/SAVP with a=fingerprint")
        }
        None => Ok(Offered::default()),
    }
}

fn read_keys(section: &Section, policy: &Policy) -> Result<Offered, Refusal> {
    let refuse = |reason: String| Err(Refusal::not_acceptable(302, reason));
    let line = section.media();
    if line.is_dtls() {
        return refuse("keys by DTLS are not taken on this trunk; offer RTP/SAVP with a=crypto".to_owned());
    }
    let mut keys = Keys::new();
    let mut fault = None;
    for read in section.attributes("crypto").map(Crypto::parse) {
        match read {
            Ok(crypto) if policy.suites.contains(&crypto.suite) => keys.push(crypto),
            Ok(_) => fault = fault.or(Some(CryptoFault::Suite)),
            // What can be mended on the peer's side is said rather than that a suite is unknown.
            Err(CryptoFault::Suite) => fault = fault.or(Some(CryptoFault::Suite)),
            Err(other) => fault = Some(other),
        }
    }
    match (keys.is_empty(), fault) {
        (false, _) => Ok(Offered { keys, ..Offered::default() }),
        (true, None) if line.is_secure_rtp() => refuse(format!("{} without a=crypto has no key", profile(line))),
        (true, Some(fault)) if line.is_secure_rtp() || policy.srtp == Srtp::Required => {
            let suites: Vec<_> = policy.suites.iter().map(|suite| suite.name()).collect();
            refuse(format!("{fault}; accepted here: {}", suites.join(", ")))
        }
        (true, None) if policy.srtp == Srtp::Required => {
            refuse("unencrypted media is not allowed on this trunk; offer RTP/SAVP with a=crypto".to_owned())
        }
        (true, unusable) => Ok(Offered { unusable, ..Offered::default() }),
    }
}

/// The transport without what a stranger may have written into it.
fn profile(line: &MediaLine) -> &'static str {
    if line.is_dtls() { "UDP/TLS/RTP/SAVP" } else { "RTP/SAVP" }
}

/// The transport of a stream that is offered afresh.
pub(super) fn protocol(policy: &Policy) -> &'static str {
    match (policy.srtp, policy.keying) {
        (Srtp::Required, SrtpKeying::Sdes) => "RTP/SAVP",
        (Srtp::Required, SrtpKeying::Dtls) => "UDP/TLS/RTP/SAVP",
        (Srtp::Off | Srtp::Optional, _) => "RTP/AVP",
    }
}

/// Our keys of one leg: one per suite, the same for the leg's whole life. They are drawn from one secret.
#[derive(Clone)]
pub(super) struct OwnKeys(Zeroizing<[u8; 32]>);

impl OwnKeys {
    pub(super) fn new(random: &mut Random) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        random.fill_bytes(&mut seed[..]);
        Self(seed)
    }

    pub(super) fn of(&self, suite: SrtpSuite) -> MediaKey {
        let mut random = Random::from_seed(*self.0);
        random.set_stream(suite as u64);
        MediaKey::drawn(suite.key_len() + suite.salt_len(), |bytes| random.fill_bytes(bytes))
    }

    /// The line that declares our key.
    pub(super) fn line(&self, tag: u32, suite: SrtpSuite) -> String {
        Crypto { tag, suite, key: self.of(suite) }.print()
    }
}

impl std::fmt::Debug for OwnKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OwnKeys(_)")
    }
}

/// A printed description of ours, kept to be compared with the next one. It may hold a key.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Printed(pub(super) Vec<u8>);

impl std::fmt::Debug for Printed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Printed({} bytes)", self.0.len())
    }
}

impl Drop for Printed {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}
