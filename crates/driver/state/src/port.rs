//! The port itself: records, changes with an expectation, filters, and what can go wrong.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::pin::Pin;

use skerry_model::Json;

/// Changes of one commit, at most.
pub const CHANGES_MAX: usize = 1_000;
/// A record's value as JSON text, at most, in bytes.
pub const VALUE_BYTES_MAX: usize = 1024 * 1024;
/// Records of one page, at most; a larger wish is cut to this.
pub const PAGE_RECORDS_MAX: u32 = 1_000;
/// Deleted keys that are remembered for [`StateStore::changes_since`]; the oldest are forgotten first.
pub const TOMBSTONES_MAX: usize = 100_000;

/// What a call of the port answers with, later.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, StateError>> + Send + 'a>>;

/// A store of records. A commit that was answered is durable and seen by every read that begins afterwards.
pub trait StateStore: Send + Sync + 'static {
    /// The record at `key`; `None` when there is none.
    fn get<'a>(&'a self, key: &'a Key) -> Pending<'a, Option<Record>>;

    /// Makes all changes or none, and returns the revision of the last one. Every change takes a revision of its own, in the
    /// order given. No change at all returns the store's current revision.
    ///
    /// # Errors
    /// `Conflict` when a record is not as expected, `Invalid` when a key occurs twice or a limit is exceeded, `Failed` when
    /// nothing can be written.
    fn commit(&self, changes: Vec<Change>) -> Pending<'_, Revision>;

    /// Records of one kind in the order of their ids, compared byte by byte.
    fn find<'a>(&'a self, kind: &'a Kind, filter: &'a Filter, page: Page) -> Pending<'a, Found>;

    /// Which records changed after `since`, oldest first, each with its newest change only; at most `changes_max`.
    ///
    /// # Errors
    /// `Forgotten` when deletions after `since` are not remembered any more: read everything again.
    fn changes_since(&self, since: Revision, changes_max: u32) -> Pending<'_, Changes>;
}

/// A family of records, such as `device`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(pub(crate) Cow<'static, str>);

impl Kind {
    /// The kind of this name.
    pub const fn new(name: &'static str) -> Self {
        Self(Cow::Borrowed(name))
    }

    /// The kind of this name, read from a store.
    pub(crate) fn from_stored(name: String) -> Self {
        Self(Cow::Owned(name))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// Where a record lies.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Its family.
    pub kind: Kind,
    /// Its name within the family.
    pub id: String,
}

impl Key {
    /// The key `id` of `kind`.
    pub fn new(kind: Kind, id: impl Into<String>) -> Self {
        Self { kind, id: id.into() }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}", self.kind.as_str(), self.id)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, out)
    }
}

/// A place in the order of all changes of a store; 0 is before the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision(pub u64);

/// A stored document.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Where it lies.
    pub key: Key,
    /// The change that wrote it.
    pub revision: Revision,
    /// The document.
    pub value: Json,
}

/// How a record must be for a change to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// However it is.
    Any,
    /// Not there.
    Absent,
    /// There, with this revision.
    Revision(Revision),
}

/// One change of a commit.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Which record.
    pub key: Key,
    /// How it must be before.
    pub expect: Expect,
    /// The document to store; `None` deletes. Deleting what is not there changes nothing.
    pub value: Option<Json>,
}

impl Change {
    /// Stores `value` at `key`.
    pub fn put(key: Key, expect: Expect, value: Json) -> Self {
        Self { key, expect, value: Some(value) }
    }

    /// Deletes what is at `key`.
    pub fn delete(key: Key, expect: Expect) -> Self {
        Self { key, expect, value: None }
    }
}

/// Which records of a kind; criteria that are given must all hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// The id begins with this.
    pub id_prefix: Option<String>,
    /// The document's member of this name (letters only) is exactly this text.
    pub member: Option<(&'static str, String)>,
}

impl Filter {
    /// All of a kind.
    pub fn all() -> Self {
        Self::default()
    }

    /// Those whose id begins with `prefix`.
    pub fn id_prefix(prefix: impl Into<String>) -> Self {
        Self { id_prefix: Some(prefix.into()), member: None }
    }

    /// Those whose member `name` is the text `text`.
    pub fn member(name: &'static str, text: impl Into<String>) -> Self {
        Self { id_prefix: None, member: Some((name, text.into())) }
    }

    pub(crate) fn matches(&self, id: &str, value: &Json) -> bool {
        self.id_prefix.as_ref().is_none_or(|prefix| id.starts_with(prefix))
            && self.member.as_ref().is_none_or(|(name, text)| value.get(name).and_then(Json::as_str) == Some(text))
    }
}

/// Which part of what was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Only ids behind this one.
    pub after: Option<String>,
    /// Records, at most; cut to 1,000.
    pub records_max: u32,
}

impl Page {
    /// The first `records_max` records.
    pub fn first(records_max: u32) -> Self {
        Self { after: None, records_max }
    }
}

/// One page of what was found.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Found {
    /// In the order of their ids.
    pub records: Vec<Record>,
    /// What to give as `after` for the next page; `None` when there is no further record.
    pub next: Option<String>,
}

/// A record changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeNotice {
    /// Which one.
    pub key: Key,
    /// Its newest change.
    pub revision: Revision,
    /// It is gone.
    pub deleted: bool,
}

/// What changed, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// Oldest first.
    pub notices: Vec<ChangeNotice>,
    /// Where to go on from.
    pub up_to: Revision,
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// A record is not as the commit expected it; nothing was changed.
    #[error("`{key}` was changed by somebody else")]
    Conflict {
        /// Which record.
        key: Key,
        /// Its revision; `None` when it is not there.
        found: Option<Revision>,
    },
    /// Deletions after this point are not remembered any more.
    #[error("changes before revision {} are forgotten", horizon.0)]
    Forgotten {
        /// The first point from which everything is known.
        horizon: Revision,
    },
    /// The commit itself is wrong; nothing was changed.
    #[error("`{key}`: {reason}")]
    Invalid {
        /// Which record.
        key: Key,
        /// What is wrong.
        reason: &'static str,
    },
    /// The store cannot be read or written.
    #[error("the record store failed: {0}")]
    Failed(String),
}

/// Checks what holds for every backend, and writes the documents as text.
pub(crate) fn checked(changes: Vec<Change>) -> Result<Vec<(Change, Option<String>)>, StateError> {
    let mut seen = BTreeSet::new();
    for (at, change) in changes.iter().enumerate() {
        let invalid = |reason| Err(StateError::Invalid { key: change.key.clone(), reason });
        if at >= CHANGES_MAX {
            return invalid("more changes than one commit may have");
        }
        if !seen.insert(&change.key) {
            return invalid("changed twice in one commit");
        }
    }
    changes
        .into_iter()
        .map(|change| {
            let text = change.value.as_ref().map(Json::to_string);
            if text.as_ref().is_some_and(|text| text.len() > VALUE_BYTES_MAX) {
                return Err(StateError::Invalid { key: change.key, reason: "the document is too large" });
            }
            Ok((change, text))
        })
        .collect()
}
