//! The guard: what stands on the media path between customer and agent. Holds say when, detection says where, the
//! mask replaces. Only this room makes [`Masked`], and every sink takes nothing else.

pub mod holds;
mod masked;

pub use holds::Holds;
pub use masked::Masked;
