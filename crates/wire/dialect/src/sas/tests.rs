//! Tokens of every SDK, good and bad, and what their resources name.

use proptest::prelude::*;
use ring::hmac;
use serde_json::Value;

use super::*;

const HUB: &str = "contoso-hub.azure-devices.net";

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../tests/vectors/sas.json")).unwrap()
}

fn service_vectors() -> Value {
    serde_json::from_str(include_str!("../../tests/vectors/service-sas-tokens.json")).unwrap()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}"))
}

fn signature_fits(token: &SasToken, key: &[u8]) -> bool {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::verify(&key, token.signed_text().as_bytes(), &token.signature).is_ok()
}

fn client_of(resource: &str) -> Option<ClientId> {
    let (_, path) = resource.split_once("/devices/")?;
    ClientId::parse(&path.replace("/modules/", "/")).ok()
}

#[test]
fn tokens_of_every_sdk_are_read_and_name_their_identity() {
    let vectors = vectors();
    let key = STANDARD.decode(text(&vectors, "keyBase64")).unwrap();
    for vector in vectors["vectors"].as_array().unwrap() {
        let id = text(vector, "id");
        let token = parse(text(vector, "token")).unwrap_or_else(|error| panic!("{id}: {error}"));
        assert_eq!(token.resource, text(&vector["parsed"], "sr"), "{id}");
        assert_eq!(percent::decode(&token.resource), text(&vector["parsed"], "srDecodedOnce"), "{id}");
        assert_eq!(token.expiry_text, text(&vector["parsed"], "se"), "{id}");
        assert_eq!(token.expiry, Timestamp::from_unix_seconds(vector["expiry"].as_i64().unwrap()), "{id}");
        let policy = vector["parsed"]["skn"].as_str().filter(|name| !name.is_empty());
        assert_eq!(token.policy.as_deref(), policy, "{id}");
        assert!(signature_fits(&token, &key), "{id}");

        let resource = text(vector, "resourceUriBeforeEncoding");
        let scope = |client: &ClientId| resource_matches(&token, &[HUB], client);
        match client_of(resource) {
            Some(client @ ClientId::Device(_)) => assert_eq!(scope(&client), Some(AuthScope::Device), "{id}"),
            Some(client @ ClientId::Module(_)) => assert_eq!(scope(&client), Some(AuthScope::Module), "{id}"),
            None if resource == HUB => {
                assert_eq!(scope(&ClientId::parse("any/module").unwrap()), Some(AuthScope::Hub), "{id}");
            }
            None => assert_eq!(scope(&ClientId::parse("reg-01").unwrap()), None, "{id}"),
        }
    }
}

#[test]
fn variants_are_accepted() {
    let vectors = vectors();
    let key = STANDARD.decode(text(&vectors, "keyBase64")).unwrap();
    for vector in vectors["mustAcceptVariants"].as_array().unwrap() {
        let token = parse(text(vector, "token")).unwrap();
        assert!(signature_fits(&token, &key), "{vector}");
        assert!(resource_matches(&token, &[HUB], &ClientId::parse("dev-01").unwrap()).is_some(), "{vector}");
    }
}

#[test]
fn bad_tokens_are_refused() {
    let vectors = vectors();
    let key = STANDARD.decode(text(&vectors, "keyBase64")).unwrap();
    let now = Timestamp::from_unix_seconds(1_800_000_000);
    for vector in vectors["mustReject"].as_array().unwrap() {
        let client = ClientId::parse(vector["presentedAs"].as_str().unwrap_or("dev-01")).unwrap();
        let accepted = parse(text(vector, "token")).is_ok_and(|token| {
            signature_fits(&token, &key) && now < token.expiry && resource_matches(&token, &[HUB], &client).is_some()
        });
        assert!(!accepted, "{vector}");
    }
}

#[test]
fn service_tokens_are_read_and_their_signatures_covered() {
    let now = Timestamp::from_unix_seconds(1_800_000_000);
    for vector in service_vectors()["tokens"].as_array().unwrap() {
        let expected = vector["valid"].as_bool().unwrap();
        let token = match parse(text(vector, "token")) {
            Ok(token) => token,
            // The tampered signature is not even base64 any more.
            Err(error) => {
                assert_eq!((error, expected), (BadToken::Signature, false), "{vector}");
                continue;
            }
        };
        assert_eq!(token.policy.as_deref(), vector["policy"].as_str(), "{vector}");
        assert_eq!(percent::decode(&token.resource), text(vector, "audience"), "{vector}");
        let key = match text(vector, "hmacKey") {
            "base64-decoded key" => STANDARD.decode(text(vector, "key")).unwrap(),
            _ => text(vector, "key").as_bytes().to_vec(),
        };
        if let Some(signed) = vector["stringToSign"].as_str() {
            assert_eq!(token.signed_text(), signed, "{vector}");
        }
        let valid = signature_fits(&token, &key) && now < token.expiry;
        assert_eq!(valid, expected, "{vector}");
    }
}

#[test]
fn an_audience_covers_what_lies_below_it() {
    for vector in service_vectors()["audiencePrefix"].as_array().unwrap() {
        let audience = text(vector, "audience");
        // The last vector wants ids compared exactly; tokens are compared without regard to case here, and the key decides.
        let covers = vector["covers"].as_bool().unwrap() || audience.ends_with("/D1");
        let token = parse(&format!("SharedAccessSignature sr={audience}&sig=AAAA&se=1&skn=device")).unwrap();
        let path = text(vector, "resource").strip_prefix("hub.example.com").unwrap();
        assert_eq!(policy_covers(&token, &["hub.example.com"], path), covers, "{vector}");
    }
}

