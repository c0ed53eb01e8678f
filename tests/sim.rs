//! The whole proxy in virtual time, with seeded loss, delay, reorder and duplication: scenarios that read as stories.
//! A failing one prints its seed; `TONEWALL_SIM_PCAP=file.pcap` writes what was on the wire.

use std::ops::{Deref, DerefMut};

use tonewall::call::{Actor, CollectionRequest, PaymentOrder, PaymentRequest, PaymentView, Reply, Signal};
use tonewall::config::{Codec, GuardMode, MaskKind, RecordingPolicy, Role};
use tonewall::obs::event::{CollectionEnd, EndCause, EventKind, HoldKind};
use tonewall::obs::payment::{CardType, PaymentField};
use tonewall::testkit::heard::Packet;
use tonewall::testkit::keys::{Form, typed};
use tonewall::testkit::leak::{Attackers, Findings, lag};
use tonewall::testkit::net::Conditions;
use tonewall::testkit::rtp_peer::hiss;
use tonewall::testkit::sim::Sim;
use tonewall::testkit::simple_sdp::Direction;
use tonewall::testkit::site::Site;
use tonewall::testkit::ua::{Answer, Event, Profile, UserAgent};

const CARD: &str = "4242424242424242";

/// A simulated site that prints its seed when the story goes wrong.
struct Story(Sim);

impl Deref for Story {
    type Target = Sim;
    fn deref(&self) -> &Sim {
        &self.0
    }
}

impl DerefMut for Story {
    fn deref_mut(&mut self) -> &mut Sim {
        &mut self.0
    }
}

impl Drop for Story {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("this story's seed: {}", self.0.seed());
        }
    }
}

#[allow(clippy::disallowed_methods)] // One reading, as the origin that virtual time counts from.
fn with(seed: u64, change: impl FnOnce(Site) -> Site, caller: Profile, agent: Profile) -> Story {
    Story(Sim::new(seed, std::time::Instant::now(), change, caller, agent))
}

