//! What the HTTP API, and through it a CRM, may ask of the calls, and what it is told. Complete values without
//! references to the engine; none has room for a digit.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::payment_signal::{PaymentOrder, PaymentView};
use super::recorders::Steer;
use super::recorders::view::{LineView, SiprecView};
use super::trunks::view::TrunkView;
use crate::base::ids::{CallId, CollectionId, HoldId, RecordingId};
use crate::base::secret::Digit;
use crate::capture::payment::{Refusal, WishError};
use crate::capture::{Spec, SpecError};
use crate::config::{Codec, GuardMode, Role};
use crate::guard::holds::HoldError;
use crate::obs::event::{CollectionEnd, HoldKind, RecordingState};

/// Who asks. The control room has checked the key and the role's right to the endpoint; the engine still decides by
/// role whose holds may be touched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// Name of the API key; holds are owned by it.
    pub name: String,
    /// Role of the API key.
    pub role: Role,
    /// Where the request came from; decides nothing, and stands in the audit log.
    pub from: Option<IpAddr>,
}

impl Actor {
    /// The holder of the API key `name`.
    pub fn new(name: impl Into<String>, role: Role) -> Self {
        Self { name: name.into(), role, from: None }
    }

    /// Whether holds and collections of others may be touched.
    pub fn may_override(&self) -> bool {
        matches!(self.role, Role::Admin | Role::Supervisor)
    }
}

/// Which calls are wanted: all conditions that are given must hold. Empty: all calls.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Find {
    /// Tonewall's id of the call.
    #[schema(value_type = Option<String>)]
    pub id: Option<CallId>,
    /// SIP Call-ID of either leg.
    pub sip_call_id: Option<String>,
    /// The agent's extension: the user part of the agent leg's far end.
    pub agent: Option<String>,
    /// The caller's number: the user part of the customer leg's far end.
    pub caller: Option<String>,
    /// `User-to-User` of either side (RFC 7433): its data, the text that it is the hex of, or the UCID in it, in hex or
    /// as twenty digits.
    pub user_to_user: Option<String>,
    /// Value of the trunk's `call_header`.
    pub reference: Option<String>,
}

impl Find {
    /// A search by one key, named as the parameters are; `None` when there is no such key.
    pub fn by(key: &str, value: &str) -> Option<Self> {
        let value = Some(value.to_owned());
        Some(match key {
            "sip_call_id" => Self { sip_call_id: value, ..Self::default() },
            "agent" => Self { agent: value, ..Self::default() },
            "caller" => Self { caller: value, ..Self::default() },
            "user_to_user" => Self { user_to_user: value, ..Self::default() },
            "reference" => Self { reference: value, ..Self::default() },
            _ => return None,
        })
    }
}

/// A digit collection as asked for. Give `length`, or `min` and `max`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CollectionRequest {
    /// Exact number of keys, 1–64; the collection ends with the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<u32>,
    /// Fewest keys, 1–64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<u32>,
    /// Most keys, 1–64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
    /// Key that ends the collection; `#` when absent, none when empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminator: Option<String>,
    /// Key that wipes what was keyed; `*` when absent, none when empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clear: Option<String>,
    /// Milliseconds to wait for the first key, 1,000–600,000; 20,000 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_key_timeout_ms: Option<u64>,
    /// Milliseconds to wait for each further key, 1,000–600,000; 10,000 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inter_key_timeout_ms: Option<u64>,
}

impl CollectionRequest {
    /// An exact length with the usual keys and timeouts.
    pub fn of_length(length: u32) -> Self {
        Self {
            length: Some(length),
            min: None,
            max: None,
            terminator: None,
            clear: None,
            first_key_timeout_ms: None,
            inter_key_timeout_ms: None,
        }
    }

    /// The checked form.
    pub fn spec(&self) -> Result<Spec, SpecError> {
        let lengths = match (self.length, self.min, self.max) {
            (Some(exact), None, None) => (exact, exact),
            (None, min, Some(max)) => (min.unwrap_or(1), max),
            _ => return Err(SpecError::Length),
        };
        let length = |n: u32| usize::try_from(n).map_err(|_| SpecError::Length);
        Spec::new(
            (length(lengths.0)?, length(lengths.1)?),
            key(self.terminator.as_deref().unwrap_or("#"))?,
            key(self.clear.as_deref().unwrap_or("*"))?,
            Duration::from_millis(self.first_key_timeout_ms.unwrap_or(20_000)),
            Duration::from_millis(self.inter_key_timeout_ms.unwrap_or(10_000)),
        )
    }
}

