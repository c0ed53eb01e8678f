//! The sound of a recording: played in a browser, with seeking; exported; drawn. Each needs a purpose, and is in the audit
//! log before the first byte goes out. What is in quarantine stays there.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json as Answer};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::recordings::{Asker, recordings, words};
use crate::audit::{Action, Outcome, Record, Text};
use crate::base::ids::RecordingId;
use crate::control::Api;
use crate::control::extract::{Json, Params};
use crate::control::problem::{Blame, Part, Problem};
use crate::control::recordings::{HEARING, Recordings, RecordingsError, Sound, Waveform};

/// Samples a second, and bytes of a stereo frame.
const RATE: u64 = 8_000;
const FRAME: u64 = 4;

/// Bytes of a WAV file's header.
const HEADER: u64 = 44;

/// Steps of a waveform when nobody says, and at most.
const POINTS: usize = 1_000;
const MOST_POINTS: usize = 8_000;

/// The purpose behind a ticket.
#[derive(Clone)]
pub(in crate::control) struct Purpose(pub(in crate::control) Text);

/// Parameters of an access: its purpose, and what else it takes.
macro_rules! wanted {
    ($(#[$about:meta])* $name:ident { $($(#[$meta:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$about])*
        #[derive(Debug, Default, Deserialize, IntoParams)]
        #[serde(default, deny_unknown_fields)]
        #[into_params(parameter_in = Query)]
        pub(in crate::control) struct $name {
            /// What for, in 3 to 200 characters; or the header `X-Purpose`. It stands in the audit log.
            purpose: Option<String>,
            $($(#[$meta])* $field: Option<$type>,)*
        }
    };
}

wanted! {
    /// What playing needs.
    Wanted {
        /// A ticket from `POST …/access`, in place of the Authorization header and the purpose.
        #[allow(dead_code)]
        ticket: String,
    }
}

wanted! {
    /// What an export needs.
    WantedExport {
        /// A ticket from `POST …/access`, in place of the Authorization header and the purpose.
        #[allow(dead_code)]
        ticket: String,
        /// `wav` or `opus`; `wav` when absent.
        format: String,
    }
}

wanted! {
    /// What a waveform needs.
    WantedWave {
        /// About how many steps, 10–8000; 1000 when absent.
        #[param(minimum = 10, maximum = 8000, default = 1000)]
        points: usize,
    }
}

/// What for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"purpose": "complaint 4711"}))]
pub(in crate::control) struct AccessRequest {
    /// In words; they stand in the audit log with each access.
    purpose: String,
}

/// A ticket to listen.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::control) struct AccessTicket {
    /// To be given as `?ticket=` to `…/audio` and `…/export` of this recording; works until it is void.
    #[schema(example = "hear_9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822c")]
    ticket: String,
    /// Seconds until it is void.
    expires_in_s: u64,
}

/// Get a ticket to listen
///
/// A browser's `<audio>` cannot send an Authorization header. The ticket is good for the sound of this recording, for a
/// quarter of an hour, as the key that asked for it, and for this purpose.
#[utoipa::path(post, path = "/v1/recordings/{recording}/access", tag = "recordings",
    params(("recording" = String, Path, description = "Recording id")), request_body = AccessRequest,
    responses((status = 201, description = "The ticket", body = AccessTicket)))]
pub(in crate::control) async fn access(
    State(api): State<Api>,
    asker: Asker,
    Json(request): Json<AccessRequest>,
) -> Result<(StatusCode, Answer<AccessTicket>), Problem> {
    let purpose = words(&request.purpose, Blame::field(Part::Body, "purpose"))?;
    let listener = Listener { asker, purpose };
    let recording = listener.asker.recording;
    listener.let_in(&api, Action::RecordingViewed { recording, part: "ticket".into() }).await?;
    let ticket = api.access.open_hearing((api.clock)(), listener.asker.pass, recording, listener.purpose);
    Ok((StatusCode::CREATED, Answer(AccessTicket { ticket, expires_in_s: HEARING.as_secs() })))
}

