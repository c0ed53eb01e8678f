//! A simulated telephone: caller or agent. It places, answers, rejects, cancels, holds and ends one call, speaks, keys
//! digits in any [`Form`](super::keys::Form), and keeps everything it receives. Datagrams and the time go in;
//! datagrams and [`Event`]s come out. It shares no code with `sip`, `sdp` and `rtp`: it is their second opinion.
//!
//! ```text
//!          invite            180/183            200 / ACK                 BYE
//!  Idle ───────────► Calling ────────► Calling ───────────► Up ──────────────────► Ended
//!  Idle ── INVITE ─► Ringing ── answer_after ── 200 ──────► Up      reject, CANCEL, timeout ► Ended
//! ```

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::RngExt;

use super::keys::KeyPress;
use super::rtp_peer::{RtpPeer, Toward};
use super::simple_sdp::{Audio, Direction};
use super::simple_sip::{Message, tag, uri};
use super::transactions::Transactions;
use crate::base::Random;
use crate::base::secret::Digit;
use crate::config::Codec;

/// How a telephone takes an incoming call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Rings at once (180) and answers after so many ms.
    After(u32),
    /// Sends 183 with SDP and its sound at once, and answers after so many ms.
    EarlyMedia(u32),
    /// Refuses with a status.
    Reject(u16),
    /// Rings for ever.
    Never,
}

/// What kind of telephone it is.
#[derive(Debug, Clone)]
pub struct Profile {
    /// User part of its address.
    pub user: String,
    /// Codecs in order of preference.
    pub codecs: Vec<Codec>,
    /// Telephone-event payload type and clock rate it declares.
    pub events: Option<(u8, u32)>,
    /// Packet time in ms.
    pub ptime_ms: u32,
    /// How it takes calls.
    pub answer: Answer,
    /// Further headers of its INVITE.
    pub headers: Vec<(String, String)>,
}

impl Profile {
    /// A telephone with both G.711 laws, events on payload type 101, 20 ms packets, that answers after 200 ms.
    pub fn new(user: &str) -> Self {
        Self {
            user: user.to_owned(),
            codecs: vec![Codec::Pcmu, Codec::Pcma],
            events: Some((101, 8_000)),
            ptime_ms: 20,
            answer: Answer::After(200),
            headers: Vec::new(),
        }
    }

    /// The same telephone with this one codec.
    #[must_use]
    pub fn only(self, codec: Codec) -> Self {
        Self { codecs: vec![codec], ..self }
    }

    /// The same telephone, taking calls differently.
    #[must_use]
    pub fn answering(self, answer: Answer) -> Self {
        Self { answer, ..self }
    }
}

/// What happened to a telephone's call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A call comes in.
    Incoming,
    /// A provisional answer came, with or without SDP.
    Progress {
        /// Status code.
        status: u16,
        /// Whether it carried SDP.
        media: bool,
    },
    /// Both sides are up.
    Up,
    /// The call was refused with this status.
    Rejected(u16),
    /// The caller gave up.
    Cancelled,
    /// The other side changed the session.
    Changed(Direction),
    /// Our change of the session was answered.
    ChangeAnswered(u16),
    /// An INFO came; see [`UserAgent::infos`].
    Info,
    /// Our INFO was answered.
    InfoAnswered(u16),
    /// The other side ended the call.
    HungUp,
    /// Our BYE was answered.
    Ended,
    /// Nobody answered a request of this method.
    TimedOut(String),
}

/// Which of a telephone's two sockets a datagram leaves from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// Signalling.
    Sip,
    /// Media.
    Rtp,
}

struct Dialog {
    call_id: String,
    local: String,
    remote: String,
    target: String,
    routes: Vec<String>,
    next_hop: SocketAddr,
    cseq: u32,
}

enum State {
    Idle,
    Calling { invite: Message },
    Ringing { invite: Message, from: SocketAddr, answer_at: Option<Instant> },
    Up,
    Ended,
}

