//! A disk of recordings that fills, or turns read-only, at a random instant while a running node writes calls to it: what
//! becomes of the calls under each policy, who is told, which calls are refused until it can be written again, and what
//! was acknowledged. Full is a small tmpfs that somebody else fills. Read-only is an ext4 on a loop device that is aborted
//! as after an I/O error: nothing else turns a disk read-only that files are being written on.
//!
//! `TONEWALL_NODE_DISKS=10` does each so many times. Without root nothing can be mounted, and that is said.
#![allow(clippy::disallowed_methods)] // Tests may wait, and open sockets.

mod common;
#[path = "common/desk.rs"]
mod desk;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{KEK, Plan};
use desk::{Call, Desk};
use rand::{RngExt, SeedableRng};
use tonewall::base::Random;
use tonewall::record::keys::{Kek, KeyRing};
use tonewall::record::place;
use tonewall::record::sealed::{Verdict, verify};
use tonewall::testkit::rtp_peer::voice;
use tonewall::testkit::ua::UserAgent;

/// How long the node may take to see and to tell anything.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    Full,
    ReadOnly,
}

/// Runs a program; whether it ended well.
fn run(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path")
}

/// A small disk of its own.
struct Disk {
    place: tempfile::TempDir,
    fault: Fault,
    broken: bool,
}

impl Disk {
    /// Mounts it; `None`: nothing can be mounted here.
    fn new(fault: Fault) -> Option<Disk> {
        let disk = Disk { place: tempfile::tempdir().expect("a directory"), fault, broken: false };
        fs::create_dir(disk.at()).expect("a directory");
        let mounted = match fault {
            Fault::Full => run("mount", &["-t", "tmpfs", "-o", "size=4m,mode=700", "tonewall", text(&disk.at())]),
            Fault::ReadOnly => {
                let image = fs::File::create(disk.image("first")).expect("a file");
                image.set_len(16 << 20).expect("its size");
                run("mkfs.ext4", &["-q", "-m", "0", text(&disk.image("first"))])
                    && run("mount", &["-o", "loop", text(&disk.image("first")), text(&disk.at())])
            }
        };
        mounted.then_some(disk)
    }

    fn at(&self) -> PathBuf {
        self.place.path().join("disk")
    }

