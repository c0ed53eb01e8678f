//! Answers to requests under an `Idempotency-Key`, as they outlive the node: sealed under the key text itself, which is
//! kept nowhere, so that whoever reads the store learns nothing but when something was asked. An answer goes in, bytes
//! come out, and back. No answer of these endpoints has a digit; one that holds a provider's token is not kept at all.
//!
//! ```text
//!   key text, API key, panel ─┬─ SHA-256 ─► name                 what the store finds it by
//!                             └─ HMAC ────► key ─┐
//!   nonce (12) = SHA-256(name, answer) ──────────┴─► AES-256-GCM ─► nonce, answer, tag (16)
//! ```

use std::time::Duration;

use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::{AeadInOut, Aes256Gcm, KeyInit};
use futures_util::future::BoxFuture;
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::problem::Problem;

/// A SHA-256.
pub type Hash = [u8; 32];

const NONCE: usize = 12;
const TAG: usize = 16;

/// An answer as it lies in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptAnswer {
    /// What it is found by.
    pub name: Hash,
    /// What was asked.
    pub fingerprint: Hash,
    /// How long ago it was given.
    pub age: Duration,
    /// The answer.
    pub sealed: Vec<u8>,
}

/// Where answers are kept; `rt/` has one in a file.
pub trait AnswerStore: Send + Sync + 'static {
    /// Keeps an answer; the request is answered when it is kept. A store that cannot says so in the log.
    fn keep(&self, answer: KeptAnswer) -> BoxFuture<'_, ()>;
}

/// What an earlier run has answered, and where this one keeps its answers. None by default: they end with the process.
#[derive(Default)]
pub struct Answers {
    /// Of an earlier run.
    pub kept: Vec<KeptAnswer>,
    /// For this one.
    pub store: Option<std::sync::Arc<dyn AnswerStore>>,
}

/// An answer's parts, in the clear.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Plain {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
    pub(super) problem: Option<Problem>,
}

/// The key that the answer to a request is sealed under.
pub(super) fn key(parts: &[&[u8]]) -> Zeroizing<Hash> {
    // HMAC takes keys of every length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(b"tonewall idempotency answer v1") else {
        return Zeroizing::new([0; 32]);
    };
    for part in parts {
        mac.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        mac.update(part);
    }
    Zeroizing::new(mac.finalize().into_bytes().into())
}

/// Seals an answer; `None`: it must not be kept.
pub(super) fn seal(key: &Hash, name: &Hash, plain: &Plain) -> Option<Vec<u8>> {
    let mut data = serde_json::to_vec(plain).ok()?;
    if plain.body.contains("payment_token") {
        return None;
    }
    let mut hash = Sha256::new();
    hash.update(name);
    hash.update(&data);
    let hash: Hash = hash.finalize().into();
    let nonce: [u8; NONCE] = *hash.first_chunk()?;
    let tag =
        Aes256Gcm::new(key.into()).encrypt_inout_detached(&nonce.into(), name, InOutBuf::from(&mut data[..])).ok()?;
    Some([&nonce[..], &data, &tag[..]].concat())
}

/// Opens an answer; `None`: it is not what [`seal`] made for this request.
pub(super) fn open(key: &Hash, name: &Hash, sealed: &[u8]) -> Option<Plain> {
    let (nonce, rest) = sealed.split_first_chunk::<NONCE>()?;
    let (data, tag) = rest.split_last_chunk::<TAG>()?;
    let mut data = data.to_vec();
    let cipher = Aes256Gcm::new(key.into());
    cipher.decrypt_inout_detached(&(*nonce).into(), name, InOutBuf::from(&mut data[..]), &(*tag).into()).ok()?;
    serde_json::from_slice(&data).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(body: &str) -> Plain {
        let headers = vec![("location".into(), "/v1/x".into())];
        Plain { status: 201, headers, body: body.into(), problem: None }
    }

    #[test]
    fn an_answer_opens_under_its_own_key_and_name_only_and_says_nothing_closed() {
        let (own, other) = (key(&[b"crm", b"order-1"]), key(&[b"crmo", b"rder-1"]));
        let answer = plain(r#"{"security_code":"xxx"}"#);
        let sealed = seal(&own, &[7; 32], &answer).expect("sealed");
        assert!(!sealed.windows(8).any(|part| part == b"security"));
        assert_eq!(open(&own, &[7; 32], &sealed), Some(answer));
        assert_eq!(open(&other, &[7; 32], &sealed), None);
        assert_eq!(open(&own, &[8; 32], &sealed), None);
        for at in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[at] ^= 1;
            assert_eq!(open(&own, &[7; 32], &altered), None);
            assert_eq!(open(&own, &[7; 32], &sealed[..at]), None);
        }
    }

    #[test]
    fn an_answer_with_a_token_is_not_kept() {
        assert_eq!(seal(&key(&[]), &[0; 32], &plain(r#"{"payment_token":"tok_1"}"#)), None);
    }
}