/// An empty text is no key.
pub(super) fn key(text: &str) -> Result<Option<Digit>, SpecError> {
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (None, _) => Ok(None),
        (Some(c), None) => Digit::from_char(c).map(Some).ok_or(SpecError::Key),
        _ => Err(SpecError::Key),
    }
}

/// A wish of the API.
#[derive(Debug, Clone)]
pub enum Signal {
    /// The calls that match, oldest first, at most `limit`. Answered by [`Reply::Calls`].
    Find {
        /// Conditions.
        find: Find,
        /// Most calls wanted.
        limit: usize,
    },
    /// Every trunk. Answered by [`Reply::Trunks`].
    Trunks,
    /// Every SIPREC recorder. Answered by [`Reply::Recorders`].
    Recorders,
    /// The recorders of a call. Answered by [`Reply::Lines`].
    CallRecorders {
        /// Call.
        call: CallId,
    },
    /// Pauses, resumes, stops or starts one recorder of a call. Answered by [`Reply::Lines`].
    SteerRecorder {
        /// Call.
        call: CallId,
        /// Its name in the configuration.
        recorder: String,
        /// What is to become of it.
        wish: Steer,
        /// Lease of a pause; the trunk's default when absent, shortened to its maximum.
        ttl: Option<Duration>,
        /// Who asks.
        actor: Actor,
    },
    /// One call. Answered by [`Reply::Call`].
    Get {
        /// Call.
        call: CallId,
    },
    /// Takes a hold of each kind. Answered by [`Reply::Holds`], one per kind.
    TakeHolds {
        /// Call.
        call: CallId,
        /// Mask, pause or both; each once.
        kinds: Vec<HoldKind>,
        /// The taker's words.
        reason: String,
        /// Lease; the trunk's default when absent, shortened to its maximum.
        ttl: Option<Duration>,
        /// Who asks.
        actor: Actor,
    },
    /// Moves a hold's deadline. Answered by [`Reply::Holds`] with one.
    RenewHold {
        /// Call.
        call: CallId,
        /// Hold.
        hold: HoldId,
        /// New lease from now.
        ttl: Option<Duration>,
        /// Who asks.
        actor: Actor,
    },
    /// Gives a hold back. Answered by [`Reply::Done`].
    ReleaseHold {
        /// Call.
        call: CallId,
        /// Hold.
        hold: HoldId,
        /// Who asks.
        actor: Actor,
    },
    /// Opens a collection; takes mask and pause until it ends. Answered by [`Reply::Collection`].
    StartCollection {
        /// Call.
        call: CallId,
        /// What to collect.
        request: CollectionRequest,
        /// Who asks.
        actor: Actor,
    },
    /// An open or ended collection. Answered by [`Reply::Collection`].
    GetCollection {
        /// Call.
        call: CallId,
        /// Collection.
        collection: CollectionId,
    },
    /// Ends a collection; what was keyed is wiped. Answered by [`Reply::Collection`].
    CancelCollection {
        /// Call.
        call: CallId,
        /// Collection.
        collection: CollectionId,
        /// Who asks.
        actor: Actor,
    },
    /// Something about the payments of a call.
    Payment {
        /// Call.
        call: CallId,
        /// What.
        order: PaymentOrder,
        /// Who asks.
        actor: Actor,
    },
    /// Ends the call. Answered by [`Reply::Done`].
    HangUp {
        /// Call.
        call: CallId,
        /// Who asks.
        actor: Actor,
    },
}

impl Signal {
    /// Who asks, where that matters.
    pub fn actor(&self) -> Option<&Actor> {
        match self {
            Signal::Find { .. }
            | Signal::Trunks
            | Signal::Recorders
            | Signal::CallRecorders { .. }
            | Signal::Get { .. }
            | Signal::GetCollection { .. } => None,
            Signal::SteerRecorder { actor, .. }
            | Signal::TakeHolds { actor, .. }
            | Signal::RenewHold { actor, .. }
            | Signal::ReleaseHold { actor, .. }
            | Signal::StartCollection { actor, .. }
            | Signal::CancelCollection { actor, .. }
            | Signal::Payment { actor, .. }
            | Signal::HangUp { actor, .. } => Some(actor),
        }
    }
}

