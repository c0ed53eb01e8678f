//! The recorder on a real disk: kill -9 at any instant, a full disk, a slow one, leftovers of an earlier run.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};

use super::disk::SealedFile;
use super::*;
use crate::guard::Masked;
use crate::media::{BLOCK_FRAMES, Block};
use crate::record::keys::{Kek, KeyRing};
use crate::record::place;
use crate::record::sealed::{GapKind, Item, Storage, Verdict, verify};
use crate::rt::keys::Keys;

const CHILD: &str = "TONEWALL_RECORDER_CHILD";
/// Sixteen samples that stand in every block: found on the disk, they would be plaintext.
const MARKER: [i16; 16] = [7, -7, 1234, -4321, 99, 3, 500, -500, 31000, -31000, 17, 18, 19, 20, -2, 4242];

fn kek() -> Kek {
    let text: String = (10..42).map(|byte| format!("{byte:02x}")).collect();
    Kek::parse("test", &text).expect("a key")
}

fn ring() -> KeyRing {
    KeyRing::new(Some(kek()), Vec::new()).expect("a ring")
}

fn settings(root: &Path, queue_blocks: usize, seed: u64) -> Settings {
    let random = Random::seed_from_u64(seed);
    Settings {
        root: root.to_owned(),
        node: "n".into(),
        keys: Keys::fixed(ring()),
        queue_blocks,
        held_bytes: HELD_BYTES,
        stall: Duration::from_secs(10),
        random,
    }
}

fn meta(random: &mut Random) -> Meta {
    Meta::new(CallId::draw(random), "carrier", "pbx")
}

fn block() -> MaskedBlock {
    let mut block = Box::new(Block { samples: [0; BLOCK_FRAMES * 2], paused: false });
    for run in block.samples.chunks_exact_mut(MARKER.len()) {
        run.copy_from_slice(&MARKER);
    }
    Masked::for_test(block)
}

fn start(root: &Path, queue_blocks: usize) -> (Recorder, Receiver<(RecordingId, Report)>) {
    let (tx, rx) = mpsc::channel();
    let recorder = Recorder::start(settings(root, queue_blocks, 1), move |recording, report| {
        // A test that has seen enough no longer listens.
        let _ = tx.send((recording, report));
    });
    (recorder.expect("started"), rx)
}

fn sealed_files(root: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for day in fs::read_dir(root).expect("the root") {
        let day = day.expect("an entry").path();
        if day.is_dir() {
            files.extend(fs::read_dir(day).expect("a day").map(|entry| entry.expect("an entry").path()));
        }
    }
    files.retain(|file| place::recording_of(file).is_some());
    files.sort();
    files
}

fn read(file: &Path) -> (crate::record::sealed::Report, usize) {
    let seal = fs::read(place::seal_file(file)).ok();
    let mut audio = 0;
    let input = File::open(file).expect("the file");
    let report = verify(input, seal.as_deref(), place::recording_of(file), &ring(), &mut |item| {
        if let Item::Audio(samples) = item {
            audio += samples.len();
        }
        Ok(())
    });
    (report.expect("a verdict"), audio)
}

