//! Spills on real files: found, opened and marked, wherever their bytes are; and those that are not to be had.

use std::path::Path;

use object_store::memory::InMemory;
use rand::SeedableRng;
use tokio::sync::mpsc::UnboundedReceiver;

use super::*;
use crate::audit::Audit;
use crate::base::Random;
use crate::base::ids::CallId;
use crate::guard::Masked;
use crate::media::{BLOCK_FRAMES, Block};
use crate::record::catalogue::{AuditVerdict, FORWARDED, Retention, SPILL, Whereabouts};
use crate::record::keys::{Kek, KeyRing};
use crate::rt::catalogue::{Catalogue, Clerk};
use crate::rt::keys::Keys;
use crate::rt::recorder::{HELD_BYTES, Meta, QUEUE_BLOCKS, Recorder, Settings};
use crate::rt::vault::store::Store;

fn ring(seed: u8) -> KeyRing {
    let text: String = (0..32u8).map(|at| format!("{:02x}", seed.wrapping_add(at.wrapping_mul(7)))).collect();
    KeyRing::new(Some(Kek::parse("k", &text).expect("a key")), Vec::new()).expect("a ring")
}

/// Spills for "quality" of 1.2 s each, closed and audited.
fn record(root: &Path, count: usize) -> Vec<RecordingId> {
    let catalogue = Arc::new(Catalogue::open(root, Retention::default()).expect("a catalogue"));
    let clerk = Clerk::start(catalogue.clone(), "n", None).expect("a clerk");
    let desk = clerk.desk();
    let settings = Settings {
        root: root.to_owned(),
        node: "n".into(),
        keys: Keys::fixed(ring(1)),
        queue_blocks: QUEUE_BLOCKS,
        held_bytes: HELD_BYTES,
        stall: Duration::from_secs(30),
        random: Random::seed_from_u64(1),
    };
    let recorder =
        Recorder::start(settings, move |recording, report| desk.report(recording, &report)).expect("started");
    let mut random = Random::seed_from_u64(2);
    let ids: Vec<_> = (0..count).map(|_| RecordingId::draw(&mut random)).collect();
    for recording in &ids {
        let mut meta = Meta::new(CallId::draw(&mut random), "carrier", "pbx");
        meta.labels.insert(SPILL.to_owned(), "quality".to_owned());
        clerk.desk().open(*recording, &meta);
        let feed = recorder.handle().open(*recording, meta);
        for _ in 0..12 {
            feed.block(Masked::for_test(Box::new(Block { samples: [77; BLOCK_FRAMES * 2], paused: false })));
        }
        feed.close();
    }
    recorder.stop();
    clerk.stop();
    for recording in &ids {
        catalogue.audited(*recording, AuditVerdict::Clean, "nothing").expect("audited");
    }
    ids
}

struct Bench {
    vault: Arc<Vault>,
    forward: Forward,
    reports: UnboundedReceiver<SpillReport>,
}

impl Bench {
    fn open(root: &Path, keys: KeyRing, store: Option<Store>) -> Self {
        let catalogue = Arc::new(Catalogue::open(root, Retention::default()).expect("a catalogue"));
        let keep = store.is_some().then_some(Duration::ZERO);
        let vault = Arc::new(Vault::new(catalogue, Keys::fixed(keys), store, keep, Random::seed_from_u64(9)));
        let (told, reports) = tokio::sync::mpsc::unbounded_channel();
        let known = vec!["quality".to_owned()];
        let forward = Forward::start(vault.clone(), known, mpsc::channel(), told).expect("a thread");
        Self { vault, forward, reports }
    }

    fn next(&mut self) -> SpillReport {
        self.reports.blocking_recv().expect("a report")
    }

    /// Those that wait, as told at the beginning.
    fn all(&mut self) -> Vec<RecordingId> {
        let SpillReport::All(all) = self.next() else { panic!("the list comes first") };
        assert!(all.iter().all(|one| one.recorder == "quality"));
        let mut all: Vec<_> = all.into_iter().map(|one| one.recording).collect();
        all.sort_unstable();
        all
    }

    fn ask(&mut self, order: Order) -> SpillReport {
        self.forward.order(order);
        self.next()
    }
}

