//! Trunks on real sockets: probes, failover, shares, limits, and floods that are shed.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tonewall::call::{Reply, Signal, TargetState, TargetView, TrunkState, TrunkView};
use tonewall::control::Calls;
use tonewall::obs::metrics::Metrics;
use tonewall::rt::node::Node;
use tonewall::testkit::simple_sip::Message;

use crate::peer::{Plain, answer, invite, ok, request, within};
use crate::site::{common, listener, route, start, trunk, until};

struct Bench {
    _dir: TempDir,
    node: Node,
    carrier: Plain,
}

impl Bench {
    /// `remotes` and `more` of the PBX trunk, `carrier` of the carrier trunk, `node` of `[node]`.
    async fn new(remotes: &str, more: &str, carrier: &str, node: &str) -> Bench {
        let dir = tempfile::tempdir().expect("a directory");
        let peer = Plain::open().await;
        let text = [
            format!("[node]\n{node}\n"),
            common("127.0.0.1"),
            listener("carrier", ""),
            listener("pbx", ""),
            trunk("carrier", "carrier", "carrier", &format!("remotes = [\"{}\"]\n{carrier}", peer.at)),
            trunk("pbx", "pbx", "pbx", &format!("remotes = [{remotes}]\nsources = [\"127.0.0.0/8\"]\n{more}")),
            route("carrier", "pbx"),
        ];
        let node = start(dir.path(), &text.join("\n")).await;
        Bench { _dir: dir, node, carrier: peer }
    }

    fn at(&self) -> SocketAddr {
        self.node.listeners()[0]
    }

    async fn call(&self) {
        self.carrier.send(self.at(), &invite(self.carrier.at, "UDP", "caller")).await;
    }

    /// Takes the final answer and acknowledges it.
    async fn outcome(&self) -> Message {
        loop {
            let message = self.carrier.next_but_trying().await;
            if message.status().is_some_and(|status| status >= 200) {
                return message;
            }
        }
    }

    /// The trunk `nth` as the API shows it.
    async fn trunk(&self, nth: usize) -> TrunkView {
        match self.node.calls().signal(Signal::Trunks).await {
            Ok(Reply::Trunks(mut trunks)) => trunks.remove(nth),
            other => panic!("{other:?}"),
        }
    }

    fn metric(&self, line: &str) -> bool {
        let metrics = self.node.metrics();
        self.node.calls().refresh(metrics);
        metrics.print().contains(line)
    }
}

