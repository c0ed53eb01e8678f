//! Sends the sound of recording sessions: one thread with the sockets of all of them, woken when packets are due. Masked
//! blocks come from the media workers through a queue that never makes them wait, orders from the engine; packets go to
//! the recording servers. A cut is in force before the order returns: the thread looks at it before every packet.
//!
//! ```text
//!  media ─── blocks ──►┐
//!                      ├─► queue ─► thread: Sound per fork ─► RTP, RTCP
//!  engine ── orders ──►┘                  ▲
//!     └───── cut ─────────────────────────┘ (a flag beside the queue)
//! ```
//!
//! The queue's full policy: orders always go in; a block that finds more than `MOST_WAITING` waiting is dropped, which
//! the recorder sees as a gap.
#![allow(clippy::disallowed_methods)]

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::media::bind_pair;
use crate::base::time::soonest;
use crate::call::{ForkId, ForkReport, RecordOrder};
use crate::guard::Masked;
use crate::media::MaskedBlock;
use crate::record::siprec::sdp::Stream;
use crate::record::siprec::sound::{Sink, Sound};

/// Blocks that may wait: 20 s of 40 calls.
const MOST_WAITING: usize = 8_192;
/// How long packets must come back before a recorder counts as deaf, and how long a quiet time ends that.
const UNHEARD: Duration = Duration::from_secs(5);
const HEARD: Duration = Duration::from_secs(1);
/// Datagrams of a recorder read away at once.
const BURST: usize = 32;

/// Counters, for metrics.
#[derive(Debug, Default)]
pub struct Counters {
    packets: AtomicU64,
    refused: AtomicU64,
    lost_blocks: AtomicU64,
    waiting: AtomicUsize,
}

impl Counters {
    /// Packets sent, packets that came back, blocks dropped.
    pub fn read(&self) -> (u64, u64, u64) {
        let read = |of: &AtomicU64| of.load(Ordering::Relaxed);
        (read(&self.packets), read(&self.refused), read(&self.lost_blocks))
    }
}

/// What a report is given to; called on the thread, must not block.
type OnReport = Box<dyn Fn(ForkId, ForkReport) + Send>;

enum Order {
    Open { fork: ForkId, sockets: Box<[(UdpSocket, UdpSocket); 2]>, cut: Arc<AtomicBool>, seed: u64, live: bool },
    Flow { fork: ForkId, streams: Option<Box<[Stream; 2]>>, hush: bool },
    Block { fork: ForkId, block: MaskedBlock },
    End { fork: ForkId },
    Close { fork: ForkId },
    Stop,
}

/// The running thread.
pub struct Forks {
    door: Door,
    /// What is cut now, by fork.
    cuts: HashMap<ForkId, Arc<AtomicBool>>,
    thread: Option<JoinHandle<()>>,
}

/// The media workers' way in; cheap to clone.
#[derive(Clone)]
pub struct Door {
    orders: Sender<Order>,
    counters: Arc<Counters>,
}

