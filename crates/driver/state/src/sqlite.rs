//! The port on SQLite: one file, one thread that writes and one that reads, commits gathered into one transaction.

mod schema;
mod writer;

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::thread::JoinHandle;

use rusqlite::{Connection, OptionalExtension as _, ToSql, params};
use tokio::sync::{mpsc, oneshot};

use skerry_model::Json;

use crate::port::{PAGE_RECORDS_MAX, checked};
use crate::{
    Change, ChangeNotice, Changes, Filter, Found, Key, Kind, Page, Pending, Record, Revision, StateError, StateStore,
};
use writer::Commit;

/// Commits that wait for the writing thread; more wait in their callers.
const COMMITS_WAITING_MAX: usize = 1_024;
/// Reads that wait for the reading thread; more wait in their callers.
const READS_WAITING_MAX: usize = 1_024;

/// What can be chosen when a store is opened.
#[derive(Debug, Clone, Default)]
pub struct SqliteOptions {
    /// Members of documents that [`Filter::member`] asks for often: each gets an index. Letters only.
    pub indexed_members: Vec<&'static str>,
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file cannot be made or read.
    #[error("cannot open the record store `{path}`")]
    File {
        /// Which file.
        path: String,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// SQLite cannot use the file.
    #[error("cannot use the record store `{path}`")]
    Database {
        /// Which file.
        path: String,
        /// Why.
        #[source]
        cause: rusqlite::Error,
    },
    /// The file was written by a newer version of this program.
    #[error("the record store `{path}` has layout {found}, this program knows layouts up to {known}")]
    Newer {
        /// Which file.
        path: String,
        /// Its layout.
        found: i64,
        /// The newest layout known here.
        known: i64,
    },
    /// A name in [`SqliteOptions::indexed_members`] is not made of letters.
    #[error("`{0}` cannot be an indexed member: letters only")]
    Member(&'static str),
}

/// Records in an SQLite file. Dropping it waits until what was handed over is written.
#[derive(Debug)]
pub struct SqliteState {
    /// `None` only while dropping: the threads end when their queue has no sender.
    queues: Option<Queues>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Queues {
    commits: mpsc::Sender<Commit>,
    reads: mpsc::Sender<Read>,
}

/// A question to the reading thread; answers itself.
type Read = Box<dyn FnOnce(&Connection) + Send>;

impl SqliteState {
    /// Opens or makes the store in the file `path` (mode 0600 when made; beside it lie `-wal` and `-shm`).
    ///
    /// # Errors
    /// When the file cannot be used, or has a layout newer than this program.
    pub fn open(path: &Path, options: &SqliteOptions) -> Result<Self, OpenError> {
        let text = || path.display().to_string();
        // SQLite gives its journal files the mode of the database file, so it is enough to make that one private.
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(|cause| OpenError::File { path: text(), cause })?;
        let database = |cause| OpenError::Database { path: text(), cause };
        let mut writing = Connection::open(path).map_err(database)?;
        let found = schema::prepare(&mut writing).map_err(database)?;
        if found > schema::LAYOUT {
            return Err(OpenError::Newer { path: text(), found, known: schema::LAYOUT });
        }
        for member in &options.indexed_members {
            if !is_member_name(member) {
                return Err(OpenError::Member(member));
            }
            schema::index_member(&writing, member).map_err(database)?;
        }
        let reading = Connection::open(path).map_err(database)?;
        schema::configure(&reading).map_err(database)?;
        let writer = writer::Writer::new(writing).map_err(database)?;

        let (commits, commit_queue) = mpsc::channel(COMMITS_WAITING_MAX);
        let (reads, read_queue) = mpsc::channel(READS_WAITING_MAX);
        let file = |cause| OpenError::File { path: text(), cause };
        let threads = vec![
            spawn("state-write", move || writer.run(commit_queue)).map_err(file)?,
            spawn("state-read", move || answer(&reading, read_queue)).map_err(file)?,
        ];
        Ok(Self { queues: Some(Queues { commits, reads }), threads })
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StateError> {
        let (answer, answered) = oneshot::channel();
        let read: Read = Box::new(move |connection| {
            // Nobody may be waiting any more; then the answer is not needed.
            let _ = answer.send(question(connection));
        });
        let queues = self.queues.as_ref().ok_or_else(stopped)?;
        queues.reads.send(read).await.map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?.map_err(|error| failed(&error))
    }
}

impl Drop for SqliteState {
    fn drop(&mut self) {
        self.queues = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the record store ended with a panic");
            }
        }
    }
}

impl StateStore for SqliteState {
    fn get<'a>(&'a self, key: &'a Key) -> Pending<'a, Option<Record>> {
        let key = key.clone();
        Box::pin(self.ask(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT revision, value FROM record WHERE kind = ?1 AND id = ?2 AND value IS NOT NULL",
            )?;
            statement
                .query_row(params![key.kind.as_str(), key.id], |row| {
                    Ok(Record { key: key.clone(), revision: revision(row.get(0)?), value: document(row, 1)? })
                })
                .optional()
        }))
    }

