//! Calls for the permutation tests, in virtual time: a whole site ([`Sim`]), always guarded, in which stretches with keys
//! and stretches without take turns by a coin. A course and a seed go in; the shapes of everything the agent's side and
//! the recorder get come out. The same seed gives the same shapes.

use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};

use super::permutation::{Family, Finding, holm};
use super::shape::{self, BLOCKS, EVENTS, Moment, Pair, RTCP, RTP};
use crate::base::Random;
use crate::config::{GuardMode, MaskKind, RecordingPolicy};
use crate::obs::event::EventKind;
use crate::testkit::heard::Heard;
use crate::testkit::keys::{Form, KeyPress, Tone};
use crate::testkit::rtp_peer::{hiss, voice};
use crate::testkit::sim::Sim;
use crate::testkit::site::Site;
use crate::testkit::ua::{Answer, Profile};

/// A stretch with keys, or without, in ms.
const STRETCH_MS: u32 = 5_000;
/// Moments of one stretch.
const MOMENTS: u32 = 5;
/// From the answer to the first stretch, in ms.
const LEAD_MS: u32 = 2_000;

/// The forms that are tested, with their names.
pub const FORMS: [(&str, Form); 6] = [
    ("tone", Form::Tone),
    ("event", Form::Event),
    ("INFO", Form::Info),
    ("tone, then event", Form::ToneThenEvent { lead_ms: 40 }),
    ("tone and event", Form::ToneAndEvent),
    ("event 60 ms late", Form::ToneAndLateEvent { lag_ms: 60 }),
];
/// Masks that are to hide that a key was pressed.
pub const HIDING: [MaskKind; 2] = [MaskKind::Silence, MaskKind::ComfortNoise];
/// Masks that tell it, by their sign, but not which.
pub const TELLING: [MaskKind; 2] = [MaskKind::Tone, MaskKind::Substitute];

/// What kind of call.
#[derive(Debug, Clone, Copy)]
pub struct Course {
    /// How keys travel.
    pub form: Form,
    /// The mask.
    pub mask: MaskKind,
    /// `always`, or `off` for the control.
    pub guard: GuardMode,
    /// Stretches of the call.
    pub stretches: u32,
}

/// The shapes of many calls.
pub struct Shapes {
    /// RTP toward the agent.
    pub rtp: Pair,
    /// RTCP toward the agent.
    pub rtcp: Pair,
    /// The recorder's blocks, or what a sealed file grew by.
    pub blocks: Pair,
    /// The event stream: which key only, since that a key was pressed is what it tells.
    pub events: Family,
}

impl Default for Shapes {
    fn default() -> Self {
        Self { rtp: Pair::new(&RTP), rtcp: Pair::new(&RTCP), blocks: Pair::new(&BLOCKS), events: Family::new(&EVENTS) }
    }
}

impl Shapes {
    /// The shapes of one call. `began`: when the caller's media began, which all times in ms count from. `blocks`: what
    /// the recorder was given or wrote, as (when, how much, marked gap); `told`: when each `key-masked` event came.
    pub fn of(
        call: u32,
        heard: &Heard,
        began: Instant,
        blocks: &[(f64, usize, bool)],
        told: &[f64],
        moments: &[Moment],
    ) -> Self {
        let mut shapes = Self::default();
        shape::add_rtp(&mut shapes.rtp, call, heard, began, moments);
        shape::add_rtcp(&mut shapes.rtcp, call, heard, began, 20, moments);
        shape::add_blocks(&mut shapes.blocks, call, blocks, moments);
        // A count that differs leaves open which event is whose.
        if told.len() == moments.iter().filter(|m| m.key.is_some()).count() {
            shape::add_events(&mut shapes.events, call, told, moments);
        }
        shapes
    }

    /// Takes all of another's.
    pub fn extend(&mut self, other: &Shapes) {
        self.rtp.extend(&other.rtp);
        self.rtcp.extend(&other.rtcp);
        self.blocks.extend(&other.blocks);
        self.events.extend(&other.events);
    }

    /// Whether any feature tells that a key was pressed.
    pub fn whether(&self, shuffles: usize, random: &mut Random) -> Vec<Finding> {
        let families = [("RTP", &self.rtp.whether), ("RTCP", &self.rtcp.whether), ("recorder", &self.blocks.whether)];
        test(&families, false, shuffles, random)
    }

    /// Whether any feature tells which key was pressed.
    pub fn which(&self, shuffles: usize, random: &mut Random) -> Vec<Finding> {
        let families = [
            ("RTP", &self.rtp.which),
            ("RTCP", &self.rtcp.which),
            ("recorder", &self.blocks.which),
            ("events", &self.events),
        ];
        test(&families, true, shuffles, random)
    }
}

fn test(families: &[(&str, &Family)], keys: bool, shuffles: usize, random: &mut Random) -> Vec<Finding> {
    let mut all = Vec::new();
    for (name, family) in families {
        for finding in family.test(keys, shuffles, random) {
            all.push(Finding { feature: format!("{name}: {}", finding.feature), ..finding });
        }
    }
    adjust(all.iter_mut());
    all
}

/// Adjusts findings together, as one family.
pub fn adjust<'a>(findings: impl Iterator<Item = &'a mut Finding>) {
    let mut findings: Vec<&mut Finding> = findings.collect();
    let together = holm(&findings.iter().map(|f| f.p).collect::<Vec<_>>());
    findings.iter_mut().zip(together).for_each(|(finding, adjusted)| finding.adjusted = adjusted);
}

