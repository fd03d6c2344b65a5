//! What an edge hub learns about those below it.

use skerry_cloud_hub::ScopePage;
use skerry_model::{AuthChain, DeviceId, ErrorCode, ModuleDraft, ModuleId, ModuleName, Precondition, RequestError};

use crate::support::{World, device, id, world};

fn chain(text: &str) -> AuthChain {
    AuthChain::parse(text).unwrap()
}

/// upper ← lower ← leaf0…leaf4, with modules on both edges and on one leaf.
async fn hierarchy() -> World {
    let world = world().await;
    let upper = world.add_edge("upper", None).await;
    let lower = world.add_edge("lower", Some(&upper)).await;
    for n in 0..5 {
        world.add_leaf(&format!("leaf{n}"), &lower).await;
    }
    world.add_module("upper/a").await;
    world.add_module("lower/b").await;
    world.add_module("leaf3/c").await;
    world.add_device("elsewhere").await;
    world
}

fn names(page: &ScopePage) -> (Vec<String>, Vec<String>) {
    let devices = page.devices.iter().map(|device| device.id.to_string()).collect();
    (devices, page.modules.iter().map(|module| module.id.to_string()).collect())
}

#[tokio::test(start_paused = true)]
async fn a_scope_is_the_device_and_one_level_below() {
    let world = hierarchy().await;
    let page = world.hub.scope(&device("upper"), &chain("upper"), 10, None).await.unwrap();
    let (devices, modules) = names(&page);
    assert_eq!(devices, ["upper", "lower"]);
    assert_eq!(
        modules,
        ["upper/$edgeAgent", "upper/$edgeHub", "upper/a", "lower/$edgeAgent", "lower/$edgeHub", "lower/b"]
    );
    assert!(page.devices.iter().all(|device| device.authentication.keys().is_some()));
    assert_eq!(page.next, None);
    let leaf = world.hub.scope(&device("upper"), &chain("leaf3;lower;upper"), 10, None).await.unwrap();
    assert_eq!(names(&leaf), (vec!["leaf3".to_owned()], vec!["leaf3/c".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn pages_follow_each_other_without_gap_or_repetition() {
    let world = hierarchy().await;
    let mut seen = Vec::new();
    let mut after: Option<DeviceId> = None;
    loop {
        let page = world.hub.scope(&device("upper"), &chain("lower;upper"), 2, after.as_ref()).await.unwrap();
        assert!(page.devices.len() <= 3);
        seen.extend(names(&page).0);
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    assert_eq!(seen, ["lower", "leaf0", "leaf1", "leaf2", "leaf3", "leaf4"]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_told_about_others() {
    let world = hierarchy().await;
    let refused = |result: Result<ScopePage, RequestError>| result.unwrap_err().code;
    let scope = async |edge: &str, text: &str| world.hub.scope(&device(edge), &chain(text), 10, None).await;
    assert_eq!(refused(scope("lower", "upper;lower").await), ErrorCode::Unauthorized);
    assert_eq!(refused(scope("upper", "elsewhere;upper").await), ErrorCode::Unauthorized);
    assert_eq!(refused(scope("upper", "lower").await), ErrorCode::Unauthorized);
    assert_eq!(refused(scope("elsewhere", "elsewhere").await), ErrorCode::Unauthorized);
    let one =
        async |target: &str| world.hub.identity_on_behalf(&device("upper"), &chain("lower;upper"), &id(target)).await;
    assert_eq!(names(&one("lower/b").await.unwrap()), (vec!["lower".to_owned()], vec!["lower/b".to_owned()]));
    assert_eq!(names(&one("lower").await.unwrap()), (vec!["lower".to_owned()], vec![]));
    assert_eq!(refused(one("elsewhere").await), ErrorCode::Unauthorized);
    assert_eq!(refused(one("lower/ghost").await), ErrorCode::ModuleNotFound);
}

#[tokio::test(start_paused = true)]
async fn modules_below_are_made_and_deleted_on_behalf() {
    let world = hierarchy().await;
    let (edge, below) = (device("upper"), chain("lower;upper"));
    let draft = |text: &str| ModuleDraft::new(ModuleId::parse(text).unwrap());
    let put = async |draft| world.hub.put_module_on_behalf(&edge, &below, draft, &Precondition::Absent).await;
    put(draft("lower/new")).await.unwrap();
    assert_eq!(put(draft("elsewhere/new")).await.unwrap_err().code, ErrorCode::Unauthorized);
    let modules = world.hub.modules_on_behalf(&edge, &below).await.unwrap();
    assert_eq!(modules.iter().map(|m| m.id.name.as_str()).collect::<Vec<_>>(), ["$edgeAgent", "$edgeHub", "b", "new"]);
    let new = ModuleName::parse("new").unwrap();
    world.hub.delete_module_on_behalf(&edge, &below, new.clone()).await.unwrap();
    let again = world.hub.delete_module_on_behalf(&edge, &below, new).await.unwrap_err();
    assert_eq!(again.code, ErrorCode::ModuleNotFound);
}
