//! R5 and what every manifest carries: no features of our own, one feature set per outside crate, shared lints.

use crate::tidy::Finding;
use crate::workspace::Package;

/// The only feature a package of ours may have: it exports a port's test suite.
const CONFORMANCE: &str = "conformance";

pub(crate) fn check(package: &Package, place: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut say = |what: String| findings.push(Finding::new(place, what));
    let manifest: toml::Table = match toml::from_str(text) {
        Ok(manifest) => manifest,
        Err(cause) => return vec![Finding::new(place, format!("is no TOML: {cause}"))],
    };

    for feature in package.features.iter().filter(|feature| *feature != CONFORMANCE) {
        say(format!("R5: feature `{feature}`: the one feature a package of ours may have is `{CONFORMANCE}`"));
    }
    if package.description.is_empty() {
        say("has no description".to_owned());
    }
    let lints = manifest.get("lints").and_then(|lints| lints.get("workspace")).and_then(toml::Value::as_bool);
    if lints != Some(true) {
        say("does not take the workspace's lints ([lints] workspace = true)".to_owned());
    }
    let inherited = |key: &str| {
        let value = manifest.get("package").and_then(|package| package.get(key));
        value.and_then(|value| value.get("workspace")).and_then(toml::Value::as_bool) == Some(true)
    };
    for key in ["version", "edition", "rust-version", "license", "publish"] {
        if !inherited(key) {
            say(format!("does not take `{key}` from the workspace"));
        }
    }
    for table in ["dependencies", "dev-dependencies", "build-dependencies"] {
        let Some(dependencies) = manifest.get(table).and_then(toml::Value::as_table) else { continue };
        for (name, wanted) in dependencies {
            // A port package tests its own fake with its own suite.
            let itself = name == &package.name && wanted.get("path").and_then(toml::Value::as_str) == Some(".");
            if !itself && wanted.get("workspace").and_then(toml::Value::as_bool) != Some(true) {
                say(format!("`{name}` does not come from [workspace.dependencies]"));
            }
            let features = wanted.get("features").and_then(toml::Value::as_array).cloned().unwrap_or_default();
            if features.iter().any(|feature| feature.as_str() != Some(CONFORMANCE)) {
                say(format!("`{name}` adds features here; feature sets live in the root Cargo.toml alone"));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "[package]\nname = \"x\"\nversion.workspace = true\nedition.workspace = true\n\
        rust-version.workspace = true\nlicense.workspace = true\npublish.workspace = true\n[lints]\nworkspace = true\n";

    fn findings(features: &[&str], rest: &str) -> Vec<String> {
        let package = Package {
            description: "said".to_owned(),
            features: features.iter().map(|name| (*name).to_owned()).collect(),
            ..Package::default()
        };
        check(&package, "x/Cargo.toml", &format!("{HEAD}{rest}")).into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn an_ordinary_manifest_passes() {
        assert!(findings(&["conformance"], "[dependencies]\nbytes.workspace = true\n").is_empty());
        let suite = "[dev-dependencies]\nport = { workspace = true, features = [\"conformance\"] }\n";
        assert!(findings(&[], suite).is_empty());
    }

    #[test]
    fn features_versions_and_feature_sets_are_refused() {
        assert_eq!(findings(&["fast"], "").len(), 1);
        assert_eq!(findings(&[], "[dependencies]\nbytes = \"1\"\n").len(), 1);
        assert_eq!(findings(&[], "[dependencies]\nbytes = { workspace = true, features = [\"serde\"] }\n").len(), 1);
    }

    #[test]
    fn what_is_not_inherited_is_named() {
        let package = Package { description: "said".to_owned(), ..Package::default() };
        let found = check(&package, "x/Cargo.toml", "[package]\nname = \"x\"\nversion = \"1.0.0\"\n");
        assert_eq!(found.len(), 6, "{found:?}");
    }
}
