//! SIP sockets. UDP sockets are polled by the engine task itself; each TCP or TLS connection has a reading task that
//! frames messages and a writing task with a bounded queue. Decides nothing but who may connect (`accept`).
//!
//! ```text
//!  udp ── datagrams ──────────────► read_datagrams ─► engine
//!   └──── ICMP errors ─┐
//!  accept ─► stream ───┼─ Inbound ─► next_inbound ──► engine
//!  connect ─► stream ──┘                 ▲
//!       └── tls: certificates ◄── reload │ settle: connections by number and by remote
//! ```

mod accept;
mod connect;
mod counters;
mod stream;
pub mod tls;
mod udp;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::config::{Config, Listener, ListenerId, Network, Transport, TrunkId};
use crate::sip::endpoint::{Dest, Flow, Transmit};
use crate::sip::msg::FrameError;
use accept::Accept;
use connect::Connect;
pub(in crate::rt) use counters::Counters;
use tls::{Current, FileFault, Material};

/// Largest UDP datagram.
const DATAGRAM: usize = 65_536;
/// Messages waiting for one peer to read them; more, and the connection is closed.
const WRITE_QUEUE: usize = 512;
/// Framed messages waiting for the engine from all connections; more, and peers wait.
const INBOX: usize = 1024;
/// Ports tried for a UDP listener that takes any.
const PORT_TRIES: usize = 50;
/// How long a connection to a peer may take to come up (docs: failover before RFC 3261's 32 s).
const CONNECT: Duration = Duration::from_secs(4);
/// The same for a peer that is spoken to over UDP: there is another way to it.
const BY_SIZE: Duration = Duration::from_secs(1);
/// Certificates that end sooner are warned of.
const ENDS_SOON: Duration = Duration::from_secs(14 * 86_400);

/// What came in by connections.
pub(super) enum Inbound {
    /// One framed message.
    Message { flow: Flow, bytes: Bytes },
    /// A stream that cannot be framed any more; the connection closes after the answer.
    Broken { flow: Flow, error: FrameError },
    /// The connection came up by itself (an inbound one).
    Opened { id: u64, flow: Flow, writer: mpsc::Sender<Bytes> },
    /// A double CRLF, to be answered with one (RFC 5626 section 3.5.1).
    KeepAlive { flow: Flow },
    /// The connection is gone, or never came up; `ours`: we had opened it.
    Closed { flow: Flow, ours: bool },
    /// The network says that UDP datagrams do not reach this destination.
    Unreachable { dest: Dest },
}

/// All SIP sockets of a node.
pub(super) struct SipSockets {
    udp: Vec<(ListenerId, Arc<UdpSocket>)>,
    bound: Vec<SocketAddr>,
    connections: HashMap<u64, mpsc::Sender<Bytes>>,
    by_remote: HashMap<Peer, u64>,
    keepalive: Vec<Option<Duration>>,
    tls: Current,
    inbox: mpsc::Receiver<Inbound>,
    inbox_tx: mpsc::Sender<Inbound>,
    ids: Arc<AtomicU64>,
    counters: Arc<Counters>,
    tasks: Vec<JoinHandle<()>>,
    buffer: Box<[u8]>,
    turn: usize,
}

/// What a connection may be used for again: the listener it belongs to, the peer's address and, over TLS, the trunk it was
/// vouched for.
type Peer = (ListenerId, SocketAddr, Option<TrunkId>);

fn peer_of(dest: &Dest) -> Peer {
    let trunk = if dest.transport == Transport::Tls { dest.trunk } else { None };
    (dest.listener, dest.remote, trunk)
}

/// SIP sockets that could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// A listener's address.
    #[error("listener {name:?} cannot listen on {address} ({}): {error}", transport.name())]
    Bind {
        /// Its name.
        name: String,
        /// Its address.
        address: SocketAddr,
        /// Its transport.
        transport: Transport,
        /// Why.
        error: io::Error,
    },
    /// A certificate or key file.
    #[error("{0}")]
    Certificate(FileFault),
}

impl SipSockets {
    /// Opens every listener. A port of 0 in `config` is replaced by the port the kernel gave, also in what is
    /// advertised.
    pub(super) fn open(config: &mut Config) -> Result<Self, ListenError> {
        let material = Material::load(config).map_err(|faults| match faults.into_iter().next() {
            Some(fault) => ListenError::Certificate(fault),
            None => ListenError::Certificate(FileFault { key: "listener".into(), reason: "no certificate".into() }),
        })?;
        let tls = Current::new(material);
        let (inbox_tx, inbox) = mpsc::channel(INBOX);
        let mut sockets = Self {
            udp: Vec::new(),
            bound: Vec::new(),
            connections: HashMap::new(),
            by_remote: HashMap::new(),
            keepalive: Vec::new(),
            tls,
            inbox,
            inbox_tx,
            ids: Arc::new(AtomicU64::new(1)),
            counters: Arc::default(),
            tasks: Vec::new(),
            buffer: vec![0; DATAGRAM].into_boxed_slice(),
            turn: 0,
        };
        for index in 0..config.listeners.len() {
            let id = ListenerId(index);
            let sources: Vec<Network> =
                config.trunks.iter().filter(|t| t.listener == id).flat_map(|t| t.sources.clone()).collect();
            let taken = config
                .listeners
                .iter()
                .any(|other| other.transport.is_stream() && other.address == config.listeners[index].address);
            let listener = &mut config.listeners[index];
            let local = sockets.bind(id, (listener, taken), sources).map_err(|error| ListenError::Bind {
                name: listener.name.clone(),
                address: listener.address,
                transport: listener.transport,
                error,
            })?;
            if listener.advertise.port() == 0 {
                listener.advertise.set_port(local.port());
            }
            listener.address = local;
            sockets.bound.push(local);
            let keepalive = listener.options.keepalive;
            sockets.keepalive.push((!keepalive.is_zero()).then_some(keepalive));
        }
        note_certificates(&sockets.tls, &sockets.counters, config);
        Ok(sockets)
    }

