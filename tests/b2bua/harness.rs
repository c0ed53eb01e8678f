//! The engine between two scripted peers, in virtual time: messages are written by `testkit::simple_sip`, a second
//! implementation, and every message is read back by it. Media and recorder are played by a ledger that checks each
//! order as it comes: no order outside a session's life, no port in two sessions, no unmasking that was not asked for.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use tonewall::base::Random;
use tonewall::base::ids::{CallId, Leg, SessionId};
use tonewall::base::secret::Digit;
use tonewall::base::time::WallMs;
use tonewall::call::{Actor, CallView, Engine, Find, RecordOrder, RecorderReport, Reply, Signal};
use tonewall::capture::Handover;
use tonewall::config::*;
use tonewall::media::{self, Command, Guard, LegMedia, Tap};
use tonewall::obs::event::EventKind;
use tonewall::psp::{Answer, Charge, Outcome};
use tonewall::sip::{Dest, Flow};
use tonewall::testkit::simple_sip::{Message, tag, uri};

pub const SEC: Duration = Duration::from_secs(1);

/// Which peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Who {
    Carrier,
    Pbx,
    /// The PBX trunk's second remote.
    Standby,
}

impl Who {
    pub fn at(self) -> SocketAddr {
        match self {
            Who::Carrier => "192.0.2.10:5060",
            Who::Pbx => "10.1.0.20:5060",
            Who::Standby => "10.1.0.21:5060",
        }
        .parse()
        .expect("address")
    }

    pub fn media(self) -> String {
        self.at().ip().to_string()
    }

    pub fn listener(self) -> usize {
        usize::from(self != Who::Carrier)
    }

    fn of(at: SocketAddr) -> Option<Who> {
        [Who::Carrier, Who::Pbx, Who::Standby].into_iter().find(|who| who.at() == at)
    }
}

pub const OURS: [&str; 2] = ["203.0.113.1:5060", "10.0.0.1:5060"];
pub const OUR_MEDIA: &str = "203.0.113.9";

fn network(text: &str, prefix: u8) -> Network {
    Network { address: text.parse().expect("ip"), prefix }
}

fn trunk(name: &str, side: Side, listener: usize, remotes: &[Who], around: (&str, u8)) -> Trunk {
    Trunk {
        name: name.into(),
        side,
        listener: ListenerId(listener),
        remotes: remotes.iter().map(|who| who.at()).collect(),
        sources: vec![network(around.0, around.1)],
        media: vec![network(around.0, around.1)],
        codecs: vec![Codec::Pcmu, Codec::Pcma],
        unmaskable: Unmaskable::Strip,
        t38: T38::Refuse,
        ptime_ms: 20,
        srtp: Srtp::Off,
        srtp_keying: SrtpKeying::Sdes,
        srtp_suites: SrtpSuite::USUAL.to_vec(),
        rtcp_mux: false,
        latch: false,
        dtmf: DtmfForms { events: true, info: true },
        guard: GuardMode::Signal,
        auto: tonewall::config::Auto::default(),
        mask: MaskKind::Silence,
        hold_default: 60 * SEC,
        hold_max: 600 * SEC,
        recording: RecordingPolicy::Off,
        max_calls: 1_000,
        star_codes: None,
        pass_headers: vec![],
        call_header: None,
        methods: Methods::default(),
        link: Link::default(),
    }
}

/// Carrier and PBX trunk with routes both ways; 40 port pairs.
pub fn config() -> Config {
    let listener = |at: usize| Listener {
        name: format!("l{at}"),
        transport: Transport::Udp,
        address: OURS[at].parse().expect("address"),
        advertise: OURS[at].parse().expect("address"),
        options: ListenerOptions::default(),
    };
    let route = |from, to| Route {
        from: TrunkId(from),
        prefix: String::new(),
        to: vec![TrunkId(to)],
        numbers: Numbers::default(),
    };
    Config {
        node: Node { name: "test-node".into(), max_calls: 1_000 },
        listeners: vec![listener(0), listener(1)],
        media: Media {
            address: OUR_MEDIA.parse().expect("ip"),
            advertise: OUR_MEDIA.parse().expect("ip"),
            ports: (30_000, 30_159),
            workers: 1,
            inactivity: 60 * SEC,
            port_quarantine: 2 * SEC,
        },
        trunks: vec![
            trunk("carrier", Side::Carrier, 0, &[Who::Carrier], ("192.0.2.0", 24)),
            trunk("pbx", Side::Pbx, 1, &[Who::Pbx], ("10.1.0.0", 16)),
        ],
        routes: vec![route(0, 1), route(1, 0)],
        control: None,
        webhooks: Webhooks::default(),
        storage: Storage { recordings: "/nowhere".into(), payments: "/nowhere/payments.db".into() },
        connectors: vec![tonewall::config::sandbox()],
        keys: Keys::default(),
        bounds: Bounds::default(),
        log: Log { level: LogLevel::Info, json: true },
    }
}

