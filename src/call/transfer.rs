//! Transfer of an answered call (RFC 3515), by the trunk's policy. Terminated here: a new leg is set up to the Refer-To
//! through our own routes, and takes the place of the leg that asked; the other leg is told by re-INVITE. What is passed
//! on is in `passing`, what joins two calls in `join`. REFERs, what the new target answers, and the time go in; NOTIFYs
//! and the switch come out.
//!
//! ```text
//!  REFER ─► 202, NOTIFY 100 ─► asking the target ── 18x ─► NOTIFY 18x
//!                                │  │  ▲ 503, 408, silence: the next target
//!                                │  └── refused, no answer ─► NOTIFY status ─► the call goes on as it was, or ends when
//!                                │                                           the leg that asked has hung up meanwhile
//!                                └── 2xx ─► ACK, NOTIFY 200, BYE to the leg that asked; re-INVITE to the other leg
//! ```
//! Whoever takes a leg's place takes its call as it is: holds, collection, mask and recording belong to the call, and
//! nothing here reaches them (threats R12). Only our routes choose where a transfer goes (threats R16).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::bodies;
use super::call::Verdict;
use super::core::Core;
use super::crossing::{self, Facts, Way};
use super::established::{Established, Exchange, Owed, Side};
use super::join::Join;
use super::refused::Refused;
use super::renew::Renewal;
use super::routing::Target;
use super::shared::Shared;
use super::trunks;
use crate::base::ids::Leg;
use crate::base::time::soonest;
use crate::config::{Refer, Trunk, TrunkId};
use crate::media::{Command, LegMedia};
use crate::obs::event::{EndCause, EventKind};
use crate::sdp::Direction;
use crate::sdp::negotiate::{Ask, LegSession, Peer};
use crate::sip::msg::header::{NameAddr, Replaces, address};
use crate::sip::msg::{HeaderName, status};
use crate::sip::session_timer::SessionTimer;
use crate::sip::{ClientId, Dest, Dialog, Method, Request, Response, ServerId};

/// How long a transfer may take to be answered.
const DEADLINE: Duration = Duration::from_secs(120);

/// The type of a NOTIFY's body (RFC 3515 section 2.4.5).
const SIPFRAG: &str = "message/sipfrag;version=2.0";

/// A transfer that we carry out.
pub(super) struct Transfer {
    /// The leg that asked, and is to be replaced.
    leg: Leg,
    /// The REFER's CSeq: names the subscription.
    id: u32,
    facts: Facts,
    /// What the new INVITE is made from.
    like: Request,
    replaces: Option<String>,
    rest: VecDeque<Target>,
    attempt: Attempt,
    deadline: Instant,
    /// The last status the leg that asked was told.
    told: u16,
    /// It has hung up meanwhile.
    gone: bool,
}

/// The target being asked.
struct Attempt {
    client: ClientId,
    invite: Request,
    dest: Dest,
    trunk: TrunkId,
    sdp: LegSession,
    timer: SessionTimer,
    silence: Option<Instant>,
}

/// Where a REFER leads.
pub(super) struct Wanted {
    pub(super) user: String,
    replaces: Option<String>,
}

