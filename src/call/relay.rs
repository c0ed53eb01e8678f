//! INFO and MESSAGE of other content than keys, passed on within a call by the trunk's list of content types. The
//! request goes in; ours to the other leg, and its answer, come out. Nothing the customer sends goes this way while the
//! call is masked: a text can name a card too.

use std::time::Instant;

use super::call::Verdict;
use super::core::Core;
use super::crossing;
use super::established::Established;
use super::refused::Refused;
use super::shared::{Asked, Shared};
use crate::base::ids::Leg;
use crate::config::Trunk;
use crate::sip::msg::HeaderName;
use crate::sip::msg::header::ContentType;
use crate::sip::{ClientId, Method, Request, Response, ServerId};

/// The longest body passed on.
const LONGEST: usize = 16_384;

/// The most requests of a call that wait for their answer.
const MOST: usize = 8;

/// A request passed on.
pub(super) struct Relay {
    client: ClientId,
    to: Leg,
    server: ServerId,
    request: Request,
}

/// The content types a trunk passes on by a method.
fn listed<'a>(trunk: &'a Trunk, method: &Method) -> &'a [String] {
    match method {
        Method::Info => &trunk.methods.pass_info,
        Method::Message => &trunk.methods.pass_message,
        _ => &[],
    }
}

impl Established {
    /// An INFO or MESSAGE of `leg` that is no key.
    pub(super) fn relay(
        &mut self,
        now: Instant,
        core: &Core,
        s: &mut Shared,
        (leg, server, request): (Leg, ServerId, &Request),
    ) -> Result<(), Refused> {
        let config = s.config.clone();
        let listed = listed(&config.trunks[core.trunk(leg).0], &request.method);
        if listed.is_empty() && request.method == Method::Message {
            return Err(Refused::method());
        }
        let kind = request.headers.get(HeaderName::ContentType).and_then(|value| ContentType::parse(value).ok());
        let known = kind.and_then(|kind| listed.iter().find(|known| known.eq_ignore_ascii_case(&kind.to_string())));
        let (Some(kind), Some(known)) = (kind, known) else {
            let own = if request.method == Method::Info { super::info::TYPES } else { "" };
            let accept = listed.iter().map(String::as_str).chain([own].into_iter().filter(|own| !own.is_empty()));
            return Err(Refused::body_type(&accept.collect::<Vec<_>>().join(", ")));
        };
        if request.headers.text(HeaderName::ContentEncoding).is_some_and(|c| !c.eq_ignore_ascii_case("identity")) {
            return Err(Refused::body_type(known));
        }
        if leg == Leg::Customer && !core.protection.passes_info(now, leg) {
            return Err(Refused::because(403, "Call Is Guarded"));
        }
        if request.body.len() > LONGEST {
            return Err(Refused::new(413));
        }
        let to = leg.other();
        if self.relays.len() == MOST || self.is_gone(to) {
            return Err(Refused::moment());
        }
        let side = self.side(to);
        let mut ours = side.dialog.next_request(request.method.clone());
        let kind = match kind.params.text("charset") {
            Some(charset) => format!("{known};charset={charset}"),
            None => known.clone(),
        };
        ours.set_body(&kind, request.body.clone());
        let dest = side.dest;
        let client = s.send(now, ours, dest, Some(Asked::Relay(core.id)));
        self.relays.push(Relay { client, to, server, request: request.clone() });
        Ok(())
    }

    /// A request passed on was answered finally, or not (408, 503).
    pub(super) fn handle_relayed(&mut self, now: Instant, s: &mut Shared, (id, status): (ClientId, u16)) -> Verdict {
        let Some(at) = self.relays.iter().position(|relay| relay.client == id) else { return Verdict::Stay };
        let relay = self.relays.swap_remove(at);
        let across = match status {
            200..300 => 200,
            415 => 415,
            status => crossing::status_across(status),
        };
        s.respond(now, relay.server, Response::for_request(&relay.request, across, ""));
        self.handle_probe(relay.to, status)
    }

    /// The call ends: what was passed on and not answered gets its answer.
    pub(super) fn drop_relays(&mut self, now: Instant, s: &mut Shared) {
        for relay in self.relays.drain(..) {
            s.refuse(now, relay.server, &relay.request, &Refused::new(487));
        }
    }
}