/// Media and recorder as the engine's orders make them.
#[derive(Default)]
pub struct Ledger {
    pub sessions: BTreeMap<SessionId, Session>,
    pub ended: Vec<(SessionId, Session)>,
    pub sent_digits: Vec<(Leg, char)>,
    pub info_digits: Vec<(Leg, char)>,
    pub recordings_open: usize,
    resting: HashMap<u16, Instant>,
}

/// A media session.
pub struct Session {
    pub ports: [u16; 2],
    pub toward_agent: Guard,
    pub toward_customer: Guard,
    pub legs: [LegMedia; 2],
    pub allowed: [Vec<Network>; 2],
    pub tap: Tap,
}

impl Ledger {
    fn obey(&mut self, now: Instant, order: Command) -> Option<SessionId> {
        let id = order.session();
        if !matches!(order, Command::Create { .. }) {
            assert!(self.sessions.contains_key(&id), "an order outside the session's life: {order:?}");
        }
        let session = self.sessions.get_mut(&id);
        match order {
            Command::Create { ports, toward_agent, toward_customer, allowed, .. } => {
                assert!(session.is_none(), "a session made twice");
                let live = self.sessions.values().flat_map(|s| s.ports);
                assert!(!live.chain([0]).any(|port| ports.contains(&port)), "a port in two sessions");
                for port in ports {
                    assert!(port % 2 == 0 && (30_000..30_159).contains(&port));
                    assert!(self.resting.get(&port).is_none_or(|at| *at <= now), "a port without its rest");
                }
                let legs = [LegMedia::idle(), LegMedia::idle()];
                let session = Session { ports, toward_agent, toward_customer, legs, allowed, tap: Tap::Off };
                self.sessions.insert(id, session);
            }
            Command::SetLeg { leg, media, .. } => session.expect("live").legs[leg.index()] = media,
            Command::SetAllowed { leg, networks, .. } => session.expect("live").allowed[leg.index()] = networks,
            Command::SetGuard { from, guard, .. } => match from {
                Leg::Customer => session.expect("live").toward_agent = guard,
                Leg::Agent => session.expect("live").toward_customer = guard,
            },
            Command::SetTap { tap, .. } => session.expect("live").tap = tap,
            Command::InfoDigit { from, digit, .. } => self.info_digits.push((from, digit.expose_char())),
            Command::SendDigit { to, digit, .. } => self.sent_digits.push((to, digit.expose_char())),
            Command::Close { .. } => {
                let session = self.sessions.remove(&id).expect("live");
                for port in session.ports {
                    self.resting.insert(port, now + 2 * SEC);
                }
                self.ended.push((id, session));
                return Some(id);
            }
        }
        None
    }
}

/// The engine and its surroundings.
pub struct World {
    pub now: Instant,
    pub engine: Engine,
    pub ledger: Ledger,
    pub inbox: HashMap<Who, VecDeque<Message>>,
    /// The carrier has one TCP connection to us, by this name.
    pub carrier_tcp: Option<u64>,
    /// Where the last message to each peer went.
    pub dests: HashMap<Who, Dest>,
    /// Every byte sent to each peer.
    pub wire: HashMap<Who, Vec<u8>>,
    pub events: Vec<EventKind>,
    pub handovers: Vec<Handover>,
    pub charges: Vec<Charge>,
    /// The media session of each call.
    of_call: HashMap<CallId, SessionId>,
    last_session: Option<SessionId>,
    /// Calls started and not ended.
    live: HashSet<CallId>,
    counter: u32,
}

impl World {
    pub fn new() -> Self {
        Self::with(|_| ())
    }

