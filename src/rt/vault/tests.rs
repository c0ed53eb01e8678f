//! The vault on real files: keys that change, holds, deadlines, destruction, a store that fails, crashes in between.

use std::fs;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Instant;

use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};
use rand::SeedableRng;

use super::*;
use crate::audit::Audit;
use crate::base::ids::CallId;
use crate::guard::Masked;
use crate::media::{BLOCK_FRAMES, Block};
use crate::record::catalogue::{LegalHold, Query, Retention, Rule};
use crate::record::keys::{Kek, KeyRing};
use crate::record::sealed::{Verdict, verify};
use crate::rt::catalogue::Clerk;
use crate::rt::recorder::{HELD_BYTES, Meta, QUEUE_BLOCKS, Recorder, Report, Settings};

fn kek(id: &str) -> Kek {
    let seed = id.bytes().fold(1u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte));
    let text: String = (0..32u8).map(|at| format!("{:02x}", seed.wrapping_add(at.wrapping_mul(7)))).collect();
    Kek::parse(id, &text).expect("a key")
}

fn ring(current: &str, old: &[&str]) -> KeyRing {
    KeyRing::new(Some(kek(current)), old.iter().map(|id| kek(id)).collect()).expect("a ring")
}

/// Recordings of `count` calls under `key`, two chunks and a bit each.
fn record(root: &Path, key: &str, count: u64, seed: u64) -> Vec<RecordingId> {
    let rules = vec![Rule { trunk: None, label: None, keep_days: 1 }];
    let catalogue = Arc::new(Catalogue::open(root, Retention { rules }).expect("a catalogue"));
    let clerk = Clerk::start(catalogue, "n", None).expect("a clerk");
    let desk = clerk.desk();
    let settings = Settings {
        root: root.to_owned(),
        node: "n".into(),
        keys: Keys::fixed(ring(key, &[])),
        queue_blocks: QUEUE_BLOCKS,
        held_bytes: HELD_BYTES,
        stall: Duration::from_secs(30),
        random: Random::seed_from_u64(seed),
    };
    let recorder =
        Recorder::start(settings, move |recording, report| desk.report(recording, &report)).expect("started");
    let mut random = Random::seed_from_u64(seed + 1);
    let mut ids = Vec::new();
    for _ in 0..count {
        let recording = RecordingId::draw(&mut random);
        let meta = Meta::new(CallId::draw(&mut random), "carrier", "pbx");
        clerk.desk().open(recording, &meta);
        let feed = recorder.handle().open(recording, meta);
        for _ in 0..24 {
            feed.block(Masked::for_test(Box::new(Block { samples: [77; BLOCK_FRAMES * 2], paused: false })));
        }
        feed.close();
        ids.push(recording);
    }
    recorder.stop();
    clerk.stop();
    ids
}

fn vault(root: &Path, keys: KeyRing, store: Option<Store>) -> Vault {
    let rules = vec![Rule { trunk: None, label: None, keep_days: 1 }];
    let catalogue = Arc::new(Catalogue::open(root, Retention { rules }).expect("a catalogue"));
    let keep_local = store.is_some().then_some(Duration::ZERO);
    Vault::new(catalogue, Keys::fixed(keys), store, keep_local, Random::seed_from_u64(99))
}

fn reads(vault: &Vault, recording: RecordingId, keys: &KeyRing) -> bool {
    let Ok(mut reading) = vault.open(recording) else { return false };
    let seal = reading.seal.take().expect("a seal");
    let report = verify(&mut reading, Some(&seal), Some(recording), keys, &mut |_| Ok(()));
    report.is_ok_and(|report| report.verdict == Verdict::Intact && report.frames == 24 * BLOCK_FRAMES as u64)
}

fn file(vault: &Vault, recording: RecordingId) -> PathBuf {
    vault.catalogue.file(&vault.catalogue.get(recording).expect("read").expect("an entry"))
}

