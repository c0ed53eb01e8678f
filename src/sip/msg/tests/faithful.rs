//! Bytes in are bytes out, and what we build reads back.

use proptest::prelude::*;

use super::*;

#[test]
fn untouched_messages_keep_every_byte() {
    for text in [INVITE, OK] {
        let message = parse_datagram(text.as_bytes()).expect("good");
        assert_eq!(message.to_bytes(), text.as_bytes());
        read_all(&message);
    }
}

#[test]
fn latin_1_bytes_and_binary_bodies_are_kept() {
    let mut bytes =
        b"MESSAGE sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKx\r\nFrom: J\xfcrgen <sip:j@b>;tag=1\r\n\
        To: <sip:a@b>\r\nCall-ID: 1\r\nCSeq: 1 MESSAGE\r\nSubject: caf\xe9\r\n\r\n"
            .to_vec();
    bytes.extend(0..=255u8);
    let message = parse_datagram(&bytes).expect("good");
    assert_eq!(message.to_bytes(), bytes);
    assert_eq!(message.body().len(), 256);
    assert_eq!(message.headers().get(HeaderName::Subject), Some(&b"caf\xe9"[..]));
    assert_eq!(message.headers().text(HeaderName::Subject), None);
}

#[test]
fn a_change_touches_its_own_line_only() {
    let mut message = request(INVITE);
    message.headers.set(HeaderName::MaxForwards, "68");
    message.headers.remove_named("x-call-ref");
    let expected = INVITE.replace("Max-Forwards: 69", "Max-Forwards: 68").replace("X-Call-Ref: 42\r\n", "");
    assert_eq!(message.to_bytes(), expected.as_bytes());
}

#[test]
fn content_length_follows_the_body() {
    let mut message = request(INVITE);
    message.set_body("application/sdp", "v=0\r\ns=-\r\n");
    let text = String::from_utf8(message.to_bytes().to_vec()).expect("text");
    assert!(text.contains("\r\nContent-Length: 10\r\n\r\nv=0\r\ns=-\r\n"), "{text}");
    assert_eq!(text.matches("Content-Length").count(), 1);
    message.set_body("application/sdp", "");
    let text = String::from_utf8(message.to_bytes().to_vec()).expect("text");
    assert!(!text.contains("Content-Type") && text.ends_with("Content-Length: 0\r\n\r\n"), "{text}");
}

#[test]
fn an_answer_copies_what_rfc_3261_says() {
    let message = request(INVITE);
    let mut answer = Response::for_request(&message, 180, "");
    answer.set_to_tag("314");
    answer.set_to_tag("again");
    let text = String::from_utf8(answer.to_bytes().to_vec()).expect("text");
    let expected = "SIP/2.0 180 Ringing\r\n\
        Via: SIP/2.0/UDP 198.51.100.9:5060;branch=z9hG4bK776asdhds;rport\r\n\
        Via: SIP/2.0/UDP [2001:db8::9]:5060;branch=z9hG4bKabc;received=2001:db8::10\r\n\
        From: \"J\u{fc}rgen \\\"JJ\\\" K\" <sip:+13035551111@example.com>;tag=1928301774\r\n\
        To: <tel:+1-212-555-1212;phone-context=example.com>;tag=314\r\n\
        Call-ID: a84b4c76e66710@198.51.100.9\r\n\
        CSeq: 314159 INVITE\r\n\
        Record-Route: <sip:198.51.100.9;lr;ftag=1928301774>\r\n\
        Content-Length: 0\r\n\r\n";
    assert_eq!(text, expected);
}

#[test]
fn what_is_required_and_not_there_is_named() {
    let text = INVITE.replace("Supported:", "Require: timer, foo\r\nSupported:");
    let supported = ["Timer".to_owned()];
    let refusal = Response::bad_extension(&request(&text), &supported).expect("a refusal");
    assert_eq!(refusal.headers.get(HeaderName::Unsupported), Some(&b"foo"[..]));
    assert!(Response::bad_extension(&request(INVITE), &supported).is_none());
}

/// A header line of some form, with or without folding and odd bytes.
fn line() -> impl Strategy<Value = Vec<u8>> {
    let name = prop_oneof!["[A-Za-z][A-Za-z0-9.!%*_+`'~-]{3,12}", Just("Subject".to_owned()), Just("s".to_owned())];
    let colon = prop_oneof![Just(":"), Just(": "), Just(" :\t"), Just("  :  ")];
    let text = prop::collection::vec(prop_oneof![0x21..=0x7eu8, 0x80..=0xffu8, Just(b' ')], 0..40);
    let fold = prop_oneof![4 => Just(&b""[..]), 1 => Just(&b"\r\n "[..]), 1 => Just(&b" \r\n\t \r\n  "[..])];
    (name, colon, text.clone(), fold, text).prop_map(|(name, colon, first, fold, second)| {
        [b"X", name.as_bytes(), colon.as_bytes(), &first, fold, b"x", &second, b"\r\n"].concat()
    })
}

