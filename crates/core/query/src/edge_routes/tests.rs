//! Edge routes against the published facts, and properties that hold for any text.

use proptest::prelude::*;
use serde_json::Value as Json;
use skerry_model::{MessageView, PropertyBag, PropertyBagBuilder};

use super::*;
use crate::{Fields, MessageFields};

fn vectors(text: &str) -> Json {
    serde_json::from_str(text).unwrap()
}

fn error_kind(reason: &ParseReason) -> &'static str {
    match reason {
        ParseReason::Empty => "empty",
        ParseReason::TooLong(_)
        | ParseReason::TooDeep
        | ParseReason::Expected { .. }
        | ParseReason::ConditionBehindSink => "syntax",
        ParseReason::SystemEndpoint(_) => "unknown-system-endpoint",
        ParseReason::FunctionEndpoint(_) => "unknown-function-endpoint",
        ParseReason::EndpointAddress(_) => "bad-endpoint-address",
    }
}

#[test]
fn routes_are_read_as_published() {
    let vectors = vectors(include_str!("../../tests/vectors/edge-routes.json"));
    for case in vectors["cases"].as_array().unwrap() {
        let id = case["id"].as_str().unwrap();
        let route = match parse(case["route"].as_str().unwrap()) {
            Err(error) => {
                assert_eq!(case["valid"], false, "{id}: {error}");
                assert_eq!(case["error"], error_kind(&error.reason), "{id}: {error}");
                continue;
            }
            Ok(route) => route,
        };
        assert_eq!(case["valid"], true, "{id}");
        let parsed = &case["parsed"];
        assert_eq!(parsed["source"], route.source.as_str(), "{id}");
        assert_eq!(parsed["sourcePrefix"], route.source.prefix(), "{id}");
        assert_eq!(parsed["condition"], route.condition.as_ref().map_or("true", Condition::as_str), "{id}");
        match &route.sink {
            Sink::Upstream => assert_eq!(parsed["sink"]["kind"], "upstream", "{id}"),
            Sink::Input { module, input } => {
                assert_eq!(parsed["sink"]["module"], **module, "{id}");
                assert_eq!(parsed["sink"]["input"], **input, "{id}");
            }
        }
        let checked = route.condition.as_ref().map(Condition::check).transpose();
        assert_eq!(case["conditionCompiles"], checked.is_ok(), "{id}: {checked:?}");
        if let (Some(expected), Err(errors)) = (case["conditionError"].as_str(), checked) {
            for (expected, error) in expected.split("; ").zip(&errors) {
                assert!(error.reason.starts_with(expected), "{id}: {error}");
            }
            assert_eq!(expected.split("; ").count(), errors.len(), "{id}");
        }
    }
}

/// A message of the vectors: system properties are looked up by the names conditions use.
struct Published<'a> {
    message: MessageFields<'a>,
    system: &'a Json,
}

impl Fields for Published<'_> {
    fn property(&self, name: &str) -> Option<std::borrow::Cow<'_, str>> {
        self.message.property(name)
    }

    fn system_property(&self, name: &str) -> Option<std::borrow::Cow<'_, str>> {
        let members = self.system.as_object()?;
        let found = members.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        found.1.as_str().map(Into::into)
    }

    fn body(&self) -> Option<&Json> {
        self.message.body()
    }
}

fn bag(message: &Json) -> String {
    let mut bag = PropertyBagBuilder::new();
    for (name, key) in [("contentType", "$.ct"), ("contentEncoding", "$.ce")] {
        bag.push_some(key, message["systemProperties"][name].as_str());
    }
    for (key, value) in message["properties"].as_object().unwrap() {
        bag.push(key, value.as_str().unwrap());
    }
    bag.finish()
}