#[test]
fn a_new_key_takes_over_every_recording_in_place_or_by_a_copy() {
    let root = tempfile::tempdir().expect("a directory");
    let ids = record(root.path(), "a", 6, 1);
    for (from, to) in [("a", "b"), ("b", "longer-name"), ("longer-name", "c")] {
        let vault = vault(root.path(), ring(to, &[from]), None);
        let sealed = fs::read(file(&vault, ids[0])).expect("the file");
        let done = vault.round(&Audit::off());
        assert_eq!((done.rewrapped, done.waiting, done.failed.len()), (6, 0, 0), "{done:?}");
        for id in &ids {
            assert!(reads(&vault, *id, &ring(to, &[])) && !reads(&vault, *id, &ring(from, &[])), "{from} to {to}");
            assert_eq!(vault.catalogue.get(*id).expect("read").expect("an entry").kek_id, to);
        }
        // The chunks were not touched.
        let now = fs::read(file(&vault, ids[0])).expect("the file");
        assert_eq!(now[now.len() - 60_000..], sealed[sealed.len() - 60_000..]);
        assert_eq!(vault.round(&Audit::off()), Done::default(), "nothing is left to do");
    }
    let leftovers = |day: PathBuf| fs::read_dir(day).expect("a day").map(|e| e.expect("an entry").path());
    let day = file(&vault(root.path(), ring("c", &[]), None), ids[0]).parent().expect("a day").to_owned();
    assert!(
        leftovers(day)
            .all(|path| !path.to_string_lossy().ends_with("new") && path.extension().is_none_or(|e| e != "rewrap"))
    );
}

#[test]
fn one_that_is_being_read_or_written_waits_and_is_neither_rewrapped_nor_destroyed() {
    let root = tempfile::tempdir().expect("a directory");
    let ids = record(root.path(), "a", 2, 2);
    let vault = vault(root.path(), ring("b", &["a"]), None);
    let reading = vault.open(ids[0]).expect("open");
    assert_eq!(vault.rewrap(ids[0]).expect("asked"), Changed::Busy);
    assert!(matches!(vault.destroy(ids[0], "x", "y"), Err(VaultError::Busy(_))));
    assert_eq!(vault.round(&Audit::off()).waiting, 1);
    drop(reading);
    assert_eq!(vault.rewrap(ids[0]).expect("asked"), Changed::Done);
}

#[test]
fn a_crash_between_the_steps_of_a_change_leaves_the_recording_whole() {
    let root = tempfile::tempdir().expect("a directory");
    let ids = record(root.path(), "a", 3, 3);
    let vault = vault(root.path(), ring("b", &["a"]), None);
    let both = ring("b", &["a"]);
    let mut random = Random::seed_from_u64(5);
    for id in &ids {
        let path = file(&vault, *id);
        let old = fs::read(&path).expect("the file");
        let new = crate::record::sealed::rewrap(&old[..1_000], &both, &kek("b"), &mut random);
        let new = new.expect("rewrapped").expect("another key").header;
        // The journal is there; of the header, so many bytes were written.
        for written in (0..=new.len()).step_by(5) {
            fs::write(path.with_extension("rewrap"), &new).expect("a journal");
            let torn = [&new[..written], &old[written..]].concat();
            fs::write(&path, torn).expect("torn");
            assert!(reads(&vault, *id, &ring("b", &[])), "{written} bytes of the header were written");
            assert!(!path.with_extension("rewrap").exists());
        }
        // A journal of another recording is not written over this one.
        fs::write(&path, &old).expect("the file");
        let other = ids.iter().find(|other| *other != id).expect("another");
        let stray = fs::read(file(&vault, *other)).expect("the file");
        fs::write(path.with_extension("rewrap"), &stray[..new.len()]).expect("a journal");
        assert!(reads(&vault, *id, &both));
    }
    // Re-encrypted, and cut off before either, or one, of the renames.
    for (renamed, id) in ids.iter().copied().take(2).enumerate() {
        let path = file(&vault, id);
        let (old, old_seal) = (fs::read(&path).expect("the file"), fs::read(place::seal_file(&path)).expect("a seal"));
        assert_eq!(vault.reencrypt(id).expect("changed"), Changed::Done);
        let (new, seal) = (fs::read(&path).expect("the file"), fs::read(place::seal_file(&path)).expect("a seal"));
        assert_ne!(new[60_000..70_000], old[60_000..70_000], "other ciphertext");
        fs::write(&path, &old).expect("as before");
        fs::write(path.with_extension("sealed.new"), &new).expect("a copy");
        fs::write(place::seal_file(&path), if renamed == 1 { &seal } else { &old_seal }).expect("as before");
        if renamed == 0 {
            fs::write(path.with_extension("seal.new"), &seal).expect("a copy");
        }
        fs::write(path.with_extension("rewrap"), b"tonewall re-encrypted\n").expect("a journal");
        assert!(reads(&vault, id, &ring("b", &[])));
        assert_eq!(fs::read(&path).expect("the file"), new);
    }
}

