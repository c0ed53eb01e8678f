//! Words for encrypted media: how much a trunk wants it, and the cipher suites there are. Names in, facts out.

use serde::{Deserialize, Serialize};

/// Whether a trunk's media is encrypted (SRTP, RFC 3711).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Srtp {
    /// Never: an offer of encrypted media alone is refused, an optional one is taken as plain.
    Off,
    /// Where the peer wants it: offered as `RTP/AVP` with keys beside it, answered as the peer offers.
    Optional,
    /// Always: a peer without it gets no call.
    Required,
}

/// How the keys of a trunk's encrypted media are agreed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SrtpKeying {
    /// In the session description: `a=crypto` (RFC 4568).
    Sdes,
    /// By a DTLS handshake on the media's path: `a=fingerprint` (RFC 5763).
    Dtls,
}

/// An SRTP protection profile with its SDP name (RFC 4568, RFC 6188, RFC 7714).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SrtpSuite {
    /// AES-128 in counter mode, HMAC-SHA1 cut to 80 bits.
    #[serde(rename = "AES_CM_128_HMAC_SHA1_80")]
    AesCm128Sha1_80,
    /// AES-128 in counter mode, HMAC-SHA1 cut to 32 bits on RTP, 80 on RTCP.
    #[serde(rename = "AES_CM_128_HMAC_SHA1_32")]
    AesCm128Sha1_32,
    /// AES-256 in counter mode, HMAC-SHA1 cut to 80 bits.
    #[serde(rename = "AES_256_CM_HMAC_SHA1_80")]
    AesCm256Sha1_80,
    /// AES-256 in counter mode, HMAC-SHA1 cut to 32 bits on RTP, 80 on RTCP.
    #[serde(rename = "AES_256_CM_HMAC_SHA1_32")]
    AesCm256Sha1_32,
    /// AES-128 in Galois/counter mode, tag of 16 bytes.
    #[serde(rename = "AEAD_AES_128_GCM")]
    AesGcm128,
    /// AES-256 in Galois/counter mode, tag of 16 bytes.
    #[serde(rename = "AEAD_AES_256_GCM")]
    AesGcm256,
}

impl SrtpSuite {
    /// Every suite.
    pub const ALL: [SrtpSuite; 6] = [
        SrtpSuite::AesCm128Sha1_80,
        SrtpSuite::AesCm128Sha1_32,
        SrtpSuite::AesCm256Sha1_80,
        SrtpSuite::AesCm256Sha1_32,
        SrtpSuite::AesGcm128,
        SrtpSuite::AesGcm256,
    ];

    /// What a trunk offers that names none, best first: the strongest, and the one every peer has.
    pub const USUAL: [SrtpSuite; 3] = [SrtpSuite::AesGcm256, SrtpSuite::AesGcm128, SrtpSuite::AesCm128Sha1_80];

    /// The name in SDP.
    pub const fn name(self) -> &'static str {
        match self {
            SrtpSuite::AesCm128Sha1_80 => "AES_CM_128_HMAC_SHA1_80",
            SrtpSuite::AesCm128Sha1_32 => "AES_CM_128_HMAC_SHA1_32",
            SrtpSuite::AesCm256Sha1_80 => "AES_256_CM_HMAC_SHA1_80",
            SrtpSuite::AesCm256Sha1_32 => "AES_256_CM_HMAC_SHA1_32",
            SrtpSuite::AesGcm128 => "AEAD_AES_128_GCM",
            SrtpSuite::AesGcm256 => "AEAD_AES_256_GCM",
        }
    }

    /// The suite of a name in SDP; case matters (RFC 4568 section 9.2).
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.name() == name)
    }

    /// Bytes of the master key.
    pub const fn key_len(self) -> usize {
        match self {
            SrtpSuite::AesCm128Sha1_80 | SrtpSuite::AesCm128Sha1_32 | SrtpSuite::AesGcm128 => 16,
            SrtpSuite::AesCm256Sha1_80 | SrtpSuite::AesCm256Sha1_32 | SrtpSuite::AesGcm256 => 32,
        }
    }

    /// Bytes of the master salt.
    pub const fn salt_len(self) -> usize {
        match self {
            SrtpSuite::AesGcm128 | SrtpSuite::AesGcm256 => 12,
            _ => 14,
        }
    }
}
