//! The screen: many lines at once, one per lane. Band-pass, energies, and for every hop of each line whether the full fit
//! (`bank`) could find it suspect. It lets through a little more than that and never less: `proof` shows it for every
//! pair of the grid. Rows go in and come out ([`Row`]); nothing is kept here between turns.
//!
//! ```text
//!  rows (one per line)          lanes (one per line)                                        rows
//!  64 filtered ──┐ turned  ┌─ fold about each block's centre ─ 8 centres ─ 20 frequencies ─┐ turned  filtered
//!  160 samples ──┘ about   └─ band-pass ─ energies ─ window totals ────────── compare ─────┘ back    totals, hops
//! ```

use std::sync::LazyLock;

use super::bandpass::{self, Factors, Filter, omega};
use super::lanes::{Lanes, Width};
use super::tiles::Tiles;
use super::{BLOCK, BLOCKS, Bar, SOUNDS_ON, WINDOW, WINDOW_GATE};

/// Most blocks in a turn: 20 ms.
pub(super) const MOST: usize = 20;
/// Blocks of a window that come before its newest.
pub(super) const BEFORE: usize = BLOCKS - 1;
/// Samples of them.
pub(super) const HISTORY: usize = BEFORE * BLOCK;
/// Most lanes of any width.
pub(super) const WIDEST: usize = 16;

/// Centres per group. Within a block a frequency is taken for its centre's.
const CENTRES: usize = 4;
/// Frequencies per centre.
const LOW_EACH: usize = 2;
const HIGH_EACH: usize = 3;
/// Frequencies of each group, Hz: first and step.
pub(super) const LOW: (f64, f64) = (678.0, 41.15);
pub(super) const HIGH: (f64, f64) = (1175.0, 46.8);

/// What the strongest frequency of each group explains alone falls short of what the fit explains by at most this part
/// of the window. `proof` shows it; a little room is for rounding.
pub(super) const SHORT: f32 = 0.225;

/// Words of [`Row::head`]: the filter's memory, what the bars are made of; coming out, the least and most total and the
/// hops by bar.
const HEAD: usize = 16;
/// Of each bar the part and the least; the noise; of the first bar what counts after a rise.
const BARS: usize = bandpass::MEMORY;
const NOISE: usize = BARS + 4;
const RISEN: usize = BARS + 5;
const LEAST: usize = BARS + 6;
const MOST_TOTAL: usize = LEAST + 1;
const HOPS: usize = LEAST + 2;
/// Room for [`MOST`] totals in whole tiles.
const TOTALS: usize = 32;
/// Room for the totals of [`BLOCKS`] hops in whole tiles.
const EARLIER: usize = 16;

/// What one line brings to a turn and takes from it. All in 32-bit words, floats by their bits, in whole tiles.
#[derive(Clone)]
#[repr(C, align(64))]
pub(super) struct Row {
    /// Two samples a word, the earlier in the lower half.
    words: [u32; MOST * BLOCK / 2],
    /// The filtered samples before.
    history: [u32; HISTORY],
    head: [u32; HEAD],
    /// The totals of the last hops before.
    earlier: [u32; EARLIER],
    /// The filtered samples.
    filtered: [u32; MOST * BLOCK],
    /// The energy of the window that ends with each block.
    totals: [u32; TOTALS],
    /// Blocks to be taken, at most [`MOST`].
    pub(super) blocks: usize,
    /// Whether the line was over the gate last.
    pub(super) loud: bool,
}

impl Row {
    pub(super) const fn new() -> Self {
        Self {
            words: [0; MOST * BLOCK / 2],
            history: [0; HISTORY],
            head: [0; HEAD],
            earlier: [0; EARLIER],
            filtered: [0; MOST * BLOCK],
            totals: [0; TOTALS],
            blocks: 0,
            loud: false,
        }
    }

