//! How a telephone answers requests, takes responses and writes both: the part of [`UserAgent`] that knows RFC 3261.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::RngExt;

use super::{Answer, Dialog, Event, State, UserAgent, payload_type};
use crate::testkit::rtp_peer::Toward;
use crate::testkit::simple_sdp::Audio;
use crate::testkit::simple_sip::{Message, tag, uri};

/// Methods it allows.
const ALLOW: &str = "INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, UPDATE, PRACK, REFER, NOTIFY";

impl UserAgent {
    pub(super) fn handle_request(&mut self, now: Instant, from: SocketAddr, method: &str, request: Message) {
        if method == "ACK" {
            if self.transactions.acknowledged(&request)
                && let Some(remote) = Audio::parse(&request.body)
            {
                self.set_remote(now, &remote);
            }
            return;
        }
        if self.transactions.repeated(&request) {
            return;
        }
        let ours = self.dialog.as_ref().is_some_and(|d| request.get("call-id") == Some(d.call_id.as_str()));
        match (method, ours) {
            ("INVITE", false) if matches!(self.state, State::Idle) => return self.incoming(now, from, request),
            ("INVITE", false) => return self.reply(now, from, &request, 486),
            ("OPTIONS", _) => return self.reply(now, from, &request, 200),
            (_, false) => return self.reply(now, from, &request, 481),
            _ => {}
        }
        match method {
            "INVITE" | "UPDATE" if matches!(self.state, State::Up) => {
                let direction = Audio::parse(&request.body).map(|a| a.direction);
                let response = self.response(&request, 200, false);
                let response = if method == "UPDATE" && request.body.is_empty() {
                    response
                } else {
                    let body = self.answer_body(now, &request);
                    response.with_body("application/sdp", body)
                };
                self.transactions.respond(now, from, &request, &response);
                self.events.extend(direction.map(Event::Changed));
            }
            "UPDATE" if matches!(self.state, State::Calling { .. } | State::Ringing { .. }) => {
                let response = self.response(&request, 200, false);
                let response = match (request.body.is_empty(), self.settled) {
                    (true, _) => response,
                    (false, true) => {
                        let body = self.answer_body(now, &request);
                        response.with_body("application/sdp", body)
                    }
                    (false, false) => self.response(&request, 491, false),
                };
                self.transactions.respond(now, from, &request, &response);
            }
            "PRACK" => {
                let known = self.transactions.pracked(&request);
                self.reply(now, from, &request, if known { 200 } else { 481 });
            }
            "NOTIFY" => {
                self.reply(now, from, &request, 200);
                let body = String::from_utf8_lossy(&request.body);
                let status = body.split(' ').nth(1).and_then(|status| status.parse().ok());
                self.events.extend(status.map(Event::Notified));
            }
            "BYE" => {
                self.reply(now, from, &request, 200);
                self.end();
                self.events.push_back(Event::HungUp);
            }
            "CANCEL" => {
                self.reply(now, from, &request, 200);
                if matches!(self.state, State::Ringing { .. }) {
                    self.reject(now, 487);
                    self.events.push_back(Event::Cancelled);
                }
            }
            "INFO" => {
                self.reply(now, from, &request, 200);
                self.infos.push(request);
                self.events.push_back(Event::Info);
            }
            _ => self.reply(now, from, &request, 501),
        }
    }

    pub(super) fn incoming(&mut self, now: Instant, from: SocketAddr, invite: Message) {
        let to = format!("{};tag={}", invite.get("to").unwrap_or_default(), self.token());
        self.dialog = Some(Dialog {
            call_id: invite.get("call-id").unwrap_or_default().to_owned(),
            local: to,
            remote: invite.get("from").unwrap_or_default().to_owned(),
            target: uri(invite.get("contact").unwrap_or_default()).to_owned(),
            routes: invite.all("record-route").map(str::to_owned).collect(),
            next_hop: from,
            cseq: 0,
        });
        self.events.push_back(Event::Incoming);
        let after = |ms: u32| Some(now + Duration::from_millis(u64::from(ms)));
        let answer_at = match self.profile.answer {
            Answer::Reject(status) => {
                self.state = State::Ringing { invite, from, answer_at: None };
                return self.reject(now, status);
            }
            Answer::EarlyMedia(ms) => {
                let body = self.answer_body(now, &invite);
                let progress = self.response(&invite, 183, true).with_body("application/sdp", body);
                self.settled = self.progress(now, from, &invite, progress);
                after(ms)
            }
            Answer::After(ms) => {
                let ringing = self.response(&invite, 180, true);
                self.progress(now, from, &invite, ringing);
                after(ms)
            }
            Answer::Never => {
                let ringing = self.response(&invite, 180, true);
                self.progress(now, from, &invite, ringing);
                None
            }
        };
        self.state = State::Ringing { invite, from, answer_at };
    }

