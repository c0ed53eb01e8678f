//! (room not yet built)
