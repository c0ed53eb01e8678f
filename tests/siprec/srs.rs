//! A recording server for tests, on sockets of its own and with a SIP reader of its own: takes sessions over UDP, TCP or TLS,
//! keeps every message and every RTP packet with its time, and misbehaves on demand.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tonewall::dsp::g711::{alaw_decode, ulaw_decode};
use tonewall::testkit::simple_sip::Message;

const TICK: Duration = Duration::from_millis(20);

/// What it does with a session it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// Takes it and wants sound at once.
    Willing,
    /// Takes it and wants no sound yet.
    Waiting,
    /// Refuses it with this status.
    Refusing(u16),
    /// Says nothing at all, not even to OPTIONS.
    Silent,
    /// Takes it and says nothing after that.
    Hanging,
    /// Takes it, and has its media ports closed.
    Deaf,
}

/// A packet as it came.
#[derive(Debug, Clone)]
pub struct Packet {
    pub at: Instant,
    pub bytes: Vec<u8>,
}

impl Packet {
    pub fn timestamp(&self) -> u32 {
        u32::from_be_bytes([self.bytes[4], self.bytes[5], self.bytes[6], self.bytes[7]])
    }

    pub fn sequence(&self) -> u16 {
        u16::from_be_bytes([self.bytes[2], self.bytes[3]])
    }

    pub fn ssrc(&self) -> u32 {
        u32::from_be_bytes([self.bytes[8], self.bytes[9], self.bytes[10], self.bytes[11]])
    }

    pub fn samples(&self) -> Vec<i16> {
        let law = if self.bytes[1] & 0x7f == 8 { alaw_decode } else { ulaw_decode };
        self.bytes[12..].iter().map(|byte| law(*byte)).collect()
    }
}

type Reply = Arc<dyn Fn(&[u8]) + Send + Sync>;

/// A session it was asked for.
#[derive(Clone)]
pub struct Session {
    pub call_id: String,
    /// Descriptions it was given, the first offer first.
    pub descriptions: Vec<(Instant, String)>,
    /// Metadata it was given.
    pub metadata: Vec<String>,
    /// The INVITE that began it.
    pub invite: Message,
    pub ended: bool,
    ports: [u16; 2],
    reply: Reply,
}

impl Session {
    /// The value of an attribute of stream `at` in the last description.
    pub fn attribute(&self, at: usize, name: &str) -> Option<String> {
        let (_, text) = self.descriptions.last()?;
        let section = text.split("\r\nm=").nth(at + 1)?;
        section.split("\r\n").find_map(|line| {
            let line = line.strip_prefix("a=")?;
            let (found, value) = line.split_once(':').unwrap_or((line, ""));
            (found == name).then(|| value.to_owned())
        })
    }
}

#[derive(Default)]
struct State {
    requests: Vec<(Instant, Message)>,
    responses: Vec<Message>,
    sessions: Vec<Session>,
    /// Packets by port.
    rtp: HashMap<u16, Vec<Packet>>,
    sockets: Vec<JoinHandle<()>>,
}

/// The server.
pub struct Srs {
    pub at: SocketAddr,
    inner: Arc<Inner>,
    threads: Vec<JoinHandle<()>>,
}

struct Inner {
    at: SocketAddr,
    transport: &'static str,
    state: Mutex<State>,
    mood: Mutex<Mood>,
    stop: AtomicBool,
    cseq: AtomicU32,
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mood(&self) -> Mood {
        *self.mood.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }
}

impl Srs {
    /// Listens at a place of its own.
    pub fn open(transport: &'static str) -> Srs {
        Srs::open_at(transport, crate::common::free_address(), None)
    }

    /// Listens at `at`; over TLS as `tls` says.
    pub fn open_at(transport: &'static str, at: SocketAddr, tls: Option<Arc<rustls::ServerConfig>>) -> Srs {
        let inner = Arc::new(Inner {
            at,
            transport,
            state: Mutex::default(),
            mood: Mutex::new(Mood::Willing),
            stop: AtomicBool::new(false),
            cseq: AtomicU32::new(100),
        });
        let mut threads = Vec::new();
        if transport == "udp" {
            let socket = Arc::new(UdpSocket::bind(at).expect("the recorder's port"));
            socket.set_read_timeout(Some(TICK)).expect("a timeout");
            let inner = inner.clone();
            threads.push(std::thread::spawn(move || datagrams(&inner, &socket)));
        } else {
            let listener = TcpListener::bind(at).expect("the recorder's port");
            listener.set_nonblocking(true).expect("non-blocking");
            let inner = inner.clone();
            threads.push(std::thread::spawn(move || connections(&inner, &listener, tls.as_ref())));
        }
        Srs { at, inner, threads }
    }

