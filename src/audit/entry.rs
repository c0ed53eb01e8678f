//! One record of the log before it has a number: who, from where, what, to what end, with what result.

use std::net::IpAddr;

use serde::{Serialize, Serializer};

use super::{Action, Text};
use crate::base::time::WallMs;
use crate::config::Role;

/// Who did it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Who {
    /// The holder of an API key.
    Key {
        /// Name of the key in the configuration.
        name: Text,
        /// Its role, where it is known.
        #[serde(skip_serializing_if = "Option::is_none")]
        role: Option<Role>,
    },
    /// A payment panel in an agent's browser.
    Panel {
        /// Name of the key that opened the panel.
        name: Text,
        /// First bytes of the SHA-256 of its token, in hexadecimal: tells panels apart and opens nothing.
        token: Text,
    },
    /// Somebody at the command line of the node's machine.
    User {
        /// Name of the user account.
        name: Text,
        /// Number of the user account.
        uid: u32,
    },
    /// Somebody by telephone or SIP: an agent's star code, a PBX's signal.
    Signal {
        /// What it came by (`agent`, `pbx`, …).
        name: Text,
    },
    /// The node itself: its timers, policies and plans.
    Node,
    /// Somebody who could not say who they are.
    Nobody,
}

impl Who {
    /// From the owner of a hold as events tell it (`key:crm`, `agent`, `capture`, …).
    pub fn owner(owner: &str) -> Self {
        match owner.split_once(':') {
            Some(("key", name)) => Self::Key { name: name.into(), role: None },
            Some(_) => Self::Signal { name: owner.into() },
            None if matches!(owner, "capture" | "payment" | "detector" | "") => Self::Node,
            None => Self::Signal { name: owner.into() },
        }
    }
}

/// Where it came from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Origin {
    /// Over the network, from this address.
    Address(IpAddr),
    /// From a command line on this host.
    Host(Text),
    /// From inside the node.
    Node,
}

impl Serialize for Origin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Origin::Address(ip) => serializer.collect_str(ip),
            Origin::Host(name) => serializer.collect_str(&format_args!("host {name}")),
            Origin::Node => serializer.serialize_str("node"),
        }
    }
}

/// What came of it, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It is about to be done; a second entry says what came of it.
    Asked,
    /// It was done.
    Done,
    /// It was refused.
    Refused,
    /// It was tried and failed.
    Failed,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Outcome {
    /// In a word.
    pub result: Verdict,
    /// HTTP status of the answer, when there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Why not, when it was not done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<Text>,
}

impl Outcome {
    /// Done.
    pub const DONE: Outcome = Outcome { result: Verdict::Done, status: None, why: None };

    /// About to be done.
    pub const ASKED: Outcome = Outcome { result: Verdict::Asked, status: None, why: None };

    /// Refused, for this reason.
    pub fn refused(why: impl Into<Text>) -> Self {
        Self { result: Verdict::Refused, status: None, why: Some(why.into()) }
    }

    /// Failed, for this reason.
    pub fn failed(why: impl Into<Text>) -> Self {
        Self { result: Verdict::Failed, status: None, why: Some(why.into()) }
    }

    /// What an HTTP status says.
    pub fn of_status(status: u16) -> Self {
        let result = match status {
            0..400 => Verdict::Done,
            400..500 => Verdict::Refused,
            _ => Verdict::Failed,
        };
        Self { result, status: Some(status), why: None }
    }
}

/// One thing that happened, before it has its number in the log.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Record {
    /// Who did it.
    pub actor: Who,
    /// Where it came from.
    pub origin: Origin,
    /// What was done, and to what.
    #[serde(flatten)]
    pub action: Action,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// What for, in the words of who did it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub purpose: Option<Text>,
    /// How often, where like records were put together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
    /// When the first of them was.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "rfc3339")]
    pub since: Option<WallMs>,
}

impl Record {
    /// The node did something.
    pub fn node(action: Action) -> Self {
        Self::new(Who::Node, Origin::Node, action)
    }

    /// Somebody did something.
    pub fn new(actor: Who, origin: Origin, action: Action) -> Self {
        Self { actor, origin, action, outcome: Outcome::DONE, purpose: None, times: None, since: None }
    }

    /// With what came of it.
    pub fn outcome(mut self, outcome: Outcome) -> Self {
        self.outcome = outcome;
        self
    }

    /// What came of a request of the key `name`: it came from where the request did, and what is nobody else's doing was
    /// the key holder's.
    pub fn asked_for(mut self, name: &str, role: Role, from: Option<IpAddr>) -> Self {
        let name = Text::new(name);
        let theirs = match &self.actor {
            Who::Node => true,
            Who::Key { name: owner, .. } => *owner == name,
            Who::Panel { .. } | Who::User { .. } | Who::Signal { .. } | Who::Nobody => false,
        };
        if theirs {
            self.actor = Who::Key { name, role: Some(role) };
            self.origin = from.map_or(self.origin, Origin::Address);
        }
        self
    }

    /// With what it was for.
    pub fn purpose(mut self, purpose: impl Into<Text>) -> Self {
        self.purpose = Some(purpose.into());
        self
    }
}

fn rfc3339<S: Serializer>(at: &Option<WallMs>, serializer: S) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => serializer.serialize_str(&at.rfc3339()),
        None => serializer.serialize_none(),
    }
}
