//! SIPp (Debian: sip-tester) on both sides of a real `tonewall run` process: the call flows of `tests/sipp/*.xml`, and
//! load. Skipped with a printed reason where SIPp is not installed.
#![allow(clippy::disallowed_methods)] // Tests may start threads, wait and open sockets.

mod common;
#[path = "common/sipp.rs"]
mod process;

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use common::{Plan, Running, installed, say, skip};
use process::Sipp;
use tonewall::rt::peers::{Exchange, Phone};
use tonewall::testkit::rtp_peer::hiss;
use tonewall::testkit::ua::{Answer, Profile, UserAgent};

/// Load runs have the machine to themselves; the others may share it.
static MACHINE: RwLock<()> = RwLock::new(());

const LIMIT: Duration = Duration::from_secs(60);

fn ready(test: &str) -> bool {
    let ready = installed("sipp");
    if !ready {
        skip(test, "sipp is not installed (Debian: apt-get install sip-tester)");
    }
    ready
}

/// Plays `uac` against `uas` through a node.
fn play(plan: &Plan, uac: &str, uas: &str, more: &[&str]) -> Running {
    let node = Running::start(plan);
    let dir = node.dir.path().to_owned();
    let transport = if plan.transport == "tcp" { "t1" } else { "u1" };
    let answer = Sipp::start(&dir, uas, plan.pbx, None, &["-m", "1", "-t", transport]);
    std::thread::sleep(Duration::from_millis(300));
    let mut arguments = vec!["-m", "1", "-t", transport, "-d", "400"];
    arguments.extend(more);
    Sipp::start(&dir, uac, plan.carrier, Some(node.carrier_side), &arguments).succeeds();
    answer.succeeds();
    node
}

fn flow(test: &str, plan: &Plan, uac: &str, uas: &str) {
    if !ready(test) {
        return;
    }
    let _shared = MACHINE.read().unwrap_or_else(PoisonError::into_inner);
    drop(play(plan, uac, uas, &[]));
}

#[test]
fn a_basic_call_passes_and_hides_each_side_from_the_other() {
    flow("a_basic_call", &Plan::new(), "uac_basic", "uas_basic");
}

#[test]
fn a_basic_call_passes_over_tcp() {
    flow("a_basic_call_tcp", &Plan { transport: "tcp", ..Plan::new() }, "uac_basic", "uas_basic");
}

#[test]
fn early_media_is_announced_before_the_answer() {
    flow("early_media", &Plan::new(), "uac_early_media", "uas_early_media");
}

#[test]
fn reliable_early_media_is_acknowledged_on_both_legs() {
    flow("reliable", &Plan::new(), "uac_reliable", "uas_reliable");
}

#[test]
fn a_plain_caller_hears_reliable_early_media() {
    flow("reliable_callee", &Plan::new(), "uac_early_media", "uas_reliable");
}

#[test]
fn a_caller_that_requires_100rel_is_served_by_a_plain_callee() {
    flow("reliable_caller", &Plan::new(), "uac_reliable", "uas_early_media");
}

#[test]
fn a_session_timer_is_agreed_on_and_refreshed() {
    flow("timer", &Plan::new(), "uac_timer", "uas_basic");
}

#[test]
fn a_refer_is_carried_out_and_the_customer_talks_to_another_agent() {
    if !ready("refer") {
        return;
    }
    let _shared = MACHINE.read().unwrap_or_else(PoisonError::into_inner);
    let second = common::free_address();
    let trunks = [String::new(), "refer = \"terminate\"".to_owned()];
    let plan = Plan { trunks, second_pbx: Some(second), ..Plan::new() };
    let node = Running::start(&plan);
    let dir = node.dir.path().to_owned();
    let first = Sipp::start(&dir, "uas_refer", plan.pbx, None, &["-m", "1"]);
    let other = Sipp::start(&dir, "uas_hangs_up", second, None, &["-m", "1", "-d", "400"]);
    std::thread::sleep(Duration::from_millis(300));
    Sipp::start(&dir, "uac_transferred", plan.carrier, Some(node.carrier_side), &["-m", "1"]).succeeds();
    first.succeeds();
    other.succeeds();
}

