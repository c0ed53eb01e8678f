//! Answers to challenges (RFC 3261 section 22.2), below the user: a request that a trunk's peer answers 401 or 407 goes
//! again with credentials, as a new transaction under the same number, and the user sees its last answer only. Given to
//! nobody but the trunk that owns the credential, for its own realm, in answer to a request of ours (threats R10).
//!
//! Each repetition takes the next CSeq. The user counts without them: what leaves has the repetitions of its Call-ID
//! added, what comes back has them taken off.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::RngExt;

use super::client::{Client, Kind, branch};
use super::txn::{CancelWhen, ClientInvite, ClientOther};
use super::{Dest, Endpoint, Flow};
use crate::config::TrunkId;
use crate::sip::digest::{Asked, Challenge, Credential};
use crate::sip::msg::header::{CSeq, RAck, Via};
use crate::sip::msg::{HeaderName, Method, Request, Response};

/// How long a Call-ID's repetitions are remembered after its call: a last BYE may still go.
const REMEMBERED: Duration = Duration::from_secs(64);
/// A request goes at most so often again: once for the challenge, once for a nonce grown old in between.
const MOST: u8 = 2;

/// A credential and where it may be used.
#[derive(Debug, Clone)]
pub struct Login {
    /// User and secret.
    pub credential: Credential,
    /// The only realm that gets an answer.
    pub realm: String,
}

/// Repetitions of requests of one Call-ID.
#[derive(Debug, Clone, Copy)]
struct Shift {
    by: u32,
    until: Option<Instant>,
}

/// Repetitions by Call-ID.
#[derive(Debug, Default)]
pub(super) struct Shifts {
    by_call: HashMap<Box<str>, Shift>,
    /// How many are to be forgotten.
    ending: usize,
}

impl Shifts {
    fn of(&self, call_id: &str) -> u32 {
        self.by_call.get(call_id).map_or(0, |shift| shift.by)
    }

    fn raise(&mut self, call_id: &str) {
        match self.by_call.get_mut(call_id) {
            Some(shift) => shift.by += 1,
            None => {
                self.by_call.insert(call_id.into(), Shift { by: 1, until: None });
            }
        }
    }

    fn end(&mut self, now: Instant, call_id: &str) {
        if let Some(shift) = self.by_call.get_mut(call_id)
            && shift.until.is_none()
        {
            shift.until = Some(now + REMEMBERED);
            self.ending += 1;
        }
        // Seldom enough that looking through all of them costs nothing.
        if self.ending > 64 {
            self.by_call.retain(|_, shift| shift.until.is_none_or(|until| now < until));
            self.ending = self.by_call.values().filter(|shift| shift.until.is_some()).count();
        }
    }

    /// Call-IDs remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.by_call.len()
    }
}

/// What a challenged transaction leaves behind: its repeated refusals are acknowledged still.
#[derive(Debug)]
pub(super) struct Former {
    pub(super) nonce: u64,
    pub(super) ack: Bytes,
}

impl Endpoint {
    /// The user has no more use for a Call-ID of its requests.
    pub fn forget_call(&mut self, now: Instant, call_id: &str) {
        self.shifts.end(now, call_id);
    }

    /// Whether requests to `dest` may have to go again with credentials.
    pub(super) fn has_login(&self, dest: &Dest) -> bool {
        dest.trunk.is_some_and(|trunk| self.config.logins.contains_key(&trunk))
    }

    /// Adds the repetitions of its Call-ID to a request of the user's; says how many.
    pub(super) fn shift(&self, request: &mut Request, dest: &Dest) -> u32 {
        if !self.has_login(dest) {
            return 0;
        }
        let by = request.call_id().map_or(0, |call_id| self.shifts.of(call_id));
        add(request, by);
        by
    }

    /// A 401 or 407 to a request of ours: sends it again with credentials. `false`: it is the user's to deal with.
    pub(super) fn answer_challenge(&mut self, now: Instant, id: u64, flow: &Flow, response: &Response) -> bool {
        let Some((trunk, mut challenge)) = self.challenge(id, flow, response) else { return false };
        let Some(client) = self.clients.get_mut(id) else { return false };
        let Some(login) = self.config.logins.get(&trunk) else { return false };
        let timers = self.config.timers;
        let nonce = self.random.random();
        let old = client.nonce;
        let reliable = Self::reliable(&client.dest);
        let mut request = match &mut client.kind {
            Kind::Invite(invite) => match invite.request.take() {
                Some(request) => request,
                None => return false,
            },
            Kind::Other(_) => match client.request.take() {
                Some(request) => *request,
                None => return false,
            },
            Kind::Cancel(_) => return false,
        };
        let former = super::client::ack_for(&request, response).to_bytes();
        renew(&mut request, &branch(id, nonce));
        let uri = String::from_utf8_lossy(&request.raw_uri).into_owned();
        let (method, body) = (request.method.clone(), request.body.clone());
        let asked = Asked { method: method.as_str(), uri: &uri, body: &body };
        let answer = challenge.answer(&mut self.random, &login.credential, asked);
        let name = if response.status == 401 { HeaderName::Authorization } else { HeaderName::ProxyAuthorization };
        request.headers.set(name, answer);
        let (dest, bytes) = (client.dest, request.to_bytes());
        client.nonce = nonce;
        client.bytes = bytes.clone();
        client.fallback = None;
        client.tries += 1;
        client.shift += 1;
        if let Some(call_id) = request.call_id() {
            self.shifts.raise(call_id);
        }
        let mut acknowledged = None;
        match &mut client.kind {
            Kind::Invite(invite) => {
                invite.machine = ClientInvite::start(now, &timers, reliable);
                invite.former = Some(Former { nonce: old, ack: former.clone() });
                invite.request = Some(request);
                acknowledged = Some(former);
            }
            Kind::Other(machine) => {
                *machine = ClientOther::start(now, &timers, reliable);
                client.request = Some(Box::new(request));
            }
            Kind::Cancel(_) => {}
        }
        self.clients.schedule(id);
        if let Some(ack) = acknowledged {
            self.transmit(dest, ack);
        }
        self.transmit(dest, bytes);
        true
    }

