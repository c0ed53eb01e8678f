//! Where a trunk's calls may be sent now: its targets by priority and weight, those that names stand for included, without
//! the ones that are down or asked for peace. Probe answers, call outcomes, DNS answers and the time go in; the order to
//! try targets in, probes and questions come out. Messages choose no target (threats R16).
//!
//! ```text
//!  up ── `lost` probes without answer ─► down ── `good` answered in a row ─► up
//!  up ── a call met silence or no transport ─► tried last for a while
//!  up ── 503 with Retry-After ─► not tried until then
//! ```

pub(super) mod view;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt;

use super::crossing;
use super::routing::{self, NoRoute, Target};
use super::shared::{Asked, Shared};
use crate::base::Random;
use crate::base::bucket::Bucket;
use crate::base::time::soonest;
use crate::config::{Config, Place, Side, Trunk, TrunkId};
use crate::obs::event::EventKind;
use crate::sip::dns::{Answer, Name, Question, Resolver};
use crate::sip::msg::HeaderName;
use crate::sip::{ClientId, Dest, Response};

/// How long a target is tried last after a call met silence there.
const PENALTY: Duration = Duration::from_secs(30);
/// The longest that a Retry-After keeps calls away.
const PEACE: Duration = Duration::from_secs(300);
/// How long a probe may go unanswered.
const PROBE_PATIENCE: Duration = Duration::from_secs(4);
/// Addresses that a name once had and that dialogs may still be with.
const FORMER: usize = 64;

/// What a call or probe met at a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Met {
    /// An answer of any kind.
    Answer,
    /// 503, with its Retry-After if it had one.
    Busy(Option<Duration>),
    /// Silence, or no way to it.
    Nothing,
}

impl Met {
    /// What a response says of its sender.
    pub(super) fn of(response: &Response) -> Met {
        match response.status {
            503 => {
                let wait = response.headers.get(HeaderName::RetryAfter).and_then(|value| {
                    let digits = value.iter().take_while(|byte| byte.is_ascii_digit()).count();
                    std::str::from_utf8(&value[..digits]).ok()?.parse().ok()
                });
                Met::Busy(wait.map(Duration::from_secs))
            }
            _ => Met::Answer,
        }
    }
}

/// A target as it is now.
#[derive(Debug)]
struct Spot {
    at: SocketAddr,
    priority: u32,
    weight: u16,
    up: bool,
    lost: u32,
    good: u32,
    penalty: Option<Instant>,
    peace: Option<Instant>,
    probe_at: Option<Instant>,
    /// The probe under way, and until when its answer is waited for.
    probing: Option<(ClientId, Instant)>,
}

impl Spot {
    /// A target of which nothing is known: it counts as up.
    fn new(at: SocketAddr, priority: u32, weight: u16) -> Self {
        Self {
            at,
            priority,
            weight,
            up: true,
            lost: 0,
            good: 0,
            penalty: None,
            peace: None,
            probe_at: None,
            probing: None,
        }
    }
}

/// One trunk.
#[derive(Debug)]
struct State {
    spots: Vec<Spot>,
    /// Names among its targets: place in the resolver's list, priority, weight.
    names: Vec<(usize, u16, u16)>,
    inbound: Bucket,
    outbound: Bucket,
}

/// Every trunk of the node.
#[derive(Debug)]
pub(super) struct Trunks {
    states: Vec<State>,
    resolver: Resolver,
    /// The trunk of each name of the resolver.
    named: Vec<TrunkId>,
    started: bool,
}

impl Trunks {
    pub(super) fn new(config: &Config) -> Self {
        let state = |trunk: &Trunk| State {
            spots: Vec::new(),
            names: Vec::new(),
            inbound: Bucket::new(trunk.link.max_calls_per_s),
            outbound: Bucket::new(trunk.link.max_calls_per_s),
        };
        let mut trunks = Self {
            states: config.trunks.iter().map(state).collect(),
            resolver: Resolver::default(),
            named: Vec::new(),
            started: false,
        };
        for at in 0..config.trunks.len() {
            trunks.gather(config, TrunkId(at));
        }
        trunks
    }

