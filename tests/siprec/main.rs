//! SIPREC on sockets: a running node between a carrier and a PBX, and recording servers that take its sessions, refuse them,
//! hang, vanish and come back. What they are told is held against RFC 7865's schema, what they hear against what was said.
#![allow(clippy::disallowed_methods)] // Tests may start threads, wait and open sockets.

#[path = "../common/schema.rs"]
mod check;
#[path = "../common/mod.rs"]
mod common;
mod cut;
#[path = "../common/desk.rs"]
mod desk;
mod faults;
mod flow;
mod foreign;
mod forward;
mod holds;
mod outside;
#[path = "../net/pki.rs"]
#[allow(dead_code)]
mod pki;
#[path = "../common/sipp.rs"]
#[allow(dead_code)]
mod process;
mod schema;
mod srs;

use std::time::{Duration, Instant};

use common::Plan;
use desk::Desk;
use srs::{Session, Srs};

/// How long anything that should happen soon may take.
const SOON: Duration = Duration::from_secs(20);

/// A recorder's sections: its listener and itself.
fn section(name: &str, transport: &str, remotes: &[&Srs], more: &str) -> String {
    let at = common::free_address();
    let remotes: Vec<String> = remotes.iter().map(|srs| format!("\"{}\"", srs.at)).collect();
    format!(
        "\n[[listener]]\nname = \"{name}-side\"\ntransport = \"{transport}\"\naddress = \"{at}\"\n\n[[recorder]]\n\
         name = \"{name}\"\nkind = \"siprec\"\nlistener = \"{name}-side\"\nremotes = [{}]\nsources = [\"127.0.0.1\"]\n\
         media = [\"127.0.0.1/32\"]\n{more}\n",
        remotes.join(", ")
    )
}

/// A plan whose carrier trunk names these recorders.
fn plan(names: &[&str], sections: &str) -> Plan {
    let names: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    let trunk = format!("recorders = [{}]", names.join(", "));
    Plan { more: sections.to_owned(), trunks: [trunk, String::new()], ports: 160, ..Plan::new() }
}

async fn open(names: &[&str], sections: &str) -> Desk {
    Desk::open(plan(names, sections)).await
}

/// Waits until `condition` holds.
async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + SOON;
    while !condition() {
        assert!(Instant::now() < end, "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Plays scenarios at once: they mostly wait. Whatever fails is named.
async fn all(scenarios: Vec<(&'static str, Scenario)>) {
    let playing: Vec<_> = scenarios.into_iter().map(|(name, scenario)| (name, tokio::spawn(scenario))).collect();
    let mut failed = Vec::new();
    for (name, task) in playing {
        match task.await {
            Ok(()) => common::say(&format!("siprec: {name}: ok")),
            Err(_) => failed.push(name),
        }
    }
    assert!(failed.is_empty(), "failed: {failed:?}");
}

/// One of them.
type Scenario = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

async fn wait(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

/// The one live session, once sound flows in it.
async fn sounding(srs: &Srs) -> Session {
    until("sound at the recorder", || srs.live().first().is_some_and(|session| srs.packets(session, 1).len() > 10))
        .await;
    srs.live().remove(0)
}

/// Loudness of samples, in dB of full scale.
fn loudness(samples: &[i16]) -> f64 {
    let power: f64 = samples.iter().map(|s| f64::from(*s).powi(2)).sum::<f64>() / samples.len().max(1) as f64;
    10.0 * (power / 32_768f64.powi(2)).log10()
}
