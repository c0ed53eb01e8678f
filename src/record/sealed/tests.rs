//! Sealed files against every cut, flip and swap, and against storage that tears.

use std::io;

use proptest::prelude::*;
use rand::SeedableRng;

use super::*;
use crate::base::Random;
use crate::base::ids::{CallId, RecordingId};
use crate::base::time::WallMs;
use crate::guard::Masked;
use crate::media::{Block, MaskedBlock};
use crate::record::keys::{Kek, KeyRing};

/// Memory that fails when it is told to, having taken part of what was appended.
#[derive(Default)]
struct Memory {
    bytes: Vec<u8>,
    room: Option<usize>,
    synced: usize,
    sync_fails: bool,
}

impl Storage for Memory {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let room = self.room.map_or(usize::MAX, |room| room.saturating_sub(self.bytes.len()));
        let part = bytes.len().min(room);
        self.bytes.extend_from_slice(&bytes[..part]);
        if part < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.sync_fails {
            return Err(io::Error::other("slow disk gave up"));
        }
        self.synced = self.bytes.len();
        Ok(())
    }
}

fn kek(id: &str, seed: u8) -> Kek {
    let text: String = (0..32).map(|at| format!("{:02x}", seed.wrapping_add(at * 7))).collect();
    Kek::parse(id, &text).expect("a key")
}

fn ring() -> KeyRing {
    KeyRing::new(Some(kek("k1", 1)), Vec::new()).expect("a ring")
}

fn start(random: &mut Random) -> Start {
    let (recording, call) = (RecordingId::draw(random), CallId::draw(random));
    Start::new(recording, call, "node-1", ["carrier", "pbx"], WallMs(1_795_327_256_000))
}

/// A block whose samples tell its number, so that a wrong place shows.
fn block(number: usize, paused: bool) -> MaskedBlock {
    let mut block = Box::new(Block { samples: [0; BLOCK_FRAMES * 2], paused });
    for (at, sample) in block.samples.iter_mut().enumerate() {
        *sample = (number as i16).wrapping_mul(1_597).wrapping_add(at as i16).wrapping_mul(3) | 1;
    }
    Masked::for_test(block)
}

struct Made {
    bytes: Vec<u8>,
    seal: Option<String>,
    /// Where each chunk begins; the last entry is the end.
    bounds: Vec<usize>,
    start: Start,
}

