//! Any text as a route, and the same text as a condition: nothing panics, places lie in the text, and what passes the check can be
//! evaluated against any message.

#![no_main]

use libfuzzer_sys::fuzz_target;
use skerry_model::{MessageView, PropertyBag};
use skerry_query::MessageFields;
use skerry_query::edge_routes::parse;

fuzz_target!(|text: &str| {
    for route in [text.to_owned(), format!("FROM /messages/* WHERE {text} INTO $upstream")] {
        match parse(&route) {
            Err(error) => assert!(error.position.offset <= route.len() && error.position.line >= 1),
            Ok(parsed) => {
                let Some(condition) = parsed.condition else { continue };
                assert!(route.contains(condition.as_str()));
                match condition.check() {
                    Err(errors) => assert!(!errors.is_empty()),
                    Ok(filter) => {
                        let properties = PropertyBag::new("a=1&level=high&$.ct=application%2Fjson&$.ce=utf-8");
                        let body = b"{\"a\":[1,\"x\",null,{\"b\":true}],\"t\":\"2024-05-01T10:00:00Z\"}";
                        let message = MessageView { properties, body };
                        let once = filter.evaluate(&MessageFields::new(message));
                        assert_eq!(once, filter.evaluate(&MessageFields::new(message)));
                    }
                }
            }
        }
    }
});
