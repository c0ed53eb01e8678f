//! Re-negotiation of an answered call: a re-INVITE or UPDATE with SDP of one leg becomes one toward the other, and only
//! when both have agreed does media change. It has no access to guard, holds or mask (threats R25): what protects the
//! call is untouched by anything that happens here.

use std::time::{Duration, Instant};

use super::call::Verdict;
use super::core::Core;
use super::established::{Asking, Established, Exchange, Late};
use super::refused::Refused;
use super::renew::no_answer;
use super::shared::{Asked, Shared};
use super::{bodies, crossing};
use crate::base::ids::Leg;
use crate::base::time::soonest;
use crate::obs::event::EndCause;
use crate::sdp::negotiate::{Ask, Peer, read_peer};
use crate::sdp::{Media, Session};
use crate::sip::{ClientId, Method, Request, Response, ServerId};

/// How long the other leg may think about a change before it is cancelled.
const PATIENCE: Duration = Duration::from_secs(60);

impl Established {
    /// A re-INVITE or UPDATE of `leg`. On refusal nothing has changed.
    pub(super) fn handle_change(
        &mut self,
        now: Instant,
        core: &mut Core,
        s: &mut Shared,
        (leg, server, request): (Leg, ServerId, &Request),
    ) -> Result<(), Refused> {
        if let Some(min) = self.side(leg).timer.too_short(request) {
            return Err(Refused::too_short(min));
        }
        super::info::signal_header(now, core, s, leg, request);
        if request.method == Method::Update && request.body.is_empty() {
            // A session refresh, a new target or a signal: nothing to negotiate.
            let ok = self.agree_to(now, core, s, (leg, request));
            s.respond(now, server, ok);
            self.retarget(core, s, leg);
            return Ok(());
        }
        self.start_change(now, core, s, (leg, server, request))
    }

    /// Our 200 to a re-INVITE or UPDATE of `leg`, still without a body.
    fn agree_to(&mut self, now: Instant, core: &Core, s: &Shared, (leg, request): (Leg, &Request)) -> Response {
        let mut ok = Response::for_request(request, 200, "");
        crossing::describe_us(&mut ok.headers, s.listener(core.trunk(leg)));
        self.side(leg).timer.write_answer(now, request, &mut ok.headers);
        ok
    }

    /// `leg` asks for a change: asks the other leg.
    fn start_change(
        &mut self,
        now: Instant,
        core: &mut Core,
        s: &mut Shared,
        (leg, server, request): (Leg, ServerId, &Request),
    ) -> Result<(), Refused> {
        let update = request.method == Method::Update;
        match &self.exchange {
            // One of the legs is about to be another.
            _ if self.transfer.is_some() => return Err(Refused::new(491)),
            Exchange::Quiet => {}
            Exchange::Asking(asking) if asking.from == leg => return Err(Refused::moment()),
            Exchange::Asking(_) | Exchange::Renewing(_) | Exchange::AwaitingAck { .. } => {
                return Err(Refused::new(491));
            }
        }
        let other = leg.other();
        if !self.side(other).dialog.may_invite() {
            return Err(Refused::new(491));
        }
        let described = bodies::read(&request.headers, &request.body)?;
        let offer = described.map(|offer| read_peer(&offer, core.policy(s, leg))).transpose()?;
        self.retarget(core, s, leg);
        let keep_events = core.keep_events(s, other);
        let listener = s.listener(core.trunk(other)).clone();
        let policy = core.policy(s, other);
        let side = self.side(other);
        let body = match &offer {
            Some(offer) => {
                let ask = Ask { other: Some(offer), keep_events };
                Some(side.sdp.offer(ask, policy)?.to_bytes())
            }
            None => None,
        };
        // A peer that takes no UPDATE is asked by re-INVITE.
        let invited = !(update && side.updates);
        let method = if invited { Method::Invite } else { Method::Update };
        let mut ours = side.dialog.next_request(method);
        crossing::describe_us(&mut ours.headers, &listener);
        side.timer.write_request(&mut ours.headers);
        if let Some(body) = body {
            ours.set_body(bodies::SDP, body);
        }
        let dest = side.dest;
        let client = if invited {
            s.send_invite(now, core.id, ours, dest)
        } else {
            s.send(now, ours, dest, Some(Asked::Change(core.id)))
        };
        s.servers.insert(server, core.id);
        let deadline = invited.then_some(now + PATIENCE);
        let request = request.clone();
        self.exchange =
            Exchange::Asking(Box::new(Asking { from: leg, server, request, client, invited, offer, deadline }));
        Ok(())
    }