/// Answers every OPTIONS while `alive`, notes INVITEs, which it refuses with `status`.
async fn serve(peer: &Plain, alive: &std::sync::atomic::AtomicBool, status: u16, more: &[(&str, &str)]) -> Message {
    loop {
        let (message, from) = peer.next().await;
        match message.method() {
            Some("OPTIONS") if alive.load(std::sync::atomic::Ordering::SeqCst) => {
                peer.send(from, &answer(&message, 200, "OK", peer.at)).await;
            }
            Some("INVITE") => {
                let mut refusal = answer(&message, status, "No", peer.at);
                for (name, value) in more {
                    refusal = refusal.with(name, *value);
                }
                peer.send(from, &refusal).await;
                return message;
            }
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_answers_no_probe_is_down_and_comes_back() {
    let (first, second) = (Plain::open().await, Plain::open().await);
    let remotes = format!("\"{}\", \"{}\"", first.at, second.at);
    let bench = Bench::new(&remotes, "probe_s = 1\nprobe_lost = 2\nprobe_good = 2", "", "").await;
    let alive = std::sync::atomic::AtomicBool::new(false);
    let always = std::sync::atomic::AtomicBool::new(true);
    let dead = serve(&first, &alive, 486, &[]);
    let live = serve(&second, &always, 486, &[]);
    tokio::pin!(dead, live);
    let down = until("down", || bench.metric("tonewall_trunk_targets_up{trunk=\"pbx\"} 1"));
    tokio::select! {
        () = down => {}
        _ = &mut dead => panic!("a call"),
        _ = &mut live => panic!("a call"),
    }
    let shown = bench.trunk(1).await;
    assert_eq!((shown.name.as_str(), shown.state, shown.probe_s), ("pbx", TrunkState::Up, Some(1)));
    let states: Vec<_> = shown.targets.iter().map(|target| (target.address.clone(), target.state)).collect();
    assert_eq!(states, [(first.at.to_string(), TargetState::Down), (second.at.to_string(), TargetState::Up)]);
    assert!(shown.targets[0].probes_lost >= 2);
    bench.call().await;
    let begun = Instant::now();
    tokio::select! {
        _ = &mut dead => panic!("a call went to a target that is down"),
        _ = &mut live => assert!(begun.elapsed() < Duration::from_millis(400), "{:?}", begun.elapsed()),
    }
    assert_eq!(bench.outcome().await.status(), Some(486));
    alive.store(true, std::sync::atomic::Ordering::SeqCst);
    let live = serve(&second, &always, 486, &[]);
    tokio::pin!(live);
    let up = until("up", || bench.metric("tonewall_trunk_targets_up{trunk=\"pbx\"} 2"));
    tokio::select! {
        () = up => {}
        _ = &mut dead => panic!("a call"),
        _ = &mut live => panic!("a call"),
    }
    bench.call().await;
    dead.await;
    assert!(bench.metric("tonewall_trunk_target_changes_total{trunk=\"pbx\",state=\"down\"} 1"));
    assert!(bench.metric("tonewall_trunk_target_changes_total{trunk=\"pbx\",state=\"up\"} 1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_target_costs_one_call_a_moment_and_the_next_ones_nothing() {
    let (silent, good) = (Plain::open().await, Plain::open().await);
    let bench = Bench::new(&format!("\"{}\", \"{}\"", silent.at, good.at), "failover_ms = 700", "", "").await;
    let begun = Instant::now();
    bench.call().await;
    let (arrived, from) = good.next().await;
    assert!((600..2_000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    good.send(from, &answer(&arrived, 486, "Busy Here", good.at)).await;
    assert_eq!(bench.outcome().await.status(), Some(486));
    let _ = good.next().await;
    let begun = Instant::now();
    bench.call().await;
    assert_eq!(good.next().await.0.method(), Some("INVITE"));
    assert!(begun.elapsed() < Duration::from_millis(400), "it is tried last now: {:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retry_after_is_honoured_and_server_errors_lead_on() {
    let (busy, good) = (Plain::open().await, Plain::open().await);
    let bench = Bench::new(&format!("\"{}\", \"{}\"", busy.at, good.at), "", "", "").await;
    let alive = std::sync::atomic::AtomicBool::new(true);
    for status in [500, 502, 504] {
        bench.call().await;
        serve(&busy, &alive, status, &[]).await;
        serve(&good, &alive, 486, &[]).await;
        assert_eq!(bench.outcome().await.status(), Some(486), "after {status}");
    }
    bench.call().await;
    serve(&busy, &alive, 503, &[("Retry-After", "60")]).await;
    serve(&good, &alive, 503, &[("Retry-After", "60")]).await;
    assert_eq!(bench.outcome().await.status(), Some(503));
    // Both want peace: the caller is told how long, and neither hears of it.
    bench.call().await;
    let refused = bench.outcome().await;
    assert_eq!(refused.status(), Some(503));
    let wait: u64 = refused.get("retry-after").and_then(|wait| wait.parse().ok()).expect("Retry-After");
    assert!((50..=61).contains(&wait), "{wait}");
    let shown = bench.trunk(1).await;
    assert_eq!(shown.state, TrunkState::Down);
    let rests =
        |target: &TargetView| target.state == TargetState::Resting && target.for_ms.is_some_and(|ms| ms > 40_000);
    assert!(shown.targets.iter().all(rests), "{shown:?}");
    // Only what belongs to the former calls still comes.
    while let Ok((message, _)) = tokio::time::timeout(Duration::from_millis(300), busy.next()).await {
        assert_eq!(message.method(), Some("ACK"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn targets_of_one_priority_share_calls_by_weight() {
    let (a, b) = (Plain::open().await, Plain::open().await);
    let remotes = format!("\"{};priority=1;weight=80\", \"{};priority=1;weight=20\"", a.at, b.at);
    let bench = Bench::new(&remotes, "", "", "").await;
    let alive = std::sync::atomic::AtomicBool::new(true);
    let mut shares = [0, 0];
    // Ports rest two seconds after a call: few calls, many times the chance of an even share.
    for _ in 0..9 {
        bench.call().await;
        tokio::select! {
            _ = serve(&a, &alive, 486, &[]) => shares[0] += 1,
            _ = serve(&b, &alive, 486, &[]) => shares[1] += 1,
        }
        assert_eq!(bench.outcome().await.status(), Some(486));
    }
    assert!(shares[0] > shares[1], "{shares:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_a_second_are_bounded_and_the_rest_told_to_wait() {
    let pbx = Plain::open().await;
    let bench = Bench::new(&format!("\"{}\"", pbx.at), "", "max_calls_per_s = 3", "").await;
    for _ in 0..6 {
        bench.call().await;
    }
    let mut refused = 0;
    while refused < 3 {
        let message = bench.outcome().await;
        assert_eq!(message.status(), Some(503));
        assert!(message.get("retry-after").is_some(), "{}", message.start);
        refused += 1;
    }
    for _ in 0..3 {
        assert_eq!(pbx.next().await.0.method(), Some("INVITE"));
    }
}

/// A flood from a peer's address (threats R13): what is too much is dropped unread, other peers' calls go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r13_a_flood_of_one_source_is_shed_and_others_are_served() {
    let pbx = Plain::open().await;
    let limits = "max_messages_per_s = 2000\nmax_messages_per_source_s = 100";
    let carrier = "sources = [\"127.0.0.0/8\"]";
    let bench = Bench::new(&format!("\"{}\"", pbx.at), "", carrier, limits).await;
    let flood = Plain::open_at("127.0.0.66:0".parse().expect("an address")).await;
    let unknown = invite(flood.at, "UDP", "flood");
    let before = memory();
    for nth in 0..20_000 {
        let mut message = unknown.clone();
        message.headers[0].1 = format!("SIP/2.0/UDP {};rport;branch=z9hG4bKflood{nth}", flood.at);
        message.headers[4].1 = format!("flood{nth}");
        let _ = flood.socket.try_send_to(&message.print(), bench.at());
        if nth % 500 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    let begun = Instant::now();
    bench.carrier.send(bench.at(), &request("OPTIONS", bench.carrier.at, "UDP", "good")).await;
    assert_eq!(bench.outcome().await.status(), Some(200), "from another address");
    assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
    until("the flood is counted", || {
        bench.metric("tonewall_sip_shed_total ") && !bench.metric("tonewall_sip_shed_total 0\n")
    })
    .await;
    let grown = memory().saturating_sub(before);
    assert!(grown < 64 << 20, "{} MiB more", grown >> 20);
}

/// Resident memory of this process, in bytes.
fn memory() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("statm");
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("pages");
    pages * 4096
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r13_who_is_unknown_gets_no_answer_and_costs_nothing() {
    let pbx = Plain::open().await;
    let bench = Bench::new(&format!("\"{}\"", pbx.at), "", "", "").await;
    let stranger = Plain::open_at("127.0.0.77:0".parse().expect("an address")).await;
    for method in ["INVITE", "REGISTER", "OPTIONS", "SUBSCRIBE", "BYE"] {
        stranger.send(bench.at(), &request(method, stranger.at, "UDP", "x")).await;
    }
    let quiet = tokio::time::timeout(Duration::from_millis(400), stranger.next()).await;
    assert!(quiet.is_err());
    until("all five are counted", || bench.metric("tonewall_sip_dropped_total 5\n")).await;
    let metrics = Metrics::new();
    assert!(metrics.print().contains("tonewall_sip_dropped_total 0"));
}

/// Answers of nobody's requests (threats R30): dropped, and nothing is said of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r30_stray_responses_are_dropped() {
    let pbx = Plain::open().await;
    let bench = Bench::new(&format!("\"{}\"", pbx.at), "", "", "").await;
    let asked = request("INVITE", bench.at(), "UDP", "nobody");
    for status in [100, 180, 200, 302, 401, 407, 486, 503, 603] {
        bench.carrier.send(bench.at(), &answer(&asked, status, "Stray", bench.carrier.at)).await;
    }
    let quiet = tokio::time::timeout(Duration::from_millis(300), bench.carrier.next()).await;
    assert!(quiet.is_err(), "neither ACK nor anything else");
    bench.carrier.send(bench.at(), &request("OPTIONS", bench.carrier.at, "UDP", "alive")).await;
    assert_eq!(bench.outcome().await.status(), Some(200));
}

/// Replies go where a request came from, whatever its Via claims (threats R17).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r17_replies_go_to_the_packets_source_only() {
    let pbx = Plain::open().await;
    let bench = Bench::new(&format!("\"{}\"", pbx.at), "", "", "").await;
    let victim = Plain::open().await;
    for via in [
        format!("SIP/2.0/UDP {};branch=z9hG4bKv1;received=127.0.0.1;rport={}", victim.at, victim.at.port()),
        format!("SIP/2.0/UDP {};branch=z9hG4bKv2;maddr=127.0.0.1", victim.at),
        "SIP/2.0/UDP 255.255.255.255;branch=z9hG4bKv3;maddr=224.0.1.75;ttl=1".to_owned(),
    ] {
        let mut options = request("OPTIONS", bench.carrier.at, "UDP", "forged");
        options.headers[0].1 = via;
        bench.carrier.send(bench.at(), &options).await;
        assert_eq!(bench.outcome().await.status(), Some(200));
    }
    let quiet = tokio::time::timeout(Duration::from_millis(200), victim.next()).await;
    assert!(quiet.is_err());
}

/// Ports of our range that another program holds: calls take others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_taken_media_port_costs_no_call() {
    let pbx = Plain::open().await;
    let dir = tempfile::tempdir().expect("a directory");
    let carrier = Plain::open().await;
    let text = [
        common("127.0.0.1"),
        listener("carrier", ""),
        listener("pbx", ""),
        trunk("carrier", "carrier", "carrier", &format!("remotes = [\"{}\"]", carrier.at)),
        trunk("pbx", "pbx", "pbx", &format!("remotes = [\"{}\"]", pbx.at)),
        route("carrier", "pbx"),
    ];
    let config = crate::site::config(dir.path(), &text.join("\n"));
    let first = config.media.ports.0;
    // The first call would take the first two pairs, the second call the next two: a port of each is taken.
    let holders: Vec<_> = [first, first + 7]
        .into_iter()
        .map(|port| std::net::UdpSocket::bind(("127.0.0.1", port)).expect("a port of the range"))
        .collect();
    let node = crate::site::start_config(config).await;
    carrier.send(node.listeners()[0], &invite(carrier.at, "UDP", "caller")).await;
    let (arrived, from) = pbx.next().await;
    let body = String::from_utf8_lossy(&arrived.body).into_owned();
    let port: u16 = body.split("m=audio ").nth(1).and_then(|m| m.split(' ').next()?.parse().ok()).expect("a port");
    assert!(port >= first + 8, "{port} of the ports from {first} on");
    pbx.send(from, &answer(&arrived, 486, "Busy Here", pbx.at)).await;
    assert_eq!(carrier.next_but_trying().await.status(), Some(486));
    assert_eq!(pbx.next().await.0.method(), Some("ACK"));
    let more = tokio::time::timeout(Duration::from_millis(200), pbx.next()).await;
    assert!(more.is_err(), "one INVITE, not three");
    drop(holders);
}

/// A call that is up stays up whatever becomes of its target's health.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_outlives_its_targets_bad_name() {
    let pbx = Plain::open().await;
    let bench = Bench::new(&format!("\"{}\"", pbx.at), "probe_s = 1\nprobe_lost = 1", "", "").await;
    let call = invite(bench.carrier.at, "UDP", "caller");
    bench.carrier.send(bench.at(), &call).await;
    let (arrived, from) = loop {
        let (message, from) = pbx.next().await;
        if message.method() == Some("INVITE") {
            break (message, from);
        }
    };
    pbx.send(from, &ok(&arrived, pbx.at)).await;
    let accepted = bench.outcome().await;
    bench.carrier.send(bench.at(), &within("ACK", &call, &accepted, (bench.carrier.at, "UDP"), 1)).await;
    until("the target is down", || bench.metric("tonewall_trunk_targets_up{trunk=\"pbx\"} 0")).await;
    bench.call().await;
    assert_eq!(bench.outcome().await.status(), Some(503), "no new call");
    bench.carrier.send(bench.at(), &within("BYE", &call, &accepted, (bench.carrier.at, "UDP"), 2)).await;
    assert_eq!(bench.outcome().await.status(), Some(200), "and the old one ends as it should");
}