/// A telephone.
pub struct UserAgent {
    profile: Profile,
    sip: SocketAddr,
    media: SocketAddr,
    random: Random,
    state: State,
    dialog: Option<Dialog>,
    direction: Direction,
    sdp: (u64, u64),
    transactions: Transactions,
    infos: Vec<Message>,
    received: Vec<Vec<u8>>,
    events: VecDeque<Event>,
    /// Its media.
    pub rtp: RtpPeer,
}

/// Methods it allows.
const ALLOW: &str = "INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, UPDATE";

impl UserAgent {
    /// A telephone at `sip` whose media comes and goes at `media`.
    pub fn new(profile: Profile, sip: SocketAddr, media: SocketAddr, mut random: Random) -> Self {
        let mut rtp = RtpPeer::new(&mut random);
        for codec in &profile.codecs {
            rtp.heard.expect_audio(payload_type(*codec), *codec);
        }
        if let Some((pt, _)) = profile.events {
            rtp.heard.expect_events(pt);
        }
        let sdp = (random.random_range(1..1 << 31), 0);
        Self {
            profile,
            sip,
            media,
            random,
            state: State::Idle,
            dialog: None,
            direction: Direction::SendRecv,
            sdp,
            transactions: Transactions::default(),
            infos: Vec::new(),
            received: Vec::new(),
            events: VecDeque::new(),
            rtp,
        }
    }

    /// Calls `user` by way of `proxy`.
    pub fn invite(&mut self, now: Instant, user: &str, proxy: SocketAddr) {
        let target = format!("sip:{user}@{proxy}");
        let tag = self.token();
        let local = format!("<sip:{}@{}>;tag={tag}", self.profile.user, self.sip);
        let call_id = format!("{}@{}", self.token(), self.sip.ip());
        let remote = format!("<{target}>");
        self.dialog = Some(Dialog { call_id, local, remote, target, routes: Vec::new(), next_hop: proxy, cseq: 0 });
        let Some(mut invite) = self.request("INVITE") else { return };
        invite.headers.extend(self.profile.headers.clone());
        let invite = invite.with_body("application/sdp", self.offer());
        self.transactions.request(now, proxy, &invite);
        self.state = State::Calling { invite };
    }

    /// Gives up a call that is not yet answered (RFC 3261 section 9.1).
    pub fn cancel(&mut self, now: Instant) {
        let (State::Calling { invite }, Some(dialog)) = (&self.state, &self.dialog) else { return };
        let mut cancel = Message::new(invite.start.replacen("INVITE", "CANCEL", 1));
        for name in ["Via", "From", "To", "Call-ID", "Max-Forwards"] {
            cancel = cancel.with(name, invite.get(name).unwrap_or_default());
        }
        let cancel = cancel.with("CSeq", format!("{} CANCEL", dialog.cseq));
        self.transactions.request(now, dialog.next_hop, &cancel);
    }

    /// Ends the call; a call that is not yet up is cancelled or refused.
    pub fn hang_up(&mut self, now: Instant) {
        match &self.state {
            State::Calling { .. } => self.cancel(now),
            State::Ringing { .. } => self.reject(now, 603),
            State::Up => {
                self.send_request(now, "BYE", |m| m);
                self.end();
            }
            State::Idle | State::Ended => {}
        }
    }

    /// Refuses a ringing call.
    pub fn reject(&mut self, now: Instant, status: u16) {
        let State::Ringing { invite, from, .. } = std::mem::replace(&mut self.state, State::Ended) else { return };
        let response = self.response(&invite, status, true);
        self.transactions.respond(now, from, &invite, &response);
    }

    /// Changes the session with a re-INVITE: hold (`SendOnly`, `Inactive`) and resume (`SendRecv`).
    pub fn reinvite(&mut self, now: Instant, direction: Direction) {
        self.direction = direction;
        let offer = self.offer();
        self.send_request(now, "INVITE", |m| m.with_body("application/sdp", offer));
    }

