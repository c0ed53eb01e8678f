//! Requests of ours: client transactions, their CANCELs and the ACKs that belong to them. The branch names the
//! transaction, so a response finds it without a search; the random part keeps it from being guessed.

use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;
use rand::RngExt;
use smallvec::SmallVec;

use super::auth::{self, Former};
use super::size::Fallback;
use super::slab::Timed;
use super::txn::{Answer, CancelWhen, ClientInvite, ClientOther, InviteAnswer, InviteDue, OtherDue};
use super::{ClientId, Dest, Endpoint, Event, Flow};
use crate::sip::msg::header::Via;
use crate::sip::msg::{HeaderName, Method, Request, Response};

/// A transaction of ours.
pub(super) struct Client {
    pub(super) kind: Kind,
    method: Method,
    /// The random half of its branch.
    pub(super) nonce: u64,
    pub(super) dest: Dest,
    /// The request as sent, until a final answer.
    pub(super) bytes: Bytes,
    /// Its UDP form, while it goes by TCP for its size and nothing was heard.
    pub(super) fallback: Option<Box<Fallback>>,
    /// The request, where it may have to go again with credentials and is no INVITE, which keeps its own.
    pub(super) request: Option<Box<Request>>,
    /// How often it went again.
    pub(super) tries: u8,
    /// What its CSeq is ahead of the user's.
    pub(super) shift: u32,
}

pub(super) enum Kind {
    Invite(Box<Invite>),
    Other(ClientOther),
    /// A CANCEL: the user hears nothing of it.
    Cancel(ClientOther),
}

pub(super) struct Invite {
    pub(super) machine: ClientInvite,
    /// For its ACK and CANCEL; dropped when neither can be wanted any more.
    pub(super) request: Option<Request>,
    /// The user cancelled before the first provisional: headers for the CANCEL.
    pub(super) cancel_wanted: Option<Vec<(HeaderName, String)>>,
    /// Its CANCEL's transaction.
    pub(super) cancel: Option<u64>,
    /// The ACK of the non-2xx answer.
    ack: Option<Bytes>,
    /// Per To tag of a 2xx seen: its ACK, once the user gave it.
    accepted: SmallVec<[Accepted; 1]>,
    /// The transaction before it went again with credentials.
    pub(super) former: Option<Former>,
    /// The credentials it went with, for the ACK of a 2xx.
    pub(super) shown: Vec<(HeaderName, Vec<u8>)>,
}

struct Accepted {
    tag: String,
    ack: Option<(Dest, Bytes)>,
}

impl Timed for Client {
    fn wake(&self) -> Option<Instant> {
        match &self.kind {
            Kind::Invite(invite) => invite.machine.poll_timeout(),
            Kind::Other(machine) | Kind::Cancel(machine) => machine.poll_timeout(),
        }
    }
}

impl Client {
    fn is_over(&self) -> bool {
        match &self.kind {
            Kind::Invite(invite) => invite.machine.is_over(),
            Kind::Other(machine) | Kind::Cancel(machine) => machine.is_over(),
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        match &self.kind {
            Kind::Invite(invite) => invite.machine.is_waiting(),
            Kind::Other(machine) | Kind::Cancel(machine) => machine.is_waiting(),
        }
    }
}

/// What our branches start with: RFC 3261's cookie and our mark.
const MARK: &str = "z9hG4bKtw";

pub(super) fn branch(id: u64, nonce: u64) -> String {
    format!("{MARK}{id:016x}{nonce:016x}")
}

/// The transaction a branch of ours names, and the random half.
fn read_branch(branch: &str) -> Option<(u64, u64)> {
    let hex = branch.strip_prefix(MARK).filter(|hex| hex.len() == 32 && hex.is_ascii())?;
    let (id, nonce) = hex.split_at(16);
    Some((u64::from_str_radix(id, 16).ok()?, u64::from_str_radix(nonce, 16).ok()?))
}

impl Endpoint {
    pub(super) fn start_client(
        &mut self,
        now: Instant,
        mut request: Request,
        mut dest: Dest,
        advertise: SocketAddr,
    ) -> ClientId {
        let shift = self.shift(&mut request, &dest);
        let may_go_again = self.has_login(&dest);
        let nonce = self.random.random();
        let branch = branch(self.clients.next_id(), nonce);
        self.complete(&mut request, &dest, advertise, &branch);
        let bytes = request.to_bytes();
        let (bytes, fallback) = self.by_size(now, (&mut request, &mut dest), (advertise, &branch), bytes);
        let timers = &self.config.timers;
        let reliable = Self::reliable(&dest);
        let method = request.method.clone();
        let mut kept = None;
        let kind = if method == Method::Invite {
            Kind::Invite(Box::new(Invite {
                machine: ClientInvite::start(now, timers, reliable),
                request: Some(request),
                cancel_wanted: None,
                cancel: None,
                ack: None,
                accepted: SmallVec::new(),
                former: None,
                shown: Vec::new(),
            }))
        } else {
            kept = may_go_again.then(|| Box::new(request));
            Kind::Other(ClientOther::start(now, timers, reliable))
        };
        let id = self.clients.insert(Client {
            kind,
            method,
            nonce,
            dest,
            bytes: bytes.clone(),
            fallback,
            request: kept,
            tries: 0,
            shift,
        });
        self.transmit(dest, bytes);
        ClientId(id)
    }

