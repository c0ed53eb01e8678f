//! Recordings at rest. Masked stereo blocks go in, sealed bytes go out through a [`sealed::Storage`]; sealed bytes go
//! in, verified sound and a [`sealed::Verdict`] come out. This room opens no file, reads no clock and never sees media
//! that has not passed the guard ([`crate::media::MaskedBlock`]). The format is told in `docs/recordings.md`.

pub mod catalogue;
pub mod horizon;
pub mod keys;
pub mod ogg;
pub mod place;
pub mod reopen;
pub mod scan;
pub mod sealed;
pub mod siprec;
