//! Offer/answer (RFC 3264) for one audio stream on each leg of a B2BUA, pure. [`read_peer`] turns a peer's offer into
//! facts; a [`LegSession`] per leg writes our offers and answers on that leg and reads the peer's answers. The rules:
//!
//! - The first `m=audio` whose transport the trunk allows and that is not refused is used; every other section is answered with port 0 in
//!   its place, and our own later offers keep the count and order.
//! - Fax (T.38) in place of the audio is offered on where both trunks pass it; any other stream is refused.
//! - Codecs are what both legs' trunks and peers have in common; only where there is nothing, all that can be masked, and
//!   the media room codes it anew. Toward a leg they stand in the order of that leg's trunk; in an answer, the codec the
//!   other leg put first leads, so that both directions speak the same one. What cannot be masked is never coded anew.
//! - Payload type numbers keep their meaning for the life of a leg (RFC 3264 section 8.3.2).
//! - Every telephone-event and redundancy number a peer ever named is listed as receivable, accepted or not: an event
//!   that is recognised can be kept from the other side, an unknown packet could not.
//! - Keys belong to one leg: a peer's is answered with ours, whatever the other leg does.

mod address;
mod fax;
mod formats;
mod leg;
mod peer;
mod policy;
mod refusal;
mod security;

pub use address::{AddressFault, check_address};
pub use formats::{Audio, Event, Media, Receive, Transmit};
pub use leg::{Ask, LegSession};
pub use peer::{Peer, read_peer};
pub use policy::{Own, Policy};
pub use refusal::Refusal;
pub use security::{DtlsMedia, SrtpMedia};
