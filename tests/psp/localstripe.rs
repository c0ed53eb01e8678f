//! The Stripe preset against `localstripe`, a fake Stripe server that nobody here wrote.

use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tonewall::psp::{Charge, Operation, Outcome};

use crate::common::{free_port, installed, skip};
use crate::desk::WEBHOOK_SECRET;
use crate::kit::{Desk, KEY, charge, config, preset};

/// A running server; killed when dropped.
pub struct Fake {
    child: Child,
    pub url: String,
    _directory: tempfile::TempDir,
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Fake {
    /// Installs it into a directory of its own; says why it cannot.
    pub fn start() -> Result<Self, String> {
        if !installed("python3") {
            return Err("python3 is not installed".into());
        }
        let directory = tempfile::tempdir().expect("a directory");
        let venv = directory.path().join("venv");
        let run = |program: &std::path::Path, arguments: &[&str]| {
            let output = Command::new(program).args(arguments).output().map_err(|error| error.to_string())?;
            if output.status.success() {
                Ok(())
            } else {
                let told = String::from_utf8_lossy(&output.stderr).into_owned();
                Err(told.lines().last().unwrap_or("it failed").to_owned())
            }
        };
        run(std::path::Path::new("python3"), &["-m", "venv", &venv.to_string_lossy()])
            .map_err(|why| format!("python3-venv cannot be used: {why}"))?;
        run(&venv.join("bin/pip"), &["install", "--quiet", "--disable-pip-version-check", "localstripe"])
            .map_err(|why| format!("localstripe cannot be had from PyPI: {why}"))?;
        let port = free_port();
        let child = Command::new(venv.join("bin/localstripe"))
            .args(["--port", &port.to_string(), "--from-scratch"])
            .current_dir(directory.path())
            .env("TMPDIR", directory.path())
            .env("HOME", directory.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| error.to_string())?;
        let mut fake = Self { child, url: format!("http://127.0.0.1:{port}"), _directory: directory };
        let end = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let dead = fake.child.try_wait().ok().flatten().is_some();
            assert!(!dead && Instant::now() < end, "localstripe does not start");
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(fake)
    }

    /// The section of a node whose payments go here, and whose events go to `endpoint` ([`receiver`]); and its files.
    ///
    /// [`receiver`]: crate::desk::receiver
    pub fn connector(&self, endpoint: &str) -> (String, Vec<(&'static str, String)>) {
        let more = format!(
            "\n[[connector]]\nname = \"stripe\"\npreset = \"stripe\"\nurl = \"{}\"\n\
             [[connector.secret]]\nname = \"key\"\nfile = \"stripe.key\"\n{endpoint}",
            self.url
        );
        (more, vec![("crm.whsec", WEBHOOK_SECRET.into()), ("stripe.key", format!("{KEY}\n"))])
    }

    pub fn get(&self, path: &str) -> Value {
        let answer = ureq::get(format!("{}{path}", self.url)).header("Authorization", &format!("Bearer {KEY}")).call();
        answer.expect("an answer").body_mut().read_json().expect("JSON")
    }
}

#[test]
fn the_stripe_preset_charges_at_a_fake_stripe_that_nobody_here_wrote() {
    let fake = match Fake::start() {
        Ok(fake) => fake,
        Err(why) => return skip("the_stripe_preset_charges_at_a_fake_stripe_that_nobody_here_wrote", &why),
    };
    let directory = tempfile::tempdir().expect("a directory");
    let mut desk = Desk::open(&config(&preset("stripe", &fake.url, ""), directory.path()));

    let outcome = desk.pay(charge(1, "4242424242424242"));
    let Outcome::Approved { token: Some(token), reference: Some(reference) } = outcome else { panic!("{outcome:?}") };
    assert!(token.expose().starts_with("pm_") && reference.starts_with("pi_"));
    let intent = fake.get(&format!("/v1/payment_intents/{reference}"));
    assert_eq!(
        (&intent["status"], &intent["amount"], &intent["currency"]),
        (&"succeeded".into(), &1250.into(), &"eur".into())
    );
    assert_eq!(intent["payment_method"], token.expose());
    assert_eq!(intent["metadata"]["payment"], crate::kit::payment(1).to_string());

    let outcome = desk.pay(charge(2, "4000000000000341"));
    assert_eq!(outcome, Outcome::Declined { code: "card_declined".into() });

    let outcome = desk.pay(Charge { operation: Operation::Token, ..charge(3, "5555555555554444") });
    let Outcome::Approved { token: Some(token), .. } = outcome else { panic!("{outcome:?}") };
    let method = fake.get(&format!("/v1/payment_methods/{}", token.expose()));
    assert_eq!(method["card"]["last4"], "4444");

    let charges = fake.get("/v1/charges");
    let paid =
        charges["data"].as_array().expect("charges").iter().filter(|charge| charge["status"] == "succeeded").count();
    assert_eq!(paid, 1, "{charges:#}");
}
