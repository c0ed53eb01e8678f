//! A seeded walk: thousands of calls between peers that do whatever comes to mind, over a network that loses, repeats
//! and reorders. Nothing is asked of the peers; of the engine it is asked that no call is stuck, that each call ends
//! once, that every port, recording, transaction and timer is given back, and that no order breaks the ledger's rules.
//! The seed of a failing run is printed; `TONEWALL_SEED` runs one again.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use tonewall::base::Random;
use tonewall::base::ids::{CallId, Leg};
use tonewall::base::payment::{Field, FieldError};
use tonewall::base::secret::Digit;
use tonewall::call::{CollectionRequest, PaymentOrder, PaymentRequest, RecorderReport, Signal};
use tonewall::config::{GuardMode, RecordingPolicy, Refer, StarCodes, T38};
use tonewall::media::{Event, Guard, Tap};
use tonewall::obs::event::{EndCause, EventKind, HoldKind};
use tonewall::obs::payment::PaymentField;
use tonewall::psp::{Answer, Failure, Outcome};
use tonewall::testkit::simple_sip::{Message, tag};

use crate::harness::*;

const CALLS: u32 = 3_000;

/// A datagram on its way to the engine.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Flying {
    at: Instant,
    nth: u64,
    from: Who,
    bytes: Vec<u8>,
}

struct Walk {
    w: World,
    random: Random,
    flying: BinaryHeap<Reverse<Flying>>,
    nth: u64,
    lines: Vec<Line>,
    /// INVITEs sent by a peer, to cancel or acknowledge.
    asked: HashMap<String, (Line, Message)>,
    /// INVITEs got by a peer and not finally answered.
    ringing: Vec<(Who, Message)>,
    /// Every call is masked from its beginning to its end.
    guarded: bool,
}

impl Walk {
    fn new(seed: u64) -> Self {
        let w = World::with(|config| {
            config.trunks[0].guard = match seed % 3 {
                0 => GuardMode::Always,
                1 => GuardMode::Auto,
                _ => GuardMode::Signal,
            };
            config.trunks[0].recording = RecordingPolicy::BestEffort;
            config.trunks[1].remotes.push(Who::Standby.at());
            config.trunks[1].methods.refer = Refer::Terminate;
            config.trunks[1].methods.replaces = true;
            if seed % 3 == 2 {
                config.trunks.iter_mut().for_each(|trunk| trunk.t38 = T38::Pass);
            }
            let keys = |text: &str| text.chars().filter_map(Digit::from_char).collect();
            config.trunks[1].star_codes =
                Some(StarCodes { begin: keys("*71"), end: keys("*72"), in_band: seed.is_multiple_of(2) });
            config.media.ports = (30_000, 30_155);
        });
        let random = Random::seed_from_u64(seed);
        Self {
            w,
            random,
            flying: BinaryHeap::new(),
            nth: 0,
            lines: vec![],
            asked: HashMap::new(),
            ringing: vec![],
            guarded: seed % 3 != 2,
        }
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.random.random_range(0..100) < percent
    }

    /// Sends a message: lost, late, doubled, and some repeated as retransmissions are.
    fn send(&mut self, from: Who, message: &Message, repeats: bool) {
        let copies: &[u64] = if repeats { &[0, 500, 1_500, 3_500, 7_500] } else { &[0] };
        for after in copies {
            let double = if self.chance(5) { 2 } else { 1 };
            for _ in 0..double {
                if self.chance(10) {
                    continue;
                }
                self.nth += 1;
                let late = self.random.random_range(1..300);
                let at = self.w.now + Duration::from_millis(after + late);
                self.flying.push(Reverse(Flying { at, nth: self.nth, from, bytes: message.print() }));
            }
        }
    }

