//! `[[connector]]`: a provider's preset or steps of its own, and what they need. Secrets stand in files or the environment;
//! a connector that holds one in its text is refused.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use toml::de::DeTable;

use super::connector_check::{self, literal_secret};
use super::connector_step as step;
use super::tree::{Reader, Table};
use super::value;
use crate::config::hint::hint;
use crate::config::load::Surroundings;
use crate::config::template::Template;
use crate::config::{Auth, CertificateFiles, Connector, Hash, Hmac, PRESETS, Purpose, Secret, SecretSource, Step};

pub(super) const KEYS: &[&str] = &[
    "name",
    "preset",
    "url",
    "hosts",
    "ca",
    "certificate",
    "key",
    "timeout_ms",
    "deadline_s",
    "attempts",
    "retry_ms",
    "settle_s",
    "at_once",
    "auth",
    "secret",
    "variable",
    "step",
];
pub(super) const AUTH_KEYS: &[&str] = &["kind", "user", "secret", "sign", "hash", "encoding", "header", "value"];
pub(super) const SECRET_KEYS: &[&str] = &["name", "file", "env"];
pub(super) const VARIABLE_KEYS: &[&str] = &["name", "value"];

/// Every `[[connector]]`; `None` where one is wrong.
pub(super) fn read(root: &Table<'_>, around: &Surroundings<'_>) -> Option<Vec<Connector>> {
    let tables = root.children("connector", "connector[]");
    let mut names: Vec<String> = Vec::new();
    let mut connectors = Vec::new();
    for table in &tables {
        let connector = one(table, around);
        if let Some(connector) = &connector {
            if names.contains(&connector.name) {
                table.fault("name", format!("a connector named {:?} stands above already", connector.name));
            }
            names.push(connector.name.clone());
        }
        connectors.push(connector);
    }
    if !root.has("connector") {
        return Some(vec![sandbox()]);
    }
    connectors.into_iter().collect()
}

/// The connector of a node that names none: the built-in sandbox.
pub(in crate::config) fn sandbox() -> Connector {
    static BUILT_IN: OnceLock<Connector> = OnceLock::new();
    let read = || {
        let secret = |_: &SecretSource| Err(String::new());
        let around = Surroundings { directory: Path::new(""), secret: &secret };
        let text = "[[connector]]\nname = \"sandbox\"\npreset = \"sandbox\"\n";
        let first =
            |root: &Table<'_>| root.children("connector", "connector[]").first().and_then(|table| one(table, &around));
        parsed("built-in", text, first)
            .0
            .unwrap_or_else(|| unreachable!("the built-in connector is held good by tests"))
    };
    BUILT_IN.get_or_init(read).clone()
}