impl Door {
    /// Takes 100 ms of a fork's sound. Never waits.
    pub fn block(&self, fork: ForkId, block: MaskedBlock) {
        if self.counters.waiting.fetch_add(1, Ordering::Relaxed) >= MOST_WAITING {
            self.counters.waiting.fetch_sub(1, Ordering::Relaxed);
            self.counters.lost_blocks.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if self.orders.send(Order::Block { fork, block }).is_err() {
            self.counters.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Takes 100 ms of what can wait, or gives it back while the calls have much waiting themselves.
    pub fn offer(&self, fork: ForkId, block: MaskedBlock) -> Result<(), MaskedBlock> {
        if self.counters.waiting.load(Ordering::Relaxed) >= MOST_WAITING / 8 {
            return Err(block);
        }
        self.block(fork, block);
        Ok(())
    }

    /// Nothing more comes for a fork: when all is sent, [`ForkReport::Played`] is reported.
    pub fn end(&self, fork: ForkId) {
        // The thread is gone only when the node is.
        let _ = self.orders.send(Order::End { fork });
    }
}

impl Forks {
    /// Starts the thread.
    pub fn start(report: impl Fn(ForkId, ForkReport) + Send + 'static) -> std::io::Result<Self> {
        let (orders, queue) = mpsc::channel();
        let counters = Arc::new(Counters::default());
        let sender = Wire { forks: HashMap::new(), report: Box::new(report), counters: counters.clone() };
        let thread = std::thread::Builder::new().name("siprec".to_owned()).spawn(move || sender.run(&queue))?;
        Ok(Self { door: Door { orders, counters }, cuts: HashMap::new(), thread: Some(thread) })
    }

    /// The media workers' way in.
    pub fn door(&self) -> Door {
        self.door.clone()
    }

    /// What it counts.
    pub fn counters(&self) -> Arc<Counters> {
        self.door.counters.clone()
    }

    /// Carries out an order; the report when it cannot be.
    pub fn order(&mut self, order: RecordOrder) -> Result<(), (ForkId, ForkReport)> {
        let order = match order {
            RecordOrder::OpenFork { fork, session, address, ports, seed } => {
                let bind = |port| bind_pair(address, port).map_err(|error| (fork, report_of(&error)));
                let sockets = Box::new([bind(ports[0])?, bind(ports[1])?]);
                let cut = Arc::new(AtomicBool::new(true));
                self.cuts.insert(fork, cut.clone());
                Order::Open { fork, sockets, cut, seed, live: session.is_some() }
            }
            RecordOrder::Flow { fork, streams, hush } => {
                if let Some(cut) = self.cuts.get(&fork) {
                    cut.store(streams.is_none(), Ordering::SeqCst);
                }
                Order::Flow { fork, streams, hush }
            }
            RecordOrder::CloseFork { fork } => {
                if let Some(cut) = self.cuts.remove(&fork) {
                    cut.store(true, Ordering::SeqCst);
                }
                Order::Close { fork }
            }
            RecordOrder::Open { .. }
            | RecordOrder::Redact { .. }
            | RecordOrder::Mark { .. }
            | RecordOrder::Close { .. }
            | RecordOrder::CallOver { .. }
            | RecordOrder::OpenSpill { .. }
            | RecordOrder::PlaySpill { .. }
            | RecordOrder::LeaveSpill { .. }
            | RecordOrder::MarkSpill { .. } => return Ok(()),
        };
        // The thread ends only by `stop`.
        let _ = self.door.orders.send(order);
        Ok(())
    }

    /// The flag that says whether the sound of a fork is cut.
    pub fn cut_of(&self, fork: ForkId) -> Option<Arc<AtomicBool>> {
        self.cuts.get(&fork).cloned()
    }

    /// Ends the thread.
    pub fn stop(mut self) {
        let _ = self.door.orders.send(Order::Stop);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that sends to SIPREC recorders ended by a panic");
        }
    }
}

fn report_of(error: &std::io::Error) -> ForkReport {
    match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => ForkReport::NoRoom,
        _ => ForkReport::PortsTaken,
    }
}

/// The thread's own.
struct Wire {
    forks: HashMap<ForkId, Fork>,
    report: OnReport,
    counters: Arc<Counters>,
}

struct Fork {
    sound: Sound,
    out: Out,
    /// Nothing more comes.
    ended: bool,
}

/// Where the packets of a fork leave.
struct Out {
    sockets: Box<[(UdpSocket, UdpSocket); 2]>,
    streams: Option<Box<[Stream; 2]>>,
    /// Where each socket is connected to, so that the network's refusals are heard.
    connected: [Option<SocketAddr>; 2],
    cut: Arc<AtomicBool>,
    refused_since: Option<Instant>,
    refused_last: Option<Instant>,
    told: bool,
    sent: u64,
    refused: u64,
    /// The same since its beginning.
    all: (u64, u64),
}

impl Sink for Out {
    fn rtp(&mut self, stream: usize, packet: Masked<&[u8]>) {
        if self.cut.load(Ordering::SeqCst) {
            return;
        }
        let Some(to) = self.streams.as_ref().map(|streams| streams[stream].rtp) else { return };
        let socket = &self.sockets[stream].0;
        if self.connected[stream] != Some(to) {
            if socket.connect(to).is_err() {
                return;
            }
            self.connected[stream] = Some(to);
        }
        let mut refused = false;
        match socket.send(packet.get()) {
            Ok(_) => self.sent += 1,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                refused = true;
                // That was of an earlier packet; this one goes now.
                if socket.send(packet.get()).is_ok() {
                    self.sent += 1;
                }
            }
            // A full socket buffer loses the packet, as a network does.
            Err(_) => {}
        }
        if refused {
            self.note_refused(Instant::now());
        }
    }

    fn rtcp(&mut self, stream: usize, report: &[u8]) {
        let Some(to) = self.streams.as_ref().map(|streams| streams[stream].rtcp) else { return };
        let _ = self.sockets[stream].1.send_to(report, to);
    }
}

