//! A whole node: opens what the configuration names, starts the engine task, the media workers, the recorder thread and
//! the HTTP server, and ends them in order. `tonewall run`, the demo and the tests all start a node here.

mod calls;

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use rand::{SeedableRng, TryRng};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::alarms::Watch;
use super::audit::{self, AuditError, Log};
use super::canary::{Around, Bird, Booth};
use super::catalogue::Catalogue;
use super::engine::{Driver, Inputs, Stop};
use super::forward::{self, Forward};
use super::kept;
use super::keys::Keys;
use super::media::Workers;
use super::psp::{Psp, PspError, Reload, keeps};
use super::recorder::{Failure, HELD_BYTES, QUEUE_BLOCKS, Settings, wall};
use super::recordings::Shelf;
use super::resolve::Resolve;
use super::sip::tls::FileFault;
use super::sip::{Certificates, ListenError, SipSockets};
use super::taps::Taps;
use super::vault::{Rounds, Vault, VaultError};
use super::webhooks::{self, WebhookError};
use super::{answers, identity};
use crate::audit::Audit;
use crate::base::Random;
use crate::call::Engine;
use crate::capture::Recipient;
use crate::config::{Config, Srtp, SrtpKeying, Trunk};
use crate::control::access::Access;
use crate::control::alarms::Board;
use crate::control::answers::Answers;
use crate::control::history::{History, KEPT};
use crate::control::{Parts, router};
use crate::obs::alarm::AlarmKind;
use crate::obs::metrics::Metrics;
use crate::web;

pub use calls::Calls;

/// Signals waiting for the engine; more, and API callers are told to come back.
const SIGNALS: usize = 1024;

/// What the alarm of the audit log is of.
const LOG: &str = "log";

/// How often what is due of recordings is done.
const ROUNDS: Duration = Duration::from_secs(5);

