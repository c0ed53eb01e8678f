//! The size rule of RFC 3261 section 18.1.1.

use super::*;
use crate::config::ListenerId;

fn bench() -> Bench {
    Bench::with(EndpointConfig { large_by_tcp: vec![ListenerId(0)], ..EndpointConfig::default() })
}

fn large(method: Method) -> Request {
    let mut request = ours(method);
    request.set_body("application/sdp", vec![b'x'; 1300]);
    request
}

fn transports(bench: &mut Bench) -> Vec<(Transport, String)> {
    let sent = std::iter::from_fn(|| bench.endpoint.poll_transmit());
    sent.map(|t| (t.flow.transport, String::from_utf8(t.bytes.to_vec()).expect("text"))).collect()
}

fn tcp() -> Dest {
    Dest { transport: Transport::Tcp, ..dest() }
}

#[test]
fn a_large_request_goes_by_tcp_and_its_kin_with_it() {
    let mut bench = bench();
    let id = bench.endpoint.request(bench.now, large(Method::Invite), dest(), us());
    let sent = transports(&mut bench);
    assert_eq!((sent.len(), sent[0].0), (1, Transport::Tcp));
    assert!(sent[0].1.contains("\r\nVia: SIP/2.0/TCP "), "{}", sent[0].1);
    let invite = sent[0].1.clone();
    bench.take(&response(&invite, 180, "b1"));
    bench.endpoint.cancel(bench.now, id, &[]);
    let cancel = transports(&mut bench);
    assert!(cancel[0].0 == Transport::Tcp && cancel[0].1.starts_with("CANCEL "));
    bench.pass(Duration::from_secs(1));
    assert!(transports(&mut bench).is_empty(), "nothing is repeated over TCP");
}

#[test]
fn without_a_connection_it_goes_by_udp_as_the_same_transaction() {
    let mut bench = bench();
    bench.endpoint.request(bench.now, large(Method::Invite), dest(), us());
    let first = transports(&mut bench).remove(0).1;
    bench.endpoint.handle_flow_failed(bench.now, &tcp());
    bench.no_event();
    let (transport, again) = transports(&mut bench).remove(0);
    assert_eq!(transport, Transport::Udp);
    assert_eq!(first.replacen("/TCP ", "/UDP ", 1), again, "all but the Via's transport is the same");
    bench.pass(Duration::from_millis(500));
    assert_eq!(transports(&mut bench).len(), 1, "and is repeated as UDP asks");
    bench.take(&response(&again, 486, "b1"));
    let ack = transports(&mut bench).remove(0);
    assert!(ack.0 == Transport::Udp && ack.1.contains("Via: SIP/2.0/UDP "), "{}", ack.1);
    // The peer is not bothered with TCP again, for a while.
    bench.endpoint.request(bench.now, large(Method::Info), dest(), us());
    assert_eq!(transports(&mut bench)[0].0, Transport::Udp);
    bench.now += Duration::from_secs(600);
    bench.endpoint.request(bench.now, large(Method::Info), dest(), us());
    assert_eq!(transports(&mut bench)[0].0, Transport::Tcp);
}

#[test]
fn a_connection_lost_after_an_answer_sends_nothing_again() {
    let mut bench = bench();
    let id = bench.endpoint.request(bench.now, large(Method::Invite), dest(), us());
    let invite = transports(&mut bench).remove(0).1;
    bench.take(&response(&invite, 100, ""));
    let _ = bench.response_event();
    bench.endpoint.handle_flow_failed(bench.now, &tcp());
    assert!(transports(&mut bench).is_empty());
    bench.no_event();
    // The peer has it, and may answer over a connection of its own.
    bench.take(&response(&invite, 486, "b1"));
    assert_eq!(bench.response_event().0, id);
}

#[test]
fn the_rule_holds_only_where_the_listener_says_so() {
    let mut bench = Bench::new();
    bench.endpoint.request(bench.now, large(Method::Invite), dest(), us());
    assert_eq!(transports(&mut bench)[0].0, Transport::Udp);
}
