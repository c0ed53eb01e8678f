//! A call's media in virtual time: a customer and an agent with real RTP streams, the network between, and the media
//! worker. Seeded: the same seed gives the same run, byte for byte.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use tonewall::base::Random;
use tonewall::base::ids::{Leg, SessionId};
use tonewall::base::key::MediaKey;
use tonewall::config::{Codec, Network, SrtpSuite};
use tonewall::guard::Masked;
use tonewall::media::{
    AudioFormat, Command, Egress, Event, EventFormat, Guard, LegMedia, MaskedBlock, ReceiveFormats, Security,
    SendFormats, SrtpKeys, Tap, Worker,
};
use tonewall::srtp::{Handshake, MAX_GROWTH, Receiver, Sender};
use tonewall::testkit::heard::Heard;
use tonewall::testkit::net::{Conditions, Datagram, Net};
use tonewall::testkit::rtp_peer::{RtpPeer, Toward};

pub const SESSION: SessionId = SessionId(1);
pub const EVENTS: u8 = 101;
const TICK: Duration = Duration::from_millis(1);

/// Address of a peer.
pub fn peer_address(leg: Leg) -> SocketAddr {
    ["192.0.2.1:4000", "198.51.100.1:5000"][leg.index()].parse().unwrap()
}

/// Our address toward a peer.
pub fn our_address(leg: Leg) -> SocketAddr {
    ["192.0.2.100:20000", "198.51.100.100:20002"][leg.index()].parse().unwrap()
}

fn rtcp(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip(), address.port() + 1)
}

/// Payload type of a codec.
pub fn type_of(codec: Codec) -> u8 {
    match codec {
        Codec::Pcmu => 0,
        Codec::Pcma => 8,
        Codec::G722 => 9,
        Codec::Opus => 111,
        Codec::Foreign(_) => 18,
    }
}

/// What was negotiated with a peer that takes `codec` and, if `events`, telephone-event.
pub fn negotiated(leg: Leg, codec: Codec, events: bool, ptime_ms: u8) -> LegMedia {
    let audio = AudioFormat { payload_type: type_of(codec), codec };
    let event = EventFormat { payload_type: EVENTS, clock_rate: 8_000 };
    LegMedia {
        remote_rtp: Some(peer_address(leg)),
        remote_rtcp: Some(rtcp(peer_address(leg))),
        send: true,
        receive: true,
        rx: ReceiveFormats {
            audio: [audio].into_iter().collect(),
            events: events.then_some(event).into_iter().collect(),
            ..Default::default()
        },
        tx: SendFormats {
            audio: [audio].into_iter().collect(),
            event: events.then_some(event),
            ptime_ms,
            ..Default::default()
        },
        ..LegMedia::idle()
    }
}

/// How a simulated call is set up.
#[derive(Clone)]
pub struct Plan {
    pub seed: u64,
    pub guard: Guard,
    pub back: Guard,
    /// Codec per leg.
    pub codec: [Codec; 2],
    /// Whether each leg has telephone-event.
    pub events: [bool; 2],
    pub ptime_ms: u8,
    pub network: Conditions,
    /// Cipher suite of each leg that is encrypted.
    pub srtp: [Option<SrtpSuite>; 2],
}

impl Plan {
    pub fn new(seed: u64, guard: Guard) -> Self {
        Self {
            seed,
            guard,
            back: Guard::Open,
            codec: [Codec::Pcmu; 2],
            events: [true; 2],
            ptime_ms: 20,
            network: Conditions::CLEAN,
            srtp: [None; 2],
        }
    }
}

/// What left the worker besides packets to peers.
#[derive(Default)]
pub struct Out {
    pub packets: Vec<(Leg, SocketAddr, Vec<u8>)>,
    reports: Vec<(Leg, SocketAddr, Vec<u8>)>,
    pub digits: Vec<(Leg, char, bool)>,
    pub inactive: u32,
    pub closed: Vec<[tonewall::media::LegStats; 2]>,
    pub blocks: Vec<(bool, Vec<i16>)>,
}

impl Egress for Out {
    fn rtp(&mut self, _: SessionId, to: Leg, destination: SocketAddr, packet: Masked<&[u8]>) {
        self.packets.push((to, destination, packet.get().to_vec()));
    }
    fn rtcp(&mut self, _: SessionId, to: Leg, destination: SocketAddr, packet: Masked<&[u8]>) {
        self.reports.push((to, destination, packet.get().to_vec()));
    }
    fn event(&mut self, event: Event) {
        match event {
            Event::Digit { from, digit, masked, .. } => self.digits.push((from, digit.expose_char(), masked)),
            Event::Inactive { .. } => self.inactive += 1,
            Event::Closed { stats, .. } => self.closed.push(stats),
        }
    }
    fn block(&mut self, _: SessionId, block: MaskedBlock) {
        self.blocks.push((block.get().paused, block.get().samples.to_vec()));
    }
}

