//! Requests of peers.

use super::*;

const BRANCH: &str = "z9hG4bKpeer1";

#[test]
fn a_storm_of_one_invite_is_one_transaction() {
    let mut bench = Bench::new();
    for _ in 0..1000 {
        bench.take(&request("INVITE", BRANCH, None));
    }
    let (id, invite) = bench.request_event();
    bench.no_event();
    assert!(bench.sent().is_empty() && bench.endpoint.transactions() == 1);
    let ringing = Response::for_request(&invite, 180, "");
    assert!(bench.endpoint.respond(bench.now, id, ringing));
    bench.take(&request("INVITE", BRANCH, None));
    assert_eq!(bench.sent_lines(), ["SIP/2.0 180 Ringing", "SIP/2.0 180 Ringing"]);
}

#[test]
fn trying_goes_out_after_200_ms_and_never_after_an_answer() {
    let mut bench = Bench::new();
    bench.take(&request("INVITE", BRANCH, None));
    bench.pass(Duration::from_millis(199));
    assert!(bench.sent().is_empty());
    bench.pass(Duration::from_millis(1));
    assert_eq!(bench.sent_lines(), ["SIP/2.0 100 Trying"]);
    let (id, invite) = bench.request_event();
    bench.endpoint.respond(bench.now, id, Response::for_request(&invite, 486, ""));
    let sent = bench.sent();
    assert!(sent[0].starts_with("SIP/2.0 486 Busy Here\r\n"), "{sent:?}");
    let to = sent[0].lines().find(|l| l.starts_with("To:")).expect("a To");
    assert!(to.contains(";tag="), "the endpoint adds the tag: {to}");
}

#[test]
fn a_refused_invite_ends_with_its_ack() {
    let mut bench = Bench::new();
    bench.take(&request("INVITE", BRANCH, None));
    let (id, invite) = bench.request_event();
    assert!(bench.endpoint.respond(bench.now, id, Response::for_request(&invite, 486, "")));
    assert!(!bench.endpoint.respond(bench.now, id, Response::for_request(&invite, 200, "")));
    bench.pass(Duration::from_millis(600));
    assert_eq!(bench.sent_lines().len(), 2, "sent and sent again");
    bench.take(&request("ACK", BRANCH, Some("any")));
    bench.pass(Duration::from_secs(4));
    assert!(bench.sent().is_empty());
    bench.pass(Duration::from_secs(2));
    bench.no_event();
    assert_eq!(bench.endpoint.transactions(), 0);
}

#[test]
fn a_lost_ack_for_a_failure_is_told_after_32_s() {
    let mut bench = Bench::new();
    bench.take(&request("INVITE", BRANCH, None));
    let (id, invite) = bench.request_event();
    bench.endpoint.respond(bench.now, id, Response::for_request(&invite, 486, ""));
    bench.pass(Duration::from_secs(32));
    assert!(matches!(bench.event(), Event::ServerTimeout { id: told } if told == id));
    assert_eq!(bench.endpoint.transactions(), 0);
}

#[test]
fn a_2xx_is_resent_until_the_ack_of_its_dialog_which_is_told_once() {
    let mut bench = Bench::new();
    bench.take(&request("INVITE", BRANCH, None));
    let (id, invite) = bench.request_event();
    let mut ok = Response::for_request(&invite, 200, "");
    ok.set_to_tag("b2");
    bench.endpoint.respond(bench.now, id, ok);
    bench.pass(Duration::from_secs(4));
    assert_eq!(bench.sent_lines(), vec!["SIP/2.0 200 OK"; 4], "at 0, 0.5, 1.5 and 3.5 s");
    bench.take(&request("ACK", "z9hG4bKother", Some("nobody")));
    bench.no_event();
    for branch in ["z9hG4bKack1", "z9hG4bKack1", "z9hG4bKack2"] {
        bench.take(&request("ACK", branch, Some("b2")));
    }
    assert!(matches!(bench.event(), Event::Ack { invite, .. } if invite == id));
    bench.no_event();
    bench.take(&request("INVITE", BRANCH, None));
    bench.pass(Duration::from_secs(40));
    bench.no_event();
    assert!(bench.sent().is_empty());
    assert_eq!(bench.endpoint.transactions(), 0);
    bench.take(&request("ACK", "z9hG4bKack1", Some("b2")));
    bench.no_event();
}

#[test]
fn a_2xx_never_acknowledged_is_told_after_32_s() {
    let mut bench = Bench::new();
    bench.take(&request("INVITE", BRANCH, None));
    let (id, invite) = bench.request_event();
    bench.endpoint.respond(bench.now, id, Response::for_request(&invite, 200, ""));
    bench.pass(Duration::from_secs(32));
    assert!(matches!(bench.event(), Event::ServerTimeout { id: told } if told == id));
    assert_eq!(bench.sent_lines().len(), 11);
}

