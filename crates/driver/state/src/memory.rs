//! The port in memory: for tests, simulations and hubs that need not remember.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use skerry_model::Json;

use crate::port::{PAGE_RECORDS_MAX, TOMBSTONES_MAX, checked};
use crate::{
    Change, ChangeNotice, Changes, Expect, Filter, Found, Key, Kind, Page, Pending, Record, Revision, StateError,
    StateStore,
};

/// Records in memory; gone with the value.
#[derive(Debug, Default)]
pub struct MemoryState {
    records: Mutex<Records>,
}

#[derive(Debug, Default)]
struct Records {
    /// A deleted record stays as `None` until it is forgotten.
    by_key: BTreeMap<Key, (Revision, Option<Json>)>,
    by_revision: BTreeMap<Revision, Key>,
    tombstones: usize,
    revision: Revision,
    /// Deletions up to here may be forgotten.
    horizon: Revision,
}

impl MemoryState {
    fn lock(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Records {
    fn live(&self, key: &Key) -> Option<(Revision, &Json)> {
        match self.by_key.get(key) {
            Some((revision, Some(value))) => Some((*revision, value)),
            Some((_, None)) | None => None,
        }
    }

    fn commit(&mut self, changes: Vec<Change>) -> Result<Revision, StateError> {
        for change in &changes {
            let found = self.live(&change.key).map(|(revision, _)| revision);
            let as_expected = match change.expect {
                Expect::Any => true,
                Expect::Absent => found.is_none(),
                Expect::Revision(revision) => found == Some(revision),
            };
            if !as_expected {
                return Err(StateError::Conflict { key: change.key.clone(), found });
            }
        }
        for change in changes {
            if change.value.is_some() || self.live(&change.key).is_some() {
                self.write(change.key, change.value);
            }
        }
        while self.tombstones > TOMBSTONES_MAX {
            self.forget_oldest_deletion();
        }
        Ok(self.revision)
    }

    fn write(&mut self, key: Key, value: Option<Json>) {
        self.revision = Revision(self.revision.0 + 1);
        self.tombstones += usize::from(value.is_none());
        self.by_revision.insert(self.revision, key.clone());
        if let Some((before, value)) = self.by_key.insert(key, (self.revision, value)) {
            self.by_revision.remove(&before);
            self.tombstones -= usize::from(value.is_none());
        }
    }

    fn forget_oldest_deletion(&mut self) {
        let oldest = self.by_revision.iter().find(|(_, key)| self.live(key).is_none());
        if let Some((revision, key)) = oldest.map(|(revision, key)| (*revision, key.clone())) {
            self.by_revision.remove(&revision);
            self.by_key.remove(&key);
            self.horizon = revision;
        }
        self.tombstones -= 1;
    }

    fn find(&self, kind: &Kind, filter: &Filter, page: &Page) -> Found {
        let from = match (&page.after, &filter.id_prefix) {
            (Some(after), Some(prefix)) if after < prefix => Bound::Included(prefix.as_str()),
            (Some(after), _) => Bound::Excluded(after.as_str()),
            (None, Some(prefix)) => Bound::Included(prefix.as_str()),
            (None, None) => Bound::Included(""),
        };
        let max = usize::try_from(page.records_max.min(PAGE_RECORDS_MAX)).unwrap_or(usize::MAX);
        let mut found = Found::default();
        for (key, (revision, value)) in self.by_key.range((from.map(|id| Key::new(kind.clone(), id)), Bound::Unbounded))
        {
            let prefix = filter.id_prefix.as_deref().unwrap_or_default();
            if key.kind != *kind || !key.id.starts_with(prefix) {
                break;
            }
            let Some(value) = value.as_ref().filter(|value| filter.matches(&key.id, value)) else { continue };
            if found.records.len() == max {
                found.next = found.records.last().map(|record| record.key.id.clone());
                break;
            }
            found.records.push(Record { key: key.clone(), revision: *revision, value: value.clone() });
        }
        found
    }

    fn changes_since(&self, since: Revision, changes_max: u32) -> Result<Changes, StateError> {
        if since < self.horizon {
            return Err(StateError::Forgotten { horizon: self.horizon });
        }
        let notices: Vec<_> = self
            .by_revision
            .range((Bound::Excluded(since), Bound::Unbounded))
            .take(usize::try_from(changes_max).unwrap_or(usize::MAX))
            .map(|(revision, key)| ChangeNotice {
                key: key.clone(),
                revision: *revision,
                deleted: self.live(key).is_none(),
            })
            .collect();
        let up_to = notices.last().map_or(since, |notice| notice.revision);
        Ok(Changes { notices, up_to })
    }
}

impl StateStore for MemoryState {
    fn get<'a>(&'a self, key: &'a Key) -> Pending<'a, Option<Record>> {
        Box::pin(async move {
            let records = self.lock();
            let live = records.live(key);
            Ok(live.map(|(revision, value)| Record { key: key.clone(), revision, value: value.clone() }))
        })
    }

    fn commit(&self, changes: Vec<Change>) -> Pending<'_, Revision> {
        Box::pin(async move {
            let changes = checked(changes)?;
            self.lock().commit(changes.into_iter().map(|(change, _)| change).collect())
        })
    }

    fn find<'a>(&'a self, kind: &'a Kind, filter: &'a Filter, page: Page) -> Pending<'a, Found> {
        Box::pin(async move { Ok(self.lock().find(kind, filter, &page)) })
    }

    fn changes_since(&self, since: Revision, changes_max: u32) -> Pending<'_, Changes> {
        Box::pin(async move { self.lock().changes_since(since, changes_max) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    crate::conformance_suite!(|| Box::new(MemoryState::default()));

    #[test]
    fn the_oldest_deletions_are_forgotten_when_there_are_too_many() {
        let store = MemoryState::default();
        let mut records = store.lock();
        let key = |n: usize| Key::new(Kind::new("test"), format!("{n:07}"));
        for n in 0..=TOMBSTONES_MAX {
            records.commit(vec![Change::put(key(n), Expect::Any, Json::Null)]).unwrap();
            records.commit(vec![Change::delete(key(n), Expect::Any)]).unwrap();
        }
        assert_eq!(records.tombstones, TOMBSTONES_MAX);
        assert_eq!(records.changes_since(Revision(1), 1), Err(StateError::Forgotten { horizon: Revision(2) }));
        assert!(records.changes_since(Revision(2), 1).is_ok());
    }
}
