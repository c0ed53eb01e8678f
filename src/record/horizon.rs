//! The redaction horizon of one recording: what was heard waits here, in locked memory, before it is sealed, so that what
//! is known too late can still be taken out. Masked blocks go in with the time they came; orders "take out from t to t"
//! go in; [`Piece`]s come out in order, each once, a horizon later. What has come out is never called back: an order that
//! reaches further back than what is held says so ([`Redacted::too_late`]).
//!
//! ```text
//!     sealed          │◄───────────────── horizon ─────────────────►│
//!  ───block──block────┃──block──block──block──block──block──block───┃─ now
//!       poll() ◄──────┘          ▲─── redact(from, to) ───▲         └─ handle_block()
//!                                └ wiped at once; silence marked `redacted` takes its place
//! ```
//!
//! Nothing of it is on the disk: a process that is killed loses the horizon and no key in it is ever written. When a
//! recording is closed all that is held comes out. When the shelf is full, the oldest block comes out early: then the
//! horizon is shorter, and an order that needed more of it is told as too late.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::sealed::Mark;
use crate::guard::{BLOCKS_LAG, Shelf, Slot};
use crate::media::{BLOCK_FRAMES, MaskedBlock, RECORD_RATE};

/// Length of a block.
pub const BLOCK: Duration = Duration::from_micros(1_000_000 * BLOCK_FRAMES as u64 / RECORD_RATE as u64);
/// What is taken out besides, before the first key was known to go down: a gateway's lag, a decoder's delay, and the
/// time a packet may be laid beside its own.
pub const MARGIN: Duration = Duration::from_millis(500);
/// Orders that reach into what has not come yet, at most.
const PENDING: usize = 8;

/// An order to take out what was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Redaction {
    /// From the first key on; [`MARGIN`] is taken out besides.
    pub from: Instant,
    /// Up to here.
    pub to: Instant,
    /// When the first of these keys could be heard in the recording at all; `None`: none could, the order is for what
    /// was said besides.
    pub heard: Option<Instant>,
}

/// What an order has come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Redacted {
    /// Blocks that were heard and have been wiped now.
    pub blocks: usize,
    /// A key could be heard in what had been sealed already: the recording is not clean.
    pub too_late: bool,
}

/// What comes out, to be sealed.
#[derive(Debug)]
pub enum Piece {
    /// 100 ms.
    Sound(MaskedBlock),
    /// 100 ms of a pause.
    Paused(MaskedBlock),
    /// 100 ms that never arrived.
    Lost,
    /// 100 ms that were taken out.
    Redacted,
    /// What may be heard of keys from a frame on.
    Mark(u64, Mark),
}

enum Held {
    Sound(Slot),
    /// A pause holds no sound, so it needs no locked memory.
    Paused(MaskedBlock),
    Lost,
    Redacted,
}

/// The horizon of one recording. Its blocks lie on a [`Shelf`] that recordings share.
pub struct Horizon {
    /// How many blocks wait.
    span: usize,
    held: VecDeque<Held>,
    /// Number of the oldest block that is held: so many have come out.
    first: u64,
    /// When block 0 began, by the block that came soonest.
    began: Option<Instant>,
    /// Orders that reach beyond what has come.
    pending: SmallVec<[Redaction; 2]>,
    marks: VecDeque<(Instant, Mark)>,
    /// The recording is closed: nothing waits any more.
    closed: bool,
    /// What had to come out early because the shelf was full.
    out: VecDeque<Piece>,
    early: u64,
}

impl Horizon {
    /// Blocks wait for `span`.
    pub fn new(span: Duration) -> Self {
        Self {
            span: usize::try_from(span.as_micros().div_ceil(BLOCK.as_micros())).unwrap_or(usize::MAX),
            held: VecDeque::new(),
            first: 0,
            began: None,
            pending: SmallVec::new(),
            marks: VecDeque::new(),
            closed: false,
            out: VecDeque::new(),
            early: 0,
        }
    }

    /// Blocks that have come, held or out.
    fn next(&self) -> u64 {
        self.first + self.held.len() as u64
    }

    /// Blocks that came out early because the shelf was full.
    pub fn early(&self) -> u64 {
        self.early
    }

