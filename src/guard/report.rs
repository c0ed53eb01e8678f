//! RTCP of ours as [`Masked`]: what leaves is built here from our own counters and nothing else, so it needs no mask.

use super::masked::Masked;
use crate::rtp::rtcp::{self, Cname, Compound, LastReport, Sending};
use crate::rtp::sequence::Reception;

/// Builds our report for one leg and hands it out as a packet that may leave.
pub fn report(
    ssrc: u32,
    cname: &Cname,
    sending: Option<Sending>,
    reception: Option<(Reception, LastReport)>,
    bye: bool,
    out: impl FnOnce(Masked<&[u8]>),
) {
    let compound: Compound = rtcp::build(ssrc, cname, sending, reception, bye);
    out(Masked::new(&compound[..]));
}
