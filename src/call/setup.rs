//! A call being set up: the caller waits, one target at a time is asked. Responses, the caller's CANCEL and the time go
//! in; the next phase comes out. What each fork of the target says before the answer is `early`'s.
//!
//! ```text
//!  INVITE ─► asking target 1 ── 1xx: passed on, early media agreed ──┐
//!               │  ▲                                                  │
//!               │  └── 503, 408, silence, transport failure, lost PRACK: target n+1
//!               ├── 2xx, SDP agreed ──► (held until the caller's PRACK) ──► Established (ACK of the caller awaited)
//!               ├── other final, or no target left ─► Over (status passed on)
//!               ├── CANCEL, BYE of the caller ──────► Over (487; the target is cancelled)
//!               ├── no PRACK of the caller ─────────► Over (504)
//!               └── SETUP_DEADLINE ─────────────────► Over (480)
//! ```
//! Each fork of the target that answers provisionally becomes an early dialog of its own toward the caller; only a 2xx
//! decides. What a cancelled or further fork still sends is ended by [`Shared::stray_answer`].

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::call::Phase;
use super::core::Core;
use super::early::{Attempted, Fork, Scene};
use super::established::{Established, Exchange, Late};
use super::refused::Refused;
use super::routing::Target;
use super::shared::Shared;
use super::trunks::Met;
use super::{bodies, crossing};
use crate::base::ids::Leg;
use crate::base::time::soonest;
use crate::config::Extension;
use crate::obs::event::{EndCause, EventKind};
use crate::sdp::negotiate::{Ask, LegSession, Peer};
use crate::sip::msg::HeaderName;
use crate::sip::session_timer::SessionTimer;
use crate::sip::{ClientId, Dest, Request, Response, ServerId, reliable};

/// The longest a call may take to be answered (RFC 3261 timer C and some).
pub(super) const SETUP_DEADLINE: Duration = Duration::from_secs(185);

/// The most early dialogs of one target told apart; further forks are heard only when they answer.
const MAX_FORKS: usize = 8;

/// How often a target is asked again for what it refused.
pub(super) const MOST_AGAIN: u8 = 3;

/// The caller's side.
pub(super) struct Caller {
    pub(super) server: ServerId,
    pub(super) request: Request,
    pub(super) dest: Dest,
    /// Our tag toward the caller, of the first early dialog.
    pub(super) tag: String,
    pub(super) sdp: LegSession,
    /// The caller's offer; `None` when it left the offer to the called side.
    pub(super) offer: Option<Peer>,
    /// Whether provisional responses to it are reliable: never, where it matters, always.
    pub(super) reliable: Extension,
    /// How often the call was redirected.
    pub(super) redirects: u8,
}

/// The target being asked.
pub(super) struct Attempt {
    pub(super) client: ClientId,
    pub(super) invite: Request,
    pub(super) dest: Dest,
    sdp: LegSession,
    /// Until when it may be silent; `None` once it was heard.
    silence: Option<Instant>,
    pub(super) forks: Vec<Fork>,
    /// We offered to acknowledge provisional responses.
    reliable: bool,
    pub(super) timer: SessionTimer,
    /// How often the target was asked again for what it refused.
    pub(super) again: u8,
}

/// A call being set up.
pub(super) struct SettingUp {
    pub(super) caller: Caller,
    pub(super) attempt: Attempt,
    pub(super) rest: VecDeque<Target>,
    deadline: Instant,
    /// The 2xx of a fork that the caller must not get yet.
    answer: Option<Response>,
}

impl SettingUp {
    /// Asks the first target that can be asked.
    pub(super) fn begin(now: Instant, core: &mut Core, s: &mut Shared, caller: Caller, targets: Vec<Target>) -> Phase {
        s.servers.insert(caller.server, core.id);
        Self::ask_next(now, core, s, (caller, targets.into(), now + SETUP_DEADLINE), Refused::new(503))
    }

    /// Asks the next target; refuses the caller with `worst` when none is left.
    fn ask_next(
        now: Instant,
        core: &mut Core,
        s: &mut Shared,
        (caller, mut rest, deadline): (Caller, VecDeque<Target>, Instant),
        mut worst: Refused,
    ) -> Phase {
        while let Some(target) = rest.pop_front() {
            match Self::ask(now, core, s, &caller, target, !rest.is_empty()) {
                Ok(attempt) => {
                    return Phase::SettingUp(Box::new(SettingUp { caller, attempt, rest, deadline, answer: None }));
                }
                Err(why) => worst = why,
            }
        }
        Self::refuse_caller(now, core, s, &caller, &worst, EndCause::Rejected)
    }

