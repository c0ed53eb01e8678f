#![allow(clippy::disallowed_methods)]

use super::*;
use crate::base::Random;
use crate::base::locked::Locked;
use crate::base::secret::{Digit, Digits};
use crate::config::{Checked, SecretSource, Surroundings, sandbox};
use crate::psp::Fields;
use crate::psp::sandbox::Sandbox;
use rand::{RngExt, SeedableRng};
use std::path::Path;

const WALL: WallMs = WallMs(1_700_000_000_000);

fn digits(text: &str) -> Option<Digits> {
    let mut digits = Digits::new();
    for c in text.chars() {
        assert!(digits.push(&Digit::from_char(c).expect("a key")));
    }
    Some(digits)
}

fn charge(payment: PaymentId, attempt: u32, card: &str, behave: &str) -> Charge {
    Charge {
        payment,
        attempt,
        connector: None,
        operation: Operation::Charge { amount_minor: 1250, currency: "EUR".into() },
        fields: Fields {
            card: digits(card),
            expiry: digits("1234"),
            security_code: digits("123"),
            ..Fields::default()
        },
        brand: None,
        description: None,
        parameters: [("sandbox".to_owned(), behave.to_owned())].into(),
    }
}

/// What the network does to an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    NotSent,
    LostRequest,
    LostReply,
    Twice,
    Error500,
    /// By something in between that had let the request through.
    Error503,
}

/// A machine, its disk and a provider, in virtual time.
struct World {
    machine: Machine,
    sandbox: Sandbox,
    now: Instant,
    disk: BTreeMap<Key, Record>,
    waiting: Vec<(Instant, u64, Reply)>,
    answers: Vec<Answer>,
    sent: Vec<String>,
    connectors: Vec<Connector>,
}

impl World {
    fn new(connectors: Vec<Connector>) -> Self {
        Self {
            machine: Machine::new(connectors.clone()),
            sandbox: Sandbox::new(),
            now: Instant::now(),
            disk: BTreeMap::new(),
            waiting: Vec::new(),
            answers: Vec::new(),
            sent: Vec::new(),
            connectors,
        }
    }

    fn submit(&mut self, charge: Charge) {
        self.machine.handle_charge(self.now, WALL, charge);
    }

    fn carry_out(&mut self, fault: &mut dyn FnMut() -> Fault) {
        while let Some(record) = self.machine.poll_record() {
            self.disk.insert((record.payment, record.attempt), record);
        }
        while let Some(request) = self.machine.poll_transmit() {
            self.sent.push(format!("{} {}", request.method.name(), request.path));
            let fault = fault();
            let key = request.headers.iter().find(|(name, _)| name == "Idempotency-Key");
            let key = key.map(|(_, value)| String::from_utf8(value.expose().to_vec()).expect("text"));
            let mut arrive =
                || self.sandbox.handle(request.method, &request.path, key.as_deref(), request.body.expose());
            let whole = |status, text: &str| {
                let mut body = Locked::default();
                body.extend(text.as_bytes());
                Reply::Answer { status, body, retry_after: None }
            };
            let (delay, reply) = match fault {
                Fault::NotSent => (Duration::from_millis(5), Reply::NotSent),
                Fault::LostRequest => (request.timeout, Reply::Lost),
                Fault::Error500 => (Duration::from_millis(50), whole(500, "<html>oops</html>")),
                Fault::Error503 => {
                    arrive();
                    (Duration::from_millis(50), whole(503, ""))
                }
                Fault::None | Fault::LostReply | Fault::Twice => {
                    if fault == Fault::Twice {
                        arrive();
                    }
                    let reaction = arrive();
                    if reaction.lost || fault == Fault::LostReply || reaction.delay > request.timeout {
                        (request.timeout, Reply::Lost)
                    } else {
                        (reaction.delay + Duration::from_millis(20), whole(reaction.status, &reaction.body))
                    }
                }
            };
            self.waiting.push((self.now + delay, request.id, reply));
        }
        while let Some(answer) = self.machine.poll_event() {
            self.answers.push(answer);
        }
    }

