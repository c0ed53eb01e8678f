//! A recording's whole way: RTP through the media worker, masked blocks into the recorder, sealed files on disk, and the
//! `tonewall recordings` command as people run it, on whole and on damaged files.
#![allow(clippy::disallowed_methods)]

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use rand::SeedableRng;
use tonewall::base::Random;
use tonewall::base::ids::{CallId, Leg, RecordingId, SessionId};
use tonewall::config::{Codec, Network};
use tonewall::dsp::g711::{ulaw_decode, ulaw_encode};
use tonewall::guard::Masked;
use tonewall::media::{
    AudioFormat, Command as Order, Egress, Event, Guard, LegMedia, MaskedBlock, ReceiveFormats, SendFormats, Tap,
    Worker,
};
use tonewall::record::keys::{Kek, KeyRing};
use tonewall::rt::keys::Keys;
use tonewall::rt::recorder::{Feed, HELD_BYTES, Meta, QUEUE_BLOCKS, Recorder, Settings};
use tonewall::testkit::speech::Talker;

const KEY: &str = "6b1f0d2c3e4a5968778695a4b3c2d1e0f0e1d2c3b4a5968778695a4b3c2d1e0f";
const SESSION: SessionId = SessionId(7);
const PACKET: usize = 160;

/// Blocks go to the recorder, packets nowhere.
struct ToRecorder(Feed);

impl Egress for ToRecorder {
    fn rtp(&mut self, _: SessionId, _: Leg, _: SocketAddr, _: Masked<&[u8]>) {}
    fn rtcp(&mut self, _: SessionId, _: Leg, _: SocketAddr, _: Masked<&[u8]>) {}
    fn event(&mut self, _: Event) {}
    fn block(&mut self, _: SessionId, block: MaskedBlock) {
        self.0.block(block);
    }
}

fn peer(leg: Leg) -> SocketAddr {
    ["192.0.2.1:4000", "198.51.100.1:5000"][leg.index()].parse().expect("an address")
}

fn leg_media(leg: Leg) -> LegMedia {
    let audio = AudioFormat { payload_type: 0, codec: Codec::Pcmu };
    LegMedia {
        remote_rtp: Some(peer(leg)),
        remote_rtcp: None,
        send: true,
        receive: true,
        rx: ReceiveFormats { audio: [audio].into_iter().collect(), ..ReceiveFormats::default() },
        tx: SendFormats { audio: [audio].into_iter().collect(), ptime_ms: 20, ..Default::default() },
        ..LegMedia::idle()
    }
}

fn rtp(leg: Leg, number: u16, payload: &[u8]) -> Vec<u8> {
    let timestamp = u32::from(number) * PACKET as u32;
    let ssrc = 0x1111_0000 + leg.index() as u32;
    let mut packet = vec![0x80, 0];
    packet.extend_from_slice(&number.to_be_bytes());
    packet.extend_from_slice(&timestamp.to_be_bytes());
    packet.extend_from_slice(&ssrc.to_be_bytes());
    packet.extend_from_slice(payload);
    packet
}

struct Site {
    root: tempfile::TempDir,
    config: PathBuf,
}

impl Site {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a directory");
        write_private(&root.path().join("kek"), KEY);
        let recordings = root.path().join("recordings");
        let example =
            fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/config/small.toml")).expect("the example");
        let text = format!(
            "{example}\n[storage]\nrecordings = {recordings:?}\n[keys.current]\nid = \"test-2026\"\nfile = {:?}\n",
            root.path().join("kek")
        );
        let config = root.path().join("tonewall.toml");
        fs::write(&config, text).expect("the configuration");
        Self { root, config }
    }

    fn recordings(&self) -> PathBuf {
        self.root.path().join("recordings")
    }

    fn recorder(&self) -> Recorder {
        let kek = Kek::parse("test-2026", KEY).expect("a key");
        let keys = Keys::fixed(KeyRing::new(Some(kek), Vec::new()).expect("a ring"));
        let random = Random::seed_from_u64(21);
        let settings = Settings {
            root: self.recordings(),
            node: "node-1".into(),
            keys,
            queue_blocks: QUEUE_BLOCKS,
            held_bytes: HELD_BYTES,
            stall: Duration::from_secs(10),
            random,
        };
        Recorder::start(settings, |_, _| {}).expect("started")
    }

    fn tonewall(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tonewall"));
        command.arg("recordings").arg("--config").arg(&self.config).args(arguments);
        command.output().expect("the program runs")
    }

    fn file(&self, recording: RecordingId) -> PathBuf {
        let days = fs::read_dir(self.recordings()).expect("the recordings");
        let files = days.map(|day| day.expect("a day").path().join(format!("{recording}.sealed")));
        files.into_iter().find(|file| file.exists()).expect("its file")
    }
}

