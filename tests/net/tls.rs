//! TLS on listeners and trunks (threats R28): who is taken and who is not, whose calls they are, what slow peers cost,
//! and certificates that change while connections stand.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;
use tonewall::control::Calls;
use tonewall::obs::metrics::Metrics;
use tonewall::rt::node::Node;
use tonewall::testkit::simple_sip::uri;

use crate::peer::{Door, Plain, Wire, answer, invite, ok, within};
use crate::pki::{Authority, Signed, Wish};
use crate::site::{common, config, listener, nowhere, route, start, start_config, trunk, until};

/// Two carriers on one TLS listener, told apart by their certificates; one PBX each, over UDP.
struct Bench {
    _dir: TempDir,
    node: Node,
    ours: Authority,
    a: Authority,
    b: Authority,
    pbx: [Plain; 2],
    at: SocketAddr,
}

const TLS: &str = "transport = \"tls\"\ncertificate = \"ours.pem\"\nkey = \"ours.key\"";

impl Bench {
    async fn new() -> Bench {
        Bench::with("").await
    }

    /// `more`: further keys of the carriers' listener.
    async fn with(more: &str) -> Bench {
        let dir = tempfile::tempdir().expect("a directory");
        let (ours, a, b) = (Authority::new(), Authority::new(), Authority::new());
        ours.sign(Wish::of(&["node.example"])).write(dir.path(), "ours");
        std::fs::write(dir.path().join("a.pem"), a.pem()).expect("written");
        std::fs::write(dir.path().join("b.pem"), b.pem()).expect("written");
        let pbx = [Plain::open().await, Plain::open().await];
        let remote = nowhere();
        let carrier = |name: &str| {
            let keys = format!(
                "remotes = [\"{remote}\"]\nsources = [\"127.0.0.0/8\"]\nmedia = [\"127.0.0.1\"]\n\
                 tls_ca = \"{name}.pem\"\ntls_names = [\"{name}.example\"]"
            );
            trunk(name, "carrier", "tls", &keys)
        };
        let office = |name: &str, at| trunk(name, "pbx", name, &format!("remotes = [\"{at}\"]"));
        let text = [
            common("127.0.0.1"),
            listener("tls", &format!("{TLS}\n{more}")),
            listener("pbx-a", ""),
            listener("pbx-b", ""),
            carrier("a"),
            carrier("b"),
            office("pbx-a", pbx[0].at),
            office("pbx-b", pbx[1].at),
            route("a", "pbx-a"),
            route("b", "pbx-b"),
            route("pbx-a", "a"),
        ];
        let node = start(dir.path(), &text.join("\n")).await;
        let at = node.listeners()[0];
        Bench { _dir: dir, node, ours, a, b, pbx, at }
    }

    async fn connect(&self, shows: Option<&Signed>) -> std::io::Result<Wire> {
        Wire::tls(self.at, self.ours.client(shows), "node.example").await
    }

    /// Whether a client that shows this gets any service.
    async fn serves(&self, shows: Option<&Signed>) -> bool {
        // With TLS 1.3 a client learns of its refusal only when it reads.
        match self.connect(shows).await {
            Ok(mut wire) => wire.is_served().await,
            Err(_) => false,
        }
    }

