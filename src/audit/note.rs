//! Checkpoints: how long the log is and the root of its tree, signed. The form is that of C2SP `tlog-checkpoint` in a
//! C2SP `signed-note` with Ed25519, so that others' tools can check it too.
//!
//! ```text
//!  tonewall/edge-1                                   origin: name of the key
//!  20852163                                          entries
//!  CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=       root
//!  time 1795330000000                                milliseconds since 1970
//!
//!  — tonewall/edge-1 Az3grlgtzPICa5OS8npVmf1My…       4 bytes of key id, 64 of signature
//! ```
//!
//! A signing key is a line `PRIVATE+KEY+<name>+<id>+<base64 of 1 and the seed>`, its public half
//! `<name>+<id>+<base64 of 1 and the key>`, as Go's `sumdb/note` has them.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::chain::{hash_of, text_of};
use super::tree::Hash;
use crate::base::time::WallMs;

/// The algorithm byte of Ed25519 in a signed note.
const ED25519_NOTE: u8 = 1;

/// What a line of a signature begins with.
const DASH: &str = "\u{2014} ";

const PRIVATE: &str = "PRIVATE+KEY+";

/// Why a key is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not the text of a key.
    #[error("is no key of the log: expected {expected}")]
    Shape {
        /// What was expected.
        expected: &'static str,
    },
    /// A name that cannot stand in a note.
    #[error("{0:?} cannot be a key's name: 1 to 128 visible ASCII characters without '+'")]
    Name(String),
}

/// The key that signs checkpoints. Prints nothing.
pub struct Signer {
    name: String,
    pair: Ed25519KeyPair,
}

impl Signer {
    /// The text of a key made from 32 random bytes.
    ///
    /// # Errors
    /// When the name cannot stand in a note.
    pub fn text(name: &str, seed: &[u8; 32]) -> Result<Zeroizing<String>, KeyError> {
        let signer = Self::from_seed(name, seed)?;
        let mut body = Zeroizing::new(vec![ED25519_NOTE]);
        body.extend_from_slice(seed);
        let id = hex::encode(signer.verifier().id);
        Ok(Zeroizing::new(format!("{PRIVATE}{name}+{id}+{}\n", STANDARD.encode(&*body))))
    }

