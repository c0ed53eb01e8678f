//! An answered call: two dialogs joined. Requests within the dialogs, responses and the time go in; the verdict whether
//! the call goes on comes out. Re-negotiation is in `reinvite`, digits and signals by INFO in `info`.
//!
//! ```text
//!  Quiet ── re-INVITE / UPDATE of one leg ─► Asking the other leg ── refused, timed out ─► Quiet, old session stands
//!    ▲                                           │ 2xx
//!    └── ACK ── AwaitingAck (late offer: with its answer for the other leg) ◄──┘
//!  AwaitingAck ── ACK lost ─► over: BYE on both legs
//!  any ── BYE, media inactivity, operator, recorder ─► over: BYE on the other leg, or both
//! ```

use std::time::{Duration, Instant};

use super::call::Verdict;
use super::core::Core;
use super::passing::Passed;
use super::refused::Refused;
use super::relay::Relay;
use super::remains::Farewell;
use super::shared::{Asked, Shared};
use super::transfer::Transfer;
use super::{bodies, crossing};
use crate::base::ids::Leg;
use crate::obs::event::{EndCause, EventKind};
use crate::sdp::negotiate::{LegSession, Peer};
use crate::sip::dialog::DialogFault;
use crate::sip::msg::HeaderName;
use crate::sip::msg::header::RAck;
use crate::sip::reliable::Sent;
use crate::sip::session_timer::SessionTimer;
use crate::sip::{ClientId, Dest, Dialog, Method, Request, Response, ServerId};

/// One leg of an answered call.
pub(super) struct Side {
    pub(super) dialog: Dialog,
    pub(super) dest: Dest,
    pub(super) sdp: LegSession,
    /// What the peer said of itself last; `None` until its first SDP is known.
    pub(super) peer: Option<Peer>,
    /// The peer takes UPDATE.
    pub(super) updates: bool,
    /// The peer has put us on hold.
    pub(super) held: bool,
    /// How long the session lasts without a refresh.
    pub(super) timer: SessionTimer,
}

impl Side {
    /// A leg whose dialog is confirmed; requests go where its target is, if the trunk allows, else to `heard`.
    pub(super) fn new(
        leg: (&Core, &Shared, Leg),
        dialog: Dialog,
        heard: Dest,
        sdp: LegSession,
        peer: Option<Peer>,
        updates: bool,
    ) -> Self {
        let (core, s, leg) = leg;
        let dest = crossing::next_hop(&s.config, core.trunk(leg), dialog.next_hop(), heard);
        let held = peer.as_ref().is_some_and(Peer::holds);
        let timer = SessionTimer::new(&s.config.trunks[core.trunk(leg).0].methods);
        Self { dialog, dest, sdp, peer, updates, held, timer }
    }
}

/// A 2xx whose offer waits for the answer in the other leg's ACK.
pub(super) struct Late {
    /// The INVITE that the 2xx answered; its ACK will carry the answer.
    pub(super) client: ClientId,
    /// The offer.
    pub(super) offer: Box<Peer>,
}

/// Where the joint negotiation of both legs is.
pub(super) enum Exchange {
    /// Nothing is being negotiated.
    Quiet,
    /// `from` asked for a change; the other leg is being asked.
    Asking(Box<Asking>),
    /// We describe the session anew to one leg.
    Renewing(Box<Renewing>),
    /// `from` has got its 2xx; its ACK is awaited.
    AwaitingAck {
        /// The leg that asked.
        from: Leg,
        /// Its INVITE.
        server: ServerId,
        /// The other leg's 2xx still waits for its ACK.
        late: Option<Late>,
    },
}

/// A re-INVITE of ours that is still to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owed {
    pub(super) at: Instant,
    /// Its peer has refused one with 491: not before `at` (RFC 3261 section 14.1).
    pub(super) glare: bool,
}

impl Owed {
    /// As soon as nothing else is being negotiated.
    pub(super) fn from(at: Instant) -> Self {
        Self { at, glare: false }
    }
}

/// A re-INVITE of ours that no leg asked for.
pub(super) struct Renewing {
    pub(super) leg: Leg,
    pub(super) client: ClientId,
    /// The other leg has a new other end.
    pub(super) moved: bool,
}

/// A change one leg asked for.
pub(super) struct Asking {
    pub(super) from: Leg,
    pub(super) server: ServerId,
    /// INVITE or UPDATE of `from`.
    pub(super) request: Request,
    /// Ours to the other leg.
    pub(super) client: ClientId,
    /// Ours is an INVITE, to be acknowledged.
    pub(super) invited: bool,
    /// The offer of `from`; `None`: late offer.
    pub(super) offer: Option<Peer>,
    /// When the other leg has taken too long and is cancelled; `None` once it is.
    pub(super) deadline: Option<Instant>,
}

