//! Runs `testkit` telephones on real UDP sockets, for `tonewall demo` and the tests: one SIP port with any number of
//! telephones behind it, each with its own RTP and RTCP ports. A thin driver: it feeds datagrams and the time, sends
//! what comes out, and decides nothing.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use tokio::net::UdpSocket;
use tokio::sync::{Notify, mpsc};

use crate::base::Random;
use crate::testkit::simple_sip::Message;
use crate::testkit::ua::{Event, Port, Profile, UserAgent};

/// Largest datagram taken in.
const DATAGRAM: usize = 65_535;
/// RTP datagrams are far smaller.
const RTP_DATAGRAM: usize = 2_048;
/// RTP port pairs tried before giving up.
const PORT_TRIES: usize = 100;
/// The lowest media port taken by choice.
const LEAST_PORT: u16 = 1_024;

/// A telephone on real sockets. Cheap to clone; the telephone lives as long as its exchange.
#[derive(Clone)]
pub struct Phone {
    inner: Arc<Inner>,
}

struct Inner {
    state: Mutex<State>,
    wake: Notify,
    changed: Notify,
}

struct State {
    agent: UserAgent,
    events: Vec<(Instant, Event)>,
}

impl Phone {
    /// Does something with the telephone, at the current time, and sends what follows from it.
    pub fn with<R>(&self, act: impl FnOnce(&mut UserAgent, Instant) -> R) -> R {
        let result = act(&mut self.lock().agent, Instant::now());
        self.inner.wake.notify_one();
        result
    }

    /// Everything that happened so far, with its time.
    pub fn events(&self) -> Vec<(Instant, Event)> {
        self.lock().events.clone()
    }