impl Established {
    /// A REFER of `leg`.
    pub(super) fn handle_refer(
        &mut self,
        now: Instant,
        core: &mut Core,
        s: &mut Shared,
        (leg, server, request): (Leg, ServerId, &Request),
    ) -> Result<(), Refused> {
        let config = s.config.clone();
        let trunk = &config.trunks[core.trunk(leg).0];
        if trunk.methods.refer == Refer::Refuse {
            return Err(Refused::because(403, "Transfer Not Allowed"));
        }
        let wanted = read_refer(request, trunk)?;
        if self.transfer.is_some() || self.passed.as_ref().is_some_and(|passed| !passed.accepted) {
            return Err(Refused::new(491));
        }
        if trunk.methods.refer == Refer::Pass {
            return self.pass_refer(now, core, s, (leg, server, request), &wanted);
        }
        if !matches!(self.exchange, Exchange::Quiet) {
            return Err(Refused::moment());
        }
        let join = wanted.replaces.as_deref();
        if let Some(join) = join.and_then(|replaces| Join::wanted(core, s, (leg, server, request), replaces)) {
            if !self.is_quiet() || !self.side(leg.other()).dialog.may_invite() {
                return Err(Refused::moment());
            }
            // Two calls at once are the engine's.
            s.joins.push(join);
            return Ok(());
        }
        let targets = trunks::targets(now, s, core.trunk(leg.other()), &wanted.user)?;
        let fits = |target: &Target| fits(trunk, (core.trunk(leg), target.trunk), &config.trunks[target.trunk.0]);
        let mut rest: VecDeque<Target> = targets.into_iter().filter(fits).collect();
        let mut like = Request::new(Method::Invite, "sip:transfer");
        let other = if leg == core.caller_leg { &core.facts.called } else { &core.facts.caller };
        like.headers.push(HeaderName::From, address(None, &format!("sip:{other}@transfer"), None));
        like.headers.push(HeaderName::MaxForwards, crossing::max_forwards(request).to_string());
        let numbers = super::routing::numbers(&config, core.trunk(leg.other()), &wanted.user, other);
        let (user, from) = numbers.ok_or(Refused::new(484))?;
        let facts = Facts { user, from, ..core.facts.clone() };
        if rest.is_empty() {
            return Err(Refused::busy("No Way There"));
        }
        let mut accepted = Response::for_request(request, 202, "");
        crossing::describe_us(&mut accepted.headers, s.listener(core.trunk(leg)));
        s.respond(now, server, accepted);
        let id = request.cseq().map(|cseq| cseq.number).unwrap_or_default();
        self.notify(now, core, s, leg, (id, 100, false));
        let what = (&facts, &like, wanted.replaces.as_deref());
        let Some(attempt) = self.ask_next_target(now, core, s, (leg, &mut rest), what) else {
            self.notify(now, core, s, leg, (id, 503, true));
            return Ok(());
        };
        self.transfer = Some(Box::new(Transfer {
            leg,
            id,
            facts,
            like,
            replaces: wanted.replaces,
            rest,
            attempt,
            deadline: now + DEADLINE,
            told: 100,
            gone: false,
        }));
        Ok(())
    }

    /// Asks the first of `rest` that can be asked.
    fn ask_next_target(
        &self,
        now: Instant,
        core: &Core,
        s: &mut Shared,
        (leg, rest): (Leg, &mut VecDeque<Target>),
        what: (&Facts, &Request, Option<&str>),
    ) -> Option<Attempt> {
        while let Some(target) = rest.pop_front() {
            if let Some(attempt) = self.ask_target(now, core, s, (leg, target, !rest.is_empty()), what) {
                return Some(attempt);
            }
        }
        None
    }

    /// Sends the INVITE to a target; `None` when it cannot be asked.
    fn ask_target(
        &self,
        now: Instant,
        core: &Core,
        s: &mut Shared,
        (leg, target, more): (Leg, Target, bool),
        (facts, like, replaces): (&Facts, &Request, Option<&str>),
    ) -> Option<Attempt> {
        if s.is_full(target.trunk) && target.trunk != core.trunk(leg) {
            return None;
        }
        let config = s.config.clone();
        let trunk = &config.trunks[target.trunk.0];
        let listener = &config.listeners[trunk.listener.0];
        let mut sdp = core.leg_session(s, leg);
        let other = self.legs[leg.other().index()].peer.as_ref().map(talking);
        let ask = Ask { other: other.as_ref(), keep_events: core.keep_events(s, leg) };
        let body = sdp.offer(ask, core.policy_of(s, target.trunk)).ok()?.to_bytes();
        let mut invite = crossing::invite(
            &mut s.random,
            like,
            facts,
            Way { listener, remote: target.remote, tel: trunk.methods.tel_uris },
            &[],
        );
        let timer = SessionTimer::new(&trunk.methods);
        timer.write_request(&mut invite.headers);
        super::rules::apply(&trunk.methods.headers, like, &mut invite);
        if let Some(replaces) = replaces {
            invite.headers.push_token(HeaderName::Supported, "replaces");
            invite.headers.push(HeaderName::Replaces, replaces);
        }
        invite.set_body(bodies::SDP, body);
        let dest = target.dest(&config);
        let client = s.send_invite(now, core.id, invite.clone(), dest);
        let silence = more.then_some(now + config.trunks[target.trunk.0].link.failover());
        Some(Attempt { client, invite, dest, trunk: target.trunk, sdp, timer, silence })
    }

