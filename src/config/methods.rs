//! The SIP extensions used with a trunk's peer.

use std::time::Duration;

use super::HeaderRule;
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

/// What becomes of a 3xx of a trunk's peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Redirect {
    /// The caller gets 480.
    Refuse,
    /// The number it names is called, through our routes.
    Follow,
    /// The caller is told the number, at our address.
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
    /// What becomes of a 3xx.
    pub redirect: Redirect,
    /// Numbers go out as `tel:` URIs.
    pub tel_uris: bool,
    /// Content types of INFO within a call that are passed on.
    pub pass_info: Vec<String>,
    /// Content types of MESSAGE within a call that are passed on.
    pub pass_message: Vec<String>,
    /// What is done to headers of INVITEs that go out.
    pub headers: Vec<HeaderRule>,
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
            redirect: Redirect::Refuse,
            tel_uris: false,
            pass_info: Vec::new(),
            pass_message: Vec::new(),
            headers: Vec::new(),
        }
    }
}
