//! The shell: the only room with sockets, clocks, tasks and threads. It feeds the cores, sends what they transmit, arms
//! what they wait for, and decides nothing about a protocol.
//!
//! ```text
//!            UDP/TCP SIP          HTTP              RTP
//!                │                  │                │
//!             sip.rs ──► engine ◄── http.rs    media workers (threads)
//!                        task.rs ──── orders ───────►│
//!                          │  ◄────── events ────────│
//!                          ▼                         ▼ masked blocks
//!                       events.rs               recorder (thread)
//! ```

pub mod harden;
pub mod logging;
pub mod peers;
pub mod recorder;
