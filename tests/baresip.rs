//! baresip (Debian: baresip-core) as a real telephone on either side of a real `tonewall run` process: calls are
//! answered, sound passes both ways, and a guarded agent gets no key. Skipped with a printed reason where baresip is not
//! installed.
#![allow(clippy::disallowed_methods)] // Tests may wait and open sockets.

mod common;
#[path = "baresip/phone.rs"]
mod phone;
#[path = "baresip/srtp.rs"]
mod srtp;

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use common::{Plan, Running, installed, skip};
use phone::{Baresip, MODULES, PATIENCE, port, sounds, tone};
use tonewall::rt::peers::Exchange;
use tonewall::testkit::keys::{Form, typed};
use tonewall::testkit::leak::Attackers;
use tonewall::testkit::rtp_peer::Sound;
use tonewall::testkit::ua::{Answer, Profile, UserAgent};

fn endless(hz: f64) -> Sound {
    Box::new((0..).map(move |n| tone(hz, n)))
}

fn ready(test: &str) -> bool {
    let ready = installed("baresip") && Path::new(MODULES).join("ctrl_tcp.so").is_file();
    if !ready {
        skip(test, "baresip is not installed (Debian: apt-get install baresip-core)");
    }
    ready
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

/// A testkit customer calls baresip; gives what baresip heard and its log.
fn as_agent(guard: &'static str) -> (Vec<i16>, String) {
    as_agent_of(Baresip::start(port(), 600.0, true), guard, Default::default())
}

/// The same with further lines of the trunks.
fn as_agent_of(agent: Baresip, guard: &'static str, trunks: [String; 2]) -> (Vec<i16>, String) {
    let runtime = runtime();
    let (caller_heard, _node) = runtime.block_on(async {
        let carrier = Exchange::open(IpAddr::from(Ipv4Addr::LOCALHOST), 0, None, 3).await.expect("a carrier port");
        let pbx = std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, agent.port));
        let plan = Plan { carrier: carrier.address(), pbx, guard, trunks, ..Plan::new() };
        let node = tokio::task::block_in_place(|| Running::start(&plan));
        let caller = carrier.phone(Profile::new("+15550100").only(tonewall::config::Codec::Pcmu)).expect("RTP ports");
        caller.with(|a, now| {
            a.rtp.speak(endless(440.0));
            a.invite(now, "phone", node.carrier_side);
        });
        assert!(caller.until(PATIENCE, UserAgent::is_up).await, "{:?} {}", caller.events(), agent.log());
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        caller.with(|a, _| {
            a.press(0, typed("424242", Form::Event, 100, 80));
            a.press(0, typed("171717", Form::Tone, 100, 80));
        });
        assert!(caller.until(PATIENCE, |a| !a.rtp.is_keying()).await);
        tokio::time::sleep(Duration::from_millis(3_500)).await;
        let heard = caller.with(|a, _| a.rtp.heard.samples());
        caller.with(UserAgent::hang_up);
        tokio::time::sleep(Duration::from_millis(500)).await;
        (heard, node)
    });
    assert!(sounds(&caller_heard, 600.0), "the caller hears baresip");
    let log = agent.log();
    (agent.heard(), log)
}

#[test]
fn an_unguarded_baresip_agent_hears_the_caller_and_gets_every_key() {
    if !ready("baresip_agent_unguarded") {
        return;
    }
    let (heard, log) = as_agent("off");
    assert!(sounds(&heard, 440.0), "baresip hears the caller");
    assert_eq!(log.matches("received event").count(), 12, "six keys down and up: {log}");
    assert!(Attackers::new().listen(&heard).decoded >= 4, "tones are heard when nothing is guarded");
}

#[test]
fn a_guarded_baresip_agent_hears_the_caller_and_gets_no_key() {
    if !ready("baresip_agent_guarded") {
        return;
    }
    let (heard, log) = as_agent("always");
    assert!(sounds(&heard, 440.0), "baresip hears the caller");
    assert_eq!(log.matches("received event").count(), 0, "{log}");
    let found = Attackers::new().listen(&heard);
    assert!(found.nothing_decoded(), "{found:?}");
}

#[test]
fn a_baresip_caller_is_heard_and_its_keys_are_masked() {
    if ready("baresip_caller") {
        as_caller_of(Baresip::start(port(), 440.0, false), Default::default());
    }
}

/// baresip calls a testkit agent behind a guarded trunk; its log.
fn as_caller_of(caller: Baresip, trunks: [String; 2]) -> String {
    let runtime = runtime();
    let (heard, events, _node) = runtime.block_on(async {
        let answering = Profile::new("5551000").answering(Answer::After(100));
        let mut pbx =
            Exchange::open(IpAddr::from(Ipv4Addr::LOCALHOST), 0, Some(answering), 4).await.expect("a PBX port");
        let carrier = std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, caller.port));
        let plan = Plan { carrier, pbx: pbx.address(), guard: "always", trunks, ..Plan::new() };
        let node = tokio::task::block_in_place(|| Running::start(&plan));
        tokio::task::block_in_place(|| caller.command("dial", &format!("sip:5551000@{}", node.carrier_side)));
        let agent = pbx.ringing(PATIENCE).await.unwrap_or_else(|| panic!("no call arrives: {}", caller.log()));
        agent.with(|a, _| a.rtp.speak(endless(600.0)));
        assert!(agent.until(PATIENCE, UserAgent::is_up).await);
        tokio::task::block_in_place(|| {
            caller.said("Call established");
            std::thread::sleep(Duration::from_millis(1_000));
            caller.key("424242");
        });
        tokio::time::sleep(Duration::from_millis(4_000)).await;
        let (heard, events) = agent.with(|a, _| (a.rtp.heard.samples(), a.rtp.heard.event_codes()));
        agent.with(UserAgent::hang_up);
        tokio::time::sleep(Duration::from_millis(500)).await;
        (heard, events, node)
    });
    assert!(sounds(&heard, 440.0), "the agent hears baresip");
    assert!(events.is_empty(), "{} events reached the agent", events.len());
    let log = caller.log();
    assert!(log.matches("send DTMF digit: ").count() == 6, "{log}");
    assert!(sounds(&caller.heard(), 600.0), "baresip hears the agent");
    log
}
