//! What can stand in the log: one variant per kind of event, its fields the objects it is about. PCI DSS 10.2.1 names
//! what must be there; `docs/audit.md` has the table. Ids are ours, texts are [`Text`]: none has room for a digit that a
//! customer keyed.

use serde::Serialize;

use super::{Proof, Text};
use crate::base::ids::{CallId, CollectionId, HoldId, PaymentId, RecordingId};
use crate::obs::event::HoldKind;
use crate::obs::payment::{PaymentMethod, PaymentResult};

/// A thing of the configuration or the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Thing {
    /// An API key.
    ApiKey,
    /// A key-encryption key.
    KeyEncryptionKey,
    /// The key that signs checkpoints.
    SigningKey,
    /// A connector to a payment provider.
    Connector,
    /// A trunk.
    Trunk,
    /// A SIP listener.
    Listener,
    /// A receiver of webhooks.
    Webhook,
    /// A TLS certificate and its key.
    Certificate,
}

impl Thing {
    /// Whether it lets somebody in or opens something: a credential in the sense of PCI DSS 10.2.1.5.
    pub fn is_credential(self) -> bool {
        matches!(self, Thing::ApiKey | Thing::KeyEncryptionKey | Thing::SigningKey | Thing::Certificate)
    }
}

/// What became of a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Made {
    /// It is new.
    Created,
    /// It is another under its name.
    Changed,
    /// It is gone.
    Removed,
}

/// What was done, and to what. Fields that are `None` do not stand in the entry.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(tag = "action", content = "object", rename_all = "kebab-case", rename_all_fields = "snake_case")]
pub enum Action {
    // The log itself (PCI DSS 10.2.1.3, 10.2.1.6).
    /// First entry of every file of the log: the tree over all entries before it, so that a file can be checked alone.
    LogFile {
        /// Name of the file.
        file: Text,
        /// Hashes of the tree's whole parts, largest first, in hexadecimal.
        tree: Vec<Text>,
    },
    /// A node begins to write.
    LogStarted {
        /// Version of the program.
        version: Text,
        /// First bytes of the key's SHA-256 that checkpoints are signed with.
        key: Text,
    },
    /// A node has ended in order.
    LogStopped,
    /// A torn line at the end was cut off: what a kill or a power cut left of a write that never counted.
    LogCut {
        /// Name of the file.
        file: Text,
        /// Bytes cut.
        bytes: u64,
    },
    /// The log could not be written for a while; captures were refused.
    LogGap {
        /// Records that found no room to wait, and are lost.
        lost: u64,
    },
    /// The log is not as it was left: somebody else's hand, or the disk.
    LogDamaged {
        /// What is wrong.
        what: Text,
    },
    /// Somebody read or verified the log, or looked at its state.
    LogRead {
        /// `verify`, `list` or `state`.
        how: Text,
        /// Entries read.
        #[serde(skip_serializing_if = "Option::is_none")]
        entries: Option<u64>,
    },
    /// Checkpoints go to a second place again.
    ShippingResumed {
        /// Place.
        place: Text,
    },
    /// Checkpoints do not get to a second place.
    ShippingFailed {
        /// Place.
        place: Text,
    },
    /// The machine's clock was set back; times of entries stand still until it has caught up.
    ClockSetBack {
        /// Milliseconds.
        ms: u64,
    },

    // The node.
    /// The program started.
    NodeStarted {
        /// Version.
        version: Text,
        /// SHA-256 of the configuration file.
        configuration: Text,
        /// SHA-256 of the program file.
        #[serde(skip_serializing_if = "Option::is_none")]
        program: Option<Text>,
    },
    /// The program was told to end.
    NodeStopping,
    /// A configuration was put in force (10.2.1.7; PCI DSS 11.5.2).
    ConfigurationLoaded {
        /// SHA-256 of the file.
        configuration: Text,
        /// SHA-256 of the file in force before.
        #[serde(skip_serializing_if = "Option::is_none")]
        before: Option<Text>,
    },
    /// A configuration was refused; the former one stays.
    ConfigurationRefused {
        /// SHA-256 of the file, if it could be read.
        #[serde(skip_serializing_if = "Option::is_none")]
        configuration: Option<Text>,
        /// Faults found in it.
        faults: u64,
    },
    /// A thing of the configuration was created, changed or removed.
    Thing {
        /// What kind.
        thing: Thing,
        /// What became of it.
        made: Made,
        /// Its name.
        name: Text,
        /// Its role or kind, when it has one.
        #[serde(skip_serializing_if = "Option::is_none")]
        role: Option<Text>,
        /// First bytes of its SHA-256, in hexadecimal, when it has one.
        #[serde(skip_serializing_if = "Option::is_none")]
        fingerprint: Option<Text>,
    },
    /// Data keys of recordings were wrapped anew under another key-encryption key.
    KeysRotated {
        /// The key-encryption key they were under; nothing: several.
        #[serde(skip_serializing_if = "Option::is_none")]
        from: Option<Text>,
        /// The one they are under now.
        to: Text,
        /// How many recordings.
        recordings: u64,
    },

