//! Attended transfer by Replaces (RFC 3891): an INVITE from the trunk of a leg takes that leg's place in its call. The
//! request goes in; the switched leg, or the refusal, comes out. Off unless the trunk says otherwise, and never across
//! trunks (threats R12); holds, collection, mask and recording stay with the call.

use std::time::Instant;

use rand::RngExt;

use super::call::{Call, Phase};
use super::core::Core;
use super::established::{Established, Exchange, Owed, Side};
use super::refused::Refused;
use super::shared::Shared;
use super::transfer::talking;
use super::{bodies, crossing};
use crate::base::ids::{CallId, Leg};
use crate::config::TrunkId;
use crate::sdp::negotiate::read_peer;
use crate::sip::msg::HeaderName;
use crate::sip::msg::header::Replaces;
use crate::sip::session_timer::SessionTimer;
use crate::sip::{Dialog, Flow, Request, ServerId};

/// The leg that an INVITE from `trunk` would replace.
pub(super) fn find(s: &Shared, trunk: TrunkId, request: &Request) -> Result<(CallId, Leg), Refused> {
    if !s.config.trunks[trunk.0].methods.replaces || request.headers.get(HeaderName::Join).is_some() {
        return Err(Refused::because(403, "Taking Over A Call Is Not Allowed"));
    }
    super::admission::extensions(&s.config.trunks[trunk.0], request)?;
    let named = read(request)?;
    s.tags.get(named.to_tag).copied().ok_or(Refused::new(481))
}

fn read(request: &Request) -> Result<Replaces<'_>, Refused> {
    let mut values = request.headers.get_all(HeaderName::Replaces);
    match (values.next().map(Replaces::parse), values.next()) {
        (Some(Ok(replaces)), None) => Ok(replaces),
        _ => Err(Refused::because(400, "Malformed Replaces")),
    }
}

impl Call {
    /// An INVITE from `trunk` that names the dialog of `leg`.
    pub(super) fn handle_replaces(
        &mut self,
        now: Instant,
        s: &mut Shared,
        (leg, trunk): (Leg, TrunkId),
        invite: (ServerId, &Flow, &Request),
    ) -> Result<(), Refused> {
        let request = invite.2;
        let named = read(request)?;
        let Phase::Established(up) = &mut self.phase else { return Err(Refused::new(481)) };
        let ours = self.core.trunk(leg) == trunk
            && self.core.call_ids[leg.index()].as_deref() == Some(named.call_id)
            && up.side(leg).dialog.id().local_tag == named.to_tag
            && up.side(leg).dialog.id().remote_tag == named.from_tag;
        if !ours || up.is_gone(leg) {
            return Err(Refused::new(481));
        }
        if named.early_only {
            return Err(Refused::new(486));
        }
        up.take_over(now, &mut self.core, s, leg, invite)
    }
}

impl Established {
    fn take_over(
        &mut self,
        now: Instant,
        core: &mut Core,
        s: &mut Shared,
        leg: Leg,
        (server, flow, request): (ServerId, &Flow, &Request),
    ) -> Result<(), Refused> {
        if self.transfer.is_some() || !matches!(self.exchange, Exchange::Quiet) {
            return Err(Refused::moment());
        }
        if request.contact().is_none() {
            return Err(Refused::because(400, "INVITE Without Contact"));
        }
        let trunk = core.trunk(leg);
        let mut timer = SessionTimer::new(&s.config.trunks[trunk.0].methods);
        if let Some(min) = timer.too_short(request) {
            return Err(Refused::too_short(min));
        }
        let offer = bodies::read(&request.headers, &request.body)?.ok_or(Refused::because(488, "Offer Needed"))?;
        let peer = read_peer(&offer, core.policy(s, leg))?;
        let other = self.side(leg.other()).peer.as_ref().map(talking);
        let mut sdp = core.leg_session(s, leg);
        let keep = core.keep_events(s, leg);
        let (ours, media) = sdp.answer(&peer, other.as_ref(), keep, core.policy(s, leg))?;
        let tag = crossing::token(&mut s.random);
        let first_cseq = s.random.random_range(1..1 << 16);
        let malformed = |_| Refused::because(400, "Malformed Request");
        let mut dialog = Dialog::uas(request, &tag, first_cseq).map_err(malformed)?;
        dialog.invite_answered(200);

        let mut ok = crossing::response(request, 200, &tag, s.listener(trunk));
        ok.set_body(bodies::SDP, ours.to_bytes());
        timer.write_answer(now, request, &mut ok.headers);
        s.servers.insert(server, core.id);
        s.respond(now, server, ok);
        let user = request.from().ok().and_then(|from| from.uri.user().map(str::to_owned)).unwrap_or_default();
        let call_id = dialog.id().call_id.clone();
        let updates = request.headers.lists(HeaderName::Allow, "UPDATE");
        let mut side = Side::new((core, s, leg), dialog, flow.back(), sdp, Some(peer), updates);
        side.timer = timer;
        core.own_tag(s, leg, &tag);
        core.moves(now, s, (leg, trunk), &call_id, &user);
        self.replace(now, core, s, (leg, side), false);
        core.agreed(s, leg, &media);
        self.exchange = Exchange::AwaitingAck { from: leg, server, late: None };
        self.owed[leg.other().index()] = Some(Owed::from(now));
        Ok(())
    }
}