#[test]
fn after_a_compromise_the_old_key_opens_nothing_even_with_the_old_header() {
    let root = tempfile::tempdir().expect("a directory");
    let ids = record(root.path(), "a", 1, 4);
    let vault = vault(root.path(), ring("b", &["a"]), None);
    let path = file(&vault, ids[0]);
    let before = fs::read(&path).expect("the file");
    assert_eq!(vault.reencrypt(ids[0]).expect("changed"), Changed::Done);
    let after = fs::read(&path).expect("the file");
    assert!(reads(&vault, ids[0], &ring("b", &[])));
    // Whoever kept the old header and has the old key.
    let head = 57 + 1 + 1 + 8 + 12 + 48;
    let forged = [&before[..head], &after[head..]].concat();
    let report = verify(&forged[..], None, None, &ring("a", &[]), &mut |_| Ok(())).expect("a verdict");
    assert!(matches!(report.verdict, Verdict::Tampered { .. }) && report.chunks == 0, "{:?}", report.verdict);
}

#[test]
fn destroyed_is_gone_for_every_key_leaves_a_tombstone_and_a_hold_forbids_it() {
    let root = tempfile::tempdir().expect("a directory");
    let ids = record(root.path(), "a", 3, 5);
    let vault = vault(root.path(), ring("a", &[]), None);
    let path = file(&vault, ids[0]);
    let copy = fs::File::open(&path).expect("somebody has it open");
    vault.catalogue.hold(ids[0], "key:law", "case 7").expect("held");
    let refused = vault.destroy(ids[0], "key:admin", "asked for").expect_err("held").to_string();
    assert!(refused.contains("legal hold") && refused.contains("case 7"), "{refused}");
    assert!(reads(&vault, ids[0], &ring("a", &[])));
    vault.catalogue.release(ids[0]).expect("released");
    let destroyed = vault.destroy(ids[0], "key:admin", "asked for").expect("destroyed");
    assert!(destroyed.proof.to_string().contains("opening it failed"), "{}", destroyed.proof);
    assert!(!path.exists() && !place::seal_file(&path).exists());
    // The bytes behind the name that is gone: not even they open.
    let report = verify(&copy, None, None, &ring("a", &[]), &mut |_| Ok(())).expect("a verdict");
    assert!(matches!(report.verdict, Verdict::Tampered { .. }) && report.chunks == 0);
    let entry = vault.catalogue.get(ids[0]).expect("read").expect("a tombstone");
    assert_eq!((entry.state, entry.whereabouts), (State::Destroyed, Whereabouts::Nowhere));
    assert_eq!(entry.tombstone.expect("a tombstone").by, "key:admin");
    assert!(vault.open(ids[0]).is_err() && vault.destroy(ids[0], "x", "y").is_err());
    // A crash after the tombstone and before the bytes: the next round goes on.
    let stone = Tombstone { by: "x".into(), why: "y".into(), at_ms: wall() };
    vault.catalogue.bury(ids[1], stone).expect("buried");
    let left = file(&vault, ids[1]);
    assert!(left.exists() && vault.open(ids[1]).is_err());
    assert_eq!(vault.round(&Audit::off()).wiped, 1);
    assert!(!left.exists());
    // Deleted behind our back: there is nothing to wipe, and it is told as gone.
    fs::remove_file(file(&vault, ids[2])).expect("deleted");
    assert!(vault.destroy(ids[2], "x", "y").expect("destroyed").proof.to_string().contains("no file here"));
}

