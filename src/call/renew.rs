//! What we ask of one leg alone, unasked by the other: the refresh of its session timer (RFC 4028), by UPDATE without
//! SDP where the peer takes UPDATE, else by a re-INVITE that describes the session as it stands. Timeouts and responses
//! go in; the verdict whether the call goes on comes out. Like `reinvite` it has no access to guard or holds.

use std::time::{Duration, Instant};

use super::call::Verdict;
use super::core::Core;
use super::established::{Established, Exchange, Owed, Renewing, Side};
use super::shared::{Asked, Shared};
use super::{bodies, crossing};
use crate::base::ids::Leg;
use crate::obs::event::EndCause;
use crate::sdp::negotiate::Ask;
use crate::sip::msg::HeaderName;
use crate::sip::session_timer::Due;
use crate::sip::{Method, Request, Response};

/// How long a refresh waits for a negotiation that is under way.
pub(super) const BUSY: Duration = Duration::from_secs(2);

/// What came of wanting to renew a leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Renewal {
    /// It is being asked.
    Asked,
    /// Something else is being negotiated.
    Later,
    /// Both legs have nothing in common.
    Impossible,
}

impl Established {
    /// Session timers that are due: refreshes, or ends the call.
    pub(super) fn handle_session_timers(&mut self, now: Instant, core: &Core, s: &mut Shared) -> Verdict {
        for leg in [Leg::Customer, Leg::Agent] {
            match self.side(leg).timer.handle_timeout(now) {
                Due::Nothing => {}
                Due::Refresh => self.refresh(now, core, s, leg),
                Due::Expired => return Verdict::End { cause: EndCause::SessionExpired, gone: None, reason: None },
            }
        }
        Verdict::Stay
    }

    fn refresh(&mut self, now: Instant, core: &Core, s: &mut Shared, leg: Leg) {
        if self.side(leg).updates {
            let listener = s.listener(core.trunk(leg)).clone();
            let side = self.side(leg);
            let mut update = side.dialog.next_request(Method::Update);
            crossing::describe_us(&mut update.headers, &listener);
            side.timer.write_request(&mut update.headers);
            let dest = side.dest;
            s.send(now, update, dest, Some(Asked::Refresh(core.id, leg)));
        } else if self.renew(now, core, s, (leg, false)) != Renewal::Asked {
            self.side(leg).timer.handle_failed(now, Some(BUSY));
        }
    }

    /// Describes the session to `leg` anew by re-INVITE; `moved`: because the other leg has a new other end.
    pub(super) fn renew(&mut self, now: Instant, core: &Core, s: &mut Shared, (leg, moved): (Leg, bool)) -> Renewal {
        if !matches!(self.exchange, Exchange::Quiet) || !self.side(leg).dialog.may_invite() {
            return Renewal::Later;
        }
        let other = self.legs[leg.other().index()].peer.clone();
        let ask = Ask { other: other.as_ref(), keep_events: core.keep_events(s, leg) };
        let policy = core.policy(s, leg);
        let side = &mut self.legs[leg.index()];
        let Ok(ours) = side.sdp.offer(ask, policy) else { return Renewal::Impossible };
        let mut invite = side.dialog.next_request(Method::Invite);
        crossing::describe_us(&mut invite.headers, s.listener(core.trunk(leg)));
        side.timer.write_request(&mut invite.headers);
        invite.set_body(bodies::SDP, ours.to_bytes());
        let client = s.send_invite(now, core.id, invite, side.dest);
        self.exchange = Exchange::Renewing(Box::new(Renewing { leg, client, moved }));
        Renewal::Asked
    }

    /// The leg that was asked alone answers our re-INVITE finally.
    pub(super) fn handle_renewed(
        &mut self,
        now: Instant,
        core: &Core,
        s: &mut Shared,
        (renewing, response): (&Renewing, &Response),
    ) -> Verdict {
        let leg = renewing.leg;
        if response.class() == 2 {
            let policy = core.policy(s, leg);
            let side = self.side(leg);
            let answer = bodies::read(&response.headers, &response.body).ok().flatten();
            let agreed = answer.and_then(|answer| side.sdp.accept(&answer, policy).ok());
            match agreed {
                Some((peer, media)) => {
                    side.peer = Some(peer);
                    core.agreed(s, leg, &media);
                }
                // Nothing was to change, and nothing has.
                None => side.sdp.withdraw(),
            }
            let side = self.side(leg);
            s.ack(now, renewing.client, &side.dialog.clone(), side.dest, None);
            self.note_holds(core, s);
        } else {
            self.side(leg).sdp.withdraw();
            if renewing.moved && response.status == 491 {
                let pause = self.side(leg).dialog.glare_delay(&mut s.random);
                self.owed[leg.index()] = Some(Owed { at: now + pause, glare: true });
            }
        }
        // At its new place nothing was ever agreed: there is nothing to go back to.
        if self.side(leg).sdp.media().is_none() && response.status != 491 {
            return Verdict::End { cause: EndCause::Failure, gone: None, reason: None };
        }
        match self.handle_refreshed(now, core, s, (leg, response)) {
            // The other leg has waited for this one.
            Verdict::Stay if self.owed[leg.other().index()].is_some_and(|owed| !owed.glare) => {
                self.owed[leg.other().index()] = Some(Owed::from(now));
                self.pay(now, core, s)
            }
            verdict => verdict,
        }
    }

    /// A refresh was answered finally, or not at all (408, 503).
    pub(super) fn handle_refreshed(
        &mut self,
        now: Instant,
        core: &Core,
        s: &mut Shared,
        (leg, response): (Leg, &Response),
    ) -> Verdict {
        let side = self.side(leg);
        side.dialog.handle_response(response);
        match response.status {
            200..=299 => {
                side.timer.handle_response(now, response);
                self.retarget(core, s, leg);
            }
            408 => return Verdict::End { cause: EndCause::Timeout, gone: None, reason: None },
            481 => return Verdict::End { cause: EndCause::Timeout, gone: Some(leg), reason: None },
            422 if side.timer.handle_too_short(response) => self.refresh(now, core, s, leg),
            405 | 501 if side.updates => {
                side.updates = false;
                self.refresh(now, core, s, leg);
            }
            491 => {
                let pause = side.dialog.glare_delay(&mut s.random);
                side.timer.handle_failed(now, Some(pause));
            }
            _ => side.timer.handle_failed(now, None),
        }
        Verdict::Stay
    }
}

/// The answer to a request of ours that got none, as far as its dialog needs one.
pub(super) fn no_answer(side: &Side, method: Method, status: u16) -> Response {
    let cseq = format!("{} {method}", side.dialog.local_cseq());
    let mut request = Request::new(method, "sip:peer");
    request.headers.push(HeaderName::CSeq, cseq);
    Response::for_request(&request, status, "")
}