impl Made {
    fn recording(&self) -> RecordingId {
        self.start.recording
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Piece {
    Sound,
    Paused,
    Lost,
}

fn make(seed: u64, pieces: &[Piece], close: bool) -> Made {
    let mut random = Random::seed_from_u64(seed);
    let start = start(&mut random);
    let mut writer = Writer::create(Memory::default(), &kek("k1", 1), start.clone(), &mut random).expect("created");
    let mut bounds = vec![writer.opened().bytes as usize, writer.storage.bytes.len()];
    for (number, piece) in pieces.iter().enumerate() {
        let done = match piece {
            Piece::Sound => writer.block(&block(number, false)),
            Piece::Paused => writer.block(&block(number, true)),
            Piece::Lost => writer.lost(),
        };
        if done.expect("written").is_some() {
            bounds.push(writer.storage.bytes.len());
        }
    }
    let seal = close.then(|| writer.close(WallMs(1_795_327_300_000)).expect("closed").1);
    if close {
        bounds.push(writer.storage.bytes.len());
        assert!(writer.block(&block(0, false)).is_err(), "a closed recording takes nothing");
    }
    assert_eq!(writer.storage.synced, writer.storage.bytes.len(), "every chunk is synced");
    Made { bytes: writer.into_storage().bytes, seal, bounds, start }
}

fn read(made: &Made, bytes: &[u8], with_seal: bool) -> (Report, Vec<u8>) {
    let seal = made.seal.as_deref().filter(|_| with_seal).map(str::as_bytes);
    read_with(bytes, seal, Some(made.recording()), &ring()).expect("a verdict")
}

fn read_with(
    bytes: &[u8],
    seal: Option<&[u8]>,
    name: Option<RecordingId>,
    ring: &KeyRing,
) -> Result<(Report, Vec<u8>), Fault> {
    let mut audio = Vec::new();
    let report = verify(bytes, seal, name, ring, &mut |item| {
        if let Item::Audio(samples) = item {
            audio.extend_from_slice(samples);
        }
        Ok(())
    })?;
    Ok((report, audio))
}

fn expected_audio(pieces: &[Piece]) -> Vec<u8> {
    let mut audio = Vec::new();
    for (number, piece) in pieces.iter().enumerate() {
        let block = block(number, false);
        for sample in &block.get().samples {
            let sample = if *piece == Piece::Sound { *sample } else { 0 };
            audio.extend_from_slice(&sample.to_le_bytes());
        }
    }
    audio
}

const SOUND: [Piece; 23] = [Piece::Sound; 23];

#[test]
fn a_closed_recording_is_intact_with_and_without_its_seal() {
    let made = make(1, &SOUND, true);
    for with_seal in [true, false] {
        let (report, audio) = read(&made, &made.bytes, with_seal);
        assert_eq!(report.verdict, Verdict::Intact);
        assert_eq!(report.start.as_ref(), Some(&made.start));
        assert_eq!((report.chunks, report.frames), (4, 23 * 800));
        assert!(audio == expected_audio(&SOUND));
    }
}

#[test]
fn overhead_is_twenty_bytes_a_chunk_and_three_an_item() {
    let made = make(2, &[Piece::Sound; 10], false);
    assert_eq!(made.bounds[2] - made.bounds[1], 32_000 + CHUNK_OVERHEAD + inside::ITEM);
}

#[test]
fn a_pause_keeps_the_timeline_and_what_was_said_in_it_is_not_there() {
    use Piece::{Lost, Paused, Sound};
    let pieces = [Sound, Sound, Paused, Paused, Paused, Sound, Lost, Paused, Sound, Sound, Sound, Paused];
    let made = make(3, &pieces, true);
    let (report, audio) = read(&made, &made.bytes, true);
    assert_eq!(report.verdict, Verdict::Intact);
    assert!(audio == expected_audio(&pieces));
    let gaps = [
        Gap { kind: GapKind::Paused, from: 1_600, to: Some(4_000) },
        Gap { kind: GapKind::Lost, from: 4_800, to: Some(5_600) },
        Gap { kind: GapKind::Paused, from: 5_600, to: Some(6_400) },
        Gap { kind: GapKind::Paused, from: 8_800, to: Some(9_600) },
    ];
    assert_eq!(report.gaps, gaps);
}

#[test]
fn nothing_of_the_sound_or_the_names_is_in_the_file() {
    let made = make(4, &SOUND, true);
    let audio = expected_audio(&SOUND);
    for marker in audio.chunks_exact(16) {
        assert!(memchr::memmem::find(&made.bytes, marker).is_none());
    }
    for name in [made.start.call.to_string().as_str(), "carrier", "pbx", "node-1"] {
        assert!(memchr::memmem::find(&made.bytes, name.as_bytes()).is_none(), "{name}");
    }
}

#[test]
fn every_flipped_bit_of_a_closed_recording_is_tampering() {
    let made = make(5, &[Piece::Paused], true);
    for with_seal in [true, false] {
        for at in 0..made.bytes.len() {
            // Every bit of the header and the lengths; one bit of each further byte.
            let near = made.bounds.iter().any(|bound| (*bound..bound + 4).contains(&at));
            let bits = if at < made.bounds[0] || near { 0..8 } else { (at % 8) as u8..(at % 8) as u8 + 1 };
            for bit in bits {
                let mut bytes = made.bytes.clone();
                bytes[at] ^= 1 << bit;
                let seal = made.seal.as_deref().filter(|_| with_seal).map(str::as_bytes);
                match read_with(&bytes, seal, Some(made.recording()), &ring()) {
                    Ok((report, _)) => {
                        let tampered = matches!(report.verdict, Verdict::Tampered { .. });
                        assert!(tampered, "byte {at} bit {bit}: {:?}", report.verdict);
                    }
                    Err(fault) => panic!("byte {at} bit {bit}: {fault}"),
                }
            }
        }
    }
}

#[test]
fn every_flipped_byte_of_an_interrupted_recording_is_tampering() {
    let made = make(6, &[], false);
    for at in 0..made.bytes.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut bytes = made.bytes.clone();
            bytes[at] ^= flip;
            let (report, _) = read_with(&bytes, None, None, &ring()).expect("a verdict");
            assert!(matches!(report.verdict, Verdict::Tampered { .. }), "byte {at}: {:?}", report.verdict);
        }
    }
}