/// A peer's end of an encrypted leg.
pub struct Wire {
    /// The keys as we know them: `rx` is the peer's.
    pub keys: SrtpKeys,
    pub tx: Sender,
    pub rx: Receiver,
}

impl Wire {
    /// Keys made of one byte each.
    pub fn new(suite: SrtpSuite, theirs: u8, ours: u8, peering: u64) -> Self {
        let key = |fill| MediaKey::new(&vec![fill; suite.key_len() + suite.salt_len()]).unwrap();
        let keys = SrtpKeys { suite, rx: key(theirs), tx: key(ours), peering };
        let (tx, rx) = (Sender::new(suite, &keys.rx).unwrap(), Receiver::new(suite, &keys.tx).unwrap());
        Self { keys, tx, rx }
    }

    pub fn seal(&mut self, packet: &[u8]) -> Vec<u8> {
        let mut room = [0; 1_500 + MAX_GROWTH];
        self.tx.seal_rtp(packet, &mut room).expect("sealed").to_vec()
    }

    pub fn security(&self) -> Security {
        Security::Srtp(Box::new(self.keys.clone()))
    }
}

pub struct Sim {
    pub now: Instant,
    pub began: Instant,
    pub worker: Worker,
    pub peers: [RtpPeer; 2],
    /// Every RTP packet that arrived at each peer.
    pub heard: [Heard; 2],
    pub rtcp: [Vec<Vec<u8>>; 2],
    /// Where our RTP went, each change once; other places than the signalled one are an error unless `roaming`.
    pub sent_to: [Vec<SocketAddr>; 2],
    pub roaming: bool,
    /// RTCP that came from our RTP port.
    pub muxed: [Vec<Vec<u8>>; 2],
    /// Datagrams of handshakes that came from our RTP port.
    pub handshakes: [Vec<Vec<u8>>; 2],
    pub out: Out,
    pub plan: Plan,
    /// Each encrypted leg's other end.
    pub wires: [Option<Wire>; 2],
    net: Net,
    random: Random,
}

impl Sim {
    #[allow(clippy::disallowed_methods)]
    pub fn new(plan: Plan) -> Self {
        let began = Instant::now();
        let mut random = Random::seed_from_u64(plan.seed);
        let mut worker = Worker::new();
        let mut out = Out::default();
        let everywhere = || vec![Network { address: "0.0.0.0".parse().unwrap(), prefix: 0 }];
        let create = Command::Create {
            session: SESSION,
            ports: [20_000, 20_002],
            allowed: [everywhere(), everywhere()],
            toward_agent: plan.guard,
            toward_customer: plan.back,
            inactivity_ms: 5_000,
            seed: random.random(),
        };
        worker.handle_command(began, create, &mut out);
        let mut heard = [Heard::default(), Heard::default()];
        for ear in &mut heard {
            ear.expect_audio(0, Codec::Pcmu);
            ear.expect_audio(8, Codec::Pcma);
            ear.expect_audio(9, Codec::G722);
            ear.expect_audio(111, Codec::Opus);
            ear.expect_events(EVENTS);
        }
        let mut sim = Self {
            now: began,
            began,
            worker,
            peers: [RtpPeer::new(&mut random), RtpPeer::new(&mut random)],
            heard,
            rtcp: Default::default(),
            sent_to: Default::default(),
            roaming: false,
            muxed: Default::default(),
            handshakes: Default::default(),
            out,
            net: Net::new(Random::seed_from_u64(plan.seed ^ 0x5eed)),
            random,
            plan: plan.clone(),
            wires: [0, 1]
                .map(|at| plan.srtp[at].map(|suite| Wire::new(suite, 10 + at as u8, 20 + at as u8, at as u64))),
        };
        for leg in [Leg::Customer, Leg::Agent] {
            let at = leg.index();
            sim.set_leg(leg, negotiated(leg, plan.codec[at], plan.events[at], plan.ptime_ms));
            sim.send_from(leg, plan.codec[at], plan.events[at]);
        }
        sim
    }

    /// Lets a peer send with this codec.
    pub fn send_from(&mut self, leg: Leg, codec: Codec, events: bool) {
        let toward = Toward {
            rtp: our_address(leg),
            audio: (type_of(codec), codec),
            events: events.then_some((EVENTS, 8_000)),
            red: None,
            ptime_ms: u32::from(self.plan.ptime_ms),
            send: true,
        };
        self.peers[leg.index()].set_toward(self.now, Some(toward));
    }

