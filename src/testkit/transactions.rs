//! The little of RFC 3261 section 17 a telephone needs over UDP: requests are sent again until answered, repeated
//! requests get the same answer again, a 2xx to INVITE is sent again until ACK, a reliable 18x until PRACK. Messages and the time go in; datagrams
//! and timeouts come out.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::simple_sip::Message;

const T1: Duration = Duration::from_millis(500);
const T2: Duration = Duration::from_secs(4);
const GIVE_UP: Duration = Duration::from_secs(32);

struct Pending {
    branch: String,
    method: String,
    bytes: Vec<u8>,
    to: SocketAddr,
    again: Option<Instant>,
    interval: Duration,
    until: Instant,
}

struct Answered {
    branch: String,
    method: String,
    bytes: Vec<u8>,
    to: SocketAddr,
}

struct Unacknowledged {
    cseq: u32,
    bytes: Vec<u8>,
    to: SocketAddr,
    again: Instant,
    interval: Duration,
    until: Instant,
}

/// A reliable provisional response (RFC 3262) without its PRACK.
struct Provisional {
    rack: String,
    bytes: Vec<u8>,
    to: SocketAddr,
    again: Instant,
    interval: Duration,
    until: Instant,
}

/// Transactions of one user agent.
#[derive(Default)]
pub struct Transactions {
    pending: Vec<Pending>,
    answered: Vec<Answered>,
    unacknowledged: Vec<Unacknowledged>,
    provisional: Option<Provisional>,
    acks: Vec<(u32, SocketAddr, Vec<u8>)>,
    out: VecDeque<(SocketAddr, Vec<u8>)>,
}

impl Transactions {
    /// Sends a request and keeps sending it until it is answered or 32 s are over.
    pub fn request(&mut self, now: Instant, to: SocketAddr, message: &Message) {
        let bytes = message.print();
        self.pending.push(Pending {
            branch: message.branch().unwrap_or_default().to_owned(),
            method: message.method().unwrap_or_default().to_owned(),
            bytes: bytes.clone(),
            to,
            again: Some(now + T1),
            interval: T1,
            until: now + GIVE_UP,
        });
        self.out.push_back((to, bytes));
    }

    /// Sends an ACK to a final answer and keeps it, in case that answer comes again.
    pub fn acknowledge(&mut self, to: SocketAddr, message: &Message) {
        let bytes = message.print();
        let cseq = message.cseq().map_or(0, |(n, _)| n);
        self.out.push_back((to, bytes.clone()));
        self.acks.push((cseq, to, bytes));
    }

    /// Answers a request. A 2xx to INVITE is repeated until [`Transactions::acknowledged`].
    pub fn respond(&mut self, now: Instant, to: SocketAddr, request: &Message, response: &Message) {
        let bytes = response.print();
        let (branch, method) = (request.branch().unwrap_or_default(), request.method().unwrap_or_default());
        self.answered.retain(|a| !(a.branch == branch && a.method == method));
        self.answered.push(Answered { branch: branch.to_owned(), method: method.to_owned(), bytes: bytes.clone(), to });
        if method == "INVITE" && response.status().is_some_and(|s| s >= 200) {
            self.provisional = None;
            let cseq = request.cseq().map_or(0, |(n, _)| n);
            let (again, until) = (now + T1, now + GIVE_UP);
            self.unacknowledged.push(Unacknowledged { cseq, bytes: bytes.clone(), to, again, interval: T1, until });
        }
        self.out.push_back((to, bytes));
    }

    /// Answers an INVITE provisionally and reliably: `response` is repeated until [`Transactions::pracked`].
    pub fn respond_reliably(&mut self, now: Instant, to: SocketAddr, request: &Message, response: &Message) {
        self.respond(now, to, request, response);
        let rseq = response.get("rseq").unwrap_or_default();
        let rack = format!("{rseq} {}", request.get("cseq").unwrap_or_default());
        let (bytes, again, until) = (response.print(), now + T1, now + GIVE_UP);
        self.provisional = Some(Provisional { rack, bytes, to, again, interval: T1, until });
    }

