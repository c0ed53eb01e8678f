//! The engine: every call of the node, as one pure state machine. See [`Engine`] for its verbs.

mod dispatch;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use super::admission;
use super::call::Call;
use super::call::Phase;
use super::core::Unmade;
use super::finding::{Index, Key};
use super::recorders;
use super::refused::Refused;
use super::shared::{Shared, credential};
use super::trunks::view::TrunkView;
use super::{
    CallView, Find, ForkId, ForkReport, RecordOrder, RecorderReport, SpillReport, crossing, register, routing, trunks,
};
use crate::base::Random;
use crate::base::bucket::{Bucket, Buckets};
use crate::base::ids::{CallId, RecordingId, SessionId};
use crate::base::time::soonest;
use crate::capture::Handover;
use crate::config::{Config, RecorderId, TrunkId};
use crate::media;
use crate::obs::event::{EndCause, EventKind, LegTotals, RecordingState};
use crate::sip::dns::{Answer, Question};
use crate::sip::endpoint::Login;
use crate::sip::msg::FrameError;
use crate::sip::{Dest, Endpoint, EndpointConfig, Flow, Request, ServerId, Transmit};
use crate::srtp::Identity;

/// The B2BUA. Feed it with `handle_*`, then drain every `poll_*` but [`Engine::poll_timeout`] until it gives `None`,
/// then wait for the next happening or that time.
///
/// Order matters only within one queue: media orders are to be carried out in the order they come out, so that a mask
/// is in force before anything that follows it.
pub struct Engine {
    pub(super) shared: Shared,
    calls: HashMap<CallId, Slot>,
    /// When each call wants to be woken.
    due: BTreeSet<(Instant, CallId)>,
    /// Live calls in the order they came.
    sessions: BTreeMap<SessionId, CallId>,
    /// Calls by what they are found by.
    index: Index,
    draining: bool,
    dropped: u64,
    shed: u64,
    flood: Flood,
}

/// What keeps a flood from costing more than its reading.
struct Flood {
    by_source: Buckets<IpAddr>,
    all: Bucket,
}

/// Sources told apart.
const SOURCES: usize = 4096;

/// A call and when it is due.
struct Slot {
    call: Call,
    due: Option<Instant>,
    /// What it is filed under.
    filed: Vec<Key>,
}

impl Engine {
    /// An engine without calls. `random` makes tags, ids and media seeds.
    pub fn new(config: Arc<Config>, mut random: Random) -> Self {
        let per_call = usize::try_from(config.node.max_calls).unwrap_or(usize::MAX).saturating_mul(8);
        let endpoint = EndpointConfig {
            user_agent: config.node.name.clone(),
            // Ended transactions linger for 32 s, so a busy node holds many more than its calls.
            supported: admission::KNOWN.into_iter().chain(["siprec"]).map(str::to_owned).collect(),
            max_transactions: per_call.clamp(100_000, 400_000),
            large_by_tcp: config.large_by_tcp(),
            logins: logins(&config),
            ..EndpointConfig::default()
        };
        let endpoint = Endpoint::new(endpoint, rand::SeedableRng::from_rng(&mut random));
        let flood = Flood {
            by_source: Buckets::new(config.bounds.max_messages_per_source_s, SOURCES),
            all: Bucket::new(config.bounds.max_messages_per_s),
        };
        Self {
            shared: Shared::new(config, random, endpoint),
            calls: HashMap::new(),
            due: BTreeSet::new(),
            sessions: BTreeMap::new(),
            index: Index::default(),
            draining: false,
            dropped: 0,
            shed: 0,
            flood,
        }
    }

    /// Gives the certificate that is shown where keys of media are agreed by DTLS. Before that no such call is taken.
    pub fn set_identity(&mut self, identity: Arc<Identity>) {
        for policy in self.shared.policies.iter_mut().chain(&mut self.shared.guarded_policies) {
            policy.fingerprint = Some(identity.fingerprint());
        }
        self.shared.identity = Some(identity);
    }

    /// The node is up: names of trunks are asked for, targets are probed. Not needed where neither is wanted.
    pub fn start(&mut self, now: Instant) {
        trunks::start(now, &mut self.shared);
        register::start(now, &mut self.shared);
    }

