//! The other leg: a PBX where everyone is busy, which keeps every byte it is sent.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};

use tonewall::testkit::simple_sip::{Message, tag, uri};

/// Everything received, message by message.
type Kept = Arc<Mutex<Vec<Vec<u8>>>>;

pub struct Pbx {
    address: SocketAddr,
    kept: Kept,
}

impl Pbx {
    pub fn udp(address: SocketAddr) -> Self {
        let socket = UdpSocket::bind(address).expect("the PBX's address");
        let pbx = Self { address, kept: Kept::default() };
        let kept = pbx.kept.clone();
        std::thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            loop {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else { return };
                kept.lock().expect("the list").push(buffer[..length].to_vec());
                if let Some(answer) = busy(&buffer[..length]) {
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        pbx
    }

    pub fn tcp(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).expect("the PBX's address");
        let pbx = Self { address, kept: Kept::default() };
        let kept = pbx.kept.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let kept = kept.clone();
                std::thread::spawn(move || serve(stream, &kept));
            }
        });
        pbx
    }

    /// Whether exactly these users were called, in this order, by INVITEs without a word of the caller's but the user,
    /// and nothing else came but the ACKs.
    pub fn got_only(&self, called: impl IntoIterator<Item = &'static str>, node: SocketAddr) {
        let kept = self.kept.lock().expect("the list");
        let mut known = HashSet::new();
        let mut seen = Vec::new();
        for bytes in kept.iter() {
            let message = Message::parse(bytes).expect("a SIP message");
            match message.method() {
                // A busy machine may be so slow to answer that it is asked again.
                Some("INVITE") if known.insert(bytes.clone()) => seen.push(self.is_clean(bytes, &message, node)),
                Some("INVITE" | "ACK") => {}
                other => panic!("the PBX was sent {other:?}: {}", message.start),
            }
        }
        let called: Vec<String> = called.into_iter().map(str::to_owned).collect();
        assert_eq!(seen, called);
    }

    /// Checks an INVITE line by line; gives back the user called.
    fn is_clean(&self, bytes: &[u8], invite: &Message, node: SocketAddr) -> String {
        let text = std::str::from_utf8(bytes).expect("text");
        let stray = text.replace("\r\n", "").chars().find(|c| c.is_control());
        assert_eq!(stray, None, "{text}");
        let mut names: Vec<&str> = invite.headers.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        let ours = [
            "Allow",
            "CSeq",
            "Call-ID",
            "Contact",
            "Content-Length",
            "Content-Type",
            "From",
            "Max-Forwards",
            "Min-SE",
            "Session-Expires",
            "Supported",
            "To",
            "User-Agent",
            "Via",
        ];
        // Without an offer there is no type of one.
        let expected: Vec<&str> = ours
            .into_iter()
            .filter(|name| *name != "Content-Type" || !invite.body.is_empty())
            .filter(|name| *name != "User-Agent" || names.contains(name))
            .collect();
        assert_eq!(names, expected, "{text}");

        let (user, host) = invite
            .start
            .strip_prefix("INVITE sip:")
            .and_then(|rest| rest.split(' ').next()?.rsplit_once('@'))
            .expect("a user and a host");
        let transport = if host.ends_with(";transport=tcp") { "TCP" } else { "UDP" };
        let parameter = if transport == "TCP" { ";transport=tcp" } else { "" };
        assert_eq!(host, format!("{}{parameter}", self.address));
        let get = |name| invite.get(name).expect("present");
        assert!(get("Via").starts_with(&format!("SIP/2.0/{transport} {node};")), "{text}");
        assert_eq!(uri(get("Contact")), format!("sip:{node}{parameter}"));
        assert!(uri(get("From")).ends_with(&node.to_string()) && tag(get("From")).is_some(), "{text}");
        assert_eq!(uri(get("To")).split(';').next(), Some(format!("sip:{user}@{}", self.address).as_str()));
        assert!(get("Call-ID").bytes().all(|b| b.is_ascii_hexdigit()), "{text}");
        let body = std::str::from_utf8(&invite.body).expect("text");
        for line in body.lines() {
            let known = ["v=0", "o=", "s=-", "c=IN IP4 127.0.0.1", "t=0 0", "m=audio ", "a="];
            assert!(known.iter().any(|start| line.starts_with(start)), "{line:?} in {body}");
            assert!(!line.contains("192.0.2.") && !line.contains("example"), "{line:?} in {body}");
        }
        rsip::Request::try_from(bytes).expect("rsip reads it");
        if !body.is_empty() {
            sdp_types::Session::parse(body.as_bytes()).expect("sdp-types reads it");
        }
        user.to_owned()
    }
}

fn serve(mut stream: TcpStream, kept: &Kept) {
    let mut held = Vec::new();
    let mut buffer = [0; 4_096];
    while let Ok(length) = stream.read(&mut buffer) {
        if length == 0 {
            return;
        }
        held.extend_from_slice(&buffer[..length]);
        while let Some(message) = whole(&mut held) {
            kept.lock().expect("the list").push(message.clone());
            if let Some(answer) = busy(&message) {
                let _ = stream.write_all(&answer);
            }
        }
    }
}

/// The first whole message of a stream.
fn whole(held: &mut Vec<u8>) -> Option<Vec<u8>> {
    let end = held.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&held[..end]).into_owned();
    let length: usize = head.split_once("Content-Length: ")?.1.lines().next()?.parse().ok()?;
    (held.len() >= end + length).then(|| held.drain(..end + length).collect())
}

/// 486 to an INVITE.
fn busy(bytes: &[u8]) -> Option<Vec<u8>> {
    let invite = Message::parse(bytes).filter(|message| message.method() == Some("INVITE"))?;
    let mut answer = Message::new(format!("SIP/2.0 {} Busy Here", super::trunk::BUSY));
    for name in ["Via", "From", "Call-ID", "CSeq"] {
        answer = answer.with(name, invite.get(name)?);
    }
    let to = format!("{};tag=busy", invite.get("To")?);
    Some(answer.with("To", to).print())
}