fn write_private(path: &Path, text: &str) {
    use std::io::Write;
    let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o400).open(path);
    file.expect("a file").write_all(text.as_bytes()).expect("written");
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Records `seconds` of two people talking through the media worker, paused from second 2 to 3. Gives the recording and
/// what each said as the line carries it.
fn record(recorder: &Recorder, seed: u64, seconds: usize) -> (RecordingId, [Vec<i16>; 2]) {
    let mut random = Random::seed_from_u64(seed);
    let recording = RecordingId::draw(&mut random);
    let mut meta = Meta::new(CallId::draw(&mut random), "carrier", "pbx");
    meta.horizon = Duration::from_secs(2);
    let mut out = ToRecorder(recorder.handle().open(recording, meta));
    let mut worker = Worker::new();
    let began = Instant::now();
    let everywhere = || vec![Network { address: "0.0.0.0".parse().expect("an address"), prefix: 0 }];
    let create = Order::Create {
        session: SESSION,
        ports: [20_000, 20_002],
        allowed: [everywhere(), everywhere()],
        toward_agent: Guard::Open,
        toward_customer: Guard::Open,
        inactivity_ms: 60_000,
        seed,
    };
    worker.handle_command(began, create, &mut out);
    for leg in [Leg::Customer, Leg::Agent] {
        worker.handle_command(began, Order::SetLeg { session: SESSION, leg, media: leg_media(leg) }, &mut out);
    }
    worker.handle_command(began, Order::SetTap { session: SESSION, tap: Tap::On }, &mut out);
    let mut talkers = [Talker::new(seed, -20.0), Talker::new(seed + 1, -20.0)];
    let said = talkers.each_mut().map(|talker| {
        let line: Vec<i16> = talker.say(seconds * 8_000).into_iter().take(seconds * 8_000).collect();
        line.iter().map(|sample| ulaw_decode(ulaw_encode(*sample))).collect::<Vec<i16>>()
    });
    for ms in 0..seconds as u64 * 1_000 {
        let now = began + Duration::from_millis(ms);
        if ms == 2_000 || ms == 3_000 {
            let tap = if ms == 2_000 { Tap::Paused } else { Tap::On };
            worker.handle_command(now, Order::SetTap { session: SESSION, tap }, &mut out);
        }
        if ms % 20 == 0 {
            for leg in [Leg::Customer, Leg::Agent] {
                let at = ms as usize / 20 * PACKET;
                let payload: Vec<u8> = said[leg.index()][at..at + PACKET].iter().map(|s| ulaw_encode(*s)).collect();
                let packet = rtp(leg, (ms / 20) as u16, &payload);
                worker.handle_rtp(now, SESSION, leg, peer(leg), &packet, &mut out);
            }
        }
        worker.handle_timeout(now, &mut out);
    }
    worker.handle_command(began + Duration::from_secs(seconds as u64), Order::Close { session: SESSION }, &mut out);
    out.0.close();
    (recording, said)
}