    fn ask(
        now: Instant,
        core: &mut Core,
        s: &mut Shared,
        caller: &Caller,
        target: Target,
        more: bool,
    ) -> Result<Attempt, Refused> {
        if s.is_full(target.trunk) {
            return Err(Refused::busy("Trunk Full"));
        }
        if !s.may_seal([core.trunk(core.caller_leg), target.trunk]) {
            return Err(Refused::busy("Recordings Cannot Be Written"));
        }
        if !s.trunks.may_begin(now, target.trunk, false) {
            return Err(Refused::busy("Too Many Calls A Second"));
        }
        let callee = core.caller_leg.other();
        core.goes_to(now, s, target.trunk);
        let mut sdp = core.leg_session(s, callee);
        let body = match &caller.offer {
            Some(offer) => {
                let ask = Ask { other: Some(offer), keep_events: core.keep_events(s, callee) };
                Some(sdp.offer(ask, core.policy(s, callee))?.to_bytes())
            }
            None => None,
        };
        let config = s.config.clone();
        let listener_id = config.trunks[target.trunk.0].listener;
        let listener = &config.listeners[listener_id.0];
        let way =
            crossing::Way { listener, remote: target.remote, tel: config.trunks[target.trunk.0].methods.tel_uris };
        let pass = &config.trunks[core.trunk(core.caller_leg).0].pass_headers;
        let mut invite = crossing::invite(&mut s.random, &caller.request, &core.facts, way, pass);
        // A late offer made reliably could not be answered by a caller who has no PRACK.
        let wish = config.trunks[target.trunk.0].methods.reliable;
        let can = body.is_some() || caller.reliable != Extension::Off;
        let reliable = match wish {
            Extension::Off => false,
            Extension::Supported => can,
            Extension::Required if !can => return Err(Refused::required(reliable::TAG)),
            Extension::Required => {
                invite.headers.push(HeaderName::Require, reliable::TAG);
                true
            }
        };
        if reliable {
            invite.headers.push(HeaderName::Supported, reliable::TAG);
        }
        let timer = SessionTimer::new(&config.trunks[target.trunk.0].methods);
        timer.write_request(&mut invite.headers);
        crossing::announce(&mut invite.headers, &config.trunks[target.trunk.0]);
        super::rules::apply(&config.trunks[target.trunk.0].methods.headers, &caller.request, &mut invite);
        if let Some(body) = body {
            invite.set_body(bodies::SDP, body);
        }
        core.call_ids[callee.index()] = invite.call_id().map(str::to_owned);
        core.renamed = true;
        if let Some(tag) = invite.from_tag().map(str::to_owned) {
            core.own_tag(s, callee, &tag);
        }
        let dest = target.dest(&config);
        let client = s.send_invite(now, core.id, invite.clone(), dest);
        let silence = more.then_some(now + config.trunks[target.trunk.0].link.failover());
        Ok(Attempt { client, invite, dest, sdp, silence, forks: Vec::new(), reliable, timer, again: 0 })
    }

    /// The transaction of the target being asked.
    pub(super) fn client(&self) -> ClientId {
        self.attempt.client
    }

    /// Who called, where from, and the INVITE.
    pub(super) fn into_caller(self) -> (ServerId, Dest, Request) {
        (self.caller.server, self.caller.dest, self.caller.request)
    }

    /// The caller's transaction.
    pub(super) fn server(&self) -> ServerId {
        self.caller.server
    }

    /// Whether the answer to `client` is waited for.
    pub(super) fn awaits(&self, client: ClientId) -> bool {
        self.attempt.client == client || self.attempt.forks.iter().any(|fork| fork.awaits(client))
    }

