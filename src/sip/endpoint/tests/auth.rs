//! Requests that go again with credentials, as their user sees them.

use super::*;
use crate::config::{ListenerId, TrunkId};
use crate::sip::digest::Credential;

const CARRIER: TrunkId = TrunkId(3);

fn bench() -> Bench {
    let credential = Credential { user: "tw".into(), secret: zeroize::Zeroizing::new("open sesame".into()) };
    let login = Login { credential, realm: "carrier".into() };
    let logins = [(CARRIER, login)].into_iter().collect();
    Bench::with(EndpointConfig { logins, ..EndpointConfig::default() })
}

fn carrier() -> Dest {
    Dest { trunk: Some(CARRIER), ..dest() }
}

fn challenge(sent: &str, realm: &str) -> String {
    let refusal = response(sent, 401, "b1");
    let header = format!("\r\nWWW-Authenticate: Digest realm=\"{realm}\", nonce=\"n\", qop=\"auth\"\r\n");
    refusal.replacen("\r\n", &header, 1)
}

fn cseq(message: &str) -> u32 {
    let line = message.lines().find_map(|line| line.strip_prefix("CSeq: ")).expect("CSeq");
    line.split(' ').next().and_then(|number| number.parse().ok()).expect("a number")
}

#[test]
fn the_user_counts_its_own_requests_only() {
    let mut bench = bench();
    let id = bench.endpoint.request(bench.now, ours(Method::Invite), carrier(), us());
    let first = bench.sent().remove(0);
    bench.take(&challenge(&first, "carrier"));
    bench.no_event();
    let sent = bench.sent();
    assert!(sent[0].starts_with("ACK ") && sent[1].starts_with("INVITE "));
    assert_eq!((cseq(&first), cseq(&sent[1])), (1, 2));
    bench.take(&response(&sent[1], 200, "b2"));
    let (told, ok) = bench.response_event();
    assert_eq!((told, ok.cseq().expect("CSeq").number), (id, 1), "what comes back is what was asked");
    let mut ack = ours(Method::Ack);
    ack.headers.set(HeaderName::To, "<sip:bob@example.com>;tag=b2");
    bench.endpoint.ack_2xx(bench.now, id, ack, carrier(), us());
    let ack = bench.sent().remove(0);
    assert!(cseq(&ack) == 2 && ack.contains("\r\nAuthorization: Digest "), "{ack}");
    // The next request of the call goes on behind the repetition.
    let mut bye = ours(Method::Bye);
    bye.headers.set(HeaderName::CSeq, "2 BYE");
    bench.endpoint.request(bench.now, bye, carrier(), us());
    assert_eq!(cseq(&bench.sent()[0]), 3);
}

#[test]
fn no_other_realm_trunk_or_source_gets_an_answer() {
    let mut bench = bench();
    for (dest, realm, elsewhere) in
        [(carrier(), "evil", false), (dest(), "carrier", false), (carrier(), "carrier", true)]
    {
        bench.endpoint.request(bench.now, ours(Method::Bye), dest, us());
        let sent = bench.sent().remove(0);
        let mut flow = flow();
        if elsewhere {
            flow.remote = addr("203.0.113.66:5060");
        }
        bench.take_from(&flow, &challenge(&sent, realm));
        assert!(bench.sent().is_empty(), "{realm}");
        assert_eq!(bench.response_event().1.status, 401);
    }
    assert_eq!(carrier().listener, ListenerId(0));
}

#[test]
fn repetitions_are_forgotten_some_time_after_the_call() {
    let mut bench = bench();
    for call in 0..200 {
        let mut invite = ours(Method::Invite);
        let call_id = format!("call{call}@192.0.2.250");
        invite.headers.set(HeaderName::CallId, &call_id);
        bench.endpoint.request(bench.now, invite, carrier(), us());
        let first = bench.sent().remove(0);
        bench.take(&challenge(&first, "carrier"));
        let second = bench.sent().remove(1);
        bench.take(&response(&second, 486, "b1"));
        let _ = (bench.sent(), bench.response_event());
        bench.endpoint.forget_call(bench.now, &call_id);
        bench.pass(Duration::from_secs(2));
    }
    assert!(bench.endpoint.shifts.len() < 130, "{}", bench.endpoint.shifts.len());
}
