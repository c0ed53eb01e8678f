//! One recording session with one server, as its client (RFC 7866 section 6.1). What the call wants, the server's messages
//! and the time go in; messages, orders to the sender of sound and what happened come out, in the order in which they
//! are to be carried out: a cut of the sound always stands before the message that tells of it.
//!
//! ```text
//!            2xx, description fits                    BYE of theirs, 481, no sign of life
//!  Inviting ───────────────────────► Up ─────────────────────────────────────────────────► Over
//!     │                              │ ▲                                                    ▲
//!     │                              ▼ │ answered, 491: again after 2.1–4 s                 │
//!     │                            Asking (re-INVITE of ours)                               │
//!     └── refused, silent, unfit, stopped ──────────── stopped: BYE ────────────────────────┘
//!                                    Up ── finished: BYE ─► Ending ── answered ─► Over
//! ```

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::body;
use super::sdp::{Ours, Stream};
use crate::base::Random;
use crate::base::time::soonest;
use crate::config::Dialect;
use crate::sdp::{Policy, Session as Description};
use crate::sip::msg::HeaderName;
use crate::sip::msg::header::ContentType;
use crate::sip::{Dialog, Method, Request, Response, ServerId, multipart};

/// How long the server may leave a question within the session unanswered.
const PATIENCE: Duration = Duration::from_secs(5);
/// How soon a change that failed for the moment is told again.
const AGAIN: Duration = Duration::from_secs(5);
/// How often a change is told before the server is taken to be deaf to it.
const MOST_AGAIN: u8 = 6;

/// The methods a server may use within a recording session.
pub const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, UPDATE, OPTIONS, INFO";

/// What a session is made of.
#[derive(Debug)]
pub struct Setup {
    /// The INVITE with From, To, Call-ID, CSeq, Contact and the further headers, without a body.
    pub invite: Request,
    /// Value of Contact, for every message that makes or refreshes the dialog.
    pub contact: String,
    /// The server's dialect.
    pub dialect: Dialect,
    /// Our side of the sound.
    pub ours: Ours,
    /// Where sound may go.
    pub policy: Policy,
    /// How long the server may be silent to the INVITE.
    pub answer: Duration,
    /// How often it is asked whether it still lives; zero: never.
    pub alive: Duration,
    /// What the server is told of the call.
    pub metadata: String,
    /// The recording is paused from the start.
    pub paused: bool,
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// We ended it.
    Ours,
    /// The server ended it.
    Theirs,
    /// It failed: why, for people. Nothing of it comes from the wire.
    Failed(String),
}

/// What is to be done.
#[derive(Debug)]
pub enum Output {
    /// Send an INVITE; its answers come to [`Session::handle_response`].
    Invite(Request),
    /// Acknowledge the 2xx to the last INVITE.
    Ack(Dialog),
    /// Give up the last INVITE.
    Cancel,
    /// Send a request within the dialog whose answer does not matter.
    Send(Request),
    /// Ask within the dialog; the answer comes to [`Session::handle_alive`].
    Ask(Request),
    /// Answer a request of the server's.
    Respond(ServerId, Response),
    /// Sound flows to these places from now on; `None`: it does not.
    Flow(Option<Box<[Stream; 2]>>),
    /// The server has taken the session; `true`: it wants sound now.
    Accepted(bool),
    /// The session is over.
    Over(End),
}

/// How far it is.
#[derive(Debug)]
enum State {
    /// The INVITE waits for its answer.
    Inviting {
        until: Instant,
    },
    /// The server has taken it.
    Up(Box<Up>),
    /// All has been sent; the server has until then to answer the BYE.
    Ending {
        until: Instant,
    },
    Over,
}

#[derive(Debug)]
struct Up {
    dialog: Dialog,
    streams: [Stream; 2],
    /// A re-INVITE of ours is under way, and when it has taken too long.
    asking: Option<Instant>,
    /// Something is still to be told, not before this time.
    owed: Option<Instant>,
    /// How often it was tried.
    tries: u8,
    /// A 2xx of ours with an offer in it: its ACK brings the answer.
    offered: Option<ServerId>,
    /// When it is asked next, and until when it may take to answer.
    alive_at: Option<Instant>,
    alive_until: Option<Instant>,
}