    #[allow(clippy::disallowed_methods)]
    pub fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = config();
        change(&mut config);
        let now = Instant::now();
        let mut engine = Engine::new(Arc::new(config), Random::seed_from_u64(7));
        // 2026-11-22.
        engine.set_wall(now, WallMs(1_795_305_600_000));
        Self {
            now,
            engine,
            ledger: Ledger::default(),
            inbox: HashMap::new(),
            carrier_tcp: None,
            dests: HashMap::new(),
            wire: HashMap::new(),
            events: Vec::new(),
            handovers: Vec::new(),
            charges: Vec::new(),
            of_call: HashMap::new(),
            last_session: None,
            live: HashSet::new(),
            counter: 0,
        }
    }

    /// A number never used before.
    pub fn next(&mut self) -> u32 {
        self.counter += 1;
        self.counter
    }

    pub fn flow(who: Who) -> Flow {
        Flow {
            listener: ListenerId(who.listener()),
            transport: Transport::Udp,
            local: OURS[who.listener()].parse().expect("address"),
            remote: who.at(),
            connection: None,
            trunk: None,
        }
    }

    /// `who` sends a message.
    pub fn send(&mut self, who: Who, message: &Message) {
        self.send_bytes(who, &message.print());
    }

    pub fn send_bytes(&mut self, who: Who, bytes: &[u8]) {
        let mut flow = Self::flow(who);
        if let (Who::Carrier, Some(name)) = (who, self.carrier_tcp) {
            let remote = SocketAddr::new(who.at().ip(), 40_000);
            flow = Flow { transport: Transport::Tcp, connection: Some(name), remote, ..flow };
        }
        self.engine.handle_datagram(self.now, &flow, bytes);
        self.drain();
    }

    /// Carries everything out of the engine.
    pub fn drain(&mut self) {
        loop {
            let mut busy = false;
            while let Some(order) = self.engine.poll_media() {
                busy = true;
                if matches!(order, Command::Create { .. }) {
                    self.last_session = Some(order.session());
                }
                if let Some(session) = self.ledger.obey(self.now, order) {
                    let stats = Default::default();
                    self.engine.handle_media(self.now, media::Event::Closed { session, stats });
                }
            }
            while let Some(order) = self.engine.poll_record() {
                busy = true;
                match order {
                    RecordOrder::Open { .. } => self.ledger.recordings_open += 1,
                    RecordOrder::Close { recording } => {
                        self.ledger.recordings_open -= 1;
                        self.engine.handle_recorder(self.now, recording, RecorderReport::Closed);
                    }
                }
            }
            while let Some(transmit) = self.engine.poll_transmit() {
                busy = true;
                let who = match transmit.flow.connection {
                    Some(name) => {
                        assert_eq!(Some(name), self.carrier_tcp);
                        Who::Carrier
                    }
                    None => Who::of(transmit.flow.remote).expect("sent to nobody we know"),
                };
                self.dests.insert(who, transmit.flow);
                assert_eq!(transmit.flow.listener, ListenerId(who.listener()));
                let message = Message::parse(&transmit.bytes).expect("a readable message");
                self.wire.entry(who).or_default().extend_from_slice(&transmit.bytes);
                self.inbox.entry(who).or_default().push_back(message);
            }
            while let Some((call, event)) = self.engine.poll_event() {
                busy = true;
                match &event {
                    EventKind::CallStarted { .. } => {
                        let call = call.expect("a call");
                        assert!(self.live.insert(call));
                        // Media is ordered first: the newest session is this call's.
                        self.of_call.extend(self.last_session.take().map(|session| (call, session)));
                    }
                    EventKind::CallEnded { .. } => assert!(self.live.remove(&call.expect("a call")), "ended twice"),
                    // Recorder and media report after their call.
                    // So does a payment provider.
                    EventKind::Recording { .. }
                    | EventKind::CallMedia { .. }
                    | EventKind::PaymentEnded { .. }
                    | EventKind::PaymentReconciled { .. } => {}
                    _ => assert!(self.live.contains(&call.expect("a call")), "{event:?} of a call that is over"),
                }
                self.events.push(event);
            }
            while let Some(handover) = self.engine.poll_handover() {
                busy = true;
                self.handovers.push(handover);
            }
            while let Some(charge) = self.engine.poll_charge() {
                busy = true;
                self.charges.push(charge);
            }
            if !busy {
                return;
            }
        }
    }

    /// Takes events that belong to no call of this run.
    pub fn drain_orphan_events(&mut self) {
        while let Some((call, event)) = self.engine.poll_event() {
            assert_eq!(call, None);
            self.events.push(event);
        }
    }

    /// The payment provider answers the newest charge.
    pub fn provider(&mut self, outcome: Outcome) {
        let charge = self.charges.last().expect("a charge");
        let answer = Answer { payment: charge.payment, attempt: charge.attempt, outcome };
        self.engine.handle_payment(self.now, answer);
        self.drain();
    }

    /// Lets time pass, firing every timer on its way.
    pub fn advance(&mut self, by: Duration) {
        let until = self.now + by;
        while let Some(at) = self.engine.poll_timeout().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.engine.handle_timeout(self.now);
            self.drain();
        }
        self.now = until;
    }

    /// The next message `who` got.
    pub fn next_for(&mut self, who: Who) -> Option<Message> {
        self.inbox.entry(who).or_default().pop_front()
    }

    /// The next message `who` got must be this request or status (`"BYE"`, `"200"`); 100 is skipped.
    pub fn expect(&mut self, who: Who, what: &str) -> Message {
        loop {
            let message = self.next_for(who).unwrap_or_else(|| panic!("{who:?} got nothing, wanted {what}"));
            if message.status() == Some(100) && what != "100" {
                continue;
            }
            let is = message.method() == Some(what) || message.status().is_some_and(|s| s.to_string() == what);
            assert!(is, "{who:?} wanted {what}, got {}", message.start);
            return message;
        }
    }

    /// `who` got nothing more but 100s.
    pub fn expect_silence(&mut self, who: Who) {
        while let Some(message) = self.next_for(who) {
            assert_eq!(message.status(), Some(100), "{who:?} got {}", message.start);
        }
    }

    pub fn view(&mut self) -> CallView {
        self.views().pop().expect("a call")
    }

    pub fn views(&mut self) -> Vec<CallView> {
        match self.engine.handle_signal(self.now, Signal::Find { find: Find::default(), limit: 9_999 }) {
            Ok(Reply::Calls(calls)) => calls,
            other => panic!("{other:?}"),
        }
    }

    pub fn signal(&mut self, signal: Signal) -> Result<Reply, tonewall::call::SignalError> {
        let reply = self.engine.handle_signal(self.now, signal);
        self.drain();
        reply
    }

    /// The one live session.
    pub fn session(&self) -> &Session {
        assert_eq!(self.ledger.sessions.len(), 1);
        self.ledger.sessions.values().next().expect("a session")
    }

    /// The media session of a call.
    pub fn session_of(&self, call: CallId) -> Option<SessionId> {
        self.of_call.get(&call).copied()
    }

    /// A key press as media reports it.
    pub fn press(&mut self, from: Leg, keys: &str) {
        let session = *self.ledger.sessions.keys().next().expect("a session");
        for key in keys.chars() {
            let digit = Digit::from_char(key).expect("a key");
            let guard = match from {
                Leg::Customer => self.session().toward_agent,
                Leg::Agent => self.session().toward_customer,
            };
            let masked = matches!(guard, Guard::Masked(_) | Guard::Withhold);
            self.engine.handle_media(self.now, media::Event::Digit { session, from, digit, at: self.now, masked });
            self.drain();
        }
    }

    pub fn masked(&self) -> bool {
        matches!(self.session().toward_agent, Guard::Masked(_))
    }

    /// Everything is freed and nobody waits: after the last call, when time has passed.
    pub fn expect_clean(&mut self) {
        self.advance(120 * SEC);
        assert_eq!(self.engine.calls(), 0);
        assert!(self.live.is_empty() && self.ledger.sessions.is_empty());
        assert_eq!(self.ledger.recordings_open, 0);
        assert_eq!(self.engine.transactions(), 0);
        assert!(self.engine.is_idle());
        assert_eq!(self.engine.poll_timeout(), None, "a timer without a cause");
    }

    pub fn ended(&self) -> Vec<(tonewall::obs::event::EndCause, Option<u16>)> {
        let end = |event: &EventKind| match event {
            EventKind::CallEnded { cause, status, .. } => Some((*cause, *status)),
            _ => None,
        };
        self.events.iter().filter_map(end).collect()
    }
}