fn mandatory() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let pick = |forms: &'static [&'static str]| prop::sample::select(forms).prop_map(|s| s.as_bytes().to_vec());
    let lines = (
        pick(&[
            "Via: SIP/2.0/UDP h;branch=z9hG4bKx\r\n",
            "v:SIP / 2.0 / TCP [::1]:1 ;\r\n branch=z9hG4bKy,SIP/2.0/TLS h\r\n",
            "VIA: SIP/2.0/UDP 192.0.2.1\r\n",
        ]),
        pick(&["From: <sip:a@b>;tag=1\r\n", "f: \"q,\\\"\" <sip:a@b;x=y?h=v>\r\n", "FROM : sip:a@b ; tag = 1\r\n"]),
        pick(&["To: <tel:+1234>\r\n", "t: sip:b@c;tag=2\r\n", "to: A B\r\n <sips:[::1]:5061>\r\n"]),
        pick(&["Call-ID: a@b\r\n", "i: x(y)\r\n", "call-id:\t[]{}?\r\n"]),
        pick(&["CSeq: 1 OPTIONS\r\n", "cseq:0001   OPTIONS\r\n", "CSEQ: 2147483647\r\n OPTIONS\r\n"]),
    );
    let more = prop::collection::vec(line(), 0..6);
    (lines, more).prop_map(|((a, b, c, d, e), more)| [vec![a, b, c, d, e], more].concat()).prop_shuffle()
}

proptest! {
    #[test]
    fn any_legal_message_is_printed_as_it_came(
        lines in mandatory(),
        uri in "sips?:[a-z]{1,8}@[a-z]{1,8}(:[1-9][0-9]{1,3})?(;[a-z]{1,4}(=[a-z]{1,4})?){0,3}",
        body in prop::collection::vec(any::<u8>(), 0..60),
        told in any::<bool>(),
    ) {
        let length = if told { format!("Content-Length : {}\r\n", body.len()) } else { String::new() };
        let start = format!("OPTIONS {uri} SIP/2.0\r\n");
        let bytes = [start.as_bytes(), &lines.concat(), length.as_bytes(), b"\r\n", &body].concat();
        let message = parse_datagram(&bytes).map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert_eq!(message.to_bytes(), bytes);
        prop_assert_eq!(message.body(), &body);
        read_all(&message);
    }

    #[test]
    fn what_is_built_reads_back(
        names in prop::collection::vec("X-[A-Za-z]{1,10}", 0..8),
        values in prop::collection::vec("[ -~\u{a0}-\u{ff}]{0,30}", 8),
        tag in "[a-z0-9]{1,12}",
        body in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let mut built = Request::new(Method::Info, "sip:a@b");
        built.headers.push(HeaderName::Via, "SIP/2.0/UDP h;branch=z9hG4bKx");
        built.headers.push(HeaderName::From, header::address(values.first().map(String::as_str), "sip:x@y", Some(&tag)));
        built.headers.push(HeaderName::To, header::address(None, "sip:a@b", None));
        built.headers.push(HeaderName::CallId, "1");
        built.headers.push(HeaderName::CSeq, "1 INFO");
        for (name, value) in names.iter().zip(&values) {
            built.headers.try_push_named(name, value).map_err(|e| TestCaseError::fail(e.to_string()))?;
        }
        built.set_body("application/octet-stream", body.clone());
        let read = match parse_datagram(&built.to_bytes()) {
            Ok(Message::Request(read)) => read,
            other => return Err(TestCaseError::fail(format!("{other:?}"))),
        };
        for (ours, theirs) in built.headers.iter().zip(read.headers.iter()) {
            prop_assert_eq!((ours.name, ours.value), (theirs.name, theirs.value));
        }
        let from = read.from().map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert_eq!(from.tag(), Some(tag.as_str()));
        let shown = from.display_name().unwrap_or_default().into_owned();
        let expected: String = values[0].chars().filter(|c| !c.is_control()).collect();
        prop_assert_eq!(shown, expected);
        prop_assert_eq!(read.body.as_ref(), &body[..]);
    }
}