    /// Whether `client` is the request the other leg is being asked by.
    pub(super) fn is_asking(&self, client: ClientId) -> bool {
        match &self.exchange {
            Exchange::Asking(asking) => asking.client == client,
            Exchange::Renewing(renewing) => renewing.client == client,
            Exchange::Quiet | Exchange::AwaitingAck { .. } => false,
        }
    }

    /// The other leg answers. Call only when [`Established::is_asking`].
    pub(super) fn handle_change_response(
        &mut self,
        now: Instant,
        core: &mut Core,
        s: &mut Shared,
        response: &Response,
    ) -> Verdict {
        if !response.is_final() {
            return Verdict::Stay;
        }
        let asking = match std::mem::replace(&mut self.exchange, Exchange::Quiet) {
            Exchange::Asking(asking) => asking,
            Exchange::Renewing(renewing) => return self.handle_renewed(now, core, s, (&renewing, response)),
            other @ (Exchange::Quiet | Exchange::AwaitingAck { .. }) => {
                self.exchange = other;
                return Verdict::Stay;
            }
        };
        let other = asking.from.other();
        self.side(other).dialog.handle_response(response);
        if response.class() != 2 {
            return self.change_failed(now, s, &asking, response.status);
        }
        self.side(other).timer.handle_response(now, response);
        self.retarget(core, s, other);
        let described = bodies::read(&response.headers, &response.body);
        match (&asking.offer, described) {
            (Some(offer), Ok(Some(answer))) => match self.agree(core, s, asking.from, offer, &answer) {
                Ok(ours) => {
                    if asking.invited {
                        let side = self.side(other);
                        s.ack(now, asking.client, &side.dialog.clone(), side.dest, None);
                    }
                    self.answer_change(now, core, s, &asking, (&ours, None));
                    self.note_holds(core, s);
                    Verdict::Stay
                }
                Err(why) => self.change_unusable(now, s, &asking, &why),
            },
            (None, Ok(Some(offer))) => match self.pass_late_offer(core, s, asking.from, &offer) {
                Ok((ours, offer)) => {
                    let late = Late { client: asking.client, offer: Box::new(offer) };
                    self.answer_change(now, core, s, &asking, (&ours, Some(late)));
                    Verdict::Stay
                }
                Err(why) => self.change_unusable(now, s, &asking, &why),
            },
            (_, Ok(None)) => self.change_unusable(now, s, &asking, &Refused::new(500)),
            (_, Err(why)) => self.change_unusable(now, s, &asking, &why),
        }
    }

    /// The request to the other leg timed out (408) or could not be sent (503).
    pub(super) fn handle_change_failure(&mut self, now: Instant, core: &Core, s: &mut Shared, status: u16) -> Verdict {
        let asking = match std::mem::replace(&mut self.exchange, Exchange::Quiet) {
            Exchange::Asking(asking) => asking,
            Exchange::Renewing(renewing) => {
                let response = no_answer(self.side(renewing.leg), Method::Invite, status);
                return self.handle_renewed(now, core, s, (&renewing, &response));
            }
            other @ (Exchange::Quiet | Exchange::AwaitingAck { .. }) => {
                self.exchange = other;
                return Verdict::Stay;
            }
        };
        let other = asking.from.other();
        // The dialog must learn that its INVITE is over.
        let method = if asking.invited { Method::Invite } else { Method::Update };
        let verdict = no_answer(self.side(other), method, status);
        self.side(other).dialog.handle_response(&verdict);
        self.change_failed(now, s, &asking, status)
    }