    /// Opens a listener; `taken`: another one has the TCP side of its port.
    fn bind(
        &mut self,
        id: ListenerId,
        (listener, taken): (&Listener, bool),
        sources: Vec<Network>,
    ) -> io::Result<SocketAddr> {
        match listener.transport {
            Transport::Udp => {
                let (socket, stream) = bind_udp(listener, listener.options.tcp && !taken)?;
                let local = socket.local_addr()?;
                self.tasks.push(tokio::spawn(udp::watch(id, socket.clone(), self.inbox_tx.clone())));
                self.udp.push((id, socket));
                if let Some(stream) = stream {
                    self.accept(id, listener, sources, stream)?;
                }
                Ok(local)
            }
            Transport::Tcp | Transport::Tls => {
                let stream = bind_stream(listener.address)?;
                let local = stream.local_addr()?;
                self.accept(id, listener, sources, stream)?;
                Ok(local)
            }
        }
    }

    fn accept(
        &mut self,
        id: ListenerId,
        listener: &Listener,
        sources: Vec<Network>,
        at: TcpListener,
    ) -> io::Result<()> {
        let secure = listener.transport == Transport::Tls;
        let accept = Accept {
            id,
            name: listener.name.clone(),
            local: at.local_addr()?,
            sources,
            ids: self.ids.clone(),
            counters: self.counters.clone(),
            inbox: self.inbox_tx.clone(),
            tls: secure.then(|| (self.tls.clone(), listener.options.handshakes_per_source)),
        };
        self.tasks.push(tokio::spawn(accept.run(at)));
        Ok(())
    }

    /// What the sockets count.
    pub(super) fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// A handle to read certificates again with, from the files `config` names.
    pub(super) fn certificates(&self, config: Arc<Config>) -> Certificates {
        Certificates { tls: self.tls.clone(), counters: self.counters.clone(), config }
    }

    /// Waits for something to come in. Cancel safe.
    pub(super) async fn ready(&mut self) -> Option<Inbound> {
        let Self { udp, inbox, .. } = self;
        std::future::poll_fn(|context| {
            if let Poll::Ready(inbound) = inbox.poll_recv(context) {
                return Poll::Ready(inbound);
            }
            let any = udp.iter().any(|(_, socket)| socket.poll_recv_ready(context).is_ready());
            if any { Poll::Ready(None) } else { Poll::Pending }
        })
        .await
    }

    /// One more framed TCP message, if one waits.
    pub(super) fn next_inbound(&mut self) -> Option<Inbound> {
        self.inbox.try_recv().ok()
    }

    /// Reads up to `most` waiting datagrams and gives each to `each`. Listeners take turns so that a flood on one
    /// does not starve the others.
    pub(super) fn read_datagrams(&mut self, most: usize, mut each: impl FnMut(&Flow, &[u8])) -> usize {
        let mut read = 0;
        let mut idle = 0;
        while read < most && idle < self.udp.len() {
            self.turn = (self.turn + 1) % self.udp.len();
            let (listener, socket) = &self.udp[self.turn];
            match socket.try_recv_from(&mut self.buffer) {
                Ok((len, remote)) => {
                    idle = 0;
                    read += 1;
                    let flow = Flow {
                        listener: *listener,
                        transport: Transport::Udp,
                        local: self.bound[listener.0],
                        remote,
                        connection: None,
                        trunk: None,
                    };
                    each(&flow, &self.buffer[..len]);
                }
                // Also for errors the kernel reports from earlier sends: nothing was read.
                Err(_) => idle += 1,
            }
        }
        read
    }

    /// Takes note of a connection's coming and going; gives back messages and closures for the engine.
    pub(super) fn settle(&mut self, inbound: Inbound) -> Option<Inbound> {
        match inbound {
            Inbound::Opened { id, flow, writer } => {
                self.connections.insert(id, writer);
                self.by_remote.insert(peer_of(&flow.back()), id);
                None
            }
            Inbound::Closed { flow, ours } => {
                if let Some(id) = flow.connection {
                    self.connections.remove(&id);
                    let key = peer_of(&flow.back());
                    if self.by_remote.get(&key) == Some(&id) {
                        self.by_remote.remove(&key);
                    }
                }
                Some(Inbound::Closed { flow, ours })
            }
            Inbound::KeepAlive { flow } => {
                let writer = flow.connection.and_then(|id| self.connections.get(&id));
                // A peer too slow to read its pongs gets none.
                let _ = writer.map(|writer| writer.try_send(Bytes::from_static(b"\r\n")));
                None
            }
            other @ (Inbound::Message { .. } | Inbound::Broken { .. } | Inbound::Unreachable { .. }) => Some(other),
        }
    }