/// Reads a text by itself; gives what `read` makes of it, and the faults as texts.
pub(super) fn parsed<T>(name: &str, text: &str, read: impl FnOnce(&Table<'_>) -> T) -> (T, Vec<String>) {
    let (tree, errors) = DeTable::parse_recoverable(text);
    let reader = Reader::new(name, text);
    let found = read(&Table::root(&reader, tree.get_ref()));
    let mut faults: Vec<String> = errors.iter().map(|error| error.message().to_owned()).collect();
    faults.extend(reader.finish(None).0.iter().map(|fault| fault.to_string()));
    (found, faults)
}

/// What a preset says; the connector may say otherwise.
#[derive(Default, Clone)]
struct Preset {
    url: Option<String>,
    hosts: Vec<String>,
    auth: Option<Auth>,
    numbers: Vec<(&'static str, u64)>,
    steps: Vec<(Purpose, Step)>,
}

const NUMBERS: &[(&str, u64, u64, u64)] = &[
    // Name, least, most, default.
    ("timeout_ms", 100, 120_000, 15_000),
    ("deadline_s", 1, 150, 45),
    ("attempts", 1, 20, 4),
    ("retry_ms", 10, 60_000, 500),
    ("settle_s", 0, 86_400, 120),
    ("at_once", 1, 10_000, 200),
];

fn one(table: &Table<'_>, around: &Surroundings<'_>) -> Option<Connector> {
    let name = table.require("name", "\"stripe\"").and_then(|v| v.parsed(value::name));
    let named = table.get("preset").map(|v| {
        v.parsed(|text| {
            let known = PRESETS.iter().find(|(name, _)| *name == text).copied();
            known.ok_or_else(|| {
                format!("there is no preset {text:?}{}", hint(text, PRESETS.iter().map(|(name, _)| *name)))
            })
        })
    });
    let preset = match named {
        None => Some(Preset::default()),
        Some(known) => known.map(|(name, _)| {
            let (preset, faults) = preset_of(name);
            faults.iter().for_each(|fault| table.fault("preset", fault.clone()));
            preset.clone()
        }),
    };
    let (secrets, variables) = (secrets(table, around), variables(table));
    let url = table.get("url").map(|v| v.parsed(base_url));
    let hosts = table.get("hosts").map(|v| v.each(|item| item.parsed(host)));
    let ca = table.get("ca").map(|v| v.parsed(|text| value::file(text, around.directory)));
    let certificate = certificate(table, around);
    let auth = auth(table);
    let numbers = numbers(table);
    let steps = step::read(table);
    // Everything was looked at; now it is put together.
    let (preset, steps) = (preset?, steps?);
    let sandbox = matches!(named, Some(Some(("sandbox", _)))) && !table.has("url");
    let of = |purpose: Purpose| -> Vec<Step> {
        let own = |steps: &[(Purpose, Step)]| -> Vec<Step> {
            steps.iter().filter(|(of, _)| *of == purpose).map(|(_, step)| step.clone()).collect()
        };
        let mine = own(&steps);
        if mine.is_empty() { own(&preset.steps) } else { mine }
    };
    let number = |name: &str| {
        let own = numbers.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
        let usual = || NUMBERS.iter().find(|(known, ..)| *known == name).map_or(1, |(.., usual)| *usual);
        let given = || preset.numbers.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
        own.unwrap_or_else(|| given().or_else(|| Some(usual())))
    };
    let url = match url {
        Some(url) => Some(url?),
        None => preset.url,
    };
    let hosts = match hosts {
        Some(hosts) => hosts?,
        None if table.has("url") || preset.hosts.is_empty() => url.as_deref().and_then(host_of).into_iter().collect(),
        None => preset.hosts,
    };
    let connector = Connector {
        sandbox,
        url,
        hosts,
        ca: match ca {
            Some(ca) => Some(ca?),
            None => None,
        },
        certificate: certificate?,
        auth: auth?.or(preset.auth).unwrap_or(Auth::None),
        timeout: Duration::from_millis(number("timeout_ms")?),
        deadline: Duration::from_secs(number("deadline_s")?),
        attempts: number("attempts")? as u32,
        retry: Duration::from_millis(number("retry_ms")?),
        settle: Duration::from_secs(number("settle_s")?),
        at_once: number("at_once")? as usize,
        charge: of(Purpose::Charge),
        token: of(Purpose::Token),
        query: of(Purpose::Query),
        void: of(Purpose::Void),
        secrets: secrets?,
        variables: variables?,
        name: name?,
    };
    connector_check::check(table, &connector).then_some(connector)
}

/// A preset, and what is wrong with it (nothing, as tests see to). Read once.
fn preset_of(name: &str) -> &'static (Preset, Vec<String>) {
    static READ: OnceLock<Vec<(Preset, Vec<String>)>> = OnceLock::new();
    let read = READ.get_or_init(|| PRESETS.iter().map(|(name, text)| parsed(name, text, preset)).collect());
    let at = PRESETS.iter().position(|(known, _)| *known == name).unwrap_or(0);
    &read[at]
}

fn preset(root: &Table<'_>) -> Preset {
    let tables = root.children("connector", "connector[]");
    let Some(table) = tables.first() else { return Preset::default() };
    Preset {
        url: table.get("url").and_then(|v| v.parsed(base_url)),
        hosts: table.get("hosts").and_then(|v| v.each(|item| item.parsed(host))).unwrap_or_default(),
        auth: auth(table).flatten(),
        numbers: numbers(table).into_iter().filter_map(|(name, number)| Some((name, number?))).collect(),
        steps: step::read(table).unwrap_or_default(),
    }
}

/// The numbers that stand there; `None` for one that is wrong.
fn numbers(table: &Table<'_>) -> Vec<(&'static str, Option<u64>)> {
    let read = |(name, least, most, _): &(&'static str, u64, u64, u64)| {
        table.get(name).map(|v| (*name, v.integer(*least..=*most)))
    };
    NUMBERS.iter().filter_map(read).collect()
}

/// `https://host[:port]`, or `http://` on this same machine.
fn base_url(text: &str) -> Result<String, String> {
    let text = text.trim_end_matches('/');
    let host = host_of(text).ok_or_else(|| format!("{text:?} is no address such as \"https://api.psp.example\""))?;
    connector_check::scheme(text, &host)?;
    Ok(text.to_owned())
}

/// Host and port of an address, in small letters.
pub(super) fn host_of(url: &str) -> Option<String> {
    let (_, rest) = url.split_once("://")?;
    let host = rest.split(['/', '?', '#']).next()?;
    if host.contains('@') { None } else { host_name(host).ok() }
}

fn host(text: &str) -> Result<String, String> {
    host_name(text)
}

fn host_name(text: &str) -> Result<String, String> {
    let bad = || format!("{text:?} is no host, such as \"api.psp.example\" or \"api.psp.example:8443\"");
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (text, None),
    };
    if port.is_some_and(|port| port.parse::<u16>().ok().is_none_or(|port| port == 0)) {
        return Err(bad());
    }
    let inner = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    let fine = match inner {
        Some(ip) => ip.parse::<std::net::Ipv6Addr>().is_ok(),
        None => (1..=253).contains(&name.len()) && name.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c)),
    };
    if fine { Ok(text.to_ascii_lowercase()) } else { Err(bad()) }
}

