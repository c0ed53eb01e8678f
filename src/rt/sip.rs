//! SIP sockets. UDP sockets are polled by the engine task itself; each TCP connection has a reading task that frames
//! messages and a writing task with a bounded queue. Decides nothing but who may connect: a TCP peer outside every
//! trunk's sources is closed before a byte of it is read.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::config::{Config, Listener, ListenerId, Network, Transport};
use crate::sip::endpoint::{Dest, Flow, Transmit};
use crate::sip::msg::{Frame, FrameError, Framer};

/// Largest UDP datagram.
const DATAGRAM: usize = 65_536;
/// Bytes asked for from a TCP connection at once.
const READ: usize = 16 * 1024;
/// Messages waiting for one TCP peer to read them; more, and the connection is closed.
const WRITE_QUEUE: usize = 512;
/// Framed messages waiting for the engine from all connections; more, and TCP peers wait.
const INBOX: usize = 1024;
/// Most TCP connections at once, over all listeners.
const CONNECTIONS: u64 = 4096;
/// How long a connection to a peer may take to come up (docs: failover before RFC 3261's 32 s).
const CONNECT: Duration = Duration::from_secs(4);
/// A connection that sends no whole message for this long is closed.
const IDLE: Duration = Duration::from_secs(600);
/// A peer that reads nothing for this long is closed.
const STUCK: Duration = Duration::from_secs(10);
/// How long the last reply on a broken connection may take.
const LAST_REPLY: Duration = Duration::from_millis(500);
/// Kernel buffer asked for per UDP socket: bursts of a few thousand messages.
const SOCKET_BUFFER: usize = 4 << 20;

/// What came in by TCP.
pub(super) enum Inbound {
    /// One framed message.
    Message { flow: Flow, bytes: Bytes },
    /// A stream that cannot be framed any more; the connection closes after the answer.
    Broken { flow: Flow, error: FrameError },
    /// The connection came up by itself (an inbound one).
    Opened { id: u64, listener: ListenerId, remote: SocketAddr, writer: mpsc::Sender<Bytes> },
    /// A double CRLF, to be answered with one (RFC 5626 section 3.5.1).
    KeepAlive { flow: Flow },
    /// The connection is gone, or never came up; `ours`: we had opened it.
    Closed { flow: Flow, ours: bool },
}

/// All SIP sockets of a node.
pub(super) struct SipSockets {
    udp: Vec<(ListenerId, UdpSocket)>,
    bound: Vec<SocketAddr>,
    connections: HashMap<u64, mpsc::Sender<Bytes>>,
    by_remote: HashMap<(ListenerId, SocketAddr), u64>,
    inbox: mpsc::Receiver<Inbound>,
    inbox_tx: mpsc::Sender<Inbound>,
    ids: Arc<AtomicU64>,
    open: Arc<AtomicU64>,
    tasks: Vec<JoinHandle<()>>,
    buffer: Box<[u8]>,
    turn: usize,
}

/// A listener that could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("listener {name:?} cannot listen on {address} ({transport:?}): {error}")]
pub struct ListenError {
    name: String,
    address: SocketAddr,
    transport: Transport,
    error: io::Error,
}

