//! `rsip` reads what we write and understands the same by it.

use rsip::prelude::*;

use super::*;

fn theirs(bytes: &[u8]) -> rsip::SipMessage {
    rsip::SipMessage::try_from(bytes).expect("rsip reads it")
}

#[test]
fn rsip_reads_our_request() {
    let mut ours = Request::new(Method::Invite, "sip:bob@192.0.2.7:5062;transport=udp");
    ours.headers.push(
        HeaderName::Via,
        header::Via::print(crate::config::Transport::Udp, ([192, 0, 2, 250], 5060).into(), "z9hG4bKtw1"),
    );
    ours.headers.push(HeaderName::MaxForwards, "70");
    ours.headers.push(HeaderName::From, header::address(Some("Tone \"W\""), "sip:tonewall@192.0.2.250", Some("f1")));
    ours.headers.push(HeaderName::To, header::address(None, "sip:bob@192.0.2.7", None));
    ours.headers.push(HeaderName::CallId, "1@192.0.2.250");
    ours.headers.push(HeaderName::CSeq, "1 INVITE");
    ours.headers.push(HeaderName::Contact, "<sip:192.0.2.250:5060>");
    ours.set_body("application/sdp", "v=0\r\n");
    let rsip::SipMessage::Request(read) = theirs(&ours.to_bytes()) else { panic!("a request") };
    assert_eq!(*read.method(), rsip::Method::Invite);
    assert_eq!(read.uri().to_string(), "sip:bob@192.0.2.7:5062;transport=UDP");
    let via = read.via_header().expect("a Via").typed().expect("a good Via");
    assert_eq!(via.branch().map(|b| b.to_string()).as_deref(), Some("z9hG4bKtw1"));
    assert_eq!(via.uri.host_with_port.to_string(), "192.0.2.250:5060");
    let from = read.from_header().expect("a From").typed().expect("a good From");
    assert_eq!(from.tag().map(|t| t.to_string()).as_deref(), Some("f1"));
    assert_eq!(from.uri.to_string(), "sip:tonewall@192.0.2.250");
    let cseq = read.cseq_header().expect("a CSeq").typed().expect("a good CSeq");
    assert_eq!((cseq.seq, cseq.method), (1, rsip::Method::Invite));
    assert_eq!(
        read.contact_header().expect("a Contact").typed().expect("good").uri.to_string(),
        "sip:192.0.2.250:5060"
    );
    assert_eq!(read.body(), b"v=0\r\n");
}

#[test]
fn rsip_reads_our_response() {
    let message = request(&INVITE.replace('\u{fc}', "u"));
    let mut ours = Response::for_request(&message, 486, "");
    ours.set_to_tag("t1");
    let rsip::SipMessage::Response(read) = theirs(&ours.to_bytes()) else { panic!("a response") };
    assert_eq!(read.status_code().code(), 486);
    assert_eq!(read.call_id_header().expect("a Call-ID").value(), "a84b4c76e66710@198.51.100.9");
    let via = read.via_header().expect("a Via").typed().expect("a good Via");
    assert_eq!(via.branch().map(|b| b.to_string()).as_deref(), Some("z9hG4bK776asdhds"));
    assert!(read.to_header().expect("a To").value().ends_with(";tag=t1"));
    assert_eq!(read.headers().iter().filter(|h| matches!(h, rsip::Header::Via(_))).count(), 2);
}

#[test]
fn both_understand_the_same_ordinary_invite() {
    let text = INVITE
        .replace('\u{fc}', "u")
        .replace("Subject: folded\r\n \tsubject\r\n", "")
        .replace("To: <tel:+1-212-555-1212;phone-context=example.com>", "To: <sip:b@example.com>");
    let ours = request(&text);
    let rsip::SipMessage::Request(read) = theirs(text.as_bytes()) else { panic!("a request") };
    assert_eq!(read.uri().to_string().as_bytes(), &ours.raw_uri[..]);
    assert_eq!(read.headers().iter().count(), ours.headers.len());
    assert_eq!(Some(read.call_id_header().expect("there").value()), ours.call_id());
    let cseq = read.cseq_header().expect("there").typed().expect("good");
    assert_eq!(cseq.seq, ours.cseq().expect("good").number);
    assert_eq!(read.body(), &ours.body.to_vec());
}
