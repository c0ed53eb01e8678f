//! A whole site in virtual time: a caller, Tonewall's own cores (`call::Engine` and `media::Worker`), an agent, a CRM
//! that signals, a recorder that keeps what it is given, and the [`Net`] between them with seeded loss, delay, reorder
//! and duplication. A scenario reads as a story; the same seed plays the same story.
//!
//! ```text
//!  caller 10.1.0.1 ── path ── 10.0.0.1 Tonewall ── path ── 10.2.0.1 agent
//!                                │ blocks   ▲ signals
//!                             recorder     CRM
//! ```
//!
//! Panics name the seed, and tests print it on any other failure. With `TONEWALL_SIM_PCAP=file` in the environment every story writes what was on
//! the wire; the seed is added to the name.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::SeedableRng;

use super::net::{Conditions, Datagram, Net};
use super::pcap::Pcap;
use super::simple_sip::Message;
use super::site::Site;
use super::ua::{Answer, Event as Heard, Port, Profile, UserAgent};
use crate::base::Random;
use crate::base::ids::{CallId, Leg, RecordingId, SessionId};
use crate::base::secret::Digits;
use crate::base::time::WallMs;
use crate::call::{
    Actor, CallView, CollectionRequest, Engine, Find, HoldView, RecordOrder, RecorderReport, Reply, Signal, SignalError,
};
use crate::config::{Config, ListenerId, Role, Transport};
use crate::guard::Masked;
use crate::media::{self, Command, Egress, MaskedBlock, Worker};
use crate::obs::event::{EventKind, HoldKind};
use crate::psp::Charge;
use crate::sip::endpoint::Flow;

const CARRIER_LISTENER: &str = "10.0.0.1:5060";
const PBX_LISTENER: &str = "10.0.0.1:5080";
const CALLER: (&str, &str) = ("10.1.0.1:5060", "10.1.0.1:4000");
const AGENT: (&str, &str) = ("10.2.0.1:5060", "10.2.0.1:4000");
const COLLEAGUE: (&str, &str) = (AGENT.0, "10.2.0.1:4100");

/// One end of the simulated call.
pub struct Party {
    /// The telephone.
    pub phone: UserAgent,
    /// What happened to it, with the time since the start.
    pub log: Vec<(Duration, Heard)>,
    sip: SocketAddr,
    media: SocketAddr,
}

impl Party {
    fn new(profile: Profile, (sip, media): (&str, &str), random: Random) -> Self {
        let (sip, media) = (address(sip), address(media));
        Self { phone: UserAgent::new(profile, sip, media, random), log: Vec::new(), sip, media }
    }

    /// What happened to it, without times.
    pub fn story(&self) -> Vec<Heard> {
        self.log.iter().map(|(_, event)| event.clone()).collect()
    }
}

/// A recording as the recorder was given it.
#[derive(Default)]
pub struct Tape {
    /// The customer's side, 8 kHz.
    pub customer: Vec<i16>,
    /// The agent's side, 8 kHz.
    pub agent: Vec<i16>,
    /// Whether each block was a marked gap.
    pub paused: Vec<bool>,
    /// Each block as it was given: time since the start, samples, whether a marked gap.
    pub given: Vec<(Duration, usize, bool)>,
    /// Closed in order.
    pub closed: bool,
}

/// A recorder beside the simulated one: what the engine orders and the tap gives goes there too.
pub trait Deck {
    /// An order of the engine's.
    fn order(&mut self, now: Instant, order: &RecordOrder);
    /// 100 ms of a session.
    fn block(&mut self, now: Instant, session: SessionId, block: MaskedBlock);
}

/// The simulated site.
pub struct Sim {
    /// A recorder beside the simulated one.
    pub deck: Option<Box<dyn Deck>>,
    seed: u64,
    start: Instant,
    now: Instant,
    net: Net,
    /// What signalling suffers.
    pub sip_path: Conditions,
    /// What media suffers.
    pub rtp_path: Conditions,
    config: Arc<Config>,
    engine: Engine,
    worker: Worker,
    sessions: HashMap<SessionId, [u16; 2]>,
    /// The caller on the carrier side.
    pub caller: Party,
    /// The agent on the PBX side.
    pub agent: Party,
    /// Another agent, who takes what comes to the PBX while the first has a call.
    pub colleague: Party,
    /// Tonewall's events, with the time since the start.
    pub events: Vec<(Duration, EventKind)>,
    /// What was handed over by finished collections.
    pub collected: Vec<Digits>,
    /// What went to the payment provider, which says nothing unless a story makes it.
    pub charges: Vec<Charge>,
    tapes: HashMap<RecordingId, (SessionId, Tape)>,
    media_out: Outbox,
    pcap: Option<(PathBuf, Pcap)>,
    wire: Option<Vec<Datagram>>,
}

