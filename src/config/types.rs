//! The checked configuration. What stands here is valid: names resolve, ranges are sane, addresses parse.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use arrayvec::ArrayString;
use serde::{Deserialize, Serialize};

use super::srtp::{Srtp, SrtpKeying, SrtpSuite};
use super::{
    Audit, Bounds, Canary, Connector, Keys, Link, ListenerOptions, MediaPlace, Methods, Numbers, Recorder, RecorderId,
    Storage, Webhooks,
};
use crate::base::secret::Digit;

/// The whole configuration of a node.
#[derive(Debug, Clone)]
pub struct Config {
    /// `[node]`.
    pub node: Node,
    /// `[[listener]]`: where SIP is heard.
    pub listeners: Vec<Listener>,
    /// `[media]`.
    pub media: Media,
    /// `[[trunk]]`: the configured SIP peers. Indexed by [`TrunkId`]. Those of the recorders follow at the end.
    pub trunks: Vec<Trunk>,
    /// `[[recorder]]`: SIPREC recording servers. Indexed by [`RecorderId`].
    pub recorders: Vec<Recorder>,
    /// `[[route]]`, first match wins.
    pub routes: Vec<Route>,
    /// `[control]`: the HTTP API; `None` when the section is absent.
    pub control: Option<Control>,
    /// `[webhooks]`: who is told of events.
    pub webhooks: Webhooks,
    /// `[storage]`.
    pub storage: Storage,
    /// `[[connector]]`: payment service providers, the first one the default; the built-in sandbox where the file names
    /// none. Never empty in a file's configuration.
    pub connectors: Vec<Connector>,
    /// `[payments]`.
    pub payments: Payments,
    /// `[keys]`: key-encryption keys for recordings.
    pub keys: Keys,
    /// What the node bears (`[node]`), and whom it asks for names (`[dns]`).
    pub bounds: Bounds,
    /// `[log]`.
    pub log: Log,
    /// `[audit]`: the audit log; `None` when the section is absent.
    pub audit: Option<Audit>,
    /// `[canary]`: calls the node places to itself; `None` when the section is absent.
    pub canary: Option<Canary>,
    /// SHA-256 of the text it was read from.
    pub fingerprint: [u8; 32],
}

impl Config {
    /// The UDP listeners whose large requests go out by TCP.
    pub fn large_by_tcp(&self) -> Vec<ListenerId> {
        let by_tcp = |listener: &Listener| listener.transport == Transport::Udp && listener.options.tcp;
        (0..self.listeners.len()).filter(|at| by_tcp(&self.listeners[*at])).map(ListenerId).collect()
    }

    /// Whether sealed files are written: a trunk records, or a recorder's sound is kept while it is away.
    pub fn seals(&self) -> bool {
        let records = |trunk: &Trunk| trunk.recording != RecordingPolicy::Off;
        self.trunks.iter().any(records)
            || self.recorders.iter().any(|recorder| recorder.spill || recorder.forward_sessions > 0)
    }

    /// Where the media of a trunk is taken.
    pub fn media_of(&self, trunk: TrunkId) -> MediaPlace {
        let usual = MediaPlace { address: self.media.address, advertise: self.media.advertise };
        let listener = self.trunks.get(trunk.0).and_then(|trunk| self.listeners.get(trunk.listener.0));
        listener.and_then(|listener| listener.options.media).unwrap_or(usual)
    }
}

/// Index into [`Config::trunks`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrunkId(pub usize);

/// Index into [`Config::listeners`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerId(pub usize);

/// `[node]`.
#[derive(Debug, Clone)]
pub struct Node {
    /// The node's name in logs, events and the `Server` / `User-Agent` header.
    pub name: String,
    /// Most calls at once on the node; further ones get 503 with Retry-After.
    pub max_calls: u32,
}

/// SIP transport of a listener or a remote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// RFC 3261 section 18 over UDP.
    Udp,
    /// RFC 3261 section 18 over TCP.
    Tcp,
    /// RFC 3261 section 18 over TLS on TCP.
    Tls,
}

impl Transport {
    /// Its word in Via and in log lines.
    pub const fn name(self) -> &'static str {
        match self {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
            Transport::Tls => "TLS",
        }
    }

    /// Whether messages go over connections.
    pub const fn is_stream(self) -> bool {
        !matches!(self, Transport::Udp)
    }
}