    /// Sends a provisional response, reliably where both have that; whether it was.
    fn progress(&mut self, now: Instant, from: SocketAddr, invite: &Message, response: Message) -> bool {
        let theirs = invite.all("supported").chain(invite.all("require")).any(|tags| tags.contains("100rel"));
        if !(self.profile.reliable && theirs) {
            self.transactions.respond(now, from, invite, &response);
            return false;
        }
        let rseq: u32 = self.random.random_range(1..1 << 20);
        let response = response.with("Require", "100rel").with("RSeq", rseq.to_string());
        self.transactions.respond_reliably(now, from, invite, &response);
        true
    }

    /// Acknowledges a reliable 18x, once and in order.
    fn prack(&mut self, now: Instant, response: &Message) {
        let reliable = response.all("require").any(|tags| tags.contains("100rel"));
        let rseq = response.get("rseq").and_then(|rseq| rseq.trim().parse::<u32>().ok()).filter(|_| reliable);
        let to = response.get("to").unwrap_or_default().to_owned();
        let (Some(rseq), Some(theirs), Some(contact)) = (rseq, tag(&to), response.get("contact")) else { return };
        let next = match &self.acknowledged {
            Some((known, last)) if known == theirs => *last + 1 == rseq,
            _ => true,
        };
        let Some(dialog) = self.dialog.as_mut().filter(|_| next && matches!(self.state, State::Calling { .. })) else {
            return;
        };
        self.acknowledged = Some((theirs.to_owned(), rseq));
        self.settled |= !response.body.is_empty();
        uri(contact).clone_into(&mut dialog.target);
        dialog.routes = response.all("record-route").map(str::to_owned).collect();
        dialog.routes.reverse();
        dialog.remote = to;
        let rack = format!("{rseq} {}", response.get("cseq").unwrap_or_default());
        self.send_request(now, "PRACK", |m| m.with("RAck", rack));
    }

    pub(super) fn handle_response(&mut self, now: Instant, response: &Message) {
        let (Some(status), Some((cseq, method))) = (response.status(), response.cseq()) else { return };
        match (method, status) {
            ("INVITE", 100) => {}
            ("INVITE", 101..=199) => {
                let remote = Audio::parse(&response.body);
                self.events.push_back(Event::Progress { status, media: remote.is_some() });
                if let Some(remote) = remote {
                    self.set_remote(now, &remote);
                }
                self.prack(now, response);
            }
            ("INVITE", _) => self.final_to_invite(now, response, status, cseq),
            ("INFO", 200..) => {
                self.events.push_back(Event::InfoAnswered(status));
                self.info_open = false;
                self.next_info(now);
            }
            ("UPDATE", 200..) => {
                if let Some(remote) = Audio::parse(&response.body).filter(|_| status < 300) {
                    self.set_remote(now, &remote);
                }
                self.events.push_back(Event::ChangeAnswered(status));
            }
            ("REFER", 200..) => self.events.push_back(Event::ReferAnswered(status)),
            ("BYE", 200..) => self.events.push_back(Event::Ended),
            _ => {}
        }
    }

    pub(super) fn final_to_invite(&mut self, now: Instant, response: &Message, status: u16, cseq: u32) {
        let first = matches!(self.state, State::Calling { .. });
        let Some(dialog) = &mut self.dialog else { return };
        if status < 300 && first {
            dialog.remote = response.get("to").unwrap_or_default().to_owned();
            dialog.routes = response.all("record-route").map(str::to_owned).collect();
            dialog.routes.reverse();
        }
        if let Some(contact) = response.get("contact").filter(|_| status < 300) {
            dialog.target = uri(contact).to_owned();
        }
        let next_hop = dialog.next_hop;
        // The ACK to a refusal belongs to the INVITE's transaction (RFC 3261 section 17.1.1.3), that to a 2xx does not.
        let mut ack = self.bare_request("ACK", cseq);
        if status >= 300 {
            let via = response.all("via").next().unwrap_or_default().to_owned();
            let to = response.get("to").unwrap_or_default().to_owned();
            for (name, value) in &mut ack.headers {
                match name.as_str() {
                    "Via" => via.clone_into(value),
                    "To" => to.clone_into(value),
                    _ => {}
                }
            }
            if let State::Calling { invite } = &self.state {
                ack.start = invite.start.replacen("INVITE", "ACK", 1);
            }
        }
        self.transactions.acknowledge(next_hop, &ack);
        if let Some(remote) = Audio::parse(&response.body).filter(|_| status < 300) {
            self.set_remote(now, &remote);
        }
        match (first, status < 300) {
            (true, true) => {
                self.state = State::Up;
                self.events.push_back(Event::Up);
            }
            (true, false) => {
                self.end();
                self.events.push_back(Event::Rejected(status));
            }
            (false, _) => self.events.push_back(Event::ChangeAnswered(status)),
        }
    }

    pub(super) fn end(&mut self) {
        self.state = State::Ended;
        self.rtp.stop();
    }

