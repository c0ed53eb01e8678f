//! Passwords on real sockets: challenges of a carrier and of ours, who gets an answer and who never (threats R10, R11),
//! and registrations. Answers are computed here once more, from the RFC's formula.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use md5::Md5;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tonewall::control::Calls;
use tonewall::rt::node::Node;
use tonewall::testkit::simple_sip::{Message, uri};

use crate::peer::{Plain, answer, invite, ok, request, within};
use crate::site::{common, listener, route, start, trunk, until};

const SECRET: &str = "wide open sesame";

struct Bench {
    _dir: TempDir,
    node: Node,
    carrier: Plain,
    pbx: Plain,
}

const LOGIN: &str = "[trunk.login]\nuser = \"tw\"\nrealm = \"carrier.example\"\nsecret_file = \"secret\"";

impl Bench {
    async fn new(carrier_keys: &str) -> Bench {
        let carrier = Plain::open().await;
        let remotes = format!("\"{}\"", carrier.at);
        Bench::with(carrier, &remotes, carrier_keys).await
    }

    async fn with(carrier: Plain, remotes: &str, carrier_keys: &str) -> Bench {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("secret"), format!("{SECRET}\n")).expect("the secret");
        let pbx = Plain::open().await;
        let text = [
            common("127.0.0.1"),
            listener("carrier", ""),
            listener("pbx", ""),
            trunk("carrier", "carrier", "carrier", &format!("remotes = [{remotes}]\n{carrier_keys}")),
            trunk("pbx", "pbx", "pbx", &format!("remotes = [\"{}\"]", pbx.at)),
            route("carrier", "pbx"),
            route("pbx", "carrier"),
        ];
        let node = start(dir.path(), &text.join("\n")).await;
        Bench { _dir: dir, node, carrier, pbx }
    }

    fn carrier_side(&self) -> SocketAddr {
        self.node.listeners()[0]
    }

    fn pbx_side(&self) -> SocketAddr {
        self.node.listeners()[1]
    }

    fn metric(&self, line: &str) -> bool {
        let metrics = self.node.metrics();
        self.node.calls().refresh(metrics);
        metrics.print().contains(line)
    }
}

fn parameters(value: &str) -> HashMap<String, String> {
    let rest = value.strip_prefix("Digest ").expect("the scheme");
    let pair = |part: &str| {
        let (name, value) = part.split_once('=').expect("a parameter");
        (name.trim().to_owned(), value.trim_matches('"').to_owned())
    };
    rest.split(", ").map(pair).collect()
}

/// The response that `given` should hold.
fn computed(given: &HashMap<String, String>, secret: &str, method: &str, body: &[u8]) -> String {
    let sha = given["algorithm"] == "SHA-256";
    let hash = |bytes: &[u8]| if sha { hex::encode(Sha256::digest(bytes)) } else { hex::encode(Md5::digest(bytes)) };
    let ha1 = hash(format!("{}:{}:{secret}", given["username"], given["realm"]).as_bytes());
    let ha2 = match given["qop"].as_str() {
        "auth-int" => hash(format!("{method}:{}:{}", given["uri"], hash(body)).as_bytes()),
        _ => hash(format!("{method}:{}", given["uri"]).as_bytes()),
    };
    let [nonce, nc, cnonce, qop] = ["nonce", "nc", "cnonce", "qop"].map(|name| given[name].clone());
    hash(format!("{ha1}:{nonce}:{nc}:{cnonce}:{qop}:{ha2}").as_bytes())
}

/// Whether a request carries the right answer under the header `name`.
fn is_right(message: &Message, name: &str) -> bool {
    let Some(value) = message.get(name) else { return false };
    let given = parameters(value);
    let target = message.start.split(' ').nth(1).expect("a Request-URI");
    let method = message.method().expect("a request");
    given["uri"] == target && given["response"] == computed(&given, SECRET, method, &message.body)
}