    /// Puts in what a turn needs: whole blocks of samples in two parts, at most [`MOST`], the filtered samples before them
    /// and the totals of the last [`BLOCKS`] hops before, the filter's memory, what must be explained while no suspicion is
    /// open and while one is, and the most that the line's noise in a window may be.
    pub(super) fn fill(
        &mut self,
        (first, second): (&[i16], &[i16]),
        (history, earlier): (&[f32], &[f32; BLOCKS]),
        memory: &[f32; bandpass::MEMORY],
        bars: [Bar; 2],
        noise: f32,
    ) {
        if first.is_empty() {
            for (word, pair) in self.words.iter_mut().zip(second.as_chunks::<2>().0) {
                *word = u32::from(pair[0] as u16) | u32::from(pair[1] as u16) << 16;
            }
        } else {
            let mut samples = first.iter().chain(second).map(|sample| u32::from(*sample as u16));
            for word in &mut self.words {
                *word = samples.next().unwrap_or(0) | samples.next().unwrap_or(0) << 16;
            }
        }
        self.blocks = (first.len() + second.len()) / BLOCK;
        for (word, value) in self.history.iter_mut().zip(history) {
            *word = value.to_bits();
        }
        for (word, value) in self.head.iter_mut().zip(memory) {
            *word = value.to_bits();
        }
        for (word, value) in self.earlier.iter_mut().zip(earlier) {
            *word = value.to_bits();
        }
        let [closed, open] = bars;
        let parts = [closed.part, closed.least, open.part, open.least].map(|part| part - SHORT);
        let [a, b, c, d] = parts;
        for (word, value) in self.head[BARS..].iter_mut().zip([a, b, c, d, noise, closed.risen - SHORT]) {
            *word = value.to_bits();
        }
    }

    /// The filter's memory after the turn.
    pub(super) fn memory(&self) -> [f32; bandpass::MEMORY] {
        std::array::from_fn(|n| f32::from_bits(self.head[n]))
    }

    /// Puts the filtered samples into `room`, from number `first` on.
    pub(super) fn filtered(&self, first: usize, room: &mut [f32]) {
        for (sample, word) in room.iter_mut().zip(&self.filtered[first..self.blocks * BLOCK]) {
            *sample = f32::from_bits(*word);
        }
    }

    /// The energy of the window that ends with block `hop`.
    pub(super) fn total(&self, hop: usize) -> f32 {
        f32::from_bits(self.totals[hop])
    }

    /// The totals of the last [`BLOCKS`] hops, `earlier` being those before the turn.
    pub(super) fn latest(&self, earlier: &[f32; BLOCKS]) -> [f32; BLOCKS] {
        std::array::from_fn(|n| self.before(self.blocks + n, earlier))
    }

    /// The energy of the window before the one that ends with block `hop`, `earlier` being the totals before the turn.
    pub(super) fn before(&self, hop: usize, earlier: &[f32; BLOCKS]) -> f32 {
        earlier.get(hop).copied().unwrap_or_else(|| self.total(hop - BLOCKS))
    }

    /// The least and the most of the totals.
    pub(super) fn range(&self) -> (f32, f32) {
        (f32::from_bits(self.head[LEAST]), f32::from_bits(self.head[MOST_TOTAL]))
    }

    /// Hops that could be suspect, a bit each: while no suspicion is open, and while one is.
    pub(super) fn hops(&self) -> [u32; 2] {
        [self.head[HOPS], self.head[HOPS + 1]]
    }
}

/// A centre's functions over a block, folded, and the turns of its frequencies.
#[derive(Clone, Copy)]
struct Centre<const EACH: usize> {
    cosine: [f32; BLOCK / 2],
    sine: [f32; BLOCK / 2],
    /// Cosine and sine of each frequency's turn from the turn's first block.
    turns: [[[f32; 2]; EACH]; BEFORE + MOST],
}

pub(super) struct Tables {
    factors: Factors,
    low: [Centre<LOW_EACH>; CENTRES],
    high: [Centre<HIGH_EACH>; CENTRES],
}

/// The frequencies of a group's centre, Hz.
pub(super) fn frequencies(group: (f64, f64), each: usize, centre: usize) -> impl Iterator<Item = f64> {
    (0..each).map(move |n| group.0 + group.1 * (centre * each + n) as f64)
}

/// A group's centres with their frequencies, Hz; for `proof`.
pub(super) fn centre_of(group: (f64, f64), each: usize, centre: usize) -> f64 {
    frequencies(group, each, centre).sum::<f64>() / each as f64
}

