//! What tests with real sockets share: a `tonewall run` process on loopback with a written configuration, free ports,
//! and the printing of skips. Every process is ended by whoever started it.
#![allow(dead_code, clippy::disallowed_methods)] // Each test binary uses its part; tests may wait and open sockets.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Prints past the test harness's capture, so that it is seen without `--nocapture`.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Says loudly why a test does nothing. CI reads these lines.
pub fn skip(test: &str, why: &str) {
    say(&format!("SKIPPED {test}: {why}"));
}

/// Whether a program is installed.
pub fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// Keeps a port from being given out again; `false`: it was given out before.
pub fn take_port(port: u16) -> bool {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    GIVEN.lock().unwrap_or_else(PoisonError::into_inner).insert(port)
}

/// Of `all` ports those of this process: its lane's, where `tests/run` runs several programs at once. What is found free and
/// bound a moment later by another process must not be another test's.
fn of_our_lane(all: Range<u16>) -> Range<u16> {
    let lane = std::env::var("TONEWALL_TEST_LANE").ok();
    let lane = lane.as_deref().and_then(|lane| lane.split_once('/'));
    let (lane, lanes) = match lane.map(|(lane, lanes)| (lane.parse(), lanes.parse())) {
        Some((Ok(lane), Ok(lanes))) if lane < lanes => (lane, lanes),
        _ => (0, 1),
    };
    let share = (all.end - all.start) / lanes;
    all.start + lane * share..all.start + (lane + 1) * share
}

/// A loopback port that is free for UDP and TCP now, and was not given out before; below those that the kernel gives away,
/// so that it still is when a process binds it.
pub fn free_port() -> u16 {
    static NEXT: LazyLock<Mutex<u32>> = LazyLock::new(|| Mutex::new(std::process::id() * 97));
    let ours = of_our_lane(4_000..12_000);
    let count = u32::from(ours.end - ours.start);
    for _ in 0..count {
        let next = {
            let mut next = NEXT.lock().unwrap_or_else(PoisonError::into_inner);
            *next = next.wrapping_add(1);
            *next % count
        };
        let port = ours.start + u16::try_from(next).expect("a port");
        let free = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
            && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        if free && take_port(port) {
            return port;
        }
    }
    panic!("no port is free for both UDP and TCP");
}

/// A loopback address with a free port.
pub fn free_address() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()))
}

/// A media port range of its own for each site of a test binary, below the ports the kernel gives away. Binaries begin at
/// different places, so that two that run at once seldom meet; who has been round begins again, long after the site that
/// had those ports is gone.
pub fn media_ports(size: u16) -> (u16, u16) {
    let ports = of_our_lane(12_000..32_000);
    static NEXT: Mutex<Option<u16>> = Mutex::new(None);
    let mut next = NEXT.lock().unwrap_or_else(PoisonError::into_inner);
    let next = next.get_or_insert(ports.start + (std::process::id() % 25) as u16 * ((ports.end - ports.start) / 42));
    for _ in 0..2 * usize::from(ports.end - ports.start) / usize::from(size) {
        if ports.end - *next < size {
            *next = ports.start;
        }
        let first = *next;
        *next += size;
        let free = |port| UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        if (first..first + size).all(free) {
            return (first, first + size - 1);
        }
    }
    panic!("no {size} media ports in a row are free");
}

/// What a configuration is written from.
#[derive(Clone)]
pub struct Plan {
    pub transport: &'static str,
    /// The PBX side's, where it differs.
    pub pbx_transport: Option<&'static str>,
    /// Further lines of the carrier's and the PBX's listener.
    pub listeners: [String; 2],
    /// Files written beside the configuration, by name.
    pub files: Vec<(&'static str, String)>,
    pub carrier: SocketAddr,
    /// Where the carrier's media may be; its own address when empty.
    pub carrier_media: &'static str,
    pub pbx: SocketAddr,
    /// Where the PBX's media may be; its own address when empty.
    pub pbx_media: &'static str,
    /// Further targets of the PBX trunk, tried after `pbx`.
    pub more_pbx: Vec<SocketAddr>,
    pub guard: &'static str,
    pub mask: &'static str,
    pub recording: &'static str,
    pub prefix: &'static str,
    pub ports: u16,
    pub control: bool,
    /// Lines of the `[node]` section.
    pub node: &'static str,
    /// Further sections.
    pub more: String,
    /// Further lines of the route from the carrier.
    pub route: &'static str,
    /// Further lines of `[control]`.
    pub control_lines: String,
    /// Further lines of the carrier's and the PBX's trunk.
    pub trunks: [String; 2],
    /// A second PBX, where numbers that begin with 5552 go.
    pub second_pbx: Option<SocketAddr>,
    /// The node's own SIP addresses toward carrier and PBX; free ones when `None`.
    pub sides: Option<[SocketAddr; 2]>,
    /// The most files the process may have open.
    pub open_files: Option<u32>,
    /// Where recordings go, if not beside the configuration.
    pub recordings: Option<PathBuf>,
}

impl Plan {
    pub fn new() -> Self {
        Self {
            transport: "udp",
            pbx_transport: None,
            listeners: [String::new(), String::new()],
            files: Vec::new(),
            carrier: free_address(),
            carrier_media: "",
            pbx: free_address(),
            pbx_media: "",
            more_pbx: Vec::new(),
            guard: "off",
            mask: "silence",
            recording: "off",
            prefix: "",
            ports: 80,
            control: false,
            node: "",
            more: String::new(),
            route: "",
            control_lines: String::new(),
            trunks: [String::new(), String::new()],
            second_pbx: None,
            sides: None,
            open_files: None,
            recordings: None,
        }
    }
}

/// The API key texts of a [`Running`] node with control, by role.
pub const API_KEYS: [(&str, &str, &str); 2] =
    [("crm", "integration", "test-key-of-the-crm"), ("boss", "admin", "test-key-of-the-boss")];

/// The key-encryption key of test nodes.
pub const KEK: &str = "1f0e2d3c4b5a69788796a5b4c3d2e1f0a1b2c3d4e5f60718293a4b5c6d7e8f90";

/// A `tonewall run` process.
pub struct Running {
    child: Child,
    pub dir: tempfile::TempDir,
    pub config: PathBuf,
    pub carrier_side: SocketAddr,
    pub pbx_side: SocketAddr,
    pub control: Option<SocketAddr>,
    transport: &'static str,
}

impl Running {
    /// Writes the configuration, starts the node and waits until it answers OPTIONS on its carrier side.
    pub fn start(plan: &Plan) -> Running {
        Self::start_saying(plan, None)
    }

