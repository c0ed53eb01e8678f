//! One request to a provider: what it needs of the client that all requests go by, in its own words.

use std::sync::Arc;

use bytes::Bytes;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use rustls::ClientConfig;

use crate::psp::{Reply, Request};
use crate::rt::client::{self, Peer};

/// The largest answer that is read.
const LARGEST: usize = 256 * 1024;

/// Sends a request and waits for the whole answer, as long as the request allows.
pub(in crate::rt) async fn send(request: Request, tls: Arc<ClientConfig>) -> Reply {
    let deadline = tokio::time::Instant::now() + request.timeout;
    let host = request.host.clone();
    let (name, port) = split(&host, request.https);
    let tls = request.https.then_some(tls);
    // Its host stands in the configuration, and no answer can name another.
    let peer = Peer { whom: "a payment provider", host: name, port, tls, allowed: &|_| true };
    let Some(message) = message(request) else { return Reply::NotSent };
    let Ok(Ok(stream)) = tokio::time::timeout_at(deadline, client::connect(&peer)).await else { return Reply::NotSent };
    // From here on, what goes wrong leaves open whether it was sent.
    match tokio::time::timeout_at(deadline, client::exchange(stream, message, Some(LARGEST))).await {
        Ok(Some(answer)) => Reply::Answer { status: answer.status, body: answer.body, retry_after: answer.retry_after },
        Ok(None) | Err(_) => Reply::Lost,
    }
}

/// Name, without brackets, and port.
fn split(host: &str, https: bool) -> (&str, u16) {
    let usual = if https { 443 } else { 80 };
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, port.parse().unwrap_or(usual)),
        _ => (host, usual),
    };
    (name.trim_start_matches('[').trim_end_matches(']'), port)
}

/// The message of a request; `None` when a header is none.
fn message(request: Request) -> Option<hyper::Request<client::OneBody>> {
    let mut headers = HeaderMap::new();
    for (name, value) in &request.headers {
        let mut value = HeaderValue::from_bytes(value.expose()).ok()?;
        value.set_sensitive(true);
        headers.append(HeaderName::from_bytes(name.as_bytes()).ok()?, value);
    }
    let start = (request.method.name(), request.host.as_str(), request.path.as_str());
    client::message(start, headers, Bytes::from_owner(request.body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_split_into_name_and_port() {
        for (host, https, wanted) in [
            ("psp.example", true, ("psp.example", 443)),
            ("psp.example:8443", true, ("psp.example", 8443)),
            ("127.0.0.1:80", false, ("127.0.0.1", 80)),
            ("[::1]:8080", false, ("::1", 8080)),
            ("[::1]", false, ("::1", 80)),
        ] {
            assert_eq!(split(host, https), wanted, "{host}");
        }
    }
}
