//! SIPREC recorders of the calls: which target each call's recording session is asked for, and what becomes of it. Answered
//! calls, what changes on them, responses, requests, signals and the time go in; recording sessions
//! ([`crate::record::siprec::Session`]), orders to the sender of sound, spills to sealed files and events come out. Each
//! line of a call to a recorder stands for itself: what one recorder does or leaves touches neither the call nor another
//! line, unless it is required.
//!
//! ```text
//!  call answered ─► a line per recorder ─► target 1 ── refused, silent ─► target 2 … ─► round is over ─┐
//!                                            │ accepted        required: the call ends, new ones get 503 │
//!                                            ▼                 best effort: again after 2, 4, … 60 s ◄───┘
//!                                         recording ── lost ─► a new round at once; meanwhile a sealed file
//! ```

pub(super) mod begin;
mod book;
pub(super) mod forward;
mod lease;
mod line;
mod seen;
mod steer;
pub(super) mod view;

use std::time::{Duration, Instant};

use rand::RngExt;

use super::crossing;
use super::orders::{ForkId, ForkReport, RecordOrder};
use super::shared::{Invite, Shared};
use super::trunks::Met;
use crate::base::ids::{CallId, RecordingId};
use crate::config::RecordingPolicy;
use crate::obs::event::{EventKind, RecorderState};
use crate::record::siprec::{End, Output, Spill};
use crate::sip::{ClientId, Flow, Request, Response, ServerId};

use book::Asked;
pub(super) use book::Recorders;
use line::{Attempt, Line, LineId};
use seen::apply_pause;
pub(super) use seen::{Seen, see};
pub use steer::Steer;
pub(super) use steer::Steered;
pub(super) use steer::steer;

/// The wait after the first round that failed; it doubles up to the longest.
const FIRST_WAIT: Duration = Duration::from_secs(2);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// A session that lasted less counts as one that was not taken.
const SHORT: Duration = Duration::from_secs(5);
/// How long new calls are refused after a required recorder took none.
const SHUT: Duration = Duration::from_secs(10);
/// How long after a pause sound may still be under way that was heard in it: what the tap keeps back, and some.
const HUSH: Duration = Duration::from_secs(2);
/// How long the last sound of a call takes to its recorders.
const LAST_SOUND: Duration = Duration::from_millis(1_000);
/// How often a session is tried with other ports when somebody else has them.
const MOST_PORTS: u32 = 3;

/// Whether a call between these trunks can be recorded as it must be.
pub(super) fn may_begin(now: Instant, s: &mut Shared, trunks: [crate::config::TrunkId; 2]) -> bool {
    let config = s.config.clone();
    let named = trunks.iter().flat_map(|trunk| &config.trunks[trunk.0].recorders);
    let required = named.filter(|id| config.recorders[id.0].required);
    for id in required {
        let none = s.trunks.targets_of(now, &mut s.random, config.recorders[id.0].trunk).is_empty();
        if none || s.recorders.tallies[id.0].shut(now) {
            return false;
        }
    }
    true
}

/// Takes a line out of the table, lets it act, and puts it back in order.
fn with_line<R>(s: &mut Shared, id: LineId, act: impl FnOnce(&mut Line, &mut Shared) -> R) -> Option<R> {
    let mut line = s.recorders.lines.remove(&id)?;
    let result = act(&mut line, s);
    let due = if line.over { None } else { line.poll_timeout() };
    if due != line.due {
        if let Some(at) = line.due {
            s.recorders.due.remove(&(at, id));
        }
        if let Some(at) = due {
            s.recorders.due.insert((at, id));
        }
        line.due = due;
    }
    announce(s, &mut line);
    if line.over {
        if let Some(lines) = s.recorders.of_call.get_mut(&line.call) {
            lines.retain(|other| *other != id);
            if lines.is_empty() {
                s.recorders.of_call.remove(&line.call);
            }
        }
    } else {
        s.recorders.lines.insert(id, line);
    }
    Some(result)
}

