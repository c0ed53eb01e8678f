//! `tonewall bench` as a command: it ends, says whether its bars are met by its status, and writes every form it promises.

use std::path::Path;
use std::process::{Command, Output};

fn bench(experiment: &str, out: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tonewall"));
    command.args(["bench", experiment, "--quick", "--seed", "3", "--out"]).arg(out);
    // No recordings: the same figures on every machine, and the loud line that says so.
    let nowhere = out.join("nowhere");
    command.env("TONEWALL_SPEECH", nowhere).output().expect("the command runs")
}

fn json(out: &Path, experiment: &str) -> serde_json::Value {
    let text = std::fs::read_to_string(out.join(format!("{experiment}.json"))).expect("the figures");
    serde_json::from_str(&text).expect("JSON")
}

fn rows<'a>(json: &'a serde_json::Value, table: &str) -> &'a [serde_json::Value] {
    let tables = json["tables"].as_array().expect("tables");
    let found = tables.iter().find(|t| t["name"] == table).unwrap_or_else(|| panic!("no table {table}"));
    found["rows"].as_array().expect("rows")
}

/// The status is that of the verdicts, and what is missing was said.
fn assert_honest(output: &Output, json: &serde_json::Value) {
    let told = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(if json["met"] == true { 0 } else { 2 }), "{told}");
    assert_eq!(told.contains("NOT MET"), json["met"] == false);
    assert!(told.contains("!!! SKIPPED: recorded speech"), "{told}");
}

#[test]
fn bench_detector_measures_its_bars_and_writes_tables_plots_and_the_page() {
    let dir = tempfile::tempdir().expect("a directory");
    let output = bench("detector", dir.path());
    let json = json(dir.path(), "detector");
    assert_honest(&output, &json);
    for row in rows(&json, "bars") {
        let bar = row["bar"].as_str().expect("a name");
        // A thousand digits are too few to tell 99.8 % from 99.9 %: tests/detector.rs takes more.
        assert!(row["met"] == true || bar.starts_with("D4"), "{row}");
    }
    assert_eq!(rows(&json, "section-2").len(), 16);
    assert_eq!(rows(&json, "latency")[0]["met"], true);
    for name in ["snr", "offset", "twist", "duration", "loss", "speech", "latency"] {
        let svg = std::fs::read_to_string(dir.path().join(format!("{name}.svg"))).expect(name);
        assert!(svg.starts_with("<svg") && svg.contains("unarmed"), "{name}");
        assert!(dir.path().join(format!("{name}.csv")).is_file(), "{name}");
    }
    let page = std::fs::read_to_string(dir.path().join("detector.html")).expect("the page");
    assert!(page.matches("<svg").count() == 7 && page.contains("Section 8"));
}

#[test]
fn bench_talkoff_tells_false_digits_and_what_is_muted() {
    let dir = tempfile::tempdir().expect("a directory");
    let output = bench("talkoff", dir.path());
    let json = json(dir.path(), "talkoff");
    assert_honest(&output, &json);
    let unarmed: Vec<_> = rows(&json, "t1").iter().filter(|row| row["receiver"] == "unarmed").collect();
    assert!(unarmed.len() == 1 && unarmed[0]["hours"].as_f64().is_some_and(|hours| hours > 0.2), "{unarmed:?}");
    assert!(rows(&json, "levels").len() >= 8);
    assert!(dir.path().join("talkoff.svg").is_file());
}
