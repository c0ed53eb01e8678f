//! Events: what happened to which call, in words a CRM, a panel and an auditor can use. Serialised as JSON over
//! server-sent events and written to the log. The types have no room for a digit.

use serde::Serialize;
use utoipa::ToSchema;

use super::alarm::{Alarm, AlarmEnd};
use super::payment::{PaymentMethod, PaymentProgress, PaymentResult};
use crate::base::ids::{CallId, CollectionId, HoldId, Leg, PaymentId, RecordingId};
use crate::base::time::WallMs;

/// One event as subscribers see it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Event {
    /// Counts up by one per event on this node; a gap means events were missed.
    pub seq: u64,
    /// When, in milliseconds since 1970-01-01 UTC.
    #[schema(value_type = u64)]
    pub at_ms: WallMs,
    /// The call, when there is one.
    #[schema(value_type = Option<String>)]
    pub call: Option<CallId>,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// Which of a call's two holds sets a hold belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, serde::Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HoldKind {
    /// The customer's digits are masked.
    Mask,
    /// The recording is paused.
    Pause,
}

/// Why a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EndCause {
    /// The customer hung up.
    CustomerHungUp,
    /// The agent's side hung up.
    AgentHungUp,
    /// The caller gave up before the answer.
    Cancelled,
    /// The called side refused or did not answer.
    Rejected,
    /// No RTP from either side.
    MediaInactivity,
    /// A SIP timer ran out (lost ACK, no answer to a request).
    Timeout,
    /// The session timer of a leg ran out: nobody refreshed it.
    SessionExpired,
    /// A required recorder failed.
    RecorderFailed,
    /// Ended over the API or by shutdown.
    Operator,
    /// It became one with another call by a transfer.
    Joined,
    /// A fault of ours or a peer's that left no other way.
    Failure,
}

/// How a digit collection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CollectionEnd {
    /// Length or terminator reached.
    Complete,
    /// No key, or not enough, in time.
    InputTimeout,
    /// Ended by signal.
    Cancelled,
    /// The call ended.
    CallerHungUp,
}

/// What a payment provider made of a payment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct PaymentOutcome {
    /// Token that stands for the card or account; told to keys of role `integration` and by webhooks only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payment_token: Option<String>,
    /// The provider's reference of the charge.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payment_confirmation_code: Option<String>,
    /// The provider's code for a refusal, or why it could not be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pay_error_code: Option<String>,
}

/// State of a call's recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RecordingState {
    /// Masked media is written.
    Recording,
    /// A silent, marked gap is written.
    Paused,
    /// Sealed and complete.
    Closed,
    /// A recorder fault; what was sealed before it stays readable.
    Failed,
}

/// How far a SIPREC recorder is on a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RecorderState {
    /// A session is asked for.
    Connecting,
    /// Sound flows.
    Recording,
    /// It has taken the session and wants no sound now.
    Waiting,
    /// Sound is cut by a pause.
    Paused,
    /// The call goes on without it; it is tried again.
    Away,
    /// Its session was ended by a wish.
    Stopped,
    /// The call is over.
    Closed,
}

/// What becomes of a spill that is to be forwarded to its recorder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SpillState {
    /// The recorder has taken a session for it.
    Forwarding,
    /// The recorder has got it whole, and it is marked so.
    Forwarded,
    /// It could not be sent, or not whole; it is sent anew.
    Failed,
    /// It is not sent any more.
    Dropped,
}

/// RTP packets of one leg over its call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct LegTotals {
    /// Accepted from the peer.
    pub received: u64,
    /// Sent to the peer.
    pub sent: u64,
    /// Dropped: not from the signalled source.
    pub foreign: u64,
    /// Dropped: malformed or of an unknown payload type.
    pub malformed: u64,
    /// Missing by sequence number.
    pub lost: u64,
    /// Dropped: encrypted, with a wrong authentication tag.
    pub unauthentic: u64,
    /// Dropped: encrypted, and seen before or too late to tell.
    pub replayed: u64,
}

