//! The store of payments: one SQLite file, synced to the disk before anything that could charge is sent. It holds ids,
//! states and the provider's references, never a digit.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use crate::base::ids::PaymentId;
use crate::base::time::WallMs;
use crate::psp::{Ending, Failure, Operation, Record, State};

/// How long what is over is kept.
const KEPT_MS: u64 = 90 * 24 * 3600 * 1000;

/// The store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file.
    #[error("{}: {error}", path.display())]
    File {
        /// Where.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The database.
    #[error("{}: {error}", path.display())]
    Database {
        /// Where.
        path: PathBuf,
        /// Why.
        error: rusqlite::Error,
    },
}

/// The open store. One process has it; another one is refused.
pub struct Store {
    database: Connection,
}

const TABLE: &str = "CREATE TABLE IF NOT EXISTS payment (
    payment TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    connector TEXT NOT NULL,
    amount INTEGER,
    currency TEXT,
    state TEXT NOT NULL,
    reason TEXT,
    reference TEXT,
    vals TEXT NOT NULL,
    since INTEGER NOT NULL,
    PRIMARY KEY (payment, attempt)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS payment_state ON payment (state);";

/// A record, or nothing where a payment may not be submitted again: the same attempt is there, or another one may have
/// charged.
const INSERT: &str =
    "INSERT INTO payment (payment, attempt, connector, amount, currency, state, reason, reference, vals, since)
    SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10
    WHERE NOT EXISTS (SELECT 1 FROM payment WHERE payment = ?1
        AND (attempt = ?2 OR state IN ('approved', 'committing', 'unknown')))";

const UPDATE: &str = "UPDATE payment SET state = ?3, reason = ?4, reference = ?5, vals = ?6
    WHERE payment = ?1 AND attempt = ?2";

/// Opens a database that only we may read, making it and its directory where they are not there.
pub(in crate::rt) fn connect(path: &Path) -> Result<Connection, StoreError> {
    let file = |error| StoreError::File { path: path.to_owned(), error };
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        std::fs::create_dir_all(directory).map_err(file)?;
    }
    // SQLite would make it readable by others; what it makes beside it has the same mode.
    OpenOptions::new().create(true).append(true).mode(0o600).open(path).map_err(file)?;
    let database = |error| StoreError::Database { path: path.to_owned(), error };
    Connection::open(path).map_err(database)
}

impl Store {
    /// Opens the file, making it and its directory where they are not there.
    ///
    /// # Errors
    /// When it cannot be written, or another process has it.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let database = |error| StoreError::Database { path: path.to_owned(), error };
        Self::prepare(connect(path)?).map_err(database)
    }

    /// A store that is gone with the process: for the sandbox, which has nothing to lose.
    ///
    /// # Errors
    /// When SQLite cannot be used at all.
    pub fn in_memory() -> Result<Self, StoreError> {
        let database = |error| StoreError::Database { path: PathBuf::from(":memory:"), error };
        Self::prepare(Connection::open_in_memory().map_err(database)?).map_err(database)
    }

    fn prepare(database: Connection) -> rusqlite::Result<Self> {
        database.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        database.pragma_update(None, "journal_mode", "WAL")?;
        database.pragma_update(None, "synchronous", "FULL")?;
        database.execute_batch(TABLE)?;
        Ok(Self { database })
    }

    /// Every attempt that is not over; what was over long ago is dropped.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn unfinished(&mut self, now: WallMs) -> rusqlite::Result<Vec<Record>> {
        self.database.execute(
            "DELETE FROM payment WHERE state NOT IN ('open', 'committing', 'unknown') AND since < ?1",
            params![now.0.saturating_sub(KEPT_MS) as i64],
        )?;
        let mut statement = self.database.prepare(
            "SELECT payment, attempt, connector, amount, currency, state, reference, vals, since FROM payment
             WHERE state IN ('open', 'committing', 'unknown')",
        )?;
        let rows = statement.query_map([], |row| {
            let payment: String = row.get(0)?;
            let (amount, currency): (Option<i64>, Option<String>) = (row.get(3)?, row.get(4)?);
            let state: String = row.get(5)?;
            let values: String = row.get(7)?;
            let Ok(payment) = PaymentId::from_str(&payment) else { return Ok(None) };
            Ok(Some(Record {
                payment,
                attempt: row.get(1)?,
                connector: row.get(2)?,
                operation: match amount.zip(currency) {
                    Some((amount, currency)) => Operation::Charge { amount_minor: amount as u64, currency },
                    None => Operation::Token,
                },
                state: match state.as_str() {
                    "open" => State::Open,
                    "committing" => State::Committing,
                    _ => State::Unknown,
                },
                reference: row.get(6)?,
                values: serde_json::from_str(&values).unwrap_or_default(),
                since: WallMs(row.get::<_, i64>(8)? as u64),
                stored: true,
            }))
        })?;
        Ok(rows.collect::<rusqlite::Result<Vec<_>>>()?.into_iter().flatten().collect())
    }

    /// Writes records, all or none, and waits for the disk. Tells which are not there because they may not be: the
    /// payment was submitted before.
    ///
    /// # Errors
    /// When nothing was written.
    pub fn write(&mut self, records: &[Record]) -> rusqlite::Result<Vec<bool>> {
        let transaction = self.database.transaction()?;
        let written = records.iter().map(|record| put(&transaction, record)).collect::<rusqlite::Result<_>>()?;
        transaction.commit()?;
        Ok(written)
    }

    /// The state of an attempt in a word, for tests and tools.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn state(&self, payment: PaymentId, attempt: u32) -> rusqlite::Result<Option<String>> {
        let mut statement =
            self.database.prepare_cached("SELECT state FROM payment WHERE payment = ?1 AND attempt = ?2")?;
        statement.query_row(params![payment.to_string(), attempt], |row| row.get(0)).optional()
    }

    /// How many attempts are in a state, for tests and tools.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn count(&self, state: &str) -> rusqlite::Result<u64> {
        let count =
            self.database.query_row("SELECT count(*) FROM payment WHERE state = ?1", params![state], |row| {
                row.get::<_, i64>(0)
            })?;
        Ok(count as u64)
    }
}

