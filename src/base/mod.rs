//! What every room needs and nothing more: time tables, ids, the words of payments, secret digits and keys. Opens nothing,
//! prints nothing secret.

pub mod bucket;
pub mod ids;
pub mod key;
pub mod label;
pub mod locked;
pub mod payment;
pub mod secret;
pub mod time;

/// The random generator of every core: passed in from `rt/` with a seed from the operating system, or from a test
/// with a seed that reproduces the run.
pub type Random = rand_chacha::ChaCha20Rng;