    /// The target answers, or a fork of it does.
    pub(super) fn handle_response(
        mut self,
        now: Instant,
        core: &mut Core,
        s: &mut Shared,
        (id, response): (ClientId, &Response),
    ) -> Phase {
        if id != self.attempt.client {
            return self.handle_fork_response(now, core, s, (id, response));
        }
        if self.answer.is_some() {
            if response.class() == 2 {
                s.stray_answer(now, id, response);
            }
            return Phase::SettingUp(Box::new(self));
        }
        if response.status < 300 {
            core.learn(s, core.caller_leg.other(), &response.headers);
        }
        match response.status {
            ..=199 => {
                self.handle_provisional(now, core, s, response);
                Phase::SettingUp(Box::new(self))
            }
            200..=299 => self.handle_answer(now, core, s, response),
            422 if self.attempt.timer.handle_too_short(response) && self.attempt.again < MOST_AGAIN => {
                self.ask_for_longer(now, core, s)
            }
            408 | 503 => self.try_next(now, core, s, response.status),
            500 | 502 | 504 if !self.rest.is_empty() => self.try_next(now, core, s, response.status),
            300..=399 => self.handle_redirect(now, core, s, response),
            status => {
                let across = Refused::new(crossing::status_across(status));
                let across = match crossing::reason_of(&response.headers) {
                    Some(reason) => across.with(HeaderName::Reason, reason),
                    None => across,
                };
                self.refuse(now, core, s, &across, EndCause::Rejected)
            }
        }
    }

    /// A request of ours gave no final answer in time (408) or cannot be sent (503).
    pub(super) fn handle_failure(
        self,
        now: Instant,
        core: &mut Core,
        s: &mut Shared,
        (id, status): (ClientId, u16),
    ) -> Phase {
        if id == self.attempt.client {
            return self.try_next(now, core, s, status);
        }
        self.handle_fork_response(now, core, s, (id, &Response::new(status, "")))
    }

    /// A PRACK or UPDATE of ours was answered: a dialog that does not know it is lost, and the target with it.
    fn handle_fork_response(
        mut self,
        now: Instant,
        core: &mut Core,
        s: &mut Shared,
        (id, response): (ClientId, &Response),
    ) -> Phase {
        let mut x = Scene { now, core, s, caller: &self.caller };
        let fork = self.attempt.forks.iter_mut().find(|fork| fork.awaits(id));
        let lost = fork.is_some_and(|fork| fork.handle_response(&mut x, id, response));
        if lost {
            self.let_go(now, s, None);
            return self.try_next(now, core, s, 408);
        }
        self.proceed(now, core, s)
    }

    /// A PRACK or UPDATE within an early dialog of `leg`.
    pub(super) fn handle_request(
        mut self,
        now: Instant,
        core: &mut Core,
        s: &mut Shared,
        (leg, id, request): (Leg, ServerId, &Request),
    ) -> Phase {
        let caller = leg == core.caller_leg;
        let (from, to) = (request.from_tag().unwrap_or_default(), request.to_tag().unwrap_or_default());
        let is_of = |fork: &&mut Fork| if caller { fork.caller_tag == to } else { fork.remote_tag == from };
        let mut x = Scene { now, core, s, caller: &self.caller };
        match self.attempt.forks.iter_mut().find(is_of) {
            Some(fork) => fork.handle_request(&mut x, (leg, id, request)),
            None => s.refuse(now, id, request, &Refused::new(481)),
        }
        self.proceed(now, core, s)
    }

    /// Something has changed in a fork: it may be broken, or its held answer may go now.
    fn proceed(mut self, now: Instant, core: &mut Core, s: &mut Shared) -> Phase {
        if let Some(status) = self.attempt.forks.iter().find_map(|fork| fork.broken) {
            let cause = if status == 504 { EndCause::Timeout } else { EndCause::Failure };
            return self.give_up(now, core, s, (status, cause), None);
        }
        match self.answer.take() {
            Some(response) => self.connect(now, core, s, &response),
            None => Phase::SettingUp(Box::new(self)),
        }
    }

    pub(super) fn try_next(mut self, now: Instant, core: &mut Core, s: &mut Shared, status: u16) -> Phase {
        let worst = match status {
            503 => Refused::busy(""),
            status => Refused::new(status),
        };
        for fork in &mut self.attempt.forks {
            fork.drop_change(now, s);
        }
        // What was told reliably binds its dialog; the next target speaks in another.
        if self.attempt.forks.iter().any(Fork::is_told) {
            self.caller.tag = core.new_tag(s, core.caller_leg);
        }
        Self::ask_next(now, core, s, (self.caller, self.rest, self.deadline), worst)
    }