#[test]
fn a_cut_at_any_length_keeps_every_whole_chunk_and_is_told_from_a_crash_by_the_seal() {
    let made = make(7, &[Piece::Sound; 12], true);
    let audio = expected_audio(&[Piece::Sound; 12]);
    // Every length near a boundary, and steps between.
    let near = |len: usize| made.bounds.iter().any(|bound| len.abs_diff(*bound) < 24);
    for len in (0..made.bytes.len()).filter(|len| *len < made.bounds[1] || near(*len) || len % 97 == 0) {
        let whole = made.bounds.iter().filter(|bound| **bound <= len).count().saturating_sub(1) as u64;
        let (report, got) = read(&made, &made.bytes[..len], false);
        match report.verdict {
            Verdict::Interrupted { good_chunks, .. } => assert_eq!(good_chunks, whole, "length {len}"),
            verdict => panic!("length {len}: {verdict:?}"),
        }
        assert!(audio.starts_with(&got));
        let (report, _) = read(&made, &made.bytes[..len], true);
        assert!(matches!(report.verdict, Verdict::Tampered { .. }), "length {len}: {:?}", report.verdict);
    }
}

#[test]
fn swapped_repeated_dropped_and_added_chunks_are_tampering() {
    let made = make(8, &[Piece::Sound; 40], true);
    let chunk = |at: usize| made.bytes[made.bounds[at]..made.bounds[at + 1]].to_vec();
    let head = made.bytes[..made.bounds[0]].to_vec();
    let count = made.bounds.len() - 1;
    let build = |order: &[usize]| order.iter().fold(head.clone(), |file, at| [file, chunk(*at)].concat());
    assert!(build(&(0..count).collect::<Vec<_>>()) == made.bytes);
    for (order, at) in [
        (vec![0, 2, 1, 3, 4, 5], Place::Chunk(1)),
        (vec![0, 1, 1, 2, 3, 4, 5], Place::Chunk(2)),
        (vec![0, 2, 3, 4, 5], Place::Chunk(1)),
        (vec![1, 0], Place::Chunk(0)),
        (vec![0, 1, 2, 3, 4, 5, 5], Place::AfterEnd),
        (vec![0, 1, 2, 3, 4, 5, 0], Place::AfterEnd),
    ] {
        for with_seal in [true, false] {
            let (report, _) = read(&made, &build(&order), with_seal);
            assert!(
                matches!(report.verdict, Verdict::Tampered { at: found, .. } if found == at),
                "{order:?}: {:?}",
                report.verdict
            );
        }
    }
    let added = [made.bytes.clone(), vec![0]].concat();
    let (report, _) = read(&made, &added, false);
    assert_eq!(report.verdict, Verdict::Tampered { at: Place::AfterEnd, why: Why::Appended });
}