    /// Puts a trunk's targets together from addresses and what is known of names; what was known of a target stays known.
    fn gather(&mut self, config: &Config, id: TrunkId) {
        let trunk = &config.trunks[id.0];
        let state = &mut self.states[id.0];
        let mut wanted: Vec<(SocketAddr, u32, u16)> = Vec::new();
        let rank = |ours: u16, theirs: u16| u32::from(ours) << 16 | u32::from(theirs);
        if trunk.link.targets.is_empty() {
            let place = |(nth, at): (usize, &SocketAddr)| (*at, rank(u16::try_from(nth).unwrap_or(u16::MAX), 0), 1);
            wanted.extend(trunk.remotes.iter().enumerate().map(place));
        }
        for target in &trunk.link.targets {
            if let Place::At(at) = target.place {
                wanted.push((at, rank(target.priority, 0), target.weight));
            }
        }
        for (name, priority, weight) in &state.names {
            let ours = |at: &SocketAddr| config.listeners.iter().any(|own| own.address == *at || own.advertise == *at);
            for place in self.resolver.places(*name).iter().filter(|place| !ours(&place.at)) {
                let share = if place.weight == 0 { *weight } else { place.weight };
                wanted.push((place.at, rank(*priority, place.priority), share));
            }
        }
        let mut spots: Vec<Spot> = Vec::new();
        for (at, priority, weight) in wanted {
            if spots.iter().any(|spot| spot.at == at) {
                continue;
            }
            let known = state.spots.iter().position(|spot| spot.at == at).map(|nth| state.spots.swap_remove(nth));
            let spot = known.unwrap_or_else(|| Spot::new(at, priority, weight));
            spots.push(Spot { priority, weight, ..spot });
        }
        spots.sort_by_key(|spot| spot.priority);
        state.spots = spots;
    }

    fn spot(&mut self, trunk: TrunkId, at: SocketAddr) -> Option<&mut Spot> {
        self.states.get_mut(trunk.0)?.spots.iter_mut().find(|spot| spot.at == at)
    }

    /// A call met this at a target.
    pub(super) fn met(&mut self, now: Instant, dest: &Dest, met: Met) {
        let Some(spot) = dest.trunk.and_then(|trunk| self.spot(trunk, dest.remote)) else { return };
        match met {
            Met::Answer => spot.penalty = None,
            Met::Busy(wait) => spot.peace = wait.map(|wait| now + wait.min(PEACE)),
            Met::Nothing => spot.penalty = Some(now + PENALTY),
        }
    }

    /// The targets of a trunk in the order they are to be tried; the seconds to wait when all want peace or are down.
    fn order(&self, now: Instant, random: &mut Random, trunk: TrunkId) -> Result<Vec<SocketAddr>, Option<u64>> {
        let spots = &self.states[trunk.0].spots;
        let peaceful = |spot: &&Spot| spot.peace.is_some_and(|until| now < until);
        let fit: Vec<&Spot> = spots.iter().filter(|spot| spot.up && !peaceful(spot)).collect();
        if fit.is_empty() {
            let wait = spots.iter().filter(peaceful).filter_map(|spot| spot.peace).min();
            return Err(wait.map(|until| until.saturating_duration_since(now).as_secs() + 1));
        }
        let (late, mut rest): (Vec<&Spot>, Vec<&Spot>) =
            fit.into_iter().partition(|spot| spot.penalty.is_some_and(|until| now < until));
        let mut order = Vec::new();
        while let Some(priority) = rest.first().map(|spot| spot.priority) {
            let (mut even, others) = rest.into_iter().partition(|spot| spot.priority == priority);
            rest = others;
            draw(random, &mut even, &mut order);
        }
        order.extend(late.iter().map(|spot| spot.at));
        Ok(order)
    }

    /// The targets of a trunk in the order they are to be tried; none while all are down or want peace.
    pub(super) fn targets_of(&self, now: Instant, random: &mut Random, trunk: TrunkId) -> Vec<SocketAddr> {
        self.order(now, random, trunk).unwrap_or_default()
    }

