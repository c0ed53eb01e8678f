//! Canary calls: the node calls itself through its own carrier side, guard, PBX side and recorder, keys a published test
//! card as a customer would, and looks for it everywhere it must not be. The schedule goes in; a [`Verdict`] per call comes
//! out, as event, metric, audit entry and, when it failed, as an alarm. Its trunks stand on loopback sockets of its own and
//! lead to each other only: no real trunk is dialled, and no payment is begun, so no provider hears of it.
//!
//! ```text
//!   caller 127.0.0.1 ─► canary-held │ canary-auto ─► engine, media, guard ─► canary-pbx ─► answerer 127.0.0.1
//!        keys a test card                                   │                                 must hear no key
//!                                                           └─► sealed file ─► self-audit: must be clean; destroyed
//! ```

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::catalogue::Catalogue;
use super::logging;
use super::node::Calls;
use super::peers::{Exchange, Phone};
use super::recorder::wall;
use crate::audit::{Action, Audit, Outcome, Record};
use crate::base::Random;
use crate::base::ids::{CallId, RecordingId};
use crate::call::{Actor, Find, Reply, Signal};
use crate::config::{
    Canary, CanaryForm, CanaryGuard, Config, GuardMode, ListenerId, MaskKind, MediaPlace, RecordingPolicy, Role,
    TrunkId,
};
use crate::control::Calls as _;
use crate::control::history::History;
use crate::obs::event::{EventKind, HoldKind, RecordingState};
use crate::record::catalogue::{AuditVerdict, Entry, Tombstone};
use crate::record::place;
use crate::testkit::attack::decode;
use crate::testkit::keys::{Form, typed};
use crate::testkit::rtp_peer::hiss;
use crate::testkit::site::Site;
use crate::testkit::ua::{Answer, Event, Profile, UserAgent};

/// What its trunks and listeners are called.
const NAMES: [&str; 3] = ["canary-held", "canary-auto", "canary-pbx"];
/// How long anything that should happen at once may take on a busy node.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long the recording may take to be closed and heard again.
const AUDIT_PATIENCE: Duration = Duration::from_secs(180);
/// From the start of the node to the first round.
const FIRST: Duration = Duration::from_secs(60);
/// Key-down time and pause in ms.
const PRESS: (u32, u32) = (90, 130);
/// Keys in a row of the card that nobody may tell.
const RUN: usize = 8;

/// What came of one canary call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Guard and form, for instance `auto/tone`.
    pub name: String,
    /// Call, if it came up.
    pub call: Option<CallId>,
    /// Recording, if there was one.
    pub recording: Option<RecordingId>,
    /// What is wrong; empty: nothing.
    pub faults: Vec<String>,
}

impl Verdict {
    /// Whether nothing is wrong.
    pub fn is_good(&self) -> bool {
        self.faults.is_empty()
    }

    /// In a line.
    pub fn text(&self) -> String {
        match (self.faults.is_empty(), self.recording) {
            (true, Some(_)) => "every key masked and counted; ear, events, log and recording hold none".to_owned(),
            (true, None) => "every key masked and counted; ear, events and log hold none; not recorded".to_owned(),
            (false, _) => self.faults.join("; "),
        }
    }
}

/// The two ends of canary calls, and where the node hears them.
pub(super) struct Booth {
    canary: Canary,
    carrier: Exchange,
    pbx: Exchange,
    /// The first of its listeners.
    at: usize,
}

