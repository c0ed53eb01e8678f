//! One early dialog: what one fork of the called side has said so far, and the dialog it has made toward the caller.
//! Provisional responses, PRACKs and UPDATEs (RFC 3262, RFC 3311) go in; responses and requests for either side go
//! out. It does not decide whether the call goes on: [`Fork::broken`] and [`Fork::is_blocked`] tell `setup`.
//!
//! ```text
//!  callee                                        caller
//!  183 reliable, answer ──► PRACK at once    ──► 183, reliable where the caller has 100rel; awaits its PRACK
//!  183 reliable, offer  ──► PRACK waits      ──► 183 reliable with our offer ── PRACK with answer ──┐
//!                       ◄── PRACK with answer ◄─────────────────────────────────────────────────────┘
//!  PRACK or UPDATE with an offer: asked on by UPDATE where the other side may be asked, else answered here
//! ```

use std::time::Instant;

use bytes::Bytes;
use rand::RngExt;
use smallvec::SmallVec;

use super::core::Core;
use super::established::Side;
use super::refused::Refused;
use super::setup::Caller;
use super::shared::{Asked, Shared};
use super::{bodies, crossing};
use crate::base::ids::Leg;
use crate::config::Extension;
use crate::sdp::Session;
use crate::sdp::negotiate::{Ask, LegSession, Peer, read_peer};
use crate::sip::msg::HeaderName;
use crate::sip::msg::header::RAck;
use crate::sip::reliable::{Due, Order, Received, Sent};
use crate::sip::session_timer::SessionTimer;
use crate::sip::{ClientId, Dest, Dialog, Method, Request, Response, ServerId};

/// Whom a fork acts among.
pub(super) struct Scene<'a> {
    pub(super) now: Instant,
    pub(super) core: &'a Core,
    pub(super) s: &'a mut Shared,
    pub(super) caller: &'a Caller,
}

/// The target a fork belongs to.
#[derive(Clone, Copy)]
pub(super) struct Attempted<'a> {
    pub(super) invite: &'a Request,
    pub(super) dest: Dest,
    pub(super) sdp: &'a LegSession,
    pub(super) timer: &'a SessionTimer,
    /// We offered to acknowledge provisional responses.
    pub(super) reliable: bool,
}

/// An offer of one side that the other is being asked about.
struct Change {
    from: Leg,
    server: ServerId,
    /// PRACK or UPDATE of `from`.
    request: Request,
    client: ClientId,
    offer: Peer,
}

/// One early dialog on either side.
pub(super) struct Fork {
    pub(super) remote_tag: String,
    /// Our tag toward the caller.
    pub(super) caller_tag: String,
    /// Customer, agent.
    pub(super) legs: [Side; 2],
    /// Per leg: offer and answer have been exchanged reliably, so that either end may offer anew.
    settled: [bool; 2],
    /// Our last answer to the caller.
    pub(super) answer: Option<Bytes>,
    /// What the caller was told reliably, answer or offer.
    told: Option<Bytes>,
    /// RSeq of the callee's response whose offer waits for the caller's answer.
    late: Option<u32>,
    pub(super) sent: Sent,
    received: Received,
    reliable: bool,
    invite_cseq: u32,
    change: Option<Change>,
    pracks: SmallVec<[ClientId; 2]>,
    /// The status with which the call must end.
    pub(super) broken: Option<u16>,
}

impl Fork {
    /// The early dialog that `response` makes; `None` when either side's headers make none.
    pub(super) fn new(
        x: &mut Scene<'_>,
        asked: Attempted<'_>,
        caller_tag: String,
        response: &Response,
    ) -> Option<Fork> {
        let (caller_leg, callee_leg) = (x.core.caller_leg, x.core.caller_leg.other());
        // A provisional response of RFC 2543 may have no tag: its dialog is told apart all the same.
        let mut tagged = response.clone();
        tagged.set_to_tag("untagged");
        let callee = Dialog::uac(asked.invite, &tagged).ok()?;
        let first_cseq = x.s.random.random_range(1..1 << 16);
        let caller = Dialog::uas(&x.caller.request, &caller_tag, first_cseq).ok()?;
        let updates = x.caller.request.headers.lists(HeaderName::Allow, "UPDATE");
        let (sdp, offer) = (x.caller.sdp.clone(), x.caller.offer.clone());
        let caller = Side::new((x.core, x.s, caller_leg), caller, x.caller.dest, sdp, offer, updates);
        let mut callee = Side::new((x.core, x.s, callee_leg), callee, asked.dest, asked.sdp.clone(), None, false);
        callee.timer = asked.timer.clone();
        Some(Fork {
            remote_tag: response.to_tag().unwrap_or_default().to_owned(),
            caller_tag,
            legs: match caller_leg {
                Leg::Customer => [caller, callee],
                Leg::Agent => [callee, caller],
            },
            settled: [false; 2],
            answer: None,
            told: None,
            late: None,
            sent: Sent::new(x.s.random.random()),
            received: Received::default(),
            reliable: asked.reliable,
            invite_cseq: asked.invite.cseq().map(|cseq| cseq.number).unwrap_or_default(),
            change: None,
            pracks: SmallVec::new(),
            broken: None,
        })
    }

