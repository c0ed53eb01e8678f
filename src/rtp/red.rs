//! RFC 2198 redundancy, unwrapped: one payload goes in, its blocks come out, oldest first, the primary last. It copies
//! nothing; a payload that does not add up gives no block at all.
//!
//! ```text
//!  0                   1                    2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3  4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |F|   block PT  |  timestamp offset         |   block length    |   F = 1: one more header follows
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |0|   block PT  |   the primary: its length is what is left
//! ```

use arrayvec::ArrayVec;

/// The most blocks taken from one packet, the primary included.
pub const MAX_BLOCKS: usize = 8;

/// One block of a redundant payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block<'a> {
    /// The payload type inside, 0–127.
    pub payload_type: u8,
    /// The block's timestamp: the packet's, less the block's offset.
    pub timestamp: u32,
    /// The block's bytes.
    pub payload: &'a [u8],
    /// Whether this is the primary encoding, the only one that has not been sent before.
    pub primary: bool,
}

/// Reads the blocks of a redundant payload; `None` when lengths do not add up or there are too many blocks.
pub fn blocks(payload: &[u8], timestamp: u32) -> Option<ArrayVec<Block<'_>, MAX_BLOCKS>> {
    let mut headers = ArrayVec::<(u8, u32, usize), MAX_BLOCKS>::new();
    let mut at = 0;
    let primary = loop {
        let first = *payload.get(at)?;
        if first & 0x80 == 0 {
            at += 1;
            break first;
        }
        let header = payload.get(at..at + 4)?;
        let word = u32::from_be_bytes([0, header[1], header[2], header[3]]);
        headers.try_push((first & 0x7f, word >> 10, (word & 0x3ff) as usize)).ok()?;
        at += 4;
    };
    let mut blocks = ArrayVec::new();
    for (payload_type, offset, length) in headers {
        let bytes = payload.get(at..at + length)?;
        at += length;
        let timestamp = timestamp.wrapping_sub(offset);
        blocks.try_push(Block { payload_type, timestamp, payload: bytes, primary: false }).ok()?;
    }
    let rest = payload.get(at..)?;
    blocks.try_push(Block { payload_type: primary, timestamp, payload: rest, primary: true }).ok()?;
    Some(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// One redundant block of two bytes at offset 160, then a primary of three.
    const WIRE: [u8; 10] = [0x80 | 101, 0x02, 0x80, 0x02, 101, 1, 2, 3, 4, 5];

    #[test]
    fn blocks_come_oldest_first_with_their_own_time() {
        let blocks = blocks(&WIRE, 1_000).expect("two blocks");
        assert_eq!(blocks.len(), 2);
        assert_eq!(blocks[0], Block { payload_type: 101, timestamp: 840, payload: &[1, 2], primary: false });
        assert_eq!(blocks[1], Block { payload_type: 101, timestamp: 1_000, payload: &[3, 4, 5], primary: true });
    }

    #[test]
    fn a_payload_cut_inside_a_redundant_block_gives_nothing() {
        for len in 0..7 {
            assert!(blocks(&WIRE[..len], 0).is_none(), "{len}");
        }
        assert_eq!(blocks(&WIRE[..7], 0).expect("an empty primary")[1].payload, &[] as &[u8]);
    }

    #[test]
    fn too_many_blocks_are_refused() {
        let mut wire = [0x80u8, 0, 0, 0].repeat(MAX_BLOCKS);
        wire.push(0);
        assert!(blocks(&wire, 0).is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = blocks(&bytes, 5);
        }
    }
}
