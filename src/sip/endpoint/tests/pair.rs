//! A pair of endpoints on a network in virtual time with seeded loss, delay, reordering and duplication: calls are set
//! up, cancelled, refused and ended, thousands of times. At the end no transaction is left and no call is up on one
//! side only. `TONEWALL_SIM_SEED` repeats one run.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use bytes::Bytes;
use rand::RngExt;

use super::*;
use crate::sip::dialog::{Dialog, DialogId};

/// How the network treats a datagram.
#[derive(Clone, Copy)]
struct Weather {
    loss: f64,
    duplicate: f64,
    /// Longest delay in ms; different delays reorder.
    delay: u64,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Arrive {
        to: usize,
        bytes: Bytes,
    },
    /// The user of a node does its next thing with a call.
    Act {
        node: usize,
        call: u32,
        act: Act,
    },
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Clone, Copy)]
enum Act {
    Invite,
    Cancel,
    Ring,
    Answer,
    Refuse,
    HangUp,
}

/// One side of one call.
#[derive(Default)]
struct Side {
    invite_client: Option<ClientId>,
    invite_server: Option<(ServerId, Request)>,
    sent: Option<Request>,
    dialog: Option<Dialog>,
    cancelled: bool,
    hung_up: bool,
    /// Our BYE has its answer, or needs none.
    over: bool,
}

struct Node {
    endpoint: Endpoint,
    sides: BTreeMap<u32, Side>,
    byes: BTreeMap<ClientId, u32>,
}

struct Sim {
    now: Instant,
    random: Random,
    weather: Weather,
    nodes: [Node; 2],
    queue: BinaryHeap<Reverse<(Instant, u64, Happening)>>,
    count: u64,
    answered: usize,
}

fn address(node: usize) -> SocketAddr {
    addr(["192.0.2.1:5060", "192.0.2.2:5060"][node])
}

impl Sim {
    #[allow(clippy::disallowed_methods)]
    fn new(seed: u64, weather: Weather) -> Self {
        let node = |n| Node {
            endpoint: Endpoint::new(EndpointConfig::default(), Random::seed_from_u64(seed * 2 + n)),
            sides: BTreeMap::new(),
            byes: BTreeMap::new(),
        };
        Sim {
            now: Instant::now(),
            random: Random::seed_from_u64(seed),
            weather,
            nodes: [node(0), node(1)],
            queue: BinaryHeap::new(),
            count: 0,
            answered: 0,
        }
    }

    fn later(&mut self, ms: u64, what: Happening) {
        self.count += 1;
        self.queue.push(Reverse((self.now + Duration::from_millis(ms), self.count, what)));
    }

    fn act_later(&mut self, longest_ms: u64, node: usize, call: u32, act: Act) {
        let ms = self.random.random_range(0..=longest_ms);
        self.later(ms, Happening::Act { node, call, act });
    }

    fn run(&mut self, calls: u32) {
        for call in 0..calls {
            let node = usize::from(self.random.random::<bool>());
            self.act_later(20_000, node, call, Act::Invite);
        }
        for _ in 0..5_000_000 {
            self.drain();
            let timers = (0..2).filter_map(|n| self.nodes[n].endpoint.poll_timeout()).min();
            let next = self.queue.peek().map(|Reverse((at, ..))| *at);
            match (timers, next) {
                (None, None) => return,
                (Some(timer), next) if next.is_none_or(|next| timer <= next) => {
                    self.now = self.now.max(timer);
                    for node in &mut self.nodes {
                        node.endpoint.handle_timeout(self.now);
                    }
                }
                _ => {
                    let Some(Reverse((at, _, what))) = self.queue.pop() else { return };
                    self.now = at;
                    match what {
                        Happening::Arrive { to, bytes } => self.arrive(to, &bytes),
                        Happening::Act { node, call, act } => self.act(node, call, act),
                    }
                }
            }
        }
        panic!("the run does not come to an end");
    }

    fn arrive(&mut self, to: usize, bytes: &[u8]) {
        let flow = Flow { local: address(to), remote: address(1 - to), ..flow() };
        self.nodes[to].endpoint.handle_datagram(self.now, &flow, bytes);
    }

