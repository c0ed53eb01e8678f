//! A transfer that the other leg's peer carries out: the REFER is passed on with the number only, and its progress comes
//! back by NOTIFY. REFERs, their answers and NOTIFYs go in; ours come out. Not while something is to be kept from anybody.

use std::time::Instant;

use super::call::Verdict;
use super::core::Core;
use super::crossing;
use super::established::Established;
use super::refused::Refused;
use super::shared::{Asked, Shared};
use super::transfer::Wanted;
use crate::base::ids::Leg;
use crate::sip::msg::HeaderName;
use crate::sip::msg::header::address;
use crate::sip::{Method, Request, Response, ServerId};

/// A REFER passed on: who asked, and who was asked.
pub(super) struct Passed {
    pub(super) from: Leg,
    pub(super) server: ServerId,
    pub(super) request: Request,
    pub(super) accepted: bool,
}

impl Established {
    /// The other leg is to carry the transfer out.
    pub(super) fn pass_refer(
        &mut self,
        now: Instant,
        core: &Core,
        s: &mut Shared,
        (leg, server, request): (Leg, ServerId, &Request),
        wanted: &Wanted,
    ) -> Result<(), Refused> {
        // What comes of it is out of our hands: not while something is to be kept from the agent.
        if core.protection.holds().next().is_some() || core.protection.collection().is_some() {
            return Err(Refused::because(403, "Call Is Guarded"));
        }
        let other = leg.other();
        let config = s.config.clone();
        let trunk = &config.trunks[core.trunk(other).0];
        let listener = &config.listeners[trunk.listener.0];
        let place = trunk.remotes.first().ok_or(Refused::new(403))?;
        let side = self.side(other);
        let mut refer = side.dialog.next_request(Method::Refer);
        crossing::describe_us(&mut refer.headers, listener);
        refer.headers.push(HeaderName::ReferTo, address(None, &crossing::uri(listener, &wanted.user, *place), None));
        let dest = side.dest;
        s.send(now, refer, dest, Some(Asked::Refer(core.id)));
        self.passed = Some(Box::new(Passed { from: leg, server, request: request.clone(), accepted: false }));
        Ok(())
    }

    /// A REFER passed on was answered finally, or not (408, 503).
    pub(super) fn handle_referred(&mut self, now: Instant, core: &Core, s: &mut Shared, status: u16) -> Verdict {
        let Some(mut passed) = self.passed.take() else { return Verdict::Stay };
        if (200..300).contains(&status) {
            let mut accepted = Response::for_request(&passed.request, 202, "");
            crossing::describe_us(&mut accepted.headers, s.listener(core.trunk(passed.from)));
            s.respond(now, passed.server, accepted);
            passed.accepted = true;
            self.passed = Some(passed);
        } else {
            let why = Refused::new(crossing::status_across(status));
            s.refuse(now, passed.server, &passed.request, &why);
        }
        Verdict::Stay
    }

    /// A NOTIFY of `leg`: of a REFER that we passed on to it.
    pub(super) fn handle_notify(
        &mut self,
        now: Instant,
        core: &Core,
        s: &mut Shared,
        (leg, server, request): (Leg, ServerId, &Request),
    ) -> Result<(), Refused> {
        let asked = self.passed.as_ref().filter(|passed| passed.from == leg.other());
        let Some(passed) = asked else { return Err(Refused::new(481)) };
        let event = request.headers.text(HeaderName::Event).unwrap_or_default();
        if !event.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("refer") {
            return Err(Refused::new(489));
        }
        let told = std::str::from_utf8(&request.body).ok();
        let told = told.and_then(|body| body.strip_prefix("SIP/2.0 ")?.get(..3)?.parse::<u16>().ok());
        let told = told.filter(|status| (100..700).contains(status)).ok_or(Refused::because(400, "No Status"))?;
        let state = request.headers.text(HeaderName::SubscriptionState).unwrap_or_default();
        let over = state.trim_start().get(..10).is_some_and(|state| state.eq_ignore_ascii_case("terminated"));
        let id = passed.request.cseq().map(|cseq| cseq.number).unwrap_or_default();
        s.respond(now, server, Response::for_request(request, 200, ""));
        self.notify(now, core, s, leg.other(), (id, told, over));
        if over {
            self.passed = None;
        }
        Ok(())
    }
}
