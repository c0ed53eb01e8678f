//! The catalogue on real files: found again after a crash, after the loss of its database, beside another process.

use std::fs;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rand::SeedableRng;

use super::*;
use crate::base::Random;
use crate::base::ids::CallId;
use crate::guard::Masked;
use crate::media::{BLOCK_FRAMES, Block};
use crate::record::catalogue::Rule;
use crate::record::keys::{Kek, KeyRing};
use crate::rt::keys::Keys;
use crate::rt::recorder::{HELD_BYTES, Meta, QUEUE_BLOCKS, Recorder, Report, Settings};

fn kek() -> Kek {
    let text: String = (7..39).map(|byte| format!("{byte:02x}")).collect();
    Kek::parse("cat-1", &text).expect("a key")
}

fn ring() -> KeyRing {
    KeyRing::new(Some(kek()), Vec::new()).expect("a ring")
}

fn meta(random: &mut Random, caller: &str) -> Meta {
    let mut meta = Meta::new(CallId::draw(random), "carrier", "pbx");
    meta.caller = caller.to_owned();
    meta.agent = "agent-7".to_owned();
    meta.sip_call_ids = vec![format!("{caller}@carrier.example")];
    meta.labels.insert("team".into(), "north".into());
    meta
}

/// Records one short call per caller, catalogued as a node does it; leaves the last one open when `leave` says so.
fn record(catalogue: &Arc<Catalogue>, callers: &[&str]) -> Vec<RecordingId> {
    let mut random = Random::seed_from_u64(callers.len() as u64 + 40);
    let clerk = Clerk::start(catalogue.clone(), "n", None).expect("a clerk");
    let desk = clerk.desk();
    let (closed_tx, closed) = mpsc::channel();
    let settings = Settings {
        root: catalogue.root().to_owned(),
        node: "n".into(),
        keys: Keys::fixed(ring()),
        queue_blocks: QUEUE_BLOCKS,
        held_bytes: HELD_BYTES,
        stall: Duration::from_secs(10),
        random: Random::seed_from_u64(4),
    };
    let recorder = Recorder::start(settings, move |recording, report| {
        desk.report(recording, &report);
        if let Report::Closed { .. } = report {
            closed_tx.send(()).expect("the test listens");
        }
    })
    .expect("started");
    let mut ids = Vec::new();
    for caller in callers {
        let recording = RecordingId::draw(&mut random);
        let meta = meta(&mut random, caller);
        clerk.desk().open(recording, &meta);
        let feed = recorder.handle().open(recording, meta);
        for number in 0..12u8 {
            let block = Block { samples: [5; BLOCK_FRAMES * 2], paused: (3..6).contains(&number) };
            feed.block(Masked::for_test(Box::new(block)));
        }
        feed.close();
        ids.push(recording);
    }
    for _ in callers {
        closed.recv_timeout(Duration::from_secs(20)).expect("closed");
    }
    recorder.stop();
    clerk.stop();
    ids
}

use std::sync::Arc;

fn open(root: &Path) -> Arc<Catalogue> {
    let rules = vec![Rule { trunk: None, label: Some(("team".into(), "north".into())), keep_days: 30 }];
    Arc::new(Catalogue::open(root, Retention { rules }).expect("a catalogue"))
}

#[test]
fn a_recording_is_found_by_everything_that_is_known_of_it() {
    let root = tempfile::tempdir().expect("a directory");
    let catalogue = open(root.path());
    let ids = record(&catalogue, &["+15550100", "+15550111"]);
    let one = catalogue.get(ids[0]).expect("read").expect("an entry");
    assert_eq!((one.state, one.length_ms, one.gaps, one.kek_id.as_str()), (State::Sealed, 1_200, 1, "cat-1"));
    assert!(one.ended_ms.is_some() && one.keep_until_ms > one.ended_ms && one.bytes > 38_000);
    let found = |query: Query| -> Vec<RecordingId> {
        let mut found: Vec<_> = catalogue.search(&query).expect("read").entries.iter().map(|e| e.recording).collect();
        found.sort();
        found
    };
    let both = {
        let mut both = ids.clone();
        both.sort();
        both
    };
    let any = Query::default;
    assert_eq!(found(any()), both);
    assert_eq!(found(Query { call: one.call, ..any() }), [ids[0]]);
    assert_eq!(found(Query { number: Some("50111".into()), ..any() }), [ids[1]]);
    assert_eq!(found(Query { number: Some("agent-7".into()), ..any() }), both);
    assert_eq!(found(Query { sip_call_id: Some("+15550100@carrier.example".into()), ..any() }), [ids[0]]);
    assert_eq!(found(Query { labels: vec![("team".into(), "north".into())], ..any() }), both);
    assert_eq!(found(Query { labels: vec![("team".into(), "south".into())], ..any() }), []);
    assert_eq!(found(Query { trunk: Some("pbx".into()), states: vec![State::Sealed], ..any() }), both);
    assert_eq!(found(Query { from: Some(WallMs(one.started_ms.0 + 3_600_000)), ..any() }), []);
    assert_eq!(found(Query { kek_id: Some("cat-1".into()), only_local: true, held: Some(false), ..any() }), both);
    // A page at a time, none twice and none left out.
    let first = catalogue.search(&Query { limit: 1, ..any() }).expect("read");
    let second = catalogue.search(&Query { limit: 1, after: first.next, ..any() }).expect("read");
    assert_ne!(first.entries[0].recording, second.entries[0].recording);
    assert!(first.next.is_some() && second.next.is_none());
    // What the wire said cannot reach the database as SQL.
    assert_eq!(found(Query { number: Some("' OR 1=1 --".into()), ..any() }), []);
    assert_eq!(catalogue.counts().expect("read")[2], 2);
}

