//! `layers.toml` as values.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::run::Outcome;
use crate::workspace::Package;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Layers {
    pub(crate) layer: BTreeMap<String, Layer>,
    #[serde(default)]
    pub(crate) never: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    pub(crate) ports: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    pub(crate) unsafe_code: UnsafeCode,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Layer {
    pub(crate) folder: String,
    pub(crate) may_use: Vec<String>,
    pub(crate) outside: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) pure: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UnsafeCode {
    #[serde(default)]
    pub(crate) not_forbidden_in: Vec<String>,
}

impl Layers {
    pub(crate) fn parse(text: &str) -> Outcome<Layers> {
        let layers: Layers = toml::from_str(text).map_err(|cause| format!("layers.toml: {cause}"))?;
        for (name, layer) in &layers.layer {
            if let Some(unknown) = layer.may_use.iter().find(|used| !layers.layer.contains_key(*used)) {
                return Err(format!("layers.toml: layer `{name}` may use `{unknown}`, which is no layer"));
            }
        }
        Ok(layers)
    }

    /// Names of the packages in pure layers.
    pub(crate) fn pure<'p>(&self, packages: &'p [Package]) -> Vec<&'p str> {
        let pure = |package: &&Package| self.of(&package.folder).is_some_and(|(_, layer)| layer.pure);
        packages.iter().filter(pure).map(|package| package.name.as_str()).collect()
    }

    /// The layer a folder lies in, by the longest match of whole path segments.
    pub(crate) fn of(&self, folder: &str) -> Option<(&str, &Layer)> {
        let inside = |layer: &&Layer| {
            folder.strip_prefix(layer.folder.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.layer
            .iter()
            .filter(|(_, layer)| inside(layer))
            .max_by_key(|(_, layer)| layer.folder.len())
            .map(|(name, layer)| (name.as_str(), layer))
    }
}