/// Draw a recording
///
/// Peaks of both sides, and where the recording was paused, masked, blanked or lost.
#[utoipa::path(get, path = "/v1/recordings/{recording}/waveform", tag = "recordings",
    params(("recording" = String, Path, description = "Recording id"), WantedWave),
    responses((status = 200, description = "The waveform", body = Waveform)))]
pub(in crate::control) async fn waveform(
    State(api): State<Api>,
    asker: Asker,
    Params(wanted): Params<WantedWave>,
    headers: HeaderMap,
) -> Result<Answer<Waveform>, Problem> {
    let points = wanted.points.unwrap_or(POINTS);
    if !(10..=MOST_POINTS).contains(&points) {
        return Err(Problem::invalid(
            Blame::field(Part::Query, "points"),
            format!("points must be 10 to {MOST_POINTS}"),
        ));
    }
    let recording = asker.recording;
    let listener = Listener::new(asker, wanted.purpose, None, &headers)?;
    let action = Action::RecordingViewed { recording, part: "waveform".into() };
    let store = listener.let_in(&api, action.clone()).await?;
    Ok(Answer(listener.given(&api, action, store.waveform(recording, points).await)?))
}

/// Play a recording
///
/// A WAV file of 8 kHz stereo, customer left, agent right, decrypted as it goes out. `Range` gives a part of it, so that a
/// player can seek.
#[utoipa::path(get, path = "/v1/recordings/{recording}/audio", tag = "recordings",
    params(("recording" = String, Path, description = "Recording id"), Wanted,
           ("Range" = Option<String>, Header, description = "One range of bytes")),
    responses((status = 200, description = "The whole", body = String, content_type = "audio/wav"),
              (status = 206, description = "The part asked for", body = String, content_type = "audio/wav"),
              (status = 416, description = "No such part", body = Problem, content_type = "application/problem+json")))]
pub(in crate::control) async fn audio(
    State(api): State<Api>,
    asker: Asker,
    Params(wanted): Params<Wanted>,
    purpose: Option<Extension<Purpose>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let recording = asker.recording;
    let listener = Listener::new(asker, wanted.purpose, purpose, &headers)?;
    let frames = listener.judge(&api).await?.frames(recording).await?;
    let length = HEADER + frames * FRAME;
    let range = headers.get(header::RANGE).and_then(|range| range.to_str().ok());
    let (from, to, status) = match range.map(|range| part(range, length)) {
        None | Some(Ranged::Whole) => (0, length, StatusCode::OK),
        Some(Ranged::Part(from, to)) => (from, to, StatusCode::PARTIAL_CONTENT),
        Some(Ranged::Nowhere) => {
            let detail = format!("the file has {length} bytes");
            let kind = "range-not-satisfiable";
            let problem = Problem::new(StatusCode::RANGE_NOT_SATISFIABLE, kind, "No such part", detail);
            return Err(problem.at(Blame::field(Part::Header, "Range")));
        }
    };
    let second = |byte: u64| byte.saturating_sub(HEADER) / (FRAME * RATE);
    let seconds = (to - from.max(HEADER).min(to)).div_ceil(FRAME * RATE);
    let action = Action::RecordingPlayed { recording, from_s: second(from), seconds };
    let store = listener.let_in(&api, action.clone()).await?;
    let sound = listener.given(&api, action, wav(store, recording, frames, from, to).await)?;
    let mut response = sent(status, "audio/wav", Some(to - from), sound);
    let fields = response.headers_mut();
    fields.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if status == StatusCode::PARTIAL_CONTENT
        && let Ok(value) = HeaderValue::from_str(&format!("bytes {from}-{}/{length}", to - 1))
    {
        fields.insert(header::CONTENT_RANGE, value);
    }
    Ok(response)
}

/// Export a recording
///
/// The whole of it as a file: WAV, or Ogg Opus.
#[utoipa::path(get, path = "/v1/recordings/{recording}/export", tag = "recordings",
    params(("recording" = String, Path, description = "Recording id"), WantedExport),
    responses((status = 200, description = "The file", content(
        (String = "audio/wav"), (String = "audio/ogg")))))]
