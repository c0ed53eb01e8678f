//! Closed recordings in an S3 store that nobody here wrote: moto's server, from PATH or installed into a venv. Put there,
//! seen to be there, read back, rewrapped, destroyed; through a store that goes away and comes back.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use crate::audit::note::Checkpoint;
use crate::audit::{Audit, Versions};
use crate::base::Random;
use crate::base::ids::{CallId, RecordingId};
use crate::config::{AuditSync, DiskWatch, S3, Secret, Ship, ShipTo, Storage};
use crate::control::recordings::{Recordings, RecordingsError};
use crate::guard::Masked;
use crate::media::{BLOCK_FRAMES, Block};
use crate::record::catalogue::{AuditVerdict, Whereabouts};
use crate::record::keys::{Kek, KeyRing};
use crate::record::sealed::{Verdict, verify};
use crate::rt::audit::Log;
use crate::rt::catalogue::Clerk;
use crate::rt::keys::Keys;
use crate::rt::recorder::{HELD_BYTES, Meta, QUEUE_BLOCKS, Recorder, Report, Settings};
use crate::rt::recordings::Shelf;
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

fn bucket(port: u16, prefix: &str) -> S3 {
    S3 {
        bucket: "recordings".into(),
        region: "us-east-1".into(),
        endpoint: Some(format!("http://127.0.0.1:{port}")),
        prefix: prefix.into(),
        access_key: Secret::new("test".into()),
        secret_key: Secret::new("test".into()),
        ca: None,
        keep_local: Some(Duration::ZERO),
    }
}

fn storage(root: &Path, port: u16) -> Storage {
    let s3 = bucket(port, "node-1/");
    let (recordings, payments) = (root.join("recordings"), root.join("payments.db"));
    Storage { disk: DiskWatch::default(), retention: Vec::new(), s3: Some(s3), ..Storage::local(recordings, payments) }
}

/// Recordings of so many blocks each.
fn record(vault: &Vault, blocks: &[usize]) -> Vec<RecordingId> {
    record_with(vault, blocks, 5 + blocks.len() as u64)
}

fn record_with(vault: &Vault, blocks: &[usize], seed: u64) -> Vec<RecordingId> {
    let clerk = Clerk::start(vault.catalogue().clone(), "n", None).expect("a clerk");
    let (desk, (tx, closed)) = (clerk.desk(), mpsc::channel());
    let settings = Settings {
        root: vault.catalogue().root().to_owned(),
        node: "n".into(),
        keys: vault.keys().clone(),
        queue_blocks: QUEUE_BLOCKS,
        held_bytes: HELD_BYTES,
        stall: Duration::from_secs(60),
        random: Random::seed_from_u64(seed + 100),
    };
    let recorder = Recorder::start(settings, move |recording, report| {
        desk.report(recording, &report);
        if let Report::Closed { .. } = report {
            tx.send(()).expect("the test listens");
        }
    })
    .expect("started");
    let mut random = Random::seed_from_u64(seed);
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
    assert!(destroyed.proof.to_string().contains("seen to be gone"), "{}", destroyed.proof);
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
    heard_over_the_api(&storage, &vault, ids[0], &mut server);
    versions_go_too(&vault, &mut server);
    checkpoints_go_to_a_bucket(root.path(), &mut server);
}

/// A bucket that keeps versions: those that a new key left, and those that deleting hides, are gone as well.
fn versions_go_too(vault: &Vault, server: &mut Server) {
    let versioning = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    let asked = ureq::put(server.object("?versioning").replace("/?", "?")).header("Authorization", SIGNED);
    assert!(asked.send(versioning).expect("an answer").status().is_success());
    let id = record_with(vault, &[30], 91)[0];
    let put = || {
        let done = vault.round(&Audit::off());
        assert_eq!((done.stored, &done.failed[..]), (1, &[][..]), "{done:?}");
    };
    put();
    // Put there a second time, over the first.
    vault.fetch(id).expect("fetched");
    vault.reencrypt(id).expect("encrypted anew");
    put();
    let key = vault.catalogue().get(id).expect("read").expect("an entry").stored.expect("stored").key;
    let versions = || {
        let list = server.object(&format!("?versions&prefix={}", key.trim_end_matches("ed"))).replace("/?", "?");
        let mut listed = ureq::get(list).header("Authorization", SIGNED).call().expect("a list");
        let listed = listed.body_mut().read_to_string().expect("text");
        listed.matches("<VersionId>").count()
    };
    assert_eq!(versions(), 4, "two of the recording, two of its seal");
    let destroyed = vault.destroy(id, "key:admin", "asked for").expect("destroyed");
    // And a delete marker of each.
    assert_eq!(destroyed.proof.store.expect("a store").versions, Versions::Deleted(6));
    assert_eq!(versions(), 0);
}

