//! `[[trunk]]`.

use std::net::SocketAddr;
use std::time::Duration;

use super::tree::{Table, Value};
use super::{link, methods, value};
use crate::config::load::Surroundings;
use crate::config::{
    Auto, Codec, DtmfForms, GuardMode, ListenerId, MaskKind, Methods, Network, Place, RecorderId, RecordingPolicy,
    Remote, Side, Srtp, SrtpKeying, SrtpSuite, StarCodes, T38, Trunk, Unmaskable,
};

pub(super) const KEYS: &[&str] = &[
    "name",
    "side",
    "listener",
    "remotes",
    "sources",
    "media",
    "codecs",
    "unmaskable",
    "t38",
    "ptime_ms",
    "srtp",
    "srtp_keying",
    "srtp_suites",
    "rtcp_mux",
    "latch",
    "dtmf",
    "guard",
    "auto_quiet_ms",
    "auto_number_quiet_ms",
    "auto_release_leading",
    "auto_long_quiet_ms",
    "auto_payment_s",
    "mask",
    "hold_default_s",
    "hold_max_s",
    "recording",
    "redaction_horizon_s",
    "labels",
    "recorders",
    "max_calls",
    "star_codes",
    "login",
    "challenge",
    "register",
    "pass_headers",
    "call_header",
    "signal_header",
    "reliable",
    "session_timer",
    "session_expires_s",
    "session_min_s",
    "refer",
    "replaces",
    "failover_ms",
    "probe_s",
    "probe_lost",
    "probe_good",
    "max_calls_per_s",
    "redirect",
    "tel_uris",
    "pass_info",
    "pass_message",
    "header",
    "tls_ca",
    "tls_names",
    "tls_mutual",
    "tls_certificate",
    "tls_key",
];
/// The header by which PBXs steer recorders, where nothing else is said.
const SIGNAL_HEADER: &str = "X-AC-Action";
/// How long what is recorded waits when the file does not say.
const REDACTION_HORIZON: Duration = Duration::from_secs(12);
/// Keys that mean something with `guard = "auto"` only.
const AUTO_KEYS: [&str; 5] =
    ["auto_quiet_ms", "auto_number_quiet_ms", "auto_release_leading", "auto_long_quiet_ms", "auto_payment_s"];
/// Most labels of one trunk: a recording bears those of two, and its own.
const MOST_LABELS: usize = 16;
/// Codecs by their names in SDP.
const CODECS: [(&str, Codec); 4] =
    [("PCMU", Codec::Pcmu), ("PCMA", Codec::Pcma), ("G722", Codec::G722), ("opus", Codec::Opus)];
pub(super) const STAR_KEYS: &[&str] = &["begin", "end", "in_band"];

/// A trunk as read; `None` where the file is wrong.
pub(in crate::config) struct Draft<'a> {
    pub(in crate::config) table: Table<'a>,
    pub(in crate::config) name: Option<String>,
    pub(in crate::config) side: Option<Side>,
    pub(in crate::config) listener: Option<&'a str>,
    pub(in crate::config) remotes: Option<Vec<SocketAddr>>,
    pub(in crate::config) sources: Option<Vec<Network>>,
    pub(in crate::config) codecs: Option<Vec<Codec>>,
    pub(in crate::config) unmaskable: Option<Unmaskable>,
    pub(in crate::config) t38: Option<T38>,
    pub(in crate::config) guard: Option<GuardMode>,
    pub(in crate::config) recording: Option<RecordingPolicy>,
    redaction_horizon: Option<Duration>,
    labels: Option<Vec<(String, String)>>,
    pub(in crate::config) max_calls: Option<u32>,
    /// Names of SIPREC recorders, each with its place.
    pub(in crate::config) recorders: Option<Vec<(Value<'a>, &'a str)>>,
    media: Option<Vec<Network>>,
    ptime_ms: Option<u8>,
    srtp: Option<Srtp>,
    srtp_keying: Option<SrtpKeying>,
    srtp_suites: Option<Vec<SrtpSuite>>,
    rtcp_mux: Option<bool>,
    latch: Option<bool>,
    dtmf: Option<DtmfForms>,
    auto: Option<Auto>,
    mask: Option<MaskKind>,
    hold_default: Option<Duration>,
    hold_max: Option<Duration>,
    star_codes: Option<Option<StarCodes>>,
    pass_headers: Option<Vec<String>>,
    call_header: Option<Option<String>>,
    signal_header: Option<Option<String>>,
    methods: Option<Methods>,
    pub(in crate::config) link: link::Draft,
}

/// The value of an optional key: `default` when it is not there, `None` when it is wrong.
pub(super) fn or<'a, T>(
    table: &Table<'a>,
    key: &str,
    default: T,
    read: impl FnOnce(Value<'a>) -> Option<T>,
) -> Option<T> {
    match table.get(key) {
        Some(value) => read(value),
        None => Some(default),
    }
}

