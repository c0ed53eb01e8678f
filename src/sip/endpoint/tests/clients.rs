//! Requests of ours.

use super::*;

fn start(bench: &mut Bench, method: Method) -> (ClientId, String) {
    let id = bench.endpoint.request(bench.now, ours(method), dest(), us());
    (id, bench.sent().pop().expect("the request"))
}

fn header<'a>(message: &'a str, name: &str) -> Vec<&'a str> {
    message.lines().filter_map(|l| l.strip_prefix(name)?.strip_prefix(": ")).collect()
}

#[test]
fn a_request_gets_what_every_request_has() {
    let mut bench = Bench::with(EndpointConfig { user_agent: "Tonewall".into(), ..EndpointConfig::default() });
    let (_, invite) = start(&mut bench, Method::Invite);
    let lines: Vec<&str> = invite.lines().collect();
    assert_eq!(lines[0], "INVITE sip:bob@198.51.100.9:5070 SIP/2.0");
    assert!(lines[1].starts_with("Via: SIP/2.0/UDP 192.0.2.250:5060;rport;branch=z9hG4bK"), "{}", lines[1]);
    assert_eq!(header(&invite, "Max-Forwards"), ["70"]);
    assert_eq!(header(&invite, "User-Agent"), ["Tonewall"]);
    assert_eq!(header(&invite, "Content-Length"), ["0"]);
}

#[test]
fn an_unanswered_invite_is_resent_and_then_told() {
    let mut bench = Bench::new();
    let (id, _) = start(&mut bench, Method::Invite);
    bench.pass(Duration::from_secs(32));
    assert_eq!(bench.sent().len(), 6);
    assert!(matches!(bench.event(), Event::ClientTimeout { id: told } if told == id));
    assert_eq!(bench.endpoint.transactions(), 0);
}

#[test]
fn a_failure_is_acknowledged_by_the_transaction_and_told_once() {
    let mut bench = Bench::new();
    let (id, invite) = start(&mut bench, Method::Invite);
    bench.take(&response(&invite, 100, ""));
    bench.take(&response(&invite, 100, ""));
    for _ in 0..3 {
        bench.take(&response(&invite, 486, "b1"));
    }
    assert_eq!(bench.response_event().1.status, 100);
    let (told, busy) = bench.response_event();
    assert_eq!((told, busy.status), (id, 486));
    bench.no_event();
    let acks = bench.sent();
    assert_eq!(acks.len(), 3);
    let ack = &acks[0];
    assert!(ack.starts_with("ACK sip:bob@198.51.100.9:5070 SIP/2.0\r\n"), "{ack}");
    assert_eq!(header(ack, "Via"), header(&invite, "Via"), "the INVITE's branch");
    assert_eq!(header(ack, "To"), ["<sip:bob@example.com>;tag=b1"]);
    assert_eq!(header(ack, "CSeq"), ["1 ACK"]);
    bench.pass(Duration::from_secs(33));
    assert_eq!(bench.endpoint.transactions(), 0);
}

#[test]
fn a_2xx_is_told_once_per_fork_and_its_repeats_get_the_ack_again() {
    let mut bench = Bench::new();
    let (id, invite) = start(&mut bench, Method::Invite);
    bench.take(&response(&invite, 200, "b1"));
    bench.take(&response(&invite, 200, "b1"));
    let (told, ok) = bench.response_event();
    assert_eq!((told, ok.to_tag()), (id, Some("b1")));
    bench.no_event();
    assert!(bench.sent().is_empty(), "no ACK before the user gave one");
    let dialog = crate::sip::Dialog::uac(&parse(&invite), &ok).expect("a dialog");
    bench.endpoint.ack_2xx(bench.now, id, dialog.ack(1), dest(), us());
    bench.take(&response(&invite, 200, "b1"));
    let acks = bench.sent();
    assert_eq!(acks.len(), 2);
    assert_eq!(acks[0], acks[1]);
    assert!(header(&acks[0], "Via") != header(&invite, "Via"), "a branch of its own");
    bench.take(&response(&invite, 200, "b2"));
    assert_eq!(bench.response_event().1.to_tag(), Some("b2"), "another fork answered too");
    bench.pass(Duration::from_secs(33));
    assert_eq!(bench.endpoint.transactions(), 0);
    bench.take(&response(&invite, 200, "b1"));
    bench.no_event();
}

