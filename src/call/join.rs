//! Two calls of ours become one: a REFER of the PBX names, by Replaces, another dialog of its with us (attended transfer
//! after a consultation through us). The call that was asked keeps its customer, media session, guard and recording; the
//! far party of the other call takes the agent's place in it, and the other call ends. The REFER goes in; the joined call,
//! or the refusal, comes out. What was to be kept from anybody in either call is kept from everybody in the joined one:
//! it carries the holds of both, and the guard of the far party's trunk lies on the far party.
//!
//! ```text
//!   call X   customer ─── X ─── agent ┐ REFER, Replaces: the agent's dialog in Y
//!                                     ├────────────────────────────────────────►  customer ─── X ─── far party
//!   call Y   far party ── Y ─── agent ┘ BYE to both of the agent's dialogs         re-INVITE to both; Y is over
//! ```

use std::time::{Duration, Instant};

use super::call::{Call, Phase, Verdict};
use super::core::Core;
use super::crossing;
use super::established::{Established, Exchange, Owed, Side};
use super::inherit::Inherited;
use super::refused::Refused;
use super::shared::Shared;
use super::transfer::talking;
use crate::base::ids::{CallId, Leg};
use crate::config::{MediaPlace, RecordingPolicy, TrunkId};
use crate::media::{Command, LegMedia};
use crate::obs::event::EndCause;
use crate::sip::msg::header::Replaces;
use crate::sip::{Request, Response, ServerId};

/// Two calls that are to become one.
pub(super) struct Join {
    /// The call that stays.
    pub(super) call: CallId,
    /// The leg that asked; the far party takes its place.
    pub(super) leg: Leg,
    pub(super) server: ServerId,
    pub(super) request: Request,
    /// The call that goes, and its leg that the REFER names.
    pub(super) other: (CallId, Leg),
    replaces: String,
    trunk: TrunkId,
    place: MediaPlace,
    recording: RecordingPolicy,
}

impl Join {
    /// What a REFER of `leg` with `replaces` asks of us; `None` when it names no dialog of ours.
    pub(super) fn wanted(
        core: &Core,
        s: &Shared,
        (leg, server, request): (Leg, ServerId, &Request),
        replaces: &str,
    ) -> Option<Self> {
        let named = Replaces::parse(replaces.as_bytes()).ok()?;
        let other = s.tags.get(named.to_tag).copied()?;
        Some(Self {
            call: core.id,
            leg,
            server,
            request: request.clone(),
            other,
            replaces: replaces.to_owned(),
            trunk: core.trunk(leg),
            place: core.places[leg.index()],
            recording: core.protection.recording_policy(),
        })
    }
}

/// What a call gives to the one it becomes part of.
pub(super) struct Given {
    side: Side,
    trunk: TrunkId,
    call_id: String,
    user: String,
    inherited: Inherited,
}

impl Call {
    /// Gives the far party of the dialog that `join` names, and ends; or says why not, and nothing has changed.
    pub(super) fn give(&mut self, now: Instant, s: &mut Shared, join: &Join) -> Result<Given, Refused> {
        let (leg, core) = (join.other.1, &mut self.core);
        let Phase::Established(up) = &mut self.phase else { return Err(Refused::new(481)) };
        let named = Replaces::parse(join.replaces.as_bytes()).map_err(|_| Refused::new(481))?;
        let id = up.side(leg).dialog.id();
        let is_it = id.call_id == named.call_id && id.local_tag == named.to_tag && id.remote_tag == named.from_tag;
        if !is_it || core.trunk(leg) != join.trunk || core.id == join.call || up.is_gone(leg) {
            return Err(Refused::new(481));
        }
        if named.early_only {
            return Err(Refused::new(486));
        }
        // Who has the customer's place has the customer's guard: only agents may go.
        if leg != Leg::Agent || join.leg != Leg::Agent {
            return Err(Refused::because(403, "Only Agents' Calls Are Joined"));
        }
        if core.protection.collection().is_some() || core.protection.payment.is_some() {
            return Err(Refused::because(403, "Call Is Guarded"));
        }
        let stays = leg.other();
        let trunk = core.trunk(stays);
        if s.config.media_of(trunk) != join.place {
            return Err(Refused::because(403, "No Media Address In Common"));
        }
        if s.config.trunks[trunk.0].recording > join.recording {
            return Err(Refused::because(403, "Recording Wanted"));
        }
        if !up.is_quiet() || !up.side(stays).dialog.may_invite() {
            return Err(Refused::moment());
        }
        let Phase::Established(mut up) = std::mem::replace(&mut self.phase, Phase::Over) else {
            return Err(Refused::new(481));
        };
        up.drop_transfer(now, s);
        up.drop_relays(now, s);
        let since = up.since;
        let [side, Side { mut dialog, dest, .. }] = up.legs;
        s.bye(now, &mut dialog, dest, None);
        core.gives_away(&side.dialog.id().local_tag);
        let call_id = core.call_ids[stays.index()].take().unwrap_or_default();
        let user = core.far_end(stays).to_owned();
        let inherited = core.protection.give(s.config.trunks[trunk.0].guard);
        core.finish(now, s, EndCause::Joined, None, Some(since));
        Ok(Given { side, trunk, call_id, user, inherited })
    }

    /// Takes the far party of another call in the place of the leg that asked.
    pub(super) fn receive(&mut self, now: Instant, s: &mut Shared, join: &Join, given: Given) {
        let Phase::Established(up) = &mut self.phase else { return };
        let verdict = up.receive(now, &mut self.core, s, join, given);
        self.obey(now, s, verdict, false);
    }
}

impl Established {
    /// Whether nothing is under way that another negotiation could meet.
    pub(super) fn is_quiet(&self) -> bool {
        let passed = self.passed.is_none() && self.unacknowledged.is_none();
        matches!(self.exchange, Exchange::Quiet) && self.transfer.is_none() && passed && self.owed == [None; 2]
    }

    fn receive(&mut self, now: Instant, core: &mut Core, s: &mut Shared, join: &Join, given: Given) -> Verdict {
        let Given { mut side, trunk, call_id, user, inherited } = given;
        let leg = join.leg;
        let mut accepted = Response::for_request(&join.request, 202, "");
        crossing::describe_us(&mut accepted.headers, s.listener(core.trunk(leg)));
        s.respond(now, join.server, accepted);
        let id = join.request.cseq().map(|cseq| cseq.number).unwrap_or_default();
        self.notify(now, core, s, leg, (id, 200, true));
        // What was to be masked in either call is masked before anything can flow.
        core.protection.inherit(now, inherited, &mut s.out);
        s.out.media(Command::SetLeg { session: core.session, leg, media: LegMedia::idle() });
        core.codecs[leg.index()].set(None);
        side.sdp.relocate(&mut s.random, core.media_address(leg));
        core.own_tag(s, leg, &side.dialog.id().local_tag.clone());
        core.moves(now, s, (leg, trunk), &call_id, &user);
        // Both were waiting for the agent; nobody is to find the other on hold.
        side.peer = side.peer.as_ref().map(talking);
        let other = self.side(leg.other());
        other.peer = other.peer.as_ref().map(talking);
        self.replace(now, core, s, (leg, side), false);
        // The far party first: what it takes at its new place is what the customer is told.
        self.owed[leg.index()] = Some(Owed::from(now));
        self.owed[leg.other().index()] = Some(Owed::from(now + Duration::from_millis(1)));
        self.pay(now, core, s)
    }
}
