//! What recorders are told of a call that changes. How a call is now goes in; where that is another way than a line's recorder
//! knows, its session is paused or resumed first, and told then. Nothing of it decides whether a session goes on.

use std::time::Instant;

use super::line::Line;
use super::{begin, carry_out, with_line};
use crate::base::ids::{CallId, Leg};
use crate::base::time::WallMs;
use crate::call::shared::Shared;
use crate::record::siprec::metadata;

/// What a recorder is told that changes with the call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::call) struct Seen {
    pub(in crate::call) paused: bool,
    pub(in crate::call) held: [bool; 2],
    pub(in crate::call) far: [String; 2],
    pub(in crate::call) call_ids: [Option<String>; 2],
    pub(in crate::call) codecs: [Option<String>; 2],
}

/// How a call is now: where that is another way than its recorders know, they are told.
pub(in crate::call) fn see(now: Instant, s: &mut Shared, call: CallId, seen: &Seen) {
    for id in s.recorders.of_call.get(&call).cloned().unwrap_or_default() {
        let wall = s.recorders.wall(now);
        let stale = s.recorders.lines.get(&id).is_some_and(|line| line.ending.is_none() && !is_known(line, seen));
        if stale {
            with_line(s, id, |line, s| learn(now, wall, s, line, seen));
        }
    }
}

fn is_known(line: &Line, seen: &Seen) -> bool {
    let told = &line.told;
    let there = |leg: usize| {
        told.participants.iter().any(|p| p.left.is_none() && p.leg.index() == leg && p.user == seen.far[leg])
    };
    line.held == seen.paused
        && told.held == seen.held
        && told.call_ids == seen.call_ids
        && told.codecs == seen.codecs
        && there(0)
        && there(1)
}

fn learn(now: Instant, wall: WallMs, s: &mut Shared, line: &mut Line, seen: &Seen) {
    line.told.held = seen.held;
    line.told.call_ids.clone_from(&seen.call_ids);
    line.told.codecs.clone_from(&seen.codecs);
    for leg in [Leg::Customer, Leg::Agent] {
        let host = s.config.node.name.clone();
        begin::seat(&mut s.random, &mut line.told.participants, (leg, &seen.far[leg.index()], &host), wall);
    }
    let was_paused = line.is_paused();
    line.held = seen.paused;
    apply_pause(now, s, line, was_paused);
    tell(now, s, line);
    carry_out(now, s, line);
}

/// Puts a pause in force, or ends it, on the session that is up or asked for.
pub(super) fn apply_pause(now: Instant, s: &mut Shared, line: &mut Line, was_paused: bool) {
    let paused = line.is_paused();
    if paused || was_paused {
        line.last_paused = Some(now);
    }
    if let Some(attempt) = &mut line.attempt {
        attempt.session.set_paused(now, &mut s.random, paused);
    }
}

/// Tells the session what holds of the call now.
fn tell(now: Instant, s: &mut Shared, line: &mut Line) {
    let dialect = s.config.recorders[line.recorder.0].dialect;
    if let Some(attempt) = &mut line.attempt {
        let text = metadata::write(dialect, &line.told);
        attempt.session.set_metadata(now, &mut s.random, text);
    }
}
