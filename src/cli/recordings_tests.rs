//! The commands on recordings made by the real writer, whole and damaged.

use rand::SeedableRng;

use std::fs::{self, File};

use super::*;
use crate::audit::{Action, Outcome, Verdict as Came};
use crate::base::Random;
use crate::base::ids::CallId;
use crate::base::time::WallMs;
use crate::guard::Masked;
use crate::media::{BLOCK_FRAMES, Block};
use crate::record::keys::{Kek, KeyRing};
use crate::record::place;
use crate::record::sealed::{Start, Writer};

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
    let call = CallId::draw(&mut random);
    let start = Start::new(recording, call, "n", ["carrier", "pbx"], WallMs(1_795_327_256_000));
    let mut writer = Writer::create(Vec::new(), &kek(3), start, &mut random).expect("created");
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
    fs::write(&file, writer.into_storage()).expect("the file");
    // Not now, so that it is not taken for one being written.
    let past = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
    File::options().append(true).open(&file).and_then(|file| file.set_modified(past)).expect("aged");
    (recording, file)
}

fn site(root: &Path, ring: &KeyRing) -> Site {
    Site { storage: Storage::local(root.to_owned(), root.join("none")), keys: Keys::fixed(ring.clone()), log: None }
}

fn run_with(command: &Command, root: &Path, ring: &KeyRing) -> (u8, String, String) {
    run_at(command, &site(root, ring))
}

fn run_at(command: &Command, site: &Site) -> (u8, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut terminal = Terminal { out: &mut out, err: &mut err, progress: false };
    let status = run(command, site, &Guest::off(), &mut terminal);
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (status, text(out), text(err))
}

fn verify_of(id: &str) -> Command {
    Command::Verify { recordings: vec![id.to_owned()], stored: false, purpose: None }
}

fn verify_one(root: &Path, id: &str) -> (u8, String) {
    let (status, out, err) = run_with(&verify_of(id), root, &ring());
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
    let all = verify_of("all");
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
    let export = |recording, force| Command::Export { recording, output: output.clone(), force, purpose: None };
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
    let command = Command::Export { recording, output: output.clone(), force: false, purpose: None };
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
    let command = Command::Export { recording, output: output.clone(), force: false, purpose: None };
    let (status, _, err) = run_with(&command, root.path(), &ring());
    assert_eq!(status, EXIT_INTERRUPTED);
    assert!(err.contains("warning") && err.contains("3 sound chunks"), "{err}");
    assert_eq!(hound::WavReader::open(&output).expect("a WAV file").duration(), 16_000);
}

