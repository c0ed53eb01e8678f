//! What crosses from one leg's messages to the other's. Every message toward a leg is built here, or by that leg's
//! dialog, from parsed facts and the trunk's list of passed headers; nothing is copied raw, so neither an injected
//! header nor an address of the other side comes through (threats R8, R9).

use std::fmt::Write as _;
use std::net::SocketAddr;

use rand::RngExt;

use crate::base::Random;
use crate::base::ids::Leg;
use crate::config::{Config, Listener, Refer, Register, Transport, Trunk, TrunkId};
use crate::sip::msg::header::{NameAddr, Reason, address};
use crate::sip::msg::uri::Host;
use crate::sip::msg::{HeaderName, Headers, Uri};
use crate::sip::{Dest, Method, Request, Response};

/// The methods we take.
pub(super) const ALLOW: &str = "INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, UPDATE, PRACK";

/// Headers that are ours to write, whatever a trunk's list says.
const OURS: &[HeaderName] = &[
    HeaderName::Via,
    HeaderName::From,
    HeaderName::To,
    HeaderName::CallId,
    HeaderName::CSeq,
    HeaderName::Contact,
    HeaderName::Route,
    HeaderName::RecordRoute,
    HeaderName::Path,
    HeaderName::MaxForwards,
    HeaderName::ContentLength,
    HeaderName::ContentType,
    HeaderName::ContentEncoding,
    HeaderName::ContentDisposition,
    HeaderName::ContentLanguage,
    HeaderName::MimeVersion,
    HeaderName::Require,
    HeaderName::ProxyRequire,
    HeaderName::Supported,
    HeaderName::Unsupported,
    HeaderName::Allow,
    HeaderName::Authorization,
    HeaderName::ProxyAuthorization,
    HeaderName::WwwAuthenticate,
    HeaderName::ProxyAuthenticate,
    HeaderName::Replaces,
    HeaderName::Join,
    HeaderName::ReferTo,
    HeaderName::SessionExpires,
    HeaderName::MinSe,
    HeaderName::RSeq,
    HeaderName::RAck,
    HeaderName::UserAgent,
    HeaderName::Server,
];

/// The longest caller, called or reference kept for people to read.
const LONGEST_NAME: usize = 128;

/// What an INVITE says of its call, fit for events and the API.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) caller: String,
    pub(super) called: String,
    /// The number called: as routes match it, then as the route makes it.
    pub(super) user: String,
    /// The number that calls, likewise.
    pub(super) from: String,
    pub(super) reference: Option<String>,
    /// The texts that its `User-to-User` is known by.
    pub(super) user_to_user: Vec<String>,
}

/// The most texts that a call's `User-to-User` is known by.
const MOST_USER_TO_USER: usize = 12;

impl Facts {
    /// Reads them; `None` when the Request-URI has no user.
    pub(super) fn of(invite: &Request, call_header: Option<&str>) -> Option<Facts> {
        let user = number(&invite.uri())?;
        let caller = invite.from().ok().and_then(|from| number(&from.uri)).unwrap_or_default();
        let (caller, from) = (shown(&caller), caller);
        let mut facts = Facts { caller, called: shown(&user), user, from, reference: None, user_to_user: Vec::new() };
        facts.learn(&invite.headers, call_header);
        Some(facts)
    }

    /// Takes in what a message says of its call's names; whether that is new.
    pub(super) fn learn(&mut self, headers: &Headers, call_header: Option<&str>) -> bool {
        let before = (self.reference.is_some(), self.user_to_user.len());
        if self.reference.is_none() {
            let value = call_header.and_then(|name| headers.get_named(name));
            self.reference = value.map(|value| shown(&String::from_utf8_lossy(value)));
        }
        let texts = headers.items(HeaderName::UserToUser).filter_map(|item| std::str::from_utf8(item).ok());
        for form in texts.flat_map(super::uui::forms) {
            if self.user_to_user.len() < MOST_USER_TO_USER && !self.user_to_user.contains(&form) {
                self.user_to_user.push(form);
            }
        }
        before != (self.reference.is_some(), self.user_to_user.len())
    }
}