#[test]
fn a_chunk_of_another_recording_does_not_fit() {
    let (one, two) = (make(9, &[Piece::Sound; 20], true), make(10, &[Piece::Sound; 20], true));
    let mut bytes = one.bytes.clone();
    bytes[one.bounds[1]..one.bounds[2]].copy_from_slice(&two.bytes[two.bounds[1]..two.bounds[2]]);
    let (report, _) = read(&one, &bytes, true);
    assert_eq!(report.verdict, Verdict::Tampered { at: Place::Chunk(1), why: Why::ChunkAltered });
    // A whole file under another's name, and a seal beside another's file.
    let (report, _) = read_with(&two.bytes, None, Some(one.recording()), &ring()).expect("a verdict");
    assert!(matches!(report.verdict, Verdict::Tampered { at: Place::Name, .. }));
    let seal = two.seal.as_deref().map(str::as_bytes);
    let (report, _) = read_with(&one.bytes, seal, None, &ring()).expect("a verdict");
    assert_eq!(report.verdict, Verdict::Tampered { at: Place::Seal, why: Why::Seal(SealError::Forged) });
}

#[test]
fn every_changed_byte_of_a_seal_is_told() {
    let made = make(11, &[Piece::Sound; 3], true);
    let seal = made.seal.clone().expect("a seal").into_bytes();
    for at in 0..seal.len() {
        let mut bad = seal.clone();
        bad[at] ^= 1;
        let (report, _) = read_with(&made.bytes, Some(&bad), None, &ring()).expect("a verdict");
        assert!(matches!(report.verdict, Verdict::Tampered { at: Place::Seal, .. }), "byte {at}");
        let (report, _) = read_with(&made.bytes, Some(&seal[..at]), None, &ring()).expect("a verdict");
        assert!(matches!(report.verdict, Verdict::Tampered { at: Place::Seal, .. }), "length {at}");
    }
    let longer = [&seal[..], b"\n"].concat();
    let (report, _) = read_with(&made.bytes, Some(&longer), None, &ring()).expect("a verdict");
    assert!(matches!(report.verdict, Verdict::Tampered { at: Place::Seal, .. }));
}

#[test]
fn a_missing_or_wrong_key_is_its_own_error() {
    let made = make(12, &SOUND, true);
    let other = KeyRing::new(Some(kek("k2", 9)), Vec::new()).expect("a ring");
    let fault = read_with(&made.bytes, None, None, &other).expect_err("no key");
    assert!(matches!(fault, Fault::Key(WrapError::UnknownKek { .. })), "{fault}");
    let namesake = KeyRing::new(Some(kek("k1", 9)), Vec::new()).expect("a ring");
    let fault = read_with(&made.bytes, None, None, &namesake).expect_err("wrong key");
    assert!(matches!(fault, Fault::Key(WrapError::WrongKek { .. })), "{fault}");
    // As an old key, under any id, it opens.
    let old = KeyRing::new(Some(kek("k2", 9)), vec![kek("k1", 1)]).expect("a ring");
    let (report, _) = read_with(&made.bytes, None, None, &old).expect("a verdict");
    assert_eq!(report.verdict, Verdict::Intact);
}

#[test]
fn a_disk_that_fills_at_any_point_keeps_what_was_acknowledged() {
    let full = make(13, &[Piece::Sound; 31], true).bytes.len();
    for room in (0..full).step_by(613) {
        let mut random = Random::seed_from_u64(13);
        let start = start(&mut random);
        let storage = Memory { room: Some(room), ..Memory::default() };
        let Ok(mut writer) = Writer::create(storage, &kek("k1", 1), start, &mut random) else {
            continue;
        };
        let mut failed = false;
        for number in 0..31 {
            if let Err(error) = writer.block(&block(number, false)) {
                let first = matches!(error, WriteError::Storage { .. });
                assert!(first != failed, "the first error is the disk's, later ones say the recording failed");
                failed = true;
            }
        }
        failed |= writer.close(WallMs(0)).is_err();
        assert!(failed, "room {room}");
        let acknowledged = writer.acknowledged();
        let bytes = writer.into_storage().bytes;
        let (report, audio) = read_with(&bytes, None, None, &ring()).expect("a verdict");
        assert!(matches!(report.verdict, Verdict::Interrupted { good_chunks, .. } if good_chunks == acknowledged));
        assert!(expected_audio(&SOUND).starts_with(&audio[..audio.len().min(32_000)]));
    }
}