impl<const EACH: usize> Centre<EACH> {
    fn new(group: (f64, f64), number: usize) -> Self {
        let hz = centre_of(group, EACH, number);
        let mut centre =
            Self { cosine: [0.0; BLOCK / 2], sine: [0.0; BLOCK / 2], turns: [[[0.0; 2]; EACH]; BEFORE + MOST] };
        for n in 0..BLOCK / 2 {
            let angle = omega(hz) * (n as f64 + 0.5);
            (centre.cosine[n], centre.sine[n]) = (angle.cos() as f32, angle.sin() as f32);
        }
        for (block, turns) in centre.turns.iter_mut().enumerate() {
            for (turn, hz) in turns.iter_mut().zip(frequencies(group, EACH, number)) {
                let angle = omega(hz) * (block * BLOCK) as f64;
                *turn = [angle.cos() as f32, angle.sin() as f32];
            }
        }
        centre
    }
}

static TABLES: LazyLock<Box<Tables>> = LazyLock::new(|| {
    Box::new(Tables {
        factors: Factors::new(),
        low: std::array::from_fn(|n| Centre::new(LOW, n)),
        high: std::array::from_fn(|n| Centre::new(HIGH, n)),
    })
});

/// Room for one turn of `N` lines.
#[repr(C, align(64))]
pub(super) struct Work<const N: usize> {
    words: [[u32; N]; MOST * BLOCK / 2],
    head: [[u32; N]; HEAD],
    earlier: [[u32; N]; EARLIER],
    /// The samples before, then the new ones, filtered.
    samples: [[u32; N]; MOST * BLOCK],
    /// Each block folded about its centre: sums of the samples 1, 3, 5, 7 half-samples away, then differences.
    folded: [[[u32; N]; BLOCK]; BEFORE + MOST],
    energy: [[u32; N]; BEFORE + MOST],
    /// Sums up to each block, by frequency: cosine, sine.
    sums: [[[[u32; N]; 2]; HIGH_EACH]; BEFORE + MOST + 1],
    /// The strongest of each group, by hop.
    strongest: [[[u32; N]; MOST]; 2],
    totals: [[u32; N]; TOTALS],
}

impl<const N: usize> Work<N> {
    pub(super) const fn new() -> Self {
        Self {
            words: [[0; N]; MOST * BLOCK / 2],
            head: [[0; N]; HEAD],
            earlier: [[0; N]; EARLIER],
            samples: [[0; N]; MOST * BLOCK],
            folded: [[[0; N]; BLOCK]; BEFORE + MOST],
            energy: [[0; N]; BEFORE + MOST],
            sums: [[[[0; N]; 2]; HIGH_EACH]; BEFORE + MOST + 1],
            strongest: [[[0; N]; MOST]; 2],
            totals: [[0; N]; TOTALS],
        }
    }
}

/// One turn: `blocks` blocks of the rows `index` names (a row may be named more than once).
#[inline(always)]
fn turn<V: Lanes<N>, T: Tiles<N>, const N: usize>(
    rows: &mut [Row],
    index: &[usize; N],
    blocks: usize,
    tables: &Tables,
    work: &mut Work<N>,
) {
    let blocks = blocks.min(MOST);
    into_lanes::<T, N>(rows, index, |row| &row.history, HISTORY, &mut work.samples);
    into_lanes::<T, N>(rows, index, |row| &row.words, blocks * BLOCK / 2, &mut work.words);
    into_lanes::<T, N>(rows, index, |row| &row.head, HEAD, &mut work.head);
    history::<V, N>(work);
    filter::<V, N>(blocks, tables, work);
    let open = totals::<V, N>(blocks, work);
    let mut hops = [[0; N]; 2];
    if open {
        work.strongest = [[[0; N]; MOST]; 2];
        let [low, high] = &mut work.strongest;
        for centre in &tables.low {
            strengths::<V, N, LOW_EACH>(centre, blocks, &work.folded, &mut work.sums, low);
        }
        for centre in &tables.high {
            strengths::<V, N, HIGH_EACH>(centre, blocks, &work.folded, &mut work.sums, high);
        }
        into_lanes::<T, N>(rows, index, |row| &row.earlier, BLOCKS, &mut work.earlier);
        compare::<V, N>(blocks, work, &mut hops);
    }
    work.head[HOPS..HOPS + 2].copy_from_slice(&hops);
    out_of_lanes::<V, T, N>(&work.samples, blocks * BLOCK, rows, index, |row| &mut row.filtered);
    out_of_lanes::<V, T, N>(&work.totals, blocks, rows, index, |row| &mut row.totals);
    out_of_lanes::<V, T, N>(&work.head, HEAD, rows, index, |row| &mut row.head);
}

