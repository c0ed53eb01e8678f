//! Sound of real sealed files, through the way the API takes: whole, in parts, as Ogg, drawn, withheld, destroyed.

use std::fs::File;
use std::io::{self, Write};
use std::time::Duration;

use rand::SeedableRng;

use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};

use super::*;
use crate::audit::Audit;
use crate::base::Random;
use crate::base::ids::CallId;
use crate::base::time::WallMs;
use crate::control::recordings::{Stretch, StretchKind};
use crate::guard::Masked;
use crate::media::{BLOCK_FRAMES, Block};
use crate::record::catalogue::{AuditVerdict, Retention, State};
use crate::record::keys::{Kek, KeyRing};
use crate::record::place;
use crate::record::sealed::{Mark, Start, Storage, Writer};
use crate::rt::catalogue::Catalogue;
use crate::rt::keys::Keys;
use crate::rt::vault::store::Store;

struct Disk(File);

impl Storage for Disk {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const STARTED: WallMs = WallMs(1_795_327_256_000);

fn ring() -> KeyRing {
    let text: String = (9..41).map(|byte| format!("{byte:02x}")).collect();
    KeyRing::new(Some(Kek::parse("k", &text).expect("a key")), Vec::new()).expect("a ring")
}

/// The sample of a frame: a slow ramp on the left, its opposite on the right, so that every place can be told.
fn sample(frame: usize) -> [i16; 2] {
    let value = (frame % 8_000) as i16 * 2;
    [value, -value / 2]
}

/// Seals 3.5 s, paused from 1.0 to 1.5 s, masked from 0.5 to 2 s; closed, unless it is to be left as a kill leaves it.
fn seal(root: &std::path::Path, seed: u64, close: bool) -> RecordingId {
    let mut random = Random::seed_from_u64(seed);
    let recording = RecordingId::draw(&mut random);
    let directory = place::directory(root, STARTED);
    std::fs::create_dir_all(&directory).expect("made");
    let path = place::sealed_file(&directory, recording);
    let start = Start::new(recording, CallId::draw(&mut random), "n", ["carrier", "pbx"], STARTED);
    let keys = ring();
    let kek = keys.current().expect("a key");
    let storage = Disk(File::create(&path).expect("a file"));
    let mut writer = Writer::create(storage, kek, start, &mut random).expect("begun");
    for number in 0..35usize {
        match number {
            5 => writer.mark((number * BLOCK_FRAMES) as u64, Mark::CustomerKeysMasked),
            20 => writer.mark((number * BLOCK_FRAMES) as u64, Mark::CustomerKeysPass),
            _ => {}
        }
        let paused = (10..15).contains(&number);
        let mut block = Block { samples: [0; BLOCK_FRAMES * 2], paused };
        if !paused {
            for at in 0..BLOCK_FRAMES {
                let frame = sample(number * BLOCK_FRAMES + at);
                block.samples[2 * at..2 * at + 2].copy_from_slice(&frame);
            }
        }
        writer.block(&Masked::for_test(Box::new(block))).expect("written");
    }
    if close {
        let (_, text) = writer.close(WallMs(STARTED.0 + 3_500)).expect("closed");
        std::fs::write(place::seal_file(&path), text).expect("its seal");
    }
    recording
}

struct Site {
    root: tempfile::TempDir,
    shelf: Shelf,
}

fn site(build: impl FnOnce(&std::path::Path)) -> Site {
    site_with(None, build)
}

fn site_with(store: Option<Store>, build: impl FnOnce(&std::path::Path)) -> Site {
    let root = tempfile::tempdir().expect("a directory");
    build(root.path());
    let catalogue = Arc::new(Catalogue::open(root.path(), Retention::default()).expect("a catalogue"));
    catalogue.reindex(&ring()).expect("indexed");
    // Each has passed its self-audit, as it must before anybody hears it.
    let every = catalogue.search(&Query::default()).expect("a page").entries;
    for entry in every {
        assert!(entry.withheld().is_some());
        catalogue.audited(entry.recording, AuditVerdict::Clean, "").expect("audited");
    }
    let vault = Vault::new(catalogue, Keys::fixed(ring()), store, Some(Duration::ZERO), Random::seed_from_u64(8));
    Site { root, shelf: Shelf::new(Arc::new(vault)) }
}

async fn all(mut sound: Sound) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(piece) = sound.next().await {
        bytes.extend_from_slice(&piece?);
    }
    Ok(bytes)
}

fn expected() -> Vec<u8> {
    let frame = |at: usize| if (8_000..12_000).contains(&at) { [0, 0] } else { sample(at) };
    (0..28_000).flat_map(|at| frame(at).map(i16::to_le_bytes).concat()).collect()
}