    /// The challenge in a response, if it is one that may be answered.
    fn challenge(&self, id: u64, flow: &Flow, response: &Response) -> Option<(TrunkId, Challenge)> {
        let client = self.clients.get(id)?;
        let trunk = client.dest.trunk?;
        let login = self.config.logins.get(&trunk)?;
        let from_peer = flow.remote.ip().to_canonical() == client.dest.remote.ip().to_canonical();
        let of_trunk = flow.trunk.is_none_or(|vouched| vouched == trunk);
        if client.tries >= MOST || !from_peer || !of_trunk || !client.may_go_again() {
            return None;
        }
        let name = if response.status == 401 { HeaderName::WwwAuthenticate } else { HeaderName::ProxyAuthenticate };
        // Each challenge is a header line of its own (RFC 3261 section 20.44): its parameters are separated by commas.
        let values = response.headers.get_all(name);
        let challenge = Challenge::best(values, Some(&login.realm))?;
        // Asked again although the answer was right means that the credential is wrong.
        (client.tries == 0 || challenge.stale).then_some((trunk, challenge))
    }
}

impl Client {
    fn may_go_again(&self) -> bool {
        match &self.kind {
            Kind::Invite(invite) => {
                // A call that is being given up is not tried again.
                invite.cancel.is_none()
                    && invite.cancel_wanted.is_none()
                    && invite.machine.cancel_when() != CancelWhen::Never
                    && invite.request.is_some()
            }
            Kind::Other(machine) => machine.is_waiting() && self.request.is_some(),
            Kind::Cancel(_) => false,
        }
    }

    /// The credentials an answered INVITE went with.
    pub(super) fn credentials(&self) -> impl Iterator<Item = (HeaderName, Vec<u8>)> {
        let shown = match &self.kind {
            Kind::Invite(invite) => invite.shown.clone(),
            Kind::Other(_) | Kind::Cancel(_) => Vec::new(),
        };
        shown.into_iter()
    }

    /// Takes the repetitions off a response, so that its user finds the request it knows.
    pub(super) fn unshift(&self, response: &mut Response) {
        if self.shift == 0 {
            return;
        }
        if let Ok(cseq) = response.cseq() {
            let back = format!("{} {}", cseq.number.saturating_sub(self.shift), cseq.method);
            response.headers.set(HeaderName::CSeq, back);
        }
    }
}

/// Adds to a request's CSeq, and to the CSeq that a PRACK speaks of.
pub(super) fn add(request: &mut Request, by: u32) {
    if by == 0 {
        return;
    }
    if let Ok(CSeq { number, method }) = request.cseq() {
        let cseq = format!("{} {method}", number.saturating_add(by));
        request.headers.set(HeaderName::CSeq, cseq);
    }
    if request.method == Method::Prack
        && let Some(rack) = request.headers.get(HeaderName::RAck).and_then(|value| RAck::parse(value).ok())
    {
        let moved = format!("{} {} {}", rack.rseq, rack.cseq.number.saturating_add(by), rack.cseq.method);
        request.headers.set(HeaderName::RAck, moved);
    }
}

/// The credentials a request carries.
pub(super) fn shown(request: &Request) -> Vec<(HeaderName, Vec<u8>)> {
    let names = [HeaderName::Authorization, HeaderName::ProxyAuthorization];
    names.into_iter().filter_map(|name| Some((name, request.headers.get(name)?.to_vec()))).collect()
}

/// The next CSeq and another branch; what was answered to another challenge is gone.
fn renew(request: &mut Request, branch: &str) {
    if let Ok(CSeq { number, method }) = request.cseq() {
        let cseq = format!("{} {method}", number.saturating_add(1));
        request.headers.set(HeaderName::CSeq, cseq);
    }
    let via = request.headers.get(HeaderName::Via).map(<[u8]>::to_vec).unwrap_or_default();
    if let Ok(read) = Via::parse(&via) {
        let fresh = format!("SIP/2.0/{} {};rport;branch={branch}", read.transport, read.sent_by);
        request.headers.replace_first(HeaderName::Via, fresh.into_bytes());
    }
    request.headers.remove(HeaderName::Authorization);
    request.headers.remove(HeaderName::ProxyAuthorization);
}
