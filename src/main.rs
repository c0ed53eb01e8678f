//! The `tonewall` binary: a thin start of [`tonewall::cli`].

fn main() {}
