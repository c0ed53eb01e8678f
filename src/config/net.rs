//! How SIP peers are reached and known: the transport side of `[[listener]]` and `[[trunk]]`. Every type has a default
//! that means "as an address-known peer over plain UDP or TCP".

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

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
