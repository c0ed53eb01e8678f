//! What the API leaves in the audit log: PCI DSS 10.2.1 by rows.

use tonewall::audit::{Record, Verdict, Who};

use super::*;

/// Records since the last time, as the log would have them; a served request is noted after its answer has gone out.
fn noted(node: &Node, least: usize) -> Vec<Record> {
    let mut records = Vec::new();
    let begun = Instant::now();
    while records.len() < least && begun.elapsed() < Duration::from_secs(5) {
        records.extend(node.audited.take());
        std::thread::sleep(Duration::from_millis(2));
    }
    records
}

fn value(record: &Record) -> Value {
    serde_json::to_value(record).expect("JSON")
}

#[test]
fn every_request_of_an_administrator_leaves_an_entry_with_who_whence_what_and_result() {
    let node = Node::start(agreeable);
    for (method, route, _) in ENDPOINTS.iter().filter(|(_, route, _)| !route.contains("/recordings")) {
        let path = concrete(route);
        let body = body_for(method, route).map(|body| body.to_string());
        let body = body.as_ref().map(|body| ("application/json", body.as_bytes()));
        let status = if route.ends_with("events") {
            node.follow(&path, Some(&key_of(Role::Admin)), None).0
        } else {
            node.send(method, &path, Some(&key_of(Role::Admin)), body).status
        };
        let records = noted(&node, 1);
        assert_eq!(records.len(), 1, "{method} {route}: {records:?}");
        let entry = value(&records[0]);
        assert_eq!(entry["actor"], json!({"kind": "key", "name": "admin", "role": "admin"}), "{method} {route}");
        assert_eq!((&entry["origin"], &entry["status"]), (&json!("127.0.0.1"), &json!(status)), "{method} {route}");
        let names_call = entry["object"]["call"].as_str().is_some_and(|call| call.starts_with("call_"));
        assert_eq!(names_call, route.contains("{call}"), "{method} {route}: {entry}");
    }
}

#[test]
fn whoever_is_not_let_in_leaves_an_entry_and_not_what_they_tried_with() {
    let node = Node::start(agreeable);
    for key in [None, Some("4242424242424242"), Some("pnl_0123456789abcdef")] {
        assert_eq!(node.send("GET", "/v1/calls", key, None).status, 401);
        let records = noted(&node, 1);
        let entry = value(&records[0]);
        assert_eq!(entry["action"], "access-denied");
        assert_eq!((&entry["actor"]["kind"], &entry["result"]), (&json!("nobody"), &json!("refused")), "{entry}");
        assert!(!entry.to_string().contains("4242") && !entry.to_string().contains("pnl_"), "{entry}");
    }
    let path = concrete("/v1/calls/{call}");
    node.send("DELETE", &path, Some(&key_of(Role::Auditor)), None).problem(403, "forbidden");
    let records = noted(&node, 1);
    assert!(matches!(&records[0].actor, Who::Key { name, .. } if name.as_str() == "auditor"), "{records:?}");
    assert_eq!((records[0].outcome.result, records[0].outcome.status), (Verdict::Refused, Some(403)));
    assert_eq!(node.send("GET", "/v1/events?ticket=tkt_1", None, None).status, 401);
    assert_eq!(value(&noted(&node, 1)[0])["action"], "access-denied");
}

#[test]
fn looks_at_payments_panels_and_tickets_leave_entries_whoever_it_is() {
    let node = Node::start(agreeable);
    let agent = key_of(Role::Integration);
    let word = |method: &str, route: &str| {
        let body = body_for(method, route).map(|body| body.to_string());
        let body = body.as_ref().map(|body| ("application/json", body.as_bytes()));
        let answer = node.send(method, &concrete(route), Some(&agent), body);
        assert!(answer.status < 300, "{method} {route}: {}", answer.text);
        let records = noted(&node, 1);
        let token = answer.text.split("token=").nth(1).map(|rest| rest[..20].to_owned());
        let text = value(&records[0]).to_string();
        assert!(token.is_none_or(|token| !text.contains(&token)), "{text}");
        value(&records[0])["action"].as_str().expect("a word").to_owned()
    };
    assert_eq!(word("GET", "/v1/calls/{call}/payments"), "payments-viewed");
    assert_eq!(word("GET", "/v1/calls/{call}/payments/{payment}"), "payments-viewed");
    assert_eq!(word("POST", "/v1/calls/{call}/panel"), "panel-opened");
    assert_eq!(word("DELETE", "/v1/calls/{call}/panel"), "panels-closed");
    assert_eq!(word("POST", "/v1/tickets"), "ticket-drawn");
    assert_eq!(word("POST", "/v1/calls/{call}/holds"), "request");
    assert_eq!(node.get("/v1/calls", Role::Agent).status, 200);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(node.audited.take(), [], "looking at calls is not in the log");
}
