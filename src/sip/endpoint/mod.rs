//! The SIP endpoint: many peers, many transactions, one state machine without sockets or clock.

mod types;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use crate::base::Random;

use super::msg::{self, HeaderName, Message, Method, Request, Response};

pub use types::{ClientId, Dest, EndpointConfig, Event, Flow, ServerId, Timers, Transmit};

/// SIP transactions with many peers.
pub struct Endpoint {
    transmits: VecDeque<Transmit>,
    events: VecDeque<Event>,
    next: u64,
}

impl Endpoint {
    /// An endpoint without transactions. `random` makes branches and tags.
    pub fn new(_config: EndpointConfig, _random: Random) -> Self {
        Self { transmits: VecDeque::new(), events: VecDeque::new(), next: 0 }
    }

    /// Takes a datagram, or one frame of a stream.
    pub fn handle_datagram(&mut self, _now: Instant, flow: &Flow, datagram: &[u8]) {
        match msg::parse_datagram(datagram) {
            Ok(Message::Request(request)) if request.method != Method::Ack => {
                self.next += 1;
                self.events.push_back(Event::Request { id: ServerId(self.next), flow: *flow, request });
            }
            Ok(_) => {}
            Err(error) => self.events.push_back(Event::Malformed { flow: *flow, error }),
        }
    }

    /// Sending to `dest` failed, or its connection closed: ends what waits for it.
    pub fn handle_flow_failed(&mut self, _now: Instant, _dest: &Dest) {}

    /// Fires due timers.
    pub fn handle_timeout(&mut self, _now: Instant) {}

    /// Sends a request of ours (not ACK, not CANCEL) without Via: the endpoint adds Via with `advertise`,
    /// Max-Forwards, User-Agent and Content-Length where they are missing.
    pub fn request(&mut self, _now: Instant, request: Request, dest: Dest, _advertise: SocketAddr) -> ClientId {
        self.next += 1;
        self.transmits.push_back(Transmit { flow: dest, bytes: request.to_bytes() });
        ClientId(self.next)
    }

    /// Answers a request. A To tag is added where it is missing. `false`: the transaction is over or already answered.
    pub fn respond(&mut self, _now: Instant, _id: ServerId, _response: Response) -> bool {
        false
    }

    /// Answers a request finally and forgets it at once, without retransmission: for refusals that a repeated request
    /// would get again (threats R27). `false`: the transaction is over or already answered.
    pub fn reject(&mut self, _now: Instant, _id: ServerId, _response: Response) -> bool {
        false
    }

    /// Cancels an INVITE of ours: CANCEL goes out now or with the first provisional response (RFC 3261 section 9.1),
    /// with `extra` headers (Reason). The INVITE's own final answer still comes as an event.
    pub fn cancel(&mut self, _now: Instant, _id: ClientId, _extra: &[(HeaderName, &str)]) {}

    /// Sends the ACK for a 2xx ([`super::Dialog::ack`]). The endpoint keeps it and answers retransmissions of that 2xx
    /// with it, so that the user sees each 2xx once.
    pub fn ack_2xx(&mut self, _now: Instant, _invite: ClientId, ack: Request, dest: Dest, _advertise: SocketAddr) {
        self.transmits.push_back(Transmit { flow: dest, bytes: ack.to_bytes() });
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
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// Transactions held now, both ways.
    pub fn transactions(&self) -> usize {
        0
    }
}