    /// Whether a target of a trunk is known to be there: it answers its probes, or, where none are sent, nothing speaks
    /// against it.
    pub(super) fn is_there(&self, now: Instant, trunk: TrunkId, probed: bool) -> bool {
        let waits = |until: Option<Instant>| until.is_some_and(|until| now < until);
        let well = |spot: &Spot| spot.up && !waits(spot.peace) && !waits(spot.penalty) && (!probed || spot.good > 0);
        self.states[trunk.0].spots.iter().any(well)
    }

    /// Whether a trunk may begin one more call now, toward us or away from us.
    pub(super) fn may_begin(&mut self, now: Instant, trunk: TrunkId, inbound: bool) -> bool {
        let state = &mut self.states[trunk.0];
        if inbound { state.inbound.take(now) } else { state.outbound.take(now) }
    }

    /// Targets of every trunk: its name, and how many are up of how many.
    pub(super) fn summary<'a>(&'a self, config: &'a Config) -> impl Iterator<Item = (&'a str, usize, usize)> {
        let one = |(trunk, state): (&'a Trunk, &'a State)| {
            (trunk.name.as_str(), state.spots.iter().filter(|spot| spot.up).count(), state.spots.len())
        };
        config.trunks.iter().zip(&self.states).filter(|(trunk, _)| trunk.side != Side::Recorder).map(one)
    }

    pub(super) fn poll_question(&mut self) -> Option<Question> {
        self.resolver.poll_question()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let spots = self.states.iter().flat_map(|state| &state.spots);
        let probes =
            spots.fold(None, |at, spot| soonest(at, soonest(spot.probe_at, spot.probing.map(|(_, until)| until))));
        soonest(probes, self.resolver.poll_timeout())
    }
}

/// Draws targets of one priority by their weights (RFC 2782): the weightier, the more often first.
fn draw(random: &mut Random, even: &mut Vec<&Spot>, order: &mut Vec<SocketAddr>) {
    // Those without weight come first in the running sum: they have a very small chance.
    even.sort_by_key(|spot| spot.weight);
    while !even.is_empty() {
        let total: u32 = even.iter().map(|spot| u32::from(spot.weight)).sum();
        let mark = random.random_range(0..=total);
        let mut sum = 0;
        let drawn = even.iter().position(|spot| {
            sum += u32::from(spot.weight);
            sum >= mark
        });
        order.push(even.remove(drawn.unwrap_or_default()).at);
    }
}

/// The targets of a call to `user` that came in on `from`, in the order to be tried: those of the trunks of the first
/// route that matches.
pub(super) fn targets(now: Instant, s: &mut Shared, from: TrunkId, user: &str) -> Result<Vec<Target>, NoRoute> {
    let config = s.config.clone();
    let mut found = Vec::new();
    let mut wait = None;
    for trunk in routing::trunks(&config, from, user)? {
        match s.trunks.order(now, &mut s.random, *trunk) {
            Ok(order) => found.extend(order.into_iter().map(|remote| Target { trunk: *trunk, remote })),
            Err(seconds) => wait = wait.into_iter().chain(seconds).min(),
        }
    }
    if found.is_empty() { Err(NoRoute::NobodyThere(wait)) } else { Ok(found) }
}

/// The node begins: names are asked for, targets are probed.
pub(super) fn start(now: Instant, s: &mut Shared) {
    if std::mem::replace(&mut s.trunks.started, true) {
        return;
    }
    let mut names = Vec::new();
    for (at, trunk) in s.config.trunks.iter().enumerate() {
        let listener = &s.config.listeners[trunk.listener.0];
        for target in &trunk.link.targets {
            if let Place::Name { host, port } = &target.place {
                s.trunks.states[at].names.push((names.len(), target.priority, target.weight));
                s.trunks.named.push(TrunkId(at));
                let (host, v6) = (host.clone(), listener.address.is_ipv6());
                names.push(Name { host, port: *port, transport: listener.transport, v6 });
            }
        }
    }
    s.trunks.resolver = Resolver::new(now, names);
    for at in 0..s.config.trunks.len() {
        arm(now, s, TrunkId(at));
    }
}

/// A domain name server answers.
pub(super) fn handle_answer(now: Instant, s: &mut Shared, question: &Question, answer: Answer) {
    s.trunks.resolver.handle_answer(now, question, answer);
    take_changes(now, s);
}

