//! The transaction state machines of RFC 3261 section 17 (figures 5–8) with the corrections of RFC 6026.