    /// One step of virtual time; `false` when nothing waits any more.
    fn step(&mut self, fault: &mut dyn FnMut() -> Fault) -> bool {
        self.carry_out(fault);
        let reply = self.waiting.iter().map(|(at, ..)| *at).min();
        let Some(next) = soonest(reply, self.machine.poll_timeout()) else { return false };
        self.now = self.now.max(next);
        let due: Vec<_> = {
            let now = self.now;
            let (due, later) = std::mem::take(&mut self.waiting).into_iter().partition(|(at, ..)| *at <= now);
            self.waiting = later;
            due
        };
        for (_, id, reply) in due {
            self.machine.handle_reply(self.now, WALL, id, reply);
        }
        self.machine.handle_timeout(self.now, WALL);
        self.carry_out(fault);
        true
    }

    fn run(&mut self, fault: &mut dyn FnMut() -> Fault) {
        for _ in 0..10_000 {
            if !self.step(fault) {
                return;
            }
        }
        panic!("it never ends: {:?}", self.sent.iter().rev().take(5).collect::<Vec<_>>());
    }

    /// The process dies and starts again with what is on the disk.
    fn kill(&mut self) {
        self.machine = Machine::new(self.connectors.clone());
        self.waiting.clear();
        let open = self.disk.values().filter(|record| record.state.is_open()).cloned().collect();
        self.machine.restore(self.now, open);
    }

    fn outcomes(&self) -> Vec<&Outcome> {
        self.answers.iter().map(|answer| &answer.outcome).collect()
    }
}

fn no_fault() -> Fault {
    Fault::None
}

fn payment(seed: u64) -> PaymentId {
    PaymentId::draw(&mut Random::seed_from_u64(seed))
}

#[test]
fn a_test_card_is_approved_with_token_and_reference() {
    let mut world = World::new(vec![sandbox()]);
    world.submit(charge(payment(1), 1, "4242424242424242", ""));
    world.run(&mut no_fault);
    let [Outcome::Approved { token: Some(token), reference: Some(reference) }] = world.outcomes()[..] else {
        panic!("{:?}", world.answers)
    };
    assert!(token.expose().starts_with("tok_") && reference.starts_with("sbx_"));
    assert!(world.machine.is_empty() && world.sandbox.charged() == 1);
}

#[test]
fn refusals_are_told_apart() {
    for (card, wanted) in [
        ("4000000000009995", Outcome::Declined { code: "insufficient_funds".into() }),
        (
            "4000000000000127",
            Outcome::ReEnter {
                field: crate::base::payment::Field::SecurityCode,
                error: crate::base::payment::FieldError::InvalidSecurityCode,
            },
        ),
    ] {
        let mut world = World::new(vec![sandbox()]);
        world.submit(charge(payment(1), 1, card, ""));
        world.run(&mut no_fault);
        assert_eq!(world.outcomes(), [&wanted]);
        assert_eq!(world.sandbox.charged(), 0);
    }
}

#[test]
fn what_cannot_be_is_refused_at_once() {
    let mut world = World::new(vec![sandbox()]);
    world.submit(Charge { connector: Some("nowhere".into()), ..charge(payment(1), 1, "4242424242424242", "") });
    world.submit(charge(payment(2), 1, "4242424242424242", ""));
    world.submit(charge(payment(2), 1, "4242424242424242", ""));
    world.submit(charge(payment(2), 2, "4242424242424242", ""));
    world.run(&mut no_fault);
    let reasons: Vec<_> = world
        .outcomes()
        .into_iter()
        .filter_map(|outcome| match outcome {
            Outcome::Failed { reason } => Some(*reason),
            _ => None,
        })
        .collect();
    assert_eq!(reasons, [Failure::NoConnector, Failure::Duplicate, Failure::Duplicate]);
    assert_eq!(world.sandbox.charged(), 1);
}

#[test]
fn a_lost_reply_is_repeated_with_the_same_key_and_charges_once() {
    let mut world = World::new(vec![sandbox()]);
    world.submit(charge(payment(1), 1, "4242424242424242", "lose-once"));
    world.run(&mut no_fault);
    assert!(matches!(world.outcomes()[..], [Outcome::Approved { .. }]), "{:?}", world.answers);
    assert_eq!((world.sent.len(), world.sandbox.charged()), (2, 1));
}

#[test]
fn replies_that_are_always_lost_end_in_a_question() {
    let mut world = World::new(vec![sandbox()]);
    world.submit(charge(payment(1), 1, "4242424242424242", "lose"));
    world.run(&mut no_fault);
    assert!(matches!(world.outcomes()[..], [Outcome::Approved { .. }]), "{:?}", world.answers);
    assert_eq!(world.sent.last().map(|sent| &sent[..4]), Some("GET "));
    assert_eq!(world.sandbox.charged(), 1);
}

