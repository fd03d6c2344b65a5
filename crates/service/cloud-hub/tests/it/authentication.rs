//! Who is let in, and why others are not.

use skerry_gateway::{ActorId, Backend as _, Claim, Credential, Proof, TokenSigner};
use skerry_model::{
    AuthChain, AuthenticationDraft, DeviceDraft, DeviceStatus, ErrorCode, ModuleDraft, ModuleId, Precondition,
    SharedKey,
};

use crate::support::{World, device, id, proof, world};

/// How trying to get in ends: with the actor, or the reason that goes to the log.
async fn enter(world: &World, claim: Claim, signed_by: TokenSigner, key: &SharedKey) -> Result<ActorId, String> {
    match world.hub.authenticate(proof(claim, signed_by, key)).await {
        Ok(actor) => Ok(actor.id),
        Err(denied) => {
            assert_eq!(denied.code, ErrorCode::Unauthorized);
            Err(denied.detail.into_owned())
        }
    }
}

fn client(text: &str) -> Claim {
    Claim::Client(id(text))
}

fn behalf(chain: &str) -> Claim {
    Claim::OnBehalf { chain: AuthChain::parse(chain).unwrap() }
}

#[tokio::test(start_paused = true)]
async fn a_device_enters_with_either_of_its_keys() {
    let world = world().await;
    let keys = world.add_device("d").await.authentication.keys().unwrap().clone();
    let other = world.add_device("other").await.authentication.keys().unwrap().primary.clone();
    for key in [&keys.primary, &keys.secondary] {
        assert_eq!(enter(&world, client("d"), TokenSigner::Device, key).await, Ok(ActorId::Client(id("d"))));
    }
    let refused = enter(&world, client("d"), TokenSigner::Device, &other).await.unwrap_err();
    assert_eq!(refused, "the token was not signed with a key of the device of d");
    let refused = enter(&world, client("nobody"), TokenSigner::Device, &keys.primary).await.unwrap_err();
    assert_eq!(refused, "device nobody is unknown");
    let refused = enter(&world, client("D"), TokenSigner::Device, &keys.primary).await.unwrap_err();
    assert_eq!(refused, "device D is unknown", "ids are compared with their case");

    let draft = DeviceDraft { status: DeviceStatus::Disabled, ..DeviceDraft::new(device("d")) };
    world.hub.put_device(draft, &Precondition::Any).await.unwrap();
    let refused = enter(&world, client("d"), TokenSigner::Device, &keys.primary).await.unwrap_err();
    assert_eq!(refused, "device d is disabled");
}

#[tokio::test(start_paused = true)]
async fn a_module_needs_its_own_key_unless_it_has_none() {
    let world = world().await;
    world.add_edge("edge", None).await;
    world.add_module("edge/mod").await;
    let (device_key, module_key) = (world.key("edge").await, world.key("edge/mod").await);
    assert!(enter(&world, client("edge/mod"), TokenSigner::Module, &module_key).await.is_ok());
    let refused = enter(&world, client("edge/mod"), TokenSigner::Module, &device_key).await.unwrap_err();
    assert_eq!(refused, "the token was not signed with a key of the module of edge/mod");
    let refused = enter(&world, client("edge/mod"), TokenSigner::Device, &device_key).await.unwrap_err();
    assert_eq!(refused, "module edge/mod has credentials of its own and cannot use its device's token");

    // `$edgeAgent` has the type `none` from creation.
    assert!(enter(&world, client("edge/$edgeAgent"), TokenSigner::Device, &device_key).await.is_ok());
    assert!(enter(&world, client("edge/$edgeAgent"), TokenSigner::Module, &device_key).await.is_err());
    let refused = enter(&world, client("edge/missing"), TokenSigner::Module, &module_key).await.unwrap_err();
    assert_eq!(refused, "module edge/missing is unknown");
}

