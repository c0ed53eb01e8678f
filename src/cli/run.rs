//! `tonewall run`: one node until it is told to end. SIGTERM or SIGINT drains (new calls get 503, the node ends with its
//! last call); a second one ends the calls that are left.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::check::Examined;
use crate::audit::{Action, Audit, Made, Outcome, Record, Thing};
use crate::capture::Discard;
use crate::config::Config;
use crate::rt::keys::Keys;
use crate::rt::node::{Connectors, Node, Options};
use crate::rt::sip::Certificates;
use crate::rt::{audit, harden, logging};

/// Runs a node until it is told to end. Faults of the configuration or of the start go to standard error.
pub fn run(file: &Path) -> ExitCode {
    // What `tonewall check` finds wrong is told here in the same words, with line and key.
    let Examined { config, keks } = match super::check::examine(file) {
        Ok(examined) => examined,
        Err(faults) => return failed(&faults),
    };
    let _flush = logging::start(&config.log);
    // Two sockets per leg and a recording per call, and a few for everything else.
    let files = u64::from(config.node.max_calls) * 5 + 200;
    for refusal in harden::harden().into_iter().chain(harden::raise_open_files(files)) {
        tracing::warn!("{refusal}");
    }
    // From here on they are asked for again where a service gives them.
    let keys = match Keys::of(&config.keys, keks) {
        Ok(keys) => keys,
        Err(error) => return failed(&error),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("the async runtime cannot start: {error}")),
    };
    let ended = runtime.block_on(async {
        let (name, fingerprint) = (config.node.name.clone(), config.fingerprint);
        // Before anybody is answered: a signal that comes earlier than its handler ends the process where it stands.
        let mut caught = Caught::new()?;
        let start = Node::start(Options { config, keys, recipient: Box::new(Discard), demo: None });
        let mut node = tokio::select! {
            node = start => node?,
            () = caught.end() => return Ok(()),
        };
        tracing::info!(node = %name, sip = ?node.listeners(), control = ?node.control(), "running");
        audit::started(node.audit(), &fingerprint).await;
        let mut terminate = Signals::new(caught, &node, file);
        tokio::select! {
            () = terminate.next() => {}
            () = node.ended() => return Err("the engine ended by itself; see the log".into()),
        }
        node.audit().note(Record::node(Action::NodeStopping));
        tracing::info!("draining: new calls get 503; a second signal ends the calls that are left");
        node.drain();
        tokio::select! {
            () = node.ended() => {}
            () = terminate.next() => {
                tracing::info!("ending every call");
                node.stop_now();
                node.ended().await;
            }
        }
        Ok::<(), Box<dyn std::error::Error>>(())
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

#[allow(clippy::print_stderr)]
fn failed(why: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("{why}");
    ExitCode::from(super::EXIT_FAILED)
}

/// SIGTERM and SIGINT; and SIGHUP, which would end every call by default. What comes is kept until it is asked for.
struct Caught {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Caught {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for a signal to end. Cancel safe.
    async fn end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Signals to a running node. At SIGHUP it reads certificates, keys and connectors again.
struct Signals {
    caught: Caught,
    certificates: Certificates,
    audit: Audit,
    keys: Arc<Keys>,
    connectors: Connectors,
    file: PathBuf,
}

impl Signals {
    fn new(caught: Caught, node: &Node, file: &Path) -> Self {
        Self {
            caught,
            certificates: node.certificates().clone(),
            audit: node.audit().clone(),
            keys: node.keys().clone(),
            connectors: node.connectors().clone(),
            file: file.to_owned(),
        }
    }

    /// Waits for a signal to end. Cancel safe.
    async fn next(&mut self) {
        loop {
            let Caught { terminate, interrupt, hang_up } = &mut self.caught;
            tokio::select! {
                _ = terminate.recv() => return,
                _ = interrupt.recv() => return,
                _ = hang_up.recv() => {
                    self.reload();
                    self.reload_connectors();
                }
            }
        }
    }

    fn reload(&self) {
        let audit = self.audit.clone();
        self.keys.reload_from(self.file.clone(), move |done| {
            let name = done.ok().flatten().unwrap_or("all, by SIGHUP").into();
            let (thing, made) = (Thing::KeyEncryptionKey, Made::Changed);
            let record = Record::node(Action::Thing { thing, made, name, role: None, fingerprint: None });
            audit.note(if done.is_ok() { record } else { record.outcome(Outcome::failed("keys")) });
        });
        match self.certificates.reload() {
            Ok(()) => {
                let (thing, made) = (Thing::Certificate, Made::Changed);
                let action =
                    Action::Thing { thing, made, name: "all, by SIGHUP".into(), role: None, fingerprint: None };
                self.audit.note(Record::node(action));
                tracing::info!("SIGHUP: certificates and keys were read again");
            }
            Err(faults) => {
                self.refused("certificates", faults.len());
                for fault in faults {
                    tracing::error!(%fault, "SIGHUP: the former certificates stay");
                }
            }
        }
    }

    /// Reads the connectors of the file again; what cannot be used changes nothing.
    fn reload_connectors(&self) {
        let config = match super::check::check(&self.file).and_then(|_| Config::load(&self.file)) {
            Ok(config) => config,
            Err(faults) => {
                self.refused("connectors", faults.iter().count());
                for fault in faults.iter() {
                    tracing::error!(%fault, "SIGHUP: the former connectors stay");
                }
                return;
            }
        };
        match self.connectors.reload(&config) {
            Ok(()) => {
                audit::reloaded(&self.audit, &config);
                let connectors = config.connectors.len();
                tracing::info!(connectors, "SIGHUP: connectors were read again; what else has changed needs a restart");
            }
            Err(fault) => {
                self.refused("connectors", 1);
                tracing::error!(%fault, "SIGHUP: the former connectors stay");
            }
        }
    }

    fn refused(&self, what: &str, faults: usize) {
        let configuration = audit::hash_of(&self.file);
        let action = Action::ConfigurationRefused { configuration, faults: faults as u64 };
        self.audit.note(Record::node(action).outcome(Outcome::failed(what)));
    }
}
