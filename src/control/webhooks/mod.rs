//! Signed webhooks (Standard Webhooks): events as signed requests to receivers of the configuration, repeated with growing
//! pauses, and kept as dead letters when nobody takes them. [`Schedule`] decides; the API asks through [`Webhooks`],
//! `rt/` sends, and keeps on disk what was not delivered.

mod letter;
mod schedule;
mod sign;

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

pub use letter::{DeadLetter, Failure, Letter};
pub use schedule::{Keep, MOST_DEAD, MOST_WAITING, PAUSES, Result, Schedule, Try};
pub use sign::sign;

/// The schedule, shared by the API and the task that sends.
pub struct Webhooks {
    schedule: Mutex<Schedule>,
    changed: Notify,
}

impl Webhooks {
    /// Shares a schedule.
    pub fn new(schedule: Schedule) -> Self {
        Self { schedule: Mutex::new(schedule), changed: Notify::new() }
    }

    /// The schedule, for a moment. Call [`Webhooks::wake`] when something is due now.
    pub fn schedule(&self) -> MutexGuard<'_, Schedule> {
        // A panic leaves a letter more or less; the others are worth going on for.
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the task that sends.
    pub fn wake(&self) {
        self.changed.notify_one();
    }

    /// Waits for [`Webhooks::wake`].
    pub async fn woken(&self) {
        self.changed.notified().await;
    }
}