pub(super) fn read<'a>(table: Table<'a>, around: &Surroundings<'_>) -> Draft<'a> {
    let name = table.require("name", "\"carrier\"").and_then(|v| v.parsed(value::name));
    let sides = [("carrier", Side::Carrier), ("pbx", Side::Pbx)];
    let side = table.require("side", "\"carrier\" or \"pbx\"").and_then(|v| v.one_of(&sides));
    let listener = table.require("listener", "\"carrier-udp\"").and_then(|v| v.string());
    let targets = table.require("remotes", "[\"192.0.2.10:5060\"]").and_then(|v| targets(&v));
    let address = |target: &Remote| match target.place {
        Place::At(at) => Some(at),
        Place::Name { .. } => None,
    };
    let remotes: Option<Vec<SocketAddr>> = targets.as_ref().map(|list| list.iter().filter_map(address).collect());
    if targets.iter().flatten().any(|target| address(target).is_none()) && !table.has("sources") {
        table.fault("sources", "is missing, and needed because remotes has names; who may call us is never looked up");
    }
    let hosts = remotes.clone().map(|remotes| remotes.iter().map(|at| host(*at)).collect::<Vec<_>>());
    let sources = match table.get("sources") {
        Some(v) => some_of(&v, value::network),
        None => hosts,
    };
    let media = match table.get("media") {
        Some(v) => some_of(&v, value::network),
        None => sources.clone(),
    };
    let link = link::read(&table, around, targets);
    let seconds = |key: &str, default| or(&table, key, default, |v| v.integer(1..=86_400));
    let (hold_default_s, hold_max_s) = (seconds("hold_default_s", 300), seconds("hold_max_s", 1_800));
    if let (Some(default), Some(max)) = (hold_default_s, hold_max_s)
        && default > max
    {
        let key = if table.get("hold_default_s").is_some() { "hold_default_s" } else { "hold_max_s" };
        table.fault(key, format!("the default deadline ({default} s) is longer than hold_max_s ({max} s)"));
    }
    Draft {
        name,
        side,
        listener,
        remotes,
        sources,
        media,
        codecs: or(&table, "codecs", vec![Codec::Pcmu, Codec::Pcma], |v| codecs(&v)),
        unmaskable: or(&table, "unmaskable", Unmaskable::Strip, |v| {
            v.one_of(&[("strip", Unmaskable::Strip), ("refuse", Unmaskable::Refuse), ("pass", Unmaskable::Pass)])
        }),
        t38: or(&table, "t38", T38::Refuse, |v| v.one_of(&[("refuse", T38::Refuse), ("pass", T38::Pass)])),
        ptime_ms: or(&table, "ptime_ms", 20, |v| v.integer(10..=60).map(|ms| ms as u8)),
        srtp: or(&table, "srtp", Srtp::Off, |v| {
            v.one_of(&[("off", Srtp::Off), ("optional", Srtp::Optional), ("required", Srtp::Required)])
        }),
        srtp_keying: or(&table, "srtp_keying", SrtpKeying::Sdes, |v| keying(&table, &v)),
        srtp_suites: or(&table, "srtp_suites", SrtpSuite::USUAL.to_vec(), |v| suites_of_trunk(&table, &v)),
        rtcp_mux: or(&table, "rtcp_mux", false, |v| v.boolean()),
        latch: or(&table, "latch", false, |v| v.boolean()),
        dtmf: or(&table, "dtmf", DtmfForms { events: true, info: true }, |v| dtmf(&v)),
        guard: or(&table, "guard", GuardMode::Off, |v| {
            v.one_of(&[
                ("off", GuardMode::Off),
                ("signal", GuardMode::Signal),
                ("auto", GuardMode::Auto),
                ("always", GuardMode::Always),
            ])
        }),
        auto: auto(&table),
        mask: or(&table, "mask", MaskKind::Silence, |v| {
            v.one_of(&[
                ("silence", MaskKind::Silence),
                ("comfort-noise", MaskKind::ComfortNoise),
                ("tone", MaskKind::Tone),
                ("substitute", MaskKind::Substitute),
            ])
        }),
        hold_default: hold_default_s.map(Duration::from_secs),
        hold_max: hold_max_s.map(Duration::from_secs),
        recording: or(&table, "recording", RecordingPolicy::Off, |v| {
            v.one_of(&[
                ("off", RecordingPolicy::Off),
                ("best-effort", RecordingPolicy::BestEffort),
                ("required", RecordingPolicy::Required),
            ])
        }),
        redaction_horizon: or(&table, "redaction_horizon_s", REDACTION_HORIZON, |v| {
            if !table.has("recording") {
                v.wrong("means nothing without recording = \"best-effort\" or \"required\"");
                return None;
            }
            v.integer(0..=60).map(Duration::from_secs)
        }),
        labels: or(&table, "labels", Vec::new(), |v| labels(&v)),
        recorders: or(&table, "recorders", Vec::new(), |v| {
            let items = v.list()?;
            items.into_iter().map(|item| item.string().map(|name| (item.clone(), name))).collect()
        }),
        max_calls: or(&table, "max_calls", u32::MAX, |v| v.integer(1..=1_000_000).map(|calls| calls as u32)),
        star_codes: star_codes(&table),
        pass_headers: or(&table, "pass_headers", Vec::new(), |v| v.each(|item| item.parsed(value::passed_header))),
        call_header: or(&table, "call_header", None, |v| v.parsed(value::header).map(Some)),
        signal_header: or(&table, "signal_header", Some(SIGNAL_HEADER.to_owned()), |v| match v.string() {
            Some("") => Some(None),
            _ => v.parsed(value::header).map(Some),
        }),
        methods: methods::read(&table),
        link,
        table,
    }
}

