//! The media room as a peer, a recorder and an attacker meet it: the worker in virtual time between two RTP peers.

mod codecs;
mod dtls;
mod echo;
mod fax;
mod forms;
mod hard;
mod latch;
mod leak;
mod mask;
mod relay;
mod secure;
mod sim;
mod together;
