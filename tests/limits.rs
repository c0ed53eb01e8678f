//! A real process that runs out of open files: new calls are refused and say when to come back, those that are up go on,
//! and when some have ended, others find room.

#![allow(clippy::disallowed_methods)] // Tests may wait, and open sockets.

mod common;

use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use common::{Plan, Running};
use tonewall::testkit::simple_sip::{Message, uri};

/// A SIP peer.
struct Peer {
    socket: UdpSocket,
    at: SocketAddr,
    count: u32,
}

/// A call that is up, as its caller knows it.
struct Call {
    ok: Message,
    cseq: u32,
}

/// Whether `message` is the final answer to `request`.
fn is_outcome(message: &Message, request: &Message) -> bool {
    let same = ["call-id", "cseq"].iter().all(|name| message.get(name) == request.get(name));
    same && message.status().is_some_and(|status| status >= 200)
}

fn sdp(at: SocketAddr) -> String {
    format!("v=0\r\no=- 1 1 IN IP4 {0}\r\ns=-\r\nc=IN IP4 {0}\r\nt=0 0\r\nm=audio 40000 RTP/AVP 0\r\n", at.ip())
}

impl Peer {
    fn open() -> Peer {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        let at = socket.local_addr().expect("its address");
        Peer { socket, at, count: 0 }
    }

    fn send(&self, to: SocketAddr, message: &Message) {
        self.socket.send_to(&message.print(), to).expect("sent");
    }

    /// The next message of this method.
    fn next(&self, wanted: &str) -> (Message, SocketAddr) {
        let mut buffer = [0; 4_096];
        loop {
            let (length, from) = self.socket.recv_from(&mut buffer).unwrap_or_else(|why| panic!("{wanted}: {why}"));
            let Some(message) = Message::parse(&buffer[..length]) else { continue };
            if message.method() == Some(wanted) {
                return (message, from);
            }
        }
    }

    /// The final answer to `request`, whatever else is sent again.
    fn outcome(&self, request: &Message) -> Message {
        let mut buffer = [0; 4_096];
        loop {
            let (length, _) = self.socket.recv_from(&mut buffer).expect("an answer in time");
            let Some(message) = Message::parse(&buffer[..length]) else { continue };
            if is_outcome(&message, request) {
                return message;
            }
        }
    }

    /// A message, if one comes at once.
    fn glance(&self) -> Option<(Message, SocketAddr)> {
        self.socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout");
        let mut buffer = [0; 4_096];
        let seen = self.socket.recv_from(&mut buffer);
        self.socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        let (length, from) = seen.ok()?;
        Some((Message::parse(&buffer[..length])?, from))
    }

    fn invite(&mut self) -> Message {
        self.count += 1;
        let (at, n) = (self.at, self.count);
        Message::new("INVITE sip:5551000@node.example SIP/2.0")
            .with("Via", format!("SIP/2.0/UDP {at};rport;branch=z9hG4bKi{n}"))
            .with("Max-Forwards", "70")
            .with("From", format!("<sip:caller@{at}>;tag=t{n}"))
            .with("To", "<sip:5551000@node.example>")
            .with("Call-ID", format!("call{n}@{at}"))
            .with("CSeq", "1 INVITE")
            .with("Contact", format!("<sip:caller@{at}>"))
            .with_body("application/sdp", sdp(at))
    }

    /// A request within `call`.
    fn within(&mut self, method: &str, call: &mut Call) -> Message {
        self.count += 1;
        let target = uri(call.ok.get("contact").expect("Contact")).to_owned();
        if method != "ACK" {
            call.cseq += 1;
        }
        let copy = |name: &str| call.ok.get(name).expect("a header").to_owned();
        Message::new(format!("{method} {target} SIP/2.0"))
            .with("Via", format!("SIP/2.0/UDP {};rport;branch=z9hG4bKw{}", self.at, self.count))
            .with("Max-Forwards", "70")
            .with("From", copy("from"))
            .with("To", copy("to"))
            .with("Call-ID", copy("call-id"))
            .with("CSeq", format!("{} {method}", call.cseq))
    }
}