impl SipSockets {
    /// Opens every listener. A port of 0 in `config` is replaced by the port the kernel gave, also in what is
    /// advertised.
    pub(super) fn open(config: &mut Config) -> Result<Self, ListenError> {
        let (inbox_tx, inbox) = mpsc::channel(INBOX);
        let mut sockets = Self {
            udp: Vec::new(),
            bound: Vec::new(),
            connections: HashMap::new(),
            by_remote: HashMap::new(),
            inbox,
            inbox_tx,
            ids: Arc::new(AtomicU64::new(1)),
            open: Arc::new(AtomicU64::new(0)),
            tasks: Vec::new(),
            buffer: vec![0; DATAGRAM].into_boxed_slice(),
            turn: 0,
        };
        for index in 0..config.listeners.len() {
            let id = ListenerId(index);
            let sources: Vec<Network> =
                config.trunks.iter().filter(|t| t.listener == id).flat_map(|t| t.sources.clone()).collect();
            let listener = &mut config.listeners[index];
            let local = sockets.bind(id, listener, sources).map_err(|error| ListenError {
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
        }
        Ok(sockets)
    }

    fn bind(&mut self, id: ListenerId, listener: &Listener, sources: Vec<Network>) -> io::Result<SocketAddr> {
        let domain = Domain::for_address(listener.address);
        match listener.transport {
            Transport::Udp => {
                let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
                // The kernel clamps to its own limit; a smaller buffer only means less room for bursts.
                let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
                let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
                socket.set_nonblocking(true)?;
                socket.bind(&listener.address.into())?;
                let socket = UdpSocket::from_std(socket.into())?;
                let local = socket.local_addr()?;
                self.udp.push((id, socket));
                Ok(local)
            }
            Transport::Tcp => {
                let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
                socket.set_reuse_address(true)?;
                socket.set_nonblocking(true)?;
                socket.bind(&listener.address.into())?;
                socket.listen(1024)?;
                let tcp = TcpListener::from_std(socket.into())?;
                let local = tcp.local_addr()?;
                let accept = Accept {
                    id,
                    local,
                    sources,
                    ids: self.ids.clone(),
                    open: self.open.clone(),
                    inbox: self.inbox_tx.clone(),
                };
                self.tasks.push(tokio::spawn(accept.run(tcp)));
                Ok(local)
            }
        }
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
            Inbound::Opened { id, listener, remote, writer } => {
                self.connections.insert(id, writer);
                self.by_remote.insert((listener, remote), id);
                None
            }
            Inbound::Closed { flow, ours } => {
                if let Some(id) = flow.connection {
                    self.connections.remove(&id);
                    let key = (flow.listener, flow.remote);
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
            message @ (Inbound::Message { .. } | Inbound::Broken { .. }) => Some(message),
        }
    }

    /// Sends what the engine transmits. A destination that cannot be reached at once comes back as the flow that
    /// failed.
    pub(super) fn send(&mut self, transmit: Transmit) -> Option<Flow> {
        let Transmit { flow: dest, bytes } = transmit;
        match dest.transport {
            Transport::Udp => {
                let socket = self.udp.iter().find(|(id, _)| *id == dest.listener).map(|(_, socket)| socket)?;
                match socket.try_send_to(&bytes, dest.remote) {
                    Ok(_) => None,
                    // A full buffer is a lost datagram; SIP's timers repair it.
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
                    Err(_) => Some(self.flow(&dest, None)),
                }
            }
            Transport::Tcp => self.send_tcp(dest, bytes),
        }
    }

    fn send_tcp(&mut self, dest: Dest, bytes: Bytes) -> Option<Flow> {
        let known = dest
            .connection
            .filter(|id| self.connections.contains_key(id))
            .or_else(|| self.by_remote.get(&(dest.listener, dest.remote)).copied());
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
        }
    }

    /// Starts a connection to `dest`; messages queue until it is up.
    fn connect(&mut self, dest: &Dest) -> u64 {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let (writer, queue) = mpsc::channel(WRITE_QUEUE);
        self.connections.insert(id, writer);
        self.by_remote.insert((dest.listener, dest.remote), id);
        let flow = self.flow(dest, Some(id));
        let inbox = self.inbox_tx.clone();
        let open = self.open.clone();
        tokio::spawn(async move {
            open.fetch_add(1, Ordering::Relaxed);
            match tokio::time::timeout(CONNECT, TcpStream::connect(flow.remote)).await {
                Ok(Ok(stream)) => carry(stream, flow, true, queue, inbox).await,
                Ok(Err(_)) | Err(_) => {
                    let _ = inbox.send(Inbound::Closed { flow, ours: true }).await;
                }
            }
            open.fetch_sub(1, Ordering::Relaxed);
        });
        id
    }
}

impl Drop for SipSockets {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Accepts connections on one listener.
struct Accept {
    id: ListenerId,
    local: SocketAddr,
    sources: Vec<Network>,
    ids: Arc<AtomicU64>,
    open: Arc<AtomicU64>,
    inbox: mpsc::Sender<Inbound>,
}

impl Accept {
    async fn run(self, listener: TcpListener) {
        loop {
            let (stream, remote) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(_) => {
                    // Out of descriptors, or the peer is gone already: back off, the calls that stand are not touched.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let welcome = self.sources.iter().any(|net| net.contains(remote.ip()));
            if !welcome || self.open.load(Ordering::Relaxed) >= CONNECTIONS {
                continue;
            }
            let id = self.ids.fetch_add(1, Ordering::Relaxed);
            let flow =
                Flow { listener: self.id, transport: Transport::Tcp, local: self.local, remote, connection: Some(id) };
            let (writer, queue) = mpsc::channel(WRITE_QUEUE);
            let opened = Inbound::Opened { id, listener: self.id, remote, writer };
            if self.inbox.send(opened).await.is_err() {
                return;
            }
            let (inbox, open) = (self.inbox.clone(), self.open.clone());
            tokio::spawn(async move {
                open.fetch_add(1, Ordering::Relaxed);
                carry(stream, flow, false, queue, inbox).await;
                open.fetch_sub(1, Ordering::Relaxed);
            });
        }
    }
}

/// Reads and writes one connection until either side ends it.
async fn carry(stream: TcpStream, flow: Flow, ours: bool, queue: mpsc::Receiver<Bytes>, inbox: mpsc::Sender<Inbound>) {
    let _ = stream.set_nodelay(true);
    let (reader, writer) = stream.into_split();
    let mut writing = std::pin::pin!(write(writer, queue));
    tokio::select! {
        ended = read(reader, &flow, &inbox) => {
            if ended == Ended::Broken {
                // The peer is told what was wrong before the connection goes.
                let _ = tokio::time::timeout(LAST_REPLY, &mut writing).await;
            }
        }
        () = &mut writing => {}
    }
    let _ = inbox.send(Inbound::Closed { flow, ours }).await;
}

/// How the reading side of a connection ended.
#[derive(PartialEq, Eq)]
enum Ended {
    /// Closed, idle, or the node is ending.
    Quietly,
    /// Its framing cannot be trusted any more.
    Broken,
}

async fn read(mut reader: OwnedReadHalf, flow: &Flow, inbox: &mpsc::Sender<Inbound>) -> Ended {
    let mut framer = Framer::new();
    let mut buffer = vec![0; READ];
    loop {
        let len = match tokio::time::timeout(IDLE, reader.read(&mut buffer)).await {
            Ok(Ok(len)) if len > 0 => len,
            _ => return Ended::Quietly,
        };
        framer.push(&buffer[..len]);
        while let Some(frame) = framer.next_frame() {
            let (inbound, broken) = match frame {
                Ok(Frame::Message(bytes)) => (Inbound::Message { flow: *flow, bytes }, false),
                Ok(Frame::KeepAlive) => (Inbound::KeepAlive { flow: *flow }, false),
                // Where the next message starts is a guess from here on: answer from the head, then close.
                Err(error) => (Inbound::Broken { flow: *flow, error }, true),
            };
            if inbox.send(inbound).await.is_err() {
                return Ended::Quietly;
            }
            if broken {
                return Ended::Broken;
            }
        }
    }
}

async fn write(mut writer: OwnedWriteHalf, mut queue: mpsc::Receiver<Bytes>) {
    while let Some(bytes) = queue.recv().await {
        match tokio::time::timeout(STUCK, writer.write_all(&bytes)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return,
        }
    }
}