#[test]
fn a_recording_is_sealed_closed_and_intact_among_leftovers_of_a_killed_run() {
    let root = tempfile::tempdir().expect("a directory");
    let today = place::directory(root.path(), wall());
    fs::create_dir_all(&today).expect("a day");
    fs::write(today.join("rec_00000000000000000000000000000000.sealed"), b"").expect("a leftover");
    fs::write(today.join("rec_00000000000000000000000000000001.seal.new"), b"half").expect("a leftover");
    fs::write(root.path().join(".probe-1"), b"").expect("a leftover");

    let (recorder, reports) = start(root.path(), QUEUE_BLOCKS);
    let mut random = Random::seed_from_u64(5);
    let recording = RecordingId::draw(&mut random);
    let feed = recorder.handle().open(recording, meta(&mut random));
    (0..34).for_each(|_| feed.block(block()));
    feed.close();
    recorder.stop();
    let reports: Vec<Report> = reports.into_iter().map(|(_, report)| report).collect();
    let Report::Opened { file, .. } = &reports[0] else { panic!("{reports:?}") };
    let acknowledged: Vec<_> = (2..5).map(|chunks| Report::Acknowledged { chunks }).collect();
    assert_eq!(reports[1..4], acknowledged);
    assert!(matches!(reports[4], Report::Closed { length_ms: 3_400, .. }), "{reports:?}");
    let (report, audio) = read(file);
    assert_eq!(report.verdict, Verdict::Intact);
    assert_eq!(audio, 34 * BLOCK_FRAMES * 4);
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(file).expect("metadata").permissions());
    assert_eq!(mode & 0o777, 0o600);
    // The empty leftover is an interrupted recording and not a fault.
    let (report, _) = read(&today.join("rec_00000000000000000000000000000000.sealed"));
    assert!(matches!(report.verdict, Verdict::Interrupted { good_chunks: 0, .. }));
}

#[test]
fn stopping_closes_what_is_open() {
    let root = tempfile::tempdir().expect("a directory");
    let (recorder, _reports) = start(root.path(), QUEUE_BLOCKS);
    let mut random = Random::seed_from_u64(6);
    let feeds: Vec<_> =
        (0..3).map(|_| recorder.handle().open(RecordingId::draw(&mut random), meta(&mut random))).collect();
    for feed in &feeds {
        feed.block(block());
    }
    assert_eq!(recorder.handle().counters().failed.load(Relaxed), 0);
    recorder.stop();
    let files = sealed_files(root.path());
    assert_eq!(files.len(), 3);
    for file in files {
        assert_eq!(read(&file).0.verdict, Verdict::Intact);
    }
    feeds[0].block(block());
}

#[test]
fn a_name_that_is_taken_is_never_written_into() {
    let root = tempfile::tempdir().expect("a directory");
    let (recorder, reports) = start(root.path(), QUEUE_BLOCKS);
    let mut random = Random::seed_from_u64(7);
    let recording = RecordingId::draw(&mut random);
    let file = place::sealed_file(&place::directory(root.path(), wall()), recording);
    fs::create_dir_all(file.parent().expect("a parent")).expect("a day");
    fs::write(&file, b"somebody's").expect("a file");
    let feed = recorder.handle().open(recording, meta(&mut random));
    feed.block(block());
    feed.close();
    recorder.stop();
    let reports: Vec<_> = reports.into_iter().collect();
    assert!(matches!(reports[..], [(_, Report::Failed(_))]), "{reports:?}");
    assert_eq!(fs::read(&file).expect("the file"), b"somebody's");
}

#[test]
fn a_queue_that_overflows_leaves_marked_silence_and_the_timeline_holds() {
    let root = tempfile::tempdir().expect("a directory");
    let (gate_tx, gate) = mpsc::channel::<()>();
    let (tx, reports) = mpsc::channel();
    // The disk stands still inside the first report until the gate opens.
    let gate = std::sync::Mutex::new(gate);
    let recorder = Recorder::start(settings(root.path(), 12, 2), move |_, report| {
        if matches!(report, Report::Opened { .. }) {
            gate.lock().expect("one waits").recv().expect("the gate");
        }
        tx.send(report).expect("the test listens");
    })
    .expect("started");
    let mut random = Random::seed_from_u64(8);
    let feed = recorder.handle().open(RecordingId::draw(&mut random), meta(&mut random));
    let begun = Instant::now();
    (0..40).for_each(|_| feed.block(block()));
    assert!(begun.elapsed() < Duration::from_secs(5), "a full queue never makes the media worker wait");
    gate_tx.send(()).expect("the recorder waits");
    feed.close();
    recorder.stop();
    assert!(reports.iter().any(|report| report == Report::Behind { blocks: 28 }));
    let (report, audio) = read(&sealed_files(root.path())[0]);
    assert_eq!(report.verdict, Verdict::Intact);
    assert_eq!(audio, 40 * BLOCK_FRAMES * 4);
    assert_eq!(report.gaps.len(), 1);
    assert_eq!((report.gaps[0].kind, report.gaps[0].from), (GapKind::Lost, 12 * BLOCK_FRAMES as u64));
}

