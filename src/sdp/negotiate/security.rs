//! Encryption of the stream: what a peer's description offers by its transport and keys, judged by the trunk's policy,
//! and the keys that are ours. Facts of one leg only: no key ever crosses to the other leg.
//!
//! ```text
//!                     RTP/AVP           RTP/AVP with keys       RTP/SAVP with keys     RTP/SAVP without
//!  srtp = "off"       plain             plain                   488                    488
//!  srtp = "optional"  plain             keys                    keys                   488
//!  srtp = "required"  488               keys                    keys                   488
//! ```

use rand::{Rng, SeedableRng};
use smallvec::SmallVec;
use zeroize::{Zeroize, Zeroizing};

use super::policy::Policy;
use super::refusal::Refusal;
use crate::base::Random;
use crate::base::key::MediaKey;
use crate::config::{Srtp, SrtpSuite};
use crate::sdp::attr::crypto::{Crypto, CryptoFault};
use crate::sdp::{MediaLine, Section};

/// Keys that are usable, in the peer's order.
pub(super) type Keys = SmallVec<[Crypto; 2]>;

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

/// Reads what a section offers; empty for plain media.
pub(super) fn read(section: &Section, policy: &Policy) -> Result<Keys, Refusal> {
    let refuse = |reason: String| Err(Refusal::not_acceptable(302, reason));
    let line = section.media();
    if !line.is_plain_rtp() && !line.is_secure_rtp() {
        return refuse("media transport is none of RTP/AVP, RTP/AVPF, RTP/SAVP, RTP/SAVPF".to_owned());
    }
    if line.is_secure_rtp() && policy.srtp == Srtp::Off {
        return refuse(format!("encrypted media ({}) is not allowed on this trunk; offer RTP/AVP", profile(line)));
    }
    if line.is_dtls() {
        return refuse("DTLS-SRTP is not supported; offer RTP/SAVP with a=crypto".to_owned());
    }
    if policy.srtp == Srtp::Off {
        return Ok(Keys::new());
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
        (false, _) => Ok(keys),
        (true, None) if line.is_secure_rtp() => refuse(format!("{} without a=crypto has no key", profile(line))),
        (true, Some(fault)) if line.is_secure_rtp() || policy.srtp == Srtp::Required => {
            let suites: Vec<_> = policy.suites.iter().map(|suite| suite.name()).collect();
            refuse(format!("{fault}; accepted here: {}", suites.join(", ")))
        }
        (true, None) if policy.srtp == Srtp::Required => {
            refuse("unencrypted media is not allowed on this trunk; offer RTP/SAVP with a=crypto".to_owned())
        }
        (true, _) => Ok(keys),
    }
}

/// The transport without what a stranger may have written into it.
fn profile(line: &MediaLine) -> &'static str {
    if line.is_dtls() { "UDP/TLS/RTP/SAVP" } else { "RTP/SAVP" }
}

/// The transport of a stream that is offered afresh.
pub(super) fn protocol(policy: &Policy) -> &'static str {
    if policy.srtp == Srtp::Required { "RTP/SAVP" } else { "RTP/AVP" }
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
