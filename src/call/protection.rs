//! What stands between a call's digits and its sinks, seen from the call: guard policy, holds, the recording, and what
//! is in force. What becomes of single keys is in `keys`, of those under `auto` in `detector`. Signals and the time go
//! in; media and recorder orders and events go to the outbox. It knows no SIP and outlives every re-negotiation: nothing a peer sends in SDP or a
//! re-INVITE reaches it (threats R25).
//!
//! ```text
//!                    policy off | signal | auto, no mask hold   policy always, or any mask hold
//!   customer→agent     Open | Listen | Masked(silence)  ◄─ settle() ─►    Masked(kind)
//!                    no star codes    star codes      star codes in band     while and 2 s after the other is masked
//!   agent→customer       Open          Withhold        Masked(silence)      Masked(comfort noise)
//!                    not answered    answered, no pause hold    a pause hold
//!   recorder tap         Off      ►        On         ◄──────►    Paused        (no recording: Off)
//! ```
//! The `policy` module decides; [`Protection::settle`] runs after every
//! change and orders the difference, masking before anything else.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::detector::Detector;
use super::echo::{Echo, LATE};
use super::late::Late;
use super::outbox::Outbox;
use super::paying::Paying;
use super::policy::{Wishes, guard_back, guard_in_force, tap_in_force};
use super::star::{Keys, Star};
use super::{RecordOrder, RecorderReport};
use crate::base::Random;
use crate::base::ids::{CallId, CollectionId, HoldId, Leg, RecordingId, SessionId};
use crate::base::time::soonest;
use crate::capture::Collection;
use crate::capture::collect::Summary;
use crate::config::{GuardMode, RecordingPolicy};
use crate::guard::Holds;
use crate::guard::holds::{Hold, HoldError, Owner};
use crate::media::{Command, Guard, Tap};
use crate::obs::event::{CollectionEnd, EventKind, HoldKind, RecordingState};
use crate::record::horizon::Redaction;
use crate::record::sealed::Mark;

/// How long the capture's holds outlive its collection without a further key: a card longer than expected, or a
/// terminator pressed out of habit, is still masked.
pub(super) const LINGER: Duration = Duration::from_millis(1_500);

/// The longest the capture's holds outlive its collection, whatever is keyed.
pub(super) const LONGEST_LINGER: Duration = Duration::from_secs(10);

/// How long after the mask is gone an INFO may still speak of a key that was pressed under it: two copies of it lost on
/// the way (RFC 3261 timer E), and a guard that leaves only when the line is quiet.
pub(super) const INFO_LAG: Duration = Duration::from_secs(4);

/// Ended collections remembered per call.
pub(super) const REMEMBERED: usize = 8;

/// Where the recording is.
#[derive(Debug)]
enum Recording {
    /// None wanted, or not yet.
    None,
    /// Being written.
    Open { id: RecordingId },
    /// Over.
    Ended { id: RecordingId, state: RecordingState },
}

/// Holds of a collection that has ended, kept a little longer.
#[derive(Debug)]
pub(super) struct Lingering {
    pub(super) owner: Owner,
    pub(super) until: Instant,
    pub(super) last: Instant,
}

/// A collection that is over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended {
    pub(super) id: CollectionId,
    pub(super) summary: Summary,
    pub(super) lengths: (usize, usize),
}

/// What media was last told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ordered {
    toward_agent: Guard,
    toward_customer: Guard,
    tap: Tap,
}

/// What a failed recorder means for the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RecorderVerdict {
    /// The call goes on.
    GoOn,
    /// The call must end.
    EndCall,
}

/// The protection of one call.
#[derive(Debug)]
pub(super) struct Protection {
    pub(super) call: CallId,
    pub(super) session: SessionId,
    pub(super) wishes: Wishes,
    pub(super) holds: Holds,
    pub(super) collection: Option<Collection>,
    /// Name of the API key that opened the collection.
    pub(super) collector: String,
    pub(super) ended: Vec<Ended>,
    /// The payment that is not over.
    pub(super) payment: Option<Paying>,
    pub(super) lingering: Vec<Lingering>,
    pub(super) star: Option<Star>,
    pub(super) detector: Option<Detector>,
    /// What the agent's side keys while an echo may be among it.
    pub(super) echo: Echo,
    /// Keys of the agent's own that are to be sent on.
    pub(super) passed: Keys,
    /// Until when an echo of a key that was masked may come back although the mask is gone.
    echo_until: Option<Instant>,
    recording: Recording,
    /// What may have to be taken out of the recording.
    pub(super) late: Late,
    /// What the recording was last told: whether the customer's keys pass, and the agent's.
    marked: Option<(bool, bool)>,
    /// The sound of the call goes to recorders beside the recording.
    forked: bool,
    pub(super) keys_masked: u32,
    ordered: Ordered,
    /// The guard of the far party's trunk, where a customer has the agent's place (two calls that were joined).
    pub(super) far: Option<GuardMode>,
    /// Something flows that can be neither heard nor masked.
    unmaskable: Cell<bool>,
    /// Until when INFO of the customer counts as masked although the mask is gone.
    info_until: Option<Instant>,
}