#[test]
fn two_hundred_recordings_at_once_are_all_intact() {
    let root = tempfile::tempdir().expect("a directory");
    let (recorder, _reports) = start(root.path(), QUEUE_BLOCKS);
    let mut random = Random::seed_from_u64(55);
    let feeds: Vec<_> =
        (0..200).map(|_| recorder.handle().open(RecordingId::draw(&mut random), meta(&mut random))).collect();
    let begun = Instant::now();
    for _ in 0..40 {
        feeds.iter().for_each(|feed| feed.block(block()));
    }
    feeds.iter().for_each(Feed::close);
    let handle = recorder.handle();
    recorder.stop();
    let (took, counters) = (begun.elapsed(), handle.counters());
    let chunks = counters.chunks.load(Relaxed);
    eprintln!(
        "200 recordings: {chunks} chunks synced in {:.2} s = {:.0}/s; slowest {} ms",
        took.as_secs_f64(),
        chunks as f64 / took.as_secs_f64(),
        counters.slowest_us.load(Relaxed) / 1_000
    );
    assert_eq!((counters.lost_blocks.load(Relaxed), counters.failed.load(Relaxed)), (0, 0));
    let files = sealed_files(root.path());
    assert_eq!(files.len(), 200);
    for file in files {
        let (report, audio) = read(&file);
        assert_eq!((report.verdict, audio), (Verdict::Intact, 40 * BLOCK_FRAMES * 4));
    }
}

#[test]
fn a_disk_that_is_full_fails_the_recording_and_keeps_what_was_acknowledged() {
    // /dev/full answers every write with ENOSPC: the recorder's own file path on it.
    let full = OpenOptions::new().append(true).open("/dev/full").expect("/dev/full");
    let mut storage = SealedFile { file: full, counters: Arc::default(), since: Instant::now() };
    let error = storage.append(b"bytes").expect_err("no space");
    assert_eq!(Failure::of(&error, "cannot write", Path::new("x")).kind, FailureKind::DiskFull);

    // A file that may not grow past 100 kB: RLIMIT_FSIZE in a child, so that only it is limited.
    let root = tempfile::tempdir().expect("a directory");
    let run = child(root.path(), "limited").stdout(Stdio::piped()).output().expect("the child");
    let text = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success() && text.contains("failed"), "{text}");
    let acknowledged = last_acknowledged(&text);
    assert!(!acknowledged.is_empty());
    for file in sealed_files(root.path()) {
        let Verdict::Interrupted { good_chunks, .. } = read(&file).0.verdict else { panic!("not interrupted") };
        let id = place::recording_of(&file).expect("ours").to_string();
        assert_eq!(Some(&good_chunks), acknowledged.get(&id), "{text}");
    }
}

#[test]
fn a_directory_that_cannot_be_written_is_told_at_start() {
    let root = tempfile::tempdir().expect("a directory");
    let file = root.path().join("a-file");
    fs::write(&file, b"").expect("a file");
    let failure = Recorder::start(settings(&file.join("below"), 1, 3), |_, _| {}).err().expect("refused");
    assert!(failure.text.contains("cannot make"), "{failure}");
}

