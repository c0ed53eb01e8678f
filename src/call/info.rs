//! SIP INFO within a call. A digit is taken at once and goes to media, where it is merged with the other forms of the
//! same key press; it is passed on only where nothing masks. A recording signal of the PBX takes or releases its
//! holds. Anything else carries nothing across: a body we cannot read might speak a digit.

use std::time::Instant;

use super::core::Core;
use super::established::Established;
use super::recorders::{self, Steer, Steered};
use super::refused::Refused;
use super::shared::{Asked, Shared};
use crate::base::ids::Leg;
use crate::base::secret::Digit;
use crate::dtmf::info::{InfoDigit, InfoError, parse};
use crate::guard::classify::TONE_MS;
use crate::guard::holds::Owner;
use crate::media::Command;
use crate::obs::event::HoldKind;
use crate::sdp::negotiate::Peer;
use crate::sip::msg::HeaderName;
use crate::sip::{Method, Request, Response, ServerId};

/// The INFO bodies we read.
pub(super) const TYPES: &str = "application/dtmf-relay, application/dtmf";

/// Length of a key sent on when the INFO does not say, in ms.
const USUAL_MS: u32 = 160;

impl Established {
    /// An INFO on `leg`.
    pub(super) fn handle_info(
        &mut self,
        now: Instant,
        core: &mut Core,
        s: &mut Shared,
        (leg, id, request): (Leg, ServerId, &Request),
    ) {
        let signalled = signal_header(now, core, s, leg, request);
        if request.body.is_empty() {
            // A keep-alive, or a signal: taken, and of no concern to the other leg.
            s.respond(now, id, Response::for_request(request, 200, ""));
            return;
        }
        match parse(request.headers.text(HeaderName::ContentType).unwrap_or_default(), &request.body) {
            Ok(key) => {
                s.respond(now, id, Response::for_request(request, 200, ""));
                self.take_key(now, core, s, leg, key);
            }
            Err(InfoError::NotAKey) => s.respond(now, id, Response::for_request(request, 200, "")),
            Err(InfoError::NoKey) => s.refuse(now, id, request, &Refused::because(400, "No Key In DTMF Body")),
            Err(InfoError::OtherType) if signalled => s.respond(now, id, Response::for_request(request, 200, "")),
            Err(InfoError::OtherType) => {
                if let Err(why) = self.relay(now, core, s, (leg, id, request)) {
                    s.refuse(now, id, request, &why);
                }
            }
        }
    }

    fn take_key(&mut self, now: Instant, core: &Core, s: &mut Shared, leg: Leg, key: InfoDigit) {
        let to = leg.other();
        if !s.config.trunks[core.trunk(to).0].dtmf.info {
            return take_key_by_media(now, core, s, leg, key);
        }
        let InfoDigit { digit, duration_ms } = key;
        if core.protection.passes_info(now, leg) {
            self.pass_info(now, core, s, to, &digit, length(duration_ms));
        }
        s.out.media(Command::InfoDigit { session: core.session, from: leg, digit, duration_ms });
    }

    /// Sends a key that the guard has let go: as event where the leg takes events, by INFO where its trunk does, else
    /// as a tone.
    pub(super) fn send_key(&mut self, now: Instant, core: &Core, s: &mut Shared, to: Leg, digit: Digit) {
        let forms = s.config.trunks[core.trunk(to).0].dtmf;
        let events = forms.events && self.side(to).peer.as_ref().is_some_and(Peer::has_events);
        if forms.info && !events {
            return self.pass_info(now, core, s, to, &digit, TONE_MS);
        }
        s.out.media(Command::SendDigit { session: core.session, to, digit, duration_ms: TONE_MS });
    }

    /// Whether a key sent on to leg `to` is a tone: it takes neither events nor INFO.
    pub(super) fn sends_tones(&mut self, core: &Core, s: &Shared, to: Leg) -> bool {
        let forms = s.config.trunks[core.trunk(to).0].dtmf;
        let events = forms.events && self.side(to).peer.as_ref().is_some_and(Peer::has_events);
        !forms.info && !events
    }

    /// Passes a key on in a body of ours; the answer only tells whether the other dialog lives.
    fn pass_info(&mut self, now: Instant, core: &Core, s: &mut Shared, to: Leg, digit: &Digit, length_ms: u32) {
        if self.is_gone(to) {
            return;
        }
        let side = self.side(to);
        let mut info = side.dialog.next_request(Method::Info);
        let body = format!("Signal={}\r\nDuration={length_ms}\r\n", digit.expose_char());
        info.set_body("application/dtmf-relay", body);
        let dest = side.dest;
        s.send(now, info, dest, Some(Asked::Probe(core.id, to)));
    }
}

