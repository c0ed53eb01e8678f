//! How the parts of a connector fit together: every value has a source, every request a host it may go to, and what
//! could charge can be asked about.

use super::tree::Table;
use crate::config::template::{Source, Template};
use crate::config::{Auth, Connector, Purpose, Step, Then};

/// Said of a text that holds a secret.
pub(super) const NO_SECRET: &str = "a secret does not stand in this file: name it in a [[connector.secret]] with file or env, and write ${secret.<name>}";

/// Headers whose value is a secret.
pub(super) fn is_credential(header: &str) -> bool {
    let header = header.to_ascii_lowercase();
    ["authorization", "api-key", "apikey", "secret", "password", "token", "signature"]
        .iter()
        .any(|word| header.contains(word))
}

/// Whether a text looks like a provider's key.
pub(super) fn literal_secret(text: &str) -> bool {
    const BEGINNINGS: &[&str] = &["sk_live_", "sk_test_", "rk_live_", "rk_test_", "access_token$", "-----BEGIN"];
    let long = |word: &str| {
        word.len() >= 40
            && word.chars().any(|c| c.is_ascii_digit())
            && word.chars().any(|c| c.is_ascii_lowercase())
            && word.chars().any(|c| c.is_ascii_uppercase())
    };
    BEGINNINGS.iter().any(|beginning| text.contains(beginning))
        || text.split(|c: char| !(c.is_ascii_alphanumeric() || "+/=_-".contains(c))).any(long)
}

/// `https`, or `http` on this same machine.
pub(super) fn scheme(url: &str, host: &str) -> Result<(), String> {
    let name = host.rsplit_once(':').map_or(host, |(name, port)| if port.contains(']') { host } else { name });
    let here = name == "localhost"
        || name == "[::1]"
        || name.starts_with("127.") && name.parse::<std::net::Ipv4Addr>().is_ok();
    match url.split_once("://").map(|(scheme, _)| scheme) {
        Some("https") => Ok(()),
        Some("http") if here => Ok(()),
        Some("http") => Err("is not encrypted; http is for this same machine only (127.0.0.1), https is wanted".into()),
        _ => Err(format!("{url:?} is no address such as \"https://api.psp.example\"")),
    }
}

/// Notes what does not fit; `true` when all does.
pub(super) fn check(table: &Table<'_>, connector: &Connector) -> bool {
    let mut faults: Vec<(&str, String)> = Vec::new();
    secrets(connector, &mut faults);
    for purpose in [Purpose::Charge, Purpose::Token, Purpose::Query, Purpose::Void] {
        steps(connector, purpose, &mut faults);
    }
    if connector.charge.is_empty() && connector.token.is_empty() {
        faults.push(("step", "no step charges or makes a token; name a preset or write [[connector.step]]".into()));
    }
    let commits = connector.charge.iter().any(|step| step.commits);
    if !connector.charge.is_empty() && !commits {
        faults.push((
            "step",
            "no step of \"charge\" has commits = true, so a lost answer would pass for a failure".into(),
        ));
    }
    if commits && connector.query.is_empty() && connector.void.is_empty() {
        let reason = "a lost answer could never be settled: steps of \"query\" or \"void\" are wanted";
        faults.push(("step", reason.into()));
    }
    if connector.timeout > connector.deadline {
        faults.push(("timeout_ms", "is longer than deadline_s".into()));
    }
    let good = faults.is_empty();
    for (key, reason) in faults {
        table.fault(key, reason);
    }
    good
}

