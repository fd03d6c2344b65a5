//! Any text as the user name of a CONNECT packet: nothing panics, and what was read is written and read again as the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use skerry_dialect::mqtt::UserName;

fuzz_target!(|text: &str| {
    for text in [text.to_owned(), format!("hub/{text}"), format!("hub/device/?api-version=1&{text}")] {
        let Ok(name) = UserName::parse(&text) else { continue };
        let written = name.to_string();
        assert_eq!(UserName::of_connect(&written, &name.client.to_string()), Ok(name));
    }
});