/// What the media worker let out in one turn.
#[derive(Default)]
struct Outbox {
    packets: Vec<(SessionId, Leg, SocketAddr, bool, Vec<u8>)>,
    events: Vec<media::Event>,
    blocks: Vec<(SessionId, MaskedBlock)>,
}

impl Egress for Outbox {
    fn rtp(&mut self, session: SessionId, to: Leg, destination: SocketAddr, packet: Masked<&[u8]>) {
        self.packets.push((session, to, destination, false, packet.get().to_vec()));
    }

    fn rtcp(&mut self, session: SessionId, to: Leg, destination: SocketAddr, packet: Masked<&[u8]>) {
        self.packets.push((session, to, destination, true, packet.get().to_vec()));
    }

    fn event(&mut self, event: media::Event) {
        self.events.push(event);
    }

    fn block(&mut self, session: SessionId, block: MaskedBlock) {
        self.blocks.push((session, block));
    }
}

impl Sim {
    /// A site with a changed configuration (one carrier, one PBX, guard by signal, clean paths) and its telephones.
    /// Virtual time counts from `start`.
    pub fn new(seed: u64, start: Instant, change: impl FnOnce(Site) -> Site, caller: Profile, agent: Profile) -> Self {
        let random = |stream: u64| Random::seed_from_u64(seed.wrapping_mul(1_000).wrapping_add(stream));
        let site = Site::new(address(CARRIER_LISTENER), address(CALLER.0), address(PBX_LISTENER), address(AGENT.0));
        let config = Arc::new(change(site).config());
        let pcap = std::env::var_os("TONEWALL_SIM_PCAP").map(|path| {
            let mut path = PathBuf::from(path);
            let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            path.set_file_name(format!("{stem}-{seed}.pcap"));
            (path, Pcap::default())
        });
        Self {
            deck: None,
            seed,
            start,
            now: start,
            net: Net::new(random(1)),
            sip_path: Conditions::CLEAN,
            rtp_path: Conditions::CLEAN,
            engine: Engine::new(config.clone(), random(2)),
            config,
            worker: Worker::new(),
            sessions: HashMap::new(),
            caller: Party::new(caller, CALLER, random(3)),
            colleague: Party::new(Profile { answer: Answer::After(300), ..agent.clone() }, COLLEAGUE, random(6)),
            agent: Party::new(agent, AGENT, random(4)),
            events: Vec::new(),
            collected: Vec::new(),
            charges: Vec::new(),
            tapes: HashMap::new(),
            media_out: Outbox::default(),
            pcap,
            wire: None,
        }
    }

    /// The seed, to be printed when a story goes wrong.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Keeps every datagram sent from now on, for [`Sim::wire`].
    pub fn keep_wire(&mut self) {
        self.wire.get_or_insert_default();
    }

    /// The datagrams sent by anyone since [`Sim::keep_wire`], in order, lost ones too.
    pub fn wire(&self) -> &[Datagram] {
        self.wire.as_deref().unwrap_or_default()
    }

