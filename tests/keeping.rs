//! What becomes of a recording after its call, in a running node with an audit log: labels of its trunk from the beginning
//! and the deadline that follows, what the log has of it when it is closed, a cut that only the log tells, and its
//! destruction with the proof.
#![allow(clippy::disallowed_methods)] // Tests may wait, and open sockets.

mod common;

#[path = "common/desk.rs"]
mod desk;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::{API_KEYS, Plan};
use desk::Desk;
use serde_json::{Value, json};

fn tonewall(arguments: &[&str]) -> (i32, String) {
    let done = Command::new(env!("CARGO_BIN_EXE_tonewall")).args(arguments).output().expect("it runs");
    let told = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    (done.status.code().unwrap_or(-1), told)
}

/// Entries of this kind about this recording.
fn entries(log: &Path, action: &str, recording: &str) -> Vec<Value> {
    let mut pages: Vec<PathBuf> =
        fs::read_dir(log).expect("the log").map(|page| page.expect("a page").path()).collect();
    pages.retain(|page| page.extension().is_some_and(|kind| kind == "log"));
    pages.sort();
    let text: String = pages.iter().map(|page| fs::read_to_string(page).expect("text")).collect();
    let all = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    all.filter(|entry| entry["action"] == action && entry["object"]["recording"] == recording).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn labels_of_a_trunk_the_log_of_what_was_sealed_and_the_proof_of_destruction() {
    let home = tempfile::tempdir().expect("a directory");
    let (key, log) = (home.path().join("audit.key"), home.path().join("log"));
    let (code, told) =
        tonewall(&["audit", "keygen", "--name", "tonewall/test", "--output", key.to_str().expect("a path")]);
    assert_eq!(code, 0, "{told}");
    let more = format!(
        "\n[[storage.retention]]\nlabel = \"team=north\"\nkeep_days = 30\n[audit]\ndirectory = {log:?}\nkey = {key:?}\n"
    );
    let trunks = ["labels = [\"team=north\", \"line=main\"]\n", "labels = [\"team=south\", \"site=hamburg\"]\n"];
    let plan = Plan { recording: "best-effort", more, trunks: trunks.map(str::to_owned), ..Plan::new() };
    let mut desk = Desk::open(plan).await;
    let call = desk.call().await;
    let found = desk.until(&format!("/v1/calls/{}", call.id), |call| call["recording"]["state"] == "recording").await;
    let id = found["recording"]["id"].as_str().expect("an id").to_owned();
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    desk.hang_up(call).await;
    let path = format!("/v1/recordings/{id}");
    let shown = desk.until(&path, |shown| shown["state"] == "sealed").await;
    assert_eq!(shown["labels"], json!({"line": "main", "site": "hamburg", "team": "north"}), "{shown}");
    let days = (shown["keep_until_ms"].as_u64().expect("a deadline") - shown["ended_ms"].as_u64().expect("an end"))
        / 86_400_000;
    assert_eq!(days, 30, "by the label that the trunk gave it");
    let found = desk.ask("GET", "/v1/recordings?label=site=hamburg", None);
    assert_eq!(found["recordings"][0]["id"], id.as_str());

    // What the log has of it is what was sealed.
    let sealed = entries(&log, "recording-sealed", &id);
    assert_eq!(sealed.len(), 1, "{sealed:?}");
    let chunks = sealed[0]["object"]["chunks"].as_u64().expect("chunks");
    assert!(chunks > 2 && sealed[0]["object"]["header"].as_str().is_some_and(|hash| hash.len() == 64), "{sealed:?}");
    let config = desk.node.config.to_str().expect("a path").to_owned();
    let recordings = |arguments: &[&str]| tonewall(&[&["recordings", "--config", &config], arguments].concat());
    let (code, told) = recordings(&["verify", &id]);
    assert!(code == 1 && told.contains("--purpose TEXT is needed"), "{told}");
    let (code, told) = recordings(&["verify", &id, "--purpose", "yearly check"]);
    assert!(code == 0 && told.contains(&format!("in {chunks} chunks")), "{told}");
    assert_eq!(entries(&log, "recording-viewed", &id).last().expect("an entry")["purpose"], "yearly check");
    let (code, told) = recordings(&["search", "--number", "0100", "--label", "team=north"]);
    assert!(code == 0 && told.contains(&id), "{told}");

    // Cut back to its description, its seal gone: by the file alone it was killed in its first second.
    let day = fs::read_dir(desk.node.dir.path().join("recordings")).expect("the recordings");
    let day = day.flatten().find(|entry| entry.path().is_dir()).expect("a day").path();
    let (file, seal) = (day.join(format!("{id}.sealed")), day.join(format!("{id}.seal")));
    let (whole, kept) = (fs::read(&file).expect("the file"), fs::read(&seal).expect("its seal"));
    let header = 57 + 1 + usize::from(whole[57]) + 8 + 12 + 48;
    let first = u32::from_be_bytes(whole[header..header + 4].try_into().expect("four")) & 0xffff;
    fs::write(&file, &whole[..header + 4 + first as usize]).expect("cut");
    fs::remove_file(&seal).expect("removed");
    let (code, told) = recordings(&["verify", &id, "--purpose", "yearly check"]);
    let wanted = format!("cut after it was closed: the audit log has {chunks} chunks, 1 are left");
    assert!(code == 4 && told.contains(&wanted), "{told}");
    fs::write(&file, &whole).expect("put back");
    fs::write(&seal, &kept).expect("put back");

    // Destroyed over the API: asked for before, and how it was seen after.
    let http = ureq::Agent::config_builder().http_status_as_error(false).build();
    let request = ureq::http::Request::builder()
        .method("DELETE")
        .uri(desk.url(&path))
        .header("authorization", format!("Bearer {}", API_KEYS[1].2))
        .header("content-type", "application/json")
        .body(json!({"reason": "asked for"}).to_string().into_bytes())
        .expect("a request");
    let answer = tokio::task::block_in_place(|| ureq::Agent::from(http).run(request)).expect("an answer");
    assert_eq!(answer.status().as_u16(), 200);
    desk.until(&path, |shown| shown["state"] == "destroyed").await;
    assert!(!file.exists() && !seal.exists());
    let mut destroyed = entries(&log, "recording-destroyed", &id);
    for _ in 0..100 {
        if destroyed.len() == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        destroyed = entries(&log, "recording-destroyed", &id);
    }
    let results: Vec<&Value> = destroyed.iter().map(|entry| &entry["result"]).collect();
    assert_eq!(results, ["asked", "done"], "{destroyed:?}");
    let proof = &destroyed[1]["object"]["proof"];
    assert_eq!(
        (&proof["keys_tried"], &proof["opened"], &proof["files_deleted"]),
        (&json!(["test"]), &json!(false), &json!(2))
    );
    let (code, told) = tonewall(&["audit", "verify", "--config", &config]);
    assert_eq!(code, 0, "{told}");
}