/// `[[listener]]`: one SIP socket.
#[derive(Debug, Clone)]
pub struct Listener {
    /// Name used by trunks.
    pub name: String,
    /// Transport.
    pub transport: Transport,
    /// Address and port to bind.
    pub address: SocketAddr,
    /// Address and port written into Via and Contact; the bound one by default.
    pub advertise: SocketAddr,
    /// The rest of its transport.
    pub options: ListenerOptions,
}

/// `[media]`: RTP addresses.
#[derive(Debug, Clone)]
pub struct Media {
    /// Address to bind RTP and RTCP sockets on.
    pub address: IpAddr,
    /// Address written into SDP; the bound one by default.
    pub advertise: IpAddr,
    /// First and last UDP port, inclusive; RTP on even ports, RTCP on the next odd one.
    pub ports: (u16, u16),
    /// Media worker threads; 0 is one per core.
    pub workers: usize,
    /// No RTP from either side for this long (and no hold) ends the call.
    pub inactivity: Duration,
    /// How long a port rests after a call before another may have it.
    pub port_quarantine: Duration,
}

/// Which side of Tonewall a trunk is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// Customers.
    Carrier,
    /// Agents.
    Pbx,
    /// Recording servers: no call comes from there or goes there.
    Recorder,
}

/// Guard policy of a trunk's calls (docs/guard.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GuardMode {
    /// Relay only; digits pass.
    Off,
    /// Digits pass until a mask hold is taken.
    Signal,
    /// Every customer digit is withheld; what is no card is sent on after a quiet time.
    Auto,
    /// Every customer digit is masked for the whole call.
    Always,
}

/// How patient `guard = "auto"` is (`guard::classify` says why).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Auto {
    /// Quiet time after a single key that begins no card.
    pub quiet: Duration,
    /// Quiet time after the last key of a number; not shorter than `quiet`.
    pub number_quiet: Duration,
    /// How many first digits of a card may be released after `quiet` already, 0–6.
    pub leading: usize,
    /// Quiet time after which a number that could still become a card is released all the same, where no printed group
    /// of a card ends with it; zero: never.
    pub long_quiet: Duration,
    /// Quiet time after which a payment is over; at least a minute.
    pub payment: Duration,
}

impl Default for Auto {
    fn default() -> Self {
        Self {
            quiet: Duration::from_millis(1_200),
            number_quiet: Duration::from_secs(4),
            leading: 0,
            long_quiet: Duration::ZERO,
            payment: Duration::from_secs(60),
        }
    }
}

/// What a sink hears instead of a digit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MaskKind {
    /// Digital silence.
    Silence,
    /// Noise matched to the line's level.
    ComfortNoise,
    /// One flat tone, the same for every key.
    Tone,
    /// The same fixed RFC 4733 event for every key where the leg has events, the flat tone elsewhere.
    Substitute,
}

/// Recording policy of a trunk's calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecordingPolicy {
    /// No recording.
    Off,
    /// Record; a recorder fault raises an alarm and the call goes on.
    BestEffort,
    /// Record; a call that cannot be recorded is refused or ended.
    Required,
}

/// An audio codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// G.711 µ-law, static payload type 0 (RFC 3551).
    Pcmu,
    /// G.711 A-law, static payload type 8 (RFC 3551).
    Pcma,
    /// G.722 at 64 kbit/s, static payload type 9 with an RTP clock of 8 kHz though its audio is 16 kHz (RFC 3551).
    G722,
    /// Opus (RFC 7587), always a dynamic payload type, RTP clock 48 kHz.
    Opus,
    /// One that Tonewall can pass but neither hear nor mask.
    Foreign(Foreign),
}

/// A codec known by name only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Foreign {
    name: ArrayString<15>,
    clock_rate: u32,
    channels: u8,
}

impl Foreign {
    /// A codec by its encoding name, RTP clock rate in Hz and channels; `None` when the name is no short token.
    pub fn new(name: &str, clock_rate: u32, channels: u32) -> Option<Self> {
        let is_token = |c: char| c.is_ascii_alphanumeric() || "-_.+".contains(c);
        let name = ArrayString::from(&name.to_ascii_uppercase()).ok().filter(|name| name.chars().all(is_token))?;
        let channels = u8::try_from(channels).ok().filter(|channels| (1..=8).contains(channels))?;
        (!name.is_empty() && (1_000..=192_000).contains(&clock_rate)).then_some(Self { name, clock_rate, channels })
    }
}

