//! What the API wants of recordings: the trait behind which `rt/` has the catalogue, the keys and the disk; what a
//! waveform is; and the tickets that let a browser's `<audio>` in.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::time::{Duration, Instant};

use axum::http::{StatusCode, header};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use rand::Rng;
use serde::Serialize;
use utoipa::ToSchema;

use super::access::Pass;
use super::panels::{Fingerprint, fingerprint};
use super::problem::{Blame, Part, Problem};
use crate::audit::{Proof, Text};
use crate::base::Random;
use crate::base::ids::RecordingId;
use crate::record::catalogue::{Entry, Page, Query};

pub use super::routes::recordings::listed;

/// How long a ticket to listen is good for.
pub const HEARING: Duration = Duration::from_secs(15 * 60);

/// What tickets to listen begin with.
pub const PREFIX: &str = "hear_";

/// Tickets at once; beyond them the one that ends first is forgotten.
const MOST: usize = 4_096;

/// Sound on its way out.
pub type Sound = BoxStream<'static, io::Result<Bytes>>;

/// A change to what is known of a recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Sets labels, or takes them away.
    Label(Vec<(String, Option<String>)>),
    /// Puts it under legal hold.
    Hold {
        /// Who.
        by: String,
        /// Why.
        why: String,
    },
    /// Lifts the hold.
    Release,
    /// Destroys it for good.
    Destroy {
        /// Who.
        by: String,
        /// Why.
        why: String,
    },
}

/// What a change came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// The recording as it is now.
    pub entry: Entry,
    /// How it was seen that nothing opens it any more, when it was destroyed.
    pub proof: Option<Proof>,
}

/// Hears what a change came to, whether or not who asked for it still waits.
pub type Told = Box<dyn FnOnce(&Result<Changed, RecordingsError>) + Send>;

/// Why it could not be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordingsError {
    /// It is not there.
    #[error("there is no such recording")]
    Unknown,
    /// Its state forbids it.
    #[error("the recording {0}")]
    Refused(String),
    /// Its sound is not to be had: no key, not on this disk, damaged.
    #[error("the recording {0}")]
    NoSound(String),
    /// It is in the object store only, and that does not answer.
    #[error("the recording is in the object store only, which does not answer now")]
    Away,
    /// Too many listen, or the disk does not answer.
    #[error("{0}")]
    Busy(String),
}

impl From<RecordingsError> for Problem {
    fn from(error: RecordingsError) -> Self {
        let detail = error.to_string();
        let (status, kind, title) = match error {
            RecordingsError::Unknown => (StatusCode::NOT_FOUND, "no-such-recording", "No such recording"),
            RecordingsError::Refused(_) => {
                (StatusCode::CONFLICT, "recording-withheld", "The recording's state forbids it")
            }
            RecordingsError::NoSound(_) => {
                (StatusCode::CONFLICT, "recording-unreadable", "The recording cannot be read")
            }
            RecordingsError::Away => {
                let (status, title) = (StatusCode::SERVICE_UNAVAILABLE, "The object store does not answer");
                let problem = Problem::new(status, "store-away", title, detail);
                return problem.at(Blame::field(Part::Path, "recording")).with_header(header::RETRY_AFTER, "30");
            }
            RecordingsError::Busy(_) => return Problem::unavailable(&detail),
        };
        Problem::new(status, kind, title, detail).at(Blame::field(Part::Path, "recording"))
    }
}

/// The recordings, as the API sees them. `rt/` implements it over the catalogue and the disk, tests over a script.
pub trait Recordings: Send + Sync + 'static {
    /// A page of what was asked for.
    fn search(&self, query: Query) -> BoxFuture<'_, Result<Page, RecordingsError>>;

    /// One recording; tombstones too.
    fn get(&self, recording: RecordingId) -> BoxFuture<'_, Result<Entry, RecordingsError>>;

    /// Changes what is known of it. `told` hears what came of it before the answer is given, or nobody waits for one.
    fn change(
        &self,
        recording: RecordingId,
        change: Change,
        told: Told,
    ) -> BoxFuture<'_, Result<Changed, RecordingsError>>;

    /// Stereo frames of its sound, at 8 kHz.
    fn frames(&self, recording: RecordingId) -> BoxFuture<'_, Result<u64, RecordingsError>>;

    /// These bytes of its samples: interleaved, 16-bit little-endian.
    fn samples(&self, recording: RecordingId, bytes: Range<u64>) -> BoxFuture<'_, Result<Sound, RecordingsError>>;

    /// The whole of it as Ogg Opus.
    fn ogg(&self, recording: RecordingId) -> BoxFuture<'_, Result<Sound, RecordingsError>>;

    /// What it looks like, in about `points` steps.
    fn waveform(&self, recording: RecordingId, points: usize) -> BoxFuture<'_, Result<Waveform, RecordingsError>>;
}