    fn handle_provisional(&mut self, now: Instant, core: &mut Core, s: &mut Shared, response: &Response) {
        self.attempt.silence = None;
        let status = match response.status {
            100 | 199 => return,
            status @ 180..=183 => status,
            _ => 183,
        };
        let known = self.find(response).is_some();
        if !known && self.attempt.forks.len() >= MAX_FORKS {
            return;
        }
        let Some(at) = self.fork(now, core, s, response) else { return };
        let mut x = Scene { now, core, s, caller: &self.caller };
        self.attempt.forks[at].handle_provisional(&mut x, status, response);
    }

    fn find(&self, response: &Response) -> Option<usize> {
        let tag = response.to_tag().unwrap_or_default();
        self.attempt.forks.iter().position(|fork| fork.remote_tag == tag)
    }

    /// The early dialog of a response; a new one gets a tag of its own toward the caller, because its answer may differ
    /// (RFC 3261 section 13.2.1).
    fn fork(&mut self, now: Instant, core: &mut Core, s: &mut Shared, response: &Response) -> Option<usize> {
        if let Some(at) = self.find(response) {
            return Some(at);
        }
        let first = self.attempt.forks.is_empty();
        let tag = if first { self.caller.tag.clone() } else { core.new_tag(s, core.caller_leg) };
        let Attempt { invite, dest, sdp, reliable, forks, timer, .. } = &mut self.attempt;
        let attempted = Attempted { invite, dest: *dest, sdp, timer, reliable: *reliable };
        let mut x = Scene { now, core, s, caller: &self.caller };
        forks.push(Fork::new(&mut x, attempted, tag, response)?);
        Some(forks.len() - 1)
    }

    /// The target's 2xx: its fork is connected, now or when the caller may hear of it.
    fn handle_answer(mut self, now: Instant, core: &mut Core, s: &mut Shared, response: &Response) -> Phase {
        let fork = response.contact().and_then(|_| self.fork(now, core, s, response));
        let Some(at) = fork else {
            s.abandon(now, self.attempt.client, None);
            let why = Refused::because(500, "Malformed Answer");
            return self.refuse(now, core, s, &why, EndCause::Failure);
        };
        let mut x = Scene { now, core, s, caller: &self.caller };
        self.attempt.forks[at].confirm(&mut x, response);
        self.connect(now, core, s, response)
    }

    fn connect(mut self, now: Instant, core: &mut Core, s: &mut Shared, response: &Response) -> Phase {
        let Some(at) = self.find(response) else { return Phase::SettingUp(Box::new(self)) };
        if self.attempt.forks[at].is_blocked() {
            self.answer = Some(response.clone());
            return Phase::SettingUp(Box::new(self));
        }
        let mut fork = self.attempt.forks.swap_remove(at);
        let mut x = Scene { now, core, s, caller: &self.caller };
        let (body, late) = match Self::describe(&mut x, &mut fork, response) {
            Ok(described) => described,
            Err(why) => {
                self.attempt.forks.push(fork);
                self.answer = Some(response.clone());
                let status = if why.status == 488 { 488 } else { 500 };
                return self.give_up(now, core, s, (status, EndCause::Failure), None);
            }
        };
        for rest in &mut self.attempt.forks {
            rest.drop_change(now, s);
        }
        let (caller_leg, callee_leg) = (core.caller_leg, core.caller_leg.other());
        let mut ok =
            crossing::response(&self.caller.request, 200, &fork.caller_tag, s.listener(core.trunk(caller_leg)));
        if let Some(body) = body {
            ok.set_body(bodies::SDP, body);
        }
        fork.side(caller_leg).dialog.invite_answered(200);
        fork.side(caller_leg).timer.write_answer(now, &self.caller.request, &mut ok.headers);
        crossing::announce(&mut ok.headers, &s.config.trunks[core.trunk(caller_leg).0]);
        let pass = &s.config.trunks[core.trunk(callee_leg).0].pass_headers;
        crossing::pass_answer(response, &mut ok, pass, s.listener(core.trunk(caller_leg)));
        let client = self.attempt.client;
        let callee = fork.side(callee_leg);
        let late = if late {
            callee.peer.clone().map(|offer| Late { client, offer: Box::new(offer) })
        } else {
            s.ack(now, client, &callee.dialog.clone(), callee.dest, None);
            None
        };
        s.respond(now, self.caller.server, ok);
        fork.sent.settle();
        s.out.event(core.id, EventKind::CallAnswered);
        core.protection.answered(now, &mut s.random, &mut s.out);
        let held = [0, 1].map(|at: usize| fork.legs[at].peer.as_ref().is_some_and(Peer::holds));
        if super::recorders::begin::answered(now, s, core, &core.seen(held)) {
            core.protection.forks(now, &mut s.out);
        }
        let exchange = Exchange::AwaitingAck { from: caller_leg, server: self.caller.server, late };
        let mut up = Established::new(now, fork.legs, exchange);
        for side in &mut up.legs {
            side.held = side.peer.as_ref().is_some_and(Peer::holds);
        }
        up.unacknowledged = fork.sent.is_waiting().then(|| Box::new(fork.sent));
        Phase::Established(Box::new(up))
    }