    /// Adds what every request of ours has.
    fn complete(&self, request: &mut Request, dest: &Dest, advertise: SocketAddr, branch: &str) {
        let headers = &mut request.headers;
        headers.push_front(HeaderName::Via, Via::print(dest.transport, advertise, branch));
        if headers.get(HeaderName::MaxForwards).is_none() {
            headers.push(HeaderName::MaxForwards, "70");
        }
        if !self.config.user_agent.is_empty() && headers.get(HeaderName::UserAgent).is_none() {
            headers.push(HeaderName::UserAgent, &self.config.user_agent);
        }
    }

    /// Routes a response to its transaction (section 17.1.3). What matches none is dropped (threats R30).
    pub(super) fn take_response(&mut self, now: Instant, flow: &Flow, mut response: Response) {
        // Section 8.1.3.3: more than one Via means it was not for us.
        if response.headers.items(HeaderName::Via).count() != 1 {
            return;
        }
        let (Ok(via), Ok(cseq)) = (response.via(), response.cseq()) else { return };
        let Some((id, nonce)) = via.branch().and_then(read_branch) else { return };
        let Some(client) = self.clients.get(id) else { return };
        if client.nonce != nonce {
            return self.take_former(id, nonce, response.status);
        }
        match &client.kind {
            // A CANCEL has the branch of its INVITE.
            Kind::Invite(invite) if cseq.method == "CANCEL" => {
                let cancel = invite.cancel;
                self.take_cancel_response(now, cancel, response.status);
            }
            Kind::Invite(_) | Kind::Other(_) if cseq.method == client.method.as_str() => {
                if matches!(response.status, 401 | 407) && self.answer_challenge(now, id, flow, &response) {
                    return;
                }
                if let Some(client) = self.clients.get(id) {
                    client.unshift(&mut response);
                }
                self.take_client_response(now, id, response);
            }
            Kind::Invite(_) | Kind::Other(_) | Kind::Cancel(_) => {}
        }
    }

    /// The refusal of a transaction that has gone again since, once more: its ACK was lost.
    fn take_former(&mut self, id: u64, nonce: u64, status: u16) {
        if let Some(Client { kind: Kind::Invite(invite), dest, .. }) = self.clients.get(id)
            && let Some(former) = invite.former.as_ref().filter(|former| former.nonce == nonce && status >= 300)
        {
            let (dest, ack) = (*dest, former.ack.clone());
            self.transmit(dest, ack);
        }
    }