/// Turns the first `count` words of a part of the rows (rounded up to tiles) into lanes.
#[inline(always)]
fn into_lanes<T: Tiles<N>, const N: usize>(
    rows: &[Row],
    index: &[usize; N],
    part: impl Fn(&Row) -> &[u32],
    count: usize,
    lanes: &mut [[u32; N]],
) {
    let tiles = count.div_ceil(N);
    for (tile, out) in lanes.as_chunks_mut::<N>().0.iter_mut().take(tiles).enumerate() {
        let none = [0; N];
        let mut from = [&none; N];
        for (row, index) in from.iter_mut().zip(index) {
            // Parts are whole tiles of every width.
            if let Some(words) = part(&rows[*index]).as_chunks::<N>().0.get(tile) {
                *row = words;
            }
        }
        T::turn(&from, out);
    }
}

/// Turns lanes back into the first `count` words of a part of the rows (rounded up to tiles).
#[inline(always)]
fn out_of_lanes<V: Lanes<N>, T: Tiles<N>, const N: usize>(
    lanes: &[[u32; N]],
    count: usize,
    rows: &mut [Row],
    index: &[usize; N],
    part: impl Fn(&mut Row) -> &mut [u32],
) {
    let tiles = count.div_ceil(N);
    for (tile, from) in lanes.as_chunks::<N>().0.iter().take(tiles).enumerate() {
        let mut lanes = [&from[0]; N];
        for (to, lane) in lanes.iter_mut().zip(from) {
            *to = lane;
        }
        let mut turned = [[0; N]; N];
        T::turn(&lanes, &mut turned);
        for (words, index) in turned.iter().zip(index) {
            if let Some(room) = part(&mut rows[*index]).as_chunks_mut::<N>().0.get_mut(tile) {
                // As a register: the compiler calls `memcpy` for a copy of this size.
                V::load(words).store(room);
            }
        }
    }
}

/// Keeps a block's energy, and the block folded about its centre.
#[inline(always)]
fn keep<V: Lanes<N>, const N: usize>(block: &[V; BLOCK], number: usize, work: &mut Work<N>) {
    let mut energy = block[0] * block[0];
    for y in &block[1..] {
        energy = energy + *y * *y;
    }
    energy.store(&mut work.energy[number]);
    let folded = &mut work.folded[number];
    for n in 0..BLOCK / 2 {
        let (before, after) = (block[BLOCK / 2 - 1 - n], block[BLOCK / 2 + n]);
        (after + before).store(&mut folded[n]);
        (after - before).store(&mut folded[BLOCK / 2 + n]);
    }
}

/// The blocks before: already filtered.
#[inline(always)]
fn history<V: Lanes<N>, const N: usize>(work: &mut Work<N>) {
    for number in 0..BEFORE {
        let mut block = [V::all(0.0); BLOCK];
        for (n, sample) in block.iter_mut().enumerate() {
            *sample = V::load(&work.samples[number * BLOCK + n]);
        }
        keep(&block, number, work);
    }
}

/// Filters the new blocks.
#[inline(always)]
fn filter<V: Lanes<N>, const N: usize>(blocks: usize, tables: &Tables, work: &mut Work<N>) {
    let mut filter = Filter::<V>::load(&work.head);
    for number in 0..blocks {
        let mut block = [V::all(0.0); BLOCK];
        for (n, pair) in block.as_chunks_mut::<2>().0.iter_mut().enumerate() {
            let (first, second) = V::halves(&work.words[number * BLOCK / 2 + n]);
            *pair = [filter.sample(&tables.factors, first), filter.sample(&tables.factors, second)];
        }
        filter.rest();
        for (n, sample) in block.iter().enumerate() {
            sample.store(&mut work.samples[number * BLOCK + n]);
        }
        keep(&block, BEFORE + number, work);
    }
    filter.store(&mut work.head);
}