use crate::base::time::WallMs;

#[test]
fn holds_labels_and_quarantine_outlive_the_database() {
    let root = tempfile::tempdir().expect("a directory");
    let catalogue = open(root.path());
    let ids = record(&catalogue, &["a", "b", "c", "d"]);
    catalogue.hold(ids[0], "key:law", "case 7").expect("held");
    assert!(matches!(catalogue.hold(ids[0], "x", "y"), Err(CatalogueError::Refused { .. })));
    let labelled =
        catalogue.label(ids[1], &[("case".into(), Some("9".into())), ("team".into(), None)]).expect("labelled");
    assert_eq!(labelled.keep_until_ms, None, "no rule fits any more");
    let bad = [("card".to_owned(), Some("4111111111111111".to_owned()))];
    assert!(matches!(catalogue.label(ids[1], &bad), Err(CatalogueError::Refused { .. })));
    catalogue.audited(ids[2], AuditVerdict::Hit, "tones at 0:00.4").expect("quarantined");
    let stone = Tombstone { by: "key:admin".into(), why: "asked for".into(), at_ms: WallMs(5) };
    assert!(catalogue.bury(ids[0], stone.clone()).is_err(), "it is held");
    catalogue.bury(ids[3], stone).expect("buried");
    fs::remove_file(catalogue.file(&catalogue.get(ids[3]).expect("read").expect("an entry"))).expect("removed");
    let all = Query { states: State::ALL.to_vec(), ..Query::default() };
    let before = catalogue.search(&all).expect("read");
    drop(catalogue);

    for file in ["catalogue.db", "catalogue.db-wal", "catalogue.db-shm"] {
        // The last one to close it may have taken the others along.
        let _ = fs::remove_file(root.path().join(file));
    }
    let catalogue = open(root.path());
    let done = catalogue.reindex(&ring()).expect("reindexed");
    assert_eq!((done.found, done.added, done.unread, done.noted), (3, 4, 0, 1));
    let after = catalogue.search(&all).expect("read");
    let strip = |page: &Page| {
        let mut entries = page.entries.clone();
        // The clerk's clock and the seal's differ by the time between them.
        entries.iter_mut().for_each(|entry| (entry.ended_ms, entry.keep_until_ms) = (None, None));
        entries
    };
    assert_eq!(strip(&before), strip(&after));
    assert_eq!(catalogue.get(ids[2]).expect("read").expect("an entry").state, State::Quarantined);
    catalogue.lift_quarantine(ids[2], "key:admin", "a fax").expect("lifted");
    assert_eq!(catalogue.get(ids[2]).expect("read").expect("an entry").state, State::Sealed);
    catalogue.release(ids[0]).expect("released");
    assert_eq!(catalogue.reindex(&KeyRing::default()).expect("reindexed").unread, 0, "notes and rows know more");
}

#[test]
fn a_file_that_is_no_database_is_put_aside_and_what_a_crash_left_is_found() {
    let root = tempfile::tempdir().expect("a directory");
    let catalogue = open(root.path());
    let ids = record(&catalogue, &["a", "b"]);
    let entries = ids.iter().map(|id| catalogue.get(*id).expect("read").expect("an entry"));
    let files: Vec<PathBuf> = entries.map(|entry| catalogue.file(&entry)).collect();
    drop(catalogue);
    for file in ["catalogue.db-wal", "catalogue.db-shm"] {
        let _ = fs::remove_file(root.path().join(file));
    }
    fs::write(root.path().join(FILE), b"not a database at all, not even by a long way.").expect("broken");
    // The second one was killed: no seal, half a chunk.
    fs::remove_file(place::seal_file(&files[1])).expect("no seal");
    let whole = fs::read(&files[1]).expect("the file");
    fs::write(&files[1], &whole[..whole.len() - 900]).expect("cut");

    let catalogue = open(root.path());
    assert!(root.path().join("catalogue.db.broken").exists());
    // A writer that is alive holds its lock.
    let writing = OpenOptions::new().append(true).open(&files[0]).expect("the file");
    rustix::fs::flock(&writing, rustix::fs::FlockOperation::NonBlockingLockExclusive).expect("locked");
    assert_eq!(catalogue.recover(&ring()).expect("recovered").added, 2);
    let state = |id| catalogue.get(id).expect("read").expect("an entry").state;
    assert_eq!((state(ids[0]), state(ids[1])), (State::Recording, State::Interrupted));
    drop(writing);
    assert_eq!(catalogue.recover(&ring()).expect("recovered").added, 0);
    assert_eq!((state(ids[0]), state(ids[1])), (State::Sealed, State::Interrupted));
    let torn = catalogue.get(ids[1]).expect("read").expect("an entry");
    assert_eq!((torn.length_ms, torn.caller.as_str(), torn.ended_ms), (1_000, "b", None));
}

#[test]
fn two_processes_may_change_the_same_recording() {
    let root = tempfile::tempdir().expect("a directory");
    let here = open(root.path());
    let id = record(&here, &["a"])[0];
    let begun = Instant::now();
    let threads: Vec<_> = (0..2)
        .map(|side| {
            // As another process: a connection of its own.
            let catalogue = open(root.path());
            std::thread::spawn(move || {
                for at in 0..20 {
                    catalogue.label(id, &[(format!("side-{side}-{at}"), Some("x".into()))]).expect("labelled");
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    assert!(begun.elapsed() < PATIENCE * 2);
    assert_eq!(here.get(id).expect("read").expect("an entry").labels.len(), 41, "the team and forty more");
}
