//! What Tonewall tells people and machines about itself: the one vocabulary of events, metrics and log redaction.
//! Never a digit, a key or a token.

pub mod event;
pub mod metrics;
pub mod payment;
pub mod redact;
