//! The store of answers to requests under an `Idempotency-Key`: one SQLite file beside that of payments. It holds hashes,
//! times and sealed answers; what would open one is nowhere on the disk.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use rusqlite::{Connection, params};

use super::psp::store::{self, StoreError};
use super::recorder::wall;
use crate::control::answers::{AnswerStore, KeptAnswer};

/// How long an answer is kept.
const KEPT_MS: u64 = 24 * 3_600 * 1_000;

const TABLE: &str = "CREATE TABLE IF NOT EXISTS answer (
    name BLOB PRIMARY KEY,
    fingerprint BLOB NOT NULL,
    at INTEGER NOT NULL,
    sealed BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS answer_at ON answer (at);";

/// The open store.
#[derive(Clone)]
pub struct Store(Arc<Mutex<Connection>>);

/// Where answers are kept beside the payments of this file.
pub fn beside(payments: &Path) -> PathBuf {
    payments.with_extension("answers.db")
}

impl Store {
    /// Opens the file, making it where it is not there; gives what it holds, oldest first.
    ///
    /// # Errors
    /// When it cannot be written, or another process has it.
    pub fn open(path: &Path) -> Result<(Self, Vec<KeptAnswer>), StoreError> {
        let fault = |error| StoreError::Database { path: path.to_owned(), error };
        let database = store::connect(path)?;
        database.pragma_update(None, "locking_mode", "EXCLUSIVE").map_err(fault)?;
        database.pragma_update(None, "journal_mode", "WAL").map_err(fault)?;
        // A killed process loses nothing by it; power that fails may take the last answers, never a charge.
        database.pragma_update(None, "synchronous", "NORMAL").map_err(fault)?;
        database.execute_batch(TABLE).map_err(fault)?;
        let kept = read(&database).map_err(fault)?;
        Ok((Self(Arc::new(Mutex::new(database))), kept))
    }

    fn write(&self, answer: &KeptAnswer) -> rusqlite::Result<()> {
        let now = wall().0;
        let database = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        database.execute("DELETE FROM answer WHERE at < ?1", params![now.saturating_sub(KEPT_MS) as i64])?;
        database.execute(
            "INSERT OR REPLACE INTO answer (name, fingerprint, at, sealed) VALUES (?1, ?2, ?3, ?4)",
            params![&answer.name[..], &answer.fingerprint[..], now as i64, answer.sealed],
        )?;
        Ok(())
    }
}

fn read(database: &Connection) -> rusqlite::Result<Vec<KeptAnswer>> {
    let now = wall().0;
    let since = now.saturating_sub(KEPT_MS) as i64;
    let mut statement =
        database.prepare("SELECT name, fingerprint, at, sealed FROM answer WHERE at >= ?1 ORDER BY at")?;
    let rows = statement.query_map(params![since], |row| {
        let at = u64::try_from(row.get::<_, i64>(2)?).unwrap_or(0);
        let age = Duration::from_millis(now.saturating_sub(at));
        Ok(KeptAnswer { name: row.get(0)?, fingerprint: row.get(1)?, age, sealed: row.get(3)? })
    })?;
    rows.collect()
}

impl AnswerStore for Store {
    fn keep(&self, answer: KeptAnswer) -> BoxFuture<'_, ()> {
        let store = self.clone();
        Box::pin(async move {
            let written = tokio::task::spawn_blocking(move || store.write(&answer)).await;
            if let Ok(Err(error)) = written {
                tracing::error!(%error, "an answer under an Idempotency-Key cannot be kept; a restart forgets it");
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_kept_is_there_after_a_restart_for_nobody_else_to_read() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().expect("a directory");
        let path = beside(&directory.path().join("payments.db"));
        let answer = |name: u8, sealed: &[u8]| KeptAnswer {
            name: [name; 32],
            fingerprint: [9; 32],
            age: Duration::ZERO,
            sealed: sealed.to_vec(),
        };
        let (store, kept) = Store::open(&path).expect("opened");
        assert_eq!(kept, []);
        store.keep(answer(1, b"one")).await;
        store.keep(answer(2, b"two")).await;
        store.keep(answer(1, b"one again")).await;
        drop(store);
        let (_store, kept) = Store::open(&path).expect("opened again");
        let mut found: Vec<_> = kept.iter().map(|kept| (kept.name[0], &kept.sealed[..])).collect();
        found.sort_unstable();
        assert_eq!(found, [(1, &b"one again"[..]), (2, b"two")]);
        assert!(kept.iter().all(|kept| kept.age < Duration::from_secs(60) && kept.fingerprint == [9; 32]));
        let mode = std::fs::metadata(&path).expect("its file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
