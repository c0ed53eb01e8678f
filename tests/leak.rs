//! The promise, through real sockets and a whole node: random digits in every form, under every mask, in both G.711
//! laws. Attackers listen at the agent's ear and in the exported recordings; every digit must have been collected once.
//! Figures are printed.
#![allow(clippy::disallowed_methods)] // Tests may read clocks and wait.

mod common;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use tonewall::base::Random;
use tonewall::base::ids::{CallId, RecordingId};
use tonewall::call::{Actor, CollectionRequest, Find, Reply, Signal};
use tonewall::capture::{Handover, Recipient};
use tonewall::cli::recordings::{Command, EXIT_INTACT, EXIT_QUARANTINED, Terminal, run as recordings};
use tonewall::config::{Codec, GuardMode, KekRef, MaskKind, RecordingPolicy, Role};
use tonewall::control::Calls as _;
use tonewall::obs::event::{EventKind, HoldKind, RecordingState};
use tonewall::record::keys::{Kek, KeyRing};
use tonewall::rt::crew;
use tonewall::rt::leaklab;
use tonewall::rt::logging::Captured;
use tonewall::rt::node::{Node, Options};
use tonewall::rt::peers::{Exchange, Phone};
use tonewall::testkit::keys::{Form, KeyPress, random_digits, typed};
use tonewall::testkit::lab::leak::cases::Plan;
use tonewall::testkit::lab::leak::score::{Judge, Score, by_chance};
use tonewall::testkit::leak::{Attackers, Findings, lag};
use tonewall::testkit::rtp_peer::{hiss, voice};
use tonewall::testkit::simple_sdp::Direction;
use tonewall::testkit::site::Site;
use tonewall::testkit::spandsp::Spandsp;
use tonewall::testkit::ua::{Answer, Profile, UserAgent};

const PATIENCE: Duration = Duration::from_secs(60);
const MASKS: [MaskKind; 4] = [MaskKind::Silence, MaskKind::ComfortNoise, MaskKind::Tone, MaskKind::Substitute];
const LAWS: [Codec; 2] = [Codec::Pcmu, Codec::Pcma];
const FORMS: [Form; 5] = [Form::Tone, Form::Event, Form::Info, Form::ToneThenEvent { lead_ms: 40 }, Form::ToneAndEvent];
/// Digits per call. Times 40 calls with a collection and 40 without.
const DIGITS: usize = 52;

/// A call and the digits of one of its collections.
type Collected = (CallId, Vec<u8>);

/// Keeps what collections hand over, to compare.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<Collected>>>);

impl Recipient for Kept {
    fn receive(&mut self, handover: Handover) {
        self.0.lock().expect("no panic while held").push((handover.call, handover.digits.expose().to_vec()));
    }
}

/// A node with its peers.
struct Office {
    node: Node,
    pbx: Exchange,
    carrier: Exchange,
    kept: Kept,
    dir: tempfile::TempDir,
}

/// A call that is up.
struct Call {
    caller: Phone,
    agent: Phone,
    id: CallId,
}

impl Office {
    /// A node whose carrier trunks are those of [`MASKS`], in order.
    async fn open(guard: GuardMode, recording: RecordingPolicy, ports: u16) -> Office {
        let ip = IpAddr::from(Ipv4Addr::LOCALHOST);
        let dir = tempfile::tempdir().expect("a directory");
        let answering = Profile::new("5551000").answering(Answer::After(10));
        let pbx = Exchange::open(ip, 0, Some(answering), 1).await.expect("a PBX port");
        let carrier = Exchange::open(ip, 0, None, 2).await.expect("a carrier port");
        let any = SocketAddr::new(ip, 0);
        let mut site = Site::new(any, carrier.address(), any, pbx.address());
        let trunk = site.carriers[0].clone();
        site.carriers = MASKS
            .into_iter()
            .map(|mask| {
                let mut trunk = trunk.clone();
                trunk.name = format!("carrier-{mask:?}").to_lowercase();
                (trunk.mask, trunk.guard, trunk.recording) = (mask, guard, recording);
                trunk
            })
            .collect();
        site.ports = common::media_ports(ports);
        site.recordings = dir.path().join("recordings");
        site.kek = Some(KekRef::file("test", dir.path().join("unused")));
        let kept = Kept::default();
        let options = Options {
            config: site.config(),
            keys: tonewall::rt::keys::Keys::fixed(ring()),
            recipient: Box::new(kept.clone()),
            demo: None,
        };
        let node = Node::start(options).await.expect("the node starts");
        Office { node, pbx, carrier, kept, dir }
    }

