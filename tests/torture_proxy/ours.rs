//! Our own hostile messages: Content-Length games (threats R7), odd header names (R8), control characters and escapes
//! (R9), and what a caller might try on our routing. Each is one good INVITE with something changed.

use std::net::SocketAddr;

use super::trunk::Outcome;

use Outcome::{Answered, Call, Closed, Ignored, Waits};

/// A message and what must come of it.
pub struct Own {
    pub name: String,
    pub bytes: Vec<u8>,
    pub expected: Outcome,
}

/// What is replaced by what in the good INVITE, one after the other.
type Change = &'static [(&'static str, &'static str)];

const SDP: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 40000 RTP/AVP 0 101\r\n\
                   a=rtpmap:101 telephone-event/8000\r\n";

/// Text that must not be found on the other leg: as a header, it would be refused by the fake PBX's check.
const INJECTED: &str = "X-Injected: yes";

/// A good INVITE; `LENGTH` stands for the length of the body.
fn good(number: usize, me: SocketAddr, node: SocketAddr) -> String {
    format!(
        "INVITE sip:4000@{node} SIP/2.0\r\n\
         Via: SIP/2.0/UDP {me};branch=z9hG4bKown{number};rport\r\n\
         Max-Forwards: 70\r\n\
         From: \"Caller\" <sip:1000@{me}>;tag=from{number}\r\n\
         To: <sip:4000@{node}>\r\n\
         Call-ID: own{number}\r\n\
         CSeq: 1 INVITE\r\n\
         Contact: <sip:1000@{me}>\r\n\
         Subject: nothing\r\n\
         Content-Type: application/sdp\r\n\
         Content-Length: LENGTH\r\n\r\n{SDP}"
    )
}

const BODY: &str = "Content-Length: LENGTH";