/// Tells how far a line is, where that has changed.
fn announce(s: &mut Shared, line: &mut Line) {
    let state = line.state();
    if line.announced == Some(state) || line.forward.is_some() {
        return;
    }
    line.announced = Some(state);
    let event = EventKind::Recorder {
        recorder: s.config.recorders[line.recorder.0].name.clone(),
        state,
        target: line.target().map(|at| at.to_string()),
        reason: line.last_error.clone().filter(|_| state == RecorderState::Away),
        spill: line.spill,
    };
    s.out.event(line.call, event);
}

/// Begins a round: every target that may be asked, the best first.
fn begin_round(now: Instant, s: &mut Shared, line: &mut Line) {
    line.retry_at = None;
    let trunk = s.config.recorders[line.recorder.0].trunk;
    line.rest = s.trunks.targets_of(now, &mut s.random, trunk).into();
    if line.rest.is_empty() {
        fault(now, s, line, "no target of the recorder is up".to_owned());
    }
    try_next(now, s, line);
}

/// Asks the next target; when none is left, the round is over.
fn try_next(now: Instant, s: &mut Shared, line: &mut Line) {
    if line.stopped || line.ending.is_some() || line.over {
        return;
    }
    while let Some(remote) = line.rest.pop_front() {
        match begin::attempt(now, s, line, remote) {
            Ok(attempt) => {
                s.recorders.tallies[line.recorder.0].started += 1;
                line.attempt = Some(attempt);
                return carry_out(now, s, line);
            }
            Err(why) => fault(now, s, line, why),
        }
    }
    if line.forward.is_some() {
        return forward::failed(now, s, line);
    }
    line.away = true;
    line.failures += 1;
    let required = s.config.recorders[line.recorder.0].required;
    if required {
        s.recorders.tallies[line.recorder.0].shut_until = Some(now + SHUT);
        s.recorders.doomed.push(line.call);
    } else {
        let wait = FIRST_WAIT.saturating_mul(1 << line.failures.saturating_sub(1).min(6)).min(LONGEST_WAIT);
        // Calls that lost a recorder together do not come back together.
        line.retry_at = Some(now + wait.mul_f64(s.random.random_range(0.8..1.2)));
    }
    settle_spill(now, s, line);
}

/// Notes a fault of a recorder.
fn fault(now: Instant, s: &mut Shared, line: &mut Line, why: String) {
    if line.forward.is_some() {
        line.last_error = Some(why);
        return;
    }
    let tally = &mut s.recorders.tallies[line.recorder.0];
    tally.failed += 1;
    tally.last_error = Some((now, why.clone()));
    line.last_error = Some(why);
    line.away = true;
}

/// Opens or closes the sealed file that takes the sound while a recorder is away.
fn settle_spill(now: Instant, s: &mut Shared, line: &mut Line) {
    // What is forwarded is in a file already.
    let Some(session) = line.media else { return };
    let recorder = &s.config.recorders[line.recorder.0];
    let wanted = recorder.spill && line.is_away() && line.counts() && !line.own_pause.is_taken() && !line.spill_broken;
    match (wanted, line.spill) {
        (true, None) => {
            let recording = RecordingId::draw(&mut s.random);
            line.spill = Some(recording);
            s.recorders.spills.insert(recording, line.id);
            s.out.record(RecordOrder::Open {
                recording,
                call: line.call,
                session,
                policy: RecordingPolicy::BestEffort,
                horizon: line.horizon,
                spill: Some(Box::new(Spill::new(&recorder.name, &line.told, &line.headers))),
                hush: line.last_paused.is_some(),
            });
            line.announced = None;
        }
        (false, Some(recording)) => {
            line.spill = None;
            s.out.record(RecordOrder::Close { recording });
            s.remains.expect_recording(now, recording, line.call);
            s.recorders.spills.remove(&recording);
        }
        (true, Some(_)) | (false, None) => {}
    }
}

