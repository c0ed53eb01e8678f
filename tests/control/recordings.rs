//! Recordings over HTTP, the disk behind them scripted: shapes, purposes, tickets, ranges, and what stands in the audit log.

use std::ops::Range;

use futures_util::StreamExt;
use futures_util::stream;
use tonewall::audit::{Proof, Record};
use tonewall::base::ids::RecordingId;
use tonewall::control::recordings::{
    Change, Changed, Recordings, RecordingsError, Sound, Stretch, StretchKind, Told, Waveform,
};
use tonewall::record::catalogue::{AuditVerdict, Entry, LegalHold, Page, Query, SelfAudit, State, Tombstone};

use super::*;

/// Frames of the scripted recording: so many that every byte of its WAV header is ASCII.
const FRAMES: u64 = 400;

pub fn id() -> RecordingId {
    RecordingId::draw(&mut Random::seed_from_u64(77))
}

#[derive(Default)]
pub struct Scripted {
    state: Mutex<Option<State>>,
    away: Mutex<bool>,
    asked: Mutex<Vec<String>>,
}

impl Scripted {
    fn entry(&self, recording: RecordingId) -> Result<Entry, RecordingsError> {
        if recording != id() {
            return Err(RecordingsError::Unknown);
        }
        let mut entry = Entry::unread(recording, WallMs(1_795_327_256_000));
        entry.call = Some(ids().call);
        entry.caller = "4930123".into();
        entry.state = self.state.lock().expect("the state").unwrap_or(State::Sealed);
        entry.labels.insert("case".into(), "A-17".into());
        let at_ms = WallMs(entry.started_ms.0 + 1_000);
        entry.self_audit = Some(SelfAudit { verdict: AuditVerdict::Clean, at_ms, detail: "0.1 s heard".into() });
        Ok(entry)
    }
}

fn done<T: Send + 'static>(value: Result<T, RecordingsError>) -> BoxFuture<'static, Result<T, RecordingsError>> {
    Box::pin(std::future::ready(value))
}

impl Recordings for Scripted {
    fn search(&self, query: Query) -> BoxFuture<'_, Result<Page, RecordingsError>> {
        self.asked.lock().expect("the list").push(format!("{query:?}"));
        let next = (query.limit == 1).then(|| (WallMs(5), id()));
        done(self.entry(id()).map(|entry| Page { entries: vec![entry], next }))
    }

    fn get(&self, recording: RecordingId) -> BoxFuture<'_, Result<Entry, RecordingsError>> {
        done(self.entry(recording))
    }

    fn change(
        &self,
        recording: RecordingId,
        change: Change,
        told: Told,
    ) -> BoxFuture<'_, Result<Changed, RecordingsError>> {
        let made = self.entry(recording).map(|mut entry| {
            let mut proof = None;
            match change {
                Change::Label(_) => {}
                Change::Hold { by, why } => entry.hold = Some(LegalHold { by, why, since_ms: WallMs(1) }),
                Change::Release => entry.hold = None,
                Change::Destroy { by, why } => {
                    entry.bury(Tombstone { by, why, at_ms: WallMs(1) });
                    proof = Some(Proof { keys_tried: vec!["k1".into()], files_deleted: 2, ..Proof::default() });
                }
            }
            Changed { entry, proof }
        });
        told(&made);
        done(made)
    }

    fn frames(&self, _: RecordingId) -> BoxFuture<'_, Result<u64, RecordingsError>> {
        if *self.away.lock().expect("the store") {
            return done(Err(RecordingsError::Away));
        }
        done(Ok(FRAMES))
    }

    fn samples(&self, _: RecordingId, bytes: Range<u64>) -> BoxFuture<'_, Result<Sound, RecordingsError>> {
        let text: Vec<u8> = bytes.map(|at| b'a' + (at % 26) as u8).collect();
        done(Ok(stream::iter([Ok(text.into())]).boxed()))
    }

    fn ogg(&self, _: RecordingId) -> BoxFuture<'_, Result<Sound, RecordingsError>> {
        done(Ok(stream::iter([Ok("OggS".into())]).boxed()))
    }

    fn waveform(&self, recording: RecordingId, points: usize) -> BoxFuture<'_, Result<Waveform, RecordingsError>> {
        done(Ok(Waveform {
            id: recording,
            length_ms: 50,
            step_ms: 10,
            customer: vec![0.5; points.min(5)],
            agent: vec![0.0; points.min(5)],
            stretches: vec![Stretch { kind: StretchKind::Pause, from_ms: 10, to_ms: 20 }],
        }))
    }
}