/// The changes; after each, `LENGTH` becomes the length of [`SDP`].
const CHANGES: &[(&str, Change, Outcome)] = &[
    ("nothing changed", &[], Call("4000")),
    // R7: which bytes are the body?
    ("Content-Length twice, equal", &[(BODY, "Content-Length: LENGTH\r\nContent-Length: LENGTH")], Answered(400)),
    ("Content-Length twice, 0 first", &[(BODY, "Content-Length: 0\r\nContent-Length: LENGTH")], Answered(400)),
    ("long and compact Content-Length", &[(BODY, "l: 0\r\nContent-Length: LENGTH")], Answered(400)),
    ("long and compact Content-Length, equal", &[(BODY, "l: LENGTH\r\nContent-Length: LENGTH")], Answered(400)),
    ("Content-Length a list", &[(BODY, "Content-Length: LENGTH, LENGTH")], Answered(400)),
    ("Content-Length +", &[(BODY, "Content-Length: +5")], Answered(400)),
    ("Content-Length -", &[(BODY, "Content-Length: -1")], Answered(400)),
    ("Content-Length hexadecimal", &[(BODY, "Content-Length: 0x10")], Answered(400)),
    ("Content-Length with a fraction", &[(BODY, "Content-Length: 5.0")], Answered(400)),
    ("Content-Length of two words", &[(BODY, "Content-Length: 5 5")], Answered(400)),
    ("Content-Length with a parameter", &[(BODY, "Content-Length: 5;x")], Answered(400)),
    ("Content-Length in quotes", &[(BODY, "Content-Length: \"5\"")], Answered(400)),
    ("Content-Length empty", &[(BODY, "Content-Length:")], Answered(400)),
    ("Content-Length beyond 64 bits", &[(BODY, "Content-Length: 18446744073709551617")], Answered(400)),
    ("Content-Length in Arabic digits", &[(BODY, "Content-Length: \u{0661}\u{0665}")], Answered(400)),
    ("Content-Length beyond the datagram", &[(BODY, "Content-Length: 60000")], Answered(400)),
    ("Content-Length short: the rest is not read", &[("LENGTH", "0")], Call("4000")),
    ("Content-Length folded", &[(BODY, "Content-Length:\r\n LENGTH")], Call("4000")),
    ("a message behind the message", &[("a=rtpmap:101", "\r\nBYE sip:x SIP/2.0\r\n\r\na=rtpmap:101")], Answered(400)),
    // R8: odd names.
    ("Content-Length, space, colon", &[(BODY, "Content-Length : LENGTH")], Call("4000")),
    ("Content-Length with and without space", &[(BODY, "Content-Length : 0\r\nContent-Length: LENGTH")], Answered(400)),
    ("Content-Length, tab, colon, twice", &[(BODY, "Content-Length\t: 0\r\nl\t : LENGTH")], Answered(400)),
    ("From with space, second From", &[("To: ", "From : <sip:evil@192.0.2.9>;tag=e\r\nTo: ")], Answered(400)),
    ("vertical tab before the colon", &[("Subject:", "Subject\u{b}:")], Answered(400)),
    ("NUL before the colon", &[("Subject:", "Subject\0:")], Answered(400)),
    ("BEL before the colon of Content-Length", &[("Content-Length:", "Content-Length\u{7}:")], Answered(400)),
    ("a space inside a name", &[("Subject:", "Sub ject:")], Answered(400)),
    ("no name", &[("Subject: nothing", ": nothing")], Answered(400)),
    ("no colon", &[("Subject: nothing", "Subject nothing")], Answered(400)),
    ("a name of parentheses", &[("Subject:", "(Subject):")], Answered(400)),
    ("a first line that is folded", &[("\r\nVia:", "\r\n Via:")], Ignored),
    ("a folded line of spaces", &[("Subject: nothing", "Subject: nothing\r\n  \r\n X-Injected: yes")], Call("4000")),
    // R9: line ends and NUL in every header. A Via that cannot be read leaves nobody to answer.
    ("CR in the display name", &[("Caller", "Cal\rler")], Answered(400)),
    ("LF in the display name", &[("Caller", "Cal\nler")], Answered(400)),
    ("NUL in the display name", &[("Caller", "Cal\0ler")], Answered(400)),
    ("LF and a header in the display name", &[("Caller", "Cal\nX-Injected: yes\nX: ")], Answered(400)),
    ("CRLF and a header in the display name", &[("Caller", "Cal\r\nX-Injected: yes\r\nX: ")], Answered(400)),
    ("quoted CR", &[("Caller", "Cal\\\rler")], Answered(400)),
    ("quoted LF", &[("Caller", "Cal\\\nler")], Answered(400)),
    ("quoted NUL and BEL: legal, not passed on", &[("Caller", "Cal\\\0\\\u{7}ler")], Call("4000")),
    ("CR in From", &[("sip:1000@", "sip:10\r00@")], Answered(400)),
    ("LF in From", &[("sip:1000@", "sip:10\n00@")], Answered(400)),
    ("NUL in From", &[("sip:1000@", "sip:10\u{0}00@")], Answered(400)),
    ("CR in To", &[("To: <sip:4000", "To: <sip:40\r00")], Answered(400)),
    ("LF in To", &[("To: <sip:4000", "To: <sip:40\n00")], Answered(400)),
    ("NUL in To", &[("To: <sip:4000", "To: <sip:40\u{0}00")], Answered(400)),
    ("CR in Call-ID", &[("Call-ID: own", "Call-ID: o\rwn")], Answered(400)),
    ("LF in Call-ID", &[("Call-ID: own", "Call-ID: o\nwn")], Answered(400)),
    ("NUL in Call-ID", &[("Call-ID: own", "Call-ID: o\0wn")], Answered(400)),
    ("CR in CSeq", &[("CSeq: 1 ", "CSeq: 1\r ")], Answered(400)),
    ("LF in CSeq", &[("CSeq: 1 INVITE", "CSeq: 1 INVITE\nX-Injected: yes")], Answered(400)),
    ("NUL in CSeq", &[("CSeq: 1 ", "CSeq: 1\0 ")], Answered(400)),
    ("CR in Contact", &[("Contact: <sip:1000", "Contact: <sip:10\r00")], Answered(400)),
    ("LF in Contact", &[("Contact: <sip:1000", "Contact: <sip:10\n00")], Answered(400)),
    ("NUL in Contact", &[("Contact: <sip:1000", "Contact: <sip:10\u{0}00")], Answered(400)),
    ("CR in Subject", &[("nothing", "no\rthing")], Answered(400)),
    ("LF in Subject", &[("nothing", "no\nX-Injected: yes")], Answered(400)),
    ("NUL in Subject", &[("nothing", "no\0thing")], Answered(400)),
    ("escape sequence in Subject", &[("nothing", "\u{1b}[2J")], Answered(400)),
    ("CR, CR, LF in Subject", &[("nothing", "no\r\r\nX-Injected: yes")], Answered(400)),
    ("CR in Max-Forwards", &[("Max-Forwards: 70", "Max-Forwards: 7\r0")], Answered(400)),
    ("LF in Content-Type", &[("application/sdp", "application/sdp\nX-Injected: yes")], Answered(400)),
    ("CR in the Request-URI", &[("INVITE sip:4000", "INVITE sip:40\r00")], Answered(400)),
    ("LF in the Request-URI", &[("INVITE sip:4000", "INVITE sip:4000\nX-Injected: yes\n")], Answered(400)),
    ("NUL in the Request-URI", &[("INVITE sip:4000", "INVITE sip:40\u{0}00")], Answered(400)),
    // It may be an ACK.
    ("NUL in the method", &[("INVITE sip:4000", "INV\0ITE sip:4000")], Ignored),
    (
        "escaped CRLF stays escaped",
        &[("INVITE sip:4000", "INVITE sip:4%0d%0aX-Injected%3a%20yes")],
        Call("4%0d%0aX-Injected%3a%20yes"),
    ),
    ("escaped NUL stays escaped", &[("INVITE sip:4000", "INVITE sip:4%00")], Call("4%00")),
    ("escaped CRLF in From stays escaped", &[("sip:1000@", "sip:1%0D%0A0@")], Call("4000")),
    ("every line ends with LF alone", &[("\r\n", "\n")], Answered(400)),
    ("every line ends with CR alone", &[("\r\n", "\r")], Ignored),
    // Headers of which there is one.
    ("From twice", &[("To: ", "From: <sip:e@192.0.2.9>;tag=e\r\nTo: ")], Answered(400)),
    ("To twice, long and compact", &[("To: ", "t: <sip:5000@192.0.2.9>\r\nTo: ")], Answered(400)),
    ("Call-ID twice", &[("Call-ID: ", "i: other\r\nCall-ID: ")], Answered(400)),
    ("CSeq twice", &[("CSeq: ", "CSeq: 2 INVITE\r\nCSeq: ")], Answered(400)),
    ("Max-Forwards twice", &[("Max-Forwards: 70", "Max-Forwards: 70\r\nMax-Forwards: 0")], Answered(400)),
    ("Max-Forwards 256", &[("Max-Forwards: 70", "Max-Forwards: 256")], Answered(400)),
    ("Max-Forwards 0", &[("Max-Forwards: 70", "Max-Forwards: 0")], Answered(483)),
    ("CSeq of another method", &[("CSeq: 1 INVITE", "CSeq: 1 BYE")], Answered(400)),
    ("CSeq 2^31", &[("CSeq: 1 ", "CSeq: 2147483648 ")], Answered(400)),
    ("no Contact", &[("Contact: <sip:1000@", "X-Contact: <sip:1000@")], Answered(400)),
    ("no Via: nobody to answer", &[("Via: ", "X-Via: ")], Ignored),
    // Where a call may go is ours to say (R16, R17).
    ("a Route to elsewhere", &[("To: ", "Route: <sip:192.0.2.99;lr>\r\nTo: ")], Call("4000")),
    ("maddr", &[(" SIP/2.0\r\n", ";maddr=192.0.2.99 SIP/2.0\r\n")], Call("4000")),
    ("a foreign host", &[("INVITE sip:4000@", "INVITE sip:4000@192.0.2.99;x=")], Call("4000")),
    ("Via with a foreign received", &[(";rport", ";rport;received=192.0.2.99")], Call("4000")),
    ("Via with maddr", &[(";rport", ";rport;maddr=239.255.255.1")], Call("4000")),
    ("no user in the Request-URI", &[("INVITE sip:4000@", "INVITE sip:")], Answered(484)),
    ("sips", &[("INVITE sip:", "INVITE sips:")], Answered(416)),
    ("http", &[("INVITE sip:", "INVITE http:")], Answered(416)),
    ("headers in the Request-URI", &[(" SIP/2.0\r\n", "?X-Injected=yes SIP/2.0\r\n")], Answered(400)),
    ("version 3", &[(" SIP/2.0\r\n", " SIP/3.0\r\n")], Answered(505)),
    ("Replaces", &[("Subject: nothing", "Replaces: ghost;to-tag=1;from-tag=2")], Answered(403)),
    ("Join", &[("Subject: nothing", "Join: ghost;to-tag=1;from-tag=2")], Answered(403)),
    ("Require", &[("Subject: nothing", "Require: precondition")], Answered(420)),
    ("a dialog that is not", &[("\r\nCall-ID", ";tag=ghost\r\nCall-ID")], Answered(481)),
    ("a tag inside the To URI is none", &[("To: <sip:4000@", "To: <sip:4000;tag=ghost@")], Call("4000")),
    // Bodies.
    ("a body without a type", &[("Content-Type: application/sdp", "X-Type: application/sdp")], Answered(415)),
    ("parts that are not there", &[("application/sdp", "multipart/mixed;boundary=x")], Answered(400)),
    ("a compressed body", &[("application/sdp", "application/sdp\r\nContent-Encoding: gzip")], Answered(415)),
    ("SDP that is none", &[("v=0\r\no=-", "X=0\r\no=-")], Answered(400)),
    ("SDP of LF lines: read, written anew", &[("v=0\r\no=- 1 1", "v=0\no=- 1 1")], Call("4000")),
    ("SDP without audio", &[("m=audio", "m=video")], Answered(488)),
    ("SDP of a foreign address", &[("c=IN IP4 192.0.2.1", "c=IN IP4 198.51.100.1")], Answered(488)),
    ("SDP of our own machine", &[("c=IN IP4 192.0.2.1", "c=IN IP4 127.0.0.1")], Answered(488)),
    ("SDP of a multicast group", &[("c=IN IP4 192.0.2.1", "c=IN IP4 224.2.1.1/127")], Answered(488)),
    ("SDP of a host name", &[("c=IN IP4 192.0.2.1", "c=IN IP4 media.example.com")], Answered(488)),
    ("SDP of a service's port", &[("m=audio 40000", "m=audio 53")], Answered(488)),
];

