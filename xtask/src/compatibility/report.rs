//! The report of the last test run, as nextest leaves it (JUnit XML).

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use roxmltree::{Document, Node};

use crate::run::Outcome;

/// Relative to the repository wherever CARGO_TARGET_DIR is; its last part stands in .config/nextest.toml.
const REPORT: &str = "target/nextest/default/junit.xml";

/// How the tests of one run ended, under the names nextest prints: `package::binary test`.
pub(crate) struct Report {
    tests: BTreeMap<String, Verdict>,
}

/// How a test ended. The order counts: of two runs of one test the worse one is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    Passed,
    Skipped,
    Failed,
    NotThere,
}

impl Report {
    /// Reads the report and says how old it is.
    pub(crate) fn newest(root: &Path) -> Outcome<Report> {
        let path = place(root);
        let text = fs::read_to_string(&path).map_err(|cause| match cause.kind() {
            io::ErrorKind::NotFound => {
                format!(
                    "there is no report of a test run at {}: run the tests first (`cargo xtask test`)",
                    path.display()
                )
            }
            _ => format!("cannot read {}: {cause}", path.display()),
        })?;
        let report = Report::parse(&text).map_err(|reason| format!("{}: {reason}", path.display()))?;
        let written = fs::metadata(&path).and_then(|metadata| metadata.modified());
        let age = written.ok().and_then(|written| SystemTime::now().duration_since(written).ok()).unwrap_or_default();
        println!("{} tests in the report of {} minutes ago: {}", report.len(), age.as_secs() / 60, path.display());
        Ok(report)
    }

    pub(crate) fn remove(root: &Path) -> Outcome {
        let path = place(root);
        match fs::remove_file(&path) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                Err(format!("cannot remove {}: {cause}", path.display()))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn parse(text: &str) -> Outcome<Report> {
        let document = Document::parse(text).map_err(|cause| format!("is no XML: {cause}"))?;
        let mut tests = BTreeMap::new();
        for case in document.descendants().filter(|node| node.has_tag_name("testcase")) {
            let suite = case.parent().and_then(|suite| suite.attribute("name"));
            let (Some(suite), Some(name)) = (suite, case.attribute("name")) else {
                return Err("has a test without a name".to_owned());
            };
            let verdict = Verdict::of(case);
            let worst = tests.entry(format!("{suite} {name}")).or_insert(verdict);
            *worst = verdict.max(*worst);
        }
        Ok(Report { tests })
    }

    pub(crate) fn len(&self) -> usize {
        self.tests.len()
    }

    pub(crate) fn verdict(&self, test: &str) -> Verdict {
        self.tests.get(test).copied().unwrap_or(Verdict::NotThere)
    }

    /// The tests of these packages.
    pub(crate) fn tests_of<'a>(&'a self, packages: &'a [String]) -> impl Iterator<Item = &'a str> {
        let package = |test: &'a str| test.split([' ', ':']).next().unwrap_or(test);
        self.tests.keys().map(String::as_str).filter(move |test| packages.iter().any(|name| name == package(test)))
    }
}

impl Verdict {
    fn of(case: Node<'_, '_>) -> Verdict {
        let has = |name: &str| case.children().any(|child| child.has_tag_name(name));
        match () {
            () if has("failure") || has("error") => Verdict::Failed,
            () if has("skipped") => Verdict::Skipped,
            () => Verdict::Passed,
        }
    }

    /// What is wrong with a claim that counts on such a test.
    pub(crate) fn unless_passed(self) -> Option<&'static str> {
        match self {
            Verdict::Passed => None,
            Verdict::Skipped => Some("was skipped in the last run"),
            Verdict::Failed => Some("failed in the last run"),
            Verdict::NotThere => Some("was not part of the last run"),
        }
    }
}

fn place(root: &Path) -> PathBuf {
    root.join(REPORT)
}