    fn drain(&mut self) {
        for node in 0..2 {
            while let Some(event) = self.nodes[node].endpoint.poll_event() {
                self.event(node, event);
            }
            while let Some(transmit) = self.nodes[node].endpoint.poll_transmit() {
                assert_eq!(transmit.flow.remote, address(1 - node));
                let copies = 1 + u32::from(self.random.random_bool(self.weather.duplicate));
                for _ in 0..copies {
                    if !self.random.random_bool(self.weather.loss) {
                        let ms = self.random.random_range(0..=self.weather.delay);
                        let bytes = transmit.bytes.clone();
                        self.later(ms, Happening::Arrive { to: 1 - node, bytes });
                    }
                }
            }
        }
    }

    fn dest(node: usize) -> Dest {
        Dest { remote: address(1 - node), ..dest() }
    }

    fn send(&mut self, node: usize, request: Request) -> ClientId {
        self.nodes[node].endpoint.request(self.now, request, Self::dest(node), address(node))
    }

    fn act(&mut self, node: usize, call: u32, act: Act) {
        let now = self.now;
        match act {
            Act::Invite => {
                let mut invite = ours(Method::Invite);
                invite.headers.set(HeaderName::CallId, format!("{call}@sim"));
                invite.headers.set(HeaderName::Contact, format!("<sip:{}>", address(node)));
                let id = self.send(node, invite.clone());
                let side = self.nodes[node].sides.entry(call).or_default();
                side.invite_client = Some(id);
                side.sent = Some(invite);
                // Every user has a ring timer: an INVITE whose 2xxs are all lost waits for ever otherwise.
                self.later(180_000, Happening::Act { node, call, act: Act::Cancel });
                if self.random.random_bool(0.3) {
                    self.act_later(6_000, node, call, Act::Cancel);
                }
            }
            Act::Cancel => {
                let side = self.nodes[node].sides.get_mut(&call).expect("a call");
                side.cancelled = true;
                if let Some(id) = side.invite_client
                    && side.dialog.is_none()
                {
                    self.nodes[node].endpoint.cancel(now, id, &[]);
                }
            }
            Act::Ring | Act::Answer | Act::Refuse => {
                let node_ref = &mut self.nodes[node];
                let side = node_ref.sides.get_mut(&call).expect("a call");
                let Some((id, invite)) = &side.invite_server else { return };
                let status = match act {
                    Act::Ring => 180,
                    Act::Answer => 200,
                    _ => 486,
                };
                let mut response = Response::for_request(invite, status, "");
                response.set_to_tag(&format!("callee{call}"));
                response.headers.push(HeaderName::Contact, format!("<sip:{}>", address(node)));
                if node_ref.endpoint.respond(now, *id, response) && status == 200 {
                    let mut dialog = Dialog::uas(invite, &format!("callee{call}"), 1).expect("a dialog");
                    dialog.invite_answered(200);
                    side.dialog = Some(dialog);
                    self.answered += 1;
                }
            }
            Act::HangUp => self.hang_up(node, call),
        }
    }

    fn hang_up(&mut self, node: usize, call: u32) {
        let side = self.nodes[node].sides.get_mut(&call).expect("a call");
        if side.hung_up || side.over {
            return;
        }
        let Some(dialog) = &mut side.dialog else { return };
        side.hung_up = true;
        let bye = dialog.next_request(Method::Bye);
        let id = self.send(node, bye);
        self.nodes[node].byes.insert(id, call);
    }

    fn event(&mut self, node: usize, event: Event) {
        let now = self.now;
        match event {
            Event::Request { id, request, .. } => {
                let call: u32 = call_of(request.call_id().expect("a Call-ID"));
                match request.method {
                    Method::Invite => {
                        let side = self.nodes[node].sides.entry(call).or_default();
                        assert!(side.invite_server.is_none(), "one INVITE is one transaction");
                        side.invite_server = Some((id, request));
                        self.act_later(1_000, node, call, Act::Ring);
                        let act = if self.random.random_bool(0.7) { Act::Answer } else { Act::Refuse };
                        self.later(1_000, Happening::Act { node, call, act });
                    }
                    Method::Bye => {
                        let dialog = DialogId::of_request(&request);
                        let side = self.nodes[node].sides.entry(call).or_default();
                        let known = side.dialog.as_ref().is_some_and(|d| Some(d.id()) == dialog.as_ref());
                        let status = if known { 200 } else { 481 };
                        side.over |= known;
                        let response = Response::for_request(&request, status, "");
                        self.nodes[node].endpoint.respond(now, id, response);
                    }
                    other => panic!("{other}"),
                }
            }
            Event::Cancelled { invite, cancel } => {
                let call = call_of(cancel.call_id().expect("a Call-ID"));
                let (id, request) = self.nodes[node].sides[&call].invite_server.as_ref().expect("an INVITE");
                assert_eq!(*id, invite);
                let response = Response::for_request(request, 487, "");
                assert!(self.nodes[node].endpoint.respond(now, invite, response));
            }
            Event::Response { id, response } => self.response(node, id, &response),
            Event::ClientTimeout { id } => self.client_over(node, id),
            Event::Ack { request, .. } => {
                let call = call_of(request.call_id().expect("a Call-ID"));
                self.act_later(60_000, node, call, Act::HangUp);
            }
            Event::ServerTimeout { id } => {
                let sides = &self.nodes[node].sides;
                let call = sides.iter().find(|(_, s)| s.invite_server.as_ref().is_some_and(|(i, _)| *i == id));
                let call = *call.expect("a call").0;
                self.hang_up(node, call);
            }
            Event::TransportFailed { .. } | Event::Malformed { .. } => panic!("{event:?}"),
        }
    }

