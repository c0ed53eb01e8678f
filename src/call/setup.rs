//! A call being set up: the caller waits, one target at a time is asked. Responses, the caller's CANCEL and the time go
//! in; the next phase comes out.
//!
//! ```text
//!  INVITE ─► asking target 1 ── 1xx: passed on, early media agreed ──┐
//!               │  ▲                                                  │
//!               │  └── 503, 408, silence, transport failure: target n+1
//!               ├── 2xx, SDP agreed ──────────────► Established (ACK of the caller awaited)
//!               ├── other final, or no target left ─► Over (status passed on)
//!               ├── CANCEL, BYE of the caller ──────► Over (487; the target is cancelled)
//!               └── SETUP_DEADLINE ─────────────────► Over (480)
//! ```
//! Each fork of the target that answers provisionally becomes an early dialog of its own toward the caller; only a 2xx
//! decides. What a cancelled or further fork still sends is ended by [`Shared::stray_answer`].

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rand::RngExt;

use super::call::Phase;
use super::core::Core;
use super::established::{Established, Exchange, Late, Side};
use super::refused::Refused;
use super::routing::Target;
use super::shared::Shared;
use super::{bodies, crossing};
use crate::base::ids::Leg;
use crate::base::time::soonest;
use crate::obs::event::{EndCause, EventKind};
use crate::sdp::negotiate::{Ask, LegSession, Peer, read_peer};
use crate::sdp::{Media, Session};
use crate::sip::msg::HeaderName;
use crate::sip::{ClientId, Dest, Dialog, Request, Response, ServerId};

/// The longest a call may take to be answered (RFC 3261 timer C and some).
pub(super) const SETUP_DEADLINE: Duration = Duration::from_secs(185);

/// How long a target may be silent before the next one is tried.
pub(super) const SILENCE: Duration = Duration::from_secs(4);

/// The most early dialogs of one target told apart; further forks are heard only when they answer.
const MAX_FORKS: usize = 8;

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
}

/// The target being asked.
struct Attempt {
    client: ClientId,
    invite: Request,
    dest: Dest,
    sdp: LegSession,
    /// Until when it may be silent; `None` once it was heard.
    silence: Option<Instant>,
    forks: Vec<Fork>,
}

/// An early dialog.
struct Fork {
    remote_tag: String,
    caller_tag: String,
    answer: Option<Session>,
}

/// A call being set up.
pub(super) struct SettingUp {
    caller: Caller,
    attempt: Attempt,
    rest: VecDeque<Target>,
    deadline: Instant,
}

