//! The SIPREC recording client (RFC 7866, 7865, 9806): one recording session with one recording server. What is known of the
//! call, the server's messages and the time go in; requests, responses, orders to the sender of sound and what happened
//! come out. Which server is tried and when is decided in `call`; sound is sent by `rt` from masked blocks only.
//!
//! ```text
//!  facts of the call ─► metadata ─┐
//!  addresses, keys ───► sdp ──────┴─► body ─► Session ─► INVITE, re-INVITE, BYE, OPTIONS
//!                                              ▲   └────► where sound goes, or that it is cut
//!                        answers, re-INVITE, BYE
//! ```

mod body;
pub mod forward;
pub mod metadata;
pub mod sdp;
mod session;
pub mod sound;
mod spill;

#[cfg(test)]
mod tests;

pub use session::{End, Output, Session, Setup};
pub use spill::Spill;
