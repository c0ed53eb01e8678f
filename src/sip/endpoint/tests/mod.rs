//! The endpoint against hand-written messages and against itself.

mod auth;
mod clients;
mod pair;
mod servers;
mod size;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::SeedableRng;

use super::*;
use crate::config::{ListenerId, Transport};
use crate::sip::msg::Method;

/// An endpoint with its clock.
struct Bench {
    endpoint: Endpoint,
    now: Instant,
}

fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn peer() -> SocketAddr {
    addr("198.51.100.9:5070")
}

fn us() -> SocketAddr {
    addr("192.0.2.250:5060")
}

fn flow() -> Flow {
    flow_over(Transport::Udp)
}

fn flow_over(transport: Transport) -> Flow {
    let connection = (transport == Transport::Tcp).then_some(7);
    Flow { listener: ListenerId(0), transport, local: us(), remote: peer(), connection, trunk: None }
}

impl Bench {
    fn new() -> Self {
        Self::with(EndpointConfig::default())
    }

    #[allow(clippy::disallowed_methods)]
    fn with(config: EndpointConfig) -> Self {
        Self { endpoint: Endpoint::new(config, Random::seed_from_u64(1)), now: Instant::now() }
    }

    fn take(&mut self, message: &str) {
        self.take_from(&flow(), message);
    }

    fn take_from(&mut self, flow: &Flow, message: &str) {
        self.endpoint.handle_datagram(self.now, flow, message.as_bytes());
    }

    /// Lets time pass, firing every timer when it is due.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.endpoint.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.endpoint.handle_timeout(self.now);
        }
        self.now = end;
    }

    /// The messages sent since last asked.
    fn sent(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.endpoint.poll_transmit())
            .map(|t| String::from_utf8(t.bytes.to_vec()).expect("text"))
            .collect()
    }

    /// The start lines sent since last asked.
    fn sent_lines(&mut self) -> Vec<String> {
        self.sent().iter().map(|m| m.lines().next().unwrap_or_default().to_owned()).collect()
    }

    fn event(&mut self) -> Event {
        self.endpoint.poll_event().expect("an event")
    }

    fn no_event(&mut self) {
        if let Some(event) = self.endpoint.poll_event() {
            panic!("{event:?}");
        }
    }

    fn request_event(&mut self) -> (ServerId, Request) {
        match self.event() {
            Event::Request { id, request, .. } => (id, request),
            other => panic!("{other:?}"),
        }
    }

    fn response_event(&mut self) -> (ClientId, Response) {
        match self.event() {
            Event::Response { id, response } => (id, response),
            other => panic!("{other:?}"),
        }
    }
}

/// A request as the peer would write it.
fn request(method: &str, branch: &str, to_tag: Option<&str>) -> String {
    let to_tag = to_tag.map(|t| format!(";tag={t}")).unwrap_or_default();
    format!(
        "{method} sip:bob@192.0.2.250 SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.9:5070;branch={branch};rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:alice@example.com>;tag=a1\r\nTo: <sip:bob@example.com>{to_tag}\r\n\
         Call-ID: c1@example.com\r\nCSeq: 7 {method}\r\nContact: <sip:alice@198.51.100.9:5070>\r\n\
         Content-Length: 0\r\n\r\n"
    )
}

/// A response to what we sent, with a tag and a Contact.
fn response(sent: &str, status: u16, to_tag: &str) -> String {
    let request = match msg::parse_datagram(sent.as_bytes()) {
        Ok(Message::Request(request)) => request,
        other => panic!("{other:?}"),
    };
    let mut response = Response::for_request(&request, status, "");
    if status > 100 {
        response.set_to_tag(to_tag);
    }
    response.headers.push(HeaderName::Contact, "<sip:bob@198.51.100.9:5070>");
    String::from_utf8(response.to_bytes().to_vec()).expect("text")
}

/// A request of ours to send.
fn ours(method: Method) -> Request {
    let cseq = format!("1 {method}");
    let mut request = Request::new(method, "sip:bob@198.51.100.9:5070");
    request.headers.push(HeaderName::From, "<sip:tonewall@192.0.2.250>;tag=local");
    request.headers.push(HeaderName::To, "<sip:bob@example.com>");
    request.headers.push(HeaderName::CallId, "ours@192.0.2.250");
    request.headers.push(HeaderName::CSeq, cseq);
    request.headers.push(HeaderName::Contact, "<sip:192.0.2.250>");
    request
}

fn dest() -> Dest {
    flow().back()
}
