//! Wishes about one recorder of a call, or all of them: pause, resume, stop, start. A recorder's own pause is a lease like a
//! hold, of whoever took it, and stands beside the call's pause holds: sound goes to it only while neither is in force.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::lease::NotYours;
use super::line::Line;
use super::{apply_pause, begin_round, carry_out, settle_spill, with_line};
use crate::base::ids::CallId;
use crate::call::shared::Shared;
use crate::guard::holds::Owner;

/// What is to become of a recorder on a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Steer {
    /// Sound is cut until it is resumed or the lease ends. Again: the lease is renewed.
    Pause,
    /// Its own pause by the same owner ends; pauses of others and pause holds of the call stay.
    Resume,
    /// Its session ends for this call.
    Stop,
    /// A session is asked for again after a stop.
    Start,
}

/// The shortest own pause.
const SHORTEST: Duration = Duration::from_secs(1);

/// Who wishes it, and whether it may end the pauses of others.
pub(in crate::call) type By<'a> = (&'a Owner, bool);

/// What came of a wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::call) enum Steered {
    /// The call has no such recorder.
    Unknown,
    /// It is obeyed.
    Done,
    /// The pause is somebody else's.
    NotYours,
}

/// Obeys a wish about the recorder of this name, or about all.
pub(in crate::call) fn steer(
    now: Instant,
    s: &mut Shared,
    call: CallId,
    (name, wish, by): (Option<&str>, Steer, By<'_>),
    ttl: Option<Duration>,
) -> Steered {
    let mut found = Steered::Unknown;
    for id in s.recorders.of_call.get(&call).cloned().unwrap_or_default() {
        let done = with_line(s, id, |line, s| {
            let named = name.is_none_or(|name| s.config.recorders[line.recorder.0].name.eq_ignore_ascii_case(name));
            if !named {
                return Steered::Unknown;
            }
            let obeyed = if line.counts() { obey(now, s, line, (wish, by), ttl) } else { Ok(()) };
            if obeyed.is_ok() { Steered::Done } else { Steered::NotYours }
        });
        match done {
            Some(Steered::NotYours) => found = Steered::NotYours,
            Some(Steered::Done) if found == Steered::Unknown => found = Steered::Done,
            _ => {}
        }
    }
    found
}

fn obey(
    now: Instant,
    s: &mut Shared,
    line: &mut Line,
    (wish, (owner, over)): (Steer, By<'_>),
    ttl: Option<Duration>,
) -> Result<(), NotYours> {
    match wish {
        Steer::Pause => {
            let was_paused = line.is_paused();
            let ttl = ttl.unwrap_or(line.hold_default).min(line.hold_max).max(SHORTEST);
            line.own_pause.take(owner, now + ttl);
            apply_pause(now, s, line, was_paused);
            settle_spill(now, s, line);
            carry_out(now, s, line);
        }
        Steer::Resume => {
            let was_paused = line.is_paused();
            line.own_pause.release(owner, over)?;
            resumed(now, s, line, was_paused);
        }
        Steer::Stop => {
            line.stopped = true;
            line.retry_at = None;
            line.rest.clear();
            if let Some(attempt) = &mut line.attempt {
                attempt.session.stop();
            }
            carry_out(now, s, line);
            settle_spill(now, s, line);
        }
        Steer::Start => {
            if std::mem::take(&mut line.stopped) {
                (line.away, line.failures) = (false, 0);
                line.announced = None;
                // Sound from before it was started again is not its affair.
                line.last_paused = Some(now);
                begin_round(now, s, line);
            }
        }
    }
    Ok(())
}

/// A lease of a recorder's own pause is over; sound flows again when it was the last.
pub(super) fn resumed(now: Instant, s: &mut Shared, line: &mut Line, was_paused: bool) {
    if !was_paused || line.own_pause.is_taken() {
        return;
    }
    apply_pause(now, s, line, was_paused);
    settle_spill(now, s, line);
    carry_out(now, s, line);
}
