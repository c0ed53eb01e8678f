//! The built-in provider: knows the usual test cards, takes no other, and moves no money. Requests go in as a provider
//! would get them; what it answers, how late, and whether the answer is lost come out. It keeps charges by idempotency key
//! as providers do, in memory only, and never a card.
//!
//! | card | answer |
//! |---|---|
//! | 4242424242424242, 4111111111111111, 5555555555554444, 378282246310005, … ([`APPROVED`]) | approved |
//! | 4000000000000002 | declined, `generic_decline` |
//! | 4000000000009995, …9987, …9979, …0119 | `insufficient_funds`, `lost_card`, `stolen_card`, `processing_error` |
//! | 4242424242424241, 4000000000000069, 4000000000000127 | number, expiry or security code to be entered again |
//! | anything else | declined, `not_a_test_card` |
//!
//! The parameter `sandbox` of a payment makes it misbehave: `slow-<ms>` answers late, `lose` commits and loses every
//! answer to the charge, `lose-once` only the first, `fail` and `fail-once` answer 500 and commit nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use super::json;
use crate::config::Method;

/// Cards that are approved: what providers publish for tests.
pub const APPROVED: &[&str] = &[
    "4242424242424242",
    "4111111111111111",
    "4000056655665556",
    "5555555555554444",
    "2223003122003222",
    "5200828282828210",
    "5105105105105100",
    "378282246310005",
    "371449635398431",
    "6011111111111117",
    "6011000990139424",
    "3056930009020004",
    "36227206271667",
    "3566002020360505",
    "6200000000000005",
];

/// Cards that are refused, and why.
const REFUSED: &[(&str, &str)] = &[
    ("4000000000000002", "generic_decline"),
    ("4000000000009995", "insufficient_funds"),
    ("4000000000009987", "lost_card"),
    ("4000000000009979", "stolen_card"),
    ("4000000000000119", "processing_error"),
    ("4242424242424241", "incorrect_number"),
    ("4000000000000069", "expired_card"),
    ("4000000000000127", "incorrect_cvc"),
];

/// Bank accounts, all at routing number 110000000, and why they are refused; empty: they are not.
const ACCOUNTS: &[(&str, &str)] =
    &[("000123456789", ""), ("000111111116", "account_closed"), ("000222222227", "insufficient_funds")];

/// Most charges kept; the oldest go first.
const KEPT: usize = 100_000;

/// What the provider does with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reaction {
    /// Status.
    pub status: u16,
    /// JSON body.
    pub body: String,
    /// How long it takes.
    pub delay: Duration,
    /// The answer never arrives.
    pub lost: bool,
}

/// A charge as the provider knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    id: String,
    /// Empty: approved.
    refused: &'static str,
    voided: bool,
    amount: String,
    /// How often it was asked for.
    seen: u32,
}

/// The provider.
#[derive(Debug, Default)]
pub struct Sandbox {
    charges: BTreeMap<String, Known>,
    order: std::collections::VecDeque<String>,
    /// How often a key was refused with a fault of ours.
    faults: BTreeMap<String, u32>,
    made: u64,
}

impl Sandbox {
    /// A provider that knows nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Charges approved and not taken back.
    pub fn charged(&self) -> usize {
        self.charges.values().filter(|known| known.refused.is_empty() && !known.voided).count()
    }

    /// Whether the charge of this key was approved and not taken back.
    pub fn has_charged(&self, idempotency: &str) -> bool {
        self.charges.get(idempotency).is_some_and(|known| known.refused.is_empty() && !known.voided)
    }

    /// Takes a request; `idempotency` is the header of that name.
    pub fn handle(&mut self, method: Method, path: &str, idempotency: Option<&str>, body: &[u8]) -> Reaction {
        match (method, path.strip_prefix("/v1/charges")) {
            (Method::Post, Some("")) => self.charge(idempotency, body),
            (Method::Get, Some(rest)) => self.look(rest.trim_start_matches('/')),
            (Method::Post, Some(rest)) => match rest.trim_start_matches('/').strip_suffix("/void") {
                Some(key) => self.void(key),
                None => error(404, "no_such_path"),
            },
            (Method::Post, None) if path == "/v1/tokens" => {
                let refused = refusal(body);
                self.made += 1;
                match refused {
                    "" => answer(200, format!("{{\"token\":\"tok_sandbox_{:012}\"}}", self.made)),
                    why => error(402, why),
                }
            }
            _ => error(404, "no_such_path"),
        }
    }

