//! Documents of devices and modules in both directions.

use proptest::prelude::*;
use serde_json::json;
use skerry_model::{
    AuthChain, Authentication, AuthenticationDraft, ClientId, ConnectionState, ErrorCode, KeyPair, ModuleName,
    SharedKey, Thumbprint,
};

use super::*;
use crate::http::ScopeCall;

const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

fn id(text: &str) -> DeviceId {
    DeviceId::parse(text).unwrap()
}

fn key() -> SharedKey {
    SharedKey::from_base64(KEY).unwrap()
}

fn keys() -> Authentication {
    Authentication::Sas(KeyPair { primary: key(), secondary: key() })
}

fn device(name: &str, iot_edge: bool, parent: Option<&str>) -> DeviceRecord {
    DeviceRecord {
        id: id(name),
        generation: "638678901234567890".into(),
        etag: "MQ==".into(),
        status: DeviceStatus::Enabled,
        status_reason: None,
        status_updated: None,
        authentication: keys(),
        iot_edge,
        parent: parent.and_then(EdgeScope::parse),
        activity: Activity::default(),
    }
}

fn module(name: &str) -> ModuleRecord {
    ModuleRecord {
        id: ModuleId::parse(name).unwrap(),
        generation: "638".into(),
        etag: "Mg==".into(),
        managed_by: "iotEdge".into(),
        authentication: Authentication::None,
        activity: Activity {
            state: ConnectionState::Connected,
            state_updated: Some(Timestamp::from_unix_seconds(1)),
            last: Some(Timestamp::from_unix_millis(2_345)),
            commands_waiting: 3,
        },
    }
}

#[test]
fn a_device_looks_as_the_platform_shows_it() {
    assert_eq!(
        device_body(&device("dev1", false, None)),
        json!({
            "deviceId": "dev1", "generationId": "638678901234567890", "etag": "MQ==",
            "connectionState": "Disconnected", "status": "enabled", "statusReason": null,
            "connectionStateUpdatedTime": "0001-01-01T00:00:00Z", "statusUpdatedTime": "0001-01-01T00:00:00Z",
            "lastActivityTime": "0001-01-01T00:00:00Z", "cloudToDeviceMessageCount": 0,
            "authentication": {
                "symmetricKey": { "primaryKey": KEY, "secondaryKey": KEY },
                "x509Thumbprint": { "primaryThumbprint": null, "secondaryThumbprint": null },
                "type": "sas",
            },
            "capabilities": { "iotEdge": false }, "parentScopes": [],
        })
    );
}

#[test]
fn what_is_shown_is_read_back() {
    for device in [
        device("leaf", false, Some("ms-azure-iot-edge://edge1-1")),
        device("edge2", true, Some("ms-azure-iot-edge://edge1-1")),
        device("edge1", true, None),
    ] {
        assert_eq!(read_device(&device_body(&device)), Ok(device));
    }
    assert_eq!(read_module(&module_body(&module("edge1/m"))), Ok(module("edge1/m")));
}

#[test]
fn scopes_say_who_stands_below_whom() {
    let edge = device_body(&device("edge1", true, Some("ms-azure-iot-edge://top-1")));
    assert_eq!(edge["deviceScope"], "ms-azure-iot-edge://edge1-638678901234567890");
    assert_eq!(edge["parentScopes"], json!(["ms-azure-iot-edge://top-1"]));
    let leaf = device_body(&device("leaf", false, Some("ms-azure-iot-edge://edge1-1")));
    assert_eq!(leaf["deviceScope"], "ms-azure-iot-edge://edge1-1");
    assert_eq!(leaf["parentScopes"], json!(["ms-azure-iot-edge://edge1-1"]));

    let check = |body: Json| {
        device_draft(&id("d"), body.to_string().as_bytes()).map(|draft| draft.parent.map(|scope| scope.to_string()))
    };
    let edge = json!({"iotEdge": true});
    assert_eq!(check(json!({"capabilities": edge, "deviceScope": "own", "parentScopes": ["p"]})), Ok(Some("p".into())));
    assert_eq!(check(json!({"capabilities": edge, "deviceScope": "own", "parentScopes": []})), Ok(None));
    assert_eq!(check(json!({"deviceScope": "p"})), Ok(Some("p".into())));
    assert_eq!(check(json!({"parentScopes": ["p"]})), Ok(Some("p".into())));
    assert_eq!(check(json!({"deviceScope": "", "parentScopes": ["p"]})), Ok(None));
    assert_eq!(check(json!({"deviceScope": null, "parentScopes": ["p"]})), Ok(None));
    assert!(check(json!({"parentScopes": ["p", "q"]})).is_err());
}