#[test]
fn a_cancel_is_answered_and_told_while_the_invite_waits() {
    let mut bench = Bench::new();
    bench.take(&request("INVITE", BRANCH, None));
    let (id, invite) = bench.request_event();
    bench.take(&request("CANCEL", BRANCH, None));
    bench.take(&request("CANCEL", BRANCH, None));
    assert_eq!(bench.sent_lines(), vec!["SIP/2.0 200 OK"; 2], "the repeat gets the same answer");
    assert!(matches!(bench.event(), Event::Cancelled { invite, .. } if invite == id));
    bench.no_event();
    assert!(bench.endpoint.respond(bench.now, id, Response::for_request(&invite, 487, "")));
    assert_eq!(bench.sent_lines(), ["SIP/2.0 487 Request Terminated"]);
}

#[test]
fn a_cancel_after_the_answer_changes_nothing() {
    let mut bench = Bench::new();
    bench.take(&request("INVITE", BRANCH, None));
    let (id, invite) = bench.request_event();
    bench.endpoint.respond(bench.now, id, Response::for_request(&invite, 200, ""));
    bench.sent();
    bench.take(&request("CANCEL", BRANCH, None));
    assert_eq!(bench.sent_lines(), ["SIP/2.0 200 OK"]);
    bench.no_event();
}

#[test]
fn a_cancel_of_nothing_gets_481_without_a_transaction() {
    let mut bench = Bench::new();
    bench.take(&request("CANCEL", BRANCH, None));
    assert_eq!(bench.sent_lines(), ["SIP/2.0 481 Call/Transaction Does Not Exist"]);
    assert_eq!(bench.endpoint.transactions(), 0);
}

#[test]
fn a_request_that_comes_two_ways_is_merged() {
    let mut bench = Bench::new();
    bench.take(&request("INVITE", BRANCH, None));
    bench.request_event();
    bench.take(&request("INVITE", "z9hG4bKfork2", None));
    bench.no_event();
    assert_eq!(bench.sent_lines(), ["SIP/2.0 482 Loop Detected"]);
    bench.take(&request("INVITE", "z9hG4bKin-dialog", Some("b2")));
    bench.request_event();
}

#[test]
fn peers_of_rfc_2543_are_matched_without_a_branch() {
    let mut bench = Bench::new();
    let old = |method: &str, tag: Option<&str>| request(method, BRANCH, tag).replace(";branch=z9hG4bKpeer1", "");
    bench.take(&old("INVITE", None));
    bench.take(&old("INVITE", None));
    let (id, invite) = bench.request_event();
    bench.no_event();
    bench.take(&old("CANCEL", None));
    assert!(matches!(bench.event(), Event::Cancelled { .. }));
    bench.endpoint.respond(bench.now, id, Response::for_request(&invite, 487, ""));
    bench.sent();
    bench.take(&old("ACK", Some("ours")));
    bench.pass(Duration::from_secs(4));
    assert!(bench.sent().is_empty(), "the ACK stopped the 487");
}

#[test]
fn answers_go_to_the_packets_source_whatever_via_claims() {
    let mut bench = Bench::new();
    let forged = request("OPTIONS", BRANCH, None)
        .replace("198.51.100.9:5070;branch", "203.0.113.66:9;received=203.0.113.77;maddr=224.0.1.75;branch");
    bench.take(&forged);
    let (id, options) = bench.request_event();
    bench.endpoint.respond(bench.now, id, Response::for_request(&options, 200, ""));
    let transmit = bench.endpoint.poll_transmit().expect("an answer");
    assert_eq!(transmit.flow, flow().back());
    let text = String::from_utf8_lossy(&transmit.bytes).into_owned();
    assert!(text.contains(";rport=5070;received=198.51.100.9\r\n"), "{text}");
    assert!(!text.contains("203.0.113.77"), "{text}");
}

#[test]
fn a_peer_without_rport_may_be_answered_at_its_via_port_but_only_at_its_address() {
    let mut bench = Bench::with(EndpointConfig { symmetric_replies: false, ..EndpointConfig::default() });
    let message =
        request("OPTIONS", BRANCH, None).replace(";rport", "").replace("198.51.100.9:5070;", "gw.example.com:5062;");
    bench.take(&message);
    let (id, options) = bench.request_event();
    bench.endpoint.respond(bench.now, id, Response::for_request(&options, 200, ""));
    let transmit = bench.endpoint.poll_transmit().expect("an answer");
    assert_eq!(transmit.flow.remote, addr("198.51.100.9:5062"));
}

#[test]
fn past_the_limit_new_requests_get_503_and_dialogs_can_still_end() {
    let mut bench = Bench::with(EndpointConfig { max_transactions: 4, ..EndpointConfig::default() });
    for n in 0..6 {
        let message = request("INVITE", &format!("z9hG4bKn{n}"), None).replace("c1@", &format!("c{n}@"));
        bench.take(&message);
    }
    let sent = bench.sent();
    assert_eq!(sent.len(), 2);
    assert!(sent[0].starts_with("SIP/2.0 503 ") && sent[0].contains("\r\nRetry-After: 5\r\n"), "{}", sent[0]);
    assert_eq!(bench.endpoint.transactions(), 4);
    bench.take(&request("BYE", "z9hG4bKbye", Some("b2")));
    assert_eq!(bench.endpoint.transactions(), 5);
    assert!(bench.sent().is_empty());
}