fn certificate(table: &Table<'_>, around: &Surroundings<'_>) -> Option<Option<CertificateFiles>> {
    let file = |key| table.get(key).map(|v| v.parsed(|text| value::file(text, around.directory)));
    match (file("certificate"), file("key")) {
        (None, None) => Some(None),
        (Some(chain), Some(key)) => Some(Some(CertificateFiles { chain: chain?, key: key? })),
        (Some(_), None) => {
            table.fault("key", "is missing; the file of the certificate's private key is wanted");
            None
        }
        (None, Some(_)) => {
            table.fault("certificate", "is missing; the file of the certificate that the key belongs to is wanted");
            None
        }
    }
}

/// `[connector.auth]`; `Some(None)`: not there.
fn auth(connector: &Table<'_>) -> Option<Option<Auth>> {
    let table = connector.child("auth", "connector[].auth");
    if !table.is_there() {
        return Some(None);
    }
    #[derive(Clone, Copy, PartialEq)]
    enum Kind {
        None,
        Basic,
        Bearer,
        Hmac,
    }
    let kinds = [("none", Kind::None), ("basic", Kind::Basic), ("bearer", Kind::Bearer), ("hmac", Kind::Hmac)];
    let kind = table.require("kind", "\"bearer\"")?.one_of(&kinds)?;
    let takes: &[&str] = match kind {
        Kind::None => &[],
        Kind::Basic => &["user", "secret"],
        Kind::Bearer => &["secret"],
        Kind::Hmac => &["secret", "sign", "hash", "encoding", "header", "value"],
    };
    for key in AUTH_KEYS.iter().filter(|key| **key != "kind" && !takes.contains(key) && table.has(key)) {
        table.fault(key, "does not belong to this kind");
    }
    let secret = || table.require("secret", "\"key\"").and_then(|v| v.parsed(secret_name));
    let template = |key, example| table.require(key, example).and_then(|v| v.parsed(Template::parse));
    Some(Some(match kind {
        Kind::None => Auth::None,
        Kind::Basic => Auth::Basic { user: template("user", "\"merchant\"")?, secret: secret()? },
        Kind::Bearer => Auth::Bearer { secret: secret()? },
        Kind::Hmac => {
            let hashes = [("sha256", Hash::Sha256), ("sha512", Hash::Sha512)];
            let encodings = [("hex", false), ("base64", true)];
            let value = match table.get("value") {
                Some(v) => v.parsed(Template::parse),
                None => Template::parse("${signature}").ok(),
            };
            Auth::Hmac(Box::new(Hmac {
                secret: secret()?,
                sign: template("sign", "\"${method}${path}${body}\"")?,
                hash: table.get("hash").map_or(Some(Hash::Sha256), |v| v.one_of(&hashes))?,
                base64: table.get("encoding").map_or(Some(false), |v| v.one_of(&encodings))?,
                header: table.require("header", "\"X-Signature\"").and_then(|v| v.parsed(value::header))?,
                value: value?,
            }))
        }
    }))
}

