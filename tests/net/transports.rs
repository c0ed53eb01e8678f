//! UDP, TCP, IPv4, IPv6: what is sent where, over which connection, and what happens when it does not arrive.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tonewall::rt::node::Node;
use tonewall::testkit::simple_sip::{Message, uri};

use crate::peer::{Door, Plain, Wire, answer, invite, ok, within};
use crate::site::{common, listener, listener_at, nowhere, route, start, trunk};

/// A node between one carrier and one PBX on loopback.
struct Bench {
    _dir: TempDir,
    node: Node,
}

impl Bench {
    /// `carrier`, `pbx`: further keys of listener and trunk.
    async fn with(carrier: [&str; 2], pbx: [&str; 2]) -> Bench {
        let dir = tempfile::tempdir().expect("a directory");
        let text = [
            common("127.0.0.1"),
            listener("carrier", carrier[0]),
            listener("pbx", pbx[0]),
            trunk("carrier", "carrier", "carrier", &format!("{}\nsources = [\"127.0.0.0/8\"]", carrier[1])),
            trunk("pbx", "pbx", "pbx", &format!("{}\nsources = [\"127.0.0.0/8\"]", pbx[1])),
            route("carrier", "pbx"),
            route("pbx", "carrier"),
        ];
        let node = start(dir.path(), &text.join("\n")).await;
        Bench { _dir: dir, node }
    }

    fn carrier_side(&self) -> SocketAddr {
        self.node.listeners()[0]
    }

    fn pbx_side(&self) -> SocketAddr {
        self.node.listeners()[1]
    }
}

fn remotes(at: &[SocketAddr]) -> String {
    let list: Vec<String> = at.iter().map(|at| format!("\"{at}\"")).collect();
    format!("remotes = [{}]", list.join(", "))
}

