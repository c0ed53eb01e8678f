//! What Tonewall tells people and machines about itself: the one vocabulary of events, alarms, metrics and log redaction.
//! Never a digit, a key or a token.

pub mod alarm;
pub mod event;
pub mod metrics;
pub mod payment;
pub mod redact;