    /// The body of the caller's 2xx, and whether it is an offer whose answer comes in the ACK.
    fn describe(
        x: &mut Scene<'_>,
        fork: &mut Fork,
        response: &Response,
    ) -> Result<(Option<bytes::Bytes>, bool), Refused> {
        let callee = x.core.caller_leg.other();
        if fork.is_settled(callee) {
            fork.put_in_force(x);
            return Ok((fork.untold(), false));
        }
        let described = bodies::read(&response.headers, &response.body)?;
        if x.caller.offer.is_none() {
            let offer = described.ok_or(Refused::because(500, "Answer Without SDP"))?;
            return fork.pass_offer(x, &offer).map(|ours| (Some(ours.to_bytes().into()), true));
        }
        match described {
            Some(answer) => fork.answer = Some(fork.join(x, &answer)?.to_bytes().into()),
            // The answer stood in a provisional response.
            None if fork.answer.is_some() => fork.put_in_force(x),
            None => return Err(Refused::because(500, "Answer Without SDP")),
        }
        Ok((fork.untold(), false))
    }

    /// Lets the target go: it is cancelled, or, if its answer is held, acknowledged and ended.
    fn let_go(&mut self, now: Instant, s: &mut Shared, reason: Option<&str>) {
        for fork in &mut self.attempt.forks {
            fork.drop_change(now, s);
        }
        match self.answer.take() {
            Some(response) => s.stray_answer(now, self.attempt.client, &response),
            None => s.abandon(now, self.attempt.client, reason),
        }
    }

    pub(super) fn refuse(
        mut self,
        now: Instant,
        core: &mut Core,
        s: &mut Shared,
        why: &Refused,
        cause: EndCause,
    ) -> Phase {
        for fork in &mut self.attempt.forks {
            fork.drop_change(now, s);
        }
        Self::refuse_caller(now, core, s, &self.caller, why, cause)
    }

    fn refuse_caller(
        now: Instant,
        core: &mut Core,
        s: &mut Shared,
        caller: &Caller,
        why: &Refused,
        cause: EndCause,
    ) -> Phase {
        let mut refusal = why.response(&caller.request);
        refusal.set_to_tag(&caller.tag);
        s.respond(now, caller.server, refusal);
        s.servers.remove(&caller.server);
        core.finish(now, s, cause, Some(why.status), None);
        Phase::Over
    }

    /// Ends the set-up: the target is cancelled, the caller gets `status`.
    pub(super) fn give_up(
        mut self,
        now: Instant,
        core: &mut Core,
        s: &mut Shared,
        (status, cause): (u16, EndCause),
        reason: Option<&str>,
    ) -> Phase {
        self.let_go(now, s, reason);
        Self::refuse_caller(now, core, s, &self.caller, &Refused::new(status), cause)
    }

    /// Time passed.
    pub(super) fn handle_timeout(mut self, now: Instant, core: &mut Core, s: &mut Shared) -> Phase {
        if now >= self.deadline {
            return self.give_up(now, core, s, (480, EndCause::Timeout), None);
        }
        if self.attempt.silence.is_some_and(|at| now >= at) {
            self.attempt.silence = None;
            s.trunks.met(now, &self.attempt.dest, Met::Nothing);
            self.let_go(now, s, None);
            return self.try_next(now, core, s, 408);
        }
        for fork in &mut self.attempt.forks {
            fork.handle_timeout(now, s, self.caller.server);
        }
        self.proceed(now, core, s)
    }

    /// When [`SettingUp::handle_timeout`] is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let forks = self.attempt.forks.iter().filter_map(|fork| fork.sent.poll_timeout());
        forks.fold(soonest(Some(self.deadline), self.attempt.silence), |soon, at| soonest(soon, Some(at)))
    }
}
