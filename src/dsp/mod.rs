//! Sample-level mathematics: G.711, level and spectrum of a line's background, noise and tone synthesis. Plain functions
//! and small state over `i16` at 8 kHz; knows no packets, allocates nothing, decides nothing.

pub mod background;
pub mod g711;
pub mod level;
pub mod lpc;
pub mod noise;
pub mod tone;

/// Samples per second of everything in this room.
pub const RATE: u32 = 8_000;

/// Samples per millisecond.
pub const PER_MS: usize = 8;
