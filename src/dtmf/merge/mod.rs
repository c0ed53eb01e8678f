//! One key press, one digit. Presses as the three detectors see them go in (a tone, an event, an INFO); each press of
//! the customer's finger comes out once, in the order of pressing. Knows nothing of packets or audio; holds nothing
//! longer than its memory of the last few presses.
//!
//! Each form shows the presses in their right order, perhaps not all of them, and at its own lag: an event begins
//! 0–100 ms behind the tone, an INFO arrives up to 500 ms before or after it. So a sighting joins the *earliest*
//! remembered press of the same key that this form has not shown yet, within the form's window and after every press it
//! has shown. First-come pairing can pair across neighbours when one of them was lost, but it never changes the number
//! or the order of equal keys, and that is all that leaves this room.
//!
//! ```text
//!   finger  ──5──────5───────────2──────
//!   tone      a      b           c            a, b, c: presses made here
//!   event        a       (lost)      c        joins
//!   INFO               a     b          c     joins
//! ```
//!
//! INFO comes up to 500 ms beside its press, but on one call always about as far beside. Once that lag is known
//! (`InfoLag`), a sighting whose next press in order is far from where it says joins the one that is there: a tone too many
//! or too few then costs that one press and shifts none of those behind it. The lag only pairs and orders: what is told of
//! a press that nothing but its INFO shows is when that came, so no guess moves a press out of the time of a mask.
//!
//! When something began is told by the media's own clock where it has one ([`Moment`]): a tone's position on the line and
//! an event's RTP timestamp are one count, so how late either was read, or how unsteadily it came, changes nothing. An
//! INFO, and events on a clock of their own, have only their arrival.
//!
//! A press leaves at once when two forms agree on it, else after [`SETTLE`], so that a reordered or lagging sighting can
//! still take its place before it. On a call where INFO is seen, presses wait for theirs up to [`INFO_WAIT`].

use std::time::{Duration, Instant};

use arrayvec::ArrayVec;

use crate::base::secret::Digit;

/// How long a press that one form has shown waits for sightings that belong before it. The one before began at least 70 ms
/// earlier (the shortest key and pause), its event is up to 100 ms behind it, and a tone takes 30 ms to be known: so an
/// event may still be held up by 120 ms, by jitter or because its first packets were lost. With 100 ms three of the 60,000
/// schedules of the tests, up to one packet in ten lost, come out of order; with 120 none. Whoever watches a payment waits
/// for each mark as long.
pub const SETTLE: Duration = Duration::from_millis(120);
/// How long a press waits for its INFO on a call where INFO is in use.
pub const INFO_WAIT: Duration = Duration::from_millis(650);

/// How much earlier or later than the tone an event may begin.
const EVENT_EARLY: Duration = Duration::from_millis(80);
const EVENT_LATE: Duration = Duration::from_millis(240);
/// The longest lag by which events are taken to be behind their tones when they stand alone.
const EVENT_LAG: Duration = Duration::from_millis(100);
/// How much earlier or later than the press an INFO may arrive.
const INFO_WINDOW: Duration = Duration::from_millis(650);
/// How much nearer or farther than usual an INFO comes, in ms.
const INFO_NEAR_MS: u64 = 90;
/// What is farther off than this may belong to another press, in ms.
const INFO_FAR_MS: u64 = 130;
/// Presses remembered.
const REMEMBERED: usize = 32;
/// How long a press is remembered after it began.
const MEMORY: Duration = Duration::from_secs(3);

/// A form a digit travels in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A tone in the audio.
    Inband,
    /// RFC 4733 events.
    Event,
    /// SIP INFO.
    Info,
}

impl Form {
    const fn bit(self) -> u8 {
        match self {
            Form::Inband => 1,
            Form::Event => 2,
            Form::Info => 4,
        }
    }
}

/// When something began: on the receiver's clock, and on the line's own count of samples where it has a place there.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// As well as arrivals tell.
    pub at: Instant,
    /// Position on the line in samples at 8 kHz; of one count for tones and for events whose clock is the audio's.
    pub place: Option<u64>,
}

impl Moment {
    /// What has only an arrival.
    pub fn arrived(at: Instant) -> Self {
        Self { at, place: None }
    }

    /// How long after `earlier` this is; zero when it is before. By places when both have one.
    fn since(self, earlier: Self) -> Duration {
        match (self.place, earlier.place) {
            (Some(this), Some(that)) => samples(this.saturating_sub(that)),
            _ => self.at.saturating_duration_since(earlier.at),
        }
    }