/// The energy of each hop's window, oldest block first, and their range; whether any is over the gate.
#[inline(always)]
fn totals<V: Lanes<N>, const N: usize>(blocks: usize, work: &mut Work<N>) -> bool {
    let (mut least, mut most) = (V::all(f32::INFINITY), V::all(0.0));
    for hop in 0..blocks {
        let mut total = V::load(&work.energy[hop]);
        for block in 1..BLOCKS {
            total = total + V::load(&work.energy[hop + block]);
        }
        total.store(&mut work.totals[hop]);
        least = total.min(least);
        most = total.max(most);
    }
    least.store(&mut work.head[LEAST]);
    most.store(&mut work.head[MOST_TOTAL]);
    work.head[MOST_TOTAL].iter().any(|most| f32::from_bits(*most) >= WINDOW_GATE)
}

/// Adds a centre's frequencies to the strongest of its group.
#[inline(always)]
fn strengths<V: Lanes<N>, const N: usize, const EACH: usize>(
    centre: &Centre<EACH>,
    blocks: usize,
    folded: &[[[u32; N]; BLOCK]; BEFORE + MOST],
    sums: &mut [[[[u32; N]; 2]; HIGH_EACH]; BEFORE + MOST + 1],
    strongest: &mut [[u32; N]; MOST],
) {
    let mut running = [(V::all(0.0), V::all(0.0)); EACH];
    for block in 0..BEFORE + blocks {
        let folded = &folded[block];
        let mut re = V::load(&folded[0]).times(centre.cosine[0]);
        let mut im = V::load(&folded[BLOCK / 2]).times(centre.sine[0]);
        for n in 1..BLOCK / 2 {
            re = re + V::load(&folded[n]).times(centre.cosine[n]);
            im = im + V::load(&folded[BLOCK / 2 + n]).times(centre.sine[n]);
        }
        let mut most = V::all(0.0);
        for each in 0..EACH {
            let [cosine, sine] = centre.turns[block][each];
            let x = running[each].0 + (re.times(cosine) - im.times(sine));
            let y = running[each].1 + (im.times(cosine) + re.times(sine));
            running[each] = (x, y);
            let kept = &mut sums[block + 1][each];
            x.store(&mut kept[0]);
            y.store(&mut kept[1]);
            if block >= BEFORE {
                let before = &sums[block - BEFORE][each];
                let (x, y) = (x - V::load(&before[0]), y - V::load(&before[1]));
                most = (x * x + y * y).max(most);
            }
        }
        if block >= BEFORE {
            let strongest = &mut strongest[block - BEFORE];
            V::load(strongest).max(most).store(strongest);
        }
    }
}

/// The hops that reach each bar: `Bar::needed` in lanes, less what the screen falls short by. Only the first bar knows of
/// a rise.
#[inline(always)]
fn compare<V: Lanes<N>, const N: usize>(blocks: usize, work: &Work<N>, [closed, open]: &mut [[u32; N]; 2]) {
    let word = |n: usize| &work.head[BARS + n];
    let (part, least, open_part, open_least) = (V::load(word(0)), V::load(word(1)), V::load(word(2)), V::load(word(3)));
    let (noise, risen) = (V::load(&work.head[NOISE]), V::load(&work.head[RISEN]));
    let (gate, none) = (V::all(WINDOW_GATE), V::all(0.0));
    for hop in 0..blocks {
        let total = V::load(&work.totals[hop]);
        let before = V::load(if hop < BLOCKS { &work.earlier[hop] } else { &work.totals[hop - BLOCKS] });
        let strongest =
            (V::load(&work.strongest[0][hop]) + V::load(&work.strongest[1][hop])).times(2.0 / WINDOW as f32);
        let credit = before.times(SOUNDS_ON).min(total - before - before).max(none);
        let rising = (part * total - credit).max(risen * total);
        let needed = (part * total - noise).max(least * total).min(rising);
        strongest.mark(needed, total, gate, 1 << hop, closed);
        let needed = (open_part * total - noise).max(open_least * total);
        strongest.mark(needed, total, gate, 1 << hop, open);
    }
}

/// The kernel for each instruction set: one source, compiled again.
#[allow(unsafe_code)]
mod compiled {
    use super::super::lanes::F;
    #[cfg(target_arch = "x86_64")]
    use super::super::lanes::{F8, F16};
    use super::super::tiles::Plain;
    #[cfg(target_arch = "x86_64")]
    use super::super::tiles::{Avx2, Avx512};
    use super::{Row, TABLES, Tables, Width, Work, turn};

