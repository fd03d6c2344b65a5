//! Claims against reports: what is missing, failed, unclaimed or stale is found and named.

use super::claims::Claims;
use super::report::{Report, Verdict};
use super::{findings, page, same};

const CLAIMS: &str = r#"
every_test_of = ["sdk-tests"]

[[client]]
name = "client"
what = "devices"
pinned_in = ["one.txt", "other.txt"]

[[place]]
key = "hub"
title = "at the hub"

[[place]]
key = "edge"
title = "at the edge"

[[place]]
key = "leaf"
title = "below the edge"

[[operation]]
what = "Telemetry"
none = ["leaf"]
tests.hub = ["sdk-tests::it hub::telemetry", "sdk-tests::it hub::more"]

[[section]]
title = "Routes"
about = "All of them."
[[section.claim]]
what = "Routes are read"
tests = ["query tests::routes"]

[[missing]]
what = "Queries"
answer = "501"
tests = ["api::it queries"]

[[missing]]
what = "Jobs"
answer = "501"
"#;

/// As nextest writes it; `more` is put behind the tests of `sdk-tests`.
fn report_with(more: &str) -> Report {
    let text = format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="nextest-run" tests="5" failures="0" errors="0" uuid="1" timestamp="2026-01-01T00:00:00Z" time="1.0">
    <testsuite name="sdk-tests::it" tests="2" disabled="0" errors="0" failures="0">
        <testcase name="hub::telemetry" classname="sdk-tests::it" timestamp="2026-01-01T00:00:00Z" time="0.1"/>
        <testcase name="hub::more" classname="sdk-tests::it" timestamp="2026-01-01T00:00:00Z" time="0.1">
            <system-out>&lt;failure&gt; is only what it printed</system-out>
        </testcase>
        {more}
    </testsuite>
    <testsuite name="query"><testcase name="tests::routes"/><testcase name="tests::unclaimed"/></testsuite>
    <testsuite name="api::it"><testcase name="queries"/></testsuite>
</testsuites>"#
    );
    Report::parse(&text).unwrap()
}

fn claims() -> Claims {
    Claims::parse(CLAIMS).unwrap()
}

fn refused(text: &str) -> String {
    Claims::parse(text).err().unwrap()
}

#[test]
fn what_was_shown_may_be_claimed() {
    assert_eq!(findings(&claims(), &report_with("")), Vec::<String>::new());
}

#[test]
fn a_test_that_did_not_run_is_named_with_its_claim() {
    let more = r#""sdk-tests::it hub::telemetry", "sdk-tests::it hub::gone""#;
    let claims = CLAIMS.replace(r#""sdk-tests::it hub::telemetry""#, more);
    let found = findings(&Claims::parse(&claims).unwrap(), &report_with(""));
    assert_eq!(found, ["Telemetry (hub): `sdk-tests::it hub::gone` was not part of the last run"]);
    let found = findings(&self::claims(), &Report::parse("<testsuites/>").unwrap());
    assert_eq!(found.len(), 4, "{found:?}");
    assert_eq!(found[3], "Queries: `api::it queries` was not part of the last run");
}

#[test]
fn a_test_that_failed_is_named_with_its_claim() {
    let failed = r#"<testcase name="hub::telemetry"><failure type="test failure">why</failure></testcase>"#;
    let found = findings(&claims(), &report_with(failed));
    assert_eq!(found, ["Telemetry (hub): `sdk-tests::it hub::telemetry` failed in the last run"]);
    // What could not even be started, and what was left out.
    for (element, verdict) in
        [("error", Verdict::Failed), ("skipped", Verdict::Skipped), ("flakyFailure", Verdict::Passed)]
    {
        let report = report_with(&format!(r#"<testcase name="x"><{element}/></testcase>"#));
        assert_eq!(report.verdict("sdk-tests::it x"), verdict);
    }
}

#[test]
fn a_test_that_nothing_claims_is_named_where_each_has_to_be() {
    let found = findings(&claims(), &report_with(r#"<testcase name="hub::new"/>"#));
    assert_eq!(found, ["`sdk-tests::it hub::new` is claimed by nothing in tests/compatibility.toml"]);
}

#[test]
fn a_stale_page_is_found_and_the_command_named() {
    let render = |claims: &str| page::render(&Claims::parse(claims).unwrap(), &["1.0".to_owned()]);
    let committed = render(CLAIMS);
    assert_eq!(same(&render(CLAIMS), &committed), Ok(()));
    let stale = same(&render(&CLAIMS.replace("Routes are read", "Routes are understood")), &committed).unwrap_err();
    assert!(stale.ends_with("run `cargo xtask compatibility`"), "{stale}");
    let line = 1 + committed.lines().position(|line| line == "* Routes are read").unwrap();
    assert!(stale.contains(&format!("from line {line}")), "{stale}");
    assert!(same(&committed, "").is_err());
}

#[test]
fn the_page_says_what_was_shown_and_no_more() {
    let page = page::render(&claims(), &["1.0".to_owned()]);
    let has = |line: &str| assert!(page.lines().any(|of_page| of_page == line), "{line} is not in\n{page}");
    has("| `client` | 1.0 | devices |");
    has("| operation | at the hub | at the edge | below the edge |");
    has("| Telemetry | yes | not tested | – |");
    has("* Routes are read");
    has("| Queries | 501 | yes |");
    has("| Jobs | 501 | not tested |");
}

#[test]
fn versions_are_those_of_the_lists() {
    let read = |other: &'static str| {
        move |path: &str| {
            Ok(match path {
                "one.txt" => "# client==0.9\nclient==1.0\nsix==1.17.0\n",
                _ => other,
            }
            .to_owned())
        }
    };
    assert_eq!(claims().versions(read("client==1.0")), Ok(vec!["1.0".to_owned()]));
    assert_eq!(claims().versions(read("client==2.0")), Ok(vec!["1.0, 2.0".to_owned()]));
    assert_eq!(claims().versions(read("clients==1.0")), Err("other.txt does not pin client".to_owned()));
}

#[test]
fn a_claim_is_whole_or_refused() {
    let unknown = refused(&CLAIMS.replace("tests.hub", "tests.moon"));
    assert_eq!(unknown, "Telemetry: there is no place `moon`");
    assert_eq!(refused(&CLAIMS.replace(r#"none = ["leaf"]"#, r#"none = ["moon"]"#)), unknown);
    let both = refused(&CLAIMS.replace(r#"none = ["leaf"]"#, r#"none = ["hub"]"#));
    assert_eq!(both, "Telemetry: `hub` has tests and no such operation");
    let empty = refused(&CLAIMS.replace(r#"["query tests::routes"]"#, "[]"));
    assert_eq!(empty, "Routes are read: names no test");
    assert!(refused(&CLAIMS.replace("answer", "answers")).contains("answers"));
}

#[test]
fn what_is_no_report_is_refused() {
    assert!(Report::parse("").is_err_and(|reason| reason.starts_with("is no XML")));
    assert!(Report::parse("<testsuites><testsuite name=\"a\"><testcase/></testsuite></testsuites>").is_err());
}
