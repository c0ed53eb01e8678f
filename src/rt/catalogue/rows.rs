//! Rows: an entry as JSON, and beside it the columns that are searched by.

use std::path::Path;
use std::time::Duration;

use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode, OptionalExtension, params, params_from_iter};

use crate::base::ids::RecordingId;
use crate::base::time::WallMs;
use crate::record::catalogue::{Entry, FORWARDED, Page, Query, SPILL, State, Whereabouts};

const TABLES: &str = "CREATE TABLE IF NOT EXISTS recording (
    recording TEXT PRIMARY KEY NOT NULL,
    call TEXT,
    from_trunk TEXT NOT NULL,
    to_trunk TEXT NOT NULL,
    caller TEXT NOT NULL,
    called TEXT NOT NULL,
    agent TEXT NOT NULL,
    started INTEGER NOT NULL,
    keep_until INTEGER,
    state TEXT NOT NULL,
    held INTEGER NOT NULL,
    kek TEXT NOT NULL,
    place TEXT NOT NULL,
    entry TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS recording_started ON recording (started, recording);
CREATE INDEX IF NOT EXISTS recording_call ON recording (call);
CREATE INDEX IF NOT EXISTS recording_state ON recording (state);
CREATE INDEX IF NOT EXISTS recording_keep ON recording (keep_until);
CREATE TABLE IF NOT EXISTS label (
    recording TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (name, value, recording)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS label_recording ON label (recording);
CREATE TABLE IF NOT EXISTS sip_call (
    recording TEXT NOT NULL, id TEXT NOT NULL, PRIMARY KEY (id, recording)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS sip_call_recording ON sip_call (recording);";

pub(super) fn open(path: &Path, patience: Duration) -> rusqlite::Result<Connection> {
    let database = Connection::open(path)?;
    database.busy_timeout(patience)?;
    database.pragma_update(None, "journal_mode", "WAL")?;
    // An index: what a power cut takes from it, the files give back.
    database.pragma_update(None, "synchronous", "NORMAL")?;
    database.execute_batch(TABLES)?;
    Ok(database)
}

/// Whether the file is no database, or one that was damaged.
pub(super) fn is_broken(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt))
}

pub(super) fn get(database: &Connection, recording: RecordingId) -> rusqlite::Result<Option<Entry>> {
    let mut statement = database.prepare_cached("SELECT entry FROM recording WHERE recording = ?1")?;
    let text: Option<String> = statement.query_row(params![recording.to_string()], |row| row.get(0)).optional()?;
    text.map(|text| parse(&text)).transpose()
}

fn parse(text: &str) -> rusqlite::Result<Entry> {
    serde_json::from_str(text)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error)))
}

pub(super) fn put(database: &Connection, entry: &Entry) -> rusqlite::Result<()> {
    let recording = entry.recording.to_string();
    let text = serde_json::to_string(entry).unwrap_or_default();
    // One statement each, so that a caller without a transaction is safe too: the row is last.
    for table in ["label", "sip_call"] {
        database.prepare_cached(&format!("DELETE FROM {table} WHERE recording = ?1"))?.execute(params![recording])?;
    }
    for (name, value) in &entry.labels {
        database
            .prepare_cached("INSERT OR REPLACE INTO label (recording, name, value) VALUES (?1, ?2, ?3)")?
            .execute(params![recording, name, value])?;
    }
    for id in &entry.sip_call_ids {
        database
            .prepare_cached("INSERT OR REPLACE INTO sip_call (recording, id) VALUES (?1, ?2)")?
            .execute(params![recording, id])?;
    }
    database
        .prepare_cached(
            "INSERT OR REPLACE INTO recording (recording, call, from_trunk, to_trunk, caller, called, agent, started,
                keep_until, state, held, kek, place, entry)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        )?
        .execute(params![
            recording,
            entry.call.map(|call| call.to_string()),
            entry.from_trunk,
            entry.to_trunk,
            entry.caller,
            entry.called,
            entry.agent,
            entry.started_ms.0 as i64,
            entry.keep_until_ms.map(|at| at.0 as i64),
            entry.state.word(),
            entry.hold.is_some(),
            entry.kek_id,
            entry.whereabouts.word(),
            text
        ])?;
    Ok(())
}