    pub(super) fn side(&mut self, leg: Leg) -> &mut Side {
        &mut self.legs[leg.index()]
    }

    /// `leg` and the other.
    fn pair(&mut self, leg: Leg) -> (&mut Side, &mut Side) {
        let [customer, agent] = &mut self.legs;
        match leg {
            Leg::Customer => (customer, agent),
            Leg::Agent => (agent, customer),
        }
    }

    /// Whether offer and answer of a leg are complete.
    pub(super) fn is_settled(&self, leg: Leg) -> bool {
        self.settled[leg.index()]
    }

    /// Whether anything was told the caller reliably: its dialog cannot serve another target.
    pub(super) fn is_told(&self) -> bool {
        self.told.is_some() || self.sent.is_waiting()
    }

    /// Whether the caller may not be given its 2xx yet (RFC 3262 section 3).
    pub(super) fn is_blocked(&self) -> bool {
        self.sent.holds_answer() || self.change.is_some() || self.late.is_some()
    }

    /// Whether the fork waits for the answer to `client`.
    pub(super) fn awaits(&self, client: ClientId) -> bool {
        self.pracks.contains(&client) || self.change.as_ref().is_some_and(|change| change.client == client)
    }

    /// The callee's provisional response, to be passed on as `status`.
    pub(super) fn handle_provisional(&mut self, x: &mut Scene<'_>, status: u16, response: &Response) {
        let callee = x.core.caller_leg.other();
        let rseq = match self.received.take(response).filter(|_| self.reliable) {
            Some(Order::Repeated | Order::OutOfOrder) => return,
            Some(Order::New(rseq)) => Some(rseq),
            None => None,
        };
        self.side(callee).updates |= response.headers.lists(HeaderName::Allow, "UPDATE");
        // A body that cannot be used is left out: the caller still hears that it rings.
        let described = bodies::read(&response.headers, &response.body).ok().flatten();
        let described = described.filter(|_| !self.is_settled(callee) && self.late.is_none());
        let may_offer = x.caller.reliable != Extension::Off;
        let ours = match (described, &x.caller.offer, rseq) {
            (Some(answer), Some(_), _) => {
                let ours = self.join(x, &answer).ok();
                self.settled[callee.index()] = ours.is_some() && rseq.is_some();
                ours
            }
            (Some(offer), None, Some(rseq)) if may_offer => {
                let ours = self.pass_offer(x, &offer).ok();
                self.late = ours.as_ref().map(|_| rseq);
                ours
            }
            _ => None,
        };
        if let Some(rseq) = rseq.filter(|rseq| self.late != Some(*rseq)) {
            self.prack(x, rseq, None);
        }
        self.tell(x, (status, rseq.is_some(), response), ours);
    }