    pub fn set(&self, mood: Mood) {
        *self.inner.mood.lock().unwrap_or_else(PoisonError::into_inner) = mood;
    }

    /// The sessions it took, oldest first.
    pub fn sessions(&self) -> Vec<Session> {
        self.inner.state().sessions.clone()
    }

    /// The sessions that have not ended.
    pub fn live(&self) -> Vec<Session> {
        self.sessions().into_iter().filter(|session| !session.ended).collect()
    }

    /// Requests of this method so far.
    pub fn count(&self, method: &str) -> usize {
        self.inner.state().requests.iter().filter(|(_, request)| request.method() == Some(method)).count()
    }

    /// When it was asked for sessions of calls; what is sent on later is none.
    pub fn asked(&self) -> Vec<Instant> {
        let state = self.inner.state();
        let asks = |request: &Message| {
            let within = request.get("to").and_then(tonewall::testkit::simple_sip::tag).is_some();
            request.method() == Some("INVITE") && !within && request.get("x-tonewall-spill").is_none()
        };
        state.requests.iter().filter(|(_, request)| asks(request)).map(|(at, _)| *at).collect()
    }

    /// Statuses of the answers it got to its own requests.
    pub fn statuses(&self) -> Vec<u16> {
        self.inner.state().responses.iter().filter_map(Message::status).collect()
    }

    /// The last answer with a body.
    pub fn answered(&self) -> Option<String> {
        let state = self.inner.state();
        let last = state.responses.iter().rfind(|response| !response.body.is_empty())?;
        Some(String::from_utf8_lossy(&last.body).into_owned())
    }

    /// Packets of stream `at` of a session.
    pub fn packets(&self, session: &Session, at: usize) -> Vec<Packet> {
        self.inner.state().rtp.get(&session.ports[at]).cloned().unwrap_or_default()
    }

    /// Sound of stream `at`, as it came.
    pub fn sound(&self, session: &Session, at: usize) -> Vec<i16> {
        self.packets(session, at).iter().flat_map(Packet::samples).collect()
    }

    /// Sends a request within a session; with a description if there is `direction`.
    pub fn request(&self, session: &Session, method: &str, direction: Option<&str>) {
        let invite = &session.invite;
        let contact = invite.get("contact").map(tonewall::testkit::simple_sip::uri).unwrap_or_default();
        let cseq = self.inner.cseq.fetch_add(1, Ordering::SeqCst);
        let transport = self.inner.transport.to_uppercase();
        let mut request = Message::new(format!("{method} {contact} SIP/2.0"))
            .with("Via", format!("SIP/2.0/{transport} {};branch=z9hG4bKsrs{cseq}", self.at))
            .with("Max-Forwards", "70")
            .with("From", format!("{};tag=srs", invite.get("to").unwrap_or_default()))
            .with("To", invite.get("from").unwrap_or_default())
            .with("Call-ID", &session.call_id)
            .with("CSeq", format!("{cseq} {method}"))
            .with("Contact", format!("<sip:srs@{}>", self.at));
        if let Some(direction) = direction {
            let text = description(&self.inner, session.ports, direction, &session.descriptions[0].1);
            request = request.with_body("application/sdp", text);
        }
        (session.reply)(&request.print());
    }

    /// Acknowledges the last 2xx to a re-INVITE of its own.
    pub fn acknowledge(&self, session: &Session) {
        let invite = &session.invite;
        let contact = invite.get("contact").map(tonewall::testkit::simple_sip::uri).unwrap_or_default();
        let cseq = self.inner.cseq.load(Ordering::SeqCst) - 1;
        let transport = self.inner.transport.to_uppercase();
        let ack = Message::new(format!("ACK {contact} SIP/2.0"))
            .with("Via", format!("SIP/2.0/{transport} {};branch=z9hG4bKack{cseq}", self.at))
            .with("From", format!("{};tag=srs", invite.get("to").unwrap_or_default()))
            .with("To", invite.get("from").unwrap_or_default())
            .with("Call-ID", &session.call_id)
            .with("CSeq", format!("{cseq} ACK"));
        (session.reply)(&ack.print());
    }
}

impl Drop for Srs {
    fn drop(&mut self) {
        self.inner.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        let sockets = std::mem::take(&mut self.inner.state().sockets);
        for thread in sockets {
            let _ = thread.join();
        }
    }
}