/// A call answered by `pbx` over UDP, and ended by the caller.
async fn call_through(bench: &Bench, carrier: &Plain, pbx: &Plain) {
    let call = invite(carrier.at, "UDP", "caller");
    carrier.send(bench.carrier_side(), &call).await;
    let (arrived, from) = pbx.next().await;
    pbx.send(from, &ok(&arrived, pbx.at)).await;
    let accepted = carrier.next_but_trying().await;
    assert_eq!(accepted.status(), Some(200));
    carrier.send(bench.carrier_side(), &within("ACK", &call, &accepted, (carrier.at, "UDP"), 1)).await;
    carrier.send(bench.carrier_side(), &within("BYE", &call, &accepted, (carrier.at, "UDP"), 2)).await;
    assert_eq!(carrier.next_but_trying().await.status(), Some(200));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_icmp_error_sends_the_call_to_the_next_target_at_once() {
    let (carrier, pbx) = (Plain::open().await, Plain::open().await);
    let dead = nowhere();
    let bench = Bench::with(["", &remotes(&[carrier.at])], ["", &remotes(&[dead, pbx.at])]).await;
    let begun = Instant::now();
    carrier.send(bench.carrier_side(), &invite(carrier.at, "UDP", "caller")).await;
    let (arrived, _) = pbx.next().await;
    assert_eq!(arrived.method(), Some("INVITE"));
    assert!(begun.elapsed() < Duration::from_millis(900), "not by a timer: {:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_is_gone_costs_no_other_peer_a_message() {
    let (carrier, pbx) = (Plain::open().await, Plain::open().await);
    let dead = nowhere();
    let bench = Bench::with(["", &remotes(&[carrier.at])], ["", &remotes(&[dead, pbx.at])]).await;
    for _ in 0..8 {
        let call = invite(carrier.at, "UDP", "caller");
        carrier.send(bench.carrier_side(), &call).await;
        // Not one repetition: each message arrives the first time.
        let begun = Instant::now();
        let (arrived, from) = pbx.next().await;
        assert_eq!(arrived.method(), Some("INVITE"));
        pbx.send(from, &answer(&arrived, 486, "Busy Here", pbx.at)).await;
        assert_eq!(carrier.next_but_trying().await.status(), Some(486));
        assert!(begun.elapsed() < Duration::from_millis(450), "{:?}", begun.elapsed());
        assert_eq!(pbx.next().await.0.method(), Some("ACK"));
    }
}

/// An INVITE that is too large for one packet.
fn large(from: SocketAddr) -> Message {
    invite(from, "UDP", "caller").with("User-to-User", "ab".repeat(700))
}

const PASS: &str = "pass_headers = [\"User-to-User\"]";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_request_goes_by_tcp_and_a_small_one_by_udp() {
    let carrier = Plain::open().await;
    let pbx = Plain::open().await;
    let door = Door::open_at(pbx.at, None).await;
    let keys = format!("{}\n{PASS}", remotes(&[carrier.at]));
    let bench = Bench::with(["", &keys], ["", &remotes(&[pbx.at])]).await;
    call_through(&bench, &carrier, &pbx).await;
    assert!(pbx.next().await.0.method().is_some(), "ACK and BYE came by UDP");
    let _ = pbx.next().await;

    let call = large(carrier.at);
    carrier.send(bench.carrier_side(), &call).await;
    let (mut wire, _) = door.next().await.expect("a connection");
    let arrived = wire.next().await.expect("the INVITE");
    assert!(arrived.print().len() > 1300);
    assert!(arrived.get("via").is_some_and(|via| via.starts_with("SIP/2.0/TCP ")), "{:?}", arrived.get("via"));
    wire.send(&ok(&arrived, pbx.at)).await;
    let accepted = carrier.next_but_trying().await;
    assert_eq!(accepted.status(), Some(200));
    carrier.send(bench.carrier_side(), &within("ACK", &call, &accepted, (carrier.at, "UDP"), 1)).await;
    // What follows is small again.
    let mut seen = Vec::new();
    carrier.send(bench.carrier_side(), &within("BYE", &call, &accepted, (carrier.at, "UDP"), 2)).await;
    while seen.last().map(String::as_str) != Some("BYE") {
        let (message, _) = pbx.next().await;
        assert!(message.get("via").is_some_and(|via| via.starts_with("SIP/2.0/UDP ")));
        seen.extend(message.method().map(str::to_owned));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_request_goes_by_udp_after_all_where_the_peer_takes_no_tcp() {
    let (carrier, pbx) = (Plain::open().await, Plain::open().await);
    let keys = format!("{}\n{PASS}", remotes(&[carrier.at]));
    let bench = Bench::with(["", &keys], ["", &remotes(&[pbx.at])]).await;
    for nth in 0..2 {
        let begun = Instant::now();
        carrier.send(bench.carrier_side(), &large(carrier.at)).await;
        let (arrived, from) = pbx.next().await;
        assert!(arrived.print().len() > 1300, "call {nth}");
        assert!(arrived.get("via").is_some_and(|via| via.starts_with("SIP/2.0/UDP ")));
        assert!(begun.elapsed() < Duration::from_millis(900), "call {nth}: {:?}", begun.elapsed());
        pbx.send(from, &answer(&arrived, 486, "Busy Here", pbx.at)).await;
        assert_eq!(carrier.next_but_trying().await.status(), Some(486));
        let (ack, _) = pbx.next().await;
        assert_eq!((ack.method(), ack.branch()), (Some("ACK"), arrived.branch()));
        assert!(ack.get("via").is_some_and(|via| via.starts_with("SIP/2.0/UDP ")));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_without_tcp_keeps_to_udp() {
    let (carrier, pbx) = (Plain::open().await, Plain::open().await);
    let door = Door::open_at(pbx.at, None).await;
    let keys = format!("{}\n{PASS}", remotes(&[carrier.at]));
    let bench = Bench::with(["tcp = false", &keys], ["tcp = false", &remotes(&[pbx.at])]).await;
    carrier.send(bench.carrier_side(), &large(carrier.at)).await;
    let (arrived, _) = pbx.next().await;
    assert!(arrived.print().len() > 1300);
    assert!(door.is_left_alone(Duration::from_millis(100)).await);
    assert!(tokio::net::TcpStream::connect(bench.carrier_side()).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_udp_listener_serves_a_peer_that_comes_by_tcp() {
    let (carrier, pbx) = (Plain::open().await, Plain::open().await);
    let bench = Bench::with(["", &remotes(&[carrier.at])], ["", &remotes(&[pbx.at])]).await;
    let mut wire = Wire::tcp(bench.carrier_side()).await;
    let call = invite(wire.local, "TCP", "caller");
    wire.send(&call).await;
    let (arrived, from) = pbx.next().await;
    pbx.send(from, &ok(&arrived, pbx.at)).await;
    let accepted = loop {
        let message = wire.next().await.expect("an answer");
        if message.status() == Some(200) {
            break message;
        }
    };
    wire.send(&within("ACK", &call, &accepted, (wire.local, "TCP"), 1)).await;
    assert_eq!(pbx.next().await.0.method(), Some("ACK"));
    // The other side hangs up: the BYE comes on the caller's connection.
    let bye = Message::new(format!("BYE {} SIP/2.0", uri(arrived.get("contact").expect("Contact"))))
        .with("Via", format!("SIP/2.0/UDP {};rport;branch=z9hG4bKbye", pbx.at))
        .with("From", format!("{};tag=peer", arrived.get("to").expect("To")))
        .with("To", arrived.get("from").expect("From"))
        .with("Call-ID", arrived.get("call-id").expect("Call-ID"))
        .with("CSeq", "1 BYE");
    pbx.send(bench.pbx_side(), &bye).await;
    assert_eq!(pbx.next().await.0.status(), Some(200));
    assert_eq!(wire.next().await.expect("the BYE").method(), Some("BYE"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_used_again_and_kept_alive_until_the_peer_falls_silent() {
    let carrier = Plain::open().await;
    let door = Door::open(None).await;
    let bench =
        Bench::with(["", &remotes(&[carrier.at])], ["transport = \"tcp\"\nkeepalive_s = 1", &remotes(&[door.at])])
            .await;
    carrier.send(bench.carrier_side(), &invite(carrier.at, "UDP", "caller")).await;
    let (mut wire, _) = door.next().await.expect("a connection");
    let arrived = wire.next().await.expect("the INVITE");
    wire.send(&answer(&arrived, 486, "Busy Here", door.at)).await;
    assert_eq!(wire.next().await.expect("the ACK").method(), Some("ACK"));
    carrier.send(bench.carrier_side(), &invite(carrier.at, "UDP", "again")).await;
    let arrived = wire.next().await.expect("the next call, on the same connection");
    wire.send(&answer(&arrived, 486, "Busy Here", door.at)).await;
    assert_eq!(wire.next().await.expect("the ACK").method(), Some("ACK"));

    // Double CRLFs come; a peer that does not answer them is left in peace.
    assert!(wire.silent(Duration::from_millis(3_300)).await, "nothing but keep-alives");
    assert!(wire.crlf.iter().sum::<usize>() >= 8 && wire.crlf.iter().all(|bytes| bytes % 4 == 0), "{:?}", wire.crlf);
    // One that has answered once is expected to go on.
    wire.raw(b"\r\n").await;
    let begun = Instant::now();
    assert!(wire.next().await.is_none(), "the connection is given up");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peers_keep_alive_is_answered() {
    let (carrier, pbx) = (Plain::open().await, Plain::open().await);
    let bench = Bench::with(["transport = \"tcp\"", &remotes(&[carrier.at])], ["", &remotes(&[pbx.at])]).await;
    let mut wire = Wire::tcp(bench.carrier_side()).await;
    wire.raw(b"\r\n\r\n").await;
    assert!(wire.silent(Duration::from_millis(300)).await);
    assert_eq!(wire.crlf, [2], "one CRLF for a double one");
    assert!(wire.is_served().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_start_from_the_listeners_own_address() {
    let carrier = Plain::open().await;
    let listening = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let at = listening.local_addr().expect("an address");
    let dir = tempfile::tempdir().expect("a directory");
    let text = [
        common("127.0.0.1"),
        listener("carrier", ""),
        listener_at("pbx", "127.0.0.3", "transport = \"tcp\""),
        trunk("carrier", "carrier", "carrier", &remotes(&[carrier.at])),
        trunk("pbx", "pbx", "pbx", &remotes(&[at])),
        route("carrier", "pbx"),
    ];
    let node = start(dir.path(), &text.join("\n")).await;
    carrier.send(node.listeners()[0], &invite(carrier.at, "UDP", "caller")).await;
    let (_, from) = listening.accept().await.expect("a connection");
    assert_eq!(from.ip().to_string(), "127.0.0.3");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_advertised_stands_in_every_message() {
    let (carrier, pbx) = (Plain::open().await, Plain::open().await);
    let dir = tempfile::tempdir().expect("a directory");
    let text = [
        common("127.0.0.1").replace("[media]", "[media]\nadvertise = \"203.0.113.8\""),
        listener("carrier", ""),
        listener("pbx", "advertise = \"203.0.113.7:5070\""),
        trunk("carrier", "carrier", "carrier", &remotes(&[carrier.at])),
        trunk("pbx", "pbx", "pbx", &remotes(&[pbx.at])),
        route("carrier", "pbx"),
    ];
    let mut config = crate::site::config(dir.path(), &text.join("\n"));
    config.listeners[1].advertise.set_port(5070);
    let node = crate::site::start_config(config).await;
    carrier.send(node.listeners()[0], &invite(carrier.at, "UDP", "caller")).await;
    let (arrived, from) = pbx.next().await;
    assert_eq!(from, node.listeners()[1]);
    assert!(arrived.get("via").is_some_and(|via| via.starts_with("SIP/2.0/UDP 203.0.113.7:5070;rport;")));
    assert_eq!(arrived.get("contact"), Some("<sip:203.0.113.7:5070>"));
    assert!(arrived.get("from").is_some_and(|from| from.contains("@203.0.113.7:5070>")));
    let body = String::from_utf8_lossy(&arrived.body).into_owned();
    assert!(body.contains("c=IN IP4 203.0.113.8\r\n") && !body.contains("127.0.0.1"), "{body}");
    pbx.send(from, &answer(&arrived, 486, "Busy Here", pbx.at)).await;
    assert_eq!(carrier.next_but_trying().await.status(), Some(486));
}

/// A carrier on IPv6 and a PBX on IPv4.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ipv6_and_ipv4_peers_talk_through_a_node() {
    let Ok(probe) = std::net::UdpSocket::bind("[::1]:0") else {
        return crate::common::skip("ipv6_and_ipv4_peers_talk_through_a_node", "this machine has no IPv6 loopback");
    };
    drop(probe);
    let carrier = Plain::open_at("[::1]:0".parse().expect("an address")).await;
    let pbx = Plain::open().await;
    let dir = tempfile::tempdir().expect("a directory");
    let pass = "pass_headers = [\"P-Asserted-Identity\"]";
    let text = [
        common("127.0.0.1"),
        listener_at("carrier", "[::1]", "media_address = \"::1\""),
        listener("pbx", ""),
        trunk("carrier", "carrier", "carrier", &format!("{}\n{pass}", remotes(&[carrier.at]))),
        trunk("pbx", "pbx", "pbx", &format!("{}\n{pass}", remotes(&[pbx.at]))),
        route("carrier", "pbx"),
        route("pbx", "carrier"),
    ];
    let node = start(dir.path(), &text.join("\n")).await;
    let [six, four] = [node.listeners()[0], node.listeners()[1]];

    let call = invite(carrier.at, "UDP", "caller");
    carrier.send(six, &call).await;
    let (arrived, from) = pbx.next().await;
    assert!(!String::from_utf8_lossy(&arrived.print()).contains("::1"), "nothing of the other side's addresses");
    assert!(String::from_utf8_lossy(&arrived.body).contains("c=IN IP4 127.0.0.1\r\n"));
    pbx.send(from, &ok(&arrived, pbx.at)).await;
    let accepted = carrier.next_but_trying().await;
    assert_eq!(accepted.status(), Some(200));
    assert!(String::from_utf8_lossy(&accepted.body).contains("c=IN IP6 ::1\r\n"));
    assert_eq!(uri(accepted.get("contact").expect("Contact")), format!("sip:{six}"));
    carrier.send(six, &within("ACK", &call, &accepted, (carrier.at, "UDP"), 1)).await;
    carrier.send(six, &within("BYE", &call, &accepted, (carrier.at, "UDP"), 2)).await;
    assert_eq!(carrier.next_but_trying().await.status(), Some(200));

    let back = invite(pbx.at, "UDP", "agent").with("P-Asserted-Identity", "<sip:100@10.1.2.3>");
    pbx.send(four, &back).await;
    let arrived = loop {
        let (message, _) = carrier.next().await;
        if message.method() == Some("INVITE") {
            break message;
        }
    };
    assert!(arrived.start.starts_with(&format!("INVITE sip:5551000@{} ", carrier.at)), "{}", arrived.start);
    assert!(arrived.get("via").is_some_and(|via| via.starts_with(&format!("SIP/2.0/UDP {six};"))));
    assert_eq!(arrived.get("p-asserted-identity"), Some("<sip:100@[::1]>"));
    assert!(String::from_utf8_lossy(&arrived.body).contains("c=IN IP6 ::1\r\n"));
}