    /// The next block, which came at `came`.
    pub fn handle_block(&mut self, came: Instant, block: MaskedBlock, shelf: &mut Shelf) {
        let number = self.next();
        // A block is given out when it and the lag are over; at the end of a call sooner, which must not move the rest.
        let age = BLOCK * u32::try_from(number + 1).unwrap_or(u32::MAX) + BLOCK * BLOCKS_LAG;
        let began = came.checked_sub(age).unwrap_or(came);
        self.began = Some(
            self.began.map_or(began, |known| if number < u64::from(BLOCKS_LAG) { known.min(began) } else { known }),
        );
        if block.get().paused {
            self.held.push_back(Held::Paused(block));
            return;
        }
        if self.is_ordered_out(number) {
            self.held.push_back(Held::Redacted);
            return;
        }
        // Room is made by what is oldest; where nothing of ours lies there, the block cannot wait itself.
        while shelf.is_full()
            && let Some(piece) = self.pop(shelf)
        {
            self.early += u64::from(matches!(piece, Piece::Sound(_)));
            self.out.push_back(piece);
        }
        match shelf.put(block) {
            Ok(slot) => self.held.push_back(Held::Sound(slot)),
            Err(block) => {
                self.early += 1;
                self.first += 1;
                self.out.push_back(Piece::Sound(block));
            }
        }
    }

    /// The next block never arrived.
    pub fn handle_lost(&mut self) {
        self.held.push_back(Held::Lost);
    }

    /// What is known of keys at `at`.
    pub fn handle_mark(&mut self, at: Instant, mark: Mark) {
        self.marks.push_back((at, mark));
    }

    /// Takes out what was heard, and what is still to come of it.
    pub fn redact(&mut self, order: Redaction, shelf: &mut Shelf) -> Redacted {
        let Some(began) = self.began else {
            self.later(order);
            return Redacted::default();
        };
        let mut done = Redacted::default();
        let (from, to) = (self.number_at(began, order.from, MARGIN), self.number_at(began, order.to, Duration::ZERO));
        for number in from.max(self.first)..=to {
            let Some(held) = self.held.get_mut((number - self.first) as usize) else { break };
            if let Held::Sound(_) = held
                && let Held::Sound(slot) = std::mem::replace(held, Held::Redacted)
            {
                shelf.wipe(slot);
                done.blocks += 1;
            }
        }
        if to >= self.next() {
            self.later(order);
        }
        // What sounded before the recording began is not in it.
        let heard = order.heard.filter(|at| *at >= began);
        done.too_late = heard.is_some_and(|at| self.number_at(began, at, Duration::ZERO) < self.first);
        done
    }

    /// What is to be sealed now; ask until there is none.
    pub fn poll(&mut self, shelf: &mut Shelf) -> Option<Piece> {
        if let (Some(began), Some((at, mark))) = (self.began, self.marks.front().copied()) {
            self.marks.pop_front();
            let frame = at.saturating_duration_since(began).as_micros() * u128::from(RECORD_RATE) / 1_000_000;
            return Some(Piece::Mark(u64::try_from(frame).unwrap_or(u64::MAX), mark));
        }
        if let Some(piece) = self.out.pop_front() {
            return Some(piece);
        }
        if self.closed || self.held.len() > self.span { self.pop(shelf) } else { None }
    }

    /// The recording is over: all that is held comes out.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// Wipes what is held: nothing more comes out.
    pub fn wipe(&mut self, shelf: &mut Shelf) {
        for held in self.held.drain(..) {
            if let Held::Sound(slot) = held {
                shelf.wipe(slot);
            }
        }
    }

    fn pop(&mut self, shelf: &mut Shelf) -> Option<Piece> {
        let held = self.held.pop_front()?;
        self.first += 1;
        Some(match held {
            Held::Sound(slot) => Piece::Sound(shelf.take(slot)),
            Held::Paused(block) => Piece::Paused(block),
            Held::Lost => Piece::Lost,
            Held::Redacted => Piece::Redacted,
        })
    }