    /// The same, its standard error somewhere else than in [`Running::log`].
    #[allow(dead_code)]
    pub fn start_saying(plan: &Plan, errors: Option<Stdio>) -> Running {
        let dir = tempfile::tempdir().expect("a directory");
        let [carrier_side, pbx_side] = plan.sides.unwrap_or_else(|| [free_address(), free_address()]);
        let control = plan.control.then(free_address);
        let config = dir.path().join("tonewall.toml");
        std::fs::write(&config, text(plan, dir.path(), carrier_side, pbx_side, control)).expect("the configuration");
        std::fs::write(dir.path().join("kek.hex"), KEK).expect("the key file");
        restrict(&dir.path().join("kek.hex"));
        for (name, text) in &plan.files {
            std::fs::write(dir.path().join(name), text).expect("a file");
            restrict(&dir.path().join(name));
        }
        let child = spawn(&config, plan.open_files, errors);
        let transport = plan.transport;
        let mut running = Running { child, dir, config, carrier_side, pbx_side, control, transport };
        running.wait_until_it_answers(transport);
        running
    }

    /// Ends it at once, as `kill -9` does, and starts it again with the same files.
    #[allow(dead_code)]
    pub fn restart(&mut self) {
        self.kill();
        self.child = spawn(&self.config, None, None);
        self.wait_until_it_answers(self.transport);
    }