    fn charge(&mut self, idempotency: Option<&str>, body: &[u8]) -> Reaction {
        let Some(key) = idempotency else { return error(400, "idempotency_key_missing") };
        let Some(amount) = json::text(body, "/amount") else { return error(400, "amount_missing") };
        let behave = json::text(body, "/behave").unwrap_or_default();
        let delay = behave.strip_prefix("slow-").and_then(|ms| ms.parse().ok()).unwrap_or(0);
        let faults = self.faults.get(key).copied().unwrap_or(0);
        if *behave == "fail" || *behave == "fail-once" && faults == 0 {
            self.faults.insert(key.to_owned(), faults + 1);
            return error(500, "out_of_order");
        }
        if !self.charges.contains_key(key) {
            self.made += 1;
            let id = format!("sbx_{:012}", self.made);
            let known = Known { id, refused: refusal(body), voided: false, amount: amount.to_string(), seen: 0 };
            self.charges.insert(key.to_owned(), known);
            self.order.push_back(key.to_owned());
            if self.order.len() > KEPT
                && let Some(oldest) = self.order.pop_front()
            {
                self.charges.remove(&oldest);
                self.faults.remove(&oldest);
            }
        }
        let Some(known) = self.charges.get_mut(key) else { return error(500, "out_of_order") };
        if known.amount != *amount {
            return error(400, "idempotency_key_reused");
        }
        known.seen += 1;
        let lost = *behave == "lose" || *behave == "lose-once" && known.seen == 1;
        let reaction = if known.voided { error(402, "voided") } else { told(known) };
        Reaction { delay: Duration::from_millis(delay), lost, ..reaction }
    }

    fn look(&self, key: &str) -> Reaction {
        match self.charges.get(key) {
            None => error(404, "no_such_charge"),
            Some(known) if known.voided => answer(200, format!("{{\"id\":\"{}\",\"status\":\"voided\"}}", known.id)),
            Some(known) if known.refused.is_empty() => told(known),
            Some(known) => answer(
                200,
                format!("{{\"id\":\"{}\",\"status\":\"declined\",\"error\":\"{}\"}}", known.id, known.refused),
            ),
        }
    }

    /// Takes a charge back; one that is not known cannot be made any more.
    fn void(&mut self, key: &str) -> Reaction {
        self.made += 1;
        let id = format!("sbx_{:012}", self.made);
        let known = self.charges.entry(key.to_owned()).or_insert(Known {
            id,
            refused: "",
            voided: true,
            amount: String::new(),
            seen: 0,
        });
        known.voided = true;
        answer(200, format!("{{\"id\":\"{}\",\"status\":\"voided\"}}", known.id))
    }
}

fn told(known: &Known) -> Reaction {
    if known.refused.is_empty() {
        let number = known.id.trim_start_matches("sbx_");
        answer(200, format!("{{\"id\":\"{}\",\"status\":\"approved\",\"token\":\"tok_sandbox_{number}\"}}", known.id))
    } else {
        error(402, known.refused)
    }
}

/// Why the card or account is refused; empty: it is not.
fn refusal(body: &[u8]) -> &'static str {
    if let Some(account) = json::text(body, "/bank/account") {
        let routed = json::text(body, "/bank/routing").is_some_and(|routing| *routing == "110000000");
        let known = ACCOUNTS.iter().find(|(known, _)| *known == *account);
        return known.filter(|_| routed).map_or("not_a_test_account", |(_, why)| why);
    }
    let Some(card) = json::text(body, "/card/number") else { return "card_missing" };
    if APPROVED.contains(&card.as_str()) {
        return "";
    }
    REFUSED.iter().find(|(known, _)| *known == *card).map_or("not_a_test_card", |(_, why)| why)
}

fn answer(status: u16, body: String) -> Reaction {
    Reaction { status, body, delay: Duration::ZERO, lost: false }
}

fn error(status: u16, why: &str) -> Reaction {
    answer(status, format!("{{\"error\":\"{why}\"}}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(card: &str, behave: &str) -> Vec<u8> {
        format!(r#"{{"amount":1250,"card":{{"number":"{card}"}},"behave":"{behave}"}}"#).into_bytes()
    }

    fn charge(sandbox: &mut Sandbox, key: &str, card: &str, behave: &str) -> Reaction {
        sandbox.handle(Method::Post, "/v1/charges", Some(key), &body(card, behave))
    }

    #[test]
    fn published_test_cards_get_what_they_stand_for() {
        let mut sandbox = Sandbox::new();
        assert_eq!(charge(&mut sandbox, "a", "4242424242424242", "").status, 200);
        assert!(charge(&mut sandbox, "b", "4000000000009995", "").body.contains("insufficient_funds"));
        assert!(charge(&mut sandbox, "c", "4929000000006", "").body.contains("not_a_test_card"));
        assert_eq!(sandbox.charged(), 1);
    }

    #[test]
    fn a_charge_that_comes_twice_is_made_once() {
        let mut sandbox = Sandbox::new();
        let first = charge(&mut sandbox, "a", "4242424242424242", "lose-once");
        let second = charge(&mut sandbox, "a", "4242424242424242", "lose-once");
        assert!(first.lost && !second.lost);
        assert_eq!(first.body, second.body);
        assert_eq!(sandbox.charged(), 1);
        let other = br#"{"amount":9,"card":{"number":"4242424242424242"}}"#;
        assert_eq!(sandbox.handle(Method::Post, "/v1/charges", Some("a"), other).status, 400);
    }

    #[test]
    fn what_was_taken_back_cannot_be_charged_later() {
        let mut sandbox = Sandbox::new();
        assert_eq!(sandbox.handle(Method::Get, "/v1/charges/a", None, b"").status, 404);
        assert_eq!(sandbox.handle(Method::Post, "/v1/charges/a/void", None, b"").status, 200);
        assert_ne!(charge(&mut sandbox, "a", "4242424242424242", "").status, 200);
        assert_eq!(sandbox.charged(), 0);
    }
}
