//! Configuration: one TOML file turned into checked types. Nothing downstream checks again.

mod types;

pub use types::*;
