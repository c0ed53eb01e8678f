//! Malformed bytes: refused with their verdict, never a panic (threats R7, R8, R9, R14).

use proptest::prelude::*;

use super::*;

fn verdict(text: impl AsRef<[u8]>) -> (u16, &'static str) {
    match parse_datagram(text.as_ref()) {
        Err(error) => {
            assert!(error.answerable(), "{error}");
            (error.status, error.reason)
        }
        Ok(message) => panic!("{message:?}"),
    }
}

#[test]
fn every_truncation_is_met_without_panic() {
    for text in [INVITE, OK] {
        for end in 0..text.len() {
            if let Ok(message) = parse_datagram(&text.as_bytes()[..end]) {
                panic!("{end} of {}: {message:?}", text.len());
            }
        }
    }
}

#[test]
fn every_single_byte_change_is_met_without_panic() {
    for text in [INVITE, OK] {
        let mut bytes = text.as_bytes().to_vec();
        let mut accepted = 0;
        for at in 0..bytes.len() {
            let was = bytes[at];
            for b in 0..=255u8 {
                bytes[at] = b;
                if let Ok(message) = parse_datagram(&bytes) {
                    accepted += 1;
                    read_all(&message);
                }
            }
            bytes[at] = was;
        }
        assert!(accepted > 1000, "most changes inside values are harmless: {accepted}");
    }
}

#[test]
fn r7_there_is_one_content_length_rule() {
    let with = |line: &str| INVITE.replace("Content-Length: 5\r\n", line);
    for (line, reason) in [
        ("Content-Length: 5\r\nContent-Length: 5\r\n", "More than one Content-Length"),
        ("Content-Length: 5\r\nl: 5\r\n", "More than one Content-Length"),
        ("l: 5\r\nContent-Length: 0\r\n", "More than one Content-Length"),
        ("Content-Length: 5, 5\r\n", "Content-Length is not a number"),
        ("Content-Length: +5\r\n", "Content-Length is not a number"),
        ("Content-Length: -5\r\n", "Content-Length is not a number"),
        ("Content-Length: 0x5\r\n", "Content-Length is not a number"),
        ("Content-Length: 5 \r\n 0\r\n", "Content-Length is not a number"),
        ("Content-Length:\r\n", "Content-Length is not a number"),
        ("Content-Length: 18446744073709551621\r\n", "Content-Length is not a number"),
        ("Content-Length: 4294967301\r\n", "Content-Length is not a number"),
        ("Content-Length: 6\r\n", "Content-Length beyond the message"),
    ] {
        assert_eq!(verdict(with(line)), (400, reason), "{line}");
    }
    for (line, body) in [("Content-Length \t: 5\r\n", 5), ("l:\r\n 4\r\n", 4), ("", 5)] {
        assert_eq!(request(&with(line)).body.len(), body, "{line}");
    }
}

#[test]
fn r8_a_space_before_the_colon_hides_no_header_and_a_control_is_refused() {
    let hidden = request(&INVITE.replace("Content-Length: 5", "Content-Length \t : 4"));
    assert_eq!(hidden.headers.get(HeaderName::ContentLength), Some(&b"4"[..]));
    assert_eq!(hidden.headers.count(HeaderName::ContentLength), 1);
    for name in ["X\u{0}", "X\u{b}", "X\u{c}", "X\u{7f}", "\u{1}X"] {
        let text = INVITE.replace("X-Call-Ref", name);
        assert_eq!(verdict(&text).0, 400, "{name:?}");
    }
    for name in ["X Y", "X\u{e9}", "", "X(", "X@Y"] {
        assert_eq!(verdict(INVITE.replace("X-Call-Ref", name)), (400, "Header name is not a token"), "{name:?}");
    }
    assert_eq!(verdict(INVITE.replace("X-Call-Ref: 42", "nothing")), (400, "Header line without a colon"));
    assert_eq!(verdict(INVITE.replace("X-Call-Ref: 42", "X-Call-Ref\r\n : 42")), (400, "Header name is not a token"));
}

#[test]
fn r9_no_value_smuggles_a_line_or_a_nul() {
    let lines: Vec<&str> = INVITE.split("\r\n").collect();
    for (at, line) in lines.into_iter().take(16).enumerate() {
        for (evil, reason) in [("\r", "Bare carriage return"), ("\0", "NUL character"), ("\u{1b}", "Control character")]
        {
            let reason = if at == 0 && evil != "\r" { "Control character in the start line" } else { reason };
            let text = INVITE.replace(line, &format!("{line}{evil}x"));
            assert_eq!(verdict(&text), (400, reason), "{line}");
        }
        let text = INVITE.replace(line, &format!("{line}\nInjected: x"));
        assert_eq!(verdict(&text), (400, "Bare line feed"), "{line}");
    }
}