    fn response(&mut self, node: usize, id: ClientId, response: &Response) {
        if !response.is_final() {
            return;
        }
        let cseq = response.cseq().expect("a CSeq");
        if cseq.method != "INVITE" {
            return self.client_over(node, id);
        }
        if response.class() != 2 {
            return;
        }
        let call = call_of(response.call_id().expect("a Call-ID"));
        let side = self.nodes[node].sides.get_mut(&call).expect("a call");
        let dialog = Dialog::uac(side.sent.as_ref().expect("an INVITE"), response).expect("a dialog");
        let ack = dialog.ack(cseq.number);
        assert!(side.dialog.is_none(), "each 2xx is told once");
        side.dialog = Some(dialog);
        let cancelled = side.cancelled;
        self.nodes[node].endpoint.ack_2xx(self.now, id, ack, Self::dest(node), address(node));
        if cancelled {
            self.hang_up(node, call);
        } else {
            self.act_later(60_000, node, call, Act::HangUp);
        }
    }

    fn client_over(&mut self, node: usize, id: ClientId) {
        if let Some(call) = self.nodes[node].byes.remove(&id) {
            self.nodes[node].sides.get_mut(&call).expect("a call").over = true;
        }
    }

    fn check(&self) {
        for (n, node) in self.nodes.iter().enumerate() {
            assert_eq!(node.endpoint.transactions(), 0, "node {n} holds transactions");
            assert!(node.endpoint.by_key.is_empty(), "node {n} holds keys");
            for (call, side) in &node.sides {
                assert!(side.dialog.is_none() || side.over, "call {call} is still up on node {n}");
            }
        }
    }
}

fn call_of(call_id: &str) -> u32 {
    call_id.split('@').next().and_then(|n| n.parse().ok()).expect("a Call-ID of ours")
}

fn run(seed: u64, weather: Weather, calls: u32) -> usize {
    let result = std::panic::catch_unwind(|| {
        let mut sim = Sim::new(seed, weather);
        sim.run(calls);
        sim.check();
        sim.answered
    });
    match result {
        Ok(answered) => answered,
        Err(panic) => {
            eprintln!("TONEWALL_SIM_SEED={seed} loss {} delay {} ms", weather.loss, weather.delay);
            std::panic::resume_unwind(panic)
        }
    }
}

fn seeds(range: std::ops::Range<u64>) -> Vec<u64> {
    match std::env::var("TONEWALL_SIM_SEED").ok().and_then(|s| s.parse().ok()) {
        Some(seed) => vec![seed],
        None => range.collect(),
    }
}

#[test]
fn calls_on_a_good_network_all_end_clean() {
    let weather = Weather { loss: 0.0, duplicate: 0.0, delay: 20 };
    for seed in seeds(0..10) {
        assert!(run(seed, weather, 100) > 30, "seed {seed}");
    }
}

#[test]
fn calls_on_a_bad_network_leave_nothing_behind() {
    let weather = Weather { loss: 0.2, duplicate: 0.1, delay: 800 };
    for seed in seeds(100..120) {
        assert!(run(seed, weather, 100) > 30, "seed {seed}");
    }
}

#[test]
fn calls_on_a_terrible_network_leave_nothing_behind() {
    let weather = Weather { loss: 0.6, duplicate: 0.3, delay: 3_000 };
    for seed in seeds(200..220) {
        run(seed, weather, 50);
    }
}