fn auto(table: &Table<'_>) -> Option<Auto> {
    let usual = Auto::default();
    let ms =
        |key: &str, default: Duration, range| or(table, key, default, |v| v.integer(range).map(Duration::from_millis));
    let quiet = ms("auto_quiet_ms", usual.quiet, 200..=10_000);
    let number_quiet = ms("auto_number_quiet_ms", usual.number_quiet, 200..=30_000);
    let long_quiet = ms("auto_long_quiet_ms", usual.long_quiet, 0..=60_000);
    let leading = or(table, "auto_release_leading", usual.leading, |v| v.integer(0..=6).map(|keys| keys as usize));
    let payment = or(table, "auto_payment_s", usual.payment, |v| v.integer(60..=600).map(Duration::from_secs));
    if let (Some(quiet), Some(number_quiet)) = (quiet, number_quiet)
        && quiet > number_quiet
    {
        let key = if table.has("auto_number_quiet_ms") { "auto_number_quiet_ms" } else { "auto_quiet_ms" };
        let (quiet, card) = (quiet.as_millis(), number_quiet.as_millis());
        table.fault(key, format!("a number would wait less ({card} ms) than a menu choice ({quiet} ms)"));
    }
    if let (Some(number_quiet), Some(long_quiet)) = (number_quiet, long_quiet)
        && !long_quiet.is_zero()
        && long_quiet < number_quiet
    {
        let (long, number) = (long_quiet.as_millis(), number_quiet.as_millis());
        table.fault(
            "auto_long_quiet_ms",
            format!("what may be a card would wait less ({long} ms) than what is none ({number} ms)"),
        );
    }
    Some(Auto {
        quiet: quiet?,
        number_quiet: number_quiet?,
        leading: leading?,
        long_quiet: long_quiet?,
        payment: payment?,
    })
}

/// Labels, each `name=value`.
fn labels(v: &Value<'_>) -> Option<Vec<(String, String)>> {
    let labels = v.each(|item| item.parsed(value::label))?;
    if labels.len() > MOST_LABELS {
        v.wrong(format!("has {} labels; at most {MOST_LABELS} are wanted", labels.len()));
        return None;
    }
    if let Some(at) = (1..labels.len()).find(|at| labels[..*at].iter().any(|(name, _)| *name == labels[*at].0)) {
        v.wrong(format!("sets {:?} twice", labels[at].0));
        return None;
    }
    Some(labels)
}

