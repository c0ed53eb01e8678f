use super::*;
use crate::audit::note::Signer;
use crate::audit::{Action, Chain, Record};
use crate::base::time::WallMs;

/// A log of `entries` entries in files of 10, with a checkpoint every 7 and one at the end.
struct Log {
    files: Vec<Vec<Vec<u8>>>,
    notes: Vec<Checkpoint>,
    signer: Signer,
}

fn signer() -> Signer {
    Signer::parse(&Signer::text("tonewall/n1", &[9; 32]).expect("a name")).expect("a key")
}

fn log(entries: u64, what: &str) -> Log {
    let signer = signer();
    let (mut chain, mut files, mut notes) = (Chain::new("n1"), Vec::<Vec<Vec<u8>>>::new(), Vec::new());
    for seq in 1..=entries {
        let at = WallMs(1_000 + seq);
        if seq % 10 == 1 {
            let line = chain.begin_file(at, &format!("{seq}.log"));
            files.push(vec![line.bytes]);
        } else {
            let record = Record::node(Action::Other { what: format!("{what} {seq}").into() });
            chain.append(at, &record, |line| files.last_mut().expect("a file").push(line.bytes));
        }
        if seq % 7 == 0 || seq == entries {
            notes.push(signer.sign(seq, &chain.tree().root(), at));
        }
    }
    Log { files, notes, signer }
}

impl Log {
    fn verify(&self) -> Report {
        self.verify_from(0)
    }

    fn verify_from(&self, first: usize) -> Report {
        let notes = self.notes.iter().cloned().map(|note| (note, "here".to_owned()));
        let mut verification = Verification::new(Some(&self.signer.verifier()), notes);
        for (at, file) in self.files.iter().enumerate().skip(first) {
            for (number, line) in (1..).zip(file) {
                verification.line(&format!("f{at}"), number, line.trim_ascii_end());
            }
        }
        verification.finish()
    }

    fn words(&self) -> Vec<String> {
        self.verify().findings.iter().map(ToString::to_string).collect()
    }
}

fn at(file: usize, line: u64) -> Place {
    Place { file: format!("f{file}"), line }
}

#[test]
fn a_log_that_nobody_touched_is_whole() {
    for entries in [1, 2, 3, 10, 11, 45] {
        let report = log(entries, "a").verify();
        assert_eq!(report.findings, [], "{entries}");
        assert_eq!((report.first, report.last, report.entries, report.signed), (1, entries, entries, entries));
        assert_eq!(report.not_compared, 0);
    }
    let part = log(45, "a").verify_from(3);
    assert_eq!((part.findings.as_slice(), part.first, part.signed), (&[][..], 31, 45));
    assert_eq!(part.not_compared, 4, "those of the entries that were not given");
}

#[test]
fn a_byte_changed_anywhere_is_told_at_its_entry() {
    let whole = log(45, "a");
    for (file, line) in [(0, 1), (0, 2), (1, 4), (2, 1), (2, 9), (3, 1), (4, 3)] {
        let length = whole.files[file][line].len() - 1;
        for byte in (0..length).step_by(7) {
            let mut log = log(45, "a");
            log.files[file][line][byte] ^= 0x04;
            let report = log.verify();
            let seq = file as u64 * 10 + line as u64 + 1;
            assert!(!report.findings.is_empty(), "entry {seq} byte {byte}");
            let named = report.findings.iter().any(|finding| match finding {
                Finding::Altered { seq: told, .. } => *told == seq,
                Finding::AlteredOneOf { seq: told, .. } => *told == seq || told + 1 == seq,
                Finding::Forked { after, by, .. } => *after < seq && seq <= *by,
                _ => false,
            });
            assert!(named, "entry {seq} byte {byte}: {:?}", report.findings);
        }
    }
}

#[test]
fn a_word_changed_is_told_as_altered_and_what_follows_is_still_proven() {
    let mut log = log(45, "a");
    let text = String::from_utf8(log.files[1][4].clone()).expect("text");
    log.files[1][4] = text.replace("a 15", "b 15").into_bytes();
    let report = log.verify();
    assert_eq!(report.findings, [Finding::Altered { seq: 15, at: at(1, 5) }]);
    assert_eq!(report.signed, 45, "every other entry is as it was signed");
    assert_eq!(log.words(), ["altered: entry 15 is not as it was written (f1, line 5)"]);
}

