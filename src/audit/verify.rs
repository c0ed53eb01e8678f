//! The other side: lines and checkpoints in, what is wrong with them out, each finding with its place. Told apart are an
//! entry that was altered, entries that are missing, entries out of order, a log that was cut, and a log whose chain is
//! whole but is not the one that was signed (a fork).
//!
//! ```text
//!  lines ──► window of three: does each hold the hash of the one before?  ─► altered, missing, out of order
//!              │ leaf hashes
//!              ▼
//!            tree ──► at each checkpoint's size: is it the root that was signed?  ─► fork, cut
//! ```
//!
//! After a finding the tree goes on where it can: an altered entry's true hash stands in the entry after it, and each
//! file of the log begins with the tree before it, which the next checkpoint proves or not.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use super::Stored;
use super::chain::NOTHING;
use super::note::{Checkpoint, Verifier};
use super::tree::{Hash, Tree};

/// Where something stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// File.
    pub file: String,
    /// Line, from 1.
    pub line: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, line {}", self.file, self.line)
    }
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// An entry is not as it was written.
    Altered {
        /// Entry.
        seq: u64,
        /// Where.
        at: Place,
    },
    /// Of two entries, one is not as it was written; which one cannot be told.
    AlteredOneOf {
        /// The first of the two.
        seq: u64,
        /// Where the second stands.
        at: Place,
    },
    /// Entries are missing.
    Missing {
        /// First.
        from: u64,
        /// Last.
        to: u64,
        /// Where they should stand: before this.
        at: Place,
    },
    /// An entry stands where it does not belong.
    OutOfOrder {
        /// Entry.
        seq: u64,
        /// Where.
        at: Place,
    },
    /// An entry stands there again.
    Repeated {
        /// Entry.
        seq: u64,
        /// Where.
        at: Place,
    },
    /// The log ends before what was signed.
    Cut {
        /// Entries there are.
        have: u64,
        /// Entries that were signed.
        signed: u64,
        /// Which checkpoint says so.
        checkpoint: String,
    },
    /// The chain is whole, but the log is not the one that was signed: it parts from it between two entries.
    Forked {
        /// The last entry that is as it was signed.
        after: u64,
        /// By here it is another.
        by: u64,
        /// Which checkpoint says so.
        checkpoint: String,
    },
    /// Two checkpoints of one size, both signed, say different things: two logs were signed.
    TwoLogs {
        /// Entries.
        size: u64,
        /// One.
        one: String,
        /// The other.
        other: String,
    },
    /// A checkpoint that the given key did not sign.
    NotSigned {
        /// Checkpoint.
        checkpoint: String,
    },
    /// Something in a file of checkpoints that is none.
    NoCheckpoint {
        /// File.
        file: String,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Finding::Altered { seq, at } => write!(f, "altered: entry {seq} is not as it was written ({at})"),
            Finding::AlteredOneOf { seq, at } => {
                write!(f, "altered: entry {seq} or {} is not as it was written ({at})", seq + 1)
            }
            Finding::Missing { from, to, at } if from == to => {
                write!(f, "dropped: entry {from} is missing (before {at})")
            }
            Finding::Missing { from, to, at } => write!(f, "dropped: entries {from} to {to} are missing (before {at})"),
            Finding::OutOfOrder { seq, at } => write!(f, "reordered: entry {seq} does not belong here ({at})"),
            Finding::Repeated { seq, at } => write!(f, "reordered: entry {seq} stands here again ({at})"),
            Finding::Cut { have, signed, checkpoint } => write!(
                f,
                "truncated: the log ends with entry {have}; {signed} were signed, so {} are missing at the end ({checkpoint})",
                signed.saturating_sub(*have)
            ),
            Finding::Forked { after, by, checkpoint } => write!(
                f,
                "forked: the chain is whole and not the one that was signed; it parts after entry {after} and before entry \
                 {} ({checkpoint})",
                by + 1
            ),
            Finding::TwoLogs { size, one, other } => {
                write!(f, "forked: two logs of {size} entries were signed ({one}; {other})")
            }
            Finding::NotSigned { checkpoint } => write!(f, "checkpoint not signed by the given key ({checkpoint})"),
            Finding::NoCheckpoint { file } => write!(f, "a checkpoint that cannot be read ({file})"),
        }
    }
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// What is wrong, in the order of the log.
    pub findings: Vec<Finding>,
    /// Entries read.
    pub entries: u64,
    /// Number of the first.
    pub first: u64,
    /// Number of the last.
    pub last: u64,
    /// Size of the largest checkpoint that the log bears out; 0: none.
    pub signed: u64,
    /// Checkpoints that were compared with the log.
    pub checkpoints: u64,
    /// Checkpoints that could not be: they are of entries before those given, or a finding stands in the way.
    pub not_compared: u64,
    /// Bytes of a torn line at the end: what a kill left.
    pub torn: u64,
}

