//! SIPp scenarios written step by step: what one side of a call sends and what it waits for. Comes out as the XML that
//! SIPp plays. Sends nothing itself.

use std::fmt::Write as _;

/// A description of G.711 and events; media is where SIPp says.
pub const AUDIO: &str = "\
v=0
o=- 1 1 IN IP[media_ip_type] [media_ip]
s=-
c=IN IP[media_ip_type] [media_ip]
t=0 0
m=audio [media_port] RTP/AVP 8 0 101
a=rtpmap:8 PCMA/8000
a=rtpmap:0 PCMU/8000
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-15
a=ptime:20
";

/// What must be so of a message that comes: in a header (with its colon), in the whole message when empty.
pub struct Check {
    header: &'static str,
    regexp: &'static str,
    absent: bool,
}

/// `regexp` fits.
pub const fn has(header: &'static str, regexp: &'static str) -> Check {
    Check { header, regexp, absent: false }
}

/// `regexp` fits nowhere.
pub const fn lacks(header: &'static str, regexp: &'static str) -> Check {
    Check { header, regexp, absent: true }
}

/// One side of a call.
pub struct Script {
    calls: bool,
    steps: String,
    /// How many steps there are, and at which the last INVITE was sent: SIPp counts a branch's steps back.
    step: usize,
    invited: usize,
    cseq: u32,
    invite_cseq: u32,
    /// Whether what came last was an INVITE: its 200 is repeated until the ACK.
    invited_us: bool,
    variables: Vec<String>,
}

impl Script {
    /// Of who calls.
    pub fn caller() -> Script {
        Script {
            calls: true,
            steps: String::new(),
            step: 0,
            invited: 0,
            cseq: 0,
            invite_cseq: 0,
            invited_us: false,
            variables: Vec::new(),
        }
    }

    /// Of who is called.
    pub fn called() -> Script {
        Script { calls: false, ..Self::caller() }
    }