    fn wait_until_it_answers(&mut self, transport: &str) {
        let until = Instant::now() + Duration::from_secs(20);
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().expect("its state") {
                panic!("tonewall run ended with {status}: {}", self.log());
            }
            let up = match transport {
                "tcp" | "tls" => std::net::TcpStream::connect(self.carrier_side).is_ok(),
                _ => answers_options(self.carrier_side),
            };
            if up {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("tonewall run does not answer: {}", self.log());
    }

    /// Everything it has printed so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// What it counts, as its API tells an administrator.
    pub fn metrics(&self) -> String {
        let at = self.control.expect("a node with control");
        let mut stream = std::net::TcpStream::connect(at).expect("its API");
        let (_, _, key) = API_KEYS[1];
        let request =
            format!("GET /metrics HTTP/1.1\r\nHost: {at}\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("asked");
        let mut text = String::new();
        std::io::Read::read_to_string(&mut stream, &mut text).expect("an answer");
        text
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its resident memory, in bytes.
    pub fn memory(&self) -> u64 {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.pid())).expect("statm");
        let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("pages");
        pages * 4_096
    }

    /// A counter of its metrics.
    pub fn counter(&self, name: &str) -> u64 {
        let metrics = self.metrics();
        let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.and_then(|value| value.trim().parse().ok()).unwrap_or_else(|| panic!("no {name} in {metrics}"))
    }

    /// How it ended by itself; `None` when it has not within `wait`.
    pub fn ended(&mut self, wait: Duration) -> Option<std::process::ExitStatus> {
        let until = Instant::now() + wait;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().expect("its state") {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    }

    /// Ends it at once, as `kill -9` does.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(20).collect();
            eprintln!("the node's last words:\n{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
        self.kill();
    }
}

/// A `tonewall run` process whose output goes to the file `log` beside its configuration.
fn spawn(config: &Path, open_files: Option<u32>, errors: Option<Stdio>) -> Child {
    let log = config.with_file_name("log");
    let log = File::options().create(true).append(true).open(log).expect("the log");
    let program = env!("CARGO_BIN_EXE_tonewall");
    let mut command = match open_files {
        None => Command::new(program),
        Some(most) => {
            let mut shell = Command::new("sh");
            shell.args(["-c", &format!("ulimit -n {most} && exec \"$0\" \"$@\""), program]);
            shell
        }
    };
    command
        .arg("run")
        .arg(config)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("the log"))
        .stderr(errors.unwrap_or_else(|| log.into()))
        .spawn()
        .expect("tonewall starts")
}

#[cfg(unix)]
pub fn restrict(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("permissions");
}

fn second_pbx(at: SocketAddr, listener: SocketAddr) -> String {
    format!(
        r#"[[listener]]
name = "second-side"
address = "{listener}"

[[trunk]]
name = "second"
side = "pbx"
listener = "second-side"
remotes = ["{at}"]

[[route]]
from = "carrier"
prefix = "5552"
to = ["second"]
"#
    )
}

fn text(plan: &Plan, dir: &Path, carrier: SocketAddr, pbx: SocketAddr, control: Option<SocketAddr>) -> String {
    let Plan { transport, guard, mask, recording, prefix, .. } = plan;
    let second = plan.second_pbx.map_or_else(String::new, |at| second_pbx(at, free_address()));
    let (first, last) = media_ports(plan.ports);
    let pbx_transport = plan.pbx_transport.unwrap_or(transport);
    let [carrier_listener, pbx_listener] = &plan.listeners;
    // The exact address, of either family: what peers on this machine need.
    let carrier_net = format!("{}/{}", plan.carrier.ip(), if plan.carrier.is_ipv4() { 32 } else { 128 });
    let carrier_media = if plan.carrier_media.is_empty() { &carrier_net } else { plan.carrier_media };
    let pbx_media = if plan.pbx_media.is_empty() { "127.0.0.1/32" } else { plan.pbx_media };
    let (node, route) = (plan.node, plan.route);
    let pbx_remotes: Vec<String> = [plan.pbx].iter().chain(&plan.more_pbx).map(|at| format!("\"{at}\"")).collect();
    let mut text = format!(
        r#"[node]
{node}

[[listener]]
name = "carrier-side"
transport = "{transport}"
address = "{carrier}"
{carrier_listener}

[[listener]]
name = "pbx-side"
transport = "{pbx_transport}"
address = "{pbx}"
{pbx_listener}

[media]
address = "127.0.0.1"
ports = [{first}, {last}]
workers = 1

[[trunk]]
name = "carrier"
side = "carrier"
listener = "carrier-side"
remotes = ["{}"]
sources = ["{carrier_net}"]
media = ["{carrier_media}"]
guard = "{guard}"
mask = "{mask}"
recording = "{recording}"
{}

[[trunk]]
name = "pbx"
side = "pbx"
listener = "pbx-side"
remotes = [{}]
sources = ["127.0.0.1/32"]
media = ["{pbx_media}"]
{}

{second}
[[route]]
from = "carrier"
prefix = "{prefix}"
to = ["pbx"]
{route}

[[route]]
from = "pbx"
to = ["carrier"]

[storage]
recordings = "{}"
payments = "{}"

[keys.current]
id = "test"
file = "{}"
"#,
        plan.carrier,
        plan.trunks[0],
        pbx_remotes.join(", "),
        plan.trunks[1],
        plan.recordings.clone().unwrap_or_else(|| dir.join("recordings")).display(),
        dir.join("payments.db").display(),
        dir.join("kek.hex").display()
    );
    text += &plan.more;
    if let Some(address) = control {
        text += &format!("\n[control]\naddress = \"{address}\"\n{}\n", plan.control_lines);
        for (name, role, key) in API_KEYS {
            std::fs::write(dir.join(format!("{name}.key")), key).expect("the API key file");
            restrict(&dir.join(format!("{name}.key")));
            text += &format!("\n[[control.key]]\nname = \"{name}\"\nrole = \"{role}\"\nkey_file = \"{name}.key\"\n");
        }
    }
    text
}

/// Whether whoever is at `target` answers a SIP OPTIONS request with 200.
pub fn answers_options(target: SocketAddr) -> bool {
    let own = if target.is_ipv4() { IpAddr::from(Ipv4Addr::LOCALHOST) } else { IpAddr::from(Ipv6Addr::LOCALHOST) };
    let socket = UdpSocket::bind((own, 0)).expect("a UDP socket");
    socket.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
    let from = socket.local_addr().expect("its address");
    let request = format!(
        "OPTIONS sip:{target} SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bKprobe{port};rport\r\n\
         From: <sip:probe@{from}>;tag=p\r\nTo: <sip:{target}>\r\nCall-ID: probe{port}@{from}\r\n\
         CSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n",
        port = from.port()
    );
    let mut buffer = [0; 4_096];
    // Connected, so that a port that nobody has opened yet is told at once.
    socket.connect(target).is_ok()
        && socket.send(request.as_bytes()).is_ok()
        && socket.recv(&mut buffer).is_ok_and(|length| buffer[..length].starts_with(b"SIP/2.0 200"))
}
