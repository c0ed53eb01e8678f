//! The engine between two scripted peers, in virtual time: messages are written by `testkit::simple_sip`, a second
//! implementation, and every message is read back by it. Media and recorder are played by a ledger that checks each
//! order as it comes: no order outside a session's life, no port in two sessions, no unmasking that was not asked for.

mod ledger;
mod line;

use std::collections::{HashMap, HashSet, VecDeque};
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
use tonewall::media::{self, Command, Guard};
use tonewall::obs::event::EventKind;
use tonewall::psp::{Answer, Charge, Outcome};
use tonewall::sip::{Dest, Flow};
use tonewall::testkit::simple_sip::Message;

pub use ledger::{Ledger, Session};
pub use line::*;

pub const SEC: Duration = Duration::from_secs(1);

/// Which peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Who {
    Carrier,
    Pbx,
    /// The PBX trunk's second remote.
    Standby,
    /// A SIPREC recorder, where there is one.
    Recorder,
    /// Its second remote.
    Second,
}

impl Who {
    pub fn at(self) -> SocketAddr {
        match self {
            Who::Carrier => "192.0.2.10:5060",
            Who::Pbx => "10.1.0.20:5060",
            Who::Standby => "10.1.0.21:5060",
            Who::Recorder => "198.51.100.40:5060",
            Who::Second => "198.51.100.41:5060",
        }
        .parse()
        .expect("address")
    }

    pub fn media(self) -> String {
        self.at().ip().to_string()
    }

    pub fn listener(self) -> usize {
        match self {
            Who::Carrier => 0,
            Who::Pbx | Who::Standby => 1,
            Who::Recorder | Who::Second => 2,
        }
    }

    fn of(at: SocketAddr) -> Option<Who> {
        let all = [Who::Carrier, Who::Pbx, Who::Standby, Who::Recorder, Who::Second];
        all.into_iter().find(|who| who.at() == at)
    }
}

pub const OURS: [&str; 3] = ["203.0.113.1:5060", "10.0.0.1:5060", "203.0.113.2:5060"];
pub const OUR_MEDIA: &str = "203.0.113.9";

fn network(text: &str, prefix: u8) -> Network {
    Network { address: text.parse().expect("ip"), prefix }
}

pub fn trunk(name: &str, side: Side, listener: usize, remotes: &[Who], around: (&str, u8)) -> Trunk {
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
        redaction_horizon: Duration::from_secs(12),
        labels: Vec::new(),
        recorders: vec![],
        max_calls: 1_000,
        star_codes: None,
        pass_headers: vec![],
        call_header: None,
        signal_header: Some("X-AC-Action".into()),
        methods: Methods::default(),
        link: Link::default(),
    }
}

/// One of our listeners.
pub fn listener(at: usize) -> Listener {
    Listener {
        name: format!("l{at}"),
        transport: Transport::Udp,
        address: OURS[at].parse().expect("address"),
        advertise: OURS[at].parse().expect("address"),
        options: ListenerOptions::default(),
    }
}

/// Carrier and PBX trunk with routes both ways; 40 port pairs.
pub fn config() -> Config {
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
        recorders: vec![],
        routes: vec![route(0, 1), route(1, 0)],
        control: None,
        webhooks: Webhooks::default(),
        storage: Storage::local("/nowhere".into(), "/nowhere/payments.db".into()),
        connectors: vec![tonewall::config::sandbox()],
        payments: tonewall::config::Payments::default(),
        keys: Keys::default(),
        bounds: Bounds::default(),
        log: Log { level: LogLevel::Info, json: true },
        audit: None,
        canary: None,
        fingerprint: [0; 32],
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
                    RecordOrder::Redact { order, .. } => self.ledger.redactions.push(order),
                    RecordOrder::Mark { mark, .. } => self.ledger.marks.push(mark),
                    RecordOrder::OpenFork { fork, .. } => {
                        assert!(self.ledger.forks.insert(fork, None).is_none(), "a way opened twice");
                    }
                    RecordOrder::Flow { fork, streams, .. } => {
                        *self.ledger.forks.get_mut(&fork).expect("an open way") = streams;
                    }
                    RecordOrder::CloseFork { fork } => {
                        assert!(self.ledger.forks.remove(&fork).is_some(), "a way closed that is not open");
                    }
                    order @ (RecordOrder::CallOver { .. }
                    | RecordOrder::OpenSpill { .. }
                    | RecordOrder::PlaySpill { .. }
                    | RecordOrder::LeaveSpill { .. }
                    | RecordOrder::MarkSpill { .. }) => self.ledger.spills.push(order),
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
                    | EventKind::Recorder { .. }
                    | EventKind::Spill { .. }
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
        assert!(self.ledger.forks.is_empty());
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
    Actor::new("crm", Role::Integration)
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
