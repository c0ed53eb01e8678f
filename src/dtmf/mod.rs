//! Digits in all their forms: tones in the audio ([`inband`]), RFC 4733 events ([`event`]), SIP INFO bodies
//! ([`info`]). All three detectors always run; [`merge`] makes one key press out of whatever came of it.

pub mod event;
pub mod inband;
pub mod info;
pub mod merge;
