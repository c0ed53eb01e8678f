//! Who may do what. API keys are compared as SHA-256 in constant time against every configured key; what a role may do
//! stands in one table, and what is not in it is refused. Event streams may also be opened with a ticket: a random word
//! that works once and for half a minute, because a browser's `EventSource` cannot send headers and a key must not
//! stand in a URL.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, Method, header};
use rand::{Rng, SeedableRng};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use super::panels::{Admission, Fingerprint, PREFIX, Panels, fingerprint};
use super::problem::Problem;
use super::recordings::{Hearing, Hearings};
use crate::audit::Text;
use crate::base::Random;
use crate::base::ids::{CallId, RecordingId};
use crate::call::Actor;
use crate::config::{ApiKey, Role};

/// How long a ticket may wait to be used.
pub const TICKET_LIFE: Duration = Duration::from_secs(30);

/// Tickets not yet used; beyond them the oldest are forgotten.
const MOST_TICKETS: usize = 1_024;

/// What an endpoint needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Right {
    /// See calls, holds, collections.
    SeeCalls,
    /// Follow events.
    SeeEvents,
    /// Take, renew and release holds.
    Hold,
    /// Start and cancel collections.
    Collect,
    /// Run payments.
    Pay,
    /// End calls.
    HangUp,
    /// See receivers of webhooks and dead letters, and try these again.
    Webhooks,
    /// Read the metrics.
    SeeMetrics,
    /// See trunks, their targets and registrations.
    SeeTrunks,
    /// See the node's state, its recorders and alarms.
    SeeHealth,
    /// Settle alarms.
    SettleAlarms,
    /// Search recordings, and see what is known of them.
    SeeRecordings,
    /// Hear recordings: play, draw and export them.
    HearRecordings,
    /// Label recordings.
    LabelRecordings,
    /// Put recordings under legal hold, and lift it.
    HoldRecordings,
    /// Destroy recordings.
    DestroyRecordings,
}

impl Right {
    /// Every right.
    pub const ALL: [Right; 16] = [
        Right::SeeCalls,
        Right::SeeEvents,
        Right::Hold,
        Right::Collect,
        Right::Pay,
        Right::HangUp,
        Right::Webhooks,
        Right::SeeMetrics,
        Right::SeeTrunks,
        Right::SeeHealth,
        Right::SettleAlarms,
        Right::SeeRecordings,
        Right::HearRecordings,
        Right::LabelRecordings,
        Right::HoldRecordings,
        Right::DestroyRecordings,
    ];

    /// In words: "a key of role `auditor` may not …".
    pub fn words(self) -> &'static str {
        match self {
            Right::SeeCalls => "see calls",
            Right::SeeEvents => "follow events",
            Right::Hold => "take or release holds",
            Right::Collect => "start or cancel collections",
            Right::Pay => "run payments",
            Right::HangUp => "end calls",
            Right::Webhooks => "see or replay webhooks",
            Right::SeeMetrics => "read metrics",
            Right::SeeTrunks => "see trunks",
            Right::SeeHealth => "see the node's health",
            Right::SettleAlarms => "settle alarms",
            Right::SeeRecordings => "see recordings",
            Right::HearRecordings => "hear or export recordings",
            Right::LabelRecordings => "label recordings",
            Right::HoldRecordings => "put recordings under legal hold",
            Right::DestroyRecordings => "destroy recordings",
        }
    }
}

/// Every role.
pub const ROLES: [Role; 5] = [Role::Admin, Role::Supervisor, Role::Integration, Role::Agent, Role::Auditor];

/// Whether `role` has `right`.
pub fn allows(role: Role, right: Right) -> bool {
    roles_of(right).contains(&role)
}

/// The roles that have a right. A whole match: a new right is nobody's until it is decided here, and a new role has none.
fn roles_of(right: Right) -> &'static [Role] {
    use Role::{Admin, Agent, Auditor, Integration, Supervisor};
    match right {
        Right::SeeCalls | Right::SeeEvents => &[Admin, Supervisor, Integration, Agent, Auditor],
        Right::Hold | Right::Pay => &[Admin, Supervisor, Integration, Agent],
        Right::SeeMetrics | Right::SeeTrunks | Right::SeeHealth | Right::SeeRecordings => {
            &[Admin, Supervisor, Integration, Auditor]
        }
        Right::Collect | Right::Webhooks | Right::LabelRecordings => &[Admin, Supervisor, Integration],
        Right::HearRecordings => &[Admin, Supervisor, Auditor],
        Right::HangUp | Right::SettleAlarms | Right::HoldRecordings => &[Admin, Supervisor],
        Right::DestroyRecordings => &[Admin],
    }
}