#[test]
fn a_late_offer_is_answered_in_the_ack() {
    flow("late_offer", &Plan::new(), "uac_late_offer", "uas_late_offer");
}

#[test]
fn a_cancelled_call_ends_on_both_sides() {
    flow("cancel", &Plan::new(), "uac_cancel", "uas_cancel");
}

#[test]
fn a_call_is_held_and_resumed() {
    flow("hold", &Plan::new(), "uac_hold", "uas_hold");
}

#[test]
fn the_agent_may_hang_up() {
    flow("agent_hangs_up", &Plan::new(), "uac_hung_up_on", "uas_hangs_up");
}

#[test]
fn info_digits_pass_when_nothing_is_guarded() {
    flow("info", &Plan::new(), "uac_info", "uas_info");
}

#[test]
fn info_digits_stop_at_the_guard() {
    flow("info_guarded", &Plan { guard: "always", ..Plan::new() }, "uac_info", "uas_no_info");
}

#[test]
fn a_busy_pbx_is_busy_to_the_caller() {
    flow("busy", &Plan::new(), "uac_busy", "uas_busy");
}

/// Plays `uac` and sees to it that nothing at all reaches the PBX.
fn refused(test: &str, plan: &Plan, uac: &str) {
    if !ready(test) {
        return;
    }
    let _shared = MACHINE.read().unwrap_or_else(PoisonError::into_inner);
    let pbx = UdpSocket::bind(plan.pbx).expect("the PBX's port");
    pbx.set_nonblocking(true).expect("a setting");
    let node = Running::start(plan);
    let dir = node.dir.path().to_owned();
    Sipp::start(&dir, uac, plan.carrier, Some(node.carrier_side), &["-m", "1"]).succeeds();
    let mut buffer = [0; 2_048];
    while let Ok(length) = pbx.recv(&mut buffer) {
        assert!(buffer[..length].starts_with(b"OPTIONS"), "a refused call reached the PBX");
    }
}

#[test]
fn a_number_without_a_route_is_404() {
    refused("no_route", &Plan { prefix: "+44", ..Plan::new() }, "uac_no_route");
}

#[test]
fn a_malformed_description_is_refused() {
    refused("bad_sdp", &Plan::new(), "uac_bad_sdp");
}

/// The issue's bar is 100 calls per second for 10 seconds.
#[test]
fn calls_are_set_up_and_torn_down_by_the_hundred_per_second() {
    if !ready("load") {
        return;
    }
    const RATE: u32 = 120;
    const CALLS: u32 = 1_500;
    let _alone = MACHINE.write().unwrap_or_else(PoisonError::into_inner);
    let plan = Plan { ports: 4_000, ..Plan::new() };
    let node = Running::start(&plan);
    let dir = node.dir.path().to_owned();
    let calls = CALLS.to_string();
    let rate = RATE.to_string();
    let answer = Sipp::start(&dir, "uas_basic", plan.pbx, None, &["-m", &calls]);
    std::thread::sleep(Duration::from_millis(300));
    let began = Instant::now();
    let arguments = ["-m", &calls, "-r", &rate, "-l", "2000", "-d", "200"];
    Sipp::start(&dir, "uac_basic", plan.carrier, Some(node.carrier_side), &arguments).succeeds();
    let took = began.elapsed();
    answer.succeeds();
    let figure = |column| Sipp::figure(&dir, "uac_basic", column);
    let rate = f64::from(CALLS) / took.as_secs_f64();
    say(&format!(
        "load: {CALLS} calls in {:.1} s, {rate:.1} calls/s; successful {}, failed {}, retransmissions {}, \
         mean time to answer {}",
        took.as_secs_f64(),
        figure("SuccessfulCall(C)"),
        figure("FailedCall(C)"),
        figure("Retransmissions(C)"),
        figure("ResponseTime1(C)"),
    ));
    assert_eq!(figure("FailedCall(C)"), "0");
    assert_eq!(figure("SuccessfulCall(C)"), calls);
    assert!(rate >= 100.0, "{rate:.1} calls/s");
    assert!(took >= Duration::from_secs(10));
    drop(node);
}