fn ok(request: &Message, at: SocketAddr) -> Message {
    let mut ok = Message::new("SIP/2.0 200 OK");
    for name in ["via", "from", "call-id", "cseq"] {
        for value in request.all(name) {
            ok = ok.with(name, value);
        }
    }
    let to = request.get("to").expect("To");
    let to = if to.contains("tag=") { to.to_owned() } else { format!("{to};tag=pbx") };
    let ok = ok.with("To", to).with("Contact", format!("<sip:pbx@{at}>"));
    if request.method() == Some("INVITE") { ok.with_body("application/sdp", sdp(at)) } else { ok }
}

/// Places a call: up, or the refusal.
fn call(carrier: &mut Peer, pbx: &Peer, node: SocketAddr) -> Result<Call, Message> {
    let invite = carrier.invite();
    carrier.send(node, &invite);
    // Whichever comes first: our INVITE at the PBX, or the refusal.
    let until = Instant::now() + Duration::from_secs(10);
    let (theirs, refusal) = loop {
        assert!(Instant::now() < until, "neither an INVITE nor a refusal");
        if let Some((message, from)) = pbx.glance().filter(|(message, _)| message.method() == Some("INVITE")) {
            break (Some((message, from)), None);
        }
        if let Some((message, _)) = carrier.glance().filter(|(message, _)| is_outcome(message, &invite)) {
            break (None, Some(message));
        }
    };
    if let Some((theirs, from)) = theirs {
        pbx.send(from, &ok(&theirs, pbx.at));
        let answer = carrier.outcome(&invite);
        assert_eq!(answer.status(), Some(200), "{}", answer.start);
        pbx.next("ACK");
        let mut call = Call { ok: answer, cseq: 1 };
        let ack = carrier.within("ACK", &mut call);
        carrier.send(node, &ack);
        return Ok(call);
    }
    let refusal = refusal.expect("a refusal");
    let mut ack = Message::new("ACK sip:5551000@node.example SIP/2.0");
    for name in ["Via", "Max-Forwards", "From", "Call-ID"] {
        ack = ack.with(name, invite.get(name).expect("a header"));
    }
    carrier.send(node, &ack.with("To", refusal.get("to").expect("To")).with("CSeq", "1 ACK"));
    Err(refusal)
}

#[test]
fn out_of_open_files_new_calls_get_503_and_those_that_are_up_go_on_until_there_is_room_again() {
    let (mut carrier, pbx) = (Peer::open(), Peer::open());
    let plan = Plan { carrier: carrier.at, pbx: pbx.at, open_files: Some(72), ..Plan::new() };
    let running = Running::start(&plan);
    let node = running.carrier_side;

    let mut up = Vec::new();
    let refusal = loop {
        match call(&mut carrier, &pbx, node) {
            Ok(call) => up.push(call),
            Err(refusal) => break refusal,
        }
        assert!(up.len() < 18, "72 open files cannot carry 18 calls");
    };
    assert!(!up.is_empty(), "{}", running.log());
    assert_eq!(refusal.status(), Some(503), "{}", refusal.start);
    assert!(refusal.get("retry-after").is_some_and(|seconds| seconds.parse::<u32>().is_ok()));
    // Again and again, without a call or a port lost to it.
    for _ in 0..3 {
        assert_eq!(call(&mut carrier, &pbx, node).err().and_then(|refusal| refusal.status()), Some(503));
    }
    // The calls that are up go on, and there is room for connections.
    let connections: Vec<_> = (0..4).map(|_| TcpStream::connect(node).expect("a connection")).collect();
    for call in &mut up {
        let options = carrier.within("OPTIONS", call);
        carrier.send(node, &options);
        assert_eq!(carrier.outcome(&options).status(), Some(200));
    }
    drop(connections);
    let log = running.log();
    assert!(log.contains("no open files to spare") && !log.contains("panicked"), "{log}");

    // One ends; when its ports have rested, another finds room.
    let before = up.len();
    let mut gone = up.pop().expect("a call");
    let bye = carrier.within("BYE", &mut gone);
    carrier.send(node, &bye);
    assert_eq!(carrier.outcome(&bye).status(), Some(200));
    let (bye, from) = pbx.next("BYE");
    pbx.send(from, &ok(&bye, pbx.at));
    std::thread::sleep(Duration::from_millis(2_500));
    up.push(call(&mut carrier, &pbx, node).unwrap_or_else(|refusal| panic!("still {}", refusal.start)));
    assert_eq!(up.len(), before);
    common::say(&format!("72 open files carry {before} calls beside 16 to spare"));
}