/// An answered call.
pub(super) struct Established {
    /// Customer, agent.
    pub(super) legs: [Side; 2],
    pub(super) since: Instant,
    pub(super) exchange: Exchange,
    /// A provisional response whose PRACK was still on its way when the call was answered.
    pub(super) unacknowledged: Option<Box<Sent>>,
    /// A leg is being replaced.
    pub(super) transfer: Option<Box<Transfer>>,
    /// A REFER passed on to the other leg.
    pub(super) passed: Option<Box<Passed>>,
    /// Requests passed on that wait for their answer.
    pub(super) relays: Vec<Relay>,
    /// When a leg is still to be told of its new other end, or of our new place.
    pub(super) owed: [Option<Owed>; 2],
    /// When both peers are asked whether they still live; `None` while media tells.
    pub(super) probe_at: Option<Instant>,
}

/// How often the peers of a silent call are asked whether they still live.
const PROBE_EVERY: Duration = Duration::from_secs(60);

impl Established {
    pub(super) fn new(since: Instant, legs: [Side; 2], exchange: Exchange) -> Self {
        Self {
            legs,
            since,
            exchange,
            unacknowledged: None,
            transfer: None,
            passed: None,
            relays: Vec::new(),
            owed: [None; 2],
            probe_at: None,
        }
    }

    pub(super) fn side(&mut self, leg: Leg) -> &mut Side {
        &mut self.legs[leg.index()]
    }

    /// A request within the dialog of `leg`.
    pub(super) fn handle_request(
        &mut self,
        now: Instant,
        core: &mut Core,
        s: &mut Shared,
        (leg, id, request): (Leg, ServerId, Request),
    ) -> Verdict {
        if let Err(fault) = self.side(leg).dialog.handle_request(&request) {
            // A signal does not wait for its request's turn: what is to be masked is masked now.
            if matches!(fault, DialogFault::Glare | DialogFault::InvitePending) {
                super::info::signal_header(now, core, s, leg, &request);
            }
            let response = fault.response(&request, &mut s.random);
            s.respond(now, id, response);
            return Verdict::Stay;
        }
        match &request.method {
            Method::Bye => {
                s.respond(now, id, Response::for_request(&request, 200, ""));
                if self.leave(core, s, leg) {
                    return Verdict::Stay;
                }
                let cause = match leg {
                    Leg::Customer => EndCause::CustomerHungUp,
                    Leg::Agent => EndCause::AgentHungUp,
                };
                return Verdict::End { cause, gone: Some(leg), reason: crossing::reason_of(&request.headers) };
            }
            Method::Invite | Method::Update => {
                if let Err(why) = self.handle_change(now, core, s, (leg, id, &request)) {
                    if request.method == Method::Invite {
                        self.side(leg).dialog.invite_answered(why.status);
                    }
                    s.refuse(now, id, &request, &why);
                }
            }
            Method::Prack => self.handle_late_prack(now, s, (id, &request)),
            Method::Refer => {
                if let Err(why) = self.handle_refer(now, core, s, (leg, id, &request)) {
                    s.refuse(now, id, &request, &why);
                }
            }
            Method::Notify => {
                if let Err(why) = self.handle_notify(now, core, s, (leg, id, &request)) {
                    s.refuse(now, id, &request, &why);
                }
            }
            Method::Message => {
                if let Err(why) = self.relay(now, core, s, (leg, id, &request)) {
                    s.refuse(now, id, &request, &why);
                }
            }
            Method::Info => self.handle_info(now, core, s, (leg, id, &request)),
            Method::Options => s.respond(now, id, capabilities(&request)),
            Method::Ack | Method::Cancel => {}
            method => s.refuse(now, id, &request, &refusal_within(method)),
        }
        Verdict::Stay
    }

    /// A PRACK that the answer overtook.
    fn handle_late_prack(&mut self, now: Instant, s: &mut Shared, (id, request): (ServerId, &Request)) {
        let rack = request.headers.get(HeaderName::RAck).and_then(|rack| RAck::parse(rack).ok());
        let known = rack.is_some_and(|rack| self.unacknowledged.as_mut().is_some_and(|sent| sent.handle_prack(&rack)));
        if known {
            self.unacknowledged = None;
            s.respond(now, id, Response::for_request(request, 200, ""));
        } else {
            s.refuse(now, id, request, &Refused::new(481));
        }
    }

    /// Follows the peer's Contact, as far as its trunk allows.
    pub(super) fn retarget(&mut self, core: &Core, s: &Shared, leg: Leg) {
        let side = self.side(leg);
        side.dest = crossing::next_hop(&s.config, core.trunk(leg), side.dialog.next_hop(), side.dest);
    }

