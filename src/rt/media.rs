//! Media workers: one operating-system thread each, with its own calls' sockets, buffers and [`Worker`]. Orders go in
//! through an inbox per worker; packets leave by the call's sockets, events and recorder blocks through two callbacks on
//! the worker's thread, which must not block. A call belongs to one worker for its whole life.
//!
//! ```text
//!            orders, merged per call            a few thousand packets/s: wake for each
//!  engine ──► inbox ──(eventfd)──┐              above: wake each 1–2 ms, take all there is
//!                                ▼
//!            RTP, RTCP ──► epoll ─► Worker ─► send_to
//!                                       └───► on_event, on_block
//! ```
//!
//! The packets of one wake-up are heard by their detectors together, after all of them have been taken in.
//!
//! The inbox's full policy. Orders are complete states, so per call only the newest of each kind is kept, and what is
//! kept is bounded by the number of calls: an order to mask, to pause or to close is never dropped and never waits for
//! room. Masks are applied before everything else that waits, orders to open after everything else. Digits to send and
//! INFO digits are kept up to [`DIGITS`] per call; [`Workers::order`] tells when one did not fit. A call more than
//! [`CREATES`] waiting is refused.
#![allow(clippy::disallowed_methods)]

mod inbox;
mod io;
mod stamp;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::base::ids::{Leg, SessionId};
use crate::guard::Masked;
use crate::media::{Command, Egress, Event, MaskedBlock, Worker};
use crate::rtp::MAX_DATAGRAM;
use inbox::Inbox;
use io::{Epoll, Io, Waker};
use stamp::Clocks;

pub use inbox::{CREATES, DIGITS};

/// Datagrams taken from one socket before the others have their turn.
const BURST: usize = 16;
/// Packets per second above which a worker wakes on a tick of 1 ms, and of 2 ms.
const BUSY: u64 = 4_000;
const VERY_BUSY: u64 = 20_000;
/// How often the load is measured.
const MEASURE: Duration = Duration::from_millis(100);
/// Socket buffers in bytes: a second of G.711 and more.
const BUFFER: usize = 256 * 1024;
/// Expedited forwarding (RFC 3246) in the IPv4 type of service.
const EXPEDITED: u32 = 0xb8;

/// The four sockets of a call, by leg (customer, agent).
#[derive(Debug)]
pub struct Sockets {
    /// RTP.
    pub rtp: [UdpSocket; 2],
    /// RTCP, on the next port.
    pub rtcp: [UdpSocket; 2],
}

/// Binds an RTP port and the RTCP port after it. Fails when either is taken; the caller tries another pair.
pub fn bind_pair(ip: IpAddr, port: u16) -> std::io::Result<(UdpSocket, UdpSocket)> {
    let next = port.checked_add(1).ok_or(std::io::ErrorKind::InvalidInput)?;
    let rtp = UdpSocket::bind((ip, port))?;
    let rtcp = UdpSocket::bind((ip, next))?;
    for socket in [&rtp, &rtcp] {
        socket.set_nonblocking(true)?;
        stamp::want(socket);
        let options = socket2::SockRef::from(socket);
        // Best effort: a system that refuses still works.
        let _ = options.set_recv_buffer_size(BUFFER);
        if ip.is_ipv4() {
            let _ = options.set_tos_v4(EXPEDITED);
        }
    }
    Ok((rtp, rtcp))
}

/// Why an order was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Too many calls or digits wait; the worker is behind.
    #[error("the media worker's inbox is full")]
    Full,
    /// The workers have been shut down, or only [`Command::Create`] fits here.
    #[error("the media worker takes no such order now")]
    Closed,
}

/// What a worker calls with events.
type OnEvent = Arc<dyn Fn(Event) + Send + Sync>;
/// What a worker calls with recorder blocks.
type OnBlock = Arc<dyn Fn(SessionId, MaskedBlock) + Send + Sync>;

struct Thread {
    inbox: Arc<Inbox>,
    waker: Arc<Waker>,
    handle: Option<JoinHandle<()>>,
}

/// The media workers of a node.
pub struct Workers {
    threads: Vec<Thread>,
    stop: Arc<AtomicBool>,
}

