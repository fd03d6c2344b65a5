//! The calls of the workload API (`edge-workload-and-management-api` §3).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;
use skerry_model::{Json, ModuleName, Timestamp, json};
use skerry_net::http::{ClientLimits, HttpAddress, HttpClient, HttpError, Method, Request, StatusCode};
use zeroize::Zeroizing;

use crate::Environment;

/// Levels of nesting in any answer of the API, with room to grow.
const ANSWER_DEPTH_MAX: usize = 32;
/// Characters of an error message that are kept.
const MESSAGE_CHARS_MAX: usize = 300;
const PATH_SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Why the edge did not do what a module asked.
#[derive(Debug, thiserror::Error)]
pub enum WorkloadError {
    /// No answer.
    #[error("cannot {action}")]
    Unreachable {
        /// What was attempted.
        action: &'static str,
        /// Why.
        #[source]
        cause: HttpError,
    },
    /// Refused.
    #[error("cannot {action}: the edge answers {status} `{message}`")]
    Refused {
        /// What was attempted.
        action: &'static str,
        /// The HTTP status.
        status: u16,
        /// The edge's reason.
        message: String,
    },
    /// An answer that is not what the API promises.
    #[error("cannot {action}: the edge's answer has no usable `{field}`")]
    Answer {
        /// What was attempted.
        action: &'static str,
        /// What was missing or malformed.
        field: &'static str,
    },
}

/// A certificate that the edge issued.
#[derive(Clone)]
pub struct IssuedCertificate {
    /// PEM: the certificate, then its issuers.
    pub chain_pem: String,
    /// PEM of the private key.
    pub key_pem: Zeroizing<String>,
    /// When it expires.
    pub expiration: Timestamp,
}

impl std::fmt::Debug for IssuedCertificate {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("IssuedCertificate").field("expiration", &self.expiration).finish_non_exhaustive()
    }
}

/// A module of the edge as the API lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleStatus {
    /// Its name.
    pub name: String,
    /// `docker`, `process`.
    pub kind: String,
    /// `running`, `stopped`, `failed`, `unknown`…
    pub status: String,
}

/// Asks the edge on behalf of one module. Cheap to keep: a connection exists only while something is asked, or shortly after.
#[derive(Debug)]
pub struct WorkloadClient {
    http: HttpClient,
    module: ModuleName,
    generation: String,
    api_version: String,
}

impl WorkloadClient {
    /// A client for `module` in the generation `generation` at the API's address; nothing is connected yet.
    pub fn new(address: HttpAddress, module: ModuleName, generation: String, api_version: String) -> Self {
        Self { http: HttpClient::new(address, ClientLimits::default()), module, generation, api_version }
    }

    /// A client for the module that this environment belongs to.
    ///
    /// # Errors
    /// When its workload URI is neither `unix://` nor `http://`.
    pub fn from_environment(environment: &Environment) -> Result<Self, WorkloadError> {
        let address = HttpAddress::parse(&environment.workload_uri, None)
            .map_err(|cause| WorkloadError::Unreachable { action: "find the workload API", cause })?;
        let generation = environment.generation.clone();
        Ok(Self::new(address, environment.module.name.clone(), generation, environment.api_version.clone()))
    }

    /// HMAC-SHA256 over `data` with the module's primary key: what the hub knows as its shared key.
    ///
    /// # Errors
    /// When the edge cannot be reached or refuses.
    pub async fn sign(&self, data: &[u8]) -> Result<Vec<u8>, WorkloadError> {
        let action = "have data signed";
        let body = json!({"keyId": "primary", "algo": "HMACSHA256", "data": STANDARD.encode(data)});
        bytes(&self.post(action, &self.of_generation("sign"), &body).await?, action, "digest")
    }

    /// Seals `plain` so that only this generation of the module can open it again. Never the same vector twice.
    ///
    /// # Errors
    /// When the edge cannot be reached or refuses.
    pub async fn encrypt(&self, plain: &[u8], vector: &[u8]) -> Result<Vec<u8>, WorkloadError> {
        let action = "have data encrypted";
        let body = json!({"plaintext": STANDARD.encode(plain), "initializationVector": STANDARD.encode(vector)});
        bytes(&self.post(action, &self.of_generation("encrypt"), &body).await?, action, "ciphertext")
    }

    /// Opens what [`Self::encrypt`] sealed.
    ///
    /// # Errors
    /// When the edge cannot be reached or refuses: another generation or vector, or changed data.
    pub async fn decrypt(&self, sealed: &[u8], vector: &[u8]) -> Result<Zeroizing<Vec<u8>>, WorkloadError> {
        let action = "have data decrypted";
        let body = json!({"ciphertext": STANDARD.encode(sealed), "initializationVector": STANDARD.encode(vector)});
        bytes(&self.post(action, &self.of_generation("decrypt"), &body).await?, action, "plaintext").map(Zeroizing::new)
    }

