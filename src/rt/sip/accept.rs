//! Who may connect. A TCP peer outside every trunk's sources is closed before a byte of it is read; a TLS peer has five
//! seconds for its handshake, a few handshakes at once per source, and then speaks for the trunk that its certificate
//! (or, where that is enough, its address) names. Nothing else is decided here.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

use super::counters::{Counters, One, count};
use super::stream::carry;
use super::tls::Current;
use super::{Inbound, WRITE_QUEUE};
use crate::config::{ListenerId, Network, Transport};
use crate::sip::endpoint::Flow;

/// Most connections at once, over all listeners.
const CONNECTIONS: u64 = 4096;
/// Most TLS handshakes at once on a listener; for one more the oldest gives way, so that slow peers cannot keep others
/// out.
const HANDSHAKES: usize = 1024;
/// How long a TLS handshake may take (threats R28).
pub(super) const HANDSHAKE: Duration = Duration::from_secs(5);
/// How long accepting rests when the system has no descriptor left.
const EXHAUSTED: Duration = Duration::from_millis(50);
/// Failed handshakes are told in the log at most this often.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// How one listener takes connections.
pub(super) struct Accept {
    pub(super) id: ListenerId,
    pub(super) name: String,
    pub(super) local: SocketAddr,
    pub(super) sources: Vec<Network>,
    pub(super) ids: Arc<AtomicU64>,
    pub(super) counters: Arc<Counters>,
    pub(super) inbox: mpsc::Sender<Inbound>,
    /// For a TLS listener: the material, and handshakes at once per source.
    pub(super) tls: Option<(Current, u32)>,
}

impl Accept {
    pub(super) async fn run(self, listener: TcpListener) {
        let gate = Arc::new(Gate::default());
        let queue = Arc::new(Queue::default());
        let told = Arc::new(Told::default());
        loop {
            let (stream, remote) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(_) => {
                    // Out of descriptors, or the peer is gone already: back off, the calls that stand are not touched.
                    tokio::time::sleep(EXHAUSTED).await;
                    continue;
                }
            };
            if !self.sources.iter().any(|net| net.contains(remote.ip())) {
                count(&self.counters.refused_source);
                continue;
            }
            if self.counters.open.load(Ordering::Relaxed) >= CONNECTIONS {
                count(&self.counters.refused_full);
                continue;
            }
            let arrival = self.arrival(remote);
            let counters = self.counters.clone();
            match &self.tls {
                None => {
                    tokio::spawn(async move {
                        let _open = One::of(&counters.open);
                        arrival.plain(stream).await;
                    });
                }
                Some((current, most)) => {
                    let Some(pass) = gate.enter(remote.ip(), *most) else {
                        count(&counters.refused_handshakes);
                        continue;
                    };
                    let (current, told, mine) = (current.clone(), told.clone(), queue.clone());
                    let given_up = queue.join(arrival.id, async move {
                        let _open = One::of(&counters.open);
                        arrival.tls(stream, (&current, pass, &mine), (&counters, &told)).await;
                    });
                    if given_up {
                        count(&self.counters.refused_handshakes);
                    }
                }
            }
        }
    }

    fn arrival(&self, remote: SocketAddr) -> Arrival {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let transport = if self.tls.is_some() { Transport::Tls } else { Transport::Tcp };
        let connection = Some(id);
        let flow = Flow { listener: self.id, transport, local: self.local, remote, connection, trunk: None };
        Arrival { flow, id, listener: self.name.clone(), inbox: self.inbox.clone() }
    }
}

/// A peer that has just connected.
struct Arrival {
    flow: Flow,
    id: u64,
    listener: String,
    inbox: mpsc::Sender<Inbound>,
}

impl Arrival {
    async fn plain(self, stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        self.speak(stream.into_split()).await;
    }

    async fn tls(
        mut self,
        stream: TcpStream,
        (current, pass, queue): (&Current, Pass, &Queue),
        (counters, told): (&Counters, &Told),
    ) {
        let _ = stream.set_nodelay(true);
        let remote = self.flow.remote;
        let material = current.get();
        let Some(server) = material.server(self.flow.listener) else { return };
        let handshake = {
            let _one = One::of(&counters.handshakes);
            tokio::time::timeout(HANDSHAKE, TlsAcceptor::from(server).accept(stream)).await
        };
        queue.leave(self.id);
        drop(pass);
        let stream = match handshake {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                count(&counters.tls_failed);
                told.tell(&self.listener, remote, &error.to_string());
                return;
            }
            Err(_) => {
                count(&counters.tls_timeout);
                told.tell(&self.listener, remote, "no handshake within 5 s");
                return;
            }
        };
        let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
        self.flow.trunk = material.trunk_of(self.flow.listener, remote.ip(), shown);
        if self.flow.trunk.is_none() {
            count(&counters.tls_failed);
            told.tell(&self.listener, remote, "no trunk has this certificate and address");
            return;
        }
        self.speak(tokio::io::split(stream)).await;
    }

    async fn speak<R, W>(self, halves: (R, W))
    where
        R: tokio::io::AsyncRead + Unpin,
        W: tokio::io::AsyncWrite + Unpin,
    {
        let (writer, queue) = mpsc::channel(WRITE_QUEUE);
        let opened = Inbound::Opened { id: self.id, flow: self.flow, writer };
        if self.inbox.send(opened).await.is_ok() {
            carry(halves, (self.flow, false), queue, self.inbox, None).await;
        }
    }
}

/// Counts handshakes per source; an IPv6 source is its /64.
#[derive(Default)]
struct Gate(Mutex<HashMap<IpAddr, u32>>);

impl Gate {
    fn enter(self: &Arc<Self>, ip: IpAddr, most: u32) -> Option<Pass> {
        let source = match ip.to_canonical() {
            IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into()),
            v4 => v4,
        };
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = counts.entry(source).or_default();
        if *now >= most {
            return None;
        }
        *now += 1;
        Some(Pass { gate: self.clone(), source })
    }
}

/// Handshakes under way, by the order they came.
#[derive(Default)]
struct Queue(Mutex<BTreeMap<u64, AbortHandle>>);

impl Queue {
    /// Starts one; `true`: another one had to give way.
    fn join(&self, id: u64, handshake: impl Future<Output = ()> + Send + 'static) -> bool {
        // Under the lock, so that none leaves before it has joined.
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = if queue.len() >= HANDSHAKES { queue.pop_first() } else { None };
        queue.insert(id, tokio::spawn(handshake).abort_handle());
        oldest.as_ref().inspect(|(_, oldest)| oldest.abort()).is_some()
    }

    fn leave(&self, id: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }
}

/// A handshake's place in the gate.
struct Pass {
    gate: Arc<Gate>,
    source: IpAddr,
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut counts = self.gate.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(now) = counts.get_mut(&self.source) {
            *now -= 1;
            if *now == 0 {
                counts.remove(&self.source);
            }
        }
    }
}

/// Tells of failed handshakes without letting peers flood the log.
#[derive(Default)]
struct Told(Mutex<(Option<Instant>, u64)>);

impl Told {
    fn tell(&self, listener: &str, remote: SocketAddr, why: &str) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if told.0.is_some_and(|last| now.duration_since(last) < TELL_EVERY) {
            told.1 += 1;
            return;
        }
        let untold = std::mem::take(&mut told.1);
        told.0 = Some(now);
        tracing::warn!(listener, %remote, why, untold, "a TLS handshake failed");
    }
}
