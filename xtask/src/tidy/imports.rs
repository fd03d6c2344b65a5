//! R1 and R3: who may import whom, and which outside crates the inner layers may use.

use crate::tidy::Finding;
use crate::tidy::layers::{Layer, Layers};
use crate::workspace::{Dependency, Package};

pub(crate) fn check(layers: &Layers, packages: &[Package]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in packages {
        let place = format!("{}/Cargo.toml", package.folder);
        let Some((name, layer)) = layers.of(&package.folder) else {
            findings.push(Finding::new(place, "R1: this folder is in no layer of layers.toml"));
            continue;
        };
        for dependency in &package.dependencies {
            if let Some(what) = complaint(layers, packages, package, (name, layer), dependency) {
                findings.push(Finding::new(place.clone(), what));
            }
        }
    }
    findings
}

fn complaint(
    layers: &Layers,
    packages: &[Package],
    package: &Package,
    (name, layer): (&str, &Layer),
    dependency: &Dependency,
) -> Option<String> {
    let wanted = dependency.name.as_str();
    if !dependency.for_tests && layers.never.get(&package.name).is_some_and(|never| never.iter().any(|n| n == wanted)) {
        return Some(format!("R1: `{}` must not import `{wanted}` ([never] in layers.toml)", package.name));
    }
    if !dependency.ours {
        let allowed = layer.outside.as_ref().is_none_or(|outside| outside.iter().any(|name| name == wanted));
        return (!allowed && !dependency.for_tests)
            .then(|| format!("R3: layer `{name}` may not use the outside crate `{wanted}`"));
    }
    let folder = packages.iter().find(|other| other.name == wanted).map(|other| other.folder.as_str());
    let Some((target, _)) = folder.and_then(|folder| layers.of(folder)) else {
        return Some(format!("R1: `{wanted}` is in no layer of layers.toml"));
    };
    let allowed = layer.may_use.iter().any(|used| used == target) || (dependency.for_tests && target == "dev");
    (!allowed).then(|| format!("R1: layer `{name}` may not import layer `{target}` (`{wanted}`)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYERS: &str = r#"
        [layer.model]
        folder = "crates/model"
        may_use = []
        outside = ["bytes"]
        [layer.core]
        folder = "crates/core"
        may_use = ["model", "core"]
        [layer.driver]
        folder = "crates/driver"
        may_use = ["model", "driver"]
        [layer.dev]
        folder = "crates/dev"
        may_use = []
        [never]
        skerry-log = ["skerry-net"]
    "#;

    fn package(folder: &str, dependencies: &[&str]) -> Package {
        let dependency = |text: &&str| {
            let name = text.trim_start_matches("dev:");
            Dependency {
                name: name.to_owned(),
                for_tests: text.starts_with("dev:"),
                ours: name.starts_with("skerry-"),
                features: Vec::new(),
            }
        };
        Package {
            name: format!("skerry-{}", folder.rsplit('/').next().unwrap_or_default()),
            folder: folder.to_owned(),
            dependencies: dependencies.iter().map(dependency).collect(),
            ..Package::default()
        }
    }

    /// Findings about the last package; the others are only there to be imported.
    fn findings(last: Package) -> Vec<String> {
        let mut packages = vec![
            package("crates/model", &[]),
            package("crates/core/router", &[]),
            package("crates/driver/net", &[]),
            package("crates/dev/sim", &[]),
        ];
        packages.push(last);
        let layers = Layers::parse(LAYERS).unwrap();
        check(&layers, &packages).into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn a_column_reaches_the_model_and_itself() {
        assert!(findings(package("crates/core/query", &["skerry-model", "skerry-router", "anything"])).is_empty());
    }

    #[test]
    fn a_column_does_not_reach_another_column() {
        assert_eq!(
            findings(package("crates/core/query", &["skerry-net"])),
            ["R1: layer `core` may not import layer `driver` (`skerry-net`)"]
        );
    }

    #[test]
    fn tests_reach_the_dev_layer_and_programs_do_not() {
        assert!(findings(package("crates/core/query", &["dev:skerry-sim"])).is_empty());
        assert_eq!(findings(package("crates/core/query", &["skerry-sim"])).len(), 1);
        assert_eq!(findings(package("crates/core/query", &["dev:skerry-net"])).len(), 1, "tests keep to their column");
    }

    #[test]
    fn an_outside_crate_must_be_on_the_list_where_there_is_one() {
        assert_eq!(
            findings(package("crates/model/part", &["bytes", "tokio", "dev:proptest"])),
            ["R3: layer `model` may not use the outside crate `tokio`"]
        );
    }

    #[test]
    fn a_named_pair_is_refused_although_the_layers_allow_it() {
        assert_eq!(
            findings(package("crates/driver/log", &["skerry-net"])),
            ["R1: `skerry-log` must not import `skerry-net` ([never] in layers.toml)"]
        );
    }

    #[test]
    fn a_folder_outside_every_layer_is_named() {
        assert_eq!(findings(package("crates/modelling", &[])), ["R1: this folder is in no layer of layers.toml"]);
    }
}
