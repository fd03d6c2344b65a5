//! What an edge hub asks about those below it, and what it is answered.
//!
//! Source: `edge-hub-specifics` §8.2–8.3.

use serde_json::json;
use skerry_model::{
    AuthChain, ClientId, DeviceId, DeviceRecord, Json, ModuleDraft, ModuleName, ModuleRecord, RequestError,
    json::JsonObject,
};

use super::{device_core, draft_of_module, module_core, module_draft_body, read_device, read_module};
use crate::body::{invalid, member, object, text};
use crate::http::ScopeCall;

/// Entries of a page when the asker does not say.
const PAGE_SIZE_DEFAULT: usize = 100;
/// Most entries of a page.
const PAGE_SIZE_MAX: usize = 1_000;

/// A question, or an order, of an edge hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScopeRequest {
    /// The target of the chain with its modules, and its children with theirs.
    InTargetScope {
        /// Target first, the asking edge device last.
        chain: AuthChain,
        /// Most entries of the answer, 1 to 1000.
        page_size: usize,
        /// Where to go on, from the answer before.
        continuation: Option<String>,
    },
    /// One identity; for a module its device too.
    OnBehalf {
        /// The identity first, the asking edge device last.
        chain: AuthChain,
        /// Which identity.
        target: ClientId,
    },
    /// One module of the chain's target.
    ModuleOnBehalf {
        /// The module's device first, the asking edge device last.
        chain: AuthChain,
        /// Which module.
        module: ModuleName,
    },
    /// The modules of the chain's target.
    ModulesOnTarget {
        /// The device first, the asking edge device last.
        chain: AuthChain,
    },
    /// Create or update a module of the chain's target.
    PutModule {
        /// The module's device first, the asking edge device last.
        chain: AuthChain,
        /// What is wanted.
        module: ModuleDraft,
    },
    /// Delete a module of the chain's target.
    DeleteModule {
        /// The module's device first, the asking edge device last.
        chain: AuthChain,
        /// Which module.
        module: ModuleName,
    },
}

impl ScopeRequest {
    /// Reads the body of `call`, asked by the hub of the edge device `actor`. Calls from before there were nested gateways have no
    /// body; see [`ScopeRequest::read_query`].
    ///
    /// # Errors
    /// When a member is missing or malformed, or the chain does not end in `actor`.
    pub fn read(call: ScopeCall, actor: &DeviceId, body: &[u8]) -> Result<Self, RequestError> {
        let body = object(body)?;
        let chain = text(&body, "authChain")?.ok_or_else(|| invalid("`authChain` is missing"))?;
        let chain = AuthChain::parse(chain).map_err(|error| invalid(format!("`authChain`: {error}")))?;
        if chain.actor() != Some(&ClientId::Device(actor.clone())) {
            return Err(invalid(format!("the auth chain does not end in `{actor}`")));
        }
        let subject = subject(&chain)?;
        Ok(match call {
            ScopeCall::InTargetScope | ScopeCall::InOwnScope => Self::InTargetScope {
                chain,
                page_size: page_size(body.get("pageSize").and_then(Json::as_u64)),
                continuation: text(&body, "continuationLink")?.map(str::to_owned),
            },
            ScopeCall::OnBehalf | ScopeCall::OneInOwnScope => {
                let device = text(&body, "targetDeviceId")?.ok_or_else(|| invalid("`targetDeviceId` is missing"))?;
                let module = text(&body, "targetModuleId")?.filter(|name| !name.is_empty());
                Self::OnBehalf { chain, target: client(device, module)? }
            }
            ScopeCall::ModuleOnBehalf => Self::ModuleOnBehalf { chain, module: module(&body, "targetModuleId")? },
            ScopeCall::ModulesOnTarget => Self::ModulesOnTarget { chain },
            ScopeCall::PutModule => {
                let document = member(&body, "module")?.ok_or_else(|| invalid("`module` is missing"))?;
                let id = subject.module(module(document, "moduleId")?);
                Self::PutModule { module: draft_of_module(&id, document)?, chain }
            }
            ScopeCall::DeleteModule => Self::DeleteModule { chain, module: module(&body, "moduleId")? },
        })
    }

    /// Reads the query of a call from before there were nested gateways, asked by the hub of the edge device `actor`.
    ///
    /// # Errors
    /// When a parameter is missing or malformed.
    pub fn read_query(call: ScopeCall, actor: &DeviceId, query: &str) -> Result<Self, RequestError> {
        let parameter = |name| crate::http::query_parameter(query, name).filter(|value| !value.is_empty());
        if call == ScopeCall::OneInOwnScope {
            let device = parameter("targetDeviceId").ok_or_else(|| invalid("`targetDeviceId` is missing"))?;
            let target = client(&device, parameter("targetModuleId").as_deref())?;
            return Ok(Self::OnBehalf { chain: AuthChain::direct(target.clone(), actor.clone()), target });
        }
        let own = AuthChain::parse(actor.as_str()).map_err(|error| invalid(error.to_string()))?;
        Ok(Self::InTargetScope {
            chain: own,
            page_size: page_size(parameter("deviceCount").and_then(|count| count.parse().ok())),
            continuation: parameter("continuationToken").map(|token| token.into_owned()),
        })
    }