    /// Passes a provisional response on: reliably where the caller wants that, or has it and it matters.
    fn tell(
        &mut self,
        x: &mut Scene<'_>,
        (status, came_reliably, theirs): (u16, bool, &Response),
        ours: Option<Session>,
    ) {
        let body = ours.map(|ours| Bytes::from(ours.to_bytes()));
        if x.caller.offer.is_some() && body.is_some() {
            self.answer.clone_from(&body);
        }
        // An answer told reliably stands; only a new offer could change it.
        let body = body.filter(|_| self.told.is_none());
        // RFC 3262 section 5: without an offer in the INVITE, the first reliable response must make one.
        let may = x.caller.offer.is_some() || body.is_some() || self.told.is_some();
        let reliably = match x.caller.reliable {
            Extension::Off => false,
            Extension::Supported => may && (body.is_some() || came_reliably),
            Extension::Required if may => true,
            Extension::Required => return,
        };
        let listener = x.s.listener(x.core.trunk(x.core.caller_leg));
        let mut ringing = crossing::response(&x.caller.request, status, &self.caller_tag, listener);
        let pass = &x.s.config.trunks[x.core.trunk(x.core.caller_leg.other()).0].pass_headers;
        crossing::pass_answer(theirs, &mut ringing, pass, listener);
        if let Some(body) = body {
            if reliably {
                self.told = Some(body.clone());
            }
            ringing.set_body(bodies::SDP, body);
        }
        let ringing = if reliably { self.sent.push(x.now, &x.s.timers, ringing) } else { Some(ringing) };
        if let Some(ringing) = ringing {
            x.s.respond(x.now, x.caller.server, ringing);
        }
    }

    /// Joins the callee's answer with the caller's offer; media follows at once.
    pub(super) fn join(&mut self, x: &mut Scene<'_>, answer: &Session) -> Result<Session, Refused> {
        let caller_leg = x.core.caller_leg;
        let (caller, callee) = self.pair(caller_leg);
        let Some(offer) = &caller.peer else { return Err(Refused::new(500)) };
        let (peer, callee_media) = callee.sdp.accept(answer, x.core.policy(x.s, caller_leg.other()))?;
        let keep = x.core.keep_events(x.s, caller_leg);
        let (ours, caller_media) = caller.sdp.answer(offer, Some(&peer), keep, x.core.policy(x.s, caller_leg))?;
        callee.peer = Some(peer);
        x.core.agreed(x.s, caller_leg, &caller_media);
        x.core.agreed(x.s, caller_leg.other(), &callee_media);
        Ok(ours)
    }

    /// The callee makes the offer: ours to the caller is built from it.
    pub(super) fn pass_offer(&mut self, x: &mut Scene<'_>, offer: &Session) -> Result<Session, Refused> {
        let caller_leg = x.core.caller_leg;
        let peer = read_peer(offer, x.core.policy(x.s, caller_leg.other()))?;
        let ask = Ask { other: Some(&peer), keep_events: x.core.keep_events(x.s, caller_leg) };
        let (caller, callee) = self.pair(caller_leg);
        let ours = caller.sdp.offer(ask, x.core.policy(x.s, caller_leg))?;
        callee.peer = Some(peer);
        Ok(ours)
    }

    /// Acknowledges the callee's response `rseq`.
    fn prack(&mut self, x: &mut Scene<'_>, rseq: u32, answer: Option<Vec<u8>>) {
        let rack = format!("{rseq} {} INVITE", self.invite_cseq);
        let side = self.side(x.core.caller_leg.other());
        let mut prack = side.dialog.next_request(Method::Prack);
        prack.headers.push(HeaderName::RAck, rack);
        if let Some(answer) = answer {
            prack.set_body(bodies::SDP, answer);
        }
        let dest = side.dest;
        let client = x.s.send(x.now, prack, dest, Some(Asked::Change(x.core.id)));
        self.pracks.push(client);
    }

    /// A PRACK or UPDATE of `leg` in this dialog.
    pub(super) fn handle_request(&mut self, x: &mut Scene<'_>, (leg, id, request): (Leg, ServerId, &Request)) {
        if let Err(fault) = self.side(leg).dialog.handle_request(request) {
            let response = fault.response(request, &mut x.s.random);
            return x.s.respond(x.now, id, response);
        }
        let taken = match &request.method {
            Method::Prack => self.take_prack(x, (leg, id, request)),
            _ => self.take_update(x, (leg, id, request)),
        };
        if let Err(why) = taken {
            x.s.refuse(x.now, id, request, &why);
        }
        if let Some(next) = self.sent.poll_next(x.now, &x.s.timers) {
            x.s.respond(x.now, x.caller.server, next);
        }
    }

