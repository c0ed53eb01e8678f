//! The commands on recordings made by the real writer, whole and damaged.

use rand::SeedableRng;

use super::*;
use crate::base::Random;
use crate::base::ids::CallId;
use crate::base::time::WallMs;
use crate::guard::Masked;
use crate::media::{BLOCK_FRAMES, Block};
use crate::record::keys::Kek;
use crate::record::sealed::{Start, Storage, Writer};

struct Bytes(Vec<u8>);

impl Storage for Bytes {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn kek(first: u8) -> Kek {
    let text: String = (first..first + 32).map(|byte| format!("{byte:02x}")).collect();
    Kek::parse("test-2026", &text).expect("a key")
}

fn ring() -> KeyRing {
    KeyRing::new(Some(kek(3)), Vec::new()).expect("a ring")
}

/// A recording of 2.5 s with a pause from 0.3 s to 1.2 s; each block's samples are its number.
fn record(root: &Path, seed: u64, close: bool) -> (RecordingId, PathBuf) {
    let mut random = Random::seed_from_u64(seed);
    let recording = RecordingId::draw(&mut random);
    let start = Start {
        recording,
        call: CallId::draw(&mut random),
        node: "n".into(),
        from_trunk: "carrier".into(),
        to_trunk: "pbx".into(),
        started_at_ms: WallMs(1_795_327_256_000),
        rate: 8_000,
        channels: 2,
        caller: String::new(),
        called: String::new(),
        agent: String::new(),
        sip_call_ids: Vec::new(),
        labels: Default::default(),
        spill: None,
    };
    let mut writer = Writer::create(Bytes(Vec::new()), &kek(3), start, &mut random).expect("created");
    for number in 0..25i16 {
        let samples = [number + 1; BLOCK_FRAMES * 2];
        let block = Masked::for_test(Box::new(Block { samples, paused: (3..12).contains(&number) }));
        writer.block(&block).expect("written");
    }
    let directory = place::directory(root, WallMs(1_795_327_256_000));
    fs::create_dir_all(&directory).expect("a day");
    let file = place::sealed_file(&directory, recording);
    if close {
        let (_, seal) = writer.close(WallMs(1_795_327_259_000)).expect("closed");
        fs::write(place::seal_file(&file), seal).expect("the seal");
    }
    fs::write(&file, writer.into_storage().0).expect("the file");
    // Not now, so that it is not taken for one being written.
    let past = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
    File::options().append(true).open(&file).and_then(|file| file.set_modified(past)).expect("aged");
    (recording, file)
}

fn run_with(command: &Command, root: &Path, ring: &KeyRing) -> (u8, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let status = run(command, root, ring, &mut Terminal { out: &mut out, err: &mut err, progress: false });
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (status, text(out), text(err))
}

fn verify_one(root: &Path, id: &str) -> (u8, String) {
    let (status, out, err) = run_with(&Command::Verify { recordings: vec![id.to_owned()] }, root, &ring());
    (status, out + &err)
}

fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).expect("the file");
    bytes[at] ^= 1;
    fs::write(file, bytes).expect("written");
}