/// Carries out what the session of a line wants done.
fn carry_out(now: Instant, s: &mut Shared, line: &mut Line) {
    while let Some(attempt) = &mut line.attempt {
        let Some(output) = attempt.session.poll_output() else { return };
        match output {
            Output::Invite(request) => {
                let in_dialog = request.to_tag().is_some();
                let (dest, advertise) = (attempt.dest, s.config.listeners[attempt.dest.listener.0].advertise);
                let id = s.endpoint.request(now, request.clone(), dest, advertise);
                s.invites.insert(id, Invite { request, dest, advertise, owner: None, in_dialog });
                s.recorders.asked.insert(id, Asked::Invite(line.id));
                attempt.client = Some(id);
            }
            Output::Ack(dialog) => {
                let trunk = s.config.recorders[line.recorder.0].trunk;
                attempt.dest = crossing::next_hop(&s.config, trunk, dialog.next_hop(), attempt.dest);
                let (client, dest) = (attempt.client.take(), attempt.dest);
                if let Some(client) = client {
                    s.recorders.asked.remove(&client);
                    s.ack(now, client, &dialog, dest, None);
                }
            }
            Output::Cancel => {
                let dest = attempt.dest;
                if let Some(client) = attempt.client.take() {
                    give_up(now, s, client);
                }
                if !attempt.session.is_up() && line.ending.is_none() && !line.stopped {
                    s.trunks.met(now, &dest, Met::Nothing);
                }
            }
            Output::Send(request) => {
                let dest = attempt.dest;
                s.send(now, request, dest, None);
            }
            Output::Ask(request) => {
                let dest = attempt.dest;
                let id = s.send(now, request, dest, None);
                s.recorders.asked.insert(id, Asked::Alive(line.id));
            }
            Output::Respond(server, response) => {
                s.recorders.servers.insert(server, line.id);
                s.respond(now, server, response);
            }
            Output::Flow(streams) => {
                let hush = line.last_paused.is_some_and(|at| now.saturating_duration_since(at) < HUSH);
                let (fork, flows) = (attempt.fork, streams.is_some());
                s.out.record(RecordOrder::Flow { fork, streams, hush });
                forward::flows(now, s, line, (fork, flows));
            }
            Output::Accepted(_) => {
                attempt.accepted = true;
                s.recorders.tallies[line.recorder.0].shut_until = None;
                line.away = false;
                line.rest.clear();
                settle_spill(now, s, line);
                forward::accepted(now, s, line);
            }
            Output::Over(end) => over(now, s, line, end),
        }
    }
}

/// The session of a line is over.
fn over(now: Instant, s: &mut Shared, line: &mut Line, end: End) {
    let Some(attempt) = line.attempt.take() else { return };
    let lived = now.saturating_duration_since(attempt.began);
    let accepted = attempt.accepted;
    let target = attempt.dest.remote;
    release(now, s, attempt);
    if line.forward.is_some() {
        return forward::over(now, s, line, (end, accepted, target));
    }
    let why = match end {
        End::Ours => return settle_spill(now, s, line),
        End::Theirs => "the recorder ended the session".to_owned(),
        End::Failed(why) => why,
    };
    if line.ending.is_some() || line.stopped {
        return;
    }
    fault(now, s, line, why);
    if accepted && lived >= SHORT {
        line.failures = 0;
        begin_round(now, s, line);
    } else {
        try_next(now, s, line);
    }
    settle_spill(now, s, line);
}

/// Frees what a session had.
fn release(now: Instant, s: &mut Shared, attempt: Attempt) {
    s.out.record(RecordOrder::CloseFork { fork: attempt.fork });
    s.recorders.forks.remove(&attempt.fork);
    if let Some(ports) = attempt.ports {
        s.ports.give_back(now, ports);
    }
    s.recorders.tags.remove(&attempt.tag);
    s.remains.bury_tag(now, attempt.tag);
    s.endpoint.forget_call(now, &attempt.call_id);
    if let Some(client) = attempt.client {
        give_up(now, s, client);
    }
}