    /// Number of the block that is heard at `at`, or `earlier`.
    fn number_at(&self, began: Instant, at: Instant, earlier: Duration) -> u64 {
        let since = at.saturating_duration_since(began).saturating_sub(earlier);
        u64::try_from(since.as_micros() / BLOCK.as_micros()).unwrap_or(u64::MAX)
    }

    fn is_ordered_out(&self, number: u64) -> bool {
        let Some(began) = self.began else { return false };
        self.pending.iter().any(|order| {
            let from = self.number_at(began, order.from, MARGIN);
            (from..=self.number_at(began, order.to, Duration::ZERO)).contains(&number)
        })
    }

    /// Keeps an order for blocks to come. Where there are too many, two become one: more is taken out, never less.
    fn later(&mut self, order: Redaction) {
        if let Some(began) = self.began {
            let next = self.next();
            let over = |order: &Redaction| self.number_at(began, order.to, Duration::ZERO) < next;
            let kept = self.pending.iter().filter(|order| !over(order)).copied().collect();
            self.pending = kept;
        }
        if self.pending.len() == PENDING
            && let Some(last) = self.pending.last_mut()
        {
            (last.from, last.to) = (last.from.min(order.from), last.to.max(order.to));
            return;
        }
        self.pending.push(order);
    }
}
#[cfg(test)]
#[allow(clippy::disallowed_methods)] // One reading, as the origin of virtual time.
mod tests {
    use super::*;
    use crate::guard::Masked;
    use crate::media::Block;

    const SECOND: Duration = Duration::from_secs(1);

    struct World {
        t0: Instant,
        shelf: Shelf,
        horizon: Horizon,
        sealed: Vec<Piece>,
        came: u32,
    }

    impl World {
        fn new(span_s: u64, room: usize) -> Self {
            let horizon = Horizon::new(Duration::from_secs(span_s));
            Self { t0: Instant::now(), shelf: Shelf::new(room), horizon, sealed: Vec::new(), came: 0 }
        }

        /// So many blocks come in time; each sounds of its own number.
        fn blocks(&mut self, count: u32) {
            for _ in 0..count {
                let number = self.came;
                self.came += 1;
                let came = self.t0 + BLOCK * (number + 1 + BLOCKS_LAG);
                let block = Block { samples: [number as i16; BLOCK_FRAMES * 2], paused: number % 1_000 >= 900 };
                self.horizon.handle_block(came, Masked::for_test(Box::new(block)), &mut self.shelf);
                self.poll();
            }
        }

        fn poll(&mut self) {
            while let Some(piece) = self.horizon.poll(&mut self.shelf) {
                self.sealed.push(piece);
            }
        }

        fn redact(&mut self, from_ms: u64, to_ms: u64, heard_ms: Option<u64>) -> Redacted {
            let at = |ms| self.t0 + Duration::from_millis(ms);
            let order = Redaction { from: at(from_ms), to: at(to_ms), heard: heard_ms.map(at) };
            self.horizon.redact(order, &mut self.shelf)
        }

        /// The sealed pieces, one letter a block: a dot for sound that is its own number's.
        fn close(&mut self) -> String {
            self.horizon.close();
            self.poll();
            let mut number = 0i16;
            let letters = self.sealed.iter().filter_map(|piece| {
                let letter = match piece {
                    Piece::Sound(block) if block.get().samples.iter().all(|s| *s == number) => '.',
                    Piece::Sound(_) => '!',
                    Piece::Paused(_) => 'p',
                    Piece::Lost => 'l',
                    Piece::Redacted => 'R',
                    Piece::Mark(..) => return None,
                };
                number += 1;
                Some(letter)
            });
            let letters = letters.collect();
            assert_eq!(self.shelf.held(), 0, "nothing is left in memory");
            letters
        }
    }

    #[test]
    fn what_is_heard_waits_for_the_horizon_and_comes_out_in_order() {
        let mut w = World::new(12, 1_000);
        w.blocks(120);
        assert_eq!((w.sealed.len(), w.shelf.held()), (0, 120));
        w.blocks(30);
        assert_eq!((w.sealed.len(), w.shelf.held()), (30, 120));
        assert_eq!(w.close(), ".".repeat(150));
    }