fn cseq(message: &Message) -> u32 {
    message.cseq().expect("CSeq").0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_carriers_challenge_is_answered_for_every_request_of_the_call() {
    let bench = Bench::new(LOGIN).await;
    let call = invite(bench.pbx.at, "UDP", "agent");
    bench.pbx.send(bench.pbx_side(), &call).await;
    let (first, us) = bench.carrier.next().await;
    assert!(first.get("authorization").is_none() && first.get("proxy-authorization").is_none());
    let challenge = answer(&first, 401, "Unauthorized", bench.carrier.at)
        .with("WWW-Authenticate", "Digest realm=\"carrier.example\", nonce=\"n1\", algorithm=MD5, qop=\"auth\"")
        .with(
            "WWW-Authenticate",
            "Digest realm=\"carrier.example\", nonce=\"n2\", algorithm=SHA-256, qop=\"auth,auth-int\"",
        )
        .with("WWW-Authenticate", "Digest realm=\"elsewhere\", nonce=\"n3\", algorithm=SHA-256, qop=\"auth\"");
    bench.carrier.send(us, &challenge).await;
    let (ack, _) = bench.carrier.next().await;
    assert_eq!((ack.method(), ack.branch(), cseq(&ack)), (Some("ACK"), first.branch(), cseq(&first)));
    let (second, _) = bench.carrier.next().await;
    assert_eq!(cseq(&second), cseq(&first) + 1);
    assert_eq!((second.get("call-id"), second.get("from")), (first.get("call-id"), first.get("from")));
    assert_ne!(second.branch(), first.branch());
    assert!(is_right(&second, "authorization"), "{:?}", second.get("authorization"));
    let given = parameters(second.get("authorization").expect("there"));
    assert_eq!((given["nonce"].as_str(), given["qop"].as_str()), ("n2", "auth-int"), "the better hash, body included");
    // The refusal once more, its ACK was lost: acknowledged, and no third INVITE.
    bench.carrier.send(us, &challenge).await;
    assert_eq!(bench.carrier.next().await.0.method(), Some("ACK"));

    bench.carrier.send(us, &ok(&second, bench.carrier.at)).await;
    let accepted = bench.pbx.next_but_trying().await;
    assert_eq!(accepted.status(), Some(200));
    bench.pbx.send(bench.pbx_side(), &within("ACK", &call, &accepted, (bench.pbx.at, "UDP"), 1)).await;
    let (ack, _) = bench.carrier.next().await;
    assert_eq!((ack.method(), cseq(&ack)), (Some("ACK"), cseq(&second)));
    assert!(ack.get("authorization").is_some(), "with the credentials of its INVITE");

    bench.pbx.send(bench.pbx_side(), &within("BYE", &call, &accepted, (bench.pbx.at, "UDP"), 2)).await;
    let (bye, _) = bench.carrier.next().await;
    assert!(bye.method() == Some("BYE") && cseq(&bye) > cseq(&second), "{}", cseq(&bye));
    let challenge = answer(&bye, 407, "Proxy Authentication Required", bench.carrier.at)
        .with("Proxy-Authenticate", "Digest realm=\"carrier.example\", nonce=\"n9\", qop=\"auth\"");
    bench.carrier.send(us, &challenge).await;
    let (again, _) = bench.carrier.next().await;
    assert!(again.method() == Some("BYE") && cseq(&again) == cseq(&bye) + 1);
    assert!(is_right(&again, "proxy-authorization"));
    assert_eq!(parameters(again.get("proxy-authorization").expect("there"))["algorithm"], "MD5");
    bench.carrier.send(us, &answer(&again, 200, "OK", bench.carrier.at)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r10_no_answer_to_another_realm_nor_twice_nor_to_another_trunk() {
    let bench = Bench::new(LOGIN).await;
    // Another realm.
    bench.pbx.send(bench.pbx_side(), &invite(bench.pbx.at, "UDP", "agent")).await;
    let (first, us) = bench.carrier.next().await;
    let other = answer(&first, 407, "Proxy Authentication Required", bench.carrier.at)
        .with("Proxy-Authenticate", "Digest realm=\"evil.example\", nonce=\"n\", qop=\"auth\"");
    bench.carrier.send(us, &other).await;
    assert_eq!(bench.carrier.next().await.0.method(), Some("ACK"));
    assert_eq!(bench.pbx.next_but_trying().await.status(), Some(403));
    // The right realm, but the answer is never good enough: no third try, unless the nonce had grown old.
    bench.pbx.send(bench.pbx_side(), &invite(bench.pbx.at, "UDP", "agent")).await;
    let (mut call, us) = bench.carrier.next().await;
    for (nth, stale) in [(1, ""), (2, ", stale=true"), (3, ", stale=true")] {
        let challenge = format!("Digest realm=\"carrier.example\", nonce=\"n{nth}\", qop=\"auth\"{stale}");
        let refusal = answer(&call, 401, "Unauthorized", bench.carrier.at).with("WWW-Authenticate", challenge);
        bench.carrier.send(us, &refusal).await;
        assert_eq!(bench.carrier.next().await.0.method(), Some("ACK"), "{nth}");
        if nth < 3 {
            call = bench.carrier.next().await.0;
            assert!(is_right(&call, "authorization"), "{nth}");
        }
    }
    assert_eq!(bench.pbx.next_but_trying().await.status(), Some(403));
    // The PBX asks: it owns no credential.
    let from = bench.carrier_side();
    bench.carrier.send(from, &invite(bench.carrier.at, "UDP", "caller")).await;
    let (arrived, us) = bench.pbx.next().await;
    let refusal = answer(&arrived, 407, "Proxy Authentication Required", bench.pbx.at)
        .with("Proxy-Authenticate", "Digest realm=\"carrier.example\", nonce=\"n\", qop=\"auth\"");
    bench.pbx.send(us, &refusal).await;
    let (ack, _) = bench.pbx.next().await;
    assert!(ack.method() == Some("ACK") && ack.get("proxy-authorization").is_none());
    assert_eq!(bench.carrier.next_but_trying().await.status(), Some(403));
    assert!(tokio::time::timeout(Duration::from_millis(300), bench.pbx.next()).await.is_err(), "and nothing more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_has_to_prove_itself_places_calls_with_its_password_only() {
    let guard = "[trunk.challenge]\nuser = \"peer\"\nrealm = \"tonewall\"\nsecret_file = \"secret\"";
    let bench = Bench::new(guard).await;
    let place = |authorization: Option<String>| {
        let mut call = invite(bench.carrier.at, "UDP", "caller");
        if let Some(value) = authorization {
            call.headers.push(("Authorization".into(), value));
        }
        call
    };
    let final_answer = async || loop {
        let message = bench.carrier.next_but_trying().await;
        if message.status().is_some_and(|status| status >= 200) {
            return message;
        }
    };
    let answer_with = |challenge: &str, secret: &str, nc: &str, body: &[u8]| {
        let mut given = parameters(challenge);
        given.insert("username".into(), "peer".into());
        given.insert("uri".into(), "sip:5551000@node.example".into());
        given.insert("qop".into(), "auth-int".into());
        given.insert("nc".into(), nc.into());
        given.insert("cnonce".into(), "0a1b".into());
        let response = computed(&given, secret, "INVITE", body);
        format!(
            "Digest username=\"peer\", realm=\"tonewall\", nonce=\"{}\", uri=\"{}\", response=\"{response}\", \
             algorithm={}, qop=auth-int, nc={nc}, cnonce=\"0a1b\"",
            given["nonce"], given["uri"], given["algorithm"]
        )
    };
    bench.carrier.send(bench.carrier_side(), &place(None)).await;
    let refused = final_answer().await;
    assert_eq!(refused.status(), Some(401));
    let challenges: Vec<&str> = refused.all("www-authenticate").collect();
    assert!(challenges[0].contains("SHA-256") && challenges[1].contains("MD5"), "{challenges:?}");
    let body = invite(bench.carrier.at, "UDP", "caller").body;

    bench
        .carrier
        .send(bench.carrier_side(), &place(Some(answer_with(challenges[0], "wrong secret", "00000001", &body))))
        .await;
    assert_eq!(final_answer().await.status(), Some(403));
    let good = answer_with(challenges[0], SECRET, "00000001", &body);
    bench.carrier.send(bench.carrier_side(), &place(Some(good.clone()))).await;
    let (arrived, us) = bench.pbx.next().await;
    assert!(arrived.get("authorization").is_none(), "its answer crosses to nobody");
    bench.pbx.send(us, &answer(&arrived, 486, "Busy Here", bench.pbx.at)).await;
    assert_eq!(final_answer().await.status(), Some(486));
    let _ = bench.pbx.next().await;
    bench.carrier.send(bench.carrier_side(), &place(Some(good))).await;
    assert_eq!(final_answer().await.status(), Some(403), "the same answer once more");
    let next = answer_with(challenges[1], SECRET, "00000002", &body);
    bench.carrier.send(bench.carrier_side(), &place(Some(next))).await;
    assert_eq!(bench.pbx.next().await.0.method(), Some("INVITE"), "by MD5 too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registration_is_made_refreshed_and_taken_back() {
    let register = format!("{LOGIN}\n[trunk.register]\naddress = \"sip:4711@carrier.example\"\nexpires_s = 60");
    let bench = Bench::new(&register).await;
    let (first, us) = bench.carrier.next().await;
    assert!(first.start.starts_with("REGISTER sip:carrier.example SIP/2.0"), "{}", first.start);
    assert_eq!(first.get("to").map(uri), Some("sip:4711@carrier.example"));
    let contact = format!("<sip:4711@{}>;expires=60", bench.carrier_side());
    assert_eq!(first.get("contact"), Some(contact.as_str()));
    let challenge = answer(&first, 401, "Unauthorized", bench.carrier.at)
        .with("WWW-Authenticate", "Digest realm=\"carrier.example\", nonce=\"r1\", algorithm=SHA-256, qop=\"auth\"");
    bench.carrier.send(us, &challenge).await;
    let (second, _) = bench.carrier.next().await;
    assert!(is_right(&second, "authorization") && cseq(&second) == cseq(&first) + 1);
    // Too short: for longer.
    bench.carrier.send(us, &answer(&second, 423, "Interval Too Brief", us).with("Min-Expires", "90")).await;
    let (longer, _) = bench.carrier.next().await;
    assert_eq!(longer.get("expires"), Some("90"));
    assert!(cseq(&longer) > cseq(&second), "{} after {}", cseq(&longer), cseq(&second));
    // Granted for two seconds, beside somebody else's.
    let mut granted = answer(&longer, 200, "OK", us);
    granted.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("contact"));
    let both = format!("<sip:9@192.0.2.9>;expires=3600, <sip:4711@{}>;expires=2", bench.carrier_side());
    bench.carrier.send(us, &granted.with("Contact", both)).await;
    until("registered", || bench.metric("tonewall_trunk_registered{trunk=\"carrier\"} 1")).await;
    let (refresh, _) = bench.carrier.next().await;
    assert!(cseq(&refresh) > cseq(&longer) && refresh.get("call-id") == longer.get("call-id"));
    // Nobody answers: it runs out, and that is told.
    until("run out", || bench.metric("tonewall_trunk_registered{trunk=\"carrier\"} 0")).await;
    bench.carrier.send(us, &answer(&refresh, 200, "OK", us).with("Expires", "60")).await;
    until("registered again", || bench.metric("tonewall_trunk_registered{trunk=\"carrier\"} 1")).await;
    bench.node.drain();
    loop {
        let (message, _) = bench.carrier.next().await;
        if message.get("expires") == Some("0") {
            assert!(message.get("contact").is_some_and(|contact| contact.ends_with(";expires=0")));
            bench.carrier.send(us, &answer(&message, 200, "OK", us)).await;
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registration_goes_to_the_next_target_when_one_is_gone() {
    let (dead, carrier) = (crate::site::nowhere(), Plain::open().await);
    let remotes = format!("\"{dead}\", \"{}\"", carrier.at);
    let register = "[trunk.register]\naddress = \"sip:4711@carrier.example\"";
    let bench = Bench::with(carrier, &remotes, register).await;
    let (arrived, us) = bench.carrier.next().await;
    assert_eq!(arrived.method(), Some("REGISTER"));
    bench.carrier.send(us, &answer(&arrived, 200, "OK", us).with("Expires", "600")).await;
    until("registered", || bench.metric("tonewall_trunk_registered{trunk=\"carrier\"} 1")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r11_registrations_are_taken_from_nobody() {
    let bench = Bench::new("").await;
    let register = request("REGISTER", bench.carrier.at, "UDP", "thief");
    bench.carrier.send(bench.carrier_side(), &register).await;
    let refused = bench.carrier.next_but_trying().await;
    assert_eq!(refused.status(), Some(405));
    assert!(refused.get("allow").is_some_and(|allow| !allow.contains("REGISTER")));
}
