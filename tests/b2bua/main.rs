//! Calls through the engine, as stories between a carrier and a PBX in virtual time. Every message of the peers is
//! written, and every message of ours read, by a second SIP implementation (`testkit::simple_sip`); media and recorder
//! orders go through a ledger that checks each of them.

#![allow(clippy::print_stdout)]

mod addresses;
mod auto;
mod changes;
#[path = "../common/schema.rs"]
mod check;
mod codecs;
#[path = "../common/mod.rs"]
mod common;
mod digits;
mod faults;
mod fax;
mod finding;
mod forward;
mod harness;
mod headers;
mod hiding;
mod join;
mod leases;
mod lost;
mod payments;
mod recorders;
mod refusals;
mod reliable;
mod setup;
mod signals;
mod srtp;
mod threats;
mod timers;
mod transfer;
mod walk;