    /// Changes codecs with a re-INVITE.
    pub fn reinvite_with_codecs(&mut self, now: Instant, codecs: Vec<Codec>) {
        for codec in &codecs {
            self.rtp.heard.expect_audio(payload_type(*codec), *codec);
        }
        self.profile.codecs = codecs;
        self.reinvite(now, self.direction);
    }

    /// Sends a digit by INFO (`application/dtmf-relay`).
    pub fn info(&mut self, now: Instant, digit: &Digit, duration_ms: u32) {
        let body = format!("Signal={}\r\nDuration={duration_ms}\r\n", digit.expose_char());
        self.send_request(now, "INFO", |m| m.with_body("application/dtmf-relay", body));
    }

    /// Presses keys; see [`RtpPeer::press`]. INFO keys go out on the same plan.
    pub fn press(&mut self, lead_ms: u32, keys: impl IntoIterator<Item = KeyPress>) {
        self.rtp.press(lead_ms, keys);
    }

    /// Whether the call is up.
    pub fn is_up(&self) -> bool {
        matches!(self.state, State::Up)
    }

    /// Whether the call is over.
    pub fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// Call-ID of its leg.
    pub fn call_id(&self) -> Option<&str> {
        self.dialog.as_ref().map(|d| d.call_id.as_str())
    }

    /// INFO requests received.
    pub fn infos(&self) -> &[Message] {
        &self.infos
    }

