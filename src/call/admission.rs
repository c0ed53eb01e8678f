//! Which requests outside any dialog are taken: OPTIONS is answered, an INVITE becomes a call when trunk, route, limits
//! and its own form allow it, everything else is refused with its proper status (threats R11, R12, R16).

use std::time::Instant;

use super::call::{Call, Phase};
use super::core::{Beginning, Core};
use super::crossing::{self, Facts};
use super::refused::Refused;
use super::setup::{Caller, SettingUp};
use super::shared::Shared;
use super::{bodies, established, trunks};
use crate::config::{Extension, Methods, Trunk, TrunkId};
use crate::sdp::negotiate::read_peer;
use crate::sip::msg::{HeaderName, Uri};
use crate::sip::session_timer::{self, SessionTimer};
use crate::sip::{Flow, Method, Request, ServerId, reliable};

/// A request outside any dialog that is not an INVITE: answers or refuses it.
pub(super) fn handle_outside(now: Instant, s: &mut Shared, trunk: TrunkId, (id, request): (ServerId, &Request)) {
    let why = match &request.method {
        Method::Options => {
            let answer = match extensions(&s.config.trunks[trunk.0], request) {
                Ok(()) => established::capabilities(request),
                Err(why) => why.response(request),
            };
            s.respond(now, id, answer);
            return;
        }
        Method::Refer => Refused::because(403, "Transfer Not Allowed"),
        Method::Subscribe => Refused::new(489),
        // They belong to a dialog or subscription that we do not have.
        Method::Notify | Method::Bye | Method::Info | Method::Update | Method::Prack => Refused::new(481),
        Method::Extension(_) => Refused::new(501).with(HeaderName::Allow, crossing::ALLOW),
        Method::Register | Method::Publish | Method::Message => Refused::method(),
        Method::Invite | Method::Ack | Method::Cancel => return,
    };
    s.endpoint.reject(now, id, why.response(request));
}

/// Every extension that a trunk may allow.
pub(super) const KNOWN: [&str; 3] = [reliable::TAG, session_timer::TAG, "replaces"];

/// Refuses a request that demands an extension its trunk does not have (RFC 3261 section 8.2.2.3).
pub(super) fn extensions(trunk: &Trunk, request: &Request) -> Result<(), Refused> {
    let is_known = |tag: &&[u8]| {
        let is = |name: &str| name.as_bytes().eq_ignore_ascii_case(tag);
        let Methods { reliable, session_timer, replaces, .. } = &trunk.methods;
        (is(reliable::TAG) && *reliable != Extension::Off)
            || (is(session_timer::TAG) && *session_timer != Extension::Off)
            || (is("replaces") && *replaces)
    };
    let headers = &request.headers;
    let demanded = headers.items(HeaderName::Require).filter(|tag| !is_known(tag));
    let demanded = demanded.chain(headers.items(HeaderName::ProxyRequire));
    let unknown: Vec<_> = demanded.take(16).map(String::from_utf8_lossy).collect();
    if unknown.is_empty() { Ok(()) } else { Err(Refused::extensions(&unknown.join(", "))) }
}

/// Whether provisional responses to an INVITE are reliable (RFC 3262 section 3).
fn reliability(trunk: &Trunk, invite: &Request) -> Result<Extension, Refused> {
    let must = invite.headers.lists(HeaderName::Require, reliable::TAG);
    let may = must || invite.headers.lists(HeaderName::Supported, reliable::TAG);
    match trunk.methods.reliable {
        Extension::Required if !may => Err(Refused::required(reliable::TAG)),
        Extension::Required => Ok(Extension::Required),
        Extension::Supported if must => Ok(Extension::Required),
        Extension::Supported if may => Ok(Extension::Supported),
        Extension::Supported | Extension::Off => Ok(Extension::Off),
    }
}

/// How many calls there are and may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    pub(super) calls: usize,
    pub(super) draining: bool,
}

