//! The B2BUA: joins SIP, SDP, media, guard, capture and recording into calls. Datagrams, media and recorder reports,
//! signals and the time go in; datagrams, media orders, recording orders, events and handovers come out. It opens no
//! socket, reads no clock and prints nothing; only [`Engine`] decides what a call does.

mod admission;
mod bodies;
#[allow(clippy::module_inception)]
mod call;
mod core;
mod crossing;
mod detector;
mod early;
mod echo;
mod elsewhere;
mod engine;
mod established;
mod finding;
mod info;
mod inherit;
mod join;
mod keys;
mod late;
mod orders;
mod outbox;
mod passing;
mod paying;
mod payment_signal;
mod payments;
mod policy;
mod ports;
mod protection;
mod recorders;
mod refused;
mod register;
mod reinvite;
mod relay;
mod remains;
mod renew;
mod routing;
mod rules;
mod setup;
mod shared;
mod signal;
mod signals;
mod star;
mod takeover;
mod transfer;
mod trunks;
mod uui;
mod views;

pub use engine::Engine;
pub use orders::{ForkId, ForkReport, OpenedSpill, RecordOrder, RecorderReport, SpillReport, WaitingSpill};
pub use payment_signal::{PaymentOrder, PaymentRequest, PaymentView};
pub use recorders::Steer;
pub use recorders::view::{LineView, SiprecHealth, SiprecView};
pub use signal::{
    Actor, CallState, CallView, CodecView, CollectionRequest, CollectionState, CollectionView, Find, HoldView,
    RecordingView, Reply, Signal, SignalError, SipCallIds,
};
pub use trunks::view::{RegistrationView, TargetState, TargetView, TrunkState, TrunkView};
