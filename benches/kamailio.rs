//! What a call's signalling costs a whole process: INVITE–100–180–200–ACK–BYE–200 by SIPp through `tonewall run` and,
//! in turn, through kamailio as a stateful proxy that records the route. The box under test has one core to itself,
//! both SIPps share another; all on loopback. Prints per round and in sum: calls per second and CPU per call, from
//! `/proc`. Then what memory a call takes that is up and says nothing, and what is left of 100,000 calls. Needs Linux
//! with two cores, `sipp`, `kamailio` and `taskset` (Debian: sip-tester, kamailio, util-linux).
//!
//! `cargo bench --bench kamailio [-- rounds [calls]]`
#![allow(clippy::disallowed_methods, clippy::print_stdout)] // A program of its own: it starts processes and waits.

#[path = "../tests/common/mod.rs"]
mod common;

use std::fs::{self, File};
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::free_address;

/// Calls open at once: enough to keep a core busy, few enough that nothing waits for retransmissions.
const OPEN: u32 = 100;
/// Calls per second SIPp tries: more than any box takes, so that the number of open calls sets the pace.
const FLAT_OUT: u32 = 20_000;
/// What SIPp is asked for a load: calls open, calls per second, ms a call lasts.
const LOAD: [u32; 3] = [OPEN, FLAT_OUT, 0];
const BOX_CORE: &str = "0";
const LOAD_CORE: &str = "1";

/// A process that ends with its handle, and its children with it.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        for pid in family(self.0.id()) {
            let _ = Command::new("kill").arg(pid.to_string()).stderr(Stdio::null()).status();
        }
        let until = Instant::now() + Duration::from_secs(5);
        while Instant::now() < until {
            if let Ok(Some(_)) = self.0.try_wait() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The process and all its descendants.
fn family(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut at = 0;
    while at < all.len() {
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", all[at])).unwrap_or_default();
        all.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        at += 1;
    }
    all
}

/// CPU time of a process and its descendants so far, in clock ticks of 10 ms: user and system.
fn ticks(pid: u32) -> u64 {
    let of = |pid: u32| -> Option<u64> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
    };
    family(pid).into_iter().filter_map(of).sum()
}

/// Resident memory of a process and its descendants, in KiB.
fn resident(pid: u32) -> u64 {
    let of = |pid: u32| -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim().trim_end_matches(" kB").trim().parse().ok()
    };
    family(pid).into_iter().filter_map(of).sum()
}

/// Which box, and how it is started.
#[derive(Clone, Copy, PartialEq)]
enum Peer {
    Tonewall,
    Kamailio,
}

impl Peer {
    fn name(self) -> &'static str {
        match self {
            Self::Tonewall => "tonewall",
            Self::Kamailio => "kamailio",
        }
    }

    /// Starts it between `uac` and `uas`; returns it with the address calls go to.
    fn start(self, dir: &Path, uac: SocketAddr, uas: SocketAddr) -> (Process, SocketAddr) {
        let (front, back) = (free_address(), free_address());
        let log = File::create(dir.join(format!("{}.log", self.name()))).expect("a log");
        let mut command = Command::new("taskset");
        command.args(["-c", BOX_CORE]);
        match self {
            Self::Tonewall => {
                let file = dir.join("tonewall.toml");
                fs::write(&file, tonewall_toml(front, back, uac, uas)).expect("the configuration");
                command.args([env!("CARGO_BIN_EXE_tonewall"), "run"]).arg(file);
            }
            Self::Kamailio => {
                let file = dir.join("kamailio.cfg");
                fs::write(&file, kamailio_cfg(front, uas)).expect("the configuration");
                command.args(["kamailio", "-DD", "-E", "-m", "512", "-M", "32", "-f"]).arg(file);
                command.arg("-Y").arg(dir);
            }
        }
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a log")).stderr(log);
        let child = Process(command.spawn().expect("taskset starts"));
        let until = Instant::now() + Duration::from_secs(15);
        while UdpSocket::bind(front).is_ok() {
            assert!(Instant::now() < until, "{} does not start: see {}", self.name(), dir.display());
            std::thread::sleep(Duration::from_millis(50));
        }
        std::thread::sleep(Duration::from_millis(500));
        (child, front)
    }
}

