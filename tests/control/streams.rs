//! Events over WebSockets, and the dead letters of webhooks: the socket says what the stream says, resumes, and is cut
//! with its key; dead letters are listed, replayed and forgotten.

use std::net::TcpStream;

use tonewall::config::{SigningKey, Webhook, WebhookUrl};
use tonewall::control::webhooks::{Failure, Letter, Schedule};
use tonewall::obs::event::Event;
use tungstenite::client::IntoClientRequest;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Message, WebSocket};

use super::*;

/// The one dead letter of [`schedule`].
pub const DEAD: &str = "crm~evt_77.1";

/// One receiver, one dead letter.
pub fn schedule() -> Schedule {
    let hook = Webhook {
        name: "crm".into(),
        url: WebhookUrl { https: true, host: "crm.example".into(), port: 443, path: "/".into() },
        key: SigningKey::new(vec![1; 32]),
        former: None,
        events: vec!["*".into()],
        allow_private: false,
        ca: None,
    };
    let event = Event { seq: 1, at_ms: WallMs(1), call: None, kind: EventKind::CallAnswered };
    let letter = Letter {
        dead: true,
        tries: 9,
        last: Some(Failure::Status(500)),
        ..Letter::new("crm", "77.1", "call-answered", &event)
    };
    let mut schedule = Schedule::new(&[hook], Random::seed_from_u64(4));
    assert!(schedule.restore(Instant::now(), letter));
    schedule
}

