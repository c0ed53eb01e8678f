//! Keys by handshake: DTLS-SRTP (RFC 5763, RFC 5764) on one leg. Datagrams of the signalled peer and the time go in;
//! datagrams to send and, once the peer has proved to hold the certificate whose fingerprint was signalled, keys come out.
//! A broken handshake begins anew a few times; it ends nothing else. DTLS 1.2 with elliptic-curve certificates, by
//! `dimpl`, which draws its randomness from the operating system.
//!
//! ```text
//!           hello, certificates, finished            fingerprint good
//!  Shaking ─────────────────────────────► certificate seen ─────► Done, keys given once
//!    ▲  │ error, or no end in STALL            │ bad
//!    ├──┘ at most RESTARTS times ────────► Failed ◄┘
//!    └─────────────────────── the peer says hello again ── Done
//! ```

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dimpl::{Config, Dtls, DtlsCertificate, Output, SrtpProfile};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use crate::base::key::MediaKey;
use crate::base::time::soonest;
use crate::config::SrtpSuite;

/// A SHA-256 over a certificate.
pub type Fingerprint = [u8; 32];

/// Handshakes begun anew after an error or a stall.
const RESTARTS: u8 = 10;

/// The longest a handshake may take from its first datagram on. Until the keys are there anybody who forges the peer's
/// address can make it stall, by records that make the peer's true ones look old; it then begins anew.
const STALL: Duration = Duration::from_secs(10);

/// The certificate we show, and its private key.
pub struct Identity {
    certificate: DtlsCertificate,
    fingerprint: Fingerprint,
    config: Arc<Config>,
}

impl Identity {
    /// From an X.509 certificate and its PKCS #8 key, both DER; of an elliptic curve.
    pub fn new(certificate: Vec<u8>, private_key: Vec<u8>) -> Self {
        let fingerprint = Sha256::digest(&certificate).into();
        Self { certificate: DtlsCertificate { certificate, private_key }, fingerprint, config: Arc::default() }
    }

    /// What SDP says of it.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }
}

impl Drop for Identity {
    fn drop(&mut self) {
        self.certificate.private_key.zeroize();
    }
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl Eq for Identity {}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(_)")
    }
}

/// Which end begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// We do.
    Active,
    /// The peer does.
    Passive,
}

/// What comes out of a handshake.
#[derive(Debug)]
pub enum Step {
    /// The first bytes of the room are a datagram for the peer.
    Transmit(usize),
    /// The keys: suite, the peer's, ours.
    Keys(SrtpSuite, MediaKey, MediaKey),
}

enum State {
    Shaking(Box<Dtls>),
    /// Keys were given; the peer may still miss our last flight.
    Done(Box<Dtls>),
    Failed,
}

/// One leg's handshake.
pub struct Handshake {
    identity: Arc<Identity>,
    role: Role,
    peer: Fingerprint,
    state: State,
    certified: bool,
    keys: Option<(SrtpSuite, MediaKey, MediaKey)>,
    restarts: u8,
    due: Option<Instant>,
    /// When it has taken too long.
    stalls: Option<Instant>,
}

impl Handshake {
    /// A handshake with the peer of this fingerprint; [`Role::Active`] has its hello ready at once.
    pub fn new(now: Instant, identity: Arc<Identity>, role: Role, peer: Fingerprint) -> Self {
        let state = begin(now, &identity, role);
        let stalls = (role == Role::Active).then(|| now + STALL);
        Self { identity, role, peer, state, certified: false, keys: None, restarts: 0, due: None, stalls }
    }

    /// Whether a datagram is DTLS, where RTP and RTCP come on the same port (RFC 7983).
    pub fn is_dtls(bytes: &[u8]) -> bool {
        matches!(bytes, [20..=63, ..])
    }

    /// Takes a datagram of the signalled peer.
    pub fn handle_packet(&mut self, now: Instant, bytes: &[u8]) {
        // A peer that says hello again has lost what we agreed on. The keys given stay in force until it has proved itself
        // anew, so a forged hello takes nothing away.
        let again = self.role == Role::Passive && matches!(self.state, State::Done(_)) && is_hello(bytes);
        if again && self.restarts < RESTARTS {
            self.restarts += 1;
            self.begin_anew(now);
        }
        let done = match &mut self.state {
            State::Shaking(dtls) | State::Done(dtls) => {
                dtls.handle_timeout(now).and_then(|()| dtls.handle_packet(bytes))
            }
            State::Failed => return,
        };
        if matches!(self.state, State::Shaking(_)) {
            self.stalls.get_or_insert(now + STALL);
        }
        if done.is_err() {
            self.stumble(now);
        }
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.stalls.is_some_and(|at| at <= now) {
            return self.stumble(now);
        }
        if self.due.is_none_or(|due| due > now) {
            return;
        }
        self.due = None;
        let done = match &mut self.state {
            State::Shaking(dtls) | State::Done(dtls) => dtls.handle_timeout(now),
            State::Failed => return,
        };
        if done.is_err() {
            self.stumble(now);
        }
    }

