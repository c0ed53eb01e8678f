//! What recording a call costs: processor time of a process that relays calls (PCMU, 20 ms, both ways) without recording
//! with sealed files (locked memory, AES-256-GCM, a synced write a second), and with SIPREC (two streams of G.711 to a
//! recorder), and in turn of rtpengine relaying the same calls in user space without recording and with its pcap files. All on loopback, one media thread each, from
//! `/proc/PID/stat`. Prints per kind CPU per call and what recording adds. Needs Linux and, for the peer,
//! `rtpengine-daemon`; without it, only ours are measured, and that is said.
//!
//! `cargo bench --bench recording [-- CALLS SECONDS ROUNDS]`, by default 100, 15 and 3.
#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::print_stderr)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::SeedableRng;
use tonewall::base::Random;
use tonewall::base::ids::{CallId, Leg, RecordingId, SessionId};
use tonewall::call::{ForkId, RecordOrder};
use tonewall::config::{Codec, Network};
use tonewall::media::{AudioFormat, Command as Order, Guard, LegMedia, ReceiveFormats, SendFormats, Tap};
use tonewall::record::keys::{Kek, KeyRing};
use tonewall::record::siprec::sdp::Stream;
use tonewall::rt::forks::Forks;
use tonewall::rt::keys::Keys;
use tonewall::rt::media::{Sockets, Workers, bind_pair};
use tonewall::rt::recorder::{Feed, HELD_BYTES, Meta, QUEUE_BLOCKS, Recorder, Settings};

const CHILD: &str = "TONEWALL_BENCH_CHILD";
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Clock ticks a second in `/proc`.
const TICKS: f64 = 100.0;
const PACKET: Duration = Duration::from_millis(20);
/// Ports tried for our media.
const PORTS: std::ops::Range<u16> = 22_000..30_000;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Relay,
    Sealed,
    Siprec,
    Peer,
    Pcap,
}

impl Kind {
    const ALL: [Kind; 5] = [Kind::Relay, Kind::Sealed, Kind::Siprec, Kind::Peer, Kind::Pcap];

    fn name(self) -> &'static str {
        match self {
            Kind::Relay => "tonewall, relayed",
            Kind::Sealed => "tonewall, sealed files",
            Kind::Siprec => "tonewall, SIPREC",
            Kind::Peer => "rtpengine, relayed",
            Kind::Pcap => "rtpengine, pcap files",
        }
    }
}

fn main() {
    if let Ok(mode) = std::env::var(CHILD) {
        return child(&mode);
    }
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    let number = |at: usize, usual: usize| numbers.get(at).copied().unwrap_or(usual);
    let (calls, seconds, rounds) = (number(0, 100), number(1, 15) as u64, number(2, 3));
    let peer = Command::new("rtpengine").arg("--version").output().is_ok();
    if !peer {
        println!("!!! SKIPPED: rtpengine is not installed (Debian: rtpengine-daemon); only ours are measured");
    }
    println!("{calls} calls, {seconds} s each round, {rounds} rounds; CPU in % of a core per 100 calls");
    let mut sums = [0.0; 5];
    for round in 1..=rounds {
        for (kind, sum) in Kind::ALL.into_iter().zip(&mut sums) {
            if matches!(kind, Kind::Peer | Kind::Pcap) && !peer {
                continue;
            }
            let share = measure(kind, calls, seconds);
            *sum += share / rounds as f64;
            println!("round {round}: {:<24} {share:6.2} %", kind.name());
        }
    }
    let [relay, sealed, siprec, other, pcap] = sums;
    println!(
        "recording adds: sealed {:.2} %, SIPREC {:.2} %, rtpengine's pcap {:.2} % of a core per 100 calls",
        sealed - relay,
        siprec - relay,
        pcap - other
    );
    if peer && pcap > other {
        let added = pcap - other;
        println!("to pcap: sealed {:.2}, SIPREC {:.2}", (sealed - relay) / added, (siprec - relay) / added);
        println!("whole, to rtpengine with pcap: sealed {:.2}, SIPREC {:.2}", sealed / pcap, siprec / pcap);
    }
}

