//! The `tonewall` binary: a thin start of [`tonewall::cli`].

fn main() -> std::process::ExitCode {
    tonewall::cli::main()
}
