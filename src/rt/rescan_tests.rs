//! The self-audit on real files: a leak that was planted is quarantined, whatever is kept of it; what is clean is let go;
//! what a killed node left is found.

use rand::SeedableRng;

use super::*;
use crate::base::Random;
use crate::base::secret::Digit;
use crate::dsp::noise::Noise;
use crate::dsp::tone::TwoTone;
use crate::guard::Masked;
use crate::media::{BLOCK_FRAMES, Block};
use crate::record::catalogue::Retention;
use crate::record::keys::Kek;
use crate::record::sealed::Mark;
use crate::rt::catalogue::Clerk;
use crate::rt::keys::Keys;
use crate::rt::recorder::{HELD_BYTES, Meta, QUEUE_BLOCKS, Recorder, Settings};

fn kek() -> Kek {
    let text: String = (3..35).map(|byte| format!("{byte:02x}")).collect();
    Kek::parse("scan-1", &text).expect("a key")
}

fn ring() -> KeyRing {
    KeyRing::new(Some(kek()), Vec::new()).expect("a ring")
}

/// Eight seconds of a quiet line; with `keys` spliced into the customer's side from second 2 on.
fn blocks(seed: u64, keys: &str) -> Vec<crate::media::MaskedBlock> {
    let mut line = vec![0i16; 64_000];
    Noise::new(seed).fill(15.0, &mut line);
    for (n, digit) in keys.chars().filter_map(Digit::from_char).enumerate() {
        let from = 16_000 + n * 2_400;
        TwoTone::key(&digit, -14.0).fill(&mut line[from..from + 640]);
    }
    let block = |part: &[i16]| {
        let mut block = Box::new(Block { samples: [0; BLOCK_FRAMES * 2], paused: false });
        block.samples.iter_mut().step_by(2).zip(part).for_each(|(sample, said)| *sample = *said);
        Masked::for_test(block)
    };
    line.chunks(BLOCK_FRAMES).map(block).collect()
}

/// Records a call per run of keys as a node does, without a self-audit. The last is left open, as a kill leaves it.
fn record(catalogue: &Arc<Catalogue>, calls: &[&str], audit: Option<Desk>) -> Vec<RecordingId> {
    let mut random = Random::seed_from_u64(77);
    let clerk = Clerk::start(catalogue.clone(), "n", audit).expect("a clerk");
    let desk = clerk.desk();
    let root = catalogue.root().to_owned();
    let (queue_blocks, held_bytes) = (QUEUE_BLOCKS, HELD_BYTES);
    let settings = Settings {
        root,
        node: "n".into(),
        keys: Keys::fixed(ring()),
        queue_blocks,
        held_bytes,
        stall: Duration::from_secs(60),
        random: Random::seed_from_u64(4),
    };
    let recorder = Recorder::start(settings, move |recording, report| desk.report(recording, &report));
    let recorder = recorder.expect("started");
    let mut ids = Vec::new();
    for (seed, keys) in (0..).zip(calls) {
        let recording = RecordingId::draw(&mut random);
        let meta = Meta::new(CallId::draw(&mut random), "carrier", "pbx");
        clerk.desk().open(recording, &meta);
        let feed = recorder.handle().open(recording, meta);
        feed.mark(Instant::now(), Mark::CustomerKeysMasked);
        blocks(seed, keys).into_iter().for_each(|block| feed.block(block));
        feed.close();
        ids.push(recording);
    }
    recorder.stop();
    clerk.stop();
    ids
}

fn wait(done: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(120);
    while !done() {
        assert!(Instant::now() < until, "the self-audit does not come to an end");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_planted_leak_is_quarantined_and_a_clean_recording_let_go() {
    let root = tempfile::tempdir().expect("a directory");
    let catalogue = Arc::new(Catalogue::open(root.path(), Retention::default()).expect("a catalogue"));
    let outcomes = Arc::new(std::sync::Mutex::new(Vec::new()));
    let told = outcomes.clone();
    let rescan = Rescan::start(catalogue.clone(), Arc::new(ring), move |outcome| {
        told.lock().expect("sound").push(outcome.clone());
    });
    let rescan = rescan.expect("started");
    let ids = record(&catalogue, &["", "123", "4242424242424242"], Some(rescan.desk()));
    wait(|| outcomes.lock().expect("sound").len() == 3);
    let totals = rescan.desk().totals();
    assert_eq!((totals.waiting, totals.clean, totals.hits, totals.failed), (0, 1, 2, 0));
    rescan.stop();
    let state = |n: usize| catalogue.get(ids[n]).expect("read").expect("an entry");
    assert_eq!((state(0).state, state(0).withheld()), (State::Sealed, None));
    for n in [1, 2] {
        let entry = state(n);
        assert!(entry.state == State::Quarantined && entry.withheld().is_some());
        let audit = entry.self_audit.expect("a verdict");
        assert_eq!(audit.verdict, AuditVerdict::Hit);
        assert!(audit.detail.contains("customer") && !audit.detail.contains("4242"), "{}", audit.detail);
    }
    // A quarantine outlives the database.
    catalogue.reindex(&ring()).expect("reindexed");
    assert_eq!(state(2).state, State::Quarantined);
}

#[test]
fn what_a_killed_node_left_is_withheld_and_heard_at_the_next_start() {
    let root = tempfile::tempdir().expect("a directory");
    let catalogue = Arc::new(Catalogue::open(root.path(), Retention::default()).expect("a catalogue"));
    let ids = record(&catalogue, &["", "123"], None);
    // As if the kill had come before the seal and the end of the file were written.
    let entry = catalogue.get(ids[1]).expect("read").expect("an entry");
    let file = catalogue.file(&entry);
    fs::remove_file(place::seal_file(&file)).expect("no seal");
    let length = fs::metadata(&file).expect("a file").len();
    fs::OpenOptions::new().write(true).open(&file).expect("opened").set_len(length - 40).expect("cut");
    let rescan = Rescan::start(catalogue.clone(), Arc::new(ring), |_| {}).expect("started");
    rescan.desk().missed();
    wait(|| rescan.desk().totals().clean + rescan.desk().totals().hits == 2);
    rescan.stop();
    let state = |n: usize| catalogue.get(ids[n]).expect("read").expect("an entry").state;
    assert_eq!((state(0), state(1)), (State::Sealed, State::Quarantined));
}

#[test]
fn without_its_key_a_recording_stays_withheld() {
    let root = tempfile::tempdir().expect("a directory");
    let catalogue = Arc::new(Catalogue::open(root.path(), Retention::default()).expect("a catalogue"));
    let ids = record(&catalogue, &[""], None);
    catalogue.finalising(ids[0]).expect("finalising");
    let outcome = audit(&catalogue, &KeyRing::default(), ids[0], &mut || true).expect("told").expect("an outcome");
    assert_eq!(outcome.verdict, AuditVerdict::Failed);
    assert!(catalogue.get(ids[0]).expect("read").expect("an entry").withheld().is_some());
    let outcome = audit(&catalogue, &ring(), ids[0], &mut || true).expect("told").expect("an outcome");
    assert_eq!(outcome.verdict, AuditVerdict::Clean);
}