    fn is_after(self, other: Self) -> bool {
        match (self.place, other.place) {
            (Some(this), Some(that)) => this > that,
            _ => self.at > other.at,
        }
    }

    fn before_by(self, lag: Duration) -> Self {
        let place = self.place.map(|place| place.saturating_sub(lag.as_micros() as u64 / 125));
        Self { at: self.at.checked_sub(lag).unwrap_or(self.at), place }
    }
}

/// How long after `press` an INFO came, in ms; negative when before.
fn behind_ms(info: Instant, press: Instant) -> i64 {
    let ms = |late: Duration| i64::try_from(late.as_millis()).unwrap_or(i64::MAX);
    ms(info.saturating_duration_since(press)) - ms(press.saturating_duration_since(info))
}

/// So many ms later, or earlier.
fn moved(at: Instant, ms: i64) -> Instant {
    let by = Duration::from_millis(ms.unsigned_abs());
    if ms < 0 { at.checked_sub(by).unwrap_or(at) } else { at + by }
}

/// The length of so many samples at 8 kHz.
fn samples(count: u64) -> Duration {
    Duration::from_micros(count.saturating_mul(125))
}

/// One key press.
#[derive(Debug)]
pub struct Press {
    /// Key.
    pub digit: Digit,
    /// When the key went down, as well as the forms tell.
    pub onset: Instant,
    /// Which form showed it first.
    pub first: Form,
}

/// How far this call's INFO are behind their presses: the middle of the last few, once they agree.
#[derive(Default)]
struct InfoLag {
    /// In ms, negative when the INFO comes first; newest last.
    seen: ArrayVec<i64, 8>,
}

impl InfoLag {
    fn note(&mut self, lag: i64) {
        if self.seen.is_full() {
            self.seen.remove(0);
        }
        self.seen.push(lag);
    }

    /// `None` while it is not known.
    fn known(&self) -> Option<i64> {
        let mut sorted = self.seen.clone();
        sorted.sort_unstable();
        let middle = *sorted.get(sorted.len() / 2)?;
        let agree = sorted.iter().filter(|lag| lag.abs_diff(middle) <= INFO_NEAR_MS).count();
        (agree >= 3 && agree * 4 >= sorted.len() * 3).then_some(middle)
    }
}

struct Entry {
    digit: Digit,
    onset: Moment,
    /// When its event began.
    event: Option<Moment>,
    /// When its INFO came.
    info: Option<Instant>,
    /// When it was first shown.
    seen: Instant,
    first: Form,
    forms: u8,
    out: bool,
}

impl Entry {
    fn shown_by(&self, form: Form) -> bool {
        self.forms & form.bit() != 0
    }
}

/// Merges the three forms of one leg. Fixed size. Drain [`Merger::poll_press`] after every call, and call
/// [`Merger::handle_timeout`] when [`Merger::poll_timeout`] says.
#[derive(Default)]
pub struct Merger {
    /// In the order of pressing.
    presses: ArrayVec<Entry, REMEMBERED>,
    info_in_use: bool,
    /// How far this call's events are behind its tones, once both have been seen.
    event_lag: Option<Duration>,
    info_lag: InfoLag,
    clock: Option<Instant>,
}

impl Merger {
    /// Nothing pressed yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A tone was confirmed at `now` that began `lag` samples (8 kHz) before, at `place` on the line.
    pub fn handle_inband(&mut self, now: Instant, lag: u64, place: u64, digit: Digit) {
        let at = now.checked_sub(samples(lag)).unwrap_or(now);
        self.handle(now, Moment { at, place: Some(place) }, digit, Form::Inband);
    }

    /// An event's first sighting ([`super::event::EventPress`]).
    pub fn handle_event(&mut self, now: Instant, onset: Moment, digit: Digit) {
        self.handle(now, onset, digit, Form::Event);
    }

    /// An INFO arrived. Call in CSeq order, without retransmissions.
    pub fn handle_info(&mut self, now: Instant, digit: Digit) {
        self.info_in_use = true;
        self.handle(now, Moment::arrived(now), digit, Form::Info);
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.tick(now);
    }

