//! What SIP costs: reading and writing a message, and a whole call's transactions.

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rand::SeedableRng;
use tonewall::base::Random;
use tonewall::config::{ListenerId, Transport};
use tonewall::sip::msg::{self, HeaderName, Message, Method, Request, Response};
use tonewall::sip::{ClientId, Dest, Dialog, Endpoint, EndpointConfig, Event, Flow, ServerId};

/// An INVITE of 22 headers and a body of usual size.
fn invite() -> Vec<u8> {
    let mut text = String::from(
        "INVITE sip:+12125551212@192.0.2.250:5060;user=phone SIP/2.0\r\n\
         Via: SIP/2.0/UDP 198.51.100.9:5060;branch=z9hG4bK776asdhds;rport\r\n\
         Via: SIP/2.0/UDP 203.0.113.9:5060;branch=z9hG4bKnashds8;received=203.0.113.10\r\n\
         Record-Route: <sip:198.51.100.9;lr;ftag=1928301774>\r\n\
         Max-Forwards: 69\r\n\
         From: \"Alice Caller\" <sip:+13035551111@carrier.example.com;user=phone>;tag=1928301774\r\n\
         To: <sip:+12125551212@tonewall.example.com;user=phone>\r\n\
         Call-ID: a84b4c76e66710-4711-0815@198.51.100.9\r\n\
         CSeq: 314159 INVITE\r\n\
         Contact: <sip:+13035551111@198.51.100.9:5060;transport=udp>\r\n\
         Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, UPDATE, PRACK, REFER, NOTIFY\r\n\
         Supported: timer, 100rel, replaces\r\n\
         Session-Expires: 1800;refresher=uac\r\n\
         Min-SE: 90\r\n\
         P-Asserted-Identity: \"Alice Caller\" <sip:+13035551111@carrier.example.com>\r\n\
         Privacy: none\r\n\
         User-Agent: Carrier SBC 12.3\r\n\
         Date: Sat, 15 Oct 2005 04:44:56 GMT\r\n\
         X-Call-Ref: 0123456789abcdef\r\n\
         Accept: application/sdp\r\n\
         Content-Type: application/sdp\r\n",
    );
    let body = "v=0\r\no=- 20518 0 IN IP4 203.0.113.1\r\ns=-\r\nc=IN IP4 203.0.113.1\r\nt=0 0\r\n\
        m=audio 54400 RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n\
        a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\na=sendrecv\r\n";
    text.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    text.into_bytes()
}

fn messages(c: &mut Criterion) {
    let bytes = Bytes::from(invite());
    let mut group = c.benchmark_group("message");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("parse", |b| b.iter(|| msg::parse_bytes(black_box(bytes.clone()))));
    let Ok(Message::Request(request)) = msg::parse_bytes(bytes.clone()) else { panic!("a request") };
    group.bench_function("print", |b| b.iter(|| black_box(&request).to_bytes()));
    group.bench_function("answer", |b| {
        b.iter(|| {
            let mut response = Response::for_request(black_box(&request), 200, "");
            response.set_to_tag("314159");
            response.to_bytes()
        });
    });
    group.finish();
}

/// Two endpoints joined back to back; what one sends the other takes at once.
struct Pair {
    now: Instant,
    ends: [Endpoint; 2],
    flows: [Flow; 2],
}

impl Pair {
    #[allow(clippy::disallowed_methods)]
    fn new() -> Self {
        let address = |n: u8| ([192, 0, 2, n], 5060).into();
        let flow = |local, remote| Flow {
            listener: ListenerId(0),
            transport: Transport::Udp,
            local: address(local),
            remote: address(remote),
            connection: None,
            trunk: None,
        };
        let end = |seed| Endpoint::new(EndpointConfig::default(), Random::seed_from_u64(seed));
        Self { now: Instant::now(), ends: [end(1), end(2)], flows: [flow(1, 2), flow(2, 1)] }
    }

    /// Carries messages until both are quiet.
    fn carry(&mut self) {
        loop {
            let mut quiet = true;
            for from in 0..2 {
                while let Some(transmit) = self.ends[from].poll_transmit() {
                    quiet = false;
                    let to = 1 - from;
                    self.ends[to].handle_message(self.now, &self.flows[to], transmit.bytes);
                }
            }
            if quiet {
                return;
            }
        }
    }

    fn dest(&self, end: usize) -> Dest {
        self.flows[end].back()
    }

    fn send(&mut self, end: usize, request: Request) -> ClientId {
        let (dest, advertise) = (self.dest(end), self.flows[end].local);
        self.ends[end].request(self.now, request, dest, advertise)
    }

    fn taken(&mut self, end: usize) -> (ServerId, Request) {
        match self.ends[end].poll_event() {
            Some(Event::Request { id, request, .. }) => (id, request),
            other => panic!("{other:?}"),
        }
    }

    fn answered(&mut self, end: usize) -> Response {
        match self.ends[end].poll_event() {
            Some(Event::Response { response, .. }) => response,
            other => panic!("{other:?}"),
        }
    }

    /// INVITE, 200, ACK, BYE, 200 through both endpoints, then every timer.
    fn call(&mut self, number: u64) {
        let mut invite = Request::new(Method::Invite, "sip:bob@192.0.2.2");
        invite.headers.push(HeaderName::From, "<sip:alice@192.0.2.1>;tag=a1");
        invite.headers.push(HeaderName::To, "<sip:bob@192.0.2.2>");
        invite.headers.push(HeaderName::CallId, format!("{number}@192.0.2.1"));
        invite.headers.push(HeaderName::CSeq, "1 INVITE");
        invite.headers.push(HeaderName::Contact, "<sip:192.0.2.1>");
        let client = self.send(0, invite.clone());
        self.carry();
        let (server, taken) = self.taken(1);
        let mut ok = Response::for_request(&taken, 200, "");
        ok.set_to_tag("b1");
        ok.headers.push(HeaderName::Contact, "<sip:192.0.2.2>");
        self.ends[1].respond(self.now, server, ok);
        self.carry();
        let ok = self.answered(0);
        let mut dialog = Dialog::uac(&invite, &ok).expect("a dialog");
        let (dest, advertise) = (self.dest(0), self.flows[0].local);
        self.ends[0].ack_2xx(self.now, client, dialog.ack(1), dest, advertise);
        self.carry();
        assert!(matches!(self.ends[1].poll_event(), Some(Event::Ack { .. })));
        self.send(0, dialog.next_request(Method::Bye));
        self.carry();
        let (server, bye) = self.taken(1);
        self.ends[1].respond(self.now, server, Response::for_request(&bye, 200, ""));
        self.carry();
        assert_eq!(self.answered(0).status, 200);
        self.now += Duration::from_millis(1);
        for end in &mut self.ends {
            if end.poll_timeout().is_some_and(|at| at <= self.now) {
                end.handle_timeout(self.now);
            }
        }
    }
}

fn transactions(c: &mut Criterion) {
    let mut group = c.benchmark_group("transaction");
    group.throughput(Throughput::Elements(1));
    let mut pair = Pair::new();
    let mut number = 0;
    // One millisecond of virtual time a call: 1000 calls/s, so that 32 s of finished transactions stand behind.
    group.bench_function("call, both ends", |b| {
        b.iter(|| {
            number += 1;
            pair.call(number);
        });
    });
    group.finish();
}

criterion_group!(benches, messages, transactions);
criterion_main!(benches);
