//! `[webhooks]`: who is told of events by signed requests.

use std::path::PathBuf;

use zeroize::Zeroizing;

/// `[webhooks]`.
#[derive(Debug, Clone, Default)]
pub struct Webhooks {
    /// Directory of what could not be delivered yet, or at all.
    pub directory: PathBuf,
    /// Receivers.
    pub endpoints: Vec<Webhook>,
}

/// `[[webhooks.endpoint]]`: a receiver.
#[derive(Debug, Clone)]
pub struct Webhook {
    /// Its name, in the API and in logs.
    pub name: String,
    /// Where it is.
    pub url: WebhookUrl,
    /// What messages to it are signed with.
    pub key: SigningKey,
    /// What they are signed with too, while the receiver changes from it to `key`.
    pub former: Option<SigningKey>,
    /// Which events it gets: whole types, or beginnings that end in `*`.
    pub events: Vec<String>,
    /// Whether it may be on a private, loopback or link-local address.
    pub allow_private: bool,
    /// Certificate authorities that are trusted instead of the system's.
    pub ca: Option<PathBuf>,
}

impl Webhook {
    /// Whether it gets events of a type.
    pub fn wants(&self, kind: &str) -> bool {
        self.events.iter().any(|wanted| match wanted.strip_suffix('*') {
            Some(beginning) => kind.starts_with(beginning),
            None => kind == wanted,
        })
    }
}

/// An address for requests, without user, query secrets or fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookUrl {
    /// TLS; plain only to a loopback address.
    pub https: bool,
    /// Name or IP address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path and query.
    pub path: String,
}

/// A key of HMAC-SHA256; prints nothing.
#[derive(Clone)]
pub struct SigningKey(Zeroizing<Vec<u8>>);

impl SigningKey {
    /// Keeps the bytes of a key.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey")
    }
}