pub fn actor() -> Actor {
    Actor { name: "crm".into(), role: Role::Integration }
}

/// One peer's end of a dialog.
#[derive(Debug, Clone)]
pub struct Line {
    pub who: Who,
    pub call_id: String,
    pub local: String,
    pub remote: String,
    pub target: String,
    pub cseq: u32,
    /// CSeq of the last INVITE: that of its ACK and CANCEL.
    pub invite: u32,
}

/// A body as a telephone writes it.
pub fn sdp(who: Who, version: u32, formats: &str, direction: &str) -> String {
    let ip = who.media();
    let mut text = format!(
        "v=0\r\no=phone-{who:?} 4711 {version} IN IP4 {ip}\r\ns=Secret Name\r\nc=IN IP4 {ip}\r\nt=0 0\r\n\
         m=audio {} RTP/AVP {formats}\r\n",
        6_000 + who.listener() * 1_000,
    );
    for format in formats.split(' ') {
        text += match format {
            "0" => "a=rtpmap:0 PCMU/8000\r\n",
            "8" => "a=rtpmap:8 PCMA/8000\r\n",
            _ => "a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n",
        };
    }
    text + &format!("a=candidate:1 1 UDP 1 {ip} 6000 typ host\r\na={direction}\r\n")
}

pub const BOTH: &str = "0 8 101";