/// The name of a secret; what is none may be the secret itself and is not repeated.
fn secret_name(text: &str) -> Result<String, String> {
    value::name(text).map_err(|_| "is no name of a [[connector.secret]]".to_owned())
}

fn secrets(table: &Table<'_>, around: &Surroundings<'_>) -> Option<BTreeMap<String, Secret>> {
    let mut found = BTreeMap::new();
    let mut good = true;
    for table in table.children("secret", "connector[].secret[]") {
        let name = table.require("name", "\"key\"").and_then(|v| v.parsed(secret_name));
        let source = match (table.has("file"), table.has("env")) {
            (true, true) => {
                table.fault("env", "file and env are given; only one can hold");
                None
            }
            (false, false) => {
                table.fault("file", "is missing; give one of file, env");
                None
            }
            (true, false) => table.get("file"),
            (false, true) => table.get("env"),
        };
        let in_file = table.has("file");
        let secret = source.and_then(|v| {
            v.parsed(|text| {
                if literal_secret(text) {
                    return Err("is a secret itself; the name of a file or variable that holds it is wanted".into());
                }
                let source = if in_file {
                    SecretSource::File(around.directory.join(text))
                } else {
                    SecretSource::Variable(text.to_owned())
                };
                let secret = (around.secret)(&source)?;
                if secret.is_empty() || secret.chars().any(char::is_control) {
                    return Err("holds no secret: one line of printable characters is wanted".into());
                }
                Ok(Secret::new(secret))
            })
        });
        match (name, secret) {
            (Some(name), Some(secret)) => {
                if found.insert(name.clone(), secret).is_some() {
                    table.fault("name", format!("a secret named {name:?} stands above already"));
                }
            }
            _ => good = false,
        }
    }
    good.then_some(found)
}

fn variables(table: &Table<'_>) -> Option<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    let mut good = true;
    for table in table.children("variable", "connector[].variable[]") {
        let name = table.require("name", "\"merchant\"").and_then(|v| v.parsed(value::name));
        let text = table.require("value", "\"ExampleCom\"").and_then(|v| {
            v.parsed(|text| match text {
                _ if literal_secret(text) => Err(connector_check::NO_SECRET.to_owned()),
                _ if text.len() > 1_024 || text.chars().any(char::is_control) => {
                    Err("is not up to 1024 printable characters".to_owned())
                }
                _ => Ok(text.to_owned()),
            })
        });
        match (name, text) {
            (Some(name), Some(text)) => {
                if found.insert(name.clone(), text).is_some() {
                    table.fault("name", format!("a variable named {name:?} stands above already"));
                }
            }
            _ => good = false,
        }
    }
    good.then_some(found)
}
