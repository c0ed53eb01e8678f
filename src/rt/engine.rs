//! The task that drives `call::Engine`: feeds it datagrams, media events, recorder reports, signals and the time; sends
//! what it transmits, carries its orders to the media workers and the recorder, publishes its events. It makes no
//! protocol decision, and the work of one turn is capped so that no input starves another.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};

use super::harden;
use super::media::{Sockets, Workers, bind_pair};
use super::recorder::{Failure, Meta, wall};
use super::resolve::Resolve;
use super::sip::{Inbound, SipSockets};
use super::taps::Taps;
use crate::audit::Audit;
use crate::audit::events::record_of;
use crate::base::ids::{Leg, RecordingId};
use crate::base::time::soonest;
use crate::call::{
    Actor, Engine, ForkId, ForkReport, PaymentOrder, RecordOrder, RecorderReport, Reply, Signal, SignalError,
    SpillReport,
};
use crate::capture::Recipient;
use crate::control::history::History;
use crate::media;
use crate::obs::event::{Event, EventKind, RecordingState};
use crate::obs::metrics::{LegPackets, Metrics};
use crate::psp::{Answer as PaymentAnswer, Gateway};
use crate::record::catalogue::SPILL;
use crate::sip::dns::{Answer, Question};
use crate::sip::endpoint::{Dest, Flow};

/// Inputs of one kind taken in one turn.
const TURN: usize = 256;

/// How often the gauges of trunks' targets are set, at most.
const NOTE_EVERY: Duration = Duration::from_millis(200);

/// How long calls may take to end after [`Stop::Now`].
const LAST_WORDS: Duration = Duration::from_secs(5);

/// How long the recorder may take to write what is queued at the end.
const LAST_BLOCKS: Duration = Duration::from_secs(60);

/// Descriptors that no new call may have: recordings, connections and questions of the calls that are up need them.
const SPARE: u64 = 16;

/// Why a session has no sockets.
enum Unbound {
    /// Another program has this port.
    Taken(u16),
    /// Too few descriptors are left.
    NoRoom,
    Other(String),
}

impl Unbound {
    fn of(port: u16, error: &std::io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => Unbound::NoRoom,
            Some(libc::EADDRINUSE) => Unbound::Taken(port),
            _ => Unbound::Other(format!("port {port}: {error}")),
        }
    }
}

/// A signal and where its answer goes.
pub(super) struct Ask {
    pub(super) signal: Signal,
    pub(super) reply: oneshot::Sender<Result<Reply, SignalError>>,
}

/// How far a node is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// Running.
    No,
    /// New calls get 503; the node ends with its last call.
    Drain,
    /// Calls are ended.
    Now,
}

/// What the driver hears from.
pub(super) struct Inputs {
    pub(super) signals: mpsc::Receiver<Ask>,
    pub(super) media: mpsc::UnboundedReceiver<media::Event>,
    pub(super) reports: mpsc::UnboundedReceiver<(RecordingId, RecorderReport)>,
    pub(super) forks: mpsc::UnboundedReceiver<(ForkId, ForkReport)>,
    pub(super) spills: mpsc::UnboundedReceiver<SpillReport>,
    pub(super) payments: mpsc::UnboundedReceiver<PaymentAnswer>,
    /// Names of connectors as they are from now on, and whether last digits may be shown.
    pub(super) connectors: mpsc::UnboundedReceiver<(Vec<String>, bool)>,
    pub(super) stop: watch::Receiver<Stop>,
    /// Why no recording can be written, if so; `None` where nothing is recorded.
    pub(super) storage: Option<watch::Receiver<Option<Failure>>>,
}

/// The engine and everything its orders go to.
pub(super) struct Driver {
    pub(super) engine: Engine,
    /// Labels that recordings of a trunk bear, by its name.
    pub(super) trunk_labels: HashMap<String, Vec<(String, String)>>,
    pub(super) sockets: SipSockets,
    pub(super) workers: Workers,
    pub(super) taps: Taps,
    pub(super) history: Arc<History>,
    pub(super) recipient: Box<dyn Recipient>,
    pub(super) gateway: Box<dyn Gateway>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) media_address: IpAddr,
    pub(super) resolve: Resolve,
    /// When the gauges of targets were set last.
    pub(super) noted: Option<Instant>,
    pub(super) audit: Audit,
    /// Who is being answered.
    pub(super) asker: Option<Actor>,
    /// Recordings that are paused.
    pub(super) paused: HashSet<RecordingId>,
}