#[test]
fn a_provider_that_is_away_leaves_the_payment_unknown_until_it_is_back() {
    let mut world = World::new(vec![sandbox()]);
    world.submit(charge(payment(1), 1, "4242424242424242", "lose"));
    let mut first = true;
    let start = world.now;
    let deadline = world.connectors[0].deadline;
    loop {
        let away = world.now < start + 10 * deadline;
        let mut fault = || if std::mem::take(&mut first) || !away { Fault::None } else { Fault::LostRequest };
        if !world.step(&mut fault) {
            break;
        }
        let told = world.now.duration_since(start) > deadline + Duration::from_secs(1);
        assert!(!told || !world.answers.is_empty(), "nobody was told in time");
        let held = world.machine.sessions.values().any(|session| session.charge.is_some());
        assert!(!told || !held, "digits are held beyond the deadline");
    }
    assert!(matches!(world.outcomes()[..], [Outcome::Unknown, Outcome::Approved { .. }]), "{:?}", world.answers);
    assert_eq!(world.sandbox.charged(), 1);
}

#[test]
fn a_charge_that_never_arrived_is_voided_before_it_counts_as_not_charged() {
    let mut world = World::new(vec![sandbox()]);
    world.submit(charge(payment(1), 1, "4242424242424242", ""));
    let mut sent = 0;
    world.run(&mut || {
        sent += 1;
        if sent <= 4 { Fault::LostRequest } else { Fault::None }
    });
    assert_eq!(world.outcomes().last(), Some(&&Outcome::Failed { reason: Failure::NotCharged }));
    assert!(world.sent.last().is_some_and(|sent| sent.ends_with("/void")), "{:?}", world.sent);
    assert_eq!(world.sandbox.charged(), 0);
    let late = world.sandbox.handle(
        crate::config::Method::Post,
        "/v1/charges",
        Some(charge(payment(1), 1, "4242424242424242", "").idempotency().as_str()),
        br#"{"amount":1250,"card":{"number":"4242424242424242"}}"#,
    );
    assert_ne!(late.status, 200, "the late request charges after all");
}

#[test]
fn a_provider_that_is_never_reached_charges_nothing_and_says_so() {
    let mut world = World::new(vec![sandbox()]);
    world.submit(charge(payment(1), 1, "4242424242424242", ""));
    world.run(&mut || Fault::NotSent);
    assert_eq!(world.outcomes(), [&Outcome::Failed { reason: Failure::Unavailable }]);
    assert!(world.machine.is_empty());
}

#[test]
fn the_record_is_written_before_the_request_and_holds_no_digit() {
    let mut machine = Machine::new(vec![sandbox()]);
    let now = Instant::now();
    machine.handle_charge(now, WALL, charge(payment(1), 1, "4242424242424242", ""));
    let record = machine.poll_record().expect("a record");
    assert_eq!(record.state, State::Committing);
    let printed = format!("{record:?}").replace(&record.payment.to_string(), "");
    assert!(!printed.contains("4242") && !printed.contains("123"), "{printed}");
    machine.handle_unwritten(&record, false);
    assert!(machine.poll_transmit().is_none(), "sent though the disk is full");
    let outcome = machine.poll_event().map(|answer| answer.outcome);
    assert_eq!(outcome, Some(Outcome::Failed { reason: Failure::Store }));
}

/// Braintree and Worldpay know no idempotency key: what is lost there is never sent again.
#[test]
fn a_step_that_does_not_repeat_is_sent_once() {
    let mut connector = sandbox();
    connector.charge[0].repeats = false;
    for fault in [Fault::LostReply, Fault::LostRequest, Fault::Error500, Fault::Error503] {
        let mut world = World::new(vec![connector.clone()]);
        world.submit(charge(payment(1), 1, "4242424242424242", ""));
        let mut first = true;
        world.run(&mut || if std::mem::take(&mut first) { fault } else { Fault::None });
        let posts = world.sent.iter().filter(|sent| *sent == "POST /v1/charges").count();
        assert_eq!(posts, 1, "{fault:?}: {:?}", world.sent);
        let approved = world.answers.iter().any(|answer| matches!(answer.outcome, Outcome::Approved { .. }));
        assert_eq!(approved, world.sandbox.charged() == 1, "{fault:?}");
    }
}

