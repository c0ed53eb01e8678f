//! `tonewall demo` as a person starts it: it must end 0 with its verdict, and its page must read well in a browser.
#![allow(clippy::disallowed_methods)] // Tests may wait.

mod common;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_demo_ends_by_itself_with_its_verdict() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_tonewall")).arg("demo").stdin(Stdio::null()).output().expect("tonewall runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}\n{text}{}", output.status, String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("Nothing leaked, and every digit was collected."), "{text}");
    assert!(text.contains("16 of 16 digits, each once and in order; Luhn check passed"), "{text}");
    assert!(!text.contains("424242424242"), "the card is printed");
    remove(&text);
}

#[test]
fn the_page_shows_the_call_and_the_verdict_in_a_browser() {
    let Some(browser) = ["chromium", "chromium-browser", "google-chrome"].into_iter().find(|b| common::installed(b))
    else {
        return common::skip(
            "the demo's page in a browser",
            "no chromium is installed (Debian: apt-get install chromium)",
        );
    };
    let child = Command::new(env!("CARGO_BIN_EXE_tonewall"))
        .args(["demo", "--stay"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("tonewall runs");
    let mut child = Ended(child);
    let lines = BufReader::new(child.0.stdout.take().expect("its output")).lines();
    let mut said = String::new();
    let mut page = String::new();
    for line in lines.map_while(Result::ok) {
        said += &line;
        said.push('\n');
        if let Some(found) = line.split_whitespace().find(|word| word.starts_with("http://")) {
            found.clone_into(&mut page);
        }
        if line.contains("Still up") {
            break;
        }
    }
    assert!(said.contains("Nothing leaked"), "{said}");
    let profile = tempfile::tempdir().expect("a directory");
    let began = Instant::now();
    let mut dom = String::new();
    while began.elapsed() < Duration::from_secs(60) {
        let output = Command::new(browser)
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=4000", "--dump-dom"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(&page)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
            .expect("the browser runs");
        dom = String::from_utf8_lossy(&output.stdout).into_owned();
        if dom.contains("Nothing leaked") {
            break;
        }
    }
    for wanted in ["Demonstration", "Nothing leaked", "Collection complete", "What the agent hears", "Mask on"] {
        assert!(dom.contains(wanted), "the page does not show {wanted:?}: {dom}");
    }
    assert!(!dom.contains("424242424242"), "the page shows the card");
    remove(&said);
}

/// Removes the directory that the demo leaves for people to look at.
fn remove(said: &str) {
    let dir = said.lines().find_map(|l| l.trim().strip_prefix("files ")).map(str::trim).expect("its directory");
    assert!(dir.contains("tonewall-demo-"));
    std::fs::remove_dir_all(dir).expect("the directory can be removed");
}
