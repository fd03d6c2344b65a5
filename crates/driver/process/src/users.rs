//! Which user each module runs as: chosen once from a range, and kept, so that files keep their owner.

use std::collections::BTreeMap;
use std::io;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use crate::record;

/// The choices made so far.
#[derive(Debug)]
pub(crate) struct Users {
    file: PathBuf,
    range: RangeInclusive<u32>,
    chosen: BTreeMap<String, u32>,
}

impl Users {
    pub(crate) fn load(file: PathBuf, range: RangeInclusive<u32>) -> io::Result<Self> {
        let chosen = record::read(&file)?.unwrap_or_default();
        Ok(Self { file, range, chosen })
    }

    /// The user of `module`. A module that no longer `exists` gives its user up only when none is left.
    pub(crate) fn of(&mut self, module: &str, exists: impl Fn(&str) -> bool) -> io::Result<u32> {
        if let Some(user) = self.chosen.get(module).filter(|user| self.range.contains(user)) {
            return Ok(*user);
        }
        let user = match self.free() {
            Some(user) => user,
            None => {
                self.chosen.retain(|name, _| exists(name));
                let message = "every user of the configured range belongs to a module";
                self.free().ok_or_else(|| io::Error::other(message))?
            }
        };
        self.chosen.insert(module.to_owned(), user);
        record::write(&self.file, &self.chosen)?;
        Ok(user)
    }

    fn free(&self) -> Option<u32> {
        let mut used: Vec<u32> = self.chosen.values().copied().collect();
        used.sort_unstable();
        self.range.clone().find(|user| used.binary_search(user).is_err())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_kept_and_a_given_up_user_is_the_last_resort() {
        let folder = tempfile::tempdir().unwrap();
        let load = || Users::load(folder.path().join("users.json"), 100..=101).unwrap();
        let mut users = load();
        assert_eq!(users.of("a", |_| true).unwrap(), 100);
        assert_eq!(users.of("b", |_| true).unwrap(), 101);
        let mut users = load();
        assert_eq!(users.of("b", |_| true).unwrap(), 101);
        assert!(users.of("c", |_| true).is_err());
        assert_eq!(users.of("c", |name| name != "a").unwrap(), 100);
        assert_eq!(users.of("b", |_| true).unwrap(), 101);
    }
}