    /// Whether a message may be read: it comes from somebody we know, who sends no more than may be borne. Decided before
    /// anything is read or kept (threats R13).
    fn is_welcome(&mut self, now: Instant, flow: &Flow) -> bool {
        if routing::trunk_of(&self.shared.config, flow).is_none() {
            self.dropped += 1;
            return false;
        }
        // The source first: whoever sends too much takes nothing from the others.
        let welcome = self.flood.by_source.take(now, flow.remote.ip()) && self.flood.all.take(now);
        self.shed += u64::from(!welcome);
        welcome
    }

    /// A SIP datagram, or one framed message of a stream. What comes from nobody we know is dropped before anything is
    /// read or kept (threats R13).
    pub fn handle_datagram(&mut self, now: Instant, flow: &Flow, datagram: &[u8]) {
        if !self.is_welcome(now, flow) {
            return;
        }
        self.shared.endpoint.handle_datagram(now, flow, datagram);
        self.pump(now);
    }

    /// A stream whose framing cannot be trusted any more: answered from its head, never taken as a message.
    pub fn handle_frame_error(&mut self, now: Instant, flow: &Flow, error: FrameError) {
        if !self.is_welcome(now, flow) {
            return;
        }
        self.shared.endpoint.handle_frame_error(flow, error);
        self.pump(now);
    }

    /// Sending to `dest` failed, or its connection closed.
    pub fn handle_flow_failed(&mut self, now: Instant, dest: &Dest) {
        self.shared.endpoint.handle_flow_failed(now, dest);
        self.pump(now);
    }

    /// A media worker reports.
    pub fn handle_media(&mut self, now: Instant, event: media::Event) {
        match event {
            media::Event::Digit { session, from, digit, at, masked } => {
                self.with_session(session, |call, s| call.handle_digit(now, s, (from, digit, at, masked)));
            }
            media::Event::Inactive { session } => {
                self.with_session(session, |call, s| call.handle_inactivity(now, s));
            }
            media::Event::Closed { session, stats } => {
                let out = &mut self.shared.out;
                match self.shared.remains.session_closed(now, session, out) {
                    Some(call) => {
                        let [customer, agent] = stats.map(totals);
                        out.event(call, EventKind::CallMedia { customer, agent });
                    }
                    // Nobody asked for it: it broke, and nothing guards the call any more.
                    None => self.with_session(session, |call, s| call.end(now, s, EndCause::Failure, 503)),
                }
            }
        }
        self.pump(now);
    }

    /// A media session could not be made or broke down: its call ends, because nothing guards it any more.
    pub fn handle_media_failed(&mut self, now: Instant, session: SessionId) {
        self.with_session(session, |call, s| call.end(now, s, EndCause::Failure, 503));
        self.pump(now);
    }

    /// The ports of a session are taken by another program: its call begins anew with others, before anybody has heard of
    /// it. `false`: it is too late for that, or no port is left; the call has ended.
    pub fn handle_ports_taken(&mut self, now: Instant, session: SessionId) -> bool {
        let Some((server, dest, request)) = self.take_back(now, session, Unmade::PortsTaken) else {
            self.handle_media_failed(now, session);
            return false;
        };
        let flow = Flow {
            listener: dest.listener,
            transport: dest.transport,
            local: self.shared.config.listeners[dest.listener.0].address,
            remote: dest.remote,
            connection: dest.connection,
            trunk: dest.trunk,
        };
        match routing::trunk_of(&self.shared.config, &flow) {
            Some(trunk) => self.place(now, trunk, (server, &flow, &request)),
            None => self.turn_away(now, server, &request, &Refused::busy("")),
        }
        self.pump(now);
        true
    }

    /// The node has no descriptor to spare for the sockets of a session: its call is refused with 503 before anybody else
    /// has heard of it, and those that are up go on.
    pub fn handle_no_room(&mut self, now: Instant, session: SessionId) {
        let Some((server, _, request)) = self.take_back(now, session, Unmade::NoRoom) else {
            return self.handle_media_failed(now, session);
        };
        self.turn_away(now, server, &request, &Refused::busy("No Room"));
        self.pump(now);
    }