impl Workers {
    /// Starts `count` workers (0: one per core). `on_event` and `on_block` are called on the workers' threads and must
    /// neither block nor panic; a panic there ends the call it was for.
    pub fn start(
        count: usize,
        on_event: impl Fn(Event) + Send + Sync + 'static,
        on_block: impl Fn(SessionId, MaskedBlock) + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        let count = if count == 0 { cores } else { count };
        let (on_event, on_block): (OnEvent, OnBlock) = (Arc::new(on_event), Arc::new(on_block));
        let stop = Arc::new(AtomicBool::new(false));
        let mut workers = Self { threads: Vec::new(), stop: stop.clone() };
        for number in 0..count {
            let (inbox, waker) = (Arc::new(Inbox::default()), Arc::new(Waker::new()?));
            let io = Epoll::new(&waker)?;
            let mut shell = Shell {
                worker: Worker::new(),
                out: Out {
                    calls: HashMap::new(),
                    on_event: on_event.clone(),
                    on_block: on_block.clone(),
                    closed: Vec::new(),
                },
                io,
                tokens: Vec::new(),
                inbox: inbox.clone(),
                waker: waker.clone(),
                stop: stop.clone(),
                load: Load::new(Instant::now()),
            };
            // One worker per core is pinned; fewer share the machine as the kernel likes.
            let pin = (count == cores).then_some(number);
            let handle = std::thread::Builder::new().name(format!("media-{number}")).spawn(move || {
                if let Some(core) = pin {
                    io::pin(core);
                }
                shell.run();
            })?;
            workers.threads.push(Thread { inbox, waker, handle: Some(handle) });
        }
        Ok(workers)
    }

    /// Makes a session with its bound sockets. `command` must be [`Command::Create`].
    pub fn create(&self, command: Command, sockets: Sockets) -> Result<(), Refused> {
        let thread = self.thread(command.session());
        if !matches!(command, Command::Create { .. }) || self.stop.load(Ordering::Relaxed) {
            return Err(Refused::Closed);
        }
        thread.inbox.create(command, sockets)?;
        thread.waker.wake();
        Ok(())
    }

    /// Gives an order for a session made before. Only digits can be refused; see the module's full policy.
    pub fn order(&self, command: Command) -> Result<(), Refused> {
        let thread = self.thread(command.session());
        thread.inbox.order(command)?;
        thread.waker.wake();
        Ok(())
    }

    fn thread(&self, session: SessionId) -> &Thread {
        &self.threads[(session.0 % self.threads.len() as u64) as usize]
    }

    /// Closes every session (RTCP BYE, last recorder blocks, [`Event::Closed`]) and waits for the threads.
    pub fn shutdown(mut self) {
        self.stop_and_join();
    }

    fn stop_and_join(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in &mut self.threads {
            thread.waker.wake();
        }
        for thread in &mut self.threads {
            if let Some(handle) = thread.handle.take() {
                let _ = handle.join();
            }
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop_and_join();
    }
}

/// One worker's thread.
struct Shell<I: Io> {
    worker: Worker,
    out: Out,
    io: I,
    /// What each token of the poller stands for; a freed one is used again.
    tokens: Vec<Option<(SessionId, Leg, bool)>>,
    inbox: Arc<Inbox>,
    waker: Arc<Waker>,
    stop: Arc<AtomicBool>,
    load: Load,
}

/// Where the worker's output goes.
struct Out {
    calls: HashMap<SessionId, Call>,
    on_event: OnEvent,
    on_block: OnBlock,
    /// Sessions that ended since the sockets were last looked after.
    closed: Vec<SessionId>,
}

struct Call {
    sockets: Sockets,
    tokens: [usize; 4],
}

impl Egress for Out {
    fn rtp(&mut self, session: SessionId, to: Leg, destination: SocketAddr, packet: Masked<&[u8]>) {
        if let Some(call) = self.calls.get(&session) {
            // A full socket buffer loses the packet, as a network does.
            let _ = call.sockets.rtp[to.index()].send_to(packet.get(), destination);
        }
    }

    fn rtcp(&mut self, session: SessionId, to: Leg, destination: SocketAddr, packet: Masked<&[u8]>) {
        if let Some(call) = self.calls.get(&session) {
            let _ = call.sockets.rtcp[to.index()].send_to(packet.get(), destination);
        }
    }

    fn event(&mut self, event: Event) {
        if let Event::Closed { session, .. } = &event {
            self.closed.push(*session);
        }
        (self.on_event)(event);
    }

    fn block(&mut self, session: SessionId, block: MaskedBlock) {
        (self.on_block)(session, block);
    }
}

impl<I: Io> Shell<I> {
    fn run(&mut self) {
        let mut ready = Vec::with_capacity(1_024);
        let mut buffer = [0u8; MAX_DATAGRAM + 1];
        loop {
            self.rest();
            let left = self.worker.poll_timeout().map(|due| due.saturating_duration_since(Instant::now()));
            ready.clear();
            let woken = self.io.wait(left, &mut ready);
            if woken {
                self.waker.quiet();
            }
            // Also without a wake-up: on a tick it is cheap, and an order must not wait behind packets.
            self.take_orders();
            for token in &ready {
                self.receive(*token, &mut buffer);
            }
            self.worker.hear(&mut self.out);
            let now = Instant::now();
            if self.worker.poll_timeout().is_some_and(|due| due <= now) {
                self.worker.handle_timeout(now, &mut self.out);
            }
            self.release();
            if self.stop.load(Ordering::Relaxed) {
                return self.close_all();
            }
        }
    }

