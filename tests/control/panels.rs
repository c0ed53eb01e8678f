//! Panel tokens over HTTP: good for one call and its payments, until they are taken back or their key is.

use super::*;

fn open(node: &Node, body: &Value) -> String {
    let call = ids().call;
    let shown = node.json("POST", &format!("/v1/calls/{call}/panel"), Role::Integration, body);
    assert_eq!(shown.status, 201, "{}", shown.text);
    let shown = shown.json();
    let url = shown["url"].as_str().expect("an address");
    let (page, given) = url.split_once('#').expect("a fragment, which is sent to nobody");
    assert_eq!(page, "/panel");
    assert!(given.contains(&format!("call={call}")), "{given}");
    given.split('&').find_map(|pair| pair.strip_prefix("token=")).expect("a token").to_owned()
}

#[test]
fn a_panel_sees_and_steers_its_call_and_nothing_else() {
    let node = Node::start(agreeable);
    let call = ids().call;
    let token = open(&node, &json!({}));
    let own = |path: &str| format!("/v1/calls/{call}{path}");
    let body = json!({"capture": "security-code"}).to_string();
    let send = |method, path: &str| {
        let body = (method == "POST").then_some(("application/json", body.as_bytes()));
        node.send(method, path, Some(&token), body)
    };
    assert_eq!(send("GET", &own("")).status, 200);
    assert_eq!(send("GET", &own("/payments")).status, 200);
    let payment = payments::view().id;
    assert_eq!(send("POST", &own(&format!("/payments/{payment}"))).status, 200);
    for (method, path) in [
        ("GET", "/v1/calls".to_owned()),
        ("GET", "/v1/me".to_owned()),
        ("GET", "/v1/trunks".to_owned()),
        ("GET", "/v1/events".to_owned()),
        ("POST", "/v1/tickets".to_owned()),
        ("DELETE", own("")),
        ("POST", own("/holds")),
        ("POST", own("/panel")),
        ("POST", own("/payments")),
        ("GET", format!("/v1/calls/{}", CallId::draw(&mut Random::seed_from_u64(99)))),
    ] {
        send(method, &path).problem(403, "forbidden");
    }
    let other = open(&node, &json!({"may_begin": true}));
    let begun = json!({"charge_amount": "10.50"}).to_string();
    let begun = node.send("POST", &own("/payments"), Some(&other), Some(("application/json", begun.as_bytes())));
    assert_eq!(begun.status, 201, "{}", begun.text);
    assert_eq!(node.send("DELETE", &own("/panel"), Some(&key_of(Role::Integration)), None).status, 204);
    send("GET", &own("")).problem(401, "unauthenticated");
}

#[test]
fn a_panel_lasts_as_long_as_was_asked_and_no_longer_than_its_key() {
    let node = Node::start(agreeable);
    let path = format!("/v1/calls/{}", ids().call);
    for wrong in [json!({"ttl_s": 0}), json!({"ttl_s": 3_601}), json!({"ttl": 5}), json!({"may_begin": 1})] {
        node.json("POST", &format!("{path}/panel"), Role::Integration, &wrong).problem(422, "invalid-request");
    }
    node.json("POST", &format!("{path}/panel"), Role::Auditor, &json!({})).problem(403, "forbidden");
    let token = open(&node, &json!({"ttl_s": 60}));
    assert_eq!(node.send("GET", &path, Some(&token), None).status, 200);
    node.access.set_keys(keys().into_iter().filter(|key| key.role != Role::Integration).collect());
    node.send("GET", &path, Some(&token), None).problem(401, "unauthenticated");
    // What looks like a token and is none.
    for wrong in ["pnl_", "pnl_00", &format!("{token}0")] {
        node.send("GET", &path, Some(wrong), None).problem(401, "unauthenticated");
    }
}