#[test]
fn what_was_said_is_sealed_listed_verified_and_exported_and_the_pause_is_not_there() {
    let site = Site::new();
    let recorder = site.recorder();
    let (recording, said) = record(&recorder, 5, 5);
    recorder.stop();

    let listed = site.tonewall(&["list"]);
    let table = text(&listed.stdout);
    assert!(listed.status.success() && table.contains(&recording.to_string()), "{table}{}", text(&listed.stderr));
    assert!(table.contains("closed") && table.contains("test-2026"), "{table}");
    let verified = site.tonewall(&["verify", "all"]);
    assert_eq!(verified.status.code(), Some(0), "{}{}", text(&verified.stdout), text(&verified.stderr));

    let wav = site.root.path().join("call.wav");
    let exported = site.tonewall(&["export", &recording.to_string(), "-o", wav.to_str().expect("a path")]);
    assert_eq!(exported.status.code(), Some(0), "{}{}", text(&exported.stdout), text(&exported.stderr));
    assert!(text(&exported.stdout).contains("recording paused"), "{}", text(&exported.stdout));
    assert_eq!(fs::metadata(&wav).expect("the file").permissions().mode() & 0o777, 0o600);
    let samples: Vec<i16> =
        hound::WavReader::open(&wav).expect("a WAV file").into_samples().map(|s| s.expect("a sample")).collect();
    for (channel, said) in said.iter().enumerate() {
        let heard: Vec<i16> = samples.iter().skip(channel).step_by(2).copied().collect();
        // What was said in the second second is there, sample for sample, wherever the recorder's clock put it.
        let loud = (8_000..12_000).find(|at| said[*at].unsigned_abs() > 500).expect("somebody speaks");
        let words = &said[loud..loud + 480];
        let at = heard.windows(480).position(|part| part == words).expect("said and recorded");
        assert!(at.abs_diff(loud) <= 1_600, "{at} is not near {loud}");
        // And what was said while paused is not.
        let paused = &said[18_000..22_000];
        let loud = |run: &&[i16]| run.iter().any(|sample| sample.unsigned_abs() > 300);
        let runs: Vec<&[i16]> = paused.chunks_exact(80).filter(loud).collect();
        assert!(runs.len() > 5, "nobody spoke during the pause: the test would prove nothing");
        let leaked = runs.iter().filter(|run| heard.windows(80).any(|part| part == **run)).count();
        assert_eq!(leaked, 0, "speech of the pause is in the recording");
    }
    // Nothing of it stands on the disk as it was said.
    let sealed = fs::read(site.file(recording)).expect("the file");
    for run in said[0].chunks_exact(8).filter(|run| run.iter().all(|sample| sample.unsigned_abs() > 200)) {
        let bytes: Vec<u8> = run.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        assert!(memchr::memmem::find(&sealed, &bytes).is_none());
    }
}

#[test]
fn the_program_tells_intact_interrupted_tampered_and_unreadable_apart_by_its_exit_status() {
    let site = Site::new();
    let recorder = site.recorder();
    let recordings: Vec<RecordingId> = (0..4).map(|seed| record(&recorder, 30 + seed, 3).0).collect();
    recorder.stop();
    let verify = |recording: RecordingId| {
        let run = site.tonewall(&["verify", &recording.to_string()]);
        (run.status.code(), text(&run.stdout) + &text(&run.stderr))
    };
    // As a kill leaves it: torn, and no seal.
    let torn = site.file(recordings[1]);
    let bytes = fs::read(&torn).expect("the file");
    fs::write(&torn, &bytes[..bytes.len() - 20_000]).expect("torn");
    fs::remove_file(torn.with_extension("seal")).expect("its seal");
    // As a hand leaves it.
    let flipped = site.file(recordings[2]);
    let mut bytes = fs::read(&flipped).expect("the file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(&flipped, bytes).expect("changed");
    // Under a key that is not here any more.
    for (recording, status, word) in
        [(recordings[0], 0, "intact"), (recordings[1], 3, "interrupted"), (recordings[2], 4, "TAMPERED")]
    {
        let (code, said) = verify(recording);
        assert_eq!(code, Some(status), "{said}");
        assert!(said.contains(word), "{said}");
    }
    let wav = site.root.path().join("x.wav");
    let export = |recording: RecordingId| {
        let run = site.tonewall(&["export", &recording.to_string(), "--force", "-o", wav.to_str().expect("a path")]);
        (run.status.code(), text(&run.stdout) + &text(&run.stderr))
    };
    let (code, said) = export(recordings[2]);
    assert!(code == Some(4) && !wav.exists(), "{said}");
    let (code, said) = export(recordings[1]);
    assert!(code == Some(3) && said.contains("warning") && wav.exists(), "{said}");

    fs::remove_file(site.root.path().join("kek")).expect("the key");
    write_private(&site.root.path().join("kek"), &KEY.replace('6', "7"));
    let (code, said) = verify(recordings[3]);
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains("test-2026"), "{said}");
    fs::set_permissions(site.root.path().join("kek"), fs::Permissions::from_mode(0o644)).expect("opened");
    let (code, said) = verify(recordings[3]);
    assert!(code == Some(1) && said.contains("chmod 0400"), "{said}");
    assert!(!said.contains("7b1f"), "a key is never shown: {said}");
}