/// Time passed: probes are due or lost, records run out.
pub(super) fn handle_timeout(now: Instant, s: &mut Shared) {
    s.trunks.resolver.handle_timeout(now);
    take_changes(now, s);
    for at in 0..s.trunks.states.len() {
        let id = TrunkId(at);
        let due: Vec<SocketAddr> = s.trunks.states[at]
            .spots
            .iter()
            .filter(|spot| spot.probing.is_some_and(|(_, until)| until <= now))
            .map(|spot| spot.at)
            .collect();
        for remote in due {
            handle_probe(s, id, remote, Met::Nothing);
        }
        let due = |spot: &Spot| spot.probe_at.is_some_and(|at| at <= now);
        let due: Vec<SocketAddr> = s.trunks.states[at].spots.iter().filter(|s| due(s)).map(|spot| spot.at).collect();
        for remote in due {
            probe(now, s, id, remote);
        }
    }
}

/// A probe of ours met this.
pub(super) fn handle_probe(s: &mut Shared, id: TrunkId, remote: SocketAddr, met: Met) {
    let config = s.config.clone();
    let trunk = &config.trunks[id.0];
    let wish = trunk.link.probe;
    let Some(spot) = s.trunks.spot(id, remote) else { return };
    spot.probing = None;
    if met == Met::Answer {
        (spot.lost, spot.good) = (0, spot.good.saturating_add(1));
        spot.penalty = None;
    } else {
        (spot.lost, spot.good) = (spot.lost.saturating_add(1), 0);
    }
    let up = if spot.up { spot.lost < wish.lost } else { spot.good >= wish.good };
    if std::mem::replace(&mut spot.up, up) != up {
        let target = remote.to_string();
        let name = trunk.name.clone();
        let event = match trunk.side {
            Side::Carrier | Side::Pbx => EventKind::TrunkTarget { trunk: name, target, up },
            Side::Recorder => EventKind::RecorderTarget { recorder: name, target, up },
        };
        s.out.events.push_back((None, event));
    }
}

/// Probes begin at different moments, so that a node does not ask all its peers at once.
fn arm(now: Instant, s: &mut Shared, id: TrunkId) {
    let every = s.config.trunks[id.0].link.probe.every;
    if every.is_zero() {
        return;
    }
    for spot in &mut s.trunks.states[id.0].spots {
        if spot.probe_at.is_none() {
            let first = every.mul_f64(s.random.random_range(0.0..0.5)).min(Duration::from_secs(2));
            spot.probe_at = Some(now + first);
        }
    }
}

fn probe(now: Instant, s: &mut Shared, id: TrunkId, remote: SocketAddr) {
    let config = s.config.clone();
    let trunk = &config.trunks[id.0];
    let listener = &config.listeners[trunk.listener.0];
    let request = crossing::ping(&mut s.random, listener, remote);
    let dest = Dest::fresh(trunk.listener, listener.transport, remote, id);
    let every = trunk.link.probe.every;
    let jitter = s.random.random_range(0.9..1.1);
    let client = s.send(now, request, dest, Some(Asked::Target(id, remote)));
    if let Some(spot) = s.trunks.spot(id, remote) {
        spot.probe_at = Some(now + every.mul_f64(jitter));
        spot.probing = Some((client, now + PROBE_PATIENCE.min(every)));
    }
}

