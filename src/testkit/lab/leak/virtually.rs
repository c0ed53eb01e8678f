//! The cases of a run in virtual time, on [`Sim`]: the same calls without sockets, where no busy machine stands between
//! the customer's line and the guard. A case goes in, evidence comes out; the same seed gives the same evidence.

use std::time::Instant;

use super::cases::Case;
use super::evidence::{Evidence, holds_run, info_key};
use crate::base::secret::Digit;
use crate::config::{GuardMode, RecordingPolicy};
use crate::obs::event::EventKind;
use crate::testkit::rtp_peer::hiss;
use crate::testkit::sim::Sim;
use crate::testkit::site::Site;
use crate::testkit::ua::{Answer, UserAgent};

/// From the answer to the first key, in ms.
const BEFORE_KEYS_MS: u32 = 1_500;

/// Plays a case from `start`.
///
/// # Panics
/// When the call does not come up; the panic names the seed.
pub fn play(case: &Case, start: Instant) -> Evidence {
    let guard = if case.guarded { GuardMode::Always } else { GuardMode::Off };
    let site = |mut site: Site| {
        site.pbx_codecs = vec![case.codec];
        site.carriers(|carrier| {
            (carrier.guard, carrier.mask, carrier.recording) = (guard, case.mask, RecordingPolicy::Required);
            carrier.codecs = vec![case.codec];
        })
    };
    let agent = case.profile("5551000").answering(Answer::After(20));
    let mut sim = Sim::new(case.seed, start, site, case.caller(), agent);
    sim.caller(|phone, _| {
        phone.rtp.set_line(case.line.conditions(), case.line_random());
        phone.rtp.send_redundant(case.way.is_redundant());
        phone.rtp.speak(case.sound());
    });
    sim.connect();
    sim.agent(|phone, _| phone.rtp.speak(hiss(case.seed ^ 9, -45.0)));
    if case.collecting {
        sim.collect(case.collection());
    }
    sim.caller(|phone, _| phone.press(BEFORE_KEYS_MS, case.presses()));
    while sim.caller(|phone, _| phone.rtp.is_keying()) {
        sim.run_for(200);
    }
    sim.run_for(1_500);
    if let Some(pound) = Digit::from_char('#').filter(|_| case.collecting) {
        sim.caller(|phone, now| phone.info(now, &pound, 100));
    }
    sim.run_for(1_500);
    sim.caller(UserAgent::hang_up);
    sim.run_for(1_000);
    let tape = (!case.collecting).then(|| [sim.tape().customer.clone(), sim.tape().agent.clone()]);
    let masked: Vec<Instant> = sim
        .events
        .iter()
        .filter(|(_, kind)| matches!(kind, EventKind::KeyMasked { .. }))
        .map(|(at, _)| start + *at)
        .collect();
    let mut texts: Vec<Vec<u8>> = sim.events.iter().filter_map(|(_, kind)| serde_json::to_vec(kind).ok()).collect();
    texts.extend(sim.agent.phone.received().iter().cloned());
    let infos = sim.agent.phone.infos().iter().map(|info| info_key(&info.body)).collect();
    let collected =
        case.collecting.then(|| sim.collected.iter().flat_map(|digits| digits.expose().to_vec()).collect::<Vec<u8>>());
    let rtp = &sim.caller.phone.rtp;
    let keyed = rtp.keyed().to_vec();
    Evidence {
        spoken: rtp.spoken().to_vec(),
        lost: rtp.lost().to_vec(),
        began: rtp.started().unwrap_or(start),
        held_up: rtp.held_up(),
        agent: std::mem::take(&mut sim.agent.phone.rtp.heard),
        infos,
        tape,
        collected,
        masked,
        told: texts.iter().filter(|text| holds_run(text, &keyed)).count(),
        keyed,
    }
}