#[test]
fn conditions_come_out_as_published() {
    let vectors = vectors(include_str!("../../tests/vectors/edge-route-conditions.json"));
    let mut wrong = Vec::new();
    for case in vectors["cases"].as_array().unwrap() {
        let condition = case["condition"].as_str().unwrap();
        let message = &vectors["messages"][case["message"].as_str().unwrap()];
        let (bag, body) = (bag(message), message["body"].to_string());
        let view = MessageView { properties: PropertyBag::new(&bag), body: body.as_bytes() };
        let fields = Published { message: MessageFields::new(view), system: &message["systemProperties"] };
        let outcome = match parse(&format!("FROM /* WHERE {condition} INTO $upstream")) {
            Err(_) => "syntax-error",
            Ok(route) => match route.condition.unwrap().check() {
                Err(_) => "compile-error",
                Ok(filter) => match filter.evaluate(&fields) {
                    Some(true) => "true",
                    Some(false) => "false",
                    None => "undefined",
                },
            },
        };
        if case["result"] != outcome {
            wrong.push(format!("{}: {condition}: {outcome} instead of {}", case["message"], case["result"]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn errors_say_where_and_what() {
    let error = |text: &str| parse(text).unwrap_err().to_string();
    assert_eq!(
        error("FROM /messages/*\n INTRO $upstream"),
        "expected `/`, WHERE or INTO, found `INTRO` (line 2 column 2)"
    );
    assert_eq!(
        error("FROM /* WHERE a = 'x' b INTO $upstream"),
        "expected an operator or INTO, found `b` (line 1 column 23)"
    );
    assert_eq!(
        error("FROM /* WHERE a = 'x'"),
        "expected an operator or INTO, found the end of the route (line 1 column 22)"
    );
    assert_eq!(
        error("FROM /* INTO $upstream WHERE a = 'x'"),
        "a condition must stand before INTO, behind the sink it would not count (line 1 column 24)"
    );
    assert_eq!(error("FROM /* INTO $up"), "System endpoint type '$up' not supported. (line 1 column 14)");
    let errors =
        parse("FROM /* WHERE a = 1\n AND trim(b) INTO $upstream").unwrap().condition.unwrap().check().unwrap_err();
    assert_eq!(
        errors.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "Invalid operands to binary operator '=': have 'string' and 'number', expected 'string' and 'string' \
             (line 1 column 17)",
            "Invalid built-in function 'trim' (line 2 column 6)",
        ]
    );
}

#[test]
fn mistakes_the_grammar_lets_pass_are_found_by_the_check() {
    for condition in ["(a = 'x'", "(a = 'x'))", "a ; b", "; a", ";", "f(a))", "abs(1)) = 1", "(((a = 'x')"] {
        let route = parse(&format!("FROM /* WHERE {condition} INTO $upstream"));
        let checked = route.map(|route| route.condition.unwrap().check());
        assert!(matches!(checked, Ok(Err(_))), "{condition}: {checked:?}");
    }
    for condition in ["a ;", "(a", "f(a", "{$a", "{a}", "a[0] = 'x'", "f(,)", "()"] {
        let text = format!("FROM /* WHERE {condition} INTO $upstream");
        let is_error = match parse(&text) {
            Err(_) => true,
            Ok(route) => route.condition.unwrap().check().is_err(),
        };
        assert!(is_error, "{condition}");
    }
}

#[test]
fn a_star_source_opens_a_comment_that_swallows_the_condition() {
    assert!(parse("FROM /* WHERE a = '*/' INTO $upstream").is_err());
    assert!(parse("FROM /messages/* WHERE a = '/*' INTO $upstream").is_ok());
}

#[test]
fn deep_and_long_routes_are_refused_not_overflowed() {
    let refuses = |condition: &str, reason: &ParseReason| {
        let error = parse(&format!("FROM /* WHERE {condition} INTO $upstream")).unwrap_err();
        assert_eq!(&error.reason, reason);
    };
    refuses(&"(".repeat(5_000), &ParseReason::TooDeep);
    refuses(&"NOT ".repeat(3_000), &ParseReason::TooDeep);
    refuses(&"; ".repeat(3_000), &ParseReason::TooDeep);
    refuses(&format!("a{}", " OR a".repeat(3_000)), &ParseReason::TooDeep);
    assert!(matches!(parse(&"x".repeat(20_000)).unwrap_err().reason, ParseReason::TooLong(20_000)));
    let long = format!("FROM /* WHERE true{} INTO $upstream", " AND true".repeat(1_000));
    let filter = parse(&long).unwrap().condition.unwrap().check().unwrap();
    let view = MessageView { properties: PropertyBag::new(""), body: b"" };
    assert!(filter.matches(&MessageFields::new(view)));
}

/// Texts made of the pieces routes are made of, so that more than the first token is reached.
fn route_like() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "FROM",
        "/",
        "*",
        "/messages/*",
        "WHERE",
        "INTO",
        "$upstream",
        "BrokeredEndpoint",
        "(",
        ")",
        "\"/modules/a/inputs/b\"",
        "a",
        "$body.a",
        "$body.a[0]",
        "{$cid}",
        "'x",
        "'x'",
        "5",
        "-5",
        "0x1F",
        ".5",
        "true",
        "null",
        "undefined",
        "AND",
        "OR",
        "NOT",
        "=",
        "!=",
        "<",
        ">=",
        "+",
        "-",
        "||",
        "??",
        "%",
        ",",
        ";",
        "\\",
        "is_defined",
        "concat",
        "substring",
        "/*",
        "*/",
        "é",
        "[",
        "]",
        "{",
        "}",
    ]);
    prop::collection::vec(piece, 0..24).prop_map(|pieces| format!("FROM /* WHERE {} INTO $upstream", pieces.join(" ")))
}

proptest! {
    #[test]
    fn no_text_breaks_the_parser(text in ".{0,200}") {
        let _ = parse(&text);
    }

    #[test]
    fn what_is_read_can_be_checked_and_evaluated(text in route_like(), body in ".{0,40}") {
        if let Ok(Some(condition)) = parse(&text).map(|route| route.condition) {
            prop_assert!(text.contains(condition.as_str()));
            if let Ok(filter) = condition.check() {
                let properties = PropertyBag::new("a=1&$.ct=application%2Fjson&$.ce=utf-8");
                let fields = MessageFields::new(MessageView { properties, body: body.as_bytes() });
                prop_assert_eq!(filter.evaluate(&fields), filter.evaluate(&fields));
            }
        }
    }

    #[test]
    fn white_space_between_tokens_does_not_matter(spaces in prop::collection::vec("[ \t\r\n]{1,3}", 9)) {
        let parts = ["FROM", "/messages/*", "WHERE", "level", "=", "'a b'", "AND", "true", "INTO", "$upstream"];
        let mut text = parts[0].to_owned();
        for (space, part) in spaces.iter().zip(&parts[1..]) {
            text.push_str(space);
            text.push_str(part);
        }
        let route = parse(&text).unwrap();
        prop_assert_eq!(route.source.as_str(), "/messages/*");
        prop_assert!(route.condition.unwrap().check().is_ok());
    }

    #[test]
    fn quoted_texts_come_back(value in "[^\\\\\"]{0,20}") {
        let route = parse(&format!("FROM /messages WHERE a = \"{value}\" INTO $upstream")).unwrap();
        let filter = route.condition.unwrap().check().unwrap();
        let mut bag = PropertyBagBuilder::new();
        let bag = bag.push("a", &value).finish();
        let fields = MessageFields::new(MessageView { properties: PropertyBag::new(&bag), body: b"" });
        prop_assert_eq!(filter.evaluate(&fields), Some(true));
    }
}
