//! Many lines heard together. Detectors put what they are to hear in as rows ([`Together::enter`]), one turn of the screen
//! runs over all of them, and each takes its own row back ([`Together::leave`]) and goes on alone: its verdicts are the
//! same, to the bit, as if it had been fed alone. Nothing is decided here, and nothing is lost by not coming back:
//! samples that no detector has taken are not decided clean.

use super::lanes::Width;
use super::screen::{MOST, Rooms, Row, WIDEST, some};
use super::{BLOCK, Detector, Point, Verdict};

/// Lines in one turn: several registers' worth, so that those that are alike go together.
pub(super) const LINES: usize = 4 * WIDEST;

/// Room for the lines of one turn, and the instruction set it runs on.
pub struct Together {
    width: Width,
    rows: Box<[Row]>,
    rooms: Box<Rooms>,
    count: usize,
    run: bool,
}

/// Where a line's samples lie in a [`Together`].
#[derive(Debug)]
pub struct Place {
    row: usize,
    /// The detector's position and point when they were put in.
    position: u64,
    point: Point,
}

impl Default for Together {
    fn default() -> Self {
        Self::new()
    }
}

impl Together {
    /// Room on the widest instruction set this machine has. All that is ever allocated is allocated here.
    pub fn new() -> Self {
        Self::with(Width::widest())
    }

    /// Room on the instruction set of one's choice; where the machine does not have it, on what every machine has.
    pub fn with(width: Width) -> Self {
        Self {
            width: width.checked(),
            rows: vec![Row::new(); LINES].into_boxed_slice(),
            rooms: Box::new(Rooms::new()),
            count: 0,
            run: false,
        }
    }

    /// The instruction set it runs on.
    pub fn width(&self) -> Width {
        self.width
    }

    /// Lines that are in.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether no line is in.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether no more lines fit; the turn has to be run, its lines have to leave, and it has to be cleared.
    pub fn is_full(&self) -> bool {
        self.count == self.rows.len()
    }

    /// Lines in one turn, at most.
    pub const fn lines() -> usize {
        LINES
    }

    /// The most samples one line can put into one turn: 20 ms.
    pub const fn most() -> usize {
        MOST * BLOCK
    }

    /// Puts in what `detector` is to hear next. `None` when there is no room, the turn has been run, or `samples` make no
    /// whole block or are more than fit: feed them alone then.
    pub fn enter(&mut self, detector: &Detector, samples: &[i16]) -> Option<Place> {
        let front = &detector.front;
        if self.run || front.fits(samples.len()) < samples.len() || !front.completes(samples.len()) {
            return None;
        }
        let row = self.count;
        front.fill(samples, detector.point, self.rows.get_mut(row)?);
        self.count += 1;
        Some(Place { row, position: detector.position, point: detector.point })
    }

    /// Runs the turn.
    pub fn run(&mut self) {
        self.run = true;
        let mut waiting: [usize; LINES] = std::array::from_fn(|n| n);
        let mut waiting = &mut waiting[..self.count];
        while let Some(first) = waiting.first() {
            // Those of one length together, the loud ones first: a register of quiet lines needs no strengths.
            let blocks = self.rows[*first].blocks;
            let mut count = 0;
            for loud in [true, false] {
                let from = count;
                for n in from..waiting.len() {
                    let row = &self.rows[waiting[n]];
                    if (row.blocks, row.loud) == (blocks, loud) {
                        waiting.swap(n, count);
                        count += 1;
                    }
                }
            }
            let mut index = &waiting[..count];
            while !index.is_empty() {
                index = &index[some(self.width, &mut self.rows, index, blocks, &mut self.rooms)..];
            }
            waiting = &mut waiting[count..];
        }
    }

    /// Gives `detector` back what it put in, `samples` being the same as then, and tells what they decide. A turn that was
    /// not run, or a detector that has heard something else meanwhile, costs nothing but the time: it hears them alone.
    pub fn leave(&self, place: Place, detector: &mut Detector, samples: &[i16], verdict: &mut impl FnMut(Verdict)) {
        match self.rows[..self.count].get(place.row) {
            Some(row) if self.run && (place.position, place.point) == (detector.position, detector.point) => {
                detector.take(samples, row, verdict);
                detector.settle();
            }
            _ => detector.feed(samples, verdict),
        }
    }

    /// Makes room for the next turn.
    pub fn clear(&mut self) {
        (self.count, self.run) = (0, false);
    }
}