    fn take_prack(&mut self, x: &mut Scene<'_>, (leg, id, request): (Leg, ServerId, &Request)) -> Result<(), Refused> {
        let rack = request.headers.get(HeaderName::RAck).ok_or(Refused::because(400, "PRACK Without RAck"))?;
        let rack = RAck::parse(rack).map_err(|_| Refused::because(400, "Malformed RAck"))?;
        if leg != x.core.caller_leg || !self.sent.handle_prack(&rack) {
            return Err(Refused::new(481));
        }
        let described = bodies::read(&request.headers, &request.body);
        if let Some(rseq) = self.late.take() {
            return self.take_late_answer(x, (id, request), rseq, described);
        }
        self.settled[leg.index()] |= self.told.is_some() && !self.sent.holds_answer();
        match described? {
            None => x.s.respond(x.now, id, Response::for_request(request, 200, "")),
            Some(offer) => self.start_change(x, (leg, id, request), &offer)?,
        }
        Ok(())
    }

    /// The caller's answer to the callee's offer.
    fn take_late_answer(
        &mut self,
        x: &mut Scene<'_>,
        (id, request): (ServerId, &Request),
        rseq: u32,
        described: Result<Option<Session>, Refused>,
    ) -> Result<(), Refused> {
        let joined = described
            .and_then(|answer| answer.ok_or(Refused::because(400, "PRACK Without Answer")))
            .and_then(|answer| self.agree(x, x.core.caller_leg, &answer));
        match joined {
            Ok(ours) => {
                x.s.respond(x.now, id, Response::for_request(request, 200, ""));
                self.prack(x, rseq, Some(ours.to_bytes()));
                self.settled = [true; 2];
                Ok(())
            }
            Err(why) => {
                self.broken = Some(why.status);
                Err(why)
            }
        }
    }

    /// `leg` answers our offer, which was made from the other's: the answer for the other.
    fn agree(&mut self, x: &mut Scene<'_>, leg: Leg, answer: &Session) -> Result<Session, Refused> {
        let other_leg = leg.other();
        let (side, other) = self.pair(leg);
        let Some(offer) = &other.peer else { return Err(Refused::new(500)) };
        let (peer, media) = side.sdp.accept(answer, x.core.policy(x.s, leg))?;
        let keep = x.core.keep_events(x.s, other_leg);
        let (ours, other_media) = other.sdp.answer(offer, Some(&peer), keep, x.core.policy(x.s, other_leg))?;
        side.peer = Some(peer);
        x.core.agreed(x.s, leg, &media);
        x.core.agreed(x.s, other_leg, &other_media);
        Ok(ours)
    }

    fn take_update(&mut self, x: &mut Scene<'_>, (leg, id, request): (Leg, ServerId, &Request)) -> Result<(), Refused> {
        let side = self.side(leg);
        side.dest = crossing::next_hop(&x.s.config, x.core.trunk(leg), side.dialog.next_hop(), side.dest);
        let Some(offer) = bodies::read(&request.headers, &request.body)? else {
            let mut ok = Response::for_request(request, 200, "");
            crossing::describe_us(&mut ok.headers, x.s.listener(x.core.trunk(leg)));
            x.s.respond(x.now, id, ok);
            return Ok(());
        };
        // RFC 3311 section 5.2: an offer of ours is pending, or an earlier one of theirs.
        match () {
            () if self.late.is_some() && leg == x.core.caller_leg => Err(Refused::new(491)),
            () if self.change.as_ref().is_some_and(|change| change.from != leg) => Err(Refused::new(491)),
            () if self.change.is_some() || !self.is_settled(leg) => Err(Refused::moment()),
            () => self.start_change(x, (leg, id, request), &offer),
        }
    }

    /// `leg` offers anew: the other is asked, if it can be; else the answer is made from what it last said.
    fn start_change(
        &mut self,
        x: &mut Scene<'_>,
        (leg, server, request): (Leg, ServerId, &Request),
        offer: &Session,
    ) -> Result<(), Refused> {
        let other_leg = leg.other();
        let offer = read_peer(offer, x.core.policy(x.s, leg))?;
        let may_ask = self.is_settled(other_leg) && self.side(other_leg).updates;
        let (side, other) = self.pair(leg);
        if may_ask {
            let ask = Ask { other: Some(&offer), keep_events: x.core.keep_events(x.s, other_leg) };
            let body = other.sdp.offer(ask, x.core.policy(x.s, other_leg))?.to_bytes();
            let mut update = other.dialog.next_request(Method::Update);
            crossing::describe_us(&mut update.headers, x.s.listener(x.core.trunk(other_leg)));
            update.set_body(bodies::SDP, body);
            let dest = other.dest;
            let client = x.s.send(x.now, update, dest, Some(Asked::Change(x.core.id)));
            self.change = Some(Change { from: leg, server, request: request.clone(), client, offer });
            return Ok(());
        }
        let Some(peer) = &other.peer else { return Err(Refused::moment()) };
        let keep = x.core.keep_events(x.s, leg);
        let (ours, media) = side.sdp.answer(&offer, Some(peer), keep, x.core.policy(x.s, leg))?;
        side.peer = Some(offer);
        x.core.agreed(x.s, leg, &media);
        Self::answer_change(x, (leg, server, request), &ours);
        Ok(())
    }

