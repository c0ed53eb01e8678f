//! Simulated peers, a virtual network and attackers: what the tests and `tonewall demo` surround Tonewall with.
//! Sans-IO like every core; `rt::peers` runs the same agents on real sockets. Nothing here runs in `tonewall run`.

pub mod attack;
pub mod coding;
pub mod companding;
pub mod fuzz;
pub mod heard;
pub mod keying;
pub mod keys;
pub mod lab;
pub mod leak;
pub mod libre;
pub mod net;
pub mod pcap;
pub mod rtp_peer;
pub mod second_codec;
pub mod sim;
pub mod simple_sdp;
pub mod simple_sip;
pub mod site;
pub mod spandsp;
pub mod speech;
pub mod tones;
pub mod transactions;
pub mod ua;
