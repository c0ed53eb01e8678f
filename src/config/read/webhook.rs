//! `[webhooks]` and `[[webhooks.endpoint]]`.

use std::net::IpAddr;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::login::{SECRET, secret, secret_of};
use super::tree::Table;
use super::value;
use crate::config::load::Surroundings;
use crate::config::{Secret, SigningKey, Webhook, WebhookUrl, Webhooks};

pub(super) const KEYS: &[&str] = &["directory", "endpoint"];
pub(super) const ENDPOINT_KEYS: &[&str] =
    &["name", "url", "secret_file", "secret_env", "former_file", "former_env", "events", "allow_private", "ca"];

/// Where letters are kept when the file does not say.
const DIRECTORY: &str = "/var/lib/tonewall/webhooks";

/// Events that are told when the file names none.
const EVENTS: &[&str] = &["payment-*"];

/// Where the key is that a receiver still knows while it changes to another.
const FORMER: [&str; 2] = ["former_file", "former_env"];

/// Bytes of a signing key: as Standard Webhooks asks for.
const KEY: std::ops::RangeInclusive<usize> = 24..=64;

/// The section; empty when it is not there.
pub(super) fn read(root: &Table<'_>, around: &Surroundings<'_>) -> Option<Webhooks> {
    let table = root.child("webhooks", "webhooks");
    let directory = match table.get("directory").map(|v| (v.string(), v)) {
        None => Some(DIRECTORY),
        Some((Some(""), v)) => {
            v.wrong("is empty; a directory is wanted");
            None
        }
        Some((text, _)) => text,
    };
    let mut endpoints: Vec<Option<Webhook>> = Vec::new();
    for table in table.children("endpoint", "webhooks.endpoint[]") {
        let endpoint = endpoint(&table, around);
        if let Some(name) = endpoint.as_ref().map(|endpoint| &endpoint.name)
            && endpoints.iter().flatten().any(|other| other.name == *name)
        {
            table.fault("name", format!("an endpoint named {name:?} stands above already"));
        }
        endpoints.push(endpoint);
    }
    Some(Webhooks {
        directory: around.directory.join(directory?),
        endpoints: endpoints.into_iter().collect::<Option<_>>()?,
    })
}

fn endpoint(table: &Table<'_>, around: &Surroundings<'_>) -> Option<Webhook> {
    let name = table.require("name", "\"crm\"").and_then(|v| v.parsed(value::name));
    let private = table.get("allow_private").map_or(Some(false), |v| v.boolean());
    let address = table.require("url", "\"https://crm.example/tonewall\"");
    let url = address.and_then(|v| v.parsed(|text| url(text, private == Some(true))));
    let read = |keys: [&'static str; 2], text: Secret| match signing_key(text.expose()) {
        Ok(key) => Some(key),
        Err(reason) => {
            table.fault(keys[usize::from(table.has(keys[1]))], reason);
            None
        }
    };
    let key = secret(table, around).and_then(|text| read(SECRET, text));
    let former = match FORMER.iter().any(|key| table.has(key)) {
        true => secret_of(table, around, FORMER).and_then(|text| read(FORMER, text)).map(Some),
        false => Some(None),
    };
    let events = match table.get("events") {
        Some(v) => v.each(|item| item.parsed(filter)),
        None => Some(EVENTS.iter().map(|text| (*text).to_owned()).collect()),
    };
    let ca = match table.get("ca") {
        Some(v) => v.string().map(|text| Some(around.directory.join(Path::new(text)))),
        None => Some(None),
    };
    Some(Webhook {
        name: name?,
        url: url?,
        key: key?,
        former: former?,
        events: events?,
        allow_private: private?,
        ca: ca?,
    })
}

