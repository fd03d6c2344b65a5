//! Tokens, paths, conditions and errors as the service clients know them.

use serde_json::{Value as Json, json};

use crate::support::{PEER, POLICY_KEY, World, key, primary_key, world};

const SAS: &str = include_str!("../vectors/service-sas-tokens.json");
const FORMS: &str = include_str!("../vectors/service-request-forms.json");

#[tokio::test(start_paused = true)]
async fn tokens_of_the_shared_cases_are_judged_right() {
    let world = world().await;
    let device_key = "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";
    let keys = json!({"type": "sas", "symmetricKey": {"primaryKey": device_key, "secondaryKey": device_key}});
    world.device("dev1", json!({ "authentication": keys })).await;
    let vectors: Json = serde_json::from_str(SAS).unwrap();
    let mut tried = 0;
    for case in vectors["tokens"].as_array().unwrap() {
        let audience = case["audience"].as_str().unwrap();
        // Tokens of event readers are for another entrance; an id with a space is none.
        if audience.starts_with("sb://") || audience.contains(' ') {
            continue;
        }
        let for_service = !audience.contains("/devices/");
        let ask =
            if for_service { world.ask("GET", "/devices") } else { world.ask("POST", "/devices/dev1/messages/events") };
        let answer = ask.header("authorization", case["token"].as_str().unwrap()).send().await;
        let good = if for_service { 200 } else { 204 };
        let expected = if case["valid"] == true { good } else { 401 };
        assert_eq!(answer.status, expected, "{}", case["name"]);
        tried += 1;
    }
    assert!(tried >= 7);
    for case in vectors["audiencePrefix"].as_array().unwrap() {
        let [audience, resource] = ["audience", "resource"].map(|name| case[name].as_str().unwrap());
        if audience.ends_with("D1") {
            // The platform's tools lower-case ids, so here case decides nothing; see the architecture document.
            continue;
        }
        let Some(path) = resource.strip_prefix("hub.example.com") else { continue };
        let path = if path.is_empty() { "/devices" } else { path };
        let token = policy_token(audience);
        let answer = world.ask("GET", path).header("authorization", &token).send().await;
        assert_eq!(answer.status != 401, case["covers"] == true, "{audience} {resource}");
    }
}

fn policy_token(audience: &str) -> String {
    let signed = format!("{audience}\n1893456000");
    let signature = skerry_pki::SymmetricKey::from_base64(POLICY_KEY).unwrap().sign_text(&signed);
    let signature = signature.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    format!("SharedAccessSignature sr={audience}&sig={signature}&se=1893456000&skn=iothubowner")
}

#[tokio::test(start_paused = true)]
async fn paths_of_the_shared_cases_lead_where_they_should() {
    let world = world().await;
    for id in ["dev1", "dev%231", "a%2Bb"] {
        let document = json!({ "deviceId": percent(id) });
        assert_eq!(world.owner("PUT", &format!("/devices/{id}")).json(document).status().await, 200);
    }
    world.device("edge1", json!({"capabilities": {"iotEdge": true}})).await;
    let put = world.owner("PUT", "/devices/dev1/modules/m1").json(json!({"deviceId": "dev1", "moduleId": "m1"}));
    assert_eq!(put.status().await, 200);
    let vectors: Json = serde_json::from_str(FORMS).unwrap();
    for case in vectors["paths"].as_array().unwrap() {
        let [method, target, meaning] = ["method", "target", "meaning"].map(|name| case[name].as_str().unwrap());
        let answer = world.ask_exactly(method, target).policy("iothubowner").body("{}").send().await;
        let expected: &[u16] = match meaning {
            "query" | "bulk registry" | "list configurations" => &[501],
            // It has no method name.
            "module method dev1/m1" => &[400],
            // No such device: its id has a space.
            "C2D for 'dev 1' (id encoded twice)" => &[400, 404],
            _ => &[200],
        };
        assert!(expected.contains(&answer.status), "{method} {target}: {}", answer.status);
    }
}

fn percent(id: &str) -> String {
    id.replace("%23", "#").replace("%2B", "+")
}