    async fn call(&mut self, mask: usize, caller: Profile) -> Call {
        let caller = self.carrier.phone(caller).expect("RTP ports");
        let target = self.node.listeners()[mask];
        caller.with(|a, now| {
            a.rtp.speak(hiss(7 + mask as u64, -45.0));
            a.invite(now, "5551000", target);
        });
        let agent = self.pbx.ringing(PATIENCE).await.expect("the PBX rings");
        agent.with(|a, _| a.rtp.speak(hiss(99, -45.0)));
        assert!(caller.until(PATIENCE, UserAgent::is_up).await, "{:?}", caller.events());
        let sip_call_id = agent.with(|a, _| a.call_id().map(str::to_owned));
        let find = Find { sip_call_id, ..Find::default() };
        let Reply::Calls(calls) = self.ask(Signal::Find { find, limit: 2 }).await else { panic!("no calls") };
        assert_eq!(calls.len(), 1);
        Call { caller, agent, id: calls[0].id }
    }

    async fn ask(&self, signal: Signal) -> Reply {
        self.node.calls().signal(signal).await.expect("the signal is taken")
    }

    async fn collect(&self, call: CallId, length: u32) {
        let request = CollectionRequest::of_length(length);
        self.ask(Signal::StartCollection { call, request, actor: crm() }).await;
    }

    fn collected(&self, call: CallId) -> Vec<u8> {
        let kept = self.kept.0.lock().expect("no panic while held");
        kept.iter().filter(|(of, _)| *of == call).flat_map(|(_, digits)| digits.clone()).collect()
    }

    fn keys_masked(&self, call: CallId) -> usize {
        let events = self.node.events().of_call(call);
        events.iter().filter(|e| matches!(e.kind, EventKind::KeyMasked { .. })).count()
    }

