//! Digit collection and payments: what a customer keys, gathered in secret memory and handed over once. Knows no
//! telephony and no payment provider.

pub mod collect;
pub mod payment;
mod recipient;

pub use collect::{Collection, Handover, Progress, Spec, SpecError, Step};
pub use recipient::{Discard, Recipient};
