//! `[[recorder]]`: SIPREC recording servers.

use std::net::SocketAddr;
use std::time::Duration;

use super::tree::{Table, Value};
use super::trunk::{host, or, some_of, suites, targets};
use super::{link, value};
use crate::config::load::Surroundings;
use crate::config::{
    Auto, Codec, Dialect, DtmfForms, GuardMode, Link, ListenerId, MaskKind, Methods, Network, Piece, Place, Recorder,
    RecordingPolicy, Remote, Side, Srtp, SrtpKeying, SrtpSuite, T38, Told, Trunk, TrunkId, Unmaskable,
};

pub(super) const KEYS: &[&str] = &[
    "name",
    "kind",
    "listener",
    "remotes",
    "sources",
    "media",
    "policy",
    "user",
    "dialect",
    "codec",
    "srtp",
    "srtp_suites",
    "alive_s",
    "spill",
    "forward",
    "forward_sessions",
    "failover_ms",
    "probe_s",
    "probe_lost",
    "probe_good",
    "tls_ca",
    "tls_names",
    "tls_mutual",
    "tls_certificate",
    "tls_key",
    "header",
    "extension",
    "extension_namespace",
];
pub(super) const TOLD_KEYS: &[&str] = &["name", "value"];

/// Namespace of extension data where the file names none.
const NAMESPACE: &str = "urn:tonewall:recording";

/// A recorder as read; `None` where the file is wrong.
pub(in crate::config) struct Draft<'a> {
    pub(in crate::config) table: Table<'a>,
    pub(in crate::config) name: Option<String>,
    pub(in crate::config) listener: Option<&'a str>,
    pub(in crate::config) remotes: Option<Vec<SocketAddr>>,
    pub(in crate::config) sources: Option<Vec<Network>>,
    pub(in crate::config) spill: Option<Option<bool>>,
    pub(in crate::config) forward: Option<Option<bool>>,
    forward_sessions: Option<usize>,
    pub(in crate::config) srtp: Option<Option<Srtp>>,
    media: Option<Vec<Network>>,
    required: Option<bool>,
    user: Option<String>,
    dialect: Option<Dialect>,
    codec: Option<Codec>,
    suites: Option<Vec<SrtpSuite>>,
    alive: Option<Duration>,
    headers: Option<Vec<Told>>,
    extensions: Option<Vec<Told>>,
    namespace: Option<String>,
    pub(in crate::config) link: link::Draft,
}

pub(super) fn read<'a>(table: Table<'a>, around: &Surroundings<'_>) -> Draft<'a> {
    let name = table.require("name", "\"recorder\"").and_then(|v| v.parsed(value::name));
    table.require("kind", "\"siprec\"").and_then(|v| v.one_of(&[("siprec", ())]));
    let listener = table.require("listener", "\"recorder-tcp\"").and_then(|v| v.string());
    let targets = table.require("remotes", "[\"192.0.2.40:5060\"]").and_then(|v| targets(&v));
    let address = |target: &Remote| match target.place {
        Place::At(at) => Some(at),
        Place::Name { .. } => None,
    };
    let remotes: Option<Vec<SocketAddr>> = targets.as_ref().map(|list| list.iter().filter_map(address).collect());
    if targets.iter().flatten().any(|target| address(target).is_none()) && !table.has("sources") {
        table.fault("sources", "is missing, and needed because remotes has names; who may ask us is never looked up");
    }
    let sources = match table.get("sources") {
        Some(v) => some_of(&v, value::network),
        None => remotes.clone().map(|remotes| remotes.iter().map(|at| host(*at)).collect()),
    };
    let media = match table.get("media") {
        Some(v) => some_of(&v, value::network),
        None => sources.clone(),
    };
    let srtp = or(&table, "srtp", None, |v| {
        v.one_of(&[("off", Srtp::Off), ("optional", Srtp::Optional), ("required", Srtp::Required)]).map(Some)
    });
    Draft {
        link: link::of_recorder(&table, around, targets),
        name,
        listener,
        remotes,
        sources,
        media,
        srtp,
        required: or(&table, "policy", false, |v| v.one_of(&[("best-effort", false), ("required", true)])),
        user: or(&table, "user", "recorder".to_owned(), |v| v.parsed(value::name)),
        dialect: or(&table, "dialect", Dialect::Standard, |v| {
            v.one_of(&[Dialect::Standard, Dialect::AudioCodes, Dialect::Oracle].map(|it| (it.name(), it)))
        }),
        codec: or(&table, "codec", Codec::Pcmu, |v| v.one_of(&[("PCMU", Codec::Pcmu), ("PCMA", Codec::Pcma)])),
        suites: or(&table, "srtp_suites", SrtpSuite::USUAL.to_vec(), |v| suites(&v)),
        alive: or(&table, "alive_s", Duration::from_secs(10), |v| v.integer(0..=600).map(Duration::from_secs)),
        spill: or(&table, "spill", None, |v| v.boolean().map(Some)),
        forward: or(&table, "forward", None, |v| v.boolean().map(Some)),
        forward_sessions: or(&table, "forward_sessions", 2, |v| v.integer(1..=64).map(|most| most as usize)),
        headers: told(&table, "header", "recorder[].header[]", |name| value::passed_header(name).map(drop)),
        extensions: told(&table, "extension", "recorder[].extension[]", element),
        namespace: or(&table, "extension_namespace", NAMESPACE.to_owned(), |v| namespace(&table, &v)),
        table,
    }
}

