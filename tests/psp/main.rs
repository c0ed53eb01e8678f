//! Payment service providers by real sockets: the exact requests of each preset against recorded answers, a fake Stripe
//! that nobody here wrote, faults of networks and processes, TLS, and what a configuration may not say. Only published test
//! cards.

#![allow(clippy::disallowed_methods)] // Tests may wait, and open sockets.

#[path = "../common/browser.rs"]
mod browser;
#[path = "../common/mod.rs"]
mod common;
#[path = "../common/desk.rs"]
mod desk;
#[path = "../common/psp.rs"]
mod server;

mod call;
mod chain;
mod contracts;
mod crm;
mod evidence;
mod faults;
mod kit;
mod localstripe;
mod memory;
#[path = "../baresip/phone.rs"]
#[allow(dead_code)] // Shared with tests that need more of it.
mod phone;
mod said;
mod slips;
mod trust;