impl Protection {
    /// The protection of a call whose media session is about to be created with [`Protection::guards`].
    pub(super) fn new(call: CallId, session: SessionId, wishes: Wishes) -> Self {
        let toward_agent = guard_in_force(wishes.mode, false, wishes.mask);
        let toward_customer = guard_back(wishes.star.as_ref(), is_masked(toward_agent));
        Self {
            call,
            session,
            holds: Holds::new(wishes.hold_default, wishes.hold_max),
            collection: None,
            collector: String::new(),
            ended: Vec::new(),
            payment: None,
            lingering: Vec::new(),
            star: wishes.star.clone().map(Star::new),
            detector: (wishes.mode == GuardMode::Auto).then(|| Detector::new(wishes.auto)),
            echo: Echo::default(),
            passed: Keys::new(),
            echo_until: None,
            recording: Recording::None,
            late: Late::new(wishes.mode, wishes.auto),
            marked: None,
            forked: false,
            keys_masked: 0,
            ordered: Ordered { toward_agent, toward_customer, tap: Tap::Off },
            far: None,
            unmaskable: Cell::new(false),
            info_until: None,
            wishes,
        }
    }

    /// The guards of a new session: toward the agent, toward the customer.
    pub(super) fn guards(&self) -> (Guard, Guard) {
        (self.ordered.toward_agent, self.ordered.toward_customer)
    }

    /// The call goes to other trunks than thought: from now on theirs is the policy.
    pub(super) fn follow(&mut self, now: Instant, wishes: Wishes, out: &mut Outbox) {
        self.star = wishes.star.clone().map(Star::new);
        self.holds.set_leases(wishes.hold_default, wishes.hold_max);
        if (wishes.mode, wishes.auto) != (self.wishes.mode, self.wishes.auto) {
            self.hush(now, out);
            self.detector = (wishes.mode == GuardMode::Auto).then(|| Detector::new(wishes.auto));
            self.release_owned(now, &Owner::Detector, out);
            self.late = Late::new(wishes.mode, wishes.auto);
        }
        // What is being recorded goes on, whoever comes into the call.
        let recording = wishes.recording.max(self.wishes.recording);
        let keep = matches!(self.recording, Recording::Open { .. });
        self.wishes = wishes;
        if keep {
            self.wishes.recording = recording;
        }
        self.settle(now, out);
    }

    /// Recording policy of the call.
    pub(super) fn recording_policy(&self) -> RecordingPolicy {
        self.wishes.recording
    }

    /// Whether something flows, as agreed now, that can be neither heard nor masked: media holds it back while the mask is
    /// in force, and the call says so.
    pub(super) fn carries_unmaskable(&self, unmaskable: bool, out: &mut Outbox) {
        let before = self.unmaskable.replace(unmaskable);
        if unmaskable && !before && self.masked() {
            out.event(self.call, EventKind::UnmaskableStopped { on: true });
        }
    }

    /// Guard policy.
    pub(super) fn mode(&self) -> GuardMode {
        self.wishes.mode
    }

    /// Whether the customer's digits are masked now.
    pub(super) fn masked(&self) -> bool {
        is_masked(self.ordered.toward_agent)
    }

    /// Whether an echo of a masked key may come from the agent's side.
    pub(super) fn echo_possible(&self) -> bool {
        self.masked() || self.echo_until.is_some()
    }

    /// Whether recording is paused now.
    pub(super) fn paused(&self) -> bool {
        self.holds.in_force(HoldKind::Pause)
    }

    /// Keys masked so far.
    pub(super) fn keys_masked(&self) -> u32 {
        self.keys_masked
    }

    /// Holds, oldest first.
    pub(super) fn holds(&self) -> impl Iterator<Item = &Hold> {
        self.holds.iter()
    }