    fn commit(&self, changes: Vec<Change>) -> Pending<'_, Revision> {
        Box::pin(async move {
            let changes = checked(changes)?;
            let (answer, answered) = oneshot::channel();
            let queues = self.queues.as_ref().ok_or_else(stopped)?;
            queues.commits.send(Commit { changes, answer }).await.map_err(|_| stopped())?;
            answered.await.map_err(|_| stopped())?
        })
    }

    fn find<'a>(&'a self, kind: &'a Kind, filter: &'a Filter, page: Page) -> Pending<'a, Found> {
        let (kind, filter) = (kind.clone(), filter.clone());
        Box::pin(async move {
            if let Some((member, _)) = &filter.member
                && !is_member_name(member)
            {
                let reason = "a filter asks for members named with letters only";
                return Err(StateError::Invalid { key: Key::new(kind, *member), reason });
            }
            self.ask(move |connection| find(connection, &kind, &filter, &page)).await
        })
    }

    fn changes_since(&self, since: Revision, changes_max: u32) -> Pending<'_, Changes> {
        Box::pin(async move {
            let read = self.ask(move |connection| changes_since(connection, since, changes_max)).await?;
            read.map_err(|horizon| StateError::Forgotten { horizon })
        })
    }
}

fn find(connection: &Connection, kind: &Kind, filter: &Filter, page: &Page) -> rusqlite::Result<Found> {
    let max = page.records_max.min(PAGE_RECORDS_MAX);
    let limit = max + 1;
    let end = filter.id_prefix.as_deref().and_then(after_all_with_prefix);
    let mut sql = String::from("SELECT id, revision, value FROM record WHERE kind = ?1 AND value IS NOT NULL");
    let mut values: Vec<&dyn ToSql> = vec![&kind.0, &limit];
    let mut restrict = |condition: &str, value| {
        values.push(value);
        sql.push_str(&format!(" AND {condition} ?{}", values.len()));
    };
    if let Some(after) = &page.after {
        restrict("id >", after);
    }
    if let Some(prefix) = &filter.id_prefix {
        restrict("id >=", prefix);
    }
    if let Some(end) = &end {
        restrict("id <", end);
    }
    if let Some((member, text)) = &filter.member {
        restrict(&format!("{} =", schema::member(member)), text);
    }
    sql.push_str(" ORDER BY id LIMIT ?2");

    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map(values.as_slice(), |row| {
        let key = Key::new(kind.clone(), row.get::<_, String>(0)?);
        Ok(Record { key, revision: revision(row.get(1)?), value: document(row, 2)? })
    })?;
    let mut records = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    let max = usize::try_from(max).unwrap_or(usize::MAX);
    let next = if records.len() > max {
        records.truncate(max);
        records.last().map(|record| record.key.id.clone())
    } else {
        None
    };
    Ok(Found { records, next })
}

fn changes_since(
    connection: &Connection,
    since: Revision,
    changes_max: u32,
) -> rusqlite::Result<Result<Changes, Revision>> {
    // One transaction, so that the horizon belongs to the rows.
    let transaction = connection.unchecked_transaction()?;
    let horizon = schema::counter(&transaction, schema::HORIZON)?;
    if since < horizon {
        return Ok(Err(horizon));
    }
    let mut statement = transaction.prepare_cached(
        "SELECT kind, id, revision, value IS NULL FROM record WHERE revision > ?1 ORDER BY revision LIMIT ?2",
    )?;
    let rows = statement.query_map(params![schema::stored(since), changes_max], |row| {
        let key = Key::new(Kind::from_stored(row.get(0)?), row.get::<_, String>(1)?);
        Ok(ChangeNotice { key, revision: revision(row.get(2)?), deleted: row.get(3)? })
    })?;
    let notices = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    let up_to = notices.last().map_or(since, |notice| notice.revision);
    Ok(Ok(Changes { notices, up_to }))
}

/// The first text that does not begin with `prefix` but is greater than all that do; `None` when there is none.
fn after_all_with_prefix(prefix: &str) -> Option<String> {
    let mut chars: Vec<char> = prefix.chars().collect();
    while let Some(last) = chars.pop() {
        // The code points of surrogates are no characters: the one after U+D7FF is U+E000.
        let next = if last == '\u{d7ff}' { Some('\u{e000}') } else { char::from_u32(u32::from(last) + 1) };
        if let Some(next) = next {
            chars.push(next);
            return Some(chars.into_iter().collect());
        }
    }
    None
}

fn is_member_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphabetic())
}

fn document(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Json> {
    let text = row.get_ref(column)?.as_str()?;
    serde_json::from_str(text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
    })
}

fn revision(stored: i64) -> Revision {
    Revision(u64::try_from(stored).unwrap_or(0))
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(body)
}

fn answer(connection: &Connection, mut reads: mpsc::Receiver<Read>) {
    while let Some(read) = reads.blocking_recv() {
        read(connection);
    }
}

fn stopped() -> StateError {
    StateError::Failed("it was stopped".to_owned())
}

fn failed(error: &rusqlite::Error) -> StateError {
    StateError::Failed(error.to_string())
}

#[cfg(test)]
mod tests;
