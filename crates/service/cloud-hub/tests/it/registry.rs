//! Devices and modules: conditions, defaults and what goes with what.

use skerry_model::{
    AuthKind, Authentication, AuthenticationDraft, DeviceDraft, DeviceStatus, ErrorCode, ModuleDraft, ModuleId,
    Precondition, RequestError, SharedKey,
};

use crate::support::{device, id, world};

fn module(text: &str) -> ModuleId {
    ModuleId::parse(text).unwrap()
}

fn code<T>(result: Result<T, RequestError>) -> ErrorCode {
    result.err().expect("a refusal").code
}

#[tokio::test(start_paused = true)]
async fn conditions_decide_between_creating_and_changing() {
    let world = world().await;
    let put = async |when: Precondition| world.hub.put_device(DeviceDraft::new(device("d")), &when).await;
    assert_eq!(code(put(Precondition::Any).await), ErrorCode::DeviceNotFound);
    let created = put(Precondition::Absent).await.unwrap();
    assert_eq!(code(put(Precondition::Absent).await), ErrorCode::DeviceAlreadyExists);
    let changed = put(Precondition::Etag(created.etag.clone())).await.unwrap();
    assert_ne!(changed.etag, created.etag);
    assert_eq!(changed.generation, created.generation);
    assert_eq!(changed.authentication, created.authentication, "keys that are left out are kept");
    assert_eq!(code(put(Precondition::Etag(created.etag.clone())).await), ErrorCode::PreconditionFailed);
    let delete = async |when: Precondition| world.hub.delete_device(&device("d"), &when).await;
    assert_eq!(code(delete(Precondition::Etag(created.etag)).await), ErrorCode::PreconditionFailed);
    delete(Precondition::Etag(changed.etag)).await.unwrap();
    assert_eq!(code(delete(Precondition::Absent).await), ErrorCode::DeviceNotFound);
    let again = put(Precondition::Absent).await.unwrap();
    assert!(again.generation > changed.generation && again.generation.len() == 18);
    assert_ne!(again.authentication, changed.authentication);
}

#[tokio::test(start_paused = true)]
async fn an_edge_device_comes_with_its_system_modules() {
    let world = world().await;
    let edge = world.add_edge("edge", None).await;
    assert!(edge.own_scope().unwrap().as_str().starts_with("ms-azure-iot-edge://edge-"));
    let modules = world.hub.list_modules(&device("edge")).await.unwrap();
    let names: Vec<_> = modules.iter().map(|m| (m.id.name.as_str(), m.managed_by.as_str())).collect();
    assert_eq!(names, [("$edgeAgent", "iotEdge"), ("$edgeHub", "iotEdge")]);
    assert!(modules.iter().all(|module| module.authentication == Authentication::None));
    assert_eq!(world.hub.twin(&id("edge/$edgeHub")).await.unwrap().twin.version, 2);

    // First contact: the edge puts keys of its own, and leaves `managedBy` out.
    let key = SharedKey::from_bytes(&[7; 32]).unwrap();
    let authentication = AuthenticationDraft::Sas { primary: Some(key.clone()), secondary: Some(key.clone()) };
    let draft = ModuleDraft { authentication, ..ModuleDraft::new(module("edge/$edgeHub")) };
    let put = world.hub.put_module(draft, &Precondition::Any).await.unwrap();
    assert_eq!((put.generation, put.managed_by.as_str()), (modules[1].generation.clone(), "iotEdge"));
    assert_eq!(put.authentication.keys().map(|keys| &keys.primary), Some(&key));
    let delete = world.hub.delete_module(&module("edge/$edgeHub"), &Precondition::Any).await;
    assert_eq!(code(delete), ErrorCode::Forbidden);
    world.hub.delete_device(&device("edge"), &Precondition::Any).await.unwrap();
    assert_eq!(code(world.hub.twin(&id("edge/$edgeHub")).await), ErrorCode::DeviceNotFound);
    assert_eq!(code(world.hub.list_modules(&device("edge")).await), ErrorCode::DeviceNotFound);
}

