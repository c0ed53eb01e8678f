//! The message layer as a whole: faithful, strict, never panicking, and readable by another implementation.

mod faithful;
mod hostile;
mod ipv6;
mod second_opinion;

use super::*;

/// An INVITE as a carrier sends it.
pub(super) const INVITE: &str = "INVITE sip:+12125551212@192.0.2.250;user=phone SIP/2.0\r\n\
    Via: SIP/2.0/UDP 198.51.100.9:5060;branch=z9hG4bK776asdhds;rport\r\n\
    Via: SIP/2.0/UDP [2001:db8::9]:5060;branch=z9hG4bKabc;received=2001:db8::10\r\n\
    Record-Route: <sip:198.51.100.9;lr;ftag=1928301774>\r\n\
    Max-Forwards: 69\r\n\
    From: \"J\u{fc}rgen \\\"JJ\\\" K\" <sip:+13035551111@example.com>;tag=1928301774\r\n\
    To: <tel:+1-212-555-1212;phone-context=example.com>\r\n\
    Call-ID: a84b4c76e66710@198.51.100.9\r\n\
    CSeq: 314159 INVITE\r\n\
    Contact: <sip:gw@198.51.100.9:5060;transport=udp>;+sip.instance=\"<urn:uuid:0>\"\r\n\
    Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, UPDATE\r\n\
    Supported: timer, 100rel\r\n\
    P-Asserted-Identity: <sip:+13035551111@example.com>\r\n\
    X-Call-Ref: 42\r\n\
    Subject: folded\r\n \tsubject\r\n\
    Content-Type: application/sdp\r\n\
    Content-Length: 5\r\n\r\nv=0\r\n";

/// A response as a PBX sends it.
pub(super) const OK: &str = "SIP/2.0 200 OK\r\n\
    v: SIP/2.0/UDP 192.0.2.250:5060;branch=z9hG4bKtw0;rport=5060;received=192.0.2.250\r\n\
    f: sip:a@example.com;tag=1\r\n\
    t: B <sip:b@example.com>;tag=2\r\n\
    i: ours\r\n\
    CSeq: 1 INVITE\r\n\
    m: <sip:b@198.51.100.9>\r\n\
    l: 0\r\n\r\n";

fn request(text: &str) -> Request {
    match parse_datagram(text.as_bytes()) {
        Ok(Message::Request(request)) => request,
        other => panic!("{other:?}"),
    }
}

/// Calls every reader on a message that was accepted; none may panic, and printing must read back the same.
fn read_all(message: &Message) {
    let headers = message.headers();
    for header in headers.iter() {
        let _ = header::NameAddr::parse(header.value).map(|a| (a.display_name().is_some(), a.tag().is_some()));
        let _ = header::Via::parse(header.value).map(|v| v.stamped(header.value, ([192, 0, 2, 1], 5060).into()));
        let _ = header::Reason::parse(header.value);
        let _ = header::ContentType::parse(header.value);
        let _ = header::retry_after(header.value);
        let _ = scan::Params::parse(header.value).map(|p| p.iter().count());
        let _ = headers.items(header.known.unwrap_or(HeaderName::Via)).count();
        let _ = headers.get_named(header.name);
    }
    if let Message::Request(request) = message {
        let _ = (request.uri().user(), request.uri().param("lr"), request.contact(), request.via());
        let mut answer = Response::for_request(request, 200, "");
        answer.set_to_tag("t");
        let again = parse_datagram(&answer.to_bytes());
        assert!(again.is_ok(), "{again:?}");
    }
    let printed = message.to_bytes();
    let again = parse_datagram(&printed).expect("what was accepted and printed is accepted");
    assert_eq!(&again, message);
}
