//! The SIP endpoint: many peers, many transactions, one state machine without sockets or clock. Datagrams, requests and
//! answers of our user and the time go in; messages to send and events come out. It answers by itself what needs no
//! user: malformed messages (400, 505), unknown methods (501), unknown URI schemes (416), required extensions it does not
//! have (420), merged requests (482), CANCEL (200, 481), Max-Forwards
//! used up (483), overload (503), repeated requests (the last response again). It knows no policy: which peer may send
//! what is decided before and after it.
//!
//! Drain rule: after each `handle_*` or order, take `poll_transmit` and `poll_event` until both give `None`, then arm
//! `poll_timeout`.
//!
//! Repeats: the endpoint repeats a 2xx to an INVITE until its ACK ([`Event::Ack`]) or 64×T1 ([`Event::ServerTimeout`]);
//! and it answers repeated 2xx of the peer with the ACK given by [`Endpoint::ack_2xx`].

mod auth;
mod client;
mod keys;
mod server;
mod size;
mod slab;
mod types;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::base::Random;
use crate::base::time::soonest;
use crate::config::ListenerId;

use super::msg::{self, FrameError, HeaderName, Message, ParseError, Request, Response};
use super::txn;
use client::Client;
use keys::KeyBuffer;
use server::Server;
use slab::Slab;

pub use super::txn::Timers;
pub use auth::Login;
pub use types::{ClientId, Dest, EndpointConfig, Event, Flow, ServerId, Transmit};

/// SIP transactions with many peers.
pub struct Endpoint {
    config: EndpointConfig,
    random: Random,
    clients: Slab<Client>,
    servers: Slab<Server>,
    /// Server transactions by branch (section 17.2.3), merged-request key and acknowledged dialog.
    by_key: HashMap<Box<[u8]>, u64>,
    key: KeyBuffer,
    /// Peers that took no TCP, and until when that is remembered.
    no_tcp: HashMap<(ListenerId, SocketAddr), Instant>,
    /// Requests that went again with credentials, by Call-ID.
    shifts: auth::Shifts,
    transmits: VecDeque<Transmit>,
    events: VecDeque<Event>,
}

impl Endpoint {
    /// An endpoint without transactions. `random` makes branches and tags.
    pub fn new(mut config: EndpointConfig, random: Random) -> Self {
        // A retransmission interval of nothing would never come to an end.
        config.timers.t1 = config.timers.t1.max(Duration::from_millis(1));
        config.timers.t2 = config.timers.t2.max(config.timers.t1);
        Self {
            config,
            random,
            clients: Slab::new(),
            servers: Slab::new(),
            by_key: HashMap::new(),
            key: KeyBuffer::default(),
            no_tcp: HashMap::new(),
            shifts: auth::Shifts::default(),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Takes a datagram, or one frame of a stream.
    pub fn handle_datagram(&mut self, now: Instant, flow: &Flow, datagram: &[u8]) {
        self.handle_message(now, flow, Bytes::copy_from_slice(datagram));
    }

    /// [`Endpoint::handle_datagram`] without copying the bytes.
    pub fn handle_message(&mut self, now: Instant, flow: &Flow, message: Bytes) {
        // Keep-alives: empty lines, and the zero bytes some peers send.
        if message.iter().all(|b| matches!(b, b'\r' | b'\n' | 0)) {
            return;
        }
        let length = message.len();
        match msg::parse_bytes(message) {
            Ok(Message::Request(request)) => self.take_request(now, flow, request),
            Ok(Message::Response(response)) => self.take_response(now, flow, response),
            Err(error) => self.refuse(flow, error, length),
        }
    }

    /// Takes a stream's framing error: answers 513 or 400 if the head allows it. The stream is to be closed.
    pub fn handle_frame_error(&mut self, flow: &Flow, error: FrameError) {
        let (head, status, reason) = match error {
            FrameError::TooLong { head } => (head, 513, "Message Too Large"),
            FrameError::BadLength { head, reason } => (head, 400, reason),
        };
        let length = head.len();
        self.refuse(flow, msg::refuse_head(head, status, reason), length);
    }

    /// Answers a malformed message of `length` bytes if it can be answered.
    fn refuse(&mut self, flow: &Flow, mut error: ParseError, length: usize) {
        if let Some(reply) = error.reply.take() {
            self.send_refusal(flow, *reply, length);
        }
        self.events.push_back(Event::Malformed { flow: *flow, error });
    }

    /// Sending to `dest` failed, or its connection closed: requests to it that no one has answered yet fail.
    pub fn handle_flow_failed(&mut self, now: Instant, dest: &Dest) {
        self.fail_clients(now, dest);
    }

    /// Fires due timers.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(id) = self.servers.take_due(now) {
            self.server_due(now, id);
        }
        while let Some(id) = self.clients.take_due(now) {
            self.client_due(now, id);
        }
    }

