//! The checked reader: from the parsed TOML tree, with the place of every key, to typed sections. Each section has a
//! file; each names its keys once, in a constant, which serves unknown-key faults, the hints and the test that the
//! reference file is complete.

mod audit;
mod canary;
mod connector;
mod connector_check;
mod connector_step;
pub(super) mod control;
mod keys;
pub(super) mod link;
pub(super) mod listener;
mod login;
pub(super) mod media;
mod methods;
pub(super) mod recorder;
pub(super) mod route;
mod rules;
mod storage;
pub(super) mod tree;
pub(super) mod trunk;
pub(super) mod value;
mod webhook;

use sha2::{Digest, Sha256};
use toml::de::DeTable;

use super::cross;
use super::load::{Checked, Surroundings};
use super::{Bounds, Config, Connector, Fault, Faults, Keys, Log, LogLevel, Node, Payments, TrunkId};
use tree::{Reader, Table};

/// Every section and its keys. `[[x]]` sections are written `x[]`.
pub const SCHEMA: &[(&str, &[&str])] = &[
    ("", ROOT),
    ("node", NODE),
    ("dns", DNS),
    ("listener[]", listener::KEYS),
    ("media", media::KEYS),
    ("trunk[]", trunk::KEYS),
    ("trunk[].star_codes", trunk::STAR_KEYS),
    ("trunk[].header[]", rules::HEADER_KEYS),
    ("trunk[].login", login::LOGIN_KEYS),
    ("trunk[].challenge", login::CHALLENGE_KEYS),
    ("trunk[].register", login::REGISTER_KEYS),
    ("recorder[]", recorder::KEYS),
    ("recorder[].header[]", recorder::TOLD_KEYS),
    ("recorder[].extension[]", recorder::TOLD_KEYS),
    ("route[]", route::KEYS),
    ("control", control::KEYS),
    ("control.key[]", control::API_KEYS),
    ("webhooks", webhook::KEYS),
    ("webhooks.endpoint[]", webhook::ENDPOINT_KEYS),
    ("connector[]", connector::KEYS),
    ("connector[].auth", connector::AUTH_KEYS),
    ("connector[].secret[]", connector::SECRET_KEYS),
    ("connector[].variable[]", connector::VARIABLE_KEYS),
    ("connector[].step[]", connector_step::STEP_KEYS),
    ("connector[].step[].answer[]", connector_step::ANSWER_KEYS),
    ("payments", PAY),
    ("storage", storage::KEYS),
    ("storage.retention[]", storage::RETENTION_KEYS),
    ("storage.s3", storage::S3_KEYS),
    ("keys", keys::KEYS),
    ("keys.current", keys::KEK_KEYS),
    ("keys.old[]", keys::KEK_KEYS),
    ("log", LOG),
    ("canary", canary::KEYS),
    ("audit", audit::KEYS),
    ("audit.ship[]", audit::SHIP_KEYS),
];

const ROOT: &[&str] = &[
    "dns",
    "node",
    "listener",
    "media",
    "trunk",
    "recorder",
    "route",
    "control",
    "webhooks",
    "connector",
    "payments",
    "storage",
    "keys",
    "log",
    "audit",
    "canary",
];
const NODE: &[&str] = &["name", "max_calls", "max_calls_per_s", "max_messages_per_s", "max_messages_per_source_s"];
const DNS: &[&str] = &["nameservers"];
const PAY: &[&str] = &["last_digits"];
const LOG: &[&str] = &["level", "format"];

/// The connector of a configuration that names none: the built-in sandbox.
pub fn sandbox() -> Connector {
    connector::sandbox()
}

/// All sections as read, before they are checked against each other.
pub(super) struct Drafts<'a> {
    pub(super) root: Table<'a>,
    pub(super) node: Table<'a>,
    pub(super) node_calls: Option<u32>,
    pub(super) listeners: Vec<listener::Draft<'a>>,
    pub(super) media: media::Draft,
    pub(super) trunks: Vec<trunk::Draft<'a>>,
    pub(super) recorders: Vec<recorder::Draft<'a>>,
    pub(super) routes: Vec<route::Draft<'a>>,
    pub(super) control: Option<control::Draft>,
    pub(super) storage: Table<'a>,
    pub(super) keys: Keys,
}

/// Reads `text`: every section, then how they fit together.
pub(super) fn read(name: &str, text: &str, around: &Surroundings<'_>) -> Result<Checked, Faults> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (tree, errors) = DeTable::parse_recoverable(text);
    let reader = Reader::new(name, text);
    let config = sections(&Table::root(&reader, tree.get_ref()), around)
        .map(|config| Config { fingerprint: Sha256::digest(text).into(), ..config });
    let line_of = |error: &toml::de::Error| error.span().map_or(1, |span| reader.line_at(span.start));
    let mut syntax: Vec<(usize, String)> = errors
        .iter()
        .map(|error| (line_of(error), format!("not TOML: {}", error.message().replace('\n', ", "))))
        .collect();
    syntax.dedup_by_key(|(line, _)| *line);
    // After a syntax error the tree is a guess: only faults above it that stand whole in their own line are sure.
    let (mut faults, places) = reader.finish(syntax.iter().map(|(line, _)| *line).min());
    faults.extend(syntax.into_iter().map(|(line, reason)| Fault {
        file: name.to_owned(),
        line,
        key: String::new(),
        reason,
    }));
    match (Faults::new(faults), config) {
        (Some(faults), _) => Err(faults),
        (None, Some(config)) => Ok(Checked { config, places }),
        (None, None) => Err(Faults::one(Fault {
            file: name.to_owned(),
            line: 0,
            key: String::new(),
            reason: "cannot be used, and the checker does not know why; please report this file".to_owned(),
        })),
    }
}

