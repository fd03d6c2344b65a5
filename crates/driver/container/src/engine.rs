//! Requests to the engine: the version spoken, answers as JSON, and errors that say what is missing.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use skerry_model::Json;
use skerry_module_runtime::{Problem, RuntimeError};
use skerry_net::http::{
    BodyReader, ClientLimits, HttpAddress, HttpClient, HttpError, Method, Request, Response, StatusCode,
};

use crate::ContainerConfig;

/// The version of the API that everything here is written for.
const API_VERSION: (u32, u32) = (1, 41);
/// Longest wait for an answer that the engine can give at once.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// Longest wait for an answer that comes when something is done; callers have shorter limits where there are some.
const PATIENT_ANSWER_MAX: Duration = Duration::from_secs(24 * 3600);
/// Largest answer that is taken, in bytes: a list of some hundred containers.
const ANSWER_BYTES_MAX: usize = 8 << 20;
/// Largest error text that is passed on, in characters.
const MESSAGE_CHARS_MAX: usize = 1_000;
/// What stays as it is in a query.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// One engine.
#[derive(Debug)]
pub(crate) struct Engine {
    quick: HttpClient,
    patient: HttpClient,
    /// Agreed with the engine at the first request; forgotten when it goes away, because another may come back.
    version: Mutex<Option<String>>,
}

/// Why a request to the engine has no good answer.
#[derive(Debug)]
pub(crate) enum EngineError {
    /// It cannot be reached, or broke off.
    Away(String),
    /// It said no.
    Refused(StatusCode, String),
}

impl EngineError {
    pub(crate) fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Away(_) => None,
            Self::Refused(status, _) => Some(*status),
        }
    }

    /// As the outcome of `attempt`; `problem` decides about what the engine refused.
    pub(crate) fn of(self, attempt: &str, problem: impl FnOnce(StatusCode, &str) -> Problem) -> RuntimeError {
        match self {
            Self::Away(reason) => RuntimeError::new(Problem::Unavailable, attempt.to_owned(), reason),
            Self::Refused(status, message) => RuntimeError::new(problem(status, &message), attempt.to_owned(), message),
        }
    }

    /// As a failure of `attempt` that nobody has a better word for.
    pub(crate) fn failed(self, attempt: &str) -> RuntimeError {
        self.of(attempt, |_, _| Problem::Failed)
    }
}

impl Engine {
    pub(crate) fn new(config: &ContainerConfig) -> Self {
        let client = |answer_max, idle_connections_max| {
            let limits = ClientLimits {
                answer_max,
                body_bytes_max: ANSWER_BYTES_MAX,
                idle_connections_max,
                ..Default::default()
            };
            HttpClient::new(HttpAddress::Unix(config.socket.clone()), limits)
        };
        Self { quick: client(ANSWER_MAX, 1), patient: client(PATIENT_ANSWER_MAX, 0), version: Mutex::new(None) }
    }

    /// `GET`, answered with JSON.
    pub(crate) async fn get(&self, target: &str) -> Result<Json, EngineError> {
        let response = self.exchange(&self.quick, Request::new(Method::GET, target)).await?;
        parse(&response.body)
    }

    /// A request that is answered when what it asks for is done.
    pub(crate) async fn wait_for(&self, method: Method, target: &str) -> Result<Response, EngineError> {
        self.exchange(&self.patient, Request::new(method, target)).await
    }

    /// `POST` of JSON, answered with JSON.
    pub(crate) async fn post(&self, target: &str, body: &Json) -> Result<Json, EngineError> {
        let request = Request::new(Method::POST, target).json(body.to_string());
        let response = self.exchange(&self.quick, request).await?;
        parse(&response.body)
    }

    /// A request with an answer that comes piece by piece.
    pub(crate) async fn open(&self, request: Request) -> Result<BodyReader, EngineError> {
        let request = self.versioned(request).await?;
        let mut response = self.patient.open(request).await.map_err(|error| self.away(&error))?;
        if response.status.is_success() {
            return Ok(response.body);
        }
        let mut message = Vec::new();
        while let Ok(Some(piece)) = response.body.piece().await {
            message.extend_from_slice(&piece);
            if message.len() > ANSWER_BYTES_MAX {
                break;
            }
        }
        Err(refusal(response.status, &message))
    }

