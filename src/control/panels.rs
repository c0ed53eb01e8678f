//! Panel tokens: what a CRM's back end draws for one agent and one call, so that the agent's browser can follow and steer
//! that call's payment and nothing else. A token is a random word, kept as its SHA-256; it ends with its time, with the
//! key that drew it, when it is taken back, and is worth nothing once its call is over.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use axum::http::Method;
use rand::Rng;
use sha2::{Digest, Sha256};

use crate::base::Random;
use crate::base::ids::CallId;
use crate::call::Actor;

/// How long a token lasts where nothing else is asked for.
pub const USUAL_LIFE: Duration = Duration::from_secs(15 * 60);

/// The longest a token may last.
pub const LONGEST_LIFE: Duration = Duration::from_secs(60 * 60);

/// What every token begins with.
pub const PREFIX: &str = "pnl_";

/// Tokens at once; beyond them the one that ends first is forgotten.
const MOST: usize = 10_000;

/// What a panel may ask for, always of its own call; the last one where it may begin payments.
const ENDPOINTS: &[(&str, &str)] = &[
    ("GET", "/v1/calls/{call}"),
    ("GET", "/v1/calls/{call}/events"),
    ("GET", "/v1/calls/{call}/payments"),
    ("GET", "/v1/calls/{call}/payments/{payment}"),
    ("POST", "/v1/calls/{call}/payments/{payment}"),
    ("POST", BEGIN),
];
const BEGIN: &str = "/v1/calls/{call}/payments";

/// A token's fingerprint.
pub type Fingerprint = [u8; 32];

/// Tokens that are in force.
pub struct Panels {
    random: Random,
    open: HashMap<Fingerprint, Panel>,
}

struct Panel {
    actor: Actor,
    call: CallId,
    may_begin: bool,
    until: Instant,
}

impl Panels {
    /// None yet; `random` draws them.
    pub fn new(random: Random) -> Self {
        Self { random, open: HashMap::new() }
    }

    /// Draws a token for `call` in the name of `actor`.
    pub fn open(&mut self, now: Instant, actor: Actor, call: CallId, may_begin: bool, life: Duration) -> String {
        self.open.retain(|_, panel| panel.until > now);
        if self.open.len() >= MOST {
            let first = self.open.iter().min_by_key(|(_, panel)| panel.until).map(|(fingerprint, _)| *fingerprint);
            first.and_then(|first| self.open.remove(&first));
        }
        let mut bytes = [0; 24];
        self.random.fill_bytes(&mut bytes);
        let token = format!("{PREFIX}{}", hex::encode(bytes));
        let until = now + life.min(LONGEST_LIFE);
        self.open.insert(fingerprint(&token), Panel { actor, call, may_begin, until });
        token
    }

    /// In whose name a token asks, if it may ask `method` of `route` on the path `path`.
    pub fn admits(&self, now: Instant, token: &Fingerprint, method: &Method, route: &str, path: &str) -> Admission {
        let Some(panel) = self.open.get(token).filter(|panel| panel.until > now) else { return Admission::Unknown };
        let method = if method == Method::HEAD { "GET" } else { method.as_str() };
        let listed = ENDPOINTS.contains(&(method, route)) && ((method, route) != ("POST", BEGIN) || panel.may_begin);
        if listed && call_of(path) == Some(panel.call) { Admission::Yes(panel.actor.clone()) } else { Admission::No }
    }

    /// Whether a token is in force.
    pub fn knows(&self, now: Instant, token: &Fingerprint) -> bool {
        self.open.get(token).is_some_and(|panel| panel.until > now)
    }

    /// Takes every token of a call back.
    pub fn close(&mut self, call: CallId) {
        self.open.retain(|_, panel| panel.call != call);
    }

    /// Keeps only the tokens whose actor `is_known`.
    pub fn retain(&mut self, is_known: impl Fn(&Actor) -> bool) {
        self.open.retain(|_, panel| is_known(&panel.actor));
    }
}

/// What a token is good for.
#[derive(Debug)]
pub enum Admission {
    /// It asks in this name.
    Yes(Actor),
    /// In force, and not for this.
    No,
    /// Not in force.
    Unknown,
}

/// The fingerprint of a token. Finding it takes as long wherever it differs from one in force: it is looked up by a hash
/// of its own.
pub fn fingerprint(token: &str) -> Fingerprint {
    Sha256::digest(token).into()
}

/// The call that a path is about.
fn call_of(path: &str) -> Option<CallId> {
    path.strip_prefix("/v1/calls/")?.split('/').next()?.parse().ok()
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::config::Role;

    fn crm() -> Actor {
        Actor::new("crm", Role::Integration)
    }

    #[test]
    fn a_token_is_for_its_own_call_and_for_payments_only() {
        let (now, mut panels) = (Instant::now(), Panels::new(Random::seed_from_u64(1)));
        let (own, other) = (CallId::draw(&mut Random::seed_from_u64(2)), CallId::draw(&mut Random::seed_from_u64(3)));
        let token = fingerprint(&panels.open(now, crm(), own, false, USUAL_LIFE));
        let may = |panels: &Panels, at, method: Method, route: &str, call: CallId| {
            let path = route.replace("{call}", &call.to_string());
            matches!(panels.admits(at, &token, &method, route, &path), Admission::Yes(actor) if actor.name == "crm")
        };
        assert!(may(&panels, now, Method::GET, "/v1/calls/{call}", own));
        assert!(may(&panels, now, Method::POST, "/v1/calls/{call}/payments/{payment}", own));
        assert!(!may(&panels, now, Method::GET, "/v1/calls/{call}", other));
        for (method, route) in [
            (Method::DELETE, "/v1/calls/{call}"),
            (Method::POST, "/v1/calls/{call}/holds"),
            (Method::POST, "/v1/calls/{call}/panel"),
            (Method::GET, "/v1/calls"),
            (Method::GET, "/v1/events"),
            (Method::POST, "/v1/calls/{call}/payments"),
        ] {
            assert!(!may(&panels, now, method.clone(), route, own), "{method} {route}");
        }
        assert!(!may(&panels, now + USUAL_LIFE, Method::GET, "/v1/calls/{call}", own));
        panels.close(own);
        assert!(!panels.knows(now, &token));
    }

    #[test]
    fn a_token_may_begin_payments_where_it_is_said_and_ends_with_its_key() {
        let (now, mut panels) = (Instant::now(), Panels::new(Random::seed_from_u64(1)));
        let call = CallId::draw(&mut Random::seed_from_u64(2));
        let token = fingerprint(&panels.open(now, crm(), call, true, 2 * LONGEST_LIFE));
        let path = format!("/v1/calls/{call}/payments");
        assert!(matches!(panels.admits(now, &token, &Method::POST, BEGIN, &path), Admission::Yes(_)));
        assert!(!panels.knows(now + LONGEST_LIFE, &token), "no token lasts longer");
        panels.retain(|actor| actor.name != "crm");
        assert!(!panels.knows(now, &token));
    }
}
