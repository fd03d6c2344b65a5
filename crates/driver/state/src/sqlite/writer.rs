//! The thread that writes: takes all commits that wait, makes them in one transaction, answers when it is durable.

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use tokio::sync::{mpsc, oneshot};

use super::{failed, schema};
use crate::port::TOMBSTONES_MAX;
use crate::{Change, Expect, Revision, StateError};

/// Commits gathered into one transaction, at most.
const GATHER_MAX: usize = 256;

/// A commit on its way, with its documents as text.
#[derive(Debug)]
pub(super) struct Commit {
    pub(super) changes: Vec<(Change, Option<String>)>,
    pub(super) answer: oneshot::Sender<Result<Revision, StateError>>,
}

/// Owns the writing connection.
#[derive(Debug)]
pub(super) struct Writer {
    connection: Connection,
    progress: Progress,
    tombstones_max: usize,
}

/// What the next transaction starts from; taken over only when it was committed.
#[derive(Debug, Clone, Copy)]
struct Progress {
    revision: Revision,
    tombstones: usize,
}

impl Writer {
    pub(super) fn new(connection: Connection) -> rusqlite::Result<Self> {
        let revision = schema::counter(&connection, schema::REVISION)?;
        let tombstones: u64 =
            connection.query_row("SELECT count(*) FROM record WHERE value IS NULL", [], |row| row.get(0))?;
        let tombstones = usize::try_from(tombstones).unwrap_or(usize::MAX);
        Ok(Self { connection, progress: Progress { revision, tombstones }, tombstones_max: TOMBSTONES_MAX })
    }

    /// Works until nobody can hand over commits any more.
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Commit>) {
        let mut gathered = Vec::with_capacity(GATHER_MAX);
        while queue.blocking_recv_many(&mut gathered, GATHER_MAX) > 0 {
            let outcomes = self.write(&gathered);
            match outcomes {
                Ok(outcomes) => {
                    for (commit, outcome) in gathered.drain(..).zip(outcomes) {
                        // Whoever went away does not need the answer.
                        let _ = commit.answer.send(outcome);
                    }
                }
                Err(error) => {
                    tracing::error!(%error, commits = gathered.len(), "the record store cannot be written");
                    for commit in gathered.drain(..) {
                        let _ = commit.answer.send(Err(failed(&error)));
                    }
                }
            }
        }
    }

    /// One transaction; each commit within it stands or falls alone. An error means that nothing at all was written.
    fn write(&mut self, commits: &[Commit]) -> rusqlite::Result<Vec<Result<Revision, StateError>>> {
        let mut transaction = self.connection.transaction()?;
        let mut progress = self.progress;
        let mut outcomes = Vec::with_capacity(commits.len());
        for commit in commits {
            let mut attempt = progress;
            let savepoint = transaction.savepoint()?;
            let outcome = match make(&savepoint, &commit.changes, &mut attempt)? {
                Ok(()) => {
                    savepoint.commit()?;
                    progress = attempt;
                    Ok(progress.revision)
                }
                // Dropping the savepoint takes back what the commit had begun.
                Err(conflict) => Err(conflict),
            };
            outcomes.push(outcome);
        }
        if progress.tombstones > self.tombstones_max {
            forget_deletions(&transaction, progress.tombstones - self.tombstones_max)?;
            progress.tombstones = self.tombstones_max;
        }
        if progress.revision > self.progress.revision {
            schema::set_counter(&transaction, schema::REVISION, progress.revision)?;
        }
        transaction.commit()?;
        self.progress = progress;
        Ok(outcomes)
    }

    #[cfg(test)]
    pub(super) fn with_tombstones_max(mut self, max: usize) -> Self {
        self.tombstones_max = max;
        self
    }
}

fn make(
    connection: &Connection,
    changes: &[(Change, Option<String>)],
    progress: &mut Progress,
) -> rusqlite::Result<Result<(), StateError>> {
    for (change, text) in changes {
        let stored = connection
            .prepare_cached("SELECT revision, value IS NULL FROM record WHERE kind = ?1 AND id = ?2")?
            .query_row(params![change.key.kind.as_str(), change.key.id], |row| {
                Ok((super::revision(row.get(0)?), row.get::<_, bool>(1)?))
            })
            .optional()?;
        let deleted_before = matches!(stored, Some((_, true)));
        let found = stored.filter(|(_, deleted)| !deleted).map(|(revision, _)| revision);
        let as_expected = match change.expect {
            Expect::Any => true,
            Expect::Absent => found.is_none(),
            Expect::Revision(revision) => found == Some(revision),
        };
        if !as_expected {
            return Ok(Err(StateError::Conflict { key: change.key.clone(), found }));
        }
        if text.is_none() && found.is_none() {
            continue;
        }
        progress.revision = Revision(progress.revision.0 + 1);
        progress.tombstones = progress.tombstones + usize::from(text.is_none()) - usize::from(deleted_before);
        connection
            .prepare_cached(
                "INSERT INTO record (kind, id, revision, value) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (kind, id) DO UPDATE SET revision = excluded.revision, value = excluded.value",
            )?
            .execute(params![change.key.kind.as_str(), change.key.id, schema::stored(progress.revision), text])?;
    }
    Ok(Ok(()))
}

/// Forgets the oldest `count` deletions and notes up to where.
fn forget_deletions(transaction: &Transaction<'_>, count: usize) -> rusqlite::Result<()> {
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    let newest: Option<i64> = transaction.query_row(
        "SELECT max(revision) FROM (SELECT revision FROM record WHERE value IS NULL ORDER BY revision LIMIT ?1)",
        params![count],
        |row| row.get(0),
    )?;
    if let Some(newest) = newest {
        transaction.execute("DELETE FROM record WHERE value IS NULL AND revision <= ?1", params![newest])?;
        schema::set_counter(transaction, schema::HORIZON, super::revision(newest))?;
    }
    Ok(())
}
