//! The chain: gives each record its number, time and the hash of the line before it, and grows the tree. Also reads a
//! line back as far as the chain needs it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::tree::{Hash, Tree, leaf};
use super::{Action, Record};
use crate::base::time::WallMs;

/// What stands as `prev` in the first entry.
pub const NOTHING: Hash = [0; 32];

/// How far the machine's clock may be behind the last entry before that is told, in milliseconds.
const STEP_MS: u64 = 1_000;

/// A line of the log, ready to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its number, from 1.
    pub seq: u64,
    /// Its bytes, with the line feed.
    pub bytes: Vec<u8>,
}

/// Where a log stands. Cloned before a batch is written, and put back when the batch did not get to the disk.
#[derive(Debug, Clone)]
pub struct Chain {
    node: String,
    tree: Tree,
    prev: Hash,
    last_ms: u64,
    /// The clock is behind, and that was told.
    behind: bool,
}

impl Chain {
    /// An empty log of the node `node`.
    pub fn new(node: &str) -> Self {
        Self { node: node.to_owned(), tree: Tree::default(), prev: NOTHING, last_ms: 0, behind: false }
    }

    /// A log that goes on after what is stored: the tree over all entries, the hash and the time of the last one.
    pub fn resume(node: &str, tree: Tree, prev: Hash, last: WallMs) -> Self {
        Self { node: node.to_owned(), tree, prev, last_ms: last.0, behind: false }
    }

    /// The tree over all entries.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The time of the last entry.
    pub fn last_at(&self) -> WallMs {
        WallMs(self.last_ms)
    }

    /// The lines for a record that was made at `at`: one, or two when the clock was set back.
    pub fn append(&mut self, at: WallMs, record: &Record, mut out: impl FnMut(Line)) {
        let back = self.last_ms.saturating_sub(at.0);
        if back > STEP_MS && !self.behind {
            self.behind = true;
            out(self.line(at, &Record::node(Action::ClockSetBack { ms: back })));
        }
        self.behind &= back > 0;
        out(self.line(at, record));
    }

    /// The first line of a file of this name.
    pub fn begin_file(&mut self, at: WallMs, file: &str) -> Line {
        let tree = self.tree.parts().iter().map(|hash| text_of(hash).into()).collect();
        self.line(at, &Record::node(Action::LogFile { file: file.into(), tree }))
    }

    /// Takes over a line that another process wrote.
    pub fn adopt(&mut self, stored: &Stored) {
        self.tree.push(stored.hash);
        self.prev = stored.hash;
        self.last_ms = self.last_ms.max(stored.at.0);
    }

    fn line(&mut self, at: WallMs, record: &Record) -> Line {
        self.last_ms = self.last_ms.max(at.0);
        let seq = self.tree.size() + 1;
        let mut value = serde_json::to_value(record).unwrap_or_default();
        if let Value::Object(fields) = &mut value {
            fields.insert("seq".into(), seq.into());
            fields.insert("at".into(), WallMs(self.last_ms).rfc3339().into());
            fields.insert("at_ms".into(), self.last_ms.into());
            fields.insert("node".into(), self.node.clone().into());
            // What is about nothing smaller is about the node.
            let object = fields.entry("object").or_insert(Value::Null);
            if object.as_object().is_none_or(serde_json::Map::is_empty) {
                *object = json!({"node": self.node});
            }
            fields.insert("prev".into(), text_of(&self.prev).into());
        }
        let mut bytes = Vec::with_capacity(512);
        canonical(&value, &mut bytes);
        self.prev = leaf(&bytes);
        self.tree.push(self.prev);
        bytes.push(b'\n');
        Line { seq, bytes }
    }
}

/// Writes a value as RFC 8785 has it: names sorted, no blanks. Our names are ASCII and our numbers whole, so the two
/// hard parts of that document do not arise.
fn canonical(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Object(fields) => {
            let mut names: Vec<_> = fields.iter().collect();
            names.sort_by_key(|(name, _)| name.as_str());
            out.push(b'{');
            for (at, (name, value)) in names.into_iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                scalar(&Value::String(name.clone()), out);
                out.push(b':');
                canonical(value, out);
            }
            out.push(b'}');
        }
        Value::Array(items) => {
            out.push(b'[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                canonical(item, out);
            }
            out.push(b']');
        }
        other => scalar(other, out),
    }
}