    /// Waits until `condition` holds for the telephone, looked at after everything that happens and every 20 ms;
    /// `false` when `within` is over first.
    pub async fn until(&self, within: Duration, mut condition: impl FnMut(&UserAgent) -> bool) -> bool {
        let deadline = Instant::now() + within;
        loop {
            if condition(&self.lock().agent) {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            let _ = tokio::time::timeout(Duration::from_millis(20), self.inner.changed.notified()).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A SIP port with telephones behind it, told apart by Call-ID.
pub struct Exchange {
    shared: Arc<Shared>,
    incoming: mpsc::UnboundedReceiver<Phone>,
    task: tokio::task::JoinHandle<()>,
}

struct Shared {
    socket: UdpSocket,
    address: SocketAddr,
    phones: Mutex<Book>,
}

struct Book {
    random: Random,
    by_call: HashMap<String, Phone>,
    callers: Vec<Phone>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    answering: Option<Profile>,
    answered: mpsc::UnboundedSender<Phone>,
    /// Media ports that no telephone takes.
    avoid: Option<(u16, u16)>,
}

impl Exchange {
    /// Opens a SIP port (0: any) on `ip`. With `answering`, each incoming call rings a new telephone of that profile;
    /// without, incoming calls are not answered at all.
    ///
    /// # Errors
    /// The socket cannot be bound.
    pub async fn open(ip: IpAddr, port: u16, answering: Option<Profile>, seed: u64) -> io::Result<Exchange> {
        let socket = UdpSocket::bind(SocketAddr::new(ip, port)).await?;
        let address = socket.local_addr()?;
        let (answered, incoming) = mpsc::unbounded_channel();
        let book = Book {
            random: Random::seed_from_u64(seed),
            by_call: HashMap::new(),
            callers: Vec::new(),
            tasks: Vec::new(),
            answering,
            answered,
            avoid: None,
        };
        let shared = Arc::new(Shared { socket, address, phones: Mutex::new(book) });
        let task = tokio::spawn(Shared::listen(shared.clone()));
        Ok(Exchange { shared, incoming, task })
    }

    /// From now on no telephone takes a media port from the first to the last of `ports`: a node sends no media to what
    /// may be its own.
    pub fn avoid(&self, ports: (u16, u16)) {
        self.shared.book().avoid = Some(ports);
    }

    /// The SIP address.
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// Installs a telephone that will place a call.
    ///
    /// # Errors
    /// No pair of RTP ports is free.
    pub fn phone(&self, profile: Profile) -> io::Result<Phone> {
        let phone = self.shared.install(profile)?;
        self.shared.book().callers.push(phone.clone());
        Ok(phone)
    }

    /// Changes how incoming calls from now on are taken.
    pub fn answer_with(&self, profile: Profile) {
        self.shared.book().answering = Some(profile);
    }

    /// The telephone that rings for the next incoming call; `None` when `within` is over first.
    pub async fn ringing(&mut self, within: Duration) -> Option<Phone> {
        tokio::time::timeout(within, self.incoming.recv()).await.ok().flatten()
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.task.abort();
        self.shared.book().tasks.drain(..).for_each(|t| t.abort());
    }
}

impl Shared {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.phones.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn listen(shared: Arc<Shared>) {
        let mut buffer = vec![0; DATAGRAM];
        loop {
            // An ICMP error of an earlier datagram shows up here; the telephones' timers deal with it.
            let Ok((length, from)) = shared.socket.recv_from(&mut buffer).await else { continue };
            let bytes = &buffer[..length];
            let Some(phone) = shared.find(bytes) else { continue };
            phone.with(|agent, now| agent.handle_sip(now, from, bytes));
        }
    }

    /// The telephone a SIP datagram is for; an INVITE of a call not seen before rings a new one.
    fn find(self: &Arc<Self>, bytes: &[u8]) -> Option<Phone> {
        let message = Message::parse(bytes)?;
        let call = message.get("call-id")?;
        let mut book = self.book();
        if let Some(phone) = book.by_call.get(call) {
            return Some(phone.clone());
        }
        let caller = book.callers.iter().find(|p| p.lock().agent.call_id() == Some(call)).cloned();
        if let Some(phone) = caller {
            book.by_call.insert(call.to_owned(), phone.clone());
            return Some(phone);
        }
        let profile = book.answering.clone().filter(|_| message.method() == Some("INVITE"))?;
        drop(book);
        let phone = self.install(profile).ok()?;
        let mut book = self.book();
        book.by_call.insert(call.to_owned(), phone.clone());
        let _ = book.answered.send(phone.clone());
        Some(phone)
    }

    fn install(self: &Arc<Self>, profile: Profile) -> io::Result<Phone> {
        let mut book = self.book();
        let avoid = book.avoid;
        let (rtp, rtcp) = media_ports(self.address.ip(), avoid, &mut book.random)?;
        let random = Random::from_rng(&mut book.random);
        let agent = UserAgent::new(profile, self.address, rtp.local_addr()?, random);
        let state = Mutex::new(State { agent, events: Vec::new() });
        let inner = Arc::new(Inner { state, wake: Notify::new(), changed: Notify::new() });
        let phone = Phone { inner };
        let task = tokio::spawn(run(self.clone(), phone.clone(), rtp, rtcp));
        book.tasks.push(task);
        Ok(phone)
    }
}

/// An even UDP port and the one after it, neither of them among `avoid`: what the system gives, or, where it gives only
/// those, any other.
fn media_ports(ip: IpAddr, avoid: Option<(u16, u16)>, random: &mut Random) -> io::Result<(UdpSocket, UdpSocket)> {
    let bind = |port| -> io::Result<std::net::UdpSocket> {
        let socket = std::net::UdpSocket::bind(SocketAddr::new(ip, port))?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    };
    let free = |port: u16| avoid.is_none_or(|(first, last)| port > last || port < first.saturating_sub(1));
    for attempt in 0..2 * PORT_TRIES {
        let wanted = if attempt < PORT_TRIES { 0 } else { random.random_range(LEAST_PORT..u16::MAX) };
        let Ok(rtp) = bind(wanted) else { continue };
        let port = rtp.local_addr()?.port();
        if port % 2 == 0
            && free(port)
            && let Ok(rtcp) = bind(port + 1)
        {
            return Ok((UdpSocket::from_std(rtp)?, UdpSocket::from_std(rtcp)?));
        }
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, "no free pair of RTP ports"))
}

/// One telephone's turn of the wheel: feed, act on time, send, wait.
async fn run(shared: Arc<Shared>, phone: Phone, rtp: UdpSocket, rtcp: UdpSocket) {
    let mut buffer = vec![0; RTP_DATAGRAM];
    let mut control = vec![0; RTP_DATAGRAM];
    loop {
        let (out, next) = {
            let mut state = phone.lock();
            let now = Instant::now();
            state.agent.handle_timeout(now);
            while let Some(event) = state.agent.poll_event() {
                state.events.push((now, event));
            }
            let out: Vec<_> = std::iter::from_fn(|| state.agent.poll_transmit()).collect();
            (out, state.agent.poll_timeout())
        };
        for (port, to, bytes) in out {
            let socket = if port == Port::Sip { &shared.socket } else { &rtp };
            // A full buffer or a dead peer loses the datagram, as a network would.
            let _ = socket.send_to(&bytes, to).await;
        }
        phone.inner.changed.notify_waiters();
        let wait = async {
            match next {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = wait => {}
            () = phone.inner.wake.notified() => {}
            Ok(length) = rtp.recv(&mut buffer) => {
                let mut state = phone.lock();
                let now = Instant::now();
                state.agent.rtp.heard.handle_rtp(now, &buffer[..length]);
                while let Ok(length) = rtp.try_recv(&mut buffer) {
                    state.agent.rtp.heard.handle_rtp(now, &buffer[..length]);
                }
            }
            Ok(length) = rtcp.recv(&mut control) => {
                phone.lock().agent.rtp.heard.handle_rtcp(Instant::now(), &control[..length]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::keys::{Form, typed};
    use std::net::Ipv4Addr;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn two_telephones_talk_over_loopback() {
        let ip = IpAddr::from(Ipv4Addr::LOCALHOST);
        let mut office = Exchange::open(ip, 0, Some(Profile::new("agent")), 1).await.unwrap();
        let outside = Exchange::open(ip, 0, None, 2).await.unwrap();
        let caller = outside.phone(Profile::new("caller")).unwrap();
        caller.with(|a, now| a.invite(now, "agent", office.address()));
        let agent = office.ringing(Duration::from_secs(5)).await.unwrap();
        assert!(caller.until(Duration::from_secs(5), UserAgent::is_up).await);
        caller.with(|a, _| a.press(0, typed("17", Form::Event, 60, 60)));
        assert!(agent.until(Duration::from_secs(5), |a| a.rtp.heard.event_codes() == [1, 7]).await);
        caller.with(|a, now| a.hang_up(now));
        assert!(agent.until(Duration::from_secs(5), UserAgent::is_ended).await);
        assert_eq!(agent.events().last().map(|(_, e)| e.clone()), Some(Event::HungUp));
    }

    #[tokio::test]
    async fn ports_to_be_avoided_are_taken_by_nobody_even_where_the_system_gives_no_others() {
        let ip = IpAddr::from(Ipv4Addr::LOCALHOST);
        let mut random = Random::seed_from_u64(3);
        // The system gives out 32768 to 60999 unless it is told otherwise.
        for avoid in [(30_000, 65_535), (40_000, 49_999)] {
            for _ in 0..20 {
                let (rtp, rtcp) = media_ports(ip, Some(avoid), &mut random).unwrap();
                for socket in [rtp, rtcp] {
                    let port = socket.local_addr().unwrap().port();
                    assert!(!(avoid.0..=avoid.1).contains(&port), "{port}");
                }
            }
        }
    }
}