    /// The scenario.
    pub fn xml(mut self) -> String {
        if !self.variables.is_empty() {
            let _ = writeln!(self.steps, "  <Reference variables=\"{}\" />", self.variables.join(","));
        }
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!DOCTYPE scenario SYSTEM \"sipp.dtd\">\n\
             <scenario name=\"{}\">\n{}</scenario>\n",
            if self.calls { "caller" } else { "called" },
            self.steps
        )
    }

    fn element(&mut self, xml: &str) {
        self.steps.push_str(xml);
        self.step += 1;
    }

    fn send(mut self, again: bool, head: &str, more: &str, body: &str) -> Script {
        let indented = |text: &str| text.lines().map(|line| format!("      {line}\n")).collect::<String>();
        let body = if body.is_empty() {
            "      Content-Length: 0\n".to_owned()
        } else {
            let kind = if body.starts_with("v=") { "application/sdp" } else { "text/plain" };
            let kind = if body.starts_with("SIP/2.0") { "message/sipfrag" } else { kind };
            format!("      Content-Type: {kind}\n      Content-Length: [len]\n\n{}", indented(body))
        };
        let again = if again { " retrans=\"500\"" } else { "" };
        let text = format!("  <send{again}><![CDATA[\n\n{}{}{body}\n  ]]></send>\n", indented(head), indented(more));
        self.element(&text);
        self
    }

    fn checks(&mut self, checks: &[Check]) -> String {
        let mut xml = String::new();
        for check in checks {
            let name = format!("v{}", self.variables.len());
            let place = match check.header {
                "" => "search_in=\"msg\"".to_owned(),
                header => format!("search_in=\"hdr\" header=\"{header}\""),
            };
            let must = if check.absent { "check_it_inverse" } else { "check_it" };
            let regexp = check.regexp.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            let _ = writeln!(
                xml,
                "    <ereg regexp=\"{}\" {place} {must}=\"true\" assign_to=\"{name}\" />",
                regexp.replace('"', "&quot;")
            );
            self.variables.push(name);
        }
        xml
    }

    /// The variables that keep a request, so that it can be answered after others have come.
    fn keep(&mut self) -> String {
        let mut xml = String::new();
        for (name, header, regexp) in [
            ("via", "Via:", ".*"),
            ("from", "From:", ".*"),
            ("to", "To:", ".*"),
            ("cseq", "CSeq:", "[0-9]+ INVITE"),
            ("target", "Contact:", "sip:[^&gt;]*"),
        ] {
            let _ = writeln!(
                xml,
                "    <ereg regexp=\"{regexp}\" search_in=\"hdr\" header=\"{header}\" check_it=\"true\" \
                 assign_to=\"{name}\" />"
            );
            if !self.variables.iter().any(|known| known == name) {
                self.variables.push(name.to_owned());
            }
        }
        xml
    }

    /// An INVITE outside a dialog to this URI.
    pub fn invite_to(mut self, uri: &str, more: &str, body: &str) -> Script {
        self.cseq += 1;
        (self.invite_cseq, self.invited) = (self.cseq, self.step);
        let head = format!(
            "INVITE {uri} SIP/2.0\n\
             Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]\n\
             From: \"Customer\" <sip:+15550100@[local_ip]:[local_port]>;tag=[pid]c[call_number]\n\
             To: <sip:[service]@[remote_ip]:[remote_port]>\n\
             Call-ID: [call_id]\n\
             CSeq: {} INVITE\n\
             Contact: <sip:customer@[local_ip]:[local_port];transport=[transport]>\n\
             Max-Forwards: 70",
            self.cseq
        );
        self.send(true, &head, more, body)
    }

    /// An INVITE outside a dialog.
    pub fn invite(self, more: &str, body: &str) -> Script {
        self.invite_to("sip:[service]@[remote_ip]:[remote_port]", more, body)
    }

    /// A response that must come.
    pub fn gets(mut self, status: u16, checks: &[Check]) -> Script {
        let auth = if matches!(status, 401 | 407) { " auth=\"true\"" } else { "" };
        let checks = self.checks(checks);
        let actions =
            if checks.is_empty() { " />\n".to_owned() } else { format!("><action>\n{checks}  </action></recv>\n") };
        self.element(&format!("  <recv response=\"{status}\" rrs=\"true\"{auth}{actions}"));
        self
    }

    /// A response that wants a PRACK must come; `[$rseq]` then holds its number.
    pub fn gets_reliably(mut self, status: u16) -> Script {
        let checks = self.checks(&[has("Require:", "100rel")]);
        self.element(&format!(
            "  <recv response=\"{status}\" rrs=\"true\"><action>\n{checks}    \
             <ereg regexp=\".*\" search_in=\"hdr\" header=\"RSeq:\" check_it=\"true\" assign_to=\"rseq\" />\n  \
             </action></recv>\n"
        ));
        self
    }

    /// Responses that may come first.
    pub fn may_get(mut self, statuses: &[u16]) -> Script {
        for status in statuses {
            self.element(&format!("  <recv response=\"{status}\" rrs=\"true\" optional=\"true\" />\n"));
        }
        self
    }

    /// The ACK of a 2xx.
    pub fn ack(self) -> Script {
        let cseq = self.invite_cseq;
        self.within("ACK", cseq, "", "")
    }

    /// The ACK of any other final answer.
    pub fn ack_refusal(self) -> Script {
        let head = format!(
            "ACK sip:[service]@[remote_ip]:[remote_port] SIP/2.0\n\
             Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch-{}]\n\
             From: \"Customer\" <sip:+15550100@[local_ip]:[local_port]>;tag=[pid]c[call_number]\n\
             To: <sip:[service]@[remote_ip]:[remote_port]>[peer_tag_param]\n\
             Call-ID: [call_id]\n\
             CSeq: {} ACK\n\
             Max-Forwards: 70",
            self.step - self.invited,
            self.invite_cseq
        );
        self.send(false, &head, "", "")
    }

    fn within(self, method: &str, cseq: u32, more: &str, body: &str) -> Script {
        let head = if self.calls {
            format!(
                "{method} [next_url] SIP/2.0\n\
                 Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]\n\
                 From: \"Customer\" <sip:+15550100@[local_ip]:[local_port]>;tag=[pid]c[call_number]\n\
                 To: <sip:[service]@[remote_ip]:[remote_port]>[peer_tag_param]\n\
                 Call-ID: [call_id]\n\
                 CSeq: {cseq} {method}\n\
                 Contact: <sip:customer@[local_ip]:[local_port];transport=[transport]>\n\
                 [routes]\n\
                 Max-Forwards: 70"
            )
        } else {
            format!(
                "{method} [$target] SIP/2.0\n\
                 Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]\n\
                 From:[$to];tag=[pid]a[call_number]\n\
                 To:[$from]\n\
                 Call-ID: [call_id]\n\
                 CSeq: {cseq} {method}\n\
                 Contact: <sip:agent@[local_ip]:[local_port];transport=[transport]>\n\
                 Max-Forwards: 70"
            )
        };
        self.send(method != "ACK", &head, more, body)
    }

    /// A request within the dialog.
    pub fn request(mut self, method: &str, more: &str, body: &str) -> Script {
        self.cseq += 1;
        if method == "INVITE" {
            (self.invite_cseq, self.invited) = (self.cseq, self.step);
        }
        let cseq = self.cseq;
        self.within(method, cseq, more, body)
    }

    /// BYE and its answer.
    pub fn hang_up(self) -> Script {
        self.request("BYE", "", "").gets(200, &[])
    }

    /// A request that must come.
    pub fn takes(mut self, method: &str, checks: &[Check]) -> Script {
        self.invited_us = method == "INVITE";
        let checks = self.checks(checks);
        let keep = if method == "INVITE" && !self.calls { self.keep() } else { String::new() };
        let actions = match checks.is_empty() && keep.is_empty() {
            true => " />\n".to_owned(),
            false => format!("><action>\n{checks}{keep}  </action></recv>\n"),
        };
        self.element(&format!("  <recv request=\"{method}\" crlf=\"true\"{actions}"));
        self
    }

    /// A request that must come with the right answer to a challenge; any other gets 403 and ends the scenario.
    pub fn takes_by_password(mut self, method: &str, user: &str, secret: &str) -> Script {
        self.invited_us = method == "INVITE";
        let keep = if self.invited_us { self.keep() } else { String::new() };
        self.element(&format!(
            "  <recv request=\"{method}\" crlf=\"true\"><action>\n{keep}    \
             <verifyauth assign_to=\"proved\" username=\"{user}\" password=\"{secret}\" />\n  </action></recv>\n"
        ));
        self.element("  <nop test=\"proved\" next=\"proved\" />\n");
        let refused = self.answer_as("[pid]x[call_number]", "403 Forbidden", "", "");
        let mut refused = refused.takes("ACK", &[]);
        refused.element("  <nop><action><exec int_cmd=\"stop_now\" /></action></nop>\n");
        refused.steps.push_str("  <label id=\"proved\" />\n");
        refused
    }

    /// The answer to a request that makes no dialog.
    pub fn answer_plain(self, status: &str, more: &str) -> Script {
        let head = format!(
            "SIP/2.0 {status}\n[last_Via:]\n[last_From:]\n[last_To:];tag=[pid]p[call_number]\n[last_Call-ID:]\n[last_CSeq:]"
        );
        self.send(false, &head, more, "")
    }

    /// The answer to the request that came last.
    pub fn answer(self, status: &str, more: &str, body: &str) -> Script {
        let tag = if self.calls { "" } else { "[pid]a[call_number]" };
        self.answer_as(tag, status, more, body)
    }

    /// The same, to an INVITE, in the dialog of that tag; without one, within a dialog.
    pub fn answer_as(self, tag: &str, status: &str, more: &str, body: &str) -> Script {
        let tag = if tag.is_empty() { String::new() } else { format!(";tag={tag}") };
        let user = if self.calls { "customer" } else { "agent" };
        let head = format!(
            "SIP/2.0 {status}\n[last_Via:]\n[last_From:]\n[last_To:]{tag}\n[last_Call-ID:]\n[last_CSeq:]\n\
             [last_Record-Route:]\nContact: <sip:{user}@[local_ip]:[local_port];transport=[transport]>"
        );
        let again = self.invited_us && status.starts_with("200");
        self.send(again, &head, more, body)
    }

    /// The answer to the first INVITE, when other requests have come since.
    pub fn answer_invite(self, status: &str, more: &str, body: &str) -> Script {
        let head = format!(
            "SIP/2.0 {status}\nVia:[$via]\nFrom:[$from]\nTo:[$to];tag=[pid]a[call_number]\n[last_Call-ID:]\n\
             CSeq: [$cseq]\nContact: <sip:agent@[local_ip]:[local_port];transport=[transport]>"
        );
        self.send(true, &head, more, body)
    }

    /// 200 to a request within the dialog.
    pub fn agrees(self, body: &str) -> Script {
        self.answer_as("", "200 OK", "", body)
    }

    /// Waits.
    pub fn pause(mut self, ms: u32) -> Script {
        self.element(&format!("  <pause milliseconds=\"{ms}\" />\n"));
        self
    }

    /// Does what SIPp's `exec` does with this attribute.
    pub fn exec(mut self, attribute: &str) -> Script {
        self.element(&format!("  <nop><action><exec {attribute} /></action></nop>\n"));
        self
    }
}