    /// A TLS server certificate for `common_name` and all of `names` (host names and addresses; an extension of ours). The edge
    /// decides how long it lives; `expiration` is the wish.
    ///
    /// # Errors
    /// When the edge cannot be reached or refuses.
    pub async fn server_certificate(
        &self,
        common_name: &str,
        names: &[String],
        expiration: Timestamp,
    ) -> Result<IssuedCertificate, WorkloadError> {
        let action = "get a server certificate";
        let body = json!({
            "commonName": common_name, "alternativeNames": names, "expiration": expiration.to_string(),
        });
        certificate(&self.post(action, &self.of_generation("certificate/server"), &body).await?, action)
    }

    /// A TLS client certificate that names the module.
    ///
    /// # Errors
    /// When the edge cannot be reached or refuses.
    pub async fn identity_certificate(&self) -> Result<IssuedCertificate, WorkloadError> {
        let action = "get an identity certificate";
        let path = format!("/modules/{}/certificate/identity", encoded(self.module.as_str()));
        certificate(&self.post(action, &path, &json!({})).await?, action)
    }

    /// PEM of the roots to trust when connecting to the edge hub; `None` when the edge has none.
    ///
    /// # Errors
    /// When the edge cannot be reached or refuses.
    pub async fn trust_bundle(&self) -> Result<Option<String>, WorkloadError> {
        let action = "get the trust bundle";
        match self.ask(action, Method::GET, "/trust-bundle", None).await {
            Ok(answer) => Ok(Some(text(&answer, action, "certificate")?)),
            Err(WorkloadError::Refused { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The modules of this edge and how they are.
    ///
    /// # Errors
    /// When the edge cannot be reached or refuses.
    pub async fn modules(&self) -> Result<Vec<ModuleStatus>, WorkloadError> {
        let action = "list the modules";
        let answer = self.ask(action, Method::GET, "/modules", None).await?;
        let modules = answer.get("modules").and_then(Json::as_array);
        let modules = modules.ok_or(WorkloadError::Answer { action, field: "modules" })?;
        modules
            .iter()
            .map(|module| {
                Ok(ModuleStatus {
                    name: text(module, action, "name")?,
                    kind: text(module, action, "type")?,
                    status: module
                        .pointer("/status/runtimeStatus/status")
                        .and_then(Json::as_str)
                        .unwrap_or("unknown")
                        .to_owned(),
                })
            })
            .collect()
    }

    fn of_generation(&self, call: &str) -> String {
        format!("/modules/{}/genid/{}/{call}", encoded(self.module.as_str()), encoded(&self.generation))
    }

    async fn post(&self, action: &'static str, path: &str, body: &Json) -> Result<Json, WorkloadError> {
        self.ask(action, Method::POST, path, Some(body)).await
    }

    async fn ask(
        &self,
        action: &'static str,
        method: Method,
        path: &str,
        body: Option<&Json>,
    ) -> Result<Json, WorkloadError> {
        let mut request = Request::new(method, format!("{path}?api-version={}", encoded(&self.api_version)));
        if let Some(body) = body {
            request = request.json(body.to_string());
        }
        let answer = match self.http.request(request.clone()).await {
            // The edge was restarted while it was asked. Nothing of this API is harmed by being done twice.
            Err(HttpError::Lost(_)) => self.http.request(request).await,
            answer => answer,
        };
        let answer = answer.map_err(|cause| WorkloadError::Unreachable { action, cause })?;
        let content = json::parse(&answer.body, ANSWER_DEPTH_MAX);
        if answer.status.is_success() {
            return content.map_err(|_| WorkloadError::Answer { action, field: "JSON body" });
        }
        Err(WorkloadError::Refused {
            action,
            status: answer.status.as_u16(),
            message: reason(answer.status, content.ok()),
        })
    }
}

fn reason(status: StatusCode, content: Option<Json>) -> String {
    let message = content.as_ref().and_then(|content| content.get("message")).and_then(Json::as_str);
    let message = message.or(status.canonical_reason()).unwrap_or_default();
    message.chars().take(MESSAGE_CHARS_MAX).collect()
}

fn text(answer: &Json, action: &'static str, field: &'static str) -> Result<String, WorkloadError> {
    answer.get(field).and_then(Json::as_str).map(str::to_owned).ok_or(WorkloadError::Answer { action, field })
}

fn bytes(answer: &Json, action: &'static str, field: &'static str) -> Result<Vec<u8>, WorkloadError> {
    let text = answer.get(field).and_then(Json::as_str).ok_or(WorkloadError::Answer { action, field })?;
    STANDARD.decode(text).map_err(|_| WorkloadError::Answer { action, field })
}

fn certificate(answer: &Json, action: &'static str) -> Result<IssuedCertificate, WorkloadError> {
    let key = answer.pointer("/privateKey/bytes").and_then(Json::as_str);
    let expiration = text(answer, action, "expiration")?;
    Ok(IssuedCertificate {
        chain_pem: text(answer, action, "certificate")?,
        key_pem: Zeroizing::new(key.ok_or(WorkloadError::Answer { action, field: "privateKey" })?.to_owned()),
        expiration: Timestamp::parse(&expiration).map_err(|_| WorkloadError::Answer { action, field: "expiration" })?,
    })
}

fn encoded(segment: &str) -> String {
    utf8_percent_encode(segment, PATH_SEGMENT).to_string()
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