    fn metric(&self, line: &str) -> bool {
        let metrics = Metrics::new();
        self.node.calls().refresh(&metrics);
        metrics.print().contains(line)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r28_only_a_certificate_of_a_trunk_is_served() {
    let bench = Bench::new().await;
    let good = bench.a.sign(Wish::of(&["a.example"]));
    assert!(bench.serves(Some(&good)).await, "a good certificate");
    let server_only = bench.a.sign(Wish { server_only: true, ..Wish::of(&["A.Example"]) });
    assert!(bench.serves(Some(&server_only)).await, "public authorities sign for servers only");
    let domain = bench.a.sign(Wish { uris: &["sip:a.example"], ..Wish::of(&["sbc7.elsewhere.example"]) });
    assert!(bench.serves(Some(&domain)).await, "a SIP domain certificate (RFC 5922)");

    assert!(!bench.serves(None).await, "no certificate");
    let strange = Authority::new().sign(Wish::of(&["a.example"]));
    assert!(!bench.serves(Some(&strange)).await, "the right name from a strange authority");
    let expired = bench.a.sign(Wish { expired: true, ..Wish::of(&["a.example"]) });
    assert!(!bench.serves(Some(&expired)).await, "expired");
    let other_name = bench.a.sign(Wish::of(&["www.example"]));
    assert!(!bench.serves(Some(&other_name)).await, "another name of the same authority");
    let crossed = bench.b.sign(Wish::of(&["a.example"]));
    assert!(!bench.serves(Some(&crossed)).await, "one carrier's authority does not vouch for another carrier");
    let in_domain = bench.a.sign(Wish { uris: &["sip:other.example"], ..Wish::of(&["a.example"]) });
    assert!(!bench.serves(Some(&in_domain)).await, "where there are sip: URIs, they alone count");
    until("six refusals counted", || bench.metric("tonewall_sip_refused_total{reason=\"tls-failed\"} 6")).await;
    assert!(bench.serves(Some(&good)).await, "and still");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_tls_versions_are_spoken_and_nothing_older() {
    let bench = Bench::new().await;
    let good = bench.a.sign(Wish::of(&["a.example"]));
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let client = bench.ours.client_with(Some(&good), &[version]);
        let mut wire = Wire::tls(bench.at, client, "node.example").await.expect("a handshake");
        assert!(wire.is_served().await, "{version:?}");
    }
    if !crate::common::installed("openssl") {
        return crate::common::skip("both_tls_versions_are_spoken_and_nothing_older", "openssl is not installed");
    }
    let at = bench.at.to_string();
    let old = tokio::task::spawn_blocking(move || {
        let client = ["s_client", "-connect", &at, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0"];
        std::process::Command::new("openssl").args(client).stdin(std::process::Stdio::null()).output()
    });
    let old = old.await.expect("a thread").expect("openssl runs");
    assert!(!old.status.success(), "TLS 1.1 is refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trunk_is_known_by_the_certificate_of_its_peer() {
    let bench = Bench::new().await;
    for (authority, name, pbx) in [(&bench.a, "a.example", 0), (&bench.b, "b.example", 1)] {
        let signed = authority.sign(Wish::of(&[name]));
        let mut wire = bench.connect(Some(&signed)).await.expect("a handshake");
        let call = invite(wire.local, "TLS", "caller");
        wire.send(&call).await;
        let (arrived, from) = bench.pbx[pbx].next().await;
        assert_eq!(arrived.method(), Some("INVITE"), "{name} is routed as its own trunk");
        bench.pbx[pbx].send(from, &ok(&arrived, bench.pbx[pbx].at)).await;
        let accepted = loop {
            let message = wire.next().await.expect("an answer");
            if message.status() == Some(200) {
                break message;
            }
        };
        let contact = uri(accepted.get("contact").expect("Contact")).to_owned();
        assert_eq!(contact, format!("sip:{};transport=tls", bench.at));
        wire.send(&within("ACK", &call, &accepted, (wire.local, "TLS"), 1)).await;
        wire.send(&within("BYE", &call, &accepted, (wire.local, "TLS"), 2)).await;
        assert_eq!(wire.next().await.and_then(|message| message.status()), Some(200));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dialog_is_not_taken_over_with_another_trunks_certificate() {
    let bench = Bench::new().await;
    let mut wire = bench.connect(Some(&bench.a.sign(Wish::of(&["a.example"])))).await.expect("a handshake");
    let call = invite(wire.local, "TLS", "caller");
    wire.send(&call).await;
    let (arrived, from) = bench.pbx[0].next().await;
    bench.pbx[0].send(from, &ok(&arrived, bench.pbx[0].at)).await;
    let accepted = loop {
        let message = wire.next().await.expect("an answer");
        if message.status() == Some(200) {
            break message;
        }
    };
    wire.send(&within("ACK", &call, &accepted, (wire.local, "TLS"), 1)).await;
    let mut thief = bench.connect(Some(&bench.b.sign(Wish::of(&["b.example"])))).await.expect("a handshake");
    thief.send(&within("BYE", &call, &accepted, (thief.local, "TLS"), 2)).await;
    assert_eq!(thief.next().await.and_then(|message| message.status()), Some(403));
}

/// One carrier whose peer listens by TLS; calls come from the PBX.
async fn outward(dir: &TempDir, carrier: SocketAddr, pbx: &Plain, more: &str, listens: &str) -> Node {
    let keys = format!("remotes = [\"{carrier}\"]\nmedia = [\"127.0.0.1\"]\ntls_ca = \"a.pem\"\n{more}");
    let text = [
        common("127.0.0.1"),
        listener("tls", &format!("{TLS}\n{listens}")),
        listener("pbx", ""),
        trunk("a", "carrier", "tls", &keys),
        trunk("pbx", "pbx", "pbx", &format!("remotes = [\"{}\"]", pbx.at)),
        route("a", "pbx"),
        route("pbx", "a"),
    ];
    start(dir.path(), &text.join("\n")).await
}

fn files(a: &Authority, ours: &Signed) -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    ours.write(dir.path(), "ours");
    std::fs::write(dir.path().join("a.pem"), a.pem()).expect("written");
    dir
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_go_out_by_tls_to_the_named_peer_with_our_certificate() {
    let (a, ours) = (Authority::new(), Authority::new());
    let door = Door::open(Some(ours.server(&a.sign(Wish::of(&["other.example", "sip.a.example"]))))).await;
    let pbx = Plain::open().await;
    let dir = files(&a, &ours.sign(Wish::of(&["node.example"])));
    let node = outward(&dir, door.at, &pbx, "tls_names = [\"sip.a.example\"]", "").await;
    let call = invite(pbx.at, "UDP", "agent");
    pbx.send(node.listeners()[1], &call).await;
    let (mut wire, shown) = door.next().await.expect("a handshake");
    let shown = shown.expect("TLS");
    assert_eq!((shown.name.as_deref(), shown.certificates), (Some("sip.a.example"), 1));
    let arrived = wire.next().await.expect("the INVITE");
    let ours = node.listeners()[0];
    assert!(arrived.start.starts_with(&format!("INVITE sip:5551000@{};transport=tls ", door.at)), "{}", arrived.start);
    assert!(arrived.get("via").is_some_and(|via| via.starts_with(&format!("SIP/2.0/TLS {ours};"))));
    assert_eq!(arrived.get("contact").map(uri), Some(format!("sip:{ours};transport=tls").as_str()));
    // What follows uses the same connection.
    wire.send(&answer(&arrived, 486, "Busy Here", door.at)).await;
    assert_eq!(wire.next().await.and_then(|ack| ack.method().map(str::to_owned)).as_deref(), Some("ACK"));
    pbx.send(node.listeners()[1], &invite(pbx.at, "UDP", "again")).await;
    assert_eq!(wire.next().await.and_then(|call| call.method().map(str::to_owned)).as_deref(), Some("INVITE"));
    assert!(door.is_left_alone(Duration::from_millis(200)).await, "one connection serves both calls");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sips_listener_writes_sips_uris() {
    let (a, ours) = (Authority::new(), Authority::new());
    let door = Door::open(Some(ours.server(&a.sign(Wish::of(&["127.0.0.1"]))))).await;
    let pbx = Plain::open().await;
    let dir = files(&a, &ours.sign(Wish::of(&["node.example"])));
    let node = outward(&dir, door.at, &pbx, "", "sips = true").await;
    pbx.send(node.listeners()[1], &invite(pbx.at, "UDP", "agent")).await;
    let (mut wire, _) = door.next().await.expect("a handshake");
    let arrived = wire.next().await.expect("the INVITE");
    assert!(arrived.start.starts_with(&format!("INVITE sips:5551000@{} ", door.at)), "{}", arrived.start);
    assert_eq!(arrived.get("contact").map(uri), Some(format!("sips:{}", node.listeners()[0]).as_str()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r28_no_call_goes_to_a_peer_with_a_wrong_certificate() {
    let (a, ours) = (Authority::new(), Authority::new());
    let cases = [
        ("strange authority", Authority::new().sign(Wish::of(&["sip.a.example"]))),
        ("other name", a.sign(Wish::of(&["sip.b.example"]))),
        ("expired", a.sign(Wish { expired: true, ..Wish::of(&["sip.a.example"]) })),
    ];
    for (case, shown) in cases {
        let door = Door::open(Some(ours.server(&shown))).await;
        let pbx = Plain::open().await;
        let dir = files(&a, &ours.sign(Wish::of(&["node.example"])));
        let node = outward(&dir, door.at, &pbx, "tls_names = [\"sip.a.example\"]", "").await;
        let begun = Instant::now();
        pbx.send(node.listeners()[1], &invite(pbx.at, "UDP", "agent")).await;
        // The door's side of the handshake may look fine until it reads.
        if let Ok((mut wire, _)) = door.next().await {
            assert!(wire.next().await.is_none(), "{case}: nothing is sent");
        }
        assert_eq!(pbx.next_but_trying().await.status(), Some(503), "{case}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{case}: at once, not by a timer");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_is_enough_only_where_the_trunk_says_so() {
    let (a, ours) = (Authority::new(), Authority::new());
    let pbx = Plain::open().await;
    for (mutual, served) in [("tls_mutual = false", true), ("", false)] {
        let dir = files(&a, &ours.sign(Wish::of(&["node.example"])));
        let node = outward(&dir, nowhere(), &pbx, mutual, "").await;
        let wire = Wire::tls(node.listeners()[0], ours.client(None), "node.example").await;
        let got = match wire {
            Ok(mut wire) => wire.is_served().await,
            Err(_) => false,
        };
        assert_eq!(got, served, "{mutual:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_certificate_shown_is_the_one_asked_for_by_name() {
    let (a, first, second) = (Authority::new(), Authority::new(), Authority::new());
    let pbx = Plain::open().await;
    let dir = files(&a, &first.sign(Wish::of(&["node.example"])));
    second.sign(Wish::of(&["*.other.example"])).write(dir.path(), "second");
    let both =
        "transport = \"tls\"\ncertificate = [\"ours.pem\", \"second.pem\"]\nkey = [\"ours.key\", \"second.key\"]";
    let remote = nowhere();
    let text = [
        common("127.0.0.1"),
        listener("tls", both),
        listener("pbx", ""),
        trunk("a", "carrier", "tls", &format!("remotes = [\"{remote}\"]\ntls_ca = \"a.pem\"\ntls_mutual = false")),
        trunk("pbx", "pbx", "pbx", &format!("remotes = [\"{}\"]", pbx.at)),
        route("a", "pbx"),
        route("pbx", "a"),
    ];
    let node = start(dir.path(), &text.join("\n")).await;
    let at = node.listeners()[0];
    assert!(Wire::tls(at, second.client(None), "sip.other.example").await.is_ok(), "the second by its name");
    assert!(Wire::tls(at, first.client(None), "node.example").await.is_ok(), "the first by its name");
    assert!(Wire::tls(at, first.client(None), "sip.other.example").await.is_err(), "not the first for the second's");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_change_while_connections_stand() {
    let (a, old, new) = (Authority::new(), Authority::new(), Authority::new());
    let pbx = Plain::open().await;
    let dir = files(&a, &old.sign(Wish::of(&["node.example"])));
    let node = outward(&dir, nowhere(), &pbx, "tls_names = [\"127.0.0.1\"]", "").await;
    let (at, shows) = (node.listeners()[0], a.sign(Wish::of(&["127.0.0.1"])));
    let mut before = Wire::tls(at, old.client(Some(&shows)), "node.example").await.expect("a handshake");
    assert!(before.is_served().await);

    // A file that cannot be used changes nothing and is named.
    std::fs::write(dir.path().join("ours.pem"), "not a certificate").expect("written");
    let faults = node.certificates().reload().expect_err("a fault");
    assert_eq!(faults[0].key, "listener[0].certificate");
    let mut still = Wire::tls(at, old.client(Some(&shows)), "node.example").await.expect("the old one still");
    assert!(still.is_served().await);

    new.sign(Wish::of(&["node.example"])).write(dir.path(), "ours");
    let b = Authority::new();
    std::fs::write(dir.path().join("a.pem"), b.pem()).expect("written");
    node.certificates().reload().expect("good files");
    assert!(Wire::tls(at, old.client(Some(&shows)), "node.example").await.is_err(), "the old certificate is gone");
    let late = b.sign(Wish::of(&["127.0.0.1"]));
    let mut after = Wire::tls(at, new.client(Some(&late)), "node.example").await.expect("the new one");
    assert!(after.is_served().await, "and the new authority vouches");
    assert!(before.is_served().await && still.is_served().await, "what stood goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r28_two_thousand_slow_handshakes_do_not_stand_in_the_way() {
    let bench = Bench::with("handshakes_per_source = 100").await;
    let good = bench.a.sign(Wish::of(&["a.example"]));
    let (_, limit) = rustix_limit();
    if limit < 6_000 {
        return crate::common::skip(
            "r28_two_thousand_slow_handshakes_do_not_stand_in_the_way",
            &format!("only {limit} open files are allowed; 6000 are needed"),
        );
    }
    let mut slow = Vec::new();
    for nth in 0..2_000u16 {
        let [high, low] = (nth / 8).to_be_bytes();
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind((Ipv4Addr::new(127, 7, high, low.max(1)), 0).into()).expect("a source of its own");
        let mut stream = socket.connect(bench.at).await.expect("a connection");
        // The first byte of a handshake record, and no more.
        let _ = stream.write_all(&[0x16]).await;
        slow.push(stream);
    }
    let begun = Instant::now();
    assert!(bench.serves(Some(&good)).await, "a good peer from elsewhere is served");
    assert!(begun.elapsed() < Duration::from_secs(3), "in {:?}", begun.elapsed());
    until("every slow handshake is ended", || bench.metric("tonewall_sip_tls_handshakes 0")).await;
    assert!(begun.elapsed() < Duration::from_secs(8), "within the deadline, not {:?}", begun.elapsed());
    for stream in &mut slow {
        let mut byte = [0];
        let end = tokio::time::timeout(Duration::from_secs(5), tokio::io::AsyncReadExt::read(stream, &mut byte)).await;
        let end = end.expect("closed by the node");
        assert!(matches!(&end, Ok(0 | 1)) || end.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
    }
}

/// Soft and hard limit of open files, the soft one raised as far as it goes.
fn rustix_limit() -> (u64, u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Nofile);
    let most = now.maximum.unwrap_or(u64::MAX);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: Some(most) });
    (now.current.unwrap_or(u64::MAX), most)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_source_has_few_handshakes_at_once() {
    let bench = Bench::with("handshakes_per_source = 4").await;
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(tokio::net::TcpStream::connect(bench.at).await.expect("a connection"));
    }
    until("four handshakes", || bench.metric("tonewall_sip_tls_handshakes 4")).await;
    let good = bench.a.sign(Wish::of(&["a.example"]));
    assert!(bench.connect(Some(&good)).await.is_err(), "a fifth from there has to wait");
    let elsewhere = SocketAddr::from(([127, 0, 0, 9], 0));
    let wire = Wire::tls_from(elsewhere, bench.at, bench.ours.client(Some(&good)), "node.example").await;
    assert!(wire.expect("from another source").is_served().await);
    drop(held);
    until("all are gone", || bench.metric("tonewall_sip_tls_handshakes 0")).await;
    assert!(bench.serves(Some(&good)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_a_bad_certificate_does_not_start() {
    let (a, ours) = (Authority::new(), Authority::new());
    let dir = files(&a, &ours.sign(Wish::of(&["node.example"])));
    let other = ours.sign(Wish::of(&["node.example"]));
    std::fs::write(dir.path().join("ours.key"), &other.key).expect("written");
    let remote = nowhere();
    let text = [
        common("127.0.0.1"),
        listener("tls", TLS),
        listener("pbx", ""),
        trunk("a", "carrier", "tls", &format!("remotes = [\"{remote}\"]\ntls_ca = \"a.pem\"")),
        trunk("pbx", "pbx", "pbx", "remotes = [\"127.0.0.1:5999\"]"),
        route("a", "pbx"),
    ];
    let config = config(dir.path(), &text.join("\n"));
    let faults = tonewall::rt::sip::tls::check(&config).expect_err("a fault");
    assert_eq!(faults[0].key, "listener[0].key");
    assert!(faults[0].reason.contains("does not fit its certificate"), "{}", faults[0]);
    other.write(dir.path(), "ours");
    drop(start_config(config).await);
}