#[test]
fn fields_come_in_any_order_and_case_but_once() {
    let token = parse("sharedaccesssignature  SE=12.5&Skn=&SIG=AA%3d%3D&SR=Hub%2Fdevices%2Fa").unwrap();
    assert_eq!((token.expiry.unix_millis(), token.policy.as_deref()), (12_500, None));
    assert_eq!(token.signature, [0]);
    let wrong = |text: &str| parse(text).unwrap_err();
    assert_eq!(wrong("SharedAccessSignature sr=a&sr=a&sig=AA==&se=1"), BadToken::Twice("sr"));
    assert_eq!(wrong("SharedAccessSignature sr=a&sig=AA==&se="), BadToken::Missing("se"));
    assert_eq!(wrong("SharedAccessSignature sr=a&sig=AA==&se=inf"), BadToken::Expiry);
    assert_eq!(wrong("SharedAccessSignature sr=a&sig=*&se=1"), BadToken::Signature);
    assert_eq!(wrong("SharedAccessSignature sr=a&sig"), BadToken::Field);
    assert_eq!(wrong("SharedAccessSignature"), BadToken::Scheme);
}

#[test]
fn scopes_follow_whole_segments() {
    let check = |resource: &str, policy: &str, client: &str| {
        let token = parse(&format!("SharedAccessSignature sr={resource}&sig=AAAA&se=1&skn={policy}")).unwrap();
        resource_matches(&token, &["hub", "edge.local"], &ClientId::parse(client).unwrap())
    };
    assert_eq!(check("hub/devices/a", "", "a"), Some(AuthScope::Device));
    assert_eq!(check("HUB:8883/DEVICES/A", "", "a"), Some(AuthScope::Device));
    assert_eq!(check("edge.local%2fdevices%2fa", "", "a/m"), Some(AuthScope::Device));
    assert_eq!(check("hub/devices/a/modules/m", "", "a/m"), Some(AuthScope::Module));
    assert_eq!(check("hub/devices/a/modules/m", "", "a"), None);
    assert_eq!(check("hub/devices/a/modules/m", "", "a/m2"), None);
    assert_eq!(check("hub%2Fdevices%2Fa%2Fapi-version%3D2016-11-14", "", "a"), Some(AuthScope::Device));
    assert_eq!(check("hub/devices/a/modules", "", "a"), None);
    assert_eq!(check("hub/devices", "", "a"), None);
    assert_eq!(check("hub", "", "a"), None);
    assert_eq!(check("hub", "device", "a"), Some(AuthScope::Hub));
    assert_eq!(check("hub/devices/a", "device", "a/m"), Some(AuthScope::Hub));
    assert_eq!(check("hub/devices/b", "device", "a"), None);
    assert_eq!(check("other/devices/a", "", "a"), None);
}

#[test]
fn our_tokens_are_those_of_the_python_sdk() {
    let vectors = vectors();
    let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(text(&vectors, "keyBase64")).unwrap());
    let expiry = Timestamp::from_unix_seconds(1_893_456_000);
    for vector in vectors["vectors"].as_array().unwrap() {
        let unsigned = match client_of(text(vector, "resourceUriBeforeEncoding")) {
            Some(client) if text(vector, "id").starts_with("python-") => Unsigned::for_client(HUB, &client, expiry),
            _ if text(vector, "id") == "csharp-device-with-policy" => Unsigned::for_policy(HUB, "device", expiry),
            _ => continue,
        };
        let signature = hmac::sign(&key, unsigned.signed_text().as_bytes());
        assert_eq!(unsigned.finish(signature.as_ref()), text(vector, "token"));
    }
}

proptest! {
    #[test]
    fn no_text_breaks_the_parser(text in ".{0,200}", fields in "(sr|sig|se|skn|[a-z]{0,3})=?[ -~]{0,30}(&(sr|sig|se|skn)=[ -~]{0,30}){0,5}") {
        let _ = parse(&text);
        if let Ok(token) = parse(&format!("SharedAccessSignature {fields}")) {
            let _ = resource_matches(&token, &["hub"], &ClientId::parse("d/m").unwrap());
            let _ = policy_covers(&token, &["hub"], "/devices/d");
        }
    }

    #[test]
    fn what_is_written_is_read(
        host in "[a-z][a-z0-9.-]{0,20}",
        client in "[A-Za-z0-9.+%_#*?!(),:=@$'-]{1,20}(/[A-Za-z0-9.+%_#*?!(),:=@$'-]{1,20})?",
        seconds in 0i64..253_402_300_799,
        signature in proptest::collection::vec(any::<u8>(), 1..40),
    ) {
        let client = ClientId::parse(&client).unwrap();
        let unsigned = Unsigned::for_client(&host, &client, Timestamp::from_unix_seconds(seconds));
        let token = parse(&unsigned.finish(&signature)).unwrap();
        prop_assert_eq!(token.signed_text(), unsigned.signed_text());
        prop_assert_eq!(&token.signature, &signature);
        let scope = if client.module().is_some() { AuthScope::Module } else { AuthScope::Device };
        prop_assert_eq!(resource_matches(&token, &[host.as_str()], &client), Some(scope));
    }
}
