//! Recorders that refuse, hang, vanish and come back: the call goes on, the other recorder too, and what a recorder misses is
//! in a sealed file. A required one that is lost ends the call, and keeps new ones away.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::Value;
use tonewall::record::keys::{Kek, KeyRing};
use tonewall::record::sealed::peek;

use crate::common::{KEK, free_address};
use crate::desk::Desk;
use crate::srs::{Mood, Srs};
use crate::{all, open, section, sounding, until, wait};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn recorders_that_fail_disturb_nobody_else() {
    all(vec![
        (
            "a hung recorder disturbs neither the other nor the call",
            Box::pin(a_hung_recorder_disturbs_neither_the_other_nor_the_call()),
        ),
        (
            "the next target stands in for one that refuses or is not there",
            Box::pin(the_next_target_stands_in_for_one_that_refuses_or_is_not_there()),
        ),
        (
            "what a lost recorder misses is in a sealed file that says so",
            Box::pin(what_a_lost_recorder_misses_is_in_a_sealed_file_that_says_so()),
        ),
        (
            "a required recorder that takes nothing ends the call and keeps new ones away",
            Box::pin(a_required_recorder_that_takes_nothing_ends_the_call_and_keeps_new_ones_away()),
        ),
        (
            "a recorder that ends the session is asked again",
            Box::pin(a_recorder_that_ends_the_session_is_asked_again()),
        ),
        (
            "a recorder that dies is spilled for and asked again when it is back",
            Box::pin(a_recorder_that_dies_is_spilled_for_and_asked_again_when_it_is_back()),
        ),
        (
            "a recorder whose media is refused is left for the next target",
            Box::pin(a_recorder_whose_media_is_refused_is_left_for_the_next_target()),
        ),
        (
            "a recorder that hangs at the end keeps nothing open",
            Box::pin(a_recorder_that_hangs_at_the_end_keeps_nothing_open()),
        ),
    ])
    .await;
}

fn quality(desk: &Desk) -> Value {
    let shown = desk.ask("GET", "/v1/recorders", None);
    let found = shown["recorders"].as_array().and_then(|all| all.iter().find(|one| one["name"] == "quality").cloned());
    let mut found = found.unwrap_or_else(|| panic!("{shown}"));
    let mut siprec = found["siprec"].take();
    siprec["state"] = found["state"].take();
    siprec
}

async fn a_hung_recorder_disturbs_neither_the_other_nor_the_call() {
    let (hung, good) = (Srs::open("tcp"), Srs::open("tcp"));
    hung.set(Mood::Silent);
    let sections = section("hung", "tcp", &[&hung], "failover_ms = 1000") + &section("quality", "tcp", &[&good], "");
    let mut desk = open(&["hung", "quality"], &sections).await;
    let call = desk.call().await;
    let session = sounding(&good).await;
    let from = Instant::now();
    wait(2_500).await;
    let packets = good.packets(&session, 0).iter().filter(|packet| packet.at >= from).count();
    assert!(packets > 110, "{packets} packets in 2.5 s");
    let heard = call.agent.with(|agent, _| agent.rtp.heard.packets().len());
    wait(500).await;
    assert!(call.agent.with(|agent, _| agent.rtp.heard.packets().len()) > heard + 20, "the call goes on");
    let shown = desk.ask("GET", &format!("/v1/calls/{}/recorders", call.id), None);
    assert_eq!(
        (shown["recorders"][0]["state"].as_str(), shown["recorders"][1]["state"].as_str()),
        (Some("away"), Some("recording")),
        "{shown}"
    );
    // It comes back: it is asked again, and gets the rest.
    hung.set(Mood::Willing);
    sounding(&hung).await;
    desk.hang_up(call).await;
    until("both are ended", || hung.live().is_empty() && good.live().is_empty()).await;
}

async fn the_next_target_stands_in_for_one_that_refuses_or_is_not_there() {
    let (refuses, takes) = (Srs::open("tcp"), Srs::open("tcp"));
    refuses.set(Mood::Refusing(480));
    let nobody = free_address();
    let text = section("quality", "tcp", &[&refuses, &takes], "forward = false").replacen(
        "remotes = [",
        &format!("remotes = [\"{nobody}\", "),
        1,
    );
    let mut desk = open(&["quality"], &text).await;
    let call = desk.call().await;
    sounding(&takes).await;
    assert_eq!((refuses.count("INVITE"), takes.count("INVITE")), (1, 1));
    let shown = quality(&desk);
    assert_eq!((shown["sessions"].as_u64(), shown["failed"].as_u64()), (Some(1), Some(2)), "{shown}");
    desk.hang_up(call).await;
    until("it is ended", || takes.live().is_empty()).await;
}