#[test]
fn drafts_take_what_clients_send() {
    let check = |body: Json| device_draft(&id("d"), body.to_string().as_bytes()).map(|draft| draft.authentication);
    let made = AuthenticationDraft::generated_keys();
    assert_eq!(check(json!({"deviceId": "d"})), Ok(made.clone()));
    assert_eq!(check(json!({"authentication": null})), Ok(made.clone()));
    assert_eq!(
        check(json!({"authentication": {"type": "sas", "symmetricKey": {"primaryKey": "", "secondaryKey": null}}})),
        Ok(made)
    );
    let thumbprint = "a".repeat(40);
    let certificate =
        AuthenticationDraft::SelfSigned { primary: Thumbprint::parse(&thumbprint).unwrap(), secondary: None };
    let body =
        json!({"authentication": {"x509Thumbprint": {"primaryThumbprint": thumbprint, "secondaryThumbprint": ""}}});
    assert_eq!(check(body), Ok(certificate));
    assert_eq!(check(json!({"authentication": {"type_": "none"}})), Ok(AuthenticationDraft::None));
    assert_eq!(
        check(json!({"authentication": {"type": "certificateAuthority"}})),
        Ok(AuthenticationDraft::CertificateAuthority)
    );
}

#[test]
fn what_is_wrong_is_named() {
    let check = |body: Json| {
        let error = device_draft(&id("d"), body.to_string().as_bytes()).unwrap_err();
        assert_eq!(error.code, ErrorCode::ArgumentInvalid);
        error.detail.into_owned()
    };
    assert_eq!(check(json!({"deviceId": "e"})), "`deviceId` is `e`, the path says `d`");
    assert_eq!(check(json!({"status": "off"})), "`status` is neither `enabled` nor `disabled`");
    assert_eq!(check(json!({"statusReason": "x".repeat(129)})), "`statusReason` has more than 128 characters");
    assert_eq!(check(json!({"capabilities": {"iotEdge": "yes"}})), "`capabilities.iotEdge` is neither true nor false");
    assert_eq!(check(json!({"authentication": {"type": "selfSigned"}})), "`primaryThumbprint` is missing");
    assert_eq!(
        check(json!({"authentication": {"symmetricKey": {"primaryKey": "secret"}}})),
        "`primaryKey`: a shared key is written in base64"
    );
    assert!(check(json!({"authentication": {"type": "magic"}})).starts_with("`authentication.type` is none of"));
}

#[test]
fn an_edge_device_writes_its_modules_as_it_does() {
    let own = ModuleId::parse("edge1/$edgeAgent").unwrap();
    let body = json!({
        "moduleId": "$edgeAgent", "managedBy": null, "deviceId": "edge1", "generationId": "ignored",
        "authentication": { "type": "sas", "symmetricKey": { "primaryKey": KEY, "secondaryKey": KEY } },
    });
    assert_eq!(
        module_draft(&own, body.to_string().as_bytes()),
        Ok(ModuleDraft {
            id: own,
            managed_by: None,
            authentication: AuthenticationDraft::Sas { primary: Some(key()), secondary: Some(key()) },
        })
    );
}

#[test]
fn scope_answers_are_read_back_and_one_broken_entry_does_not_spoil_them() {
    let answer = ScopeAnswer {
        devices: vec![device("edge1", true, None), device("leaf", false, Some("ms-azure-iot-edge://edge1-1"))],
        modules: vec![ModuleRecord { activity: Activity::default(), authentication: keys(), ..module("edge1/m") }],
        continuation: Some("/devices/edge1/modules/$edgeHub/x?page=2".into()),
    };
    let body = answer.body();
    // Etags and activity are not for edge hubs.
    let stripped = |mut answer: ScopeAnswer| {
        answer.devices.iter_mut().for_each(|device| device.etag.clear());
        answer.modules.iter_mut().for_each(|module| module.etag.clear());
        answer
    };
    assert_eq!(ScopeAnswer::read(body.as_bytes()), Ok((stripped(answer), 0)));
    let broken = json!({"devices": [{"deviceId": "a"}], "modules": null, "continuationLink": null}).to_string();
    assert_eq!(ScopeAnswer::read(broken.as_bytes()), Ok((ScopeAnswer::default(), 1)));
    let empty: Json = serde_json::from_str(&ScopeAnswer::default().body()).unwrap();
    assert_eq!(empty, json!({"devices": [], "modules": [], "continuationLink": null}));
}

