//! A peer's end of a dialog, and the messages it writes.

use tonewall::testkit::simple_sip::{Message, tag, uri};

use super::{OURS, Who, World};

/// One peer's end of a dialog.
#[derive(Debug, Clone)]
pub struct Line {
    pub who: Who,
    pub call_id: String,
    pub local: String,
    pub remote: String,
    pub target: String,
    pub cseq: u32,
    /// CSeq of the last INVITE: that of its ACK and CANCEL.
    pub invite: u32,
}

/// A body as a telephone writes it.
pub fn sdp(who: Who, version: u32, formats: &str, direction: &str) -> String {
    let ip = who.media();
    let mut text = format!(
        "v=0\r\no=phone-{who:?} 4711 {version} IN IP4 {ip}\r\ns=Secret Name\r\nc=IN IP4 {ip}\r\nt=0 0\r\n\
         m=audio {} RTP/AVP {formats}\r\n",
        6_000 + who.listener() * 1_000,
    );
    for format in formats.split(' ') {
        text += match format {
            "0" => "a=rtpmap:0 PCMU/8000\r\n",
            "8" => "a=rtpmap:8 PCMA/8000\r\n",
            _ => "a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n",
        };
    }
    text + &format!("a=candidate:1 1 UDP 1 {ip} 6000 typ host\r\na={direction}\r\n")
}

pub const BOTH: &str = "0 8 101";

impl Line {
    /// A caller's line, before its INVITE.
    pub fn new(world: &mut World, who: Who, to: &str) -> Line {
        let n = world.next();
        let ip = who.at().ip();
        let ours = OURS[who.listener()];
        Line {
            who,
            call_id: format!("callid-{n}-{who:?}@{ip}"),
            local: format!("\"Caller {n}\" <sip:+4930{n}@{ip}>;tag=tag-{who:?}-{n}"),
            remote: format!("<sip:{to}@{ours}>"),
            target: format!("sip:{to}@{ours}"),
            cseq: 0,
            invite: 0,
        }
    }

    /// The next request on this line.
    pub fn request(&mut self, world: &mut World, method: &str) -> Message {
        if !matches!(method, "ACK" | "CANCEL") {
            self.cseq += 1;
        }
        if method == "INVITE" {
            self.invite = self.cseq;
        }
        let cseq = if matches!(method, "ACK" | "CANCEL") { self.invite } else { self.cseq };
        let n = world.next();
        let at = self.who.at();
        Message::new(format!("{method} {} SIP/2.0", self.target))
            .with("Via", format!("SIP/2.0/UDP {at};branch=z9hG4bK-{:?}-{n};rport", self.who))
            .with("Max-Forwards", "70")
            .with("From", self.local.clone())
            .with("To", self.remote.clone())
            .with("Call-ID", self.call_id.clone())
            .with("CSeq", format!("{cseq} {method}"))
            .with("Contact", format!("<sip:contact-{:?}@{at}>", self.who))
            .with("Allow", "INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, UPDATE")
            .with("User-Agent", format!("Agent-of-{:?}", self.who))
    }

    /// A request with SDP.
    pub fn offer(&mut self, world: &mut World, method: &str, body: &str) -> Message {
        self.request(world, method).with_body("application/sdp", body)
    }

    /// Takes tag and target from a response to our INVITE.
    pub fn follow(&mut self, response: &Message) {
        self.remote = response.get("to").expect("To").to_owned();
        self.target = uri(response.get("contact").expect("Contact")).to_owned();
    }

    /// The ACK for a 2xx.
    pub fn ack(&mut self, world: &mut World) -> Message {
        self.request(world, "ACK")
    }

    /// The called side's line, from the INVITE and the tag it answers with.
    pub fn called(who: Who, invite: &Message, our_tag: &str) -> Line {
        Line {
            who,
            call_id: invite.get("call-id").expect("Call-ID").to_owned(),
            local: format!("{};tag={our_tag}", invite.get("to").expect("To")),
            remote: invite.get("from").expect("From").to_owned(),
            target: uri(invite.get("contact").expect("Contact")).to_owned(),
            cseq: 100,
            invite: 0,
        }
    }
}

/// A response of `who` to `request`.
pub fn reply(who: Who, request: &Message, status: u16, our_tag: &str) -> Message {
    let mut response = Message::new(format!("SIP/2.0 {status} Whatever"));
    for (name, value) in &request.headers {
        let lower = name.to_ascii_lowercase();
        let value = match lower.as_str() {
            "to" if tag(value).is_none() && status > 100 => format!("{value};tag={our_tag}"),
            "via" | "from" | "to" | "call-id" | "cseq" | "record-route" => value.clone(),
            _ => continue,
        };
        response.headers.push((name.clone(), value));
    }
    response
        .with("Contact", format!("<sip:contact-{who:?}@{}>", who.at()))
        .with("Allow", "INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, UPDATE")
        .with("Server", format!("Server-of-{who:?}"))
}

/// A request's or response's body as text.
pub fn text(message: &Message) -> String {
    String::from_utf8_lossy(&message.body).into_owned()
}

/// An INVITE on its way: the caller's line and INVITE, and ours as the called side got it.
pub struct Dialling {
    pub caller: Line,
    pub invite: Message,
    pub theirs: Message,
    pub to: Who,
}

impl Dialling {
    /// The called side answers the INVITE.
    pub fn reply(&self, status: u16, tag: &str) -> Message {
        reply(self.to, &self.theirs, status, tag)
    }

    /// The same, with a body.
    pub fn described(&self, status: u16, tag: &str, formats: &str) -> Message {
        self.reply(status, tag).with_body("application/sdp", sdp(self.to, 1, formats, "sendrecv"))
    }

    /// The caller cancels.
    pub fn cancel(&mut self, world: &mut World) -> Message {
        let cancel = self.caller.request(world, "CANCEL");
        with_branch(cancel, &self.invite)
    }

    /// The caller takes the 200 and acknowledges it.
    pub fn connect(&mut self, world: &mut World) -> Message {
        let ok = world.expect(self.caller.who, "200");
        self.caller.follow(&ok);
        let ack = self.caller.ack(world);
        world.send(self.caller.who, &ack);
        ok
    }
}

/// A message with the branch of `like`: the CANCEL of an INVITE, the ACK of a refusal.
pub fn with_branch(mut message: Message, like: &Message) -> Message {
    let via = like.get("via").expect("Via").to_owned();
    for (name, value) in &mut message.headers {
        if name == "Via" {
            value.clone_from(&via);
        }
    }
    message
}
