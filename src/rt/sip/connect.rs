//! Connections that we open: from the listener's own address, so that a peer who knows us by it takes them, and over TLS
//! with the trunk's certificate to a peer that shows one of the trunk's names.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;

use super::Inbound;
use super::accept::HANDSHAKE;
use super::counters::{Counters, One, count};
use super::stream::carry;
use super::tls::Current;
use crate::config::Transport;
use crate::sip::endpoint::Flow;

/// A connection in the making.
pub(super) struct Connect {
    pub(super) flow: Flow,
    /// Our address toward the peer.
    pub(super) from: SocketAddr,
    pub(super) tls: Current,
    pub(super) counters: Arc<Counters>,
    pub(super) queue: mpsc::Receiver<Bytes>,
    pub(super) inbox: mpsc::Sender<Inbound>,
    pub(super) keepalive: Option<Duration>,
    /// How long it may take to come up.
    pub(super) patience: Duration,
}

impl Connect {
    pub(super) async fn run(self) {
        let counters = self.counters.clone();
        let _open = One::of(&counters.open);
        let stream = match tokio::time::timeout(self.patience, connect(self.from, self.flow.remote)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(_)) | Err(_) => {
                count(&counters.unreachable);
                return self.failed().await;
            }
        };
        let _ = stream.set_nodelay(true);
        match self.flow.transport {
            Transport::Udp | Transport::Tcp => self.speak(stream.into_split()).await,
            Transport::Tls => match self.handshake(stream).await {
                Ok(stream) => self.speak(tokio::io::split(stream)).await,
                Err(why) => {
                    count(&counters.tls_failed);
                    tracing::warn!(remote = %self.flow.remote, why, "no TLS connection to a peer");
                    self.failed().await;
                }
            },
        }
    }

    async fn handshake(&self, stream: TcpStream) -> Result<tokio_rustls::client::TlsStream<TcpStream>, String> {
        let trunk = self.flow.trunk.ok_or("the peer's trunk is not known")?;
        let client = self.tls.get().client(trunk, self.flow.remote.ip());
        let (config, name) = client.ok_or("the trunk has no TLS")?;
        match tokio::time::timeout(HANDSHAKE, TlsConnector::from(config).connect(name, stream)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("no handshake within 5 s".to_owned()),
        }
    }

    async fn speak<R, W>(self, halves: (R, W))
    where
        R: tokio::io::AsyncRead + Unpin,
        W: tokio::io::AsyncWrite + Unpin,
    {
        carry(halves, (self.flow, true), self.queue, self.inbox, self.keepalive).await;
    }

    async fn failed(self) {
        let _ = self.inbox.send(Inbound::Closed { flow: self.flow, ours: true }).await;
    }
}

async fn connect(from: SocketAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if !from.ip().is_unspecified() && from.is_ipv4() == to.is_ipv4() {
        socket.bind(SocketAddr::new(from.ip(), 0))?;
    }
    socket.connect(to).await
}