#[test]
fn max_forwards_used_up_gets_483_and_options_an_answer() {
    let mut bench = Bench::new();
    let spent = |method: &str, tag| request(method, BRANCH, tag).replace("Max-Forwards: 70", "Max-Forwards: 0");
    bench.take(&spent("INVITE", None));
    assert_eq!(bench.sent_lines(), ["SIP/2.0 483 Too Many Hops"]);
    bench.take(&spent("OPTIONS", None));
    bench.take(&spent("BYE", Some("b2")));
    bench.request_event();
    bench.request_event();
}

#[test]
fn a_rejected_request_leaves_nothing_behind() {
    let mut bench = Bench::new();
    bench.take(&request("INVITE", BRANCH, None));
    let (id, invite) = bench.request_event();
    assert!(bench.endpoint.reject(bench.now, id, Response::for_request(&invite, 404, "")));
    assert_eq!(bench.endpoint.transactions(), 0);
    assert!(!bench.endpoint.respond(bench.now, id, Response::for_request(&invite, 200, "")));
    bench.take(&request("ACK", BRANCH, Some("x")));
    bench.no_event();
    assert_eq!(bench.sent_lines(), ["SIP/2.0 404 Not Found"]);
    bench.take(&request("INVITE", BRANCH, None));
    bench.request_event();
}

#[test]
fn over_tcp_answers_go_back_on_the_connection() {
    let mut bench = Bench::new();
    bench.take_from(&flow_over(Transport::Tcp), &request("BYE", BRANCH, Some("b2")));
    let (id, bye) = bench.request_event();
    bench.endpoint.respond(bench.now, id, Response::for_request(&bye, 481, ""));
    assert_eq!(bench.endpoint.poll_transmit().map(|t| t.flow.connection), Some(Some(7)));
    assert_eq!(bench.endpoint.transactions(), 0, "no timer J on a reliable transport");
}

#[test]
fn a_broken_stream_is_answered_before_it_is_closed() {
    let mut bench = Bench::new();
    let mut framer = msg::Framer::new();
    framer.push(request("OPTIONS", BRANCH, None).replace("Content-Length: 0", "Content-Length: 70000").as_bytes());
    let error = framer.next_frame().expect("an error").expect_err("an error");
    bench.endpoint.handle_frame_error(&flow_over(Transport::Tcp), error);
    assert_eq!(bench.sent_lines(), ["SIP/2.0 513 Message Too Large"]);
    assert!(matches!(bench.event(), Event::Malformed { error, .. } if error.status == 513));
}

#[test]
fn keep_alives_and_malformed_responses_are_met_with_silence() {
    let mut bench = Bench::new();
    for message in ["", "\r\n\r\n", "\0\0\0\0"] {
        bench.take(message);
        bench.no_event();
    }
    bench.take("SIP/2.0 200 OK\r\n\r\n");
    assert!(matches!(bench.event(), Event::Malformed { error, .. } if !error.answerable()));
    bench.take(&request("ACK", BRANCH, None).replace("CSeq: 7 ACK", "CSeq: x"));
    assert!(bench.sent().is_empty());
}

#[test]
fn a_user_that_never_answers_leaks_nothing_but_its_invites() {
    let mut bench = Bench::new();
    bench.take(&request("OPTIONS", BRANCH, None));
    bench.pass(Duration::from_secs(33));
    assert_eq!(bench.endpoint.transactions(), 0);
}

#[test]
fn no_changed_byte_upsets_an_endpoint_or_is_amplified() {
    for (method, tag) in [("INVITE", None), ("CANCEL", None), ("ACK", Some("b2")), ("BYE", Some("b2"))] {
        let text = request(method, BRANCH, tag);
        for at in 0..text.len() {
            for b in [0, b'\r', b'\n', b' ', b':', b';', b',', b'"', b'<', b'\\', b'9', b'z', 0x80, 0xff] {
                let mut bench = Bench::new();
                bench.take(&request("INVITE", BRANCH, None));
                bench.request_event();
                let mut bytes = text.clone().into_bytes();
                bytes[at] = b;
                bench.endpoint.handle_datagram(bench.now, &flow(), &bytes);
                while let Some(transmit) = bench.endpoint.poll_transmit() {
                    assert_eq!(transmit.flow, flow().back());
                    assert!(transmit.bytes.len() <= 3 * bytes.len(), "{method}, byte {at} changed to {b}");
                }
            }
        }
    }
}

#[test]
fn a_small_malformed_request_gets_no_larger_answer_than_three_times_itself() {
    let mut bench = Bench::with(EndpointConfig { user_agent: "x".repeat(500), ..EndpointConfig::default() });
    for message in ["A B C\r\nv:SIP/2.0/UDP a\r\n\r\n", "A\r\nv:x\r\n\r\n", "INVITE sip:a SIP/2.0\r\nv:\r\n\r\n"] {
        bench.take(message);
        assert!(bench.sent().iter().all(|answer| answer.len() <= 3 * message.len()), "{message:?}");
    }
}