/// An address: https, or http to a loopback address of an endpoint that may be private.
pub(super) fn url(text: &str, private: bool) -> Result<WebhookUrl, String> {
    let bad = || format!("{text:?} is no address, such as \"https://crm.example/tonewall\"");
    let (scheme, rest) = text.split_once("://").ok_or_else(bad)?;
    let https = match scheme {
        "https" => true,
        "http" => false,
        _ => return Err(bad()),
    };
    let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let fine = path.bytes().all(|b| b.is_ascii_graphic() && !b"#\"<>\\^`{|}".contains(&b));
    if authority.contains('@') || !fine {
        return Err(format!("{text:?} has a user, a fragment or a character that an address cannot have"));
    }
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, port)) => (host, Some(port.strip_prefix(':').ok_or_else(bad)?)),
        None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
    };
    let ip = host.parse::<IpAddr>().ok();
    let name = |c: char| c.is_ascii_alphanumeric() || "-.".contains(c);
    if ip.is_none() && (host.is_empty() || host.len() > 253 || !host.chars().all(name)) {
        return Err(bad());
    }
    let port = match port {
        Some(port) => port.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(bad)?,
        None if https => 443,
        None => 80,
    };
    let here = private && ip.is_some_and(|ip| ip.is_loopback());
    if !https && !here {
        return Err(format!(
            "{text:?} is not encrypted: use https (http only to a loopback address, with allow_private)"
        ));
    }
    Ok(WebhookUrl { https, host: host.to_ascii_lowercase(), port, path: path.to_owned() })
}

/// `whsec_` and base64; the text is not repeated in the fault.
fn signing_key(text: &str) -> Result<SigningKey, String> {
    let bad = || {
        format!(
            "must hold `whsec_` and the base64 of {} to {} random bytes; \
             make one: `echo whsec_$(head -c 32 /dev/urandom | base64)`",
            KEY.start(),
            KEY.end()
        )
    };
    let encoded = text.strip_prefix("whsec_").ok_or_else(bad)?;
    let mut bytes = Zeroizing::new(STANDARD.decode(encoded).map_err(|_| bad())?);
    if KEY.contains(&bytes.len()) { Ok(SigningKey::new(std::mem::take(&mut *bytes))) } else { Err(bad()) }
}

/// A type of events, or the beginning of some with `*`.
fn filter(text: &str) -> Result<String, String> {
    let stem = text.strip_suffix('*').unwrap_or(text);
    let fine = |c: char| c.is_ascii_lowercase() || c == '-';
    if !text.is_empty() && stem.chars().all(fine) {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is no type of events, such as \"payment-ended\", nor a beginning, such as \"payment-*\""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_encrypted_or_here() {
        let at =
            |https, host: &str, port, path: &str| Ok(WebhookUrl { https, host: host.into(), port, path: path.into() });
        assert_eq!(url("https://CRM.example", false), at(true, "crm.example", 443, "/"));
        assert_eq!(url("https://crm.example:8443/a/b?c=d", false), at(true, "crm.example", 8443, "/a/b?c=d"));
        assert_eq!(url("https://[2001:db8::1]:444/x", false), at(true, "2001:db8::1", 444, "/x"));
        assert_eq!(url("http://127.0.0.1:8080/x", true), at(false, "127.0.0.1", 8080, "/x"));
        for (text, private) in [
            ("http://127.0.0.1/", false),
            ("http://crm.example/", true),
            ("http://192.0.2.1/", true),
            ("ftp://crm.example/", true),
            ("https://user:pass@crm.example/", false),
            ("https://crm.example/#x", false),
            ("https://crm.example:0/", false),
            ("https:///x", false),
            ("https://crm example/", false),
            ("crm.example", false),
        ] {
            assert!(url(text, private).is_err(), "{text}");
        }
    }

    #[test]
    fn keys_are_long_enough_and_never_repeated() {
        assert!(signing_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").is_ok());
        for text in ["MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_c2hvcnQ=", "whsec_not base64"] {
            let reason = signing_key(text).expect_err("refused");
            assert!(!reason.contains(text.trim_start_matches("whsec_")), "{reason}");
        }
    }

    #[test]
    fn filters_are_types_or_beginnings() {
        let hook = |events: &[&str]| Webhook {
            name: "x".into(),
            url: url("https://x.example", false).expect("an address"),
            key: SigningKey::new(vec![0; 32]),
            former: None,
            events: events.iter().map(|text| filter(text).expect("a filter")).collect(),
            allow_private: false,
            ca: None,
        };
        assert!(hook(&["payment-*"]).wants("payment-ended") && !hook(&["payment-*"]).wants("call-ended"));
        assert!(hook(&["call-ended"]).wants("call-ended") && !hook(&["call-ended"]).wants("call-ended-x"));
        assert!(hook(&["*"]).wants("mask"));
        assert!(filter("").is_err() && filter("Payment").is_err() && filter("a*b").is_err());
    }
}