    /// The own scope of `edge`, from the beginning.
    pub fn own_scope(edge: &DeviceId, page_size: usize, continuation: Option<String>) -> Self {
        let own = ClientId::Device(edge.clone());
        // A chain of one link is well formed because the link is an id.
        let chain = AuthChain::parse(edge.as_str()).unwrap_or_else(|_| AuthChain::direct(own, edge.clone()));
        Self::InTargetScope { chain, page_size, continuation }
    }

    /// Which call this is.
    pub const fn call(&self) -> ScopeCall {
        match self {
            Self::InTargetScope { .. } => ScopeCall::InTargetScope,
            Self::OnBehalf { .. } => ScopeCall::OnBehalf,
            Self::ModuleOnBehalf { .. } => ScopeCall::ModuleOnBehalf,
            Self::ModulesOnTarget { .. } => ScopeCall::ModulesOnTarget,
            Self::PutModule { .. } => ScopeCall::PutModule,
            Self::DeleteModule { .. } => ScopeCall::DeleteModule,
        }
    }

    /// From the target to the asking edge device.
    pub const fn chain(&self) -> &AuthChain {
        match self {
            Self::InTargetScope { chain, .. }
            | Self::OnBehalf { chain, .. }
            | Self::ModuleOnBehalf { chain, .. }
            | Self::ModulesOnTarget { chain }
            | Self::PutModule { chain, .. }
            | Self::DeleteModule { chain, .. } => chain,
        }
    }

    /// The body that asks this.
    pub fn body(&self) -> String {
        let mut body = match self {
            Self::InTargetScope { page_size, continuation, .. } => {
                json!({ "pageSize": page_size, "continuationLink": continuation })
            }
            Self::OnBehalf { target, .. } => {
                let mut body = json!({ "targetDeviceId": target.device().as_str() });
                if let Some(module) = target.module() {
                    body["targetModuleId"] = module.as_str().into();
                }
                body
            }
            Self::ModuleOnBehalf { module, .. } => json!({ "targetModuleId": module.as_str() }),
            Self::ModulesOnTarget { .. } => json!({}),
            Self::PutModule { module, .. } => json!({ "module": module_draft_body(module) }),
            Self::DeleteModule { module, .. } => json!({ "moduleId": module.as_str() }),
        };
        body["authChain"] = self.chain().to_string().into();
        body.to_string()
    }
}

fn page_size(asked: Option<u64>) -> usize {
    asked
        .and_then(|asked| usize::try_from(asked).ok())
        .filter(|size| *size > 0)
        .unwrap_or(PAGE_SIZE_DEFAULT)
        .min(PAGE_SIZE_MAX)
}

fn subject(chain: &AuthChain) -> Result<DeviceId, RequestError> {
    chain.subject().map(|subject| subject.device().clone()).ok_or_else(|| invalid("`authChain` is empty"))
}

fn module(body: &JsonObject, name: &str) -> Result<ModuleName, RequestError> {
    let id = text(body, name)?.ok_or_else(|| invalid(format!("`{name}` is missing")))?;
    ModuleName::parse(id).map_err(|error| invalid(format!("`{name}`: {error}")))
}

fn client(device: &str, module: Option<&str>) -> Result<ClientId, RequestError> {
    let wrong = |error| invalid(format!("the target is wrong: {error}"));
    let module = module.map(ModuleName::parse).transpose().map_err(wrong)?;
    Ok(ClientId::new(DeviceId::parse(device).map_err(wrong)?, module))
}

/// Who is in a scope.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScopeAnswer {
    /// Devices.
    pub devices: Vec<DeviceRecord>,
    /// Modules of them.
    pub modules: Vec<ModuleRecord>,
    /// Where to go on; to be sent back unchanged.
    pub continuation: Option<String>,
}

impl ScopeAnswer {
    /// The body of the answer; all three members are always there, since the original edge hub insists on it.
    pub fn body(&self) -> String {
        let devices: Vec<_> = self.devices.iter().map(device_core).collect();
        let modules: Vec<_> = self.modules.iter().map(module_core).collect();
        json!({ "devices": devices, "modules": modules, "continuationLink": self.continuation }).to_string()
    }

    /// Reads the body of an answer. An entry that cannot be read is left out and counted: one broken identity must not keep all
    /// others out.
    ///
    /// # Errors
    /// When the body is not such an answer at all.
    pub fn read(body: &[u8]) -> Result<(Self, usize), RequestError> {
        let body = object(body)?;
        let mut unread = 0;
        let mut answer = Self {
            continuation: text(&body, "continuationLink")?.filter(|link| !link.is_empty()).map(str::to_owned),
            ..Self::default()
        };
        for document in entries(&body, "devices")? {
            match read_device(document) {
                Ok(device) => answer.devices.push(device),
                Err(_) => unread += 1,
            }
        }
        for document in entries(&body, "modules")? {
            match read_module(document) {
                Ok(module) => answer.modules.push(module),
                Err(_) => unread += 1,
            }
        }
        Ok((answer, unread))
    }
}

fn entries<'a>(body: &'a JsonObject, name: &str) -> Result<&'a [Json], RequestError> {
    match body.get(name) {
        None | Some(Json::Null) => Ok(&[]),
        Some(Json::Array(entries)) => Ok(entries),
        Some(_) => Err(invalid(format!("`{name}` is not an array"))),
    }
}
