//! How SIP peers are reached and known: the transport side of `[[listener]]` and `[[trunk]]`. Every type has a default
//! that means "as an address-known peer over plain UDP or TCP".

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use zeroize::Zeroizing;

/// A certificate chain and its private key, both PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, our own certificate first.
    pub chain: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// An address of ours for media.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MediaPlace {
    /// Address to bind.
    pub address: IpAddr,
    /// Address written into SDP.
    pub advertise: IpAddr,
}

/// Transport keys of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerOptions {
    /// What a TLS listener shows: the first by default, another one when the peer asks for a name in it (SNI). Empty
    /// unless the transport is TLS.
    pub certificates: Vec<CertificateFiles>,
    /// Most TLS handshakes of one source address at once.
    pub handshakes_per_source: u32,
    /// Our URIs on a TLS listener, and those of its peers, are `sips:` instead of `sip:` with `transport=tls`.
    pub sips: bool,
    /// A UDP listener takes TCP on the same port too, and large requests go out by TCP (RFC 3261 section 18.1.1).
    pub tcp: bool,
    /// Where the media of this listener's trunks is taken; `None`: as `[media]` says.
    pub media: Option<MediaPlace>,
    /// How often a connection that we opened is kept alive by a double CRLF (RFC 5626 section 3.5.1); zero: never.
    pub keepalive: Duration,
}

impl Default for ListenerOptions {
    fn default() -> Self {
        Self {
            certificates: Vec::new(),
            handshakes_per_source: 32,
            sips: false,
            tcp: true,
            media: None,
            keepalive: Duration::from_secs(30),
        }
    }
}

/// Transport keys of a trunk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// How the peer proves who it is over TLS; there exactly when the trunk's listener is a TLS one.
    pub tls: Option<TrunkTls>,
    /// Where requests go; empty: to the trunk's `remotes`, in their order.
    pub targets: Vec<Remote>,
    /// Addresses that names among the targets once had: dialogs may still be with them. Not of the file.
    pub former: Vec<IpAddr>,
    /// How long a target may be silent before the next one is tried; zero: 4 s.
    pub failover: Duration,
    /// Whether and how targets are probed.
    pub probe: Probe,
    /// Most calls a second, each way; 0: as many as come.
    pub max_calls_per_s: u32,
    /// Who we are to the peer, when it asks (digest authentication).
    pub login: Option<Login>,
    /// Who the peer has to prove to be before it may place a call.
    pub challenge: Option<Challenge>,
    /// Where we register with the peer.
    pub register: Option<Register>,
}

/// A user, its secret and the realm they belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// User.
    pub user: String,
    /// Secret.
    pub secret: Secret,
    /// Realm.
    pub realm: String,
}

/// What a peer has to prove before it may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// Who it has to be.
    pub login: Login,
    /// The hashes it may prove it by, the preferred one first.
    pub algorithms: Vec<DigestAlgorithm>,
}

/// A hash of digest authentication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DigestAlgorithm {
    /// SHA-256 (RFC 8760).
    Sha256,
    /// MD5, for peers that have nothing else.
    Md5,
}

/// A secret text, never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Keeps a text secret.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// A registration of ours with a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Register {
    /// User of the address that is registered.
    pub user: String,
    /// Its domain, which the peer is registrar of.
    pub domain: String,
    /// How long it is asked to hold.
    pub expires: Duration,
}

impl Link {
    /// Whether a target is a name, to be followed by DNS.
    pub fn has_names(&self) -> bool {
        self.targets.iter().any(|target| matches!(target.place, Place::Name { .. }))
    }

    /// How long a target may be silent.
    pub fn failover(&self) -> Duration {
        if self.failover.is_zero() { Duration::from_secs(4) } else { self.failover }
    }
}

/// A target of a trunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// Where it is.
    pub place: Place,
    /// Lower first.
    pub priority: u16,
    /// Share among those of the same priority.
    pub weight: u16,
}

/// Where a target is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// At an address.
    At(SocketAddr),
    /// Where DNS says (RFC 3263).
    Name {
        /// Host or domain, in lower case.
        host: String,
        /// With a port there is nothing to find but addresses.
        port: Option<u16>,
    },
}

/// OPTIONS probes of a trunk's targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// How often; zero: never.
    pub every: Duration,
    /// So many lost in a row: down.
    pub lost: u32,
    /// So many answered in a row: up again.
    pub good: u32,
}

impl Default for Probe {
    fn default() -> Self {
        Self { every: Duration::ZERO, lost: 3, good: 2 }
    }
}

/// What a node bears, and whom it asks for names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    /// DNS servers; empty: those of the system.
    pub nameservers: Vec<SocketAddr>,
    /// Most SIP messages a second, from all peers.
    pub max_messages_per_s: u32,
    /// Most SIP messages a second from one address.
    pub max_messages_per_source_s: u32,
    /// Most new calls a second; 0: as many as come.
    pub max_calls_per_s: u32,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            nameservers: Vec::new(),
            max_messages_per_s: 50_000,
            max_messages_per_source_s: 20_000,
            max_calls_per_s: 0,
        }
    }
}

/// TLS with a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrunkTls {
    /// PEM file of the certificate authorities that vouch for the peer.
    pub ca: PathBuf,
    /// Names of the peer; its certificate must hold one of them (RFC 5922: a `sip:` URI or a DNS name; or an IP
    /// address). The first DNS name is asked for by SNI.
    pub names: Vec<String>,
    /// A peer that connects to us must show such a certificate too; `false`: its address is enough.
    pub mutual: bool,
    /// What we show the peer when we connect; `None`: the listener's first certificate.
    pub certificate: Option<CertificateFiles>,
}