    /// Tonewall's address.
    pub fn proxy() -> IpAddr {
        address(PBX_LISTENER).ip()
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// The caller calls the agent; runs until both are up, or panics after ten seconds.
    pub fn connect(&mut self) -> CallId {
        self.dial();
        self.run_until(10_000, |sim| sim.caller.phone.is_up() && sim.agent.phone.is_up());
        self.call().id
    }

    /// The caller calls the agent and does not wait.
    pub fn dial(&mut self) {
        let now = self.now;
        self.caller.phone.invite(now, "5551000", address(CARRIER_LISTENER));
        self.settle();
    }

    /// Does something with the caller's telephone now.
    pub fn caller<R>(&mut self, act: impl FnOnce(&mut UserAgent, Instant) -> R) -> R {
        let result = act(&mut self.caller.phone, self.now);
        self.settle();
        result
    }

    /// Does something with the agent's telephone now.
    pub fn agent<R>(&mut self, act: impl FnOnce(&mut UserAgent, Instant) -> R) -> R {
        let result = act(&mut self.agent.phone, self.now);
        self.settle();
        result
    }

    /// Does something with the other agent's telephone now.
    pub fn colleague<R>(&mut self, act: impl FnOnce(&mut UserAgent, Instant) -> R) -> R {
        let result = act(&mut self.colleague.phone, self.now);
        self.settle();
        result
    }

    /// The CRM signals.
    ///
    /// # Errors
    /// Tonewall turned the signal down.
    pub fn signal(&mut self, signal: Signal) -> Result<Reply, SignalError> {
        // 2026-11-22: cards are past or not by it.
        self.engine.set_wall(self.now, WallMs(1_795_305_600_000));
        let reply = self.engine.handle_signal(self.now, signal);
        self.settle();
        reply
    }

    /// The one call there is; panics when there is none.
    pub fn call(&mut self) -> CallView {
        match self.signal(Signal::Find { find: Find::default(), limit: 10 }) {
            Ok(Reply::Calls(calls)) if calls.len() == 1 => calls[0].clone(),
            other => panic!("seed {}: expected one call, got {other:?}", self.seed),
        }
    }

    /// The CRM takes holds on the call.
    pub fn hold(&mut self, kinds: &[HoldKind]) -> Vec<HoldView> {
        let call = self.call().id;
        let (kinds, reason) = (kinds.to_vec(), "payment".to_owned());
        match self.signal(Signal::TakeHolds { call, kinds, reason, ttl: None, actor: crm() }) {
            Ok(Reply::Holds(holds)) => holds,
            other => panic!("seed {}: holds were not given: {other:?}", self.seed),
        }
    }

    /// The CRM gives holds back.
    pub fn release(&mut self, holds: &[HoldView]) {
        let call = self.call().id;
        for hold in holds {
            let reply = self.signal(Signal::ReleaseHold { call, hold: hold.id, actor: crm() });
            assert_eq!(reply, Ok(Reply::Done), "seed {}", self.seed);
        }
    }

    /// The CRM starts a collection.
    pub fn collect(&mut self, request: CollectionRequest) {
        let call = self.call().id;
        let reply = self.signal(Signal::StartCollection { call, request, actor: crm() });
        assert!(matches!(reply, Ok(Reply::Collection(_))), "seed {}: {reply:?}", self.seed);
    }

    /// Tonewall dies as by `kill -9` and is started again at once: its calls, sessions and timers are gone, its
    /// recordings stay as they are.
    pub fn crash(&mut self) {
        let random = Random::seed_from_u64(self.seed.wrapping_mul(1_000).wrapping_add(5));
        self.engine = Engine::new(self.config.clone(), random);
        self.worker = Worker::new();
        self.sessions.clear();
        self.media_out = Outbox::default();
        self.settle();
    }

    /// The recorder fails for every recording that is open.
    pub fn fail_recorder(&mut self) {
        let open: Vec<RecordingId> = self.tapes.iter().filter(|(_, (_, t))| !t.closed).map(|(id, _)| *id).collect();
        for recording in open {
            if let Some((_, tape)) = self.tapes.get_mut(&recording) {
                tape.closed = true;
            }
            self.engine.handle_recorder(self.now, recording, RecorderReport::Failed);
        }
        self.settle();
    }

    /// Tonewall takes no new call from now on.
    pub fn drain(&mut self) {
        self.engine.drain(self.now);
        self.settle();
    }

    /// Whether nothing is left of any call: no dialog, transaction to be finished, media session or recording.
    pub fn is_quiet(&self) -> bool {
        self.engine.is_idle() && self.worker.is_empty()
    }

    /// What the recorder was given, over all recordings.
    pub fn tapes(&self) -> impl Iterator<Item = &Tape> {
        self.tapes.values().map(|(_, tape)| tape)
    }

    /// What the recorder was given; panics unless there is exactly one recording.
    pub fn tape(&self) -> &Tape {
        assert_eq!(self.tapes.len(), 1, "seed {}: one recording", self.seed);
        &self.tapes.values().next().expect("one recording").1
    }

    /// Lets time pass.
    pub fn run_for(&mut self, ms: u64) {
        let end = self.now + Duration::from_millis(ms);
        self.settle();
        while let Some(next) = self.next().filter(|at| *at <= end) {
            self.step(next);
        }
        self.now = end;
    }

    /// Lets time pass until `condition` holds; panics when it does not within `ms`.
    pub fn run_until(&mut self, ms: u64, condition: impl Fn(&Sim) -> bool) {
        let end = self.now + Duration::from_millis(ms);
        self.settle();
        while !condition(self) {
            let Some(next) = self.next().filter(|at| *at <= end) else {
                panic!(
                    "seed {}: nothing came of it in {ms} ms; caller {:?}, agent {:?}, events {:?}",
                    self.seed,
                    self.caller.story(),
                    self.agent.story(),
                    self.events
                );
            };
            self.step(next);
        }
    }

    fn next(&mut self) -> Option<Instant> {
        let parties = [&self.caller, &self.agent, &self.colleague].map(|party| party.phone.poll_timeout());
        let cores = [self.engine.poll_timeout(), self.worker.poll_timeout(), self.net.poll_timeout()];
        parties.into_iter().chain(cores).flatten().min()
    }

    fn step(&mut self, next: Instant) {
        self.now = self.now.max(next);
        while let Some(datagram) = self.net.receive(self.now) {
            self.deliver(&datagram);
        }
        self.caller.phone.handle_timeout(self.now);
        self.agent.phone.handle_timeout(self.now);
        self.colleague.phone.handle_timeout(self.now);
        if self.engine.poll_timeout().is_some_and(|at| at <= self.now) {
            self.engine.handle_timeout(self.now);
        }
        self.worker.handle_timeout(self.now, &mut self.media_out);
        self.settle();
    }

    fn deliver(&mut self, datagram: &Datagram) {
        let Datagram { from, to, bytes } = datagram;
        let for_colleague = *to == self.colleague.sip && self.is_for_colleague(bytes);
        if for_colleague {
            return self.colleague.phone.handle_sip(self.now, *from, bytes);
        }
        for party in [&mut self.caller, &mut self.agent, &mut self.colleague] {
            if *to == party.sip {
                return party.phone.handle_sip(self.now, *from, bytes);
            }
            let ports = party.media.port()..party.media.port() + 2;
            if to.ip() == party.media.ip() && ports.contains(&to.port()) {
                let heard = &mut party.phone.rtp.heard;
                return if to.port() == party.media.port() {
                    heard.handle_rtp(self.now, bytes);
                } else {
                    heard.handle_rtcp(self.now, bytes);
                };
            }
        }
        for (at, listener) in [CARRIER_LISTENER, PBX_LISTENER].into_iter().enumerate() {
            let local = address(listener);
            if *to == local {
                let listener = ListenerId(at);
                let flow =
                    Flow { listener, transport: Transport::Udp, local, remote: *from, connection: None, trunk: None };
                return self.engine.handle_datagram(self.now, &flow, bytes);
            }
        }
        let target = self.sessions.iter().find_map(|(session, ports)| {
            [Leg::Customer, Leg::Agent].into_iter().find_map(|leg| match to.port().checked_sub(ports[leg.index()]) {
                Some(0) => Some((*session, leg, false)),
                Some(1) => Some((*session, leg, true)),
                _ => None,
            })
        });
        match target {
            Some((session, leg, false)) => {
                self.worker.handle_rtp(self.now, session, leg, *from, bytes, &mut self.media_out);
            }
            Some((session, leg, true)) => {
                self.worker.handle_rtcp(self.now, session, leg, *from, bytes, &mut self.media_out);
            }
            None => {}
        }
    }

    /// Whether a message to the PBX is for the other agent: of a call of his, or a new one while the first agent has one.
    fn is_for_colleague(&self, bytes: &[u8]) -> bool {
        let Some(message) = Message::parse(bytes) else { return false };
        let call_id = message.get("call-id");
        if call_id.is_some() && call_id == self.colleague.phone.call_id() {
            return true;
        }
        let new = message.method() == Some("INVITE") && call_id != self.agent.phone.call_id();
        new && self.colleague.phone.is_idle() && !self.agent.phone.is_idle()
    }

    /// Carries everything that came out to where it goes, until nothing comes out any more.
    fn settle(&mut self) {
        loop {
            let mut moved = self.settle_engine();
            moved |= self.settle_media();
            moved |= self.settle_phones();
            if !moved {
                return;
            }
        }
    }

    fn settle_engine(&mut self) -> bool {
        let mut moved = false;
        while let Some(order) = self.engine.poll_record() {
            moved = true;
            if let Some(deck) = &mut self.deck {
                deck.order(self.now, &order);
            }
            match order {
                RecordOrder::Open { recording, session, .. } => {
                    self.tapes.insert(recording, (session, Tape::default()));
                }
                RecordOrder::Redact { .. } | RecordOrder::Mark { .. } => {}
                RecordOrder::OpenFork { .. }
                | RecordOrder::Flow { .. }
                | RecordOrder::CloseFork { .. }
                | RecordOrder::CallOver { .. }
                | RecordOrder::OpenSpill { .. }
                | RecordOrder::PlaySpill { .. }
                | RecordOrder::LeaveSpill { .. }
                | RecordOrder::MarkSpill { .. } => {}
                RecordOrder::Close { recording } => {
                    if let Some((_, tape)) = self.tapes.get_mut(&recording) {
                        tape.closed = true;
                    }
                    self.engine.handle_recorder(self.now, recording, RecorderReport::Closed);
                }
            }
        }
        while let Some(command) = self.engine.poll_media() {
            moved = true;
            match &command {
                Command::Create { session, ports, .. } => drop(self.sessions.insert(*session, *ports)),
                Command::Close { .. } => {}
                _ => {}
            }
            self.worker.handle_command(self.now, command, &mut self.media_out);
        }
        while let Some(charge) = self.engine.poll_charge() {
            moved = true;
            self.charges.push(charge);
        }
        while let Some(handover) = self.engine.poll_handover() {
            moved = true;
            self.collected.push(handover.digits);
        }
        while let Some((_, kind)) = self.engine.poll_event() {
            moved = true;
            self.events.push((self.now - self.start, kind));
        }
        while let Some(transmit) = self.engine.poll_transmit() {
            moved = true;
            let from = address([CARRIER_LISTENER, PBX_LISTENER][transmit.flow.listener.0]);
            let datagram = Datagram { from, to: transmit.flow.remote, bytes: transmit.bytes.to_vec() };
            self.put(datagram, self.sip_path);
        }
        moved
    }

    fn settle_media(&mut self) -> bool {
        let Outbox { packets, events, blocks } = std::mem::take(&mut self.media_out);
        let moved = !packets.is_empty() || !events.is_empty() || !blocks.is_empty();
        for (session, leg, to, rtcp, bytes) in packets {
            let Some(ports) = self.sessions.get(&session) else { continue };
            let from = SocketAddr::new(address(PBX_LISTENER).ip(), ports[leg.index()] + u16::from(rtcp));
            self.put(Datagram { from, to, bytes }, self.rtp_path);
        }
        for (session, given) in blocks {
            let block = given.get();
            for (of, tape) in self.tapes.values_mut() {
                if *of == session && !tape.closed {
                    tape.paused.push(block.paused);
                    tape.given.push((self.now - self.start, block.samples.len(), block.paused));
                    tape.customer.extend(block.samples.iter().step_by(2));
                    tape.agent.extend(block.samples.iter().skip(1).step_by(2));
                }
            }
            if let Some(deck) = &mut self.deck {
                deck.block(self.now, session, given);
            }
        }
        for event in events {
            self.engine.handle_media(self.now, event);
        }
        moved
    }

    fn settle_phones(&mut self) -> bool {
        let mut out = Vec::new();
        for party in [&mut self.caller, &mut self.agent, &mut self.colleague] {
            while let Some((port, to, bytes)) = party.phone.poll_transmit() {
                let (from, sip) = if port == Port::Sip { (party.sip, true) } else { (party.media, false) };
                out.push((Datagram { from, to, bytes }, sip));
            }
            while let Some(event) = party.phone.poll_event() {
                party.log.push((self.now - self.start, event));
            }
        }
        let moved = !out.is_empty();
        for (datagram, sip) in out {
            let path = if sip { self.sip_path } else { self.rtp_path };
            self.put(datagram, path);
        }
        moved
    }

    fn put(&mut self, datagram: Datagram, path: Conditions) {
        if let Some((_, pcap)) = &mut self.pcap {
            pcap.add(self.now - self.start, datagram.from, datagram.to, &datagram.bytes);
        }
        if let Some(wire) = &mut self.wire {
            wire.push(datagram.clone());
        }
        self.net.send(self.now, datagram, &path);
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        if let Some((path, pcap)) = &self.pcap
            && let Err(error) = std::fs::write(path, pcap.bytes())
        {
            eprintln!("{}: {error}", path.display());
        }
    }
}

/// The CRM's API key.
fn crm() -> Actor {
    Actor::new("crm", Role::Integration)
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("a literal address")
}
