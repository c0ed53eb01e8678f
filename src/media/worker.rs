//! The media worker: many sessions in one place, pure. Orders and datagrams go in with the time; packets, blocks and
//! events come out through [`Egress`]. The same input gives the same output, byte for byte. A session that panics is
//! taken out whole: it is silent from then on (it fails closed) and reported as closed.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use super::api::{Command, Event, LegStats};
use super::session::{Egress, Session};
use crate::base::ids::{Leg, SessionId};
use crate::base::time::soonest;
use crate::dtmf::inband::{Place, Together};

/// Sessions of one media worker. Four verbs; there is no `poll_transmit`, since packets leave from the buffer they were
/// made in: an [`Egress`] takes them at once.
#[derive(Default)]
pub struct Worker {
    slots: Vec<Slot>,
    free: Vec<usize>,
    places: HashMap<SessionId, usize>,
    /// Lines with something to be heard: at most as many as are heard together.
    waiting: Vec<Line>,
    together: Option<Box<Together>>,
}

/// Lines heard together at most.
const LINES: usize = Together::lines();

/// A line of a session.
#[derive(Clone, Copy)]
struct Line {
    place: usize,
    session: SessionId,
    leg: Leg,
}

struct Slot {
    /// When the session wants time; here, not behind the pointer, so that a tick looks at one array.
    due: Option<Instant>,
    session: Option<Box<Session>>,
}

impl Worker {
    /// A worker without sessions.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many sessions there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there are no sessions.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Whether `session` is here.
    pub fn has(&self, session: SessionId) -> bool {
        self.places.contains_key(&session)
    }

    /// Carries out an order. Orders for unknown sessions are ignored: the session has ended meanwhile.
    pub fn handle_command(&mut self, now: Instant, command: Command, out: &mut impl Egress) {
        let id = command.session();
        if let Command::Create { .. } = command {
            if self.has(id) {
                return;
            }
            let Some(session) = Session::new(now, command) else { return };
            let slot = Slot { due: session.poll_timeout(), session: Some(Box::new(session)) };
            let place = match self.free.pop() {
                Some(place) => {
                    self.slots[place] = slot;
                    place
                }
                None => {
                    self.slots.push(slot);
                    self.slots.len() - 1
                }
            };
            self.places.insert(id, place);
            return;
        }
        let Some(place) = self.places.get(&id).copied() else { return };
        let over = self.with(place, id, out, |session, out| session.handle_command(now, command, out));
        if over == Some(true) {
            self.remove(place, id);
        }
    }

    /// Takes a datagram from the RTP socket of `leg` as it comes.
    pub fn handle_rtp(
        &mut self,
        now: Instant,
        session: SessionId,
        leg: Leg,
        source: SocketAddr,
        bytes: &[u8],
        out: &mut impl Egress,
    ) {
        self.take_rtp(now, now, session, leg, source, bytes, out);
        self.hear(out);
    }

    /// The same for one that `came` before it was read, and what is to be heard of it waits until [`Worker::hear`], so
    /// that many lines are heard together. To be called before the worker rests.
    #[allow(clippy::too_many_arguments)]
    pub fn take_rtp(
        &mut self,
        now: Instant,
        came: Instant,
        session: SessionId,
        leg: Leg,
        source: SocketAddr,
        bytes: &[u8],
        out: &mut impl Egress,
    ) {
        let Some(place) = self.places.get(&session).copied() else { return };
        let waits = self.slots[place].session.as_ref().is_some_and(|session| session.is_waiting(leg));
        if waits || self.waiting.len() >= LINES {
            self.hear(out);
        }
        let waits = self.with(place, session, out, |session, out| {
            session.handle_rtp(now, came, leg, source, bytes, out);
            session.is_waiting(leg)
        });
        if waits == Some(true) {
            self.waiting.push(Line { place, session, leg });
        }
    }

    /// Hears what waits.
    pub fn hear(&mut self, out: &mut impl Egress) {
        if let [line] = self.waiting[..] {
            self.waiting.clear();
            self.with(line.place, line.session, out, |session, out| session.hear(line.leg, out));
            return;
        }
        if self.waiting.is_empty() {
            return;
        }
        // Taken out, so that the sessions can be borrowed beside them.
        let mut together = self.together.take().unwrap_or_default();
        let mut waiting = std::mem::take(&mut self.waiting);
        let mut places = [const { None::<Place> }; LINES];
        for (line, place) in waiting.iter().zip(&mut places) {
            let entered =
                self.with(line.place, line.session, out, |session, _| session.put_in(line.leg, &mut together));
            *place = entered.flatten();
        }
        together.run();
        for (line, place) in waiting.drain(..).zip(places) {
            self.with(line.place, line.session, out, |session, out| session.take_out(line.leg, place, &together, out));
        }
        together.clear();
        (self.waiting, self.together) = (waiting, Some(together));
    }

    /// Takes a datagram from the RTCP socket of `leg`.
    pub fn handle_rtcp(
        &mut self,
        now: Instant,
        session: SessionId,
        leg: Leg,
        source: SocketAddr,
        bytes: &[u8],
        out: &mut impl Egress,
    ) {
        let Some(place) = self.places.get(&session).copied() else { return };
        self.with(place, session, out, |session, _| session.handle_rtcp(now, leg, source, bytes));
    }

    /// Does what is due at `now` in every session.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut impl Egress) {
        for place in 0..self.slots.len() {
            let slot = &self.slots[place];
            if slot.due.is_some_and(|due| due <= now) {
                let Some(id) = slot.session.as_ref().map(|session| session.id()) else { continue };
                self.with(place, id, out, |session, out| session.handle_timeout(now, out));
            }
        }
    }

    /// When [`Worker::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.slots.iter().fold(None, |due, slot| soonest(due, slot.due))
    }

    /// Runs `work` on the session at `place`; a panic in it ends the session, not the worker.
    fn with<T, E: Egress>(
        &mut self,
        place: usize,
        id: SessionId,
        out: &mut E,
        work: impl FnOnce(&mut Session, &mut E) -> T,
    ) -> Option<T> {
        let slot = self.slots.get_mut(place)?;
        let session = slot.session.as_deref_mut().filter(|session| session.id() == id)?;
        let done = catch_unwind(AssertUnwindSafe(|| {
            let done = work(session, out);
            (done, session.poll_timeout())
        }));
        match done {
            Ok((done, due)) => {
                slot.due = due;
                Some(done)
            }
            Err(_) => {
                let broken = slot.session.take();
                let stats = broken.as_ref().map_or([LegStats::default(); 2], |session| session.stats());
                // Its parts own memory only; should even freeing them fail, the worker goes on.
                let _ = catch_unwind(AssertUnwindSafe(|| drop(broken)));
                self.remove(place, id);
                let _ = catch_unwind(AssertUnwindSafe(|| out.event(Event::Closed { session: id, stats })));
                None
            }
        }
    }

    fn remove(&mut self, place: usize, id: SessionId) {
        self.slots[place] = Slot { due: None, session: None };
        self.free.push(place);
        self.places.remove(&id);
    }
}
