//! The compatibility page: what unmodified clients do with Skerry, said only where tests of the last run have shown it.

mod claims;
mod page;
mod report;
#[cfg(test)]
mod tests;

use std::fs;

use crate::run::Outcome;
use crate::workspace::Workspace;
use claims::Claims;
use report::Report;

/// What is claimed, and by which tests it is shown.
const CLAIMS: &str = "tests/compatibility.toml";
/// What is made of it.
const PAGE: &str = "docs/reference/compatibility.md";

/// Writes the page, if the last test run shows everything it says.
pub(crate) fn run(workspace: &Workspace) -> Outcome {
    let page = proven_page(workspace)?;
    fs::write(workspace.root.join(PAGE), page).map_err(|cause| format!("cannot write {PAGE}: {cause}"))?;
    println!("written: {PAGE}");
    Ok(())
}

/// Fails unless the last test run shows everything that is claimed and the page says exactly that.
pub(crate) fn check(workspace: &Workspace) -> Outcome {
    let page = proven_page(workspace)?;
    let committed = fs::read_to_string(workspace.root.join(PAGE)).unwrap_or_default();
    same(&page, &committed)?;
    println!("{PAGE}: as the tests have shown");
    Ok(())
}

/// Removes the report of an earlier test run, so that a run that ends early is not judged by it.
pub(crate) fn forget_last_run(workspace: &Workspace) -> Outcome {
    Report::remove(&workspace.root)
}

fn proven_page(workspace: &Workspace) -> Outcome<String> {
    let read = |path: &str| {
        fs::read_to_string(workspace.root.join(path)).map_err(|cause| format!("cannot read {path}: {cause}"))
    };
    let claims = Claims::parse(&read(CLAIMS)?).map_err(|reason| format!("{CLAIMS}: {reason}"))?;
    let versions = claims.versions(read)?;
    let report = Report::newest(&workspace.root)?;
    let findings = findings(&claims, &report);
    if findings.is_empty() {
        return Ok(page::render(&claims, &versions));
    }
    for finding in &findings {
        eprintln!("{finding}");
    }
    let findings = match findings.as_slice() {
        [only] => format!("one finding: {only}"),
        more => format!("{} findings, the first: {}", more.len(), more[0]),
    };
    Err(format!("compared with the {} tests of the last run, {CLAIMS} has {findings}", report.len()))
}

/// What is claimed without having been shown, and what was shown without being claimed.
fn findings(claims: &Claims, report: &Report) -> Vec<String> {
    let mut findings = Vec::new();
    for (claim, tests) in claims.all() {
        for test in tests {
            if let Some(verdict) = report.verdict(test).unless_passed() {
                findings.push(format!("{claim}: `{test}` {verdict}"));
            }
        }
    }
    for test in report.tests_of(&claims.every_test_of) {
        if !claims.all().any(|(_, tests)| tests.iter().any(|claimed| claimed == test)) {
            findings.push(format!("`{test}` is claimed by nothing in {CLAIMS}"));
        }
    }
    findings
}

/// Fails when the committed page is another one.
fn same(page: &str, committed: &str) -> Outcome {
    if page == committed {
        return Ok(());
    }
    let line = page.lines().zip(committed.lines()).take_while(|(new, old)| new == old).count() + 1;
    Err(format!("{PAGE} is not what {CLAIMS} says (from line {line}): run `cargo xtask compatibility`"))
}
