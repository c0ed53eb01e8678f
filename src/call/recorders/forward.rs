//! Forwarding: what was spilled while a recorder was away is sent to it when it is back. Spills that wait, what is in them and
//! the time go in; recording sessions like those of calls, orders to open, play and mark them, and events come out. A line
//! that forwards is of no call that is up: nothing of it reaches a call, and it is given up for none.
//!
//! ```text
//!  Spills ── may be asked ─► OpenSpill ─► Opened ─► INVITE, target after target ─► flows: PlaySpill ─► Played ─► BYE answered
//!     ▲                          └── Unfit            └── refused, lost, no sound wanted                            │
//!     └───── rests, from its beginning again ◄───────────┘                  MarkSpill ─► Marked: forgotten ◄────────┘
//! ```

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::RngExt;

use super::line::{Line, LineId};
use super::{Shared, begin as lines, begin_round, carry_out, with_line};
use crate::base::ids::{CallId, Leg, RecordingId};
use crate::base::time::WallMs;
use crate::call::orders::{ForkId, OpenedSpill, RecordOrder, SpillReport, WaitingSpill};
use crate::config::{RecorderId, Side};
use crate::obs::event::{EventKind, SpillState};
use crate::record::sealed::Start;
use crate::record::siprec::End;
use crate::record::siprec::forward::Fault;
use crate::record::siprec::metadata::{self, Part, Uuid};

/// How long a recorder that has taken the session may want no sound.
const IDLE: Duration = Duration::from_secs(60);

/// What a line that forwards knows beyond others.
#[derive(Debug)]
pub(super) struct Forward {
    recording: RecordingId,
    playing: bool,
    /// All is sent, and the BYE with it.
    finishing: bool,
    /// It cannot be read on; that has been told.
    left: bool,
    /// Until when the recorder has to want sound.
    pub(super) idle_until: Option<Instant>,
}

/// What is reported of spills.
pub(in crate::call) fn handle(now: Instant, s: &mut Shared, report: SpillReport) {
    match report {
        SpillReport::All(all) => take_all(s, all),
        SpillReport::One(one) => {
            if let Some(recorder) = recorder_of(s, &one.recorder) {
                s.recorders.waiting.handle_one(recorder.0, one.started, one.recording);
            }
        }
        SpillReport::Opened(recording, opened) => self::opened(now, s, recording, *opened),
        SpillReport::Unfit(recording, why, for_good) => unfit(now, s, recording, why, for_good),
        SpillReport::Marked(recording) => {
            s.recorders.waiting.handle_done(recording);
            if let Some((recorder, call, target)) = s.recorders.marking.remove(&recording) {
                tell(s, (recorder, recording, Some(call)), SpillState::Forwarded, Some(target), None);
            }
        }
    }
    begin(now, s);
}

fn recorder_of(s: &Shared, name: &str) -> Option<RecorderId> {
    s.config.recorders.iter().position(|recorder| recorder.name == name).map(RecorderId)
}

fn take_all(s: &mut Shared, all: Vec<WaitingSpill>) {
    let mut of: BTreeMap<usize, Vec<(WallMs, RecordingId)>> = BTreeMap::new();
    for one in all {
        if let Some(recorder) = recorder_of(s, &one.recorder) {
            of.entry(recorder.0).or_default().push((one.started, one.recording));
        }
    }
    for recorder in 0..s.config.recorders.len() {
        for recording in s.recorders.waiting.handle_all(recorder, of.get(&recorder).map_or(&[], Vec::as_slice)) {
            let why = "it does not wait any more: destroyed, withheld, or its labels were changed";
            tell(s, (RecorderId(recorder), recording, None), SpillState::Dropped, None, Some((why.to_owned(), None)));
        }
    }
}

/// Begins what may be begun.
pub(in crate::call) fn begin(now: Instant, s: &mut Shared) {
    let mut waiting = std::mem::take(&mut s.recorders.waiting);
    while let Some((_, recording)) = waiting.poll(now, &mut |recorder| may_ask(now, s, RecorderId(recorder))) {
        s.out.record(RecordOrder::OpenSpill { recording });
    }
    s.recorders.waiting = waiting;
}