    /// Everything that is due by `until`, in order.
    fn run(&mut self, until: Instant) {
        loop {
            let flight = self.flying.peek().map(|Reverse(f)| f.at);
            let timer = self.w.engine.poll_timeout();
            let next = [flight, timer].into_iter().flatten().min().filter(|at| *at <= until);
            let Some(next) = next else { break };
            self.w.now = self.w.now.max(next);
            if flight.is_some_and(|at| at <= next) {
                let Some(Reverse(flying)) = self.flying.pop() else { break };
                self.w.send_bytes(flying.from, &flying.bytes);
            } else {
                self.w.engine.handle_timeout(self.w.now);
                self.w.drain();
            }
            self.react();
            self.watch();
        }
        self.w.now = until;
    }

    /// Under `always` and `auto` no session is ever open toward the agent, whatever has joined or replaced whom.
    fn watch(&self) {
        if self.guarded {
            let open =
                self.w.ledger.sessions.values().find(|session| !matches!(session.toward_agent, Guard::Masked(_)));
            assert!(open.is_none(), "a session is open toward the agent");
        }
    }

    /// The peers read what they got.
    fn react(&mut self) {
        for who in [Who::Carrier, Who::Pbx, Who::Standby] {
            while let Some(message) = self.w.next_for(who) {
                if self.chance(8) {
                    continue;
                }
                match message.method().map(str::to_owned).as_deref() {
                    None => self.on_response(who, &message),
                    Some("INVITE") => self.on_invite(who, message),
                    Some("ACK") => {}
                    Some("CANCEL") => self.on_cancel(who, &message),
                    Some(_) => {
                        let status = if self.chance(95) { 200 } else { 481 };
                        if self.chance(95) {
                            self.send(who, &reply(who, &message, status, ""), false);
                        }
                    }
                }
            }
        }
    }

    fn body(&mut self, who: Who) -> String {
        let formats = ["0 8 101", "0 101", "8 101", "8", "0", "18"];
        let directions = ["sendrecv", "sendrecv", "sendrecv", "sendonly", "inactive"];
        let format = formats[self.random.random_range(0..formats.len())];
        let direction = directions[self.random.random_range(0..directions.len())];
        let version = self.w.next();
        let body = sdp(who, version, format, direction);
        if self.chance(5) {
            let head = body.split("m=audio").next().expect("lines before the stream");
            return format!("{head}m=image 6200 udptl t38\r\na=T38FaxVersion:0\r\n");
        }
        body
    }

    fn on_invite(&mut self, who: Who, invite: Message) {
        let to = invite.get("to").and_then(tag).map(str::to_owned);
        let fork = format!("fork{}", self.random.random_range(0..3));
        match self.random.random_range(0..12) {
            0 => {}
            1 => {
                let statuses = [486, 491, 488, 503, 408, 481, 302, 404, 600];
                let status = statuses[self.random.random_range(0..statuses.len())];
                self.send(who, &reply(who, &invite, status, &fork), true);
            }
            2 | 3 => {
                self.send(who, &reply(who, &invite, 180, &fork), false);
                self.ringing.push((who, invite));
            }
            4 => {
                let body = self.body(who);
                let early = reply(who, &invite, 183, &fork).with_body("application/sdp", body);
                self.send(who, &early, false);
                self.ringing.push((who, invite));
            }
            _ => self.answer(who, &invite, to.is_none(), &fork),
        }
    }

    fn answer(&mut self, who: Who, invite: &Message, first: bool, fork: &str) {
        let body = self.body(who);
        let mut ok = reply(who, invite, 200, fork);
        if self.chance(97) {
            ok = ok.with_body("application/sdp", body);
        }
        self.send(who, &ok, true);
        if first {
            self.lines.push(Line::called(who, invite, fork));
        }
    }

    fn on_cancel(&mut self, who: Who, cancel: &Message) {
        self.send(who, &reply(who, cancel, 200, "c"), false);
        let at = self.ringing.iter().position(|(w, i)| *w == who && i.branch() == cancel.branch());
        if let Some(at) = at {
            let (_, invite) = self.ringing.swap_remove(at);
            if self.chance(80) {
                self.send(who, &reply(who, &invite, 487, "fork0"), true);
            } else {
                self.answer(who, &invite, true, "fork0");
            }
        }
    }

