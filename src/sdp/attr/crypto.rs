//! `a=crypto` (RFC 4568): a key for SRTP, in the clear of the description. What we cannot keep is not read as a key, and
//! says why: a suite we do not have, a master key index (MKI), parameters that would weaken or change the protection.
//!
//! ```text
//!  crypto:1 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj|2^20|1:4 KDR=0
//!         tag  suite                key ‖ salt in base64                     lifetime MKI  session parameters
//! ```

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use smallvec::SmallVec;
use zeroize::Zeroizing;

use crate::base::key::{MAX_MEDIA_KEY, MediaKey};
use crate::config::SrtpSuite;

/// A key a peer sends by, or ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crypto {
    /// Its number among the lines of one offer; the answer names the chosen one.
    pub tag: u32,
    /// Cipher suite.
    pub suite: SrtpSuite,
    /// Master key and salt.
    pub key: MediaKey,
}

/// Why a line gives no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CryptoFault {
    /// Not of the form the RFC gives.
    #[error("an a=crypto line cannot be read")]
    Malformed,
    /// A suite we do not have.
    #[error("no offered cipher suite is known")]
    Suite,
    /// Key and salt are not as long as the suite wants.
    #[error("a key is not of its suite's length")]
    Length,
    /// A master key index, or several keys.
    #[error("master key indexes (MKI) and several keys in one line are not supported; offer one key without MKI")]
    Mki,
    /// A session parameter that must be kept and is not.
    #[error("session parameters (KDR, UNENCRYPTED, UNAUTHENTICATED, FEC) are not supported")]
    Parameter,
}

impl Crypto {
    /// Reads the value after `crypto:`.
    pub fn parse(value: &str) -> Result<Self, CryptoFault> {
        let mut fields = value.split_ascii_whitespace();
        let tag = fields.next().filter(|tag| tag.len() <= 9 && tag.bytes().all(|byte| byte.is_ascii_digit()));
        let tag = tag.and_then(|tag| tag.parse().ok()).ok_or(CryptoFault::Malformed)?;
        let suite = fields.next().ok_or(CryptoFault::Malformed)?;
        let parameters = fields.next().ok_or(CryptoFault::Malformed)?;
        let suite = SrtpSuite::of_name(suite).ok_or(CryptoFault::Suite)?;
        let Some(("inline", info)) = parameters.split_once(':') else { return Err(CryptoFault::Malformed) };
        if parameters.contains(';') {
            return Err(CryptoFault::Mki);
        }
        let mut parts = info.split('|');
        let text = parts.next().unwrap_or_default();
        // After a lifetime, or in its place, comes an MKI. Read over, it would lie in every packet between payload and tag.
        let after: SmallVec<[&str; 2]> = parts.collect();
        if after.iter().any(|part| part.contains(':')) {
            return Err(CryptoFault::Mki);
        }
        // The lifetime is the peer's own affair: it re-keys in time.
        if after.len() > 1 || !after.iter().all(|part| is_lifetime(part)) {
            return Err(CryptoFault::Malformed);
        }
        // A minus marks what may be ignored (section 6.3.7); a window hint binds nobody.
        let harmless = |field: &str| field.starts_with('-') || field.starts_with("WSH=");
        if !fields.all(harmless) {
            return Err(CryptoFault::Parameter);
        }
        Ok(Self { tag, suite, key: decode(text, suite)? })
    }

    /// The value after `a=`.
    pub fn print(&self) -> String {
        format!("crypto:{} {} inline:{}", self.tag, self.suite.name(), STANDARD.encode(self.key.expose()))
    }
}

/// `2^20` or `1048576` (RFC 4568 section 9.2).
fn is_lifetime(text: &str) -> bool {
    let number = text.strip_prefix("2^").unwrap_or(text);
    (1..=20).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit())
}