/// An answer to a [`Signal`].
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// Calls.
    Calls(Vec<CallView>),
    /// Trunks.
    Trunks(Vec<TrunkView>),
    /// Recorders.
    Recorders(Vec<SiprecView>),
    /// The recorders of a call.
    Lines(Vec<LineView>),
    /// A call.
    Call(Box<CallView>),
    /// Holds taken or renewed.
    Holds(Vec<HoldView>),
    /// A collection.
    Collection(CollectionView),
    /// A payment.
    Payment(Box<PaymentView>),
    /// Payments.
    Payments(Vec<PaymentView>),
    /// Done; nothing to tell.
    Done,
}

/// Why a signal was turned down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignalError {
    /// No such call, or it has ended.
    #[error("no such call; it may have ended")]
    NoSuchCall,
    /// The call has no such hold.
    #[error("the call has no such hold; it may have expired")]
    NoSuchHold,
    /// The call goes to no recorder of that name.
    #[error("the call goes to no recorder of that name")]
    NoSuchRecorder,
    /// The call has no such collection.
    #[error("the call has no such collection")]
    NoSuchCollection,
    /// The role or the ownership does not allow it.
    #[error("not allowed: another owner's, or beyond the key's role")]
    Forbidden,
    /// The hold belongs to an open collection or payment.
    #[error("the hold belongs to an open collection or payment; cancel that instead")]
    HoldPinned,
    /// The call already carries the most holds it may.
    #[error("the call carries too many holds")]
    TooManyHolds,
    /// One collection at a time.
    #[error("a collection is already open on this call")]
    CollectionOpen,
    /// The call is not yet answered, so nothing can be keyed.
    #[error("the call is not answered yet")]
    NotAnswered,
    /// The hold kinds are none or doubled.
    #[error("name each wanted hold kind once")]
    BadKinds,
    /// The collection cannot be as asked.
    #[error(transparent)]
    BadCollection(#[from] SpecError),
    /// The call has no such payment.
    #[error("the call has no such payment")]
    NoSuchPayment,
    /// One payment at a time.
    #[error("a payment is already open on this call")]
    PaymentOpen,
    /// The payment is over.
    #[error("the payment is over")]
    PaymentOver,
    /// The payment is with the payment provider.
    #[error("the payment has been submitted; wait for its result")]
    PaymentSubmitted,
    /// Fields are missing.
    #[error("fields are still missing; `required` of the payment names them")]
    PaymentIncomplete,
    /// The payment does not gather the field.
    #[error("this payment does not gather that field")]
    FieldNotWanted,
    /// The field has to be keyed before it is keyed again.
    #[error("the field itself must be captured before its matcher")]
    MatcherFirst,
    /// The payment cannot be as asked.
    #[error(transparent)]
    BadPayment(#[from] WishError),
    /// No connector of that name.
    #[error("no connector of that name is configured")]
    NoConnector,
    /// No amount of that currency.
    #[error(
        "charge_amount must be a number of the currency's units, such as 10.50, and currency three capital letters"
    )]
    BadAmount,
    /// The audit log cannot be written, so nothing may be captured.
    #[error("the audit log cannot be written, so nothing is captured")]
    NotAudited,
    /// A text that may not be kept.
    #[error(
        "description and parameters must be one line of at most 250 characters each, at most 16, without anything that \
         looks like a card number"
    )]
    BadText,
}

impl From<Refusal> for SignalError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Over => SignalError::PaymentOver,
            Refusal::Submitted => SignalError::PaymentSubmitted,
            Refusal::NotWanted => SignalError::FieldNotWanted,
            Refusal::MatcherFirst => SignalError::MatcherFirst,
            Refusal::Missing => SignalError::PaymentIncomplete,
        }
    }
}

impl From<HoldError> for SignalError {
    fn from(error: HoldError) -> Self {
        match error {
            HoldError::Unknown => SignalError::NoSuchHold,
            HoldError::NotOwner => SignalError::Forbidden,
            HoldError::Pinned => SignalError::HoldPinned,
            HoldError::Full => SignalError::TooManyHolds,
        }
    }
}

/// How far a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CallState {
    /// Being set up; nobody has answered.
    SettingUp,
    /// Both legs are up.
    Answered,
    /// Being torn down.
    Ending,
}