    /// Whether `client` is the transfer's INVITE.
    pub(super) fn is_transferring(&self, client: ClientId) -> bool {
        self.transfer.as_ref().is_some_and(|transfer| transfer.attempt.client == client)
    }

    /// Whether `leg` has hung up, waiting for who takes its place.
    pub(super) fn is_gone(&self, leg: Leg) -> bool {
        self.transfer.as_ref().is_some_and(|transfer| transfer.gone && transfer.leg == leg)
    }

    /// The leg that asked for a transfer hangs up before that is done: the other waits. `false`: it is no such leg.
    pub(super) fn leave(&mut self, core: &Core, s: &mut Shared, leg: Leg) -> bool {
        let Some(transfer) = self.transfer.as_mut().filter(|transfer| transfer.leg == leg) else { return false };
        transfer.gone = true;
        self.side(leg).timer = SessionTimer::new(&s.config.trunks[core.trunk(leg).0].methods);
        s.out.media(Command::SetLeg { session: core.session, leg, media: LegMedia::idle() });
        true
    }

    /// The transfer's target answers.
    pub(super) fn handle_transfer_response(
        &mut self,
        now: Instant,
        core: &mut Core,
        s: &mut Shared,
        response: &Response,
    ) -> Verdict {
        let Some(transfer) = &mut self.transfer else { return Verdict::Stay };
        transfer.attempt.silence = None;
        match response.status {
            100 | 199 => Verdict::Stay,
            ..=198 => {
                let (leg, id) = (transfer.leg, transfer.id);
                if std::mem::replace(&mut transfer.told, response.status) != response.status {
                    self.notify(now, core, s, leg, (id, response.status, false));
                }
                Verdict::Stay
            }
            200..=299 => self.switch(now, core, s, response),
            408 | 503 => self.try_next_target(now, core, s, response.status),
            status => self.end_transfer(now, core, s, status),
        }
    }

    /// The target gave no final answer (408), or cannot be reached (503): the next one is asked.
    pub(super) fn try_next_target(&mut self, now: Instant, core: &Core, s: &mut Shared, status: u16) -> Verdict {
        let Some(mut transfer) = self.transfer.take() else { return Verdict::Stay };
        let what = (&transfer.facts, &transfer.like, transfer.replaces.as_deref());
        let next = self.ask_next_target(now, core, s, (transfer.leg, &mut transfer.rest), what);
        let asked = next.map(|attempt| transfer.attempt = attempt).is_some();
        self.transfer = Some(transfer);
        if asked { Verdict::Stay } else { self.end_transfer(now, core, s, status) }
    }

    /// The transfer comes to nothing.
    fn end_transfer(&mut self, now: Instant, core: &Core, s: &mut Shared, status: u16) -> Verdict {
        let Some(transfer) = self.transfer.take() else { return Verdict::Stay };
        let leg = transfer.leg;
        if transfer.gone {
            let cause = match leg {
                Leg::Customer => EndCause::CustomerHungUp,
                Leg::Agent => EndCause::AgentHungUp,
            };
            return Verdict::End { cause, gone: Some(leg), reason: None };
        }
        self.notify(now, core, s, leg, (transfer.id, status, true));
        Verdict::Stay
    }

