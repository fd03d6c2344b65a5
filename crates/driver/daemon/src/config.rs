//! Reading a program's settings: the file first, then `SKERRY_*` from the environment.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::fields::{Field, Kind};

/// Settings, and what the environment offered that is no setting.
#[derive(Debug)]
pub struct Loaded<C> {
    /// The program's settings.
    pub config: C,
    /// Names that begin with `SKERRY_` and mean nothing here; worth a line in the log once there is one.
    pub ignored_environment: Vec<String>,
}

/// Why settings were refused; says where.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not there or cannot be read.
    #[error("cannot read the configuration file {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// The file is no TOML, has an unknown key, or a value of the wrong kind.
    #[error("{}:{line}:{column}: {what}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// Counted from 1, in characters.
        column: usize,
        /// What is wrong there.
        what: String,
    },
    /// A variable's text is not of its setting's kind.
    #[error("environment variable {name}: {what}")]
    Environment {
        /// The variable.
        name: String,
        /// What is wrong with it.
        what: String,
    },
    /// The settings do not fit together; no single place is to blame.
    #[error("configuration: {0}")]
    Whole(String),
}

/// Loads the settings of a program. No file means defaults; a file that was named must exist.
///
/// `C` should say `#[serde(deny_unknown_fields)]` on each of its structs, so that a misspelt key is an error with its line.
pub fn load<C: DeserializeOwned>(
    file: Option<&Path>,
    fields: &[Field],
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Loaded<C>, ConfigError> {
    let mut table = toml::Table::new();
    if let Some(path) = file {
        let text =
            std::fs::read_to_string(path).map_err(|cause| ConfigError::Unreadable { path: path.to_owned(), cause })?;
        let located = |error: toml::de::Error| at(path, &text, &error);
        table = toml::from_str(&text).map_err(located)?;
        // Once from the text alone: only then does an error know its line.
        toml::from_str::<C>(&text).map_err(located)?;
    }
    let mut ignored_environment = Vec::new();
    for (name, text) in environment.into_iter().filter(|(name, _)| name.starts_with("SKERRY_")) {
        match fields.iter().find(|field| field.environment_name() == name) {
            Some(field) => {
                let refused = |what| ConfigError::Environment { name: name.clone(), what };
                let value = value(field.kind, &text).map_err(refused)?;
                put(&mut table, field.key, value).map_err(refused)?;
                // At once, so that the error names the variable.
                table.clone().try_into::<C>().map_err(|error| refused(error.message().to_owned()))?;
            }
            None => ignored_environment.push(name),
        }
    }
    let config = table.try_into().map_err(|error: toml::de::Error| ConfigError::Whole(error.message().to_owned()))?;
    ignored_environment.sort();
    Ok(Loaded { config, ignored_environment })
}

fn at(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let Some(span) = error.span() else {
        return ConfigError::Whole(format!("{}: {}", path.display(), error.message()));
    };
    let before = text.get(..span.start).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    ConfigError::File { path: path.to_owned(), line, column, what: error.message().to_owned() }
}

fn value(kind: Kind, text: &str) -> Result<toml::Value, String> {
    Ok(match kind {
        Kind::Text => toml::Value::String(text.to_owned()),
        Kind::Number => toml::Value::Integer(text.trim().parse().map_err(|_| format!("`{text}` is no whole number"))?),
        Kind::Flag => toml::Value::Boolean(text.trim().parse().map_err(|_| format!("`{text}` is not true or false"))?),
        Kind::List => {
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            toml::Value::Array(parts.map(|part| toml::Value::String(part.to_owned())).collect())
        }
    })
}

fn put(table: &mut toml::Table, key: &str, value: toml::Value) -> Result<(), String> {
    match key.split_once('.') {
        None => {
            table.insert(key.to_owned(), value);
            Ok(())
        }
        Some((first, rest)) => {
            let inner = table.entry(first).or_insert_with(|| toml::Value::Table(toml::Table::new()));
            let inner = inner.as_table_mut().ok_or_else(|| format!("`{first}` is no table in the file"))?;
            put(inner, rest, value)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Config {
        name: String,
        mqtt: Mqtt,
    }

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Mqtt {
        listen: Vec<String>,
        clients_max: u32,
        plaintext: bool,
    }

    const FIELDS: &[Field] = &[
        field("name", Kind::Text),
        field("mqtt.listen", Kind::List),
        field("mqtt.clients_max", Kind::Number),
        field("mqtt.plaintext", Kind::Flag),
    ];

    const fn field(key: &'static str, kind: Kind) -> Field {
        Field { key, kind, default: "", reloadable: false, about: "" }
    }

    fn check(file: &str, environment: &[(&str, &str)]) -> Result<Loaded<Config>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hub.toml");
        std::fs::write(&path, file).unwrap();
        let environment = environment.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        load(Some(&path), FIELDS, environment)
            .map_err(|refused| refused.to_string().replace(&path.display().to_string(), "hub.toml"))
    }

    #[test]
    fn the_environment_wins_over_the_file() {
        let environment =
            [("SKERRY_MQTT_CLIENTS_MAX", "7"), ("SKERRY_MQTT_LISTEN", "a:1, b:2"), ("SKERRY_MQTT_PLAINTEXT", "true")];
        let loaded = check("name = \"n\"\n[mqtt]\nclients_max = 5\n", &environment).unwrap();
        let listen = vec!["a:1".to_owned(), "b:2".to_owned()];
        let mqtt = Mqtt { listen, clients_max: 7, plaintext: true };
        assert_eq!(loaded.config, Config { name: "n".to_owned(), mqtt });
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let refused = check("name = \"n\"\n\n[mqtt]\n  listn = []\n", &[]).unwrap_err();
        assert!(refused.starts_with("hub.toml:4:3: unknown field `listn`, expected one of `listen`"), "{refused}");
    }

    #[test]
    fn a_wrong_kind_is_named_with_its_line() {
        let refused = check("[mqtt]\nclients_max = \"many\"\n", &[]).unwrap_err();
        assert!(refused.starts_with("hub.toml:2:15: invalid type: string \"many\""), "{refused}");
    }

    #[test]
    fn broken_toml_is_named_with_its_line() {
        let refused = check("name = \"n\"\nmqtt = [\n", &[]).unwrap_err();
        assert!(refused.starts_with("hub.toml:"), "{refused}");
    }

    #[test]
    fn a_variable_of_the_wrong_kind_is_named() {
        let refused = check("", &[("SKERRY_MQTT_CLIENTS_MAX", "many")]).unwrap_err();
        assert_eq!(refused, "environment variable SKERRY_MQTT_CLIENTS_MAX: `many` is no whole number");
        let refused = check("", &[("SKERRY_MQTT_CLIENTS_MAX", "-1")]).unwrap_err();
        assert!(refused.starts_with("environment variable SKERRY_MQTT_CLIENTS_MAX: invalid value"), "{refused}");
    }

    #[test]
    fn unknown_variables_are_handed_back() {
        let loaded = check("", &[("SKERRY_NAMES", "x"), ("PATH", "/bin")]).unwrap();
        assert_eq!(loaded.ignored_environment, ["SKERRY_NAMES"]);
    }

    #[test]
    fn no_file_means_defaults_and_a_named_file_must_exist() {
        assert_eq!(load::<Config>(None, FIELDS, []).unwrap().config, Config::default());
        let missing = load::<Config>(Some(Path::new("/nowhere/hub.toml")), FIELDS, []).unwrap_err();
        assert_eq!(missing.to_string(), "cannot read the configuration file /nowhere/hub.toml");
    }
}
