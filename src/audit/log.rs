//! The handle by which every room writes to the log. `rt/` stands behind it; tests put a vector there.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;

use super::Record;

/// The log cannot be written: what needs an entry first must not be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the audit log cannot be written")]
pub struct Unwritable;

/// Where records go.
pub trait Sink: Send + Sync + 'static {
    /// Takes a record and never waits. It is on the disk soon, or the log is no longer writable.
    fn note(&self, record: Record);

    /// Takes a record and answers when it is on the disk.
    fn confirm(&self, record: Record) -> BoxFuture<'static, Result<(), Unwritable>>;

    /// Whether what was noted gets to the disk.
    fn writable(&self) -> bool;
}

/// A way into the log: cheap to clone, good in any thread.
#[derive(Clone, Default)]
pub struct Audit(Option<Arc<dyn Sink>>);

impl Audit {
    /// A way into `sink`.
    pub fn new(sink: Arc<dyn Sink>) -> Self {
        Self(Some(sink))
    }

    /// No log is kept.
    pub fn off() -> Self {
        Self(None)
    }

    /// Whether a log is kept.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Notes what has happened. Never waits.
    pub fn note(&self, record: Record) {
        if let Some(sink) = &self.0 {
            sink.note(record);
        }
    }

    /// Writes down what is about to be done, and answers when that is on the disk. Without a log: at once.
    ///
    /// # Errors
    /// When it did not get to the disk. What was about to be done must not be done.
    pub async fn confirm(&self, record: Record) -> Result<(), Unwritable> {
        match &self.0 {
            Some(sink) => sink.confirm(record).await,
            None => Ok(()),
        }
    }

    /// Whether what is noted gets to the disk. Without a log: yes.
    pub fn writable(&self) -> bool {
        self.0.as_ref().is_none_or(|sink| sink.writable())
    }

    /// A log in memory, for tests.
    pub fn in_memory() -> (Self, Arc<Memory>) {
        let memory = Arc::new(Memory::default());
        (Self::new(memory.clone()), memory)
    }
}

impl std::fmt::Debug for Audit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Audit({})", if self.is_on() { "on" } else { "off" })
    }
}

/// A log in memory, for tests.
#[derive(Default)]
pub struct Memory {
    records: Mutex<Vec<Record>>,
    broken: std::sync::atomic::AtomicBool,
}

impl Memory {
    /// Everything noted since the last time.
    pub fn take(&self) -> Vec<Record> {
        std::mem::take(&mut self.records.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on nothing can be written, or everything again.
    pub fn set_broken(&self, broken: bool) {
        self.broken.store(broken, std::sync::atomic::Ordering::Relaxed);
    }
}

impl Sink for Memory {
    fn note(&self, record: Record) {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).push(record);
    }

    fn confirm(&self, record: Record) -> BoxFuture<'static, Result<(), Unwritable>> {
        let done = if self.writable() {
            self.note(record);
            Ok(())
        } else {
            Err(Unwritable)
        };
        Box::pin(std::future::ready(done))
    }

    fn writable(&self) -> bool {
        !self.broken.load(std::sync::atomic::Ordering::Relaxed)
    }
}
