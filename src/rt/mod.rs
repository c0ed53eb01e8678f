//! The shell: the only room with sockets, clocks, tasks and threads. It feeds the cores, sends what they transmit, arms
//! what they wait for, and decides nothing about a protocol.
//!
//! ```text
//!            UDP/TCP SIP          HTTP              RTP
//!                │                  │                │
//!             sip.rs ─► engine.rs ◄─ http.rs    media workers (threads)
//!                          │ ───── orders ──────────►│
//!                          │  ◄────── events ────────│
//!                          ▼                         ▼ masked blocks
//!                   control::History             recorder (thread)
//! ```

// The room that may: see .clippy.toml.
#![allow(clippy::disallowed_methods)]

mod alarms;
mod answers;
pub mod audit;
pub mod canary;
pub mod catalogue;
mod client;
pub mod crew;
pub mod demo;
mod engine;
pub mod forks;
mod forward;
pub mod harden;
pub mod http;
mod identity;
mod kept;
pub mod keyfile;
pub mod keys;
pub mod leaklab;
pub mod logging;
pub mod media;
pub mod node;
pub mod peers;
pub mod psp;
pub mod recorder;
pub mod recordings;
pub mod rescan;
mod resolve;
pub mod sip;
mod taps;
pub mod vault;
pub mod webhooks;

/// A generator seeded by the operating system.
///
/// # Errors
/// When it gives no seed.
pub fn random() -> Result<crate::base::Random, rand::rngs::SysError> {
    use rand::{SeedableRng, TryRng};
    let mut seed = [0u8; 32];
    rand::rngs::SysRng.try_fill_bytes(&mut seed)?;
    Ok(crate::base::Random::from_seed(seed))
}