/// An INVITE outside any dialog, from `trunk`: a call, or the reason why not.
pub(super) fn admit(
    now: Instant,
    s: &mut Shared,
    room: Room,
    trunk: TrunkId,
    (id, flow, request): (ServerId, &Flow, &Request),
) -> Result<Call, Refused> {
    extensions(&s.config.trunks[trunk.0], request)?;
    let reliable = reliability(&s.config.trunks[trunk.0], request)?;
    if let Some(min) = SessionTimer::new(&s.config.trunks[trunk.0].methods).too_short(request) {
        return Err(Refused::too_short(min));
    }
    match request.uri() {
        Uri::Sip(sip) if !sip.secure || s.listener(trunk).options.sips => {}
        Uri::Tel(_) => {}
        Uri::Sip(_) | Uri::Other { .. } => return Err(Refused::new(416)),
    }
    // DNS tells where calls go, not who may place them.
    let placed_by = &s.config.trunks[trunk.0];
    let from = flow.remote.ip();
    if flow.trunk.is_none() && placed_by.link.has_names() && !placed_by.sources.iter().any(|net| net.contains(from)) {
        return Err(Refused::new(403));
    }
    if crossing::max_forwards(request) == 0 {
        return Err(Refused::new(483));
    }
    // An INVITE of ours that has come back: our tag is nobody else's.
    if request.from_tag().is_some_and(|tag| s.tags.contains_key(tag)) {
        return Err(Refused::new(482));
    }
    if request.headers.get(HeaderName::Replaces).is_some() || request.headers.get(HeaderName::Join).is_some() {
        return Err(Refused::because(403, "Taking Over A Call Is Not Allowed"));
    }
    if request.contact().is_none() {
        return Err(Refused::because(400, "INVITE Without Contact"));
    }
    let config = s.config.clone();
    if room.draining {
        return Err(Refused::busy("Going Down"));
    }
    if room.calls >= usize::try_from(config.node.max_calls).unwrap_or(usize::MAX) {
        return Err(Refused::busy("Node Full"));
    }
    if s.is_full(trunk) {
        return Err(Refused::busy("Trunk Full"));
    }
    let called_trunk = |to: TrunkId| config.trunks[to.0].call_header.as_deref();
    let mut facts = Facts::of(request, config.trunks[trunk.0].call_header.as_deref()).ok_or(Refused::new(484))?;
    if !s.calls_per_s.take(now) || !s.trunks.may_begin(now, trunk, true) {
        return Err(Refused::busy("Too Many Calls A Second"));
    }
    let targets = trunks::targets(now, s, trunk, &facts.user)?;
    let numbers = super::routing::numbers(&config, trunk, &facts.user, &facts.from);
    (facts.user, facts.from) = numbers.ok_or(Refused::new(484))?;
    let Some(first) = targets.first().map(|target| target.trunk) else { return Err(Refused::new(404)) };
    facts.learn(&request.headers, called_trunk(first));
    if !super::recorders::may_begin(now, s, [trunk, first]) {
        return Err(Refused::busy("Recorder Away"));
    }
    // Up front: at the answer it would be too late to do anything but end it.
    if !s.may_seal([trunk, first]) {
        return Err(Refused::busy("Recordings Cannot Be Written"));
    }
    let described = bodies::read(&request.headers, &request.body)?;
    let offer = described.map(|offer| read_peer(&offer, &s.policies[trunk.0])).transpose()?;
    let call_id = request.call_id().map(str::to_owned).ok_or(Refused::new(400))?;
    let ports = s.ports.take(now).ok_or_else(|| Refused::busy("No Media Port Free"))?;

    let carried = super::recorders::begin::carried(&config, request);
    let mut core = Core::begin(now, s, Beginning { facts, from: trunk, to: first, ports, call_id, carried });
    let caller_leg = core.caller_leg;
    let tag = core.new_tag(s, caller_leg);
    let sdp = core.leg_session(s, caller_leg);
    let caller =
        Caller { server: id, request: request.clone(), dest: flow.back(), tag, sdp, offer, reliable, redirects: 0 };
    let phase = SettingUp::begin(now, &mut core, s, caller, targets);
    debug_assert!(matches!(phase, Phase::SettingUp(_) | Phase::Over));
    Ok(Call { core, phase })
}
