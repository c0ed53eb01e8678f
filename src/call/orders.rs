//! What the engine orders from the recorder and hears back. The shell (`rt/`) carries both.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::base::ids::{CallId, RecordingId, SessionId};
use crate::config::RecordingPolicy;
use crate::record::horizon::Redaction;
use crate::record::sealed::Mark;
use crate::record::siprec::sdp::Stream;

/// The way of a call's sound to one recording server; never named twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ForkId(pub u64);

/// An order to the recorder. Blocks of `session` belong to `recording` between `Open` and `Close`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordOrder {
    /// Starts a recording.
    Open {
        /// Recording; also its file name.
        recording: RecordingId,
        /// Call.
        call: CallId,
        /// The media session whose blocks it takes.
        session: SessionId,
        /// `BestEffort` or `Required`; never `Off`.
        policy: RecordingPolicy,
        /// How long what is heard waits before it is sealed.
        horizon: Duration,
        /// It stands in for this recorder, which is away.
        spill: Option<String>,
        /// There was a pause: what was heard in it may still be under way and is to be left out.
        hush: bool,
    },
    /// Takes out of a recording what was heard, as far as it is not sealed.
    Redact {
        /// Recording.
        recording: RecordingId,
        /// What, and what of it is a key that could be heard.
        order: Redaction,
    },
    /// Notes in a recording what is known of keys.
    Mark {
        /// Recording.
        recording: RecordingId,
        /// Since when, or when.
        at: Instant,
        /// What.
        mark: Mark,
    },
    /// Seals and closes a recording.
    Close {
        /// Recording.
        recording: RecordingId,
    },
    /// Binds sockets for the sound of `session` to a recording server; nothing flows yet.
    OpenFork {
        /// The way.
        fork: ForkId,
        /// The media session whose blocks go that way.
        session: SessionId,
        /// Address to bind on.
        address: IpAddr,
        /// RTP port per stream (customer, agent); RTCP is the next one.
        ports: [u16; 2],
        /// Seed of SSRCs, sequence numbers and timestamps.
        seed: u64,
    },
    /// Says where the sound flows; `None` cuts it at once.
    Flow {
        /// The way.
        fork: ForkId,
        /// Streams: customer, agent.
        streams: Option<Box<[Stream; 2]>>,
        /// There was a pause: what was heard in it may still be under way and is to be left out.
        hush: bool,
    },
    /// Ends a way and frees its sockets.
    CloseFork {
        /// The way.
        fork: ForkId,
    },
}

/// What the sender of sound reports of a way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForkReport {
    /// Another program has its ports.
    PortsTaken,
    /// No descriptor is to spare for its sockets.
    NoRoom,
    /// For some seconds every packet came back as unreachable.
    Unheard,
}

/// What the recorder reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecorderReport {
    /// Nothing more can be written; what was sealed stays readable.
    Failed,
    /// Sealed and complete.
    Closed,
}