pub(super) fn search(database: &Connection, query: &Query) -> rusqlite::Result<Page> {
    let mut wants: Vec<&str> = Vec::new();
    let mut values: Vec<Value> = Vec::new();
    let mut want = |sql: &'static str, given: Vec<Value>| {
        wants.push(sql);
        values.extend(given);
    };
    let text = |text: &str| Value::Text(text.to_owned());
    if let Some(call) = query.call {
        want("call = ?", vec![Value::Text(call.to_string())]);
    }
    if let Some(id) = &query.sip_call_id {
        want("recording IN (SELECT recording FROM sip_call WHERE id = ?)", vec![text(id)]);
    }
    if let Some(trunk) = &query.trunk {
        want("(from_trunk = ? OR to_trunk = ?)", vec![text(trunk), text(trunk)]);
    }
    if let Some(number) = &query.number {
        let size = || Value::Integer(-(i64::try_from(number.len()).unwrap_or(i64::MAX)));
        let ends = || vec![size(), text(number)];
        let all = [ends(), ends(), ends()].concat();
        want("(substr(caller, ?) = ? OR substr(called, ?) = ? OR substr(agent, ?) = ?)", all);
    }
    for (name, value) in &query.labels {
        let given = vec![text(name), text(value)];
        want("recording IN (SELECT recording FROM label WHERE name = ? AND value = ?)", given);
    }
    let time = |at: WallMs| Value::Integer(at.0 as i64);
    if let Some(from) = query.from {
        want("started >= ?", vec![time(from)]);
    }
    if let Some(until) = query.until {
        want("started < ?", vec![time(until)]);
    }
    if let Some(held) = query.held {
        want("held = ?", vec![Value::Integer(i64::from(held))]);
    }
    if let Some(kek) = &query.kek_id {
        want("kek = ?", vec![text(kek)]);
    }
    if let Some(kek) = &query.other_kek {
        want("kek <> ?", vec![text(kek)]);
    }
    if query.in_both {
        want("place = ?", vec![text(Whereabouts::Both.word())]);
    }
    if let Some(due) = query.due {
        want("keep_until <= ?", vec![time(due)]);
    }
    if query.only_local {
        want("place = ?", vec![text(Whereabouts::Local.word())]);
    }
    if query.spilled {
        let given = vec![text(SPILL), text(FORWARDED)];
        want(
            "recording IN (SELECT recording FROM label WHERE name = ?) \
             AND recording NOT IN (SELECT recording FROM label WHERE name = ?)",
            given,
        );
    }
    if let Some((started, recording)) = query.after {
        let given = vec![time(started), Value::Text(recording.to_string())];
        want("(started, recording) < (?, ?)", given);
    }
    let mut sql = "SELECT entry FROM recording WHERE ".to_owned();
    if query.states.is_empty() {
        sql.push_str("state <> 'destroyed'");
    } else {
        // Words of ours, never of the asker.
        let words: Vec<String> = query.states.iter().map(|state| format!("'{}'", state.word())).collect();
        sql.push_str(&format!("state IN ({})", words.join(", ")));
    }
    for want in wants {
        sql.push_str(" AND ");
        sql.push_str(want);
    }
    let size = query.page();
    sql.push_str(&format!(" ORDER BY started DESC, recording DESC LIMIT {}", size + 1));
    let mut statement = database.prepare_cached(&sql)?;
    let found = statement.query_map(params_from_iter(values), |row| row.get::<_, String>(0))?;
    let mut entries = found.map(|text| parse(&text?)).collect::<rusqlite::Result<Vec<Entry>>>()?;
    let more = entries.len() > size;
    entries.truncate(size);
    let next = if more { entries.last().map(|entry| (entry.started_ms, entry.recording)) } else { None };
    Ok(Page { entries, next })
}

pub(super) fn counts(database: &Connection) -> rusqlite::Result<[u64; State::ALL.len()]> {
    let mut statement = database.prepare_cached("SELECT state, count(*) FROM recording GROUP BY state")?;
    let mut counts = [0; State::ALL.len()];
    let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))?;
    for row in rows {
        let (word, count) = row?;
        if let Some(at) = State::ALL.iter().position(|state| state.word() == word) {
            counts[at] = count as u64;
        }
    }
    Ok(counts)
}

/// Every recording that has a row, with its state.
pub(super) fn all(database: &Connection) -> rusqlite::Result<Vec<(String, String)>> {
    let mut statement = database.prepare("SELECT recording, state FROM recording")?;
    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// Forgets a row whose recording is nowhere.
pub(super) fn remove(database: &Connection, recording: &str) -> rusqlite::Result<()> {
    for table in ["label", "sip_call", "recording"] {
        database.execute(&format!("DELETE FROM {table} WHERE recording = ?1"), params![recording])?;
    }
    Ok(())
}
