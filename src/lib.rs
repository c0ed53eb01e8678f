//! Tonewall: a SIP/RTP media proxy that takes telephone payments out of a contact centre's compliance scope.
//!
//! The map. Rooms import downwards only (`docs/architecture.md`; held by `tests/architecture.rs`):
//!
//! | rank | rooms | what they are |
//! |---|---|---|
//! | 9 | [`cli`] | `run`, `check`, `demo`, `recordings`, `audit`, `bench` |
//! | 8 | [`rt`] | the only room with sockets, clocks, tasks and threads |
//! | 7 | [`control`], [`web`], [`testkit`] | HTTP API types and handlers, embedded pages, simulated peers and attackers |
//! | 6 | [`call`] | the B2BUA: joins SIP, SDP, media, guard, capture and recording |
//! | 5 | [`record`], [`audit`], [`capture`], [`psp`] | sealed recordings; the audit log; digit collection; payment service providers |
//! | 4 | [`media`] | RTP sessions: legs, relay, guarded path, recorder tap |
//! | 3 | [`guard`] | holds, look-ahead, masking; the only maker of [`guard::Masked`] |
//! | 2 | [`dtmf`] | in-band tones, RFC 4733 events and SIP INFO merged to one digit per key press |
//! | 1 | [`dsp`], [`rtp`], [`srtp`], [`sdp`], [`sip`] | codecs and tone mathematics; wire formats and their state machines |
//! | 0 | [`config`], [`obs`], [`base`] | checked configuration, events and metrics, time, ids, secrets |
//!
//! Everything above `base` and below `rt` is sans-IO: events and the time go in, actions come out.

pub mod audit;
pub mod base;
pub mod call;
pub mod capture;
pub mod cli;
pub mod config;
pub mod control;
pub mod dsp;
pub mod dtmf;
pub mod guard;
pub mod media;
pub mod obs;
pub mod psp;
pub mod record;
pub mod rt;
pub mod rtp;
pub mod sdp;
pub mod sip;
pub mod srtp;
pub mod testkit;
pub mod web;
