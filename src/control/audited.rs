//! What of the API stands in the audit log (PCI DSS 10.2.1): who was not let in, every request of administrators, every
//! request that changes something, and every look at payments and events. A request and its status go in, a record comes
//! out. Looks at recordings are noted where they are served, with their purpose and before they are.

use std::net::IpAddr;

use axum::http::Method;

use super::access::Pass;
use super::panels::Fingerprint;
use crate::audit::{Action, Origin, Outcome, Record, Who};
use crate::base::ids::{CallId, CollectionId, HoldId, PaymentId};
use crate::config::Role;

/// The address a request came from; `rt/` puts it into each.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

/// Where a request came from. Without an address it is one of our own tests'.
pub(super) fn origin(peer: Option<Peer>) -> Origin {
    peer.map_or(Origin::Node, |Peer(ip)| Origin::Address(ip))
}

/// Whose request it is.
pub(super) fn who(pass: &Pass) -> Who {
    let name = pass.actor.name.as_str().into();
    match &pass.panel {
        Some(token) => Who::Panel { name, token: short(token) },
        None => Who::Key { name, role: Some(pass.actor.role) },
    }
}

fn short(token: &Fingerprint) -> crate::audit::Text {
    hex::encode(&token[..4]).into()
}

/// A request that was not let in, by whom it is known to be, if anybody.
pub(super) fn denied(pass: Option<&Pass>, peer: Option<Peer>, method: &Method, route: &str, status: u16) -> Record {
    let action = Action::AccessDenied { method: method.as_str().into(), route: route.into() };
    Record::new(pass.map_or(Who::Nobody, who), origin(peer), action).outcome(Outcome::of_status(status))
}

/// What stands in the log of a request that was let in; `None`: nothing.
pub(super) fn served(
    pass: &Pass,
    peer: Option<Peer>,
    method: &Method,
    route: &str,
    path: &str,
    status: u16,
) -> Option<Record> {
    let action = action(pass.actor.role, method, route, path)?;
    Some(Record::new(who(pass), origin(peer), action).outcome(Outcome::of_status(status)))
}

fn action(role: Role, method: &Method, route: &str, path: &str) -> Option<Action> {
    // Only what is one of our ids is taken from a path: anything may stand in one.
    let mut ids = path.split('/');
    let call = ids.find_map(|part| part.parse::<CallId>().ok());
    let rest: Vec<&str> = ids.collect();
    let payment = rest.iter().find_map(|part| part.parse::<PaymentId>().ok());
    let reads = matches!(*method, Method::GET | Method::HEAD);
    match (method.as_str(), route, call) {
        (_, route, _) if route.starts_with("/v1/recordings") => None,
        ("GET" | "HEAD", "/v1/calls/{call}/payments" | "/v1/calls/{call}/payments/{payment}", Some(call)) => {
            Some(Action::PaymentsViewed { call, payment })
        }
        ("GET", "/v1/events", _) => Some(Action::EventsFollowed { call: None }),
        ("GET", "/v1/calls/{call}/events", call @ Some(_)) => Some(Action::EventsFollowed { call }),
        ("POST", "/v1/tickets", _) => Some(Action::TicketDrawn),
        ("POST", "/v1/calls/{call}/panel", Some(call)) => Some(Action::PanelOpened { call }),
        ("DELETE", "/v1/calls/{call}/panel", Some(call)) => Some(Action::PanelsClosed { call }),
        _ if reads && role != Role::Admin => None,
        _ => {
            let ours = |part: &&str| {
                part.parse::<HoldId>().is_ok()
                    || part.parse::<CollectionId>().is_ok()
                    || part.parse::<PaymentId>().is_ok()
            };
            let id = rest.into_iter().find(ours).map(Into::into);
            Some(Action::Request { method: method.as_str().into(), route: route.into(), call, id })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: &str = "call_000102030405060708090a0b0c0d0e0f";

    fn word(role: Role, method: Method, route: &str) -> Option<String> {
        let path = route.replace("{call}", CALL).replace("{payment}", "4242424242424242").replace("{hold}", "123");
        action(role, &method, route, &path).map(|action| {
            let text = serde_json::to_string(&action).expect("json");
            assert!(!text.contains("4242424") && !text.contains("123\""), "{text}");
            action.word()
        })
    }

    #[test]
    fn every_request_of_an_administrator_is_noted_and_of_others_what_changes_or_shows_payments() {
        for (_, route, _) in
            crate::control::access::ENDPOINTS.iter().filter(|(_, route, _)| !route.contains("recordings"))
        {
            assert!(word(Role::Admin, Method::GET, route).is_some(), "{route}");
            assert!(word(Role::Agent, Method::POST, route).is_some(), "{route}");
        }
        let view = "/v1/calls/{call}/payments/{payment}";
        assert_eq!(word(Role::Auditor, Method::GET, view).as_deref(), Some("payments-viewed"));
        assert_eq!(word(Role::Agent, Method::GET, "/v1/calls/{call}"), None);
        assert_eq!(word(Role::Agent, Method::POST, "/v1/calls/{call}/panel").as_deref(), Some("panel-opened"));
        assert_eq!(word(Role::Agent, Method::DELETE, "/v1/calls/{call}/panel").as_deref(), Some("panels-closed"));
        assert_eq!(word(Role::Agent, Method::GET, "/v1/events").as_deref(), Some("events-followed"));
    }
}