fn tonewall_toml(front: SocketAddr, back: SocketAddr, uac: SocketAddr, uas: SocketAddr) -> String {
    format!(
        r#"
[node]
max_calls = 13000
# Both SIPps are one address here, and send more than a peer may by default.
max_messages_per_s = 200000
max_messages_per_source_s = 200000

[[listener]]
name = "carrier-side"
address = "{front}"

[[listener]]
name = "pbx-side"
address = "{back}"

[media]
address = "127.0.0.2"
ports = [10000, 64999]

[[trunk]]
name = "carrier"
side = "carrier"
listener = "carrier-side"
remotes = ["{uac}"]
media = ["127.0.0.0/8"]
guard = "always"

[[trunk]]
name = "pbx"
side = "pbx"
listener = "pbx-side"
remotes = ["{uas}"]
media = ["127.0.0.0/8"]

[[route]]
from = "carrier"
to = ["pbx"]
"#
    )
}

/// A stateful, record-routing proxy and nothing else: no accounting, no checks it could be without.
fn kamailio_cfg(front: SocketAddr, uas: SocketAddr) -> String {
    format!(
        r#"
debug=0
log_stderror=yes
fork=yes
children=1
auto_aliases=no
dns=no
rev_dns=no
disable_tcp=yes
listen=udp:{front}
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "siputils.so"
loadmodule "textops.so"
request_route {{
    if (!mf_process_maxfwd_header("10")) {{ sl_send_reply("483", "Too Many Hops"); exit; }}
    if (has_totag()) {{
        if (loose_route()) {{ t_relay(); exit; }}
        if (is_method("ACK") && t_check_trans()) {{ t_relay(); }}
        exit;
    }}
    t_check_trans();
    record_route();
    $du = "sip:{uas}";
    if (!t_relay()) {{ sl_reply_error(); }}
    exit;
}}
"#
    )
}

fn sipp(
    dir: &Path,
    scenario: &str,
    at: SocketAddr,
    target: Option<SocketAddr>,
    calls: u32,
    [open, rate, pause_ms]: [u32; 3],
) -> Child {
    let mut command = Command::new("taskset");
    command.args(["-c", LOAD_CORE, "sipp"]);
    if let Some(target) = target {
        command.arg(target.to_string());
        command.args(["-r", &rate.to_string(), "-l", &open.to_string(), "-d", &pause_ms.to_string()]);
    }
    command
        .args(["-sf", &format!("{}/benches/sipp/{scenario}.xml", env!("CARGO_MANIFEST_DIR"))])
        .args([
            "-i",
            "127.0.0.1",
            "-mi",
            "127.0.0.3",
            "-p",
            &at.port().to_string(),
            "-s",
            "5551000",
            "-m",
            &calls.to_string(),
        ])
        .args(["-nostdin", "-skip_rlimit", "-timeout", "120", "-timeout_error", "-buff_size", "4194304"])
        .args(["-trace_err", "-error_file", &format!("{scenario}.errors")])
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(dir.join(format!("{scenario}.err"))).expect("a file"));
    command.spawn().expect("sipp starts")
}

/// What SIPp had to say, for the panic.
fn words(dir: &Path) -> String {
    let read =
        |name: &str| -> String { fs::read_to_string(dir.join(name)).unwrap_or_default().chars().take(1_500).collect() };
    ["uac.errors", "uas.errors", "uac.err", "uas.err"].map(read).join("\n")
}

/// One round's figures.
#[derive(Clone, Copy, Default)]
struct Round {
    calls: u32,
    seconds: f64,
    cpu: f64,
}

impl Round {
    fn rate(&self) -> f64 {
        f64::from(self.calls) / self.seconds
    }

    fn cpu_us(&self) -> f64 {
        self.cpu * 1e6 / f64::from(self.calls)
    }
}

fn round(peer: Peer, calls: u32) -> Round {
    let dir = tempfile::tempdir().expect("a directory");
    let (uac, uas) = (free_address(), free_address());
    let (process, front) = peer.start(dir.path(), uac, uas);
    let warm = calls / 10;
    let mut result = Round::default();
    for (calls, counted) in [(warm, false), (calls, true)] {
        let mut answering = sipp(dir.path(), "uas", uas, None, calls, LOAD);
        std::thread::sleep(Duration::from_millis(300));
        let (before, began) = (ticks(process.0.id()), Instant::now());
        let status = sipp(dir.path(), "uac", uac, Some(front), calls, LOAD).wait().expect("sipp ends");
        let (took, used) = (began.elapsed(), ticks(process.0.id()) - before);
        let answered = answering.wait().expect("sipp ends");
        assert!(status.success() && answered.success(), "{}: calls failed: {}", peer.name(), words(dir.path()));
        if counted {
            result = Round { calls, seconds: took.as_secs_f64(), cpu: used as f64 / 100.0 };
            println!(
                "  {:<9} {calls} calls, {:>7.0} calls/s, {:>6.1} µs CPU a call, {:>4.0} % of its core, {} MiB resident",
                peer.name(),
                result.rate(),
                result.cpu_us(),
                100.0 * result.cpu / result.seconds,
                resident(process.0.id()) / 1024
            );
        }
    }
    result
}