    // The API.
    /// A request of the API (10.2.1.2 for administrators, 10.2.1.5 and .7 for what it changes).
    Request {
        /// Method.
        method: Text,
        /// The route, with ids left out.
        route: Text,
        /// Call.
        #[serde(skip_serializing_if = "Option::is_none")]
        call: Option<CallId>,
        /// Other ids of the path.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<Text>,
    },
    /// Somebody was not let in: no key, a wrong one, or a role that may not (10.2.1.4).
    AccessDenied {
        /// Method.
        method: Text,
        /// The route, with ids left out.
        route: Text,
    },
    /// A panel was opened for an agent: a token was drawn.
    PanelOpened {
        /// Call.
        call: CallId,
    },
    /// Every panel of a call was taken back.
    PanelsClosed {
        /// Call.
        call: CallId,
    },
    /// A ticket for an event stream was drawn.
    TicketDrawn,
    /// Somebody follows events.
    EventsFollowed {
        /// Of this call; nothing: of all.
        #[serde(skip_serializing_if = "Option::is_none")]
        call: Option<CallId>,
    },

    // Calls: holds, collections, payments.
    /// A hold was taken.
    HoldTaken {
        /// Call.
        call: CallId,
        /// Hold.
        hold: HoldId,
        /// Mask or pause.
        kind: HoldKind,
        /// The taker's words.
        reason: Text,
        /// Milliseconds until it expires.
        ttl_ms: u64,
    },
    /// A hold's deadline was moved.
    HoldRenewed {
        /// Call.
        call: CallId,
        /// Hold.
        hold: HoldId,
        /// Mask or pause.
        kind: HoldKind,
        /// Milliseconds until it expires.
        ttl_ms: u64,
    },
    /// A hold was given back.
    HoldReleased {
        /// Call.
        call: CallId,
        /// Hold.
        hold: HoldId,
        /// Mask or pause.
        kind: HoldKind,
    },
    /// A hold reached its deadline.
    HoldExpired {
        /// Call.
        call: CallId,
        /// Hold.
        hold: HoldId,
        /// Mask or pause.
        kind: HoldKind,
    },
    /// A digit collection began.
    CollectionBegun {
        /// Call.
        call: CallId,
        /// Collection.
        collection: CollectionId,
    },
    /// A digit collection ended.
    CollectionEnded {
        /// Call.
        call: CallId,
        /// Collection.
        collection: CollectionId,
        /// How.
        how: Text,
    },
    /// A payment began.
    PaymentBegun {
        /// Call.
        call: CallId,
        /// Payment.
        payment: PaymentId,
        /// What is paid with.
        method: PaymentMethod,
        /// Connector.
        connector: Text,
    },
    /// A payment was given to the provider.
    PaymentSubmitted {
        /// Call.
        call: CallId,
        /// Payment.
        payment: PaymentId,
    },
    /// A payment ended.
    PaymentEnded {
        /// Call.
        call: CallId,
        /// Payment.
        payment: PaymentId,
        /// How.
        payment_result: PaymentResult,
    },
    /// What came of a payment whose result was unknown.
    PaymentReconciled {
        /// Call.
        call: CallId,
        /// Payment.
        payment: PaymentId,
        /// What the provider says now.
        payment_result: PaymentResult,
    },
    /// Somebody looked at payments of a call (10.2.1.1).
    PaymentsViewed {
        /// Call.
        call: CallId,
        /// The one payment; nothing: all of the call.
        #[serde(skip_serializing_if = "Option::is_none")]
        payment: Option<PaymentId>,
    },