#[test]
fn verify_tells_intact_interrupted_tampered_and_a_missing_key_apart_by_text_and_status() {
    let root = tempfile::tempdir().expect("a directory");
    let (intact, _) = record(root.path(), 1, true);
    let (status, text) = verify_one(root.path(), &intact.to_string());
    assert_eq!((status, text), (EXIT_INTACT, format!("{intact}  intact: 0:02.5 in 4 chunks, 1 gap\n")));

    let (interrupted, file) = record(root.path(), 2, false);
    let bytes = fs::read(&file).expect("the file");
    fs::write(&file, &bytes[..bytes.len() - 5_000]).expect("torn");
    let (status, text) = verify_one(root.path(), &interrupted.to_string());
    assert_eq!(status, EXIT_INTERRUPTED);
    assert!(text.contains("interrupted: 0:01.0 in 2 sound chunks, 1 gap; the file ends inside a chunk"), "{text}");

    let (tampered, file) = record(root.path(), 3, true);
    flip(&file, 40_000);
    let (status, text) = verify_one(root.path(), &tampered.to_string());
    assert_eq!(status, EXIT_TAMPERED);
    assert!(text.contains("TAMPERED at chunk 2") && text.contains("(2 chunks before it are sound)"), "{text}");

    let (cut, file) = record(root.path(), 4, true);
    let bytes = fs::read(&file).expect("the file");
    fs::write(&file, &bytes[..bytes.len() - 5_000]).expect("cut");
    let (status, text) = verify_one(root.path(), &cut.to_string());
    assert_eq!(status, EXIT_TAMPERED);
    assert!(text.contains("the file was cut after it was closed: 4 chunks were sealed, 3 are left"), "{text}");

    let other = KeyRing::new(Some(kek(90)), Vec::new()).expect("a ring");
    let all = Command::Verify { recordings: vec!["all".into()] };
    let (status, out, _) = run_with(&all, root.path(), &other);
    assert_eq!(status, EXIT_KEY);
    assert!(out.contains("is not the one this recording was sealed under"), "{out}");
    let (status, out, _) = run_with(&all, root.path(), &ring());
    assert_eq!(status, EXIT_TAMPERED, "the gravest of all");
    assert!(out.contains("4 recordings: 1 intact, 1 interrupted, 2 tampered, 0 not judged"), "{out}");
}

#[test]
fn what_is_not_there_or_not_an_id_is_said() {
    let root = tempfile::tempdir().expect("a directory");
    let (status, text) = verify_one(root.path(), "rec_00000000000000000000000000000000");
    assert!(status == EXIT_FAULT && text.contains("no recording rec_0000"), "{text}");
    let (status, text) = verify_one(root.path(), "../../etc/passwd");
    assert!(status == EXIT_FAULT && text.contains("not a Tonewall recording id"), "{text}");
    let (status, _, err) = run_with(&Command::List, &root.path().join("none"), &ring());
    assert!(status == EXIT_FAULT && err.contains("cannot read the recordings directory"), "{err}");
    let (status, out, _) = run_with(&Command::List, root.path(), &ring());
    assert!(status == EXIT_INTACT && out.starts_with("no recordings in"), "{out}");
}

#[test]
fn list_shows_what_there_is_in_columns() {
    let root = tempfile::tempdir().expect("a directory");
    let (intact, _) = record(root.path(), 5, true);
    let (interrupted, _) = record(root.path(), 6, false);
    fs::write(root.path().join("2026-11-22/notes.txt"), b"not ours").expect("a file");
    let (status, out, err) = run_with(&Command::List, root.path(), &ring());
    assert_eq!((status, err.as_str()), (EXIT_INTERRUPTED, ""));
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 3, "{out}");
    let of = |id: RecordingId| lines.iter().find(|line| line.starts_with(&id.to_string())).expect("its line");
    for part in ["call_", "2026-11-22 06:00:56", "0:02.5", "closed", "80 kB", "test-2026"] {
        assert!(of(intact).contains(part), "{out}");
    }
    for part in ["0:02.0", "interrupted"] {
        assert!(of(interrupted).contains(part), "{out}");
    }
}

