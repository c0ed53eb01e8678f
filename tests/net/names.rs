//! Trunks whose remotes are names, with a small name server on loopback: what it says decides where calls go, and its
//! silence changes nothing.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_resolver::proto::op::{Message as Dns, MessageType, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, NAPTR, SRV};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tempfile::TempDir;
use tokio::net::UdpSocket;
use tonewall::rt::node::Node;

use crate::peer::{Plain, answer, invite, request};
use crate::site::{common, listener, route, start, trunk, until};

type Zone = Arc<Mutex<HashMap<(String, RecordType), Vec<RData>>>>;

/// A name server: answers from its zone with a time to live of `ttl`, or not at all while it is silent.
struct Server {
    at: SocketAddr,
    zone: Zone,
    silent: Arc<AtomicBool>,
    asked: Arc<Mutex<Vec<(String, RecordType)>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    async fn start(ttl: u32) -> Server {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        let at = socket.local_addr().expect("an address");
        let (zone, silent): (Zone, Arc<AtomicBool>) = Default::default();
        let asked: Arc<Mutex<Vec<_>>> = Arc::default();
        let task = tokio::spawn(serve(socket, zone.clone(), silent.clone(), asked.clone(), ttl));
        Server { at, zone, silent, asked, task }
    }

    fn set(&self, name: &str, kind: RecordType, data: Vec<RData>) {
        self.zone.lock().expect("the zone").insert((name.to_owned(), kind), data);
    }

    fn a(&self, name: &str, ip: [u8; 4]) {
        self.set(name, RecordType::A, vec![RData::A(A(ip.into()))]);
    }

    fn srv(&self, name: &str, records: &[(u16, u16, u16, &str)]) {
        let record = |(priority, weight, port, target): &(u16, u16, u16, &str)| {
            RData::SRV(SRV::new(*priority, *weight, *port, Name::from_ascii(target).expect("a name")))
        };
        self.set(name, RecordType::SRV, records.iter().map(record).collect());
    }

    fn was_asked(&self, name: &str, kind: RecordType) -> usize {
        let asked = self.asked.lock().expect("the list");
        asked.iter().filter(|(of, what)| of == name && *what == kind).count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    socket: UdpSocket,
    zone: Zone,
    silent: Arc<AtomicBool>,
    asked: Arc<Mutex<Vec<(String, RecordType)>>>,
    ttl: u32,
) {
    let mut buffer = [0; 1500];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else { continue };
        let Ok(query) = Dns::from_vec(&buffer[..length]) else { continue };
        let question = query.queries[0].clone();
        let name = question.name().to_string().trim_end_matches('.').to_lowercase();
        let kind = question.query_type();
        asked.lock().expect("the list").push((name.clone(), kind));
        if silent.load(Ordering::SeqCst) {
            continue;
        }
        let zone_data = zone.lock().expect("the zone").get(&(name.clone(), kind)).cloned();
        let exists = zone.lock().expect("the zone").keys().any(|(of, _)| *of == name);
        let mut reply = query.clone();
        reply.metadata.message_type = MessageType::Response;
        reply.metadata.authoritative = true;
        reply.metadata.recursion_available = true;
        match zone_data {
            Some(data) => {
                let record = |data| Record::from_rdata(question.name().clone(), ttl, data);
                reply.add_answers(data.into_iter().map(record));
            }
            None if exists => {}
            None => reply.metadata.response_code = ResponseCode::NXDomain,
        }
        let _ = socket.send_to(&reply.to_vec().expect("a message"), from).await;
    }
}

struct Bench {
    _dir: TempDir,
    node: Node,
    server: Server,
    pbx: Plain,
}

impl Bench {
    async fn new(server: Server, remotes: &str) -> Bench {
        let dir = tempfile::tempdir().expect("a directory");
        let pbx = Plain::open().await;
        let text = [
            common("127.0.0.1"),
            format!("[dns]\nnameservers = [\"{}\"]\n", server.at),
            listener("carrier", ""),
            listener("pbx", ""),
            trunk(
                "carrier",
                "carrier",
                "carrier",
                &format!("remotes = [{remotes}]\nsources = [\"127.0.0.99\"]\nmedia = [\"127.0.0.1\"]"),
            ),
            trunk("pbx", "pbx", "pbx", &format!("remotes = [\"{}\"]", pbx.at)),
            route("pbx", "carrier"),
            route("carrier", "pbx"),
        ];
        let node = start(dir.path(), &text.join("\n")).await;
        Bench { _dir: dir, node, server, pbx }
    }

    async fn call(&self) {
        self.pbx.send(self.node.listeners()[1], &invite(self.pbx.at, "UDP", "agent")).await;
    }