fn path(more: &str) -> String {
    format!("/v1/recordings/{}{more}", id())
}

fn noted(node: &Node) -> Vec<Value> {
    node.audited.take().iter().map(|record: &Record| serde_json::to_value(record).expect("JSON")).collect()
}

#[test]
fn recordings_are_shown_as_the_page_of_the_api_says() {
    let node = Node::start(agreeable);
    let page = include_str!("../../docs/api.md");
    for (heading, shown) in [
        ("### A recording", node.get(&path(""), Role::Auditor).json()),
        ("### A waveform", node.get(&path("/waveform?purpose=complaint"), Role::Auditor).json()),
    ] {
        let (_, from) = page.split_once(&format!("{heading}\n\n```json\n")).unwrap_or_else(|| panic!("{heading}"));
        let (example, _) = from.split_once("```").expect("its end");
        let example = example
            .replace("rec_5b43ab733cb8a27e81c498f53f44eafd", &id().to_string())
            .replace("call_9f86d081884c7d659a2feaa0c55ad015", &ids().call.to_string());
        assert_eq!(shown, serde_json::from_str::<Value>(&example).expect("JSON"), "{heading}");
    }
    let list =
        node.get("/v1/recordings?limit=1&number=123&state=held&label=case=A-17&from=2026-11-22", Role::Supervisor);
    assert_eq!(list.json()["next"], format!("5.{}", id()));
    assert_eq!(list.json()["recordings"][0]["id"], id().to_string());
    for wrong in ["limit=0", "state=lost", "from=yesterday", "after=7", "label=case", "call=4711", "colour=red"] {
        node.get(&format!("/v1/recordings?{wrong}"), Role::Supervisor).problem(422, "invalid-request");
    }
    let searched: Vec<Value> = noted(&node).into_iter().filter(|e| e["action"] == "recordings-searched").collect();
    let conditions = &searched[0]["object"]["conditions"];
    assert_eq!(*conditions, json!(["number", "label", "from", "state"]), "names, and no number");
}

#[test]
fn nothing_is_heard_without_a_purpose_and_every_hearing_is_noted_before_it_begins() {
    let node = Node::start(agreeable);
    for sound in ["/audio", "/export", "/waveform"] {
        node.get(&path(sound), Role::Supervisor).problem(422, "invalid-request");
        node.get(&path(&format!("{sound}?purpose=x")), Role::Supervisor).problem(422, "invalid-request");
    }
    assert_eq!(node.audited.take(), []);
    let heard = node.get(&path("/audio?purpose=complaint%20A-17"), Role::Supervisor);
    assert_eq!((heard.status, heard.headers["content-type"].as_str()), (200, "audio/wav"));
    assert_eq!(heard.headers["content-length"], (44 + FRAMES * 4).to_string());
    assert_eq!(heard.headers["accept-ranges"], "bytes");
    assert!(heard.text.starts_with("RIFF") && heard.text.len() == 44 + FRAMES as usize * 4);
    let entries = noted(&node);
    assert_eq!(entries.len(), 1, "{entries:?}");
    assert_eq!((&entries[0]["action"], &entries[0]["purpose"]), (&json!("recording-played"), &json!("complaint A-17")));
    assert_eq!(entries[0]["object"], json!({"recording": id().to_string(), "from_s": 0, "seconds": 1}));

    let exported = node.get(&path("/export?purpose=complaint&format=opus"), Role::Auditor);
    assert_eq!((exported.status, exported.headers["content-type"].as_str()), (200, "audio/ogg"));
    assert!(exported.headers["content-disposition"].ends_with(".ogg\""));
    assert_eq!(noted(&node)[0]["object"]["format"], "ogg");

    node.get(&path("/audio?purpose=curious"), Role::Agent).problem(403, "forbidden");
    node.get(&path("/audio?purpose=curious"), Role::Integration).problem(403, "forbidden");
    node.audited.take();

    node.audited.set_broken(true);
    for sound in ["/audio", "/export", "/waveform"] {
        node.get(&path(&format!("{sound}?purpose=complaint")), Role::Supervisor).problem(503, "not-audited");
    }
    let reason = json!({"reason": "case A-17"});
    node.json("DELETE", &path(""), Role::Admin, &reason).problem(503, "not-audited");
}