    /// Takes a call back that nobody has heard of, and gives what it was made of; `None`: it is too late for that.
    fn take_back(&mut self, now: Instant, session: SessionId, why: Unmade) -> Option<(ServerId, Dest, Request)> {
        let id = self.sessions.get(&session).copied()?;
        if !self.calls.get(&id)?.call.is_unheard(&self.shared) {
            return None;
        }
        let slot = self.calls.remove(&id)?;
        self.sessions.remove(&session);
        self.index.remove(session, &slot.filed);
        if let Some(at) = slot.due {
            self.due.remove(&(at, id));
        }
        slot.call.undo(now, &mut self.shared, why)
    }

    /// Refuses an INVITE that makes no call.
    fn turn_away(&mut self, now: Instant, server: ServerId, invite: &Request, why: &Refused) {
        let mut refusal = why.response(invite);
        refusal.set_to_tag(&crossing::token(&mut self.shared.random));
        self.shared.respond(now, server, refusal);
    }

    /// The recorder reports.
    pub fn handle_recorder(&mut self, now: Instant, recording: RecordingId, report: RecorderReport) {
        if let Some(call) = self.shared.remains.recording_reported(recording) {
            let state = match report {
                RecorderReport::Closed => RecordingState::Closed,
                RecorderReport::Failed => RecordingState::Failed,
            };
            self.shared.out.event(call, EventKind::Recording { recording, state });
            return;
        }
        if recorders::handle_recorder(&mut self.shared, recording) {
            return;
        }
        // Of a live call: a fault, and so seldom that no index is kept for it.
        let is_of = |call: &Call| call.core.protection.recording().is_some_and(|(id, _)| id == recording);
        let live = self.calls.iter().find(|(_, slot)| is_of(&slot.call)).map(|(id, _)| *id);
        if let Some(id) = live {
            self.with_call(id, |call, s| call.handle_recorder(now, s, recording, report));
            self.pump(now);
        }
    }

    /// Whether sealed recordings can be written from now on. While they cannot, a new call that must be recorded is refused
    /// with 503; calls that are up go on until their own recording fails.
    pub fn handle_storage(&mut self, writable: bool) {
        self.shared.storage_writable = writable;
    }

    /// The sender of sound to recording servers reports.
    pub fn handle_fork(&mut self, now: Instant, fork: ForkId, report: ForkReport) {
        recorders::handle_fork(now, &mut self.shared, fork, report);
        self.pump(now);
    }

    /// Recorders by name: sessions that are up, and calls that go without.
    pub fn recorders(&self) -> impl Iterator<Item = (&str, u32, u32)> {
        let of = |at: usize| self.shared.recorders.counts(RecorderId(at));
        let recorders = self.shared.config.recorders.iter().enumerate();
        recorders.map(move |(at, recorder)| (recorder.name.as_str(), of(at).0, of(at).1))
    }

    /// What is reported of spills that are to be forwarded.
    pub fn handle_spill(&mut self, now: Instant, report: SpillReport) {
        recorders::forward::handle(now, &mut self.shared, report);
        self.pump(now);
    }

    /// Recorders by name: spills that wait to be forwarded, those included that are being sent.
    pub fn spills(&self) -> impl Iterator<Item = (&str, usize)> {
        let recorders = self.shared.config.recorders.iter().enumerate();
        recorders.map(|(at, recorder)| (recorder.name.as_str(), self.shared.recorders.spilled(RecorderId(at)).0))
    }