/// A recorder that hangs in the middle is found out, and the sound spilled until it is back.
async fn what_a_lost_recorder_misses_is_in_a_sealed_file_that_says_so() {
    let srs = Srs::open("tcp");
    let mut desk = open(&["quality"], &section("quality", "tcp", &[&srs], "alive_s = 1\nfailover_ms = 600")).await;
    let call = desk.call().await;
    sounding(&srs).await;
    srs.set(Mood::Silent);
    until("it is away", || quality(&desk)["spilling"] == 1).await;
    assert_eq!((quality(&desk)["away"].as_u64(), quality(&desk)["state"].as_str()), (Some(1), Some("down")));
    wait(1_500).await;
    srs.set(Mood::Willing);
    until("it is back", || quality(&desk)["sessions"] == 1 && quality(&desk)["spilling"] == 0).await;
    desk.hang_up(call).await;
    until("ended", || quality(&desk)["sessions"] == 0).await;
    wait(500).await;
    let marks = spills(&desk.node.dir.path().join("recordings"));
    assert_eq!(marks, ["quality"], "one file, which says what it stands in for");
}

/// The recorders that the sealed files below `root` stand in for.
pub fn spills(root: &Path) -> Vec<String> {
    let ring = KeyRing::new(Some(Kek::parse("test", KEK).expect("a key")), Vec::new()).expect("a ring");
    let days = std::fs::read_dir(root).expect("recordings").flatten().filter(|entry| entry.path().is_dir());
    let files = days.flat_map(|day| std::fs::read_dir(day.path()).expect("a day").flatten());
    let sealed = files.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "sealed"));
    let mark = |path: PathBuf| {
        let file = std::fs::File::open(&path).expect("a recording");
        let report = peek(file, None, &ring).unwrap_or_else(|fault| panic!("{}: {fault:?}", path.display()));
        report.start.and_then(|start| start.labels.get("spill").cloned()).unwrap_or_else(|| "nothing".to_owned())
    };
    sealed.map(mark).collect()
}

async fn a_required_recorder_that_takes_nothing_ends_the_call_and_keeps_new_ones_away() {
    let srs = Srs::open("tcp");
    let mut desk = open(
        &["quality"],
        &section("quality", "tcp", &[&srs], "policy = \"required\"\nalive_s = 1\nfailover_ms = 600"),
    )
    .await;
    let call = desk.call().await;
    sounding(&srs).await;
    srs.set(Mood::Hanging);
    until("it is lost", || quality(&desk)["failed"].as_u64() > Some(0)).await;
    srs.set(Mood::Refusing(503));
    let gone = desk.until(&format!("/v1/calls/{}", call.id), |gone| gone["status"] == 404).await;
    assert_eq!(gone["status"], 404);
    until("both ends are told", || call.caller.with(|phone, _| phone.is_ended())).await;
    assert!(desk.node.log().contains("cause=\"recorder-failed\"") || desk.node.log().contains("recorder-failed"));
    let second = desk.refused().await;
    assert_eq!(second, Some(503), "a new call is refused while it takes nothing");
}

async fn a_recorder_that_ends_the_session_is_asked_again() {
    let srs = Srs::open("tcp");
    let mut desk = open(&["quality"], &section("quality", "tcp", &[&srs], "")).await;
    let call = desk.call().await;
    let session = sounding(&srs).await;
    srs.request(&session, "BYE", None);
    until("its BYE is answered", || srs.statuses().contains(&200)).await;
    until("a second session", || srs.sessions().len() == 2).await;
    desk.hang_up(call).await;
    until("it is ended", || srs.count("BYE") == 1).await;
}

/// The recorder's process dies and comes back: connections are reset and refused.
async fn a_recorder_that_dies_is_spilled_for_and_asked_again_when_it_is_back() {
    let srs = Srs::open("tcp");
    let at = srs.at;
    let mut desk = open(&["quality"], &section("quality", "tcp", &[&srs], "alive_s = 1\nfailover_ms = 600")).await;
    let call = desk.call().await;
    sounding(&srs).await;
    tokio::task::block_in_place(|| drop(srs));
    until("it is away", || quality(&desk)["spilling"] == 1).await;
    let again = Srs::open_at("tcp", at, None);
    sounding(&again).await;
    assert_eq!(quality(&desk)["spilling"], 0);
    desk.hang_up(call).await;
    until("it is ended", || again.live().is_empty()).await;
}

/// Its media ports are closed while its signalling lives: packets come back as unreachable.
async fn a_recorder_whose_media_is_refused_is_left_for_the_next_target() {
    let (deaf, good) = (Srs::open("tcp"), Srs::open("tcp"));
    deaf.set(Mood::Deaf);
    let mut desk = open(&["quality"], &section("quality", "tcp", &[&deaf, &good], "")).await;
    let call = desk.call().await;
    until("it is left", || deaf.count("BYE") == 1).await;
    let shown = quality(&desk);
    assert_eq!(shown["last_error"], "the recorder's media ports are closed", "{shown}");
    desk.hang_up(call).await;
}

/// It hangs when the call ends: nobody waits for it.
async fn a_recorder_that_hangs_at_the_end_keeps_nothing_open() {
    let srs = Srs::open("udp");
    let mut desk = open(&["quality"], &section("quality", "udp", &[&srs], "")).await;
    let call = desk.call().await;
    sounding(&srs).await;
    srs.set(Mood::Silent);
    let began = Instant::now();
    desk.hang_up(call).await;
    until("the session is over", || quality(&desk)["sessions"] == 0).await;
    assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
    let next = desk.call().await;
    srs.set(Mood::Willing);
    sounding(&srs).await;
    desk.hang_up(next).await;
}
