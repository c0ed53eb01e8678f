//! Submissions: charges go in; requests, records and answers come out. One rule is above all others: no payment is charged
//! twice, and none is forgotten.
//!
//! ```text
//!            steps of "charge" or "token"                      steps of "query", then "void"
//!   charge ──► request ──► answer ──► next … ──► outcome
//!                │ not sent, or repeats: again with the same idempotency key, after a pause
//!                │ could charge, and its answer is lost or unclear
//!                └──────────► the digits are wiped ──► query ──► found ──────────► outcome
//!                                                       ▲ │ nothing, once settled
//!                             "unknown" is told at the  │ └──► void ──► voided ──► not charged
//!                             deadline, if not known    └── not yet, lost: later
//! ```
//!
//! The driver writes every [`Record`] it gets from [`Machine::poll_record`] to disk before it sends what
//! [`Machine::poll_transmit`] gives and tells what [`Machine::poll_event`] gives, in this order.

mod unknown;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use super::exchange::{self, BuildError, Meaning, Reply, Request};
use super::record::{Ending, Record, State};
use super::render::Context;
use super::{Answer, Charge, Failure, Operation, Outcome};
use crate::base::ids::PaymentId;
use crate::base::time::{WallMs, soonest};
use crate::config::{Connector, Purpose, Step, Then};
use unknown::first_question;

/// How long a question about an unknown payment may take, at least.
const LEAST_TIMEOUT: Duration = Duration::from_millis(100);

/// A payment and its attempt.
type Key = (PaymentId, u32);

/// Every submission under way.
pub struct Machine {
    /// Those in force, and those that something under way still needs.
    connectors: Vec<Connector>,
    /// Places of those in force, in the order of the configuration.
    current: Vec<usize>,
    /// Which values of answers each connector needs to ask about a charge: no other goes to the disk.
    kept: Vec<BTreeSet<String>>,
    sessions: BTreeMap<Key, Session>,
    /// Requests on their way, by id.
    flights: BTreeMap<u64, Key>,
    next_id: u64,
    records: VecDeque<Record>,
    transmits: VecDeque<Request>,
    events: VecDeque<Answer>,
}

/// One submission.
struct Session {
    connector: usize,
    record: Record,
    /// What was keyed; there as long as it may be sent.
    charge: Option<Charge>,
    purpose: Purpose,
    step: usize,
    /// How often this step was sent.
    tries: u32,
    /// A request that could charge was sent and not answered.
    at_stake: bool,
    /// Questions asked since it became unknown.
    asked: u32,
    /// Until when the charge may still appear at the provider.
    settled: Instant,
    /// When "unknown" is told; `None` once it was, or when nobody waits.
    deadline: Option<Instant>,
    wait: Wait,
}

/// What a submission waits for.
#[derive(Debug, Clone, Copy)]
enum Wait {
    /// The reply to a request.
    Flight,
    /// A time, to send the step again.
    Until(Instant),
    /// Nothing more: it is only kept. Its connector is gone from the configuration.
    Nothing,
}

