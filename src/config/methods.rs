//! The SIP extensions used with a trunk's peer.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Whether an extension is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Extension {
    /// Neither offered nor accepted: a request that requires it gets 420.
    Off,
    /// Offered, and used where the peer has it.
    Supported,
    /// Demanded: a peer that does not have it gets no call.
    Required,
}

/// What a REFER of a trunk's peer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Refer {
    /// Nothing: 403.
    Refuse,
    /// The transfer is carried out here, through our routes.
    Terminate,
    /// The other leg's peer is asked to carry it out.
    Pass,
}

/// How a trunk's peer is spoken to beyond RFC 3261.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Methods {
    /// Reliable provisional responses, 100rel and PRACK (RFC 3262).
    pub reliable: Extension,
    /// Session timers (RFC 4028). `Required` refreshes even with a peer that has none.
    pub session_timer: Extension,
    /// Session interval asked for.
    pub session_expires: Duration,
    /// Shortest session interval taken; never above `session_expires`.
    pub session_min: Duration,
    /// What a REFER does.
    pub refer: Refer,
    /// An INVITE or a REFER may name a dialog to be replaced (RFC 3891).
    pub replaces: bool,
}

impl Default for Methods {
    fn default() -> Self {
        Self {
            reliable: Extension::Supported,
            session_timer: Extension::Supported,
            session_expires: Duration::from_secs(1_800),
            session_min: Duration::from_secs(90),
            refer: Refer::Refuse,
            replaces: false,
        }
    }
}