/// What each endpoint needs, by method and route. An endpoint that is not here is refused to everybody.
pub const ENDPOINTS: &[(&str, &str, Right)] = &[
    ("GET", "/v1/calls", Right::SeeCalls),
    ("GET", "/v1/calls/{call}", Right::SeeCalls),
    ("DELETE", "/v1/calls/{call}", Right::HangUp),
    ("GET", "/v1/calls/{call}/holds", Right::SeeCalls),
    ("POST", "/v1/calls/{call}/holds", Right::Hold),
    ("PATCH", "/v1/calls/{call}/holds/{hold}", Right::Hold),
    ("DELETE", "/v1/calls/{call}/holds/{hold}", Right::Hold),
    ("POST", "/v1/calls/{call}/collections", Right::Collect),
    ("GET", "/v1/calls/{call}/collections/{collection}", Right::SeeCalls),
    ("DELETE", "/v1/calls/{call}/collections/{collection}", Right::Collect),
    ("GET", "/v1/calls/{call}/payments", Right::SeeCalls),
    ("POST", "/v1/calls/{call}/payments", Right::Pay),
    ("GET", "/v1/calls/{call}/payments/{payment}", Right::SeeCalls),
    ("POST", "/v1/calls/{call}/payments/{payment}", Right::Pay),
    ("POST", "/v1/calls/{call}/panel", Right::Pay),
    ("DELETE", "/v1/calls/{call}/panel", Right::Pay),
    ("GET", "/v1/calls/{call}/events", Right::SeeEvents),
    ("GET", "/v1/events", Right::SeeEvents),
    ("POST", "/v1/tickets", Right::SeeEvents),
    ("GET", "/v1/webhooks", Right::Webhooks),
    ("GET", "/v1/webhooks/dead", Right::Webhooks),
    ("POST", "/v1/webhooks/dead/{letter}", Right::Webhooks),
    ("DELETE", "/v1/webhooks/dead/{letter}", Right::Webhooks),
    ("POST", "/v1/webhooks/{endpoint}/replay", Right::Webhooks),
    ("GET", "/v1/trunks", Right::SeeTrunks),
    ("GET", "/v1/node", Right::SeeHealth),
    ("GET", "/v1/recorders", Right::SeeHealth),
    ("GET", "/v1/alarms", Right::SeeHealth),
    ("DELETE", "/v1/alarms/{alarm}", Right::SettleAlarms),
    ("GET", "/v1/calls/{call}/recorders", Right::SeeCalls),
    ("POST", "/v1/calls/{call}/recorders/{recorder}", Right::Hold),
    ("GET", "/v1/recordings", Right::SeeRecordings),
    ("GET", "/v1/recordings/{recording}", Right::SeeRecordings),
    ("PATCH", "/v1/recordings/{recording}", Right::LabelRecordings),
    ("DELETE", "/v1/recordings/{recording}", Right::DestroyRecordings),
    ("POST", "/v1/recordings/{recording}/hold", Right::HoldRecordings),
    ("DELETE", "/v1/recordings/{recording}/hold", Right::HoldRecordings),
    ("POST", "/v1/recordings/{recording}/access", Right::HearRecordings),
    ("GET", "/v1/recordings/{recording}/waveform", Right::HearRecordings),
    ("GET", "/v1/recordings/{recording}/audio", Right::HearRecordings),
    ("GET", "/v1/recordings/{recording}/export", Right::HearRecordings),
    ("GET", "/v1/me", Right::SeeCalls),
    ("GET", "/metrics", Right::SeeMetrics),
];

/// The right an endpoint needs; `None` is nobody's.
pub fn right_of(method: &Method, route: &str) -> Option<Right> {
    // Axum answers HEAD with what GET would.
    let method = if method == Method::HEAD { "GET" } else { method.as_str() };
    ENDPOINTS.iter().find(|(m, r, _)| *m == method && *r == route).map(|(_, _, right)| *right)
}

/// The role's name as in the configuration.
pub fn role_name(role: Role) -> &'static str {
    match role {
        Role::Admin => "admin",
        Role::Supervisor => "supervisor",
        Role::Integration => "integration",
        Role::Agent => "agent",
        Role::Auditor => "auditor",
    }
}

/// API keys and tickets of a node.
pub struct Access {
    keys: RwLock<Vec<ApiKey>>,
    tickets: Mutex<Tickets>,
    panels: Mutex<Panels>,
    hearings: Mutex<Hearings>,
}

/// In whose name a request is made, and by which panel if by one.
#[derive(Debug, Clone)]
pub struct Pass {
    /// The key, or the one that drew the panel's token.
    pub actor: Actor,
    /// The panel's token.
    pub panel: Option<Fingerprint>,
}

struct Tickets {
    random: Random,
    /// SHA-256 of the ticket's text, as with keys.
    open: HashMap<[u8; 32], (Actor, Instant)>,
}

impl Access {
    /// The keys of the configuration; `random` draws tickets.
    pub fn new(keys: Vec<ApiKey>, mut random: Random) -> Self {
        let panels = Mutex::new(Panels::new(Random::from_rng(&mut random)));
        let hearings = Mutex::new(Hearings::new(Random::from_rng(&mut random)));
        let tickets = Mutex::new(Tickets { random, open: HashMap::new() });
        Self { keys: RwLock::new(keys), tickets, panels, hearings }
    }

