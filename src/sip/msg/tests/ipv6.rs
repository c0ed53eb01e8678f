//! RFC 5118: SIP messages with IPv6 addresses, each with the verdict of its section. Own wording of the messages. Those of
//! sections 4.6 and 4.8 are about SDP; they are in `tests/b2bua/addresses.rs`.

use crate::sip::msg::uri::{Host, Uri};
use crate::sip::msg::{Message, Request, parse_bytes};

fn read(uri: &str, via: &str, contact: &str) -> Result<Request, u16> {
    let text = format!(
        "REGISTER {uri} SIP/2.0\r\nTo: <sip:user@example.com>\r\nFrom: <sip:user@example.com>;tag=81x2\r\n\
         Via: SIP/2.0/UDP {via}\r\nCall-ID: s1x9@[2001:db8::9:1]\r\nMax-Forwards: 70\r\nContact: {contact}\r\n\
         CSeq: 98176 REGISTER\r\nContent-Length: 0\r\n\r\n"
    );
    match parse_bytes(text.into_bytes().into()) {
        Ok(Message::Request(request)) => Ok(request),
        Ok(Message::Response(_)) => panic!("a request was written"),
        Err(error) => Err(error.reply.map_or(0, |reply| reply.status)),
    }
}

const VIA: &str = "[2001:db8::9:1];branch=z9hG4bKas3-111";
const CONTACT: &str = "\"Caller\" <sip:caller@[2001:db8::1]>";

fn place(request: &Request) -> Option<std::net::SocketAddr> {
    request.uri().sip()?.socket_addr()
}

#[test]
fn a_reference_in_brackets_is_an_address() {
    // Section 4.1.
    let request = read("sip:[2001:db8::10]", VIA, CONTACT).expect("valid");
    assert_eq!(place(&request), "[2001:db8::10]:5060".parse().ok());
    let via = request.via().expect("a Via");
    assert_eq!((via.host.ip(), via.port), ("2001:db8::9:1".parse().ok(), None));
    let contact = request.contact().expect("a Contact");
    assert_eq!(contact.uri.sip().and_then(|sip| sip.host.ip()), "2001:db8::1".parse().ok());
}

#[test]
fn a_request_uri_without_brackets_is_refused() {
    // Section 4.2.
    assert_eq!(read("sip:2001:db8::10", VIA, CONTACT).err(), Some(400));
}

#[test]
fn what_stands_inside_the_brackets_is_never_a_port() {
    // Sections 4.3 and 4.4.
    let inside = read("sip:[2001:db8::10:5070]", VIA, CONTACT).expect("valid");
    assert_eq!(place(&inside), "[2001:db8::10:5070]:5060".parse().ok());
    let outside = read("sip:[2001:db8::10]:5070", VIA, CONTACT).expect("valid");
    assert_eq!(place(&outside), "[2001:db8::10]:5070".parse().ok());
}

#[test]
fn received_is_read_with_and_without_brackets() {
    // Section 4.5: what a sender claims there is dropped; it must only not get in the way.
    for received in ["[2001:db8::9:255]", "2001:db8::9:255"] {
        let via = format!("[2001:db8::9:1];received={received};branch=z9hG4bKas3-111");
        let request = read("sip:[2001:db8::10]", &via, CONTACT).expect(received);
        let via = request.via().expect("a Via");
        assert_eq!(via.branch(), Some("z9hG4bKas3-111"));
        let stamped = via.stamped(via_text(&request), "[2001:db8::9:77]:5060".parse().expect("an address"));
        let stamped = String::from_utf8(stamped).expect("text");
        assert!(stamped.ends_with(";received=2001:db8::9:77") && !stamped.contains("255"), "{stamped}");
    }
}

fn via_text(request: &Request) -> &[u8] {
    request.headers.get(crate::sip::msg::HeaderName::Via).expect("a Via")
}

#[test]
fn addresses_of_both_kinds_stand_in_one_message() {
    // Section 4.7.
    let text = "OPTIONS sip:user@[2001:db8::10] SIP/2.0\r\nVia: SIP/2.0/UDP [2001:db8::9:1]:6050;branch=z9hG4bKas3-111\r\n\
                Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKjhja8781hjuaij65144\r\n\
                Via: SIP/2.0/TCP [2001:db8::9:255];branch=z9hG4bK451jj;received=192.0.2.200\r\n\
                Call-ID: 997077@lau.example.com\r\nMax-Forwards: 70\r\nCSeq: 8912 OPTIONS\r\n\
                Contact: <sip:user@192.0.2.1>\r\nTo: <sip:user@[2001:db8::10]>\r\n\
                From: <sip:user@example.com>;tag=9817--94\r\nContent-Length: 0\r\n\r\n";
    let Ok(Message::Request(request)) = parse_bytes(text.as_bytes().to_vec().into()) else { panic!("valid") };
    assert_eq!(request.headers.items(crate::sip::msg::HeaderName::Via).count(), 3);
    assert_eq!(request.via().expect("a Via").port, Some(6050));
}

#[test]
fn a_mapped_address_is_the_ipv4_one_for_whoever_looks_at_its_sender() {
    // Section 4.9.
    let contact = "\"Caller\" <sip:caller@[::ffff:192.0.2.2]>";
    let request = read("sip:[::ffff:192.0.2.10]:5070", "[::ffff:192.0.2.2]:5060;branch=z9hG4bKas3-111", contact);
    let request = request.expect("valid");
    let via = request.via().expect("a Via");
    assert_eq!(via.host.ip().map(|ip| ip.to_canonical()), "192.0.2.2".parse().ok());
}

#[test]
fn three_colons_are_no_address() {
    // Section 4.10: RFC 3261's grammar made such; it may be refused, and must be read as nothing else.
    match Uri::parse(b"sip:user@[2001:db8:::192.0.2.1]") {
        Err(_) => {}
        Ok(uri) => assert!(uri.sip().is_none_or(|sip| !matches!(sip.host, Host::Ip(_)))),
    }
}
