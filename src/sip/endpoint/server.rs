//! Requests of peers: server transactions, what is answered without one, and the ACKs and CANCELs that speak of them.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;
use rand::RngExt;

use super::slab::Timed;
use super::txn::{ServerDue, ServerInvite, ServerOther};
use super::{Dest, Endpoint, Event, Flow, ServerId};
use crate::config::Transport;
use crate::sip::msg::header::Via;
use crate::sip::msg::scan::List;
use crate::sip::msg::{HeaderName, Headers, Method, Request, Response, Uri};

/// A transaction of a peer's.
pub(super) struct Server {
    kind: Kind,
    /// Where responses go.
    back: Dest,
    /// The tag put into To where the user gave none.
    tag: String,
    /// The last response; before the first, for INVITE, the 100 that is sent when the user takes its time.
    last: Option<Bytes>,
    sent: bool,
    /// Its keys in the endpoint's map: branch, merged request, acknowledged dialog.
    keys: [Option<Box<[u8]>>; 3],
}

enum Kind {
    Invite(ServerInvite),
    Other(ServerOther),
}

impl Timed for Server {
    fn wake(&self) -> Option<Instant> {
        match &self.kind {
            Kind::Invite(machine) => machine.poll_timeout(),
            Kind::Other(machine) => machine.poll_timeout(),
        }
    }
}

impl Server {
    fn is_over(&self) -> bool {
        match &self.kind {
            Kind::Invite(machine) => machine.is_over(),
            Kind::Other(machine) => machine.is_over(),
        }
    }

    /// What to send again.
    fn repeat(&self) -> Option<Bytes> {
        self.last.clone().filter(|_| self.sent)
    }
}

/// The place of the acknowledged dialog among a server's keys.
const ACKNOWLEDGED: usize = 2;

impl Endpoint {
    pub(super) fn take_request(&mut self, now: Instant, flow: &Flow, mut request: Request) {
        let Ok(via) = request.via() else { return };
        let own = match request.method {
            Method::Ack => "INVITE",
            _ => request.method.as_str(),
        };
        let known = self.by_key.get(self.key.transaction(&request, &via, own)).copied();
        if request.method == Method::Ack {
            return self.take_ack(now, flow, known, request);
        }
        if let Some(id) = known {
            return self.take_again(id);
        }
        let cancelled = match request.method {
            Method::Cancel => self.by_key.get(self.key.transaction(&request, &via, "INVITE")).copied(),
            _ => None,
        };
        let back = self.way_back(flow, via.has_rport(), via.port);
        stamp(&mut request.headers, flow.remote);
        if request.method == Method::Cancel {
            return self.take_cancel(now, cancelled, back, request);
        }
        if let Some(response) = self.refusal(&request) {
            return self.send_response(back, response);
        }
        let merged: Option<Box<[u8]>> = self.key.merged(&request).map(Box::from);
        if merged.as_deref().is_some_and(|key| self.by_key.contains_key(key)) {
            return self.send_response(back, Response::for_request(&request, 482, ""));
        }
        // Section 8.2.2.3: extensions are inspected after loops.
        if let Some(response) = Response::bad_extension(&request, &self.config.supported) {
            return self.send_response(back, response);
        }
        let id = self.start_server(now, back, &request, merged);
        self.events.push_back(Event::Request { id, flow: *flow, request });
    }

    /// What the endpoint refuses by itself, without a transaction.
    fn refusal(&self, request: &Request) -> Option<Response> {
        if !request.method.is_known() {
            return Some(Response::for_request(request, 501, ""));
        }
        if matches!(request.uri(), Uri::Other { .. }) {
            return Some(Response::for_request(request, 416, ""));
        }
        let within_dialog = request.to_tag().is_some();
        if !within_dialog && request.max_forwards() == Some(0) && request.method != Method::Options {
            return Some(Response::for_request(request, 483, ""));
        }
        let spare = if within_dialog { self.config.max_transactions / 4 } else { 0 };
        if self.transactions() >= self.config.max_transactions + spare {
            let mut response = Response::for_request(request, 503, "");
            response.headers.push(HeaderName::RetryAfter, self.config.retry_after.to_string());
            return Some(response);
        }
        None
    }

