//! One request to a provider over the network: a connection of its own, TLS by rustls, no redirect followed, no proxy, an
//! answer of bounded size in locked memory. The body is sent from the locked memory it was made in.
//!
//! A connection serves one request: one that had gone stale would leave it open whether a charge was sent.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, HeaderName, HeaderValue, RETRY_AFTER};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use zeroize::Zeroize;

use crate::base::locked::Locked;
use crate::psp::{Reply, Request};

/// The largest answer that is read.
const LARGEST: usize = 256 * 1024;

/// How long connecting to one address may take.
const CONNECT: Duration = Duration::from_secs(5);

/// Sends a request and waits for the whole answer, as long as the request allows.
pub(in crate::rt) async fn send(request: Request, tls: Arc<ClientConfig>) -> Reply {
    let deadline = tokio::time::Instant::now() + request.timeout;
    let port = port_of(&request.host, request.https);
    let name = name_of(&request.host).to_owned();
    let connected = tokio::time::timeout_at(deadline, connect(&name, port)).await;
    let Ok(Some(stream)) = connected else { return Reply::NotSent };
    let _ = stream.set_nodelay(true);
    if !request.https {
        return exchange(stream, request, deadline).await;
    }
    let plain = name.trim_start_matches('[').trim_end_matches(']').to_owned();
    let Ok(server) = ServerName::try_from(plain) else { return Reply::NotSent };
    match tokio::time::timeout_at(deadline, TlsConnector::from(tls).connect(server, stream)).await {
        Ok(Ok(stream)) => exchange(stream, request, deadline).await,
        Ok(Err(error)) => {
            tracing::warn!(host = %request.host, %error, "no trusted connection to a payment provider");
            Reply::NotSent
        }
        Err(_) => Reply::NotSent,
    }
}

fn name_of(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => name,
        _ => host,
    }
}

fn port_of(host: &str, https: bool) -> u16 {
    let given = host.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    given.unwrap_or(if https { 443 } else { 80 })
}

/// Tries the addresses of a name in turn.
async fn connect(name: &str, port: u16) -> Option<TcpStream> {
    let name = name.trim_start_matches('[').trim_end_matches(']');
    let addresses = match tokio::net::lookup_host((name, port)).await {
        Ok(addresses) => addresses,
        Err(error) => {
            tracing::warn!(host = name, %error, "a payment provider's address is not known");
            return None;
        }
    };
    for address in addresses {
        match tokio::time::timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Some(stream),
            Ok(Err(error)) => tracing::warn!(host = name, %address, %error, "no connection to a payment provider"),
            Err(_) => tracing::warn!(host = name, %address, "a payment provider does not answer"),
        }
    }
    None
}

/// The exchange on a connection. From here on, what goes wrong leaves open whether it was sent.
async fn exchange<S>(stream: S, request: Request, deadline: tokio::time::Instant) -> Reply
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Some(message) = message(request) else { return Reply::NotSent };
    // Bodies are written from where they are instead of being copied behind the headers.
    let handshake = http1::Builder::new().writev(true).max_buf_size(64 * 1024).handshake(TokioIo::new(stream)).await;
    let Ok((mut sender, connection)) = handshake else { return Reply::NotSent };
    let exchange = async {
        let answer = sender.send_request(message).await.ok()?;
        let status = answer.status().as_u16();
        let retry_after = answer.headers().get(RETRY_AFTER).and_then(seconds);
        let mut frames = Vec::new();
        let body = collect(answer.into_body(), &mut frames).await;
        Some((body.map(|body| Reply::Answer { status, body, retry_after }), frames))
    };
    let both = async {
        tokio::pin!(connection);
        tokio::pin!(exchange);
        tokio::select! {
            reply = &mut exchange => reply,
            // A peer that closes at once after its answer: what is there is read to the end.
            _ = &mut connection => exchange.await,
        }
    };
    let Some((reply, frames)) = tokio::time::timeout_at(deadline, both).await.ok().flatten() else {
        return Reply::Lost;
    };
    drop(sender);
    frames.into_iter().for_each(wipe);
    reply.unwrap_or(Reply::Lost)
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

/// The message of a request; `None` when a header is none.
fn message(request: Request) -> Option<hyper::Request<OneBody>> {
    let mut message = hyper::Request::builder().method(request.method.name()).uri(&request.path);
    let headers = message.headers_mut()?;
    headers.insert(HOST, HeaderValue::from_str(&request.host).ok()?);
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    headers.insert("user-agent", HeaderValue::from_static("tonewall"));
    for (name, value) in &request.headers {
        let mut value = HeaderValue::from_bytes(value.expose()).ok()?;
        value.set_sensitive(true);
        headers.append(HeaderName::from_bytes(name.as_bytes()).ok()?, value);
    }
    message.body(OneBody(Some(request.body).filter(|body| !body.is_empty()))).ok()
}

/// The body of an answer in locked memory; `None` when it breaks off or is too large. The pieces it came in are given too,
/// to be wiped.
async fn collect(mut body: Incoming, frames: &mut Vec<Bytes>) -> Option<Locked> {
    let mut whole = Locked::default();
    loop {
        let frame = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
        let Some(frame) = frame else { return Some(whole) };
        let Ok(data) = frame.ok()?.into_data() else { continue };
        if whole.len() + data.len() > LARGEST {
            return None;
        }
        whole.extend(&data);
        frames.push(data);
    }
}

/// A body of one piece, sent from locked memory and wiped when it was.
struct OneBody(Option<Locked>);

impl Body for OneBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|body| Ok(Frame::data(Bytes::from_owner(body)))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |body| body.len() as u64))
    }
}