    /// Reads a key's text.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let bad = || KeyError::Shape {
            expected: "\"PRIVATE+KEY+<name>+<id>+<base64>\", as `tonewall audit keygen` makes it",
        };
        let rest = text.trim().strip_prefix(PRIVATE).ok_or_else(bad)?;
        let (name, id, body) = parts(rest).ok_or_else(bad)?;
        let body = Zeroizing::new(STANDARD.decode(body).map_err(|_| bad())?);
        let [ED25519_NOTE, seed @ ..] = &body[..] else { return Err(bad()) };
        let seed: &[u8; 32] = seed.try_into().map_err(|_| bad())?;
        let signer = Self::from_seed(name, seed)?;
        if hex::encode(signer.verifier().id) == id { Ok(signer) } else { Err(bad()) }
    }

    fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, KeyError> {
        let fine = (1..=128).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic() && b != b'+');
        if !fine {
            return Err(KeyError::Name(name.to_owned()));
        }
        let pair =
            Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| KeyError::Shape { expected: "an Ed25519 seed" })?;
        Ok(Self { name: name.to_owned(), pair })
    }

    /// Its public half.
    pub fn verifier(&self) -> Verifier {
        let mut key = [0; 32];
        key.copy_from_slice(self.pair.public_key().as_ref());
        Verifier::new(&self.name, key)
    }

    /// Signs that the log has `size` entries with this root.
    pub fn sign(&self, size: u64, root: &Hash, at: WallMs) -> Checkpoint {
        let text = format!("{}\n{size}\n{}\ntime {}\n", self.name, text_of(root), at.0);
        let mut signature = self.verifier().id.to_vec();
        signature.extend_from_slice(self.pair.sign(text.as_bytes()).as_ref());
        let signature = format!("{DASH}{} {}\n", self.name, STANDARD.encode(signature));
        Checkpoint { origin: self.name.clone(), size, root: *root, at: Some(at), text, signatures: vec![signature] }
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The public half of a signing key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verifier {
    name: String,
    id: [u8; 4],
    key: [u8; 32],
}

impl Verifier {
    fn new(name: &str, key: [u8; 32]) -> Self {
        let mut hash = Sha256::new();
        hash.update(name);
        hash.update([b'\n', ED25519_NOTE]);
        hash.update(key);
        let hash: Hash = hash.finalize().into();
        Self { name: name.to_owned(), id: [hash[0], hash[1], hash[2], hash[3]], key }
    }

    /// Reads its text.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let bad = || KeyError::Shape { expected: "\"<name>+<id>+<base64>\", as `tonewall audit keygen` prints it" };
        let (name, id, body) = parts(text.trim()).ok_or_else(bad)?;
        let body = STANDARD.decode(body).map_err(|_| bad())?;
        let [ED25519_NOTE, key @ ..] = &body[..] else { return Err(bad()) };
        let verifier = Self::new(name, key.try_into().map_err(|_| bad())?);
        if hex::encode(verifier.id) == id { Ok(verifier) } else { Err(bad()) }
    }

    /// Its name: the origin of what it signs.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// First bytes of a hash over name and key, in hexadecimal.
    pub fn id(&self) -> String {
        hex::encode(self.id)
    }

    /// Whether one of a checkpoint's signatures is this key's, over what the checkpoint says.
    pub fn signed(&self, checkpoint: &Checkpoint) -> bool {
        checkpoint.signatures.iter().any(|line| {
            let Some((name, signature)) = line.trim_start_matches(DASH).trim_end().rsplit_once(' ') else {
                return false;
            };
            let Ok(signature) = STANDARD.decode(signature) else { return false };
            let Some((id, signature)) = signature.split_at_checked(4) else { return false };
            name == self.name
                && id == self.id
                && checkpoint.origin == self.name
                && UnparsedPublicKey::new(&ED25519, &self.key).verify(checkpoint.text.as_bytes(), signature).is_ok()
        })
    }
}

impl std::fmt::Display for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut body = vec![ED25519_NOTE];
        body.extend_from_slice(&self.key);
        write!(f, "{}+{}+{}", self.name, hex::encode(self.id), STANDARD.encode(body))
    }
}

fn parts(text: &str) -> Option<(&str, &str, &str)> {
    let (name, rest) = text.split_once('+')?;
    let (id, body) = rest.split_once('+')?;
    (!name.is_empty() && id.len() == 8).then_some((name, id, body))
}

/// How long the log was, and the root of its tree then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Name of the log: that of its signing key.
    pub origin: String,
    /// Entries.
    pub size: u64,
    /// Root of the tree over them.
    pub root: Hash,
    /// When it was signed.
    pub at: Option<WallMs>,
    /// What is signed.
    text: String,
    signatures: Vec<String>,
}

impl Checkpoint {
    /// The whole note.
    pub fn print(&self) -> String {
        format!("{}\n{}", self.text, self.signatures.concat())
    }

    /// Every note in a text that holds one after another, as the log's own file does; and how many pieces of it are no
    /// whole note. What a torn write left at the end is not counted.
    pub fn read_all(text: &str) -> (Vec<Checkpoint>, usize) {
        let (mut found, mut bad) = (Vec::new(), 0);
        let (mut body, mut signatures) = (String::new(), Vec::new());
        let mut close = |body: &mut String, signatures: &mut Vec<String>| {
            let body = std::mem::take(body);
            let signatures = std::mem::take(signatures);
            match read(&body, signatures) {
                Some(note) => found.push(note),
                None => bad += 1,
            }
        };
        for line in text.split_inclusive('\n') {
            if line.starts_with(DASH) && line.ends_with('\n') {
                signatures.push(line.to_owned());
            } else {
                if !signatures.is_empty() {
                    close(&mut body, &mut signatures);
                }
                body.push_str(line);
            }
        }
        if !signatures.is_empty() {
            close(&mut body, &mut signatures);
        }
        (found, bad)
    }
}

