//! One webhook over the network: a letter becomes a message to its receiver, at an address that is allowed (threats R19).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use rustls::ClientConfig;

use crate::config::{Webhook, WebhookUrl};
use crate::control::webhooks::{Failure, Result as Outcome, Try};
use crate::rt::client::address::is_public;
use crate::rt::client::{self, NotSent, Peer};

/// How long a whole try may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// A receiver, ready to be sent to.
pub(super) struct Target {
    pub(super) hook: Webhook,
    pub(super) tls: Option<Arc<ClientConfig>>,
    /// Addresses of this node.
    pub(super) own: Arc<[IpAddr]>,
}

/// Sends a letter once.
pub(super) async fn post(target: &Target, letter: &Try) -> Outcome {
    match tokio::time::timeout(PATIENCE, attempt(target, letter)).await {
        Ok(Ok((200..=299, _))) => Outcome::Delivered,
        Ok(Ok((status, asked))) => Outcome::Failed(Failure::Status(status), asked),
        Ok(Err(failure)) => Outcome::Failed(failure, None),
        Err(_) => Outcome::Failed(Failure::Timeout, None),
    }
}

async fn attempt(target: &Target, letter: &Try) -> Result<(u16, Option<Duration>), Failure> {
    let url = &target.hook.url;
    let allowed = |found: &[SocketAddr]| allowed(found, target.hook.allow_private, &target.own);
    let (host, port, tls) = (url.host.as_str(), url.port, target.tls.clone());
    let peer = Peer { whom: "a receiver of webhooks", host, port, tls, allowed: &allowed };
    let message = message(url, letter).ok_or(Failure::NoConnection)?;
    let stream = client::connect(&peer).await.map_err(|why| match why {
        NotSent::NoAddress => Failure::NoAddress,
        NotSent::Forbidden => Failure::AddressForbidden,
        NotSent::NoConnection => Failure::NoConnection,
        NotSent::Untrusted => Failure::Untrusted,
    })?;
    // What it answers beside the status is of no interest.
    let answer = client::exchange(stream, message, None).await.ok_or(Failure::NoConnection)?;
    Ok((answer.status, answer.retry_after))
}

/// Whether these addresses may be connected to: all of them, or none.
fn allowed(found: &[SocketAddr], private: bool, own: &[IpAddr]) -> bool {
    found.iter().all(|at| private || (is_public(at.ip()) && !own.contains(&at.ip())))
}

fn message(url: &WebhookUrl, letter: &Try) -> Option<hyper::Request<client::OneBody>> {
    let host = if url.host.contains(':') { format!("[{}]", url.host) } else { url.host.clone() };
    let usual = if url.https { 443 } else { 80 };
    let host = if url.port == usual { host } else { format!("{host}:{}", url.port) };
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert("webhook-id", HeaderValue::from_str(&letter.id).ok()?);
    headers.insert("webhook-timestamp", HeaderValue::from(letter.timestamp_s));
    headers.insert("webhook-signature", HeaderValue::from_str(&letter.signature).ok()?);
    client::message(("POST", &host, &url.path), headers, Bytes::copy_from_slice(letter.body.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_forbidden_address_spoils_a_name() {
        let at = |text: &str| -> SocketAddr { text.parse().expect("an address") };
        let own = ["8.8.4.4".parse().expect("ip")];
        assert!(allowed(&[at("8.8.8.8:443")], false, &own));
        for mixed in [[at("8.8.8.8:443"), at("169.254.169.254:443")], [at("8.8.8.8:443"), at("8.8.4.4:443")]] {
            assert!(!allowed(&mixed, false, &own));
            assert!(allowed(&mixed, true, &own));
        }
    }
}
