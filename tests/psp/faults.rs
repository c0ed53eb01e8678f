//! Payments over a network that breaks and from a process that dies: what the provider charged is what was told as
//! approved, to the payment.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use tonewall::base::Random;
use tonewall::config::Method;
use tonewall::psp::sandbox::Sandbox;
use tonewall::psp::{Failure, Gateway, IdempotencyKey, Outcome};
use tonewall::rt::psp::store::Store;

use crate::common::say;
use crate::kit::{Desk, charge, config, payment};
use crate::server::{Act, Request, Server};

/// Named to the child process by this variable: directory, address, first payment, payments.
const CHILD: &str = "TONEWALL_TEST_PAYMENTS";

/// The sandbox behind a network that is not to be trusted.
struct Provider {
    sandbox: Arc<Mutex<Sandbox>>,
    server: Server,
}

impl Provider {
    /// `percent` of exchanges go wrong, in one of seven ways.
    fn start(seed: u64, percent: u32) -> Self {
        let sandbox = Arc::new(Mutex::new(Sandbox::new()));
        let random = Mutex::new(Random::seed_from_u64(seed));
        let known = sandbox.clone();
        let server = Server::start(move |request| {
            let fault = {
                let mut random = random.lock().expect("the generator");
                if random.random_range(0..100) < percent { random.random_range(1..8) } else { 0 }
            };
            let arrive = |request: &Request| {
                let method = match request.method.as_str() {
                    "GET" => Method::Get,
                    _ => Method::Post,
                };
                let key = request.header("idempotency-key");
                let reaction = known.lock().expect("the sandbox").handle(method, &request.path, key, &request.body);
                Act::Answer(reaction.status, reaction.body)
            };
            match fault {
                1 => Act::Cut,
                2 => Act::Answer(500, "<html>4242</html>".into()),
                3 => Act::Answer(503, String::new()),
                4 => {
                    arrive(&request);
                    Act::Cut
                }
                5 => {
                    arrive(&request);
                    Act::Half
                }
                6 => {
                    arrive(&request);
                    Act::Hang(Duration::from_millis(900))
                }
                7 => {
                    arrive(&request);
                    arrive(&request)
                }
                _ => arrive(&request),
            }
        });
        Self { sandbox, server }
    }

    fn connector(&self) -> String {
        connector(&self.server.url())
    }
}

/// Impatient, so that the test is quick.
fn connector(url: &str) -> String {
    format!(
        "\n[[connector]]\nname = \"it\"\npreset = \"sandbox\"\nurl = \"{url}\"\ntimeout_ms = 600\ndeadline_s = 4\n\
         attempts = 3\nretry_ms = 20\nsettle_s = 2\nat_once = 2000\n"
    )
}

/// Whether the provider has charged the payment of this seed.
fn charged(sandbox: &Sandbox, seed: u64) -> bool {
    sandbox.has_charged(IdempotencyKey::new(payment(seed), 1).as_str())
}