impl Machine {
    /// A machine that speaks to these providers; the first one is the default.
    pub fn new(connectors: Vec<Connector>) -> Self {
        Self {
            kept: connectors.iter().map(Connector::values_of_questions).collect(),
            current: (0..connectors.len()).collect(),
            connectors,
            sessions: BTreeMap::new(),
            flights: BTreeMap::new(),
            next_id: 0,
            records: VecDeque::new(),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// From now on charges go by `connectors`; gives the place of each. What is under way keeps the connector it began with,
    /// and one that is gone serves payments that were begun with it, until its place is needed.
    pub fn set_connectors(&mut self, now: Instant, connectors: Vec<Connector>) -> Vec<usize> {
        let gone = std::mem::take(&mut self.current);
        let names: Vec<String> = connectors.iter().map(|connector| connector.name.clone()).collect();
        for connector in connectors {
            let busy = |place: &usize| self.sessions.values().any(|session| session.connector == *place);
            // A former one of the same name is not asked for any more, and one that has been gone for long neither.
            let free = (0..self.connectors.len()).find(|place| {
                let replaced = names.contains(&self.connectors[*place].name) || !gone.contains(place);
                replaced && !self.current.contains(place) && !busy(place)
            });
            let kept = connector.values_of_questions();
            match free {
                Some(place) => (self.connectors[place], self.kept[place]) = (connector, kept),
                None => {
                    self.connectors.push(connector);
                    self.kept.push(kept);
                }
            }
            self.current.push(free.unwrap_or(self.connectors.len() - 1));
        }
        // What an earlier run left without a connector may have one again.
        for session in self.sessions.values_mut().filter(|session| matches!(session.wait, Wait::Nothing)) {
            let named = self.current.iter().find(|place| self.connectors[**place].is_named(&session.record.connector));
            if let Some(place) = named {
                session.connector = *place;
                session.purpose = first_question(&self.connectors[*place]);
                session.wait = Wait::Until(now);
            }
        }
        self.current.clone()
    }

    /// Takes a charge.
    pub fn handle_charge(&mut self, now: Instant, wall: WallMs, charge: Charge) {
        let (payment, attempt) = (charge.payment, charge.attempt);
        let refuse = |reason| Answer { payment, attempt, outcome: Outcome::Failed { reason } };
        let Some((index, connector)) = named(&self.connectors, &self.current, charge.connector.as_deref()) else {
            self.events.push_back(refuse(Failure::NoConnector));
            return;
        };
        let purpose = match charge.operation {
            Operation::Charge { .. } => Purpose::Charge,
            Operation::Token => Purpose::Token,
        };
        let under_way = self.sessions.values().filter(|session| session.charge.is_some()).count();
        let reason = if self.sessions.range((payment, 0)..=(payment, u32::MAX)).next().is_some() {
            Some(Failure::Duplicate)
        } else if connector.steps(purpose).is_empty() {
            Some(Failure::Unsupported)
        } else if under_way >= connector.at_once {
            Some(Failure::Overloaded)
        } else {
            None
        };
        if let Some(reason) = reason {
            self.events.push_back(refuse(reason));
            return;
        }
        let record = Record {
            payment,
            attempt,
            connector: connector.name.clone(),
            operation: charge.operation.clone(),
            state: State::Open,
            reference: None,
            values: BTreeMap::new(),
            since: wall,
            stored: false,
        };
        let session = Session {
            connector: index,
            record,
            charge: Some(charge),
            purpose,
            step: 0,
            tries: 0,
            at_stake: false,
            asked: 0,
            settled: now,
            deadline: Some(now + connector.deadline),
            wait: Wait::Nothing,
        };
        self.sessions.insert((payment, attempt), session);
        self.send(now, wall, (payment, attempt));
    }

    /// Takes the reply to a request.
    pub fn handle_reply(&mut self, now: Instant, wall: WallMs, id: u64, reply: Reply) {
        let Some(key) = self.flights.remove(&id) else { return };
        let Some(session) = self.sessions.get(&key) else { return };
        let connector = &self.connectors[session.connector];
        let Some(step) = connector.steps(session.purpose).get(session.step).cloned() else { return };
        if session.charge.is_some() {
            self.take_reply(now, wall, key, &step, reply);
        } else {
            self.take_word(now, wall, key, &step, &reply);
        }
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Instant, wall: WallMs) {
        let due: Vec<Key> = self
            .sessions
            .iter()
            .filter(|(_, session)| session.poll_timeout().is_some_and(|at| at <= now))
            .map(|(key, _)| *key)
            .collect();
        for key in due {
            if self.sessions.get(&key).is_some_and(|session| session.deadline.is_some_and(|at| at <= now)) {
                self.take_deadline(now, key);
            }
            if self.sessions.get(&key).is_some_and(|session| matches!(session.wait, Wait::Until(at) if at <= now)) {
                self.send(now, wall, key);
            }
        }
    }

    /// When [`Machine::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.sessions.values().map(Session::poll_timeout).fold(None, soonest)
    }

    /// The next record to be written before anything is sent or told.
    pub fn poll_record(&mut self) -> Option<Record> {
        self.records.pop_front()
    }

    /// The next request to be sent.
    pub fn poll_transmit(&mut self) -> Option<Request> {
        self.transmits.pop_front()
    }

    /// The next answer.
    pub fn poll_event(&mut self) -> Option<Answer> {
        self.events.pop_front()
    }

    /// How many submissions are under way or unknown.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// How many payments nobody knows the outcome of: told so, or left by an earlier run.
    pub fn unknown(&self) -> usize {
        self.sessions.values().filter(|session| session.is_unknown()).count()
    }

    /// Which payments these are, each with the connector it was begun with.
    pub fn unknown_payments(&self) -> Vec<(PaymentId, String)> {
        let unknown = self.sessions.values().filter(|session| session.is_unknown());
        unknown.map(|session| (session.record.payment, session.record.connector.clone())).collect()
    }

    /// Whether anything is under way that somebody waits for, or whose digits are held.
    pub fn is_charging(&self) -> bool {
        self.sessions.values().any(|session| session.charge.is_some() || session.deadline.is_some())
    }

    /// Whether nothing is under way or unknown.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// A record could not be written. What it stood for is not sent; `duplicate`: the store knows the payment already.
    pub fn handle_unwritten(&mut self, record: &Record, duplicate: bool) {
        let key = (record.payment, record.attempt);
        let reason = if duplicate { Failure::Duplicate } else { Failure::Store };
        let Some(session) = self.sessions.get_mut(&key) else { return };
        let ids: Vec<u64> = self.flights.iter().filter(|(_, of)| **of == key).map(|(id, _)| *id).collect();
        let held = self.transmits.iter().any(|request| ids.contains(&request.id));
        if session.charge.is_none() || !held {
            // Questions charge nothing: they go on, and the next record may be written again.
            return;
        }
        self.transmits.retain(|request| !ids.contains(&request.id));
        self.flights.retain(|id, _| !ids.contains(id));
        if session.at_stake {
            session.wait = Wait::Until(session.settled);
            session.charge = None;
            session.purpose = first_question(&self.connectors[session.connector]);
            (session.step, session.tries) = (0, 0);
        } else {
            self.sessions.remove(&key);
            let outcome = Outcome::Failed { reason };
            self.events.push_back(Answer { payment: record.payment, attempt: record.attempt, outcome });
        }
    }

    /// Sends the step a submission stands at.
    fn send(&mut self, now: Instant, wall: WallMs, key: Key) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        let connector = &self.connectors[session.connector];
        let Some(step) = connector.steps(session.purpose).get(session.step) else { return };
        let charging = session.charge.is_some();
        let left = match session.deadline.filter(|_| charging) {
            Some(deadline) => deadline.saturating_duration_since(now).max(LEAST_TIMEOUT),
            None => connector.timeout,
        };
        let id = self.next_id;
        let charge = session.charge.as_ref();
        let context = Context {
            connector,
            payment: key.0,
            attempt: key.1,
            operation: &session.record.operation,
            fields: charge.map(|charge| &charge.fields),
            brand: charge.and_then(|charge| charge.brand),
            description: charge.and_then(|charge| charge.description.as_deref()),
            parameters: charge.map(|charge| &charge.parameters),
            reference: session.record.reference.as_deref(),
            values: &session.record.values,
            wall,
            signing: None,
        };
        match exchange::build(step, &context, (id, session.connector), connector.timeout.min(left)) {
            Ok(request) => {
                self.next_id += 1;
                session.tries += 1;
                session.wait = Wait::Flight;
                if charging && step.commits && session.record.state == State::Open {
                    session.record.state = State::Committing;
                    Self::note(&mut self.records, &self.kept[session.connector], session);
                } else if !session.record.stored {
                    Self::note(&mut self.records, &self.kept[session.connector], session);
                }
                if charging && step.commits {
                    session.settled = now + connector.settle.max(connector.timeout);
                }
                self.flights.insert(id, key);
                self.transmits.push_back(request);
            }
            Err(error) if charging && !session.at_stake => {
                let reason = match error {
                    BuildError::Missing => Failure::MissingField,
                    BuildError::Address => Failure::Misunderstood,
                };
                self.finish(key, Outcome::Failed { reason });
            }
            Err(_) if charging => self.reconcile(now, key),
            // It cannot be asked about: perhaps it can be taken back.
            Err(_) if session.purpose == Purpose::Query && !connector.void.is_empty() => {
                session.purpose = Purpose::Void;
                (session.step, session.tries) = (0, 0);
                session.wait = Wait::Until(session.settled.max(now));
            }
            Err(_) => session.ask_later(now, connector.settle),
        }
    }