    /// Tells recorders what has changed on their calls, forwards what was spilled, and ends the calls that may not go on without one.
    pub(super) fn tell_recorders(&mut self, now: Instant) {
        while let Some(id) = self.shared.recorders.poll_moved() {
            let Some(Slot { call, .. }) = self.calls.get_mut(&id) else { continue };
            let Phase::Established(up) = &call.phase else { continue };
            let seen = call.core.seen([0, 1].map(|at: usize| up.legs[at].held));
            if recorders::begin::answered(now, &mut self.shared, &call.core, &seen) {
                call.core.protection.forks(now, &mut self.shared.out);
            }
        }
        while let Some(id) = self.shared.recorders.poll_touched() {
            let Some(Phase::Established(up)) = self.calls.get(&id).map(|slot| &slot.call.phase) else { continue };
            let held = [0, 1].map(|at: usize| up.legs[at].held);
            if let Some(seen) = self.calls.get(&id).map(|slot| slot.call.core.seen(held)) {
                recorders::see(now, &mut self.shared, id, &seen);
            }
        }
        recorders::forward::begin(now, &mut self.shared);
        while let Some(call) = self.shared.recorders.poll_doomed() {
            self.with_call(call, |call, s| call.end(now, s, EndCause::RecorderFailed, 503));
        }
    }

