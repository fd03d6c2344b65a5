//! R4, R6 and R7 on the files themselves: unsafe code, suites of ports, first lines, names and words.

use crate::tidy::Finding;
use crate::tidy::layers::Layers;
use crate::workspace::Package;

/// Words that mark something unfinished. In two parts, so that this file does not hold them.
const UNFINISHED: [(&str, &str); 6] =
    [("TO", "DO"), ("FIX", "ME"), ("XX", "X:"), ("db", "g!("), ("to", "do!("), ("unimpl", "emented!(")];
/// A switched-off test looks like a passing one.
const SWITCHED_OFF: (&str, &str) = ("#[ig", "nore");
/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 10] =
    ["manager", "helper", "helpers", "util", "utils", "common", "info", "data", "ext", "proxy"];
/// Where no file is written by us by hand.
const GENERATED: [&str; 2] = ["schemas/", "fuzz/corpus/"];

/// Whether the words of a file are checked.
pub(crate) fn is_text(file: &str) -> bool {
    let written = [".rs", ".toml", ".py", ".sh", ".md", ".ts"].iter().any(|ending| file.ends_with(ending));
    written && !GENERATED.iter().any(|folder| file.starts_with(folder))
}

/// Checks one file by itself.
pub(crate) fn check(file: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let rust = file.ends_with(".rs");
    if rust && !text.starts_with("//! ") {
        findings
            .push(Finding::new(format!("{file}:1"), "R7: the first line does not say what the file is for (`//! …`)"));
    }
    let stem = file.rsplit('/').next().unwrap_or(file).trim_end_matches(".rs");
    if rust && EMPTY_NAMES.contains(&stem) {
        findings.push(Finding::new(file, format!("the name `{stem}` does not say what is inside")));
    }
    for (index, line) in text.lines().enumerate() {
        let place = || format!("{file}:{}", index + 1);
        for (start, end) in UNFINISHED {
            if holds(line, start, end) {
                findings.push(Finding::new(place(), format!("`{start}{end}` marks something unfinished")));
            }
        }
        if rust && holds(line, SWITCHED_OFF.0, SWITCHED_OFF.1) {
            findings.push(Finding::new(place(), "a switched-off test looks like a passing one"));
        }
    }
    findings
}

/// Whether `line` has the word `start` + `end`, not as a part of a longer word.
fn holds(line: &str, start: &str, end: &str) -> bool {
    let word = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    line.match_indices(start).any(|(at, _)| {
        let rest = &line[at + start.len()..];
        let before = at.checked_sub(1).map(|index| line.as_bytes()[index]);
        let closed = !end.ends_with(|last: char| last.is_alphanumeric());
        rest.starts_with(end) && !word(before) && (closed || !word(rest.as_bytes().get(end.len()).copied()))
    })
}

/// R6 on every library and program, and at most one integration-test binary for each package.
pub(crate) fn check_roots(layers: &Layers, packages: &[Package], texts: &[(&str, String)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in packages {
        let exempt = layers.unsafe_code.not_forbidden_in.contains(&package.name);
        let roots =
            package.targets.iter().filter(|target| ["lib", "bin", "proc-macro"].contains(&target.kind.as_str()));
        for root in roots {
            let text = texts.iter().find(|(file, _)| *file == root.source).map_or("", |(_, text)| text.as_str());
            let forbids = text.lines().any(|line| line.trim() == "#![forbid(unsafe_code)]");
            if !forbids && !exempt {
                findings.push(Finding::new(&root.source, "R6: does not say `#![forbid(unsafe_code)]`"));
            }
        }
        let suites = package.targets.iter().filter(|target| target.kind == "test").count();
        if suites > 1 {
            let place = format!("{}/tests", package.folder);
            findings.push(Finding::new(
                place,
                format!("{suites} integration-test binaries; one (`tests/it/`) links faster"),
            ));
        }
    }
    findings
}

/// R4: each package that implements a port runs the port's suite.
pub(crate) fn check_ports(layers: &Layers, packages: &[Package], texts: &[(&str, String)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (port, backends) in &layers.ports {
        for backend in backends {
            let Some(package) = packages.iter().find(|package| package.name == *backend) else {
                findings.push(Finding::new("layers.toml", format!("[ports] names `{backend}`, which is no package")));
                continue;
            };
            let inside = format!("{}/", package.folder);
            let runs = |(file, text): &(&str, String)| file.starts_with(&inside) && text.contains("conformance");
            let tests_depend = package
                .dependencies
                .iter()
                .any(|d| d.name == *port && d.features.iter().any(|feature| feature == "conformance"));
            if !tests_depend || !texts.iter().any(runs) {
                findings
                    .push(Finding::new(&package.folder, format!("R4: does not run the conformance suite of `{port}`")));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Target;

    fn whats(file: &str, text: &str) -> Vec<String> {
        check(file, text).into_iter().map(|finding| finding.to_string()).collect()
    }

    #[test]
    fn a_file_says_first_what_it_is_for() {
        assert!(whats("a/src/queue.rs", "//! What waits.\n").is_empty());
        assert_eq!(whats("a/src/queue.rs", "use std::io;\n").len(), 1);
        assert!(whats("a/Cargo.toml", "[package]\n").is_empty());
    }

    #[test]
    fn unfinished_words_are_found_as_words_only() {
        let word = ["TO", "DO"].concat();
        assert_eq!(
            whats("a.md", &format!("fine\n{word}: later\n")),
            [format!("a.md:2: `{word}` marks something unfinished")]
        );
        assert!(whats("a.md", &format!("{word}R and PHO{word}\n")).is_empty());
        assert_eq!(whats("a.rs", &["//! x\nto", "do!()\n"].concat()).len(), 1);
        assert_eq!(whats("a.rs", &["//! x\n    db", "g!(x);\n"].concat()).len(), 1);
    }

    #[test]
    fn a_switched_off_test_is_found() {
        assert_eq!(whats("a.rs", &["//! x\n#[ig", "nore = \"slow\"]\n"].concat()).len(), 1);
    }

    #[test]
    fn empty_names_are_found() {
        assert_eq!(
            whats("a/src/utils.rs", "//! x\n"),
            ["a/src/utils.rs: the name `utils` does not say what is inside"]
        );
        assert!(whats("a/src/database.rs", "//! x\n").is_empty());
    }

    #[test]
    fn a_root_forbids_unsafe_code_or_is_on_the_list() {
        let layers = Layers::parse("[layer]\n[unsafe_code]\nnot_forbidden_in = [\"b\"]\n").unwrap();
        let root = |name: &str| Package {
            name: name.to_owned(),
            folder: name.to_owned(),
            targets: vec![Target { kind: "lib".to_owned(), source: format!("{name}/src/lib.rs") }],
            ..Package::default()
        };
        let found = |name: &str, head: &str| {
            check_roots(&layers, &[root(name)], &[(&format!("{name}/src/lib.rs"), head.to_owned())]).len()
        };
        assert_eq!(found("a", "//! x\n#![forbid(unsafe_code)]\n"), 0);
        assert_eq!(found("a", "//! x\n#![deny(unsafe_code)]\n"), 1);
        assert_eq!(found("b", "//! x\n"), 0, "the workspace's lints deny it there");
    }
}