/// Whether a recorder can be asked for a session that is no call's: a target of it is there, no call goes without it, and the
/// calls have ports enough.
fn may_ask(now: Instant, s: &Shared, recorder: RecorderId) -> bool {
    let trunk = s.config.recorders[recorder.0].trunk;
    let probed = !s.config.trunks[trunk.0].link.probe.every.is_zero();
    let missed = |line: &Line| line.recorder == recorder && line.counts() && line.is_away();
    s.trunks.is_there(now, trunk, probed) && s.ports.is_ample(now) && !s.recorders.lines.values().any(missed)
}

/// A spill was opened: its recorder is asked for a session.
fn opened(now: Instant, s: &mut Shared, recording: RecordingId, opened: OpenedSpill) {
    let Some(recorder) = s.recorders.waiting.begun(recording).map(RecorderId) else {
        return s.out.record(RecordOrder::LeaveSpill { recording });
    };
    let OpenedSpill { start, ended, call_ended } = opened;
    let (call, from) = (start.call, start.started_at_ms);
    let (mut told, headers) = match start.spill {
        Some(spill) => (spill.told, spill.headers),
        None => (told_by(s, &start), Vec::new()),
    };
    told.streams = [0, 1].map(|nth| Uuid::of_stream(recording, nth));
    told.part = Some(Part { recording, from, to: ended, ended: call_ended });
    s.recorders.last_line += 1;
    let id = LineId(s.recorders.last_line);
    let forward = Forward { recording, playing: false, finishing: false, left: false, idle_until: None };
    let line = Line { forward: Some(forward), headers, ..Line::new(id, call, recorder, told) };
    s.recorders.forwards.insert(recording, id);
    s.recorders.lines.insert(id, line);
    with_line(s, id, |line, s| begin_round(now, s, line));
}

/// What is known of a call by the description of a spill that says no more.
fn told_by(s: &mut Shared, start: &Start) -> metadata::Call {
    let from_pbx = s.config.trunks.iter().any(|trunk| trunk.name == start.from_trunk && trunk.side == Side::Pbx);
    let caller = if from_pbx { Leg::Agent } else { Leg::Customer };
    let agent = if start.agent.is_empty() { &start.called } else { &start.agent };
    let users = if from_pbx { [&start.called, &start.caller] } else { [&start.caller, agent] };
    let mut participants = Vec::new();
    for (leg, user) in [Leg::Customer, Leg::Agent].into_iter().zip(users) {
        lines::seat(&mut s.random, &mut participants, (leg, user, &start.node), start.started_at_ms);
    }
    metadata::Call {
        session: Uuid(s.random.random()),
        streams: [Uuid(0), Uuid(0)],
        id: start.call.to_string(),
        call_ids: [0, 1].map(|at: usize| start.sip_call_ids.get(at).cloned()),
        codecs: [None, None],
        started: start.started_at_ms,
        participants,
        held: [false; 2],
        caller,
        extensions: Vec::new(),
        namespace: String::new(),
        user_to_user: None,
        part: None,
    }
}

/// A recorder has taken the session.
pub(super) fn accepted(now: Instant, s: &mut Shared, line: &mut Line) {
    let Some(forward) = &mut line.forward else { return };
    if !forward.playing {
        forward.idle_until = Some(now + IDLE);
    }
    let (of, target) = ((line.recorder, forward.recording, Some(line.call)), line.target());
    tell(s, of, SpillState::Forwarding, target, None);
}

/// Sound flows on the way of a line, or does not any more.
pub(super) fn flows(now: Instant, s: &mut Shared, line: &mut Line, (fork, flows): (ForkId, bool)) {
    let Some(forward) = &mut line.forward else { return };
    forward.idle_until = (!flows && !forward.finishing).then(|| now + IDLE);
    if flows && !std::mem::replace(&mut forward.playing, true) {
        s.out.record(RecordOrder::PlaySpill { recording: forward.recording, fork });
    }
}

/// All of a spill is sent.
pub(super) fn played(now: Instant, line: &mut Line, sent: u64, back: u64) {
    let (Some(forward), Some(attempt)) = (&mut line.forward, &mut line.attempt) else { return };
    // Some come back while a recorder opens its ports; not one in four.
    if sent == 0 || back.saturating_mul(4) > sent {
        return attempt.session.handle_unheard();
    }
    (forward.finishing, forward.idle_until) = (true, None);
    attempt.session.finish(now);
}