pub(in crate::control) async fn export(
    State(api): State<Api>,
    asker: Asker,
    Params(wanted): Params<WantedExport>,
    purpose: Option<Extension<Purpose>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (kind, ending) = match wanted.format.as_deref() {
        None | Some("wav") => ("audio/wav", "wav"),
        Some("opus") => ("audio/ogg", "ogg"),
        Some(_) => return Err(Problem::invalid(Blame::field(Part::Query, "format"), "format is wav or opus")),
    };
    let recording = asker.recording;
    let listener = Listener::new(asker, wanted.purpose, purpose, &headers)?;
    let action = Action::RecordingExported { recording, format: ending.into() };
    let store = listener.let_in(&api, action.clone()).await?;
    let whole = async {
        if ending != "wav" {
            return Ok((None, store.ogg(recording).await?));
        }
        let frames = store.frames(recording).await?;
        let length = HEADER + frames * FRAME;
        Ok((Some(length), wav(store, recording, frames, 0, length).await?))
    };
    let (length, sound) = listener.given(&api, action, whole.await)?;
    let mut response = sent(StatusCode::OK, kind, length, sound);
    if let Ok(value) = HeaderValue::from_str(&format!("attachment; filename=\"{recording}.{ending}\"")) {
        response.headers_mut().insert(header::CONTENT_DISPOSITION, value);
    }
    Ok(response)
}

/// Who wants to hear, and what for.
struct Listener {
    asker: Asker,
    purpose: Text,
}

impl Listener {
    fn new(
        asker: Asker,
        given: Option<String>,
        ticket: Option<Extension<Purpose>>,
        headers: &HeaderMap,
    ) -> Result<Self, Problem> {
        let by_header = || headers.get("x-purpose").and_then(|value| value.to_str().ok().map(str::to_owned));
        let purpose = match ticket {
            Some(Extension(Purpose(purpose))) => purpose,
            None => words(&given.or_else(by_header).unwrap_or_default(), Blame::field(Part::Query, "purpose"))?,
        };
        Ok(Self { asker, purpose })
    }

    fn record(&self, action: Action) -> Record {
        self.asker.record(action).purpose(self.purpose.as_str())
    }

    /// Whether the recording may be given out at all.
    async fn judge<'a>(&self, api: &'a Api) -> Result<&'a dyn Recordings, RecordingsError> {
        let Some(store) = api.recordings.as_deref() else {
            return Err(RecordingsError::Busy("this node keeps no recordings".into()));
        };
        match store.get(self.asker.recording).await?.withheld() {
            None => Ok(store),
            Some(why) => Err(RecordingsError::Refused(why.to_owned())),
        }
    }

    /// The recordings, once the access is in the log: done, or refused.
    async fn let_in<'a>(&self, api: &'a Api, action: Action) -> Result<&'a dyn Recordings, Problem> {
        recordings(api)?;
        let record = self.record(action);
        match self.judge(api).await {
            Ok(store) => {
                api.audit.confirm(record).await.map_err(|_| Problem::not_audited())?;
                Ok(store)
            }
            Err(error) => {
                api.audit.note(record.outcome(Outcome::refused(error.to_string())));
                Err(error.into())
            }
        }
    }

    /// What was let in for, or why it could not be given: then that follows in the log.
    fn given<T>(&self, api: &Api, action: Action, given: Result<T, RecordingsError>) -> Result<T, RecordingsError> {
        if let Err(error) = &given {
            api.audit.note(self.record(action).outcome(Outcome::failed(error.to_string())));
        }
        given
    }
}

/// The bytes from `from` to `to` of the WAV file.
async fn wav(
    store: &dyn Recordings,
    recording: RecordingId,
    frames: u64,
    from: u64,
    to: u64,
) -> Result<Sound, RecordingsError> {
    let head = wav_header(frames);
    let (begin, end) = (from.min(HEADER) as usize, to.min(HEADER) as usize);
    let head = Bytes::copy_from_slice(&head[begin..end]);
    let (from, to) = (from.saturating_sub(HEADER), to.saturating_sub(HEADER));
    let first = stream::iter((!head.is_empty()).then_some(Ok(head)));
    if from == to {
        return Ok(first.boxed());
    }
    Ok(first.chain(store.samples(recording, from..to).await?).boxed())
}

