//! Encrypted RTP and RTCP (RFC 3711, RFC 6188, RFC 7714). Datagrams and master keys go in; sealed or opened datagrams, or
//! a reason for dropping one, come out. A handshake may give the keys ([`Handshake`]). Nothing is said of a packet before
//! its tag has been found good. It negotiates nothing, sends nothing, allocates nothing per packet, and its keys are
//! wiped with it.
//!
//! ```text
//!          ┌──────────── authenticated ────────────┐
//!  SRTP    │ RTP header │ payload, encrypted        │ tag 4, 10 (counter mode); 16 (GCM)
//!  SRTCP   │ 8 bytes    │ rest, encrypted │ E, index │ tag 10        (GCM: tag 16, then E, index)
//!
//!  index of an RTP packet = rollover counter · 2¹⁶ + sequence number; the counter is never sent:
//!     highest ──► the nearest index with this sequence number
//! ```

mod cipher;
mod dtls;
mod index;
mod receiver;
mod sender;

pub use dtls::{Fingerprint, Handshake, Identity, Role, Step};
pub use receiver::{Receiver, Rejected};
pub use sender::Sender;

/// The most bytes sealing adds to a packet.
pub const MAX_GROWTH: usize = 4 + 16;