fn parse(text: &str) -> Request {
    match msg::parse_datagram(text.as_bytes()) {
        Ok(Message::Request(request)) => request,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_cancel_waits_for_the_first_provisional() {
    let mut bench = Bench::new();
    let (id, invite) = start(&mut bench, Method::Invite);
    bench.endpoint.cancel(bench.now, id, &[(HeaderName::Reason, "SIP;cause=200")]);
    assert!(bench.sent().is_empty());
    bench.take(&response(&invite, 100, ""));
    let sent = bench.sent();
    let cancel = &sent[0];
    assert!(cancel.starts_with("CANCEL sip:bob@198.51.100.9:5070 SIP/2.0\r\n"), "{cancel}");
    assert_eq!(header(cancel, "Via"), header(&invite, "Via"));
    assert_eq!(header(cancel, "CSeq"), ["1 CANCEL"]);
    assert_eq!(header(cancel, "Reason"), ["SIP;cause=200"]);
    assert_eq!(bench.response_event().1.status, 100);
    bench.take(&response(cancel, 200, "b1"));
    bench.no_event();
    bench.take(&response(&invite, 487, "b1"));
    assert_eq!(bench.response_event().1.status, 487);
    bench.pass(Duration::from_secs(33));
    assert_eq!(bench.endpoint.transactions(), 0);
}

#[test]
fn a_cancel_that_crosses_the_answer_is_never_sent() {
    let mut bench = Bench::new();
    let (id, invite) = start(&mut bench, Method::Invite);
    bench.endpoint.cancel(bench.now, id, &[]);
    bench.take(&response(&invite, 200, "b1"));
    assert_eq!(bench.response_event().1.status, 200);
    assert!(bench.sent().is_empty());
    bench.endpoint.cancel(bench.now, id, &[]);
    assert!(bench.sent().is_empty());
}

#[test]
fn a_peer_that_ignores_cancel_is_given_up() {
    let mut bench = Bench::new();
    let (id, invite) = start(&mut bench, Method::Invite);
    bench.take(&response(&invite, 180, "b1"));
    bench.response_event();
    bench.endpoint.cancel(bench.now, id, &[]);
    bench.endpoint.cancel(bench.now, id, &[]);
    bench.pass(Duration::from_secs(33));
    assert_eq!(bench.sent_lines().len(), 11, "one CANCEL, resent as any request");
    assert!(matches!(bench.event(), Event::ClientTimeout { id: told } if told == id));
    bench.no_event();
    assert_eq!(bench.endpoint.transactions(), 0);
}

#[test]
fn a_bye_is_answered_once() {
    let mut bench = Bench::new();
    let (id, bye) = start(&mut bench, Method::Bye);
    bench.pass(Duration::from_millis(500));
    assert_eq!(bench.sent().len(), 1);
    bench.take(&response(&bye, 200, "b1"));
    bench.take(&response(&bye, 200, "b1"));
    assert_eq!(bench.response_event().0, id);
    bench.no_event();
    bench.pass(Duration::from_secs(6));
    assert_eq!(bench.endpoint.transactions(), 0);
}

#[test]
fn stray_and_forged_responses_are_dropped() {
    let mut bench = Bench::new();
    let (_, invite) = start(&mut bench, Method::Invite);
    let good = response(&invite, 200, "b1");
    let branch = header(&invite, "Via")[0].rsplit('=').next().expect("a branch");
    for forged in [
        good.replace(branch, "z9hG4bKunknown"),
        good.replace(branch, &format!("{}0", &branch[..branch.len() - 1])).replace("0\r\nFrom", "1\r\nFrom"),
        good.replace(branch, &"f".repeat(41)),
        good.replace("CSeq: 1 INVITE", "CSeq: 1 BYE"),
        good.replace("CSeq: 1 INVITE", "CSeq: 1 CANCEL"),
        good.replace("From:", "Via: SIP/2.0/UDP 203.0.113.1;branch=z9hG4bKx\r\nFrom:"),
    ] {
        if forged != good {
            bench.take(&forged);
            bench.no_event();
        }
    }
    assert!(bench.sent().is_empty());
    bench.take(&good);
    bench.response_event();
}

#[test]
fn a_refused_port_fails_the_requests_to_it_and_no_others() {
    let mut bench = Bench::new();
    let (first, _) = start(&mut bench, Method::Invite);
    let elsewhere = Dest { remote: addr("198.51.100.10:5070"), ..dest() };
    bench.endpoint.request(bench.now, ours(Method::Options), elsewhere, us());
    bench.endpoint.handle_flow_failed(bench.now, &dest());
    assert!(matches!(bench.event(), Event::TransportFailed { id } if id == first));
    bench.no_event();
    assert_eq!(bench.endpoint.transactions(), 1);
}

#[test]
fn a_closed_connection_fails_what_waits_on_it_or_on_any() {
    let mut bench = Bench::new();
    let over = |connection| Dest { transport: Transport::Tcp, connection, ..dest() };
    for connection in [None, Some(1), Some(2)] {
        bench.endpoint.request(bench.now, ours(Method::Options), over(connection), us());
    }
    bench.endpoint.handle_flow_failed(bench.now, &over(Some(2)));
    assert_eq!(bench.endpoint.transactions(), 1);
}