#[test]
fn export_writes_the_sound_with_its_gaps_and_never_half_a_file() {
    let root = tempfile::tempdir().expect("a directory");
    let (recording, file) = record(root.path(), 7, true);
    let output = root.path().join("call.wav");
    let export = |recording, force| Command::Export { recording, output: output.clone(), force };
    let (status, out, err) = run_with(&export(recording, false), root.path(), &ring());
    assert_eq!((status, err.as_str()), (EXIT_INTACT, ""));
    assert!(out.contains("0:02.5 stereo") && out.contains("gap 0:00.3 – 0:01.2: recording paused"), "{out}");
    let wav = hound::WavReader::open(&output).expect("a WAV file");
    assert_eq!((wav.spec().channels, wav.spec().sample_rate, wav.duration()), (2, 8_000, 20_000));
    let samples: Vec<i16> = wav.into_samples().collect::<Result<_, _>>().expect("samples");
    for (at, block) in samples.chunks_exact(BLOCK_FRAMES * 2).enumerate() {
        let expected = if (3..12).contains(&at) { 0 } else { at as i16 + 1 };
        assert!(block.iter().all(|sample| *sample == expected), "block {at}");
    }
    let bytes = fs::read(&output).expect("the file");
    let cue = memchr::memmem::find(&bytes, b"cue ").expect("cue points");
    assert_eq!(bytes[cue + 12..cue + 20], [&1u32.to_le_bytes()[..], &2_400u32.to_le_bytes()[..]].concat());
    assert_eq!(u32::from_le_bytes(bytes[4..8].try_into().expect("four")) as usize, bytes.len() - 8);
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&output).expect("metadata").permissions());
    assert_eq!(mode & 0o777, 0o600, "decrypted speech is for its owner only");

    // It is not overwritten without being told to, and a tampered recording gives nothing.
    let (status, _, err) = run_with(&export(recording, false), root.path(), &ring());
    assert!(status == EXIT_FAULT && err.contains("--force"), "{err}");
    fs::write(&output, b"keep me").expect("written");
    flip(&file, 70_000);
    let (status, _, err) = run_with(&export(recording, true), root.path(), &ring());
    assert!(status == EXIT_TAMPERED && err.contains("was not exported: TAMPERED at chunk 3"), "{err}");
    assert_eq!(fs::read(&output).expect("the file"), b"keep me");
    assert!(!root.path().join("call.wav.partial").exists());
}

#[test]
fn an_export_named_ogg_is_ogg_opus_of_the_same_length() {
    let root = tempfile::tempdir().expect("a directory");
    let (recording, _) = record(root.path(), 9, true);
    let output = root.path().join("call.ogg");
    let command = Command::Export { recording, output: output.clone(), force: false };
    let (status, out, err) = run_with(&command, root.path(), &ring());
    assert_eq!((status, err.as_str()), (EXIT_INTACT, ""));
    assert!(out.contains("0:02.5 stereo"), "{out}");
    let mut packets = ogg::PacketReader::new(fs::File::open(&output).expect("the file"));
    let (mut head, mut last, mut end) = (Vec::new(), false, 0);
    while let Some(packet) = packets.read_packet().expect("a packet") {
        (last, end) = (packet.last_in_stream(), packet.absgp_page());
        if head.is_empty() {
            head = packet.data;
        }
    }
    let skip = u64::from(u16::from_le_bytes([head[10], head[11]]));
    assert!(head.starts_with(b"OpusHead") && last);
    assert_eq!(end - skip, 20_000 * 6);
}

#[test]
fn an_interrupted_recording_exports_what_is_sound_and_says_so() {
    let root = tempfile::tempdir().expect("a directory");
    let (recording, _) = record(root.path(), 8, false);
    let output = root.path().join("call.wav");
    let command = Command::Export { recording, output: output.clone(), force: false };
    let (status, _, err) = run_with(&command, root.path(), &ring());
    assert_eq!(status, EXIT_INTERRUPTED);
    assert!(err.contains("warning") && err.contains("3 sound chunks"), "{err}");
    assert_eq!(hound::WavReader::open(&output).expect("a WAV file").duration(), 16_000);
}

#[test]
fn the_catalogue_is_made_again_from_the_files() {
    let root = tempfile::tempdir().expect("a directory");
    let (closed, _) = record(root.path(), 31, true);
    record(root.path(), 32, false);
    let (status, out, _) = run_with(&Command::Reindex, root.path(), &ring());
    assert_eq!(status, EXIT_INTACT);
    assert!(out.starts_with("2 recordings, 2 of them new"), "{out}");
    let catalogue = Catalogue::open(root.path(), Retention::default()).expect("a catalogue");
    let entry = catalogue.get(closed).expect("read").expect("an entry");
    assert_eq!((entry.word(), entry.length_ms, entry.gaps), ("sealed", 2_500, 1));
    fs::remove_file(root.path().join("catalogue.db")).expect("removed");
    let (status, _, err) = run_with(&Command::Reindex, root.path(), &KeyRing::default());
    assert_eq!(status, EXIT_KEY);
    assert!(err.contains("2 recordings are known by name only"), "{err}");
}