    fn on_response(&mut self, who: Who, response: &Message) {
        let Some((_, "INVITE")) = response.cseq() else { return };
        if let (Some(rseq), Some(contact)) = (response.get("rseq"), response.get("contact")) {
            let Some((mut line, _)) = self.asked.get(response.branch().unwrap_or_default()).cloned() else { return };
            (line.remote, line.target) =
                (response.get("to").expect("To").to_owned(), tonewall::testkit::simple_sip::uri(contact).to_owned());
            let rack = format!("{rseq} {}", response.get("cseq").expect("CSeq"));
            line.cseq += 1;
            let prack = line.request(&mut self.w, "PRACK").with("RAck", rack);
            if self.chance(90) {
                self.send(who, &prack, true);
            }
            return;
        }
        let Some(status) = response.status().filter(|status| *status >= 200) else { return };
        let Some((line, invite)) = self.asked.get(response.branch().unwrap_or_default()).cloned() else { return };
        let mut line = line;
        if status < 300 {
            if response.get("contact").is_none() {
                return;
            }
            line.follow(response);
        }
        let mut ack = line.ack(&mut self.w);
        if status < 300 && invite.body.is_empty() && self.chance(90) {
            let body = self.body(who);
            ack = ack.with_body("application/sdp", body);
        } else if status >= 300 {
            ack.headers[0].1 = invite.get("via").expect("Via").to_owned();
        }
        if self.chance(96) {
            self.send(who, &ack, true);
        }
        if status < 300 && !self.lines.iter().any(|l| l.call_id == line.call_id) {
            self.lines.push(line);
        }
    }

    /// A peer calls.
    fn place(&mut self) {
        let who = if self.chance(65) { Who::Carrier } else { Who::Pbx };
        let mut line = Line::new(&mut self.w, who, "1001");
        self.invite(&mut line);
    }

    /// A Replaces for a dialog of the PBX, if there is one: of this call or another, alive or not.
    fn some_replaces(&mut self) -> Option<String> {
        let of_pbx: Vec<&Line> = self.lines.iter().filter(|line| line.who == Who::Pbx).collect();
        if of_pbx.is_empty() {
            return None;
        }
        // The newest are the likeliest to be alive.
        let nth = self.random.random_range(of_pbx.len().saturating_sub(3)..of_pbx.len());
        let line = of_pbx[nth];
        let (ours, theirs) = (tag(&line.remote)?, tag(&line.local)?);
        Some(format!("{};to-tag={ours};from-tag={theirs}", line.call_id))
    }

    fn refer(&mut self, line: &mut Line) {
        let replaces = self.some_replaces().filter(|_| self.random.random_range(0..100) < 60);
        let query = replaces.map(|value| value.replace('@', "%40").replace(';', "%3B").replace('=', "%3D"));
        let query = query.map(|value| format!("?Replaces={value}")).unwrap_or_default();
        let refer = line.request(&mut self.w, "REFER").with("Refer-To", format!("<sip:1002@elsewhere{query}>"));
        self.send(line.who, &refer, true);
    }

    /// A call that takes another's place.
    fn replace(&mut self) {
        let Some(replaces) = self.some_replaces() else { return };
        let mut line = Line::new(&mut self.w, Who::Pbx, "1001");
        let body = self.body(Who::Pbx);
        let invite = line.offer(&mut self.w, "INVITE", &body).with("Replaces", replaces);
        self.send(Who::Pbx, &invite, true);
        let branch = invite.branch().expect("branch").to_owned();
        self.asked.insert(branch, (line, invite));
    }