fn datagrams(inner: &Arc<Inner>, socket: &Arc<UdpSocket>) {
    let mut room = vec![0; 65_536];
    while !inner.stopped() {
        let Ok((length, from)) = socket.recv_from(&mut room) else { continue };
        let writer = socket.clone();
        let reply: Reply = Arc::new(move |bytes: &[u8]| {
            let _ = writer.send_to(bytes, from);
        });
        take(inner, &room[..length], &reply);
    }
}

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

fn connections(inner: &Arc<Inner>, listener: &TcpListener, tls: Option<&Arc<rustls::ServerConfig>>) {
    let mut threads = Vec::new();
    while !inner.stopped() {
        let Ok((stream, _)) = listener.accept() else {
            std::thread::sleep(TICK);
            continue;
        };
        let (inner, tls) = (inner.clone(), tls.cloned());
        threads.push(std::thread::spawn(move || {
            stream.set_nonblocking(false).expect("blocking");
            stream.set_read_timeout(Some(TICK)).expect("a timeout");
            let stream: Box<dyn Stream> = match tls {
                None => Box::new(stream),
                Some(config) => {
                    let session = rustls::ServerConnection::new(config).expect("a TLS session");
                    Box::new(rustls::StreamOwned::<_, TcpStream>::new(session, stream))
                }
            };
            connection(&inner, stream);
        }));
    }
    for thread in threads {
        let _ = thread.join();
    }
}