impl Booth {
    /// Opens both ends and adds their trunks to `config`: appended, so that nothing else moves, and routed to each other
    /// only. `alone`: nothing else stays in it, for a node that exists for the canary's sake.
    pub(super) async fn open(config: &mut Config, alone: bool, random: &mut Random) -> std::io::Result<Option<Self>> {
        let Some(canary) = config.canary.clone() else { return Ok(None) };
        let ip = IpAddr::from(Ipv4Addr::LOCALHOST);
        let any = SocketAddr::new(ip, 0);
        let answering = Profile::new("canary").answering(Answer::After(20));
        let pbx = Exchange::open(ip, 0, Some(answering), random.random()).await?;
        let carrier = Exchange::open(ip, 0, None, random.random()).await?;
        for exchange in [&pbx, &carrier] {
            exchange.avoid(config.media.ports);
        }
        let recorded = config.trunks.iter().any(|trunk| trunk.recording != RecordingPolicy::Off);
        let mask = config.trunks.iter().find(|trunk| trunk.side == crate::config::Side::Carrier).map(|t| t.mask);
        let horizon = config.trunks.iter().map(|trunk| trunk.redaction_horizon).max();
        if alone {
            config.listeners.clear();
            config.trunks.clear();
            config.routes.clear();
            config.recorders.clear();
            config.control = None;
            config.webhooks = crate::config::Webhooks::default();
            config.audit = None;
            config.storage.s3 = None;
            config.connectors = vec![crate::config::sandbox()];
        }
        let mut site = Site::new(any, carrier.address(), any, pbx.address());
        let one = site.carriers[0].clone();
        let guards = [GuardMode::Signal, GuardMode::Auto];
        site.carriers = NAMES
            .into_iter()
            .zip(guards)
            .map(|(name, guard)| {
                let recording = if recorded { RecordingPolicy::Required } else { RecordingPolicy::Off };
                let mask = mask.unwrap_or(one.mask);
                crate::testkit::site::Carrier { name: name.to_owned(), guard, recording, mask, ..one.clone() }
            })
            .collect();
        let own = site.config();
        let (listeners, trunks) = (config.listeners.len(), config.trunks.len());
        for (name, mut listener) in NAMES.into_iter().zip(own.listeners) {
            name.clone_into(&mut listener.name);
            listener.options.tcp = false;
            listener.options.media = Some(MediaPlace { address: ip, advertise: ip });
            config.listeners.push(listener);
        }
        for (name, mut trunk) in NAMES.into_iter().zip(own.trunks) {
            name.clone_into(&mut trunk.name);
            trunk.listener = ListenerId(trunk.listener.0 + listeners);
            trunk.redaction_horizon = horizon.unwrap_or(trunk.redaction_horizon);
            trunk.max_calls = 1;
            config.trunks.push(trunk);
        }
        // From its carriers to its PBX, and no way back.
        for mut route in own.routes.into_iter().take(NAMES.len() - 1) {
            route.from = TrunkId(route.from.0 + trunks);
            route.to.iter_mut().for_each(|to| *to = TrunkId(to.0 + trunks));
            config.routes.push(route);
        }
        Ok(Some(Self { canary, carrier, pbx, at: listeners }))
    }

    /// Whether its mask announces each key by one and the same event.
    pub(super) fn substitutes(&self, config: &Config) -> bool {
        config.trunks.iter().any(|trunk| trunk.name == NAMES[0] && trunk.mask == MaskKind::Substitute)
    }

    /// Starts the schedule.
    pub(super) fn start(self, around: Around) -> Bird {
        let (asks, asked) = mpsc::channel(1);
        let task = tokio::spawn(self.run(around, asked));
        Bird { asks, task }
    }

