//! R2: each pure layer folder carries a clippy.toml that forbids clocks, tasks, files, sockets and the environment.
//! The nearest clippy.toml wins and files do not merge, so each one must repeat the shared part.

use std::collections::BTreeSet;

use crate::tidy::Finding;
use crate::tidy::layers::Layers;

/// What a pure layer's file must disallow at least.
const FORBIDDEN: [&str; 14] = [
    "std::time::Instant::now",
    "std::time::SystemTime::now",
    "std::thread::spawn",
    "std::thread::sleep",
    "std::env::var",
    "std::fs::read",
    "std::fs::write",
    "std::fs::File::open",
    "std::process::Command::new",
    "std::net::TcpStream::connect",
    "std::collections::HashMap::iter",
    "std::collections::HashMap::keys",
    "std::collections::HashMap::values",
    "std::collections::HashSet::iter",
];

/// `read` hands back a file of the repository, or nothing where there is none.
pub(crate) fn check(layers: &Layers, shared: &str, read: impl Fn(&str) -> Option<String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let shared = match toml::from_str::<toml::Table>(shared) {
        Ok(shared) => shared,
        Err(cause) => return vec![Finding::new("clippy.toml", format!("is no TOML: {cause}"))],
    };
    for (name, layer) in &layers.layer {
        let place = format!("{}/clippy.toml", layer.folder);
        let Some(text) = read(&place) else {
            if layer.pure {
                findings.push(Finding::new(place, format!("R2: layer `{name}` is pure and needs this file")));
            }
            continue;
        };
        let table = match toml::from_str::<toml::Table>(&text) {
            Ok(table) => table,
            Err(cause) => {
                findings.push(Finding::new(place, format!("is no TOML: {cause}")));
                continue;
            }
        };
        for (key, value) in &shared {
            if table.get(key) != Some(value) {
                findings
                    .push(Finding::new(&place, format!("R2: does not repeat `{key} = {value}` of the root's file")));
            }
        }
        if layer.pure {
            let disallowed = disallowed(&table);
            for path in FORBIDDEN.iter().filter(|path| !disallowed.contains(**path)) {
                findings.push(Finding::new(&place, format!("R2: does not disallow `{path}`")));
            }
        }
    }
    findings
}

fn disallowed(table: &toml::Table) -> BTreeSet<&str> {
    let entries = table.get("disallowed-methods").and_then(toml::Value::as_array);
    entries
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.as_str().or_else(|| entry.get("path").and_then(toml::Value::as_str)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(shared: &str, file: Option<&str>) -> Vec<String> {
        let layers = Layers::parse("[layer.core]\nfolder = \"crates/core\"\nmay_use = []\npure = true\n").unwrap();
        let found = check(&layers, shared, |_| file.map(str::to_owned));
        found.into_iter().map(|finding| finding.what).collect()
    }

    fn complete() -> String {
        let paths: Vec<String> = FORBIDDEN.iter().map(|path| format!("{{ path = \"{path}\" }}")).collect();
        format!("disallowed-methods = [{}]\n", paths.join(", "))
    }

    #[test]
    fn a_pure_layer_needs_its_file() {
        assert_eq!(findings("", None), ["R2: layer `core` is pure and needs this file"]);
    }

    #[test]
    fn the_shared_part_is_repeated() {
        assert!(findings("a = true", Some(&format!("a = true\n{}", complete()))).is_empty());
        assert_eq!(findings("a = true", Some(&complete())), ["R2: does not repeat `a = true` of the root's file"]);
    }

    #[test]
    fn a_missing_ban_is_named() {
        let file = complete().replace("std::env::var\"", "std::env::nothing\"");
        assert_eq!(findings("", Some(&file)), ["R2: does not disallow `std::env::var`"]);
    }
}