#[test]
fn killed_at_any_instant_every_acknowledged_chunk_decrypts_and_nothing_is_plaintext() {
    let kills: usize = std::env::var("TONEWALL_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(36);
    let mut random = Random::seed_from_u64(99);
    let marker: Vec<u8> = MARKER.iter().flat_map(|sample| sample.to_le_bytes()).collect();
    let (mut chunks, mut torn) = (0, 0);
    for kill in 0..kills {
        let root = tempfile::tempdir().expect("a directory");
        let mut writing = child(root.path(), "forever").stdout(Stdio::piped()).spawn().expect("the child");
        let mut lines = BufReader::new(writing.stdout.take().expect("its output"));
        let mut text = String::new();
        while !text.contains("ready") {
            assert_ne!(lines.read_line(&mut text).expect("a line"), 0, "the child ended: {text}");
        }
        std::thread::sleep(Duration::from_micros(random.random_range(0..60_000)));
        writing.kill().expect("killed");
        writing.wait().expect("gone");
        std::io::Read::read_to_string(&mut lines, &mut text).expect("the rest");
        let acknowledged = last_acknowledged(&text);
        assert_no_plaintext(root.path(), &marker[..8], kill);
        for file in sealed_files(root.path()) {
            let (report, audio) = read(&file);
            let Verdict::Interrupted { good_chunks, tear } = report.verdict else {
                panic!("kill {kill}: {:?}", report.verdict)
            };
            let id = place::recording_of(&file).expect("ours").to_string();
            let promised = acknowledged.get(&id).copied().unwrap_or(0);
            assert!(good_chunks >= promised, "kill {kill}: {promised} acknowledged, {good_chunks} read");
            assert_eq!(audio as u64, good_chunks.saturating_sub(1) * 32_000);
            chunks += good_chunks;
            torn += usize::from(tear != crate::record::sealed::Tear::BetweenChunks);
        }
    }
    eprintln!("{kills} kills: {chunks} chunks read, {torn} files torn inside a chunk, 0 lost, 0 plaintext");
    assert!(chunks > kills as u64, "the kills came too early to prove anything");
}

/// Nothing under `directory`, whatever its name, holds a run of samples.
fn assert_no_plaintext(directory: &Path, marker: &[u8], kill: usize) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            assert_no_plaintext(&path, marker, kill);
        } else {
            let bytes = fs::read(&path).expect("the file");
            assert!(
                memchr::memmem::find(&bytes, marker).is_none(),
                "plaintext in {} after kill {kill}",
                path.display()
            );
        }
    }
}

#[test]
fn a_disk_that_stands_still_is_told_within_its_time_and_what_it_holds_as_failed() {
    let root = tempfile::tempdir().expect("a directory");
    let (gate_tx, gate) = mpsc::channel::<()>();
    let (tx, reports) = mpsc::channel();
    let gate = std::sync::Mutex::new(gate);
    let mut settings = settings(root.path(), 64, 2);
    settings.stall = Duration::from_millis(300);
    // The writer stands still inside its first report, as it would inside a write.
    let recorder = Recorder::start(settings, move |recording, report| {
        if matches!(report, Report::Opened { .. }) {
            gate.lock().expect("one waits").recv().expect("the gate");
        }
        // The test may have seen enough.
        drop(tx.send((recording, report)));
    })
    .expect("started");
    let handle = recorder.handle();
    let mut random = Random::seed_from_u64(8);
    let first = handle.open(RecordingId::draw(&mut random), meta(&mut random));
    assert_eq!(handle.stalled(), None);
    let told = |want: RecordingId| loop {
        let (recording, report) = reports.recv_timeout(Duration::from_secs(10)).expect("a report");
        if let (true, Report::Failed(failure)) = (recording == want, report) {
            return failure;
        }
    };
    assert_eq!(told(first.recording()).kind, FailureKind::TooSlow);
    assert!(handle.stalled().is_some_and(|still| still >= Duration::from_millis(300)));
    // Who comes to the same writer meanwhile is told too, and is not left waiting.
    let more: Vec<_> = (0..24).map(|_| handle.open(RecordingId::draw(&mut random), meta(&mut random))).collect();
    told(reports_of_same_writer(&more, &first));
    (0..25).for_each(|_| gate_tx.send(()).expect("the recorder waits"));
    first.close();
    more.iter().for_each(Feed::close);
    recorder.stop();
    assert_eq!(handle.stalled(), None);
    // The disk came back: what it held is on it, whole.
    for file in sealed_files(root.path()) {
        assert_eq!(read(&file).0.verdict, Verdict::Intact);
    }
}