    /// Takes note of a PRACK; `false` when it acknowledges nothing.
    pub fn pracked(&mut self, prack: &Message) -> bool {
        let rack = prack.get("rack").unwrap_or_default();
        self.provisional.take_if(|waiting| waiting.rack == rack).is_some()
    }

    /// Whether a reliable response still waits for its PRACK.
    pub fn awaits_prack(&self) -> bool {
        self.provisional.is_some()
    }

    /// Takes note of an ACK; `false` when it acknowledges nothing new.
    pub fn acknowledged(&mut self, ack: &Message) -> bool {
        let cseq = ack.cseq().map_or(0, |(n, _)| n);
        let before = self.unacknowledged.len();
        self.unacknowledged.retain(|u| u.cseq != cseq);
        self.unacknowledged.len() != before
    }

    /// Whether a request is a repetition; if so its answer is on its way again.
    pub fn repeated(&mut self, request: &Message) -> bool {
        let (branch, method) = (request.branch().unwrap_or_default(), request.method().unwrap_or_default());
        let known = self.answered.iter().find(|a| a.branch == branch && a.method == method);
        if let Some(known) = known {
            self.out.push_back((known.to, known.bytes.clone()));
        }
        known.is_some()
    }

    /// Takes a response; tells whether it is the answer to something still open. A repeated final answer to INVITE is
    /// acknowledged again.
    pub fn handle_response(&mut self, response: &Message) -> bool {
        let Some((cseq, method)) = response.cseq() else { return false };
        let branch = response.branch().unwrap_or_default();
        let Some(at) = self.pending.iter().position(|p| p.branch == branch && p.method == method) else {
            if method == "INVITE"
                && let Some((_, to, bytes)) = self.acks.iter().find(|(n, ..)| *n == cseq)
            {
                self.out.push_back((*to, bytes.clone()));
            }
            return false;
        };
        match response.status() {
            Some(status) if status < 200 => {
                if method == "INVITE" {
                    self.pending[at].again = None;
                    self.pending[at].until += GIVE_UP;
                } else {
                    self.pending[at].interval = T2;
                }
            }
            _ => {
                self.pending.remove(at);
            }
        }
        true
    }

    /// When [`Transactions::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let pending = self.pending.iter().map(|p| p.again.map_or(p.until, |a| a.min(p.until)));
        let provisional = self.provisional.iter().map(|p| p.again.min(p.until));
        pending.chain(self.unacknowledged.iter().map(|u| u.again.min(u.until))).chain(provisional).min()
    }

    /// Repeats what is due; gives the methods of requests that nobody answered.
    pub fn handle_timeout(&mut self, now: Instant) -> Vec<String> {
        let mut given_up = Vec::new();
        self.pending.retain(|p| {
            if p.until <= now {
                given_up.push(p.method.clone());
            }
            p.until > now
        });
        for p in &mut self.pending {
            if p.again.is_some_and(|at| at <= now) {
                p.interval = if p.method == "INVITE" { p.interval * 2 } else { (p.interval * 2).min(T2) };
                p.again = Some(now + p.interval);
                self.out.push_back((p.to, p.bytes.clone()));
            }
        }
        self.unacknowledged.retain(|u| u.until > now);
        for u in &mut self.unacknowledged {
            if u.again <= now {
                u.interval = (u.interval * 2).min(T2);
                u.again = now + u.interval;
                self.out.push_back((u.to, u.bytes.clone()));
            }
        }
        self.provisional.take_if(|p| p.until <= now);
        if let Some(p) = self.provisional.as_mut().filter(|p| p.again <= now) {
            p.interval *= 2;
            p.again = now + p.interval;
            self.out.push_back((p.to, p.bytes.clone()));
        }
        given_up
    }

    /// The next datagram to send from the SIP port.
    pub fn poll_transmit(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        self.out.pop_front()
    }
}