impl Codec {
    /// RTP clock rate in Hz.
    pub const fn clock_rate(self) -> u32 {
        match self {
            Codec::Pcmu | Codec::Pcma | Codec::G722 => 8_000,
            Codec::Opus => 48_000,
            Codec::Foreign(foreign) => foreign.clock_rate,
        }
    }

    /// Channels as SDP declares them.
    pub const fn channels(self) -> u32 {
        match self {
            Codec::Pcmu | Codec::Pcma | Codec::G722 => 1,
            // Whatever it carries (RFC 7587 section 4.1).
            Codec::Opus => 2,
            Codec::Foreign(foreign) => foreign.channels as u32,
        }
    }

    /// The encoding name of SDP (RFC 3551, RFC 7587).
    pub fn name(&self) -> &str {
        match self {
            Codec::Pcmu => "PCMU",
            Codec::Pcma => "PCMA",
            Codec::G722 => "G722",
            Codec::Opus => "opus",
            Codec::Foreign(foreign) => &foreign.name,
        }
    }

    /// Whether it can be heard and masked.
    pub const fn can_be_masked(self) -> bool {
        !matches!(self, Codec::Foreign(_))
    }

    /// Whether it carries 16 kHz audio, and keeps state from packet to packet.
    pub const fn is_wide(self) -> bool {
        matches!(self, Codec::G722 | Codec::Opus)
    }
}

/// What happens to codecs that cannot be masked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unmaskable {
    /// They are taken out of the offer; a call that has no other is refused.
    Strip,
    /// An offer that names one is refused.
    Refuse,
    /// They pass, unguarded, where nothing is to be guarded: with `guard = "off"` or `"signal"` and no hold in force.
    Pass,
}

/// What happens to fax (T.38) that is offered in place of the audio.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum T38 {
    /// It is refused; the audio goes on.
    Refuse,
    /// Its datagrams pass as they come where both trunks say so, and only while no mask is in force.
    Pass,
}

/// How digits travel on a trunk besides in-band tones. All detectors run whatever stands here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DtmfForms {
    /// Offer and accept RFC 4733 telephone-event.
    pub events: bool,
    /// Accept SIP INFO with `application/dtmf-relay` or `application/dtmf`.
    pub info: bool,
}

/// A CIDR block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// Network address.
    pub address: IpAddr,
    /// Prefix length in bits.
    pub prefix: u8,
}

impl Network {
    /// Whether `ip` lies in the block. IPv4-mapped IPv6 addresses count as IPv4.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.address, ip.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                u32::from(net) & mask == u32::from(ip) & mask
            }
            (IpAddr::V6(net), IpAddr::V6(ip)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                u128::from(net) & mask == u128::from(ip) & mask
            }
            _ => false,
        }
    }
}