/// The remotes, each with its place in the list.
pub(super) fn targets(v: &Value<'_>) -> Option<Vec<Remote>> {
    let items = v.list()?;
    let read = |(nth, item): (usize, &Value<'_>)| item.parsed(|text| value::target(text, nth));
    let good: Vec<Remote> = items.iter().enumerate().filter_map(read).collect();
    if items.is_empty() {
        v.wrong("is empty; at least one is wanted");
    }
    (!items.is_empty() && good.len() == items.len()).then_some(good)
}

/// A list that may not be empty.
pub(super) fn some_of<T>(v: &Value<'_>, read: impl Fn(&str) -> Result<T, String>) -> Option<Vec<T>> {
    let items = v.each(|item| item.parsed(&read))?;
    if items.is_empty() {
        v.wrong("is empty; at least one is wanted");
        return None;
    }
    Some(items)
}

pub(super) fn host(at: SocketAddr) -> Network {
    Network { address: at.ip(), prefix: if at.is_ipv4() { 32 } else { 128 } }
}

fn codecs(v: &Value<'_>) -> Option<Vec<Codec>> {
    let codecs = v.each(|item| item.one_of(&CODECS))?;
    if codecs.is_empty() {
        v.wrong("is empty; at least one of \"PCMU\", \"PCMA\", \"G722\", \"opus\" is wanted");
        return None;
    }
    if (1..codecs.len()).any(|at| codecs[..at].contains(&codecs[at])) {
        v.wrong("names a codec twice");
        return None;
    }
    Some(codecs)
}

fn keying(table: &Table<'_>, v: &Value<'_>) -> Option<SrtpKeying> {
    let keying = v.one_of(&[("sdes", SrtpKeying::Sdes), ("dtls", SrtpKeying::Dtls)])?;
    if !table.has("srtp") {
        v.wrong("means nothing without srtp = \"optional\" or \"required\"");
        return None;
    }
    if keying == SrtpKeying::Dtls && table.has("srtp_suites") {
        v.wrong("leaves the choice of a suite to the handshake, so srtp_suites means nothing");
        return None;
    }
    Some(keying)
}

fn suites_of_trunk(table: &Table<'_>, v: &Value<'_>) -> Option<Vec<SrtpSuite>> {
    let suites = suites(v)?;
    if !table.has("srtp") {
        v.wrong("means nothing without srtp = \"optional\" or \"required\"");
        return None;
    }
    Some(suites)
}

pub(super) fn suites(v: &Value<'_>) -> Option<Vec<SrtpSuite>> {
    let suites = v.each(|item| item.one_of(&SrtpSuite::ALL.map(|suite| (suite.name(), suite))))?;
    if suites.is_empty() {
        v.wrong("is empty; at least \"AES_CM_128_HMAC_SHA1_80\" is wanted");
        return None;
    }
    if (1..suites.len()).any(|at| suites[..at].contains(&suites[at])) {
        v.wrong("names a cipher suite twice");
        return None;
    }
    Some(suites)
}

fn dtmf(v: &Value<'_>) -> Option<DtmfForms> {
    let forms = v.each(|item| item.one_of(&[("events", "events"), ("info", "info")]))?;
    Some(DtmfForms { events: forms.contains(&"events"), info: forms.contains(&"info") })
}

fn star_codes(trunk: &Table<'_>) -> Option<Option<StarCodes>> {
    let table = trunk.child("star_codes", "trunk[].star_codes");
    if !table.is_there() {
        return Some(None);
    }
    let text = |key, example| table.require(key, example).and_then(|v| v.string());
    let (begin, end) = (text("begin", "\"*71\""), text("end", "\"*72\""));
    let keys = |key| table.get(key).and_then(|v| v.parsed(value::star_code));
    let both = (keys("begin"), keys("end"));
    if let (Some(begin), Some(end)) = (begin, end)
        && (begin.starts_with(end) || end.starts_with(begin))
    {
        table.fault("end", "begins like the other code, so one of them could never be keyed");
    }
    let in_band = or(&table, "in_band", false, |v| v.boolean())?;
    Some(Some(StarCodes { begin: both.0?, end: both.1?, in_band }))
}

impl Draft<'_> {
    /// Whether requests may come from any address.
    pub(in crate::config) fn everywhere(&self) -> bool {
        self.sources.iter().flatten().any(|network| network.prefix == 0)
    }

    /// The first key that only `guard = "auto"` would read.
    pub(in crate::config) fn auto_key(&self) -> Option<&'static str> {
        AUTO_KEYS.into_iter().find(|key| self.table.has(key))
    }

    /// The trunk, on the listener its name was found to be.
    pub(super) fn finish(
        &self,
        listener: Option<ListenerId>,
        recorders: Vec<RecorderId>,
        node_calls: u32,
    ) -> Option<Trunk> {
        Some(Trunk {
            name: self.name.clone()?,
            side: self.side?,
            listener: listener?,
            remotes: self.remotes.clone()?,
            sources: self.sources.clone()?,
            media: self.media.clone()?,
            codecs: self.codecs.clone()?,
            unmaskable: self.unmaskable?,
            t38: self.t38?,
            ptime_ms: self.ptime_ms?,
            srtp: self.srtp?,
            srtp_keying: self.srtp_keying?,
            srtp_suites: self.srtp_suites.clone()?,
            rtcp_mux: self.rtcp_mux?,
            latch: self.latch?,
            dtmf: self.dtmf?,
            guard: self.guard?,
            auto: self.auto?,
            mask: self.mask?,
            hold_default: self.hold_default?,
            hold_max: self.hold_max?,
            recording: self.recording?,
            redaction_horizon: self.redaction_horizon?,
            labels: self.labels.clone()?,
            recorders,
            max_calls: self.max_calls?.min(node_calls),
            star_codes: self.star_codes.clone()?,
            pass_headers: self.pass_headers.clone()?,
            call_header: self.call_header.clone()?,
            signal_header: self.signal_header.clone()?,
            methods: self.methods.clone()?,
            link: self.link.finish()?,
        })
    }
}