    /// The next press, in order.
    pub fn poll_press(&mut self) -> Option<Press> {
        let now = self.clock?;
        let at = self.presses.iter().position(|e| !e.out)?;
        if self.due(&self.presses[at]) > now {
            return None;
        }
        let entry = &mut self.presses[at];
        entry.out = true;
        let by_info_alone = entry.info.filter(|_| entry.forms == Form::Info.bit());
        let onset = by_info_alone.unwrap_or(entry.onset.at);
        Some(Press { digit: entry.digit.clone(), onset, first: entry.first })
    }

    /// When the next press leaves if nothing more is seen of it.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.presses.iter().find(|e| !e.out).map(|e| self.due(e))
    }

    fn due(&self, entry: &Entry) -> Instant {
        let tone_and_event = entry.shown_by(Form::Inband) && entry.shown_by(Form::Event);
        if entry.shown_by(Form::Info) || (tone_and_event && !self.info_in_use) {
            entry.seen
        } else if self.info_in_use {
            entry.seen + INFO_WAIT
        } else {
            entry.seen + SETTLE
        }
    }

    fn tick(&mut self, now: Instant) {
        self.clock = Some(self.clock.map_or(now, |c| c.max(now)));
        while self.presses.first().is_some_and(|e| e.out && now.saturating_duration_since(e.onset.at) > MEMORY) {
            self.presses.remove(0);
        }
    }

    fn handle(&mut self, now: Instant, onset: Moment, digit: Digit, form: Form) {
        self.tick(now);
        // Events may be heard out of order; their timestamps, and so their onsets, tell it. The others come in order.
        let earlier = |e: &Entry| {
            e.shown_by(form) && (form != Form::Event || e.event.is_some_and(|event| !event.is_after(onset)))
        };
        let after = self.presses.iter().rposition(earlier).map_or(0, |n| n + 1);
        let fits = |e: &Entry| !e.shown_by(form) && e.digit.same_key(&digit) && Self::together(e, onset, form);
        let next = (after..self.presses.len()).find(|n| fits(&self.presses[*n]));
        // The next in order, unless that is far from where INFO lies on this call and another is not.
        let far = next.is_none_or(|n| self.off_lag(&self.presses[n], onset, form).is_some_and(|off| off > INFO_FAR_MS));
        let next = self.where_info_says(onset, &digit, form).filter(|_| far).or(next);
        let joined = next.or_else(|| {
            // Presses whose tone nobody heard may stand too late by their event's lag. Where only such have been shown by
            // this form since, the sighting tells that they belong before the press it joins.
            let at = (0..after).rev().find(|n| fits(&self.presses[*n]))?;
            let misplaced = |e: &Entry| !e.shown_by(form) || !e.shown_by(Form::Inband);
            self.presses[at + 1..after].iter().all(misplaced).then(|| self.put_after(at, after - 1))
        });
        // Beside INFO rather out of order than twice: its place in the order was a guess.
        let joined = joined.or_else(|| {
            let guessed = |e: &Entry| form == Form::Info || e.forms == Form::Info.bit();
            (0..after).rev().find(|n| fits(&self.presses[*n]) && guessed(&self.presses[*n]))
        });
        if let Some(at) = joined {
            self.join(at, onset, form);
            if form == Form::Info {
                self.put_in_info_order(at);
            }
            return;
        }
        let event = (form == Form::Event).then_some(onset);
        let info = (form == Form::Info).then_some(onset.at);
        let onset = match self.event_lag {
            Some(lag) if form == Form::Event => onset.before_by(lag),
            _ if form == Form::Info => {
                Moment::arrived(self.info_lag.known().map_or(onset.at, |lag| moved(onset.at, -lag)))
            }
            _ => onset,
        };
        self.insert(Entry { digit, onset, event, info, seen: now, first: form, forms: form.bit(), out: false });
    }

    /// The press of this key, not yet shown by `form`, whose INFO and tone or event lie beside each other as usual on this
    /// call; the nearest.
    fn where_info_says(&self, onset: Moment, digit: &Digit, form: Form) -> Option<usize> {
        let fits = |e: &Entry| !e.shown_by(form) && e.digit.same_key(digit);
        let near = |e: &Entry| self.off_lag(e, onset, form).filter(|off| *off <= INFO_NEAR_MS);
        let all = self.presses.iter().enumerate().filter(|(_, e)| fits(e));
        all.filter_map(|(at, e)| Some((near(e)?, at))).min().map(|(_, at)| at)
    }

    /// How far the INFO of a press and the tone or event of a sighting, or the other way round, are from lying as usual on
    /// this call, in ms; `None` when that is not known or neither is an INFO.
    fn off_lag(&self, entry: &Entry, onset: Moment, form: Form) -> Option<u64> {
        let (info, press) = match form {
            Form::Info if entry.info.is_none() => (onset.at, entry.onset.at),
            Form::Inband | Form::Event if entry.forms == Form::Info.bit() => (entry.info?, onset.at),
            _ => return None,
        };
        Some(behind_ms(info, press).abs_diff(self.info_lag.known()?))
    }

    fn join(&mut self, at: usize, onset: Moment, form: Form) {
        let entry = &mut self.presses[at];
        match (form, entry.info) {
            (Form::Info, None) => {
                self.info_lag.note(behind_ms(onset.at, entry.onset.at));
                entry.info = Some(onset.at);
            }
            (Form::Inband | Form::Event, Some(info)) if entry.forms == Form::Info.bit() => {
                self.info_lag.note(behind_ms(info, onset.at));
            }
            _ => {}
        }
        let (tone, event) = match form {
            Form::Event if entry.shown_by(Form::Inband) => (Some(entry.onset), onset),
            Form::Inband if entry.forms == Form::Event.bit() && self.event_lag.is_none() => (Some(onset), entry.onset),
            _ => (None, onset),
        };
        if let Some(tone) = tone {
            let lag = event.since(tone);
            // The least seen: more is jitter, or a first packet that was lost.
            self.event_lag = Some(self.event_lag.map_or(lag, |known| known.min(lag)).min(EVENT_LAG));
        }
        entry.forms |= form.bit();
        if form == Form::Event {
            entry.event = Some(onset);
        }
        if form == Form::Inband || entry.forms == Form::Info.bit() | form.bit() {
            // A tone is the best witness of the time, an INFO the worst.
            entry.onset = onset;
        }
    }

    /// Moves the press at `at` behind the one at `last`, unless one of them has left. Returns where it is then.
    fn put_after(&mut self, at: usize, last: usize) -> usize {
        if self.presses[at..=last].iter().any(|e| e.out) {
            return at;
        }
        self.presses[at..=last].rotate_left(1);
        last
    }

    /// An INFO has joined a press that only lagging events had shown: by CSeq it was pressed before those whose INFO has
    /// not come, if they are so near that the lag may have misplaced it.
    fn put_in_info_order(&mut self, at: usize) {
        let moved = &self.presses[at];
        if moved.out || moved.shown_by(Form::Inband) {
            return;
        }
        let near = |e: &Entry| moved.onset.since(e.onset) <= EVENT_LATE;
        let first = (0..at).rev().take_while(|n| {
            let e = &self.presses[*n];
            !e.out && !e.shown_by(Form::Info) && near(e)
        });
        if let Some(first) = first.last() {
            self.presses[first..=at].rotate_right(1);
        }
    }

    /// Whether a sighting may be of this press.
    fn together(entry: &Entry, onset: Moment, form: Form) -> bool {
        let late = onset.since(entry.onset);
        let early = entry.onset.since(onset);
        let info_only = entry.forms == Form::Info.bit();
        match form {
            _ if form == Form::Info || info_only => late.max(early) <= INFO_WINDOW,
            Form::Event => late <= EVENT_LATE && early <= EVENT_EARLY,
            // The event's onset may already have been moved back by the lag.
            Form::Inband | Form::Info => late <= EVENT_EARLY + EVENT_LAG && early <= EVENT_LATE,
        }
    }

    fn insert(&mut self, entry: Entry) {
        if self.presses.is_full() {
            // Memory full of presses that nobody has taken out: the caller does not drain. Forget the oldest taken one,
            // or refuse nothing and lose the oldest.
            let oldest = self.presses.iter().position(|e| e.out).unwrap_or(0);
            self.presses.remove(oldest);
        }
        // Never before a press that has left, nor before one that the same form showed earlier.
        let floor =
            self.presses.iter().rposition(|e| e.out || (e.forms & entry.forms != 0 && !e.onset.is_after(entry.onset)));
        let floor = floor.map_or(0, |n| n + 1);
        let at = if entry.first == Form::Info && self.info_lag.known().is_none() {
            // By CSeq: before the presses whose INFO has not come.
            floor
        } else {
            (floor..self.presses.len())
                .find(|n| self.presses[*n].onset.is_after(entry.onset))
                .unwrap_or(self.presses.len())
        };
        self.presses.insert(at, entry);
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests;