/// The header of a WAV file of so many stereo frames.
fn wav_header(frames: u64) -> [u8; HEADER as usize] {
    let data = u32::try_from(frames * FRAME).unwrap_or(u32::MAX - 36);
    let mut header = [0; HEADER as usize];
    let parts: [&[u8]; 13] = [
        b"RIFF",
        &data.saturating_add(36).to_le_bytes(),
        b"WAVE",
        b"fmt ",
        &16u32.to_le_bytes(),
        &1u16.to_le_bytes(),
        &2u16.to_le_bytes(),
        &(RATE as u32).to_le_bytes(),
        &((RATE * FRAME) as u32).to_le_bytes(),
        &(FRAME as u16).to_le_bytes(),
        &16u16.to_le_bytes(),
        b"data",
        &data.to_le_bytes(),
    ];
    for (byte, value) in header.iter_mut().zip(parts.concat()) {
        *byte = value;
    }
    header
}

/// What a `Range` header asks for.
#[derive(Debug, PartialEq, Eq)]
enum Ranged {
    /// Nothing that we give parts for: the whole.
    Whole,
    /// From here to before there.
    Part(u64, u64),
    /// Beyond the end.
    Nowhere,
}

/// RFC 9110 section 14: one range of bytes is understood; several, and what is no range, give the whole.
fn part(range: &str, length: u64) -> Ranged {
    let Some(spec) = range.trim().strip_prefix("bytes=").filter(|spec| !spec.contains(',')) else {
        return Ranged::Whole;
    };
    let Some((from, to)) = spec.trim().split_once('-') else { return Ranged::Whole };
    match (from.parse::<u64>(), to.parse::<u64>()) {
        (Ok(from), Ok(to)) if from > to => Ranged::Whole,
        (Ok(from), _) if from >= length => Ranged::Nowhere,
        (Ok(from), Ok(to)) => Ranged::Part(from, to.saturating_add(1).min(length)),
        (Ok(from), Err(_)) if to.is_empty() => Ranged::Part(from, length),
        (Err(_), Ok(0)) if from.is_empty() => Ranged::Nowhere,
        (Err(_), Ok(last)) if from.is_empty() => Ranged::Part(length.saturating_sub(last), length),
        _ => Ranged::Whole,
    }
}

fn sent(status: StatusCode, kind: &'static str, length: Option<u64>, sound: Sound) -> Response {
    let mut response = (status, Body::from_stream(sound)).into_response();
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    fields.insert(HeaderName::from_static("x-robots-tag"), HeaderValue::from_static("noindex"));
    if let Some(length) = length {
        fields.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_the_rfc() {
        for (range, wanted) in [
            ("bytes=0-", Ranged::Part(0, 1_000)),
            ("bytes=0-0", Ranged::Part(0, 1)),
            ("bytes=500-999", Ranged::Part(500, 1_000)),
            ("bytes=500-99999", Ranged::Part(500, 1_000)),
            ("bytes=-100", Ranged::Part(900, 1_000)),
            ("bytes=-5000", Ranged::Part(0, 1_000)),
            ("bytes=1000-", Ranged::Nowhere),
            ("bytes=-0", Ranged::Nowhere),
            ("bytes=5-4", Ranged::Whole),
            ("bytes=0-1,5-6", Ranged::Whole),
            ("lines=0-1", Ranged::Whole),
            ("bytes=x-y", Ranged::Whole),
            ("", Ranged::Whole),
        ] {
            assert_eq!(part(range, 1_000), wanted, "{range}");
        }
    }

    #[test]
    fn the_header_is_what_a_wav_reader_reads() {
        let mut file = wav_header(3).to_vec();
        file.extend_from_slice(&[1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0]);
        let reader = hound::WavReader::new(std::io::Cursor::new(file)).expect("a WAV file");
        assert_eq!((reader.spec().channels, reader.spec().sample_rate, reader.duration()), (2, 8_000, 3));
        assert_eq!(reader.into_samples::<i16>().map(Result::unwrap).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    }
}
