//! Sample-level mathematics: G.711, G.722, Opus, the step between 8 and 16 kHz, level and spectrum of a line's
//! background, noise and tone synthesis. Plain functions and small state over `i16` at 8 kHz, or 16 kHz where it says
//! "wide"; allocates nothing but at birth, decides nothing.

pub mod background;
pub mod g711;
pub mod g722;
pub mod halfband;
pub mod level;
pub mod lpc;
pub mod noise;
pub mod opus;
pub mod tone;

/// Samples per second of everything in this room.
pub const RATE: u32 = 8_000;

/// Samples per millisecond.
pub const PER_MS: usize = 8;