/// What happened.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum EventKind {
    /// A call came in and is being set up.
    CallStarted {
        /// Trunk it came in on.
        from_trunk: String,
        /// Trunk it goes out on.
        to_trunk: String,
        /// Calling number or user part.
        caller: String,
        /// Called number or user part.
        called: String,
    },
    /// Both legs are up.
    CallAnswered,
    /// The call is over.
    CallEnded {
        /// Why.
        cause: EndCause,
        /// Final SIP status given to the caller, when the call was never answered.
        status: Option<u16>,
        /// Milliseconds from answer to end; 0 when never answered.
        talk_ms: u64,
    },
    /// What the media of a call came to; follows its end.
    CallMedia {
        /// The customer's leg.
        customer: LegTotals,
        /// The agent's leg.
        agent: LegTotals,
    },
    /// A hold was taken.
    HoldTaken {
        /// Hold.
        #[schema(value_type = String)]
        hold: HoldId,
        /// Mask or pause.
        kind: HoldKind,
        /// Who (`agent`, `capture`, `key:<name>`, …).
        owner: String,
        /// The taker's words.
        reason: String,
        /// Milliseconds until it expires unless renewed.
        ttl_ms: u64,
    },
    /// A hold's deadline was moved.
    HoldRenewed {
        /// Hold.
        #[schema(value_type = String)]
        hold: HoldId,
        /// Mask or pause.
        kind: HoldKind,
        /// Milliseconds until it expires unless renewed again.
        ttl_ms: u64,
    },
    /// A hold was given back.
    HoldReleased {
        /// Hold.
        #[schema(value_type = String)]
        hold: HoldId,
        /// Mask or pause.
        kind: HoldKind,
        /// Who released it.
        by: String,
    },
    /// A hold reached its deadline.
    HoldExpired {
        /// Hold.
        #[schema(value_type = String)]
        hold: HoldId,
        /// Mask or pause.
        kind: HoldKind,
    },
    /// The mask is in force, or no longer.
    Mask {
        /// In force.
        on: bool,
    },
    /// The customer pressed a key that was masked. One per key press; nothing tells which key.
    KeyMasked {
        /// Keys masked on this call so far.
        count: u32,
    },
    /// Withheld keys were no card number (`guard = "auto"`): they are sent on to the PBX.
    KeysReleased {
        /// How many.
        count: u32,
    },
    /// Withheld keys may have been a card number, or were of no use to anybody any more: they were wiped.
    KeysWiped {
        /// How many.
        count: u32,
    },
    /// A digit collection began.
    CollectionStarted {
        /// Collection.
        #[schema(value_type = String)]
        collection: CollectionId,
    },
    /// Progress of a collection.
    CollectionProgress {
        /// Collection.
        #[schema(value_type = String)]
        collection: CollectionId,
        /// Keys held now.
        received: u32,
        /// One mark per key, for instance `••••`.
        mask: String,
    },
    /// A collection ended; its digits went to the recipient and are wiped here.
    CollectionEnded {
        /// Collection.
        #[schema(value_type = String)]
        collection: CollectionId,
        /// How.
        result: CollectionEnd,
        /// Keys collected.
        count: u32,
        /// Whether they are complete, 12 or more, and pass the Luhn check. Of fewer it would tell too much.
        luhn: bool,
    },
    /// A payment began: digits are masked and the recording pauses until it is over.
    PaymentStarted {
        /// Payment.
        #[schema(value_type = String)]
        payment: PaymentId,
        /// What is paid with.
        method: PaymentMethod,
        /// Connector to the payment provider; not told to agents, auditors and panels.
        #[serde(skip_serializing_if = "String::is_empty")]
        #[schema(required = false)]
        connector: String,
        /// Name of the API key that began it.
        by: String,
    },
    /// Something happened in the capture of a payment: a field was asked for, a key pressed, a field accepted or not.
    PaymentUpdated {
        /// Payment.
        #[schema(value_type = String)]
        payment: PaymentId,
        /// How far it is, as marks.
        #[serde(flatten)]
        progress: PaymentProgress,
    },
    /// A payment was given to the payment provider.
    PaymentSubmitted {
        /// Payment.
        #[schema(value_type = String)]
        payment: PaymentId,
    },
    /// A payment is over; what was keyed is wiped.
    PaymentEnded {
        /// Payment.
        #[schema(value_type = String)]
        payment: PaymentId,
        /// How.
        result: PaymentResult,
        /// What the payment provider made of it.
        #[serde(flatten)]
        outcome: PaymentOutcome,
    },
    /// What came of a payment whose result was unknown.
    PaymentReconciled {
        /// Payment.
        #[schema(value_type = String)]
        payment: PaymentId,
        /// What the payment provider says now.
        result: PaymentResult,
        /// What the payment provider made of it.
        #[serde(flatten)]
        outcome: PaymentOutcome,
    },
    /// The state of the call's recording changed.
    Recording {
        /// Recording.
        #[schema(value_type = String)]
        recording: RecordingId,
        /// New state.
        state: RecordingState,
    },
    /// The node called itself and looked for the keys of a published test card everywhere they must not be.
    Canary {
        /// Guard and form, for instance `auto/tone`.
        name: String,
        /// Nothing was found, and every key was counted.
        good: bool,
        /// What was proven, or what is wrong.
        finding: String,
        /// Recording; destroyed when nothing was found.
        #[schema(value_type = Option<String>)]
        #[serde(skip_serializing_if = "Option::is_none")]
        recording: Option<RecordingId>,
    },
    /// Alarm: the recording's self-audit found what may be a digit, or a card was recognised after its first keys had been
    /// sealed. It is kept and never played or exported.
    RecordingQuarantined {
        /// Recording.
        #[schema(value_type = String)]
        recording: RecordingId,
        /// What and where; never which digits.
        reason: String,
    },
    /// A card was recognised late: what had been heard since its first key was taken out of the recording before it was
    /// sealed.
    RecordingRedacted {
        /// Recording.
        #[schema(value_type = String)]
        recording: RecordingId,
        /// How much was taken out.
        ms: u64,
    },
    /// A star code was keyed by the agent.
    StarCode {
        /// What it did.
        action: StarAction,
    },
    /// A leg was transferred: it has a new other end. Guard, holds and recording go on as they were.
    CallTransferred {
        /// The leg that has a new other end.
        leg: Leg,
        /// Number or user part of who is there now.
        to: String,
    },
    /// A trunk's registrar knows us now, or does not, or refused a refresh.
    Registration {
        /// Trunk.
        trunk: String,
        /// It knows us.
        registered: bool,
        /// Its answer; 408 and 503 also for none.
        status: Option<u16>,
    },
    /// A target of a trunk no longer answers probes, or does again.
    TrunkTarget {
        /// Trunk.
        trunk: String,
        /// Its address and port.
        target: String,
        /// It answers.
        up: bool,
    },
    /// A codec was agreed on with a leg that can be neither heard nor masked (`unmaskable = "pass"`), or fax in place of a
    /// codec (`t38 = "pass"`, named `T38`): digits in the sound
    /// pass unheard. While a mask hold is in force, the agent hears nothing instead.
    Unmaskable {
        /// Leg.
        leg: Leg,
        /// Encoding name, for instance `G729`.
        codec: String,
    },
    /// What a leg sends that can be neither heard nor masked is held back, because the mask is in force; or no more.
    UnmaskableStopped {
        /// It is held back.
        on: bool,
    },
    /// Something is wrong and wants a human; or it still is, and happened again.
    AlarmRaised {
        /// What, with what, since when, and what to do.
        #[serde(flatten)]
        alarm: Alarm,
    },
    /// An alarm is over.
    AlarmCleared {
        /// Which, and how long it stood.
        #[serde(flatten)]
        end: AlarmEnd,
    },
    /// How far a SIPREC recorder is on a call.
    Recorder {
        /// Its name in the configuration.
        recorder: String,
        /// New state.
        state: RecorderState,
        /// Its target, while a session is up or asked for.
        target: Option<String>,
        /// Why it is away.
        reason: Option<String>,
        /// The sealed file that takes the sound meanwhile.
        #[schema(value_type = Option<String>)]
        spill: Option<RecordingId>,
    },
    /// What becomes of the sealed file that took a call's sound while a recorder was away.
    Spill {
        /// The recorder.
        recorder: String,
        /// The sealed file.
        #[schema(value_type = String)]
        recording: RecordingId,
        /// What has become of it.
        state: SpillState,
        /// The recorder's target, where there is a session.
        target: Option<String>,
        /// Why it failed or was dropped.
        reason: Option<String>,
        /// Milliseconds until it may be sent anew.
        again_ms: Option<u64>,
    },
    /// A target of a recorder no longer answers probes, or does again.
    RecorderTarget {
        /// Recorder.
        recorder: String,
        /// Its address and port.
        target: String,
        /// It answers.
        up: bool,
    },
    /// A leg was put on hold by SDP, or taken back.
    LegHeld {
        /// Leg whose peer asked.
        leg: Leg,
        /// Held.
        held: bool,
    },
}

/// What an agent star code did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StarAction {
    /// Took the agent's holds.
    Begin,
    /// Released them.
    End,
}