    /// Fires whatever is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.shared.endpoint.handle_timeout(now);
        self.pump(now);
        while let Some((at, id)) = self.due.first().copied() {
            if at > now {
                break;
            }
            self.with_call(id, |call, s| call.handle_timeout(now, s));
        }
        self.shared.remains.handle_timeout(now, &mut self.shared.out);
        self.shared.payments.handle_timeout(now, &mut self.shared.out);
        trunks::handle_timeout(now, &mut self.shared);
        register::handle_timeout(now, &mut self.shared);
        recorders::handle_timeout(now, &mut self.shared);
        self.shared.forget_old(now);
        self.pump(now);
    }

    /// Takes no new call from now on: INVITEs outside a dialog get 503. Calls that are up go on.
    pub fn drain(&mut self, now: Instant) {
        self.draining = true;
        recorders::forward::stop(now, &mut self.shared);
        register::end(now, &mut self.shared);
    }

    /// Ends every call, as at the end of a drain.
    pub fn hang_up_all(&mut self, now: Instant) {
        let calls: Vec<CallId> = self.sessions.values().copied().collect();
        for id in calls {
            self.with_call(id, |call, s| call.end(now, s, EndCause::Operator, 503));
        }
        self.pump(now);
    }

    /// Calls that are being set up or are up.
    pub fn calls(&self) -> usize {
        self.calls.len()
    }

    /// Whether nothing is left to do: no call, no dialog to be ended, no request of ours without its answer, no recording
    /// to be closed, no payment with its provider.
    pub fn is_idle(&self) -> bool {
        self.calls.is_empty()
            && self.shared.remains.is_quiet()
            && self.shared.recorders.is_quiet()
            && self.shared.payments.is_quiet()
            && !self.shared.endpoint.is_waiting()
    }

    /// Datagrams dropped because their source belongs to no trunk.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Messages dropped because too many came a second.
    pub fn shed(&self) -> u64 {
        self.shed
    }

    /// Every trunk as the API shows it.
    pub(super) fn trunks(&self, now: Instant) -> Vec<TrunkView> {
        trunks::view::views(now, &self.shared)
    }

    /// Trunks by name, how many of their targets are up, of how many.
    pub fn targets(&self) -> impl Iterator<Item = (&str, usize, usize)> {
        self.shared.trunks.summary(&self.shared.config)
    }

    /// The next question to the domain name system; answer it by [`Engine::handle_answer`].
    pub fn poll_question(&mut self) -> Option<Question> {
        self.shared.trunks.poll_question()
    }

    /// A domain name server answers, or none does.
    pub fn handle_answer(&mut self, now: Instant, question: &Question, answer: Answer) {
        trunks::handle_answer(now, &mut self.shared, question, answer);
        self.pump(now);
    }

    /// SIP transactions held now.
    pub fn transactions(&self) -> usize {
        self.shared.endpoint.transactions()
    }

    /// The addresses that the sockets of a session are bound to: customer, agent. `None` when its call is over already.
    pub fn media_addresses(&self, session: SessionId) -> Option<[IpAddr; 2]> {
        let call = self.calls.get(self.sessions.get(&session)?)?;
        Some(call.call.core.places.map(|place| place.address))
    }

    /// The next SIP message to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.shared.endpoint.poll_transmit()
    }

    /// The next media order.
    pub fn poll_media(&mut self) -> Option<media::Command> {
        self.shared.out.media.pop_front()
    }

    /// The next recorder order.
    pub fn poll_record(&mut self) -> Option<RecordOrder> {
        self.shared.out.record.pop_front()
    }

    /// The next event; the shell adds number and wall time.
    pub fn poll_event(&mut self) -> Option<(Option<CallId>, EventKind)> {
        self.shared.out.events.pop_front()
    }

    /// The next collected digits; give them to the recipient and drop them.
    pub fn poll_handover(&mut self) -> Option<Handover> {
        self.shared.out.handovers.pop_front()
    }

    /// When [`Engine::handle_timeout`] is wanted.
    pub fn poll_timeout(&mut self) -> Option<Instant> {
        let call = self.due.first().map(|(at, _)| *at);
        [
            call,
            self.shared.endpoint.poll_timeout(),
            self.shared.remains.poll_timeout(),
            self.shared.payments.poll_timeout(),
            self.shared.forget_at(),
            self.shared.trunks.poll_timeout(),
            register::poll_timeout(&self.shared),
            self.shared.recorders.poll_timeout(),
        ]
        .into_iter()
        .fold(None, soonest)
    }

    /// The calls that match, oldest first.
    pub(super) fn find(&self, now: Instant, find: &Find, limit: usize) -> Vec<CallView> {
        let view = |session: SessionId| {
            let slot = self.calls.get(self.sessions.get(&session)?)?;
            Some(slot.call.view(now, &self.shared.config))
        };
        let by_id = find.id.map(|id| self.calls.get(&id).map(|slot| slot.call.core.session));
        match (by_id, self.index.named(&find.keys())) {
            (None, None) => self.sessions.keys().copied().filter_map(view).take(limit).collect(),
            (None, Some(named)) => named.filter_map(view).take(limit).collect(),
            (Some(own), None) => own.into_iter().filter_map(view).take(limit).collect(),
            (Some(own), Some(mut named)) => {
                own.filter(|own| named.any(|n| n == *own)).and_then(view).into_iter().collect()
            }
        }
    }

    /// Lets a call act, and puts its next wish to be woken in order; `None` when there is no such call.
    pub(super) fn with_call<R>(&mut self, id: CallId, act: impl FnOnce(&mut Call, &mut Shared) -> R) -> Option<R> {
        let slot = self.calls.get_mut(&id)?;
        let result = act(&mut slot.call, &mut self.shared);
        self.shared.payments.note(&mut self.shared.out);
        self.shared.recorders.touch(id);
        let due = if slot.call.is_over() { None } else { slot.call.poll_timeout() };
        if due != slot.due {
            if let Some(at) = slot.due {
                self.due.remove(&(at, id));
            }
            if let Some(at) = due {
                self.due.insert((at, id));
            }
            slot.due = due;
        }
        if slot.call.is_over() {
            let session = slot.call.core.session;
            self.sessions.remove(&session);
            self.index.remove(session, &slot.filed);
            self.calls.remove(&id);
        } else if std::mem::take(&mut slot.call.core.renamed) {
            let session = slot.call.core.session;
            self.index.remove(session, &slot.filed);
            slot.filed = slot.call.keys();
            self.index.file(session, &slot.filed);
        }
        Some(result)
    }

    fn with_session(&mut self, session: SessionId, act: impl FnOnce(&mut Call, &mut Shared)) {
        if let Some(id) = self.sessions.get(&session).copied() {
            self.with_call(id, act);
        }
    }
}

/// What requests to each trunk are authenticated with.
fn logins(config: &Config) -> HashMap<TrunkId, Login> {
    let of = |(at, trunk): (usize, &crate::config::Trunk)| {
        let login = trunk.link.login.as_ref()?;
        Some((TrunkId(at), Login { credential: credential(login), realm: login.realm.clone() }))
    };
    config.trunks.iter().enumerate().filter_map(of).collect()
}

fn totals(stats: media::LegStats) -> LegTotals {
    let media::LegStats { received, sent, foreign, malformed, lost, unauthentic, replayed } = stats;
    LegTotals { received, sent, foreign, malformed, lost, unauthentic, replayed }
}