    // Recordings.
    /// A recording began.
    RecordingBegun {
        /// Recording.
        recording: RecordingId,
        /// Call.
        call: CallId,
    },
    /// A recording was paused.
    RecordingPaused {
        /// Recording.
        recording: RecordingId,
        /// Call.
        call: CallId,
    },
    /// A recording goes on after a pause.
    RecordingResumed {
        /// Recording.
        recording: RecordingId,
        /// Call.
        call: CallId,
    },
    /// A recording is complete and sealed.
    RecordingSealed {
        /// Recording.
        recording: RecordingId,
        /// Call, where it is known.
        #[serde(skip_serializing_if = "Option::is_none")]
        call: Option<CallId>,
        /// Chunks sealed: with them, a file that is cut later is told from one whose writer was killed.
        #[serde(skip_serializing_if = "Option::is_none")]
        chunks: Option<u64>,
        /// Bytes of the file.
        #[serde(skip_serializing_if = "Option::is_none")]
        bytes: Option<u64>,
        /// SHA-256 of the fixed part of the file's header, in hexadecimal.
        #[serde(skip_serializing_if = "Option::is_none")]
        header: Option<Text>,
    },
    /// A recorder failed: of a call, or as a whole (10.7).
    RecorderFailed {
        /// Name of the recorder; `sealed` for sealed files.
        recorder: Text,
        /// Recording.
        #[serde(skip_serializing_if = "Option::is_none")]
        recording: Option<RecordingId>,
        /// Call.
        #[serde(skip_serializing_if = "Option::is_none")]
        call: Option<CallId>,
    },
    /// How far a recorder that is not a file is on a call.
    RecorderSession {
        /// Name of the recorder.
        recorder: Text,
        /// Call.
        call: CallId,
        /// `recording`, `paused`, `stopped`, `closed`.
        state: Text,
    },
    /// An alarm was raised, or is over: the failure of a control was noticed (10.7).
    Alarm {
        /// Which, as the API names it.
        alarm: Text,
        /// It stands.
        on: bool,
    },
    /// A recorder works again.
    RecorderRecovered {
        /// Name of the recorder.
        recorder: Text,
    },
    /// Somebody searched for recordings.
    RecordingsSearched {
        /// Names of the conditions, without their values.
        conditions: Vec<Text>,
        /// Recordings found.
        found: u64,
    },
    /// Somebody looked at a recording: its description or its waveform, not its sound.
    RecordingViewed {
        /// Recording.
        recording: RecordingId,
        /// What of it: `description`, `waveform`, `ticket`, `verify`, `fetch`.
        part: Text,
    },
    /// Sound of a recording was given out to be heard.
    RecordingPlayed {
        /// Recording.
        recording: RecordingId,
        /// First second given out.
        from_s: u64,
        /// Seconds given out.
        seconds: u64,
    },
    /// A recording was exported.
    RecordingExported {
        /// Recording.
        recording: RecordingId,
        /// Format.
        format: Text,
    },
    /// A spill was sent to the recorder it stands in for; or was to be, and was not.
    RecordingForwarded {
        /// Recording.
        recording: RecordingId,
        /// Name of the recorder.
        recorder: Text,
        /// Call, where it is known.
        #[serde(skip_serializing_if = "Option::is_none")]
        call: Option<CallId>,
    },
    /// Labels of a recording were changed.
    RecordingLabelled {
        /// Recording.
        recording: RecordingId,
        /// Labels it has now.
        labels: Vec<Text>,
    },
    /// A legal hold was put on a recording, or lifted.
    LegalHold {
        /// Recording.
        recording: RecordingId,
        /// It is held now.
        on: bool,
        /// Name of the hold.
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<Text>,
    },
    /// A recording was destroyed (10.2.1.7).
    RecordingDestroyed {
        /// Recording.
        recording: RecordingId,
        /// Why: `retention`, or the words of who did it.
        reason: Text,
        /// How it was seen that nothing opens it any more.
        #[serde(skip_serializing_if = "Option::is_none")]
        proof: Option<Box<Proof>>,
    },
    /// A recording was put in quarantine: something was found in it.
    RecordingQuarantined {
        /// Recording.
        recording: RecordingId,
        /// What was found, without saying which digits.
        finding: Text,
    },
    /// A recording was let out of quarantine.
    RecordingReleased {
        /// Recording.
        recording: RecordingId,
    },
    /// A canary call went through the whole path.
    Canary {
        /// Its recording.
        #[serde(skip_serializing_if = "Option::is_none")]
        recording: Option<RecordingId>,
        /// What it proved or found.
        finding: Text,
    },
    /// Something that has no kind of its own. New kinds are better.
    Other {
        /// What, in words.
        what: Text,
    },
}

impl Action {
    /// Whether records of this kind that come again and again are put together: reading and being refused are, changes
    /// never are.
    pub fn repeats(&self) -> bool {
        match self {
            Action::AccessDenied { .. }
            | Action::PaymentsViewed { .. }
            | Action::RecordingViewed { .. }
            | Action::RecordingsSearched { .. }
            | Action::RecordingPlayed { .. } => true,
            Action::Request { method, .. } => matches!(method.as_str(), "GET" | "HEAD"),
            _ => false,
        }
    }

    /// Its word, as it stands in the log.
    pub fn word(&self) -> String {
        let value = serde_json::to_value(self).unwrap_or_default();
        value["action"].as_str().unwrap_or_default().to_owned()
    }
}