    /// Name of the API key that opened the open collection.
    pub(super) fn collector(&self) -> &str {
        &self.collector
    }

    /// The open collection.
    pub(super) fn collection(&self) -> Option<&Collection> {
        self.collection.as_ref()
    }

    /// Ended collections, oldest first.
    pub(super) fn ended(&self) -> &[Ended] {
        &self.ended
    }

    /// The recording and its state.
    pub(super) fn recording(&self) -> Option<(RecordingId, RecordingState)> {
        match &self.recording {
            Recording::None => None,
            Recording::Open { id } if self.ordered.tap == Tap::Paused => Some((*id, RecordingState::Paused)),
            Recording::Open { id } => Some((*id, RecordingState::Recording)),
            Recording::Ended { id, state } => Some((*id, *state)),
        }
    }

    /// Whether a SIP INFO with a digit from `from` may be passed on as it is: never while it could speak of a key that
    /// was masked, never while star codes or echoes are listened for.
    pub(super) fn passes_info(&self, now: Instant, from: Leg) -> bool {
        match from {
            Leg::Customer => !self.masked() && self.info_until.is_none_or(|until| until <= now),
            Leg::Agent => self.star.is_none() && !self.echo_possible() && !self.masks_far(),
        }
    }

    /// The call is answered: announces a mask that was in force from the start, opens the recording.
    pub(super) fn answered(&mut self, now: Instant, random: &mut Random, out: &mut Outbox) {
        if self.masked() {
            out.event(self.call, EventKind::Mask { on: true });
        }
        if self.wishes.recording != RecordingPolicy::Off {
            let id = RecordingId::draw(random);
            self.recording = Recording::Open { id };
            let policy = self.wishes.recording;
            let (call, session, horizon) = (self.call, self.session, self.wishes.horizon);
            let (spill, hush) = (None, false);
            out.record(RecordOrder::Open { recording: id, call, session, policy, horizon, spill, hush });
            self.marked = None;
            if !self.paused() {
                out.event(self.call, EventKind::Recording { recording: id, state: RecordingState::Recording });
            }
        }
        self.settle(now, out);
    }

    /// The sound of the call goes to recorders from now on, until its end.
    pub(super) fn forks(&mut self, now: Instant, out: &mut Outbox) {
        self.forked = true;
        self.settle(now, out);
    }

    /// The recording in progress, if `id` is it.
    pub(super) fn handle_recorder(
        &mut self,
        now: Instant,
        id: RecordingId,
        report: RecorderReport,
        out: &mut Outbox,
    ) -> RecorderVerdict {
        if !matches!(self.recording, Recording::Open { id: open } if open == id) {
            return RecorderVerdict::GoOn;
        }
        // A recorder that closes unasked has failed too.
        let state = match report {
            RecorderReport::Failed | RecorderReport::Closed => RecordingState::Failed,
        };
        self.recording = Recording::Ended { id, state };
        self.settle(now, out);
        out.event(self.call, EventKind::Recording { recording: id, state });
        match self.wishes.recording {
            RecordingPolicy::Required => RecorderVerdict::EndCall,
            RecordingPolicy::Off | RecordingPolicy::BestEffort => RecorderVerdict::GoOn,
        }
    }

    /// Takes a hold and puts it in force.
    pub(super) fn take(
        &mut self,
        now: Instant,
        random: &mut Random,
        (kind, owner): (HoldKind, Owner),
        reason: &str,
        ttl: Option<Duration>,
        out: &mut Outbox,
    ) -> Result<Hold, HoldError> {
        let hold = self.holds.take(now, random, kind, owner, reason, ttl)?.clone();
        if hold.owner != Owner::Detector {
            let began = self.detector.as_ref().and_then(Detector::suspected_since);
            let order = self.late.handle_hold(now, began);
            self.redact(order, out);
        }
        if kind == HoldKind::Mask && hold.owner != Owner::Detector {
            self.hush(now, out);
        }
        self.settle(now, out);
        let taken = EventKind::HoldTaken {
            hold: hold.id,
            kind,
            owner: hold.owner.to_string(),
            reason: hold.reason.clone(),
            ttl_ms: hold.ttl_ms(now),
        };
        out.event(self.call, taken);
        Ok(hold)
    }