    /// Sends a request of ours (not ACK, not CANCEL) without Via: the endpoint adds Via with `advertise` as sent-by,
    /// Max-Forwards and User-Agent where they are missing, and a true Content-Length.
    pub fn request(&mut self, now: Instant, request: Request, dest: Dest, advertise: SocketAddr) -> ClientId {
        self.start_client(now, request, dest, advertise)
    }

    /// Answers a request. A To tag is added where it is missing. `false`: the transaction is over or has its final
    /// answer.
    pub fn respond(&mut self, now: Instant, id: ServerId, response: Response) -> bool {
        self.answer(now, id, response)
    }

    /// Answers a request finally and forgets it at once, without repeating: for refusals that a repeated request would
    /// get again (threats R27). `false`: the transaction is over or has its final answer.
    pub fn reject(&mut self, _now: Instant, id: ServerId, response: Response) -> bool {
        self.answer_and_forget(id, response)
    }

    /// Cancels an INVITE of ours: CANCEL goes out now or with the first provisional response (RFC 3261 section 9.1),
    /// with `extra` headers (Reason). The INVITE's own final answer, or a timeout, still comes as an event; a 2xx may
    /// come too and is then to be acknowledged and ended with BYE.
    pub fn cancel(&mut self, now: Instant, id: ClientId, extra: &[(HeaderName, &str)]) {
        self.cancel_client(now, id, extra);
    }

    /// Sends the ACK for a 2xx to `invite` ([`super::Dialog::ack`]). The endpoint keeps it and answers repeats of that
    /// 2xx with it, so that the user sees each 2xx once.
    pub fn ack_2xx(&mut self, now: Instant, invite: ClientId, ack: Request, dest: Dest, advertise: SocketAddr) {
        self.send_ack_2xx(now, invite, ack, dest, advertise);
    }

    /// Whether a request of ours still waits to be fetched by [`Endpoint::poll_transmit`].
    pub fn is_unsent(&self, id: ClientId) -> bool {
        self.unsent(id).is_some()
    }

    /// Takes back a request of ours that is unsent: its transaction is forgotten, no event of it will come.
    pub fn withdraw(&mut self, id: ClientId) {
        if let Some(at) = self.unsent(id) {
            self.transmits.remove(at);
            self.clients.remove(id.0);
        }
    }

    fn unsent(&self, id: ClientId) -> Option<usize> {
        let bytes = &self.clients.get(id.0)?.bytes;
        self.transmits.iter().position(|t| !bytes.is_empty() && t.bytes.as_ptr() == bytes.as_ptr())
    }

    /// The next message to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Endpoint::handle_timeout`] is wanted next.
    pub fn poll_timeout(&mut self) -> Option<Instant> {
        soonest(self.servers.soonest(), self.clients.soonest())
    }

    /// Whether a request of ours still waits for its final answer.
    pub fn is_waiting(&self) -> bool {
        self.clients.ids().any(|id| self.clients.get(id).is_some_and(client::Client::is_waiting))
    }

    /// Transactions held now, both ways.
    pub fn transactions(&self) -> usize {
        self.clients.len() + self.servers.len()
    }

    fn transmit(&mut self, flow: Dest, bytes: Bytes) {
        self.transmits.push_back(Transmit { flow, bytes });
    }

    fn reliable(dest: &Dest) -> bool {
        dest.transport != crate::config::Transport::Udp
    }
}
