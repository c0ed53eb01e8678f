//! SIP over real sockets on loopback: transports, trunks, names. A node runs inside the test; its peers are written here
//! from plain sockets and `testkit::simple_sip`, a second implementation.
#![allow(clippy::disallowed_methods)] // Tests may start tasks, wait and open sockets.

mod auth;
#[path = "../common/mod.rs"]
mod common;
mod names;
mod peer;
mod pki;
mod site;
mod tls;
mod transports;
mod trunks;
