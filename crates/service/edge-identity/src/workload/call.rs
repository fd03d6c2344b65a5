//! Reading a request of the workload API into a call that cannot be wrong, or into the refusal it gets.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use skerry_model::json::{self, JsonObject};
use skerry_model::{Json, ModuleName};
use skerry_net::http::{Method, Request, StatusCode, header};

/// All versions of the API, oldest first.
const API_VERSIONS: [&str; 7] =
    ["2018-06-28", "2019-01-30", "2019-10-22", "2019-11-05", "2020-07-07", "2021-12-07", "2022-08-03"];
/// Which of them brought the trust bundle of manifests.
const MANIFEST_TRUST_SINCE: usize = 5;
/// Nesting of a request body, with room to grow.
const BODY_DEPTH_MAX: usize = 16;
/// Names a certificate may have beside its common name.
const ALTERNATIVE_NAMES_MAX: usize = 64;

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What a module asks.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Call {
    Modules,
    TrustBundle,
    ManifestTrustBundle,
    OfModule { module: ModuleName, call: ModuleCall },
}

/// What only the module itself may ask.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ModuleCall {
    Sign { data: Vec<u8> },
    Encrypt { generation: String, plain: Vec<u8>, vector: Vec<u8> },
    Decrypt { generation: String, sealed: Vec<u8>, vector: Vec<u8> },
    ServerCertificate { common_name: String, names: Vec<String> },
    IdentityCertificate,
}

/// Why a request is not done.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }
}

/// Reads a request. The version is looked at first, then the path, the method, the content type, the body: as the original does.
pub(super) fn read(request: &Request) -> Result<Call, Refusal> {
    let version = version(request)?;
    let segments = request.segments().map_err(|_| not_found())?;
    let segments: Vec<&str> = segments.iter().map(AsRef::as_ref).collect();
    match segments.as_slice() {
        ["modules"] => only(request, &Method::GET).map(|()| Call::Modules),
        ["trust-bundle"] => only(request, &Method::GET).map(|()| Call::TrustBundle),
        ["manifest-trust-bundle"] if version >= MANIFEST_TRUST_SINCE => {
            only(request, &Method::GET).map(|()| Call::ManifestTrustBundle)
        }
        ["modules", module, "certificate", "identity"] => {
            let module = name(module)?;
            only(request, &Method::POST)?;
            if !request.body.is_empty() {
                body(request)?;
            }
            Ok(Call::OfModule { module, call: ModuleCall::IdentityCertificate })
        }
        ["modules", module, "genid", generation, call @ ..] => {
            let read: fn(&JsonObject, &str) -> Result<ModuleCall, Refusal> = match call {
                ["sign"] => sign,
                ["encrypt"] => encrypt,
                ["decrypt"] => decrypt,
                ["certificate", "server"] => server_certificate,
                _ => return Err(not_found()),
            };
            let module = name(module)?;
            only(request, &Method::POST)?;
            let call = read(&body(request)?, generation)?;
            Ok(Call::OfModule { module, call })
        }
        _ => Err(not_found()),
    }
}

fn version(request: &Request) -> Result<usize, Refusal> {
    let asked = request
        .query_value("api-version")
        .ok_or_else(|| Refusal::new(StatusCode::BAD_REQUEST, "api-version not specified"))?;
    API_VERSIONS
        .iter()
        .position(|known| *known == asked)
        .ok_or_else(|| Refusal::new(StatusCode::BAD_REQUEST, format!("invalid api-version \"{asked}\"")))
}

fn not_found() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "not found")
}

fn name(segment: &str) -> Result<ModuleName, Refusal> {
    ModuleName::parse(segment).map_err(|_| not_found())
}

fn only(request: &Request, method: &Method) -> Result<(), Refusal> {
    if request.method == *method {
        return Ok(());
    }
    // 400, not 405: what clients of the original are used to.
    Err(Refusal::new(StatusCode::BAD_REQUEST, "method not allowed"))
}

/// A missing content type is fine, since one SDK sends none; a wrong one is not.
fn body(request: &Request) -> Result<JsonObject, Refusal> {
    if let Some(kind) = request.headers.get(header::CONTENT_TYPE) {
        let kind = kind.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/json") {
            return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "request body must be application/json"));
        }
    }
    if request.body.is_empty() {
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "missing request body"));
    }
    match json::parse(&request.body, BODY_DEPTH_MAX) {
        Ok(Json::Object(body)) => Ok(body),
        Ok(_) => Err(does_not_fit("the request body is not a JSON object")),
        Err(error) => Err(does_not_fit(error.to_string())),
    }
}

fn does_not_fit(message: impl Into<String>) -> Refusal {
    Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, message)
}

/// `keyId` and `algo` are ignored, and so is the generation in the path: there is one key and one algorithm.
fn sign(body: &JsonObject, _: &str) -> Result<ModuleCall, Refusal> {
    Ok(ModuleCall::Sign { data: bytes(body, "data")? })
}

fn encrypt(body: &JsonObject, generation: &str) -> Result<ModuleCall, Refusal> {
    let (plain, vector) = (bytes(body, "plaintext")?, vector(body)?);
    Ok(ModuleCall::Encrypt { generation: generation.to_owned(), plain, vector })
}

fn decrypt(body: &JsonObject, generation: &str) -> Result<ModuleCall, Refusal> {
    let (sealed, vector) = (bytes(body, "ciphertext")?, vector(body)?);
    Ok(ModuleCall::Decrypt { generation: generation.to_owned(), sealed, vector })
}

/// `expiration` is ignored: the edge decides how long certificates live. `alternativeNames` is ours.
fn server_certificate(body: &JsonObject, _: &str) -> Result<ModuleCall, Refusal> {
    let common_name = text(body, "commonName")?;
    if common_name.is_empty() {
        return Err(does_not_fit("`commonName` is empty"));
    }
    let names = match body.get("alternativeNames") {
        None | Some(Json::Null) => Vec::new(),
        Some(Json::Array(names)) if names.len() <= ALTERNATIVE_NAMES_MAX => names
            .iter()
            .map(|name| name.as_str().map(str::to_owned))
            .collect::<Option<_>>()
            .ok_or_else(|| does_not_fit("`alternativeNames` holds something that is not a text"))?,
        Some(Json::Array(_)) => {
            return Err(does_not_fit(format!("`alternativeNames` has more than {ALTERNATIVE_NAMES_MAX} entries")));
        }
        Some(_) => return Err(does_not_fit("`alternativeNames` is not an array")),
    };
    Ok(ModuleCall::ServerCertificate { common_name: common_name.to_owned(), names })
}

fn vector(body: &JsonObject) -> Result<Vec<u8>, Refusal> {
    let vector = bytes(body, "initializationVector")?;
    if vector.is_empty() {
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "`initializationVector` is empty"));
    }
    Ok(vector)
}

fn bytes(body: &JsonObject, field: &str) -> Result<Vec<u8>, Refusal> {
    LENIENT
        .decode(text(body, field)?)
        .map_err(|_| Refusal::new(StatusCode::BAD_REQUEST, format!("`{field}` is not base64")))
}

fn text<'a>(body: &'a JsonObject, field: &str) -> Result<&'a str, Refusal> {
    match body.get(field) {
        Some(Json::String(text)) => Ok(text),
        Some(_) => Err(does_not_fit(format!("`{field}` is not a text"))),
        None => Err(does_not_fit(format!("missing field `{field}`"))),
    }
}

#[cfg(test)]
#[path = "call_tests.rs"]
mod tests;