/// One recording session.
#[derive(Debug)]
pub struct Session {
    state: State,
    invite: Request,
    contact: String,
    dialect: Dialect,
    ours: Ours,
    policy: Policy,
    alive: Duration,
    metadata: String,
    paused: bool,
    /// Where sound flows now, as last ordered.
    flowing: bool,
    out: VecDeque<Output>,
}

impl Session {
    /// Begins: the INVITE comes out.
    pub fn new(now: Instant, random: &mut Random, setup: Setup) -> Self {
        let Setup { mut invite, contact, dialect, mut ours, policy, answer, alive, metadata, paused } = setup;
        invite.headers.push(HeaderName::Require, "siprec");
        describe(&mut invite.headers, &contact);
        // RFC 7866 section 6.1.2: whoever takes it for a call must refuse it.
        invite.headers.set(HeaderName::Accept, format!("application/sdp, {}", body::metadata_type(dialect)));
        let (kind, bytes) = body::parts(random, dialect, &ours.offer(!paused), &metadata);
        invite.set_body(&kind, bytes);
        let out = VecDeque::from([Output::Invite(invite.clone())]);
        let state = State::Inviting { until: now + answer };
        Self { state, invite, contact, dialect, ours, policy, alive, metadata, paused, flowing: false, out }
    }

    /// Whether it has ended.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// Whether the server has taken it.
    pub fn is_up(&self) -> bool {
        matches!(self.state, State::Up(_))
    }

    /// Whether sound flows to the server.
    pub fn is_flowing(&self) -> bool {
        self.flowing
    }

    /// The dialog, once there is one.
    pub fn dialog(&self) -> Option<&Dialog> {
        match &self.state {
            State::Up(up) => Some(&up.dialog),
            State::Inviting { .. } | State::Ending { .. } | State::Over => None,
        }
    }

    /// Pauses or resumes. The sound is cut before anything else happens, and flows again before the server is told.
    pub fn set_paused(&mut self, now: Instant, random: &mut Random, paused: bool) {
        if std::mem::replace(&mut self.paused, paused) == paused {
            return;
        }
        self.flow();
        self.owe(now);
        self.tell(now, random);
    }

    /// The call has changed.
    pub fn set_metadata(&mut self, now: Instant, random: &mut Random, metadata: String) {
        if self.metadata != metadata {
            self.metadata = metadata;
            self.owe(now);
            self.tell(now, random);
        }
    }

