//! The decision: which value of a message is looked at, and whether it crosses a limit.

use serde_json::{Value, json};

/// What is looked at and when it passes. Nothing passes before a limit is set.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Limits {
    /// Names of members from the outside in, joined by dots; a number picks from a list: `cpu.percent`, `disks.0.usedPercent`.
    pub(crate) path: String,
    pub(crate) above: Option<f64>,
    pub(crate) below: Option<f64>,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { path: "machine.temperature".to_owned(), above: None, below: None }
    }
}

/// Why a message passes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Crossing {
    pub(crate) value: f64,
    pub(crate) limit: f64,
    pub(crate) side: &'static str,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Verdict {
    Passes(Crossing),
    Within,
    /// The body is no JSON, or there is no number at the path.
    NotFound,
}

impl Limits {
    /// From the whole desired section, over the defaults; a complaint for each member that cannot be used.
    pub(crate) fn from_desired(desired: &Value) -> (Limits, Vec<String>) {
        let mut limits = Limits::default();
        let complaints = limits.change(desired);
        (limits, complaints)
    }

    /// Changes what `wanted` names: `path`, `above`, `below` (null takes a limit away). Other members are nobody's business
    /// here. A member that cannot be used is complained about and changes nothing.
    pub(crate) fn change(&mut self, wanted: &Value) -> Vec<String> {
        let mut complaints = Vec::new();
        for (name, value) in wanted.as_object().into_iter().flatten() {
            match (name.as_str(), value) {
                ("path", Value::String(path)) if !path.is_empty() => self.path.clone_from(path),
                ("path", value) => complaints.push(format!("path: {value} is no path such as `cpu.percent`")),
                ("above", Value::Null) => self.above = None,
                ("below", Value::Null) => self.below = None,
                ("above" | "below", value) => match value.as_f64() {
                    Some(limit) if name == "above" => self.above = Some(limit),
                    Some(limit) => self.below = Some(limit),
                    None => complaints.push(format!("{name}: {value} is no number")),
                },
                _ => {}
            }
        }
        complaints
    }

    /// For the reported section and the answer of a method.
    pub(crate) fn to_json(&self) -> Value {
        json!({ "path": self.path, "above": self.above, "below": self.below })
    }

    /// Looks at one message. A value equal to a limit does not cross it.
    pub(crate) fn judge(&self, body: &[u8]) -> Verdict {
        let Some(value) = serde_json::from_slice(body).ok().and_then(|body| at(&body, &self.path)) else {
            return Verdict::NotFound;
        };
        let crossing = |limit: f64, side| Verdict::Passes(Crossing { value, limit, side });
        match (self.above, self.below) {
            (Some(limit), _) if limit < value => crossing(limit, "above"),
            (_, Some(limit)) if value < limit => crossing(limit, "below"),
            _ => Verdict::Within,
        }
    }
}

fn at(body: &Value, path: &str) -> Option<f64> {
    let step = |value: &'_ Value, name: &str| match value {
        Value::Object(members) => members.get(name).cloned(),
        Value::Array(list) => name.parse::<usize>().ok().and_then(|index| list.get(index)).cloned(),
        _ => None,
    };
    path.split('.').try_fold(body.clone(), |value, name| step(&value, name))?.as_f64()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(limits: Value, body: &str) -> Verdict {
        let (limits, complaints) = Limits::from_desired(&limits);
        assert!(complaints.is_empty(), "{complaints:?}");
        limits.judge(body.as_bytes())
    }

    #[test]
    fn nothing_passes_before_a_limit_is_set() {
        assert_eq!(check(json!({}), r#"{"machine":{"temperature":1000}}"#), Verdict::Within);
    }

    #[test]
    fn a_value_passes_when_it_is_beyond_a_limit_and_not_when_equal() {
        let limits = || json!({ "path": "cpu.percent", "above": 80, "below": 10.5 });
        let above = Crossing { value: 80.1, limit: 80.0, side: "above" };
        assert_eq!(check(limits(), r#"{"cpu":{"percent":80.1}}"#), Verdict::Passes(above));
        let below = Crossing { value: -3.0, limit: 10.5, side: "below" };
        assert_eq!(check(limits(), r#"{"cpu":{"percent":-3}}"#), Verdict::Passes(below));
        assert_eq!(check(limits(), r#"{"cpu":{"percent":80}}"#), Verdict::Within);
        assert_eq!(check(limits(), r#"{"cpu":{"percent":10.5}}"#), Verdict::Within);
    }

    #[test]
    fn a_path_leads_into_lists() {
        let body = r#"{"disks":[{"usedPercent":1},{"usedPercent":95}]}"#;
        assert!(matches!(check(json!({ "path": "disks.1.usedPercent", "above": 90 }), body), Verdict::Passes(_)));
        assert_eq!(check(json!({ "path": "disks.2.usedPercent", "above": 90 }), body), Verdict::NotFound);
    }

    #[test]
    fn what_has_no_number_there_is_not_found() {
        for body in ["", "no json", "{}", r#"{"cpu":"hot"}"#, r#"{"cpu":{"percent":"81"}}"#, "[]", "7"] {
            assert_eq!(check(json!({ "path": "cpu.percent", "above": 80 }), body), Verdict::NotFound, "{body}");
        }
    }

    #[test]
    fn a_change_touches_what_it_names_and_null_takes_away() {
        let (mut limits, _) = Limits::from_desired(&json!({ "path": "a", "above": 1, "below": 0 }));
        assert!(limits.change(&json!({ "above": 2.5, "below": null, "other": true })).is_empty());
        assert_eq!(limits.to_json(), json!({ "path": "a", "above": 2.5, "below": null }));
    }

    #[test]
    fn what_cannot_be_used_is_named_and_changes_nothing() {
        let mut limits = Limits::default();
        let complaints = limits.change(&json!({ "path": 5, "above": "hot", "below": [] }));
        assert_eq!(complaints.len(), 3, "{complaints:?}");
        assert_eq!(limits, Limits::default());
    }

    proptest! {
        #[test]
        fn no_body_breaks_it(body in proptest::collection::vec(any::<u8>(), 0..60), path in "[a-z0-9.]{0,12}") {
            let _ = Limits { path, above: Some(0.0), below: None }.judge(&body);
        }
    }
}