/// What woke the driver.
enum Woken {
    Network(Option<Inbound>),
    Media(media::Event),
    Report((RecordingId, RecorderReport)),
    Fork(ForkId, ForkReport),
    Spill(SpillReport),
    Payment(PaymentAnswer),
    Connectors(Vec<String>, bool),
    Ask(Ask),
    Name(Question, Answer),
    Storage,
    Stop,
    Timer,
}

impl Driver {
    /// Runs until the node is to stop and the last call is over.
    pub(super) async fn run(mut self, mut inputs: Inputs) {
        let mut stop = Stop::No;
        let mut give_up = None;
        self.engine.start(Instant::now());
        self.carry_out();
        loop {
            let deadline = soonest(self.engine.poll_timeout(), give_up);
            let woken = self.wait(&mut inputs, deadline, stop).await;
            // Before anything else: who comes now is not to lose a call by what is known already.
            self.note_storage(&mut inputs);
            // Whether a card is past, and when somebody joined a call, is told by the clock on the wall.
            self.engine.set_wall(Instant::now(), wall());
            self.take(woken, &mut inputs, &mut stop);
            self.take_waiting(&mut inputs);
            self.note_targets();
            self.sockets.counters().note_dropped(self.engine.dropped(), self.engine.shed());
            let now = Instant::now();
            if self.engine.poll_timeout().is_some_and(|at| at <= now) {
                self.engine.handle_timeout(now);
            }
            self.carry_out();
            if stop == Stop::Now && give_up.is_none() {
                give_up = Some(now + LAST_WORDS);
            }
            let late = give_up.is_some_and(|at| at <= now);
            if stop > Stop::No && (self.engine.is_idle() || late) {
                break;
            }
        }
        self.workers.shutdown();
        self.history.close();
        let (done, closed) = oneshot::channel();
        let (taps, gateway) = (self.taps, self.gateway);
        // Not a blocking task of the runtime: that would be waited for however long the disk stands still.
        std::thread::spawn(move || {
            taps.shutdown();
            // Waits a while for what providers are about to answer, so that the store knows.
            drop(gateway);
            let _ = done.send(());
        });
        if tokio::time::timeout(LAST_BLOCKS, closed).await.is_err() {
            tracing::error!("the recorder does not end; its open recordings are left interrupted");
        }
    }