impl Line {
    /// A caller's line, before its INVITE.
    pub fn new(world: &mut World, who: Who, to: &str) -> Line {
        let n = world.next();
        let ip = who.at().ip();
        let ours = OURS[who.listener()];
        Line {
            who,
            call_id: format!("callid-{n}-{who:?}@{ip}"),
            local: format!("\"Caller {n}\" <sip:+4930{n}@{ip}>;tag=tag-{who:?}-{n}"),
            remote: format!("<sip:{to}@{ours}>"),
            target: format!("sip:{to}@{ours}"),
            cseq: 0,
            invite: 0,
        }
    }

    /// The next request on this line.
    pub fn request(&mut self, world: &mut World, method: &str) -> Message {
        if !matches!(method, "ACK" | "CANCEL") {
            self.cseq += 1;
        }
        if method == "INVITE" {
            self.invite = self.cseq;
        }
        let cseq = if matches!(method, "ACK" | "CANCEL") { self.invite } else { self.cseq };
        let n = world.next();
        let at = self.who.at();
        Message::new(format!("{method} {} SIP/2.0", self.target))
            .with("Via", format!("SIP/2.0/UDP {at};branch=z9hG4bK-{:?}-{n};rport", self.who))
            .with("Max-Forwards", "70")
            .with("From", self.local.clone())
            .with("To", self.remote.clone())
            .with("Call-ID", self.call_id.clone())
            .with("CSeq", format!("{cseq} {method}"))
            .with("Contact", format!("<sip:contact-{:?}@{at}>", self.who))
            .with("Allow", "INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, UPDATE")
            .with("User-Agent", format!("Agent-of-{:?}", self.who))
    }

    /// A request with SDP.
    pub fn offer(&mut self, world: &mut World, method: &str, body: &str) -> Message {
        self.request(world, method).with_body("application/sdp", body)
    }

    /// Takes tag and target from a response to our INVITE.
    pub fn follow(&mut self, response: &Message) {
        self.remote = response.get("to").expect("To").to_owned();
        self.target = uri(response.get("contact").expect("Contact")).to_owned();
    }

    /// The ACK for a 2xx.
    pub fn ack(&mut self, world: &mut World) -> Message {
        self.request(world, "ACK")
    }

    /// The called side's line, from the INVITE and the tag it answers with.
    pub fn called(who: Who, invite: &Message, our_tag: &str) -> Line {
        Line {
            who,
            call_id: invite.get("call-id").expect("Call-ID").to_owned(),
            local: format!("{};tag={our_tag}", invite.get("to").expect("To")),
            remote: invite.get("from").expect("From").to_owned(),
            target: uri(invite.get("contact").expect("Contact")).to_owned(),
            cseq: 100,
            invite: 0,
        }
    }
}

