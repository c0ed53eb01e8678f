//! Media and recorder, played by a ledger that checks each order as it comes.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use tonewall::base::ids::{Leg, SessionId};
use tonewall::call::{ForkId, RecordOrder};
use tonewall::config::Network;
use tonewall::media::{Command, Guard, LegMedia, Tap};
use tonewall::record::horizon::Redaction;
use tonewall::record::sealed::Mark;
use tonewall::record::siprec::sdp::Stream;

use super::SEC;

/// Media and recorder as the engine's orders make them.
#[derive(Default)]
pub struct Ledger {
    pub sessions: BTreeMap<SessionId, Session>,
    pub ended: Vec<(SessionId, Session)>,
    pub sent_digits: Vec<(Leg, char)>,
    pub info_digits: Vec<(Leg, char)>,
    pub recordings_open: usize,
    /// Where the sound of each recording session flows.
    pub forks: BTreeMap<ForkId, Option<Box<[Stream; 2]>>>,
    pub redactions: Vec<Redaction>,
    pub marks: Vec<Mark>,
    /// Orders about spills.
    pub spills: Vec<RecordOrder>,
    resting: HashMap<u16, Instant>,
}

/// A media session.
pub struct Session {
    pub ports: [u16; 2],
    pub toward_agent: Guard,
    pub toward_customer: Guard,
    pub legs: [LegMedia; 2],
    pub allowed: [Vec<Network>; 2],
    pub tap: Tap,
}

impl Ledger {
    pub(super) fn obey(&mut self, now: Instant, order: Command) -> Option<SessionId> {
        let id = order.session();
        if !matches!(order, Command::Create { .. }) {
            assert!(self.sessions.contains_key(&id), "an order outside the session's life: {order:?}");
        }
        let session = self.sessions.get_mut(&id);
        match order {
            Command::Create { ports, toward_agent, toward_customer, allowed, .. } => {
                assert!(session.is_none(), "a session made twice");
                let live = self.sessions.values().flat_map(|s| s.ports);
                assert!(!live.chain([0]).any(|port| ports.contains(&port)), "a port in two sessions");
                for port in ports {
                    assert!(port % 2 == 0 && (30_000..30_159).contains(&port));
                    assert!(self.resting.get(&port).is_none_or(|at| *at <= now), "a port without its rest");
                }
                let legs = [LegMedia::idle(), LegMedia::idle()];
                let session = Session { ports, toward_agent, toward_customer, legs, allowed, tap: Tap::Off };
                self.sessions.insert(id, session);
            }
            Command::SetLeg { leg, media, .. } => session.expect("live").legs[leg.index()] = media,
            Command::SetAllowed { leg, networks, .. } => session.expect("live").allowed[leg.index()] = networks,
            Command::SetGuard { from, guard, .. } => match from {
                Leg::Customer => session.expect("live").toward_agent = guard,
                Leg::Agent => session.expect("live").toward_customer = guard,
            },
            Command::SetTap { tap, .. } => session.expect("live").tap = tap,
            Command::InfoDigit { from, digit, .. } => self.info_digits.push((from, digit.expose_char())),
            Command::SendDigit { to, digit, .. } => self.sent_digits.push((to, digit.expose_char())),
            Command::Close { .. } => {
                let session = self.sessions.remove(&id).expect("live");
                for port in session.ports {
                    self.resting.insert(port, now + 2 * SEC);
                }
                self.ended.push((id, session));
                return Some(id);
            }
        }
        None
    }
}
