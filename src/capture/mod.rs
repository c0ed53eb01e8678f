//! Digit collection: what a customer keys, gathered in secret memory and handed over once. Knows no telephony.

pub mod collect;
mod recipient;

pub use collect::{Collection, Handover, Progress, Spec, SpecError, Step};
pub use recipient::{Discard, Recipient};
