//! The vocabulary of alarms: what is wrong and wants a human, how bad it is, and in plain words what to do. Names from the
//! configuration, ids and counts only: no field has room for a digit a customer keyed.

use serde::Serialize;
use utoipa::ToSchema;

use crate::base::time::WallMs;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AlarmKind {
    /// A recorder failed on a call.
    RecorderFailed,
    /// A recorder does not keep up: sound was lost, or soon will be.
    RecorderBehind,
    /// The disk of the recordings does not answer.
    DiskHangs,
    /// Recordings cannot be written.
    DiskUnwritable,
    /// The disk of the recordings is nearly full.
    DiskLow,
    /// Calls can go nowhere on a trunk.
    TrunkDown,
    /// One of a trunk's targets does not answer; calls go to the others.
    TargetDown,
    /// A registrar does not know us.
    RegistrationLost,
    /// Events could not be delivered to a receiver of webhooks, after every try.
    WebhooksDead,
    /// Nobody knows whether a payment was charged.
    PaymentUnknown,
    /// A recording may hold something it must not; it is locked away.
    RecordingQuarantined,
    /// A test call did not come through as it should.
    CanaryFailed,
    /// The detector does not keep up with the media.
    DetectorBehind,
    /// The audit log cannot be written.
    AuditUnwritable,
    /// A certificate of ours ends soon.
    CertificateEnds,
    /// More comes in than the node takes.
    Overload,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Now: calls, money, recordings or proof are being lost.
    Critical,
    /// Today: it still works, with less in reserve.
    Warning,
}

impl AlarmKind {
    /// Every kind.
    pub const ALL: [AlarmKind; 16] = [
        AlarmKind::RecorderFailed,
        AlarmKind::RecorderBehind,
        AlarmKind::DiskHangs,
        AlarmKind::DiskUnwritable,
        AlarmKind::DiskLow,
        AlarmKind::TrunkDown,
        AlarmKind::TargetDown,
        AlarmKind::RegistrationLost,
        AlarmKind::WebhooksDead,
        AlarmKind::PaymentUnknown,
        AlarmKind::RecordingQuarantined,
        AlarmKind::CanaryFailed,
        AlarmKind::DetectorBehind,
        AlarmKind::AuditUnwritable,
        AlarmKind::CertificateEnds,
        AlarmKind::Overload,
    ];

