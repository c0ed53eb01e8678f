//! What the process gives up at start so that digits in its memory stay there: core dumps and being traced.

use rustix::process::{DumpableBehavior, Resource, Rlimit};

/// Switches core dumps off and makes the process not dumpable, so that neither a crash nor another process of the same
/// user writes its memory anywhere. Returns what the kernel refused, in words for the log.
pub fn harden() -> Vec<String> {
    let mut refused = Vec::new();
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = rustix::process::setrlimit(Resource::Core, none) {
        refused.push(format!("core dumps could not be switched off: {error}"));
    }
    if let Err(error) = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        refused.push(format!("the process could not be made undumpable: {error}"));
    }
    refused
}