fn told(table: &Table<'_>, key: &str, section: &str, name: impl Fn(&str) -> Result<(), String>) -> Option<Vec<Told>> {
    let read = |table: &Table<'_>| {
        let named =
            table.require("name", "\"X-Call-Ref\"").and_then(|v| v.parsed(|text| name(text).map(|()| text.to_owned())));
        let value = table.require("value", "\"{header:X-Call-Ref}\"").and_then(|v| {
            v.parsed(|text| match text.len() > 512 || text.chars().any(char::is_control) {
                true => Err("is longer than 512 bytes or holds a control character".to_owned()),
                false => Piece::read(text),
            })
        });
        Some(Told { name: named?, value: value? })
    };
    table.children(key, section).iter().map(read).collect()
}

/// A name fit for an XML element.
fn element(text: &str) -> Result<(), String> {
    let first = text.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    let fine = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let sound = first && text.len() <= 64 && text.chars().all(fine) && !text.to_ascii_lowercase().starts_with("xml");
    if sound {
        Ok(())
    } else {
        Err(format!("{text:?} is no element name: a letter, then letters, digits, '-', '_' or '.'"))
    }
}

fn namespace(table: &Table<'_>, v: &Value<'_>) -> Option<String> {
    if !table.has("extension") {
        v.unfit("is read with [[recorder.extension]] only");
    }
    v.parsed(|text| {
        let fine = |c: char| c.is_ascii_graphic() && !"<>&\"'".contains(c);
        let ours = text.starts_with("urn:ietf:params:xml:ns:recording");
        if (1..=256).contains(&text.len()) && text.contains(':') && text.chars().all(fine) && !ours {
            Ok(text.to_owned())
        } else {
            Err(format!("{text:?} is no namespace of a vendor, such as \"urn:example:recording\""))
        }
    })
}

impl Draft<'_> {
    /// The recorder and its peer, on the listener its name was found to be.
    pub(super) fn finish(
        &self,
        listener: Option<ListenerId>,
        trunk: TrunkId,
        (secure, keys): (bool, bool),
    ) -> Option<(Recorder, Trunk)> {
        let srtp = self.srtp?.unwrap_or(if secure { Srtp::Required } else { Srtp::Off });
        let spill = self.spill?.unwrap_or(keys);
        let recorder = Recorder {
            name: self.name.clone()?,
            trunk,
            required: self.required?,
            user: self.user.clone()?,
            dialect: self.dialect?,
            codec: self.codec?,
            srtp,
            alive: self.alive?,
            spill,
            forward_sessions: if self.forward?.unwrap_or(spill) { self.forward_sessions? } else { 0 },
            headers: self.headers.clone()?,
            namespace: self.namespace.clone()?,
            extensions: self.extensions.clone()?,
        };
        let peer = Trunk {
            name: self.name.clone()?,
            side: Side::Recorder,
            listener: listener?,
            remotes: self.remotes.clone()?,
            sources: self.sources.clone()?,
            media: self.media.clone()?,
            codecs: vec![self.codec?],
            srtp_suites: self.suites.clone()?,
            srtp,
            link: self.link.finish()?,
            ..peer()
        };
        Some((recorder, peer))
    }
}

/// A peer that carries no calls.
fn peer() -> Trunk {
    Trunk {
        name: String::new(),
        side: Side::Recorder,
        listener: ListenerId(0),
        remotes: Vec::new(),
        sources: Vec::new(),
        media: Vec::new(),
        codecs: Vec::new(),
        unmaskable: Unmaskable::Strip,
        t38: T38::Refuse,
        ptime_ms: 20,
        srtp: Srtp::Off,
        srtp_keying: SrtpKeying::Sdes,
        srtp_suites: Vec::new(),
        rtcp_mux: false,
        latch: false,
        dtmf: DtmfForms { events: false, info: false },
        guard: GuardMode::Off,
        auto: Auto::default(),
        mask: MaskKind::Silence,
        hold_default: Duration::from_secs(300),
        hold_max: Duration::from_secs(1_800),
        recording: RecordingPolicy::Off,
        redaction_horizon: Duration::ZERO,
        labels: Vec::new(),
        recorders: Vec::new(),
        max_calls: u32::MAX,
        star_codes: None,
        pass_headers: Vec::new(),
        call_header: None,
        signal_header: None,
        methods: Methods::default(),
        link: Link::default(),
    }
}