    /// Moves a hold's deadline.
    pub(super) fn renew(
        &mut self,
        now: Instant,
        hold: HoldId,
        (by, may_override): (&Owner, bool),
        ttl: Option<Duration>,
        out: &mut Outbox,
    ) -> Result<Hold, HoldError> {
        let hold = self.holds.renew(now, hold, by, may_override, ttl)?.clone();
        out.event(self.call, EventKind::HoldRenewed { hold: hold.id, kind: hold.kind, ttl_ms: hold.ttl_ms(now) });
        Ok(hold)
    }

    /// Gives a hold back.
    pub(super) fn release(
        &mut self,
        now: Instant,
        hold: HoldId,
        (by, may_override): (&Owner, bool),
        out: &mut Outbox,
    ) -> Result<(), HoldError> {
        let hold = self.holds.release(hold, by, may_override)?;
        let payment = hold.owner == Owner::Detector && hold.kind == HoldKind::Mask;
        self.released(now, vec![hold], by, out);
        if payment && let Some(detector) = &mut self.detector {
            // Who overrides the detector says that the payment is over.
            let actions = detector.end_payment();
            self.obey(now, actions, out);
        }
        Ok(())
    }

    /// Takes mask and pause for `owner`, or renews what it has: star codes and PBX signals, which repeat.
    pub(super) fn take_or_renew(
        &mut self,
        now: Instant,
        random: &mut Random,
        kinds: &[HoldKind],
        (owner, reason): (&Owner, &str),
        out: &mut Outbox,
    ) {
        for kind in kinds {
            let had = self.holds.owned(owner).find(|h| h.kind == *kind).map(|h| h.id);
            // Neither fails: the owner's first hold of a kind has its place reserved, and what it has it may renew.
            let _ = match had {
                Some(id) => self.renew(now, id, (owner, false), None, out),
                None => self.take(now, random, (*kind, owner.clone()), reason, None, out),
            };
        }
    }

    /// Gives back every hold of `owner`.
    pub(super) fn release_owned(&mut self, now: Instant, owner: &Owner, out: &mut Outbox) {
        let gone = self.holds.release_owned(owner);
        self.released(now, gone, owner, out);
    }

    fn released(&mut self, now: Instant, gone: Vec<Hold>, by: &Owner, out: &mut Outbox) {
        for hold in gone {
            let event = EventKind::HoldReleased { hold: hold.id, kind: hold.kind, by: by.to_string() };
            out.event(self.call, event);
        }
        self.settle(now, out);
    }

    /// Time passed.
    pub(super) fn handle_timeout(&mut self, now: Instant, random: &mut Random, out: &mut Outbox) {
        if let Some(end) = self.collection.as_mut().and_then(|c| c.handle_timeout(now)) {
            self.end_collection(now, end, out);
        }
        self.payment_due(now, out);
        if let Some(detector) = &mut self.detector {
            let actions = detector.handle_timeout(now);
            self.obey(now, actions, out);
        }
        let over: Vec<Lingering> = self.lingering.extract_if(.., |l| l.until <= now).collect();
        for lingering in over {
            self.release_owned(now, &lingering.owner, out);
        }
        let expired = self.holds.expire(now);
        for hold in &expired {
            out.event(self.call, EventKind::HoldExpired { hold: hold.id, kind: hold.kind });
        }
        if !expired.is_empty() {
            self.settle(now, out);
        }
        if self.echo_until.is_some_and(|until| until <= now) {
            self.echo_until = None;
            self.settle(now, out);
        }
        self.agent_keys_due(now, random, out);
    }