/// The user part of a URI; of a `tel:` URI the number without its visual separators (RFC 3966 section 5.1.1).
pub(super) fn number(uri: &Uri<'_>) -> Option<String> {
    match uri {
        Uri::Tel(tel) => Some(tel.number.chars().filter(|c| !matches!(c, '-' | '.' | '(' | ')')).collect()),
        uri => uri.user().map(str::to_owned),
    }
}

/// A peer's text, bounded and without control characters.
pub(super) fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(LONGEST_NAME).collect()
}

/// Where an INVITE of ours starts from and goes to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way<'a> {
    pub(super) listener: &'a Listener,
    pub(super) remote: SocketAddr,
    /// Numbers are written as `tel:` URIs.
    pub(super) tel: bool,
}

/// The INVITE toward the other leg: fresh Call-ID, tag and Contact; caller and called number, Max-Forwards less one and
/// the passed headers from `theirs`. Without Via, which the endpoint adds.
pub(super) fn invite(random: &mut Random, theirs: &Request, facts: &Facts, way: Way<'_>, pass: &[String]) -> Request {
    let is_number =
        |user: &str| !user.is_empty() && user.strip_prefix('+').unwrap_or(user).bytes().all(|b| b.is_ascii_digit());
    let uri = |user: &str, at: SocketAddr| match way.tel && is_number(user) {
        true if user.starts_with('+') => format!("tel:{user}"),
        // A local number is one of ours (RFC 3966 section 5.1.5).
        true => format!("tel:{user};phone-context={}", Host::Ip(way.listener.advertise.ip())),
        false => uri(way.listener, user, at),
    };
    let target = match uri(&facts.user, way.remote) {
        tel if tel.starts_with("tel:") => tel,
        target => format!("{target}{}", transport_parameter(way.listener)),
    };
    let from = theirs.from().ok();
    let user = facts.from.as_str();
    let display = from.and_then(|from| from.display_name());
    let from = address(display.as_deref(), &uri(user, way.listener.advertise), Some(&token(random)));
    let mut ours = Request::new(Method::Invite, &target);
    ours.headers.push(HeaderName::MaxForwards, max_forwards(theirs).saturating_sub(1).to_string());
    ours.headers.push(HeaderName::From, from);
    ours.headers.push(HeaderName::To, address(None, &uri(&facts.user, way.remote), None));
    ours.headers.push(HeaderName::CallId, format!("{:032x}", random.random::<u128>()));
    ours.headers.push(HeaderName::CSeq, format!("{} INVITE", random.random_range(1..1 << 16)));
    describe_us(&mut ours.headers, way.listener);
    for name in pass {
        pass_header(&theirs.headers, &mut ours.headers, name, way.listener.advertise);
    }
    ours
}

/// A Request-URI of ours: `user` at `remote`, by the listener's transport.
pub(super) fn target(listener: &Listener, user: &str, remote: SocketAddr) -> String {
    format!("{}{}", uri(listener, user, remote), transport_parameter(listener))
}

/// Our Contact on a listener, with further parameters of it.
pub(super) fn contact(listener: &Listener, parameters: &str) -> String {
    format!("<{}{}>{parameters}", uri(listener, "", listener.advertise), transport_parameter(listener))
}

/// Contact and Allow: on every message that makes or refreshes a dialog.
pub(super) fn describe_us(headers: &mut Headers, listener: &Listener) {
    headers.set(HeaderName::Contact, contact(listener, ""));
    headers.set(HeaderName::Allow, ALLOW);
}

/// An OPTIONS that asks a target whether it is there.
pub(super) fn ping(random: &mut Random, listener: &Listener, remote: SocketAddr) -> Request {
    let target = uri(listener, "", remote);
    let mut ping = Request::new(Method::Options, format!("{target}{}", transport_parameter(listener)));
    ping.headers.push(HeaderName::From, address(None, &uri(listener, "", listener.advertise), Some(&token(random))));
    ping.headers.push(HeaderName::To, address(None, &target, None));
    ping.headers.push(HeaderName::CallId, format!("{:032x}", random.random::<u128>()));
    ping.headers.push(HeaderName::CSeq, "1 OPTIONS");
    describe_us(&mut ping.headers, listener);
    ping
}