/// What both sides agreed: the callee's description as a peer, our answer to the caller, media per leg.
struct Agreed {
    callee: Peer,
    answer: Session,
    caller_media: Media,
    callee_media: Media,
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
                Ok(attempt) => return Phase::SettingUp(Box::new(SettingUp { caller, attempt, rest, deadline })),
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
        let way = crossing::Way { listener, remote: target.remote };
        let pass = &config.trunks[core.trunk(core.caller_leg).0].pass_headers;
        let mut invite = crossing::invite(&mut s.random, &caller.request, &core.facts, way, pass);
        if let Some(body) = body {
            invite.set_body(bodies::SDP, body);
        }
        core.call_ids[callee.index()] = invite.call_id().map(str::to_owned);
        if let Some(tag) = invite.from_tag().map(str::to_owned) {
            core.own_tag(s, callee, &tag);
        }
        let dest =
            Dest { listener: listener_id, transport: listener.transport, remote: target.remote, connection: None };
        let client = s.send_invite(now, core.id, invite.clone(), dest);
        let silence = more.then_some(now + SILENCE);
        Ok(Attempt { client, invite, dest, sdp, silence, forks: Vec::new() })
    }

    /// The transaction of the target being asked.
    pub(super) fn client(&self) -> ClientId {
        self.attempt.client
    }

    /// The caller's transaction.
    pub(super) fn server(&self) -> ServerId {
        self.caller.server
    }

    /// The target answers.
    pub(super) fn handle_response(self, now: Instant, core: &mut Core, s: &mut Shared, response: &Response) -> Phase {
        match response.status {
            ..=199 => self.handle_provisional(now, core, s, response),
            200..=299 => self.handle_answer(now, core, s, response),
            408 | 503 => self.try_next(now, core, s, response.status),
            status => {
                let across = Refused::new(crossing::status_across(status));
                let across = match crossing::reason_of(&response.headers) {
                    Some(reason) => across.with(HeaderName::Reason, reason),
                    None => across,
                };
                Self::refuse_caller(now, core, s, &self.caller, &across, EndCause::Rejected)
            }
        }
    }

    /// The target gave no final answer in time (408) or cannot be reached (503).
    pub(super) fn handle_failure(self, now: Instant, core: &mut Core, s: &mut Shared, status: u16) -> Phase {
        self.try_next(now, core, s, status)
    }

    fn try_next(self, now: Instant, core: &mut Core, s: &mut Shared, status: u16) -> Phase {
        let worst = match status {
            503 => Refused::busy(""),
            status => Refused::new(status),
        };
        Self::ask_next(now, core, s, (self.caller, self.rest, self.deadline), worst)
    }

    fn handle_provisional(mut self, now: Instant, core: &mut Core, s: &mut Shared, response: &Response) -> Phase {
        self.attempt.silence = None;
        let status = match response.status {
            100 | 199 => return Phase::SettingUp(Box::new(self)),
            status @ 180..=183 => status,
            _ => 183,
        };
        let Some(at) = self.fork(core, s, response.to_tag().unwrap_or_default()) else {
            return Phase::SettingUp(Box::new(self));
        };
        // A body that cannot be used is left out: the caller still hears that it rings.
        let described = bodies::read(&response.headers, &response.body).ok().flatten();
        let agreed = described.as_ref().and_then(|answer| self.agree(core, s, answer).ok());
        let caller_trunk = core.trunk(core.caller_leg);
        let tag = &self.attempt.forks[at].caller_tag;
        let mut ringing = crossing::response(&self.caller.request, status, tag, s.listener(caller_trunk));
        if let Some(agreed) = &agreed {
            ringing.set_body(bodies::SDP, agreed.answer.to_bytes());
            core.agreed(s, core.caller_leg, &agreed.caller_media);
            core.agreed(s, core.caller_leg.other(), &agreed.callee_media);
            self.attempt.forks[at].answer = described;
        }
        s.respond(now, self.caller.server, ringing);
        Phase::SettingUp(Box::new(self))
    }

    /// The early dialog of `remote_tag`; a new one gets a tag of its own toward the caller.
    fn fork(&mut self, core: &mut Core, s: &mut Shared, remote_tag: &str) -> Option<usize> {
        let forks = &mut self.attempt.forks;
        if let Some(at) = forks.iter().position(|fork| fork.remote_tag == remote_tag) {
            return Some(at);
        }
        if forks.len() == MAX_FORKS {
            return None;
        }
        // A second fork must not speak in the first one's dialog: its answer may differ (RFC 3261 section 13.2.1).
        let caller_tag = if forks.is_empty() { self.caller.tag.clone() } else { core.new_tag(s, core.caller_leg) };
        forks.push(Fork { remote_tag: remote_tag.to_owned(), caller_tag, answer: None });
        Some(forks.len() - 1)
    }

    /// Joins the callee's answer and the caller's offer.
    fn agree(&mut self, core: &Core, s: &Shared, answer: &Session) -> Result<Agreed, Refused> {
        let Some(offer) = &self.caller.offer else {
            return Err(Refused::because(500, "Offer In Unreliable Response"));
        };
        let caller_leg = core.caller_leg;
        let (callee, callee_media) = self.attempt.sdp.accept(answer, core.policy(s, caller_leg.other()))?;
        let keep = core.keep_events(s, caller_leg);
        let (answer, caller_media) = self.caller.sdp.answer(offer, Some(&callee), keep, core.policy(s, caller_leg))?;
        Ok(Agreed { callee, answer, caller_media, callee_media })
    }

    fn handle_answer(mut self, now: Instant, core: &mut Core, s: &mut Shared, response: &Response) -> Phase {
        let client = self.attempt.client;
        let Ok(dialog) = Dialog::uac(&self.attempt.invite, response) else {
            s.abandon(now, client, None);
            let why = Refused::because(500, "Malformed Answer");
            return Self::refuse_caller(now, core, s, &self.caller, &why, EndCause::Failure);
        };
        let fork = self.fork(core, s, response.to_tag().unwrap_or_default());
        // Too many forks rang; the one that answered speaks in the first one's place.
        let fork = &self.attempt.forks[fork.unwrap_or_default()];
        let (tag, early) = (fork.caller_tag.clone(), fork.answer.clone());
        let described = match bodies::read(&response.headers, &response.body) {
            Ok(described) => described.or(early),
            Err(why) => return self.answer_unusable(now, core, s, response, &why),
        };
        let Some(described) = described else {
            let why = Refused::because(500, "Answer Without SDP");
            return self.answer_unusable(now, core, s, response, &why);
        };
        let joined = if self.caller.offer.is_some() {
            self.agree(core, s, &described).map(|agreed| {
                core.agreed(s, core.caller_leg, &agreed.caller_media);
                core.agreed(s, core.caller_leg.other(), &agreed.callee_media);
                (agreed.answer, agreed.callee, false)
            })
        } else {
            self.pass_late_offer(core, s, &described).map(|(offer, callee)| (offer, callee, true))
        };
        let (ours, callee, late) = match joined {
            Ok(joined) => joined,
            Err(why) => return self.answer_unusable(now, core, s, response, &why),
        };
        let first_cseq = s.random.random_range(1..1 << 16);
        let Ok(mut caller_dialog) = Dialog::uas(&self.caller.request, &tag, first_cseq) else {
            let why = Refused::because(400, "Malformed Request");
            return self.answer_unusable(now, core, s, response, &why);
        };
        caller_dialog.invite_answered(200);

        let caller_leg = core.caller_leg;
        let mut ok = crossing::response(&self.caller.request, 200, &tag, s.listener(core.trunk(caller_leg)));
        ok.set_body(bodies::SDP, ours.to_bytes());
        let updates = response.headers.lists(HeaderName::Allow, "UPDATE");
        let callee_side = Side::new(
            (core, s, caller_leg.other()),
            dialog,
            self.attempt.dest,
            self.attempt.sdp,
            Some(callee),
            updates,
        );
        let caller_updates = self.caller.request.headers.lists(HeaderName::Allow, "UPDATE");
        let caller_side = Side::new(
            (core, s, caller_leg),
            caller_dialog,
            self.caller.dest,
            self.caller.sdp,
            self.caller.offer,
            caller_updates,
        );
        let late = if late {
            callee_side.peer.clone().map(|offer| Late { client, offer })
        } else {
            s.ack(now, client, &callee_side.dialog, callee_side.dest, None);
            None
        };
        s.respond(now, self.caller.server, ok);
        s.out.event(core.id, EventKind::CallAnswered);
        core.protection.answered(now, &mut s.random, &mut s.out);
        let legs = match caller_leg {
            Leg::Customer => [caller_side, callee_side],
            Leg::Agent => [callee_side, caller_side],
        };
        let exchange = Exchange::AwaitingAck { from: caller_leg, server: self.caller.server, late };
        Phase::Established(Box::new(Established::new(now, legs, exchange)))
    }

    /// The callee made the offer in its 2xx: ours to the caller is built from it; the ACK will bring the answer.
    fn pass_late_offer(&mut self, core: &Core, s: &Shared, offer: &Session) -> Result<(Session, Peer), Refused> {
        let caller_leg = core.caller_leg;
        let callee = read_peer(offer, core.policy(s, caller_leg.other()))?;
        let ask = Ask { other: Some(&callee), keep_events: core.keep_events(s, caller_leg) };
        let ours = self.caller.sdp.offer(ask, core.policy(s, caller_leg))?;
        Ok((ours, callee))
    }

    /// The callee answered in a way that cannot be joined with the caller's: both are let go.
    fn answer_unusable(
        self,
        now: Instant,
        core: &mut Core,
        s: &mut Shared,
        response: &Response,
        why: &Refused,
    ) -> Phase {
        s.stray_answer(now, self.attempt.client, response);
        let status = if why.status == 488 { 488 } else { 500 };
        Self::refuse_caller(now, core, s, &self.caller, &Refused::new(status), EndCause::Failure)
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
        self,
        now: Instant,
        core: &mut Core,
        s: &mut Shared,
        (status, cause): (u16, EndCause),
        reason: Option<&str>,
    ) -> Phase {
        s.abandon(now, self.attempt.client, reason);
        Self::refuse_caller(now, core, s, &self.caller, &Refused::new(status), cause)
    }

    /// Time passed.
    pub(super) fn handle_timeout(mut self, now: Instant, core: &mut Core, s: &mut Shared) -> Phase {
        if now >= self.deadline {
            return self.give_up(now, core, s, (480, EndCause::Timeout), None);
        }
        if self.attempt.silence.is_some_and(|at| now >= at) {
            self.attempt.silence = None;
            s.abandon(now, self.attempt.client, None);
            return self.try_next(now, core, s, 408);
        }
        Phase::SettingUp(Box::new(self))
    }

    /// When [`SettingUp::handle_timeout`] is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        soonest(Some(self.deadline), self.attempt.silence)
    }
}