    /// The target has answered: it takes the place of the leg that asked.
    fn switch(&mut self, now: Instant, core: &mut Core, s: &mut Shared, response: &Response) -> Verdict {
        let Some(transfer) = &mut self.transfer else { return Verdict::Stay };
        let leg = transfer.leg;
        let Attempt { client, invite, dest, trunk, sdp, timer, .. } = &mut transfer.attempt;
        let (client, dest, trunk) = (*client, *dest, *trunk);
        let answer = bodies::read(&response.headers, &response.body).ok().flatten();
        let agreed = answer.and_then(|answer| sdp.accept(&answer, &s.policies[trunk.0]).ok());
        let (Some((peer, media)), Ok(dialog)) = (agreed, Dialog::uac(invite, response)) else {
            s.stray_answer(now, client, response);
            return self.end_transfer(now, core, s, 488);
        };
        let updates = response.headers.lists(HeaderName::Allow, "UPDATE");
        let (sdp, mut timer) = (sdp.clone(), timer.clone());
        timer.handle_response(now, response);
        s.ack(now, client, &dialog, dest, None);
        let (id, gone, user) = (transfer.id, transfer.gone, transfer.facts.user.clone());
        self.transfer = None;
        if !gone {
            self.notify(now, core, s, leg, (id, 200, true));
        }
        let (tag, call_id) = (dialog.id().local_tag.clone(), dialog.id().call_id.clone());
        let mut side = Side::new((core, s, leg), dialog, dest, sdp, Some(peer), updates);
        side.timer = timer;
        core.own_tag(s, leg, &tag);
        core.moves(now, s, (leg, trunk), &call_id, &user);
        self.replace(now, core, s, (leg, side), gone);
        core.agreed(s, leg, &media);
        self.owed[leg.other().index()] = Some(Owed::from(now));
        self.pay(now, core, s)
    }

    /// A new dialog takes the place of a leg's; the old one is ended, unless it has ended itself.
    pub(super) fn replace(&mut self, now: Instant, core: &mut Core, s: &mut Shared, new: (Leg, Side), gone: bool) {
        let (leg, side) = new;
        let Side { mut dialog, dest, .. } = std::mem::replace(self.side(leg), side);
        core.bury_tag(now, s, &dialog.id().local_tag.clone());
        if !gone {
            s.bye(now, &mut dialog, dest, None);
        }
        self.note_holds(core, s);
        s.out.event(core.id, EventKind::CallTransferred { leg, to: core.far_end(leg).to_owned() });
    }

    /// Tells the legs that stayed of their new other ends, when nothing else is being negotiated.
    pub(super) fn pay(&mut self, now: Instant, core: &Core, s: &mut Shared) -> Verdict {
        for leg in [Leg::Agent, Leg::Customer] {
            if self.owed[leg.index()].is_none_or(|owed| owed.at > now) {
                continue;
            }
            match self.renew(now, core, s, (leg, true)) {
                Renewal::Asked => self.owed[leg.index()] = None,
                Renewal::Later => self.owed[leg.index()] = Some(Owed::from(now + super::renew::BUSY)),
                Renewal::Impossible => {
                    return Verdict::End { cause: EndCause::Failure, gone: None, reason: None };
                }
            }
        }
        Verdict::Stay
    }

    /// NOTIFY of a transfer's progress.
    pub(super) fn notify(
        &mut self,
        now: Instant,
        core: &Core,
        s: &mut Shared,
        leg: Leg,
        (id, status, over): (u32, u16, bool),
    ) {
        if self.is_gone(leg) {
            return;
        }
        let listener = s.listener(core.trunk(leg)).clone();
        let side = self.side(leg);
        let mut notify = side.dialog.next_request(Method::Notify);
        crossing::describe_us(&mut notify.headers, &listener);
        notify.headers.push(HeaderName::Event, format!("refer;id={id}"));
        let state = if over { "terminated;reason=noresource" } else { "active;expires=180" };
        notify.headers.push(HeaderName::SubscriptionState, state);
        notify.set_body(SIPFRAG, format!("SIP/2.0 {status} {}\r\n", status::phrase(status)));
        let dest = side.dest;
        s.send(now, notify, dest, None);
    }

