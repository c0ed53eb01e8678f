//! A simulated telephone: caller or agent. It places, answers, rejects, cancels, holds and ends one call, speaks, keys
//! digits in any [`Form`](super::keys::Form), and keeps everything it receives. Datagrams and the time go in;
//! datagrams and [`Event`]s come out. It shares no code with `sip`, `sdp` and `rtp`: it is their second opinion.
//!
//! ```text
//!          invite            180/183            200 / ACK                 BYE
//!  Idle ───────────► Calling ────────► Calling ───────────► Up ──────────────────► Ended
//!  Idle ── INVITE ─► Ringing ── answer_after ── 200 ──────► Up      reject, CANCEL, timeout ► Ended
//! ```

mod signalling;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::RngExt;

use super::keys::KeyPress;
use super::rtp_peer::RtpPeer;
use super::simple_sdp::Direction;
use super::simple_sip::Message;
use super::transactions::Transactions;
use crate::base::Random;
use crate::base::secret::Digit;
use crate::config::Codec;

/// How long an answer waits again for a PRACK.
const PRACK_PAUSE: Duration = Duration::from_millis(100);

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
    /// Payload type of RFC 2198 redundancy it declares. It sends redundancy whether or not the other side takes it, when
    /// [`RtpPeer::send_redundant`] says so.
    pub red: Option<u8>,
    /// Packet time in ms.
    pub ptime_ms: u32,
    /// How it takes calls.
    pub answer: Answer,
    /// It has 100rel (RFC 3262): its 18x are reliable where the caller has it too, and others' get their PRACK.
    pub reliable: bool,
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
            red: None,
            ptime_ms: 20,
            answer: Answer::After(200),
            reliable: false,
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
    /// Our REFER was answered.
    ReferAnswered(u16),
    /// How far a transfer of ours is.
    Notified(u16),
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
    /// INFO digits not yet sent: each waits for the answer to the one before, so that a lost one keeps their order.
    waiting: VecDeque<(Digit, u32)>,
    info_open: bool,
    /// Our tag's other end and number of the reliable 18x acknowledged last.
    acknowledged: Option<(String, u32)>,
    /// Offer and answer have been told reliably before the answer to the call.
    settled: bool,
    received: Vec<Vec<u8>>,
    events: VecDeque<Event>,
    /// Its media.
    pub rtp: RtpPeer,
}

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
            waiting: VecDeque::new(),
            info_open: false,
            acknowledged: None,
            settled: false,
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
        if self.profile.reliable {
            invite = invite.with("Supported", "100rel");
        }
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
        let cseq = invite.cseq().map_or(dialog.cseq, |(number, _)| number);
        let cancel = cancel.with("CSeq", format!("{cseq} CANCEL"));
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

    /// Changes the session with an UPDATE (RFC 3311): of a call that is up, or before that once offer and answer have been
    /// told reliably; else it does nothing.
    pub fn update(&mut self, now: Instant, direction: Direction) {
        let may = match self.state {
            State::Up => true,
            State::Calling { .. } | State::Ringing { .. } => self.settled && !self.transactions.awaits_prack(),
            State::Idle | State::Ended => false,
        };
        if may {
            self.direction = direction;
            let offer = self.offer();
            self.send_request(now, "UPDATE", |m| m.with_body("application/sdp", offer));
        }
    }

    /// Asks the other side to call `user` in our place (RFC 3515).
    pub fn refer(&mut self, now: Instant, user: &str) {
        if self.is_up() {
            let to = format!("<sip:{user}@elsewhere.invalid>");
            self.send_request(now, "REFER", |m| m.with("Refer-To", to));
        }
    }

    /// Changes codecs with a re-INVITE.
    pub fn reinvite_with_codecs(&mut self, now: Instant, codecs: Vec<Codec>) {
        for codec in &codecs {
            self.rtp.heard.expect_audio(payload_type(*codec), *codec);
        }
        self.profile.codecs = codecs;
        self.reinvite(now, self.direction);
    }

    /// Sends a digit by INFO (`application/dtmf-relay`), after those sent before have been answered.
    pub fn info(&mut self, now: Instant, digit: &Digit, duration_ms: u32) {
        self.waiting.push_back((digit.clone(), duration_ms));
        self.next_info(now);
    }

    /// Says something in a header of an INFO, UPDATE or re-INVITE.
    pub fn say(&mut self, now: Instant, method: &str, (name, value): (&str, &str)) {
        let offer = (method == "INVITE").then(|| self.offer());
        self.send_request(now, method, |request| match offer {
            Some(offer) => request.with(name, value).with_body("application/sdp", offer),
            None => request.with(name, value),
        });
    }

    /// Sends an INFO with a header and no body, as PBXs steer recorders.
    pub fn signal(&mut self, now: Instant, header: &str, value: &str) {
        let (header, value) = (header.to_owned(), value.to_owned());
        self.send_request(now, "INFO", |m| m.with(&header, value));
    }

    fn next_info(&mut self, now: Instant) {
        if self.info_open {
            return;
        }
        let Some((digit, duration_ms)) = self.waiting.pop_front() else { return };
        self.info_open = true;
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

    /// Whether no call has come yet and none was made.
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle)
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
            if method == "INFO" {
                self.info_open = false;
                self.next_info(now);
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
        if let State::Ringing { answer_at, .. } = &mut self.state
            && self.transactions.awaits_prack()
        {
            // RFC 3262 section 3: not before the PRACK of what carried the answer.
            *answer_at = Some(now + PRACK_PAUSE);
            return;
        }
        let State::Ringing { invite, from, .. } = std::mem::replace(&mut self.state, State::Up) else { return };
        let mut response = self.response(&invite, 200, true);
        if !self.settled {
            let body = self.answer_body(now, &invite);
            response = response.with_body("application/sdp", body);
        }
        self.transactions.respond(now, from, &invite, &response);
        self.events.push_back(Event::Up);
    }
}

fn payload_type(codec: Codec) -> u8 {
    match codec {
        Codec::Pcmu => 0,
        Codec::Pcma => 8,
        Codec::G722 => 9,
        Codec::Opus => 111,
        Codec::Foreign(_) => 18,
    }
}

#[cfg(test)]
mod tests;