fn scalar(value: &Value, out: &mut Vec<u8>) {
    // Writing into a vector does not fail.
    let _ = serde_json::to_writer(out, value);
}

/// A hash as it stands in lines and checkpoints: base64, in which chance makes no runs of digits that look like cards.
pub fn text_of(hash: &Hash) -> String {
    STANDARD.encode(hash)
}

/// The hash that a text stands for.
pub fn hash_of(text: &str) -> Option<Hash> {
    STANDARD.decode(text).ok()?.try_into().ok()
}

/// A line read back, as far as the chain needs it.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// Number.
    pub seq: u64,
    /// Time.
    pub at: WallMs,
    /// Hash of the line before it.
    pub prev: Hash,
    /// Hash of the line.
    pub hash: Hash,
    /// The whole of it.
    pub value: Value,
}

impl Stored {
    /// Reads a line, without its line feed; `None` when it is not what a chain writes, to the byte.
    pub fn read(line: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(line).ok()?;
        let mut again = Vec::with_capacity(line.len());
        canonical(&value, &mut again);
        if again != line {
            return None;
        }
        Some(Self {
            seq: value["seq"].as_u64()?,
            at: WallMs(value["at_ms"].as_u64()?),
            prev: hash_of(value["prev"].as_str()?)?,
            hash: leaf(line),
            value,
        })
    }

    /// Its action's word.
    pub fn action(&self) -> &str {
        self.value["action"].as_str().unwrap_or_default()
    }

    /// The tree before it, when it is the first entry of a file.
    pub fn tree_before(&self) -> Option<Tree> {
        if self.action() != "log-file" {
            return None;
        }
        let parts = self.value["object"]["tree"].as_array()?;
        let parts = parts.iter().map(|part| hash_of(part.as_str()?));
        Tree::from_parts(self.seq.checked_sub(1)?, parts.collect::<Option<_>>()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_canonical_numbered_and_hold_the_hash_of_the_one_before() {
        let mut chain = Chain::new("n1");
        let mut lines = vec![chain.begin_file(WallMs(5), "a")];
        chain.append(WallMs(10), &Record::node(Action::LogStopped), |line| lines.push(line));
        let read: Vec<Stored> = lines
            .iter()
            .map(|line| {
                let (feed, bytes) = line.bytes.split_last().expect("bytes");
                assert_eq!(*feed, b'\n');
                Stored::read(bytes).expect("canonical")
            })
            .collect();
        assert_eq!([read[0].seq, read[1].seq], [1, 2]);
        assert_eq!((read[0].prev, read[1].prev), (NOTHING, read[0].hash));
        assert_eq!(read[0].tree_before(), Some(Tree::default()));
        let text = String::from_utf8(lines[1].bytes.clone()).expect("text");
        let head = "{\"action\":\"log-stopped\",\"actor\":{\"kind\":\"node\"},\"at\":\"1970-01-01T00:00:00.010Z\",";
        assert!(text.starts_with(head), "{text}");
        assert!(Stored::read(text.replace("\"node\":\"n1\"", "\"node\": \"n1\"").trim_end().as_bytes()).is_none());
    }

    #[test]
    fn times_never_go_back_and_a_clock_that_does_is_told_once() {
        let mut chain = Chain::new("n1");
        let mut told = Vec::new();
        for at in [10_000, 4_000, 4_500, 9_999, 12_000, 3_000] {
            chain.append(WallMs(at), &Record::node(Action::NodeStopping), |line| {
                let stored = Stored::read(line.bytes.trim_ascii_end()).expect("canonical");
                told.push((stored.action().to_owned(), stored.at.0));
            });
        }
        let set_back: Vec<usize> =
            told.iter().enumerate().filter(|(_, (word, _))| word == "clock-set-back").map(|(at, _)| at).collect();
        assert_eq!(set_back, [1, 6]);
        assert!(told.is_sorted_by_key(|(_, at)| *at), "{told:?}");
    }
}