    fn take_client_response(&mut self, now: Instant, id: u64, response: Response) {
        let timers = &self.config.timers;
        let Some(client) = self.clients.get_mut(id) else { return };
        client.heard();
        let event = Event::Response { id: ClientId(id), response };
        let Event::Response { response, .. } = &event else { return };
        match &mut client.kind {
            Kind::Other(machine) | Kind::Cancel(machine) => {
                if machine.handle_response(now, timers, response.status) == Answer::Deliver {
                    self.events.push_back(event);
                }
            }
            Kind::Invite(invite) => match invite.machine.handle_response(now, timers, response.status) {
                InviteAnswer::FirstProvisional => {
                    let wanted = invite.cancel_wanted.take();
                    self.events.push_back(event);
                    if let Some(extra) = wanted {
                        self.send_cancel(now, id, &extra);
                    }
                }
                InviteAnswer::Provisional => {
                    if response.status != 100 {
                        self.events.push_back(event);
                    }
                }
                InviteAnswer::Success => {
                    if let Some(request) = invite.request.take() {
                        invite.shown = auth::shown(&request);
                    }
                    let tag = response.to_tag().unwrap_or_default();
                    match invite.accepted.iter().find(|a| a.tag == tag) {
                        Some(seen) => {
                            if let Some((dest, bytes)) = seen.ack.clone() {
                                self.transmit(dest, bytes);
                            }
                        }
                        None => {
                            invite.accepted.push(Accepted { tag: tag.to_owned(), ack: None });
                            self.events.push_back(event);
                        }
                    }
                }
                InviteAnswer::Failure => {
                    let dest = client.dest;
                    if let Some(request) = invite.request.take() {
                        let ack = ack_for(&request, response).to_bytes();
                        invite.ack = Some(ack.clone());
                        self.transmit(dest, ack);
                    }
                    self.events.push_back(event);
                }
                InviteAnswer::Again => {
                    let dest = client.dest;
                    if let Some(ack) = invite.ack.clone() {
                        self.transmit(dest, ack);
                    }
                }
                InviteAnswer::Ignore => {}
            },
        }
        self.settle_client(id);
    }

    fn take_cancel_response(&mut self, now: Instant, cancel: Option<u64>, status: u16) {
        if let Some(id) = cancel
            && let Some(Client { kind: Kind::Cancel(machine), .. }) = self.clients.get_mut(id)
        {
            let _ = machine.handle_response(now, &self.config.timers, status);
            self.settle_client(id);
        }
    }

    pub(super) fn client_due(&mut self, now: Instant, id: u64) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let (resend, timed_out) = match &mut client.kind {
            Kind::Invite(invite) => {
                let due = invite.machine.handle_timeout(now);
                (due == InviteDue::Resend, due == InviteDue::TimedOut)
            }
            Kind::Other(machine) => {
                let due = machine.handle_timeout(now);
                (due == OtherDue::Resend, due == OtherDue::TimedOut)
            }
            Kind::Cancel(machine) => (machine.handle_timeout(now) == OtherDue::Resend, false),
        };
        if resend {
            let (dest, bytes) = (client.dest, client.bytes.clone());
            self.transmit(dest, bytes);
        }
        if timed_out {
            self.events.push_back(Event::ClientTimeout { id: ClientId(id) });
        }
        self.settle_client(id);
    }

    pub(super) fn fail_clients(&mut self, now: Instant, dest: &Dest) {
        let hit = |d: &Dest| {
            d.listener == dest.listener
                && d.transport == dest.transport
                && match (d.connection, dest.connection) {
                    (Some(used), Some(failed)) => used == failed,
                    (Some(_), None) | (None, _) => d.remote == dest.remote,
                }
        };
        let ids: Vec<u64> =
            self.clients.ids().filter(|id| self.clients.get(*id).is_some_and(|c| hit(&c.dest))).collect();
        for id in ids {
            if self.fall_back(now, id) {
                continue;
            }
            let Some(client) = self.clients.get_mut(id) else { continue };
            let tell = match &mut client.kind {
                Kind::Invite(invite) => invite.machine.handle_transport_error(),
                Kind::Other(machine) => machine.handle_transport_error(),
                Kind::Cancel(machine) => {
                    machine.handle_transport_error();
                    false
                }
            };
            if tell {
                self.events.push_back(Event::TransportFailed { id: ClientId(id) });
            }
            self.settle_client(id);
        }
    }

    pub(super) fn cancel_client(&mut self, now: Instant, id: ClientId, extra: &[(HeaderName, &str)]) {
        let Some(Client { kind: Kind::Invite(invite), .. }) = self.clients.get_mut(id.0) else { return };
        if invite.cancel.is_some() {
            return;
        }
        let extra: Vec<_> = extra.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        match invite.machine.cancel_when() {
            CancelWhen::Now => self.send_cancel(now, id.0, &extra),
            CancelWhen::Later => invite.cancel_wanted = Some(extra),
            CancelWhen::Never => {}
        }
    }

