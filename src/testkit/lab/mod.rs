//! The laboratory: what `tonewall bench` measures with. Stimuli and impairments by seeds, digital only; counts with their
//! confidence bounds; tables and plots as text. Numbers go in, strings and files' contents come out: it opens no file,
//! reads no clock and prints nothing (`cli::bench` does). Never part of `tonewall run`.

pub mod bursts;
pub mod hear;
pub mod impair;
pub mod leak;
pub mod network;
pub mod page;
pub mod plot;
pub mod rate;
pub mod resample;
pub mod stimuli;
pub mod table;

pub use plot::{Axis, Plot, Series, Zone};
pub use rate::Rate;
pub use table::{Cell, Table};