    pub fn set_leg(&mut self, leg: Leg, mut media: LegMedia) {
        if let Some(wire) = &self.wires[leg.index()] {
            media.security = wire.security();
        }
        self.order(Command::SetLeg { session: SESSION, leg, media });
    }

    pub fn set_guard(&mut self, guard: Guard) {
        self.order(Command::SetGuard { session: SESSION, from: Leg::Customer, guard });
    }

    pub fn set_tap(&mut self, tap: Tap) {
        self.order(Command::SetTap { session: SESSION, tap });
    }

    pub fn order(&mut self, command: Command) {
        self.worker.handle_command(self.now, command, &mut self.out);
        self.flush();
    }

    /// Gives the worker a datagram at once, from any address.
    pub fn inject(&mut self, leg: Leg, source: SocketAddr, bytes: &[u8]) {
        self.worker.handle_rtp(self.now, SESSION, leg, source, bytes, &mut self.out);
        self.flush();
    }

    pub fn inject_rtcp(&mut self, leg: Leg, source: SocketAddr, bytes: &[u8]) {
        self.worker.handle_rtcp(self.now, SESSION, leg, source, bytes, &mut self.out);
        self.flush();
    }

    fn flush(&mut self) {
        for (to, destination, bytes) in self.out.packets.drain(..) {
            // What leaves us arrives at once: what the network does after us is not our doing.
            assert!(self.roaming || destination == peer_address(to), "sent to {destination}");
            if self.sent_to[to.index()].last() != Some(&destination) {
                self.sent_to[to.index()].push(destination);
            }
            if Handshake::is_dtls(&bytes) {
                self.handshakes[to.index()].push(bytes);
                continue;
            }
            let mut bytes = bytes;
            let is_report = tonewall::rtp::rtcp::is_rtcp(&bytes);
            if let Some(wire) = &mut self.wires[to.index()] {
                let length = if is_report { wire.rx.open_rtcp(&mut bytes) } else { wire.rx.open_rtp(&mut bytes) };
                let length = length.expect("sealed by us");
                bytes.truncate(length);
            }
            if is_report {
                self.muxed[to.index()].push(bytes);
                continue;
            }
            self.heard[to.index()].handle_rtp(self.now, &bytes);
        }
        for (to, _, bytes) in self.out.reports.drain(..) {
            let mut bytes = bytes;
            if let Some(wire) = &mut self.wires[to.index()] {
                let length = wire.rx.open_rtcp(&mut bytes).expect("sealed by us");
                bytes.truncate(length);
            }
            self.rtcp[to.index()].push(bytes);
        }
    }

    /// Runs for `ms` of virtual time in steps of 1 ms, as the ticked worker does.
    pub fn run(&mut self, ms: u64) {
        for _ in 0..ms {
            self.now += TICK;
            for leg in [Leg::Customer, Leg::Agent] {
                let peer = &mut self.peers[leg.index()];
                peer.handle_timeout(self.now);
                while let Some((to, bytes)) = peer.poll_transmit() {
                    let bytes = match &mut self.wires[leg.index()] {
                        Some(wire) => wire.seal(&bytes),
                        None => bytes,
                    };
                    let datagram = Datagram { from: peer_address(leg), to, bytes };
                    self.net.send(self.now, datagram, &self.plan.network);
                }
                while let Some((digit, duration_ms)) = self.peers[leg.index()].poll_info() {
                    let session = SESSION;
                    self.order(Command::InfoDigit { session, from: leg, digit, duration_ms });
                }
            }
            while let Some(datagram) = self.net.receive(self.now) {
                let leg = if datagram.to == our_address(Leg::Customer) { Leg::Customer } else { Leg::Agent };
                self.inject(leg, datagram.from, &datagram.bytes);
            }
            if self.worker.poll_timeout().is_some_and(|due| due <= self.now) {
                self.worker.handle_timeout(self.now, &mut self.out);
                self.flush();
            }
        }
    }

    /// The digits reported from the customer.
    pub fn collected(&self) -> String {
        self.out.digits.iter().filter(|(from, ..)| *from == Leg::Customer).map(|(_, digit, _)| *digit).collect()
    }

    /// A random number from the run's seed.
    pub fn draw(&mut self, range: std::ops::Range<u64>) -> u64 {
        self.random.random_range(range)
    }

    /// What the agent heard, on real time since the beginning: each packet's samples at its place by timestamp from the
    /// first, and where the first was.
    pub fn agent_ear(&self) -> (Duration, Vec<i16>) {
        let streams = self.heard[Leg::Agent.index()].streams();
        assert_eq!(streams.len(), 1, "one SSRC for the whole call");
        (streams[0].began - self.began, streams[0].samples.clone())
    }
}