#[test]
fn what_waits_is_found_opened_and_marked_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut ids = record(dir.path(), 3);
    let catalogue = Catalogue::open(dir.path(), Retention::default()).expect("a catalogue");
    catalogue.hold(ids[1], "key:law", "case 7").expect("held");
    catalogue.audited(ids[2], AuditVerdict::Hit, "planted").expect("quarantined");
    let mut bench = Bench::open(dir.path(), ring(1), None);
    let (bad, mut good) = (ids.pop().expect("the third"), ids);
    good.sort_unstable();
    assert_eq!(bench.all(), good, "one that is held waits too, one in quarantine never");
    for recording in &good {
        let SpillReport::Opened(opened, what) = bench.ask(Order::Open(*recording)) else { panic!("it is there") };
        assert_eq!((opened, what.ended.0 - what.start.started_at_ms.0), (*recording, 1_200));
    }
    let told = bench.ask(Order::Open(bad));
    assert!(
        matches!(&told, SpillReport::Unfit(id, why, true) if *id == bad && why.contains("quarantined")),
        "{told:?}"
    );
    assert_eq!(bench.ask(Order::Clean(good[0])), bench.ask(Order::Clean(good[0])), "told as often as asked");
    assert_eq!(bench.ask(Order::Mark(good[0])), SpillReport::Marked(good[0]));
    let entry = bench.vault.catalogue().get(good[0]).expect("the catalogue").expect("its entry");
    assert!(entry.labels.contains_key(FORWARDED) && entry.waits_for().is_none());
    // Marked: neither a verdict nor an order brings it out again.
    bench.forward.order(Order::Clean(good[0]));
    let told = bench.ask(Order::Open(good[0]));
    assert!(matches!(told, SpillReport::Unfit(id, _, true) if id == good[0]), "{told:?}");
    bench.forward.stop();
}

#[test]
fn what_cannot_be_opened_now_is_told_and_not_given_up() {
    let dir = tempfile::tempdir().expect("a directory");
    let ids = record(dir.path(), 2);
    let mut bench = Bench::open(dir.path(), ring(5), None);
    assert_eq!(bench.all().len(), 2);
    let told = bench.ask(Order::Open(ids[0]));
    assert!(matches!(&told, SpillReport::Unfit(_, why, false) if why.contains("cannot be opened")), "{told:?}");
    bench.forward.stop();
    let mut bench = Bench::open(dir.path(), ring(1), None);
    bench.all();
    bench.vault.destroy(ids[0], "key:boss", "asked for").expect("destroyed");
    let told = bench.ask(Order::Open(ids[0]));
    assert!(matches!(&told, SpillReport::Unfit(_, why, true) if why.contains("destroyed")), "{told:?}");
    assert_eq!(bench.ask(Order::Mark(ids[0])), SpillReport::Marked(ids[0]), "nobody sends it again");
    let SpillReport::Opened(..) = bench.ask(Order::Open(ids[1])) else { panic!("the other is fit") };
    // While it is open, nobody destroys it under the reader.
    assert!(matches!(bench.vault.destroy(ids[1], "key:boss", "asked for"), Err(VaultError::Busy(_))));
    bench.forward.stop();
}

#[test]
fn what_is_only_in_the_object_store_is_fetched() {
    let dir = tempfile::tempdir().expect("a directory");
    let ids = record(dir.path(), 1);
    let store = Store::new(Arc::new(InMemory::new()), "").expect("a store");
    let mut bench = Bench::open(dir.path(), ring(1), Some(store));
    bench.all();
    for _ in 0..2 {
        assert_eq!(bench.vault.round(&Audit::off()).failed, Vec::<String>::new());
    }
    let entry = bench.vault.catalogue().get(ids[0]).expect("the catalogue").expect("its entry");
    assert_eq!((entry.whereabouts, bench.vault.catalogue().file(&entry).exists()), (Whereabouts::Store, false));
    let told = bench.ask(Order::Open(ids[0]));
    assert!(matches!(told, SpillReport::Opened(id, _) if id == ids[0]), "{told:?}");
    bench.forward.stop();
}
