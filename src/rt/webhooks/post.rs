//! One webhook over the network: the name is looked up once, every address is judged, and the connection goes to the
//! address that was judged. TLS by rustls, no redirect followed, no proxy, the answer's body not read.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::address::is_public;
use crate::config::{Webhook, WebhookUrl};
use crate::control::webhooks::{Failure, Result as Outcome, Try};

/// How long a whole try may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long connecting to one address may take.
const CONNECT: Duration = Duration::from_secs(5);

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
    let stream = connect(target).await?;
    let _ = stream.set_nodelay(true);
    let Some(tls) = &target.tls else { return exchange(stream, url, letter).await };
    let server = ServerName::try_from(url.host.clone()).map_err(|_| Failure::Untrusted)?;
    let stream = TlsConnector::from(tls.clone()).connect(server, stream).await.map_err(|error| {
        tracing::warn!(webhook = %target.hook.name, %error, "no trusted connection to a receiver of webhooks");
        Failure::Untrusted
    })?;
    exchange(stream, url, letter).await
}

/// Connects to the first address that is allowed and answers.
async fn connect(target: &Target) -> Result<TcpStream, Failure> {
    let url = &target.hook.url;
    let found = tokio::net::lookup_host((url.host.as_str(), url.port)).await.map_err(|_| Failure::NoAddress)?;
    let found: Vec<SocketAddr> = found.collect();
    let allowed = allowed(&found, target.hook.allow_private, &target.own)?;
    for address in allowed {
        if let Ok(Ok(stream)) = tokio::time::timeout(CONNECT, TcpStream::connect(address)).await {
            return Ok(stream);
        }
    }
    Err(Failure::NoConnection)
}

/// The addresses that may be connected to. One that may not spoils the name: whoever answers for it wants us to go there.
fn allowed(found: &[SocketAddr], private: bool, own: &[IpAddr]) -> Result<Vec<SocketAddr>, Failure> {
    if found.is_empty() {
        return Err(Failure::NoAddress);
    }
    let fine = |at: &SocketAddr| private || (is_public(at.ip()) && !own.contains(&at.ip()));
    if found.iter().all(fine) { Ok(found.to_vec()) } else { Err(Failure::AddressForbidden) }
}

async fn exchange<S>(stream: S, url: &WebhookUrl, letter: &Try) -> Result<(u16, Option<Duration>), Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let message = message(url, letter).ok_or(Failure::NoConnection)?;
    let gone = |_| Failure::NoConnection;
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(64 * 1024).handshake(TokioIo::new(stream)).await.map_err(gone)?;
    let exchange = async {
        let answer = sender.send_request(message).await.map_err(gone)?;
        let asked = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        Ok((answer.status().as_u16(), asked.map(Duration::from_secs)))
    };
    tokio::pin!(connection, exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        _ = &mut connection => exchange.await,
    }
}

fn message(url: &WebhookUrl, letter: &Try) -> Option<hyper::Request<Whole>> {
    let host = if url.host.contains(':') { format!("[{}]", url.host) } else { url.host.clone() };
    let usual = if url.https { 443 } else { 80 };
    let host = if url.port == usual { host } else { format!("{host}:{}", url.port) };
    let mut message = hyper::Request::builder().method("POST").uri(&url.path);
    let headers = message.headers_mut()?;
    headers.insert(HOST, HeaderValue::from_str(&host).ok()?);
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    headers.insert(USER_AGENT, HeaderValue::from_static("tonewall"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(letter.body.len()));
    headers.insert("webhook-id", HeaderValue::from_str(&letter.id).ok()?);
    headers.insert("webhook-timestamp", HeaderValue::from(letter.timestamp_s));
    headers.insert("webhook-signature", HeaderValue::from_str(&letter.signature).ok()?);
    message.body(Whole(Some(Bytes::copy_from_slice(letter.body.as_bytes())))).ok()
}

/// A body of one piece.
struct Whole(Option<Bytes>);

impl Body for Whole {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        std::task::Poll::Ready(self.0.take().map(|body| Ok(Frame::data(body))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |body| body.len() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_forbidden_address_spoils_a_name() {
        let at = |text: &str| -> SocketAddr { text.parse().expect("an address") };
        let own = ["8.8.4.4".parse().expect("ip")];
        let public = [at("8.8.8.8:443")];
        assert_eq!(allowed(&public, false, &own), Ok(public.to_vec()));
        for mixed in [[at("8.8.8.8:443"), at("169.254.169.254:443")], [at("8.8.8.8:443"), at("8.8.4.4:443")]] {
            assert_eq!(allowed(&mixed, false, &own), Err(Failure::AddressForbidden));
            assert_eq!(allowed(&mixed, true, &own), Ok(mixed.to_vec()));
        }
        assert_eq!(allowed(&[], true, &own), Err(Failure::NoAddress));
    }
}
