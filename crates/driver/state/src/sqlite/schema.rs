//! The layout of the file, and how connections to it are set up.

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::Revision;

/// The layout this program writes (`PRAGMA user_version`).
pub(super) const LAYOUT: i64 = 1;
/// Counter: the newest revision.
pub(super) const REVISION: &str = "revision";
/// Counter: deletions up to this revision may be forgotten.
pub(super) const HORIZON: &str = "horizon";

/// Sets up a connection and makes the tables in an empty file. Returns the layout that was found, or made.
pub(super) fn prepare(connection: &mut Connection) -> rusqlite::Result<i64> {
    configure(connection)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found != 0 {
        return Ok(found);
    }
    let transaction = connection.transaction()?;
    transaction.execute_batch(
        "CREATE TABLE record (
             kind     TEXT NOT NULL,
             id       TEXT NOT NULL,
             revision INTEGER NOT NULL,
             value    TEXT,
             PRIMARY KEY (kind, id)
         );
         CREATE UNIQUE INDEX record_revision ON record (revision);
         CREATE INDEX record_deleted ON record (revision) WHERE value IS NULL;
         CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;",
    )?;
    transaction.pragma_update(None, "user_version", LAYOUT)?;
    transaction.commit()?;
    Ok(LAYOUT)
}

/// What holds for reading and writing connections.
pub(super) fn configure(connection: &Connection) -> rusqlite::Result<()> {
    // A commit that was answered survives power loss: in WAL mode only FULL syncs at every commit.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "journal_size_limit", 16 * 1024 * 1024)?;
    connection.busy_timeout(std::time::Duration::from_secs(10))?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(())
}

/// The expression that reads a member; the same text in index and query, or SQLite does not use the index.
pub(super) fn member(name: &str) -> String {
    format!("json_extract(value, '$.{name}')")
}

/// Makes an index on a member, unless there is one. It ends with the id, or the planner would rather follow the order of ids.
pub(super) fn index_member(connection: &Connection, name: &str) -> rusqlite::Result<()> {
    let expression = member(name);
    connection.execute_batch(&format!(
        "CREATE INDEX IF NOT EXISTS record_member_{name} ON record (kind, {expression}, id) WHERE value IS NOT NULL"
    ))
}

/// The value of a counter; 0 when it was never set.
pub(super) fn counter(connection: &Connection, name: &str) -> rusqlite::Result<Revision> {
    let stored = connection
        .prepare_cached("SELECT value FROM counter WHERE name = ?1")?
        .query_row(params![name], |row| row.get::<_, i64>(0))
        .optional()?;
    Ok(Revision(stored.and_then(|value| u64::try_from(value).ok()).unwrap_or(0)))
}

/// Sets a counter.
pub(super) fn set_counter(connection: &Connection, name: &str, value: Revision) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO counter (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        )?
        .execute(params![name, stored(value)])?;
    Ok(())
}

/// A revision as SQLite stores integers.
pub(super) fn stored(revision: Revision) -> i64 {
    i64::try_from(revision.0).unwrap_or(i64::MAX)
}
