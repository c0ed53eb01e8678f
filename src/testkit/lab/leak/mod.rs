//! The leak: what the bench and the tests key, in which forms, over which lines, and what attackers make of every place
//! where a digit could have come out. Cases come out of a seed; what was sent, heard, recorded and collected of each
//! goes in; tables come out. Ten keys are in question, 0–9, so blind chance is 10 %. It opens no socket: `rt::leaklab`
//! plays the cases through a real node.
//!
//! ```text
//!  cases ──► calls (rt::leaklab) ──► evidence ──► judge ──► scores ──► report
//!              guarded, and some of them again with the guard off: the control, which must leak
//! ```

pub mod cases;
pub mod evidence;
pub mod metadata;
pub mod moments;
pub mod permutation;
pub mod report;
pub mod residual;
pub mod score;
pub mod shape;
pub mod virtually;
