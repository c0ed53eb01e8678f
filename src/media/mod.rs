//! RTP sessions of calls: two legs, the guarded path between them, the recorder tap. Knows no SIP.

mod api;
mod latch;
mod leg;
mod secure;
mod session;
mod ticks;
mod worker;

pub use api::*;
pub use session::Egress;
pub use worker::Worker;