#[test]
fn a_part_of_the_sound_is_what_its_range_says() {
    let node = Node::start(agreeable);
    let part = |range: &str| {
        let mut stream = TcpStream::connect(node.address).expect("connected");
        let head = format!(
            "GET {} HTTP/1.1\r\nHost: node\r\nConnection: close\r\nAuthorization: Bearer {}\r\nX-Purpose: complaint\r\nRange: {range}\r\n\r\n",
            path("/audio"),
            key_of(Role::Supervisor)
        );
        stream.write_all(head.as_bytes()).expect("sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("text");
        text
    };
    let whole = part("bytes=0-");
    assert!(whole.starts_with("HTTP/1.1 206") && whole.contains("content-range: bytes 0-1643/1644"), "{whole}");
    let (_, whole) = whole.split_once("\r\n\r\n").expect("a body");
    for (from, to) in [(0, 43), (10, 50), (43, 44), (44, 44), (100, 1_643), (1_643, 1_643)] {
        let text = part(&format!("bytes={from}-{to}"));
        let (head, body) = text.split_once("\r\n\r\n").expect("a body");
        assert!(head.contains(&format!("bytes {from}-{to}/1644")), "{head}");
        assert_eq!(body, &whole[from..=to], "{from}-{to}");
    }
    let beyond = part("bytes=1644-");
    assert!(beyond.starts_with("HTTP/1.1 416") && beyond.contains("range-not-satisfiable"), "{beyond}");
}

#[test]
fn a_ticket_lets_a_browser_hear_one_recording_and_nothing_else() {
    let node = Node::start(agreeable);
    let asked = json!({"purpose": "complaint A-17"});
    let given = node.json("POST", &path("/access"), Role::Supervisor, &asked);
    assert_eq!(given.status, 201, "{}", given.text);
    let ticket = given.json()["ticket"].as_str().expect("a ticket").to_owned();
    node.audited.take();
    for _ in 0..2 {
        assert_eq!(node.send("GET", &path(&format!("/audio?ticket={ticket}")), None, None).status, 200);
    }
    assert_eq!(node.send("GET", &path(&format!("/export?format=wav&ticket={ticket}")), None, None).status, 200);
    let entries = noted(&node);
    assert_eq!(entries.len(), 3);
    for entry in &entries {
        assert_eq!((&entry["actor"]["name"], &entry["purpose"]), (&json!("supervisor"), &json!("complaint A-17")));
        assert!(!entry.to_string().contains(&ticket[..12]), "{entry}");
    }
    let other = path("/audio").replace(&id().to_string(), "rec_00000000000000000000000000000000");
    node.send("GET", &format!("{other}?ticket={ticket}"), None, None).problem(401, "unauthenticated");
    node.send("GET", &path(&format!("?ticket={ticket}")), None, None).problem(401, "unauthenticated");
    node.send("GET", &format!("/v1/events?ticket={ticket}"), None, None).problem(401, "unauthenticated");
    node.access.set_keys(keys().into_iter().filter(|key| key.role != Role::Supervisor).collect());
    node.send("GET", &path(&format!("/audio?ticket={ticket}")), None, None).problem(401, "unauthenticated");
}

#[test]
fn what_is_in_quarantine_is_never_heard_by_anybody() {
    let node = Node::start(agreeable);
    for state in [State::Quarantined, State::Recording, State::Finalising, State::Destroyed] {
        *node.recordings.state.lock().expect("the state") = Some(state);
        for sound in ["/audio", "/export", "/export?format=opus", "/waveform"] {
            let by = if sound.contains('?') { '&' } else { '?' };
            node.get(&path(&format!("{sound}{by}purpose=complaint")), Role::Admin).problem(409, "recording-withheld");
        }
        let asked = json!({"purpose": "complaint"});
        node.json("POST", &path("/access"), Role::Admin, &asked).problem(409, "recording-withheld");
        let entries = noted(&node);
        assert!(entries.len() >= 4 && entries.iter().all(|entry| entry["result"] == "refused"), "{entries:?}");
        assert_eq!(node.get(&path(""), Role::Admin).json()["state"], state.word());
        node.audited.take();
    }
}

#[test]
fn changes_are_noted_before_they_are_made_with_who_and_why() {
    let node = Node::start(agreeable);
    let labelled = node.json("PATCH", &path(""), Role::Integration, &json!({"labels": {"case": "A-17", "old": null}}));
    assert_eq!(labelled.status, 200, "{}", labelled.text);
    assert_eq!(noted(&node)[0]["object"]["labels"], json!(["case", "old"]), "names, not values");
    let bad = json!({"labels": {"case": "4242424242424242"}});
    node.json("PATCH", &path(""), Role::Admin, &bad).problem(422, "invalid-request");
    let reason = json!({"reason": "case A-17"});
    assert_eq!(node.json("POST", &path("/hold"), Role::Supervisor, &reason).json()["hold"]["by"], "key:supervisor");
    assert_eq!(node.json("DELETE", &path("/hold"), Role::Supervisor, &reason).json()["hold"], Value::Null);
    node.json("DELETE", &path(""), Role::Supervisor, &reason).problem(403, "forbidden");
    let gone = node.json("DELETE", &path(""), Role::Admin, &reason).json();
    assert_eq!((&gone["state"], &gone["tombstone"]["why"]), (&json!("destroyed"), &json!("case A-17")));
    let entries = noted(&node);
    let words: Vec<String> = entries
        .iter()
        .map(|entry| [&entry["action"], &entry["result"]].map(|word| word.as_str().expect("a word")).join(" "))
        .collect();
    let wanted = [
        "legal-hold asked",
        "legal-hold done",
        "legal-hold asked",
        "legal-hold done",
        "access-denied refused",
        "recording-destroyed asked",
        "recording-destroyed done",
    ];
    assert_eq!(words, wanted);
    assert_eq!(entries[5]["object"]["proof"], Value::Null);
    assert_eq!(entries[6]["object"]["proof"], json!({"keys_tried": ["k1"], "opened": false, "files_deleted": 2}));
}

#[test]
fn a_store_that_does_not_answer_is_told_as_that() {
    let node = Node::start(agreeable);
    *node.recordings.away.lock().expect("the store") = true;
    for sound in ["/audio", "/export"] {
        let away = node.get(&path(&format!("{sound}?purpose=complaint")), Role::Supervisor);
        assert_eq!(away.headers["retry-after"], "30");
        away.problem(503, "store-away");
    }
    let entries = noted(&node);
    let last = entries.last().expect("an entry");
    assert_eq!((&last["action"], &last["result"]), (&json!("recording-exported"), &json!("failed")));
}