#[test]
fn missing_and_doubled_headers_are_named() {
    for (name, long) in [("From", "From"), ("To", "To"), ("Call-ID", "Call-ID"), ("CSeq", "CSeq")] {
        let lines: Vec<&str> = INVITE.split_inclusive("\r\n").collect();
        let line = lines.iter().find(|l| l.starts_with(&format!("{name}:"))).expect("there");
        let (status, reason) = verdict(INVITE.replace(line, ""));
        assert_eq!((status, reason), (400, format!("{long} is missing").as_str()));
        let (status, reason) = verdict(INVITE.replace(line, &line.repeat(2)));
        assert_eq!((status, reason), (400, format!("More than one {long}").as_str()));
    }
    let error = parse_datagram(INVITE.replace("Via:", "X-Via:").as_bytes()).expect_err("no Via");
    assert_eq!((error.reason, error.answerable()), ("Via is missing", false));
}

#[test]
fn versions_and_start_lines_are_strict() {
    let start = "INVITE sip:+12125551212@192.0.2.250;user=phone SIP/2.0";
    for (line, status) in [
        ("INVITE sip:a@b SIP/3.0", 505),
        ("INVITE sip:a@b SIP/2.01", 505),
        ("INVITE sip:a@b HTTP/1.1", 400),
        ("INVITE sip:a@b", 400),
        ("INVITE", 400),
        ("INVITE  SIP/2.0", 400),
        ("INVITE\tsip:a@b\tSIP/2.0", 400),
    ] {
        let error = parse_datagram(INVITE.replace(start, line).as_bytes()).expect_err(line);
        assert_eq!(error.status, status, "{line}");
    }
    for line in
        ["SIP/2.0 99 x", "SIP/2.0 700 x", "SIP/2.0 2000 x", "SIP/2.0  200 OK", "SIP/2.0 -20 x", "SIP/1.0 200 OK"]
    {
        let error = parse_datagram(OK.replace("SIP/2.0 200 OK", line).as_bytes()).expect_err(line);
        assert!(!error.answerable(), "{line}");
    }
    assert!(parse_datagram(OK.replace("SIP/2.0 200 OK", "SIP/2.0 200").as_bytes()).is_ok());
    assert!(parse_datagram(format!("\r\n\r\n{INVITE}").as_bytes()).is_ok(), "empty lines first are ignored");
}

#[test]
fn a_malformed_ack_or_response_is_never_answered() {
    let ack = INVITE.replace("INVITE", "ACK").replace("Max-Forwards: 69", "Max-Forwards: x");
    let error = parse_datagram(ack.as_bytes()).expect_err("malformed");
    assert!(!error.answerable());
    let error = parse_datagram(OK.replace("CSeq: 1", "CSeq: x").as_bytes()).expect_err("malformed");
    assert!(!error.answerable());
}

#[test]
fn no_error_shows_what_was_in_the_message() {
    let error = parse_datagram(INVITE.replace("Max-Forwards: 69", "Max-Forwards: secret").as_bytes()).expect_err("bad");
    assert_eq!(error.to_string(), "400 Max-Forwards is not 0 to 255 at byte 252");
    assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    assert!(!format!("{:?}", request(INVITE)).contains("3035551111"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_are_met_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse_datagram(&bytes);
        let mut framer = Framer::new();
        framer.push(&bytes);
        while let Some(Ok(_)) = framer.next_frame() {}
    }

    #[test]
    fn any_headers_are_met_without_panic(text in "[\\x20-\\x7e\\r\\n\\t\"\\\\<>;=,:]{0,200}") {
        let bytes = INVITE.replace("X-Call-Ref: 42", &text);
        if let Ok(message) = parse_datagram(bytes.as_bytes()) {
            read_all(&message);
        }
        for name in ["Contact", "Via", "Route", "From", "To", "Content-Type"] {
            let _ = parse_datagram(INVITE.replace("X-Call-Ref: 42", &format!("{name}: {text}")).as_bytes());
        }
    }

    #[test]
    fn a_stream_cut_anywhere_gives_the_same_messages(cut in 0usize..2000, noise in any::<u8>(), at in 0usize..2000) {
        let mut stream = [INVITE.as_bytes(), OK.as_bytes(), b"\r\n\r\n", INVITE.as_bytes()].concat();
        let at = at % stream.len();
        stream[at] = noise;
        let frames = |pieces: &[&[u8]]| {
            let mut framer = Framer::new();
            let mut out = Vec::new();
            for piece in pieces {
                framer.push(piece);
                while let Some(frame) = framer.next_frame() {
                    out.push(frame);
                }
            }
            out
        };
        let cut = cut % stream.len();
        prop_assert_eq!(frames(&[&stream[..cut], &stream[cut..]]), frames(&[&stream]));
    }
}