/// A REGISTER of `wish`, by its dialog-like facts: Call-ID, tag, CSeq.
pub(super) fn register(
    listener: &Listener,
    wish: &Register,
    (call_id, tag, cseq): (&str, &str, u32),
    expires: u64,
) -> Request {
    let scheme = if listener.options.sips { "sips" } else { "sip" };
    let parameter = transport_parameter(listener);
    let record = format!("{scheme}:{}@{}", wish.user, wish.domain);
    let mut register = Request::new(Method::Register, format!("{scheme}:{}{parameter}", wish.domain));
    register.headers.push(HeaderName::From, address(None, &record, Some(tag)));
    register.headers.push(HeaderName::To, address(None, &record, None));
    register.headers.push(HeaderName::CallId, call_id);
    register.headers.push(HeaderName::CSeq, format!("{cseq} REGISTER"));
    let contact = format!("<{}{parameter}>;expires={expires}", uri(listener, &wish.user, listener.advertise));
    register.headers.push(HeaderName::Contact, contact);
    register.headers.push(HeaderName::Expires, expires.to_string());
    register.headers.push(HeaderName::Allow, ALLOW);
    register
}

/// A URI as it is written on a listener. IPv6 addresses stand in brackets.
pub(super) fn uri(listener: &Listener, user: &str, at: SocketAddr) -> String {
    let scheme = if listener.options.sips { "sips" } else { "sip" };
    match user {
        "" => format!("{scheme}:{at}"),
        user => format!("{scheme}:{user}@{at}"),
    }
}

/// What a URI of a listener says of its transport (RFC 3261 section 19.1.1); `sips:` says it already.
fn transport_parameter(listener: &Listener) -> &'static str {
    match listener.transport {
        Transport::Udp => "",
        Transport::Tcp => ";transport=tcp",
        Transport::Tls if listener.options.sips => "",
        Transport::Tls => ";transport=tls",
    }
}

/// Max-Forwards of a request, 70 when it has none.
pub(super) fn max_forwards(request: &Request) -> u8 {
    request.max_forwards().unwrap_or(70)
}

/// Passes on the headers of an answer that its trunk lists.
pub(super) fn pass_answer(theirs: &Response, ours: &mut Response, pass: &[String], listener: &Listener) {
    for name in pass {
        pass_header(&theirs.headers, &mut ours.headers, name, listener.advertise);
    }
}

/// Says in a message that makes a dialog what its peer may do beyond the usual.
pub(super) fn announce(headers: &mut Headers, trunk: &Trunk) {
    if trunk.methods.refer != Refer::Refuse {
        headers.push_token(HeaderName::Allow, "REFER, NOTIFY");
    }
    if !trunk.methods.pass_message.is_empty() {
        headers.push_token(HeaderName::Allow, "MESSAGE");
    }
    if trunk.methods.replaces {
        headers.push_token(HeaderName::Supported, "replaces");
    }
}