/// Reads a log.
pub struct Verification {
    report: Report,
    /// By size; each with where it stands.
    checkpoints: BTreeMap<u64, Vec<(Hash, String)>>,
    window: VecDeque<(Stored, Place)>,
    /// `None` where it cannot be known.
    tree: Option<Tree>,
    /// What stands in the way of blaming a wrong root on a fork.
    spoilt: bool,
    /// The highest number seen.
    highest: u64,
    /// First and last number of what is missing, and where.
    missing: BTreeMap<u64, (u64, Place)>,
    begun: bool,
    /// The line before could not be read.
    unread: bool,
}

impl Verification {
    /// Begins with checkpoints, each with the name of where it stands, and the key that must have signed them.
    pub fn new(key: Option<&Verifier>, checkpoints: impl IntoIterator<Item = (Checkpoint, String)>) -> Self {
        let mut report = Report::default();
        let mut known: BTreeMap<u64, Vec<(Hash, String)>> = BTreeMap::new();
        for (checkpoint, place) in checkpoints {
            let place = format!("checkpoint {} of {place}", checkpoint.size);
            if key.is_some_and(|key| !key.signed(&checkpoint)) {
                report.findings.push(Finding::NotSigned { checkpoint: place });
                continue;
            }
            let same = known.entry(checkpoint.size).or_default();
            match same.iter().find(|(root, _)| *root != checkpoint.root) {
                Some((_, one)) => {
                    report.findings.push(Finding::TwoLogs {
                        size: checkpoint.size,
                        one: one.clone(),
                        other: place.clone(),
                    });
                    same.push((checkpoint.root, place));
                }
                None if same.is_empty() => same.push((checkpoint.root, place)),
                None => {}
            }
        }
        Self {
            report,
            checkpoints: known,
            window: VecDeque::new(),
            tree: Some(Tree::default()),
            spoilt: false,
            highest: 0,
            missing: BTreeMap::new(),
            begun: false,
            unread: false,
        }
    }

    /// Something in a file of checkpoints cannot be read.
    pub fn unreadable_checkpoint(&mut self, file: &str) {
        self.report.findings.push(Finding::NoCheckpoint { file: file.to_owned() });
    }

    /// The next line, without its line feed.
    pub fn line(&mut self, file: &str, number: u64, bytes: &[u8]) {
        let place = Place { file: file.to_owned(), line: number };
        self.report.entries += 1;
        let Some(stored) = Stored::read(bytes) else {
            self.drain();
            self.highest += 1;
            self.begun = true;
            self.found(Finding::Altered { seq: self.highest, at: place });
            self.unread = true;
            return;
        };
        if !self.begun {
            self.begin(&stored, &place);
        } else if self.window.is_empty() {
            self.after_unread(&stored, &place);
        }
        self.window.push_back((stored, place));
        if self.window.len() == 3 {
            self.pair();
            self.window.pop_front();
        }
    }

    /// The file ended with a line that was never finished.
    pub fn torn(&mut self, bytes: u64) {
        self.report.torn += bytes;
    }

    /// What came of it all.
    pub fn finish(mut self) -> Report {
        self.drain();
        for (from, (to, at)) in std::mem::take(&mut self.missing) {
            self.found(Finding::Missing { from, to, at });
        }
        let beyond = self.checkpoints.range(self.highest + 1..).map(|(_, places)| places.len()).sum::<usize>();
        if let Some((size, places)) = self.checkpoints.range(self.highest + 1..).next_back() {
            let checkpoint = places.first().map(|(_, place)| place.clone()).unwrap_or_default();
            let cut = Finding::Cut { have: self.highest, signed: *size, checkpoint };
            self.found(cut);
        }
        let all = self.checkpoints.values().map(Vec::len).sum::<usize>();
        self.report.not_compared = ((all - beyond) as u64).saturating_sub(self.report.checkpoints);
        self.report.last = self.highest;
        self.report
    }

    fn found(&mut self, finding: Finding) {
        self.report.findings.push(finding);
    }

    fn begin(&mut self, first: &Stored, place: &Place) {
        self.begun = true;
        self.report.first = first.seq;
        self.highest = first.seq;
        if first.seq > 1 {
            // A part of the log: it says itself what stood before it, and the next checkpoint proves it or not.
            self.tree = first.tree_before();
        } else if first.prev != NOTHING {
            self.found(Finding::Altered { seq: 1, at: place.clone() });
            self.spoil();
        }
    }

    /// The first entry that can be read after one that cannot: it holds the true hash of that one.
    fn after_unread(&mut self, stored: &Stored, place: &Place) {
        if stored.seq != self.highest + 1 {
            return self.jump(stored, place);
        }
        if std::mem::take(&mut self.unread) {
            self.leaf(self.highest, stored.prev);
        }
        self.highest = stored.seq;
    }