fn decode(text: &str, suite: SrtpSuite) -> Result<MediaKey, CryptoFault> {
    let mut room = Zeroizing::new([0u8; MAX_MEDIA_KEY + 3]);
    // Some peers leave the padding out.
    let bare = text.trim_end_matches('=');
    let length = match STANDARD_NO_PAD.decode_slice(bare, &mut room[..]) {
        Ok(length) => length,
        Err(base64::DecodeSliceError::OutputSliceTooSmall) => return Err(CryptoFault::Length),
        Err(base64::DecodeSliceError::DecodeError(_)) => return Err(CryptoFault::Malformed),
    };
    let key = room.get(..length).filter(|key| key.len() == suite.key_len() + suite.salt_len());
    key.and_then(MediaKey::new).ok_or(CryptoFault::Length)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj";

    #[test]
    fn keys_of_every_suite_are_read_and_printed() {
        for suite in SrtpSuite::ALL {
            let key = MediaKey::new(&vec![0xa5; suite.key_len() + suite.salt_len()]).expect("a key");
            let crypto = Crypto { tag: 7, suite, key };
            let printed = crypto.print();
            let value = printed.strip_prefix("crypto:").expect("its name");
            assert_eq!(Crypto::parse(value).as_ref(), Ok(&crypto));
            assert_eq!(Crypto::parse(value.trim_end_matches('=')).as_ref(), Ok(&crypto), "without padding");
            assert!(!format!("{crypto:?}").contains("165"), "{crypto:?}");
        }
    }

    #[test]
    fn what_binds_us_to_nothing_is_read_over() {
        for text in [
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}"),
            format!("1  AES_CM_128_HMAC_SHA1_80  inline:{KEY}|2^31"),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|1048576 WSH=128 -x=y"),
        ] {
            assert_eq!(Crypto::parse(&text).map(|crypto| crypto.tag), Ok(1), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_kept_says_why() {
        use CryptoFault::*;
        for (text, fault) in [
            ("", Malformed),
            ("1", Malformed),
            ("1 AES_CM_128_HMAC_SHA1_80", Malformed),
            ("x AES_CM_128_HMAC_SHA1_80 inline:K", Malformed),
            ("-1 AES_CM_128_HMAC_SHA1_80 inline:K", Malformed),
            ("1234567890 AES_CM_128_HMAC_SHA1_80 inline:K", Malformed),
            ("1 AES_CM_128_HMAC_SHA1_80 uri:K", Malformed),
            ("1 AES_CM_128_HMAC_SHA1_80 inline:!!", Malformed),
            ("1 AES_CM_128_HMAC_SHA1_80 inline:", Length),
            ("1 AES_CM_128_HMAC_SHA1_80 inline:AAAA", Length),
            ("1 AES_256_CM_HMAC_SHA1_80 inline:K", Length),
            ("1 aes_cm_128_hmac_sha1_80 inline:K", Suite),
            ("1 F8_128_HMAC_SHA1_80 inline:K", Suite),
            ("1 AES_CM_128_HMAC_SHA1_80 inline:K|2^20|1:4", Mki),
            ("1 AES_CM_128_HMAC_SHA1_80 inline:K|1:4", Mki),
            ("1 AES_CM_128_HMAC_SHA1_80 inline:K|2^20|1:4 -x", Mki),
            ("1 AES_CM_128_HMAC_SHA1_80 inline:K|2^20|1:129", Mki),
            ("1 AES_CM_128_HMAC_SHA1_80 inline:K||1:4", Mki),
            ("1 AES_CM_128_HMAC_SHA1_80 inline:K|2^20|:", Mki),
            ("1 AES_CM_128_HMAC_SHA1_80 inline:K|2^20|1", Malformed),
            ("1 AES_CM_128_HMAC_SHA1_80 inline:K|", Malformed),
            ("1 AES_CM_128_HMAC_SHA1_80 inline:K|2^x", Malformed),
            ("1 AES_CM_128_HMAC_SHA1_80 inline:K|2^20|2^20", Malformed),
            ("1 AES_CM_128_HMAC_SHA1_80 inline:K;inline:K", Mki),
            ("1 AES_CM_128_HMAC_SHA1_80 inline:K KDR=1", Parameter),
            ("1 AES_CM_128_HMAC_SHA1_80 inline:K UNENCRYPTED_SRTP", Parameter),
            ("1 AES_CM_128_HMAC_SHA1_80 inline:K WSH=64 UNAUTHENTICATED_SRTP", Parameter),
        ] {
            let text = text.replace(":K", &format!(":{KEY}"));
            assert_eq!(Crypto::parse(&text).expect_err(&text), fault, "{text}");
        }
        let long = format!("1 AEAD_AES_256_GCM inline:{}", KEY.repeat(9));
        assert_eq!(Crypto::parse(&long), Err(Length));
    }
}
