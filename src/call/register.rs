//! Registrations of ours with carriers (RFC 3261 section 10.2). Answers and the time go in; REGISTER requests and events
//! come out. Credentials are the endpoint's. Registrations of others are taken from nobody (threats R11).
//!
//! ```text
//!  Waiting ─ due ─► Asking ── 2xx ─► Registered ─ refresh due ─► Asking (and still registered until it runs out)
//!     ▲               ├── 423 ─► Asking, for longer
//!     │               ├── no answer, 5xx, no transport ─► Asking the next target
//!     └───────────────┴── refused, or no target left: a growing pause
//! ```

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::RngExt;

use super::crossing;
use super::shared::{Asked, Shared};
use crate::base::time::soonest;
use crate::config::TrunkId;
use crate::obs::event::EventKind;
use crate::sip::msg::HeaderName;
use crate::sip::msg::header::NameAddr;
use crate::sip::{Dest, Response};

/// The pause after a failure: the first, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));
/// The pause after a refusal, which asking again changes little.
const REFUSED: Duration = Duration::from_secs(300);
/// No registration is refreshed more often.
const SHORTEST: Duration = Duration::from_secs(1);
/// How long a registrar may take.
const PATIENCE: Duration = Duration::from_secs(8);

/// One trunk's registration.
#[derive(Debug)]
pub(super) struct Registration {
    call_id: String,
    tag: String,
    cseq: u32,
    expires: Duration,
    /// When the next REGISTER goes.
    due: Option<Instant>,
    /// When the one under way counts as lost.
    late: Option<Instant>,
    /// Until when the registrar knows us.
    until: Option<Instant>,
    /// Targets left to try before a pause.
    rest: Vec<SocketAddr>,
    failures: u32,
    ending: bool,
}

impl Registration {
    /// Until when the registrar knows us, and how many attempts have failed since it last said so.
    pub(super) fn standing(&self, now: Instant) -> (Option<Instant>, u32) {
        (self.until.filter(|until| now < *until), self.failures)
    }

    fn poll_timeout(&self) -> Option<Instant> {
        [self.due, self.late, self.until].into_iter().fold(None, soonest)
    }
}

/// When [`handle_timeout`] is wanted.
pub(super) fn poll_timeout(s: &Shared) -> Option<Instant> {
    s.registrations.iter().flatten().fold(None, |at, one| soonest(at, one.poll_timeout()))
}

/// The node begins: each registration is due at once.
pub(super) fn start(now: Instant, s: &mut Shared) {
    let config = s.config.clone();
    for (at, trunk) in config.trunks.iter().enumerate() {
        let Some(wish) = &trunk.link.register else { continue };
        let call_id = format!("{:032x}", s.random.random::<u128>());
        let tag = crossing::token(&mut s.random);
        s.registrations[at] = Some(Registration {
            call_id,
            tag,
            cseq: 0,
            expires: wish.expires,
            due: Some(now),
            late: None,
            until: None,
            rest: Vec::new(),
            failures: 0,
            ending: false,
        });
    }
}

/// Time passed.
pub(super) fn handle_timeout(now: Instant, s: &mut Shared) {
    for at in 0..s.registrations.len() {
        let Some(one) = &mut s.registrations[at] else { continue };
        let (due, late) = (one.due.is_some_and(|at| at <= now), one.late.is_some_and(|at| at <= now));
        if one.until.is_some_and(|until| until <= now) {
            one.until = None;
            tell(s, TrunkId(at), false, None);
        }
        if late {
            failed(now, s, TrunkId(at), 408);
        } else if due {
            ask(now, s, TrunkId(at));
        }
    }
}

/// No calls are to come any more: the registrars are told.
pub(super) fn end(now: Instant, s: &mut Shared) {
    for at in 0..s.registrations.len() {
        let Some(one) = &mut s.registrations[at] else { continue };
        one.due = None;
        one.late = None;
        if !std::mem::replace(&mut one.ending, true) && one.until.is_some() {
            ask(now, s, TrunkId(at));
        }
    }
}