    /// Replaces the keys: at once for new requests, and tickets of keys that are gone are void.
    pub fn set_keys(&self, keys: Vec<ApiKey>) {
        let mut tickets = self.tickets.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = |actor: &Actor| keys.iter().any(|key| key.name == actor.name && key.role == actor.role);
        tickets.open.retain(|_, (actor, _)| is_known(actor));
        self.panels().retain(is_known);
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    /// Whether the key of this name is still there with this role, and the panel's token in force; streams ask while they
    /// run.
    pub fn still_knows(&self, now: Instant, pass: &Pass) -> bool {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.iter().any(|key| key.name == pass.actor.name && key.role == pass.actor.role)
            && pass.panel.is_none_or(|panel| self.panels().knows(now, &panel))
    }

    fn panels(&self) -> MutexGuard<'_, Panels> {
        self.panels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Draws a ticket to listen to `recording`, for this purpose.
    pub(super) fn open_hearing(&self, now: Instant, pass: Pass, recording: RecordingId, purpose: Text) -> String {
        self.hearings.lock().unwrap_or_else(PoisonError::into_inner).open(now, pass, recording, purpose)
    }

    /// Who listens with a ticket to the recording that `path` is about, and what for; as long as their key is there.
    pub(super) fn hears(&self, now: Instant, ticket: &str, path: &str) -> Option<Hearing> {
        let hearing = self.hearings.lock().unwrap_or_else(PoisonError::into_inner).admits(now, ticket, path)?;
        self.still_knows(now, &hearing.pass).then_some(hearing)
    }

    /// Draws a panel's token for `call` in the name of `actor`; it lasts for `life`, and no longer than an hour.
    pub fn open_panel(&self, now: Instant, actor: Actor, call: CallId, may_begin: bool, life: Duration) -> String {
        self.panels().open(now, actor, call, may_begin, life)
    }

    /// Takes every panel of a call back.
    pub fn close_panels(&self, call: CallId) {
        self.panels().close(call);
    }

    /// Who asks `method` of `route` (`path` in full) with these headers: a key, or a panel within what it is for.
    pub fn admit(
        &self,
        now: Instant,
        headers: &HeaderMap,
        method: &Method,
        route: &str,
        path: &str,
    ) -> Result<Pass, Problem> {
        let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = bearer.and_then(|value| value.split_once(' ')).map(|(_, token)| token);
        let Some(token) = token.filter(|token| token.starts_with(PREFIX)) else {
            return Ok(Pass { actor: self.authenticate(headers)?, panel: None });
        };
        let panel = fingerprint(token);
        match self.panels().admits(now, &panel, method, route, path) {
            Admission::Yes(actor) => Ok(Pass { actor, panel: Some(panel) }),
            Admission::No => Err(Problem::role_forbids("panel", "use this endpoint")),
            Admission::Unknown => {
                Err(Problem::unauthenticated().hint("the panel's time is over, or it was taken back; open a new one"))
            }
        }
    }

    /// Who sends these headers.
    pub fn authenticate(&self, headers: &HeaderMap) -> Result<Actor, Problem> {
        let mut given = headers.get_all(header::AUTHORIZATION).iter();
        let (Some(value), None) = (given.next(), given.next()) else { return Err(Problem::unauthenticated()) };
        let bytes = value.as_bytes();
        let Some((scheme, key)) = bytes.split_at_checked(7) else { return Err(Problem::unauthenticated()) };
        if !scheme.eq_ignore_ascii_case(b"Bearer ") || key.is_empty() {
            return Err(Problem::unauthenticated());
        }
        let digest: [u8; 32] = Sha256::digest(key).into();
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        // Every key is looked at, and none ends the search: time tells nothing about where or how nearly it matched.
        let mut found = u32::MAX;
        for (at, key) in (0u32..).zip(keys.iter()) {
            let same: Choice = key.sha256.ct_eq(&digest);
            found = u32::conditional_select(&found, &at, same);
        }
        let key = keys.get(found as usize).ok_or_else(Problem::unauthenticated)?;
        Ok(Actor::new(key.name.as_str(), key.role))
    }

    /// Draws a ticket for `actor`.
    pub fn ticket(&self, now: Instant, actor: Actor) -> String {
        let mut tickets = self.tickets.lock().unwrap_or_else(PoisonError::into_inner);
        tickets.open.retain(|_, (_, deadline)| *deadline > now);
        if tickets.open.len() >= MOST_TICKETS {
            let oldest = tickets.open.iter().min_by_key(|(_, (_, deadline))| *deadline).map(|(ticket, _)| *ticket);
            oldest.and_then(|oldest| tickets.open.remove(&oldest));
        }
        let mut bytes = [0; 24];
        tickets.random.fill_bytes(&mut bytes);
        let text = format!("tkt_{}", hex::encode(bytes));
        tickets.open.insert(Sha256::digest(&text).into(), (actor, now + TICKET_LIFE));
        text
    }

    /// Takes a ticket: it never works again.
    pub fn redeem(&self, now: Instant, ticket: &str) -> Option<Actor> {
        let digest: [u8; 32] = Sha256::digest(ticket).into();
        let mut tickets = self.tickets.lock().unwrap_or_else(PoisonError::into_inner);
        let (actor, deadline) = tickets.open.remove(&digest)?;
        (deadline > now).then_some(actor)
    }
}