    /// When [`Handshake::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        soonest(self.due, self.stalls)
    }

    /// What is to be done next; ask until `None` after each of the others.
    pub fn poll(&mut self, now: Instant, room: &mut [u8]) -> Option<Step> {
        loop {
            let (State::Shaking(dtls) | State::Done(dtls)) = &mut self.state else {
                (self.due, self.stalls) = (None, None);
                return None;
            };
            match dtls.poll_output(room) {
                Output::Packet(packet) => return Some(Step::Transmit(packet.len())),
                Output::PeerCert(certificate) => {
                    let seen: Fingerprint = Sha256::digest(certificate).into();
                    if !bool::from(seen.ct_eq(&self.peer)) {
                        // Somebody else's: no second chance, and no key.
                        (self.state, self.keys) = (State::Failed, None);
                        continue;
                    }
                    self.certified = true;
                }
                Output::KeyingMaterial(material, profile) => {
                    let material = Zeroizing::new(material.to_vec());
                    self.keys = split(&material, profile, self.role);
                }
                Output::Timeout(at) => {
                    self.due = Some(at.max(now)).filter(|_| matches!(self.state, State::Shaking(_)));
                    let (suite, theirs, ours) = self.keys.take_if(|_| self.certified)?;
                    self.state = match std::mem::replace(&mut self.state, State::Failed) {
                        State::Shaking(dtls) | State::Done(dtls) => State::Done(dtls),
                        State::Failed => State::Failed,
                    };
                    (self.due, self.stalls) = (None, None);
                    return Some(Step::Keys(suite, theirs, ours));
                }
                Output::CloseNotify => {}
                Output::BufferTooSmall { .. } => return None,
                _ => {}
            }
        }
    }

    /// An error ends a handshake of the library's, not ours; after the keys it ends nothing.
    fn stumble(&mut self, now: Instant) {
        match self.state {
            State::Shaking(_) if self.restarts < RESTARTS => {
                self.restarts += 1;
                self.begin_anew(now);
            }
            State::Shaking(_) | State::Done(_) | State::Failed => {
                (self.state, self.due, self.stalls) = (State::Failed, None, None);
            }
        }
    }

    fn begin_anew(&mut self, now: Instant) {
        (self.certified, self.keys, self.due) = (false, None, None);
        self.stalls = (self.role == Role::Active).then(|| now + STALL);
        self.state = begin(now, &self.identity, self.role);
    }
}

fn begin(now: Instant, identity: &Identity, role: Role) -> State {
    let mut dtls = Dtls::new_12(identity.config.clone(), identity.certificate.clone(), now);
    dtls.set_active(role == Role::Active);
    match dtls.handle_timeout(now) {
        Ok(()) => State::Shaking(Box::new(dtls)),
        Err(_) => State::Failed,
    }
}

/// Whether a datagram begins a handshake: an unencrypted record with a ClientHello.
fn is_hello(bytes: &[u8]) -> bool {
    matches!(bytes, [22, _, _, 0, 0, _, _, _, _, _, _, _, _, 1, ..])
}

/// The client's key, the server's, the client's salt, the server's (RFC 5764 section 4.2).
fn split(material: &[u8], profile: SrtpProfile, role: Role) -> Option<(SrtpSuite, MediaKey, MediaKey)> {
    let suite = match profile {
        SrtpProfile::AES128_CM_SHA1_80 => SrtpSuite::AesCm128Sha1_80,
        SrtpProfile::AEAD_AES_128_GCM => SrtpSuite::AesGcm128,
        SrtpProfile::AEAD_AES_256_GCM => SrtpSuite::AesGcm256,
        _ => return None,
    };
    let (keys, salts) = material.split_at_checked(2 * suite.key_len())?;
    let ((client, server), (client_salt, server_salt)) =
        (keys.split_at(suite.key_len()), salts.split_at_checked(suite.salt_len())?);
    let join = |key: &[u8], salt: &[u8]| {
        let salt = salt.get(..suite.salt_len())?;
        Some(MediaKey::drawn(suite.key_len() + suite.salt_len(), |bytes| {
            bytes[..key.len()].copy_from_slice(key);
            bytes[key.len()..].copy_from_slice(salt);
        }))
    };
    let (client, server) = (join(client, client_salt)?, join(server, server_salt)?);
    Some(match role {
        Role::Active => (suite, server, client),
        Role::Passive => (suite, client, server),
    })
}

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Shaking(_) => "shaking",
            State::Done(_) => "done",
            State::Failed => "failed",
        };
        f.debug_struct("Handshake").field("role", &self.role).field("state", &state).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "dtls_tests.rs"]
mod tests;
