//! The Merkle tree of RFC 6962 section 2.1 as it grows: only the hashes of its whole parts are kept, one per bit of its
//! size, so a log of millions of entries costs a few hundred bytes.
//!
//! ```text
//!  7 leaves:        root
//!                 /      \            kept: [ h(0..4), h(4..6), h(6..7) ]   sizes 4, 2, 1
//!             0..4        \           leaf  = SHA-256(0x00 ‖ line)
//!             /  \       4..7         node  = SHA-256(0x01 ‖ left ‖ right)
//!          0..2  2..4    /  \         root  = kept parts joined from the right
//!                     4..6   6
//! ```

use sha2::{Digest, Sha256};

/// A SHA-256 hash.
pub type Hash = [u8; 32];

/// Hash of a leaf: one line of the log, without its line feed.
pub fn leaf(line: &[u8]) -> Hash {
    let mut hash = Sha256::new();
    hash.update([0]);
    hash.update(line);
    hash.finalize().into()
}

fn node(left: &Hash, right: &Hash) -> Hash {
    let mut hash = Sha256::new();
    hash.update([1]);
    hash.update(left);
    hash.update(right);
    hash.finalize().into()
}

/// A tree, by the hashes of its whole parts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    size: u64,
    /// Largest first.
    parts: Vec<Hash>,
}

impl Tree {
    /// The tree of `size` leaves whose whole parts are `parts`; `None` when it cannot have so many.
    pub fn from_parts(size: u64, parts: Vec<Hash>) -> Option<Self> {
        (parts.len() == size.count_ones() as usize).then_some(Self { size, parts })
    }

    /// How many leaves it has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Hashes of its whole parts, largest first.
    pub fn parts(&self) -> &[Hash] {
        &self.parts
    }

    /// Adds a leaf by its hash.
    pub fn push(&mut self, leaf: Hash) {
        let mut hash = leaf;
        // As adding one to a binary number carries.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.parts.pop() {
                hash = node(&left, &hash);
            }
        }
        self.parts.push(hash);
        self.size += 1;
    }

    /// The hash of the whole tree; of the empty one, that of nothing.
    pub fn root(&self) -> Hash {
        let mut parts = self.parts.iter().rev();
        let Some(last) = parts.next() else { return Sha256::digest([]).into() };
        parts.fold(*last, |right, left| node(left, &right))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6962 section 2.1, word for word.
    fn mth(leaves: &[Vec<u8>]) -> Hash {
        match leaves.len() {
            0 => Sha256::digest([]).into(),
            1 => leaf(&leaves[0]),
            n => {
                let k = 1 << (usize::BITS - 1 - (n - 1).leading_zeros());
                node(&mth(&leaves[..k]), &mth(&leaves[k..]))
            }
        }
    }

    #[test]
    fn the_root_is_that_of_the_rfc_at_every_size() {
        let leaves: Vec<Vec<u8>> = (0u32..130).map(|n| n.to_be_bytes().to_vec()).collect();
        let mut tree = Tree::default();
        assert_eq!(tree.root(), mth(&[]));
        for (at, line) in leaves.iter().enumerate() {
            tree.push(leaf(line));
            assert_eq!(tree.root(), mth(&leaves[..=at]), "{at}");
            let again = Tree::from_parts(tree.size(), tree.parts().to_vec()).expect("whole");
            assert_eq!(again, tree);
        }
        assert_eq!(Tree::from_parts(3, vec![[0; 32]]), None);
    }

    #[test]
    fn the_root_is_that_of_known_answers() {
        // Test vectors of the Certificate Transparency project for this hashing.
        let leaves =
            ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
        let mut tree = Tree::default();
        leaves.iter().for_each(|text| tree.push(leaf(&hex::decode(text).expect("hex"))));
        let root = "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328";
        assert_eq!(hex::encode(tree.root()), root);
    }
}