    fn invite(&mut self, line: &mut Line) {
        let body = self.body(line.who);
        let mut invite = line.request(&mut self.w, "INVITE");
        if self.chance(85) {
            invite = invite.with_body("application/sdp", body);
        }
        if self.chance(40) {
            invite = invite.with("Supported", "100rel");
        }
        self.send(line.who, &invite, true);
        let branch = invite.branch().expect("branch").to_owned();
        self.asked.insert(branch, (line.clone(), invite));
    }

    /// Somebody does something.
    fn stir(&mut self) {
        let who_answers = self.ringing.len();
        if who_answers > 0 && self.chance(60) {
            let at = self.random.random_range(0..who_answers);
            let (who, invite) = self.ringing.swap_remove(at);
            let fork = format!("fork{}", self.random.random_range(0..3));
            self.answer(who, &invite, true, &fork);
        }
        if !self.asked.is_empty() && self.chance(5) {
            let at = self.random.random_range(0..self.asked.len());
            let Some((mut line, invite)) = self.asked.values().nth(at).cloned() else { return };
            let mut cancel = line.request(&mut self.w, "CANCEL");
            cancel.headers[0].1 = invite.get("via").expect("Via").to_owned();
            self.send(line.who, &cancel, true);
        }
        if !self.lines.is_empty() {
            let at = self.random.random_range(0..self.lines.len());
            let mut line = self.lines[at].clone();
            match self.random.random_range(0..13) {
                0..=3 => {
                    let bye = line.request(&mut self.w, "BYE");
                    self.send(line.who, &bye, true);
                    self.lines.swap_remove(at);
                    return;
                }
                4 | 5 => self.invite(&mut line),
                6 => {
                    let body = self.body(line.who);
                    let update = line.request(&mut self.w, "UPDATE");
                    let update = if self.chance(70) { update.with_body("application/sdp", body) } else { update };
                    self.send(line.who, &update, true);
                }
                7 => {
                    let info = line.request(&mut self.w, "INFO");
                    let info = info.with_body("application/dtmf-relay", "Signal=5\r\nDuration=100\r\n");
                    self.send(line.who, &info, true);
                }
                8 => {
                    let actions = ["pause", "resume", "mask", "unmask"];
                    let action = actions[self.random.random_range(0..actions.len())];
                    let info = line.request(&mut self.w, "INFO").with("X-AC-Action", action);
                    self.send(line.who, &info, true);
                }
                9 | 10 => {
                    // Mostly the agents' side transfers.
                    let pbx = self.lines.iter().rposition(|line| line.who == Who::Pbx).filter(|_| self.chance(80));
                    let at = pbx.unwrap_or(at);
                    let mut line = self.lines[at].clone();
                    self.refer(&mut line);
                    self.lines[at] = line;
                }
                11 => self.replace(),
                _ => {
                    let options = line.request(&mut self.w, "OPTIONS");
                    self.send(line.who, &options, true);
                }
            }
            self.lines[at] = line;
        }
        self.signal();
        self.pay();
        self.provide();
        self.media();
        self.expect_guarded();
    }

    fn signal(&mut self) {
        let calls = self.w.views();
        if calls.is_empty() {
            return;
        }
        let view = &calls[self.random.random_range(0..calls.len())];
        let (call, actor) = (view.id, actor());
        let signal = match self.random.random_range(0..12) {
            0 => Signal::HangUp { call, actor },
            1 | 2 => {
                let kinds = vec![HoldKind::Mask, HoldKind::Pause];
                Signal::TakeHolds { call, kinds, reason: "walk".into(), ttl: Some(5 * SEC), actor }
            }
            3 => match view.holds.first() {
                Some(hold) => Signal::ReleaseHold { call, hold: hold.id, actor },
                None => return,
            },
            4..=6 => Signal::StartCollection { call, request: CollectionRequest::of_length(4), actor },
            7 => match &view.collection {
                Some(open) => Signal::CancelCollection { call, collection: open.id, actor },
                None => return,
            },
            8 => {
                if let Some(recording) = &view.recording {
                    self.w.engine.handle_recorder(self.w.now, recording.id, RecorderReport::Failed);
                    self.w.ledger.recordings_open -= usize::from(
                        recording.state == tonewall::obs::event::RecordingState::Recording
                            || recording.state == tonewall::obs::event::RecordingState::Paused,
                    );
                    self.w.drain();
                }
                return;
            }
            _ => return,
        };
        // Refused or granted: both are fine, neither may break anything.
        let _ = self.w.signal(signal);
    }