#[test]
fn deadlines_destroy_what_is_not_held_and_tell_the_audit_log() {
    let root = tempfile::tempdir().expect("a directory");
    let ids = record(root.path(), "a", 3, 6);
    let vault = vault(root.path(), ring("a", &[]), None);
    let (audit, memory) = Audit::in_memory();
    assert_eq!(vault.round(&audit), Done::default(), "a day has not passed");
    // As if it had: the entries are of two days ago.
    for id in &ids {
        let mut entry = vault.catalogue.get(*id).expect("read").expect("an entry");
        entry.ended_ms = entry.ended_ms.map(|at| crate::base::time::WallMs(at.0 - 2 * 86_400_000));
        vault.catalogue.index(entry).expect("indexed");
    }
    vault.catalogue.hold(ids[0], "key:law", "case 7").expect("held");
    memory.set_broken(true);
    assert_eq!(vault.round(&audit).expired, 0, "nothing is destroyed that cannot be noted");
    memory.set_broken(false);
    assert_eq!(vault.round(&audit).expired, 2);
    let noted = memory.take();
    // Asked for before, and told with how it was seen after.
    let told = noted.iter().map(|record| match &record.action {
        crate::audit::Action::RecordingDestroyed { proof, .. } => (record.outcome.result, proof.clone()),
        other => panic!("{other:?}"),
    });
    let told: Vec<_> = told.collect();
    assert_eq!(told.len(), 4, "{noted:?}");
    for pair in told.chunks(2) {
        assert_eq!(pair[0], (crate::audit::Verdict::Asked, None));
        let (verdict, Some(proof)) = &pair[1] else { panic!("{pair:?}") };
        assert_eq!(*verdict, crate::audit::Verdict::Done);
        assert_eq!((&*proof.keys_tried, proof.opened, proof.files_deleted), (&["a".into()][..], false, 2));
    }
    let entry = vault.catalogue.get(ids[0]).expect("read").expect("an entry");
    assert!(matches!(entry.hold, Some(LegalHold { .. })) && reads(&vault, ids[0], &ring("a", &[])));
}

/// A store in memory that both the vault and the test see.
fn store(inner: &Arc<InMemory>) -> Store {
    Store::new(inner.clone() as Arc<dyn ObjectStore>, "site-1/").expect("a store")
}

#[test]
fn stored_recordings_are_read_back_rewrapped_and_destroyed_where_they_are() {
    let root = tempfile::tempdir().expect("a directory");
    let ids = record(root.path(), "a", 3, 7);
    let objects = Arc::new(InMemory::new());
    let vault_a = vault(root.path(), ring("a", &[]), Some(store(&objects)));
    let done = vault_a.round(&Audit::off());
    assert_eq!((done.stored, done.dropped, done.failed.len()), (3, 3, 0), "{done:?}");
    let path = file(&vault_a, ids[0]);
    assert!(!path.exists() && !place::seal_file(&path).exists());
    let entry = vault_a.catalogue.get(ids[0]).expect("read").expect("an entry");
    assert_eq!(entry.whereabouts, Whereabouts::Store);
    let key = entry.stored.expect("stored").key;
    assert!(key.starts_with("site-1/") && key.ends_with(&format!("{}.sealed", ids[0])), "{key}");
    assert!(reads(&vault_a, ids[0], &ring("a", &[])));
    assert!(!path.exists(), "reading leaves no copy");
    // The index is lost: it is made again from the notes.
    drop(vault_a);
    for name in ["catalogue.db", "catalogue.db-wal", "catalogue.db-shm"] {
        let _ = fs::remove_file(root.path().join(name));
    }
    let vault_b = vault(root.path(), ring("b", &["a"]), Some(store(&objects)));
    vault_b.catalogue.reindex(&vault_b.keys.ring()).expect("reindexed");
    let done = vault_b.round(&Audit::off());
    assert_eq!((done.rewrapped, done.stored, done.dropped, done.failed.len()), (3, 3, 3, 0), "{done:?}");
    assert!(reads(&vault_b, ids[1], &ring("b", &[])) && !reads(&vault_b, ids[1], &ring("a", &[])));
    // What the store has was changed: it is not taken.
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let at = object_store::path::Path::from(key.as_str());
    let bytes = runtime.block_on(async { objects.get(&at).await.expect("there").bytes().await.expect("bytes") });
    let mut changed = bytes.to_vec();
    changed[5_000] ^= 1;
    runtime.block_on(objects.put(&at, changed.into())).expect("put");
    assert!(vault_b.open(ids[0]).err().expect("refused").to_string().contains("SHA-256"));
    runtime.block_on(objects.put(&at, bytes.into())).expect("put");
    // Destroyed there too.
    let destroyed = vault_b.destroy(ids[0], "key:admin", "asked for").expect("destroyed");
    assert!(destroyed.proof.to_string().contains("object store and seen to be gone"), "{}", destroyed.proof);
    assert!(runtime.block_on(objects.head(&at)).is_err());
    assert!(vault_b.open(ids[0]).is_err());
    // Without a store configured, nothing is said to be destroyed that may still be there.
    drop(vault_b);
    let blind = vault(root.path(), ring("b", &[]), None);
    assert!(matches!(blind.destroy(ids[1], "x", "y"), Err(VaultError::Elsewhere(_))));
    assert!(blind.open(ids[1]).is_err(), "though it is buried");
    let seeing = vault(root.path(), ring("b", &[]), Some(store(&objects)));
    assert_eq!(seeing.round(&Audit::off()).wiped, 1);
}

