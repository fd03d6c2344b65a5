//! Any text as a token and as a connection string: nothing panics, a token without its policy never covers a hub, and what was read
//! of a connection string is written and read again as the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use skerry_dialect::connection_string::{ClientConnection, ServiceConnection};
use skerry_dialect::sas;
use skerry_model::{AuthScope, ClientId};

fuzz_target!(|text: &str| {
    let module = ClientId::parse("device/module").expect("a valid id");
    for text in [text.to_owned(), format!("SharedAccessSignature {text}")] {
        let Ok(token) = sas::parse(&text) else { continue };
        let scope = sas::resource_matches(&token, &["hub", "edge.local"], &module);
        assert!(token.policy.is_some() || scope != Some(AuthScope::Hub));
        assert!(token.policy.is_some() || !sas::policy_covers(&token, &["hub"], "/devices/device"));
        // The signature covers the text as it was transmitted.
        assert!(text.contains(&token.resource) && text.contains(&token.expiry_text));
    }
    if let Ok(connection) = ClientConnection::parse(text) {
        assert_eq!(ClientConnection::parse(&connection.to_string()), Ok(connection));
    }
    if let Ok(connection) = ServiceConnection::parse(text) {
        assert_eq!(ServiceConnection::parse(&connection.to_string()), Ok(connection));
    }
});