pub fn socket(node: &Node, path: &str, key: Option<&str>) -> Result<WebSocket<TcpStream>, u16> {
    let stream = TcpStream::connect(node.address).expect("connected");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    let mut request = format!("ws://{}{path}", node.address).into_client_request().expect("a request");
    if let Some(key) = key {
        request.headers_mut().insert("authorization", format!("Bearer {key}").parse().expect("a header"));
    }
    match tungstenite::client(request, stream) {
        Ok((socket, _)) => Ok(socket),
        Err(tungstenite::HandshakeError::Failure(tungstenite::Error::Http(answer))) => Err(answer.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}

/// The next event, or the code the socket is closed with.
pub fn next(socket: &mut WebSocket<TcpStream>) -> Result<Value, CloseCode> {
    loop {
        match socket.read().expect("a message") {
            Message::Text(text) => return Ok(serde_json::from_str(&text).expect("JSON")),
            Message::Close(frame) => return Err(frame.expect("a code").code),
            Message::Ping(_) | Message::Pong(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

fn key_masked(node: &Node, count: u32) {
    node.history.publish(WallMs(1), Some(ids().call), EventKind::KeyMasked { count });
}

#[test]
fn a_socket_tells_what_the_stream_tells_and_resumes() {
    let node = Node::start(agreeable);
    let key = key_of(Role::Agent);
    let mut all = socket(&node, "/v1/events", Some(&key)).expect("open");
    let mut one = socket(&node, &format!("/v1/calls/{}/events", ids().call), Some(&key)).expect("open");
    key_masked(&node, 1);
    key_masked(&node, 2);
    for socket in [&mut all, &mut one] {
        let first = next(socket).expect("an event");
        assert_eq!(
            first,
            json!({
                "id": "77.1", "seq": 1, "at_ms": 1, "call": ids().call.to_string(), "type": "key-masked", "count": 1
            })
        );
        assert_eq!(next(socket).expect("an event")["id"], "77.2");
    }
    let mut resumed = socket(&node, "/v1/events?after=77.1", Some(&key)).expect("open");
    assert_eq!(next(&mut resumed).expect("an event")["id"], "77.2");
    let mut foreign = socket(&node, "/v1/events?after=12.9", Some(&key)).expect("open");
    assert_eq!(next(&mut foreign).expect("a word"), json!({"type": "missed", "missed": 0}));
    assert_eq!(next(&mut foreign).expect("an event")["id"], "77.1");
    // The stream of a call ends with it.
    let cause = EndCause::AgentHungUp;
    node.history.publish(WallMs(1), Some(ids().call), EventKind::CallEnded { cause, status: None, talk_ms: 0 });
    assert_eq!(next(&mut one).expect("an event")["type"], "call-ended");
    assert_eq!(next(&mut one), Err(CloseCode::Normal));
    // What the peer says has no meaning, and too much of it ends it.
    all.send(Message::text("hello")).expect("sent");
    assert_eq!(next(&mut all).expect("an event")["type"], "call-ended");
    assert!(node.metrics.print().lines().any(|line| line.contains("event_streams")));
}

#[test]
fn a_socket_wants_a_key_or_a_ticket_and_is_cut_when_its_key_is_taken_away() {
    let node = Node::start(agreeable);
    assert_eq!(socket(&node, "/v1/events", None).err(), Some(401));
    assert_eq!(socket(&node, "/v1/events", Some("wrong-key-wrong-key")).err(), Some(401));
    let ticket = node.send("POST", "/v1/tickets", Some(&key_of(Role::Auditor)), None).json();
    let path = format!("/v1/events?ticket={}", ticket["ticket"].as_str().expect("a ticket"));
    let mut open = socket(&node, &path, None).expect("open");
    assert_eq!(socket(&node, &path, None).err(), Some(401), "a ticket works once");
    key_masked(&node, 1);
    assert_eq!(next(&mut open).expect("an event")["id"], "77.1");
    node.access.set_keys(keys().into_iter().filter(|key| key.role != Role::Auditor).collect());
    // Nothing happens meanwhile: the key is looked up all the same.
    assert_eq!(next(&mut open), Err(CloseCode::Policy));
}

#[test]
fn a_payment_is_told_by_stream_and_socket_without_a_digit() {
    use tonewall::obs::payment::{MaskedFields, PaymentField, PaymentProgress};
    let node = Node::start(agreeable);
    let mut socket = socket(&node, "/v1/events", Some(&key_of(Role::Agent))).expect("open");
    let payment = payments::view().id;
    let progress = PaymentProgress {
        capture: Some(PaymentField::PaymentCardNumber),
        partial_result: true,
        required: vec![PaymentField::PaymentCardNumber],
        error_type: None,
        fields: MaskedFields { payment_card_number: Some("xxxx-x".into()), ..MaskedFields::default() },
    };
    node.history.publish(WallMs(1), Some(ids().call), EventKind::PaymentUpdated { payment, progress });
    assert_eq!(
        next(&mut socket).expect("an event"),
        json!({
            "id": "77.1", "seq": 1, "at_ms": 1, "call": ids().call.to_string(), "type": "payment-updated",
            "payment": payment.to_string(), "capture": "payment-card-number", "partial_result": true,
            "required": ["payment-card-number"], "payment_card_number": "xxxx-x"
        })
    );
}

#[test]
fn dead_letters_are_listed_replayed_and_forgotten() {
    let node = Node::start(agreeable);
    let role = Role::Integration;
    assert_eq!(
        node.get("/v1/webhooks", role).json(),
        json!({"endpoints": [{"endpoint": "crm", "waiting": 0, "dead": 1}]})
    );
    let letters = node.get("/v1/webhooks/dead", role).json();
    assert_eq!(
        letters["letters"][0],
        json!({
            "id": DEAD, "endpoint": "crm", "webhook_id": "evt_77.1", "type": "call-answered", "at_ms": 1, "tries": 9,
            "last": {"reason": "status", "status": 500}
        })
    );
    assert_eq!(node.get("/v1/webhooks/dead?endpoint=other", role).json(), json!({"letters": []}));
    node.get("/v1/webhooks/dead?limit=0", role).problem(422, "invalid-request");
    let letter = format!("/v1/webhooks/dead/{DEAD}");
    assert_eq!(node.send("POST", &letter, Some(&key_of(role)), None).status, 202);
    node.send("POST", &letter, Some(&key_of(role)), None).problem(404, "no-such-letter");
    assert_eq!(node.get("/v1/webhooks", role).json()["endpoints"][0]["waiting"], 1);
    let other = Node::start(agreeable);
    let replayed = other.send("POST", "/v1/webhooks/crm/replay", Some(&key_of(role)), None);
    assert_eq!((replayed.status, replayed.json()), (202, json!({"replayed": 1})));
    other.send("POST", "/v1/webhooks/nobody/replay", Some(&key_of(role)), None).problem(404, "no-such-endpoint");
    let third = Node::start(agreeable);
    assert_eq!(third.send("DELETE", &letter, Some(&key_of(role)), None).status, 204);
    third.send("DELETE", &letter, Some(&key_of(role)), None).problem(404, "no-such-letter");
}