/// An INFO in an early dialog: a key for the announcement that plays before the answer, which goes on through media, or a
/// signal of the PBX.
pub(super) fn handle_early(
    now: Instant,
    core: &mut Core,
    s: &mut Shared,
    (leg, id, request): (Leg, ServerId, &Request),
) {
    let signalled = signal_header(now, core, s, leg, request);
    if signalled && request.body.is_empty() {
        s.respond(now, id, Response::for_request(request, 200, ""));
        return;
    }
    match parse(request.headers.text(HeaderName::ContentType).unwrap_or_default(), &request.body) {
        Ok(key) => {
            s.respond(now, id, Response::for_request(request, 200, ""));
            take_key_by_media(now, core, s, leg, key);
        }
        Err(InfoError::NotAKey) => s.respond(now, id, Response::for_request(request, 200, "")),
        Err(InfoError::NoKey | InfoError::OtherType) => s.refuse(now, id, request, &Refused::body_type(TYPES)),
    }
}

/// Passes a key on, where nothing masks, as the event or tone that the other leg takes.
fn take_key_by_media(now: Instant, core: &Core, s: &mut Shared, leg: Leg, key: InfoDigit) {
    let InfoDigit { digit, duration_ms } = key;
    if core.protection.passes_info(now, leg) {
        let (session, to, digit) = (core.session, leg.other(), digit.clone());
        s.out.media(Command::SendDigit { session, to, digit, duration_ms: length(duration_ms) });
    }
    s.out.media(Command::InfoDigit { session: core.session, from: leg, digit, duration_ms });
}

fn length(duration_ms: u32) -> u32 {
    if duration_ms == 0 { USUAL_MS } else { duration_ms.clamp(40, 5_000) }
}

/// Obeys the recording signal of a PBX in `request`; whether there was one. Only the PBX side may steer.
///
/// | value begins with | does |
/// |---|---|
/// | `pause` | takes a pause hold, or renews it |
/// | `resume` | releases the PBX's holds |
/// | `mask` | takes mask and pause holds, or renews them |
/// | `unmask` | releases the PBX's holds |
/// | `start-siprec`, `stop-siprec` | starts or stops the recorders of the call |
///
/// With `;recording-ip-group=NAME`, `pause`, `resume`, `start` and `stop` are for the recorder of that name alone. Where the
/// call has none of that name, a pause is for all.
pub(super) fn signal_header(now: Instant, core: &mut Core, s: &mut Shared, leg: Leg, request: &Request) -> bool {
    let Some(header) = s.config.trunks[core.trunk(leg).0].signal_header.clone().filter(|_| leg == Leg::Agent) else {
        return false;
    };
    let Some(value) = request.headers.get_named(&header) else { return false };
    let value = String::from_utf8_lossy(value).trim().to_ascii_lowercase();
    if let Some(known) = steer_recorders(now, core, s, &value) {
        return known;
    }
    let kinds: &[HoldKind] = match () {
        () if value.starts_with("pause") => &[HoldKind::Pause],
        () if value.starts_with("mask") => &[HoldKind::Mask, HoldKind::Pause],
        () if value.starts_with("resume") || value.starts_with("unmask") => &[],
        () => return false,
    };
    if kinds.is_empty() {
        core.protection.release_owned(now, &Owner::Pbx, &mut s.out);
    } else {
        core.protection.take_or_renew(now, &mut s.random, kinds, (&Owner::Pbx, &header), &mut s.out);
    }
    true
}

/// Obeys a signal that is for recorders: `<action>[-siprec][;recording-ip-group=NAME]`. `None`: it is for the holds.
fn steer_recorders(now: Instant, core: &Core, s: &mut Shared, value: &str) -> Option<bool> {
    let (action, parameters) = value.split_once(';').unwrap_or((value, ""));
    let action = action.trim();
    let wish = match action.strip_suffix("-siprec").unwrap_or(action) {
        "pause" => Steer::Pause,
        "resume" => Steer::Resume,
        "start" => Steer::Start,
        "stop" => Steer::Stop,
        _ => return None,
    };
    let group = parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        (name.trim() == "recording-ip-group").then(|| value.trim().trim_matches('"'))
    });
    // Its own leases only, as with holds.
    let by = (&Owner::Pbx, false);
    match (wish, group) {
        // For the whole call: leases of the PBX, which reach every recorder and the sealed file.
        (Steer::Pause | Steer::Resume, None) => None,
        (Steer::Pause, Some(group)) => {
            let known = recorders::steer(now, s, core.id, (Some(group), wish, by), None);
            // Rather too much than too little.
            if known == Steered::Unknown { None } else { Some(true) }
        }
        (Steer::Resume, Some(group)) => {
            recorders::steer(now, s, core.id, (Some(group), wish, by), None);
            Some(true)
        }
        (Steer::Start | Steer::Stop, group) => {
            recorders::steer(now, s, core.id, (group, wish, by), None);
            Some(true)
        }
    }
}
