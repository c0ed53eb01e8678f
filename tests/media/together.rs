//! Many calls heard together come out as each does alone: two workers get the same packets, orders and times, one hears
//! each packet at once, the other all of a wake-up in one turn.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tonewall::base::ids::{Leg, SessionId};
use tonewall::base::secret::Digit;
use tonewall::config::{Codec, MaskKind, Network};
use tonewall::guard::Masked;
use tonewall::media::{
    AudioFormat, Command, Egress, Event, EventFormat, Guard, LegMedia, MaskedBlock, ReceiveFormats, SendFormats, Tap,
    Worker,
};
use tonewall::testkit::companding::ulaw_encode;
use tonewall::testkit::speech::Talker;
use tonewall::testkit::tones::{Draw, Law, Plan, line};

const SESSIONS: u64 = 36;
const ROUNDS: usize = 150;

/// All that left, by session, each kind in its order.
#[derive(Default, PartialEq)]
struct Out {
    packets: BTreeMap<u64, Vec<(bool, Vec<u8>)>>,
    events: BTreeMap<u64, Vec<String>>,
    blocks: BTreeMap<u64, Vec<Vec<i16>>>,
    keys: usize,
}

impl Egress for Out {
    fn rtp(&mut self, session: SessionId, to: Leg, _: SocketAddr, packet: Masked<&[u8]>) {
        self.packets.entry(session.0).or_default().push((to == Leg::Agent, packet.get().to_vec()));
    }
    fn rtcp(&mut self, session: SessionId, to: Leg, _: SocketAddr, packet: Masked<&[u8]>) {
        self.packets.entry(session.0).or_default().push((to == Leg::Agent, packet.get().to_vec()));
    }
    fn event(&mut self, event: Event) {
        if let Event::Digit { session, from, digit, at, masked } = event {
            self.keys += 1;
            let told = format!("{from:?} {} {at:?} {masked}", digit.expose_char());
            self.events.entry(session.0).or_default().push(told);
        }
    }
    fn block(&mut self, session: SessionId, block: MaskedBlock) {
        self.blocks.entry(session.0).or_default().push(block.get().samples.to_vec());
    }
}

fn address(leg: Leg) -> SocketAddr {
    ["192.0.2.1:4000", "198.51.100.1:5000"][leg.index()].parse().expect("an address")
}

fn guard(n: usize) -> Guard {
    match n % 7 {
        0 => Guard::Open,
        1 | 2 => Guard::Listen,
        3 => Guard::Withhold,
        4 => Guard::Masked(MaskKind::Silence),
        5 => Guard::Masked(MaskKind::Tone),
        _ => Guard::Masked(MaskKind::ComfortNoise),
    }
}

fn orders(session: SessionId) -> Vec<Command> {
    let everywhere = || vec![Network { address: "0.0.0.0".parse().expect("an address"), prefix: 0 }];
    let mut orders = vec![Command::Create {
        session,
        ports: [20_000, 20_002],
        allowed: [everywhere(), everywhere()],
        toward_agent: guard(session.0 as usize),
        toward_customer: Guard::Listen,
        inactivity_ms: 0,
        seed: session.0,
    }];
    for leg in [Leg::Customer, Leg::Agent] {
        let pcmu = AudioFormat { payload_type: 0, codec: Codec::Pcmu };
        let event = EventFormat { payload_type: 101, clock_rate: 8_000 };
        let media = LegMedia {
            remote_rtp: Some(address(leg)),
            remote_rtcp: Some(address(leg)),
            send: true,
            receive: true,
            rx: ReceiveFormats {
                audio: [pcmu].into_iter().collect(),
                events: [event].into_iter().collect(),
                ..ReceiveFormats::default()
            },
            tx: SendFormats {
                audio: [pcmu].into_iter().collect(),
                event: Some(event),
                ptime_ms: 20,
                ..SendFormats::default()
            },
            ..LegMedia::idle()
        };
        orders.push(Command::SetLeg { session, leg, media });
    }
    orders
}

/// An order that may come at any time.
fn any_order(draw: &mut Draw, session: SessionId) -> Command {
    let digit = || Digit::from_char('7').expect("a key");
    match draw.below(5) {
        0 | 1 => Command::SetGuard { session, from: Leg::Customer, guard: guard(draw.below(7)) },
        2 => Command::InfoDigit { session, from: Leg::Customer, digit: digit(), duration_ms: 100 },
        3 => Command::SendDigit { session, to: Leg::Agent, digit: digit(), duration_ms: 100 },
        _ => Command::SetTap { session, tap: [Tap::On, Tap::Paused, Tap::Off][draw.below(3)] },
    }
}

#[test]
fn calls_heard_together_come_out_as_each_does_alone() {
    // Words, then keys: every line begins somewhere else.
    let mut sound = Talker::new(5, -20.0).say(16_000);
    sound.extend(line(&Plan { presses: 40, ..Plan::default() }, 3).samples);
    Law::Mu.through(&mut sound);
    let mut draw = Draw::new(11);
    let (mut one, mut other) = (Worker::new(), Worker::new());
    let (mut each, mut together) = (Out::default(), Out::default());
    let mut now = Instant::now();
    for session in (0..SESSIONS).map(SessionId) {
        for order in orders(session) {
            one.handle_command(now, order.clone(), &mut each);
            other.handle_command(now, order, &mut together);
        }
    }
    let packet = |session: u64, leg: Leg, round: usize| {
        let at = (round * 160 + session as usize * 1_111 + leg.index() * 7_777) % (sound.len() - 160);
        let mut bytes = [0u8; 172];
        bytes[0] = 0x80;
        bytes[2..4].copy_from_slice(&(round as u16).to_be_bytes());
        bytes[4..8].copy_from_slice(&(round as u32 * 160).to_be_bytes());
        for (byte, sample) in bytes[12..].iter_mut().zip(&sound[at..at + 160]) {
            *byte = ulaw_encode(*sample);
        }
        bytes
    };
    for round in 0..ROUNDS {
        let mut arrivals = Vec::new();
        for session in 0..SESSIONS {
            for leg in [Leg::Customer, Leg::Agent] {
                match draw.below(40) {
                    // Lost; twice; after the next one.
                    0 => {}
                    1 => arrivals.extend([(session, leg, round); 2]),
                    2 => arrivals.extend([(session, leg, round + 1), (session, leg, round)]),
                    _ => arrivals.push((session, leg, round)),
                }
            }
        }
        let kept: Vec<_> = (0..arrivals.len()).map(|_| draw.unit() < 0.01).collect();
        for ((session, leg, number), order) in arrivals.into_iter().zip(kept) {
            let (id, bytes) = (SessionId(session), packet(session, leg, number));
            one.handle_rtp(now, id, leg, address(leg), &bytes, &mut each);
            other.take_rtp(now, now, id, leg, address(leg), &bytes, &mut together);
            if order {
                // In the middle of a wake-up, and before what came is heard.
                let order = any_order(&mut draw, id);
                one.handle_command(now, order.clone(), &mut each);
                other.handle_command(now, order, &mut together);
            }
        }
        other.hear(&mut together);
        for _ in 0..20 {
            now += Duration::from_millis(1);
            one.handle_timeout(now, &mut each);
            other.handle_timeout(now, &mut together);
        }
    }
    assert!(each.keys > 300, "{} keys were told", each.keys);
    assert_eq!(each.keys, together.keys);
    assert!(each.events == together.events, "other keys");
    assert!(each.packets == together.packets, "other packets");
    assert!(each.blocks == together.blocks && !each.blocks.is_empty(), "other blocks");
}
