//! What is claimed (tests/compatibility.toml): who does what at which place, and the tests that show it.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::run::Outcome;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Claims {
    /// Packages whose tests exist for this page: each of them has to be claimed.
    pub(crate) every_test_of: Vec<String>,
    pub(crate) client: Vec<Client>,
    pub(crate) place: Vec<Place>,
    pub(crate) operation: Vec<Operation>,
    pub(crate) section: Vec<Section>,
    pub(crate) missing: Vec<Missing>,
}

/// Software that is not ours.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Client {
    /// As its registry has it.
    pub(crate) name: String,
    pub(crate) what: String,
    /// Lists of requirements that give its version.
    pinned_in: Vec<String>,
}

/// A column of the table of operations.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Place {
    pub(crate) key: String,
    pub(crate) title: String,
}

/// A row of the table of operations.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Operation {
    pub(crate) what: String,
    /// Places where the platform has no such operation.
    #[serde(default)]
    pub(crate) none: Vec<String>,
    /// By place, the tests that show it there.
    pub(crate) tests: BTreeMap<String, Vec<String>>,
}

/// Claims that are the same wherever a client is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Section {
    pub(crate) title: String,
    pub(crate) about: Option<String>,
    pub(crate) claim: Vec<Claim>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Claim {
    pub(crate) what: String,
    tests: Vec<String>,
}

/// Something of the platform that is not there yet.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Missing {
    pub(crate) what: String,
    /// What happens to who tries.
    pub(crate) answer: String,
    /// None where nothing shows the answer.
    #[serde(default)]
    pub(crate) tests: Vec<String>,
}

impl Claims {
    pub(crate) fn parse(text: &str) -> Outcome<Claims> {
        let claims: Claims = toml::from_str(text).map_err(|cause| cause.to_string())?;
        for operation in &claims.operation {
            let known = |key: &&String| claims.place.iter().any(|place| place.key == **key);
            if let Some(unknown) = operation.tests.keys().chain(&operation.none).find(|key| !known(key)) {
                return Err(format!("{}: there is no place `{unknown}`", operation.what));
            }
            if let Some(both) = operation.none.iter().find(|key| operation.tests.contains_key(*key)) {
                return Err(format!("{}: `{both}` has tests and no such operation", operation.what));
            }
        }
        let empty = claims.promises().find(|(_, tests)| tests.is_empty());
        match empty.map(|(what, _)| what) {
            Some(what) => Err(format!("{what}: names no test")),
            None => Ok(claims),
        }
    }

    /// Every claim by name, with its tests.
    pub(crate) fn all(&self) -> impl Iterator<Item = (String, &[String])> {
        let missing = self.missing.iter().map(|missing| (missing.what.clone(), missing.tests.as_slice()));
        self.promises().chain(missing)
    }

    /// What is said to work: never without a test.
    fn promises(&self) -> impl Iterator<Item = (String, &[String])> {
        let operations = self.operation.iter().flat_map(|operation| {
            let tests = operation.tests.iter();
            tests.map(|(place, tests)| (format!("{} ({place})", operation.what), tests.as_slice()))
        });
        let claims = self.section.iter().flat_map(|section| &section.claim);
        let claims = claims.map(|claim| (claim.what.clone(), claim.tests.as_slice()));
        operations.chain(claims)
    }

    /// The version of each client; more than one where lists differ. `read` reads a file of the repository.
    pub(crate) fn versions(&self, read: impl Fn(&str) -> Outcome<String>) -> Outcome<Vec<String>> {
        let version = |client: &Client| {
            let mut versions = Vec::new();
            for list in &client.pinned_in {
                let text = read(list)?;
                let mut pins = text.lines().filter_map(|line| line.split_once("=="));
                let pin = pins.find(|(name, _)| name.trim() == client.name);
                let (_, version) = pin.ok_or_else(|| format!("{list} does not pin {}", client.name))?;
                versions.push(version.trim().to_owned());
            }
            versions.sort();
            versions.dedup();
            Ok(versions.join(", "))
        };
        self.client.iter().map(version).collect()
    }
}