    /// Somebody begins a payment, asks for a field, has it keyed, completes it or gives it up.
    fn pay(&mut self) {
        let calls = self.w.views();
        let paying = calls.iter().filter_map(|view| Some((view.id, view.payment.as_ref()?.id))).next_back();
        let order = |order| move |call| Signal::Payment { call, order, actor: actor() };
        let Some((call, payment)) = paying else {
            let Some(view) = calls.last() else { return };
            if !self.chance(30) {
                return;
            }
            let request = PaymentRequest { postal_code: Some(false), ..PaymentRequest::default() };
            let _ = self.w.signal(order(PaymentOrder::Start(Box::new(request)))(view.id));
            return;
        };
        let fields = [PaymentField::PaymentCardNumber, PaymentField::ExpirationDate, PaymentField::SecurityCode];
        match self.random.random_range(0..8) {
            0 => drop(self.w.signal(order(PaymentOrder::Complete(payment))(call))),
            1 if self.chance(30) => drop(self.w.signal(order(PaymentOrder::Cancel(payment))(call))),
            2 => drop(self.w.signal(order(PaymentOrder::Capture(payment, PaymentField::PostalCode))(call))),
            _ => {
                for (field, keys) in fields.into_iter().zip(["5555555555554444", "1230", "123"]) {
                    let _ = self.w.signal(order(PaymentOrder::Capture(payment, field))(call));
                    self.key(call, keys);
                }
            }
        }
    }

    /// The customer of a call keys something.
    fn key(&mut self, call: CallId, keys: &str) {
        let Some(session) = self.w.session_of(call) else { return };
        for digit in keys.chars().filter_map(Digit::from_char) {
            let Some(live) = self.w.ledger.sessions.get(&session) else { return };
            let masked = matches!(live.toward_agent, Guard::Masked(_));
            let event = Event::Digit { session, from: Leg::Customer, digit, at: self.w.now, masked };
            self.w.engine.handle_media(self.w.now, event);
            self.w.drain();
        }
    }

    /// The payment provider answers something it was asked, once or more than once, or never.
    fn provide(&mut self) {
        if self.w.charges.is_empty() || self.chance(50) {
            return;
        }
        let at = self.random.random_range(0..self.w.charges.len());
        let outcome = match self.random.random_range(0..6) {
            0 => Outcome::Approved { token: None, reference: None },
            1 => Outcome::Declined { code: "declined".into() },
            2 => Outcome::Unknown,
            3 => Outcome::Failed { reason: Failure::Unavailable },
            4 => Outcome::ReEnter { field: Field::PostalCode, error: FieldError::InvalidPostalCode },
            _ => Outcome::ReEnter { field: Field::SecurityCode, error: FieldError::InvalidSecurityCode },
        };
        let charge = &self.w.charges[at];
        let answer = Answer { payment: charge.payment, attempt: charge.attempt, outcome };
        self.w.engine.handle_payment(self.w.now, answer);
        self.w.drain();
    }

    /// A call with a payment that is not over is masked and its recording paused, as media was told.
    fn expect_guarded(&mut self) {
        for view in self.w.views() {
            if view.payment.is_none() {
                continue;
            }
            assert!(view.masked && view.paused, "{view:?}");
            let session = self.w.session_of(view.id).and_then(|session| self.w.ledger.sessions.get(&session));
            if let Some(session) = session {
                assert!(matches!(session.toward_agent, Guard::Masked(_)) && session.tap != Tap::On);
            }
        }
    }