fn read(body: &str, signatures: Vec<String>) -> Option<Checkpoint> {
    // What stands before a torn note's rest, or between two notes, belongs to neither.
    let text = body.strip_suffix('\n')?;
    let mut lines = text.strip_suffix('\n')?.split('\n');
    let origin = lines.next().filter(|origin| !origin.is_empty())?.to_owned();
    let size = lines.next()?;
    let size = size.parse::<u64>().ok().filter(|number| number.to_string() == size)?;
    let root = hash_of(lines.next()?)?;
    let at = lines.find_map(|line| line.strip_prefix("time ")?.parse().ok()).map(WallMs);
    Some(Checkpoint { origin, size, root, at, text: text.to_owned(), signatures })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer() -> Signer {
        Signer::parse(&Signer::text("tonewall/n1", &[7; 32]).expect("a name")).expect("a key")
    }

    #[test]
    fn a_checkpoint_reads_back_and_holds_its_signature() {
        let signer = signer();
        let verifier = Verifier::parse(&signer.verifier().to_string()).expect("its public half");
        let notes = [signer.sign(5, &[1; 32], WallMs(9)), signer.sign(12, &[2; 32], WallMs(10))];
        let text: String = notes.iter().map(Checkpoint::print).collect();
        let (read, bad) = Checkpoint::read_all(&text);
        assert_eq!((read.as_slice(), bad), (&notes[..], 0));
        assert!(read.iter().all(|note| verifier.signed(note)));
        for (from, to) in [("\n12\n", "\n13\n"), ("time 10", "time 11"), ("AgICAgIC", "AgICAgID")] {
            let (read, _) = Checkpoint::read_all(&notes[1].print().replace(from, to));
            assert!(!verifier.signed(&read[0]), "{from}");
        }
        let other = Signer::parse(&Signer::text("tonewall/n1", &[8; 32]).expect("a name")).expect("a key");
        assert!(!other.verifier().signed(&notes[0]));
    }

    #[test]
    fn torn_notes_are_not_read_and_whole_ones_before_them_are() {
        let note = signer().sign(5, &[1; 32], WallMs(9)).print();
        for cut in 1..note.len() {
            let Some(torn) = note.get(..cut) else { continue };
            let (read, bad) = Checkpoint::read_all(&format!("{note}{torn}"));
            assert_eq!((read.len(), bad), (1, 0), "{cut}");
        }
        assert_eq!(Checkpoint::read_all("x\n\n\u{2014} a b\n").1, 1);
    }

    #[test]
    fn the_form_is_that_of_signed_notes_elsewhere() {
        // The example key of Go's golang.org/x/mod/sumdb/note, and the note it signs there.
        let key = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
        let signer = Signer::parse(key).expect("a key");
        let public = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
        assert_eq!(signer.verifier().to_string(), public);
        let text =
            "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
        let mut signature = hex::decode("c74f20a3").expect("hex");
        signature.extend_from_slice(signer.pair.sign(text.as_bytes()).as_ref());
        let known = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=";
        assert_eq!(STANDARD.encode(signature), known);
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for text in [
            "",
            "PRIVATE+KEY+a+00000000+AYEK",
            "a+b+c",
            "PRIVATE+KEY+PeterNeumann+c74f20a4+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz",
        ] {
            assert!(Signer::parse(text).is_err(), "{text}");
        }
        assert!(Signer::text("a b", &[0; 32]).is_err() && Signer::text("a+b", &[0; 32]).is_err());
    }
}