    /// Above a few thousand packets a second, waits for the tick, so that one wake-up serves many packets.
    fn rest(&mut self) {
        if let Some(rest) = self.load.rest(Instant::now()) {
            std::thread::sleep(rest);
        }
    }

    fn receive(&mut self, token: usize, buffer: &mut [u8]) {
        let Some((session, leg, is_rtp)) = self.tokens.get(token).copied().flatten() else { return };
        let clocks = Clocks::read();
        for _ in 0..BURST {
            let Some(call) = self.out.calls.get(&session) else { return };
            let sockets = if is_rtp { &call.sockets.rtp } else { &call.sockets.rtcp };
            let Ok((length, source, stamp)) = stamp::receive(&sockets[leg.index()], buffer) else { return };
            if length > MAX_DATAGRAM {
                continue;
            }
            self.load.packets += 1;
            let (now, bytes) = (Instant::now(), &buffer[..length]);
            if is_rtp {
                let came = clocks.came(stamp, now);
                self.worker.take_rtp(now, came, session, leg, source, bytes, &mut self.out);
            } else {
                self.worker.handle_rtcp(now, session, leg, source, bytes, &mut self.out);
            }
        }
    }

    fn take_orders(&mut self) {
        if self.inbox.is_empty() {
            return;
        }
        let now = Instant::now();
        let (creates, orders) = self.inbox.take();
        for (command, sockets) in creates {
            self.adopt(now, command, sockets);
        }
        for command in orders {
            self.worker.handle_command(now, command, &mut self.out);
        }
    }

    fn adopt(&mut self, now: Instant, command: Command, sockets: Sockets) {
        let session = command.session();
        if self.worker.has(session) {
            return;
        }
        let mut tokens = [0; 4];
        for (place, leg) in [Leg::Customer, Leg::Agent].into_iter().enumerate() {
            for (at, is_rtp) in [(2 * place, true), (2 * place + 1, false)] {
                let socket = if is_rtp { &sockets.rtp[place] } else { &sockets.rtcp[place] };
                let free = self.tokens.iter().position(Option::is_none).unwrap_or(self.tokens.len());
                if free == self.tokens.len() {
                    self.tokens.push(None);
                }
                self.tokens[free] = Some((session, leg, is_rtp));
                tokens[at] = free;
                // A socket that cannot be watched hears nothing: the call ends by inactivity.
                let _ = socket.set_nonblocking(true);
                let _ = self.io.add(free, socket);
            }
        }
        self.out.calls.insert(session, Call { sockets, tokens });
        self.worker.handle_command(now, command, &mut self.out);
    }

    /// Frees the sockets of sessions that have ended.
    fn release(&mut self) {
        while let Some(session) = self.out.closed.pop() {
            let Some(call) = self.out.calls.remove(&session) else { continue };
            for (place, token) in call.tokens.into_iter().enumerate() {
                let sockets = if place % 2 == 0 { &call.sockets.rtp } else { &call.sockets.rtcp };
                self.io.remove(&sockets[place / 2]);
                self.tokens[token] = None;
            }
        }
    }

    fn close_all(&mut self) {
        self.take_orders();
        let sessions: Vec<_> = self.out.calls.keys().copied().collect();
        for session in sessions {
            self.worker.handle_command(Instant::now(), Command::Close { session }, &mut self.out);
        }
        self.release();
    }
}

/// How busy a worker is, and when it wakes.
struct Load {
    packets: u64,
    measured: Instant,
    tick: Option<Duration>,
    last: Instant,
}

impl Load {
    fn new(now: Instant) -> Self {
        Self { packets: 0, measured: now, tick: None, last: now }
    }

    /// How long to wait before looking for packets; `None`: wake for each.
    fn rest(&mut self, now: Instant) -> Option<Duration> {
        let since = now.saturating_duration_since(self.measured);
        if since >= MEASURE {
            let rate = self.packets * 1_000 / (since.as_millis() as u64).max(1);
            (self.packets, self.measured) = (0, now);
            // A quarter less to go back, so that it does not change its mind all the time.
            let held = |limit: u64, tick: u64| match self.tick {
                Some(now) if now >= Duration::from_millis(tick) => rate > limit * 3 / 4,
                _ => rate > limit,
            };
            self.tick = if held(VERY_BUSY, 2) {
                Some(Duration::from_millis(2))
            } else if held(BUSY, 1) {
                Some(Duration::from_millis(1))
            } else {
                None
            };
        }
        let tick = self.tick?;
        let rest = (self.last + tick).checked_duration_since(now);
        self.last = (self.last + tick).max(now);
        rest
    }
}

#[cfg(test)]
mod tests;