    /// Time passed.
    pub(super) fn handle_transfer_timeout(&mut self, now: Instant, core: &Core, s: &mut Shared) -> Verdict {
        if let Some(transfer) = &mut self.transfer {
            let client = transfer.attempt.client;
            if transfer.deadline <= now {
                s.abandon(now, client, None);
                return self.end_transfer(now, core, s, 408);
            }
            if transfer.attempt.silence.is_some_and(|at| at <= now) {
                s.abandon(now, client, None);
                return self.try_next_target(now, core, s, 408);
            }
        }
        self.pay(now, core, s)
    }

    /// When [`Established::handle_transfer_timeout`] is due.
    pub(super) fn transfer_timeout(&self) -> Option<Instant> {
        let transfer = self.transfer.as_ref();
        let transfer = transfer.and_then(|transfer| soonest(Some(transfer.deadline), transfer.attempt.silence));
        self.owed.iter().flatten().fold(transfer, |soon, owed| soonest(soon, Some(owed.at)))
    }

    /// The call ends: nobody waits for the target any more. The leg that has hung up already.
    pub(super) fn drop_transfer(&mut self, now: Instant, s: &mut Shared) -> Option<Leg> {
        if let Some(passed) = self.passed.take().filter(|passed| !passed.accepted) {
            s.refuse(now, passed.server, &passed.request, &Refused::new(487));
        }
        let transfer = self.transfer.take()?;
        s.abandon(now, transfer.attempt.client, None);
        transfer.gone.then_some(transfer.leg)
    }
}

/// Where a REFER leads: one Refer-To whose URI has a user, an INVITE, and Replaces only where the trunk has it.
fn read_refer(request: &Request, trunk: &Trunk) -> Result<Wanted, Refused> {
    let mut targets = request.headers.items(HeaderName::ReferTo);
    let (Some(target), None) = (targets.next(), targets.next()) else {
        return Err(Refused::because(400, "One Refer-To Is Wanted"));
    };
    let target = NameAddr::parse(target).map_err(|_| Refused::because(400, "Malformed Refer-To"))?;
    let user = crossing::number(&target.uri).ok_or(Refused::new(484))?;
    if target.uri.param("method").is_some_and(|method| !method.eq_ignore_ascii_case("INVITE")) {
        return Err(Refused::because(403, "Only INVITE"));
    }
    let headers = target.uri.sip().and_then(|sip| sip.headers).unwrap_or_default();
    let named = |header: &&str| header.split('=').next().is_some_and(|name| name.eq_ignore_ascii_case("Replaces"));
    let replaces = match headers.split('&').find(named) {
        None => None,
        Some(_) if !trunk.methods.replaces => return Err(Refused::because(403, "Replaces Not Allowed")),
        Some(header) => {
            let value = unescape(header.split_once('=').map_or("", |(_, value)| value));
            let read = Replaces::parse(&value).map_err(|_| Refused::because(400, "Malformed Replaces"))?;
            Some(read.to_string())
        }
    };
    Ok(Wanted { user, replaces })
}

/// Percent-escapes undone; what comes out is read by a grammar that takes no control characters.
fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        let escaped = (*first == b'%').then(|| more.get(..2)).flatten();
        let escaped = escaped.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        rest = if escaped.is_some() { &more[2..] } else { more };
        out.push(escaped.unwrap_or(*first));
    }
    out
}

/// Whether a leg may move to another trunk: customers stay on theirs, since its guard is the call's; agents may move to
/// one that asks for the same recording, which was opened once for all.
fn fits(from: &Trunk, (old, new): (TrunkId, TrunkId), to: &Trunk) -> bool {
    old == new || (from.side == crate::config::Side::Pbx && from.recording == to.recording)
}

/// A peer as if it had put nobody on hold: whoever comes new into the call is not to find it held.
pub(super) fn talking(peer: &Peer) -> Peer {
    let mut peer = peer.clone();
    peer.direction = Direction::SendRecv;
    peer
}