/// Time passed.
pub(super) fn due(now: Instant, s: &mut Shared, line: &mut Line) {
    let late = line.forward.as_mut().is_some_and(|f| f.idle_until.take_if(|until| *until <= now).is_some());
    if late {
        line.last_error = Some("the recorder took the session and wanted no sound".to_owned());
        if let Some(attempt) = &mut line.attempt {
            attempt.session.stop();
        }
        carry_out(now, s, line);
    }
}

/// A session that forwards is over.
pub(super) fn over(now: Instant, s: &mut Shared, line: &mut Line, (end, accepted, target): (End, bool, SocketAddr)) {
    let Some(Forward { recording, finishing, left, .. }) = line.forward else { return };
    match end {
        _ if left => return,
        End::Ours if finishing => {
            s.recorders.forwards.remove(&recording);
            s.recorders.marking.insert(recording, (line.recorder, line.call, target));
            s.out.record(RecordOrder::MarkSpill { recording });
            line.over = true;
            return;
        }
        // Given up by us. Before it was accepted, whoever gave it up goes on with the next target.
        End::Ours if !accepted && !line.stopped => return,
        End::Ours => {}
        End::Theirs => line.last_error = Some("the recorder ended the session".to_owned()),
        End::Failed(why) => line.last_error = Some(why),
    }
    if accepted || line.stopped { failed(now, s, line) } else { super::try_next(now, s, line) }
}

/// No target of the recorder takes a spill, or the one that did has lost it: it is sent anew later.
pub(super) fn failed(now: Instant, s: &mut Shared, line: &mut Line) {
    let Some(recording) = line.forward.as_ref().map(|forward| forward.recording) else { return };
    s.recorders.forwards.remove(&recording);
    s.out.record(RecordOrder::LeaveSpill { recording });
    let rest = s.recorders.waiting.handle_failed(now, &mut s.random, recording, Fault::Recorder);
    line.over = true;
    if !line.stopped {
        let why = line.last_error.take().unwrap_or_else(|| "no target of the recorder is up".to_owned());
        tell(s, (line.recorder, recording, Some(line.call)), SpillState::Failed, line.target(), Some((why, rest)));
    }
}

/// A spill cannot be opened or read to its end.
fn unfit(now: Instant, s: &mut Shared, recording: RecordingId, why: String, for_good: bool) {
    let Some(recorder) = s.recorders.waiting.begun(recording).map(RecorderId) else { return };
    if let Some(id) = s.recorders.forwards.remove(&recording) {
        with_line(s, id, |line, s| {
            if let Some(forward) = &mut line.forward {
                forward.left = true;
            }
            if let Some(attempt) = &mut line.attempt {
                attempt.session.stop();
            }
            carry_out(now, s, line);
            line.over = true;
        });
    }
    if for_good {
        s.recorders.waiting.handle_gone(recording);
        return tell(s, (recorder, recording, None), SpillState::Dropped, None, Some((why, None)));
    }
    let rest = s.recorders.waiting.handle_failed(now, &mut s.random, recording, Fault::Recording);
    tell(s, (recorder, recording, None), SpillState::Failed, None, Some((why, rest)));
}

/// The node takes no new calls and ends with the last: what is being forwarded is left, to be sent anew after its next start.
pub(in crate::call) fn stop(now: Instant, s: &mut Shared) {
    s.recorders.waiting.stop();
    for id in s.recorders.forwards.values().copied().collect::<Vec<_>>() {
        with_line(s, id, |line, s| {
            // What is all sent but for the last answer is seen to its end.
            if line.forward.as_ref().is_some_and(|forward| forward.finishing) {
                return;
            }
            line.stopped = true;
            if let Some(attempt) = &mut line.attempt {
                attempt.session.stop();
            }
            carry_out(now, s, line);
            if !line.over {
                failed(now, s, line);
            }
        });
    }
}

/// Tells what becomes of a spill.
fn tell(
    s: &mut Shared,
    (recorder, recording, call): (RecorderId, RecordingId, Option<CallId>),
    state: SpillState,
    target: Option<SocketAddr>,
    fault: Option<(String, Option<Duration>)>,
) {
    let (reason, rest) = fault.unzip();
    let event = EventKind::Spill {
        recorder: s.config.recorders[recorder.0].name.clone(),
        recording,
        state,
        target: target.map(|at| at.to_string()),
        reason,
        again_ms: rest.flatten().map(|rest| u64::try_from(rest.as_millis()).unwrap_or(u64::MAX)),
    };
    s.out.events.push_back((call, event));
}