/// Nobody waits for the answer to an INVITE any more.
fn give_up(now: Instant, s: &mut Shared, client: ClientId) {
    s.recorders.asked.remove(&client);
    if s.endpoint.is_unsent(client) {
        s.endpoint.withdraw(client);
        s.invites.remove(&client);
    } else {
        s.abandon(now, client, None);
    }
}

/// A response to a request of a line's; `false`: it is nobody's here.
pub(super) fn handle_response(now: Instant, s: &mut Shared, id: ClientId, response: &Response) -> bool {
    let Some(asked) = s.recorders.asked.get(&id).copied() else { return false };
    if response.is_final() && matches!(asked, Asked::Alive(_)) {
        s.recorders.asked.remove(&id);
    }
    let taken = match asked {
        Asked::Invite(line) => with_line(s, line, |line, s| {
            let Some(attempt) = &mut line.attempt else { return };
            attempt.session.handle_response(now, &mut s.random, response);
            if response.is_final() && response.class() != 2 {
                s.recorders.asked.remove(&id);
                if let Some(attempt) = &mut line.attempt {
                    attempt.client = None;
                }
            }
            carry_out(now, s, line);
        }),
        Asked::Alive(line) => with_line(s, line, |line, s| {
            if let Some(attempt) = &mut line.attempt {
                if response.is_final() {
                    attempt.session.handle_alive(now, response.status);
                }
                carry_out(now, s, line);
            }
        }),
    };
    taken.is_some()
}

/// A request of a line's got no answer in time (408) or could not be sent (503); `false`: it is nobody's here.
pub(super) fn handle_failure(now: Instant, s: &mut Shared, id: ClientId, status: u16) -> bool {
    let Some(asked) = s.recorders.asked.remove(&id) else { return false };
    if let Some(invite) = s.invites.remove(&id)
        && !invite.in_dialog
    {
        s.trunks.met(now, &invite.dest, Met::Nothing);
    }
    let (Asked::Invite(line) | Asked::Alive(line)) = asked;
    with_line(s, line, |line, s| {
        let Some(attempt) = &mut line.attempt else { return };
        match asked {
            Asked::Invite(_) => {
                attempt.client = None;
                attempt.session.handle_failure(now, &mut s.random, status);
            }
            Asked::Alive(_) => attempt.session.handle_alive(now, status),
        }
        carry_out(now, s, line);
    });
    true
}

/// A request within a dialog; `false`: it is nobody's here.
pub(super) fn handle_request(now: Instant, s: &mut Shared, id: ServerId, flow: &Flow, request: &Request) -> bool {
    let Some(line) = request.to_tag().and_then(|tag| s.recorders.tags.get(tag)).copied() else { return false };
    with_line(s, line, |line, s| {
        let trunk = s.config.recorders[line.recorder.0].trunk;
        let stranger = !super::routing::comes_from(&s.config, trunk, flow);
        match &mut line.attempt {
            Some(attempt) if !stranger && request.call_id() == Some(attempt.call_id.as_str()) => {
                if flow.connection.is_some() && attempt.dest.transport == flow.transport {
                    attempt.dest.connection = flow.connection;
                }
                attempt.session.handle_request(&mut s.random, id, request);
                carry_out(now, s, line);
            }
            _ => s.respond(now, id, Response::for_request(request, 481, "")),
        }
    });
    true
}

/// The ACK of a 2xx of ours, or that it never came; `false`: it is nobody's here.
pub(super) fn handle_ack(now: Instant, s: &mut Shared, invite: ServerId, ack: Option<&Request>) -> bool {
    let Some(line) = s.recorders.servers.remove(&invite) else { return false };
    with_line(s, line, |line, s| {
        if let Some(attempt) = &mut line.attempt {
            match ack {
                Some(ack) => attempt.session.handle_ack(invite, ack),
                None => attempt.session.handle_lost_ack(),
            }
            carry_out(now, s, line);
        }
    });
    true
}

