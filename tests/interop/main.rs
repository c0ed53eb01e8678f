//! The interoperability matrix: each feature with each kind of peer that has it, through a real `tonewall run` process,
//! printed as a table. Columns are who calls: SIPp by itself, SIPp behind kamailio as the carrier's proxy, baresip, and
//! linphone; SIPp's calls are answered by SIPp, the others' by baresip. A dash is a feature the peer does not have, with
//! the reason under the table; what is not installed is said loudly. One failing cell fails the run.
//!
//! `cargo test --test interop [-- word…]` runs the rows whose name has one of the words.
#![allow(clippy::disallowed_methods, clippy::print_stdout)] // A program of its own: it starts processes and waits.

#[path = "../common/mod.rs"]
mod common;
mod kamailio;
mod linphone;
#[path = "../baresip/phone.rs"]
#[allow(dead_code)] // Shared with tests that need more of it.
mod phone;
#[path = "../net/pki.rs"]
#[allow(dead_code)] // Shared with tests that need more of it.
mod pki;
#[path = "../common/sipp.rs"]
#[allow(dead_code)]
mod process;
mod script;
mod signalling;
mod softphones;
mod tables;
mod telephone;
mod trunks;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use tables::{Cell, Peer, ROWS, Row};

/// The columns, and what each needs.
pub const PEERS: [(Peer, &str, &[&str]); 4] = [
    (Peer::Sipp, "SIPp", &["sipp"]),
    (Peer::Kamailio, "kamailio", &["kamailio", "sipp"]),
    (Peer::Baresip, "baresip", &["baresip", "sipp"]),
    (Peer::Linphone, "linphone", &["linphonec", "baresip", "sipp"]),
];

fn run(row: &Row, column: usize) -> Option<&'static str> {
    let (who, peer, needs) = PEERS[column];
    let run = match row.cells[column] {
        Cell::No(_) => return Some("-"),
        Cell::Run(run) => run,
    };
    if let Some(missing) = needs.iter().find(|tool| !common::installed(tool)) {
        common::skip(&format!("{} with {peer}", row.name), &format!("{missing} is not installed"));
        return Some("not here");
    }
    let began = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(|| run(who)));
    let took = began.elapsed().as_secs_f32();
    match outcome {
        Ok(()) => {
            println!("  {:<34} {peer:<9} ok, {took:.1} s", row.name);
            Some("ok")
        }
        Err(panic) => {
            let why = panic.downcast_ref::<String>().cloned();
            let why = why.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default();
            println!("  {:<34} {peer:<9} FAILED, {took:.1} s: {}", row.name, why.lines().next().unwrap_or_default());
            None
        }
    }
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let wanted = |row: &&Row| words.is_empty() || words.iter().any(|word| row.name.contains(word.as_str()));
    let rows: Vec<&Row> = ROWS.iter().filter(wanted).collect();
    // A column waits for its peers most of the time: all go on at once, each cell with a node and ports of its own.
    let columns: Vec<Vec<&str>> = std::thread::scope(|scope| {
        let column = |column| {
            let rows = &rows;
            scope.spawn(move || rows.iter().map(|row| run(row, column).unwrap_or("FAILED")).collect())
        };
        let running: Vec<_> = (0..PEERS.len()).map(column).collect();
        running.into_iter().map(|column| column.join().expect("a cell's panic is caught")).collect()
    });
    let cells_of = |row: usize| columns.iter().map(move |column| column[row]);
    let failed = columns.iter().flatten().filter(|cell| **cell == "FAILED").count();
    println!("\n{:<34} {}", "", PEERS.map(|(_, peer, _)| format!("{peer:<10}")).concat());
    for (at, row) in rows.iter().enumerate() {
        println!("{:<34} {}", row.name, cells_of(at).map(|cell| format!("{cell:<10}")).collect::<String>());
    }
    println!();
    for row in &rows {
        for (column, cell) in row.cells.iter().enumerate() {
            if let Cell::No(why) = cell {
                println!("- {} with {}: {why}", row.name, PEERS[column].1);
            }
        }
    }
    let ran = columns.iter().flatten().filter(|cell| **cell == "ok").count();
    // The closing line of the test runner, which this program is instead of.
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    println!("\ntest result: {verdict}. {ran} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out");
    if failed > 0 {
        std::process::exit(101);
    }
}