/// CPU in percent of a core per 100 calls.
fn measure(kind: Kind, calls: usize, seconds: u64) -> f64 {
    let directory = tempfile::tempdir().expect("a directory");
    let phones: Vec<[UdpSocket; 2]> =
        (0..calls).map(|_| [0, 1].map(|_| UdpSocket::bind((HERE, 0)).expect("a socket"))).collect();
    let ports = |call: &[UdpSocket; 2]| call.each_ref().map(|socket| socket.local_addr().expect("an address").port());
    let ports: Vec<[u16; 2]> = phones.iter().map(ports).collect();
    let recorder = UdpSocket::bind((HERE, 0)).expect("a socket");
    let heard = Arc::new(AtomicU64::new(0));
    let counted_packets = (kind == Kind::Siprec).then(|| listen(&recorder, heard.clone()));
    let (relay, targets) = match kind {
        Kind::Relay => Relay::ours("relay", directory.path(), &ports),
        Kind::Sealed => Relay::ours("sealed", directory.path(), &ports),
        Kind::Siprec => Relay::ours(&format!("siprec {}", address(&recorder)), directory.path(), &ports),
        Kind::Peer | Kind::Pcap => Relay::peer(kind == Kind::Pcap, directory.path(), &ports),
    };
    let until = Instant::now() + Duration::from_secs(seconds + 2);
    let mut next = Instant::now();
    // The first two seconds are not counted.
    let counted = next + Duration::from_secs(2);
    let (mut before, mut sequence) = (None, 0u16);
    while next < until {
        if before.is_none() && next >= counted {
            before = Some((Instant::now(), cpu(relay.child.id())));
        }
        for ((call, phones), targets) in phones.iter().enumerate().zip(&targets) {
            for (leg, (phone, target)) in phones.iter().zip(targets).enumerate() {
                // A packet that finds no room is lost, as on any line.
                let _ = phone.send_to(&packet(call * 2 + leg, sequence), target);
            }
        }
        sequence = sequence.wrapping_add(1);
        next += PACKET;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    let (began, ticks) = before.expect("longer than two seconds");
    let spent = (cpu(relay.child.id()) - ticks) / began.elapsed().as_secs_f64();
    let recorded = written(directory.path());
    // Half of what was said since: files are written in blocks, and ours wait for the horizon.
    let least = calls as u64 * 50 * 172 * seconds.saturating_sub(12) / 2;
    let records = matches!(kind, Kind::Sealed | Kind::Pcap);
    assert!((recorded > 0) == records && (!records || recorded >= least), "{kind:?} wrote {recorded} bytes");
    relay.end();
    if let Some(listener) = counted_packets {
        listener.join().expect("it counts");
        // Half of both streams of each call: what is under way and what a full socket loses is not counted.
        let packets = heard.load(Ordering::Relaxed);
        assert!(packets >= calls as u64 * 50 * seconds, "{packets} packets reached the recorder");
    }
    100.0 * spent * 100.0 / calls as f64
}

fn address(socket: &UdpSocket) -> SocketAddr {
    socket.local_addr().expect("an address")
}

/// Counts what the recorder gets, until nothing has come for two seconds.
fn listen(recorder: &UdpSocket, heard: Arc<AtomicU64>) -> std::thread::JoinHandle<()> {
    let socket = recorder.try_clone().expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    std::thread::spawn(move || {
        let mut packet = [0; 256];
        while socket.recv(&mut packet).is_ok() {
            if heard.fetch_add(1, Ordering::Relaxed) == 0 {
                socket.set_read_timeout(Some(Duration::from_secs(2))).expect("a timeout");
            }
        }
    })
}

/// Bytes of all files under a directory.
fn written(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(about) if about.is_dir() => written(&entry.path()),
        Ok(about) => about.len(),
        Err(_) => 0,
    };
    entries.map(size).sum()
}

fn packet(source: usize, sequence: u16) -> [u8; 172] {
    let mut bytes = [0x55; 172];
    bytes[..2].copy_from_slice(&[0x80, 0]);
    bytes[2..4].copy_from_slice(&sequence.to_be_bytes());
    bytes[4..8].copy_from_slice(&(u32::from(sequence) * 160).to_be_bytes());
    bytes[8..12].copy_from_slice(&(0x1234_0000 + source as u32).to_be_bytes());
    // Something that is not silence.
    for (n, byte) in bytes[12..].iter_mut().enumerate() {
        *byte = (n as u8).wrapping_mul(31).wrapping_add(sequence as u8);
    }
    bytes
}

/// Seconds of processor time of a process so far.
fn cpu(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process runs");
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok()).expect("a number");
    (ticks(11) + ticks(12)) / TICKS
}