    fn note(records: &mut VecDeque<Record>, kept: &BTreeSet<String>, session: &mut Session) {
        let mut record = session.record.clone();
        record.values.retain(|name, _| kept.contains(name));
        records.push_back(record);
        session.record.stored = true;
    }

    /// A reply to a step of "charge" or "token".
    fn take_reply(&mut self, now: Instant, wall: WallMs, key: Key, step: &Step, reply: Reply) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        let (status, body, retry_after) = match reply {
            Reply::NotSent => return self.again(now, key, step, None),
            Reply::Lost => {
                session.at_stake |= step.commits;
                if step.repeats {
                    return self.again(now, key, step, None);
                }
                return self.give_up(now, key, Failure::Unavailable);
            }
            Reply::Answer { status, body, retry_after } => (status, body, retry_after),
        };
        let fields = session.charge.as_ref().map(|charge| &charge.fields);
        let Some(meaning) = exchange::read(step, status, body.expose(), fields) else {
            return self.take_unmatched(now, key, step, status, retry_after);
        };
        let Meaning { then, token, reference, code, values } = meaning;
        if let Some(reference) = &reference {
            session.record.reference = Some(reference.clone());
        }
        session.record.values.extend(values);
        match then {
            Then::Next => {
                session.step += 1;
                session.tries = 0;
                self.send(now, wall, key);
            }
            Then::Approved => self.finish(key, Outcome::Approved { token, reference }),
            Then::Declined => self.finish(key, Outcome::Declined { code: code.unwrap_or_else(|| "declined".into()) }),
            Then::ReEnter(field, error) => self.finish(key, Outcome::ReEnter { field, error }),
            Then::Retry => self.again(now, key, step, retry_after),
            Then::Pending => {
                session.at_stake |= step.commits;
                self.give_up(now, key, Failure::Misunderstood);
            }
            Then::Refused => self.give_up(now, key, Failure::Refused),
            Then::Unavailable => self.give_up(now, key, Failure::Unavailable),
            // The reader lets neither stand in steps that charge.
            Then::Nothing | Then::Voided => self.give_up(now, key, Failure::NotCharged),
        }
    }

    /// An answer that no rule of the connector fits.
    fn take_unmatched(&mut self, now: Instant, key: Key, step: &Step, status: u16, retry_after: Option<Duration>) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        match status {
            // Not taken at all, by what HTTP says of them.
            429 => self.again(now, key, step, retry_after),
            // Something between us and the provider may say so of what the provider has done.
            408 | 409 | 425 | 500..=599 => {
                session.at_stake |= step.commits;
                if step.repeats {
                    self.again(now, key, step, retry_after)
                } else {
                    self.give_up(now, key, Failure::Unavailable)
                }
            }
            400..=499 => self.give_up(now, key, Failure::Refused),
            // A success or a redirect that we have no words for.
            _ => {
                session.at_stake |= step.commits;
                self.give_up(now, key, Failure::Misunderstood);
            }
        }
    }

    /// The same step again, with the same key, unless there were enough tries or there is no time.
    fn again(&mut self, now: Instant, key: Key, step: &Step, retry_after: Option<Duration>) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        let connector = &self.connectors[session.connector];
        let pause = connector.retry.saturating_mul(1 << (session.tries.saturating_sub(1)).min(10));
        let at = now + pause.max(retry_after.unwrap_or_default());
        let in_time = session.deadline.is_none_or(|deadline| at < deadline);
        let may = step.repeats || !session.at_stake;
        if may && in_time && session.tries < connector.attempts {
            session.wait = Wait::Until(at);
        } else {
            self.give_up(now, key, Failure::Unavailable);
        }
    }

    /// Nothing more is sent: it has failed, or, if money may have moved, it is asked about.
    fn give_up(&mut self, now: Instant, key: Key, reason: Failure) {
        if self.sessions.get(&key).is_some_and(|session| session.at_stake) {
            self.reconcile(now, key);
        } else {
            self.finish(key, Outcome::Failed { reason });
        }
    }

    fn take_deadline(&mut self, now: Instant, key: Key) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        if session.charge.is_some() {
            if matches!(session.wait, Wait::Flight) {
                // The request ends with the deadline; its reply decides.
                return;
            }
            self.give_up(now, key, Failure::Unavailable);
        }
        if let Some(session) = self.sessions.get_mut(&key) {
            session.deadline = None;
            self.events.push_back(Answer { payment: key.0, attempt: key.1, outcome: Outcome::Unknown });
        }
    }

    /// Ends a submission: its record first, then the answer.
    fn finish(&mut self, key: Key, outcome: Outcome) {
        let Some(mut session) = self.sessions.remove(&key) else { return };
        self.flights.retain(|_, of| *of != key);
        if session.record.stored || matches!(outcome, Outcome::Approved { .. }) {
            session.record.state = State::Done(Ending::of(&outcome));
            // Nothing has to be asked any more.
            session.record.values.clear();
            self.records.push_back(session.record);
        }
        self.events.push_back(Answer { payment: key.0, attempt: key.1, outcome });
    }
}

impl Session {
    /// Nobody waits for it any more, and nobody knows.
    fn is_unknown(&self) -> bool {
        self.charge.is_none() && self.deadline.is_none()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        match self.wait {
            // A request of a charge has its own end, which is not after the deadline.
            Wait::Flight => self.deadline.filter(|_| self.charge.is_none()),
            Wait::Until(at) => soonest(Some(at), self.deadline),
            Wait::Nothing => None,
        }
    }
}

/// The connector of a name: as it is in force, or as it was; without a name the first one in force.
fn named<'a>(connectors: &'a [Connector], current: &[usize], name: Option<&str>) -> Option<(usize, &'a Connector)> {
    let place = match name {
        None => current.first().copied(),
        Some(name) => {
            let is = |place: &usize| connectors[*place].is_named(name);
            current.iter().copied().find(is).or_else(|| (0..connectors.len()).find(is))
        }
    }?;
    Some((place, &connectors[place]))
}

#[cfg(test)]
#[path = "submit_tests.rs"]
mod tests;