fn connection(inner: &Arc<Inner>, stream: Box<dyn Stream>) {
    let stream = Arc::new(Mutex::new(stream));
    let writer = stream.clone();
    let reply: Reply = Arc::new(move |bytes: &[u8]| {
        let mut stream = writer.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = stream.write_all(bytes).and_then(|()| stream.flush());
    });
    let mut kept = Vec::new();
    let mut room = vec![0; 65_536];
    while !inner.stopped() {
        let read = stream.lock().unwrap_or_else(PoisonError::into_inner).read(&mut room);
        match read {
            Ok(0) => return,
            Ok(length) => kept.extend_from_slice(&room[..length]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(_) => return,
        }
        while let Some(length) = frame(&kept) {
            let message: Vec<u8> = kept.drain(..length).collect();
            take(inner, &message, &reply);
        }
    }
}

/// Length of the first whole message.
fn frame(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    let whole = head + 4 + length.unwrap_or_default();
    (bytes.len() >= whole).then_some(whole)
}

fn take(inner: &Arc<Inner>, bytes: &[u8], reply: &Reply) {
    let Some(message) = Message::parse(bytes) else { return };
    if message.status().is_some() {
        return inner.state().responses.push(message);
    }
    inner.state().requests.push((Instant::now(), message.clone()));
    let mood = inner.mood();
    let within = message.get("to").and_then(tonewall::testkit::simple_sip::tag).is_some();
    if mood == Mood::Silent || (mood == Mood::Hanging && (within || message.method() == Some("OPTIONS"))) {
        return;
    }
    match message.method() {
        Some("INVITE") => invite(inner, &message, within, mood, reply),
        Some("BYE") => {
            let call_id = message.get("call-id").unwrap_or_default().to_owned();
            let mut state = inner.state();
            state.sessions.iter_mut().filter(|session| session.call_id == call_id).for_each(|s| s.ended = true);
            drop(state);
            reply(&answer(inner, &message, 200).print());
        }
        Some("ACK") => {}
        Some(_) => {
            let known = !within || {
                let call_id = message.get("call-id").unwrap_or_default();
                inner.state().sessions.iter().any(|session| session.call_id == call_id && !session.ended)
            };
            reply(&answer(inner, &message, if known { 200 } else { 481 }).print());
        }
        None => {}
    }
}

fn invite(inner: &Arc<Inner>, message: &Message, within: bool, mood: Mood, reply: &Reply) {
    if let (Mood::Refusing(status), false) = (mood, within) {
        return reply(&answer(inner, message, status).print());
    }
    let parts = parts(message);
    let part = |kind: &str| parts.iter().find(|(name, _)| name.starts_with(kind)).map(|(_, text)| text.clone());
    let sdp = part("application/sdp").expect("a description in every INVITE");
    let metadata = part("application/rs-metadata").expect("metadata in every INVITE");
    let call_id = message.get("call-id").unwrap_or_default().to_owned();
    let mut state = inner.state();
    let known = state.sessions.iter().position(|session| session.call_id == call_id);
    let at = match known {
        Some(at) => at,
        None if within => {
            drop(state);
            return reply(&answer(inner, message, 481).print());
        }
        None => {
            let ports = match mood {
                Mood::Deaf => [crate::common::free_port(), crate::common::free_port()],
                _ => [listen(inner, &mut state), listen(inner, &mut state)],
            };
            state.sessions.push(Session {
                call_id,
                descriptions: Vec::new(),
                metadata: Vec::new(),
                invite: message.clone(),
                ended: false,
                ports,
                reply: reply.clone(),
            });
            state.sessions.len() - 1
        }
    };
    let session = &mut state.sessions[at];
    // A repeated INVITE over UDP is the same.
    session.descriptions.push((Instant::now(), sdp.clone()));
    session.metadata.push(metadata);
    session.reply = reply.clone();
    let ports = session.ports;
    drop(state);
    let direction = if mood == Mood::Waiting || sdp.contains("a=inactive") { "inactive" } else { "recvonly" };
    let text = description(inner, ports, direction, &sdp);
    reply(&answer(inner, message, 200).with_body("application/sdp", text).print());
}

/// Its own description, to an offer.
fn description(inner: &Inner, ports: [u16; 2], direction: &str, offer: &str) -> String {
    let ip = inner.at.ip();
    let mut text = format!("v=0\r\no=srs 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\n");
    for (at, port) in ports.into_iter().enumerate() {
        let section = offer.split("\r\nm=").nth(at + 1).unwrap_or_default();
        let mut line = section.lines().next().unwrap_or_default().split(' ').skip(2);
        let (protocol, format) = (line.next().unwrap_or("RTP/AVP"), line.next().unwrap_or("0"));
        text += &format!("m=audio {port} {protocol} {format}\r\na={direction}\r\na=label:{}\r\n", at + 1);
        if let Some(crypto) = section.lines().find(|line| line.contains("AES_CM_128_HMAC_SHA1_80")) {
            // Its own key, which nobody sends by.
            let tag = crypto.trim_start_matches("a=crypto:").split(' ').next().unwrap_or("1");
            let key = "MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkw";
            text += &format!("a=crypto:{tag} AES_CM_128_HMAC_SHA1_80 inline:{key}\r\n");
        }
    }
    text
}

fn answer(inner: &Inner, request: &Message, status: u16) -> Message {
    let mut answer = Message::new(format!("SIP/2.0 {status} So"));
    for via in request.all("via") {
        answer = answer.with("Via", via);
    }
    let to = request.get("to").unwrap_or_default();
    let to = if to.contains("tag=") { to.to_owned() } else { format!("{to};tag=srs") };
    let transport = if inner.transport == "udp" { String::new() } else { format!(";transport={}", inner.transport) };
    answer
        .with("From", request.get("from").unwrap_or_default())
        .with("To", to)
        .with("Call-ID", request.get("call-id").unwrap_or_default())
        .with("CSeq", request.get("cseq").unwrap_or_default())
        .with("Contact", format!("<sip:srs@{}{transport}>", inner.at))
}

/// Types and texts of the parts of a body.
fn parts(message: &Message) -> Vec<(String, String)> {
    let kind = message.get("content-type").unwrap_or_default();
    let boundary = tonewall::testkit::simple_sip::param(kind, "boundary").expect("a boundary").trim_matches('"');
    let body = String::from_utf8(message.body.clone()).expect("text");
    let mut found = Vec::new();
    for part in body.split(&format!("--{boundary}")).skip(1) {
        let Some((head, content)) = part.split_once("\r\n\r\n") else { continue };
        let of = |line: &str| line.to_ascii_lowercase().strip_prefix("content-type:").map(|v| v.trim().to_owned());
        let kind = head.lines().find_map(of).unwrap_or_default();
        found.push((kind, content.strip_suffix("\r\n").unwrap_or(content).to_owned()));
    }
    found
}

/// Opens an RTP port and the RTCP port after it.
fn listen(inner: &Arc<Inner>, state: &mut State) -> u16 {
    let (rtp, rtcp) = loop {
        let rtp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("an RTP port");
        let port = rtp.local_addr().expect("its address").port();
        if port % 2 == 1 {
            continue;
        }
        if let Ok(rtcp) = UdpSocket::bind((Ipv4Addr::LOCALHOST, port + 1)) {
            break (rtp, rtcp);
        }
    };
    let port = rtp.local_addr().expect("its address").port();
    for (socket, is_rtp) in [(rtp, true), (rtcp, false)] {
        socket.set_read_timeout(Some(TICK)).expect("a timeout");
        let inner = inner.clone();
        state.sockets.push(std::thread::spawn(move || {
            let mut room = [0; 2_048];
            while !inner.stopped() {
                let Ok(length) = socket.recv(&mut room) else { continue };
                let at = Instant::now();
                if is_rtp {
                    let packet = Packet { at, bytes: room[..length].to_vec() };
                    inner.state().rtp.entry(port).or_default().push(packet);
                }
            }
        }));
    }
    port
}