#[tokio::test(start_paused = true)]
async fn conditions_of_the_shared_cases_mean_what_they_say() {
    let vectors: Json = serde_json::from_str(FORMS).unwrap();
    for case in vectors["ifMatch"].as_array().unwrap() {
        let world = world().await;
        let document = world.device("d", json!({})).await;
        let twin = world.owner("GET", "/twins/d").send().await;
        let method = case["request"].as_str().unwrap();
        let (method, target, etag) = match method {
            "PATCH twin" => ("PATCH", "/twins/d", twin.json()["etag"].as_str().unwrap().to_owned()),
            method => (method, "/devices/d", document["etag"].as_str().unwrap().to_owned()),
        };
        let send = async |condition: Option<String>| {
            let ask = world.owner(method, target).json(json!({"deviceId": "d"}));
            match condition {
                Some(condition) => ask.header("if-match", &condition).status().await,
                None => ask.status().await,
            }
        };
        let good = if method == "DELETE" { 204 } else { 200 };
        match case["header"].as_str() {
            None if method == "PUT" => assert_eq!(send(None).await, 409),
            None => assert_eq!(send(None).await, good),
            Some(any) if any.contains('*') => assert_eq!(send(Some(any.to_owned())).await, good, "{any}"),
            Some(specific) => {
                let quoted = specific.starts_with('"');
                let write = |etag: &str| Some(if quoted { format!("\"{etag}\"") } else { etag.to_owned() });
                assert_eq!(send(write("bm90IGl0")).await, 412, "{specific}");
                assert_eq!(send(write(&etag)).await, good, "{specific}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_is_refused_is_on_the_list_with_the_reason() {
    let world = world().await;
    let device = world.device("d", json!({})).await;
    let check = async |ask: crate::support::Ask<'_>, reason: &str| {
        let answer = ask.send().await;
        assert_eq!((answer.status, answer.code().as_str()), (401, "IotHubUnauthorizedAccess"));
        assert!(!String::from_utf8_lossy(&answer.body).contains(reason), "the peer is not told why");
        assert!(world.door.refused().iter().any(|entry| entry.reason.contains(reason)), "{:?}", world.door.refused());
    };
    check(world.ask("GET", "/devices"), "no token was shown").await;
    check(world.ask("GET", "/devices").header("authorization", "Basic x"), "the token is malformed").await;
    check(world.ask("GET", "/devices").client("d", primary_key(&device)), "the token is not one of a policy").await;
    check(world.ask("GET", "/devices").policy("nobody"), "there is no policy `nobody`").await;
    check(world.ask("GET", "/devices").policy("service"), "no right `RegistryRead`").await;
    check(world.ask("PUT", "/devices/x").policy("registryRead"), "no right `RegistryWrite`").await;
    check(world.ask("GET", "/twins/d").policy("registryRead"), "no right `ServiceConnect`").await;
    check(world.ask("POST", "/devices/d/messages/events").policy("service"), "no right to act for devices").await;
    check(world.ask("POST", "/devices/d/messages/events").client("d", &key(9)), "was not signed with a key").await;
    let list = world.ask_exactly("GET", "/skerry/connections").policy("service").send().await.json();
    assert_eq!(list["refusals"], 9);
    assert!(list["refused"].as_array().unwrap().iter().all(|one| one["peer"] == PEER && one["protocol"] == "https"));
    check(world.ask_exactly("GET", "/skerry/connections").policy("registryRead"), "no right `ServiceConnect`").await;
}

#[tokio::test(start_paused = true)]
async fn what_is_not_there_says_so() {
    let world = world().await;
    let check = async |world: &World, method: &str, target: &str| {
        let answer = world.owner(method, target).send().await;
        (answer.status, answer.code())
    };
    let named = |status: u16, name: &str| (status, name.to_owned());
    assert_eq!(check(&world, "GET", "/elsewhere").await, named(404, "NotFound"));
    assert_eq!(check(&world, "PATCH", "/devices/d").await, named(404, "NotFound"));
    assert_eq!(check(&world, "GET", "/devices/d").await, named(404, "DeviceNotFound"));
    assert_eq!(check(&world, "GET", "/jobs/v2/query").await, named(501, "NotImplemented"));
    assert_eq!(check(&world, "GET", "/devices/d/messages/deviceBound").await, named(501, "NotImplemented"));
    let answer = world.ask_exactly("GET", "/devices").policy("iothubowner").send().await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "BadRequest"));
}

#[tokio::test(start_paused = true)]
async fn refused_requests_are_logged_once_a_minute_for_the_same_peer_and_reason() {
    let world = world().await;
    let log = skerry_sim::Log::read_along();
    for path in ["/devices/d", "/twins/d", "/devices/d"] {
        assert_eq!(world.owner("GET", path).send().await.status, 404);
    }
    let [line] = &log.lines_with("request refused")[..] else { panic!("{:?}", log.lines_with("")) };
    let parts = [PEER, "\"GET /devices/d\"", "DeviceNotFound", "unlogged=0"];
    assert!(parts.iter().all(|part| line.contains(part)), "{line}");

    // Others have something else to say, and who has said it waits a minute.
    for n in 0..100 {
        assert_eq!(world.owner("GET", &format!("/devices/d{n}")).send().await.status, 404);
    }
    assert_eq!(log.lines_with("request refused").len(), 10);
    tokio::time::advance(std::time::Duration::from_secs(60)).await;
    assert_eq!(world.owner("GET", "/devices/d").send().await.status, 404);
    let lines = log.lines_with("request refused");
    assert_eq!(lines.len(), 11);
    assert!(lines[10].contains("unlogged=91"), "{}", lines[10]);
    assert_eq!(world.door.refused(), [], "whoever is let in is not on the list of those who are not");

    assert_eq!(world.ask("GET", "/devices").send().await.status, 401);
    let lines = log.lines_with("refused");
    assert!(lines.len() == 12 && lines[11].contains("no token was shown"), "one line, the door's: {lines:?}");
}