    /// Places a call until the carrier gets it, which refuses it.
    async fn reaches(&self, carrier: &Plain) {
        let end = std::time::Instant::now() + crate::site::SOON;
        loop {
            assert!(std::time::Instant::now() < end, "no call reaches {}", carrier.at);
            self.call().await;
            let next = tokio::time::timeout(Duration::from_millis(300), carrier.next()).await;
            if let Ok((arrived, from)) = next {
                assert_eq!(arrived.method(), Some("INVITE"));
                carrier.send(from, &answer(&arrived, 486, "Busy Here", carrier.at)).await;
                while self.pbx.next_but_trying().await.status() != Some(486) {}
                assert_eq!(carrier.next().await.0.method(), Some("ACK"));
                return;
            }
        }
    }
}

const LOOPBACK: [u8; 4] = [127, 0, 0, 1];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_follow_naptr_srv_and_address_records() {
    let carrier = Plain::open().await;
    let standby = Plain::open().await;
    let server = Server::start(60).await;
    let naptr = NAPTR::new(
        10,
        10,
        b"s".to_vec().into(),
        b"SIP+D2U".to_vec().into(),
        Vec::new().into(),
        Name::from_ascii("_sip._udp.sbc.example.").expect("a name"),
    );
    server.set("carrier.example", RecordType::NAPTR, vec![RData::NAPTR(naptr)]);
    let records = [(20, 0, standby.at.port(), "b.example."), (10, 0, carrier.at.port(), "a.example.")];
    server.srv("_sip._udp.sbc.example", &records);
    server.a("a.example", LOOPBACK);
    server.a("b.example", LOOPBACK);
    let bench = Bench::new(server, "\"sip:carrier.example\"").await;
    bench.reaches(&carrier).await;
    // The first does not answer at all: the second is next.
    let dead = carrier.at;
    drop(carrier);
    bench.call().await;
    let (arrived, _) = standby.next().await;
    assert!(arrived.start.contains(&standby.at.to_string()), "{} after {dead}", arrived.start);
    assert_eq!(bench.server.was_asked("_sip._udp.carrier.example", RecordType::SRV), 0, "NAPTR named another");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_without_records_of_its_own_kind_falls_back_and_no_call_waits() {
    let server = Server::start(60).await;
    let carrier = Plain::open().await;
    let bench = Bench::new(server, &format!("\"sip:gone.example\", \"sip:late.example:{}\"", carrier.at.port())).await;
    bench.call().await;
    let refused = bench.pbx.next_but_trying().await;
    assert_eq!((refused.status(), refused.get("retry-after").is_some()), (Some(503), true));
    // It is asked for again, and found, without a call's doing: "nothing" is believed for a minute here.
    until("the question for its address", || bench.server.was_asked("late.example", RecordType::A) >= 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_change_and_a_silent_server_changes_nothing() {
    let (first, second) = (Plain::open().await, Plain::open().await);
    let server = Server::start(1).await;
    server.a("sbc.example", LOOPBACK);
    server.srv("_sip._udp.carrier.example", &[(1, 1, first.at.port(), "sbc.example.")]);
    let bench = Bench::new(server, "\"sip:carrier.example\"").await;
    bench.reaches(&first).await;
    // A time to live of a second is taken as five.
    bench.server.srv("_sip._udp.carrier.example", &[(1, 1, second.at.port(), "sbc.example.")]);
    let asked = || bench.server.was_asked("_sip._udp.carrier.example", RecordType::SRV);
    until("the second question", || asked() >= 2).await;
    bench.reaches(&second).await;
    bench.server.silent.store(true, Ordering::SeqCst);
    let before = asked();
    until("more questions", || asked() >= before + 2).await;
    bench.reaches(&second).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dns_tells_where_calls_go_and_not_who_may_place_them() {
    let carrier = Plain::open().await;
    let server = Server::start(60).await;
    server.a("sbc.example", LOOPBACK);
    let bench = Bench::new(server, &format!("\"sip:sbc.example:{}\"", carrier.at.port())).await;
    bench.reaches(&carrier).await;
    let at = bench.node.listeners()[0];
    carrier.send(at, &invite(carrier.at, "UDP", "intruder")).await;
    assert_eq!(carrier.next_but_trying().await.status(), Some(403), "its address is not in sources");
    // From another port of that host not even an answer.
    let stranger = Plain::open().await;
    stranger.send(at, &request("OPTIONS", stranger.at, "UDP", "x")).await;
    let quiet = tokio::time::timeout(Duration::from_millis(300), stranger.next()).await;
    assert!(quiet.is_err());
    assert_eq!(Ipv4Addr::from(LOOPBACK), Ipv4Addr::LOCALHOST);
}