/// Requests other than INVITE outside any dialog (R11, R12).
const METHODS: &[(&str, Outcome)] = &[
    ("REGISTER", Answered(405)),
    ("MESSAGE", Answered(405)),
    ("PUBLISH", Answered(405)),
    ("SUBSCRIBE", Answered(489)),
    ("REFER", Answered(403)),
    ("NOTIFY", Answered(481)),
    ("BYE", Answered(481)),
    ("INFO", Answered(481)),
    ("UPDATE", Answered(481)),
    ("PRACK", Answered(481)),
    ("CANCEL", Answered(481)),
    ("ACK", Ignored),
    ("invite", Answered(501)),
    ("FOO", Answered(501)),
];

fn own(name: &str, bytes: impl Into<Vec<u8>>, expected: &Outcome) -> Own {
    Own { name: name.to_owned(), bytes: bytes.into(), expected: expected.clone() }
}

fn changed(mut text: String, change: Change) -> String {
    for (from, to) in change {
        assert!(text.contains(from), "{from:?} is not in the INVITE");
        // Line ends change everywhere, all else once.
        text = if *from == "\r\n" { text.replace(from, to) } else { text.replacen(from, to, 1) };
    }
    let (_, body) = text.split_once("\r\n\r\n").unwrap_or(("", ""));
    let length = body.len().to_string();
    text.replace("LENGTH", &length)
}