#[test]
fn a_redirect_is_not_followed() {
    let mut machine = Machine::new(vec![sandbox()]);
    let now = Instant::now();
    machine.handle_charge(now, WALL, charge(payment(1), 1, "4242424242424242", ""));
    let request = machine.poll_transmit().expect("a request");
    machine.handle_reply(
        now,
        WALL,
        request.id,
        Reply::Answer { status: 302, body: Locked::default(), retry_after: None },
    );
    machine.handle_timeout(now, WALL);
    let next = machine.poll_transmit().expect("a question");
    assert_eq!((next.method.name(), next.host.as_str()), ("GET", "sandbox.invalid"));
}

#[test]
fn after_a_crash_what_could_not_have_charged_is_over_and_the_rest_is_asked() {
    let mut world = World::new(vec![sandbox()]);
    world.submit(charge(payment(1), 1, "4242424242424242", "lose"));
    world.carry_out(&mut no_fault);
    let open = Record { payment: payment(2), state: State::Open, ..world.disk.values().next().expect("one").clone() };
    world.disk.insert((open.payment, 1), open);
    world.kill();
    world.run(&mut no_fault);
    let of = |id: PaymentId| world.answers.iter().find(|answer| answer.payment == id).map(|answer| &answer.outcome);
    assert!(matches!(of(payment(1)), Some(Outcome::Approved { .. })), "{:?}", world.answers);
    assert_eq!(of(payment(2)), Some(&Outcome::Failed { reason: Failure::NotCharged }));
    assert!(world.disk.values().all(|record| !record.state.is_open()));
}

/// Thousands of payments over a network that loses, repeats and breaks, and a process that dies in between: what the
/// provider charged is what was told as approved, to the payment.
#[test]
fn charges_equal_approvals_whatever_the_network_does() {
    for repeats in [true, false] {
        for seed in 0..40 {
            let mut random = Random::seed_from_u64(seed);
            let mut connector = sandbox();
            connector.charge[0].repeats = repeats;
            connector.deadline = Duration::from_secs(random.random_range(3..20));
            let mut world = World::new(vec![connector]);
            let mut faults = Random::seed_from_u64(seed + 1000);
            let mut fault = || match faults.random_range(0..12) {
                0 => Fault::NotSent,
                1 => Fault::LostRequest,
                2 => Fault::LostReply,
                3 => Fault::Twice,
                4 => Fault::Error500,
                5 => Fault::Error503,
                _ => Fault::None,
            };
            for n in 0..50 {
                let card = if n % 7 == 0 { "4000000000000002" } else { "4242424242424242" };
                world.submit(charge(payment(seed * 100 + n), 1, card, ""));
                for _ in 0..random.random_range(0..6) {
                    world.step(&mut fault);
                }
                if random.random_range(0..8) == 0 {
                    world.carry_out(&mut fault);
                    world.kill();
                }
            }
            world.run(&mut fault);
            for n in 0..50 {
                let id = payment(seed * 100 + n);
                let charged = world.sandbox.has_charged(crate::psp::IdempotencyKey::new(id, 1).as_str());
                let told: Vec<_> = world.answers.iter().filter(|answer| answer.payment == id).collect();
                let approved = told.iter().filter(|answer| matches!(answer.outcome, Outcome::Approved { .. })).count();
                let last = told.last().map(|answer| &answer.outcome);
                assert_eq!(approved, usize::from(charged), "seed {seed}, payment {n}: {told:?}");
                assert_ne!(last, Some(&Outcome::Unknown), "seed {seed}, payment {n}: still unknown");
                let ended = world.disk.get(&(id, 1)).map(|record| record.state.clone());
                assert_eq!(
                    charged,
                    ended == Some(State::Done(Ending::Approved)),
                    "seed {seed}, payment {n}: {ended:?}"
                );
            }
        }
    }
}

#[test]
fn only_values_that_questions_need_are_kept() {
    let mut connector = sandbox();
    assert!(connector.values_of_questions().is_empty());
    connector.charge[0].answers[0].values.push(("id".into(), "/id".into()));
    connector.query[0].url = crate::config::Template::parse("/v1/charges/${value.id}").expect("a template");
    assert_eq!(connector.values_of_questions(), ["id".to_owned()].into());
}

