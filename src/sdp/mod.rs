//! Session descriptions (RFC 8866) and the offer/answer model (RFC 3264) between two legs of a B2BUA. Bodies from the
//! wire go in; what the media room needs and our own, freshly written bodies come out. Nothing of one leg's body is
//! ever copied into the other's: only facts that were understood (codec, packet time, direction) cross, so addresses,
//! names, keys and candidates of one side stay unknown to the other.
//!
//! ```text
//!  leg A's offer ── Session::parse ── read_peer ──► Peer A ──► LegSession B .offer ──► our offer to leg B
//!  leg B's answer ─ Session::parse ─► LegSession B .accept ──► Peer B ─► LegSession A .answer ──► our answer to leg A
//! ```

pub mod attr;
mod connection;
mod media_line;
pub mod negotiate;
mod origin;
mod session;

pub use attr::direction::Direction;
pub use connection::{Connection, Place};
pub use media_line::MediaLine;
pub use negotiate::{
    Ask, Audio, Event, LegSession, Media, Own, Peer, Policy, Receive, Refusal, SrtpMedia, Transmit, check_address,
    read_peer,
};
pub use origin::Origin;
pub use session::{Line, MAX_SECTIONS, SdpError, Section, Session};