    /// Ends the call and gives the sealed recording, exported: customer and agent side.
    async fn recording(&self, call: &Call) -> [Vec<i16>; 2] {
        call.caller.with(UserAgent::hang_up);
        let mut sealed: Option<RecordingId> = None;
        for _ in 0..600 {
            sealed = self.node.events().of_call(call.id).iter().find_map(|e| match e.kind {
                EventKind::Recording { recording, state: RecordingState::Closed } => Some(recording),
                _ => None,
            });
            if sealed.is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let recording = sealed.expect("the recording is sealed");
        let output = self.dir.path().join(format!("{recording}.wav"));
        let command = Command::Export { recording, output: output.clone(), force: false, purpose: None };
        let root = self.dir.path().join("recordings");
        let storage = tonewall::config::Storage::local(root, self.dir.path().join("payments.db"));
        let site =
            tonewall::cli::recordings::Site { storage, keys: tonewall::rt::keys::Keys::fixed(ring()), log: None };
        // It is audited before it may leave.
        let mut waited = 0;
        loop {
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let mut terminal = Terminal { out: &mut out, err: &mut err, progress: false };
            let status = recordings(&command, &site, &tonewall::rt::audit::Guest::off(), &mut terminal);
            if status == EXIT_QUARANTINED && waited < 600 {
                waited += 1;
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
            assert_eq!(status, EXIT_INTACT, "{}", String::from_utf8_lossy(&err));
            break;
        }
        let samples: Vec<i16> =
            hound::WavReader::open(output).expect("a WAV file").samples().map(|s| s.expect("a sample")).collect();
        [0, 1].map(|side| samples.iter().skip(side).step_by(2).copied().collect())
    }
}

fn ring() -> KeyRing {
    KeyRing::new(Some(Kek::parse("test", common::KEK).expect("a key")), Vec::new()).expect("a ring")
}

fn crm() -> Actor {
    Actor::new("crm", Role::Integration)
}

fn keys_of(presses: &[KeyPress]) -> Vec<u8> {
    presses.iter().map(|p| p.digit.expose_char() as u8).collect()
}

/// What attackers find in `heard` of what `caller` keyed.
fn attack(attackers: &Attackers, caller: &Phone, heard: &[i16]) -> Findings {
    let (spoken, keyed) = caller.with(|a, _| (a.rtp.spoken().to_vec(), a.rtp.keyed().to_vec()));
    let lag = lag(&spoken, heard, 1_600).expect("the line is heard before the keys");
    attackers.attack(heard, &keyed, lag)
}

fn assert_at_chance(what: &str, found: &Findings) {
    assert!(found.nothing_decoded(), "{what}: {found:?}");
    let share = found.least_squares_share();
    assert!(found.places > 1_000 && share <= 0.12, "{what}: {:.1} % of {} right", share * 100.0, found.places);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_digits_in_every_form_reach_no_ear_and_no_recording_and_are_collected_once() {
    let mut office = Office::open(GuardMode::Always, RecordingPolicy::Required, 600).await;
    let mut random = Random::seed_from_u64(20_261_122);
    let mut calls: Vec<(Call, Vec<KeyPress>, bool)> = Vec::new();
    for collecting in [true, false] {
        for mask in 0..MASKS.len() {
            for law in LAWS {
                for form in FORMS {
                    let call = office.call(mask, Profile::new("+15550100").only(law)).await;
                    let presses = random_digits(&mut random, DIGITS, form, 50..=100, 50..=80);
                    calls.push((call, presses, collecting));
                }
            }
        }
    }
    for (call, presses, collecting) in &calls {
        if *collecting {
            office.collect(call.id, DIGITS as u32).await;
        }
        call.caller.with(|a, _| a.press(1_500, presses.clone()));
    }
    for (call, ..) in &calls {
        assert!(call.caller.until(PATIENCE, |a| !a.rtp.is_keying()).await);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;

    let attackers = Attackers::new();
    if let Some(why) = attackers.missing() {
        common::skip("spandsp in the leak test", why);
    }
    let (mut ear, mut tape) = (Findings::default(), Findings::default());
    let mut wrong = Vec::new();
    let (mut keyed, mut collected) = (0, 0);
    for (n, (call, presses, collecting)) in calls.iter().enumerate() {
        let (samples, events, infos) =
            call.agent.with(|a, _| (a.rtp.heard.samples(), a.rtp.heard.event_codes(), a.infos().len()));
        ear += attack(&attackers, &call.caller, &samples);
        let kinds: std::collections::BTreeSet<u8> = events.into_iter().collect();
        assert!(kinds.len() <= 1 && infos == 0, "call {n}: digits reached the agent as events or INFO");
        let [customer, agent] = office.recording(call).await;
        // A collection pauses the recording: there is nothing to align with, but it may still be listened to.
        tape += if *collecting { attackers.listen(&customer) } else { attack(&attackers, &call.caller, &customer) };
        tape += attackers.listen(&agent);
        keyed += presses.len();
        if office.keys_masked(call.id) != presses.len() {
            wrong.push(format!("call {n} {:?}: {} keys masked", presses[0].form, office.keys_masked(call.id)));
        }
        if *collecting {
            let got = office.collected(call.id);
            collected += got.len();
            if got != keys_of(presses) {
                wrong.push(format!("call {n} {:?}: other digits collected ({} of them)", presses[0].form, got.len()));
            }
        }
    }
    common::say(&format!(
        "leak: {keyed} random digits in {} calls: agent's ear: spandsp {:?}, decoder {}, least squares {:.1} % of {}, \
         template {:.1} %; recordings: spandsp {:?}, decoder {}, least squares {:.1} % of {}; collected {collected} of \
         {}, once each: {}",
        calls.len(),
        ear.spandsp,
        ear.decoded,
        ear.least_squares_share() * 100.0,
        ear.places,
        ear.template as f64 / ear.places as f64 * 100.0,
        tape.spandsp,
        tape.decoded,
        tape.least_squares_share() * 100.0,
        tape.places,
        keyed / 2,
        wrong.is_empty()
    ));
    assert!(keyed >= 4_000);
    assert_at_chance("the agent's ear", &ear);
    assert_at_chance("the recordings", &tape);
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// A part of `tonewall bench leak`: each form, and each line between customer and node, in each codec somewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_form_over_every_line_reaches_nobody() {
    let codecs = [Codec::Pcmu, Codec::Pcma, Codec::G722, Codec::Opus];
    let plan = Plan { digits: 960, per_call: 16, codecs: codecs.to_vec(), control_every: 0, seed: 5 };
    // The controls: the guard off, lines clean.
    let cases = [plan.cases(), plan.open_calls()].concat();
    // From the beginning: what is logged while keys are pressed is what could tell them.
    let log = Captured::start();
    let mut lab = leaklab::Office::open(cases.len(), &codecs).await.expect("the laboratory opens");
    let evidence = lab.play(&cases, &mut |_| {}).await.expect("the calls are played");
    let keyed: Vec<_> = evidence.iter().map(|(_, e)| e.keyed.as_slice()).collect();
    let texts = lab.end(&log, &keyed).await.expect("the laboratory ends");
    assert!(texts.told == 0 && texts.bytes > 10_000, "{texts:?}");
    // A few lines per call at least, or nothing was looked through.
    assert!(texts.logged > 500 * cases.len(), "{texts:?} of {} calls", cases.len());
    let judge = Judge::new(Spandsp::load().ok());
    let scores = crew::each(&evidence, |(case, evidence)| (case.guarded, judge.judge(case, evidence)));
    let on = scores.iter().filter(|(on, _)| *on).map(|(_, score)| score).sum::<Score>();
    let open = || evidence.iter().zip(&scores).filter(|(_, (on, _))| !on).map(|((case, _), (_, score))| (case, score));
    let sounding = open().filter(|(case, _)| case.way.sounds()).map(|(_, score)| score).sum::<Score>();
    let telling = open().filter(|(case, _)| case.way.tells()).map(|(_, score)| score).sum::<Score>();
    common::say(&format!(
        "leak: {} digits in every form over every line: ear {:.1} % of {}, recording {:.1} % of {}, decoded {} and {:?}, \
         in messages {}, collected {:?}; with the guard off {:.1} % of {} decoded, {:.1} % of {} read in messages",
        on.keyed,
        on.ear.least_squares.rate().percent(),
        on.ear.least_squares.rate().of,
        on.tape.least_squares.rate().percent(),
        on.tape.least_squares.rate().of,
        on.ear.decoded.hits + on.tape.decoded.hits,
        on.ear.spandsp.map(|rate| rate.hits),
        on.messages_with_keys,
        on.collected,
        sounding.ear.decoded.percent(),
        sounding.ear.decoded.of,
        telling.messages.rate().percent(),
        telling.messages.rate().of,
    ));
    for sink in [&on.ear, &on.tape] {
        assert_eq!((sink.decoded.hits, sink.spandsp.map_or(0, |rate| rate.hits)), (0, 0));
        // Blind guessing does better once in a hundred thousand runs.
        assert!(by_chance(sink.least_squares.rate()) > 1e-5, "{:?}", sink.least_squares.rate());
        assert!(by_chance(sink.template.rate()) > 1e-5, "{:?}", sink.template.rate());
    }
    assert_eq!((on.messages_with_keys, on.texts), (0, 0));
    // A machine that holds packets up breaks a tone now and then.
    let (heard, told) = (sounding.ear.decoded, telling.messages.rate());
    assert!(heard.share() > 0.9 && told.share() > 0.9, "the attackers are blunt: {heard:?} {told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_released_while_a_digit_sounds_lets_none_of_it_out() {
    let mut office = Office::open(GuardMode::Signal, RecordingPolicy::Off, 200).await;
    let mut random = Random::seed_from_u64(3);
    let attackers = Attackers::new();
    let mut found = Findings::default();
    for round in 0..4 {
        let mut calls = Vec::new();
        for n in 0..10 {
            let call = office.call(n % MASKS.len(), Profile::new("+15550100")).await;
            let kinds = vec![HoldKind::Mask];
            let reason = "payment".to_owned();
            let signal = Signal::TakeHolds { call: call.id, kinds, reason, ttl: None, actor: crm() };
            let Reply::Holds(holds) = office.ask(signal).await else { panic!("no hold") };
            calls.push((call, holds[0].id));
        }
        tokio::time::sleep(Duration::from_millis(1_200)).await;
        for (call, hold) in &calls {
            let form = if round % 2 == 0 { Form::Tone } else { Form::ToneAndEvent };
            let key = random_digits(&mut random, 1, form, 100..=100, 50..=50);
            call.caller.with(|a, _| a.press(0, key));
            tokio::time::sleep(Duration::from_millis(random.random_range(5..95))).await;
            office.ask(Signal::ReleaseHold { call: call.id, hold: *hold, actor: crm() }).await;
        }
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        for (call, _) in &calls {
            let heard = call.agent.with(|a, _| a.rtp.heard.samples());
            found += attack(&attackers, &call.caller, &heard);
            call.caller.with(UserAgent::hang_up);
        }
    }
    common::say(&format!("leak: hold released in the middle of {} digits: {found:?}", found.places));
    assert_eq!(found.places, 40);
    assert!(found.nothing_decoded(), "{found:?}");
    // More than 12 of 40 by chance: once in ten thousand runs.
    assert!(found.least_squares <= 12, "{found:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_re_invite_during_a_digit_keeps_the_mask() {
    let mut office = Office::open(GuardMode::Always, RecordingPolicy::Off, 200).await;
    let mut random = Random::seed_from_u64(4);
    let mut calls = Vec::new();
    for n in 0..12 {
        let form = [Form::Tone, Form::Event, Form::ToneAndEvent][n % 3];
        let call = office.call(n % MASKS.len(), Profile::new("+15550100")).await;
        call.caller.with(|a, _| a.press(1_500, random_digits(&mut random, 12, form, 100..=100, 60..=60)));
        calls.push(call);
    }
    tokio::time::sleep(Duration::from_millis(1_400)).await;
    for round in 0..6 {
        for (n, call) in calls.iter().enumerate() {
            match (n + round) % 4 {
                0 => call.caller.with(|a, now| a.reinvite(now, Direction::SendRecv)),
                1 => call.agent.with(|a, now| a.reinvite(now, Direction::SendRecv)),
                2 => call.caller.with(|a, now| a.reinvite_with_codecs(now, vec![Codec::Pcma])),
                _ => call.agent.with(|a, now| a.reinvite_with_codecs(now, vec![Codec::Pcmu, Codec::Pcma])),
            }
            tokio::time::sleep(Duration::from_millis(29)).await;
        }
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let attackers = Attackers::new();
    let mut found = Findings::default();
    for (n, call) in calls.iter().enumerate() {
        let heard = call.agent.with(|a, _| a.rtp.heard.samples());
        found += attackers.listen(&heard);
        assert_eq!(office.keys_masked(call.id), 12, "call {n}");
        let kinds: std::collections::BTreeSet<u8> =
            call.agent.with(|a, _| a.rtp.heard.event_codes()).into_iter().collect();
        assert!(kinds.len() <= 1, "call {n}");
    }
    common::say(&format!("leak: re-INVITEs during 144 digits: {found:?}"));
    assert!(found.nothing_decoded(), "{found:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn speech_passes_byte_for_byte_when_it_is_not_guarded() {
    for guard in [GuardMode::Off, GuardMode::Signal] {
        let mut office = Office::open(guard, RecordingPolicy::Off, 100).await;
        let mut calls = Vec::new();
        for (n, ptime_ms) in [10, 20, 30, 40, 60].into_iter().enumerate() {
            for law in LAWS {
                let profile = Profile { ptime_ms, ..Profile::new("+15550100").only(law) };
                let call = office.call(n % MASKS.len(), profile).await;
                call.caller.with(|a, _| a.rtp.speak(voice(n as u64, -20.0)));
                calls.push((call, ptime_ms, law));
            }
        }
        tokio::time::sleep(Duration::from_secs(4)).await;
        for (call, ptime_ms, law) in &calls {
            // In this order: what is heard was sent before.
            let heard = call.agent.with(|a, _| a.rtp.heard.payload_bytes());
            let sent = call.caller.with(|a, _| a.rtp.sent_payload_bytes().to_vec());
            let same = sent.windows(heard.len()).any(|w| w == heard);
            assert!(heard.len() > 24_000 && same, "{guard:?} {law:?} {ptime_ms} ms: {} bytes", heard.len());
        }
    }
}

/// A published test card; nothing it is scanned for may hold even twelve digits of it.
const CARD: &str = "4242424242424242";

fn holds_card(bytes: &[u8]) -> bool {
    bytes.windows(12).any(|w| w == &CARD.as_bytes()[..12])
}

#[test]
fn no_log_metric_event_or_file_holds_the_card_and_a_kill_leaves_only_sealed_bytes() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let ip = IpAddr::from(Ipv4Addr::LOCALHOST);
    let (mut pbx, carrier) = runtime.block_on(async {
        let answering = Profile::new("5551000").answering(Answer::After(10));
        let pbx = Exchange::open(ip, 0, Some(answering), 5).await.expect("a PBX port");
        (pbx, Exchange::open(ip, 0, None, 6).await.expect("a carrier port"))
    });
    let plan = common::Plan {
        carrier: carrier.address(),
        pbx: pbx.address(),
        guard: "always",
        recording: "required",
        control: true,
        ..common::Plan::new()
    };
    let mut node = common::Running::start(&plan);
    let control = node.control.expect("an API");
    let (_, _, key) = common::API_KEYS[1];
    let api = |method: &str, path: &str, body: Option<serde_json::Value>| -> String {
        let url = format!("http://{control}{path}");
        let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).build().into();
        let bearer = format!("Bearer {key}");
        let answer = match (method, body) {
            ("POST", Some(body)) => agent.post(&url).header("Authorization", &bearer).send_json(body),
            _ => agent.get(&url).header("Authorization", &bearer).call(),
        };
        answer.unwrap_or_else(|e| panic!("{method} {path}: {e}")).body_mut().read_to_string().expect("a body")
    };

    let spoken = runtime.block_on(async {
        let caller = carrier.phone(Profile::new("+15550100")).expect("RTP ports");
        caller.with(|a, now| {
            a.rtp.speak(hiss(3, -50.0));
            a.invite(now, "5551000", node.carrier_side);
        });
        let agent = pbx.ringing(PATIENCE).await.expect("the PBX rings");
        assert!(caller.until(PATIENCE, UserAgent::is_up).await);
        let calls = tokio::task::block_in_place(|| api("GET", "/v1/calls", None));
        let calls: serde_json::Value = serde_json::from_str(&calls).expect("JSON");
        let list = calls.as_array().or_else(|| calls["calls"].as_array()).expect("calls");
        let id = list[0]["id"].as_str().expect("an id").to_owned();
        for form in [Form::Tone, Form::Event, Form::Info] {
            let path = format!("/v1/calls/{id}/collections");
            tokio::task::block_in_place(|| api("POST", &path, Some(serde_json::json!({ "length": 16 }))));
            caller.with(|a, _| a.press(500, typed(CARD, form, 70, 60)));
            assert!(caller.until(PATIENCE, |a| !a.rtp.is_keying()).await);
            // The collection ends with its last digit; on a busy machine that may take a moment.
            let path = format!("/v1/calls/{id}");
            let ended = |body: String| body.contains("\"ended\"");
            for _ in 0..100 {
                if tokio::task::block_in_place(|| ended(api("GET", &path, None))) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        caller.with(|a, _| a.rtp.speak(voice(3, -20.0)));
        // Some seconds of plain recording, so that the disk has something to hold.
        tokio::time::sleep(Duration::from_secs(4)).await;
        for datagram in agent.with(|a, _| a.received().to_vec()) {
            assert!(!holds_card(&datagram), "SIP toward the agent holds the card");
        }
        caller.with(|a, _| a.rtp.spoken().to_vec())
    });
    let metrics = api("GET", "/metrics", None);
    assert!(metrics.contains("# TYPE") && !holds_card(metrics.as_bytes()));
    for path in ["/v1/calls", "/v1/me", "/openapi.json"] {
        assert!(!holds_card(api("GET", path, None).as_bytes()), "{path}");
    }

    node.kill();
    let log = node.log();
    assert!(log.matches("collection-ended").count() == 3, "three collections ended: {log}");
    assert!(!holds_card(log.as_bytes()));
    let mut sealed = 0;
    let pcm: Vec<u8> = spoken.iter().flat_map(|s| s.to_le_bytes()).collect();
    // Every 10 ms of loud speech, as it would stand in a file if it stood there openly.
    let stretches: Vec<&[u8]> = pcm.chunks(160).filter(|c| c.iter().any(|b| *b > 16 && *b < 240)).collect();
    for file in files(&node.dir.path().join("recordings")) {
        let bytes = std::fs::read(&file).expect("a file");
        assert!(!holds_card(&bytes), "{}", file.display());
        let open: Vec<_> = stretches.iter().filter(|s| memchr::memmem::find(&bytes, &s[..32]).is_some()).collect();
        assert!(open.is_empty(), "{} holds {} stretches of open speech", file.display(), open.len());
        sealed += bytes.len();
    }
    assert!(sealed > 16_000, "{sealed} bytes on disk");
    let verify = std::process::Command::new(env!("CARGO_BIN_EXE_tonewall"))
        .args(["recordings", "--config"])
        .arg(&node.config)
        .args(["verify", "all"])
        .output()
        .expect("tonewall runs");
    let told = String::from_utf8_lossy(&verify.stdout);
    assert_eq!(verify.status.code(), Some(3), "interrupted: {told}{}", String::from_utf8_lossy(&verify.stderr));
    common::say(&format!("leak: after kill -9: {sealed} sealed bytes, told interrupted"));
}

fn files(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}
