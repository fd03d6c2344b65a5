//! What devices and edge hubs ask with their own tokens: telemetry by POST, and who stands below a gateway.

use std::borrow::Cow;

use skerry_cloud_hub::ScopePage;
use skerry_dialect::http::{self, BATCH_CONTENT_TYPE, ScopeCall, query_parameter, telemetry_properties};
use skerry_dialect::identity::{ScopeAnswer, ScopeRequest, module_body};
use skerry_model::{
    ClientId, DeviceId, ErrorCode, Json, Message, ModuleDraft, ModuleName, ModuleRecord, Precondition, RequestError,
};
use skerry_net::http::{Method, Request, Response, header};

use crate::CloudApi;
use crate::respond::{Answered, done, entity, json};
use crate::routes::Call;

/// A whole request with many messages, in bytes (`device-https` §3).
const BATCH_BYTES_MAX: usize = 262_144;
/// What continuation links name; any value is accepted.
const LINK_VERSION: &str = "2020-06-30-preview";

impl CloudApi {
    /// Takes messages; 204 when they are durable.
    pub(crate) async fn telemetry(&self, call: &Call<'_>, client: &ClientId) -> Answered {
        if call.method != Method::POST {
            return Err(call.no_such_method().into());
        }
        let actor = self.client(call, client).await?;
        let messages = messages(call.request)?;
        let views: Vec<_> = messages.iter().map(Message::view).collect();
        self.hub.send_telemetry(&actor, client, &views).await?;
        Ok(done())
    }

    /// Answers the hub of the edge device `edge`, which shows the token of its `$edgeHub`.
    pub(crate) async fn scope(&self, call: &Call<'_>, edge: &DeviceId, question: ScopeCall) -> Answered {
        self.client(call, &edge.module(ModuleName::edge_hub()).into()).await?;
        let asked = match call.method {
            Method::GET => ScopeRequest::read_query(question, edge, call.request.query())?,
            Method::POST | Method::PUT => ScopeRequest::read(question, edge, &call.request.body)?,
            _ => return Err(call.no_such_method().into()),
        };
        match asked {
            ScopeRequest::InTargetScope { chain, page_size, continuation } => {
                let after = continuation.as_deref().map(continues_after).transpose()?;
                let devices_max = u32::try_from(page_size).unwrap_or(u32::MAX);
                let page = self.hub.scope(edge, &chain, devices_max, after.as_ref()).await?;
                let continuation = page.next.as_ref().map(|next| link(question, edge, page_size, next));
                Ok(json(scope_answer(page, continuation).body()))
            }
            ScopeRequest::OnBehalf { chain, target } => {
                let found = self.hub.identity_on_behalf(edge, &chain, &target).await?;
                Ok(json(scope_answer(found, None).body()))
            }
            ScopeRequest::ModuleOnBehalf { chain, module } => {
                let modules = self.hub.modules_on_behalf(edge, &chain).await?;
                match modules.iter().find(|known| known.id.name == module) {
                    Some(module) => Ok(module_entity(module)),
                    None => {
                        let text = format!("module `{module}` is not registered there");
                        Err(RequestError::new(ErrorCode::ModuleNotFound, text).into())
                    }
                }
            }
            ScopeRequest::ModulesOnTarget { chain } => {
                let modules = self.hub.modules_on_behalf(edge, &chain).await?;
                Ok(json(Json::Array(modules.iter().map(module_body).collect()).to_string()))
            }
            ScopeRequest::PutModule { chain, module } => {
                let put = async |when: &Precondition, module: ModuleDraft| {
                    self.hub.put_module_on_behalf(edge, &chain, module, when).await
                };
                let when = call.precondition();
                let mut written = put(&when, module.clone()).await;
                // Without a condition this call makes or replaces.
                if when == Precondition::Absent
                    && written.as_ref().is_err_and(|error| error.code == ErrorCode::ModuleAlreadyExists)
                {
                    written = put(&Precondition::Any, module).await;
                }
                Ok(module_entity(&written?))
            }
            ScopeRequest::DeleteModule { chain, module } => {
                self.hub.delete_module_on_behalf(edge, &chain, module).await?;
                Ok(done())
            }
        }
    }
}

/// The messages of a request: its body with properties in headers, or a JSON array of many.
fn messages(request: &Request) -> Result<Vec<Message>, RequestError> {
    let content_type = request.header_text(header::CONTENT_TYPE).unwrap_or_default();
    let content_type = content_type.split(';').next().unwrap_or_default().trim();
    if content_type.eq_ignore_ascii_case(BATCH_CONTENT_TYPE) {
        if request.body.len() > BATCH_BYTES_MAX {
            let text = format!("a batch has at most {BATCH_BYTES_MAX} bytes, this one has {}", request.body.len());
            return Err(RequestError::new(ErrorCode::TooLarge, text));
        }
        return http::batch(&request.body);
    }
    let headers = request.headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
    Ok(vec![Message { properties: telemetry_properties(headers), body: request.body.clone() }])
}

fn module_entity(module: &ModuleRecord) -> Response {
    entity(&module.etag, module_body(module).to_string())
}

fn scope_answer(page: ScopePage, continuation: Option<String>) -> ScopeAnswer {
    ScopeAnswer { devices: page.devices, modules: page.modules, continuation }
}

/// A relative address, as the original's readers expect: some of them send it back in a body, older ones follow it.
fn link(call: ScopeCall, edge: &DeviceId, page_size: usize, after: &DeviceId) -> String {
    let path = call.path(edge);
    let token = percent_encoded(after.as_str());
    format!("{path}?deviceCount={page_size}&continuationToken={token}&api-version={LINK_VERSION}")
}

/// Ids have some characters that mean something in a query.
fn percent_encoded(id: &str) -> String {
    let encode = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    id.bytes().map(encode).collect()
}

/// The device that the page before ended with: from a link, or from the token alone.
fn continues_after(continuation: &str) -> Result<DeviceId, RequestError> {
    let token = match continuation.split_once('?') {
        Some((_, query)) => query_parameter(query, "continuationToken").unwrap_or_default(),
        None => Cow::Borrowed(continuation),
    };
    DeviceId::parse(&token)
        .map_err(|_| RequestError::new(ErrorCode::ArgumentInvalid, "the continuation is not one of ours"))
}
