//! SQLite alone: what survives a restart, how commits are gathered, and the file itself.

use std::ops::Deref;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use super::*;
use crate::Expect;

struct InTempFolder {
    store: SqliteState,
    folder: tempfile::TempDir,
}

impl Deref for InTempFolder {
    type Target = SqliteState;

    fn deref(&self) -> &SqliteState {
        &self.store
    }
}

fn in_temp_folder() -> InTempFolder {
    let folder = tempfile::tempdir().unwrap();
    InTempFolder { store: open(folder.path()), folder }
}

fn open(folder: &Path) -> SqliteState {
    SqliteState::open(&folder.join("state.db"), &SqliteOptions { indexed_members: vec!["parent"] }).unwrap()
}

const KIND: Kind = Kind::new("device");

fn key(id: &str) -> Key {
    Key::new(KIND, id)
}

crate::conformance_suite!(in_temp_folder);

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let InTempFolder { store, folder } = in_temp_folder();
    store.commit(vec![Change::put(key("a"), Expect::Any, json!(1))]).await.unwrap();
    store.commit(vec![Change::put(key("b"), Expect::Any, json!(1))]).await.unwrap();
    let last = store.commit(vec![Change::delete(key("a"), Expect::Any)]).await.unwrap();
    drop(store);
    let store = open(folder.path());
    assert_eq!(store.commit(Vec::new()).await, Ok(last));
    assert_eq!(store.get(&key("b")).await.unwrap().unwrap().value, json!(1));
    let changes = store.changes_since(Revision(0), 10).await.unwrap();
    assert_eq!(
        changes.notices.iter().map(|n| (n.key.id.as_str(), n.deleted)).collect::<Vec<_>>(),
        [("b", false), ("a", true)]
    );
}

#[tokio::test]
async fn the_files_are_private() {
    let InTempFolder { store, folder } = in_temp_folder();
    store.commit(vec![Change::put(key("a"), Expect::Any, json!(1))]).await.unwrap();
    for name in ["state.db", "state.db-wal"] {
        let mode = std::fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn commits_that_wait_share_a_transaction_but_not_their_fate() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let connection = Connection::open(folder.path().join("state.db")).unwrap();
    let (commits, queue) = mpsc::channel(10);
    let mut answers = Vec::new();
    for expect in [Expect::Any, Expect::Absent, Expect::Any] {
        let (answer, answered) = oneshot::channel();
        let changes = checked(vec![
            Change::put(key(&answers.len().to_string()), Expect::Any, json!(0)),
            Change::put(key("x"), expect, json!(answers.len())),
        ]);
        commits.try_send(Commit { changes: changes.unwrap(), answer }).unwrap();
        answers.push(answered);
    }
    drop(commits);
    writer::Writer::new(connection).unwrap().run(queue);
    let outcomes: Vec<_> = answers.into_iter().map(|mut answered| answered.try_recv().unwrap()).collect();
    assert_eq!(outcomes[0], Ok(Revision(2)));
    assert_eq!(outcomes[1], Err(StateError::Conflict { key: key("x"), found: Some(Revision(2)) }));
    assert_eq!(outcomes[2], Ok(Revision(4)));
    let connection = Connection::open(folder.path().join("state.db")).unwrap();
    let found = find(&connection, &KIND, &Filter::all(), &Page::first(10)).unwrap();
    assert_eq!(found.records.iter().map(|r| r.key.id.as_str()).collect::<Vec<_>>(), ["0", "2", "x"]);
}

#[test]
fn the_oldest_deletions_are_forgotten_when_there_are_too_many() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let path = folder.path().join("state.db");
    let writer = writer::Writer::new(Connection::open(&path).unwrap()).unwrap().with_tombstones_max(2);
    let (commits, queue) = mpsc::channel(10);
    let mut keep = Vec::new();
    for id in ["a", "b", "c", "d"] {
        for value in [Some(json!(1)), None] {
            let (answer, answered) = oneshot::channel();
            let changes = checked(vec![Change { key: key(id), expect: Expect::Any, value }]).unwrap();
            commits.try_send(Commit { changes, answer }).unwrap();
            keep.push(answered);
        }
    }
    drop(commits);
    writer.run(queue);
    let connection = Connection::open(&path).unwrap();
    assert_eq!(changes_since(&connection, Revision(3), 10).unwrap(), Err(Revision(4)));
    let changes = changes_since(&connection, Revision(4), 10).unwrap().unwrap();
    assert_eq!(changes.notices.iter().map(|n| n.key.id.as_str()).collect::<Vec<_>>(), ["c", "d"]);
}

#[test]
fn a_member_filter_uses_its_index() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let connection = Connection::open(folder.path().join("state.db")).unwrap();
    let sql = format!(
        "EXPLAIN QUERY PLAN SELECT id FROM record WHERE kind = ?1 AND value IS NOT NULL AND {} = ?2 ORDER BY id",
        schema::member("parent")
    );
    let plan: String = connection.query_row(&sql, ["a", "b"], |row| row.get(3)).unwrap();
    assert!(plan.contains("record_member_parent"), "{plan}");
}

#[test]
fn a_file_of_a_newer_program_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let error = SqliteState::open(&path, &SqliteOptions::default()).unwrap_err();
    assert!(error.to_string().ends_with("has layout 99, this program knows layouts up to 1"), "{error}");
    std::fs::write(&path, "this is no database, but a text that is long enough to be one").unwrap();
    assert!(matches!(SqliteState::open(&path, &SqliteOptions::default()), Err(OpenError::Database { .. })));
    let missing = folder.path().join("no/such/folder.db");
    assert!(matches!(SqliteState::open(&missing, &SqliteOptions::default()), Err(OpenError::File { .. })));
}

proptest::proptest! {
    #[test]
    fn the_end_of_a_prefix_is_behind_all_that_begin_with_it(prefix in ".{0,4}", rest in ".{0,3}", other in ".{0,6}") {
        let end = after_all_with_prefix(&prefix);
        let within = |text: &str| text >= prefix.as_str() && end.as_deref().is_none_or(|end| text < end);
        let beginning = [prefix.as_str(), &rest].concat();
        proptest::prop_assert!(within(&beginning));
        proptest::prop_assert_eq!(within(&other), other.starts_with(&prefix));
    }
}