    /// The other leg refuses: the old session stands, unless its dialog is gone (RFC 3261 section 12.2.1.2).
    fn change_failed(&mut self, now: Instant, s: &mut Shared, asking: &Asking, status: u16) -> Verdict {
        let other = asking.from.other();
        self.side(other).sdp.withdraw();
        let across = match status {
            491 => 491,
            status => crossing::status_across(status),
        };
        self.refuse_change(now, s, asking, &Refused::new(across));
        match status {
            408 | 481 => Verdict::End { cause: EndCause::Timeout, gone: None, reason: None },
            _ => Verdict::Stay,
        }
    }

    /// The other leg agreed to something that cannot be joined: it already lives by it, so the call cannot go on.
    fn change_unusable(&mut self, now: Instant, s: &mut Shared, asking: &Asking, why: &Refused) -> Verdict {
        let other = asking.from.other();
        if asking.invited {
            let side = self.side(other);
            s.ack(now, asking.client, &side.dialog.clone(), side.dest, None);
        }
        self.side(other).sdp.withdraw();
        let status = if why.status == 488 { 488 } else { 500 };
        self.refuse_change(now, s, asking, &Refused::new(status));
        Verdict::End { cause: EndCause::Failure, gone: None, reason: None }
    }

    fn refuse_change(&mut self, now: Instant, s: &mut Shared, asking: &Asking, why: &Refused) {
        if asking.request.method == Method::Invite {
            self.side(asking.from).dialog.invite_answered(why.status);
        }
        s.servers.remove(&asking.server);
        s.refuse(now, asking.server, &asking.request, why);
    }

    /// Gives `from` its 200 with our description.
    fn answer_change(
        &mut self,
        now: Instant,
        core: &Core,
        s: &mut Shared,
        asking: &Asking,
        (ours, late): (&Session, Option<Late>),
    ) {
        let from = asking.from;
        let mut ok = self.agree_to(now, core, s, (from, &asking.request));
        ok.set_body(bodies::SDP, ours.to_bytes());
        s.respond(now, asking.server, ok);
        if asking.request.method == Method::Invite {
            self.side(from).dialog.invite_answered(200);
            self.exchange = Exchange::AwaitingAck { from, server: asking.server, late };
        } else {
            s.servers.remove(&asking.server);
        }
    }

    /// Joins the other leg's answer with the offer of `from`; on success media follows on both legs.
    fn agree(
        &mut self,
        core: &Core,
        s: &mut Shared,
        from: Leg,
        offer: &Peer,
        answer: &Session,
    ) -> Result<Session, Refused> {
        let other = from.other();
        let (peer, other_media) = self.side(other).sdp.accept(answer, core.policy(s, other))?;
        let keep = core.keep_events(s, from);
        let policy = core.policy(s, from);
        let (ours, from_media) = self.side(from).sdp.answer(offer, Some(&peer), keep, policy)?;
        self.side(from).peer = Some(offer.clone());
        self.side(other).peer = Some(peer);
        self.put_in_force(core, s, (from, &from_media), (other, &other_media));
        Ok(ours)
    }

    fn put_in_force(&self, core: &Core, s: &mut Shared, a: (Leg, &Media), b: (Leg, &Media)) {
        for (leg, media) in [a, b] {
            core.agreed(s, leg, media);
        }
    }

    fn pass_late_offer(
        &mut self,
        core: &Core,
        s: &Shared,
        from: Leg,
        offer: &Session,
    ) -> Result<(Session, Peer), Refused> {
        let peer = read_peer(offer, core.policy(s, from.other()))?;
        let ask = Ask { other: Some(&peer), keep_events: core.keep_events(s, from) };
        let ours = self.side(from).sdp.offer(ask, core.policy(s, from))?;
        Ok((ours, peer))
    }