/// Passes the headers `name` on. Identities keep name and user, and get our host: their host is an address of the
/// other side.
fn pass_header(from: &Headers, to: &mut Headers, name: &str, ours: SocketAddr) {
    let known = HeaderName::parse(name.as_bytes());
    match known {
        Some(known) if OURS.contains(&known) => {}
        Some(known @ (HeaderName::PAssertedIdentity | HeaderName::PPreferredIdentity)) => {
            for identity in from.items(known).filter_map(|item| NameAddr::parse(item).ok()) {
                let uri = match identity.uri {
                    Uri::Sip(sip) => sip.user.map(|user| format!("sip:{user}@{}", Host::Ip(ours.ip()))),
                    Uri::Tel(tel) => Some(format!("tel:{}", tel.number)),
                    Uri::Other { .. } => None,
                };
                if let Some(uri) = uri {
                    to.push(known, address(identity.display_name().as_deref(), &uri, None));
                }
            }
        }
        Some(known @ (HeaderName::Diversion | HeaderName::HistoryInfo)) => {
            for item in from.items(known).filter_map(|item| NameAddr::parse(item).ok()) {
                let Some(user) = number(&item.uri) else { continue };
                let mut value = address(None, &format!("sip:{user}@{}", Host::Ip(ours.ip())), None);
                for name in ["reason", "counter", "limit", "privacy", "screen", "index", "rc", "mp", "np"] {
                    if let Some(text) = item.params.text(name).filter(|text| is_plain(text)) {
                        let _ = write!(value, ";{name}={text}");
                    }
                }
                to.push(known, value);
            }
        }
        Some(_) | None => {
            for value in from.get_all_named(name) {
                // A value with a control character cannot be parsed into a header; should one be, it stays behind.
                let _ = to.try_push_named(name, value);
            }
        }
    }
}

/// A parameter's value that needs no quotes and names no address.
fn is_plain(text: &str) -> bool {
    text.len() <= 32 && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
}

/// A Reason header's protocol and cause, rewritten (RFC 3326).
pub(super) fn reason_of(headers: &Headers) -> Option<String> {
    let reason = Reason::parse(headers.items(HeaderName::Reason).next()?).ok()?;
    let protocol = ["Q.850", "SIP"].into_iter().find(|known| known.eq_ignore_ascii_case(reason.protocol))?;
    Some(format!("{protocol};cause={}", reason.cause?))
}

/// The status the caller gets for a failure of the other leg: what speaks of that leg's own dealings with us
/// (authentication, our extensions, our dialog) is not the caller's.
pub(super) const fn status_across(status: u16) -> u16 {
    match status {
        300..=399 => 480,
        401 | 407 => 403,
        400 | 402 | 405 | 414 | 416 | 420 | 421 | 422 | 423 | 481 | 482 | 483 | 491 | 493 | 494 | 501 | 505 => 500,
        406 | 415 | 606 => 488,
        413 | 513 => 500,
        404 | 408 | 410 | 480 | 484..=488 | 500 | 502 | 503 | 504 | 600 | 603 | 604 => status,
        403 | 433 => 403,
        424..=499 | 409 | 411 | 412 | 417..=419 => 480,
        601..=699 => 603,
        _ => 500,
    }
}

/// A response to the caller of `request`.
pub(super) fn response(request: &Request, status: u16, tag: &str, listener: &Listener) -> Response {
    let mut response = Response::for_request(request, status, "");
    response.set_to_tag(tag);
    if status < 300 {
        describe_us(&mut response.headers, listener);
    }
    response
}

/// A fresh tag.
pub(super) fn token(random: &mut Random) -> String {
    let mut text = String::with_capacity(16);
    // Writing to a String does not fail.
    let _ = write!(text, "{:016x}", random.random::<u64>());
    text
}

/// Where requests within a dialog go: to the address its route set or target names, if that is a place of the trunk;
/// else back to where the peer was heard (threats R16). A TCP peer that connected to us is asked on its connection while
/// that stands; the port it came from takes no connections, so a new one is made to where its trunk listens.
pub(super) fn next_hop(config: &Config, trunk: TrunkId, uri: &str, heard: Dest) -> Dest {
    let named = Uri::parse(uri.as_bytes()).ok().and_then(|uri| uri.sip()?.socket_addr());
    let named = named.filter(|remote| super::routing::is_of_trunk(config, trunk, remote.ip()));
    let listens = heard.connection.and_then(|_| config.trunks[trunk.0].remotes.first().copied());
    Dest { remote: named.or(listens).unwrap_or(heard.remote), trunk: Some(trunk), ..heard }
}

/// The leg that a trunk's calls come from.
pub(super) fn leg_of(trunk: &Trunk) -> Leg {
    match trunk.side {
        crate::config::Side::Carrier => Leg::Customer,
        // No call comes from a recorder.
        crate::config::Side::Pbx | crate::config::Side::Recorder => Leg::Agent,
    }
}
