//! SIP (RFC 3261): lossless messages, transactions, dialogs. Bytes and the time go in; messages to send and events
//! come out. Bodies are bytes here: nothing in this room knows SDP, media or policy, opens a socket or reads a clock.
//!
//! ```text
//!  datagram -> msg::parse -> endpoint (transaction by branch) -> Event -> the user (call)
//!  Transmit <- msg::print <- endpoint <- request / respond / cancel / ack_2xx <- Dialog
//! ```

pub mod dialog;
pub mod digest;
pub mod dns;
pub mod endpoint;
pub mod msg;
pub mod multipart;
pub mod reliable;
pub mod session_timer;
pub mod txn;

pub use dialog::Dialog;
pub use endpoint::{ClientId, Dest, Endpoint, EndpointConfig, Event, Flow, ServerId, Transmit};
pub use msg::{Message, Method, ParseError, Request, Response, parse_datagram};