    /// Sends what the engine transmits. A destination that cannot be reached at once comes back as the flow that
    /// failed.
    pub(super) fn send(&mut self, transmit: Transmit) -> Option<Flow> {
        let Transmit { flow: dest, bytes } = transmit;
        match dest.transport {
            Transport::Udp => {
                let socket = self.udp.iter().find(|(id, _)| *id == dest.listener).map(|(_, socket)| socket)?;
                // The first attempt may be told of an earlier datagram's fate; the second one speaks of this.
                match socket.try_send_to(&bytes, dest.remote).or_else(|_| socket.try_send_to(&bytes, dest.remote)) {
                    Ok(_) => None,
                    // A full buffer is a lost datagram; SIP's timers repair it.
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
                    Err(_) => Some(self.flow(&dest, None)),
                }
            }
            Transport::Tcp | Transport::Tls => self.send_stream(dest, bytes),
        }
    }

    fn send_stream(&mut self, dest: Dest, bytes: Bytes) -> Option<Flow> {
        let known = dest
            .connection
            .filter(|id| self.connections.contains_key(id))
            .or_else(|| self.by_remote.get(&peer_of(&dest)).copied());
        let id = match known {
            Some(id) => id,
            None => self.connect(&dest),
        };
        let queued = self.connections.get(&id).is_some_and(|writer| writer.try_send(bytes).is_ok());
        if queued {
            return None;
        }
        self.connections.remove(&id);
        self.by_remote.retain(|_, other| *other != id);
        Some(self.flow(&dest, Some(id)))
    }

    fn flow(&self, dest: &Dest, connection: Option<u64>) -> Flow {
        Flow {
            listener: dest.listener,
            transport: dest.transport,
            local: self.bound[dest.listener.0],
            remote: dest.remote,
            connection,
            trunk: dest.trunk,
        }
    }

    /// Starts a connection to `dest`; messages queue until it is up.
    fn connect(&mut self, dest: &Dest) -> u64 {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let (writer, queue) = mpsc::channel(WRITE_QUEUE);
        self.connections.insert(id, writer);
        self.by_remote.insert(peer_of(dest), id);
        let connect = Connect {
            flow: self.flow(dest, Some(id)),
            from: self.bound[dest.listener.0],
            tls: self.tls.clone(),
            counters: self.counters.clone(),
            queue,
            inbox: self.inbox_tx.clone(),
            keepalive: self.keepalive[dest.listener.0],
            patience: if self.udp.iter().any(|(id, _)| *id == dest.listener) { BY_SIZE } else { CONNECT },
        };
        tokio::spawn(connect.run());
        id
    }
}

/// A UDP socket, and the TCP one of the same port (RFC 3261 section 18.2.1) if `tcp`. Where the kernel chooses the port, it may choose one whose TCP side is taken.
fn bind_udp(listener: &Listener, tcp: bool) -> io::Result<(Arc<UdpSocket>, Option<TcpListener>)> {
    for _ in 0..PORT_TRIES {
        let socket = Arc::new(udp::bind(listener.address)?);
        if !tcp {
            return Ok((socket, None));
        }
        match bind_stream(socket.local_addr()?) {
            Ok(stream) => return Ok((socket, Some(stream))),
            Err(error) if listener.address.port() != 0 => return Err(error),
            Err(_) => {}
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}

fn bind_stream(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    TcpListener::from_std(socket.into())
}

impl Drop for SipSockets {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// The certificates and keys of a running node's SIP sockets. Cheap to clone.
#[derive(Clone)]
pub struct Certificates {
    tls: Current,
    counters: Arc<Counters>,
    config: Arc<Config>,
}

impl Certificates {
    /// Reads them again from the files of the configuration. Connections that stand go on as they are; on a fault
    /// everything stays as it was.
    ///
    /// # Errors
    /// Every file that cannot be used.
    pub fn reload(&self) -> Result<(), Vec<FileFault>> {
        self.tls.reload(&self.config)?;
        note_certificates(&self.tls, &self.counters, &self.config);
        Ok(())
    }
}

/// Keeps the end of the first certificate for the metrics, and warns of what ends soon.
fn note_certificates(tls: &Current, counters: &Counters, config: &Config) {
    let material = tls.get();
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let now = i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX);
    for (listener, end) in material.lives() {
        let days = (end - now) / 86_400;
        if end - now < ENDS_SOON.as_secs() as i64 {
            let listener = &config.listeners[listener.0].name;
            tracing::warn!(listener, days, "a certificate has ended or ends soon");
        }
    }
    let first = material.lives().iter().map(|(_, end)| *end).min().unwrap_or(0);
    counters.certificate_end.store(first, Ordering::Relaxed);
}
