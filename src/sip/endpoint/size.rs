//! The size rule of RFC 3261 section 18.1.1: a request too large for one UDP packet goes by TCP, and by UDP after all
//! when no TCP connection comes up. The transaction stays the same, so a peer that got it twice sees one request.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::client::{Client, Kind};
use super::txn::{CancelWhen, ClientInvite, ClientOther};
use super::{Dest, Endpoint};
use crate::config::Transport;
use crate::sip::msg::header::Via;
use crate::sip::msg::{HeaderName, Request};

/// Above this many bytes a request goes by TCP.
const LARGE: usize = 1300;
/// How long a peer that took no TCP is not asked again.
const REMEMBERED: Duration = Duration::from_secs(600);
/// Peers remembered; more, and the memory starts anew.
const MOST: usize = 4096;

/// The UDP form of a request that went by TCP.
pub(super) struct Fallback {
    dest: Dest,
    via: String,
    bytes: Bytes,
}

impl Endpoint {
    /// Turns a large UDP request into a TCP one. `bytes` is its UDP form.
    pub(super) fn by_size(
        &mut self,
        now: Instant,
        (request, dest): (&mut Request, &mut Dest),
        (advertise, branch): (std::net::SocketAddr, &str),
        bytes: Bytes,
    ) -> (Bytes, Option<Box<Fallback>>) {
        let large = bytes.len() > LARGE && dest.transport == Transport::Udp;
        if !large || !self.config.large_by_tcp.contains(&dest.listener) {
            return (bytes, None);
        }
        if self.no_tcp.get(&(dest.listener, dest.remote)).is_some_and(|until| now < *until) {
            return (bytes, None);
        }
        let via = Via::print(Transport::Udp, advertise, branch);
        let fallback = Fallback { dest: *dest, via, bytes };
        dest.transport = Transport::Tcp;
        request.headers.replace_first(HeaderName::Via, Via::print(Transport::Tcp, advertise, branch).into_bytes());
        (request.to_bytes(), Some(Box::new(fallback)))
    }

    /// Sends a request by UDP whose TCP connection failed before anything was heard. `false`: it cannot be helped.
    pub(super) fn fall_back(&mut self, now: Instant, id: u64) -> bool {
        let Some(client) = self.clients.get_mut(id) else { return false };
        let Some(fallback) = client.fallback.take() else { return false };
        let timers = &self.config.timers;
        match &mut client.kind {
            Kind::Invite(invite) if invite.machine.cancel_when() == CancelWhen::Later => {
                invite.machine = ClientInvite::start(now, timers, false);
                if let Some(request) = &mut invite.request {
                    request.headers.replace_first(HeaderName::Via, fallback.via.into_bytes());
                }
            }
            Kind::Other(machine) if machine.is_waiting() => *machine = ClientOther::start(now, timers, false),
            Kind::Invite(_) | Kind::Other(_) | Kind::Cancel(_) => return false,
        }
        let Fallback { dest, bytes, .. } = *fallback;
        client.dest = dest;
        client.bytes = bytes.clone();
        self.transmit(dest, bytes);
        self.clients.schedule(id);
        self.remember_no_tcp(now, &dest);
        true
    }

    fn remember_no_tcp(&mut self, now: Instant, dest: &Dest) {
        if self.no_tcp.len() >= MOST {
            self.no_tcp.retain(|_, until| now < *until);
            if self.no_tcp.len() >= MOST {
                self.no_tcp.clear();
            }
        }
        self.no_tcp.insert((dest.listener, dest.remote), now + REMEMBERED);
    }
}

impl Client {
    /// Something was heard of it: it stays on its transport.
    pub(super) fn heard(&mut self) {
        self.fallback = None;
    }
}