/// Every message of ours that fits a datagram.
pub fn messages(me: SocketAddr, node: SocketAddr) -> Vec<Own> {
    let mut list: Vec<Own> = Vec::new();
    for (name, change, expected) in CHANGES {
        list.push(own(name, changed(good(list.len(), me, node), change), expected));
    }
    for (method, expected) in METHODS {
        let text = good(list.len(), me, node).replace("INVITE", method);
        list.push(own(&format!("{method} outside a dialog"), changed(text, &[]), expected));
    }
    // What is no SIP at all, or is only the start of it.
    list.push(own("an empty datagram", "", &Ignored));
    list.push(own("a keep-alive", "\r\n\r\n", &Ignored));
    list.push(own("zeros", vec![0; 200], &Ignored));
    list.push(own("0xff", vec![0xff; 1_400], &Ignored));
    list.push(own("STUN", [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[7; 12]].concat(), &Ignored));
    list.push(own("RTP", [&[0x80, 0, 0, 1][..], &[0; 168]].concat(), &Ignored));
    list.push(own("HTTP", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", &Ignored));
    list.push(own("a start line only", "INVITE sip:4000@x SIP/2.0\r\n\r\n", &Ignored));
    let text = changed(good(list.len(), me, node), &[]);
    list.push(own("cut within the head", &text.as_bytes()[..text.len() / 3], &Answered(400)));
    let many = format!("\r\n{INJECTED}").repeat(1_000);
    let text = good(list.len(), me, node).replace("\r\nSubject: nothing", &many);
    list.push(own("a thousand foreign headers", changed(text, &[]), &Call("4000")));
    let text = good(list.len(), me, node).replace("nothing", &"n".repeat(60_000));
    list.push(own("a header of 60 kB", changed(text, &[]), &Call("4000")));
    let text = good(list.len(), me, node).replace("a=rtpmap", &format!("{}a=rtpmap", "a=x\r\n".repeat(12_000)));
    list.push(own("SDP of 60 kB of foreign attributes", changed(text, &[]), &Call("4000")));
    for status in [100, 180, 200, 302, 401, 407, 486, 503, 699] {
        let text = good(list.len(), me, node);
        let (_, rest) = text.split_once("\r\n").expect("a start line");
        let text = changed(format!("SIP/2.0 {status} Stray\r\n{rest}"), &[]);
        list.push(own(&format!("a stray {status}"), text, &Ignored));
    }
    list
}

/// The cases of RFC 5118, by its sections: addresses of IPv6 at a node that has none. Own wording.
pub fn of_ipv6(node: SocketAddr) -> Vec<Own> {
    const VIA: &str = "[2001:db8::9:1]";
    const CONTACT: &str = "\"Caller\" <sip:caller@[2001:db8::1]>";
    let mut list = Vec::new();
    let mut request =
        |name: &str, method: &str, uri: &str, via: &str, contact: &str, body: &str, expected: &Outcome| {
            let number = list.len();
            let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
            let text = format!(
                "{method} {uri} SIP/2.0\r\nTo: <sip:user@example.com>\r\nFrom: <sip:user@example.com>;tag=81x2\r\n\
             Via: SIP/2.0/UDP {via};branch=z9hG4bKas{number}\r\nCall-ID: s{number}@[2001:db8::9:1]\r\n\
             Max-Forwards: 70\r\nContact: {contact}\r\nCSeq: 1 {method}\r\n{kind}Content-Length: {}\r\n\r\n{body}",
                body.len()
            );
            list.push(own(name, text, expected));
        };
    let user = format!("sip:4000@{node}");
    request("4.1 a reference", "REGISTER", "sip:[2001:db8::10]", VIA, CONTACT, "", &Answered(405));
    request("4.2 without brackets", "REGISTER", "sip:2001:db8::10", VIA, CONTACT, "", &Answered(400));
    request("4.3 a port inside", "REGISTER", "sip:[2001:db8::10:5070]", VIA, CONTACT, "", &Answered(405));
    request("4.4 a port outside", "REGISTER", "sip:[2001:db8::10]:5070", VIA, CONTACT, "", &Answered(405));
    let bare = "[2001:db8::9:1];received=2001:db8::9:255";
    request("4.5 received without brackets", "BYE", "sip:[2001:db8::10]", bare, CONTACT, "", &Answered(481));
    let bracketed = "[2001:db8::9:1];received=[2001:db8::9:255]";
    request("4.5 received in brackets", "OPTIONS", "sip:[2001:db8::10]", bracketed, CONTACT, "", &Answered(200));
    let six = SDP.replace("IN IP4 192.0.2.1", "IN IP6 2001:db8::20");
    request("4.6 media of IPv6", "INVITE", &user, VIA, CONTACT, &six, &Answered(488));
    let mixed = "[2001:db8::9:1]:6050;branch=z9hG4bKm\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKn\r\n\
                 Via: SIP/2.0/TCP [2001:db8::9:255]";
    request("4.7 both families", "OPTIONS", &user, mixed, "<sip:user@192.0.2.1>", "", &Answered(200));
    let two = SDP
        .replace("c=IN IP4 192.0.2.1\r\nt=0 0\r\n", "t=0 0\r\n")
        .replace("RTP/AVP 0 101\r\n", "RTP/AVP 0 101\r\nc=IN IP4 192.0.2.1\r\n")
        + "m=video 6000 RTP/AVP 31\r\nc=IN IP6 2001:db8::20\r\n";
    request("4.8 both families in SDP", "INVITE", &user, VIA, CONTACT, &two, &Call("4000"));
    let mapped = "\"Caller\" <sip:caller@[::ffff:192.0.2.2]>";
    request("4.9 a mapped address", "INVITE", &user, "[::ffff:192.0.2.2]:5060", mapped, SDP, &Call("4000"));
    let mapped_media = SDP.replace("IN IP4 192.0.2.1", "IN IP6 ::ffff:192.0.2.1");
    // It is the IPv4 address, and the trunk allows that one.
    request("4.9 mapped media", "INVITE", &user, VIA, CONTACT, &mapped_media, &Call("4000"));
    request("4.10 three colons", "OPTIONS", "sip:user@[2001:db8:::192.0.2.1]", VIA, CONTACT, "", &Answered(400));
    list
}

/// Messages that are wrong only on a stream.
pub fn on_a_stream(me: SocketAddr, node: SocketAddr) -> Vec<Own> {
    let good = |number: usize| good(number, me, node).replace("/UDP", "/TCP");
    let without = good(1_000).replace("Content-Length: LENGTH\r\n", "");
    let twice = changed(good(1_001), &[(BODY, "Content-Length: LENGTH\r\nl: LENGTH")]);
    let negative = changed(good(1_002), &[(BODY, "Content-Length: -1")]);
    let spaced = changed(good(1_003), &[(BODY, "Content-Length : 0\r\nContent-Length: LENGTH")]);
    let big = changed(good(1_004), &[(BODY, "Content-Length: 70000")]);
    let long = good(1_005).replace("nothing", &"n".repeat(70_000));
    let endless = vec![b'x'; 70_000];
    let short = changed(good(1_006), &[(BODY, "Content-Length: 1000")]);
    // The body is read as the next message, whose head never ends well.
    let smuggled = changed(good(1_007), &[(BODY, "Content-Length: 0"), ("Contact:", "X-Contact:")]);
    vec![
        own("no Content-Length", without, &Closed(400)),
        own("Content-Length twice", twice, &Closed(400)),
        own("Content-Length negative", negative, &Closed(400)),
        own("Content-Length with and without space", spaced, &Closed(400)),
        own("a body beyond 64 KiB", big, &Closed(513)),
        own("a head beyond 64 KiB", changed(long, &[]), &Closed(513)),
        own("no head at all", endless, &Ignored),
        own("a body that does not come", short, &Waits),
        own("a body said to be none", smuggled, &Answered(400)),
    ]
}
