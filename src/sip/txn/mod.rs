//! The transaction state machines of RFC 3261 section 17 (figures 5–8) with the corrections of RFC 6026. Each says what
//! to do when a message or the time comes; none holds a message. The endpoint keeps the bytes and does what they say.

mod client_invite;
mod client_other;
mod pause;
mod server_invite;
mod server_other;
mod timers;

pub use client_invite::{CancelWhen, ClientInvite, InviteAnswer, InviteDue};
pub use client_other::{Answer, ClientOther, OtherDue};
pub use pause::Pause;
pub use server_invite::{ServerDue, ServerInvite};
pub use server_other::ServerOther;
pub use timers::Timers;

#[cfg(test)]
mod tests;