/// How many calls and for how long; the record was run with `TONEWALL_ROTATION=200,20`.
fn rotation() -> (u64, u64) {
    let said = std::env::var("TONEWALL_ROTATION").ok();
    let parsed = said.as_deref().and_then(|text| text.split_once(',')).map(|(calls, s)| (calls.parse(), s.parse()));
    match parsed {
        Some((Ok(calls), Ok(seconds))) => (calls, seconds),
        _ => (12, 3),
    }
}

#[test]
fn keys_that_change_while_calls_are_recorded_lose_nothing() {
    let (calls, seconds) = rotation();
    let root = tempfile::tempdir().expect("a directory");
    let key_file = |number: u64| root.path().join(format!("kek-{number:04}"));
    let configured = |number: u64| crate::config::Keys {
        current: Some(crate::config::KekRef::file(&format!("kek-{number:04}"), key_file(number))),
        old: (0..number).map(|old| crate::config::KekRef::file(&format!("kek-{old:04}"), key_file(old))).collect(),
    };
    crate::rt::keyfile::make_key(&key_file(0)).expect("a key");
    let recordings = root.path().join("recordings");
    let keys = Keys::load(&configured(0)).expect("keys");
    let catalogue = Arc::new(Catalogue::open(&recordings, Retention::default()).expect("a catalogue"));
    let vault = Arc::new(Vault::new(catalogue.clone(), keys.clone(), None, None, Random::seed_from_u64(1)));
    let rounds = Rounds::start(vault.clone(), Audit::off(), Duration::from_millis(50)).expect("rounds");
    let clerk = Clerk::start(catalogue.clone(), "n", None).expect("a clerk");
    let (desk, (closed_tx, closed)) = (clerk.desk(), mpsc::channel());
    let settings = Settings {
        root: recordings.clone(),
        node: "n".into(),
        keys: keys.clone(),
        queue_blocks: QUEUE_BLOCKS * 4,
        held_bytes: HELD_BYTES,
        stall: Duration::from_secs(60),
        random: Random::seed_from_u64(8),
    };
    let recorder = Recorder::start(settings, move |recording, report| {
        desk.report(recording, &report);
        match report {
            Report::Failed(failure) => panic!("{recording}: {failure}"),
            // The test may be over.
            Report::Closed { .. } => drop(closed_tx.send(recording)),
            _ => {}
        }
    })
    .expect("started");
    let mut random = Random::seed_from_u64(9);
    let (begun, mut turned, mut slot) = (Instant::now(), 0u64, 0u64);
    // Each call is recorded for two seconds; as one ends another begins, so there are always as many.
    let mut feeds: Vec<_> = (0..calls).map(|_| None).collect();
    let mut made: Vec<(RecordingId, u64)> = Vec::new();
    while begun.elapsed() < Duration::from_secs(seconds) {
        for (at, feed) in feeds.iter_mut().enumerate() {
            if (slot + at as u64).is_multiple_of(20) || feed.is_none() {
                if let Some((feed, blocks)) = feed.take() {
                    let feed: crate::rt::recorder::Feed = feed;
                    made.push((feed.recording(), blocks));
                    feed.close();
                }
                let recording = RecordingId::draw(&mut random);
                let meta = Meta::new(CallId::draw(&mut random), "carrier", "pbx");
                clerk.desk().open(recording, &meta);
                *feed = Some((recorder.handle().open(recording, meta), 0u64));
            }
            let Some((feed, blocks)) = feed else { continue };
            feed.block(Masked::for_test(Box::new(Block { samples: [5; BLOCK_FRAMES * 2], paused: false })));
            *blocks += 1;
        }
        slot += 1;
        // A new key each second (or, in the small run, each fifth of one).
        let every = if calls < 100 { 200 } else { 1_000 };
        if begun.elapsed() >= Duration::from_millis(every * (turned + 1)) {
            turned += 1;
            crate::rt::keyfile::make_key(&key_file(turned)).expect("a key");
            assert_eq!(keys.reload(&configured(turned)).expect("reloaded"), Some(format!("kek-{turned:04}")));
        }
        let due = begun + Duration::from_millis(100 * slot);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    for (feed, blocks) in feeds.into_iter().flatten() {
        made.push((feed.recording(), blocks));
        feed.close();
    }
    for _ in &made {
        closed.recv_timeout(Duration::from_secs(120)).expect("closed");
    }
    recorder.stop();
    clerk.stop();
    rounds.stop();
    let all = keys.ring();
    let under: std::collections::BTreeSet<String> =
        made.iter().map(|(id, _)| catalogue.get(*id).expect("read").expect("an entry").kek_id).collect();
    let whole = |id: RecordingId, blocks: u64, ring: &KeyRing| {
        let mut reading = vault.open(id).expect("open");
        let seal = reading.seal.take().expect("a seal");
        verify(&mut reading, Some(&seal), Some(id), ring, &mut |_| Ok(()))
            .is_ok_and(|report| report.verdict == Verdict::Intact && report.frames == blocks * BLOCK_FRAMES as u64)
    };
    assert!(made.iter().all(|(id, blocks)| whole(*id, *blocks, &all)), "a recording is not whole");
    // What is left is put under the last key; then the others are not needed any more.
    let done = vault.round(&Audit::off());
    assert_eq!((done.waiting, done.failed.len()), (0, 0), "{done:?}");
    let newest = keys.current().expect("a key");
    let last = KeyRing::new(Some(newest), Vec::new()).expect("a ring");
    assert!(made.iter().all(|(id, blocks)| whole(*id, *blocks, &last)), "a recording needs an old key");
    assert_eq!(
        catalogue
            .search(&Query { other_kek: Some(format!("kek-{turned:04}")), ..Query::default() })
            .expect("read")
            .entries
            .len(),
        0
    );
    // Destroyed: no key of all that ever were opens one.
    let copies: Vec<fs::File> =
        made.iter().map(|(id, _)| fs::File::open(file(&vault, *id)).expect("somebody has it open")).collect();
    for (id, _) in &made {
        vault.destroy(*id, "test", "over").expect("destroyed");
    }
    for copy in &copies {
        let report = verify(copy, None, None, &all, &mut |_| Ok(())).expect("a verdict");
        assert!(matches!(report.verdict, Verdict::Tampered { .. }) && report.chunks == 0);
    }
    eprintln!(
        "rotation: {} recordings of {calls} calls at once in {seconds} s, {turned} new keys; before the last round under \
         {} keys; 0 lost, all readable under the last key, {} destroyed and opened by none",
        made.len(),
        under.len(),
        copies.len()
    );
    assert!(turned >= 2 && made.len() as u64 >= calls);
}