    async fn wait(&mut self, inputs: &mut Inputs, deadline: Option<Instant>, stop: Stop) -> Woken {
        let timer = async {
            match deadline {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = inputs.stop.changed(), if stop < Stop::Now => {
                // A node whose handle was dropped has nobody left to stop it: it ends now.
                let _ = changed;
                Woken::Stop
            }
            inbound = self.sockets.ready() => Woken::Network(inbound),
            Some(event) = inputs.media.recv() => Woken::Media(event),
            Some(report) = inputs.reports.recv() => Woken::Report(report),
            Some((fork, report)) = inputs.forks.recv() => Woken::Fork(fork, report),
            Some(report) = inputs.spills.recv() => Woken::Spill(report),
            Some(answer) = inputs.payments.recv() => Woken::Payment(answer),
            Some((names, last_digits)) = inputs.connectors.recv() => Woken::Connectors(names, last_digits),
            Some(ask) = inputs.signals.recv() => Woken::Ask(ask),
            Some((question, answer)) = self.resolve.next() => Woken::Name(question, answer),
            () = turned(&mut inputs.storage) => Woken::Storage,
            () = timer => Woken::Timer,
        }
    }

    fn take(&mut self, woken: Woken, inputs: &mut Inputs, stop: &mut Stop) {
        let now = Instant::now();
        match woken {
            Woken::Network(Some(inbound)) => self.take_inbound(now, inbound),
            Woken::Network(None) | Woken::Timer | Woken::Storage => {}
            Woken::Media(event) => self.take_media(now, event),
            Woken::Report((recording, report)) => self.take_report(now, recording, report),
            Woken::Fork(fork, report) => self.engine.handle_fork(now, fork, report),
            Woken::Spill(report) => self.engine.handle_spill(now, report),
            Woken::Payment(answer) => self.engine.handle_payment(now, answer),
            Woken::Connectors(names, last_digits) => self.engine.set_payments(names, last_digits),
            Woken::Ask(ask) => self.answer(now, ask),
            Woken::Name(question, answer) => self.engine.handle_answer(now, &question, answer),
            Woken::Stop => {
                let gone = inputs.stop.has_changed().is_err();
                *stop = if gone { Stop::Now } else { *inputs.stop.borrow_and_update() };
                match stop {
                    Stop::No => {}
                    Stop::Drain => self.engine.drain(now),
                    Stop::Now => {
                        self.engine.drain(now);
                        self.engine.hang_up_all(now);
                    }
                }
            }
        }
    }

    /// Takes what else waits, up to a cap per kind.
    fn take_waiting(&mut self, inputs: &mut Inputs) {
        let now = Instant::now();
        let Self { sockets, engine, .. } = self;
        sockets.read_datagrams(TURN, |flow, bytes| engine.handle_datagram(now, flow, bytes));
        for _ in 0..TURN {
            let Some(inbound) = self.sockets.next_inbound() else { break };
            self.take_inbound(now, inbound);
        }
        for _ in 0..TURN {
            let Ok(event) = inputs.media.try_recv() else { break };
            self.take_media(now, event);
        }
        for _ in 0..TURN {
            let Ok((recording, report)) = inputs.reports.try_recv() else { break };
            self.take_report(now, recording, report);
        }
        for _ in 0..TURN {
            let Ok(answer) = inputs.payments.try_recv() else { break };
            self.engine.handle_payment(now, answer);
        }
        for _ in 0..TURN {
            let Ok(ask) = inputs.signals.try_recv() else { break };
            self.answer(now, ask);
        }
    }

    fn take_inbound(&mut self, now: Instant, inbound: Inbound) {
        match self.sockets.settle(inbound) {
            Some(Inbound::Message { flow, bytes }) => self.engine.handle_datagram(now, &flow, &bytes),
            Some(Inbound::Broken { flow, error }) => self.engine.handle_frame_error(now, &flow, error),
            Some(Inbound::Closed { flow, ours }) => {
                // A connection of ours stands for its address: whatever was to go there has failed.
                let connection = if ours { None } else { flow.connection };
                self.engine.handle_flow_failed(now, &Dest { connection, ..flow.back() });
            }
            Some(Inbound::Unreachable { dest }) => self.engine.handle_flow_failed(now, &dest),
            Some(Inbound::Opened { .. } | Inbound::KeepAlive { .. }) | None => {}
        }
    }

    fn take_media(&mut self, now: Instant, event: media::Event) {
        self.count(&event);
        self.engine.handle_media(now, event);
    }

    fn take_report(&mut self, now: Instant, recording: RecordingId, report: RecorderReport) {
        if report == RecorderReport::Failed {
            // No order to close will follow.
            self.taps.close(recording);
        }
        self.engine.handle_recorder(now, recording, report);
    }

    fn answer(&mut self, now: Instant, Ask { signal, reply }: Ask) {
        if begins_capture(&signal) && !self.audit.writable() {
            // What cannot be proven afterwards is not begun.
            let _ = reply.send(Err(SignalError::NotAudited));
            return;
        }
        // What came before is told before; what is told from here on is the asker's doing.
        self.carry_out();
        self.asker = signal.actor().cloned();
        let answer = self.engine.handle_signal(now, signal);
        // Media orders first: by the time the asker hears "masked", the order is with the worker.
        self.carry_out();
        self.asker = None;
        let _ = reply.send(answer);
    }

    /// Notes in the audit log what belongs there, and whose doing it was, where a request asked for it.
    fn audit(&mut self, event: &Event) {
        let mut paused = false;
        if let EventKind::Recording { recording, state } = event.kind {
            paused = self.paused.remove(&recording);
            if state == RecordingState::Paused {
                self.paused.insert(recording);
            }
        }
        let Some(mut record) = record_of(event, paused) else { return };
        if let Some(asker) = &self.asker {
            record = record.asked_for(&asker.name, asker.role, asker.from);
        }
        self.audit.note(record);
    }

    /// Carries out everything the engine wants done. Media and recording come before what peers get to see.
    fn carry_out(&mut self) {
        loop {
            let mut failed: Vec<Flow> = Vec::new();
            while let Some(order) = self.engine.poll_record() {
                self.record(order);
            }
            while let Some(command) = self.engine.poll_media() {
                self.order(command);
            }
            while let Some(handover) = self.engine.poll_handover() {
                self.recipient.receive(handover);
            }
            while let Some(charge) = self.engine.poll_charge() {
                self.gateway.submit(charge);
            }
            while let Some((call, kind)) = self.engine.poll_event() {
                let event = self.history.publish(wall(), call, kind);
                log_event(&event);
                self.audit(&event);
            }
            while let Some(question) = self.engine.poll_question() {
                self.resolve.ask(question);
            }
            while let Some(transmit) = self.engine.poll_transmit() {
                failed.extend(self.sockets.send(transmit));
            }
            if failed.is_empty() {
                return;
            }
            let now = Instant::now();
            for flow in failed {
                self.engine.handle_flow_failed(now, &flow.back());
            }
        }
    }

    fn order(&mut self, command: media::Command) {
        let media::Command::Create { session, ports, .. } = &command else {
            let session = command.session();
            if let Err(refused) = self.workers.order(command) {
                tracing::warn!(session = session.0, %refused, "a media order was refused");
            }
            return;
        };
        let (session, [customer, agent]) = (*session, *ports);
        let [near, far] = self.engine.media_addresses(session).unwrap_or([self.media_address; 2]);
        let bind = |ip, port| bind_pair(ip, port).map_err(|error| Unbound::of(port, &error));
        let made = bind(near, customer).and_then(|customer| bind(far, agent).map(|agent| (customer, agent)));
        let made = made.and_then(|((rtp_c, rtcp_c), (rtp_a, rtcp_a))| {
            let sockets = Sockets { rtp: [rtp_c, rtp_a], rtcp: [rtcp_c, rtcp_a] };
            if harden::is_last(&sockets.rtcp[1], SPARE) {
                return Err(Unbound::NoRoom);
            }
            self.workers.create(command, sockets).map_err(|refused| Unbound::Other(refused.to_string()))
        });
        let now = Instant::now();
        match made {
            Ok(()) => {}
            Err(Unbound::Taken(port)) => {
                if self.engine.handle_ports_taken(now, session) {
                    tracing::warn!(port, "another program has a media port; the call takes others");
                } else {
                    tracing::warn!(session = session.0, port, "another program has a media port; the call has ended");
                }
            }
            Err(Unbound::NoRoom) => {
                tracing::warn!("no open files to spare: a new call is refused; raise the limit of open files");
                self.engine.handle_no_room(now, session);
            }
            Err(Unbound::Other(why)) => {
                tracing::warn!(session = session.0, %why, "a call gets no media");
                self.engine.handle_media_failed(now, session);
            }
        }
    }

    fn record(&mut self, order: RecordOrder) {
        match order {
            RecordOrder::Open { recording, call, session, policy: _, horizon, spill, hush } => {
                let view = match self.engine.handle_signal(Instant::now(), Signal::Get { call }) {
                    Ok(Reply::Call(view)) => Some(view),
                    _ => None,
                };
                let mut meta = Meta::new(call, "", "");
                meta.horizon = horizon;
                if let Some(view) = view {
                    (meta.from_trunk, meta.to_trunk) = (view.from_trunk, view.to_trunk);
                    (meta.caller, meta.called, meta.agent) = (view.caller, view.called, view.agent);
                    meta.sip_call_ids =
                        [view.sip_call_ids.customer, view.sip_call_ids.agent].into_iter().flatten().collect();
                }
                // Where both trunks set one, that of the side the call came from stands.
                for name in [&meta.to_trunk, &meta.from_trunk] {
                    let labels = self.trunk_labels.get(name).into_iter().flatten();
                    meta.labels.extend(labels.cloned());
                }
                if let Some(spill) = &spill {
                    meta.labels.insert(SPILL.to_owned(), spill.recorder.clone());
                }
                meta.spill = spill;
                self.taps.open(recording, session, meta, hush);
            }
            RecordOrder::Redact { recording, order } => self.taps.redact(recording, order),
            RecordOrder::Mark { recording, at, mark } => self.taps.mark(recording, at, mark),
            RecordOrder::Close { recording } => self.taps.close(recording),
            order @ (RecordOrder::CallOver { .. }
            | RecordOrder::OpenSpill { .. }
            | RecordOrder::PlaySpill { .. }
            | RecordOrder::LeaveSpill { .. }
            | RecordOrder::MarkSpill { .. }) => self.taps.spill(&order),
            order @ (RecordOrder::OpenFork { .. } | RecordOrder::Flow { .. } | RecordOrder::CloseFork { .. }) => {
                if let Err((fork, report)) = self.taps.fork(order) {
                    tracing::warn!(?report, "no sockets for the sound to a recorder");
                    self.engine.handle_fork(Instant::now(), fork, report);
                }
            }
        }
    }

    /// Keeps the gauges of trunks' targets, once a second.
    fn note_targets(&mut self) {
        let now = Instant::now();
        if self.noted.is_none_or(|at| now.duration_since(at) >= NOTE_EVERY) {
            self.noted = Some(now);
            self.engine.targets().for_each(|(trunk, up, of)| self.metrics.set_targets(trunk, up, of));
            self.engine.recorders().for_each(|(name, up, away)| self.metrics.set_siprec(name, up, away));
            self.engine.spills().for_each(|(name, waiting)| self.metrics.set_spills(name, waiting));
        }
    }

    /// Passes on whether recordings can be written.
    fn note_storage(&mut self, inputs: &mut Inputs) {
        if let Some(storage) = &mut inputs.storage {
            self.engine.handle_storage(storage.borrow_and_update().is_none());
        }
    }

    /// Counts a closed session's packets.
    fn count(&self, event: &media::Event) {
        let media::Event::Closed { stats, .. } = event else { return };
        for leg in [Leg::Customer, Leg::Agent] {
            let media::LegStats { received, sent, foreign, malformed, lost, unauthentic, replayed } =
                stats[leg.index()];
            self.metrics
                .add_packets(leg, LegPackets { received, sent, foreign, malformed, lost, unauthentic, replayed });
        }
    }
}

/// Waits until whether recordings can be written turns. Cancel safe.
async fn turned(storage: &mut Option<watch::Receiver<Option<Failure>>>) {
    let told = match storage {
        Some(storage) => storage.changed().await.is_ok(),
        None => false,
    };
    if !told {
        // Nothing is recorded, or the recorder is gone: nothing more comes.
        std::future::pending::<()>().await;
    }
}

/// Whether a signal begins to gather digits.
fn begins_capture(signal: &Signal) -> bool {
    match signal {
        Signal::StartCollection { .. } => true,
        Signal::Payment { order, .. } => matches!(order, PaymentOrder::Start(_)),
        _ => false,
    }
}

/// One log line per event: its type as the message, its call, the rest as `name=value` words. The event types have no
/// room for a digit; one line per masked key would only be noise.
fn log_event(event: &Event) {
    let noise = matches!(
        event.kind,
        EventKind::KeyMasked { .. } | EventKind::CollectionProgress { .. } | EventKind::PaymentUpdated { .. }
    );
    if noise {
        return;
    }
    let Ok(serde_json::Value::Object(mut fields)) = serde_json::to_value(&event.kind) else {
        tracing::error!(seq = event.seq, "an event cannot be written");
        return;
    };
    // Worth money to whoever holds our credentials.
    fields.remove("payment_token");
    let kind = fields.remove("type");
    let words: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
    tracing::info!(
        call = event.call.map(tracing::field::display),
        seq = event.seq,
        detail = words.join(" "),
        "{}",
        kind.as_ref().and_then(serde_json::Value::as_str).unwrap_or("event")
    );
}