    /// Its name in ids, events and metrics.
    pub fn name(self) -> &'static str {
        match self {
            AlarmKind::RecorderFailed => "recorder-failed",
            AlarmKind::RecorderBehind => "recorder-behind",
            AlarmKind::DiskHangs => "disk-hangs",
            AlarmKind::DiskUnwritable => "disk-unwritable",
            AlarmKind::DiskLow => "disk-low",
            AlarmKind::TrunkDown => "trunk-down",
            AlarmKind::TargetDown => "target-down",
            AlarmKind::RegistrationLost => "registration-lost",
            AlarmKind::WebhooksDead => "webhooks-dead",
            AlarmKind::PaymentUnknown => "payment-unknown",
            AlarmKind::RecordingQuarantined => "recording-quarantined",
            AlarmKind::CanaryFailed => "canary-failed",
            AlarmKind::DetectorBehind => "detector-behind",
            AlarmKind::AuditUnwritable => "audit-unwritable",
            AlarmKind::CertificateEnds => "certificate-ends",
            AlarmKind::Overload => "overload",
        }
    }

    /// How bad it is.
    pub fn severity(self) -> Severity {
        match self {
            AlarmKind::RecorderFailed
            | AlarmKind::DiskHangs
            | AlarmKind::DiskUnwritable
            | AlarmKind::TrunkDown
            | AlarmKind::RegistrationLost
            | AlarmKind::PaymentUnknown
            | AlarmKind::RecordingQuarantined
            | AlarmKind::CanaryFailed
            | AlarmKind::DetectorBehind
            | AlarmKind::AuditUnwritable => Severity::Critical,
            AlarmKind::RecorderBehind
            | AlarmKind::DiskLow
            | AlarmKind::TargetDown
            | AlarmKind::WebhooksDead
            | AlarmKind::CertificateEnds
            | AlarmKind::Overload => Severity::Warning,
        }
    }

    /// Whether somebody may clear it by hand: the node cannot see by itself that it was dealt with.
    pub fn by_hand(self) -> bool {
        match self {
            AlarmKind::RecorderFailed
            | AlarmKind::PaymentUnknown
            | AlarmKind::RecordingQuarantined
            | AlarmKind::CanaryFailed => true,
            AlarmKind::RecorderBehind
            | AlarmKind::DiskHangs
            | AlarmKind::DiskUnwritable
            | AlarmKind::DiskLow
            | AlarmKind::TrunkDown
            | AlarmKind::TargetDown
            | AlarmKind::RegistrationLost
            | AlarmKind::WebhooksDead
            | AlarmKind::DetectorBehind
            | AlarmKind::AuditUnwritable
            | AlarmKind::CertificateEnds
            | AlarmKind::Overload => false,
        }
    }

    /// In a few words.
    pub fn title(self) -> &'static str {
        match self {
            AlarmKind::RecorderFailed => "A recorder failed",
            AlarmKind::RecorderBehind => "A recorder cannot keep up",
            AlarmKind::DiskHangs => "The disk of the recordings stands still",
            AlarmKind::DiskUnwritable => "Recordings cannot be written",
            AlarmKind::DiskLow => "The disk of the recordings is nearly full",
            AlarmKind::TrunkDown => "A trunk is down",
            AlarmKind::TargetDown => "A peer does not answer",
            AlarmKind::RegistrationLost => "A registration is lost",
            AlarmKind::WebhooksDead => "Webhooks were not delivered",
            AlarmKind::PaymentUnknown => "A payment is not confirmed",
            AlarmKind::RecordingQuarantined => "A recording is in quarantine",
            AlarmKind::CanaryFailed => "A test call failed",
            AlarmKind::DetectorBehind => "The detector cannot keep up",
            AlarmKind::AuditUnwritable => "The audit log cannot be written",
            AlarmKind::CertificateEnds => "A certificate ends soon",
            AlarmKind::Overload => "More comes in than the node takes",
        }
    }

    /// What to do about it.
    pub fn advice(self) -> &'static str {
        match self {
            AlarmKind::RecorderFailed => {
                "Look at the recorder's disk or server: full, read-only, not reachable? What was sealed before stays \
                 readable. This clears with the next recording that is completed."
            }
            AlarmKind::RecorderBehind => {
                "The disk is too slow for the calls that are recorded. Lost sound stands as marked silence. Take load \
                 off the disk, or give recordings a faster one."
            }
            AlarmKind::DiskHangs => {
                "A write has not come back. Where recording is required, new calls are refused and those that are recorded \
                 end; elsewhere they go on unrecorded. Look at the disk, its controller or its network."
            }
            AlarmKind::DiskUnwritable => {
                "The disk is full or read-only, or there is no key to seal with. Where recording is required, new calls \
                 are refused until it can be written; elsewhere they go on unrecorded. Make room, mount it anew, or see \
                 to the key."
            }
            AlarmKind::DiskLow => "Make room or give the recordings more: when the disk is full, recordings fail.",
            AlarmKind::TrunkDown => {
                "No call can go there. Ask whoever runs the peer whether it is up; check address, firewall and \
                 certificate."
            }
            AlarmKind::TargetDown => "Calls go to the trunk's other targets. Check this one before the next fails.",
            AlarmKind::RegistrationLost => {
                "Calls from this provider do not reach us. Check the account's name and password, and whether the \
                 registrar can be reached."
            }
            AlarmKind::WebhooksDead => {
                "Mend the receiver, then replay its dead letters: POST /v1/webhooks/{endpoint}/replay."
            }
            AlarmKind::PaymentUnknown => {
                "Do not take the payment again. Look for it in the provider's own console; this clears by itself when \
                 the provider says what came of it."
            }
            AlarmKind::RecordingQuarantined => {
                "The last check found what may be a key press. The recording cannot be played or exported. Have \
                 whoever answers for card data decide on it."
            }
            AlarmKind::CanaryFailed => {
                "A call that the node made to itself lost or leaked a key. Stop taking cards on this node until it is \
                 found out why."
            }
            AlarmKind::DetectorBehind => {
                "Calls are masked while it lasts, so nothing leaks, but keys may be lost. Take calls off this node."
            }
            AlarmKind::AuditUnwritable => {
                "Nothing that is done now can be proved later. Look at the audit log's disk at once."
            }
            AlarmKind::CertificateEnds => "Put a new certificate in place and send the process SIGHUP.",
            AlarmKind::Overload => {
                "Messages are being dropped. Is somebody flooding it, or does the node carry too many calls?"
            }
        }
    }
}

/// An alarm that stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Alarm {
    /// Its id: kind and subject, so that the same thing gone wrong twice is one alarm.
    #[schema(example = "trunk-down:pbx")]
    pub alarm: String,
    /// What is wrong.
    pub kind: AlarmKind,
    /// With what: a trunk, a recorder, a payment, an endpoint.
    #[schema(example = "pbx")]
    pub subject: String,
    /// How bad it is.
    pub severity: Severity,
    /// In a few words.
    pub title: String,
    /// What is known of this one.
    pub detail: String,
    /// What to do.
    pub advice: String,
    /// Since when, in milliseconds since 1970-01-01 UTC.
    #[schema(value_type = u64)]
    pub since_ms: WallMs,
    /// How often it was raised since then.
    pub count: u32,
    /// Whether it may be cleared by hand; others end when their cause does.
    pub by_hand: bool,
}

/// An alarm that is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct AlarmEnd {
    /// Its id.
    #[schema(example = "trunk-down:pbx")]
    pub alarm: String,
    /// What was wrong.
    pub kind: AlarmKind,
    /// With what.
    pub subject: String,
    /// How long it stood, in milliseconds.
    pub lasted_ms: u64,
    /// Who cleared it; absent: its cause is gone.
    pub by: Option<String>,
}
