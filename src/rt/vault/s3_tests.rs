//! Closed recordings in an S3 store that nobody here wrote: moto's server, from PATH or installed into a venv. Put there,
//! seen to be there, read back, rewrapped, destroyed; through a store that goes away and comes back.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::audit::Audit;
use crate::base::Random;
use crate::base::ids::{CallId, RecordingId};
use crate::config::{DiskWatch, S3, Secret, Storage};
use crate::guard::Masked;
use crate::media::{BLOCK_FRAMES, Block};
use crate::record::catalogue::Whereabouts;
use crate::record::keys::{Kek, KeyRing};
use crate::record::sealed::{Verdict, verify};
use crate::rt::catalogue::Clerk;
use crate::rt::keys::Keys;
use crate::rt::recorder::{HELD_BYTES, Meta, QUEUE_BLOCKS, Recorder, Report, Settings};
use crate::rt::vault::Vault;
use rand::SeedableRng;

fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address").port()
}

/// Moto believes every signature, but wants one.
const SIGNED: &str =
    "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=00";

struct Server {
    child: Child,
    port: u16,
    program: PathBuf,
    _directory: Option<tempfile::TempDir>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start() -> Result<Self, String> {
        let (program, directory) = if installed("moto_server") {
            (PathBuf::from("moto_server"), None)
        } else {
            let directory = tempfile::tempdir().expect("a directory");
            let venv = directory.path().join("venv");
            run(Path::new("python3"), &["-m", "venv", &venv.to_string_lossy()])
                .map_err(|why| format!("python3-venv cannot be used: {why}"))?;
            run(&venv.join("bin/pip"), &["install", "--quiet", "--disable-pip-version-check", "moto[server,s3]"])
                .map_err(|why| format!("moto cannot be had from PyPI: {why}"))?;
            (venv.join("bin/moto_server"), Some(directory))
        };
        let port = free_port();
        let child = serve(&program, port);
        Ok(Self { child, port, program, _directory: directory })
    }

    fn stop(&mut self) {
        self.child.kill().and_then(|()| self.child.wait()).expect("ended");
    }

    fn again(&mut self) {
        self.child = serve(&self.program, self.port);
        self.bucket();
    }

    /// Makes the bucket.
    fn bucket(&self) {
        let end = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < end, "moto_server does not start");
            std::thread::sleep(Duration::from_millis(100));
        }
        let made = ureq::put(format!("http://127.0.0.1:{}/recordings", self.port)).send_empty();
        assert!(made.expect("an answer").status().is_success());
    }

    fn object(&self, key: &str) -> String {
        format!("http://127.0.0.1:{}/recordings/{key}", self.port)
    }

    fn has(&self, key: &str) -> bool {
        ureq::head(self.object(key)).header("Authorization", SIGNED).call().is_ok()
    }
}

fn serve(program: &Path, port: u16) -> Child {
    let port = port.to_string();
    let command = Command::new(program)
        .args(["-H", "127.0.0.1", "-p", &port])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    command.expect("moto_server")
}

fn run(program: &Path, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).output().map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or("it failed").to_owned()),
    }
}

fn kek(id: &str, seed: u8) -> Kek {
    let text: String = (0..32u8).map(|at| format!("{:02x}", seed.wrapping_add(at * 5))).collect();
    Kek::parse(id, &text).expect("a key")
}

fn ring(current: Kek, old: Vec<Kek>) -> KeyRing {
    KeyRing::new(Some(current), old).expect("a ring")
}

fn storage(root: &Path, port: u16) -> Storage {
    let s3 = S3 {
        bucket: "recordings".into(),
        region: "us-east-1".into(),
        endpoint: Some(format!("http://127.0.0.1:{port}")),
        prefix: "node-1/".into(),
        access_key: Secret::new("test".into()),
        secret_key: Secret::new("test".into()),
        ca: None,
        keep_local: Some(Duration::ZERO),
    };
    let (recordings, payments) = (root.join("recordings"), root.join("payments.db"));
    Storage { disk: DiskWatch::default(), retention: Vec::new(), s3: Some(s3), ..Storage::local(recordings, payments) }
}

/// Recordings of so many blocks each.
fn record(vault: &Vault, blocks: &[usize]) -> Vec<RecordingId> {
    let clerk = Clerk::start(vault.catalogue().clone(), "n", None).expect("a clerk");
    let (desk, (tx, closed)) = (clerk.desk(), mpsc::channel());
    let settings = Settings {
        root: vault.catalogue().root().to_owned(),
        node: "n".into(),
        keys: vault.keys().clone(),
        queue_blocks: QUEUE_BLOCKS,
        held_bytes: HELD_BYTES,
        stall: Duration::from_secs(60),
        random: Random::seed_from_u64(4),
    };
    let recorder = Recorder::start(settings, move |recording, report| {
        desk.report(recording, &report);
        if let Report::Closed { .. } = report {
            tx.send(()).expect("the test listens");
        }
    })
    .expect("started");
    let mut random = Random::seed_from_u64(5);
    let mut ids = Vec::new();
    for blocks in blocks {
        let recording = RecordingId::draw(&mut random);
        let meta = Meta::new(CallId::draw(&mut random), "carrier", "pbx");
        clerk.desk().open(recording, &meta);
        let feed = recorder.handle().open(recording, meta);
        for _ in 0..*blocks {
            feed.block(Masked::for_test(Box::new(Block { samples: [9; BLOCK_FRAMES * 2], paused: false })));
        }
        feed.close();
        closed.recv_timeout(Duration::from_secs(60)).expect("closed");
        ids.push(recording);
    }
    recorder.stop();
    clerk.stop();
    ids
}