/// A response of `who` to `request`.
pub fn reply(who: Who, request: &Message, status: u16, our_tag: &str) -> Message {
    let mut response = Message::new(format!("SIP/2.0 {status} Whatever"));
    for (name, value) in &request.headers {
        let lower = name.to_ascii_lowercase();
        let value = match lower.as_str() {
            "to" if tag(value).is_none() && status > 100 => format!("{value};tag={our_tag}"),
            "via" | "from" | "to" | "call-id" | "cseq" | "record-route" => value.clone(),
            _ => continue,
        };
        response.headers.push((name.clone(), value));
    }
    response
        .with("Contact", format!("<sip:contact-{who:?}@{}>", who.at()))
        .with("Allow", "INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, UPDATE")
        .with("Server", format!("Server-of-{who:?}"))
}

/// A request's or response's body as text.
pub fn text(message: &Message) -> String {
    String::from_utf8_lossy(&message.body).into_owned()
}

/// An INVITE on its way: the caller's line and INVITE, and ours as the called side got it.
pub struct Dialling {
    pub caller: Line,
    pub invite: Message,
    pub theirs: Message,
    pub to: Who,
}

impl Dialling {
    /// The called side answers the INVITE.
    pub fn reply(&self, status: u16, tag: &str) -> Message {
        reply(self.to, &self.theirs, status, tag)
    }

    /// The same, with a body.
    pub fn described(&self, status: u16, tag: &str, formats: &str) -> Message {
        self.reply(status, tag).with_body("application/sdp", sdp(self.to, 1, formats, "sendrecv"))
    }

    /// The caller cancels.
    pub fn cancel(&mut self, world: &mut World) -> Message {
        let cancel = self.caller.request(world, "CANCEL");
        with_branch(cancel, &self.invite)
    }

    /// The caller takes the 200 and acknowledges it.
    pub fn connect(&mut self, world: &mut World) -> Message {
        let ok = world.expect(self.caller.who, "200");
        self.caller.follow(&ok);
        let ack = self.caller.ack(world);
        world.send(self.caller.who, &ack);
        ok
    }
}

/// A message with the branch of `like`: the CANCEL of an INVITE, the ACK of a refusal.
pub fn with_branch(mut message: Message, like: &Message) -> Message {
    let via = like.get("via").expect("Via").to_owned();
    for (name, value) in &mut message.headers {
        if name == "Via" {
            value.clone_from(&via);
        }
    }
    message
}

/// A call that is up: both ends' lines.
pub struct Up {
    pub caller: Line,
    pub callee: Line,
}

impl World {
    /// The carrier's INVITE reaches the PBX.
    pub fn dial(&mut self) -> Dialling {
        self.dial_with(|invite| invite.with_body("application/sdp", sdp(Who::Carrier, 1, BOTH, "sendrecv")))
    }

    /// The same, with what `change` makes of the INVITE.
    pub fn dial_with(&mut self, change: impl FnOnce(Message) -> Message) -> Dialling {
        let mut caller = Line::new(self, Who::Carrier, "1001");
        let invite = change(caller.request(self, "INVITE"));
        self.send(Who::Carrier, &invite);
        let theirs = self.expect(Who::Pbx, "INVITE");
        Dialling { caller, invite, theirs, to: Who::Pbx }
    }

    /// Sets up a call from the carrier to the PBX.
    pub fn call(&mut self) -> Up {
        self.call_from(Who::Carrier, Who::Pbx)
    }

    pub fn call_from(&mut self, from: Who, to: Who) -> Up {
        let mut caller = Line::new(self, from, "1001");
        let invite = caller.offer(self, "INVITE", &sdp(from, 1, BOTH, "sendrecv"));
        self.send(from, &invite);
        let theirs = self.expect(to, "INVITE");
        let callee_tag = format!("callee-{}", self.next());
        self.send(to, &reply(to, &theirs, 180, &callee_tag));
        self.expect(from, "180");
        let ok = reply(to, &theirs, 200, &callee_tag).with_body("application/sdp", sdp(to, 1, BOTH, "sendrecv"));
        self.send(to, &ok);
        self.expect(to, "ACK");
        let answer = self.expect(from, "200");
        caller.follow(&answer);
        let ack = caller.ack(self);
        self.send(from, &ack);
        let callee = Line::called(to, &theirs, &callee_tag);
        Up { caller, callee }
    }

    /// `line` hangs up; the other side's end is `other`.
    pub fn hang_up(&mut self, line: &mut Line, other: Who) {
        let bye = line.request(self, "BYE");
        self.send(line.who, &bye);
        self.expect(line.who, "200");
        let bye = self.expect(other, "BYE");
        self.send(other, &reply(other, &bye, 200, ""));
    }
}
