//! A recorder whose SIP port is cut off by a packet filter, both ways it can be: refused (reject) and swallowed (drop); before
//! a call, in the middle and at its end. All of it in a network namespace that the test makes for itself.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::{installed, say, skip};
use crate::desk::Desk;
use crate::faults::spills;
use crate::srs::Srs;
use crate::{Scenario, all, open, section, sounding, until, wait};

/// Set in the process that is inside.
const INSIDE: &str = "TONEWALL_OWN_NETWORK";

#[test]
fn a_recorder_whose_port_is_cut_off_is_done_without() {
    if std::env::var_os(INSIDE).is_some() {
        return inside();
    }
    let test = "recorders cut off by a packet filter";
    for (program, package) in [("unshare", "util-linux"), ("ip", "iproute2"), ("nft", "nftables")] {
        if !installed(program) {
            return skip(test, &format!("{program} is not installed (Debian: apt-get install {package})"));
        }
    }
    let tried = |ways: &&[&str]| {
        let asked =
            Command::new("unshare").args(*ways).args(["sh", "-c", &format!("{LOOPBACK} && nft list ruleset")]).output();
        asked.is_ok_and(|output| output.status.success())
    };
    let Some(ways) = [&["--net"][..], &["--net", "--map-root-user"]].into_iter().find(tried) else {
        return skip(test, "no network namespace with a packet filter can be made here (root, or user namespaces)");
    };
    let itself = std::env::current_exe().expect("the test's binary");
    let status = Command::new("unshare")
        .args(ways)
        .args(["sh", "-c", &format!("{LOOPBACK} && exec \"$0\" \"$@\"")])
        .arg(itself)
        .args(["cut::a_recorder_whose_port_is_cut_off_is_done_without", "--exact", "--nocapture"])
        .env(INSIDE, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .expect("unshare starts");
    assert!(status.success(), "in the namespace: {status}");
}

const LOOPBACK: &str = "ip link set lo up";

fn inside() {
    filter(
        "table inet cut {
            set swallowed { type inet_service; }
            set refused { type inet_service; }
            chain in {
                type filter hook input priority 0; policy accept;
                th dport @swallowed drop
                th sport @swallowed drop
                tcp dport @refused reject with tcp reset
                udp dport @refused reject
            }
        }",
    );
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().expect("a runtime");
    let stories: Vec<(&'static str, Scenario)> = vec![
        ("a recorder whose port refuses is spilled for, the others go on", Box::pin(goes_without(How::Refused))),
        ("a recorder whose port swallows is spilled for, the others go on", Box::pin(goes_without(How::Swallowed))),
        ("a required recorder whose port refuses ends the call", Box::pin(ends_the_call(How::Refused))),
        ("a required recorder whose port swallows ends the call", Box::pin(ends_the_call(How::Swallowed))),
    ];
    runtime.block_on(all(stories));
}

/// Gives the packet filter something to read.
fn filter(text: &str) {
    let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().expect("nft starts");
    nft.stdin.take().expect("its input").write_all(text.as_bytes()).expect("written");
    assert!(nft.wait().expect("nft").success(), "nft took {text:?}");
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Refused,
    Swallowed,
}

/// A cut; lifted when dropped.
struct Cut {
    set: &'static str,
    port: u16,
}

impl Cut {
    fn off(how: How, srs: &Srs) -> Cut {
        let set = if how == How::Refused { "refused" } else { "swallowed" };
        let port = srs.at.port();
        filter(&format!("add element inet cut {set} {{ {port} }}"));
        Cut { set, port }
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        filter(&format!("delete element inet cut {} {{ {} }}", self.set, self.port));
    }
}

fn shown(desk: &Desk, name: &str) -> Value {
    let shown = desk.ask("GET", "/v1/recorders", None);
    let found = shown["recorders"].as_array().and_then(|all| all.iter().find(|one| one["name"] == name).cloned());
    found.unwrap_or_else(|| panic!("{shown}"))
}

async fn shows(desk: &Desk, name: &str, what: &str, wanted: u64) {
    until(&format!("{name}: {what} {wanted}"), || shown(desk, name)["siprec"][what] == wanted).await;
}

