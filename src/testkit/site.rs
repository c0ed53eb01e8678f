//! Configurations of small sites: one PBX, some carrier trunks, loopback or simulated addresses. What the simulation,
//! the demo and the tests run Tonewall with. Plain values in, a checked [`Config`] out.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::base::secret::Digit;
use crate::config::{
    ApiKey, Codec, Config, Control, DtmfForms, GuardMode, KekRef, Keys, Link, Listener, ListenerId, ListenerOptions,
    Log, LogLevel, MaskKind, Media, Methods, Network, Node, Numbers, RecordingPolicy, Role, Route, Side, Srtp,
    SrtpKeying, SrtpSuite, StarCodes, Storage, T38, Transport, Trunk, TrunkId, Unmaskable,
};

/// A carrier trunk of a site; it has its own listener.
#[derive(Debug, Clone)]
pub struct Carrier {
    /// Trunk name.
    pub name: String,
    /// Where Tonewall hears it.
    pub listener: SocketAddr,
    /// Where it is.
    pub remote: SocketAddr,
    /// Guard policy.
    pub guard: GuardMode,
    /// Mask.
    pub mask: MaskKind,
    /// Recording policy.
    pub recording: RecordingPolicy,
    /// Codecs.
    pub codecs: Vec<Codec>,
}

/// An API key of a site, with its text.
#[derive(Clone)]
pub struct Key {
    /// Whose it is.
    pub name: String,
    /// Role.
    pub role: Role,
    /// What is sent as the bearer token.
    pub text: String,
}

/// A site: carriers on one side, one PBX on the other.
#[derive(Clone)]
pub struct Site {
    /// Carrier trunks.
    pub carriers: Vec<Carrier>,
    /// Where Tonewall hears the PBX.
    pub pbx_listener: SocketAddr,
    /// Where the PBX is.
    pub pbx: SocketAddr,
    /// Codecs of the PBX trunk.
    pub pbx_codecs: Vec<Codec>,
    /// What happens to codecs that cannot be masked, on both sides.
    pub unmaskable: Unmaskable,
    /// Digit forms on both sides.
    pub dtmf: DtmfForms,
    /// Methods and extensions of every trunk.
    pub methods: Methods,
    /// Agent star codes.
    pub star_codes: Option<StarCodes>,
    /// Media address.
    pub media: IpAddr,
    /// Media ports.
    pub ports: (u16, u16),
    /// Media inactivity.
    pub inactivity: Duration,
    /// HTTP address and API keys.
    pub control: Option<(SocketAddr, Vec<Key>)>,
    /// Where recordings go.
    pub recordings: PathBuf,
    /// Who is told of events.
    pub webhooks: crate::config::Webhooks,
    /// The current key-encryption key.
    pub kek: Option<KekRef>,
    /// Most calls at once.
    pub max_calls: u32,
    /// Log level.
    pub log: LogLevel,
    /// The audit log; none unless a test wants one.
    pub audit: Option<crate::config::Audit>,
    /// Calls the node places to itself; none unless a test wants them.
    pub canary: Option<crate::config::Canary>,
}

impl Site {
    /// A site with one carrier trunk: both G.711 laws, all digit forms, guard by signal, silence as mask, no recording,
    /// no HTTP.
    pub fn new(carrier_listener: SocketAddr, carrier: SocketAddr, pbx_listener: SocketAddr, pbx: SocketAddr) -> Self {
        Self {
            carriers: vec![Carrier {
                name: "carrier".to_owned(),
                listener: carrier_listener,
                remote: carrier,
                guard: GuardMode::Signal,
                mask: MaskKind::Silence,
                recording: RecordingPolicy::Off,
                codecs: vec![Codec::Pcmu, Codec::Pcma],
            }],
            pbx_listener,
            pbx,
            pbx_codecs: vec![Codec::Pcmu, Codec::Pcma],
            unmaskable: Unmaskable::Strip,
            dtmf: DtmfForms { events: true, info: true },
            methods: Methods::default(),
            star_codes: None,
            media: pbx_listener.ip(),
            ports: (20_000, 29_999),
            inactivity: Duration::from_secs(60),
            control: None,
            recordings: PathBuf::new(),
            webhooks: crate::config::Webhooks::default(),
            kek: None,
            max_calls: 1_000,
            log: LogLevel::Info,
            audit: None,
            canary: None,
        }
    }

    /// Changes every carrier trunk.
    #[must_use]
    pub fn carriers(mut self, change: impl Fn(&mut Carrier)) -> Self {
        self.carriers.iter_mut().for_each(change);
        self
    }