    /// Ends it from our side.
    pub fn stop(&mut self) {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Inviting { .. } => self.out.push_back(Output::Cancel),
            State::Up(mut up) => {
                self.cut();
                self.out.push_back(Output::Send(up.dialog.next_request(Method::Bye)));
            }
            // Its BYE is under way.
            State::Ending { .. } => {}
            State::Over => return,
        }
        self.out.push_back(Output::Over(End::Ours));
    }

    /// All has been sent: ends it from our side, and only when the server has answered that has it got all.
    pub fn finish(&mut self, now: Instant) {
        if let State::Up(mut up) = std::mem::replace(&mut self.state, State::Ending { until: now + PATIENCE }) {
            self.cut();
            self.out.push_back(Output::Ask(up.dialog.next_request(Method::Bye)));
        } else {
            self.state = State::Over;
            self.out.push_back(Output::Over(End::Failed("the session was not up".to_owned())));
        }
    }

    /// Nobody takes the sound any more, as the network says.
    pub fn handle_unheard(&mut self) {
        if self.is_up() {
            self.leave("the recorder's media ports are closed".to_owned());
        }
    }

    /// An answer to the last INVITE of ours.
    pub fn handle_response(&mut self, now: Instant, random: &mut Random, response: &Response) {
        match &self.state {
            State::Inviting { .. } if response.status < 200 => {}
            State::Inviting { .. } if response.class() == 2 => self.accepted(now, random, response),
            State::Inviting { .. } => {
                self.state = State::Over;
                let why = format!("the recorder refused the session with {}", response.status);
                self.out.push_back(Output::Over(End::Failed(why)));
            }
            State::Up(_) if response.is_final() => self.told(now, random, response),
            State::Up(_) | State::Ending { .. } | State::Over => {}
        }
    }

    /// The last INVITE of ours got no answer in time (408) or could not be sent (503).
    pub fn handle_failure(&mut self, now: Instant, random: &mut Random, status: u16) {
        match &mut self.state {
            State::Inviting { .. } => {
                self.state = State::Over;
                let why = if status == 503 { "no way to the recorder" } else { "no answer to the INVITE" };
                self.out.push_back(Output::Over(End::Failed(why.to_owned())));
            }
            State::Up(up) if up.asking.is_some() => {
                self.told(now, random, &Response::new(status, ""));
            }
            State::Up(_) | State::Ending { .. } | State::Over => {}
        }
    }

    fn accepted(&mut self, now: Instant, random: &mut Random, response: &Response) {
        let Ok(dialog) = Dialog::uac(&self.invite, response) else {
            self.state = State::Over;
            // Without Contact there is nowhere to send the ACK; the server gives up by its own timer.
            let why = "the recorder's 2xx has no Contact".to_owned();
            return self.out.push_back(Output::Over(End::Failed(why)));
        };
        self.out.push_back(Output::Ack(dialog.clone()));
        let alive_at = (!self.alive.is_zero()).then(|| now + self.alive);
        let read = description(response.headers.get(HeaderName::ContentType), &response.body);
        let streams = read.ok_or(super::sdp::Unfit::Unreadable).and_then(|it| self.ours.read(&it, &self.policy, false));
        match streams {
            Ok(streams) => {
                let wants = streams.iter().any(|stream| stream.wanted);
                self.state = State::Up(Box::new(Up {
                    dialog,
                    streams,
                    asking: None,
                    owed: None,
                    tries: 0,
                    offered: None,
                    alive_at,
                    alive_until: None,
                }));
                self.flow();
                self.out.push_back(Output::Accepted(wants));
                // What changed since the INVITE went is told now.
                if self.stale() {
                    self.owe(now);
                    self.tell(now, random);
                }
            }
            Err(unfit) => {
                let mut dialog = dialog;
                self.state = State::Over;
                self.out.push_back(Output::Send(dialog.next_request(Method::Bye)));
                self.out.push_back(Output::Over(End::Failed(unfit.to_string())));
            }
        }
    }

    /// Whether the INVITE told something else than what holds now.
    fn stale(&self) -> bool {
        let body = &self.invite.body;
        let contains = |text: &str| body.windows(text.len().max(1)).any(|part| part == text.as_bytes());
        !contains(&self.metadata) || contains("a=sendonly") == self.paused
    }

    /// The answer to a re-INVITE of ours.
    fn told(&mut self, now: Instant, random: &mut Random, response: &Response) {
        let State::Up(up) = &mut self.state else { return };
        if up.asking.take().is_none() {
            return;
        }
        up.dialog.handle_response(response);
        match response.status {
            200..300 => {
                up.tries = 0;
                let dialog = up.dialog.clone();
                self.out.push_back(Output::Ack(dialog));
                let read = description(response.headers.get(HeaderName::ContentType), &response.body);
                match read.map(|it| self.ours.read(&it, &self.policy, false)) {
                    Some(Ok(streams)) => {
                        if let State::Up(up) = &mut self.state {
                            up.streams = streams;
                        }
                        self.flow();
                    }
                    Some(Err(unfit)) => return self.leave(unfit.to_string()),
                    // What was agreed stands.
                    None => {}
                }
            }
            491 => up.owed = Some(now + up.dialog.glare_delay(random)),
            408 | 481 => {
                let why = format!("the recorder no longer knows the session ({})", response.status);
                return self.fail(why);
            }
            status => {
                up.tries += 1;
                if up.tries < MOST_AGAIN && (500..600).contains(&status) {
                    up.owed = Some(now + AGAIN);
                } else {
                    up.tries = 0;
                }
            }
        }
        self.tell(now, random);
    }

    /// The answer to the question whether it lives, or to the BYE of [`Session::finish`].
    pub fn handle_alive(&mut self, now: Instant, status: u16) {
        let alive = self.alive;
        if let State::Ending { .. } = self.state {
            self.state = State::Over;
            let end = match status {
                200..300 => End::Ours,
                status => End::Failed(format!("the recorder did not know the session at its end ({status})")),
            };
            return self.out.push_back(Output::Over(end));
        }
        let State::Up(up) = &mut self.state else { return };
        up.alive_until = None;
        if matches!(status, 408 | 481 | 503) {
            return self.fail(format!("the recorder no longer answers within the session ({status})"));
        }
        up.alive_at = (!alive.is_zero()).then(|| now + alive);
    }

    /// A request of the server's within the dialog.
    pub fn handle_request(&mut self, random: &mut Random, id: ServerId, request: &Request) {
        let State::Up(up) = &mut self.state else {
            return self.out.push_back(Output::Respond(id, Response::for_request(request, 481, "")));
        };
        if request.from_tag().unwrap_or_default() != up.dialog.id().remote_tag {
            return self.out.push_back(Output::Respond(id, Response::for_request(request, 481, "")));
        }
        if let Err(fault) = up.dialog.handle_request(request) {
            return self.out.push_back(Output::Respond(id, fault.response(request, random)));
        }
        match &request.method {
            Method::Bye => {
                self.cut();
                self.out.push_back(Output::Respond(id, Response::for_request(request, 200, "")));
                self.state = State::Over;
                self.out.push_back(Output::Over(End::Theirs));
            }
            Method::Invite | Method::Update => self.change(id, request),
            Method::Options | Method::Info => {
                let mut ok = Response::for_request(request, 200, "");
                ok.headers.set(HeaderName::Allow, ALLOW);
                self.out.push_back(Output::Respond(id, ok));
            }
            _ => {
                let mut no = Response::for_request(request, 405, "");
                no.headers.set(HeaderName::Allow, ALLOW);
                self.out.push_back(Output::Respond(id, no));
            }
        }
    }

    /// The server's re-INVITE or UPDATE: it wants sound, or none, or elsewhere.
    fn change(&mut self, id: ServerId, request: &Request) {
        let State::Up(up) = &mut self.state else { return };
        let invite = request.method == Method::Invite;
        let sending = !self.paused;
        let answer = if request.body.is_empty() {
            // An UPDATE without an offer only refreshes; an INVITE wants ours.
            if invite {
                up.offered = Some(id);
            }
            Ok(invite.then(|| self.ours.offer(sending)))
        } else {
            let read = description(request.headers.get(HeaderName::ContentType), &request.body);
            let read = read.ok_or(super::sdp::Unfit::Unreadable);
            read.and_then(|offer| Ok((self.ours.read(&offer, &self.policy, true)?, offer))).map(|(streams, offer)| {
                let text = self.ours.answer(&offer, &streams, sending);
                up.streams = streams;
                Some(text)
            })
        };
        let response = match answer {
            Ok(text) => {
                let mut ok = Response::for_request(request, 200, "");
                describe(&mut ok.headers, &self.contact);
                if let Some(text) = text {
                    ok.set_body("application/sdp", text);
                }
                ok
            }
            Err(_) => Response::for_request(request, 488, ""),
        };
        if invite {
            up.dialog.invite_answered(response.status);
        }
        // Where it wants nothing any more, nothing goes before it is told so.
        self.flow();
        self.out.push_back(Output::Respond(id, response));
    }

    /// The ACK of a 2xx of ours; it may bring the answer to our offer.
    pub fn handle_ack(&mut self, invite: ServerId, ack: &Request) {
        let State::Up(up) = &mut self.state else { return };
        if up.offered.take_if(|offered| *offered == invite).is_none() {
            return;
        }
        let read = description(ack.headers.get(HeaderName::ContentType), &ack.body);
        match read.map(|answer| self.ours.read(&answer, &self.policy, false)) {
            Some(Ok(streams)) => {
                up.streams = streams;
                self.flow();
            }
            Some(Err(unfit)) => self.leave(unfit.to_string()),
            None => {}
        }
    }

    /// The ACK of a 2xx of ours never came (RFC 3261 section 13.3.1.4).
    pub fn handle_lost_ack(&mut self) {
        self.leave("the recorder's ACK never came".to_owned());
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Instant, random: &mut Random) {
        match &mut self.state {
            State::Inviting { until } if *until <= now => {
                self.state = State::Over;
                self.out.push_back(Output::Cancel);
                self.out.push_back(Output::Over(End::Failed("no answer to the INVITE".to_owned())));
            }
            State::Up(up) => {
                if up.alive_until.is_some_and(|until| until <= now) {
                    return self.fail("the recorder does not answer within the session".to_owned());
                }
                if up.asking.is_some_and(|until| until <= now) {
                    return self.fail("the recorder does not answer a change".to_owned());
                }
                if up.alive_at.is_some_and(|at| at <= now) {
                    up.alive_at = None;
                    up.alive_until = Some(now + PATIENCE);
                    let question = up.dialog.next_request(Method::Options);
                    self.out.push_back(Output::Ask(question));
                }
                self.tell(now, random);
            }
            State::Ending { until } if *until <= now => {
                self.state = State::Over;
                self.out.push_back(Output::Over(End::Failed("the recorder did not answer at its end".to_owned())));
            }
            State::Inviting { .. } | State::Ending { .. } | State::Over => {}
        }
    }

    /// When [`Session::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Inviting { until } | State::Ending { until } => Some(*until),
            State::Up(up) => {
                let owed = up.owed.filter(|_| up.dialog.may_invite());
                soonest(soonest(up.asking, owed), soonest(up.alive_at, up.alive_until))
            }
            State::Over => None,
        }
    }

    /// What is to be done next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// Something is to be told; what waits for its time already waits on.
    fn owe(&mut self, now: Instant) {
        if let State::Up(up) = &mut self.state {
            up.owed = Some(up.owed.unwrap_or(now));
        }
    }

    /// Tells the server what holds now, if it is owed and may be told.
    fn tell(&mut self, now: Instant, random: &mut Random) {
        let State::Up(up) = &mut self.state else { return };
        if up.owed.is_none_or(|at| at > now) || !up.dialog.may_invite() {
            return;
        }
        up.owed = None;
        // Longer than the usual silence: it did take the session.
        up.asking = Some(now + 2 * PATIENCE);
        let mut request = up.dialog.next_request(Method::Invite);
        describe(&mut request.headers, &self.contact);
        let (kind, bytes) = body::parts(random, self.dialect, &self.ours.offer(!self.paused), &self.metadata);
        request.set_body(&kind, bytes);
        self.out.push_back(Output::Invite(request));
    }

    /// Orders where sound flows, where that is another place than before.
    fn flow(&mut self) {
        let State::Up(up) = &self.state else { return };
        let wanted = up.streams.iter().any(|stream| stream.wanted);
        if self.paused || !wanted {
            return self.cut();
        }
        self.flowing = true;
        self.out.push_back(Output::Flow(Some(Box::new(up.streams.clone()))));
    }

    fn cut(&mut self) {
        if std::mem::take(&mut self.flowing) {
            self.out.push_back(Output::Flow(None));
        }
    }

    /// The server is not there any more.
    fn fail(&mut self, why: String) {
        self.cut();
        self.state = State::Over;
        self.out.push_back(Output::Over(End::Failed(why)));
    }

    /// The server is there, and there is no going on with it.
    fn leave(&mut self, why: String) {
        self.cut();
        if let State::Up(mut up) = std::mem::replace(&mut self.state, State::Over) {
            self.out.push_back(Output::Send(up.dialog.next_request(Method::Bye)));
            self.out.push_back(Output::Over(End::Failed(why)));
        }
    }
}

/// What every message says that makes or refreshes the dialog.
fn describe(headers: &mut crate::sip::msg::Headers, contact: &str) {
    headers.set(HeaderName::Contact, contact);
    headers.set(HeaderName::Allow, ALLOW);
}

/// The session description in a body, alone or among parts.
fn description(kind: Option<&[u8]>, body: &Bytes) -> Option<Description> {
    let kind = ContentType::parse(kind?).ok()?;
    if kind.is("application", "sdp") {
        return Description::parse(body).ok();
    }
    if !kind.kind.eq_ignore_ascii_case("multipart") {
        return None;
    }
    let parts = multipart::parts(&kind, body).ok()?;
    let part = parts.iter().find(|part| part.kind.is("application", "sdp") && part.is_plain())?;
    Description::parse(part.content).ok()
}