    async fn run(mut self, around: Around, mut asked: mpsc::Receiver<Ask>) {
        let mut next = Instant::now() + FIRST.min(self.canary.every);
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(next.into()) => {
                    self.round(&around).await;
                }
                ask = asked.recv() => {
                    let Some(reply) = ask else { return };
                    // Who asked may have gone; the verdicts are told all the same.
                    let _ = reply.send(self.round(&around).await);
                }
            }
            next = Instant::now() + self.canary.every;
        }
    }

    /// One call of each guard and form.
    async fn round(&mut self, around: &Around) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        for guard in self.canary.guards.clone() {
            for form in self.canary.forms.clone() {
                // A node that is going takes no calls, and that is no fault.
                if around.calls.ready().is_err() {
                    return verdicts;
                }
                let verdict = self.call(guard, form, around).await;
                around.tell(&verdict);
                verdicts.push(verdict);
            }
        }
        verdicts
    }

    async fn call(&mut self, guard: CanaryGuard, form: CanaryForm, around: &Around) -> Verdict {
        let name = format!("{}/{}", word_of(guard), word(form));
        let mut verdict = Verdict { name, call: None, recording: None, faults: Vec::new() };
        let seen = logging::watch(self.canary.card);
        if let Err(fault) = self.play(guard, form, around, &mut verdict).await {
            verdict.faults.push(fault);
        }
        if seen.count() > 0 {
            verdict.faults.push(format!("{} log lines hold digits of the card", seen.count()));
        }
        verdict
    }

    async fn play(
        &mut self,
        guard: CanaryGuard,
        form: CanaryForm,
        around: &Around,
        verdict: &mut Verdict,
    ) -> Result<(), String> {
        let target = around.listeners.get(self.at + usize::from(guard == CanaryGuard::Auto));
        let target = *target.ok_or("the node does not hear canaries")?;
        let caller = self.carrier.phone(Profile::new("canary")).map_err(|error| format!("no ports: {error}"))?;
        caller.with(|a, now| {
            a.rtp.speak(hiss(7, -48.0));
            a.invite(now, "canary", target);
        });
        let agent = self.pbx.ringing(PATIENCE).await;
        let agent = agent.ok_or_else(|| format!("the call did not get through: {}", fate(&caller)))?;
        agent.with(|a, _| a.rtp.speak(hiss(8, -48.0)));
        let up = caller.until(PATIENCE, UserAgent::is_up).await;
        let done = if up {
            self.talk(guard, form, around, (&caller, &agent), verdict).await
        } else {
            Err(format!("no answer: {}", fate(&caller)))
        };
        caller.with(UserAgent::hang_up);
        done?;
        if !agent.until(PATIENCE, UserAgent::is_ended).await {
            verdict.faults.push("the agent's leg did not end".to_owned());
        }
        self.look(around, &agent, verdict).await
    }

    /// Keys the card.
    async fn talk(
        &self,
        guard: CanaryGuard,
        form: CanaryForm,
        around: &Around,
        (caller, agent): (&Phone, &Phone),
        verdict: &mut Verdict,
    ) -> Result<(), String> {
        let sip_call_id = agent.with(|a, _| a.call_id().map(str::to_owned));
        let find = Find { sip_call_id, ..Find::default() };
        let found = match around.calls.signal(Signal::Find { find, limit: 1 }).await {
            Ok(Reply::Calls(found)) => found,
            _ => Vec::new(),
        };
        let call = found.first().map(|call| call.id).ok_or("the call is not to be found")?;
        verdict.call = Some(call);
        sleep(Duration::from_millis(1_000)).await;
        if guard == CanaryGuard::Held {
            let (kinds, reason, ttl) = (vec![HoldKind::Mask], "canary".to_owned(), None);
            let actor = Actor::new("canary", Role::Integration);
            let held = around.calls.signal(Signal::TakeHolds { call, kinds, reason, ttl, actor }).await;
            held.map_err(|error| format!("no mask: {error}"))?;
        }
        let form = match form {
            CanaryForm::Tone => Form::Tone,
            CanaryForm::Event => Form::Event,
            CanaryForm::Info => Form::Info,
        };
        caller.with(|a, _| a.press(300, typed(self.canary.card, form, PRESS.0, PRESS.1)));
        let keying = Duration::from_millis(u64::from(PRESS.0 + PRESS.1) * self.canary.keys() as u64);
        sleep(keying + Duration::from_millis(2_000)).await;
        Ok(())
    }

    /// Looks for the card.
    async fn look(&self, around: &Around, agent: &Phone, verdict: &mut Verdict) -> Result<(), String> {
        let call = verdict.call.ok_or("the call is not to be found")?;
        let (heard, events, infos, texts) = agent.with(|a, _| {
            (a.rtp.heard.samples(), a.rtp.heard.event_codes().len(), a.infos().len(), a.received().concat())
        });
        let tones = decode(&heard).len();
        // A substituted key is one and the same event for each; what is said of the keys is their number, as elsewhere.
        let substitute = around.substitutes && events > 0;
        if tones + infos > 0 || (events > 0 && !substitute) {
            let what = format!("the agent got {tones} tones, {events} events, {infos} INFO");
            verdict.faults.push(what);
        }
        let holds =
            |text: &[u8]| self.canary.card.as_bytes().windows(RUN).any(|run| text.windows(RUN).any(|part| part == run));
        if holds(&texts) {
            verdict.faults.push("SIP toward the agent holds digits of the card".to_owned());
        }
        let told = around.history.of_call(call);
        let masked = told.iter().filter_map(|event| match event.kind {
            EventKind::KeyMasked { count } => Some(count as usize),
            _ => None,
        });
        let (masked, keys) = (masked.max().unwrap_or(0), self.canary.keys());
        if masked != keys {
            verdict.faults.push(format!("{masked} of {keys} keys were counted as masked"));
        }
        let texts = told.iter().filter_map(|event| serde_json::to_vec(&event.kind).ok());
        if texts.into_iter().any(|text| holds(&text)) {
            verdict.faults.push("an event holds digits of the card".to_owned());
        }
        let Some(catalogue) = &around.catalogue else { return Ok(()) };
        let entry = self.recorded(around, catalogue, call).await?;
        verdict.recording = Some(entry.recording);
        let labelled = catalogue.label(entry.recording, &[("canary".to_owned(), Some(verdict.name.clone()))]);
        labelled.map_err(|error| format!("the recording cannot be marked: {error}"))?;
        match &entry.self_audit {
            Some(audit) if audit.verdict == AuditVerdict::Clean => {}
            Some(audit) => verdict.faults.push(format!("the recording: {}", audit.detail)),
            None => verdict.faults.push("the recording was not heard again in time".to_owned()),
        }
        if verdict.is_good() {
            destroy(catalogue, &entry).map_err(|error| format!("its recording cannot be destroyed: {error}"))?;
        }
        Ok(())
    }

    /// Waits for the recording's self-audit.
    async fn recorded(&self, around: &Around, catalogue: &Arc<Catalogue>, call: CallId) -> Result<Entry, String> {
        let until = Instant::now() + AUDIT_PATIENCE;
        loop {
            let told = around.history.of_call(call);
            let recording = told.iter().find_map(|event| match event.kind {
                EventKind::Recording { recording, state: RecordingState::Closed } => Some(recording),
                _ => None,
            });
            if let Some(recording) = recording {
                let catalogue = catalogue.clone();
                // It waits for the disk.
                let entry = tokio::task::spawn_blocking(move || catalogue.get(recording)).await;
                let entry = entry.ok().and_then(Result::ok).flatten();
                if let Some(entry) = entry.filter(|entry| entry.self_audit.is_some() || Instant::now() >= until) {
                    return Ok(entry);
                }
            }
            if Instant::now() >= until {
                return Err("the recording was not closed in time".to_owned());
            }
            sleep(Duration::from_millis(100)).await;
        }
    }
}

