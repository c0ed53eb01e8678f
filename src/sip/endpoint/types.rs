//! What goes into and comes out of an [`super::Endpoint`].

use std::collections::HashMap;
use std::net::SocketAddr;

use bytes::Bytes;

use super::auth::Login;
use crate::config::{ListenerId, Transport, TrunkId};
use crate::sip::msg::{ParseError, Request, Response};
use crate::sip::txn::Timers;

/// Where a message came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flow {
    /// The listener it came in on.
    pub listener: ListenerId,
    /// Transport.
    pub transport: Transport,
    /// Our address.
    pub local: SocketAddr,
    /// The peer's address, from the packet or the connection.
    pub remote: SocketAddr,
    /// The connection, named by `rt`.
    pub connection: Option<u64>,
    /// The trunk whose peer this is, where the connection proves it (TLS); `None`: its address tells.
    pub trunk: Option<TrunkId>,
}

impl Flow {
    /// The way back to the source.
    pub fn back(&self) -> Dest {
        Dest {
            listener: self.listener,
            transport: self.transport,
            remote: self.remote,
            connection: self.connection,
            trunk: self.trunk,
        }
    }
}

/// Where a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Dest {
    /// The listener it leaves from.
    pub listener: ListenerId,
    /// Transport.
    pub transport: Transport,
    /// The peer's address.
    pub remote: SocketAddr,
    /// The connection to use; `None`: any to `remote`, opened if there is none.
    pub connection: Option<u64>,
    /// The trunk whose peer this is: a TLS connection is made with its certificate and to its names.
    pub trunk: Option<TrunkId>,
}

impl Dest {
    /// A peer of `trunk`, over any connection or a new one.
    pub fn fresh(listener: ListenerId, transport: Transport, remote: SocketAddr, trunk: TrunkId) -> Dest {
        Dest { listener, transport, remote, connection: None, trunk: Some(trunk) }
    }
}

/// Bytes to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// Where to.
    pub flow: Dest,
    /// One whole message.
    pub bytes: Bytes,
}

/// A transaction of ours: we sent the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(pub(in crate::sip) u64);

/// A transaction of the peer's: it sent the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerId(pub(in crate::sip) u64);

/// How an endpoint behaves.
#[derive(Debug, Clone)]
pub struct EndpointConfig {
    /// Timer values.
    pub timers: Timers,
    /// Text of User-Agent and Server; empty: neither is sent.
    pub user_agent: String,
    /// Most transactions at once, both ways. Past it new requests from peers get 503 with Retry-After, without state;
    /// requests within a dialog may use a further quarter, so that calls can end.
    pub max_transactions: usize,
    /// Seconds in the Retry-After of those 503s.
    pub retry_after: u32,
    /// Extensions a request may Require; others get 420 (RFC 3261 section 8.2.2.3).
    pub supported: Vec<String>,
    /// What requests to a trunk's peer are authenticated with when it asks.
    pub logins: HashMap<TrunkId, Login>,
    /// Listeners over UDP that reach their peers by TCP too: requests above 1300 bytes go that way (RFC 3261 section
    /// 18.1.1), and by UDP after all where TCP fails.
    pub large_by_tcp: Vec<ListenerId>,
    /// Send UDP responses to the packet's source port even when the request has no `rport`. `false`: to the port of
    /// its Via, at the packet's source address, as RFC 3261 section 18.2.2 has it. Never to another address.
    pub symmetric_replies: bool,
}

impl Default for EndpointConfig {
    fn default() -> Self {
        Self {
            timers: Timers::default(),
            user_agent: String::new(),
            max_transactions: 100_000,
            retry_after: 5,
            supported: Vec::new(),
            logins: HashMap::new(),
            large_by_tcp: Vec::new(),
            symmetric_replies: true,
        }
    }
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// A new request, not ACK, not CANCEL. Answer with `respond` or `reject`.
    Request {
        /// Its transaction.
        id: ServerId,
        /// Where it came from.
        flow: Flow,
        /// The request; its top Via carries `received` and `rport`.
        request: Request,
    },
    /// The ACK for a 2xx of ours; once per INVITE.
    Ack {
        /// The INVITE's transaction.
        invite: ServerId,
        /// Where it came from.
        flow: Flow,
        /// The ACK; it may carry an SDP answer.
        request: Request,
    },
    /// The peer cancelled an INVITE not yet answered. The CANCEL has been answered 200; answer the INVITE 487.
    Cancelled {
        /// The INVITE's transaction.
        invite: ServerId,
        /// The CANCEL; it may carry Reason.
        cancel: Request,
    },
    /// A response to a request of ours: each provisional (not 100s that repeat), one final; for INVITE one 2xx per To
    /// tag, to be acknowledged with `ack_2xx`.
    Response {
        /// The request's transaction.
        id: ClientId,
        /// The response.
        response: Response,
    },
    /// No final answer in time: timer B, F, or 64×T1 after CANCEL. Counts as 408.
    ClientTimeout {
        /// The request's transaction, ended.
        id: ClientId,
    },
    /// The request could not be sent. Counts as 503.
    TransportFailed {
        /// The request's transaction, ended.
        id: ClientId,
    },
    /// Our final answer to an INVITE was not acknowledged: timer H, or 64×T1 after a 2xx (then end the dialog with
    /// BYE, RFC 3261 section 13.3.1.4).
    ServerTimeout {
        /// The INVITE's transaction, ended.
        id: ServerId,
    },
    /// A malformed message; it has been answered if it could be.
    Malformed {
        /// Where it came from.
        flow: Flow,
        /// What was wrong.
        error: ParseError,
    },
}
