//! One request over HTTP to somebody outside, for payment providers and receivers of webhooks alike: the name is looked up
//! once, every address is judged, and the connection goes to one that was judged. TLS by rustls, no redirect followed, no
//! proxy, an answer of bounded size in locked memory or not read at all. The body is sent from the memory it was made in.
//!
//! A connection serves one request: one that had gone stale would leave it open whether something was sent.

pub(super) mod address;
pub(super) mod trust;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, HeaderMap, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use zeroize::Zeroize;

use crate::base::locked::Locked;

/// How long connecting to one address may take.
const CONNECT: Duration = Duration::from_secs(5);

/// Whom to connect to.
pub(super) struct Peer<'a> {
    /// What the log calls it.
    pub(super) whom: &'static str,
    /// Name or IP address, without brackets.
    pub(super) host: &'a str,
    pub(super) port: u16,
    /// What a connection starts from; `None`: it is not encrypted.
    pub(super) tls: Option<Arc<ClientConfig>>,
    /// Whether all these addresses of the name may be connected to.
    pub(super) allowed: &'a (dyn Fn(&[SocketAddr]) -> bool + Send + Sync),
}

/// Why there is no connection. Nothing was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotSent {
    /// The name has no address.
    NoAddress,
    /// An address that may not be connected to.
    Forbidden,
    /// Nobody answers.
    NoConnection,
    /// Its certificate is not trusted.
    Untrusted,
}

/// A connection, encrypted or not.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// What came back.
pub(super) struct Answer {
    pub(super) status: u16,
    /// How long the peer wants to be left alone.
    pub(super) retry_after: Option<Duration>,
    /// The whole body; empty where none was wanted.
    pub(super) body: Locked,
}

/// Connects to the first address that answers.
pub(super) async fn connect(peer: &Peer<'_>) -> Result<Box<dyn Stream>, NotSent> {
    let Peer { whom, host, port, .. } = *peer;
    let found: Vec<SocketAddr> = match tokio::net::lookup_host((host, port)).await {
        Ok(found) => found.collect(),
        Err(error) => {
            tracing::warn!(host, %error, "the address of {whom} is not known");
            return Err(NotSent::NoAddress);
        }
    };
    if found.is_empty() {
        return Err(NotSent::NoAddress);
    }
    // One that may not be spoils the name: whoever answers for it wants us to go there.
    if !(peer.allowed)(&found) {
        return Err(NotSent::Forbidden);
    }
    let mut connected = None;
    for address in found {
        match tokio::time::timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                connected = Some(stream);
                break;
            }
            Ok(Err(error)) => tracing::warn!(host, %address, %error, "no connection to {whom}"),
            Err(_) => tracing::warn!(host, %address, "{whom} does not answer"),
        }
    }
    let stream = connected.ok_or(NotSent::NoConnection)?;
    let _ = stream.set_nodelay(true);
    let Some(tls) = peer.tls.clone() else { return Ok(Box::new(stream)) };
    let server = ServerName::try_from(host.to_owned()).map_err(|_| NotSent::Untrusted)?;
    match TlsConnector::from(tls).connect(server, stream).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) => {
            tracing::warn!(host, %error, "no trusted connection to {whom}");
            Err(NotSent::Untrusted)
        }
    }
}

/// A message to `host` (with the port where it is not the usual one); `None`: a part of it is no HTTP.
pub(super) fn message(
    (method, host, path): (&str, &str, &str),
    headers: HeaderMap,
    body: Bytes,
) -> Option<hyper::Request<OneBody>> {
    let mut message = hyper::Request::builder().method(method).uri(path);
    let ours = message.headers_mut()?;
    ours.insert(HOST, HeaderValue::from_str(host).ok()?);
    ours.insert(CONNECTION, HeaderValue::from_static("close"));
    ours.insert(USER_AGENT, HeaderValue::from_static("tonewall"));
    ours.extend(headers);
    message.body(OneBody(Some(body).filter(|body| !body.is_empty()))).ok()
}

/// The exchange on a connection. `None`: it broke off, or the answer is larger than `largest`; whether the message
/// arrived is not known. With a `largest` of none the body of the answer is not read.
pub(super) async fn exchange(
    stream: Box<dyn Stream>,
    message: hyper::Request<OneBody>,
    largest: Option<usize>,
) -> Option<Answer> {
    // Bodies are written from where they are instead of being copied behind the headers.
    let handshake = http1::Builder::new().writev(true).max_buf_size(64 * 1024).handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.ok()?;
    let exchange = async {
        let answer = sender.send_request(message).await.ok()?;
        let (status, retry_after) = (answer.status().as_u16(), answer.headers().get(RETRY_AFTER).and_then(seconds));
        let mut frames = Vec::new();
        let body = match largest {
            Some(largest) => collect(answer.into_body(), largest, &mut frames).await,
            None => Some(Locked::default()),
        };
        Some((body.map(|body| Answer { status, retry_after, body }), frames))
    };
    let (answer, frames) = {
        tokio::pin!(connection, exchange);
        tokio::select! {
            answer = &mut exchange => answer?,
            // A peer that closes at once after its answer: what is there is read to the end.
            _ = &mut connection => exchange.await?,
        }
    };
    drop(sender);
    frames.into_iter().for_each(wipe);
    answer
}

/// Wipes a piece of an answer in the buffer it was read into. That is ours alone when the connection is gone and no other
/// piece lies in it.
fn wipe(frame: Bytes) {
    if let Ok(mut frame) = frame.try_into_mut() {
        frame.zeroize();
    }
}

fn seconds(value: &HeaderValue) -> Option<Duration> {
    let seconds: u64 = value.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds.min(3600)))
}

/// The body of an answer in locked memory; `None` when it breaks off or is too large. The pieces it came in are given too,
/// to be wiped.
async fn collect(mut body: Incoming, largest: usize, frames: &mut Vec<Bytes>) -> Option<Locked> {
    let mut whole = Locked::default();
    loop {
        let frame = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
        let Some(frame) = frame else { return Some(whole) };
        let Ok(data) = frame.ok()?.into_data() else { continue };
        if whole.len() + data.len() > largest {
            return None;
        }
        whole.extend(&data);
        frames.push(data);
    }
}

/// A body of one piece, sent from the memory it is in.
pub(super) struct OneBody(Option<Bytes>);

impl Body for OneBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|body| Ok(Frame::data(body))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |body| body.len() as u64))
    }
}
