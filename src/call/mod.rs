//! The B2BUA: joins SIP, SDP, media, guard, capture and recording into calls. Datagrams, media and recorder reports,
//! signals and the time go in; datagrams, media orders, recording orders, events and handovers come out. It opens no
//! socket, reads no clock and prints nothing; only the engine decides what a call does.

mod orders;
mod signal;

pub use orders::{RecordOrder, RecorderReport};
pub use signal::{
    Actor, CallState, CallView, CollectionRequest, CollectionState, CollectionView, Find, HoldView, RecordingView,
    Reply, Signal, SignalError, SipCallIds,
};
