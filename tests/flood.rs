//! Floods of SIP against a real process (threats R13): 20,000 packets a second from nobody we know, and from the address
//! of a peer. A guarded call that is up keeps every packet of its audio, new calls are set up in time, memory stays.
//! Ten seconds each; `TONEWALL_FLOOD_S=60` for the design's full minute. Prints what was offered, dropped and lost.
#![allow(clippy::disallowed_methods)] // Tests may start threads, wait and open sockets.

mod common;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use common::{Plan, Running, say};
use tonewall::rt::peers::{Exchange, Phone};
use tonewall::testkit::keys::{Form, typed};
use tonewall::testkit::rtp_peer::hiss;
use tonewall::testkit::ua::{Answer, Profile, UserAgent};

/// Packets a second.
const RATE: u64 = 20_000;
const PATIENCE: Duration = Duration::from_secs(20);
/// What a flood may leave behind: allocator slack, and what the log writer holds.
const GROWTH: u64 = 16 << 20;

/// One flood at a time: each wants a core.
static MACHINE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn length() -> Duration {
    let seconds = std::env::var("TONEWALL_FLOOD_S").map_or(10, |text| text.parse().expect("TONEWALL_FLOOD_S: seconds"));
    Duration::from_secs(seconds)
}

/// Whom the flood calls: a number without a route.
fn message(method: &str, from: SocketAddr, nth: u64) -> Vec<u8> {
    let body = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";
    format!(
        "{method} sip:9990000@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bKf{nth};rport\r\n\
         From: <sip:flood@{from}>;tag={nth}\r\nTo: <sip:9990000@127.0.0.1>\r\nCall-ID: flood{nth}\r\n\
         CSeq: 1 {method}\r\nContact: <sip:flood@{from}>\r\nMax-Forwards: 70\r\nContent-Type: application/sdp\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Anything at all: neither SIP nor text.
fn junk(nth: u64) -> Vec<u8> {
    (0..200 + nth % 1_000).map(|at| (at.wrapping_mul(nth | 1) >> 3) as u8).collect()
}

/// Sends [`RATE`] packets a second, INVITE, REGISTER and junk in turn, until told to stop; gives how many.
fn flood(from: Ipv4Addr, to: SocketAddr, stop: &'static AtomicBool) -> JoinHandle<u64> {
    let socket = UdpSocket::bind((from, 0)).expect("the flood's port");
    socket.set_nonblocking(true).expect("a setting");
    let own = socket.local_addr().expect("its address");
    // Made before: what is measured is not how fast they are printed.
    let packets: Vec<Vec<u8>> = (0..3_000)
        .map(|nth| match nth % 3 {
            0 => message("INVITE", own, nth),
            1 => message("REGISTER", own, nth),
            _ => junk(nth),
        })
        .collect();
    std::thread::spawn(move || {
        let (began, mut sent) = (Instant::now(), 0);
        while !stop.load(Ordering::Relaxed) {
            while sent < began.elapsed().as_micros() as u64 * RATE / 1_000_000 {
                let _ = socket.send_to(&packets[sent as usize % packets.len()], to);
                sent += 1;
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        sent
    })
}

/// What the kernel dropped of what came to this UDP port, its buffer being full.
fn kernel_drops(port: u16) -> u64 {
    let table = std::fs::read_to_string("/proc/net/udp").expect("the kernel's table");
    let of_port = format!(":{port:04X}");
    let drops = |line: &str| {
        let mut fields = line.split_whitespace();
        fields.nth(1)?.ends_with(&of_port).then(|| fields.last()?.parse::<u64>().ok()).flatten()
    };
    table.lines().skip(1).filter_map(drops).sum()
}

fn sent_and_lost(phone: &Phone) -> (u64, u64) {
    phone.with(|a, _| (a.rtp.sent_packets(), a.rtp.heard.lost()))
}

/// Floods a node with a call up, from `attacker`; with `calls`, other calls are placed meanwhile.
async fn endure(what: &str, attacker: Ipv4Addr, node: &'static str, calls: bool) {
    static STOPS: [AtomicBool; 2] = [AtomicBool::new(false), AtomicBool::new(false)];
    let stop = &STOPS[usize::from(calls)];
    let ip = IpAddr::from(Ipv4Addr::LOCALHOST);
    let answering = Profile::new("5551000").answering(Answer::After(10));
    let mut office = Exchange::open(ip, 0, Some(answering), 1).await.expect("a PBX port");
    let carrier = Exchange::open(ip, 0, None, 2).await.expect("a carrier port");
    let plan = Plan {
        carrier: carrier.address(),
        pbx: office.address(),
        guard: "always",
        prefix: "555",
        control: true,
        node,
        ..Plan::new()
    };
    let node = tokio::task::block_in_place(|| Running::start(&plan));
    let caller = carrier.phone(Profile::new("+15550100")).expect("RTP ports");
    caller.with(|a, now| {
        a.rtp.speak(hiss(1, -40.0));
        a.invite(now, "5551000", node.carrier_side);
    });
    let agent = office.ringing(PATIENCE).await.expect("the PBX rings");
    agent.with(|a, _| a.rtp.speak(hiss(2, -40.0)));
    assert!(caller.until(PATIENCE, UserAgent::is_up).await);
    tokio::time::sleep(Duration::from_secs(1)).await;

    let before = node.memory();
    let flooding = flood(attacker, node.carrier_side, stop);
    let began = Instant::now();
    let (mut setups, mut high) = (Vec::new(), before);
    while began.elapsed() < length() {
        // Keys all the while: they stay masked, and collected in order.
        caller.with(|a, _| a.press(0, typed("42", Form::Event, 60, 60)));
        if calls {
            let other = carrier.phone(Profile::new("+15550101")).expect("RTP ports");
            let asked = Instant::now();
            other.with(|a, now| a.invite(now, "5551000", node.carrier_side));
            assert!(other.until(PATIENCE, UserAgent::is_up).await, "no call is set up: {:?}", other.events());
            setups.push(asked.elapsed());
            let _ = office.ringing(PATIENCE).await;
            other.with(UserAgent::hang_up);
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
        high = high.max(node.memory());
    }
    stop.store(true, Ordering::Relaxed);
    let offered = flooding.join().expect("the flood ends");
    let lasted = began.elapsed();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let after = node.memory();
    let events = agent.with(|a, _| a.rtp.heard.event_codes().len());
    // Whoever stops sending still hears what is under way.
    for phone in [&caller, &agent] {
        phone.with(|a, now| a.rtp.set_toward(now, None));
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let [(caller_sent, caller_lost), (agent_sent, agent_lost)] = [sent_and_lost(&caller), sent_and_lost(&agent)];
    let kernel = kernel_drops(node.carrier_side.port());
    let (unknown, shed) = tokio::task::block_in_place(|| {
        (node.counter("tonewall_sip_dropped_total"), node.counter("tonewall_sip_shed_total"))
    });
    setups.sort();
    let worst = setups.get((setups.len() * 99).div_ceil(100).saturating_sub(1)).copied().unwrap_or_default();
    say(&format!(
        "flood, {what}: {:.1} s; {offered} packets offered ({:.0} a second), {unknown} dropped as nobody's, {shed} shed, \
         {kernel} dropped by the kernel; the call's audio: {} packets, {} lost; {} new calls, set up in {:?} (p99); \
         memory {:.1} MiB before, {:.1} at most, {:.1} after",
        lasted.as_secs_f64(),
        offered as f64 / lasted.as_secs_f64(),
        caller_sent + agent_sent,
        caller_lost + agent_lost,
        setups.len(),
        worst,
        before as f64 / f64::from(1 << 20),
        high as f64 / f64::from(1 << 20),
        after as f64 / f64::from(1 << 20),
    ));
    assert!(offered >= RATE * lasted.as_secs() * 9 / 10, "the flood was none: {offered} packets");
    // What the kernel let through, less what the engine has still to look at.
    assert!(unknown + shed + kernel + RATE / 10 >= offered * 9 / 10, "{unknown} + {shed} + {kernel} of {offered}");
    assert_eq!((caller_lost, agent_lost), (0, 0), "the call loses audio");
    assert_eq!(events, 0, "keys reach the agent");
    assert!(high < before + GROWTH && after < before + GROWTH, "memory grows from {before} to {high}, {after}");
    if calls {
        assert!(setups.len() >= 5, "{} calls", setups.len());
        assert!(worst < Duration::from_millis(500), "calls take {worst:?} to set up");
    }
    caller.with(UserAgent::hang_up);
    assert!(agent.until(PATIENCE, UserAgent::is_ended).await, "the call can still be ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r13_a_flood_of_strangers_costs_a_running_call_no_packet_and_new_calls_little_time() {
    let _alone = MACHINE.lock().await;
    endure("from nobody we know", Ipv4Addr::new(127, 0, 0, 66), "", true).await;
}

/// Whoever forges the carrier's own address takes its share of messages; the call that is up has its own sockets.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r13_a_flood_from_a_peers_address_is_shed_and_a_running_call_keeps_its_audio() {
    let _alone = MACHINE.lock().await;
    endure("from a peer's address", Ipv4Addr::LOCALHOST, "max_messages_per_source_s = 200\n", false).await;
}