    #[test]
    fn a_card_known_late_is_taken_out_from_its_first_key_and_wiped_at_once() {
        let mut w = World::new(12, 1_000);
        w.blocks(100);
        // Keys from 3.0 s on, known at 9 s: half a second before it goes too.
        let done = w.redact(3_000, 9_000, Some(3_000));
        assert_eq!(done, Redacted { blocks: 66, too_late: false });
        assert_eq!(w.shelf.held(), 34);
        w.blocks(10);
        assert_eq!(w.close(), format!("{}{}{}", ".".repeat(25), "R".repeat(66), ".".repeat(19)));
    }

    #[test]
    fn what_has_not_come_yet_is_taken_out_when_it_comes() {
        let mut w = World::new(5, 1_000);
        w.blocks(20);
        assert_eq!(w.redact(2_200, 3_050, Some(2_200)).blocks, 3);
        w.blocks(30);
        assert_eq!(w.close(), format!("{}{}{}", ".".repeat(17), "R".repeat(14), ".".repeat(19)));
    }

    #[test]
    fn what_was_heard_before_the_horizon_is_told_as_too_late_and_what_was_not_heard_is_not() {
        let mut w = World::new(10, 1_000);
        w.blocks(300);
        assert_eq!(w.redact(5_000, 30_000, Some(5_000)), Redacted { blocks: 100, too_late: true });
        let mut w = World::new(10, 1_000);
        w.blocks(300);
        assert_eq!(w.redact(5_000, 30_000, None), Redacted { blocks: 100, too_late: false });
        // The last block that has come out, and the first that has not.
        let mut w = World::new(10, 1_000);
        w.blocks(300);
        assert!(w.redact(19_950, 30_000, Some(19_950)).too_late);
        assert!(!w.redact(20_050, 30_000, Some(20_050)).too_late);
    }

    #[test]
    fn pauses_take_no_locked_memory_and_stay_pauses() {
        let mut w = World::new(12, 1_000);
        w.came = 895;
        w.horizon.first = 895;
        w.sealed.clear();
        w.blocks(10);
        assert_eq!(w.shelf.held(), 5);
        assert_eq!(w.redact(0, 200_000, None).blocks, 5);
        w.horizon.close();
        w.poll();
        let paused = w.sealed.iter().filter(|piece| matches!(piece, Piece::Paused(_))).count();
        assert_eq!((paused, w.sealed.len()), (5, 10));
    }

    #[test]
    fn a_full_shelf_shortens_the_horizon_and_an_order_that_needed_more_is_too_late() {
        let mut w = World::new(12, 40);
        w.blocks(100);
        assert_eq!((w.sealed.len(), w.horizon.early()), (60, 60));
        assert!(w.redact(5_000, 10_000, Some(5_000)).too_late);
        assert!(!w.redact(6_500, 10_000, Some(6_500)).too_late);
    }

    #[test]
    fn without_any_room_nothing_waits_and_every_order_for_what_was_heard_is_too_late() {
        let mut w = World::new(12, 0);
        w.blocks(5);
        assert_eq!((w.sealed.len(), w.horizon.early()), (5, 5));
        assert!(w.redact(200, 500, Some(200)).too_late);
        assert_eq!(w.close(), ".....");
    }

    #[test]
    fn an_order_before_the_first_block_and_marks_find_their_place() {
        let mut w = World::new(2, 100);
        assert_eq!(w.redact(0, 250, Some(100)), Redacted::default());
        w.horizon.handle_mark(w.t0 + SECOND, Mark::CustomerKeysMasked);
        w.blocks(5);
        assert!(matches!(w.sealed[..], [Piece::Mark(8_000, Mark::CustomerKeysMasked)]));
        assert_eq!(w.close(), "RRR..");
    }

    #[test]
    fn more_orders_than_are_kept_take_out_more_and_never_less() {
        let mut w = World::new(60, 1_000);
        w.blocks(1);
        for n in 0..20 {
            w.redact(1_000 + n * 1_000, 1_100 + n * 1_000, None);
        }
        w.blocks(230);
        let sealed = w.close();
        for n in 0..20usize {
            assert_eq!(&sealed[10 + n * 10..12 + n * 10], "RR", "{n}");
        }
    }
}