/// The sender of sound reports.
pub(super) fn handle_fork(now: Instant, s: &mut Shared, fork: ForkId, report: ForkReport) {
    let Some(line) = s.recorders.forks.get(&fork).copied() else { return };
    with_line(s, line, |line, s| {
        let Some(attempt) = &mut line.attempt else { return };
        match report {
            ForkReport::Unheard => attempt.session.handle_unheard(),
            ForkReport::Played { sent, back } => forward::played(now, line, sent, back),
            ForkReport::PortsTaken => {
                // Somebody else has them: they rest for long, and the same target is asked again with others.
                let remote = attempt.dest.remote;
                if let Some(ports) = attempt.ports.take() {
                    s.ports.leave(now, ports);
                }
                attempt.session.stop();
                if line.failures < MOST_PORTS {
                    line.rest.push_front(remote);
                }
                carry_out(now, s, line);
                line.away = true;
                line.failures += 1;
                line.last_error = Some("another program has a media port".to_owned());
                return try_next(now, s, line);
            }
            ForkReport::NoRoom => {
                attempt.session.stop();
                carry_out(now, s, line);
                fault(now, s, line, "no open files to spare".to_owned());
                line.rest.clear();
                return try_next(now, s, line);
            }
        }
        carry_out(now, s, line);
    });
}

/// The recorder of sealed files reports on a recording; `false`: it is no spill.
pub(super) fn handle_recorder(s: &mut Shared, recording: RecordingId) -> bool {
    let Some(line) = s.recorders.spills.remove(&recording) else { return false };
    with_line(s, line, |line, _| {
        line.spill = None;
        line.spill_broken = true;
        line.announced = None;
    });
    true
}

/// Fires whatever is due.
pub(super) fn handle_timeout(now: Instant, s: &mut Shared) {
    while let Some((at, id)) = s.recorders.due.first().copied() {
        if at > now {
            break;
        }
        let known = with_line(s, id, |line, s| due(now, s, line));
        if known.is_none() {
            s.recorders.due.remove(&(at, id));
        }
    }
    forward::begin(now, s);
}

fn due(now: Instant, s: &mut Shared, line: &mut Line) {
    if line.ending.is_some_and(|at| at <= now) {
        if let Some(attempt) = &mut line.attempt {
            attempt.session.stop();
            carry_out(now, s, line);
        }
        settle_spill(now, s, line);
        line.over = true;
        return;
    }
    forward::due(now, s, line);
    if line.own_pause.next_end().is_some_and(|until| until <= now) {
        let was_paused = line.is_paused();
        line.own_pause.expire(now);
        steer::resumed(now, s, line, was_paused);
    }
    if line.retry_at.is_some_and(|at| at <= now) {
        begin_round(now, s, line);
    }
    if let Some(attempt) = &mut line.attempt {
        attempt.session.handle_timeout(now, &mut s.random);
        carry_out(now, s, line);
    }
}

/// A call is over: its sessions end when its last sound is out.
pub(super) fn ended(now: Instant, s: &mut Shared, call: CallId) {
    for id in s.recorders.of_call.get(&call).cloned().unwrap_or_default() {
        with_line(s, id, |line, s| {
            let sounding = line.spill.is_some() || line.attempt.as_ref().is_some_and(|a| a.session.is_flowing());
            line.ending = Some(if sounding { now + LAST_SOUND } else { now });
            line.retry_at = None;
            if let Some(recording) = line.spill {
                let at = s.recorders.wall(now);
                s.out.record(RecordOrder::CallOver { recording, at });
            }
            if !sounding {
                due(now, s, line);
            }
        });
    }
}