impl Out {
    /// Whether packets have come back for so long that nobody can be there.
    fn is_unheard(&mut self, now: Instant) -> bool {
        if self.refused_last.is_some_and(|last| now.saturating_duration_since(last) > HEARD) {
            (self.refused_since, self.refused_last) = (None, None);
        }
        let unheard = self.refused_since.is_some_and(|since| now.saturating_duration_since(since) >= UNHEARD);
        unheard && !std::mem::replace(&mut self.told, true)
    }

    /// Counts what was sent and what came back.
    fn count(&mut self, counters: &Counters) {
        let (sent, refused) = (std::mem::take(&mut self.sent), std::mem::take(&mut self.refused));
        counters.packets.fetch_add(sent, Ordering::Relaxed);
        counters.refused.fetch_add(refused, Ordering::Relaxed);
        self.all = (self.all.0 + sent, self.all.1 + refused);
    }

    /// A packet came back.
    fn note_refused(&mut self, now: Instant) {
        self.refused += 1;
        self.refused_since.get_or_insert(now);
        self.refused_last = Some(now);
    }

    /// Reads away what the recorder sends: nothing of it is wanted but that packets to it come back.
    fn drain(&mut self, now: Instant) {
        let mut room = [0u8; 64];
        let mut back = 0;
        for socket in self.sockets.iter().flat_map(|(rtp, rtcp)| [rtp, rtcp]) {
            for _ in 0..BURST {
                match socket.recv(&mut room) {
                    Ok(_) => {}
                    Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => back += 1,
                    Err(_) => break,
                }
            }
        }
        (0..back).for_each(|_| self.note_refused(now));
    }
}

impl Wire {
    fn run(mut self, queue: &Receiver<Order>) {
        loop {
            let due = self.forks.values().fold(None, |due, fork| soonest(due, fork.sound.poll_timeout()));
            let order = match due {
                None => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => queue.recv_timeout(at.saturating_duration_since(Instant::now())),
            };
            match order {
                Ok(Order::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(order) => {
                    self.take(order);
                    // Whatever else waits comes first: a cut must not wait behind packets.
                    while let Ok(order) = queue.try_recv() {
                        if matches!(order, Order::Stop) {
                            return self.close_all();
                        }
                        self.take(order);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.send_due();
        }
        self.close_all();
    }

    fn take(&mut self, order: Order) {
        let now = Instant::now();
        match order {
            Order::Open { fork, sockets, cut, seed, live } => {
                let out = Out {
                    sockets,
                    streams: None,
                    connected: [None; 2],
                    cut,
                    refused_since: None,
                    refused_last: None,
                    told: false,
                    sent: 0,
                    refused: 0,
                    all: (0, 0),
                };
                let sound = if live { Sound::new(now, seed) } else { Sound::patient(now, seed) };
                self.forks.insert(fork, Fork { sound, out, ended: false });
            }
            Order::Flow { fork, streams, hush } => {
                if let Some(Fork { sound, out, .. }) = self.forks.get_mut(&fork) {
                    if streams.is_some() {
                        out.streams.clone_from(&streams);
                    }
                    sound.set(now, streams, hush);
                }
            }
            Order::Block { fork, block } => {
                self.counters.waiting.fetch_sub(1, Ordering::Relaxed);
                if let Some(Fork { sound, .. }) = self.forks.get_mut(&fork) {
                    sound.block(now, block);
                }
            }
            Order::End { fork } => {
                if let Some(fork) = self.forks.get_mut(&fork) {
                    fork.ended = true;
                }
            }
            Order::Close { fork } => {
                if let Some(Fork { mut sound, mut out, .. }) = self.forks.remove(&fork) {
                    sound.finish(now, &mut out);
                }
            }
            Order::Stop => {}
        }
    }

    fn send_due(&mut self) {
        let now = Instant::now();
        let mut told = Vec::new();
        for (id, Fork { sound, out, ended }) in &mut self.forks {
            if *ended && sound.is_empty() {
                *ended = false;
                out.drain(now);
                out.count(&self.counters);
                told.push((*id, ForkReport::Played { sent: out.all.0, back: out.all.1 }));
            }
            if sound.poll_timeout().is_none_or(|due| due > now) {
                continue;
            }
            sound.handle_timeout(now, out);
            out.drain(now);
            out.count(&self.counters);
            if out.is_unheard(now) {
                told.push((*id, ForkReport::Unheard));
            }
        }
        for (fork, report) in told {
            (self.report)(fork, report);
        }
    }

    fn close_all(mut self) {
        let now = Instant::now();
        for (_, Fork { mut sound, mut out, .. }) in self.forks.drain() {
            sound.finish(now, &mut out);
        }
    }
}