/// Takes over where names are now. The trunk's `remotes` follow, so that whoever asks whose an address is sees them.
fn take_changes(now: Instant, s: &mut Shared) {
    while let Some(name) = s.trunks.resolver.poll_change() {
        let id = s.trunks.named[name];
        let config = s.config.clone();
        s.trunks.gather(&config, id);
        drop(config);
        let places: Vec<SocketAddr> = s.trunks.states[id.0].spots.iter().map(|spot| spot.at).collect();
        let trunk = &mut Arc::make_mut(&mut s.config).trunks[id.0];
        let gone: Vec<IpAddr> = trunk.remotes.iter().filter(|at| !places.contains(at)).map(|at| at.ip()).collect();
        trunk.remotes = places;
        let former = &mut trunk.link.former;
        former.extend(gone);
        let surplus = former.len().saturating_sub(FORMER);
        former.drain(..surplus);
        arm(now, s, id);
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn spot(at: &str, priority: u32, weight: u16) -> Spot {
        Spot::new(at.parse().expect("an address"), priority, weight)
    }

    fn trunks(spots: Vec<Spot>) -> Trunks {
        let (inbound, outbound) = (Bucket::new(0), Bucket::new(0));
        let states = vec![State { spots, names: Vec::new(), inbound, outbound }];
        Trunks { states, resolver: Resolver::default(), named: Vec::new(), started: true }
    }

    fn dest(at: &str) -> Dest {
        let (listener, transport) = (crate::config::ListenerId(0), crate::config::Transport::Udp);
        Dest::fresh(listener, transport, at.parse().expect("an address"), TrunkId(0))
    }

    const A: &str = "192.0.2.1:5060";
    const B: &str = "192.0.2.2:5060";
    const C: &str = "192.0.2.3:5060";

    fn first(trunks: &Trunks, now: Instant, random: &mut Random) -> String {
        trunks.order(now, random, TrunkId(0)).expect("a target")[0].to_string()
    }

    #[test]
    fn weights_share_and_priorities_come_first() {
        let trunks = trunks(vec![spot(A, 1, 60), spot(B, 1, 40), spot(C, 2, 100)]);
        let (now, mut random) = (Instant::now(), Random::seed_from_u64(5));
        let mut firsts = [0, 0];
        for _ in 0..2_000 {
            let order = trunks.order(now, &mut random, TrunkId(0)).expect("targets");
            assert_eq!((order.len(), order[2].to_string().as_str()), (3, C));
            firsts[usize::from(order[0].to_string() == B)] += 1;
        }
        assert!((1_100..1_300).contains(&firsts[0]) && (700..900).contains(&firsts[1]), "{firsts:?}");
    }

    #[test]
    fn a_silent_target_is_tried_last_for_a_while() {
        let mut trunks = trunks(vec![spot(A, 1, 1), spot(B, 2, 1)]);
        let (now, mut random) = (Instant::now(), Random::seed_from_u64(5));
        trunks.met(now, &dest(A), Met::Nothing);
        assert_eq!(first(&trunks, now, &mut random), B);
        assert_eq!(trunks.order(now, &mut random, TrunkId(0)).expect("targets").len(), 2, "last, but tried");
        assert_eq!(first(&trunks, now + PENALTY, &mut random), A);
        trunks.met(now, &dest(A), Met::Answer);
        assert_eq!(first(&trunks, now, &mut random), A, "an answer forgives");
    }

    #[test]
    fn retry_after_keeps_calls_away_but_not_for_ever() {
        let mut trunks = trunks(vec![spot(A, 1, 1), spot(B, 2, 1)]);
        let (now, mut random) = (Instant::now(), Random::seed_from_u64(5));
        let seconds = Duration::from_secs;
        trunks.met(now, &dest(A), Met::Busy(Some(seconds(20))));
        assert_eq!(trunks.order(now, &mut random, TrunkId(0)).expect("targets").len(), 1);
        trunks.met(now, &dest(B), Met::Busy(Some(seconds(1_000_000))));
        assert_eq!(trunks.order(now, &mut random, TrunkId(0)), Err(Some(21)));
        assert_eq!(first(&trunks, now + seconds(20), &mut random), A);
        assert_eq!(trunks.order(now + PEACE, &mut random, TrunkId(0)).expect("targets").len(), 2);
        trunks.met(now, &dest(A), Met::Busy(None));
        assert_eq!(first(&trunks, now, &mut random), A, "503 without Retry-After is an answer to one call");
    }

    #[test]
    fn retry_after_is_read_with_its_comment_and_nonsense_is_none() {
        let of = |value: &str| {
            let mut response = Response::new(503, "");
            response.headers.push(HeaderName::RetryAfter, value);
            Met::of(&response)
        };
        assert_eq!(of("18000 (I'm in a meeting);duration=3600"), Met::Busy(Some(Duration::from_secs(18_000))));
        assert_eq!(of("soon"), Met::Busy(None));
        assert_eq!(Met::of(&Response::new(486, "")), Met::Answer);
    }
}