/// Memory of a call that is up and idle, and what 100,000 calls leave behind.
fn memory() {
    const IDLE: u32 = 2_000;
    const STEP: u32 = 20_000;
    // Transactions stay 32 s and are bounded in number: a faster pace for minutes is refused with 503.
    const STEADY: [u32; 3] = [OPEN, 900, 0];
    let dir = tempfile::tempdir().expect("a directory");
    let (uac, uas) = (free_address(), free_address());
    let (process, front) = Peer::Tonewall.start(dir.path(), uac, uas);
    let play = |calls: u32, load: [u32; 3], during: &mut dyn FnMut()| {
        let mut answering = sipp(dir.path(), "uas", uas, None, calls, load);
        std::thread::sleep(Duration::from_millis(300));
        let mut calling = sipp(dir.path(), "uac", uac, Some(front), calls, load);
        during();
        let (called, answered) = (calling.wait().expect("sipp ends"), answering.wait().expect("sipp ends"));
        assert!(called.success() && answered.success(), "calls failed: {}", words(dir.path()));
    };
    // Buffers, tables and the history of events have their size after this.
    play(IDLE, STEADY, &mut || {});
    let quiet = resident(process.0.id());
    let mut up = 0;
    play(IDLE, [IDLE, 500, 15_000], &mut || {
        std::thread::sleep(Duration::from_secs(10));
        up = resident(process.0.id());
    });
    println!(
        "memory: {IDLE} calls up and idle, guarded: {} KiB, {} KiB without; {:.1} KiB a call",
        up,
        quiet,
        (up as f64 - quiet as f64) / f64::from(IDLE)
    );
    let mut line = Vec::new();
    for _ in 0..5 {
        play(STEP, STEADY, &mut || {});
        line.push(format!("{} KiB", resident(process.0.id())));
    }
    println!("memory after each {STEP} of {} calls: {}", 5 * STEP, line.join(", "));
}

/// Both boxes in turn, and their sums.
fn load(rounds: u32, calls: u32) {
    println!("INVITE-100-180-200-ACK-BYE-200, {OPEN} calls open at once, one core for the box, one for both SIPps");
    let mut sums = [Vec::new(), Vec::new()];
    for n in 1..=rounds {
        println!("round {n}");
        for (peer, sum) in [Peer::Tonewall, Peer::Kamailio].into_iter().zip(&mut sums) {
            sum.push(round(peer, calls));
        }
    }
    let total = |rounds: &[Round]| Round {
        calls: rounds.iter().map(|r| r.calls).sum(),
        seconds: rounds.iter().map(|r| r.seconds).sum(),
        cpu: rounds.iter().map(|r| r.cpu).sum(),
    };
    let [ours, theirs] = [total(&sums[0]), total(&sums[1])];
    println!(
        "all rounds: tonewall {:.0} calls/s, {:.1} µs a call; kamailio {:.0} calls/s, {:.1} µs a call; \
         tonewall/kamailio {:.2} in rate, {:.2} in CPU",
        ours.rate(),
        ours.cpu_us(),
        theirs.rate(),
        theirs.cpu_us(),
        ours.rate() / theirs.rate(),
        ours.cpu_us() / theirs.cpu_us()
    );
}

fn main() {
    let numbers: Vec<u32> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let rounds = numbers.first().copied().unwrap_or(3);
    let calls = numbers.get(1).copied().unwrap_or(10_000);
    for tool in ["sipp", "kamailio", "taskset"] {
        let found = Command::new("sh").args(["-c", &format!("command -v {tool}")]).stdout(Stdio::null()).status();
        if !found.is_ok_and(|status| status.success()) {
            println!("SKIPPED: {tool} is not installed (Debian: apt-get install sip-tester kamailio util-linux)");
            return;
        }
    }
    if rounds > 0 {
        load(rounds, calls);
    }
    memory();
}