#[test]
fn what_could_not_be_heard_is_not_exported_though_it_reads_well_the_next_time() {
    let root = tempfile::tempdir().expect("a directory");
    record(root.path(), 1, true);
    let found = &find(root.path()).expect("found")[0];
    let read = |ring: &KeyRing| judge(found, ring, &ProgressBar::hidden(), &mut |_| Ok(()));
    let (why, status) = unheard(&read(&ring()), "the disk was away");
    assert_eq!((why.as_str(), status), ("it could not be heard for keys: the disk was away", EXIT_FAULT));
    assert_eq!(unheard(&read(&KeyRing::default()), "no key").1, EXIT_KEY);
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

/// A configuration with an audit log and these recordings.
fn config(root: &Path) -> Config {
    let text =
        concat!(include_str!("../../config/small.toml"), "\n[audit]\nkey = \"audit.key\"\ndirectory = \"log\"\n");
    let file = root.join("tonewall.toml");
    fs::write(&file, text).expect("written");
    let mut config = Config::load(&file).expect("a configuration");
    config.storage = Storage::local(root.join("recordings"), root.join("payments.db"));
    config
}

fn log_of(config: &Config) -> Vec<serde_json::Value> {
    let directory = &config.audit.as_ref().expect("a log").directory;
    let pages = crate::rt::audit::book::pages(directory).expect("pages");
    let text: String = pages.iter().map(|page| fs::read_to_string(directory.join(page)).expect("text")).collect();
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn what_was_cut_back_to_a_whole_chunk_and_lost_its_seal_is_told_by_the_audit_log() {
    let home = tempfile::tempdir().expect("a directory");
    let config = config(home.path());
    let root = config.storage.recordings.clone();
    let keys = Keys::fixed(ring());
    let site = Site::of(&config, keys.clone());
    let guest = Guest::open(&config).expect("the log");
    let hash = |file: &Path| {
        let report = crate::record::sealed::peek(fs::File::open(file).expect("the file"), None, &ring());
        report.expect("a report").header.expect("a header").hash
    };
    let mut files = Vec::new();
    for seed in [41, 42] {
        let (recording, file) = record(&root, seed, true);
        let header = Some(hex::encode(hash(&file)).into());
        let action = Action::RecordingSealed { recording, call: None, chunks: Some(4), bytes: None, header };
        guest.write(action, Outcome::DONE, None).expect("written");
        files.push((recording, file));
    }
    // One whose writer was killed: nothing was noted of it.
    let (killed, _) = record(&root, 43, false);
    let (status, out, err) = run_at(&verify_of("all"), &site);
    assert_eq!((status, err.as_str()), (EXIT_INTERRUPTED, ""));
    assert!(out.contains(&format!("{killed}  interrupted")) && out.contains("2 intact"), "{out}");
    // Cut after its second chunk; 4 bytes of length and 16 of tag around each.
    let (cut, file) = &files[0];
    let bytes = fs::read(file).expect("the file");
    let mut at = 57 + 1 + "test-2026".len() + 8 + 12 + 48;
    for _ in 0..2 {
        let length = u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four")) & 0xffff;
        at += 4 + length as usize;
    }
    fs::write(file, &bytes[..at]).expect("cut");
    fs::remove_file(place::seal_file(file)).expect("its seal");
    let (status, text) = verify_one(&root, &cut.to_string());
    assert!(status == EXIT_INTERRUPTED && text.contains("the file ends after a whole chunk"), "{text}");
    let (status, out, _) = run_at(&verify_of(&cut.to_string()), &site);
    assert_eq!(status, EXIT_TAMPERED);
    assert!(out.contains("cut after it was closed: the audit log has 4 chunks, 2 are left"), "{out}");
    // Another file of the same name, made by who has the key.
    let (other, file) = &files[1];
    let copy = Command::Keep(crate::cli::keeping::Command::Rewrap { reencrypt: true, from: None });
    let Command::Keep(reencrypt) = &copy else { unreachable!() };
    let vault = crate::rt::vault::Vault::of(&config.storage, keys.clone(), Random::seed_from_u64(1)).expect("a vault");
    vault.catalogue().reindex(&ring()).expect("indexed");
    vault.reencrypt(*other).expect("encrypted anew");
    let (status, out, _) = run_at(&verify_of(&other.to_string()), &site);
    assert!(status == EXIT_TAMPERED && out.contains("the audit log has another"), "{out}");
    // By the command, which notes it, it is what was sealed.
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut terminal = Terminal { out: &mut out, err: &mut err, progress: false };
    let status = crate::cli::keeping::run(reencrypt, &config, keys, &guest, &mut terminal);
    assert_eq!(status, EXIT_INTACT, "{}", String::from_utf8_lossy(&err));
    let (status, out, _) = run_at(&verify_of(&other.to_string()), &site);
    assert!(status == EXIT_INTACT && !file.as_os_str().is_empty(), "{out}");
    let (status, _, _) = run_at(&verify_of(&cut.to_string()), &site);
    assert_eq!(status, EXIT_TAMPERED, "and what was cut is not washed clean by it");
}

#[test]
fn each_access_needs_a_purpose_and_each_change_stands_in_the_log_before_and_after() {
    let home = tempfile::tempdir().expect("a directory");
    let config = config(home.path());
    let root = config.storage.recordings.clone();
    let (one, _) = record(&root, 51, true);
    let (two, _) = record(&root, 52, true);
    let keys = Keys::fixed(ring());
    let site = Site::of(&config, keys.clone());
    Catalogue::open(&root, Retention::default()).expect("a catalogue").reindex(&ring()).expect("indexed");
    let export = |purpose: Option<&str>| Command::Export {
        recording: one,
        output: home.path().join("call.wav"),
        force: false,
        purpose: purpose.map(str::to_owned),
    };
    for (purpose, why) in [(None, "--purpose TEXT is needed"), (Some("x"), "3 to 200 characters")] {
        let refused = access::noted(&export(purpose), &config, &site).err().expect("refused");
        assert!(refused.contains(why), "{refused}");
    }
    access::noted(&export(Some("complaint A-17")), &config, &site).expect("noted");
    let all = Command::Verify { recordings: vec!["all".into()], stored: false, purpose: Some("yearly check".into()) };
    access::noted(&all, &config, &site).expect("noted");
    let entries = log_of(&config);
    let of = |entries: &[serde_json::Value], word: &str| -> Vec<serde_json::Value> {
        entries.iter().filter(|entry| entry["action"] == word).cloned().collect()
    };
    assert_eq!(of(&entries, "recording-exported")[0]["purpose"], "complaint A-17");
    let verified = of(&entries, "recording-viewed");
    assert!(verified.len() == 2 && verified.iter().all(|entry| entry["purpose"] == "yearly check"), "{verified:?}");

    let guest = Guest::open(&config).expect("the log");
    let keep = |command: crate::cli::keeping::Command, guest: &Guest| {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut terminal = Terminal { out: &mut out, err: &mut err, progress: false };
        let status = crate::cli::keeping::run(&command, &config, keys.clone(), guest, &mut terminal);
        (status, String::from_utf8_lossy(&out).into_owned() + &String::from_utf8_lossy(&err))
    };
    use crate::cli::keeping::Command as Keep;
    let why = || "case A-17".to_owned();
    assert_eq!(keep(Keep::Hold { recording: one, why: why() }, &guest).0, EXIT_INTACT);
    assert_eq!(keep(Keep::Destroy { recording: one, why: why() }, &guest).0, crate::cli::keeping::EXIT_REFUSED);
    assert_eq!(keep(Keep::Release { recording: one, why: why() }, &guest).0, EXIT_INTACT);
    assert_eq!(keep(Keep::Label { recording: one, labels: vec!["case=A-17".into()] }, &guest).0, EXIT_INTACT);
    let (status, told) = keep(Keep::Destroy { recording: one, why: why() }, &guest);
    assert!(status == EXIT_INTACT && told.contains("opening it failed with 1 keys"), "{told}");
    let entries = log_of(&config);
    let came = |word: &str| -> Vec<String> {
        of(&entries, word).iter().map(|entry| entry["result"].as_str().expect("a result").to_owned()).collect()
    };
    assert_eq!(came("legal-hold"), ["asked", "done", "asked", "done"]);
    assert_eq!(came("recording-labelled"), ["asked", "done"]);
    assert_eq!(came("recording-destroyed"), ["asked", "failed", "asked", "done"]);
    let destroyed = of(&entries, "recording-destroyed");
    let proof = &destroyed[3]["object"]["proof"];
    assert_eq!(
        (&proof["keys_tried"], &proof["opened"]),
        (&serde_json::json!(["test-2026"]), &serde_json::json!(false))
    );
    assert_eq!(proof["files_deleted"], 2);
    assert!(destroyed[0]["object"]["proof"].is_null() && serde_json::to_value(Came::Asked).expect("JSON") == "asked");
    // A log that cannot be written: nothing is done. Its next file cannot be made, for a directory has its name.
    let broken = home.path().join("broken");
    fs::create_dir_all(&broken).expect("made");
    let mut other = config.clone();
    other.audit.as_mut().expect("a log").directory = broken.clone();
    let guest = Guest::open(&other).expect("the log");
    fs::create_dir_all(broken.join("audit-000000000001.log")).expect("made");
    let (status, told) = keep(Keep::Destroy { recording: two, why: why() }, &guest);
    assert!(status == EXIT_FAULT && told.contains("so this is not done"), "{told}");
    let catalogue = Catalogue::open(&root, Retention::default()).expect("a catalogue");
    assert_eq!(catalogue.get(two).expect("read").expect("an entry").word(), "sealed");
}

#[test]
fn search_finds_by_what_is_given_a_page_at_a_time() {
    let root = tempfile::tempdir().expect("a directory");
    let ids: Vec<RecordingId> = (61..64).map(|seed| record(root.path(), seed, true).0).collect();
    let search = |wanted: search::Wanted| run_with(&Command::Search(Box::new(wanted)), root.path(), &ring());
    let (status, _, err) = search(search::Wanted::default());
    assert!(status == EXIT_FAULT && err.contains("recordings reindex"), "{err}");
    let catalogue = Catalogue::open(root.path(), Retention::default()).expect("a catalogue");
    catalogue.reindex(&ring()).expect("indexed");
    catalogue.label(ids[1], &[("team".into(), Some("north".into()))]).expect("labelled");
    let wanted = search::Wanted { label: vec!["team=north".into()], trunk: Some("pbx".into()), ..Default::default() };
    let (status, out, err) = search(wanted);
    assert_eq!((status, out.lines().count(), err.as_str()), (EXIT_INTACT, 2, ""), "{out}");
    assert!(out.contains(&ids[1].to_string()) && out.contains("carrier > pbx") && out.contains("team=north"), "{out}");
    let day = |day: &str| search::Wanted { day: Some(day.into()), ..Default::default() };
    assert_eq!(search(day("2026-11-21")).1, "nothing found\n");
    let (_, out, err) = search(search::Wanted { limit: Some(2), ..day("2026-11-22") });
    assert_eq!(out.lines().count(), 3);
    let (_, after) = err.trim().split_once("--after ").expect("a place");
    let after = after.split(',').next().expect("a place").to_owned();
    let (_, rest, err) = search(search::Wanted { after: Some(after), ..day("2026-11-22") });
    assert_eq!((rest.lines().count(), err.as_str()), (2, ""));
    let seen = out.clone() + &rest;
    assert!(ids.iter().all(|id| seen.contains(&id.to_string())), "{seen}");
    let (_, out, _) = search(search::Wanted { limit: Some(1), all: true, json: true, ..day("2026-11-22") });
    let pages: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(pages.len(), 3);
    assert!(pages[0]["recordings"][0]["state"] == "sealed" && pages[2]["next"].is_null(), "{out}");
    let (status, _, err) = search(day("yesterday"));
    assert!(status == EXIT_FAULT && err.contains("--day: a day is 2026-11-22"), "{err}");
    let (status, out, _) = search(search::Wanted { state: Some("held".into()), ..Default::default() });
    assert_eq!((status, out.as_str()), (EXIT_INTACT, "nothing found\n"));
}

/// A store of a few objects: what is asked for by path, and nothing else. Ends with the last clone of `up`.
#[allow(clippy::disallowed_methods)] // Tests may wait, and open sockets.
fn store(objects: Vec<(String, Vec<u8>)>, up: &Arc<()>) -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let (port, up) = (listener.local_addr().expect("its address").port(), Arc::downgrade(up));
    listener.set_nonblocking(true).expect("set");
    std::thread::spawn(move || {
        while up.upgrade().is_some() {
            let Ok((mut stream, _)) = listener.accept() else {
                std::thread::sleep(std::time::Duration::from_millis(5));
                continue;
            };
            stream.set_nonblocking(false).expect("set");
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                if !matches!(io::Read::read(&mut stream, &mut byte), Ok(1)) {
                    break;
                }
                head.push(byte[0]);
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            let mut words = head.split(' ');
            let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            let found = objects.iter().find(|(key, _)| path == format!("/bucket/{key}"));
            let (status, body) = found.map_or(("404 Not Found", &[][..]), |(_, bytes)| ("200 OK", &bytes[..]));
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let body = if method == "HEAD" { &[][..] } else { body };
            // Whoever asked may be gone.
            let _ = stream.write_all(&[head.as_bytes(), body].concat());
        }
    });
    port
}

#[test]
fn what_is_in_the_object_store_only_is_exported_and_verified_from_there() {
    use sha2::Digest;
    let root = tempfile::tempdir().expect("a directory");
    let (recording, file) = record(root.path(), 71, true);
    let catalogue = Catalogue::open(root.path(), Retention::default()).expect("a catalogue");
    catalogue.reindex(&ring()).expect("indexed");
    catalogue.audited(recording, crate::record::catalogue::AuditVerdict::Clean, "").expect("audited");
    let (bytes, seal) = (fs::read(&file).expect("the file"), fs::read(place::seal_file(&file)).expect("its seal"));
    let key = format!("site/{recording}.sealed");
    let stored = crate::record::catalogue::Stored {
        key: key.clone(),
        bytes: bytes.len() as u64,
        sha256: hex::encode(sha2::Sha256::digest(&bytes)),
        at_ms: WallMs(1),
    };
    catalogue.stored(recording, stored).expect("stored");
    catalogue.only_stored(recording).expect("only there");
    fs::remove_file(place::seal_file(&file)).expect("removed");
    fs::remove_file(&file).expect("removed");
    let up = Arc::new(());
    let port = store(vec![(key, bytes), (format!("site/{recording}.seal"), seal)], &up);
    let secret = || crate::config::Secret::new("test".into());
    let mut site = site(root.path(), &ring());
    site.storage.s3 = Some(crate::config::S3 {
        bucket: "bucket".into(),
        region: "us-east-1".into(),
        endpoint: Some(format!("http://127.0.0.1:{port}")),
        prefix: "site/".into(),
        access_key: secret(),
        secret_key: secret(),
        ca: None,
        keep_local: None,
    });
    let export =
        |name: &str| Command::Export { recording, output: root.path().join(name), force: false, purpose: None };
    let (status, out, err) = run_at(&export("call.wav"), &site);
    assert_eq!((status, err.as_str()), (EXIT_INTACT, ""), "{out}");
    assert_eq!(hound::WavReader::open(root.path().join("call.wav")).expect("a WAV file").duration(), 20_000);
    let (status, out, _) = run_at(&verify_of(&recording.to_string()), &site);
    assert!(status == EXIT_INTACT && out.contains("intact: 0:02.5 in 4 chunks"), "{out}");
    let (status, _, err) = run_at(&verify_of("all"), &site);
    assert!(status == EXIT_INTACT && err.contains("1 more are in the object store only: --stored"), "{err}");
    let all = Command::Verify { recordings: vec!["all".into()], stored: true, purpose: None };
    let (status, out, _) = run_at(&all, &site);
    assert!(status == EXIT_INTACT && out.contains(&format!("{recording}  intact")), "{out}");
    assert!(!file.exists(), "nothing of it stays here");
    // Away: told as that, and nothing is written.
    drop(up);
    let (status, _, err) = run_at(&export("again.wav"), &site);
    assert!(status == EXIT_FAULT && err.contains("object store"), "{err}");
    assert!(!root.path().join("again.wav").exists());
}