/// The process under test.
struct Relay {
    child: Child,
    input: Option<ChildStdin>,
}

impl Relay {
    fn end(mut self) {
        drop(self.input.take());
        if self.child.stdin.is_none() {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }

    /// Ours: this program again, with the media workers and the recorder.
    fn ours(mode: &str, directory: &Path, ports: &[[u16; 2]]) -> (Self, Vec<[SocketAddr; 2]>) {
        let mut child = Command::new(std::env::current_exe().expect("ourselves"))
            .env(CHILD, mode)
            .env("TONEWALL_BENCH_DIR", directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("ourselves again");
        let mut input = child.stdin.take().expect("its input");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let mut targets = Vec::new();
        for [customer, agent] in ports {
            writeln!(input, "{customer} {agent}").expect("taken");
            let line = lines.next().expect("a line").expect("text");
            targets.push(pair(&line));
        }
        (Self { child, input: Some(input) }, targets)
    }

    /// rtpengine, in user space, told of each call by its control protocol.
    fn peer(pcap: bool, directory: &Path, ports: &[[u16; 2]]) -> (Self, Vec<[SocketAddr; 2]>) {
        let control = UdpSocket::bind((HERE, 0)).expect("a socket");
        let ng = UdpSocket::bind((HERE, 0)).and_then(|socket| socket.local_addr()).expect("a port");
        let mut command = Command::new("rtpengine");
        command.args(["--foreground", "--table=-1", "--interface=127.0.0.1", "--num-threads=1", "--log-level=2"]);
        command.args(["--config-file=none", "--port-min=31000", "--port-max=39000"]);
        command.arg(format!("--listen-ng={ng}"));
        if pcap {
            command.arg(format!("--recording-dir={}", directory.display())).arg("--recording-method=pcap");
        }
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("rtpengine");
        control.set_read_timeout(Some(Duration::from_millis(500))).expect("a timeout");
        let sdp = |port: u16| {
            format!(
                "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\n"
            )
        };
        let ask = |cookie: usize, command: &str, call: usize, to: bool, port: u16| -> u16 {
            let text = |text: &str| format!("{}:{text}", text.len());
            let mut body = String::from("d");
            let mut put = |key: &str, value: &str| body.push_str(&(text(key) + &text(value)));
            put("call-id", &format!("bench-{call}"));
            put("command", command);
            put("from-tag", "a");
            if pcap {
                put("record call", "yes");
            }
            put("sdp", &sdp(port));
            if to {
                put("to-tag", "b");
            }
            body.push('e');
            let question = format!("{cookie} {body}");
            let mut answer = [0u8; 8_192];
            // It may still be starting.
            for _ in 0..40 {
                let _ = control.send_to(question.as_bytes(), ng);
                if let Ok(size) = control.recv(&mut answer) {
                    let said = String::from_utf8_lossy(&answer[..size]).into_owned();
                    let port = said.split("m=audio ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
                    return port.unwrap_or_else(|| panic!("rtpengine: {said}"));
                }
                std::thread::sleep(Duration::from_millis(100));
            }
            panic!("rtpengine does not answer")
        };
        let targets = ports.iter().enumerate().map(|(call, [customer, agent])| {
            let for_agent = ask(call * 2, "offer", call, false, *customer);
            let for_customer = ask(call * 2 + 1, "answer", call, true, *agent);
            [for_customer, for_agent].map(|port| SocketAddr::new(HERE, port))
        });
        let targets = targets.collect();
        (Self { child, input: None }, targets)
    }
}

fn pair(line: &str) -> [SocketAddr; 2] {
    let mut ports = line.split(' ').map(|port| SocketAddr::new(HERE, port.parse().expect("a port")));
    [ports.next().expect("a port"), ports.next().expect("a port")]
}

/// The process under test of ours: relays each call it is told of, until nobody tells it more.
fn child(mode: &str) {
    let root = std::env::var("TONEWALL_BENCH_DIR").expect("a directory");
    let text: String = (5..37).map(|byte| format!("{byte:02x}")).collect();
    let ring = KeyRing::new(Some(Kek::parse("bench", &text).expect("a key")), Vec::new()).expect("a ring");
    let settings = Settings {
        root: root.into(),
        node: "bench".into(),
        keys: Keys::fixed(ring),
        queue_blocks: QUEUE_BLOCKS,
        held_bytes: HELD_BYTES,
        stall: Duration::from_secs(60),
        random: Random::seed_from_u64(1),
    };
    let server: Option<SocketAddr> = mode.strip_prefix("siprec ").map(|text| text.parse().expect("an address"));
    let mut forks = server.map(|_| Forks::start(|_, _| {}).expect("a sender"));
    let door = forks.as_ref().map(Forks::door);
    let recorder = (mode == "sealed").then(|| Recorder::start(settings, |_, _| {}).expect("a recorder"));
    let feeds: std::sync::Arc<std::sync::RwLock<Vec<Feed>>> = std::sync::Arc::default();
    let taken = feeds.clone();
    let workers = Workers::start(
        1,
        |_| {},
        move |session, block| {
            if let Some(door) = &door {
                door.block(ForkId(session.0), block);
            } else if let Some(feed) = taken.read().expect("sound").get(session.0 as usize) {
                feed.block(block);
            }
        },
    );
    let workers = workers.expect("workers");
    let mut random = Random::seed_from_u64(2);
    let mut ports = PORTS.step_by(2);
    let mut free = || ports.find_map(|port| Some((port, bind_pair(HERE, port).ok()?))).expect("a port");
    let (mut input, mut out) = (BufReader::new(std::io::stdin()), std::io::stdout());
    let mut line = String::new();
    for number in 0.. {
        line.clear();
        if input.read_line(&mut line).unwrap_or(0) == 0 {
            break;
        }
        let peers = pair(line.trim());
        let (customer, (rtp_c, rtcp_c)) = free();
        let (agent, (rtp_a, rtcp_a)) = free();
        let session = SessionId(number);
        let here = || vec![Network { address: HERE, prefix: 32 }];
        let create = Order::Create {
            session,
            ports: [customer, agent],
            allowed: [here(), here()],
            toward_agent: Guard::Open,
            toward_customer: Guard::Open,
            inactivity_ms: 0,
            seed: number,
        };
        workers.create(create, Sockets { rtp: [rtp_c, rtp_a], rtcp: [rtcp_c, rtcp_a] }).expect("taken");
        for leg in [Leg::Customer, Leg::Agent] {
            let audio = AudioFormat { payload_type: 0, codec: Codec::Pcmu };
            let media = LegMedia {
                remote_rtp: Some(peers[leg.index()]),
                send: true,
                receive: true,
                rx: ReceiveFormats { audio: [audio].into_iter().collect(), ..ReceiveFormats::default() },
                tx: SendFormats { audio: [audio].into_iter().collect(), ptime_ms: 20, ..Default::default() },
                ..LegMedia::idle()
            };
            workers.order(Order::SetLeg { session, leg, media }).expect("taken");
        }
        if let Some(recorder) = &recorder {
            let mut meta = Meta::new(CallId::draw(&mut random), "carrier", "pbx");
            meta.horizon = Duration::from_secs(12);
            feeds.write().expect("sound").push(recorder.handle().open(RecordingId::draw(&mut random), meta));
            workers.order(Order::SetTap { session, tap: Tap::On }).expect("taken");
        }
        if let (Some(forks), Some(server)) = (&mut forks, server) {
            let fork = ForkId(number);
            let stream =
                Stream { rtp: server, rtcp: server, payload_type: 0, codec: Codec::Pcmu, srtp: None, wanted: true };
            // The pairs were free a moment ago; the sender binds them itself.
            let ports = [free(), free()].map(|(port, pair)| (drop(pair), port).1);
            let (address, streams) = (HERE, Some(Box::new([stream.clone(), stream])));
            let open = RecordOrder::OpenFork { fork, session: Some(session), address, ports, seed: number };
            forks.order(open).expect("taken");
            forks.order(RecordOrder::Flow { fork, streams, hush: false }).expect("taken");
            workers.order(Order::SetTap { session, tap: Tap::On }).expect("taken");
        }
        writeln!(out, "{customer} {agent}").and_then(|()| out.flush()).expect("said");
    }
    // What is left of the input, if anything, says nothing.
    let _ = input.read_to_string(&mut line);
    workers.shutdown();
    feeds.read().expect("sound").iter().for_each(Feed::close);
    if let Some(recorder) = recorder {
        recorder.stop();
    }
    if let Some(forks) = forks {
        forks.stop();
    }
}