fn sections(root: &Table<'_>, around: &Surroundings<'_>) -> Option<Config> {
    let node = root.child("node", "node");
    let name = node.get("name").map_or_else(|| Some("tonewall".to_owned()), |v| v.parsed(value::name));
    let node_calls = node.get("max_calls").and_then(|v| v.integer(1..=1_000_000)).map(|calls| calls as u32);
    let storage = root.child("storage", "storage");
    let connectors = connector::read(root, around);
    let drafts = Drafts {
        root: root.clone(),
        node_calls,
        listeners: root
            .children("listener", "listener[]")
            .into_iter()
            .map(|table| listener::read(table, around.directory))
            .collect(),
        media: media::read(root),
        trunks: root.children("trunk", "trunk[]").into_iter().map(|table| trunk::read(table, around)).collect(),
        recorders: root.children("recorder", "recorder[]").into_iter().map(|t| recorder::read(t, around)).collect(),
        routes: root.children("route", "route[]").into_iter().map(route::read).collect(),
        control: control::read(root, around),
        keys: keys::read(root, around.directory),
        storage,
        node,
    };
    let webhooks = webhook::read(root, around);
    let last_digits = root.child("payments", "payments").get("last_digits").map_or(Some(false), |v| v.boolean());
    let trunks: Vec<&str> = drafts.trunks.iter().filter_map(|trunk| trunk.name.as_deref()).collect();
    let storage = storage::read(&drafts.storage, around, (trunks.len() == drafts.trunks.len()).then_some(&trunks));
    let bounds = bounds(root, &drafts.node);
    let log = log(root);
    let canary = canary::read(root);
    if canary.as_ref().is_some_and(Option::is_some) {
        let own = |name: &Option<String>| name.as_deref().is_some_and(|name| name.starts_with(canary::PREFIX));
        let why = format!("names that begin with {:?} are those of the canary", canary::PREFIX);
        drafts.trunks.iter().filter(|trunk| own(&trunk.name)).for_each(|trunk| trunk.table.fault("name", why.clone()));
        let listeners = drafts.listeners.iter().filter(|listener| own(&listener.name));
        listeners.for_each(|listener| listener.table.fault("name", why.clone()));
    }
    let audit = audit::read(root, around);
    let found = cross::check(&drafts);
    let node_calls = node_calls.or_else(|| {
        let recorders = cross::recorders_of_a_call(&drafts);
        drafts.media.ports.map(|ports| cross::capacity(ports, recorders))
    })?;
    let trunks = drafts.trunks.iter().zip(found.listeners).zip(found.named);
    let mut trunks: Vec<_> =
        trunks.map(|((trunk, at), recorders)| trunk.finish(at, recorders, node_calls)).collect::<Option<_>>()?;
    let mut recorders = Vec::new();
    for (draft, (listener, secure)) in drafts.recorders.iter().zip(found.recorders) {
        let keys = drafts.keys.current.is_some() && drafts.storage.has("recordings");
        let (recorder, peer) = draft.finish(listener, TrunkId(trunks.len()), (secure, keys))?;
        recorders.push(recorder);
        trunks.push(peer);
    }
    Some(Config {
        node: Node { name: name?, max_calls: node_calls },
        listeners: drafts.listeners.iter().map(listener::Draft::finish).collect::<Option<_>>()?,
        media: drafts.media.finish()?,
        trunks,
        recorders,
        routes: found.routes?,
        control: match &drafts.control {
            Some(control) => Some(control.finish()?),
            None => None,
        },
        webhooks: webhooks?,
        storage: storage?,
        connectors: connectors?,
        payments: Payments { last_digits: last_digits? },
        keys: drafts.keys,
        bounds: bounds?,
        log: log?,
        audit: audit?,
        canary: canary?,
        fingerprint: [0; 32],
    })
}

fn bounds(root: &Table<'_>, node: &Table<'_>) -> Option<Bounds> {
    let usual = Bounds::default();
    let number = |key, default: u32| match node.get(key) {
        Some(v) => v.integer(1..=10_000_000).map(|number| number as u32),
        None => Some(default),
    };
    let all = number("max_messages_per_s", usual.max_messages_per_s);
    let each = number("max_messages_per_source_s", usual.max_messages_per_source_s);
    let calls = number("max_calls_per_s", usual.max_calls_per_s);
    let nameservers = match root.child("dns", "dns").get("nameservers") {
        Some(v) => v.each(|item| item.parsed(value::remote)),
        None => Some(usual.nameservers),
    };
    Some(Bounds {
        nameservers: nameservers?,
        max_messages_per_s: all?,
        max_messages_per_source_s: each?,
        max_calls_per_s: calls?,
    })
}

fn log(root: &Table<'_>) -> Option<Log> {
    let table = root.child("log", "log");
    let levels =
        [("error", LogLevel::Error), ("warn", LogLevel::Warn), ("info", LogLevel::Info), ("debug", LogLevel::Debug)];
    let level = table.get("level").map_or(Some(LogLevel::Info), |v| v.one_of(&levels));
    let json = table.get("format").map_or(Some(true), |v| v.one_of(&[("json", true), ("text", false)]));
    Some(Log { level: level?, json: json? })
}
