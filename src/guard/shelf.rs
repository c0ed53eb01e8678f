//! Where masked blocks wait before they are sealed: memory that is locked against swapping, left out of core dumps and
//! wiped, block by block, as it is given up. Blocks go in and the same blocks come out, by slot; what is not to be kept
//! is wiped in its place. Bounded: a shelf that is full takes nothing more. It changes no sample and knows no time.

use super::masked::Masked;
use super::tap::{BLOCK_FRAMES, Block, MaskedBlock};
use crate::base::locked::Locked;

/// Bytes of a block.
const BLOCK: usize = BLOCK_FRAMES * 4;
/// Blocks that are allocated together: 1 MB.
const SEGMENT: usize = 320;

/// A place on a [`Shelf`]. Whoever holds it has to give it back, by [`Shelf::take`] or [`Shelf::wipe`].
#[derive(Debug)]
pub struct Slot(usize);

/// Locked room for blocks.
pub struct Shelf {
    segments: Vec<Locked>,
    free: Vec<usize>,
    held: usize,
    most: usize,
}

impl Shelf {
    /// Room for at most so many blocks; the memory is taken as it is needed and given back when all is empty.
    pub fn new(most: usize) -> Self {
        Self { segments: Vec::new(), free: Vec::new(), held: 0, most }
    }

    /// Blocks on it now.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Bytes of memory it has now.
    pub fn bytes(&self) -> usize {
        self.segments.len() * SEGMENT * BLOCK
    }

    /// Whether all of its memory is locked against swapping (RLIMIT_MEMLOCK may forbid it; it works all the same).
    pub fn is_locked(&self) -> bool {
        self.segments.iter().all(Locked::is_locked)
    }

    /// Whether nothing more fits.
    pub fn is_full(&self) -> bool {
        self.held >= self.most
    }

    /// Puts a block that is no pause onto the shelf; gives it back when the shelf is full.
    pub fn put(&mut self, block: MaskedBlock) -> Result<Slot, MaskedBlock> {
        if self.is_full() {
            return Err(block);
        }
        if self.free.is_empty() {
            let first = self.segments.len() * SEGMENT;
            let mut segment = Locked::with_capacity(SEGMENT * BLOCK);
            segment.extend(&[0; SEGMENT * BLOCK]);
            self.segments.push(segment);
            self.free.extend((first..first + SEGMENT).rev());
        }
        let Some(at) = self.free.pop() else { return Err(block) };
        self.held += 1;
        let samples = &block.get().samples;
        for (bytes, sample) in self.room(at).as_chunks_mut::<2>().0.iter_mut().zip(samples) {
            *bytes = sample.to_le_bytes();
        }
        Ok(Slot(at))
    }

    /// The block of a slot, which is wiped and free again.
    pub fn take(&mut self, slot: Slot) -> MaskedBlock {
        let mut block = Box::new(Block { samples: [0; BLOCK_FRAMES * 2], paused: false });
        for (sample, bytes) in block.samples.iter_mut().zip(self.room(slot.0).as_chunks::<2>().0) {
            *sample = i16::from_le_bytes(*bytes);
        }
        self.wipe(slot);
        // It was masked when it was put here, and nothing here changes a sample.
        Masked::new(block)
    }

    /// Wipes a slot, which is free again.
    pub fn wipe(&mut self, slot: Slot) {
        zeroize::Zeroize::zeroize(self.room(slot.0));
        self.free.push(slot.0);
        self.held -= 1;
        if self.held == 0 {
            self.free.clear();
            self.segments.clear();
        }
    }

    fn room(&mut self, at: usize) -> &mut [u8] {
        let from = at % SEGMENT * BLOCK;
        &mut self.segments[at / SEGMENT].expose_mut()[from..from + BLOCK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(value: i16) -> MaskedBlock {
        Masked::new(Box::new(Block { samples: [value; BLOCK_FRAMES * 2], paused: false }))
    }

    #[test]
    fn what_is_put_comes_out_and_leaves_nothing_behind() {
        let mut shelf = Shelf::new(1_000);
        let mut slots: Vec<_> = (0..700).map(|n| (n, shelf.put(block(n)).expect("room"))).collect();
        assert_eq!((shelf.held(), shelf.bytes()), (700, 3 * SEGMENT * BLOCK));
        let (_, wiped) = slots.remove(650);
        let at = wiped.0;
        shelf.wipe(wiped);
        assert!(shelf.room(at).iter().all(|byte| *byte == 0));
        for (n, slot) in slots.drain(1..) {
            let at = slot.0;
            assert!(shelf.take(slot).get().samples.iter().all(|sample| *sample == n));
            assert!(shelf.room(at).iter().all(|byte| *byte == 0));
        }
        for (_, slot) in slots {
            shelf.wipe(slot);
        }
        assert_eq!((shelf.held(), shelf.bytes()), (0, 0));
    }

    #[test]
    fn a_full_shelf_takes_nothing_more() {
        let mut shelf = Shelf::new(2);
        let first = shelf.put(block(1)).expect("room");
        let _second = shelf.put(block(2)).expect("room");
        assert_eq!(shelf.put(block(3)).expect_err("full").get().samples[0], 3);
        shelf.wipe(first);
        assert!(shelf.put(block(3)).is_ok());
    }
}