/// What is in the store only is given to listeners as the API does; while the store is away they are told so.
fn heard_over_the_api(storage: &Storage, vault: &Vault, gone: RecordingId, server: &mut Server) {
    // Moto forgets everything when it ends: what was there is gone for good, and told as that.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let keys = vault.keys().clone();
    let of = |seed| Arc::new(Vault::of(storage, keys.clone(), Random::seed_from_u64(seed)).expect("a vault"));
    let shelf = Shelf::new(of(21));
    let clean = |id| vault.catalogue().audited(id, AuditVerdict::Clean, "").expect("audited");
    clean(gone);
    let lost = runtime.block_on(shelf.frames(gone));
    assert!(matches!(&lost, Err(RecordingsError::NoSound(why)) if why.contains("not in the object store")), "{lost:?}");
    let id = record(vault, &[40])[0];
    clean(id);
    let done = vault.round(&Audit::off());
    assert_eq!((done.stored, done.dropped, &done.failed[..]), (1, 1, &[][..]), "{done:?}");
    server.stop();
    let away = runtime.block_on(shelf.frames(id));
    assert_eq!(away, Err(RecordingsError::Away));
    server.again();
    // Empty now, as moto is when it begins again.
    assert!(matches!(runtime.block_on(shelf.frames(id)), Err(RecordingsError::NoSound(_))));
    let id = {
        let id = record_with(vault, &[40], 77)[0];
        clean(id);
        assert_eq!(vault.round(&Audit::off()).dropped, 1);
        id
    };
    let heard = runtime.block_on(async {
        assert_eq!(shelf.frames(id).await, Ok(40 * BLOCK_FRAMES as u64));
        let pieces = shelf.samples(id, 10_000..50_000).await.expect("sound");
        let pieces: Vec<_> = futures_util::StreamExt::collect(pieces).await;
        pieces.into_iter().flat_map(|piece| piece.expect("a piece").to_vec()).collect::<Vec<u8>>()
    });
    assert!(heard.len() == 40_000 && heard.as_chunks::<2>().0.iter().all(|sample| *sample == [9, 0]));
    assert!(!vault.catalogue().file(&vault.catalogue().get(id).expect("read").expect("an entry")).exists());
    drop(runtime);
}

/// Checkpoints of an audit log, tried again until the bucket takes them.
fn checkpoints_go_to_a_bucket(root: &Path, server: &mut Server) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let key = root.join("audit.key");
    let verifier = crate::rt::audit::keys::make(&key, "tonewall/test").expect("a key");
    let to = ShipTo::Bucket(Box::new(bucket(server.port, "witness/")));
    let settings = crate::config::Audit {
        directory: root.join("log"),
        key,
        sync: AuditSync::Always,
        checkpoint_entries: 1,
        checkpoint_every: Duration::from_secs(1),
        file_bytes: 1_000_000,
        ships: vec![Ship { name: "bucket".into(), to }],
    };
    server.stop();
    let log = runtime.block_on(async { Log::start(&settings, "n1", |_| ()) }).expect("a log");
    let refused = || {
        let pages = crate::rt::audit::book::pages(&settings.directory).unwrap_or_default();
        pages.iter().any(|page| {
            let text = fs::read_to_string(settings.directory.join(page)).expect("text");
            text.contains("\"action\":\"shipping-failed\"")
        })
    };
    let end = Instant::now() + Duration::from_secs(60);
    while !refused() {
        assert!(Instant::now() < end, "a bucket that is away is not told");
        std::thread::sleep(Duration::from_millis(50));
    }
    server.again();
    let mut notes = Vec::new();
    while notes.is_empty() {
        assert!(Instant::now() < end, "no checkpoint got to the bucket");
        std::thread::sleep(Duration::from_millis(100));
        let list = server.object("?list-type=2&prefix=witness/").replace("/?", "?");
        let mut listed = ureq::get(list).header("Authorization", SIGNED).call().expect("a list");
        let listed = listed.body_mut().read_to_string().expect("text");
        notes =
            listed.split("<Key>").skip(1).map(|key| key.split("</Key>").next().expect("a key").to_owned()).collect();
    }
    assert!(notes[0].starts_with("witness/tonewall_test/") && notes[0].ends_with(".note"), "{notes:?}");
    let mut note = ureq::get(server.object(&notes[0])).header("Authorization", SIGNED).call().expect("an object");
    let (read, bad) = Checkpoint::read_all(&note.body_mut().read_to_string().expect("text"));
    assert!(bad == 0 && read.len() == 1 && verifier.signed(&read[0]) && read[0].size > 0, "{read:?}");
    log.stop();
    drop(runtime);
}