    /// Judges the first two entries of the window, with the third, if there is one, to tell which of them was altered.
    fn pair(&mut self) {
        let mut window = std::mem::take(&mut self.window);
        if let Some(((a, place_a), (b, place_b))) = window.front().cloned().zip(window.get(1).cloned()) {
            let c = window.get(2).map(|(c, _)| c.clone());
            if b.seq != a.seq + 1 && b.prev == a.hash {
                // It follows, whatever its number says: the number was altered.
                if let Some((b, _)) = window.get_mut(1) {
                    b.seq = a.seq + 1;
                }
                self.leaf(a.seq, a.hash);
                self.highest = self.highest.max(a.seq + 1);
                if c.is_none() {
                    self.found(Finding::Altered { seq: a.seq + 1, at: place_b });
                    self.spoil();
                }
            } else if b.seq != a.seq + 1 {
                self.leaf(a.seq, a.hash);
                self.jump(&b, &place_b);
            } else {
                let hash =
                    if b.prev == a.hash { Some(a.hash) } else { self.altered(&a, place_a, &b, &place_b, c.as_ref()) };
                match hash {
                    Some(hash) => self.leaf(a.seq, hash),
                    None => self.spoil(),
                }
                self.highest = self.highest.max(b.seq);
                // What was missing and stands here belongs elsewhere.
                self.out_of_order(&b, &place_b);
            }
        }
        self.window = window;
    }

    /// `b` does not hold the hash of `a`: one of them was altered. Gives the true hash of `a`, if that is known.
    fn altered(&mut self, a: &Stored, place_a: Place, b: &Stored, place_b: &Place, c: Option<&Stored>) -> Option<Hash> {
        match c {
            // b is as it was written, so it holds the true hash of a.
            Some(c) if c.prev == b.hash => {
                self.found(Finding::Altered { seq: a.seq, at: place_a });
                Some(b.prev)
            }
            // c does not hold the hash of b: b was altered, and is told with c.
            Some(c) if c.seq == b.seq + 1 => Some(a.hash),
            _ => {
                self.found(Finding::AlteredOneOf { seq: a.seq, at: place_b.clone() });
                None
            }
        }
    }

    /// The numbers do not go on.
    fn jump(&mut self, b: &Stored, place: &Place) {
        self.spoil();
        if b.seq > self.highest {
            if b.seq > self.highest + 1 {
                self.missing.insert(self.highest + 1, (b.seq - 1, place.clone()));
            }
            self.highest = b.seq;
            // A file of the log begins with the tree before it.
            self.tree = b.tree_before();
        } else if !self.out_of_order(b, place) {
            self.found(Finding::Repeated { seq: b.seq, at: place.clone() });
        }
    }

    /// Whether `b` was missed before; then it is not missing but out of order.
    fn out_of_order(&mut self, b: &Stored, place: &Place) -> bool {
        let Some((&from, &(to, _))) = self.missing.range(..=b.seq).next_back() else { return false };
        if to < b.seq {
            return false;
        }
        let Some((_, at)) = self.missing.remove(&from) else { return false };
        if from < b.seq {
            self.missing.insert(from, (b.seq - 1, at.clone()));
        }
        if to > b.seq {
            self.missing.insert(b.seq + 1, (to, at));
        }
        self.found(Finding::OutOfOrder { seq: b.seq, at: place.clone() });
        self.spoil();
        true
    }

    /// From here on the tree is not known, and a wrong root no proof of a fork.
    fn spoil(&mut self) {
        self.tree = None;
        self.spoilt = true;
    }

    /// Adds a leaf and compares the root where one was signed.
    fn leaf(&mut self, seq: u64, hash: Hash) {
        let Some(tree) = self.tree.as_mut().filter(|tree| tree.size() + 1 == seq) else { return };
        tree.push(hash);
        let Some(signed) = self.checkpoints.get(&seq) else { return };
        let root = tree.root();
        self.report.checkpoints += signed.len() as u64;
        if signed.iter().any(|(known, _)| *known == root) {
            self.report.signed = seq;
            return;
        }
        // Every later root differs too; the first says where.
        let told = self.report.findings.iter().any(|finding| matches!(finding, Finding::Forked { .. }));
        if let Some((_, place)) = signed.first().filter(|_| !self.spoilt && !told) {
            let forked = Finding::Forked { after: self.report.signed, by: seq, checkpoint: place.clone() };
            self.found(forked);
        }
    }

    /// Ends a run of entries that can be read: the last one has nobody after it.
    fn drain(&mut self) {
        if self.window.len() >= 2 {
            self.pair();
        }
        if let Some((last, _)) = self.window.back().cloned() {
            self.leaf(last.seq, last.hash);
        }
        self.window.clear();
    }
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