/// A canary's recording has done its work: nothing of it stays but its tombstone.
fn destroy(catalogue: &Catalogue, entry: &Entry) -> Result<(), Box<dyn std::error::Error>> {
    let file = catalogue.file(entry);
    let tombstone = Tombstone { by: "canary".to_owned(), why: "a test call".to_owned(), at_ms: wall() };
    catalogue.bury(entry.recording, tombstone)?;
    std::fs::remove_file(&file)?;
    std::fs::remove_file(place::seal_file(&file))?;
    Ok(())
}

/// What a caller was told who did not get through.
fn fate(caller: &Phone) -> String {
    let told = caller.events().into_iter().rev().find_map(|(_, event)| match event {
        Event::Rejected(status) => Some(format!("refused with {status}")),
        Event::HungUp => Some("hung up by the node".to_owned()),
        Event::Progress { status, .. } => Some(format!("only {status} came")),
        _ => None,
    });
    told.unwrap_or_else(|| "nothing came at all".to_owned())
}

fn word(form: CanaryForm) -> &'static str {
    match form {
        CanaryForm::Tone => "tone",
        CanaryForm::Event => "event",
        CanaryForm::Info => "info",
    }
}

fn word_of(guard: CanaryGuard) -> &'static str {
    match guard {
        CanaryGuard::Held => "held",
        CanaryGuard::Auto => "auto",
        CanaryGuard::Open => "open",
    }
}

/// What a canary needs of its node.
pub(super) struct Around {
    pub(super) calls: Calls,
    pub(super) history: Arc<History>,
    pub(super) catalogue: Option<Arc<Catalogue>>,
    pub(super) audit: Audit,
    /// As bound.
    pub(super) listeners: Vec<SocketAddr>,
    /// The mask is `substitute`: each key is announced by one and the same event.
    pub(super) substitutes: bool,
}

impl Around {
    fn tell(&self, verdict: &Verdict) {
        let Verdict { name, call, recording, .. } = verdict;
        let (good, finding) = (verdict.is_good(), verdict.text());
        if good {
            tracing::info!(canary = %name, finding, "canary");
        } else {
            tracing::error!(canary = %name, finding, "a canary call failed");
        }
        let action = Action::Canary { recording: *recording, finding: finding.as_str().into() };
        let record = Record::node(action);
        self.audit.note(if good { record } else { record.outcome(Outcome::failed("a canary call failed")) });
        let kind = EventKind::Canary { name: name.clone(), good, finding, recording: *recording };
        self.history.publish(wall(), *call, kind);
    }
}

type Ask = oneshot::Sender<Vec<Verdict>>;

/// The running schedule. Dropping it ends it.
pub struct Bird {
    asks: mpsc::Sender<Ask>,
    task: JoinHandle<()>,
}

impl Bird {
    /// Plays a round now, after the one that may be under way; `None` when the node is going.
    pub async fn now(&self) -> Option<Vec<Verdict>> {
        let (reply, verdicts) = oneshot::channel();
        self.asks.send(reply).await.ok()?;
        verdicts.await.ok()
    }
}

impl Drop for Bird {
    fn drop(&mut self) {
        self.task.abort();
    }
}