    /// A request that only tells whether the peer lives was answered, or not: 481 and silence mean that it does not.
    pub(super) fn handle_probe(&mut self, leg: Leg, status: u16) -> Verdict {
        let gone = match status {
            481 => Some(leg),
            408 => None,
            _ => return Verdict::Stay,
        };
        Verdict::End { cause: EndCause::Timeout, gone, reason: None }
    }

    /// Asks both peers whether they still live.
    pub(super) fn probe(&mut self, now: Instant, core: &Core, s: &mut Shared) {
        self.probe_at = Some(now + PROBE_EVERY);
        for leg in [Leg::Customer, Leg::Agent].into_iter().filter(|leg| !self.is_gone(*leg)).collect::<Vec<_>>() {
            let side = self.side(leg);
            let (options, dest) = (side.dialog.next_request(Method::Options), side.dest);
            s.send(now, options, dest, Some(Asked::Probe(core.id, leg)));
        }
    }

    /// The ACK of `invite` never came.
    pub(super) fn handle_lost_ack(&mut self, invite: ServerId) -> Verdict {
        match &self.exchange {
            Exchange::AwaitingAck { server, .. } if *server == invite => {
                Verdict::End { cause: EndCause::Timeout, gone: None, reason: None }
            }
            Exchange::AwaitingAck { .. } | Exchange::Asking(_) | Exchange::Renewing(_) | Exchange::Quiet => {
                Verdict::Stay
            }
        }
    }

    /// No RTP from either side: over, unless a leg is on hold. Then silence is no proof, and from now on the peers are
    /// asked, so that a call whose both ends have vanished on hold does not stay for ever.
    pub(super) fn handle_inactivity(&mut self, now: Instant, core: &Core, s: &mut Shared) -> Verdict {
        let held = self.transfer.is_some()
            || self
                .legs
                .iter()
                .any(|side| side.held || side.sdp.media().is_some_and(|media| !media.send || !media.receive));
        if !held {
            return Verdict::End { cause: EndCause::MediaInactivity, gone: None, reason: None };
        }
        if self.probe_at.is_none() {
            self.probe(now, core, s);
        }
        Verdict::Stay
    }

    /// Announces who holds whom after a change.
    pub(super) fn note_holds(&mut self, core: &Core, s: &mut Shared) {
        for leg in [Leg::Customer, Leg::Agent] {
            let side = self.side(leg);
            let held = side.peer.as_ref().is_some_and(Peer::holds);
            if held != side.held {
                side.held = held;
                s.out.event(core.id, EventKind::LegHeld { leg, held });
            }
        }
    }

    /// Ends both dialogs but that of `gone`, settling whatever was being negotiated.
    pub(super) fn part(
        mut self,
        now: Instant,
        s: &mut Shared,
        gone: Option<Leg>,
        lost_ack: bool,
        reason: Option<&str>,
    ) {
        let mut waits_for_ack = None;
        let left = self.drop_transfer(now, s);
        self.drop_relays(now, s);
        match std::mem::replace(&mut self.exchange, Exchange::Quiet) {
            Exchange::Quiet => {}
            Exchange::Renewing(renewing) => s.abandon(now, renewing.client, None),
            Exchange::Asking(asking) => {
                s.refuse(now, asking.server, &asking.request, &Refused::new(487));
                if asking.invited {
                    s.abandon(now, asking.client, None);
                }
            }
            Exchange::AwaitingAck { from, server, late } => {
                if let Some(late) = late {
                    let other = self.side(from.other());
                    let (dialog, dest) = (other.dialog.clone(), other.dest);
                    s.ack(now, late.client, &dialog, dest, None);
                }
                if !lost_ack {
                    waits_for_ack = Some((from, server));
                }
            }
        }
        for (leg, side) in [Leg::Customer, Leg::Agent].into_iter().zip(self.legs) {
            let Side { mut dialog, dest, .. } = side;
            if gone == Some(leg) || left == Some(leg) {
                continue;
            }
            match waits_for_ack {
                Some((from, server)) if from == leg => s.remains.await_ack(server, Farewell { dialog, dest }),
                _ => s.bye(now, &mut dialog, dest, reason),
            }
        }
    }
}

/// The answer to OPTIONS (RFC 3261 section 11.2).
pub(super) fn capabilities(request: &Request) -> Response {
    let mut ok = Response::for_request(request, 200, "");
    ok.headers.push(HeaderName::Allow, crossing::ALLOW);
    ok.headers.push(HeaderName::Accept, format!("{}, {}", bodies::SDP, super::info::TYPES));
    ok
}

/// Why a method is not taken within a dialog.
fn refusal_within(method: &Method) -> Refused {
    match method {
        Method::Subscribe => Refused::new(489),
        Method::Extension(_) => Refused::new(501).with(HeaderName::Allow, crossing::ALLOW),
        _ => Refused::method(),
    }
}