#[tokio::test(start_paused = true)]
async fn what_a_device_cannot_be_is_refused() {
    let world = world().await;
    let draft = DeviceDraft::new(device("d"));
    let none = DeviceDraft { authentication: AuthenticationDraft::None, ..draft.clone() };
    assert_eq!(code(world.hub.put_device(none, &Precondition::Absent).await), ErrorCode::ArgumentInvalid);
    let long = DeviceDraft { status_reason: Some("ä".repeat(129)), ..draft.clone() };
    assert_eq!(code(world.hub.put_device(long, &Precondition::Absent).await), ErrorCode::ArgumentInvalid);
    world.hub.put_device(draft.clone(), &Precondition::Absent).await.unwrap();
    let turned = DeviceDraft { iot_edge: true, ..draft };
    assert_eq!(code(world.hub.put_device(turned, &Precondition::Any).await), ErrorCode::ArgumentInvalid);
    let edge = world.add_edge("edge", None).await;
    let own = DeviceDraft { iot_edge: true, parent: edge.own_scope(), ..DeviceDraft::new(device("edge")) };
    assert_eq!(code(world.hub.put_device(own, &Precondition::Any).await), ErrorCode::ArgumentInvalid);
}

#[tokio::test(start_paused = true)]
async fn the_status_says_when_it_changed() {
    let world = world().await;
    assert_eq!(world.add_device("d").await.status_updated, None);
    let disabled = DeviceDraft {
        status: DeviceStatus::Disabled,
        status_reason: Some("stolen".to_owned()),
        ..DeviceDraft::new(device("d"))
    };
    let changed = world.hub.put_device(disabled.clone(), &Precondition::Any).await.unwrap();
    assert_eq!(
        (changed.status_updated, changed.status_reason.as_deref()),
        (Some(crate::support::START), Some("stolen"))
    );
    tokio::time::sleep(std::time::Duration::from_secs(9)).await;
    let same = world.hub.put_device(disabled, &Precondition::Any).await.unwrap();
    assert_eq!(same.status_updated, changed.status_updated);
    world.add_device("e").await;
    let statistics = world.hub.statistics().await.unwrap();
    assert_eq!((statistics.devices, statistics.enabled), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn modules_have_conditions_and_a_limit() {
    let world = world().await;
    world.add_device("d").await;
    let put = async |name: &str, when: Precondition| world.hub.put_module(ModuleDraft::new(module(name)), &when).await;
    assert_eq!(code(put("ghost/m", Precondition::Absent).await), ErrorCode::DeviceNotFound);
    assert_eq!(code(put("d/m", Precondition::Any).await), ErrorCode::ModuleNotFound);
    assert_eq!(code(put("d/$edgeAgent", Precondition::Absent).await), ErrorCode::ArgumentInvalid);
    let first = put("d/m00", Precondition::Absent).await.unwrap();
    assert_eq!(first.authentication.kind(), AuthKind::Sas);
    assert_eq!(code(put("d/m00", Precondition::Absent).await), ErrorCode::ModuleAlreadyExists);
    for n in 1..50 {
        put(&format!("d/m{n:02}"), Precondition::Absent).await.unwrap();
    }
    assert_eq!(code(put("d/m50", Precondition::Absent).await), ErrorCode::LimitExceeded);
    assert_eq!(world.hub.list_modules(&device("d")).await.unwrap().len(), 50);
    world.hub.delete_module(&module("d/m00"), &Precondition::Etag(first.etag)).await.unwrap();
    assert_eq!(code(world.hub.delete_module(&module("d/m00"), &Precondition::Any).await), ErrorCode::ModuleNotFound);
    put("d/m50", Precondition::Absent).await.unwrap();
    assert_eq!(world.hub.list_modules(&device("d")).await.unwrap()[0].id, module("d/m01"));
}

#[tokio::test(start_paused = true)]
async fn devices_whose_names_begin_alike_do_not_mix() {
    let world = world().await;
    for name in ["d", "d-", "d0", "D"] {
        world.add_device(name).await;
        world.add_module(&format!("{name}/m")).await;
    }
    world.hub.delete_device(&device("d"), &Precondition::Absent).await.unwrap();
    let left: Vec<_> = world.hub.list_devices(10).await.unwrap().into_iter().map(|d| d.id.to_string()).collect();
    assert_eq!(left, ["D", "d-", "d0"]);
    assert_eq!(world.hub.list_modules(&device("d0")).await.unwrap().len(), 1);
    assert_eq!(world.hub.list_devices(2).await.unwrap().len(), 2);
}
