//! Wishes about one recorder of a call, or all of them: pause, resume, stop, start. A recorder's own pause is a lease like a
//! hold and stands beside the call's pause holds: sound goes to it only while neither is in force.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::line::Line;
use super::{apply_pause, begin_round, carry_out, settle_spill, with_line};
use crate::base::ids::CallId;
use crate::call::shared::Shared;

/// What is to become of a recorder on a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Steer {
    /// Sound is cut until it is resumed or the lease ends. Again: the lease is renewed.
    Pause,
    /// Its own pause ends; pause holds of the call stay.
    Resume,
    /// Its session ends for this call.
    Stop,
    /// A session is asked for again after a stop.
    Start,
}

/// The shortest own pause.
const SHORTEST: Duration = Duration::from_secs(1);

/// Obeys a wish about the recorder of this name, or about all; `false`: the call has no such recorder.
pub(in crate::call) fn steer(
    now: Instant,
    s: &mut Shared,
    call: CallId,
    (name, wish): (Option<&str>, Steer),
    ttl: Option<Duration>,
) -> bool {
    let mut found = false;
    for id in s.recorders.of_call.get(&call).cloned().unwrap_or_default() {
        let done = with_line(s, id, |line, s| {
            let named = name.is_none_or(|name| s.config.recorders[line.recorder.0].name.eq_ignore_ascii_case(name));
            if named && line.counts() {
                obey(now, s, line, wish, ttl);
            }
            named
        });
        found |= done == Some(true);
    }
    found
}

fn obey(now: Instant, s: &mut Shared, line: &mut Line, wish: Steer, ttl: Option<Duration>) {
    match wish {
        Steer::Pause => {
            let was_paused = line.is_paused();
            let ttl = ttl.unwrap_or(line.hold_default).min(line.hold_max).max(SHORTEST);
            line.own_pause = Some(now + ttl);
            apply_pause(now, s, line, was_paused);
            settle_spill(now, s, line);
            carry_out(now, s, line);
        }
        Steer::Resume => resume(now, s, line),
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
}

/// A recorder's own pause ends.
pub(super) fn resume(now: Instant, s: &mut Shared, line: &mut Line) {
    if line.own_pause.is_none() {
        return;
    }
    line.own_pause = None;
    apply_pause(now, s, line, true);
    settle_spill(now, s, line);
    carry_out(now, s, line);
}