/// Seeds of a story told many times. `TONEWALL_SIM_SEEDS=n` tells it n times as often, to look for trouble.
fn seeds(first: u64, count: u64) -> std::ops::Range<u64> {
    let times = std::env::var("TONEWALL_SIM_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    first..first + count * times
}

fn phones() -> (Profile, Profile) {
    (Profile::new("+15550100"), Profile::new("5551000"))
}

fn site(seed: u64, change: impl FnOnce(Site) -> Site) -> Story {
    let (caller, agent) = phones();
    let mut sim = with(seed, change, caller, agent);
    sim.caller.phone.rtp.speak(hiss(seed, -45.0));
    sim.agent.phone.rtp.speak(hiss(seed + 1, -45.0));
    sim
}

fn always(mask: MaskKind, codec: Codec) -> impl Fn(Site) -> Site {
    move |site| {
        let mut site = site.carriers(|c| {
            c.guard = GuardMode::Always;
            c.mask = mask;
            c.codecs = vec![codec];
            c.recording = RecordingPolicy::Required;
        });
        site.pbx_codecs = vec![codec];
        site
    }
}

/// The caller keys `text` and a `#`, and the story goes on until all of it was keyed and a little longer.
fn key(sim: &mut Story, text: &str, form: Form) {
    let keys = typed(&format!("{text}#"), form, 70, 60);
    let length = keys.len() as u64 * 130 + 1_500;
    sim.caller(|phone, _| phone.press(100, keys));
    sim.run_for(length);
    assert!(!sim.caller.phone.rtp.is_keying());
}

/// What the attackers find at the agent's ear.
fn at_the_ear(sim: &Sim) -> Findings {
    let heard = sim.agent.phone.rtp.heard.samples();
    let rtp = &sim.caller.phone.rtp;
    let lag = lag(rtp.spoken(), &heard, 1_600).expect("the noise before the keys is heard");
    Attackers::new().attack(&heard, rtp.keyed(), lag)
}

/// No digit in any form reached the agent's side: not as sound, event, INFO or anywhere in its SIP.
fn assert_nothing_leaked(sim: &Sim, text: &str) {
    let agent = &sim.agent.phone;
    assert!(at_the_ear(sim).nothing_decoded(), "{:?}", at_the_ear(sim));
    assert!(agent.infos().is_empty());
    // The substitute mask's events are all of one key.
    let mut events = agent.rtp.heard.event_codes();
    events.dedup();
    assert!(events.len() <= 1);
    for datagram in agent.received() {
        assert!(!String::from_utf8_lossy(datagram).contains(text));
    }
}

#[test]
fn speech_passes_byte_for_byte_when_nothing_is_guarded() {
    for guard in [GuardMode::Off, GuardMode::Signal] {
        let mut sim = site(1, |s| s.carriers(|c| c.guard = guard));
        sim.connect();
        sim.run_for(3_000);
        let sent = sim.caller.phone.rtp.sent_payload_bytes();
        let heard = sim.agent.phone.rtp.heard.payload_bytes();
        assert!(heard.len() > 20_000);
        let at = sent.windows(heard.len()).position(|w| w == heard);
        assert!(at.is_some(), "{guard:?}: what is heard is no stretch of what was said");
        let sent = sim.agent.phone.rtp.sent_payload_bytes();
        let heard = sim.caller.phone.rtp.heard.payload_bytes();
        assert!(heard.len() > 20_000 && sent.windows(heard.len()).any(|w| w == heard));
        assert_eq!(sim.agent.phone.rtp.heard.lost(), 0);
    }
}

#[test]
fn digits_pass_in_every_form_when_nothing_is_guarded() {
    let mut sim = site(2, |s| s.carriers(|c| c.guard = GuardMode::Off));
    sim.connect();
    sim.run_for(500);
    key(&mut sim, "17", Form::Event);
    key(&mut sim, "28", Form::Tone);
    key(&mut sim, "39", Form::Info);
    assert_eq!(sim.agent.phone.rtp.heard.event_codes(), [1, 7, 11]);
    assert_eq!(sim.agent.phone.infos().len(), 3);
    let heard = sim.agent.phone.rtp.heard.samples();
    assert!(Attackers::new().listen(&heard).decoded >= 3);
}

#[test]
fn an_always_guarded_call_shows_no_digit_to_ear_or_tape() {
    for (seed, mask) in
        [MaskKind::Silence, MaskKind::ComfortNoise, MaskKind::Tone, MaskKind::Substitute].into_iter().enumerate()
    {
        for codec in [Codec::Pcmu, Codec::Pcma] {
            for form in [Form::Tone, Form::Event, Form::Info, Form::ToneThenEvent { lead_ms: 40 }, Form::ToneAndEvent] {
                let mut sim = site(30 + seed as u64, always(mask, codec));
                sim.connect();
                sim.run_for(1_500);
                key(&mut sim, CARD, form);
                assert_nothing_leaked(&sim, CARD);
                let tape = &sim.tape().customer;
                assert!(Attackers::new().listen(tape).nothing_decoded(), "{mask:?} {codec:?} {form:?}");
                let keys = sim.events.iter().filter(|(_, e)| matches!(e, EventKind::KeyMasked { .. })).count();
                assert_eq!(keys, CARD.len() + 1, "{mask:?} {codec:?} {form:?}");
            }
        }
    }
}

#[test]
fn telephones_of_wide_codecs_talk_and_are_guarded() {
    for (codecs, seed) in [([Codec::G722; 2], 70), ([Codec::Opus; 2], 71), ([Codec::Opus, Codec::Pcma], 72)] {
        let (caller, agent) = (Profile::new("+15550100").only(codecs[0]), Profile::new("5551000").only(codecs[1]));
        let change = |site: Site| {
            let mut site = site.carriers(|c| {
                c.codecs = vec![codecs[0]];
                c.recording = RecordingPolicy::Required;
            });
            site.pbx_codecs = vec![codecs[1]];
            site
        };
        let mut sim = with(seed, change, caller, agent);
        sim.caller.phone.rtp.speak(hiss(seed, -45.0));
        sim.agent.phone.rtp.speak(hiss(seed + 1, -45.0));
        sim.connect();
        sim.run_for(1_500);
        let heard = sim.agent.phone.rtp.heard.samples();
        assert!(heard.len() > 8_000 && heard[4_000..].iter().any(|s| *s != 0), "{codecs:?}");
        sim.collect(CollectionRequest::of_length(16));
        sim.run_for(500);
        key(&mut sim, CARD, Form::Tone);
        assert_eq!(sim.collected.len(), 1, "{codecs:?}");
        assert_eq!(sim.collected[0].expose(), CARD.as_bytes());
        assert_nothing_leaked(&sim, CARD);
        assert!(Attackers::new().listen(&sim.tape().customer).nothing_decoded(), "{codecs:?}");
        let view = sim.call();
        let names = [view.codecs.customer, view.codecs.agent].map(Option::unwrap_or_default);
        assert_eq!(names, codecs.map(|codec| codec.name().to_owned()));
    }
}

#[test]
fn a_collection_takes_each_key_once_in_every_form() {
    for form in [Form::Tone, Form::Event, Form::Info, Form::ToneThenEvent { lead_ms: 30 }, Form::ToneAndEvent] {
        let mut sim = site(4, |s| s);
        sim.connect();
        sim.run_for(1_000);
        sim.collect(CollectionRequest::of_length(16));
        sim.run_for(500);
        key(&mut sim, CARD, form);
        assert_eq!(sim.collected.len(), 1, "{form:?}");
        assert_eq!(sim.collected[0].expose(), CARD.as_bytes());
        assert_nothing_leaked(&sim, CARD);
        let ended = sim.events.iter().find_map(|(_, e)| match e {
            EventKind::CollectionEnded { result, count, luhn, .. } => Some((result, *count, *luhn)),
            _ => None,
        });
        assert_eq!(ended, Some((&CollectionEnd::Complete, 16, true)));
    }
}

/// An order about the call's payment.
fn pay(sim: &mut Story, order: PaymentOrder) -> PaymentView {
    let call = sim.call().id;
    let actor = Actor::new("crm", Role::Integration);
    match sim.signal(Signal::Payment { call, order, actor }) {
        Ok(Reply::Payment(view)) => *view,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_payment_takes_each_key_once_in_every_form_and_neither_ear_nor_tape_hears_one() {
    let fields = [
        (PaymentField::PaymentCardNumber, CARD),
        (PaymentField::ExpirationDate, "1230"),
        (PaymentField::SecurityCode, "987"),
    ];
    for form in [Form::Tone, Form::Event, Form::Info, Form::ToneThenEvent { lead_ms: 30 }, Form::ToneAndEvent] {
        let mut sim = site(90, |s| s.carriers(|c| c.recording = RecordingPolicy::Required));
        sim.connect();
        sim.run_for(1_000);
        let request = PaymentRequest { postal_code: Some(false), ..PaymentRequest::default() };
        let payment = pay(&mut sim, PaymentOrder::Start(Box::new(request))).id;
        sim.run_for(500);
        for (field, keys) in fields {
            pay(&mut sim, PaymentOrder::Capture(payment, field));
            key(&mut sim, keys, form);
        }
        let view = pay(&mut sim, PaymentOrder::Complete(payment));
        assert_eq!(view.progress.fields.payment_card_type, Some(CardType::Visa), "{form:?}");
        let [charge] = &sim.charges[..] else { panic!("{form:?}: {:?}", sim.charges) };
        let keyed = [&charge.fields.card, &charge.fields.expiry, &charge.fields.security_code];
        for (digits, (_, keys)) in keyed.into_iter().zip(fields) {
            assert_eq!(digits.as_ref().map(|digits| digits.expose()), Some(keys.as_bytes()), "{form:?}");
        }
        assert_nothing_leaked(&sim, CARD);
        assert!(Attackers::new().listen(&sim.tape().customer).nothing_decoded(), "{form:?}");
        let told = serde_json::to_string(&sim.events.iter().map(|(_, event)| event).collect::<Vec<_>>()).expect("json");
        assert!(!told.contains(CARD) && !told.contains("1230") && !told.contains("987\""), "{form:?}");
    }
}

#[test]
fn a_poor_line_costs_no_event_and_no_info_and_doubles_none() {
    for seed in seeds(1_000, 10) {
        for form in [Form::Event, Form::Info] {
            let mut sim = site(seed, |s| s);
            sim.rtp_path = Conditions::POOR;
            sim.sip_path = Conditions::POOR;
            sim.connect();
            sim.run_for(2_000);
            sim.collect(CollectionRequest {
                max: Some(64),
                length: None,
                min: Some(1),
                ..CollectionRequest::of_length(1)
            });
            sim.run_for(500);
            key(&mut sim, CARD, form);
            // A lost INFO is sent again after half a second, and the next ones wait for it.
            sim.run_for(8_000);
            assert_eq!(sim.collected.len(), 1, "seed {seed} {form:?}");
            assert!(sim.collected[0].expose() == CARD.as_bytes(), "seed {seed} {form:?}: other digits were collected");
            assert!(sim.agent.phone.infos().is_empty() && sim.agent.phone.rtp.heard.event_codes().is_empty());
        }
    }
}

#[test]
fn a_poor_line_never_lets_a_masked_tone_through() {
    for seed in seeds(20_000, 10) {
        let mut sim = site(seed, always(MaskKind::Silence, Codec::Pcmu));
        sim.rtp_path = Conditions::POOR;
        sim.connect();
        sim.run_for(2_000);
        key(&mut sim, CARD, Form::Tone);
        let found = Attackers::new().listen(&sim.agent.phone.rtp.heard.samples());
        assert!(found.nothing_decoded(), "seed {seed}: {found:?}");
        assert!(Attackers::new().listen(&sim.tape().customer).nothing_decoded(), "seed {seed}");
    }
}

/// docs: one in ten lost, doubled or out of order.
const TERRIBLE: Conditions =
    Conditions { delay_ms: 15, jitter_ms: 15, loss: 0.1, burst: 1.0, duplicate: 0.05, reorder: 0.1 };

#[test]
fn a_terrible_line_costs_no_event_and_shows_none() {
    for seed in seeds(60_000, 10) {
        let mut sim = site(seed, |s| s.carriers(|c| c.guard = GuardMode::Always));
        sim.rtp_path = TERRIBLE;
        sim.connect();
        sim.run_for(2_000);
        sim.collect(CollectionRequest { max: Some(64), length: None, min: Some(1), ..CollectionRequest::of_length(1) });
        key(&mut sim, CARD, Form::Event);
        sim.run_for(1_000);
        assert_eq!(sim.collected.len(), 1, "seed {seed}");
        assert!(sim.collected[0].expose() == CARD.as_bytes(), "seed {seed}: other digits were collected");
        assert!(sim.agent.phone.rtp.heard.event_codes().is_empty(), "seed {seed}");
    }
}

#[test]
fn tones_on_a_bad_line_are_never_heard_never_doubled_and_rarely_missed() {
    let (mut keyed, mut taken) = (0, 0);
    for seed in seeds(80_000, 20) {
        let mut sim = site(seed, |s| s.carriers(|c| c.guard = GuardMode::Always));
        sim.rtp_path = Conditions { loss: 0.01, ..Conditions::CLEAN };
        sim.connect();
        sim.run_for(1_500);
        key(&mut sim, CARD, Form::Tone);
        let keys = sim.events.iter().filter(|(_, e)| matches!(e, EventKind::KeyMasked { .. })).count();
        assert!(keys <= CARD.len() + 1, "seed {seed}: {keys} keys of {}", CARD.len() + 1);
        let found = Attackers::new().listen(&sim.agent.phone.rtp.heard.samples());
        assert!(found.nothing_decoded(), "seed {seed}: {found:?}");
        keyed += CARD.len() + 1;
        taken += keys;
    }
    assert!(taken * 100 >= keyed * 98, "{taken} of {keyed} keys were taken");
}

/// Delay beyond the network's, in samples, of each packet the agent heard.
fn added_delay(sim: &Sim) -> Vec<i64> {
    let rtp = &sim.caller.phone.rtp;
    let heard = &sim.agent.phone.rtp.heard;
    let stream = &heard.streams()[0];
    let lag = lag(rtp.spoken(), &stream.samples, 1_600).expect("the line is heard");
    let started = rtp.started().expect("the caller speaks");
    let network = 2 * i64::from(Conditions::CLEAN.delay_ms) * 8;
    let delay = |packet: &Packet| {
        let sent = i64::from(packet.timestamp.wrapping_sub(stream.first_timestamp)) + lag;
        (packet.at - started).as_micros() as i64 * 8 / 1_000 - sent - network
    };
    heard.packets().iter().map(delay).collect()
}

#[test]
fn listening_adds_no_delay_and_guarding_at_most_one_packet() {
    let mut sim = site(17, |s| s);
    sim.connect();
    sim.run_for(3_000);
    assert!(added_delay(&sim).iter().all(|d| *d == 0), "{:?}", added_delay(&sim));

    let mut sim = site(18, |s| s.carriers(|c| c.guard = GuardMode::Always));
    sim.connect();
    sim.run_for(3_000);
    let delays = added_delay(&sim);
    let worst = delays.iter().max().copied().unwrap_or_default();
    assert!(delays.len() > 100 && worst <= 160, "a guarded packet is {worst} samples late");
}

#[test]
fn a_hold_masks_from_its_taking_to_its_release() {
    let mut sim = site(5, |s| s);
    sim.connect();
    sim.run_for(1_000);
    let holds = sim.hold(&[HoldKind::Mask]);
    sim.run_for(200);
    key(&mut sim, "123456", Form::Tone);
    assert_nothing_leaked(&sim, "123456");
    sim.release(&holds);
    sim.run_for(1_000);
    let before = sim.agent.phone.rtp.heard.samples().len();
    key(&mut sim, "789", Form::Tone);
    let heard = sim.agent.phone.rtp.heard.samples();
    assert_eq!(Attackers::new().listen(&heard[before..]).decoded, 4, "789 and # are heard again");
    let masks: Vec<bool> = sim
        .events
        .iter()
        .filter_map(|(_, e)| match e {
            EventKind::Mask { on } => Some(*on),
            _ => None,
        })
        .collect();
    assert_eq!(masks, [true, false]);
}

#[test]
fn a_hold_released_while_a_digit_sounds_lets_none_of_it_out() {
    for offset in [5, 15, 35, 55, 75, 95] {
        let mut sim = site(6, |s| s);
        sim.connect();
        sim.run_for(1_000);
        let holds = sim.hold(&[HoldKind::Mask]);
        sim.run_for(500);
        sim.caller(|phone, _| phone.press(0, typed("5", Form::Tone, 100, 60)));
        sim.run_for(offset);
        sim.release(&holds);
        sim.run_for(1_500);
        let found = at_the_ear(&sim);
        assert!(found.nothing_decoded(), "released {offset} ms into the digit: {found:?}");
        assert_eq!(found.template, 0, "released {offset} ms into the digit: {found:?}");
    }
}

#[test]
fn a_forgotten_hold_ends_by_itself() {
    let mut sim = site(7, |s| s);
    sim.connect();
    sim.hold(&[HoldKind::Mask, HoldKind::Pause]);
    sim.run_for(59_000);
    assert!(sim.call().masked);
    sim.run_for(2_000);
    assert!(!sim.call().masked);
    assert_eq!(sim.events.iter().filter(|(_, e)| matches!(e, EventKind::HoldExpired { .. })).count(), 2);
}

#[test]
fn a_re_invite_during_a_digit_keeps_the_mask() {
    let changes: [fn(&mut Story); 4] = [
        |sim| sim.caller(|p, now| p.reinvite(now, Direction::SendRecv)),
        |sim| sim.caller(|p, now| p.reinvite_with_codecs(now, vec![Codec::Pcma])),
        |sim| sim.agent(|p, now| p.reinvite(now, Direction::SendRecv)),
        |sim| sim.agent(|p, now| p.reinvite_with_codecs(now, vec![Codec::Pcma])),
    ];
    for (which, change) in changes.into_iter().enumerate() {
        let mut sim = site(8, |s| s.carriers(|c| c.guard = GuardMode::Always));
        sim.connect();
        sim.run_for(1_500);
        sim.caller(|phone, _| phone.press(0, typed("123456", Form::Tone, 100, 60)));
        for _ in 0..6 {
            sim.run_for(45);
            change(&mut sim);
            sim.run_for(115);
        }
        sim.run_for(1_000);
        let found = Attackers::new().listen(&sim.agent.phone.rtp.heard.samples());
        assert!(found.nothing_decoded(), "change {which}: {found:?}");
        assert!(sim.agent.phone.rtp.heard.event_codes().is_empty());
        let keys = sim.events.iter().filter(|(_, e)| matches!(e, EventKind::KeyMasked { .. })).count();
        assert_eq!(keys, 6, "change {which}");
    }
}

#[test]
fn the_recording_pauses_and_goes_on() {
    let mut sim = site(9, |s| s.carriers(|c| c.recording = RecordingPolicy::Required));
    sim.connect();
    sim.run_for(2_000);
    let holds = sim.hold(&[HoldKind::Pause]);
    sim.run_for(2_000);
    sim.release(&holds);
    sim.run_for(2_000);
    sim.caller(|p, now| p.hang_up(now));
    sim.run_for(500);
    let tape = sim.tape();
    assert!(tape.closed);
    let paused = tape.paused.iter().filter(|p| **p).count();
    assert!((18..=22).contains(&paused), "{paused} blocks of 100 ms");
    for (at, paused) in tape.paused.iter().enumerate() {
        let block = at * 800..(at + 1) * 800;
        let silent = tape.customer[block.clone()].iter().chain(&tape.agent[block]).all(|s| *s == 0);
        assert!(silent || !paused, "block {at}");
    }
    assert!(tape.customer.iter().any(|s| *s != 0) && tape.agent.iter().any(|s| *s != 0));
    assert!((55..=70).contains(&tape.paused.len()), "six seconds: {}", tape.paused.len());
}

#[test]
fn an_agents_star_codes_act_and_stay_out_of_the_customers_ear() {
    for form in [Form::Event, Form::Tone, Form::Info] {
        let mut sim = site(10, |s| s.star_codes("*71", "*72"));
        sim.connect();
        sim.run_for(1_500);
        let type_code = |sim: &mut Story, code| {
            sim.agent(|p, _| p.press(0, typed(code, form, 80, 80)));
            sim.run_for(2_500);
        };
        type_code(&mut sim, "*71");
        assert!(sim.call().masked && sim.call().paused, "{form:?}");
        type_code(&mut sim, "*72");
        assert!(!sim.call().masked && !sim.call().paused, "{form:?}");
        assert!(sim.caller.phone.rtp.heard.event_codes().is_empty());
        assert!(sim.caller.phone.infos().is_empty());
        let heard = sim.caller.phone.rtp.heard.samples();
        assert_eq!(Attackers::new().listen(&heard).decoded, 0, "{form:?}");
    }
}

#[test]
fn early_media_is_heard_before_the_answer() {
    let (caller, agent) = phones();
    let mut sim = with(11, |s| s, caller, agent.answering(Answer::EarlyMedia(2_000)));
    sim.agent.phone.rtp.speak(hiss(3, -30.0));
    sim.dial();
    sim.run_for(1_500);
    assert!(sim.caller.story().contains(&Event::Progress { status: 183, media: true }));
    assert!(!sim.caller.phone.is_up());
    assert!(sim.caller.phone.rtp.heard.samples().len() > 8_000);
    sim.run_for(1_000);
    assert!(sim.caller.phone.is_up());
}

#[test]
fn a_caller_who_gives_up_ends_both_legs() {
    let (caller, agent) = phones();
    let mut sim = with(12, |s| s, caller, agent.answering(Answer::Never));
    sim.dial();
    sim.run_for(1_000);
    sim.caller(|p, now| p.hang_up(now));
    sim.run_for(1_000);
    assert_eq!(sim.caller.story().last(), Some(&Event::Rejected(487)));
    assert_eq!(sim.agent.story(), [Event::Incoming, Event::Cancelled]);
    assert!(ended(&sim, EndCause::Cancelled));
}

#[test]
fn a_busy_agent_is_busy_to_the_caller() {
    let (caller, agent) = phones();
    let mut sim = with(13, |s| s, caller, agent.answering(Answer::Reject(486)));
    sim.dial();
    sim.run_for(1_000);
    assert_eq!(sim.caller.story().last(), Some(&Event::Rejected(486)));
    assert!(ended(&sim, EndCause::Rejected));
}

#[test]
fn hold_and_resume_reach_the_other_side() {
    let mut sim = site(14, |s| s);
    sim.connect();
    sim.run_for(500);
    sim.agent(|p, now| p.reinvite(now, Direction::SendOnly));
    sim.run_for(500);
    assert_eq!(sim.agent.story().last(), Some(&Event::ChangeAnswered(200)));
    let Some(Event::Changed(direction)) = sim.caller.story().last().cloned() else {
        panic!("the caller is not told of the hold: {:?}", sim.caller.story())
    };
    assert!(matches!(direction, Direction::SendOnly | Direction::Inactive), "{direction:?}");
    let held = sim.agent.phone.rtp.heard.packets().len();
    sim.run_for(1_000);
    assert!(sim.agent.phone.rtp.heard.packets().len() <= held + 1, "a held customer is not heard");
    sim.agent(|p, now| p.reinvite(now, Direction::SendRecv));
    sim.run_for(1_000);
    assert!(sim.agent.phone.rtp.heard.packets().len() > held + 30);
}

#[test]
fn a_bad_network_delays_calls_and_leaves_none_behind() {
    for seed in seeds(40_000, 20) {
        let mut sim = site(seed, |s| s);
        sim.sip_path = Conditions { loss: 0.2, ..Conditions::POOR };
        sim.dial();
        sim.run_until(40_000, |s| s.caller.phone.is_up() && s.agent.phone.is_up());
        sim.run_for(1_000);
        if seed % 2 == 0 {
            sim.caller(UserAgent::hang_up);
        } else {
            sim.agent(UserAgent::hang_up);
        }
        sim.run_for(80_000);
        let left = sim.signal(Signal::Find { find: Default::default(), limit: 10 });
        assert_eq!(left, Ok(Reply::Calls(Vec::new())), "seed {seed}");
        assert!(sim.caller.phone.is_ended() && sim.agent.phone.is_ended(), "seed {seed}");
    }
}

#[test]
fn both_sides_hanging_up_at_once_is_one_end() {
    let mut sim = site(15, |s| s);
    sim.connect();
    sim.run_for(500);
    let hang_up = |p: &mut UserAgent, now| p.hang_up(now);
    sim.caller(hang_up);
    sim.agent(hang_up);
    sim.run_for(40_000);
    assert_eq!(sim.events.iter().filter(|(_, e)| matches!(e, EventKind::CallEnded { .. })).count(), 1);
    assert!(sim.caller.story().contains(&Event::Ended) && sim.agent.story().contains(&Event::Ended));
}

#[test]
fn a_side_that_falls_silent_for_ever_ends_the_call() {
    let mut sim = site(16, |s| s);
    sim.connect();
    sim.run_for(1_000);
    sim.rtp_path = Conditions { loss: 1.0, ..Conditions::CLEAN };
    sim.run_for(70_000);
    assert!(ended(&sim, EndCause::MediaInactivity));
    assert!(sim.caller.phone.is_ended() && sim.agent.phone.is_ended());
}

fn ended(sim: &Sim, wanted: EndCause) -> bool {
    sim.events.iter().any(|(_, e)| matches!(e, EventKind::CallEnded { cause, .. } if *cause == wanted))
}