fn secrets(connector: &Connector, faults: &mut Vec<(&str, String)>) {
    let named = match &connector.auth {
        Auth::None => None,
        Auth::Basic { secret, .. } | Auth::Bearer { secret } => Some(secret),
        Auth::Hmac(hmac) => Some(&hmac.secret),
    };
    if let Some(name) = named.filter(|name| !connector.secrets.contains_key(*name)) {
        // It might be the secret itself, written in the wrong place.
        let shown = if literal_secret(name) || name.len() > 24 { "…" } else { name };
        faults.push(("auth", format!("a [[connector.secret]] named {shown:?} is wanted, with file or env")));
    }
    let templates: Vec<&Template> = match &connector.auth {
        Auth::Basic { user, .. } => vec![user],
        Auth::Hmac(hmac) => vec![&hmac.sign, &hmac.value],
        Auth::None | Auth::Bearer { .. } => Vec::new(),
    };
    for value in templates.iter().flat_map(|template| template.values()) {
        if value.source.is_keyed() {
            faults.push(("auth", "what the customer keys does not go into headers".into()));
        }
        defined(connector, &value.source, "auth", &[], faults);
    }
}

/// That a value of the connector's own is there.
fn defined(connector: &Connector, source: &Source, place: &str, mapped: &[&str], faults: &mut Vec<(&str, String)>) {
    let reason = match source {
        Source::Secret(name) if !connector.secrets.contains_key(name) => {
            format!("{place} needs a [[connector.secret]] named {name:?}, with file or env")
        }
        Source::Variable(name) if !connector.variables.contains_key(name) => {
            format!("{place} needs a [[connector.variable]] named {name:?}")
        }
        Source::Mapped(name) if !mapped.contains(&name.as_str()) => {
            format!("{place} needs ${{value.{name}}}, which no answer to an earlier step gives")
        }
        _ => return,
    };
    let fault = (if place == "auth" { "auth" } else { "step" }, reason);
    if !faults.contains(&fault) {
        faults.push(fault);
    }
}

fn steps(connector: &Connector, purpose: Purpose, faults: &mut Vec<(&str, String)>) {
    let steps = connector.steps(purpose);
    // Whatever any answer to a charge has given is still known when it is asked about.
    let mut mapped: Vec<&str> = match purpose {
        Purpose::Query | Purpose::Void => values(&connector.charge).collect(),
        Purpose::Charge | Purpose::Token => Vec::new(),
    };
    for (at, step) in steps.iter().enumerate() {
        let place = format!("step {:?}", step.name);
        let first = step.url.parts.first();
        let relative = matches!(first, Some(crate::config::Part::Text(text)) if text.starts_with('/'));
        if relative && connector.url.is_none() {
            faults.push(("url", format!("is missing, and {place} has a path only")));
        }
        if let Some(crate::config::Part::Text(text)) = first
            && !relative
            && let Some(host) = super::connector::host_of(text)
            && !connector.hosts.contains(&host)
        {
            faults.push(("hosts", format!("{host:?} is not among them, and {place} goes there")));
        }
        for template in step.templates() {
            for value in template.values() {
                let keyed = value.source.is_keyed() && matches!(purpose, Purpose::Query | Purpose::Void);
                if keyed && !value.optional {
                    let reason = "asks about a charge when what the customer keyed is gone already";
                    faults.push(("step", format!("{place} {reason}")));
                }
                if !value.optional {
                    defined(connector, &value.source, &place, &mapped, faults);
                }
            }
        }
        mapped.extend(values(std::slice::from_ref(step)));
        let last = at + 1 == steps.len();
        for rule in &step.answers {
            let fits = match rule.then {
                Then::Next => !last,
                Then::Approved | Then::Declined => true,
                Then::ReEnter(..) => matches!(purpose, Purpose::Charge | Purpose::Token),
                Then::Nothing => purpose == Purpose::Query || purpose == Purpose::Void,
                Then::Voided => purpose == Purpose::Void || purpose == Purpose::Query,
                Then::Retry | Then::Pending | Then::Refused | Then::Unavailable => true,
            };
            if !fits {
                let why = if rule.then == Then::Next { "there is no next step" } else { "it does not fit its purpose" };
                faults.push(("step", format!("{place} has an answer that leads nowhere: {why}")));
            }
        }
    }
}

fn values(steps: &[Step]) -> impl Iterator<Item = &str> {
    steps.iter().flat_map(|step| &step.answers).flat_map(|rule| &rule.values).map(|(name, _)| name.as_str())
}