    fn send_cancel(&mut self, now: Instant, id: u64, extra: &[(HeaderName, String)]) {
        let next = self.clients.next_id();
        let timers = self.config.timers;
        let Some(client) = self.clients.get_mut(id) else { return };
        let Kind::Invite(invite) = &mut client.kind else { return };
        let Some(request) = &invite.request else { return };
        let mut cancel = sibling(request, Method::Cancel);
        cancel.headers.copy_from(&request.headers, HeaderName::To);
        for (name, value) in extra {
            cancel.headers.push(*name, value);
        }
        invite.cancel = Some(next);
        invite.machine.cancelled(now, &timers);
        let (dest, nonce, bytes) = (client.dest, client.nonce, cancel.to_bytes());
        let machine = ClientOther::start(now, &timers, Self::reliable(&dest));
        self.clients.schedule(id);
        let kind = Kind::Cancel(machine);
        let made = self.clients.insert(Client {
            kind,
            method: Method::Cancel,
            nonce,
            dest,
            bytes: bytes.clone(),
            fallback: None,
            request: None,
            tries: 0,
            shift: 0,
        });
        debug_assert_eq!(made, next);
        self.transmit(dest, bytes);
    }

    pub(super) fn send_ack_2xx(
        &mut self,
        _now: Instant,
        invite: ClientId,
        mut ack: Request,
        dest: Dest,
        advertise: SocketAddr,
    ) {
        // Section 13.2.2.4: the ACK is a transaction of its own; its branch names nothing here.
        let branch = format!("{MARK}ack{:016x}", self.random.random::<u64>());
        let shift = match self.clients.get(invite.0) {
            Some(client) => {
                // Section 13.2.2.4: it carries the credentials of its INVITE.
                for (name, value) in client.credentials() {
                    ack.headers.push(name, value);
                }
                client.shift
            }
            None => 0,
        };
        auth::add(&mut ack, shift);
        self.complete(&mut ack, &dest, advertise, &branch);
        let bytes = ack.to_bytes();
        if let Some(Client { kind: Kind::Invite(invite), .. }) = self.clients.get_mut(invite.0)
            && let Some(tag) = ack.to_tag()
            && let Some(accepted) = invite.accepted.iter_mut().find(|a| a.tag == tag)
        {
            accepted.ack = Some((dest, bytes.clone()));
        }
        self.transmit(dest, bytes);
    }

    /// Forgets a transaction that is over, else queues its timers and lets go of bytes that are no more needed.
    fn settle_client(&mut self, id: u64) {
        let Some(client) = self.clients.get_mut(id) else { return };
        if client.is_over() {
            if let Some(gone) = self.clients.remove(id)
                && let Kind::Invite(invite) = &gone.kind
                && let Some(cancel) = invite.cancel
            {
                self.clients.remove(cancel);
            }
            return;
        }
        if !client.is_waiting() {
            client.bytes = Bytes::new();
        }
        self.clients.schedule(id);
    }
}

/// A request that belongs to an INVITE's own transaction: same Request-URI, top Via, From, Call-ID, CSeq number and
/// Route (sections 9.1 and 17.1.1.3).
fn sibling(invite: &Request, method: Method) -> Request {
    let mut request = Request::new(method, &invite.raw_uri);
    request.headers.reserve(10, 512);
    if let Some(via) = invite.headers.get(HeaderName::Via) {
        request.headers.push(HeaderName::Via, via);
    }
    request.headers.push(HeaderName::MaxForwards, "70");
    for name in [HeaderName::Route, HeaderName::From, HeaderName::CallId] {
        request.headers.copy_from(&invite.headers, name);
    }
    let number = invite.cseq().map(|c| c.number).unwrap_or_default();
    request.headers.push(HeaderName::CSeq, format!("{number} {}", request.method));
    request
}

/// The ACK for a non-2xx final response (section 17.1.1.3).
pub(super) fn ack_for(invite: &Request, response: &Response) -> Request {
    let mut ack = sibling(invite, Method::Ack);
    ack.headers.copy_from(&response.headers, HeaderName::To);
    ack
}