/// What could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A SIP listener.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The HTTP API.
    #[error("[control] address {address}: cannot listen: {error}")]
    Control {
        /// Address of the configuration.
        address: SocketAddr,
        /// Why.
        error: std::io::Error,
    },
    /// A trunk records and there is no key to seal with.
    #[error("[keys]: a trunk records, but there is no current key")]
    NoKey,
    /// The recordings directory or its thread.
    #[error("[storage] recordings: {0}")]
    Recorder(#[from] Failure),
    /// The canary's own sockets.
    #[error("[canary]: {0}")]
    Canary(std::io::Error),
    /// The catalogue of recordings, or the object store they go to.
    #[error("[storage] {0}")]
    Vault(#[from] VaultError),
    /// Webhooks.
    #[error(transparent)]
    Webhooks(#[from] WebhookError),
    /// The connectors, or the store of payments.
    #[error(transparent)]
    Payments(#[from] PspError),
    /// The audit log.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// A media worker thread.
    #[error("media workers cannot start: {0}")]
    Media(std::io::Error),
    /// The operating system's random source.
    #[error("no random seed from the operating system: {0}")]
    Random(String),
    /// The certificate for DTLS handshakes of media.
    #[error("no certificate can be made for srtp_keying = \"dtls\": {0}")]
    Certificate(#[from] rcgen::Error),
}

/// What a node is started with.
pub struct Options {
    /// Checked configuration.
    pub config: Config,
    /// Key-encryption keys, fetched from where the configuration says they are.
    pub keys: Arc<Keys>,
    /// Who gets collected digits.
    pub recipient: Box<dyn Recipient>,
    /// What the page shows of a running demo; `None` outside one.
    pub demo: Option<web::Source>,
}

/// A running node. Dropping it ends the node at once.
pub struct Node {
    calls: Calls,
    history: Arc<History>,
    board: Arc<Board>,
    stop: watch::Sender<Stop>,
    engine: JoinHandle<()>,
    postman: JoinHandle<()>,
    watch: JoinHandle<()>,
    http: Option<Http>,
    listeners: Vec<SocketAddr>,
    certificates: Certificates,
    metrics: Arc<Metrics>,
    audit: Audit,
    /// Ends last: what ends before it is still noted.
    log: Option<Log>,
    vault: Option<Arc<Vault>>,
    /// Ends with the node, after the recording it is at.
    _rounds: Option<Rounds>,
    keys: Arc<Keys>,
    connectors: Connectors,
    canary: Option<Bird>,
}

/// Changes the connectors of a running node. Cheap to clone.
#[derive(Clone)]
pub struct Connectors {
    gateway: Option<Reload>,
    names: mpsc::UnboundedSender<(Vec<String>, bool)>,
}

impl Connectors {
    /// Takes the connectors of `config`, and whether last digits may be shown, for what begins from now on. What is under
    /// way keeps the connector it began with.
    ///
    /// # Errors
    /// What cannot be used; nothing has changed then.
    pub fn reload(&self, config: &Config) -> Result<(), FileFault> {
        let Some(gateway) = &self.gateway else { return Ok(()) };
        // The gateway first: whoever begins a payment by a new name finds it there.
        if gateway.connectors(config)? {
            let _ = self.names.send((names(config), config.payments.last_digits));
        }
        Ok(())
    }
}

/// The running HTTP server.
struct Http {
    address: SocketAddr,
    task: JoinHandle<()>,
    stop: watch::Sender<bool>,
}

impl Http {
    async fn start(address: SocketAddr, router: Router) -> Result<Self, StartError> {
        let failed = |error| StartError::Control { address, error };
        let listener = tokio::net::TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(super::http::serve(listener, router, stopped));
        Ok(Self { address, task, stop })
    }

    /// Lets requests in flight end, within the server's patience.
    async fn end(self) {
        let _ = self.stop.send(true);
        let _ = self.task.await;
    }
}

impl Node {
    /// Opens everything and starts. Must be called inside a tokio runtime; nothing is left open on an error.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        Self::start_as(options, false).await
    }

    /// Starts a node that has nothing but its canary: no trunk, API, webhook or provider of the configuration.
    ///
    /// # Errors
    /// As [`Node::start`].
    pub async fn start_for_canary(options: Options) -> Result<Self, StartError> {
        Self::start_as(options, true).await
    }

    async fn start_as(options: Options, alone: bool) -> Result<Self, StartError> {
        let Options { mut config, keys, recipient, demo } = options;
        let booth = Booth::open(&mut config, alone, &mut random()?).await.map_err(StartError::Canary)?;
        let sockets = SipSockets::open(&mut config)?;
        let metrics = Arc::new(Metrics::new());
        let history = History::new(wall(), KEPT, metrics.clone());
        let board = Board::new(history.clone(), metrics.clone(), wall);
        let log = audit_log(&config, &board)?;
        let audit = log.as_ref().map_or_else(Audit::off, Log::audit);
        if audit.is_on() {
            tokio::spawn(audit::follow_others(history.read(None, None), audit.clone()));
        }
        let (signals, signals_rx) = mpsc::channel(SIGNALS);
        let (media_tx, media) = mpsc::unbounded_channel();
        let (reports_tx, reports) = mpsc::unbounded_channel();
        let (payments_tx, payments) = mpsc::unbounded_channel();
        // The engine is gone only when the node is; then nobody waits for an answer any more.
        let gateway = Psp::start(&config, move |answer| drop(payments_tx.send(answer)))?;
        let (names_tx, connectors_rx) = mpsc::unbounded_channel();
        for (payment, connector) in gateway.left() {
            // Its own event went with the process that told it.
            let detail = format!("{connector} has not said whether it was charged before this start");
            board.raise(AlarmKind::PaymentUnknown, &payment.to_string(), &detail);
        }
        let changing = Connectors { gateway: gateway.reload(), names: names_tx };
        let (stop, stop_rx) = watch::channel(Stop::No);

        let (forward_tx, forward_rx) = std::sync::mpsc::channel();
        let clean = forward_tx.clone();
        // Nobody hears it where nothing is forwarded.
        let kept = kept::open(&config, &keys, &history, move |it| drop(clean.send(forward::Order::Clean(it))))?;
        let vault = kept.as_ref().map(|(vault, _)| vault.clone());
        let rescan = kept.as_ref().map(|(_, rescan)| rescan.desk());
        let catalogue = vault.as_ref().map(|vault| vault.catalogue().clone());
        let kept = kept.map(|(vault, rescan)| (vault.catalogue().clone(), rescan));
        let mut taps =
            Taps::start(recorder_settings(&config, &keys)?, kept, reports_tx, history.clone(), audit.clone())?;
        let (forks_tx, forks) = mpsc::unbounded_channel();
        if !config.recorders.is_empty() {
            // The engine is gone only when the node is.
            taps.start_forks(move |fork, report| {
                let _ = forks_tx.send((fork, report));
            })
            .map_err(StartError::Media)?;
        }
        let (spills_tx, spills) = mpsc::unbounded_channel();
        let forwards = config.recorders.iter().filter(|recorder| recorder.forward_sessions > 0);
        let forwards: Vec<String> = forwards.map(|recorder| recorder.name.clone()).collect();
        if let Some(vault) = vault.clone().filter(|_| !forwards.is_empty()) {
            let forward = Forward::start(vault, forwards, (forward_tx, forward_rx), spills_tx);
            taps.start_forward(forward.map_err(StartError::Media)?);
        }
        let storage = taps.storage();
        let intake = taps.intake();
        let workers = Workers::start(
            config.media.workers,
            // The engine is gone only when the node is; events then have no reader.
            move |event| drop(media_tx.send(event)),
            move |session, block| intake.block(session, block),
        )
        .map_err(StartError::Media)?;

        let calls = Calls {
            signals,
            stop: stop_rx.clone(),
            recorder: taps.counters(),
            rescan,
            disk: Arc::default(),
            started: Instant::now(),
            max_calls: config.node.max_calls,
            audit: log.as_ref().map(Log::totals),
            forks: taps.fork_counters(),
            sip: sockets.counters().clone(),
            unknown_payments: gateway.unknown(),
        };
        let hooks = webhooks::load(&config.webhooks, random()?)?;
        let own = own_addresses(&config);
        let postman = webhooks::start(&config.webhooks, hooks.clone(), &history, metrics.clone(), &own)?;
        let root = calls.recorder.is_some().then(|| config.storage.recordings.clone());
        let watch = Watch {
            board: board.clone(),
            calls: calls.clone(),
            webhooks: hooks.clone(),
            root,
            least_free: config.storage.disk.least_free,
        };
        let watch = watch.start(&history);
        let answers = if keeps(&config) && config.control.is_some() {
            let (store, kept) =
                answers::Store::open(&answers::beside(&config.storage.payments)).map_err(PspError::Store)?;
            Answers { kept, store: Some(Arc::new(store)) }
        } else {
            Answers::default()
        };
        let http = match &config.control {
            None => None,
            Some(control) => {
                let parts = Parts {
                    calls: Arc::new(calls.clone()),
                    history: history.clone(),
                    alarms: board.clone(),
                    access: Arc::new(Access::new(control.keys.clone(), random()?)),
                    webhooks: hooks,
                    metrics: metrics.clone(),
                    audit: audit.clone(),
                    recordings: vault.clone().map(|vault| Arc::new(Shelf::new(vault)) as _),
                    clock: Arc::new(Instant::now),
                    answers,
                    node: config.node.name.clone(),
                };
                Some(Http::start(control.address, router(parts, web::pages(demo, &control.panel_origins))).await?)
            }
        };

        let listeners: Vec<SocketAddr> = config.listeners.iter().map(|listener| listener.address).collect();
        let canary = booth.map(|booth| {
            let around = Around {
                calls: calls.clone(),
                history: history.clone(),
                catalogue: catalogue.clone(),
                audit: audit.clone(),
                listeners: listeners.clone(),
                substitutes: booth.substitutes(&config),
            };
            booth.start(around)
        });
        let media_address = config.media.address;
        let config = Arc::new(config);
        let certificates = sockets.certificates(config.clone());
        let by_dtls = |trunk: &Trunk| trunk.srtp != Srtp::Off && trunk.srtp_keying == SrtpKeying::Dtls;
        let shows = config.trunks.iter().any(by_dtls);
        let kept = metrics.clone();
        let resolve = Resolve::new(&config.bounds.nameservers);
        let last_digits = config.payments.last_digits;
        let connectors = names(&config);
        let labels = config.trunks.iter().map(|trunk| (trunk.name.clone(), trunk.labels.clone()));
        let trunk_labels = labels.filter(|(_, labels)| !labels.is_empty()).collect();
        let mut engine = Engine::new(config, random()?);
        engine.set_payments(connectors, last_digits);
        if shows {
            engine.set_identity(Arc::new(identity::make()?));
        }
        let driver = Driver {
            engine,
            trunk_labels,
            sockets,
            workers,
            taps,
            history: history.clone(),
            recipient,
            gateway: Box::new(gateway),
            metrics,
            media_address,
            resolve,
            noted: None,
            audit: audit.clone(),
            asker: None,
            paused: HashSet::new(),
        };
        let connectors = connectors_rx;
        let inputs =
            Inputs { signals: signals_rx, media, reports, forks, spills, payments, connectors, stop: stop_rx, storage };
        let engine = tokio::spawn(driver.run(inputs));
        let rounds = vault.clone().map(|vault| Rounds::start(vault, audit.clone(), ROUNDS)).transpose();
        let rounds = rounds.map_err(StartError::Media)?;
        Ok(Self {
            calls,
            history,
            board,
            stop,
            engine,
            postman,
            watch,
            http,
            listeners,
            certificates,
            metrics: kept,
            vault,
            _rounds: rounds,
            audit,
            log,
            keys,
            connectors: changing,
            canary,
        })
    }

    /// A handle to the node's calls.
    pub fn calls(&self) -> &Calls {
        &self.calls
    }

    /// The node's events.
    pub fn events(&self) -> &Arc<History> {
        &self.history
    }

    /// Its alarms, and where whoever notices something tells it.
    pub fn alarms(&self) -> &Arc<Board> {
        &self.board
    }

    /// Addresses of the SIP listeners as bound, in the order of the configuration.
    pub fn listeners(&self) -> &[SocketAddr] {
        &self.listeners
    }

    /// Address of the HTTP API as bound.
    pub fn control(&self) -> Option<SocketAddr> {
        self.http.as_ref().map(|http| http.address)
    }

    /// The node's metrics; `control::Calls::refresh` brings them up to date.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Its canary, if it has one.
    pub fn canary(&self) -> Option<&Bird> {
        self.canary.as_ref()
    }

    /// The catalogue of its recordings, if a trunk records.
    pub fn catalogue(&self) -> Option<&Arc<Catalogue>> {
        self.vault.as_ref().map(|vault| vault.catalogue())
    }

    /// What is done with recordings after they are closed, if a trunk records.
    pub fn vault(&self) -> Option<&Arc<Vault>> {
        self.vault.as_ref()
    }

    /// Its audit log.
    pub fn audit(&self) -> &Audit {
        &self.audit
    }

    /// The keys in force; [`Keys::reload`] replaces them while calls are recorded.
    pub fn keys(&self) -> &Arc<Keys> {
        &self.keys
    }

    /// The certificates of its SIP sockets.
    pub fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// What changes its connectors.
    pub fn connectors(&self) -> &Connectors {
        &self.connectors
    }

    /// Refuses new calls with 503; the node ends with its last call.
    pub fn drain(&self) {
        self.stop.send_if_modified(|stop| {
            let running = *stop == Stop::No;
            if running {
                *stop = Stop::Drain;
            }
            running
        });
    }

    /// Ends every call, then the node.
    pub fn stop_now(&self) {
        let _ = self.stop.send(Stop::Now);
    }

    /// Waits until the node has ended after [`Node::drain`] or [`Node::stop_now`]: calls over, recordings sealed.
    /// Cancel safe.
    pub async fn ended(&mut self) {
        if !self.engine.is_finished() {
            let _ = (&mut self.engine).await;
        }
        // Within its own patience: what is not delivered goes to the disk.
        if !self.postman.is_finished() {
            let _ = (&mut self.postman).await;
        }
        if !self.watch.is_finished() {
            let _ = (&mut self.watch).await;
        }
        if let Some(http) = self.http.take() {
            http.end().await;
        }
        if let Some(log) = self.log.take() {
            // Within its own patience, as all of them.
            let _ = tokio::task::spawn_blocking(move || log.stop()).await;
        }
    }
}

/// The audit log that `config` names, with what came and went since the configuration before.
fn audit_log(config: &Config, board: &Arc<Board>) -> Result<Option<Log>, StartError> {
    let Some(settings) = &config.audit else { return Ok(None) };
    let board = board.clone();
    let changed = move |writable| match writable {
        true => board.clear(AlarmKind::AuditUnwritable, LOG),
        false => {
            board.raise(AlarmKind::AuditUnwritable, LOG, "no capture is begun and no recording played until it can")
        }
    };
    let log = Log::start(settings, &config.node.name, changed)?;
    audit::configured(&log.audit(), config);
    Ok(Some(log))
}

/// Names of the connectors, the usual one first.
fn names(config: &Config) -> Vec<String> {
    config.connectors.iter().map(|connector| connector.name.clone()).collect()
}

/// Addresses of this node, to which no webhook may lead.
fn own_addresses(config: &Config) -> Vec<IpAddr> {
    let listeners = config.listeners.iter().flat_map(|listener| [listener.address.ip(), listener.advertise.ip()]);
    let control = config.control.iter().map(|control| control.address.ip());
    listeners.chain(control).chain([config.media.address, config.media.advertise]).collect()
}

/// What the recorder is started with, if a trunk of `config` records.
fn recorder_settings(config: &Config, keys: &Arc<Keys>) -> Result<Option<Settings>, StartError> {
    if !config.seals() {
        return Ok(None);
    }
    keys.current().map_err(|_| StartError::NoKey)?;
    Ok(Some(Settings {
        root: config.storage.recordings.clone(),
        node: config.node.name.clone(),
        keys: keys.clone(),
        queue_blocks: QUEUE_BLOCKS,
        held_bytes: HELD_BYTES,
        stall: config.storage.disk.stall,
        random: random()?,
    }))
}

/// A generator seeded by the operating system.
fn random() -> Result<Random, StartError> {
    let mut seed = [0u8; 32];
    rand::rngs::SysRng.try_fill_bytes(&mut seed).map_err(|error| StartError::Random(error.to_string()))?;
    Ok(Random::from_seed(seed))
}
