//! RTP sessions of calls: two legs, the guarded path between them, the recorder tap. Knows no SIP.

mod api;

pub use api::*;
