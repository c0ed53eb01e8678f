//! What the process gives up at start so that digits in its memory stay there: core dumps and being traced; and the
//! open files it asks for, which every call needs.

use std::os::fd::AsRawFd;

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

/// Raises the limit of open files as far as the process may. Says so when that is fewer than `needed`.
pub fn raise_open_files(needed: u64) -> Option<String> {
    let mut limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if limit.current.is_some() && rustix::process::setrlimit(Resource::Nofile, raised).is_ok() {
        limit = raised;
    }
    let allowed = limit.current.filter(|allowed| *allowed < needed)?;
    Some(format!("{allowed} open files are allowed, {needed} are needed when all calls are up; raise the hard limit"))
}

/// Whether fewer than `spare` descriptors are left behind a socket that has just been opened. The kernel gives the lowest
/// free number, so all below its number are in use.
pub fn is_last(newest: &impl AsRawFd, spare: u64) -> bool {
    let number = u64::try_from(newest.as_raw_fd()).unwrap_or_default();
    let limit = rustix::process::getrlimit(Resource::Nofile).current;
    limit.is_some_and(|limit| number + spare >= limit)
}