#[test]
fn a_failed_sync_ends_the_stream_for_good() {
    let mut random = Random::seed_from_u64(14);
    let start = start(&mut random);
    let mut writer = Writer::create(Memory::default(), &kek("k1", 1), start, &mut random).expect("created");
    writer.storage.sync_fails = true;
    let failures = (0..20).filter(|number| writer.block(&block(*number, false)).is_err()).count();
    assert_eq!(failures, 11, "the tenth block, which fills the chunk, and every one after it");
    writer.storage.sync_fails = false;
    assert!(writer.close(WallMs(0)).is_err());
    assert_eq!(writer.acknowledged(), 1);
}

#[test]
fn blocks_a_disk_never_filled_are_an_interruption() {
    let made = make(15, &[Piece::Sound; 30], false);
    let last = made.bounds.len() - 2;
    let mut bytes = made.bytes.clone();
    bytes[made.bounds[last] + 512..].fill(0);
    let (report, _) = read(&made, &bytes, false);
    assert_eq!(report.verdict, Verdict::Interrupted { good_chunks: 3, tear: Tear::Unwritten });
    bytes[made.bounds[last]..].fill(0);
    bytes.resize(bytes.len() + 9_000, 0);
    let (report, _) = read(&made, &bytes, false);
    assert_eq!(report.verdict, Verdict::Interrupted { good_chunks: 3, tear: Tear::Unwritten });
    // The same zeros in the middle are no crash.
    let mut bytes = made.bytes.clone();
    bytes[made.bounds[1]..made.bounds[2]].fill(0);
    let (report, _) = read(&made, &bytes, false);
    assert!(matches!(report.verdict, Verdict::Tampered { .. }));
}

#[test]
fn two_recordings_of_the_same_sound_share_no_byte_run() {
    let (one, two) = (make(16, &SOUND, true), make(17, &SOUND, true));
    for run in one.bytes[one.bounds[0]..].chunks_exact(16) {
        assert!(memchr::memmem::find(&two.bytes, run).is_none());
    }
}

fn piece() -> impl Strategy<Value = Piece> {
    prop_oneof![6 => Just(Piece::Sound), 2 => Just(Piece::Paused), 1 => Just(Piece::Lost)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn what_was_written_reads_back(seed: u64, pieces in proptest::collection::vec(piece(), 0..60), close: bool) {
        let made = make(seed, &pieces, close);
        let (report, audio) = read(&made, &made.bytes, true);
        let expected = expected_audio(&pieces);
        if close {
            prop_assert_eq!(report.verdict, Verdict::Intact);
            prop_assert!(audio == expected);
        } else {
            let interrupted = matches!(report.verdict, Verdict::Interrupted { tear: Tear::BetweenChunks, .. });
            prop_assert!(interrupted);
            prop_assert!(audio == expected[..pieces.len() / 10 * 32_000]);
        }
    }

    #[test]
    fn any_change_anywhere_is_never_intact_and_never_played(
        seed in 0u64..4, at: prop::sample::Index, len in 1usize..40, fill: u8,
    ) {
        let pieces = [Piece::Sound; 25];
        let made = make(seed, &pieces, true);
        let mut bytes = made.bytes.clone();
        let at = at.index(bytes.len());
        let end = bytes.len().min(at + len);
        bytes[at..end].fill(fill);
        prop_assume!(bytes != made.bytes);
        match read_with(&bytes, made.seal.as_deref().map(str::as_bytes), None, &ring()) {
            Ok((report, audio)) => {
                prop_assert!(matches!(report.verdict, Verdict::Tampered { .. }), "{:?}", report.verdict);
                prop_assert!(expected_audio(&pieces).starts_with(&audio));
            }
            Err(fault) => prop_assert!(at < made.bounds[0], "{fault}"),
        }
    }

    #[test]
    fn noise_is_never_a_recording(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let (report, _) = read_with(&bytes, None, None, &ring()).expect("a verdict");
        prop_assert!(report.verdict != Verdict::Intact);
    }
}