    /// When [`Protection::handle_timeout`] is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let collection = self.collection.as_ref().map(Collection::poll_timeout);
        let payment = self.payment.as_ref().and_then(Paying::poll_timeout);
        let lingering = self.lingering.iter().fold(None, |soon, l| soonest(soon, Some(l.until)));
        let star = self.star.as_ref().and_then(Star::poll_timeout);
        let detector = self.detector.as_ref().and_then(Detector::poll_timeout);
        let echo = soonest(self.echo.poll_timeout(), self.echo_until);
        [collection, payment, lingering, star, detector, echo, self.holds.poll_timeout()]
            .into_iter()
            .fold(None, soonest)
    }

    /// The call is over: wipes what was being keyed and ends the tap. The caller closes the media session and, when
    /// the last block is out, the recording that is told.
    pub(super) fn end(&mut self, now: Instant, out: &mut Outbox) -> Option<RecordingId> {
        self.end_collection(now, CollectionEnd::CallerHungUp, out);
        self.end_payment(now, out);
        self.detector = None;
        let order = self.late.handle_end(now);
        self.redact(order, out);
        if std::mem::take(&mut self.forked) {
            self.settle(now, out);
        }
        let Recording::Open { id } = self.recording else { return None };
        self.recording = Recording::Ended { id, state: RecordingState::Closed };
        self.settle(now, out);
        Some(id)
    }

    /// Orders what was heard out of the recording.
    pub(super) fn redact(&self, order: Option<Redaction>, out: &mut Outbox) {
        if let (Some(order), Recording::Open { id }) = (order, &self.recording) {
            out.record(RecordOrder::Redact { recording: *id, order });
        }
    }

    /// A key of the other leg is sent on to leg `to` as a tone, which the recording hears.
    pub(super) fn key_sounds(&mut self, now: Instant, to: Leg, out: &mut Outbox) {
        let mark = match to {
            Leg::Agent => {
                self.late.handle_sounded(now);
                Mark::CustomerKeySentOn
            }
            Leg::Customer => Mark::AgentKeySentOn,
        };
        if let Recording::Open { id } = self.recording {
            out.record(RecordOrder::Mark { recording: id, at: now, mark });
        }
    }

    /// Tells the recording whose keys may be heard from now on, where that has changed.
    fn mark_recording(&mut self, now: Instant, out: &mut Outbox) {
        let Recording::Open { id } = self.recording else { return };
        let pass = (!is_masked(self.ordered.toward_agent), !is_masked(self.ordered.toward_customer));
        let before = self.marked.replace(pass);
        let mut tell = |mark| out.record(RecordOrder::Mark { recording: id, at: now, mark });
        if before.is_none_or(|(customer, _)| customer != pass.0) {
            tell(if pass.0 { Mark::CustomerKeysPass } else { Mark::CustomerKeysMasked });
        }
        if before.is_none_or(|(_, agent)| agent != pass.1) {
            tell(if pass.1 { Mark::AgentKeysPass } else { Mark::AgentKeysMasked });
        }
    }

    /// Orders what policy and holds demand now, where it differs from what was ordered. Runs after every change.
    pub(super) fn settle(&mut self, now: Instant, out: &mut Outbox) {
        let mask_held = self.holds.in_force(HoldKind::Mask);
        let toward_agent = guard_in_force(self.wishes.mode, mask_held, self.wishes.mask);
        let recording = self.forked || matches!(self.recording, Recording::Open { .. });
        let tap = tap_in_force(recording, self.holds.in_force(HoldKind::Pause));
        let (masked, was_masked) = (is_masked(toward_agent), self.masked());
        if was_masked && !masked {
            self.info_until = Some(now + INFO_LAG);
            self.echo_until = Some(now + LATE);
        }
        let far = matches!(self.far, Some(GuardMode::Always | GuardMode::Auto));
        let toward_customer = guard_back(self.wishes.star.as_ref(), masked || far || self.echo_until.is_some());
        let before = std::mem::replace(&mut self.ordered, Ordered { toward_agent, toward_customer, tap });
        let session = self.session;
        // The tap pauses before a mask could open, and opens after it has closed.
        if before.tap != tap && tap == Tap::Paused {
            out.media(Command::SetTap { session, tap });
        }
        if before.toward_agent != toward_agent {
            out.media(Command::SetGuard { session, from: Leg::Customer, guard: toward_agent });
        }
        if before.toward_customer != toward_customer {
            out.media(Command::SetGuard { session, from: Leg::Agent, guard: toward_customer });
        }
        if before.tap != tap && tap != Tap::Paused {
            out.media(Command::SetTap { session, tap });
        }
        self.mark_recording(now, out);
        if was_masked != masked {
            out.event(self.call, EventKind::Mask { on: masked });
            if self.unmaskable.get() {
                out.event(self.call, EventKind::UnmaskableStopped { on: masked });
            }
        }
        if let Recording::Open { id } = self.recording {
            let state = match (before.tap, tap) {
                (Tap::On | Tap::Off, Tap::Paused) => Some(RecordingState::Paused),
                (Tap::Paused, Tap::On) => Some(RecordingState::Recording),
                _ => None,
            };
            if let Some(state) = state {
                out.event(self.call, EventKind::Recording { recording: id, state });
            }
        }
    }
}

fn is_masked(guard: Guard) -> bool {
    matches!(guard, Guard::Masked(_))
}