/// Every preset goes through the reader with what its first lines ask for, and without it says what is missing.
#[test]
fn every_preset_is_good_and_says_what_it_needs() {
    let needs = [
        ("sandbox", "", ""),
        ("stripe", "key", ""),
        ("adyen", "key", "merchant_account"),
        ("braintree", "private_key", "public_key"),
        ("worldpay", "password", "user entity"),
    ];
    assert_eq!(needs.len(), crate::config::PRESETS.len());
    let secret = |_: &SecretSource| Ok("a-secret-of-a-test".to_owned());
    let around = Surroundings { directory: Path::new(""), secret: &secret };
    let base = include_str!("../../config/small.toml");
    for (preset, secret, variables) in needs {
        let bare = format!("{base}\n[[connector]]\nname = \"it\"\npreset = \"{preset}\"\n");
        let mut text = bare.clone();
        for name in secret.split_whitespace() {
            text += &format!("[[connector.secret]]\nname = \"{name}\"\nfile = \"it.key\"\n");
        }
        for name in variables.split_whitespace() {
            text += &format!("[[connector.variable]]\nname = \"{name}\"\nvalue = \"Example\"\n");
        }
        let good = Checked::parse("it.toml", &text, &around).unwrap_or_else(|faults| panic!("{preset}:\n{faults}"));
        let connector = &good.config.connectors[0];
        assert_eq!(connector.sandbox, preset == "sandbox");
        assert!(!connector.charge.is_empty() && !connector.token.is_empty(), "{preset}");
        // Tokens of providers are among the values of their answers.
        assert!(connector.values_of_questions().is_empty(), "{preset} keeps values on the disk");
        if !secret.is_empty() {
            let faults = Checked::parse("it.toml", &bare, &around).expect_err(preset).to_string();
            for name in secret.split_whitespace().chain(variables.split_whitespace()) {
                assert!(faults.contains(&format!("{name:?}")), "{preset}: {name}: {faults}");
            }
        }
    }
}

#[test]
fn what_is_under_way_keeps_its_connector_and_what_comes_goes_by_the_new_one() {
    let at = |name: &str| crate::config::Connector { name: name.into(), ..sandbox() };
    let mut machine = Machine::new(vec![at("bank"), at("gone")]);
    let now = Instant::now();
    let submit = |machine: &mut Machine, seed: u64, name: Option<&str>| {
        let charge = Charge { connector: name.map(str::to_owned), ..charge(payment(seed), 1, "4242424242424242", "") };
        machine.handle_charge(now, WALL, charge);
        machine.poll_transmit().map(|request| (request.connector, request.id))
    };
    let (old, id) = submit(&mut machine, 1, Some("bank")).expect("a request");
    assert_eq!(old, 0);
    let places = machine.set_connectors(now, vec![at("second"), at("BANK")]);
    assert!(!places.contains(&old) && !places.contains(&1), "both are needed still: {places:?}");
    let mut place = |seed, name| submit(&mut machine, seed, name).map(|(place, _)| place);
    assert_eq!(place(2, Some("bank")), Some(places[1]));
    assert_eq!(place(3, None), Some(places[0]), "the first one is the usual one");
    assert_eq!(place(4, Some("gone")), Some(1), "begun before it went");
    assert_eq!(place(5, Some("never")), None);
    // The old one's answer is lost: it is asked, and no other.
    machine.handle_reply(now, WALL, id, Reply::Lost);
    let again = now + Duration::from_secs(5);
    machine.handle_timeout(again, WALL);
    let asked: Vec<usize> = std::iter::from_fn(|| machine.poll_transmit()).map(|request| request.connector).collect();
    assert!(asked.contains(&old), "{asked:?}");
    // Places are used again when nothing needs them.
    for _ in 0..20 {
        let places = machine.set_connectors(now, vec![at("bank")]);
        assert!(places[0] < 8, "{places:?}");
    }
}

#[test]
fn a_payment_left_without_its_connector_is_asked_about_when_it_comes_back() {
    let mut world = World::new(vec![sandbox()]);
    world.submit(charge(payment(1), 1, "4242424242424242", "lose"));
    for _ in 0..3 {
        world.step(&mut no_fault);
    }
    assert_eq!(world.machine.unknown(), 0, "somebody waits for it still");
    world.connectors = vec![crate::config::Connector { name: "other".into(), ..sandbox() }];
    world.kill();
    assert_eq!((world.machine.unknown(), world.machine.poll_timeout()), (1, None));
    world.machine.set_connectors(world.now, vec![sandbox()]);
    assert!(world.machine.poll_timeout().is_some(), "it is asked about");
}
