//! Canary calls on a running node: they prove the whole path while it is sound, and find a guard that lets keys pass.

mod common;

use std::process::Command;
use std::time::Duration;

use common::{Plan, Running};
use tonewall::capture::Discard;
use tonewall::config::{Canary, CanaryForm, CanaryGuard, Config, GuardMode, KekRef, RecordingPolicy};
use tonewall::obs::event::EventKind;
use tonewall::record::catalogue::{Query, State};
use tonewall::record::keys::{Kek, KeyRing};
use tonewall::rt::node::{Node, Options};
use tonewall::testkit::site::Site;

fn ring() -> KeyRing {
    let text: String = (60..92).map(|byte| format!("{byte:02x}")).collect();
    KeyRing::new(Some(Kek::parse("canary", &text).expect("a key")), Vec::new()).expect("a ring")
}

fn config(root: &std::path::Path) -> Config {
    let any = "127.0.0.1:0".parse().expect("an address");
    let nobody = "127.0.0.1:9".parse().expect("an address");
    let mut site = Site::new(any, nobody, any, nobody).carriers(|c| {
        c.recording = RecordingPolicy::Required;
        c.guard = GuardMode::Signal;
    });
    site.recordings = root.join("recordings");
    site.kek = Some(KekRef::file("canary", root.join("unused")));
    site.ports = common::media_ports(24);
    site.canary = Some(Canary {
        every: Duration::from_secs(3_600),
        forms: vec![CanaryForm::Tone],
        guards: vec![CanaryGuard::Held, CanaryGuard::Auto],
        ..Canary::default()
    });
    site.config()
}

async fn start(config: Config) -> Node {
    let options =
        Options { config, keys: tonewall::rt::keys::Keys::fixed(ring()), recipient: Box::new(Discard), demo: None };
    Node::start(options).await.expect("a node")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sound_node_passes_and_leaves_a_tombstone_of_each_recording() {
    let root = tempfile::tempdir().expect("a directory");
    let mut node = start(config(root.path())).await;
    let verdicts = node.canary().expect("a canary").now().await.expect("verdicts");
    assert_eq!(verdicts.len(), 2);
    for verdict in &verdicts {
        assert!(verdict.is_good(), "{}: {}", verdict.name, verdict.text());
        let recording = verdict.recording.expect("a recording");
        let entry = node.catalogue().expect("a catalogue").get(recording).expect("read").expect("an entry");
        assert_eq!(entry.state, State::Destroyed);
        assert!(!node.catalogue().expect("a catalogue").file(&entry).exists());
        let told = node.events().of_call(verdict.call.expect("a call"));
        assert!(told.iter().any(|event| matches!(event.kind, EventKind::Canary { good: true, .. })));
    }
    let left = node.catalogue().expect("a catalogue").search(&Query::default()).expect("searched");
    assert!(left.entries.is_empty(), "nothing of a canary stays but tombstones");
    node.stop_now();
    node.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guard_that_lets_keys_pass_is_found_at_the_ear_and_its_recording_is_kept() {
    let root = tempfile::tempdir().expect("a directory");
    let mut config = config(root.path());
    config.canary =
        Some(Canary { forms: vec![CanaryForm::Tone], guards: vec![CanaryGuard::Open], ..Canary::default() });
    let mut node = start(config).await;
    let verdicts = node.canary().expect("a canary").now().await.expect("verdicts");
    let (verdict, text) = (&verdicts[0], verdicts[0].text());
    assert!(!verdict.is_good() && text.contains("the agent got 16 tones"), "{text}");
    assert!(text.contains("0 of 16 keys were counted as masked"), "{text}");
    let told = node.events().of_call(verdict.call.expect("a call"));
    assert!(told.iter().any(|event| matches!(event.kind, EventKind::Canary { good: false, .. })));
    // The recording itself is clean: the horizon has taken the card out. It is kept to be looked at.
    assert!(told.iter().any(|event| matches!(event.kind, EventKind::RecordingRedacted { .. })), "{text}");
    let recording = verdict.recording.expect("a recording");
    let entry = node.catalogue().expect("a catalogue").get(recording).expect("read").expect("an entry");
    assert_eq!(entry.state, State::Sealed, "{text}");
    assert_eq!(entry.labels.get("canary").map(String::as_str), Some("open/tone"));
    node.stop_now();
    node.ended().await;
}

#[test]
fn a_round_by_hand_is_played_beside_the_running_node() {
    let more = "\n[canary]\nevery_s = 604800\nforms = [\"info\"]\nguards = [\"held\"]\n".to_owned();
    let node = Running::start(&Plan { recording: "required", more, ..Plan::new() });
    let done = Command::new(env!("CARGO_BIN_EXE_tonewall")).arg("canary").arg(&node.config).output().expect("it runs");
    let (told, fault) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert_eq!(done.status.code(), Some(0), "{told} {fault}");
    let clean = "held/info   ok: every key masked and counted; ear, events, log and recording hold none\n";
    assert_eq!(told, clean, "{fault}");
    assert!(common::answers_options(node.carrier_side), "{}", node.log());
}