fn frames(vault: &Vault, recording: RecordingId, keys: &KeyRing) -> Option<u64> {
    let mut reading = vault.open(recording).ok()?;
    let seal = reading.seal.take();
    let report = verify(&mut reading, seal.as_deref(), Some(recording), keys, &mut |_| Ok(())).ok()?;
    (report.verdict == Verdict::Intact).then_some(report.frames)
}

#[test]
fn recordings_go_to_an_s3_store_come_back_and_are_destroyed_in_it() {
    let name = "recordings_go_to_an_s3_store_come_back_and_are_destroyed_in_it";
    let mut server = match Server::start() {
        Ok(server) => server,
        Err(why) => {
            eprintln!("!!! SKIPPED: {name}: {why}");
            return;
        }
    };
    server.bucket();
    let root = tempfile::tempdir().expect("a directory");
    let storage = storage(root.path(), server.port);
    let random = |seed| Random::seed_from_u64(seed);
    let (a, b) = (kek("a", 1), kek("b", 9));
    let vault = Vault::of(&storage, Keys::fixed(ring(a.clone(), vec![])), random(1)).expect("a vault");
    // One of them is put in parts: 8.6 MB.
    let ids = record(&vault, &[24, 31, 2_700]);
    server.stop();
    let away = vault.round(&Audit::off());
    assert_eq!((away.stored, away.dropped), (0, 0));
    assert!(!away.failed.is_empty(), "a store that is away is told");
    assert!(ids.iter().all(|id| frames(&vault, *id, &vault.keys().ring()).is_some()), "and nothing was removed here");
    server.again();
    let done = vault.round(&Audit::off());
    assert_eq!((done.stored, done.dropped, &done.failed[..]), (3, 3, &[][..]), "{done:?}");
    let entry = |id| vault.catalogue().get(id).expect("read").expect("an entry");
    let key = |id| entry(id).stored.expect("stored").key;
    for (id, blocks) in ids.iter().zip([24, 31, 2_700u64]) {
        assert_eq!(entry(*id).whereabouts, Whereabouts::Store);
        assert!(!vault.catalogue().file(&entry(*id)).exists() && server.has(&key(*id)));
        assert_eq!(frames(&vault, *id, &vault.keys().ring()), Some(blocks * BLOCK_FRAMES as u64));
    }
    // What lies there is not readable: no run of the samples stands in it.
    let mut lies = ureq::get(server.object(&key(ids[0]))).header("Authorization", SIGNED).call().expect("an object");
    let lies = lies.body_mut().read_to_vec().expect("bytes");
    assert!(!lies.windows(8).any(|run| run == [9, 0, 9, 0, 9, 0, 9, 0]));
    // Under a new key, there too.
    let keys = Keys::fixed(ring(b.clone(), vec![a.clone()]));
    let vault = Vault::of(&storage, keys, random(2)).expect("a vault");
    let done = vault.round(&Audit::off());
    assert_eq!((done.rewrapped, done.stored, done.dropped, &done.failed[..]), (3, 3, 3, &[][..]), "{done:?}");
    let only_b = ring(b.clone(), vec![]);
    assert!(ids.iter().all(|id| frames(&vault, *id, &only_b).is_some()));
    assert_eq!(frames(&vault, ids[0], &ring(a, vec![])), None);
    // Brought back, then destroyed here and there.
    vault.fetch(ids[1]).expect("fetched");
    let file = vault.catalogue().file(&vault.catalogue().get(ids[1]).expect("read").expect("an entry"));
    assert!(file.exists());
    let at = vault.catalogue().get(ids[1]).expect("read").expect("an entry").stored.expect("stored").key;
    let destroyed = vault.destroy(ids[1], "key:admin", "asked for").expect("destroyed");
    assert!(destroyed.proof.contains("seen to be gone"), "{}", destroyed.proof);
    assert!(!file.exists() && !server.has(&at) && !server.has(&at.replace(".sealed", ".seal")));
    assert!(vault.open(ids[1]).is_err());
    // Destroyed while the store is away: refused to everybody at once, wiped when it is back.
    server.stop();
    assert!(vault.destroy(ids[2], "key:admin", "asked for").is_err());
    assert!(vault.open(ids[2]).is_err());
    server.again();
    assert_eq!(vault.round(&Audit::off()).wiped, 1);
    assert!(
        fs::read_dir(vault.catalogue().root())
            .expect("the root")
            .all(|e| { !e.expect("an entry").file_name().to_string_lossy().starts_with(".fetched") })
    );
}