    fn answer_change(x: &mut Scene<'_>, (leg, server, request): (Leg, ServerId, &Request), ours: &Session) {
        let mut ok = Response::for_request(request, 200, "");
        if request.method == Method::Update {
            crossing::describe_us(&mut ok.headers, x.s.listener(x.core.trunk(leg)));
        }
        ok.set_body(bodies::SDP, ours.to_bytes());
        x.s.respond(x.now, server, ok);
    }

    /// A final response to a PRACK or UPDATE of ours, or its failure as a status; whether the dialog is lost.
    pub(super) fn handle_response(&mut self, x: &mut Scene<'_>, client: ClientId, response: &Response) -> bool {
        if let Some(at) = self.pracks.iter().position(|prack| *prack == client) {
            self.pracks.remove(at);
            return response.class() != 2;
        }
        let Some(change) = self.change.take() else { return false };
        let Change { from, server, request, offer, .. } = change;
        let asked = from.other();
        self.side(asked).dialog.handle_response(response);
        if response.class() != 2 {
            self.side(asked).sdp.withdraw();
            let across = if response.status == 491 { 491 } else { crossing::status_across(response.status) };
            x.s.refuse(x.now, server, &request, &Refused::new(across));
            return matches!(response.status, 408 | 481);
        }
        let former = self.side(from).peer.replace(offer);
        let joined = bodies::read(&response.headers, &response.body)
            .and_then(|answer| answer.ok_or(Refused::new(500)))
            .and_then(|answer| self.agree(x, asked, &answer));
        match joined {
            Ok(ours) => Self::answer_change(x, (from, server, &request), &ours),
            Err(why) => {
                // The other side already lives by it: the dialogs cannot be joined any more.
                self.side(from).peer = former;
                let status = if why.status == 488 { 488 } else { 500 };
                x.s.refuse(x.now, server, &request, &Refused::new(status));
                self.broken = Some(status);
            }
        }
        false
    }

    /// The callee's 2xx: its dialog is confirmed, and may have moved.
    pub(super) fn confirm(&mut self, x: &mut Scene<'_>, response: &Response) {
        let leg = x.core.caller_leg.other();
        let side = self.side(leg);
        side.dialog.handle_response(response);
        side.timer.handle_response(x.now, response);
        // A Record-Route that cannot be read leaves the one that could.
        let _ = side.dialog.refresh_routes(response);
        side.dest = crossing::next_hop(&x.s.config, x.core.trunk(leg), side.dialog.next_hop(), side.dest);
        side.updates |= response.headers.lists(HeaderName::Allow, "UPDATE");
    }

    /// What the caller's 2xx must still say: our answer, unless it was told reliably already.
    pub(super) fn untold(&self) -> Option<Bytes> {
        self.answer.clone().filter(|answer| self.told.as_ref() != Some(answer))
    }

    /// Puts this fork's media in force: another one's early media may have been.
    pub(super) fn put_in_force(&self, x: &mut Scene<'_>) {
        for leg in [Leg::Customer, Leg::Agent] {
            if let Some(media) = self.legs[leg.index()].sdp.media() {
                x.core.agreed(x.s, leg, media);
            }
        }
    }

    /// Nothing comes of this fork: a request that still waits gets its answer.
    pub(super) fn drop_change(&mut self, now: Instant, s: &mut Shared) {
        if let Some(change) = self.change.take() {
            s.refuse(now, change.server, &change.request, &Refused::new(487));
        }
    }

    /// Time passed.
    pub(super) fn handle_timeout(&mut self, now: Instant, s: &mut Shared, invite: ServerId) {
        match self.sent.handle_timeout(now) {
            Due::Nothing => {}
            Due::Resend(response) => s.respond(now, invite, response),
            Due::GiveUp => self.broken = Some(504),
        }
    }
}