    fn start_server(&mut self, now: Instant, back: Dest, request: &Request, merged: Option<Box<[u8]>>) -> ServerId {
        let timers = &self.config.timers;
        let reliable = Self::reliable(&back);
        let (kind, last) = if request.method == Method::Invite {
            let trying = Response::for_request(request, 100, "").to_bytes();
            (Kind::Invite(ServerInvite::start(now, timers, reliable)), Some(trying))
        } else {
            (Kind::Other(ServerOther::start(now, timers, reliable)), None)
        };
        let branch = match request.via() {
            Ok(via) => Some(Box::from(self.key.transaction(request, &via, request.method.as_str()))),
            Err(_) => None,
        };
        let tag = self.draw_tag();
        let keys = [branch, merged, None];
        let server = Server { kind, back, tag, last, sent: false, keys: keys.clone() };
        let id = self.servers.insert(server);
        for key in keys.into_iter().flatten() {
            self.by_key.insert(key, id);
        }
        ServerId(id)
    }

    fn draw_tag(&mut self) -> String {
        let mut tag = String::with_capacity(16);
        let _ = write!(tag, "{:016x}", self.random.random::<u64>());
        tag
    }

    fn take_again(&mut self, id: u64) {
        let Some(server) = self.servers.get(id) else { return };
        let again = match &server.kind {
            Kind::Invite(machine) => machine.handle_again(),
            Kind::Other(machine) => machine.handle_again(),
        };
        if again && let Some(bytes) = server.repeat() {
            let back = server.back;
            self.transmit(back, bytes);
        }
    }

    fn take_ack(&mut self, now: Instant, flow: &Flow, known: Option<u64>, request: Request) {
        if let Some(id) = known
            && let Some(Server { kind: Kind::Invite(machine), .. }) = self.servers.get_mut(id)
            && machine.handle_ack(now, &self.config.timers)
        {
            return self.settle_server(id);
        }
        let (Some(call_id), Some(local), Ok(cseq)) = (request.call_id(), request.to_tag(), request.cseq()) else {
            return;
        };
        let remote = request.from_tag().unwrap_or_default();
        let key = self.key.acknowledged(call_id, local, remote, cseq.number);
        let Some(id) = self.by_key.get(key).copied() else { return };
        if let Some(server) = self.servers.get_mut(id)
            && let Kind::Invite(machine) = &mut server.kind
            && machine.handle_ack_2xx()
        {
            // The 2xx is not sent again; its bytes can go.
            server.last = None;
            self.servers.schedule(id);
            self.events.push_back(Event::Ack { invite: ServerId(id), flow: *flow, request });
        }
    }

    fn take_cancel(&mut self, now: Instant, invite: Option<u64>, back: Dest, cancel: Request) {
        let Some((invite, target)) = invite.and_then(|id| Some((id, self.servers.get(id)?))) else {
            return self.send_response(back, Response::for_request(&cancel, 481, ""));
        };
        let pending = matches!(&target.kind, Kind::Invite(machine) if machine.is_proceeding());
        // Section 9.2: the To tag of both answers is the same.
        let tag = target.tag.clone();
        let id = self.start_server(now, back, &cancel, None);
        let mut response = Response::for_request(&cancel, 200, "");
        response.set_to_tag(&tag);
        self.answer(now, id, response);
        if pending {
            self.events.push_back(Event::Cancelled { invite: ServerId(invite), cancel });
        }
    }

    pub(super) fn answer(&mut self, now: Instant, id: ServerId, mut response: Response) -> bool {
        let Some(server) = self.servers.get_mut(id.0) else { return false };
        let timers = &self.config.timers;
        let send = match &mut server.kind {
            Kind::Invite(machine) => machine.handle_answer(now, timers, response.status),
            Kind::Other(machine) => machine.handle_answer(now, timers, response.status),
        };
        if !send {
            return false;
        }
        finish(&mut response, &server.tag, &self.config.user_agent);
        let bytes = response.to_bytes();
        server.last = Some(bytes.clone());
        server.sent = true;
        let back = server.back;
        if response.class() == 2
            && matches!(server.kind, Kind::Invite(_))
            && let (Some(call_id), Some(local), Ok(cseq)) = (response.call_id(), response.to_tag(), response.cseq())
        {
            let remote = response.from_tag().unwrap_or_default();
            let key: Box<[u8]> = self.key.acknowledged(call_id, local, remote, cseq.number).into();
            server.keys[ACKNOWLEDGED] = Some(key.clone());
            self.by_key.insert(key, id.0);
        }
        self.transmit(back, bytes);
        self.settle_server(id.0);
        true
    }