#[test]
fn an_entry_taken_out_is_told_as_dropped() {
    let mut log = log(45, "a");
    log.files[1].remove(4);
    assert_eq!(log.verify().findings, [Finding::Missing { from: 15, to: 15, at: at(1, 5) }]);
    log.files.remove(2);
    assert_eq!(log.words()[1], "dropped: entries 21 to 30 are missing (before f2, line 1)");
    assert_eq!(log.verify().signed, 45, "the files after the gap say what stood before them");
}

#[test]
fn entries_that_changed_places_are_told_as_reordered() {
    let mut swapped = log(45, "a");
    swapped.files[1].swap(4, 5);
    assert_eq!(swapped.verify().findings, [Finding::OutOfOrder { seq: 15, at: at(1, 6) }]);
    let mut moved = log(45, "a");
    let line = moved.files[0].remove(3);
    moved.files[2].insert(2, line);
    assert_eq!(moved.words(), ["reordered: entry 4 does not belong here (f2, line 3)"]);
    let mut twice = log(45, "a");
    let line = twice.files[0][3].clone();
    twice.files[0].insert(4, line);
    assert_eq!(twice.verify().findings, [Finding::Repeated { seq: 4, at: at(0, 5) }]);
}

#[test]
fn a_log_that_was_cut_is_told_by_what_was_signed() {
    let mut log = log(45, "a");
    log.files[4].truncate(2);
    let findings = log.words();
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(
        findings[0].starts_with("truncated: the log ends with entry 42; 45 were signed, so 3 are missing"),
        "{findings:?}"
    );
    log.notes.pop();
    assert_eq!(log.verify().findings, [], "what was never signed cannot be missed");
}

#[test]
fn a_log_made_anew_is_told_as_forked() {
    let (mut log, other) = (log(45, "a"), log(45, "b"));
    let same = log.files[0].clone();
    log.files = other.files;
    assert_ne!(log.files[0], same);
    let report = log.verify();
    assert!(matches!(report.findings[..], [Finding::Forked { after: 0, by: 7, .. }]), "{:?}", report.findings);

    // From entry 30 on only, with the chain made anew from there.
    let whole = self::log(45, "a");
    let mut chain = Chain::new("n1");
    let mut kept = 0;
    let mut anew = self::log(45, "a");
    for file in &mut anew.files {
        for line in file {
            kept += 1;
            if kept < 30 {
                chain.adopt(&Stored::read(line.trim_ascii_end()).expect("an entry"));
            } else if (kept - 1) % 10 == 0 {
                *line = chain.begin_file(WallMs(1_000 + kept), &format!("{kept}.log")).bytes;
            } else {
                let record = Record::node(Action::Other { what: format!("b {kept}").into() });
                chain.append(WallMs(1_000 + kept), &record, |made| *line = made.bytes);
            }
        }
    }
    anew.notes = whole.notes;
    let report = anew.verify();
    assert!(matches!(report.findings[..], [Finding::Forked { after: 28, by: 35, .. }]), "{:?}", report.findings);
    assert!(report.findings[0].to_string().starts_with("forked: the chain is whole and not the one that was signed"));
}

#[test]
fn two_logs_signed_with_one_key_are_told_even_where_the_log_fits_one() {
    let (mut log, other) = (log(45, "a"), log(45, "b"));
    log.notes.push(other.notes[2].clone());
    let report = log.verify();
    assert!(matches!(report.findings[..], [Finding::TwoLogs { size: 21, .. }]), "{:?}", report.findings);
}

#[test]
fn a_checkpoint_of_another_key_is_told() {
    let mut log = log(20, "a");
    log.signer = Signer::parse(&Signer::text("tonewall/n1", &[10; 32]).expect("a name")).expect("a key");
    let report = log.verify();
    assert!(
        report.findings.iter().all(|finding| matches!(finding, Finding::NotSigned { .. })),
        "{:?}",
        report.findings
    );
    assert_eq!((report.findings.len(), report.signed), (3, 0));
}

#[test]
fn no_bytes_at_all_panic_it() {
    let whole = log(12, "a");
    let mut text: Vec<u8> = whole.files.concat().concat();
    for seed in 0..400usize {
        let at = seed * 7919 % text.len();
        text[at] = (seed % 256) as u8;
        let notes = whole.notes.iter().cloned().map(|note| (note, "here".to_owned()));
        let mut verification = Verification::new(None, notes);
        text.split(|b| *b == b'\n').zip(1..).for_each(|(line, number)| verification.line("f", number, line));
        assert!(!verification.finish().findings.is_empty());
    }
}
