//! Payments that nobody knows the outcome of: the provider is asked until it says, and at the end told to take the charge
//! back. Nothing of a card is here any more.

use std::time::{Duration, Instant};

use super::{Key, Machine, Session, Wait, named};
use crate::base::time::WallMs;
use crate::config::{Connector, Purpose, Step, Then};
use crate::psp::exchange::{self, Meaning, Reply};
use crate::psp::record::{Record, State};
use crate::psp::{Failure, Outcome};

/// The longest pause between two questions about an unknown payment; a shorter `settle_s` makes it shorter.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The first such pause.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

impl Machine {
    /// Takes up what the store held open when the process ended: what could not have charged is over, the rest is asked
    /// about.
    pub fn restore(&mut self, now: Instant, records: Vec<Record>) {
        for mut record in records {
            record.stored = true;
            let key = (record.payment, record.attempt);
            let Some((index, connector)) = named(&self.connectors, &self.current, Some(&record.connector)) else {
                let session = Session::restored(0, record, now, Purpose::Query, Wait::Nothing);
                self.sessions.insert(key, session);
                continue;
            };
            let (settled, purpose) = (now + connector.settle, first_question(connector));
            match record.state {
                State::Open => {
                    let session = Session::restored(index, record, settled, purpose, Wait::Nothing);
                    self.sessions.insert(key, session);
                    self.finish(key, Outcome::Failed { reason: Failure::NotCharged });
                }
                State::Committing | State::Unknown => {
                    record.state = State::Unknown;
                    let wait = Wait::Until(if purpose == Purpose::Void { settled } else { now });
                    let session = Session::restored(index, record, settled, purpose, wait);
                    self.sessions.insert(key, session);
                }
                State::Done(_) => {}
            }
        }
    }

    /// From here on the provider is asked; the digits are wiped.
    pub(super) fn reconcile(&mut self, now: Instant, key: Key) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        session.charge = None;
        session.purpose = first_question(&self.connectors[session.connector]);
        (session.step, session.tries, session.asked) = (0, 0, 0);
        session.wait = Wait::Until(if session.purpose == Purpose::Void { session.settled.max(now) } else { now });
        session.record.state = State::Unknown;
        Self::note(&mut self.records, &self.kept[session.connector], session);
    }

    /// A reply to a question about an unknown payment, or to taking it back.
    pub(super) fn take_word(&mut self, now: Instant, wall: WallMs, key: Key, step: &Step, reply: &Reply) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        let meaning = match reply {
            Reply::Answer { status, body, .. } => exchange::read(step, *status, body.expose(), None),
            Reply::NotSent | Reply::Lost => None,
        };
        let connector = &self.connectors[session.connector];
        let Some(Meaning { then, token, reference, code, values }) = meaning else {
            return session.ask_later(now, connector.settle);
        };
        if reference.is_some() {
            session.record.reference.clone_from(&reference);
        }
        session.record.values.extend(values);
        match then {
            Then::Next => {
                session.step += 1;
                session.tries = 0;
                self.send(now, wall, key);
            }
            Then::Approved => {
                let reference = reference.or_else(|| session.record.reference.clone());
                self.finish(key, Outcome::Approved { token, reference });
            }
            Then::Declined => self.finish(key, Outcome::Declined { code: code.unwrap_or_else(|| "declined".into()) }),
            Then::Voided => self.finish(key, Outcome::Failed { reason: Failure::NotCharged }),
            Then::Nothing
                if session.purpose == Purpose::Void || now >= session.settled && connector.void.is_empty() =>
            {
                self.finish(key, Outcome::Failed { reason: Failure::NotCharged });
            }
            Then::Nothing if now >= session.settled => {
                // So that what is still on its way cannot charge any more.
                session.purpose = Purpose::Void;
                (session.step, session.tries) = (0, 0);
                self.send(now, wall, key);
            }
            Then::Nothing => {
                let settled = session.settled;
                session.ask_later(now, connector.settle);
                if let Wait::Until(at) = &mut session.wait {
                    *at = (*at).min(settled);
                }
            }
            Then::Pending | Then::Retry | Then::Refused | Then::Unavailable | Then::ReEnter(..) => {
                session.purpose = first_question(connector);
                session.ask_later(now, connector.settle);
            }
        }
    }
}

impl Session {
    fn restored(connector: usize, record: Record, settled: Instant, purpose: Purpose, wait: Wait) -> Self {
        Self {
            connector,
            record,
            charge: None,
            purpose,
            step: 0,
            tries: 0,
            at_stake: true,
            asked: 0,
            settled,
            deadline: None,
            wait,
        }
    }

    /// Asks again after a pause that grows, from the first step.
    pub(super) fn ask_later(&mut self, now: Instant, settle: Duration) {
        let longest = settle.clamp(2 * FIRST_PAUSE, LONGEST_PAUSE);
        let pause = FIRST_PAUSE.saturating_mul(1 << self.asked.min(8)).min(longest);
        self.asked += 1;
        (self.step, self.tries) = (0, 0);
        self.wait = Wait::Until(now + pause);
    }
}

/// What an unknown payment is asked first.
pub(super) fn first_question(connector: &Connector) -> Purpose {
    if connector.query.is_empty() { Purpose::Void } else { Purpose::Query }
}