#[test]
fn scope_requests_are_read_back() {
    let edge = id("edge1");
    let chain = AuthChain::parse("edge2;edge1").unwrap();
    let name = ModuleName::parse("mod1").unwrap();
    for request in [
        ScopeRequest::own_scope(&edge, 10, None),
        ScopeRequest::InTargetScope { chain: chain.clone(), page_size: 7, continuation: Some("/next".into()) },
        ScopeRequest::OnBehalf { chain: chain.clone(), target: ClientId::parse("edge2/mod1").unwrap() },
        ScopeRequest::OnBehalf { chain: chain.clone(), target: ClientId::parse("edge2").unwrap() },
        ScopeRequest::ModuleOnBehalf { chain: chain.clone(), module: name.clone() },
        ScopeRequest::ModulesOnTarget { chain: chain.clone() },
        ScopeRequest::PutModule { chain: chain.clone(), module: ModuleDraft::new(id("edge2").module(name.clone())) },
        ScopeRequest::DeleteModule { chain, module: name },
    ] {
        assert_eq!(ScopeRequest::read(request.call(), &edge, request.body().as_bytes()), Ok(request));
    }
    let own = |query: &str| ScopeRequest::read_query(ScopeCall::InOwnScope, &edge, query);
    assert_eq!(
        own("deviceCount=10&continuationToken=&api-version=2018-08-30-preview"),
        Ok(ScopeRequest::own_scope(&edge, 10, None))
    );
    let one =
        ScopeRequest::read_query(ScopeCall::OneInOwnScope, &edge, "targetDeviceId=leaf&targetModuleId=m").unwrap();
    assert_eq!(one.chain().to_string(), "leaf/m;edge1");
}

#[test]
fn a_chain_that_ends_elsewhere_is_refused() {
    let body = json!({"authChain": "leaf;edge2"}).to_string();
    let error = ScopeRequest::read(ScopeCall::ModulesOnTarget, &id("edge1"), body.as_bytes()).unwrap_err();
    assert_eq!(error.detail, "the auth chain does not end in `edge1`");
}

proptest! {
    #[test]
    fn no_document_breaks_the_readers(text in ".{0,20}", number in any::<i64>(), which in 0usize..9) {
        let value = [json!(text), json!(number), json!(null), json!([text]), json!({ "type": text }), json!({ "symmetricKey": { "primaryKey": text } }),
            json!({ "x509Thumbprint": text }), json!([number, text]), json!({ "iotEdge": text })][which].clone();
        for member in ["deviceId", "moduleId", "status", "authentication", "capabilities", "parentScopes", "deviceScope", "generationId", "module", "authChain"] {
            let mut document = json!({"deviceId": "d", "moduleId": "m", "generationId": "1", "authChain": "d;e", "module": {"moduleId": "m"}});
            document[member] = value.clone();
            let body = document.to_string();
            let _ = device_draft(&id("d"), body.as_bytes());
            let _ = module_draft(&ModuleId::parse("d/m").unwrap(), body.as_bytes());
            let _ = read_device(&document);
            let _ = read_module(&document);
            let _ = ScopeRequest::read(ScopeCall::PutModule, &id("e"), body.as_bytes());
            let _ = ScopeAnswer::read(json!({ "devices": [document], "modules": value }).to_string().as_bytes());
        }
    }

    #[test]
    fn drafts_are_read_back(name in "[a-z]{1,8}", edge in any::<bool>(), disabled in any::<bool>(), reason in proptest::option::of(".{1,20}"), parent in proptest::option::of("[a-z]{1,9}"), with_key in any::<bool>()) {
        let draft = DeviceDraft {
            id: id(&name),
            status: if disabled { DeviceStatus::Disabled } else { DeviceStatus::Enabled },
            status_reason: reason,
            authentication: AuthenticationDraft::Sas { primary: with_key.then(key), secondary: with_key.then(key) },
            iot_edge: edge,
            parent: parent.and_then(|scope| EdgeScope::parse(&scope)),
        };
        prop_assert_eq!(device_draft(&id(&name), device_draft_body(&draft).to_string().as_bytes()), Ok(draft));
    }
}
