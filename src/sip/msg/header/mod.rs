//! Typed headers: views over a header's unfolded value, one file each, with how they parse and how they print.

mod content_type;
mod cseq;
mod name_addr;
mod number;
mod rack;
mod reason;
mod replaces;
mod session_expires;
mod via;

pub use content_type::ContentType;
pub use cseq::CSeq;
pub use name_addr::{NameAddr, address, print_display};
pub use number::{content_length, is_call_id, max_forwards, retry_after};
pub use rack::{RAck, rseq};
pub use reason::Reason;
pub use replaces::Replaces;
pub use session_expires::{Refresher, SessionExpires, min_se};
pub use via::{BRANCH_COOKIE, Via};