/// The moments of a call, keyed or not, and the keys: ms from the beginning, the key press where there is one.
pub fn schedule(form: Form, stretches: u32, random: &mut Random) -> Vec<(u32, Option<KeyPress>)> {
    let mut moments = Vec::new();
    for stretch in 0..stretches {
        let keyed = random.random_bool(0.5);
        for n in 0..MOMENTS {
            let at = LEAD_MS + stretch * STRETCH_MS + 300 + n * (STRETCH_MS - 600) / MOMENTS;
            // On no packet's edge in particular.
            let at = at + random.random_range(0..400);
            let (digit, down_ms) = (random.random_range(0..10), random.random_range(60..=120));
            let press = crate::base::secret::Digit::from_event(digit).filter(|_| keyed);
            moments.push((at, press.map(|digit| KeyPress { digit, form, down_ms, gap_ms: 10, tone: Tone::default() })));
        }
    }
    moments
}

/// The whole length of a call with so many stretches, in ms.
pub fn length_ms(stretches: u32) -> u64 {
    u64::from(LEAD_MS + stretches * STRETCH_MS)
}

/// The moments of a schedule that was begun when the caller's clock stood at `position` samples.
pub fn place(schedule: &[(u32, Option<KeyPress>)], position: u64) -> Vec<Moment> {
    let moment = |(at, press): &(u32, Option<KeyPress>)| Moment {
        at_ms: position as f64 / 8.0 + f64::from(*at),
        key: press.as_ref().map(|press| press.digit.expose_event()),
    };
    schedule.iter().map(moment).collect()
}

/// Plays one call in virtual time from `start` and gives its shapes.
pub fn play(course: &Course, seed: u64, start: Instant, call: u32) -> Shapes {
    let mut random = Random::seed_from_u64(seed ^ 0x6b65_7973);
    let moments = schedule(course.form, course.stretches, &mut random);
    let Course { mask, guard, .. } = *course;
    let site = |site: Site| {
        site.carriers(|carrier| {
            (carrier.guard, carrier.mask, carrier.recording) = (guard, mask, RecordingPolicy::Required);
        })
    };
    let agent = Profile::new("5551000").answering(Answer::After(20));
    let mut sim = Sim::new(seed, start, site, Profile::new("+15550100"), agent);
    sim.connect();
    // Some speak meanwhile; what the guard suspects in speech must not tell of keys either.
    let speaks = random.random_bool(0.3);
    let sound = if speaks { voice(seed, -24.0) } else { hiss(seed, -52.0) };
    sim.caller(|phone, _| phone.rtp.speak(sound));
    sim.agent(|phone, _| phone.rtp.speak(hiss(seed ^ 1, -50.0)));
    let position = sim.caller(|phone, _| phone.rtp.position());
    for (at, press) in &moments {
        if let Some(press) = press {
            sim.caller(|phone, _| phone.press(*at, [press.clone()]));
        }
    }
    sim.run_for(length_ms(course.stretches) + 1_500);
    let began = sim.caller(|phone, now| phone.rtp.started().unwrap_or(now));
    let since = |at: Instant| at.saturating_duration_since(began).as_secs_f64() * 1e3;
    let blocks: Vec<(f64, usize, bool)> =
        sim.tape().given.iter().map(|(at, samples, paused)| (since(start + *at), *samples, *paused)).collect();
    let masked = |(at, kind): &(Duration, EventKind)| match kind {
        EventKind::KeyMasked { .. } => Some(since(start + *at)),
        _ => None,
    };
    let told: Vec<f64> = sim.events.iter().filter_map(masked).collect();
    Shapes::of(call, &sim.agent.phone.rtp.heard, began, &blocks, &told, &place(&moments, position))
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;

    fn shapes(course: Course, calls: u32) -> Shapes {
        let mut shapes = Shapes::default();
        for call in 0..calls {
            shapes.extend(&play(&course, 500 + u64::from(call), Instant::now(), call));
        }
        shapes
    }

    #[test]
    fn events_that_pass_openly_are_found_at_once() {
        let course = Course { form: Form::Event, mask: MaskKind::Silence, guard: GuardMode::Off, stretches: 6 };
        let shapes = shapes(course, 2);
        assert!(shapes.rtp.whether.len() == 60 && shapes.rtcp.whether.len() >= 6, "{}", shapes.rtcp.whether.len());
        let found = shapes.whether(4_999, &mut Random::seed_from_u64(1));
        let told = |name: &str| found.iter().find(|f| f.feature == name).map(|f| f.adjusted);
        assert!(told("RTP: packets of another type").is_some_and(|p| p < 0.02), "{found:?}");
    }

    #[test]
    fn the_same_seed_gives_the_same_shapes() {
        let course = Course { form: Form::Tone, mask: MaskKind::ComfortNoise, guard: GuardMode::Always, stretches: 2 };
        let once = shapes(course, 1);
        let twice = shapes(course, 1);
        let all = |s: &Shapes| s.rtp.whether.observations().chain(s.blocks.whether.observations()).collect::<Vec<_>>();
        assert_eq!(all(&once), all(&twice));
        assert!(once.rtp.whether.len() == 10 && once.blocks.whether.len() == 10);
    }
}
