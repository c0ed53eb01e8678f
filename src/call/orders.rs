//! What the engine orders from the recorder and hears back. The shell (`rt/`) carries both.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::base::ids::{CallId, RecordingId, SessionId};
use crate::base::time::WallMs;
use crate::config::RecordingPolicy;
use crate::record::horizon::Redaction;
use crate::record::sealed::{Mark, Start};
use crate::record::siprec::Spill;
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
        /// It stands in for a recorder, which is away.
        spill: Option<Box<Spill>>,
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
    /// A call is over that is being spilled.
    CallOver {
        /// The spill.
        recording: RecordingId,
        /// When it ended.
        at: WallMs,
    },
    /// Opens a spill that is to be forwarded; a [`SpillReport`] tells what is in it.
    OpenSpill {
        /// The spill.
        recording: RecordingId,
    },
    /// Plays a spill that was opened, over a way whose sound flows, from its beginning and in real time.
    PlaySpill {
        /// The spill.
        recording: RecordingId,
        /// The way.
        fork: ForkId,
    },
    /// A spill that was opened is not played, or no further.
    LeaveSpill {
        /// The spill.
        recording: RecordingId,
    },
    /// A recorder has got the whole of a spill: it is to be marked.
    MarkSpill {
        /// The spill.
        recording: RecordingId,
    },
    /// Binds sockets for sound to a recording server; nothing flows yet.
    OpenFork {
        /// The way.
        fork: ForkId,
        /// The media session whose blocks go that way; `None`: a spill is played.
        session: Option<SessionId>,
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
    /// All of a spill has been sent.
    Played {
        /// Packets that were sent.
        sent: u64,
        /// Of them, those that came back.
        back: u64,
    },
}

/// A spill that waits to be forwarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingSpill {
    /// The sealed file.
    pub recording: RecordingId,
    /// The recorder it stands in for, by its name.
    pub recorder: String,
    /// When it began.
    pub started: WallMs,
}

/// What is in a spill that was opened, every byte of it proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenedSpill {
    /// What was sealed of it at its beginning.
    pub start: Start,
    /// When its sound ended.
    pub ended: WallMs,
    /// When its call ended; `None`: the recorder was back before.
    pub call_ended: Option<WallMs>,
}

/// What is reported of spills.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpillReport {
    /// All that wait.
    All(Vec<WaitingSpill>),
    /// One more waits.
    One(WaitingSpill),
    /// One was opened.
    Opened(RecordingId, Box<OpenedSpill>),
    /// One cannot be opened, or not be read to its end; why, for people. `true`: it will never be.
    Unfit(RecordingId, String, bool),
    /// One is marked as forwarded.
    Marked(RecordingId),
}

/// What the recorder reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecorderReport {
    /// Nothing more can be written; what was sealed stays readable.
    Failed,
    /// Sealed and complete.
    Closed,
}