    macro_rules! kernel {
        ($name:ident, $lanes:literal, $type:ty, $tiles:ident $(, $feature:literal)?) => {
            $(#[target_feature(enable = $feature)])?
            fn $name(
                rows: &mut [Row],
                index: &[usize; $lanes],
                blocks: usize,
                            tables: &Tables,
                work: &mut Work<$lanes>,
            ) {
                turn::<$type, $tiles, $lanes>(rows, index, blocks, tables, work);
            }
        };
    }

    kernel!(one, 1, F<1>, Plain);
    kernel!(four, 4, F<4>, Plain);
    #[cfg(target_arch = "x86_64")]
    kernel!(eight_avx2, 8, F8, Avx2, "avx2");
    #[cfg(target_arch = "x86_64")]
    kernel!(eight_avx512, 8, F8, Avx2, "avx512f,avx512bw,avx512dq,avx512vl");
    #[cfg(target_arch = "x86_64")]
    kernel!(sixteen_avx512, 16, F16, Avx512, "avx512f,avx512bw,avx512dq,avx512vl");
    #[cfg(target_arch = "aarch64")]
    kernel!(eight_neon, 8, F<8>, Plain, "neon");

    /// A line alone.
    pub(in crate::dtmf::inband) fn alone(row: &mut Row, work: &mut Work<1>) {
        let blocks = row.blocks;
        one(std::slice::from_mut(row), &[0], blocks, &TABLES, work);
    }

    /// Room of every size.
    pub(in crate::dtmf::inband) struct Rooms {
        one: Work<1>,
        four: Work<4>,
        eight: Work<8>,
        #[cfg(target_arch = "x86_64")]
        sixteen: Work<16>,
    }

    impl Rooms {
        pub(in crate::dtmf::inband) const fn new() -> Self {
            Self {
                one: Work::new(),
                four: Work::new(),
                eight: Work::new(),
                #[cfg(target_arch = "x86_64")]
                sixteen: Work::new(),
            }
        }
    }

    /// Names the first of `index` where it ends short of `N`.
    fn filled<const N: usize>(index: &[usize]) -> [usize; N] {
        std::array::from_fn(|n| index.get(n).or(index.first()).copied().unwrap_or(0))
    }

    /// Takes the rows named first, all of `blocks` blocks, and tells how many it took.
    pub(in crate::dtmf::inband) fn some(
        width: Width,
        rows: &mut [Row],
        index: &[usize],
        blocks: usize,
        rooms: &mut Rooms,
    ) -> usize {
        if index.len() == 1 {
            one(rows, &filled(index), blocks, &TABLES, &mut rooms.one);
            return 1;
        }
        match width {
            Width::Portable => {
                four(rows, &filled(index), blocks, &TABLES, &mut rooms.four);
                index.len().min(4)
            }
            #[cfg(target_arch = "x86_64")]
            Width::Avx2 => {
                // SAFETY: only `Width::checked` widths come here, and it has asked the processor.
                unsafe { eight_avx2(rows, &filled(index), blocks, &TABLES, &mut rooms.eight) };
                index.len().min(8)
            }
            #[cfg(target_arch = "x86_64")]
            Width::Avx512 if index.len() <= 8 => {
                // SAFETY: as above.
                unsafe { eight_avx512(rows, &filled(index), blocks, &TABLES, &mut rooms.eight) };
                index.len()
            }
            #[cfg(target_arch = "x86_64")]
            Width::Avx512 => {
                // SAFETY: as above.
                unsafe { sixteen_avx512(rows, &filled(index), blocks, &TABLES, &mut rooms.sixteen) };
                index.len().min(16)
            }
            #[cfg(target_arch = "aarch64")]
            Width::Neon => {
                // SAFETY: as above.
                unsafe { eight_neon(rows, &filled(index), blocks, &TABLES, &mut rooms.eight) };
                index.len().min(8)
            }
            #[allow(unreachable_patterns)]
            _ => {
                four(rows, &filled(index), blocks, &TABLES, &mut rooms.four);
                index.len().min(4)
            }
        }
    }
}

pub(super) use compiled::{Rooms, alone, some};
