//! Policies of the hub: named pairs of keys with rights, for services and operators.

use skerry_model::{ErrorCode, KeyPair, RequestError, SharedKey};
use skerry_pki::Random;
use skerry_state::{Change, Expect, Filter, Key, Kind, Page, StateError, StateStore};

use crate::records;

const POLICY: Kind = Kind::new("policy");
/// Policies of one hub, at most.
const POLICIES_MAX: u32 = 16;

/// What a policy allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rights {
    /// Read identities.
    pub registry_read: bool,
    /// Create, change and delete identities, apply configurations.
    pub registry_write: bool,
    /// Twins, methods, commands, reading events.
    pub service_connect: bool,
    /// Act for any device.
    pub device_connect: bool,
}

/// A named pair of keys with rights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// What it allows.
    pub rights: Rights,
    /// Either key validates.
    pub keys: KeyPair,
}

/// The policies a new hub has (`service-auth-and-registry` §2).
const DEFAULTS: [(&str, Rights); 5] = [
    ("iothubowner", rights(true, true, true, true)),
    ("service", rights(false, false, true, false)),
    ("device", rights(false, false, false, true)),
    ("registryRead", rights(true, false, false, false)),
    ("registryReadWrite", rights(true, true, false, false)),
];

const fn rights(registry_read: bool, registry_write: bool, service_connect: bool, device_connect: bool) -> Rights {
    Rights { registry_read, registry_write, service_connect, device_connect }
}

/// The stored policies; makes the default ones with new keys in a store that has none.
pub(crate) async fn load_or_create(state: &dyn StateStore, random: &Random) -> Result<Vec<Policy>, StateError> {
    let found = state.find(&POLICY, &Filter::all(), Page::first(POLICIES_MAX)).await?;
    if !found.records.is_empty() {
        return found.records.iter().map(|record| records::read_policy(&record.key.id, &record.value)).collect();
    }
    let mut policies: Vec<_> = DEFAULTS
        .iter()
        .map(|(name, rights)| Policy { name: (*name).to_owned(), rights: *rights, keys: generated_keys(random) })
        .collect();
    // As a store gives them back.
    policies.sort_by(|a, b| a.name.cmp(&b.name));
    let changes = policies.iter().map(|policy| {
        let key = Key::new(POLICY, policy.name.clone());
        Change::put(key, Expect::Absent, records::write_policy(policy))
    });
    state.commit(changes.collect()).await?;
    Ok(policies)
}

/// Two new keys of 32 random bytes.
pub(crate) fn generated_keys(random: &Random) -> KeyPair {
    KeyPair { primary: generated_key(random), secondary: generated_key(random) }
}

/// A new key of 32 random bytes.
pub(crate) fn generated_key(random: &Random) -> SharedKey {
    let bytes = random.bytes::<32>();
    match SharedKey::from_bytes(&bytes) {
        Ok(key) => key,
        Err(_) => unreachable!("32 bytes are a key"),
    }
}

impl Rights {
    /// Refuses when `held` is missing.
    ///
    /// # Errors
    /// `Unauthorized`, which is what the platform answers to a missing right too.
    pub fn require(held: bool, right: &'static str) -> Result<(), RequestError> {
        if held {
            Ok(())
        } else {
            Err(RequestError::new(ErrorCode::Unauthorized, format!("the policy has no right `{right}`")))
        }
    }
}
