//! The attributes Tonewall understands, one file each: parse, print, tests. Every other attribute is read over and
//! never passed on.

pub mod crypto;
pub mod direction;
pub mod fingerprint;
pub mod fmtp;
pub mod maxptime;
pub mod ptime;
pub mod rtcp;
pub mod rtpmap;
pub mod setup;