#[tokio::test(start_paused = true)]
async fn a_policy_acts_for_devices_only_with_the_right_to() {
    let world = world().await;
    world.add_device("d").await;
    let key = |name: &str| world.hub.policy(name).unwrap().keys.primary.clone();
    let signer = |name: &str| TokenSigner::Policy(name.to_owned());
    assert_eq!(
        enter(&world, client("d"), signer("device"), &key("device")).await,
        Ok(ActorId::Policy("device".to_owned()))
    );
    let refused = enter(&world, client("d"), signer("service"), &key("service")).await.unwrap_err();
    assert_eq!(refused, "policy `service` has no right to act for devices");
    assert!(enter(&world, Claim::Policy, signer("service"), &key("service")).await.is_ok());
    let refused = enter(&world, Claim::Policy, signer("service"), &key("device")).await.unwrap_err();
    assert_eq!(refused, "the token was not signed with a key of policy `service`");
    assert_eq!(enter(&world, Claim::Policy, signer("x"), &key("device")).await.unwrap_err(), "there is no policy `x`");
}

#[tokio::test(start_paused = true)]
async fn an_edge_hub_speaks_for_those_below_it_and_nobody_else() {
    let world = world().await;
    let upper = world.add_edge("upper", None).await;
    let lower = world.add_edge("lower", Some(&upper)).await;
    let stranger = world.add_edge("stranger", None).await;
    world.add_leaf("leaf", &lower).await;
    world.add_leaf("alien", &stranger).await;
    world.add_module("lower/mod").await;
    world.add_module("upper/own").await;
    world.add_module("leaf/mod").await;
    let hub_key = give_edge_hub_a_key(&world, "upper").await;

    let check = async |chain: &str| enter(&world, behalf(chain), TokenSigner::Module, &hub_key).await;
    for chain in [
        "leaf;lower;upper",
        "lower/mod;lower;upper",
        "lower;upper",
        "upper/own;upper",
        "leaf/mod;leaf;lower;upper",
        "upper",
    ] {
        assert_eq!(check(chain).await, Ok(ActorId::EdgeHub(device("upper"))), "{chain}");
    }
    for (chain, reason) in [
        ("alien;upper", "alien does not stand below upper"),
        ("leaf;upper", "leaf does not stand below upper"),
        ("alien;stranger;upper", "stranger does not stand below upper"),
        ("lower/mod;upper", "in the auth chain, lower/mod is not followed by its device"),
        ("lower/mod;lower/mod;upper", "in the auth chain, lower/mod is not followed by its device"),
        ("leaf;lower/mod;upper", "an auth chain has modules in its first place only"),
        ("ghost;upper", "device ghost is unknown"),
        ("lower/ghost;lower;upper", "module lower/ghost is unknown"),
    ] {
        assert_eq!(check(chain).await, Err(reason.to_owned()), "{chain}");
    }

    let mut draft = DeviceDraft::new(device("lower"));
    (draft.iot_edge, draft.parent, draft.status) = (true, upper.own_scope(), DeviceStatus::Disabled);
    world.hub.put_device(draft, &Precondition::Any).await.unwrap();
    assert_eq!(check("leaf;lower;upper").await, Err("device lower is disabled".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_recreated_parent_does_not_inherit_its_children() {
    let world = world().await;
    let edge = world.add_edge("edge", None).await;
    world.add_leaf("leaf", &edge).await;
    world.hub.delete_device(&device("edge"), &Precondition::Any).await.unwrap();
    world.add_edge("edge", None).await;
    let hub_key = give_edge_hub_a_key(&world, "edge").await;
    let refused = enter(&world, behalf("leaf;edge"), TokenSigner::Module, &hub_key).await;
    assert_eq!(refused, Err("leaf does not stand below edge".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn certificates_and_empty_hands_are_refused_with_a_reason() {
    let world = world().await;
    world.add_device("d").await;
    for credential in [Credential::Certificate(vec![vec![1]]), Credential::Missing] {
        let denied = world.hub.authenticate(Proof { claim: client("d"), credential }).await.unwrap_err();
        assert_eq!(denied.code, ErrorCode::Unauthorized);
    }
}

async fn give_edge_hub_a_key(world: &World, edge: &str) -> SharedKey {
    let id = ModuleId::parse(&format!("{edge}/$edgeHub")).unwrap();
    let draft = ModuleDraft { authentication: AuthenticationDraft::generated_keys(), ..ModuleDraft::new(id) };
    world.hub.put_module(draft, &Precondition::Any).await.unwrap();
    world.key(&format!("{edge}/$edgeHub")).await
}
