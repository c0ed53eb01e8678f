//! What comes out of a sealed spill, and what never does.

use std::io;

use rand::SeedableRng;

use super::*;
use crate::base::Random;
use crate::base::ids::CallId;
use crate::guard::Masked;
use crate::media::Block;
use crate::record::catalogue::{AuditVerdict, FORWARDED, SPILL, SelfAudit, State};
use crate::record::keys::Kek;
use crate::record::sealed::{Storage, Writer};

#[derive(Default)]
struct Memory(Vec<u8>);

impl Storage for Memory {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn kek(seed: u8) -> Kek {
    let text: String = (0..32).map(|at| format!("{:02x}", seed.wrapping_add(at * 7))).collect();
    Kek::parse("k1", &text).expect("a key")
}

fn ring() -> KeyRing {
    KeyRing::new(Some(kek(1)), Vec::new()).expect("a ring")
}

/// A spill for `label` of 13 blocks, of which the fifth is a pause: bytes, seal, and its entry after a clean audit.
fn spill(label: Option<&str>) -> (Vec<u8>, String, Entry) {
    let mut random = Random::seed_from_u64(3);
    let mut entry = Entry::unread(RecordingId::draw(&mut random), WallMs(1_795_327_256_000));
    entry.labels.extend(label.map(|name| (SPILL.to_owned(), name.to_owned())));
    let start = Start {
        recording: entry.recording,
        call: CallId::draw(&mut random),
        node: "node-1".into(),
        from_trunk: "carrier".into(),
        to_trunk: "pbx".into(),
        started_at_ms: entry.started_ms,
        rate: 8_000,
        channels: 2,
        caller: String::new(),
        called: String::new(),
        agent: String::new(),
        sip_call_ids: Vec::new(),
        labels: entry.labels.clone(),
        spill: None,
    };
    let mut writer = Writer::create(Memory::default(), &kek(1), start, &mut random).expect("created");
    for at in 0..13i16 {
        let block = Block { samples: [at + 1; BLOCK_FRAMES * 2], paused: at == 4 };
        writer.block(&Masked::for_test(Box::new(block))).expect("written");
    }
    let seal = writer.close(WallMs(1_795_327_257_300)).expect("closed").1;
    entry.length_ms = 1_300;
    entry.state = State::Sealed;
    entry.self_audit = Some(SelfAudit { verdict: AuditVerdict::Clean, at_ms: WallMs(1), detail: String::new() });
    (writer.into_storage().0, seal, entry)
}

fn heard(proven: &Proven, bytes: &[u8], seal: &str) -> (Result<(), Unfit>, Vec<i16>) {
    let mut heard = Vec::new();
    let done = proven.play(bytes, Some(seal.as_bytes()), &ring(), &mut |block| {
        heard.extend_from_slice(&block.get().samples);
        Ok(())
    });
    (done, heard)
}

#[test]
fn a_spill_comes_out_as_it_was_sealed_with_silence_where_it_was_paused() {
    let (bytes, seal, entry) = spill(Some("quality"));
    let proven = Cleared::of(&entry).and_then(|it| it.prove(&bytes[..], Some(seal.as_bytes()), &ring())).expect("fit");
    assert_eq!((proven.frames(), proven.ended().0 - entry.started_ms.0), (13 * BLOCK_FRAMES as u64, 1_300));
    let (done, heard) = heard(&proven, &bytes, &seal);
    done.expect("played");
    let each: Vec<i16> = heard.chunks(BLOCK_FRAMES * 2).map(|block| block[7]).collect();
    assert_eq!(each, [1, 2, 3, 4, 0, 6, 7, 8, 9, 10, 11, 12, 13]);
}

#[test]
fn what_is_not_a_clean_spill_that_waits_is_not_cleared() {
    let (_, _, good) = spill(Some("quality"));
    assert_eq!(good.waits_for(), Some("quality"));
    let refused = |change: &dyn Fn(&mut Entry)| {
        let mut entry = good.clone();
        change(&mut entry);
        assert!(matches!(Cleared::of(&entry), Err(Unfit::Withheld(_))), "{entry:?}");
    };
    for state in [State::Recording, State::Finalising, State::Quarantined, State::Destroyed] {
        refused(&|entry| entry.state = state);
    }
    refused(&|entry| entry.self_audit = None);
    refused(&|entry| entry.length_ms = 0);
    for verdict in [AuditVerdict::Hit, AuditVerdict::Failed] {
        refused(&|entry| entry.self_audit.iter_mut().for_each(|audit| audit.verdict = verdict));
    }
    refused(&|entry| entry.labels.clear());
    refused(&|entry| drop(entry.labels.insert(FORWARDED.to_owned(), "2026-11-22T18:00:00Z".to_owned())));
    let mut held = good.clone();
    held.hold = Some(crate::record::catalogue::LegalHold { by: "x".into(), why: "y".into(), since_ms: WallMs(1) });
    assert!(Cleared::of(&held).is_ok(), "a legal hold keeps it from being destroyed, not from being copied");
}

#[test]
fn a_label_that_somebody_put_on_a_recording_opens_nothing() {
    for sealed in [None, Some("other")] {
        let (bytes, seal, mut entry) = spill(sealed);
        entry.labels.insert(SPILL.to_owned(), "quality".to_owned());
        let proven = Cleared::of(&entry).expect("a label").prove(&bytes[..], Some(seal.as_bytes()), &ring());
        assert!(matches!(proven, Err(Unfit::Foreign(_))), "{proven:?}");
    }
}

#[test]
fn nothing_comes_out_of_what_was_changed_or_has_no_key() {
    let (bytes, seal, entry) = spill(Some("quality"));
    let prove =
        |bytes: &[u8], ring: &KeyRing| Cleared::of(&entry).expect("cleared").prove(bytes, Some(seal.as_bytes()), ring);
    let mut altered = bytes.clone();
    let at = altered.len() - 40;
    altered[at] ^= 1;
    assert!(matches!(prove(&altered, &ring()), Err(Unfit::Tampered(_))));
    let cut = &bytes[..bytes.len() - 100];
    assert!(matches!(prove(cut, &ring()), Err(Unfit::Tampered(_))), "cut after it was sealed");
    let other = KeyRing::new(Some(kek(9)), Vec::new()).expect("a ring");
    assert!(matches!(prove(&bytes, &other), Err(Unfit::Fault(Fault::Key(_)))));
    // Changed between the proof and the play: what comes before the change is sound, the rest stays in.
    let proven = prove(&bytes, &ring()).expect("fit");
    let (done, heard) = heard(&proven, &altered, &seal);
    assert!(matches!(done, Err(Unfit::Tampered(_))), "{done:?}");
    assert!(heard.len() <= 10 * BLOCK_FRAMES * 2, "the chunk that was changed gave nothing");
}

#[test]
fn what_a_killed_node_left_is_proven_up_to_its_last_chunk() {
    let (bytes, _, entry) = spill(Some("quality"));
    let cut = &bytes[..bytes.len() - 100];
    let proven = Cleared::of(&entry).expect("cleared").prove(cut, None, &ring()).expect("interrupted");
    assert_eq!(proven.frames(), 10 * BLOCK_FRAMES as u64, "whole seconds");
    assert_eq!(proven.call_ended(), Some(proven.ended()), "its call ended with it");
}