/// A best-effort recorder is cut off before a call, in its middle and at its end. One with a second target goes there; a third
/// never notices.
async fn goes_without(how: How) {
    let [alone, first, second, good] = [(); 4].map(|()| Srs::open("tcp"));
    let quick = "alive_s = 1\nfailover_ms = 3000";
    let sections = section("alone", "tcp", &[&alone], quick)
        + &section("pair", "tcp", &[&first, &second], quick)
        + &section("good", "tcp", &[&good], quick);
    let mut desk = open(&["alone", "pair", "good"], &sections).await;
    let (cut, _gone) = (Cut::off(how, &alone), Cut::off(how, &first));
    let call = desk.call().await;
    let session = sounding(&good).await;
    sounding(&second).await;
    let late = || second.asked()[0].duration_since(good.asked()[0]);
    // Refused, the next is asked at once; where nothing comes back it is given its time.
    let fits = (late() >= Duration::from_millis(1_500)) == (how == How::Swallowed);
    assert!(fits, "{how:?}: the second target was asked after {:?}", late());
    shows(&desk, "alone", "spilling", 1).await;
    assert_eq!([&alone, &first, &second].map(|srs| srs.asked().len()), [0, 0, 1]);
    drop(cut);
    shows(&desk, "alone", "sessions", 1).await;
    shows(&desk, "alone", "spilling", 0).await;
    // In the middle.
    let from = Instant::now();
    let cut = Cut::off(how, &alone);
    shows(&desk, "alone", "spilling", 1).await;
    let found = from.elapsed();
    say(&format!("siprec: {how:?} in the middle of a call, found out after {} ms", found.as_millis()));
    assert!(found < Duration::from_secs(15));
    let heard = call.agent.with(|agent, _| agent.rtp.heard.packets().len());
    wait(500).await;
    assert!(call.agent.with(|agent, _| agent.rtp.heard.packets().len()) > heard + 12, "the call goes on");
    let lasted = from.elapsed().as_millis() as usize;
    let packets = good.packets(&session, 0).iter().filter(|packet| packet.at >= from).count();
    assert!(packets * 25 > lasted, "the other recorder got {packets} packets in {lasted} ms");
    assert_eq!((shown(&desk, "good")["siprec"]["failed"].as_u64(), good.sessions().len()), (Some(0), 1));
    drop(cut);
    shows(&desk, "alone", "sessions", 1).await;
    // At the end: the BYE does not arrive, and nobody waits for it.
    let cut = Cut::off(how, &alone);
    let ended = Instant::now();
    desk.hang_up(call).await;
    for name in ["alone", "pair", "good"] {
        shows(&desk, name, "sessions", 0).await;
        shows(&desk, name, "spilling", 0).await;
    }
    assert!(ended.elapsed() < Duration::from_secs(15), "{:?}", ended.elapsed());
    until("the others are told", || good.live().is_empty() && second.live().is_empty()).await;
    drop(cut);
    let next = desk.call().await;
    until("a second session", || good.asked().len() == 2 && second.asked().len() == 2).await;
    // Where nobody was, the next call does not ask first.
    let [theirs, others] = [&second, &good].map(|srs| srs.asked()[1]);
    assert!(theirs.saturating_duration_since(others) < Duration::from_millis(1_500), "{how:?}");
    assert!(first.asked().is_empty());
    shows(&desk, "alone", "sessions", 1).await;
    desk.hang_up(next).await;
    let files = spills(&desk.node.dir.path().join("recordings"));
    // The pair's first target was missed until its second took over.
    assert!(files.iter().any(|of| of == "alone") && !files.iter().any(|of| of == "good"), "{files:?}");
}

/// A required recorder: none there, no call; lost, and the call ends.
async fn ends_the_call(how: How) {
    let alone = Srs::open("udp");
    let strict = "policy = \"required\"\nalive_s = 1\nfailover_ms = 1500\nprobe_s = 1\nprobe_lost = 1\nprobe_good = 1";
    let mut desk = open(&["alone"], &section("alone", "udp", &[&alone], strict)).await;
    let cut = Cut::off(how, &alone);
    until("its probe is missed", || shown(&desk, "alone")["state"] == "down").await;
    assert_eq!(desk.refused().await, Some(503), "{how:?}: no call begins without it");
    drop(cut);
    until("its probe is answered", || shown(&desk, "alone")["state"] == "up").await;
    let call = desk.call().await;
    sounding(&alone).await;
    let cut = Cut::off(how, &alone);
    desk.until(&format!("/v1/calls/{}", call.id), |gone| gone["status"] == 404).await;
    until("both ends are told", || {
        call.caller.with(|phone, _| phone.is_ended()) && call.agent.with(|phone, _| phone.is_ended())
    })
    .await;
    until("its cause is logged", || desk.node.log().contains("recorder-failed")).await;
    assert_eq!(desk.refused().await, Some(503), "{how:?}: nor another");
    drop(cut);
}