/// 200 calls at once with RTP both ways, counted packet by packet by the testkit's telephones.
#[test]
fn two_hundred_calls_talk_at_once_without_loss() {
    const CALLS: usize = 200;
    let _alone = MACHINE.write().unwrap_or_else(PoisonError::into_inner);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let ip = IpAddr::from(Ipv4Addr::LOCALHOST);
        let answering = Profile::new("5551000").answering(Answer::After(20));
        let mut office = Exchange::open(ip, 0, Some(answering), 1).await.expect("a PBX port");
        let carrier = Exchange::open(ip, 0, None, 2).await.expect("a carrier port");
        let plan = Plan { ports: 1_200, carrier: carrier.address(), pbx: office.address(), ..Plan::new() };
        let node = tokio::task::block_in_place(|| Running::start(&plan));
        let mut calls: Vec<(Phone, Phone)> = Vec::new();
        for n in 0..CALLS {
            let caller = carrier.phone(Profile::new(&format!("+1555{n:05}"))).expect("RTP ports");
            caller.with(|a, now| {
                a.rtp.keep_spoken(false);
                a.rtp.speak(hiss(n as u64, -40.0));
                a.invite(now, "5551000", node.carrier_side);
            });
            let agent = office.ringing(LIMIT).await.expect("the call arrives at the PBX");
            agent.with(|a, _| {
                a.rtp.keep_spoken(false);
                a.rtp.speak(hiss(1_000 + n as u64, -40.0));
            });
            assert!(caller.until(LIMIT, UserAgent::is_up).await, "call {n}: {:?}", caller.events());
            calls.push((caller, agent));
        }
        let began = Instant::now();
        tokio::time::sleep(Duration::from_secs(12)).await;
        // Whoever stops sending keeps receiving: what is under way still arrives and is counted.
        for (caller, agent) in &calls {
            caller.with(|a, now| a.rtp.set_toward(now, None));
            agent.with(|a, now| a.rtp.set_toward(now, None));
        }
        let talked = began.elapsed();
        tokio::time::sleep(Duration::from_millis(500)).await;
        let (mut sent, mut received, mut lost) = (0, 0, 0);
        for (caller, agent) in &calls {
            let (caller_sent, caller_heard, caller_lost) = counts(caller);
            let (agent_sent, agent_heard, agent_lost) = counts(agent);
            sent += caller_sent + agent_sent;
            received += caller_heard + agent_heard;
            lost += caller_lost + agent_lost;
        }
        say(&format!(
            "talk: {CALLS} calls at once for {:.1} s after the last answer; RTP sent {sent}, received {received}, \
             missing by sequence number {lost}",
            talked.as_secs_f64()
        ));
        for (caller, _) in &calls {
            caller.with(UserAgent::hang_up);
        }
        for (n, (_, agent)) in calls.iter().enumerate() {
            assert!(agent.until(LIMIT, UserAgent::is_ended).await, "call {n} does not end");
        }
        assert_eq!(lost, 0, "packets were lost");
        // What was sent before the other side was known is not relayed: a packet or two per call and direction.
        assert!(received + 2 * 2 * CALLS as u64 >= sent, "sent {sent}, received {received}");
        drop(node);
    });
}

fn counts(phone: &Phone) -> (u64, u64, u64) {
    phone.with(|a, _| (a.rtp.sent_packets(), a.rtp.heard.packets().len() as u64, a.rtp.heard.lost()))
}