/// `[[trunk]]`: a configured SIP peer.
#[derive(Debug, Clone)]
pub struct Trunk {
    /// Name used by routes, logs and the API.
    pub name: String,
    /// Carrier or PBX side.
    pub side: Side,
    /// The listener requests to this trunk leave from and are expected on.
    pub listener: ListenerId,
    /// Addresses where requests go, tried in order unless `link.targets` says more. Names are added when they are found.
    pub remotes: Vec<SocketAddr>,
    /// Where requests may come from.
    pub sources: Vec<Network>,
    /// Where SDP may point media to (threats R15).
    pub media: Vec<Network>,
    /// Codecs offered and accepted, in order of preference.
    pub codecs: Vec<Codec>,
    /// What happens to codecs that cannot be masked.
    pub unmaskable: Unmaskable,
    /// What happens to fax in place of the audio.
    pub t38: T38,
    /// Packet time asked for in milliseconds, 10–60.
    pub ptime_ms: u8,
    /// Whether media is encrypted.
    pub srtp: Srtp,
    /// How keys are agreed.
    pub srtp_keying: SrtpKeying,
    /// Cipher suites offered and accepted with [`SrtpKeying::Sdes`], in order of preference.
    pub srtp_suites: Vec<SrtpSuite>,
    /// Offer RTP and RTCP on one port (RFC 5761); accepted from a peer that offers it in any case.
    pub rtcp_mux: bool,
    /// Learn a peer's media address from its packets when it is not the signalled one (threats R1).
    pub latch: bool,
    /// Digit forms.
    pub dtmf: DtmfForms,
    /// Guard policy. On a call the carrier trunk's policy rules.
    pub guard: GuardMode,
    /// How `guard = "auto"` decides.
    pub auto: Auto,
    /// Mask of guarded stretches.
    pub mask: MaskKind,
    /// Deadline of a hold whose taker names none.
    pub hold_default: Duration,
    /// Longest deadline a taker may ask for.
    pub hold_max: Duration,
    /// Recording policy.
    pub recording: RecordingPolicy,
    /// How long what is recorded waits in locked memory before it is sealed, so that a card recognised late can still
    /// be taken out.
    pub redaction_horizon: Duration,
    /// Labels that recordings of its calls bear from their beginning.
    pub labels: Vec<(String, String)>,
    /// SIPREC recorders that get the masked sound of its calls.
    pub recorders: Vec<RecorderId>,
    /// Most calls at once on this trunk.
    pub max_calls: u32,
    /// Star codes keyed on this (PBX) trunk.
    pub star_codes: Option<StarCodes>,
    /// Header by which this (PBX) trunk's peer takes and releases holds; `None`: none does.
    pub signal_header: Option<String>,
    /// Header names copied from one leg's INVITE to the other, besides the ones Tonewall always handles.
    pub pass_headers: Vec<String>,
    /// Header whose value names the call for the API (for instance `X-Call-Ref`).
    pub call_header: Option<String>,
    /// SIP extensions.
    pub methods: Methods,
    /// How the peer is reached and known beyond its address.
    pub link: Link,
}

/// Agent star codes, never passed to the customer.
#[derive(Clone)]
pub struct StarCodes {
    /// Takes a mask and a recording-pause hold.
    pub begin: Vec<Digit>,
    /// Releases the agent's holds.
    pub end: Vec<Digit>,
    /// Hear the codes as in-band tones too; adds one packet of delay to the agent's speech.
    pub in_band: bool,
}

impl std::fmt::Debug for StarCodes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StarCodes").field("in_band", &self.in_band).finish_non_exhaustive()
    }
}

/// `[[route]]`: from which trunk, to which trunks.
#[derive(Debug, Clone)]
pub struct Route {
    /// The trunk a call comes in on.
    pub from: TrunkId,
    /// User-part prefix the Request-URI must have; empty matches all.
    pub prefix: String,
    /// Trunks tried in order.
    pub to: Vec<TrunkId>,
    /// What becomes of the numbers.
    pub numbers: Numbers,
}

/// `[control]`: the HTTP API.
#[derive(Debug, Clone)]
pub struct Control {
    /// Address and port to bind.
    pub address: SocketAddr,
    /// API keys.
    pub keys: Vec<ApiKey>,
    /// Web origins that may show the payment panel in a frame, for instance `https://crm.example.com`.
    pub panel_origins: Vec<String>,
}

/// Role of an API key; deny by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything.
    Admin,
    /// See calls, take and release holds, start collections, see events.
    Supervisor,
    /// As supervisor, for CRM back ends: owns its holds.
    Integration,
    /// See calls and masked progress; take and release its own holds.
    Agent,
    /// See calls, events and recordings; change nothing.
    Auditor,
}

/// One API key. The key text itself is never kept.
#[derive(Clone)]
pub struct ApiKey {
    /// Who holds the key; shown as hold owner and in events.
    pub name: String,
    /// Role.
    pub role: Role,
    /// SHA-256 of the key text.
    pub sha256: [u8; 32],
}

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiKey").field("name", &self.name).field("role", &self.role).finish_non_exhaustive()
    }
}

/// `[payments]`: what all payments have in common.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Payments {
    /// Whether the last digits of accepted card and account numbers are shown.
    pub last_digits: bool,
}

/// `[log]`.
#[derive(Debug, Clone)]
pub struct Log {
    /// Least severity printed.
    pub level: LogLevel,
    /// JSON lines or text.
    pub json: bool,
}

/// Log severity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Errors only.
    Error,
    /// And warnings.
    Warn,
    /// And one line per call event.
    Info,
    /// And SIP transactions, without bodies.
    Debug,
}