    /// Why a body that came piece by piece broke off.
    pub(crate) fn away(&self, error: &HttpError) -> EngineError {
        *self.version.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let address = self.quick.address();
        let reason = match error {
            HttpError::Connect(error) => match error.cause.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                    format!(
                        "no container engine answers at `{address}` ({}): is it installed and running?",
                        error.cause
                    )
                }
                io::ErrorKind::PermissionDenied => {
                    format!("this user may not use the container engine at `{address}`: is it in the engine's group?")
                }
                _ => format!("the container engine at `{address}` cannot be reached: {}", error.cause),
            },
            other => format!("the container engine at `{address}` broke off: {}", skerry_net::with_causes(other)),
        };
        EngineError::Away(reason)
    }

    async fn exchange(&self, client: &HttpClient, request: Request) -> Result<Response, EngineError> {
        let request = self.versioned(request).await?;
        let response = client.request(request).await.map_err(|error| self.away(&error))?;
        if response.status.is_success() || response.status == StatusCode::NOT_MODIFIED {
            Ok(response)
        } else {
            Err(refusal(response.status, &response.body))
        }
    }

    async fn versioned(&self, mut request: Request) -> Result<Request, EngineError> {
        let version = self.version.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let version = match version {
            Some(version) => version,
            None => self.agree().await?,
        };
        request.target = format!("/v{version}{}", request.target);
        Ok(request)
    }

    /// Asks which versions the engine speaks: ours, or the oldest that it still does.
    async fn agree(&self) -> Result<String, EngineError> {
        let request = Request::new(Method::GET, "/version");
        let response = self.quick.request(request).await.map_err(|error| self.away(&error))?;
        if !response.status.is_success() {
            return Err(refusal(response.status, &response.body));
        }
        let version = choose_version(&parse(&response.body)?);
        *self.version.lock().unwrap_or_else(PoisonError::into_inner) = Some(version.clone());
        Ok(version)
    }
}

fn choose_version(answer: &Json) -> String {
    let version = |name: &str| {
        let (major, minor) = answer[name].as_str()?.split_once('.')?;
        Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?))
    };
    let newest = version("ApiVersion").unwrap_or(API_VERSION);
    let oldest = version("MinAPIVersion").unwrap_or(API_VERSION);
    let (major, minor) = API_VERSION.max(oldest).min(newest);
    format!("{major}.{minor}")
}

fn parse(body: &[u8]) -> Result<Json, EngineError> {
    if body.is_empty() {
        return Ok(Json::Null);
    }
    serde_json::from_slice(body)
        .map_err(|error| EngineError::Away(format!("what the container engine sent is not JSON: {error}")))
}

fn refusal(status: StatusCode, body: &[u8]) -> EngineError {
    let json: Option<Json> = serde_json::from_slice(body).ok();
    let message = match json.as_ref().and_then(|json| json["message"].as_str()) {
        Some(message) => message.to_owned(),
        None => format!("{status} {}", String::from_utf8_lossy(body)),
    };
    EngineError::Refused(status, message.trim().chars().take(MESSAGE_CHARS_MAX).collect())
}

/// A value as it can stand in a path or query.
pub(crate) fn escape(value: &str) -> String {
    utf8_percent_encode(value, QUERY).to_string()
}

/// The `filters` of a list: each key with its values.
pub(crate) fn filters(filters: &[(&str, &[String])]) -> String {
    let filters = filters.iter().map(|(key, values)| ((*key).to_owned(), Json::from(values.to_vec())));
    escape(&Json::Object(filters.collect()).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn we_speak_our_version_or_the_nearest_that_the_engine_does() {
        let choose =
            |newest: &str, oldest: &str| choose_version(&json!({"ApiVersion": newest, "MinAPIVersion": oldest}));
        assert_eq!(choose("1.41", "1.12"), "1.41");
        assert_eq!(choose("1.52", "1.44"), "1.44");
        assert_eq!(choose("1.40", "1.12"), "1.40");
        assert_eq!(choose_version(&json!({})), "1.41");
    }

    #[test]
    fn a_refusal_is_the_engines_message_or_whatever_came() {
        let refused = |body: &[u8]| match refusal(StatusCode::CONFLICT, body) {
            EngineError::Refused(_, message) | EngineError::Away(message) => message,
        };
        assert_eq!(refused(b"{\"message\":\"in use\\n\"}"), "in use");
        assert_eq!(refused(b"<html>"), "409 Conflict <html>");
        assert_eq!(refused(&vec![b'x'; 100_000]).len(), MESSAGE_CHARS_MAX);
    }

    #[test]
    fn filters_are_json_in_a_query() {
        assert_eq!(filters(&[("label", &["a=b".to_owned()])]), "%7B%22label%22%3A%5B%22a%3Db%22%5D%7D");
    }
}
