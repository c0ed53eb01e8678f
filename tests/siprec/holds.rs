//! Pauses: by hold, by recorder, by the PBX. While one is in force no packet of sound reaches the recorder it is for.

use std::time::Instant;

use serde_json::{Value, json};

use crate::desk::{Call, Desk};
use crate::srs::{Session, Srs};
use crate::{all, check, open, section, sounding, until, wait};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn pauses_reach_whom_they_are_for() {
    all(vec![
        (
            "a pause hold reaches every recorder and leaves no packet on the wire",
            Box::pin(a_pause_hold_reaches_every_recorder_and_leaves_no_packet_on_the_wire()),
        ),
        (
            "one recorder is paused stopped and started while the other goes on",
            Box::pin(one_recorder_is_paused_stopped_and_started_while_the_other_goes_on()),
        ),
        (
            "the recorder hears of hold and pause in its metadata",
            Box::pin(the_recorder_hears_of_hold_and_pause_in_its_metadata()),
        ),
        (
            "the pbx steers one recorder or all by its header",
            Box::pin(the_pbx_steers_one_recorder_or_all_by_its_header()),
        ),
    ])
    .await;
}

/// How long after the order a packet may still arrive that had left before it, in ms.
const FLIGHT: u64 = 60;

fn between(srs: &Srs, session: &Session, from: Instant, to: Instant) -> usize {
    let within =
        |at: usize| srs.packets(session, at).iter().filter(|packet| packet.at >= from && packet.at < to).count();
    within(0) + within(1)
}

async fn steer(desk: &Desk, call: &Call, recorder: &str, action: &str) -> Value {
    desk.ask(
        "POST",
        &format!("/v1/calls/{}/recorders/{recorder}", call.id),
        Some(json!({"action": action, "ttl_s": 60})),
    )
}

async fn a_pause_hold_reaches_every_recorder_and_leaves_no_packet_on_the_wire() {
    let (one, two) = (Srs::open("tcp"), Srs::open("udp"));
    let sections = section("one", "tcp", &[&one], "") + &section("two", "udp", &[&two], "codec = \"PCMA\"");
    let mut desk = open(&["one", "two"], &sections).await;
    let call = desk.call().await;
    let sessions = [sounding(&one).await, sounding(&two).await];
    let holds = format!("/v1/calls/{}/holds", call.id);
    let taken = desk.ask("POST", &holds, Some(json!({"kind": "pause", "reason": "card", "ttl_s": 60})));
    // What had left before the order is on its way for some milliseconds; nothing leaves after it.
    wait(FLIGHT).await;
    let from = Instant::now();
    until("both are told", || {
        [&one, &two].iter().all(|srs| {
            srs.live()[0].descriptions.last().is_some_and(|(_, text)| text.matches("a=inactive").count() == 2)
        })
    })
    .await;
    wait(1_200).await;
    let to = Instant::now();
    let hold = taken["holds"][0]["id"].as_str().expect("a hold");
    desk.ask("DELETE", &format!("{holds}/{hold}"), None);
    for (srs, session) in [&one, &two].into_iter().zip(&sessions) {
        assert_eq!(between(srs, session, from, to), 0, "packets in the pause");
        let before = srs.packets(session, 0).len();
        until("sound again", || srs.packets(session, 0).len() > before + 10).await;
        // The gap is in the timestamps, not in the numbers.
        let packets = srs.packets(session, 0);
        let gap = packets.windows(2).map(|pair| pair[1].timestamp().wrapping_sub(pair[0].timestamp())).max();
        assert!(gap.is_some_and(|gap| (8_000..40_000).contains(&gap)), "{gap:?}");
        assert!(packets.windows(2).all(|pair| pair[1].sequence() == pair[0].sequence().wrapping_add(1)));
        check::check("after a pause", srs.live()[0].metadata.last().expect("metadata"));
    }
    desk.hang_up(call).await;
}