fn ask(now: Instant, s: &mut Shared, id: TrunkId) {
    let config = s.config.clone();
    let trunk = &config.trunks[id.0];
    let Some(wish) = &trunk.link.register else { return };
    let order = s.trunks.targets_of(now, &mut s.random, id);
    let Some(one) = &mut s.registrations[id.0] else { return };
    one.due = None;
    if one.rest.is_empty() {
        one.rest = order;
        one.rest.reverse();
    }
    let Some(remote) = one.rest.pop() else { return pause(now, s, id, None) };
    one.cseq += 1;
    one.late = (!one.ending).then_some(now + PATIENCE);
    let expires = if one.ending { 0 } else { one.expires.as_secs() };
    let listener = &config.listeners[trunk.listener.0];
    let request = crossing::register(listener, wish, (&one.call_id, &one.tag, one.cseq), expires);
    let dest = Dest::fresh(trunk.listener, listener.transport, remote, id);
    let cseq = one.cseq;
    s.send(now, request, dest, Some(Asked::Register(id, cseq)));
}

/// The registrar answers, or does not (408, 503). `cseq`: which request of ours it is about.
pub(super) fn handle_response(now: Instant, s: &mut Shared, (id, cseq): (TrunkId, u32), response: &Response) {
    let Some(one) = s.registrations.get_mut(id.0).and_then(Option::as_mut) else { return };
    if one.cseq != cseq || one.ending {
        return;
    }
    one.late = None;
    let ours = s.config.listeners[s.config.trunks[id.0].listener.0].advertise;
    match response.status {
        200..=299 => {
            let granted = granted(response, ours).unwrap_or(one.expires);
            one.rest.clear();
            one.failures = 0;
            let known = one.until.is_some();
            one.until = Some(now + granted);
            let early = granted.mul_f64(s.random.random_range(0.6..0.8)).max(SHORTEST);
            one.due = Some(now + early);
            if !known {
                tell(s, id, true, Some(response.status));
            }
        }
        423 => {
            let least = response.headers.text(HeaderName::MinExpires).and_then(|text| text.trim().parse().ok());
            match least.map(Duration::from_secs).filter(|least| *least > one.expires && least.as_secs() <= 86_400) {
                Some(least) => {
                    one.expires = least;
                    one.due = Some(now);
                }
                None => pause(now, s, id, Some(423)),
            }
        }
        408 | 500..=599 => failed(now, s, id, response.status),
        status => pause(now, s, id, Some(status)),
    }
}

/// A target gave no registration; the next one is asked.
fn failed(now: Instant, s: &mut Shared, id: TrunkId, status: u16) {
    let Some(one) = &mut s.registrations[id.0] else { return };
    one.late = None;
    if one.rest.is_empty() { pause(now, s, id, Some(status)) } else { one.due = Some(now) }
}

fn pause(now: Instant, s: &mut Shared, id: TrunkId, status: Option<u16>) {
    let Some(one) = &mut s.registrations[id.0] else { return };
    let refused = status.is_some_and(|status| (300..500).contains(&status) && status != 408 || status >= 600);
    let growing = PAUSE.0 * 2_u32.pow(one.failures.min(8));
    let wait = if refused { REFUSED } else { growing.min(PAUSE.1) };
    one.rest.clear();
    one.failures += 1;
    one.due = Some(now + wait);
    // One line per failure, and each but the first after a pause.
    tell(s, id, false, status);
}

fn tell(s: &mut Shared, id: TrunkId, registered: bool, status: Option<u16>) {
    let trunk = s.config.trunks[id.0].name.clone();
    // A refresh that failed has not ended the registration yet.
    let registered = registered || s.registrations[id.0].as_ref().is_some_and(|one| one.until.is_some());
    s.out.events.push_back((None, EventKind::Registration { trunk, registered, status }));
}

/// How long a registrar lets the registration hold: of our Contact, or of all. It may list those of others too.
fn granted(response: &Response, ours: SocketAddr) -> Option<Duration> {
    let seconds = |text: &str| text.trim().parse().ok().map(Duration::from_secs);
    let items = response.headers.items(HeaderName::Contact);
    let mut contacts = items.filter_map(|item| NameAddr::parse(item).ok());
    let is_ours = |contact: &NameAddr<'_>| contact.uri.sip().and_then(|sip| sip.socket_addr()) == Some(ours);
    let of_contact = contacts.find(is_ours).and_then(|contact| contact.params.text("expires").and_then(seconds));
    of_contact.or_else(|| response.headers.text(HeaderName::Expires).and_then(seconds)).filter(|time| !time.is_zero())
}