/// One of `feeds` that goes to the same writer as `first`.
fn reports_of_same_writer(feeds: &[Feed], first: &Feed) -> RecordingId {
    let writer =
        |id| std::hash::BuildHasher::hash_one(&BuildHasherDefault::<DefaultHasher>::new(), id) as usize % WRITERS;
    let same = feeds.iter().find(|feed| writer(feed.recording()) == writer(first.recording()));
    same.expect("one of twenty-four").recording()
}

/// `mount` with these arguments; whether it could.
fn mount(arguments: &[&str], at: &Path) -> bool {
    Command::new("mount").args(arguments).arg(at).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_disk_that_fills_or_turns_read_only_at_any_instant_loses_nothing_acknowledged() {
    let rounds: u64 = std::env::var("TONEWALL_DISKS").ok().and_then(|text| text.parse().ok()).unwrap_or(4);
    let place = tempfile::tempdir().expect("a directory");
    if !mount(&["-t", "tmpfs", "-o", "size=1m,mode=700", "tonewall"], place.path()) {
        eprintln!("!!! SKIPPED: nothing can be mounted here (root is needed): full and read-only disks are not tested");
        return;
    }
    let _mounted = Mounted(place.path().to_owned());
    let (mut full, mut refused, mut kept, mut closed) = (0, 0, 0u64, 0);
    for round in 0..rounds {
        let mut random = Random::seed_from_u64(1_000 + round);
        let root = place.path().join(format!("round-{round}"));
        // Somebody else's bytes, so that the disk is full at any byte of a chunk.
        let filler = random.random_range(0..500_000);
        fs::write(place.path().join("filler"), vec![0x55; filler]).expect("a filler");
        let (recorder, reports) = start(&root, 4_096);
        let feeds: Vec<_> =
            (0..5).map(|_| recorder.handle().open(RecordingId::draw(&mut random), meta(&mut random))).collect();
        for _ in 0..random.random_range(20..120) {
            feeds.iter().for_each(|feed| feed.block(block()));
        }
        feeds.iter().for_each(Feed::close);
        recorder.stop();
        let mut acknowledged: HashMap<RecordingId, u64> = HashMap::new();
        for (recording, report) in reports {
            match report {
                Report::Opened { .. } => drop(acknowledged.insert(recording, 1)),
                Report::Acknowledged { chunks } => drop(acknowledged.insert(recording, chunks)),
                Report::Failed(failure) => {
                    assert_eq!(failure.kind, FailureKind::DiskFull, "{failure}");
                    full += 1;
                }
                Report::Closed { .. } => closed += 1,
                _ => {}
            }
        }
        for file in sealed_files(&root) {
            let good = match read(&file).0.verdict {
                Verdict::Interrupted { good_chunks, .. } => good_chunks,
                Verdict::Intact => u64::MAX,
                Verdict::Tampered { at, why } => panic!("round {round}: {at:?}: {why}"),
            };
            let promised = acknowledged.get(&place::recording_of(&file).expect("ours")).copied().unwrap_or(0);
            assert!(good >= promised, "round {round}: {promised} acknowledged, {good} read");
            kept += promised;
        }
        fs::remove_file(place.path().join("filler")).expect("removed");
        // Read-only between two recordings: the next is refused, and when it is over the one after is whole.
        let (recorder, reports) = {
            fs::remove_dir_all(&root).expect("room");
            start(&root, 4_096)
        };
        assert!(mount(&["-o", "remount,ro"], place.path()), "read-only");
        let feed = recorder.handle().open(RecordingId::draw(&mut random), meta(&mut random));
        let (_, report) = reports.recv_timeout(Duration::from_secs(10)).expect("a report");
        assert!(matches!(&report, Report::Failed(f) if f.kind == FailureKind::NotWritable), "{report:?}");
        refused += 1;
        feed.block(block());
        assert!(mount(&["-o", "remount,rw"], place.path()), "writable");
        let feed = recorder.handle().open(RecordingId::draw(&mut random), meta(&mut random));
        (0..12).for_each(|_| feed.block(block()));
        feed.close();
        recorder.stop();
        assert!(reports.iter().any(|(_, report)| matches!(report, Report::Closed { length_ms: 1_200, .. })));
        fs::remove_dir_all(&root).expect("room");
    }
    eprintln!(
        "{rounds} full disks: {full} recordings ended by them, {closed} complete, {kept} acknowledged chunks, 0 lost; \
         {refused} refused on a read-only disk, the next whole"
    );
    assert!(full > 0 && kept > 0);
}

/// This test's own binary, running [`writes_until_it_is_killed_or_full`] as a process of its own.
fn child(root: &Path, how: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command
        .args(["--exact", "rt::recorder::tests::writes_until_it_is_killed_or_full", "--nocapture"])
        .env(CHILD, root)
        .env("TONEWALL_RECORDER_HOW", how);
    command
}

/// Recording id to chunks, from `ack <id> <chunks>` lines; a line cut by the kill does not count.
fn last_acknowledged(text: &str) -> HashMap<String, u64> {
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let words = whole.lines().filter_map(|line| line.strip_prefix("ack ")?.split_once(' '));
    words.map(|(id, chunks)| (id.to_owned(), chunks.parse().expect("a number"))).collect()
}

/// As a child: writes three recordings as fast as the disk takes them, saying what is acknowledged, until it is killed
/// or its files may not grow. As a plain test: the same with an end, and all must be intact.
#[test]
fn writes_until_it_is_killed_or_full() {
    let own = tempfile::tempdir().expect("a directory");
    let root = std::env::var_os(CHILD).map_or_else(|| own.path().to_owned(), PathBuf::from);
    let how = std::env::var("TONEWALL_RECORDER_HOW").unwrap_or_default();
    if how == "limited" {
        let most = Some(100_000);
        let limit = rustix::process::Rlimit { current: most, maximum: most };
        ignore_file_size_signal();
        rustix::process::setrlimit(rustix::process::Resource::Fsize, limit).expect("limited");
    }
    let (failed_tx, failed) = mpsc::channel();
    let recorder = Recorder::start(settings(&root, 64, 11), move |recording, report| {
        let mut out = io::stdout().lock();
        let line = match report {
            Report::Opened { .. } => format!("\nack {recording} 1\n"),
            Report::Acknowledged { chunks } => format!("ack {recording} {chunks}\n"),
            Report::Failed(failure) => {
                failed_tx.send(()).expect("the writer listens");
                format!("failed {failure}\n")
            }
            Report::Behind { .. } | Report::Closed { .. } | Report::Redacted { .. } | Report::TooLate { .. } => return,
        };
        out.write_all(line.as_bytes()).and_then(|()| out.flush()).expect("said");
    })
    .expect("started");
    let mut random = Random::seed_from_u64(12);
    let feeds: Vec<_> =
        (0..3).map(|_| recorder.handle().open(RecordingId::draw(&mut random), meta(&mut random))).collect();
    if how == "forever" {
        io::stdout().lock().write_all(b"\nready\n").expect("said");
    }
    let mut rounds = 0;
    let mut failures = 0;
    while how == "forever" || (how == "limited" && failures < feeds.len()) || (how.is_empty() && rounds < 25) {
        if recorder.handle().counters().waiting() < 48 {
            feeds.iter().for_each(|feed| feed.block(block()));
            rounds += 1;
        } else {
            std::thread::yield_now();
        }
        failures += failed.try_iter().count();
    }
    recorder.stop();
    if how.is_empty() {
        for file in sealed_files(&root) {
            assert_eq!(read(&file).0.verdict, Verdict::Intact);
        }
        assert_eq!(sealed_files(&root).len(), 3);
    }
}

/// Without this the limit would end the child by SIGXFSZ before the write fails with EFBIG.
#[allow(unsafe_code)]
fn ignore_file_size_signal() {
    unsafe extern "C" {
        fn signal(number: i32, handler: usize) -> usize;
    }
    const SIGXFSZ: i32 = 25;
    const SIG_IGN: usize = 1;
    // SAFETY: plain C library call that sets a disposition; no handler of ours runs.
    unsafe { signal(SIGXFSZ, SIG_IGN) };
}