async fn one_recorder_is_paused_stopped_and_started_while_the_other_goes_on() {
    let (one, two) = (Srs::open("tcp"), Srs::open("tcp"));
    let sections = section("one", "tcp", &[&one], "") + &section("two", "tcp", &[&two], "");
    let mut desk = open(&["one", "two"], &sections).await;
    let call = desk.call().await;
    let (first, second) = (sounding(&one).await, sounding(&two).await);
    let shown = steer(&desk, &call, "one", "pause").await;
    assert_eq!(shown["recorders"][0]["state"], "paused", "{shown}");
    wait(FLIGHT).await;
    let from = Instant::now();
    wait(1_000).await;
    let resumed = Instant::now();
    steer(&desk, &call, "one", "resume").await;
    assert_eq!(between(&one, &first, from, resumed), 0);
    assert!(between(&two, &second, from, resumed) > 80, "the other goes on");
    // Sound that was heard in the pause is not sent after it: the tap keeps 400 ms back.
    wait(350).await;
    assert_eq!(between(&one, &first, from, Instant::now()), 0, "what was heard in the pause");
    let paused = one.packets(&first, 0).len();
    until("sound again", || one.packets(&first, 0).len() > paused + 10).await;
    steer(&desk, &call, "one", "stop").await;
    until("its session ends", || one.live().is_empty()).await;
    let shown = steer(&desk, &call, "one", "start").await;
    assert_eq!(shown["recorders"][1]["state"], "recording", "{shown}");
    sounding(&one).await;
    assert_eq!((one.sessions().len(), two.sessions().len()), (2, 1));
    let (status, _) =
        desk.answer("POST", &format!("/v1/calls/{}/recorders/three", call.id), Some(json!({"action": "stop"})));
    assert_eq!(status, 404);
    desk.hang_up(call).await;
    until("both are ended", || one.live().is_empty() && two.live().is_empty()).await;
}

async fn the_recorder_hears_of_hold_and_pause_in_its_metadata() {
    let srs = Srs::open("tcp");
    let more = "[[recorder.header]]\nname = \"X-Call\"\nvalue = \"{call} {caller}\"\n\n\
                [[recorder.extension]]\nname = \"site\"\nvalue = \"{from_trunk}/{node}\"\n\n\
                [[recorder.header]]\nname = \"X-Absent\"\nvalue = \"{header:X-Not-There}\"\n";
    let mut desk = open(&["quality"], &section("quality", "tcp", &[&srs], more)).await;
    let call = desk.call().await;
    let session = sounding(&srs).await;
    assert_eq!(session.invite.get("x-call"), Some(format!("{} +14155550100", call.id).as_str()));
    assert_eq!(session.invite.get("x-absent"), None);
    assert!(session.metadata[0].contains(">carrier/tonewall</site>"), "{}", session.metadata[0]);
    assert_eq!(session.metadata[0].matches("<recv>").count(), 2);
    call.agent.with(|agent, now| agent.reinvite(now, tonewall::testkit::simple_sdp::Direction::SendOnly));
    until("the hold is told", || srs.live()[0].metadata.last().is_some_and(|text| !text.contains("<recv>"))).await;
    check::check("held", srs.live()[0].metadata.last().expect("metadata"));
    desk.hang_up(call).await;
}

async fn the_pbx_steers_one_recorder_or_all_by_its_header() {
    let (one, two) = (Srs::open("tcp"), Srs::open("tcp"));
    let sections = section("one", "tcp", &[&one], "") + &section("two", "tcp", &[&two], "");
    let mut desk = open(&["one", "two"], &sections).await;
    let call = desk.call().await;
    sounding(&one).await;
    sounding(&two).await;
    let path = format!("/v1/calls/{}/recorders", call.id);
    for (action, wanted) in [
        ("pause-siprec;recording-ip-group=two", ["recording", "paused"]),
        ("resume-siprec;recording-ip-group=\"TWO\"", ["recording", "recording"]),
        ("pause-siprec", ["paused", "paused"]),
        ("resume-siprec", ["recording", "recording"]),
        ("pause-siprec;recording-ip-group=three", ["paused", "paused"]),
        ("resume-siprec", ["recording", "recording"]),
        ("stop-siprec;recording-ip-group=one", ["stopped", "recording"]),
        ("start-siprec;recording-ip-group=one", ["recording", "recording"]),
    ] {
        call.agent.with(|agent, now| agent.signal(now, "X-AC-Action", action));
        let shown = |shown: &Value| [0, 1].map(|at| shown["recorders"][at]["state"].as_str().map(str::to_owned));
        desk.until(&path, |now| shown(now) == wanted.map(|state| Some(state.to_owned()))).await;
    }
    // The customer's side has no say.
    call.caller.with(|caller, now| caller.signal(now, "X-AC-Action", "stop-siprec"));
    wait(300).await;
    assert_eq!((one.live().len(), two.live().len()), (1, 1));
    desk.hang_up(call).await;
}