/// A call as the API shows it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct CallView {
    /// Tonewall's id.
    #[schema(value_type = String)]
    pub id: CallId,
    /// How far it is.
    pub state: CallState,
    /// Trunk it came in on.
    pub from_trunk: String,
    /// Trunk it goes out on.
    pub to_trunk: String,
    /// Calling number or user part.
    pub caller: String,
    /// Called number or user part.
    pub called: String,
    /// The agent's extension: the user part of the agent leg's far end.
    pub agent: String,
    /// SIP Call-ID of each leg.
    pub sip_call_ids: SipCallIds,
    /// Value of the trunk's `call_header`.
    pub reference: Option<String>,
    /// Milliseconds since the call came in.
    pub age_ms: u64,
    /// Milliseconds since the answer; absent before it.
    pub talk_ms: Option<u64>,
    /// Codec agreed on with each leg.
    pub codecs: CodecView,
    /// Guard policy.
    #[schema(value_type = String)]
    pub guard: GuardMode,
    /// Whether the customer's digits are masked now.
    pub masked: bool,
    /// Whether the recording is paused now.
    pub paused: bool,
    /// Keys masked so far.
    pub keys_masked: u32,
    /// Holds, oldest first.
    pub holds: Vec<HoldView>,
    /// The open collection, or the last one.
    pub collection: Option<CollectionView>,
    /// The payment that is not over.
    pub payment: Option<PaymentView>,
    /// The recording.
    pub recording: Option<RecordingView>,
}

/// Codecs of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct CodecView {
    /// Of the leg toward the carrier; absent until it is agreed on.
    pub customer: Option<String>,
    /// Of the leg toward the PBX; absent until it is agreed on.
    pub agent: Option<String>,
    /// Whether both can be heard and masked. Where not, digits in the sound pass unheard; while the mask is in force,
    /// the agent hears nothing.
    pub maskable: bool,
}

impl CodecView {
    pub(super) fn of(codecs: [Option<Codec>; 2]) -> Self {
        let [customer, agent] = codecs.map(|codec| codec.map(|codec| codec.name().to_owned()));
        let maskable = codecs.iter().flatten().all(|codec| codec.can_be_masked());
        Self { customer, agent, maskable }
    }
}

/// SIP Call-IDs of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct SipCallIds {
    /// Of the leg toward the carrier; absent until that leg is dialled.
    pub customer: Option<String>,
    /// Of the leg toward the PBX; absent until that leg is dialled.
    pub agent: Option<String>,
}

/// A hold as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct HoldView {
    /// Hold.
    #[schema(value_type = String)]
    pub id: HoldId,
    /// Mask or pause.
    pub kind: HoldKind,
    /// Who took it: `agent`, `pbx`, `capture`, `key:<name>`.
    pub owner: String,
    /// The taker's words.
    pub reason: String,
    /// Milliseconds since it was taken.
    pub age_ms: u64,
    /// Milliseconds until it expires unless renewed.
    pub ttl_ms: u64,
}

/// How far a collection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CollectionState {
    /// Keys are awaited.
    Open,
    /// Over; `result` tells how.
    Ended,
}

/// A collection as the API shows it: counts, and nothing that tells which keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct CollectionView {
    /// Collection.
    #[schema(value_type = String)]
    pub id: CollectionId,
    /// Open or ended.
    pub state: CollectionState,
    /// Keys held now, or collected at the end.
    pub received: u32,
    /// One mark per key.
    pub mask: String,
    /// Fewest keys wanted.
    pub min: u32,
    /// Most keys wanted.
    pub max: u32,
    /// How it ended.
    pub result: Option<CollectionEnd>,
    /// Whether the keys pass the Luhn check; known at the end.
    pub luhn: Option<bool>,
}

/// A recording as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct RecordingView {
    /// Recording.
    #[schema(value_type = String)]
    pub id: RecordingId,
    /// State.
    pub state: RecordingState,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_or_a_range_is_a_spec_and_anything_else_is_not() {
        let range = |length, min, max| CollectionRequest { length, min, max, ..CollectionRequest::of_length(1) }.spec();
        assert!(range(Some(16), None, None).is_ok());
        assert!(range(None, Some(3), Some(4)).is_ok());
        assert!(range(None, None, Some(4)).is_ok());
        assert_eq!(range(None, Some(3), None).err(), Some(SpecError::Length));
        assert_eq!(range(Some(16), Some(3), None).err(), Some(SpecError::Length));
        assert_eq!(range(None, None, None).err(), Some(SpecError::Length));
    }

    #[test]
    fn keys_are_read_from_text() {
        let with = |terminator: &str| {
            CollectionRequest { terminator: Some(terminator.into()), ..CollectionRequest::of_length(4) }.spec().err()
        };
        assert_eq!(with("#"), None);
        assert_eq!(with(""), None);
        assert_eq!(with("##"), Some(SpecError::Key));
        assert_eq!(with("5"), Some(SpecError::Key));
        assert_eq!(with("*"), Some(SpecError::Key));
    }
}
