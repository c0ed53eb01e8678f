//! The guard: what stands on the media path between customer and agent. Holds say when, detection says where, the
//! mask replaces. Only this room makes [`Masked`], and every sink takes nothing else.

pub mod classify;
mod clock;
mod coder;
pub mod holds;
mod keyer;
mod line;
mod mask;
mod masked;
pub mod path;
mod relay;
mod report;
mod shelf;
mod splice;
mod stream;
mod tap;
mod timeline;

pub use holds::Holds;
pub use masked::Masked;
pub use path::Path;
pub use relay::Arrival;
pub use report::{flight, report};
pub use shelf::{Shelf, Slot};
pub use stream::{MAX_PAYLOAD, Sent, Sink, Stream};
pub use tap::{BLOCK_FRAMES, BLOCKS_LAG, Block, MaskedBlock, Tap, TapState};