    /// Agents' star codes `begin` and `end`, in all forms.
    #[must_use]
    pub fn star_codes(mut self, begin: &str, end: &str) -> Self {
        let keys = |text: &str| text.chars().filter_map(Digit::from_char).collect();
        self.star_codes = Some(StarCodes { begin: keys(begin), end: keys(end), in_band: true });
        self
    }

    /// The configuration: listeners and trunks of the carriers in order, the PBX's last.
    pub fn config(&self) -> Config {
        let everyone = |peer: SocketAddr| Network { address: peer.ip(), prefix: if peer.is_ipv4() { 32 } else { 128 } };
        let listener = |name: &str, address| Listener {
            name: name.to_owned(),
            transport: Transport::Udp,
            address,
            advertise: address,
            options: ListenerOptions::default(),
        };
        let pbx = TrunkId(self.carriers.len());
        let trunk = |name: &str, side, at, remote: SocketAddr, codecs: &[Codec]| Trunk {
            name: name.to_owned(),
            side,
            listener: ListenerId(at),
            remotes: vec![remote],
            sources: vec![everyone(remote)],
            media: vec![everyone(remote)],
            codecs: codecs.to_vec(),
            unmaskable: self.unmaskable,
            t38: T38::Refuse,
            ptime_ms: 20,
            srtp: Srtp::Off,
            srtp_keying: SrtpKeying::Sdes,
            srtp_suites: SrtpSuite::USUAL.to_vec(),
            rtcp_mux: false,
            latch: false,
            dtmf: self.dtmf,
            guard: GuardMode::Off,
            auto: crate::config::Auto::default(),
            mask: MaskKind::Silence,
            hold_default: Duration::from_secs(60),
            hold_max: Duration::from_secs(600),
            recording: RecordingPolicy::Off,
            redaction_horizon: Duration::from_secs(12),
            labels: Vec::new(),
            recorders: Vec::new(),
            max_calls: self.max_calls,
            star_codes: None,
            pass_headers: vec!["X-Call-Ref".to_owned()],
            methods: self.methods.clone(),
            call_header: Some("X-Call-Ref".to_owned()),
            signal_header: Some("X-AC-Action".to_owned()),
            link: Link::default(),
        };
        let mut listeners = Vec::new();
        let mut trunks = Vec::new();
        let mut routes = Vec::new();
        for (at, carrier) in self.carriers.iter().enumerate() {
            listeners.push(listener(&carrier.name, carrier.listener));
            let common = trunk(&carrier.name, Side::Carrier, at, carrier.remote, &carrier.codecs);
            let (guard, mask, recording) = (carrier.guard, carrier.mask, carrier.recording);
            trunks.push(Trunk { guard, mask, recording, ..common });
            routes.push(Route { from: TrunkId(at), prefix: String::new(), to: vec![pbx], numbers: Numbers::default() });
        }
        listeners.push(listener("pbx", self.pbx_listener));
        let common = trunk("pbx", Side::Pbx, self.carriers.len(), self.pbx, &self.pbx_codecs);
        trunks.push(Trunk { star_codes: self.star_codes.clone(), ..common });
        routes.push(Route { from: pbx, prefix: String::new(), to: vec![TrunkId(0)], numbers: Numbers::default() });
        Config {
            node: Node { name: "tonewall".to_owned(), max_calls: self.max_calls },
            listeners,
            media: Media {
                address: self.media,
                advertise: self.media,
                ports: self.ports,
                workers: 1,
                inactivity: self.inactivity,
                port_quarantine: Duration::from_secs(2),
            },
            trunks,
            recorders: Vec::new(),
            routes,
            control: self.control.as_ref().map(|(address, keys)| Control {
                address: *address,
                keys: keys.iter().map(api_key).collect(),
                panel_origins: Vec::new(),
            }),
            webhooks: self.webhooks.clone(),
            storage: Storage::local(self.recordings.clone(), self.recordings.join("payments.db")),
            connectors: vec![crate::config::sandbox()],
            payments: crate::config::Payments::default(),
            keys: Keys { current: self.kek.clone(), old: Vec::new() },
            bounds: crate::config::Bounds::default(),
            log: Log { level: self.log, json: true },
            audit: self.audit.clone(),
            canary: self.canary.clone(),
            fingerprint: [0; 32],
        }
    }
}

fn api_key(key: &Key) -> ApiKey {
    ApiKey { name: key.name.clone(), role: key.role, sha256: Sha256::digest(key.text.as_bytes()).into() }
}