/// What a stretch of a waveform is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StretchKind {
    /// The recording was paused: silence.
    Pause,
    /// The mask was in force: keys of the customer's are not in it.
    Masked,
    /// Taken out before it was sealed, because a card was known late: silence.
    Redacted,
    /// Lost, because the disk did not keep up: silence.
    Lost,
}

/// A stretch of a waveform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Stretch {
    /// What it is.
    pub kind: StretchKind,
    /// Where it begins, in milliseconds from the beginning of the recording.
    pub from_ms: u64,
    /// Where it ends.
    pub to_ms: u64,
}

/// What a recording looks like.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Waveform {
    /// Recording.
    #[schema(value_type = String)]
    pub id: RecordingId,
    /// Milliseconds of sound and silence.
    pub length_ms: u64,
    /// Milliseconds of one step.
    pub step_ms: u64,
    /// Peak of the customer in each step, 0 to 1.
    pub customer: Vec<f32>,
    /// Peak of the agent in each step, 0 to 1.
    pub agent: Vec<f32>,
    /// Pauses, masks, what was taken out and what was lost, in order.
    pub stretches: Vec<Stretch>,
}

/// Whoever may listen to one recording for a while, and what for.
#[derive(Debug, Clone)]
pub(super) struct Hearing {
    /// In whose name.
    pub(super) pass: Pass,
    recording: RecordingId,
    /// What for.
    pub(super) purpose: Text,
    until: Instant,
}

/// Tickets to listen that are in force. A browser asks for parts of the sound again and again, so that one is good for more
/// than once, for one recording and a quarter of an hour.
pub(super) struct Hearings {
    random: Random,
    open: HashMap<Fingerprint, Hearing>,
}

impl Hearings {
    pub(super) fn new(random: Random) -> Self {
        Self { random, open: HashMap::new() }
    }

    /// Draws a ticket.
    pub(super) fn open(&mut self, now: Instant, pass: Pass, recording: RecordingId, purpose: Text) -> String {
        self.open.retain(|_, hearing| hearing.until > now);
        if self.open.len() >= MOST {
            let first = self.open.iter().min_by_key(|(_, hearing)| hearing.until).map(|(ticket, _)| *ticket);
            first.and_then(|first| self.open.remove(&first));
        }
        let mut bytes = [0; 24];
        self.random.fill_bytes(&mut bytes);
        let ticket = format!("{PREFIX}{}", hex::encode(bytes));
        self.open.insert(fingerprint(&ticket), Hearing { pass, recording, purpose, until: now + HEARING });
        ticket
    }

    /// Who listens with a ticket to the recording that `path` is about.
    pub(super) fn admits(&self, now: Instant, ticket: &str, path: &str) -> Option<Hearing> {
        let hearing = self.open.get(&fingerprint(ticket)).filter(|hearing| hearing.until > now)?;
        let recording = path.strip_prefix("/v1/recordings/")?.split('/').next()?.parse().ok()?;
        (hearing.recording == recording).then(|| hearing.clone())
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::call::Actor;
    use crate::config::Role;

    #[test]
    fn a_ticket_is_for_one_recording_and_a_quarter_of_an_hour() {
        let mut random = Random::seed_from_u64(1);
        let (one, other) = (RecordingId::draw(&mut random), RecordingId::draw(&mut random));
        let (now, mut hearings) = (Instant::now(), Hearings::new(random));
        let pass = Pass { actor: Actor::new("boss", Role::Supervisor), panel: None };
        let ticket = hearings.open(now, pass, one, "complaint".into());
        let path = |id: RecordingId| format!("/v1/recordings/{id}/audio");
        assert!(
            hearings.admits(now, &ticket, &path(one)).is_some_and(|hearing| hearing.purpose.as_str() == "complaint")
        );
        assert!(hearings.admits(now, &ticket, &path(one)).is_some(), "again: a browser seeks");
        assert!(hearings.admits(now, &ticket, &path(other)).is_none());
        assert!(hearings.admits(now, "hear_0", &path(one)).is_none());
        assert!(hearings.admits(now + HEARING, &ticket, &path(one)).is_none());
    }
}