#[tokio::test]
async fn any_part_of_the_sound_is_the_part_of_the_whole() {
    let mut id = None;
    let site = site(|root| id = Some(seal(root, 1, true)));
    let (shelf, id) = (&site.shelf, id.expect("one"));
    assert_eq!(shelf.frames(id).await, Ok(28_000));
    let whole = all(shelf.samples(id, 0..112_000).await.expect("sound")).await.expect("all of it");
    assert_eq!(whole, expected());
    for part in [0..1, 1..2, 31_999..32_001, 50_000..50_000 + 7, 111_999..112_000, 3..111_990] {
        let heard = all(shelf.samples(id, part.clone()).await.expect("sound")).await.expect("all of it");
        assert_eq!(heard, whole[part.start as usize..part.end as usize], "{part:?}");
    }
    let ogg = all(shelf.ogg(id).await.expect("sound")).await.expect("all of it");
    assert!(ogg.starts_with(b"OggS") && ogg.len() < whole.len() / 3, "{}", ogg.len());
}

#[tokio::test]
async fn a_waveform_shows_peaks_pauses_and_masks() {
    let mut id = None;
    let site = site(|root| id = Some(seal(root, 2, true)));
    let wave = site.shelf.waveform(id.expect("one"), 35).await.expect("a waveform");
    assert_eq!((wave.length_ms, wave.step_ms, wave.customer.len(), wave.agent.len()), (3_500, 100, 35, 35));
    let stretch = |kind, from_ms, to_ms| Stretch { kind, from_ms, to_ms };
    assert_eq!(wave.stretches, [stretch(StretchKind::Masked, 500, 2_000), stretch(StretchKind::Pause, 1_000, 1_500)]);
    for step in 0..35 {
        let loudest = if (10..15).contains(&step) { 0 } else { sample((step % 10 + 1) * 800 - 1)[0] };
        let wanted = f32::from(loudest) / 32_768.0;
        assert!((wave.customer[step] - wanted).abs() < 0.002, "{step}: {} {wanted}", wave.customer[step]);
        assert!((wave.agent[step] - wanted / 2.0).abs() < 0.002, "{step}");
    }
}

#[tokio::test]
async fn what_a_kill_left_is_heard_to_its_last_whole_chunk() {
    let mut id = None;
    let site = site(|root| id = Some(seal(root, 3, false)));
    let (shelf, id) = (&site.shelf, id.expect("one"));
    assert_eq!(shelf.get(id).await.expect("known").state, State::Interrupted);
    let frames = shelf.frames(id).await.expect("frames");
    assert_eq!(frames, 24_000, "three whole chunks");
    let heard = all(shelf.samples(id, 0..frames * 4).await.expect("sound")).await.expect("all of it");
    assert_eq!(heard, expected()[..heard.len()]);
}

#[tokio::test]
async fn what_was_tampered_with_breaks_off_and_is_not_drawn() {
    let mut id = None;
    let site = site(|root| id = Some(seal(root, 4, true)));
    let (shelf, id) = (&site.shelf, id.expect("one"));
    let path = place::sealed_file(&place::directory(site.root.path(), STARTED), id);
    let mut bytes = std::fs::read(&path).expect("the file");
    let at = bytes.len() - 20_000;
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).expect("tampered");
    assert!(matches!(shelf.waveform(id, 100).await, Err(RecordingsError::NoSound(_))));
    assert!(all(shelf.samples(id, 0..112_000).await.expect("begins")).await.is_err(), "not taken for the whole");
    assert!(all(shelf.ogg(id).await.expect("begins")).await.is_err());
}

#[tokio::test]
async fn what_is_in_quarantine_or_destroyed_gives_no_sound_and_what_is_held_stays() {
    let mut ids = Vec::new();
    let site = site(|root| ids.extend([seal(root, 5, true), seal(root, 6, true)]));
    let shelf = &site.shelf;
    shelf.vault.catalogue().audited(ids[0], AuditVerdict::Hit, "a tone at 1.2 s").expect("quarantined");
    for refused in [
        shelf.frames(ids[0]).await.err(),
        shelf.samples(ids[0], 0..4).await.err(),
        shelf.ogg(ids[0]).await.err(),
        shelf.waveform(ids[0], 10).await.err(),
    ] {
        assert!(matches!(refused, Some(RecordingsError::Refused(_))), "{refused:?}");
    }
    let destroy = || Change::Destroy { by: "key:boss".into(), why: "case".into() };
    let nobody = || -> Told { Box::new(|_| ()) };
    shelf.change(ids[1], Change::Hold { by: "key:law".into(), why: "case".into() }, nobody()).await.expect("held");
    assert!(matches!(shelf.change(ids[1], destroy(), nobody()).await, Err(RecordingsError::Refused(_))));
    assert_eq!(shelf.frames(ids[1]).await, Ok(28_000), "it is still there");
    shelf.change(ids[1], Change::Release, nobody()).await.expect("released");
    let path = shelf.vault.catalogue().file(&shelf.get(ids[1]).await.expect("known"));
    // Whoever still has the file open reads no key in it any more.
    let kept = File::open(&path).expect("the file");
    let (told, hears) = std::sync::mpsc::channel();
    let told: Told = Box::new(move |made| drop(told.send(made.clone())));
    let changed = shelf.change(ids[1], destroy(), told).await.expect("destroyed");
    assert_eq!(changed.entry.state, State::Destroyed);
    let proof = changed.proof.clone().expect("a proof");
    assert_eq!((proof.keys_tried, proof.opened, proof.files_deleted), (vec!["k".into()], false, 2));
    assert_eq!(hears.recv(), Ok(Ok(changed)), "told where it was done");
    assert!(!path.exists() && !place::seal_file(&path).exists());
    let report = crate::record::sealed::verify(&kept, None, None, &ring(), &mut |_| Ok(())).expect("a verdict");
    assert!(matches!(report.verdict, crate::record::sealed::Verdict::Tampered { .. }) && report.chunks == 0);
    assert!(matches!(shelf.frames(ids[1]).await, Err(RecordingsError::Refused(_))));
    assert_eq!(shelf.search(Query::default()).await.expect("a page").entries.len(), 1);
    assert!(matches!(shelf.get(RecordingId::draw(&mut Random::seed_from_u64(9))).await, Err(RecordingsError::Unknown)));
}

