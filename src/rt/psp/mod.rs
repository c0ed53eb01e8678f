//! The shell of payments: a thread that carries charges to providers and answers back. It writes each record to the disk
//! before it sends or tells what depends on it, and decides nothing itself ([`crate::psp::Machine`] does). What it logs are
//! ids, connectors and outcomes; never a body, a header or an address with a query.

pub(in crate::rt) mod client;
pub mod store;
pub mod trust;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use tokio::sync::mpsc;

use super::recorder::wall;
use super::sip::tls::FileFault;
use crate::base::ids::PaymentId;
use crate::base::locked::Locked;
use crate::config::{Config, Connector};
use crate::psp::sandbox::Sandbox;
use crate::psp::{Answer, Charge, Failure, Gateway, Machine, Outcome, Record, Reply, Request};
use store::{Store, StoreError};

/// Inputs taken in one turn, so that their records share one write to the disk.
const TURN: usize = 256;

/// How long requests under way may take to end when the node stops.
const FAREWELL: Duration = Duration::from_secs(10);

/// What payments could not be started with.
#[derive(Debug, thiserror::Error)]
pub enum PspError {
    /// The store.
    #[error("[storage] payments: {0}")]
    Store(#[from] StoreError),
    /// The store's content.
    #[error("[storage] payments: {0}")]
    Content(#[from] rusqlite::Error),
    /// A file of a connector.
    #[error("{0}")]
    File(FileFault),
    /// The thread.
    #[error("the thread of payments cannot start: {0}")]
    Thread(#[from] std::io::Error),
}

/// The way to the providers. Dropped, it takes no further charge and ends what it can within ten seconds; what it cannot
/// is asked about at the next start. Whoever drops it outside a runtime waits for that.
pub struct Psp {
    orders: Option<mpsc::UnboundedSender<Order>>,
    thread: Option<std::thread::JoinHandle<()>>,
    under_way: Arc<AtomicUsize>,
    unknown: Arc<AtomicUsize>,
    left: Vec<(PaymentId, String)>,
    lasting: bool,
}

/// What the thread is asked to do.
enum Order {
    Charge(Box<Charge>),
    Connectors(Vec<Connector>, Vec<Option<Arc<ClientConfig>>>),
}

/// Changes the connectors of a running [`Psp`]; keeps it from nothing.
#[derive(Clone)]
pub struct Reload {
    orders: mpsc::WeakUnboundedSender<Order>,
    lasting: bool,
}

impl Reload {
    /// From now on charges go by the connectors of `config`. What is under way keeps the connector it began with, and one
    /// that is gone serves what was begun with it. `Ok(false)`: payments have ended with the node.
    ///
    /// # Errors
    /// A file that cannot be used, or a first connector that keeps its payments on disk: for that the node has to be
    /// started anew. Nothing has changed then.
    pub fn connectors(&self, config: &Config) -> Result<bool, FileFault> {
        if !self.lasting && keeps(config) {
            let reason = "the node was started without a store of payments; the first connector needs a restart";
            return Err(FileFault { key: "connector".to_owned(), reason: reason.to_owned() });
        }
        let trust = trust_of(config)?;
        let order = Order::Connectors(config.connectors.clone(), trust);
        Ok(self.orders.upgrade().is_some_and(|orders| orders.send(order).is_ok()))
    }
}

/// Whether payments by these connectors have to be kept on disk. The sandbox moves no money and forgets its charges with
/// the process: there is nothing to keep.
pub(super) fn keeps(config: &Config) -> bool {
    config.connectors.iter().any(|connector| !connector.sandbox)
}

/// What connections of each connector start from.
fn trust_of(config: &Config) -> Result<Vec<Option<Arc<ClientConfig>>>, FileFault> {
    let of = |(at, connector): (usize, &Connector)| match connector.sandbox {
        true => Ok(None),
        false => trust::client(at, connector).map(Some),
    };
    config.connectors.iter().enumerate().map(of).collect()
}

impl Gateway for Psp {
    fn submit(&mut self, charge: Charge) {
        if let Some(orders) = &self.orders
            && orders.send(Order::Charge(Box::new(charge))).is_err()
        {
            // Only a panic of the thread leads here; the answers end with it.
            tracing::error!("the thread of payments is gone; a charge is not sent");
        }
    }
}

impl Psp {
    /// Opens the store, takes up what was left open, and starts. `answers` is called on the thread of payments and must
    /// not block.
    ///
    /// # Errors
    /// When the store or a connector's file cannot be used.
    pub fn start(config: &Config, answers: impl FnMut(Answer) + Send + 'static) -> Result<Self, PspError> {
        let lasting = keeps(config);
        let mut store = if lasting { Store::open(&config.storage.payments)? } else { Store::in_memory()? };
        let trust = trust_of(config).map_err(PspError::File)?;
        let mut machine = Machine::new(config.connectors.clone());
        let left = store.unfinished(wall())?;
        if !left.is_empty() {
            tracing::warn!(
                payments = left.len(),
                "payments were under way when the node ended; their providers are asked"
            );
        }
        machine.restore(Instant::now(), left);
        let under_way = Arc::new(AtomicUsize::new(machine.len()));
        let unknown = Arc::new(AtomicUsize::new(machine.unknown()));
        let left = machine.unknown_payments();
        let (orders, inbox) = mpsc::unbounded_channel();
        let (replies_tx, replies) = mpsc::unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let driver = Driver {
            machine,
            store,
            trust,
            sandbox: Sandbox::new(),
            answers: Box::new(answers),
            replies_tx,
            under_way: under_way.clone(),
            unknown: unknown.clone(),
        };
        let thread = std::thread::Builder::new().name("payments".into()).spawn(move || {
            runtime.block_on(driver.run(inbox, replies));
        })?;
        Ok(Self { orders: Some(orders), thread: Some(thread), under_way, unknown, left, lasting })
    }

    /// What changes the connectors; `None` when it has ended.
    pub fn reload(&self) -> Option<Reload> {
        let orders = self.orders.as_ref()?.downgrade();
        Some(Reload { orders, lasting: self.lasting })
    }

    /// Payments that are under way or unknown.
    pub fn under_way(&self) -> usize {
        self.under_way.load(Ordering::Relaxed)
    }

    /// How many payments nobody knows the outcome of, kept up to date.
    pub fn unknown(&self) -> Arc<AtomicUsize> {
        self.unknown.clone()
    }

    /// Of how many nobody knew it at the start, and the connector that each was begun with.
    pub fn left(&self) -> &[(PaymentId, String)] {
        &self.left
    }

    /// Ends it and waits for it.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Psp {
    fn drop(&mut self) {
        self.orders = None;
        // A task must not be held up.
        if tokio::runtime::Handle::try_current().is_err() {
            self.end();
        }
    }
}

struct Driver {
    machine: Machine,
    store: Store,
    trust: Vec<Option<Arc<ClientConfig>>>,
    sandbox: Sandbox,
    answers: Box<dyn FnMut(Answer) + Send>,
    replies_tx: mpsc::UnboundedSender<(u64, Reply)>,
    under_way: Arc<AtomicUsize>,
    unknown: Arc<AtomicUsize>,
}

impl Driver {
    async fn run(
        mut self,
        mut inbox: mpsc::UnboundedReceiver<Order>,
        mut replies: mpsc::UnboundedReceiver<(u64, Reply)>,
    ) {
        let mut stopping: Option<Instant> = None;
        self.carry_out();
        loop {
            if stopping.is_some_and(|at| at <= Instant::now() || !self.machine.is_charging()) {
                return;
            }
            let deadline = crate::base::time::soonest(self.machine.poll_timeout(), stopping);
            let timer = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                order = inbox.recv(), if stopping.is_none() => match order {
                    Some(order) => self.take(order),
                    None => stopping = Some(Instant::now() + FAREWELL),
                },
                Some((id, reply)) = replies.recv() => self.machine.handle_reply(Instant::now(), wall(), id, reply),
                () = timer => {}
            }
            for _ in 0..TURN {
                let Ok((id, reply)) = replies.try_recv() else { break };
                self.machine.handle_reply(Instant::now(), wall(), id, reply);
            }
            for _ in 0..TURN {
                let Ok(order) = inbox.try_recv() else { break };
                self.take(order);
            }
            let now = Instant::now();
            if self.machine.poll_timeout().is_some_and(|at| at <= now) {
                self.machine.handle_timeout(now, wall());
            }
            self.carry_out();
        }
    }

    fn take(&mut self, order: Order) {
        match order {
            Order::Charge(charge) => self.machine.handle_charge(Instant::now(), wall(), *charge),
            Order::Connectors(connectors, trust) => {
                let places = self.machine.set_connectors(Instant::now(), connectors);
                for (place, trust) in places.into_iter().zip(trust) {
                    if self.trust.len() <= place {
                        self.trust.resize(place + 1, None);
                    }
                    self.trust[place] = trust;
                }
            }
        }
    }

    /// Records first, then requests, then answers.
    fn carry_out(&mut self) {
        let records: Vec<Record> = std::iter::from_fn(|| self.machine.poll_record()).collect();
        if !records.is_empty() {
            match self.store.write(&records) {
                Ok(written) => {
                    for (record, written) in records.iter().zip(written) {
                        if !written {
                            self.machine.handle_unwritten(record, true);
                        }
                    }
                }
                Err(error) => {
                    tracing::error!(%error, payments = records.len(), "the store of payments cannot be written");
                    records.iter().for_each(|record| self.machine.handle_unwritten(record, false));
                }
            }
        }
        while let Some(request) = self.machine.poll_transmit() {
            self.send(request);
        }
        self.under_way.store(self.machine.len(), Ordering::Relaxed);
        self.unknown.store(self.machine.unknown(), Ordering::Relaxed);
        while let Some(answer) = self.machine.poll_event() {
            log(&answer);
            (self.answers)(answer);
        }
    }

    fn send(&mut self, request: Request) {
        let (id, replies) = (request.id, self.replies_tx.clone());
        match self.trust.get(request.connector).cloned().flatten() {
            Some(tls) => {
                tokio::spawn(async move {
                    let reply = client::send(request, tls).await;
                    let _ = replies.send((id, reply));
                });
            }
            None => {
                let key = request.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("idempotency-key"));
                let key = key.and_then(|(_, value)| std::str::from_utf8(value.expose()).ok());
                let reaction = self.sandbox.handle(request.method, &request.path, key, request.body.expose());
                let late = reaction.lost || reaction.delay > request.timeout;
                let (delay, reply) = if late {
                    (request.timeout, Reply::Lost)
                } else {
                    let mut body = Locked::default();
                    body.extend(reaction.body.as_bytes());
                    (reaction.delay, Reply::Answer { status: reaction.status, body, retry_after: None })
                };
                tokio::spawn(async move {
                    tokio::time::sleep(delay).await;
                    let _ = replies.send((id, reply));
                });
            }
        }
    }
}

/// One line per answer: which payment, and the word for what came of it.
fn log(Answer { payment, attempt, outcome }: &Answer) {
    match outcome {
        Outcome::Approved { .. } => tracing::info!(%payment, attempt, "payment approved"),
        Outcome::ReEnter { field, error } => {
            tracing::info!(%payment, attempt, field = field.name(), error = error.name(), "payment needs a field again");
        }
        Outcome::Declined { code } => tracing::info!(%payment, attempt, code, "payment declined"),
        Outcome::Unknown => tracing::error!(%payment, attempt, "payment unknown; its provider is asked"),
        Outcome::Failed { reason: Failure::NotCharged } => tracing::warn!(%payment, attempt, "payment not charged"),
        Outcome::Failed { reason } => tracing::error!(%payment, attempt, reason = reason.name(), "payment failed"),
    }
}
