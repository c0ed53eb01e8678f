//! SIPp as a process that plays a scenario: a file of that name in its directory, or else one of `tests/sipp`.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);

/// One SIPp process.
pub struct Sipp {
    child: Child,
    name: String,
    dir: PathBuf,
}

impl Sipp {
    pub fn start(dir: &Path, scenario: &str, at: SocketAddr, target: Option<SocketAddr>, more: &[&str]) -> Sipp {
        let name = scenario.to_owned();
        let file = |suffix: &str| dir.join(format!("{scenario}.{suffix}"));
        let mut command = Command::new("sipp");
        if let Some(target) = target {
            command.arg(target.to_string());
        }
        let out = File::create(file("out")).expect("an output file");
        let written = file("xml");
        let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/sipp/{scenario}.xml"));
        command
            .arg("-sf")
            .arg(if written.is_file() { written } else { shared })
            .args(["-i", &at.ip().to_string(), "-p", &at.port().to_string(), "-s", "5551000"])
            .args(["-nostdin", "-skip_rlimit", "-trace_err", "-error_file"])
            .arg(file("errors"))
            .args(["-trace_stat", "-fd", "1", "-stf"])
            .arg(file("csv"))
            .args(["-timeout", "50", "-timeout_error", "-trace_msg", "-message_file"])
            .arg(file("messages"))
            .args(more)
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(out.try_clone().expect("an output file"))
            .stderr(out);
        Sipp { child: command.spawn().expect("sipp starts"), name, dir: dir.to_owned() }
    }

    /// Waits for its end; panics with its own words unless every call went as the scenario says.
    pub fn succeeds(mut self) {
        let until = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.child.try_wait().expect("its state") {
                assert!(status.success(), "SIPp {} ended with {status}:\n{}", self.name, self.words());
                return;
            }
            assert!(Instant::now() < until, "SIPp {} does not end:\n{}", self.name, self.words());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn words(&self) -> String {
        let read = |suffix| std::fs::read_to_string(self.dir.join(format!("{}.{suffix}", self.name)));
        let errors: String = read("errors").unwrap_or_default().chars().take(4_000).collect();
        // Where it gave up without a word, the last messages say more.
        let messages = read("messages").unwrap_or_default();
        let from = messages.len().saturating_sub(6_000);
        let last = messages.get((from..messages.len()).find(|at| messages.is_char_boundary(*at)).unwrap_or(0)..);
        format!("{errors}\n{}", last.unwrap_or_default())
    }

    /// A cumulative figure of its last statistics line.
    pub fn figure(dir: &Path, scenario: &str, column: &str) -> String {
        let text = std::fs::read_to_string(dir.join(format!("{scenario}.csv"))).unwrap_or_default();
        let mut lines = text.lines();
        let heads: Vec<&str> = lines.next().unwrap_or_default().split(';').collect();
        let last: Vec<&str> = lines.last().unwrap_or_default().split(';').collect();
        let at = heads.iter().position(|h| *h == column);
        at.and_then(|at| last.get(at)).map_or_else(|| format!("no {column}"), |v| (*v).to_owned())
    }
}

impl Drop for Sipp {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("SIPp {}'s last words:\n{}", self.name, self.words());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
