//! The table of a program's settings: the one source of its environment names, its sample file and its manual.

use std::collections::BTreeSet;
use std::fmt::Write;

use serde::Serialize;

/// One setting. A program's table holds each key of its configuration struct once.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// The key with its tables, as in the file: `mqtt.listen`.
    pub key: &'static str,
    /// How text from the environment becomes a value.
    pub kind: Kind,
    /// The default as it would stand in the file; empty where there is none.
    pub default: &'static str,
    /// Whether a running program takes a change without a restart.
    pub reloadable: bool,
    /// What it does, with units and range; full sentences.
    pub about: &'static str,
}

/// What a setting is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any text; names of choices, paths and durations with their unit too.
    Text,
    /// A whole number.
    Number,
    /// `true` or `false`.
    Flag,
    /// Texts; separated by commas in the environment.
    List,
}

impl Field {
    /// The environment variable that overrides the file: `mqtt.listen` becomes `SKERRY_MQTT_LISTEN`.
    pub fn environment_name(&self) -> String {
        let upper = self.key.chars().map(|c| if c == '.' || c == '-' { '_' } else { c.to_ascii_uppercase() });
        ["SKERRY_".to_owned(), upper.collect()].concat()
    }
}

/// A sample file: each setting with its explanation, its default commented in, the rest commented out.
pub fn sample(fields: &[Field]) -> String {
    let mut text = String::new();
    let mut table = "";
    // Keys without a table must come before the first table header.
    let (top, nested): (Vec<&Field>, Vec<&Field>) = fields.iter().partition(|field| !field.key.contains('.'));
    for field in top.into_iter().chain(nested) {
        let (of, key) = field.key.rsplit_once('.').unwrap_or(("", field.key));
        if of != table {
            let _ = writeln!(text, "[{of}]");
            table = of;
        }
        for line in field.about.lines() {
            let _ = writeln!(text, "# {line}");
        }
        let reload = if field.reloadable { "; taken without a restart" } else { "" };
        let _ = writeln!(text, "# Environment: {}{reload}", field.environment_name());
        let _ = match field.default {
            "" => writeln!(text, "# {key} =\n"),
            default => writeln!(text, "{key} = {default}\n"),
        };
    }
    text
}

/// Keys that only the table or only the struct has. A program's own test expects this to be empty.
pub fn disagreements<C: Serialize + Default>(fields: &[Field]) -> Vec<String> {
    let mut actual = BTreeSet::new();
    if let Ok(value) = serde_json::to_value(C::default()) {
        collect("", &value, &mut actual);
    }
    let listed: BTreeSet<String> = fields.iter().map(|field| field.key.to_owned()).collect();
    let only = |from: &BTreeSet<String>, other: &BTreeSet<String>, place: &str| -> Vec<String> {
        from.difference(other).map(|key| format!("`{key}` is only in the {place}")).collect()
    };
    [only(&listed, &actual, "table"), only(&actual, &listed, "struct")].concat()
}

fn collect(prefix: &str, value: &serde_json::Value, into: &mut BTreeSet<String>) {
    let serde_json::Value::Object(members) = value else {
        into.insert(prefix.to_owned());
        return;
    };
    for (name, member) in members {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        collect(&key, member, into);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: &[Field] = &[
        Field {
            key: "mqtt.listen",
            kind: Kind::List,
            default: "[\"127.0.0.1:8883\"]",
            reloadable: false,
            about: "Where.",
        },
        Field { key: "name", kind: Kind::Text, default: "", reloadable: true, about: "Who." },
    ];

    #[test]
    fn the_sample_is_a_file_that_parses() {
        let text = sample(FIELDS);
        assert_eq!(
            text,
            "# Who.\n# Environment: SKERRY_NAME; taken without a restart\n# name =\n\n\
             [mqtt]\n# Where.\n# Environment: SKERRY_MQTT_LISTEN\nlisten = [\"127.0.0.1:8883\"]\n\n"
        );
        let table: toml::Table = toml::from_str(&text).unwrap();
        assert!(table["mqtt"]["listen"].is_array());
    }

    #[derive(Serialize, Default)]
    struct Config {
        name: Option<String>,
        mqtt: Mqtt,
    }

    #[derive(Serialize, Default)]
    struct Mqtt {
        listen: Vec<String>,
        port: u16,
    }

    #[test]
    fn table_and_struct_are_compared_key_by_key() {
        assert_eq!(disagreements::<Config>(FIELDS), ["`mqtt.port` is only in the struct"]);
    }
}
