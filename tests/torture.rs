//! RFC 4475 through the message layer and the endpoint: each message has its one expected outcome. What is accepted
//! prints back byte for byte; what is refused is answered with its status and reason, to the packet's source, in at
//! most three times the bytes it came with; what cannot be answered is dropped. What a proxy's policy adds (405 to
//! REGISTER, 415, 406) is tested where the policy is.

#[path = "common/torture.rs"]
mod torture;

use std::time::Instant;

use rand::SeedableRng;
use tonewall::base::Random;
use tonewall::config::{ListenerId, Transport};
use tonewall::sip::msg::{self, HeaderName, Message, Method, Uri};
use tonewall::sip::{Endpoint, EndpointConfig, Event, Flow};
use torture::{MESSAGES, Torture};

/// What must happen to a message.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    /// A request for our user, faithful.
    Request,
    /// Well formed and faithful, but answered by the endpoint itself.
    Faithful(u16, &'static str),
    /// A response that parses and is faithful, but belongs to no transaction.
    StrayResponse,
    /// Malformed; answered.
    Refused(u16, &'static str),
    /// Malformed; dropped.
    Dropped(&'static str),
}

use Outcome::{Dropped, Faithful, Refused, Request, StrayResponse};

/// The expected outcome of each message, in the order of the RFC.
const EXPECTED: [(&str, Outcome); 49] = [
    ("wsinv", Request),
    // An unknown method; proxies would forward it, a B2BUA is the end of it.
    ("intmeth", Faithful(501, "Not Implemented")),
    ("esc01", Request),
    ("escnull", Request),
    // `RE%47IST%45R` is not REGISTER.
    ("esc02", Faithful(501, "Not Implemented")),
    ("lwsdisp", Request),
    ("longreq", Request),
    // The octets after the first message are ignored.
    ("dblreq", Request),
    ("semiuri", Request),
    ("transports", Request),
    ("mpart01", Request),
    ("unreason", StrayResponse),
    ("noreason", StrayResponse),
    ("badinv01", Refused(400, "parameter without a name")),
    ("clerr", Refused(400, "Content-Length beyond the message")),
    ("ncl", Refused(400, "Content-Length is not a number")),
    ("scalar02", Refused(400, "CSeq number is not below 2^31")),
    ("scalarlg", Dropped("CSeq number is not below 2^31")),
    ("quotbal", Refused(400, "unterminated quoted string")),
    ("ltgtruri", Refused(400, "Request-URI in angle brackets")),
    ("lwsruri", Refused(400, "Malformed URI")),
    ("lwsstart", Refused(400, "Extra space in the request line")),
    ("trws", Refused(400, "Text after the Request-URI is not a SIP version")),
    ("escruri", Refused(400, "Headers in the Request-URI")),
    // Date means nothing to us; the RFC lets an element that does not use it ignore it.
    ("baddate", Request),
    ("regbadct", Refused(400, "URI needs angle brackets")),
    ("badaspec", Refused(400, "Malformed URI")),
    ("baddn", Refused(400, "display name needs quotes")),
    ("badvers", Refused(505, "Version not supported")),
    ("mismatch01", Refused(400, "CSeq names another method")),
    ("mismatch02", Refused(400, "CSeq names another method")),
    ("bigcode", Dropped("Bad status code")),
    // Matched as a request of RFC 2543: the branch identifies nothing.
    ("badbranch", Request),
    ("insuf", Refused(400, "From is missing")),
    ("unkscm", Faithful(416, "Unsupported URI Scheme")),
    ("novelsc", Faithful(416, "Unsupported URI Scheme")),
    ("unksm2", Request),
    ("bext01", Faithful(420, "Bad Extension")),
    ("invut", Request),
    ("regaut01", Request),
    ("multi01", Refused(400, "More than one CSeq")),
    ("mcl01", Refused(400, "More than one Content-Length")),
    ("bcast", StrayResponse),
    // An endpoint answers OPTIONS whatever its Max-Forwards.
    ("zeromf", Request),
    ("cparam01", Request),
    ("cparam02", Request),
    ("regescrt", Request),
    ("sdp01", Request),
    ("inv2543", Request),
];

fn endpoint() -> Endpoint {
    Endpoint::new(EndpointConfig::default(), Random::seed_from_u64(4475))
}

fn flow() -> Flow {
    Flow {
        listener: ListenerId(0),
        transport: Transport::Udp,
        local: "192.0.2.250:5060".parse().expect("an address"),
        remote: "198.51.100.9:5099".parse().expect("an address"),
        connection: None,
        trunk: None,
    }
}

/// What really happens.
fn outcome(message: &Torture) -> Outcome {
    let mut endpoint = endpoint();
    #[allow(clippy::disallowed_methods)]
    let now = Instant::now();
    endpoint.handle_datagram(now, &flow(), message.bytes);
    let parsed = msg::parse_datagram(message.bytes);
    if let Ok(parsed) = &parsed {
        let printed = parsed.to_bytes();
        assert_eq!(&message.bytes[..printed.len()], &printed[..], "{} is not faithful", message.name);
        if message.name != "dblreq" {
            assert_eq!(printed.len(), message.bytes.len(), "{} is not whole", message.name);
        }
    }
    let answer = endpoint.poll_transmit().map(|transmit| {
        assert_eq!(transmit.flow, flow().back(), "{} is answered elsewhere", message.name);
        assert!(transmit.bytes.len() <= 3 * message.bytes.len(), "{} is amplified", message.name);
        // A refusal copies what was malformed as far as it is harmless, so not each can be read by a strict parser.
        let text = String::from_utf8_lossy(&transmit.bytes).into_owned();
        let line = text.lines().next().and_then(|line| line.strip_prefix("SIP/2.0 ")).expect("a status line");
        let (status, reason) = line.split_once(' ').expect("a reason");
        assert!(text.contains("\r\nVia:") && text.ends_with("\r\nContent-Length: 0\r\n\r\n"), "{text}");
        (status.parse::<u16>().expect("a status"), reason.to_owned())
    });
    assert!(endpoint.poll_transmit().is_none(), "{} is answered twice", message.name);
    let event = endpoint.poll_event();
    assert!(endpoint.poll_event().is_none());
    match (parsed, event, answer) {
        (Ok(_), Some(Event::Request { .. }), None) => Request,
        (Ok(Message::Request(_)), None, Some((status, reason))) => Faithful(status, leak(reason)),
        (Ok(Message::Response(_)), None, None) => StrayResponse,
        (Err(error), Some(Event::Malformed { error: told, .. }), Some((status, reason))) => {
            assert_eq!((error.status, error.reason), (status, reason.as_str()));
            assert_eq!((told.status, told.reason), (status, reason.as_str()));
            Refused(status, leak(reason))
        }
        (Err(error), Some(Event::Malformed { .. }), None) => Dropped(error.reason),
        other => panic!("{}: {other:?}", message.name),
    }
}

fn leak(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

#[test]
#[allow(clippy::print_stdout)]
fn every_message_of_rfc_4475_has_its_expected_outcome() {
    assert_eq!(MESSAGES.len(), EXPECTED.len());
    let mut wrong = Vec::new();
    println!("{:<9} {:<11} outcome", "section", "message");
    for (message, (name, expected)) in MESSAGES.iter().zip(EXPECTED) {
        assert_eq!(message.name, name);
        let seen = outcome(message);
        println!("{:<9} {:<11} {seen:?}", message.section, message.name);
        if seen != expected {
            wrong.push(format!("{name}: expected {expected:?}, saw {seen:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn request(name: &str) -> msg::Request {
    let message = MESSAGES.iter().find(|m| m.name == name).expect("a message of that name");
    match msg::parse_datagram(message.bytes) {
        Ok(Message::Request(request)) => request,
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn wsinv_means_what_the_rfc_says() {
    let wsinv = request("wsinv");
    assert_eq!(wsinv.method, Method::Invite);
    assert_eq!(wsinv.uri().param("unknownparam"), Some(""));
    assert_eq!((wsinv.to_tag(), wsinv.from_tag()), (Some("1918181833n"), Some("98asjd8")));
    assert_eq!(wsinv.from().expect("good").display_name().as_deref(), Some("J Rosenberg \\\""));
    assert_eq!(wsinv.max_forwards(), Some(68));
    assert_eq!(wsinv.cseq().expect("good").number, 9);
    assert_eq!(wsinv.headers.items(HeaderName::Via).count(), 3);
    assert_eq!(wsinv.via().expect("good").branch(), Some("390skdjuw"));
    let second = wsinv.headers.items(HeaderName::Via).nth(1).expect("a second Via");
    assert_eq!(msg::header::Via::parse(second).expect("good").rfc3261_branch(), Some("z9hG4bK9ikj8"));
    assert_eq!(wsinv.headers.get(HeaderName::Subject), Some(&b""[..]));
    assert_eq!(wsinv.headers.get_named("newfangledheader"), Some(&b"newfangled value continued newfangled value"[..]));
    assert_eq!(wsinv.headers.get_named("UnknownHeaderWithUnusualValue"), Some(&b";;,,;;,;"[..]));
    let contact = wsinv.contact().expect("a Contact");
    assert_eq!(contact.display_name().as_deref(), Some("Quoted string \"\""));
    assert_eq!((contact.params.text("newparam"), contact.params.text("q")), (Some("newvalue"), Some("0.33")));
    assert_eq!(wsinv.body.len(), 150);
}

#[test]
fn escapes_are_kept_and_mean_nothing_outside_uris() {
    assert_eq!(request("esc01").uri().user(), Some("sips%3Auser%40example.com"));
    let register = request("esc02");
    assert_eq!(register.method, Method::Extension("RE%47IST%45R".into()));
    assert_eq!(register.headers.count(HeaderName::Contact), 2);
    assert_eq!(request("escnull").to().expect("good").uri.user(), Some("null-%00-null"));
}

#[test]
fn intmeth_keeps_its_odd_characters_and_shows_none_of_its_controls() {
    let intmeth = request("intmeth");
    assert_eq!(intmeth.call_id(), Some("intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{"));
    assert_eq!(intmeth.to().expect("good").display_name().as_deref(), Some("BEL: NUL: DEL:"));
    assert_eq!(intmeth.from_tag(), Some("_token~1'+`*%!-."));
    match intmeth.uri() {
        Uri::Sip(uri) => assert_eq!(uri.password, Some("&it+has=1,weird!*pas$wo~d_too.(doesn't-it)")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn long_and_binary_parts_arrive_whole() {
    let longreq = request("longreq");
    assert_eq!(longreq.headers.items(HeaderName::Via).count(), 34);
    assert_eq!(longreq.from_tag().map(str::len), Some(155));
    let mpart = request("mpart01");
    assert_eq!(mpart.body.len(), 553);
    assert!(mpart.body.contains(&0), "the body is binary");
    assert!(mpart.content_type().expect("good").is("multipart", "mixed"));
    assert!(request("dblreq").body.is_empty());
    assert_eq!(request("semiuri").uri().user(), Some("user;par=u%40example.net"));
}

#[test]
fn reason_phrases_are_kept_even_when_empty() {
    for (name, length) in [("unreason", 74), ("noreason", 0)] {
        let message = MESSAGES.iter().find(|m| m.name == name).expect("a message of that name");
        match msg::parse_datagram(message.bytes) {
            Ok(Message::Response(response)) => assert_eq!(response.reason.len(), length, "{name}"),
            other => panic!("{name}: {other:?}"),
        }
    }
}
