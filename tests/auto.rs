//! `guard = auto` through the whole proxy in virtual time: what the PBX hears of what a caller keys, in every form in
//! and out, and that a card is not among it.

use tonewall::config::{Codec, GuardMode, MaskKind, RecordingPolicy};
use tonewall::obs::event::{EventKind, HoldKind};
use tonewall::testkit::attack::decode;
use tonewall::testkit::keys::{Form, typed};
use tonewall::testkit::leak::Attackers;
use tonewall::testkit::net::Conditions;
use tonewall::testkit::rtp_peer::hiss;
use tonewall::testkit::sim::Sim;
use tonewall::testkit::simple_sdp::Direction;
use tonewall::testkit::ua::Profile;

const CARD: &str = "4242424242424242";
const FORMS: [Form; 5] = [Form::Tone, Form::Event, Form::Info, Form::ToneThenEvent { lead_ms: 40 }, Form::ToneAndEvent];

#[allow(clippy::disallowed_methods)] // One reading, as the origin that virtual time counts from.
fn site(seed: u64, mask: MaskKind, agent: Profile) -> Sim {
    let change = |site: tonewall::testkit::site::Site| {
        site.carriers(|c| {
            c.guard = GuardMode::Auto;
            c.mask = mask;
            c.recording = RecordingPolicy::Required;
        })
    };
    let mut sim = Sim::new(seed, std::time::Instant::now(), change, Profile::new("+15550100"), agent);
    sim.caller.phone.rtp.speak(hiss(seed, -50.0));
    sim.agent.phone.rtp.speak(hiss(seed + 1, -50.0));
    sim
}

fn pbx() -> Profile {
    Profile::new("5551000")
}

fn key(sim: &mut Sim, text: &str, form: Form) {
    let keys = typed(text, form, 80, 170);
    let length = keys.len() as u64 * 250 + 100;
    sim.caller(|phone, _| phone.press(100, keys));
    sim.run_for(length);
    assert!(!sim.caller.phone.rtp.is_keying());
}

/// The events a PBX took, each key press once: begun by a marker packet of its own timestamp.
fn events(sim: &Sim) -> String {
    let mut last = None;
    let mut keys = String::new();
    for packet in sim.agent.phone.rtp.heard.packets().iter().filter(|packet| packet.payload_type == 101) {
        if last != Some(packet.timestamp) {
            last = Some(packet.timestamp);
            keys.push(b"0123456789*#ABCD"[usize::from(packet.payload[0] & 15)] as char);
        }
    }
    keys
}

#[test]
fn a_member_number_in_any_form_reaches_the_pbx_as_events_in_order_and_once() {
    for (seed, form) in FORMS.into_iter().enumerate() {
        let mut sim = site(seed as u64, MaskKind::Substitute, pbx());
        sim.connect();
        sim.run_for(1_500);
        key(&mut sim, "7120056", form);
        assert_eq!(events(&sim), "", "{form:?}: too early");
        sim.run_for(8_000);
        assert_eq!(events(&sim), "7120056", "{form:?}");
        // What was heard besides is no key: the tones the caller sent stay masked.
        assert!(Attackers::new().listen(&sim.agent.phone.rtp.heard.samples()).nothing_decoded(), "{form:?}");
        assert!(sim.agent.phone.infos().is_empty());
    }
}

#[test]
fn a_pbx_without_events_gets_info_or_tones() {
    for info in [true, false] {
        let agent = Profile { events: None, ..pbx() };
        let change = |mut site: tonewall::testkit::site::Site| {
            site.dtmf.info = info;
            site.carriers(|c| c.guard = GuardMode::Auto)
        };
        #[allow(clippy::disallowed_methods)] // One reading, as the origin that virtual time counts from.
        let mut sim = Sim::new(20, std::time::Instant::now(), change, Profile::new("+15550100"), agent);
        sim.caller.phone.rtp.speak(hiss(20, -50.0));
        sim.connect();
        sim.run_for(1_500);
        key(&mut sim, "7120056", Form::Event);
        sim.run_for(8_000);
        let heard = sim.agent.phone.rtp.heard.samples();
        let tones: Vec<u8> = decode(&heard).into_iter().map(|(_, key)| key).collect();
        let infos = sim.agent.phone.infos();
        if info {
            let signals: Vec<_> = infos.iter().map(|m| String::from_utf8_lossy(&m.body)[7..8].to_owned()).collect();
            assert_eq!(signals.concat(), "7120056");
            assert!(tones.is_empty(), "{tones:?}");
        } else {
            assert_eq!(tones, [7, 1, 2, 0, 0, 5, 6]);
            assert!(infos.is_empty());
        }
    }
}

#[test]
fn a_card_in_any_form_never_reaches_pbx_ear_or_tape_and_holds_the_recording() {
    for (seed, form) in FORMS.into_iter().enumerate() {
        let mut sim = site(40 + seed as u64, MaskKind::Silence, pbx());
        sim.connect();
        sim.run_for(1_500);
        key(&mut sim, CARD, form);
        let held: Vec<_> = sim.call().holds.iter().map(|hold| (hold.kind, hold.owner.clone())).collect();
        let detector = |kind| (kind, "detector".to_owned());
        assert_eq!(held, [detector(HoldKind::Mask), detector(HoldKind::Pause)], "{form:?}");
        sim.run_for(3_000);
        key(&mut sim, "1227", form);
        sim.run_for(3_000);
        key(&mut sim, "123#", form);
        sim.run_for(70_000);
        assert!(sim.call().holds.is_empty(), "{form:?}");
        assert_eq!(events(&sim), "", "{form:?}");
        assert!(sim.agent.phone.infos().is_empty());
        assert!(Attackers::new().listen(&sim.agent.phone.rtp.heard.samples()).nothing_decoded(), "{form:?}");
        assert!(Attackers::new().listen(&sim.tape().customer).nothing_decoded(), "{form:?}");
        assert!(!sim.events.iter().any(|(_, event)| matches!(event, EventKind::KeysReleased { .. })), "{form:?}");
    }
}

#[test]
fn a_poor_line_changes_neither_what_passes_nor_what_does_not() {
    for seed in 60..66 {
        let mut sim = site(seed, MaskKind::Silence, pbx());
        sim.rtp_path = Conditions::POOR;
        sim.connect();
        sim.run_for(2_000);
        key(&mut sim, "71#", Form::Event);
        sim.run_for(4_000);
        let passed = events(&sim);
        assert_eq!(passed, "71#", "seed {seed}");
        key(&mut sim, CARD, Form::Event);
        sim.run_for(10_000);
        assert_eq!(events(&sim), passed, "seed {seed}");
        assert!(Attackers::new().listen(&sim.agent.phone.rtp.heard.samples()).nothing_decoded(), "seed {seed}");
    }
}

#[test]
fn a_re_invite_between_keys_and_release_loses_none_of_them() {
    let mut sim = site(70, MaskKind::Silence, pbx());
    sim.connect();
    sim.run_for(1_500);
    key(&mut sim, "7120", Form::Tone);
    sim.agent(|phone, now| phone.reinvite(now, Direction::SendRecv));
    sim.run_for(300);
    sim.caller(|phone, now| phone.reinvite_with_codecs(now, vec![Codec::Pcma]));
    sim.run_for(8_000);
    assert_eq!(events(&sim), "7120");
}