    pub(super) fn offer(&mut self) -> Vec<u8> {
        self.sdp.1 += 1;
        let audio = Audio {
            rtp: self.media,
            codecs: self.profile.codecs.iter().map(|c| (payload_type(*c), *c)).collect(),
            events: self.profile.events,
            red: self.profile.red,
            ptime_ms: self.profile.ptime_ms,
            direction: self.direction,
        };
        audio.print(self.sdp.0, self.sdp.1).into_bytes()
    }

    /// The SDP that answers `request`: an answer to its offer, or an offer when it has none.
    pub(super) fn answer_body(&mut self, now: Instant, request: &Message) -> Vec<u8> {
        let Some(remote) = Audio::parse(&request.body) else { return self.offer() };
        self.set_remote(now, &remote);
        let taken: Vec<_> =
            remote.codecs.iter().copied().filter(|(_, codec)| self.profile.codecs.contains(codec)).collect();
        for (pt, codec) in &taken {
            self.rtp.heard.expect_audio(*pt, *codec);
        }
        let events = remote.events.filter(|_| self.profile.events.is_some());
        if let Some((pt, _)) = events {
            self.rtp.heard.expect_events(pt);
        }
        self.sdp.1 += 1;
        let direction = remote.direction.answered();
        let (rtp, ptime_ms) = (self.media, self.profile.ptime_ms);
        Audio { rtp, codecs: taken, events, red: None, ptime_ms, direction }.print(self.sdp.0, self.sdp.1).into_bytes()
    }

    pub(super) fn set_remote(&mut self, now: Instant, remote: &Audio) {
        let audio = remote.codecs.iter().copied().find(|(_, codec)| self.profile.codecs.contains(codec));
        let held = remote.rtp.ip().is_unspecified() || remote.rtp.port() == 0;
        let toward = audio.filter(|_| !held).map(|audio| Toward {
            rtp: remote.rtp,
            audio,
            events: remote.events.filter(|_| self.profile.events.is_some()),
            red: self.profile.red,
            ptime_ms: self.profile.ptime_ms,
            send: remote.direction.receives() && self.direction.sends(),
        });
        self.rtp.set_toward(now, toward);
    }

    pub(super) fn send_request(&mut self, now: Instant, method: &str, finish: impl FnOnce(Message) -> Message) {
        let Some(request) = self.request(method) else { return };
        let Some(next_hop) = self.dialog.as_ref().map(|d| d.next_hop) else { return };
        self.transactions.request(now, next_hop, &finish(request));
    }

    pub(super) fn request(&mut self, method: &str) -> Option<Message> {
        let dialog = self.dialog.as_mut()?;
        dialog.cseq += 1;
        let cseq = dialog.cseq;
        let request = self.bare_request(method, cseq);
        Some(request.with("Contact", format!("<sip:{}@{}>", self.profile.user, self.sip)).with("Allow", ALLOW))
    }

    pub(super) fn bare_request(&mut self, method: &str, cseq: u32) -> Message {
        let branch = self.token();
        let Some(dialog) = &self.dialog else { return Message::new(format!("{method} sip:none SIP/2.0")) };
        let mut request = Message::new(format!("{method} {} SIP/2.0", dialog.target))
            .with("Via", format!("SIP/2.0/UDP {};branch=z9hG4bK{branch};rport", self.sip))
            .with("From", dialog.local.clone())
            .with("To", dialog.remote.clone())
            .with("Call-ID", dialog.call_id.clone())
            .with("CSeq", format!("{cseq} {method}"))
            .with("Max-Forwards", "70");
        for route in &dialog.routes {
            request = request.with("Route", route.clone());
        }
        request
    }

    pub(super) fn reply(&mut self, now: Instant, from: SocketAddr, request: &Message, status: u16) {
        let response = self.response(request, status, false);
        self.transactions.respond(now, from, request, &response);
    }

    /// A response to `request`; with `dialog` it takes our tag and contact.
    pub(super) fn response(&mut self, request: &Message, status: u16, dialog: bool) -> Message {
        let mut response = Message::new(format!("SIP/2.0 {status} {}", phrase(status)));
        for via in request.all("via") {
            response = response.with("Via", via);
        }
        let to = request.get("to").unwrap_or_default().to_owned();
        let to = match (&self.dialog, tag(&to)) {
            (Some(own), None) if dialog => own.local.clone(),
            (_, None) => format!("{to};tag={}", self.token()),
            (_, Some(_)) => to,
        };
        for name in ["From", "Call-ID", "CSeq"] {
            response = response.with(name, request.get(name).unwrap_or_default());
        }
        response
            .with("To", to)
            .with("Contact", format!("<sip:{}@{}>", self.profile.user, self.sip))
            .with("Allow", ALLOW)
    }

    pub(super) fn token(&mut self) -> String {
        format!("{:016x}", self.random.random::<u64>())
    }
}

fn phrase(status: u16) -> &'static str {
    match status {
        180 => "Ringing",
        183 => "Session Progress",
        200 => "OK",
        481 => "Call/Transaction Does Not Exist",
        486 => "Busy Here",
        487 => "Request Terminated",
        501 => "Not Implemented",
        603 => "Decline",
        _ => "Answer",
    }
}
