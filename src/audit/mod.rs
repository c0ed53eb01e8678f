//! The audit log: who did what to which call, recording, key, connector and configuration, when, from where, with what
//! result and for what purpose. [`Record`]s go in with the time; lines of canonical JSON come out, each holding the hash
//! of the one before it, and from time to time a [`note::Checkpoint`] signed with a key that nothing else has. Lines and
//! checkpoints go in again and a [`verify::Report`] comes out. This room opens no file and reads no clock; it never sees
//! a digit, a key or a token, and every free text passes [`Text`], which blanks what can be a card number.
//!
//! ```text
//!  Record ─► Repeats (floods become one entry) ─► Chain ─► line: {"action":…,"prev":"<hash of the line before>",…}
//!                                                  │ leaf = SHA-256(0 ‖ line)
//!                                                  ▼
//!                      RFC 6962 tree ─► root ─► Checkpoint (C2SP signed note, Ed25519) ─► here, and a second place
//! ```

mod action;
mod chain;
mod entry;
pub mod events;
pub mod inventory;
mod log;
pub mod note;
mod proof;
mod repeats;
mod text;
pub mod tree;
pub mod verify;

pub use action::{Action, Made, Thing};
pub use chain::{Chain, Line, Stored, hash_of, text_of};
pub use entry::{Origin, Outcome, Record, Verdict, Who};
pub use log::{Audit, Memory, Sink, Unwritable};
pub use proof::{Proof, Removed, Versions};
pub use repeats::Repeats;
pub use text::Text;