    fn image(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// From now on nothing can be written.
    fn give_out(&mut self) {
        self.broken = true;
        match self.fault {
            Fault::Full => {
                let filler = fs::File::create(self.at().join("filler")).expect("a file");
                // To the last byte, as far as others leave any.
                let mut block = 1 << 20;
                while block > 0 {
                    if std::io::Write::write_all(&mut &filler, &vec![0x55; block]).is_err() {
                        block /= 2;
                    }
                }
            }
            Fault::ReadOnly => assert!(run("mount", &["-o", "remount,abort", text(&self.at())]), "aborted"),
        }
    }

    /// It can be written again: somebody made room, or mounted it anew after a check, as an operator does.
    fn come_back(&mut self) {
        self.broken = false;
        match self.fault {
            Fault::Full => fs::remove_file(self.at().join("filler")).expect("removed"),
            Fault::ReadOnly => {
                fs::copy(self.image("first"), self.image("second")).expect("a copy");
                assert!(run("umount", &["-l", text(&self.at())]), "taken off");
                // 1: mended.
                let checked = Command::new("e2fsck").args(["-p", text(&self.image("second"))]).output();
                assert!(matches!(checked.expect("e2fsck").status.code(), Some(0 | 1)));
                assert!(run("mount", &["-o", "loop", text(&self.image("second")), text(&self.at())]), "mounted");
            }
        }
    }

    /// Chunks that open, in all recordings.
    fn chunks(&self) -> u64 {
        let kek = Kek::parse("test", KEK).expect("a key");
        let ring = KeyRing::new(Some(kek), Vec::new()).expect("a ring");
        let mut chunks = 0;
        let days = fs::read_dir(self.at().join("recordings")).expect("the recordings");
        let days = days.map(|day| day.expect("an entry").path()).filter(|day| day.is_dir());
        for file in days.flat_map(|day| fs::read_dir(day).expect("a day")) {
            let file = file.expect("an entry").path();
            let Some(recording) = place::recording_of(&file) else { continue };
            let seal = fs::read(place::seal_file(&file)).ok();
            let input = fs::File::open(&file).expect("the file");
            let report = verify(input, seal.as_deref(), Some(recording), &ring, &mut |_| Ok(()));
            let report = report.unwrap_or_else(|fault| panic!("{}: {fault:?}", file.display()));
            chunks += match report.verdict {
                Verdict::Intact => report.chunks,
                Verdict::Interrupted { good_chunks, .. } => good_chunks,
                Verdict::Tampered { at, why } => panic!("{}: {at:?}: {why:?}", file.display()),
            };
        }
        chunks
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Whoever still writes there lets go of it when it ends.
        run("umount", &["-l", text(&self.at())]);
    }
}

/// Waits until a metric of the node has a value.
async fn metric(desk: &Desk, name: &str, value: u64) {
    let deadline = Instant::now() + PATIENCE;
    let want = format!("{name} {value}");
    loop {
        let metrics = tokio::task::block_in_place(|| desk.node.metrics());
        if metrics.lines().any(|line| line == want) {
            return;
        }
        let is: Vec<&str> = metrics.lines().filter(|line| line.starts_with(name)).collect();
        assert!(Instant::now() < deadline, "{want}, but {is:?}: {}", desk.node.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn alarm(kind: &str) -> String {
    format!("tonewall_alarms{{kind=\"{kind}\"}}")
}

/// A call on which both speak.
async fn call(desk: &mut Desk, seed: u64) -> Call {
    let call = desk.call().await;
    call.caller.with(|phone, _| phone.rtp.speak(voice(seed, -20.0)));
    call.agent.with(|phone, _| phone.rtp.speak(voice(seed + 1, -20.0)));
    call
}

/// On each of these calls each side goes on hearing the other: half a second of packets comes.
async fn talk(calls: &[&Call], why: &str) {
    let phones = || calls.iter().flat_map(|call| [&call.caller, &call.agent]);
    let heard =
        || -> Vec<usize> { phones().map(|phone| phone.with(|phone, _| phone.rtp.heard.packets().len())).collect() };
    let before = heard();
    let deadline = Instant::now() + PATIENCE;
    while heard().iter().zip(&before).any(|(now, before)| *now < before + 25) {
        assert!(Instant::now() < deadline, "{why}: {before:?} packets, {:?} later", heard());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(phones().all(|phone| phone.with(|phone, _| phone.is_up())), "{why}");
}

async fn gives_out(fault: Fault, recording: &'static str, seed: u64) {
    let rounds: u64 = std::env::var("TONEWALL_NODE_DISKS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let mut kept = 0;
    for round in 0..rounds {
        match tokio::task::block_in_place(|| Disk::new(fault)) {
            Some(disk) => kept += once(disk, recording, &mut Random::seed_from_u64(seed + round)).await,
            None => {
                let why = "nothing can be mounted here (root, a loop device and e2fsprogs are needed): disks that fill or \
                           turn read-only under a running node are not tested";
                return common::skip("disks", why);
            }
        }
    }
    assert!(kept > rounds, "the disk gave out before anything was written");
    common::say(&format!("{fault:?} under {recording}: {rounds} disks, {kept} acknowledged chunks, 0 lost"));
}

/// One disk that gives out under two calls and comes back. Gives the chunks that were acknowledged before.
async fn once(mut disk: Disk, recording: &'static str, random: &mut Random) -> u64 {
    let at = disk.at().join("recordings");
    let trunks = ["redaction_horizon_s = 0".to_owned(), String::new()];
    let mut desk = Desk::open(Plan { recording, recordings: Some(at), trunks, ..Plan::new() }).await;
    let calls = [call(&mut desk, 11).await, call(&mut desk, 21).await];
    metric(&desk, "tonewall_recorder_writable", 1).await;
    tokio::time::sleep(Duration::from_millis(random.random_range(0..1_500))).await;
    let acknowledged = desk.node.counter("tonewall_recorder_chunks_total");
    tokio::task::block_in_place(|| disk.give_out());

    metric(&desk, "tonewall_recorder_writable", 0).await;
    metric(&desk, &alarm("disk-unwritable"), 1).await;
    metric(&desk, &alarm("recorder-failed"), 1).await;
    let more = if recording == "required" {
        for call in &calls {
            let over = |phone: &UserAgent| phone.is_ended();
            assert!(call.caller.until(PATIENCE, over).await && call.agent.until(PATIENCE, over).await);
        }
        assert!(desk.node.log().contains("recorder-failed"), "{}", desk.node.log());
        // Up front: nobody's telephone rings, and the call is none of those that ended.
        for _ in 0..3 {
            assert_eq!(desk.refused().await, Some(503));
        }
        let calls = desk.ask("GET", "/v1/calls", None);
        assert_eq!(calls["calls"].as_array().map(Vec::len), Some(0), "{calls}");
        assert_eq!(desk.node.log().matches("\"call-started\"").count(), 2, "{}", desk.node.log());
        None
    } else {
        let more = call(&mut desk, 31).await;
        talk(&[&calls[0], &calls[1], &more], "calls that were recorded go on, and a new one is taken").await;
        Some(more)
    };

    // What was acknowledged is there although the disk gave out.
    let opened = if disk.fault == Fault::Full {
        let opened = disk.chunks();
        disk.come_back();
        opened
    } else {
        tokio::task::block_in_place(|| disk.come_back());
        disk.chunks()
    };
    assert!(opened >= acknowledged, "{acknowledged} chunks were acknowledged, {opened} open");
    // Nobody's call is needed to find out that it can be written again.
    metric(&desk, "tonewall_recorder_writable", 1).await;
    metric(&desk, &alarm("disk-unwritable"), 0).await;
    if more.is_none() {
        let again = call(&mut desk, 41).await;
        talk(&[&again], "calls that must be recorded are taken again").await;
        again.caller.with(UserAgent::hang_up);
        // It was recorded to its end.
        metric(&desk, &alarm("recorder-failed"), 0).await;
    }
    acknowledged
}

/// A disk that gives out under a node without a call.
async fn gives_out_idle(fault: Fault) {
    let Some(mut disk) = tokio::task::block_in_place(|| Disk::new(fault)) else {
        return common::skip(
            "disks",
            "nothing can be mounted here (root is needed): an idle node's disk is not tested",
        );
    };
    let at = disk.at().join("recordings");
    let mut desk = Desk::open(Plan { recording: "required", recordings: Some(at), ..Plan::new() }).await;
    tokio::task::block_in_place(|| disk.give_out());
    metric(&desk, "tonewall_recorder_writable", 0).await;
    assert_eq!(desk.refused().await, Some(503));
    assert!(!desk.node.log().contains("call-started"), "{}", desk.node.log());
    tokio::task::block_in_place(|| disk.come_back());
    metric(&desk, "tonewall_recorder_writable", 1).await;
    let call = desk.call().await;
    talk(&[&call], "taken again").await;
}

/// All at once: each is mostly waiting.
#[tokio::test(flavor = "multi_thread", worker_threads = 12)]
async fn a_disk_that_gives_out_costs_no_best_effort_call_and_required_ones_are_refused_until_it_is_back() {
    use Fault::{Full, ReadOnly};
    let scenarios = [
        ("full, required", tokio::spawn(gives_out(Full, "required", 100))),
        ("full, best effort", tokio::spawn(gives_out(Full, "best-effort", 200))),
        ("read-only, required", tokio::spawn(gives_out(ReadOnly, "required", 300))),
        ("read-only, best effort", tokio::spawn(gives_out(ReadOnly, "best-effort", 400))),
        ("found full while nobody calls", tokio::spawn(gives_out_idle(Full))),
        ("found read-only while nobody calls", tokio::spawn(gives_out_idle(ReadOnly))),
    ];
    let mut failed = Vec::new();
    for (name, scenario) in scenarios {
        if scenario.await.is_err() {
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "failed, as told above: {failed:?}");
}
