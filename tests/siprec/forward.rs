//! What was spilled while a recorder was away reaches it when it is back: whole, once, and without a key.

use std::path::{Path, PathBuf};

use tonewall::dsp::g711::{ulaw_decode, ulaw_encode};
use tonewall::record::catalogue::{Entry, FORWARDED, Query, Retention, SPILL};
use tonewall::record::keys::{Kek, KeyRing};
use tonewall::record::place::seal_file;
use tonewall::record::sealed::{Item, Verdict, verify};
use tonewall::rt::catalogue::Catalogue;
use tonewall::testkit::keys::Form;
use tonewall::testkit::leak::Attackers;

use crate::check::check;
use crate::common::{KEK, free_address};
use crate::srs::{Session, Srs};
use crate::{open, section, until, wait};

/// The spills of a node, as its catalogue has them.
fn spills(root: &Path) -> Vec<(Entry, PathBuf)> {
    let catalogue = Catalogue::open(root, Retention::default()).expect("the catalogue");
    let query = Query { labels: vec![(SPILL.to_owned(), "quality".to_owned())], ..Query::default() };
    let found = catalogue.search(&query).expect("an answer").entries;
    found.into_iter().map(|entry| (entry.clone(), catalogue.file(&entry))).collect()
}

/// What a sealed file holds, per side.
fn sealed(path: &Path) -> [Vec<i16>; 2] {
    let ring = KeyRing::new(Some(Kek::parse("test", KEK).expect("a key")), Vec::new()).expect("a ring");
    let seal = std::fs::read(seal_file(path)).expect("a seal");
    let mut sides = [Vec::new(), Vec::new()];
    let file = std::fs::File::open(path).expect("a recording");
    let report = verify(file, Some(&seal), None, &ring, &mut |item| {
        if let Item::Audio(bytes) = item {
            for frame in bytes.as_chunks::<4>().0 {
                sides[0].push(i16::from_le_bytes([frame[0], frame[1]]));
                sides[1].push(i16::from_le_bytes([frame[2], frame[3]]));
            }
        }
        Ok(())
    });
    assert_eq!(report.expect("read").verdict, Verdict::Intact);
    sides
}

fn begun(srs: &Srs, nth: usize) -> Option<Session> {
    srs.sessions().get(nth).filter(|session| srs.packets(session, 1).len() > 20).cloned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_spilled_is_forwarded_whole_and_once_even_over_a_kill() {
    if let Some(missing) = Attackers::new().missing() {
        crate::common::skip("spandsp as an attacker of the recorder", missing);
    }
    let at = free_address();
    let text = section("quality", "tcp", &[], "probe_s = 1\nprobe_good = 1\nfailover_ms = 600").replacen(
        "remotes = []",
        &format!("remotes = [\"{at}\"]"),
        1,
    );
    let mut desk = open(&["quality"], &text).await;
    let root = desk.node.dir.path().join("recordings");
    // Nobody is there when the call begins, nor while a card is keyed under a hold.
    let call = desk.call().await;
    let shown =
        desk.until(&format!("/v1/calls/{}/recorders", call.id), |it| it["recorders"][0]["spill"].is_string()).await;
    let spill = shown["recorders"][0]["spill"].as_str().expect("a spill").to_owned();
    let hold = serde_json::json!({"kind": "mask", "reason": "card", "ttl_s": 60});
    desk.ask("POST", &format!("/v1/calls/{}/holds", call.id), Some(hold));
    call.press("42424242", Form::Tone);
    wait(400).await;
    until("the keys", || call.caller.with(|phone, _| !phone.rtp.is_keying())).await;
    wait(600).await;
    let id = call.id.clone();
    desk.hang_up(call).await;
    until("its self-audit", || spills(&root).first().is_some_and(|(entry, _)| entry.waits_for().is_some())).await;
    // It is back, and the node is killed in the middle.
    let srs = Srs::open_at("tcp", at, None);
    until("it is forwarded", || begun(&srs, 0).is_some()).await;
    tokio::task::block_in_place(|| desk.node.restart());
    until("it is forwarded anew", || srs.sessions().get(1).is_some_and(|session| session.ended)).await;
    until("it is marked", || spills(&root)[0].0.labels.contains_key(FORWARDED)).await;
    assert_eq!(srs.sessions().len(), 2);
    let session = srs.sessions().remove(1);
    let (entry, file) = spills(&root).remove(0);
    assert_eq!((entry.recording.to_string(), spills(&root).len()), (spill.clone(), 1));
    // What it says.
    let header = session.invite.get("x-tonewall-spill").expect("it says that it is no live one").to_owned();
    assert!(header.starts_with(&format!("{spill};from=20")) && header.contains(";to=20"), "{header}");
    let metadata = &session.metadata[0];
    check("forwarded", metadata);
    let read = roxmltree::Document::parse(metadata).expect("XML");
    let one = |name: &str| {
        let found = read.descendants().find(|node| node.tag_name().name() == name);
        found.and_then(|node| node.text()).unwrap_or_else(|| panic!("no {name}: {metadata}")).to_owned()
    };
    assert_eq!((one("call"), one("spill")), (id, spill));
    let call_ids = [one("customer-call-id"), one("agent-call-id")];
    assert!(call_ids.iter().all(|id| entry.sip_call_ids.contains(id)), "{call_ids:?}");
    assert!(one("start-time") <= entry.started_ms.rfc3339(), "the call began before its spill");
    assert_eq!(one("stop-time"), entry.call_ended_ms.expect("the call's end").rfc3339());
    assert!(metadata.contains("+14155550100") && metadata.contains("5551000"), "{metadata}");
    // What it sounds like: what was sealed, bit for bit, at the pace of a call, and no key.
    for (at, side) in sealed(&file).iter().enumerate() {
        let packets = srs.packets(&session, at);
        let got: Vec<u8> = packets.iter().flat_map(|packet| packet.bytes[12..].to_vec()).collect();
        let wanted: Vec<u8> = side.iter().map(|sample| ulaw_encode(*sample)).collect();
        assert!(wanted.len() > 8_000 && got.len() - wanted.len() < 800, "{} of {}", got.len(), wanted.len());
        assert!(got[..wanted.len()] == wanted[..], "stream {at} is what was sealed");
        let lasted = packets[packets.len() - 1].at.duration_since(packets[0].at).as_millis() as i64;
        assert!((lasted - 20 * (packets.len() as i64 - 1)).abs() < 400, "{lasted} ms for {}", packets.len());
        let heard: Vec<i16> = got.iter().map(|byte| ulaw_decode(*byte)).collect();
        let findings = Attackers::new().listen(&heard);
        assert!(findings.nothing_decoded(), "stream {at}: {findings:?}");
    }
    until("it is counted", || {
        let metrics = desk.node.metrics();
        let lines = ["spills_waiting{recorder=\"quality\"} 0", "spills_forwarded_total{recorder=\"quality\"} 1"];
        lines.iter().all(|line| metrics.contains(&format!("tonewall_siprec_{line}")))
    })
    .await;
}