#[tokio::test]
async fn what_is_in_the_object_store_only_is_fetched_once_proven_and_heard() {
    let mut id = None;
    let objects = Arc::new(InMemory::new());
    let made = objects.clone() as Arc<dyn ObjectStore>;
    // The store has a runtime of its own, which may neither be made nor end inside another.
    let site = tokio::task::spawn_blocking(move || {
        let store = Store::new(made, "site/").expect("a store");
        let site = site_with(Some(store), |root| id = Some(seal(root, 7, true)));
        let done = site.shelf.vault.round(&Audit::off());
        assert_eq!((done.stored, done.dropped, &done.failed[..]), (1, 1, &[][..]));
        (site, id.expect("one"))
    });
    let (site, id) = site.await.expect("made");
    let shelf = &site.shelf;
    let entry = shelf.get(id).await.expect("known");
    let path = shelf.vault.catalogue().file(&entry);
    assert!(!path.exists(), "it is in the store only");
    let key = object_store::path::Path::from(entry.stored.expect("stored").key);
    let bytes = objects.get(&key).await.expect("there").bytes().await.expect("bytes");

    // Changed in the store: it is not taken.
    let mut changed = bytes.to_vec();
    changed[70_000] ^= 1;
    objects.put(&key, changed.into()).await.expect("put");
    assert!(matches!(shelf.frames(id).await, Err(RecordingsError::NoSound(_))));
    objects.put(&key, bytes.clone().into()).await.expect("put");

    assert_eq!(shelf.frames(id).await, Ok(28_000));
    // Fetched once: from now on it is heard without the store.
    objects.delete(&key).await.expect("deleted");
    let heard = all(shelf.samples(id, 50_000..60_000).await.expect("sound")).await.expect("all of it");
    assert_eq!(heard, expected()[50_000..60_000]);
    assert_eq!(shelf.waveform(id, 35).await.expect("a waveform").length_ms, 3_500);
    let ogg = all(shelf.ogg(id).await.expect("sound")).await.expect("all of it");
    assert!(ogg.starts_with(b"OggS"));
    assert!(!path.exists(), "nothing of it has a name here");
    let root = std::fs::read_dir(site.root.path()).expect("the root");
    assert!(root.flatten().all(|place| !place.file_name().to_string_lossy().starts_with(".fetched")));
    // Destroyed while somebody listens; in the fetched copy too.
    let mut listens = shelf.samples(id, 0..112_000).await.expect("sound");
    assert!(listens.next().await.is_some_and(|piece| piece.is_ok()));
    let destroy = || Change::Destroy { by: "key:boss".into(), why: "case".into() };
    let destroyed = shelf.change(id, destroy(), Box::new(|_| ())).await.expect("destroyed");
    drop(listens);
    assert_eq!(destroyed.entry.state, State::Destroyed);
    assert!(matches!(shelf.frames(id).await, Err(RecordingsError::Refused(_))));
    tokio::task::spawn_blocking(move || drop(site)).await.expect("dropped");
}

#[tokio::test]
async fn whoever_has_stopped_reading_what_is_destroyed_is_broken_off() {
    let mut random = Random::seed_from_u64(12);
    let (one, other) = (RecordingId::draw(&mut random), RecordingId::draw(&mut random));
    let (sender, _receiver) = mpsc::channel(1);
    let leave = watch::Sender::new(None);
    let mut out = sound::Out::new(sender, one, leave.subscribe());
    let waits = tokio::task::spawn_blocking(move || {
        loop {
            if let Err(error) = out.write_all(&[0; 32_000]) {
                return error.kind();
            }
        }
    });
    leave.send_replace(Some(other));
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert!(!waits.is_finished(), "another recording is destroyed");
    leave.send_replace(Some(one));
    assert_eq!(waits.await.expect("ended"), io::ErrorKind::BrokenPipe);
}