    fn media(&mut self) {
        let sessions: Vec<_> = self.w.ledger.sessions.iter().map(|(id, s)| (*id, s.toward_agent)).collect();
        if sessions.is_empty() {
            return;
        }
        let (session, guard) = sessions[self.random.random_range(0..sessions.len())];
        let event = match self.random.random_range(0..8) {
            0 => Event::Inactive { session },
            1 => {
                self.w.engine.handle_media_failed(self.w.now, session);
                self.w.drain();
                return;
            }
            _ => {
                let from = if self.chance(70) { Leg::Customer } else { Leg::Agent };
                let digit = Digit::from_event(self.random.random_range(0..16)).expect("a key");
                Event::Digit { session, from, digit, at: self.w.now, masked: matches!(guard, Guard::Masked(_)) }
            }
        };
        self.w.engine.handle_media(self.w.now, event);
        self.w.drain();
    }

    /// How many calls were joined with others, and transferred.
    fn finish(mut self) -> (usize, usize) {
        // The peers fall silent: what set-ups are open run out, what is up is found inactive.
        let quiet = self.w.now + Duration::from_secs(200);
        self.run(quiet);
        for _ in 0..2 {
            let sessions: Vec<_> = self.w.ledger.sessions.keys().copied().collect();
            for session in sessions {
                self.w.engine.handle_media(self.w.now, Event::Inactive { session });
                self.w.drain();
            }
            // Nobody answers any more, so a call on hold is found dead by its probe.
            self.w.inbox.clear();
            self.w.advance(70 * SEC);
        }
        self.w.inbox.clear();
        self.w.expect_clean();
        let count = |kind: fn(&EventKind) -> bool| self.w.events.iter().filter(|e| kind(e)).count();
        let started = count(|e| matches!(e, EventKind::CallStarted { .. }));
        assert_eq!(started, count(|e| matches!(e, EventKind::CallEnded { .. })));
        assert_eq!(
            count(|e| matches!(e, EventKind::CollectionStarted { .. })),
            count(|e| matches!(e, EventKind::CollectionEnded { .. })),
        );
        let paid = count(|e| matches!(e, EventKind::PaymentEnded { .. }));
        assert_eq!(count(|e| matches!(e, EventKind::PaymentStarted { .. })), paid);
        let charges: HashSet<_> = self.w.charges.iter().map(|charge| (charge.payment, charge.attempt)).collect();
        assert_eq!(charges.len(), self.w.charges.len(), "no attempt is submitted twice");
        let answered = count(|e| matches!(e, EventKind::CallAnswered));
        let joined = self.w.ended().iter().filter(|(cause, _)| *cause == EndCause::Joined).count();
        let moved = count(|e| matches!(e, EventKind::CallTransferred { .. }));
        let (handed, charged) = (self.w.handovers.len(), self.w.charges.len());
        println!(
            "{started} calls, {answered} answered, {joined} joined, {moved} transferred, {handed} handed over; \
             {paid} payments, {charged} charges"
        );
        assert!(answered > 10 && started > answered);
        (joined, moved)
    }
}

fn walk(seed: u64, calls: u32) -> (usize, usize) {
    println!("seed {seed}");
    let mut walk = Walk::new(seed);
    for _ in 0..calls {
        walk.place();
        for _ in 0..3 {
            walk.stir();
            let pause = walk.random.random_range(1..900);
            let until = walk.w.now + Duration::from_millis(pause);
            walk.run(until);
        }
    }
    walk.finish()
}

#[test]
fn whatever_peers_and_network_do_no_call_is_stuck_and_nothing_leaks() {
    if let Ok(seed) = std::env::var("TONEWALL_SEED") {
        walk(seed.parse().expect("a number"), CALLS);
        return;
    }
    let (joined, moved) =
        (0..6).map(|seed| walk(seed, CALLS / 6)).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    assert!(joined >= 10 && moved >= 3 * joined, "too few transfers: {joined} joined, {moved} moved");
}