    /// The ACK of `invite` came; with a late offer it carries the answer.
    pub(super) fn handle_ack(
        &mut self,
        now: Instant,
        core: &mut Core,
        s: &mut Shared,
        (invite, ack): (ServerId, &Request),
    ) -> Verdict {
        let (from, late) = match std::mem::replace(&mut self.exchange, Exchange::Quiet) {
            Exchange::AwaitingAck { from, server, late } if server == invite => (from, late),
            other @ (Exchange::AwaitingAck { .. } | Exchange::Asking(_) | Exchange::Renewing(_) | Exchange::Quiet) => {
                self.exchange = other;
                return Verdict::Stay;
            }
        };
        s.servers.remove(&invite);
        let Some(late) = late else { return Verdict::Stay };
        let other = from.other();
        let joined = bodies::read(&ack.headers, &ack.body)
            .and_then(|answer| answer.ok_or(Refused::new(400)))
            .and_then(|answer| self.agree_late(core, s, from, &late.offer, &answer));
        let (dialog, dest) = (self.side(other).dialog.clone(), self.side(other).dest);
        match joined {
            Ok(ours) => {
                s.ack(now, late.client, &dialog, dest, Some(ours.to_bytes()));
                self.note_holds(core, s);
                Verdict::Stay
            }
            Err(_) => {
                self.side(from).sdp.withdraw();
                s.ack(now, late.client, &dialog, dest, None);
                Verdict::End { cause: EndCause::Failure, gone: None, reason: None }
            }
        }
    }

    fn agree_late(
        &mut self,
        core: &Core,
        s: &mut Shared,
        from: Leg,
        offer: &Peer,
        answer: &Session,
    ) -> Result<Session, Refused> {
        let other = from.other();
        let (peer, from_media) = self.side(from).sdp.accept(answer, core.policy(s, from))?;
        let keep = core.keep_events(s, other);
        let policy = core.policy(s, other);
        let (ours, other_media) = self.side(other).sdp.answer(offer, Some(&peer), keep, policy)?;
        self.side(from).peer = Some(peer);
        self.side(other).peer = Some(offer.clone());
        self.put_in_force(core, s, (from, &from_media), (other, &other_media));
        Ok(ours)
    }

    /// `from` no longer wants its change: the other leg is asked to stop; its final answer decides, so that both ends
    /// know the same session.
    pub(super) fn handle_change_cancelled(&mut self, now: Instant, s: &mut Shared, invite: ServerId) {
        if let Exchange::Asking(asking) = &self.exchange
            && asking.server == invite
            && asking.invited
        {
            s.endpoint.cancel(now, asking.client, &[]);
        }
    }

    /// Time passed.
    pub(super) fn handle_timeout(&mut self, now: Instant, core: &Core, s: &mut Shared) -> Verdict {
        if self.probe_at.is_some_and(|at| at <= now) {
            self.probe(now, core, s);
        }
        if let Exchange::Asking(asking) = &mut self.exchange
            && asking.deadline.is_some_and(|at| at <= now)
        {
            asking.deadline = None;
            s.endpoint.cancel(now, asking.client, &[]);
        }
        match self.handle_session_timers(now, core, s) {
            Verdict::Stay => self.handle_transfer_timeout(now, core, s),
            end @ Verdict::End { .. } => end,
        }
    }

    /// When [`Established::handle_timeout`] is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let patience = match &self.exchange {
            Exchange::Asking(asking) => asking.deadline,
            Exchange::AwaitingAck { .. } | Exchange::Renewing(_) | Exchange::Quiet => None,
        };
        let sessions = self.legs.iter().filter_map(|side| side.timer.poll_timeout());
        sessions.fold(soonest(soonest(patience, self.probe_at), self.transfer_timeout()), |soon, at| {
            soonest(soon, Some(at))
        })
    }
}