    pub(super) fn answer_and_forget(&mut self, id: ServerId, response: Response) -> bool {
        let Some(server) = self.servers.get(id.0) else { return false };
        let open = match &server.kind {
            Kind::Invite(machine) => machine.is_proceeding(),
            Kind::Other(machine) => machine.is_open(),
        };
        if open {
            let (back, tag) = (server.back, server.tag.clone());
            let mut response = response;
            finish(&mut response, &tag, &self.config.user_agent);
            self.transmit(back, response.to_bytes());
            self.forget_server(id.0);
        }
        open
    }

    pub(super) fn server_due(&mut self, now: Instant, id: u64) {
        let Some(server) = self.servers.get_mut(id) else { return };
        match &mut server.kind {
            Kind::Invite(machine) => match machine.handle_timeout(now) {
                ServerDue::Nothing | ServerDue::Over => {}
                due @ (ServerDue::SendTrying | ServerDue::Resend) => {
                    server.sent |= due == ServerDue::SendTrying;
                    if let Some(bytes) = server.repeat() {
                        let back = server.back;
                        self.transmit(back, bytes);
                    }
                }
                ServerDue::NoAck => self.events.push_back(Event::ServerTimeout { id: ServerId(id) }),
            },
            Kind::Other(machine) => machine.handle_timeout(now),
        }
        self.settle_server(id);
    }

    /// Forgets a transaction that is over, else queues its timers.
    fn settle_server(&mut self, id: u64) {
        match self.servers.get(id) {
            Some(server) if server.is_over() => self.forget_server(id),
            Some(_) => self.servers.schedule(id),
            None => {}
        }
    }

    fn forget_server(&mut self, id: u64) {
        if let Some(server) = self.servers.remove(id) {
            for key in server.keys.into_iter().flatten() {
                // A merged key may have passed to a later transaction.
                if self.by_key.get(&key) == Some(&id) {
                    self.by_key.remove(&key);
                }
            }
        }
    }

    /// Where responses go: always to the address the request came from (threats R17), never to what Via claims.
    fn way_back(&self, flow: &Flow, rport: bool, port: Option<u16>) -> Dest {
        let mut back = flow.back();
        if flow.transport == Transport::Udp && !rport && !self.config.symmetric_replies {
            back.remote.set_port(port.unwrap_or(5060));
        }
        back
    }

    /// Answers a malformed request of `length` bytes, unless the answer would amplify: nothing an unknown source sends
    /// may bring more than three times its size onto the address it claims (threats R27).
    pub(super) fn send_refusal(&mut self, flow: &Flow, mut response: Response, length: usize) {
        stamp(&mut response.headers, flow.remote);
        let tag = self.draw_tag();
        finish(&mut response, &tag, "");
        let back = match response.via() {
            Ok(via) => self.way_back(flow, via.has_rport(), via.port),
            Err(_) => flow.back(),
        };
        let bytes = response.to_bytes();
        if bytes.len() <= 3 * length {
            self.transmit(back, bytes);
        }
    }

    fn send_response(&mut self, back: Dest, mut response: Response) {
        let tag = self.draw_tag();
        finish(&mut response, &tag, &self.config.user_agent);
        self.transmit(back, response.to_bytes());
    }
}

/// Puts `received` and `rport` into the top Via, if that can be read.
fn stamp(headers: &mut Headers, source: SocketAddr) {
    let Some(line) = headers.get(HeaderName::Via) else { return };
    let Some(top) = List::new(line).next() else { return };
    let Ok(via) = Via::parse(top) else { return };
    let mut stamped = via.stamped(top, source);
    if stamped != top {
        // Further Vias of the same line stay behind the stamped one.
        stamped.extend_from_slice(line.get(top.len()..).unwrap_or_default());
        headers.replace_first(HeaderName::Via, stamped);
    }
}

/// What every response of ours has besides what its maker gave it.
fn finish(response: &mut Response, tag: &str, server: &str) {
    if response.status > 100 {
        response.set_to_tag(tag);
    }
    if !server.is_empty() && response.headers.get(HeaderName::Server).is_none() {
        response.headers.push(HeaderName::Server, server);
    }
}
