//! What is no media as [`Masked`]: RTCP, built here from our own counters and nothing else, and handshakes for keys. It
//! needs no mask.

use std::time::Instant;

use super::masked::Masked;
use crate::base::key::MediaKey;
use crate::config::SrtpSuite;
use crate::rtp::rtcp::{self, Cname, Compound, LastReport, Sending};
use crate::rtp::sequence::Reception;
use crate::srtp::{Handshake, Step};

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

/// Sends what a handshake sends: nothing of it is media. Gives the keys once they are there.
pub fn flight(
    now: Instant,
    handshake: &mut Handshake,
    room: &mut [u8],
    out: &mut impl FnMut(Masked<&[u8]>),
) -> Option<(SrtpSuite, MediaKey, MediaKey)> {
    let mut keys = None;
    while let Some(step) = handshake.poll(now, room) {
        match step {
            Step::Transmit(length) => out(Masked::new(&room[..length])),
            Step::Keys(suite, theirs, ours) => keys = Some((suite, theirs, ours)),
        }
    }
    keys
}