    /// Every SIP datagram received.
    pub fn received(&self) -> &[Vec<u8>] {
        &self.received
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<(Port, SocketAddr, Vec<u8>)> {
        if let Some((to, bytes)) = self.transactions.poll_transmit() {
            return Some((Port::Sip, to, bytes));
        }
        self.rtp.poll_transmit().map(|(to, bytes)| (Port::Rtp, to, bytes))
    }

    /// When [`UserAgent::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let answer_at = match &self.state {
            State::Ringing { answer_at, .. } => *answer_at,
            _ => None,
        };
        [self.transactions.poll_timeout(), self.rtp.poll_timeout(), answer_at].into_iter().flatten().min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        for method in self.transactions.handle_timeout(now) {
            if method == "INVITE" && !matches!(self.state, State::Up) {
                self.end();
            }
            self.events.push_back(Event::TimedOut(method));
        }
        if let State::Ringing { answer_at: Some(at), .. } = self.state
            && at <= now
        {
            self.answer(now);
        }
        self.rtp.handle_timeout(now);
        while let Some((digit, duration_ms)) = self.rtp.poll_info() {
            self.info(now, &digit, duration_ms);
        }
    }

    /// Takes in what arrived on the SIP port.
    pub fn handle_sip(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) {
        self.received.push(bytes.to_vec());
        let Some(message) = Message::parse(bytes) else { return };
        match message.method().map(str::to_owned) {
            Some(method) => self.handle_request(now, from, &method, message),
            None if self.transactions.handle_response(&message) => self.handle_response(now, &message),
            None => {}
        }
    }

    /// Answers a ringing call now.
    pub fn answer(&mut self, now: Instant) {
        let State::Ringing { invite, from, .. } = std::mem::replace(&mut self.state, State::Up) else { return };
        let body = self.answer_body(now, &invite);
        let response = self.response(&invite, 200, true).with_body("application/sdp", body);
        self.transactions.respond(now, from, &invite, &response);
        self.events.push_back(Event::Up);
    }

    fn handle_request(&mut self, now: Instant, from: SocketAddr, method: &str, request: Message) {
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

    fn incoming(&mut self, now: Instant, from: SocketAddr, invite: Message) {
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
                self.transactions.respond(now, from, &invite, &progress);
                after(ms)
            }
            Answer::After(ms) => {
                let ringing = self.response(&invite, 180, true);
                self.transactions.respond(now, from, &invite, &ringing);
                after(ms)
            }
            Answer::Never => {
                let ringing = self.response(&invite, 180, true);
                self.transactions.respond(now, from, &invite, &ringing);
                None
            }
        };
        self.state = State::Ringing { invite, from, answer_at };
    }

    fn handle_response(&mut self, now: Instant, response: &Message) {
        let (Some(status), Some((cseq, method))) = (response.status(), response.cseq()) else { return };
        match (method, status) {
            ("INVITE", 100) => {}
            ("INVITE", 101..=199) => {
                let remote = Audio::parse(&response.body);
                self.events.push_back(Event::Progress { status, media: remote.is_some() });
                if let Some(remote) = remote {
                    self.set_remote(now, &remote);
                }
            }
            ("INVITE", _) => self.final_to_invite(now, response, status, cseq),
            ("INFO", 200..) => self.events.push_back(Event::InfoAnswered(status)),
            ("BYE", 200..) => self.events.push_back(Event::Ended),
            _ => {}
        }
    }

    fn final_to_invite(&mut self, now: Instant, response: &Message, status: u16, cseq: u32) {
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

    fn end(&mut self) {
        self.state = State::Ended;
        self.rtp.stop();
    }

    fn offer(&mut self) -> Vec<u8> {
        self.sdp.1 += 1;
        let audio = Audio {
            rtp: self.media,
            codecs: self.profile.codecs.iter().map(|c| (payload_type(*c), *c)).collect(),
            events: self.profile.events,
            ptime_ms: self.profile.ptime_ms,
            direction: self.direction,
        };
        audio.print(self.sdp.0, self.sdp.1).into_bytes()
    }

    /// The SDP that answers `request`: an answer to its offer, or an offer when it has none.
    fn answer_body(&mut self, now: Instant, request: &Message) -> Vec<u8> {
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
        Audio { rtp, codecs: taken, events, ptime_ms, direction }.print(self.sdp.0, self.sdp.1).into_bytes()
    }

    fn set_remote(&mut self, now: Instant, remote: &Audio) {
        let audio = remote.codecs.iter().copied().find(|(_, codec)| self.profile.codecs.contains(codec));
        let held = remote.rtp.ip().is_unspecified() || remote.rtp.port() == 0;
        let toward = audio.filter(|_| !held).map(|audio| Toward {
            rtp: remote.rtp,
            audio,
            events: remote.events.filter(|_| self.profile.events.is_some()),
            ptime_ms: self.profile.ptime_ms,
            send: remote.direction.receives() && self.direction.sends(),
        });
        self.rtp.set_toward(now, toward);
    }

    fn send_request(&mut self, now: Instant, method: &str, finish: impl FnOnce(Message) -> Message) {
        let Some(request) = self.request(method) else { return };
        let Some(next_hop) = self.dialog.as_ref().map(|d| d.next_hop) else { return };
        self.transactions.request(now, next_hop, &finish(request));
    }

    fn request(&mut self, method: &str) -> Option<Message> {
        let dialog = self.dialog.as_mut()?;
        dialog.cseq += 1;
        let cseq = dialog.cseq;
        let request = self.bare_request(method, cseq);
        Some(request.with("Contact", format!("<sip:{}@{}>", self.profile.user, self.sip)).with("Allow", ALLOW))
    }

    fn bare_request(&mut self, method: &str, cseq: u32) -> Message {
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

    fn reply(&mut self, now: Instant, from: SocketAddr, request: &Message, status: u16) {
        let response = self.response(request, status, false);
        self.transactions.respond(now, from, request, &response);
    }

    /// A response to `request`; with `dialog` it takes our tag and contact.
    fn response(&mut self, request: &Message, status: u16, dialog: bool) -> Message {
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

    fn token(&mut self) -> String {
        format!("{:016x}", self.random.random::<u64>())
    }
}

fn payload_type(codec: Codec) -> u8 {
    match codec {
        Codec::Pcmu => 0,
        Codec::Pcma => 8,
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

#[cfg(test)]
#[path = "ua_tests.rs"]
mod tests;