#[test]
fn a_thousand_payments_through_faults_charge_what_they_say() {
    const COUNT: u64 = 1000;
    let provider = Provider::start(1, 40);
    let directory = tempfile::tempdir().expect("a directory");
    let mut desk = Desk::open(&config(&provider.connector(), directory.path()));
    for seed in 0..COUNT {
        // One in ten has a card that is declined.
        let card = if seed % 10 == 9 { "4000000000000002" } else { "4242424242424242" };
        desk.psp.submit(charge(seed, card));
        if seed % 50 == 49 {
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    let answers = desk.settle(Duration::from_secs(120));
    let sandbox = provider.sandbox.lock().expect("the sandbox");
    let mut counts = [0; 4];
    for seed in 0..COUNT {
        let told: Vec<_> = answers.iter().filter(|answer| answer.payment == payment(seed)).collect();
        let (last, before) = told.split_last().expect("an answer");
        assert!(before.iter().all(|answer| answer.outcome == Outcome::Unknown), "payment {seed}: {told:?}");
        let approved = matches!(last.outcome, Outcome::Approved { .. });
        assert_eq!(approved, charged(&sandbox, seed), "payment {seed}: {told:?}");
        match &last.outcome {
            Outcome::Approved { .. } => counts[0] += 1,
            Outcome::Declined { code } if code == "generic_decline" => counts[1] += 1,
            Outcome::Failed { reason: Failure::NotCharged | Failure::Unavailable } => counts[2] += 1,
            other => panic!("payment {seed}: {other:?}"),
        }
        counts[3] += before.len();
    }
    assert_eq!(counts[0], sandbox.charged());
    assert!(counts[0] > 800, "{counts:?}");
    say(&format!(
        "1000 payments, 40 % of exchanges broken: {} approved = {} charged, {} declined, {} not charged; {} unknown meanwhile",
        counts[0],
        sandbox.charged(),
        counts[1],
        counts[2],
        counts[3]
    ));
}

/// The life of a process that is killed: submits payments as the variable says, until it is dead. Without the variable it
/// does so in the test, alive, with a network that does nothing wrong.
#[test]
fn a_process_submits_payments_until_it_is_killed() {
    if let Ok(order) = std::env::var(CHILD) {
        let words: Vec<&str> = order.split('|').collect();
        let [directory, url, first, count] = words[..] else { panic!("{order}") };
        let (first, count): (u64, u64) = (first.parse().expect("a number"), count.parse().expect("a number"));
        let mut desk = Desk::open(&config(&connector(url), Path::new(directory)));
        writeln!(std::io::stdout(), "ready").expect("somebody reads");
        for seed in first..first + count {
            desk.psp.submit(charge(seed, "4242424242424242"));
            std::thread::sleep(Duration::from_millis(3));
        }
        desk.settle(Duration::from_secs(60));
        return;
    }
    let provider = Provider::start(2, 0);
    let directory = tempfile::tempdir().expect("a directory");
    let mut desk = Desk::open(&config(&provider.connector(), directory.path()));
    for seed in 0..20 {
        assert!(matches!(desk.pay(charge(seed, "4242424242424242")), Outcome::Approved { .. }));
    }
    assert_eq!(provider.sandbox.lock().expect("the sandbox").charged(), 20);
}

#[test]
fn a_thousand_payments_of_processes_that_are_killed_charge_what_the_store_says() {
    const LIVES: u64 = 12;
    const EACH: u64 = 120;
    let provider = Provider::start(3, 30);
    let directory = tempfile::tempdir().expect("a directory");
    let mut random = Random::seed_from_u64(3);
    let (mut submitted, mut killed) = (0, 0);
    let mut life = 0;
    // What a process does not get to is no payment; there are lives until a thousand were submitted.
    while life < LIVES || submitted < 1000 {
        assert!(life < 40, "{submitted} payments in {life} lives");
        let order = format!("{}|{}|{}|{EACH}", directory.path().display(), provider.server.url(), life * EACH);
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args([
                "--exact",
                "faults::a_process_submits_payments_until_it_is_killed",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(CHILD, order)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a process");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        assert!(lines.any(|line| line.is_ok_and(|line| line.contains("ready"))), "life {life} never began");
        let end = Instant::now() + Duration::from_millis(random.random_range(150..900));
        while Instant::now() < end && child.try_wait().expect("its state").is_none() {
            std::thread::sleep(Duration::from_millis(5));
        }
        // SIGKILL: nothing is said, nothing is written any more.
        child.kill().expect("killed");
        killed += u32::from(child.wait().expect("its end").code().is_none());
        let store = Store::open(&directory.path().join("payments.db")).expect("the store");
        let known = |seed| store.state(payment(seed), 1).expect("read").is_some();
        submitted += (life * EACH..(life + 1) * EACH).filter(|seed| known(*seed)).count();
        life += 1;
    }
    // The last life has no payment of its own: it asks what became of those of the dead.
    let desk = Desk::open(&config(&provider.connector(), directory.path()));
    let open = desk.psp.under_way();
    let late = desk.settle(Duration::from_secs(120)).len();
    drop(desk);
    let store = Store::open(&directory.path().join("payments.db")).expect("the store");
    let sandbox = provider.sandbox.lock().expect("the sandbox");
    for seed in 0..life * EACH {
        let state = store.state(payment(seed), 1).expect("read");
        let approved = state.as_deref() == Some("approved");
        assert_eq!(approved, charged(&sandbox, seed), "payment {seed} is {state:?} in the store");
        let over = matches!(state.as_deref(), None | Some("approved" | "failed" | "declined"));
        assert!(over, "payment {seed} is still {state:?}");
    }
    let approved = store.count("approved").expect("read");
    assert_eq!(approved as usize, sandbox.charged());
    assert!(killed >= 8, "only {killed} of {life} processes died of it");
    say(&format!(
        "{submitted} payments of {life} processes, {killed} killed, 30 % of exchanges broken: {approved} approved in the store \
         = {} charged; {open} were open at the last start, {late} of them told late",
        sandbox.charged()
    ));
}

#[test]
fn the_store_on_disk_holds_no_digit_and_no_secret() {
    let provider = Provider::start(4, 30);
    let directory = tempfile::tempdir().expect("a directory");
    let mut desk = Desk::open(&config(&provider.connector(), directory.path()));
    for seed in 0..50 {
        desk.psp.submit(charge(seed, "4242424242424242"));
    }
    desk.settle(Duration::from_secs(60));
    drop(desk);
    let mut looked = 0;
    for entry in std::fs::read_dir(directory.path()).expect("the directory") {
        let bytes = std::fs::read(entry.expect("an entry").path()).expect("a file");
        let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        assert!(!holds("42424242") && !holds("tok_sandbox") && !holds(crate::kit::KEY), "the store tells");
        looked += bytes.len();
    }
    assert!(looked > 4096, "{looked} bytes were looked at");
}
