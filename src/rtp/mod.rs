//! RTP as bytes: the header read in place, sequence and loss accounting per source, redundancy unwrapped, RTCP parsed
//! with every length checked and built by us. Datagrams go in; ranges, verdicts and our own bytes come out. It never
//! relays RTCP, never trusts a length, and keeps no audio.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |V=2|P|X|  CC   |M|     PT      |       sequence number         |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                           timestamp                           |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |           synchronization source (SSRC) identifier            |
//! +=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+
//! |      CC contributing sources, then an extension if X          |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```

mod header;
pub mod red;
pub mod rtcp;
pub mod sequence;

pub use header::{HEADER_LEN, Header, Malformed, View};

/// The largest datagram that is looked at, in bytes: an Ethernet frame's worth, more than any G.711 packet needs.
pub const MAX_DATAGRAM: usize = 1_500;