fn put(transaction: &Transaction<'_>, record: &Record) -> rusqlite::Result<bool> {
    let reason = match record.state {
        State::Done(Ending::Failed(reason)) => Some(Failure::name(reason)),
        _ => None,
    };
    let values = serde_json::to_string(&record.values).unwrap_or_default();
    let payment = record.payment.to_string();
    let state = record.state.word();
    if record.stored {
        transaction.prepare_cached(UPDATE)?.execute(params![
            payment,
            record.attempt,
            state,
            reason,
            record.reference,
            values
        ])?;
        return Ok(true);
    }
    let (amount, currency) = match &record.operation {
        Operation::Charge { amount_minor, currency } => (Some(*amount_minor as i64), Some(currency)),
        Operation::Token => (None, None),
    };
    let rows = transaction.prepare_cached(INSERT)?.execute(params![
        payment,
        record.attempt,
        record.connector,
        amount,
        currency,
        state,
        reason,
        record.reference,
        values,
        record.since.0 as i64
    ])?;
    Ok(rows == 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Random;
    use rand::SeedableRng;
    use std::os::unix::fs::PermissionsExt;

    fn record(seed: u64, attempt: u32, state: State) -> Record {
        Record {
            payment: PaymentId::draw(&mut Random::seed_from_u64(seed)),
            attempt,
            connector: "sandbox".into(),
            operation: Operation::Charge { amount_minor: 1250, currency: "EUR".into() },
            state,
            reference: None,
            values: [("intent".to_owned(), "pi_1".to_owned())].into(),
            since: WallMs(5),
            stored: false,
        }
    }

    #[test]
    fn what_is_open_comes_back_and_what_is_over_does_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("deep/payments.db");
        let mut store = Store::open(&path).expect("a store");
        let (one, two) = (record(1, 1, State::Committing), record(2, 1, State::Open));
        assert_eq!(store.write(&[one.clone(), two.clone()]).expect("written"), [true, true]);
        let done = Record { state: State::Done(Ending::Declined), stored: true, ..two.clone() };
        store.write(&[done]).expect("written");
        assert!(Store::open(&path).is_err(), "two processes have the store");
        drop(store);
        let mode = std::fs::metadata(&path).expect("the file").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        let mut store = Store::open(&path).expect("a store");
        assert_eq!(store.unfinished(WallMs(9)).expect("read"), [Record { stored: true, ..one.clone() }]);
        assert_eq!(store.state(two.payment, 1).expect("read").as_deref(), Some("declined"));
    }

    #[test]
    fn a_payment_that_may_have_charged_is_not_submitted_again() {
        let mut store = Store::in_memory().expect("a store");
        let first = record(1, 1, State::Open);
        assert_eq!(store.write(std::slice::from_ref(&first)).expect("written"), [true]);
        assert_eq!(store.write(std::slice::from_ref(&first)).expect("written"), [false], "the same attempt");
        let stored = Record { stored: true, ..first.clone() };
        for (state, again) in [
            (State::Done(Ending::Declined), true),
            (State::Committing, false),
            (State::Unknown, false),
            (State::Done(Ending::Approved), false),
        ] {
            store.write(&[Record { state: state.clone(), ..stored.clone() }]).expect("written");
            let attempt = if again { 2 } else { 3 };
            let next = Record { attempt, ..record(1, attempt, State::Open) };
            assert_eq!(store.write(&[next]).expect("written"), [again], "after {state:?}");
        }
    }

    #[test]
    fn what_was_over_long_ago_is_dropped() {
        let mut store = Store::in_memory().expect("a store");
        store.write(&[record(1, 1, State::Done(Ending::Approved)), record(2, 1, State::Unknown)]).expect("written");
        assert_eq!(store.unfinished(WallMs(KEPT_MS + 10)).expect("read").len(), 1);
        assert_eq!(store.count("approved").expect("read"), 0);
    }
}
