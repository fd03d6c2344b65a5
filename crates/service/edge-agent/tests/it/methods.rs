//! Direct methods.

use serde_json::{Value as Json, json};
use skerry_module_runtime::fake::Call;

use crate::world::{World, desired, image, name};

#[tokio::test(start_paused = true)]
async fn methods_are_answered() {
    let mut world = World::new();
    world.hub.set_desired(desired(&json!({"m": image("m:1")})));
    world.start();
    world.hub.connect();
    world.until_reported(1, 200).await;

    let calls = world.docker.calls().len();
    let mut answered = 0;
    let mut answer = async |method: &str, payload: &str| {
        answered += 1;
        world.hub.call(method, payload);
        world.until("an answer", |world| world.hub.answers().len() == answered).await;
        world.hub.answers().remove(answered - 1)
    };
    assert_eq!(answer("ping", "").await, (200, "null".to_owned()));
    assert_eq!(answer("restartmodule", r#"{"schemaVersion":"1.0","id":"m"}"#).await, (200, "null".to_owned()));
    let message = |(status, body): (i64, String)| {
        let body: Json = serde_json::from_str(&body).unwrap();
        (status, body["message"].as_str().unwrap().to_owned())
    };
    let missing = message(answer("RestartModule", r#"{"schemaVersion":"1.0","id":"x"}"#).await);
    assert_eq!(missing, (500, "there is no module `x`".to_owned()));
    assert_eq!(message(answer("RestartModule", r#"{"schemaVersion":"1.0","id":"$edgeHub"}"#).await).0, 500);
    assert_eq!(message(answer("RestartModule", "{}").await).0, 400);
    assert!(message(answer("GetNothing", "").await).1.starts_with("Command 'GetNothing' not found."));
    assert_eq!(world.docker.calls()[calls..], [Call::Stop(name("m"), None), Call::Start(name("m"))]);
    world.until_status("m", "running").await;
    assert_eq!(world.hub.reported()["modules"]["m"]["restartCount"], 0);
}
