//! Fetching images from registries.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use serde_json::json;
use skerry_model::Json;
use skerry_model::manifest::{Artifact, ImageArtifact, PullPolicy, RegistryCredential};
use skerry_module_runtime::{Problem, RuntimeError};
use skerry_net::http::{HeaderName, Method, Request, StatusCode};

use crate::engine::{EngineError, escape};
use crate::image::{Reference, Version};
use crate::runtime::ContainerRuntime;

/// Who we are at the registry, for the engine.
const AUTH_HEADER: HeaderName = HeaderName::from_static("x-registry-auth");
/// Longest silence of the engine while it pulls; large layers are unpacked without a word.
const SILENCE_MAX: Duration = Duration::from_secs(15 * 60);
/// Longest line of the progress, in bytes.
const PROGRESS_LINE_BYTES_MAX: usize = 64 * 1024;

/// The image of a spec for this runtime.
pub(crate) fn image_of<'a>(attempt: &str, artifact: &'a Artifact) -> Result<&'a ImageArtifact, RuntimeError> {
    match artifact {
        Artifact::Image(image) => Ok(image),
        Artifact::Process(process) => {
            let reason = format!("`{}` is a program, not an image", process.command);
            Err(RuntimeError::new(Problem::SpecRefused, attempt.to_owned(), reason))
        }
    }
}

impl ContainerRuntime {
    /// Fetches the image. What is named by digest and already here is not fetched, and what is never to be pulled must be
    /// here; when the registry cannot be reached, a tag that is already here will do, so that an edge without its network can
    /// still make modules anew.
    pub(crate) async fn pull(
        &self,
        artifact: &Artifact,
        credential: Option<&RegistryCredential>,
    ) -> Result<(), RuntimeError> {
        let image = image_of("cannot pull an image", artifact)?;
        let reference = Reference::of(image);
        let attempt = format!("cannot pull image `{reference}`");
        let is_never_pulled = image.pull == PullPolicy::Never;
        if (is_never_pulled || matches!(reference.version, Version::Digest(_))) && self.has_image(&reference).await? {
            return Ok(());
        }
        if is_never_pulled {
            let reason = "it is not in the engine, and its pull policy is `never`";
            return Err(RuntimeError::new(
                Problem::ArtifactNotFound,
                format!("cannot use image `{reference}`"),
                reason,
            ));
        }
        match self.fetch(&reference, credential).await {
            Ok(()) => Ok(()),
            Err(error) => {
                let error = error.of(&attempt, problem_of);
                if error.problem == Problem::Failed && self.has_image(&reference).await? {
                    tracing::warn!(image = %reference, reason = %error.reason, "the image could not be pulled; taking the one here");
                    return Ok(());
                }
                Err(error)
            }
        }
    }

    async fn has_image(&self, reference: &Reference) -> Result<bool, RuntimeError> {
        match self.engine().get(&format!("/images/{}/json", escape(&reference.to_string()))).await {
            Ok(_) => Ok(true),
            Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => Ok(false),
            Err(error) => Err(error.failed(&format!("cannot look for image `{reference}`"))),
        }
    }

    async fn fetch(&self, reference: &Reference, credential: Option<&RegistryCredential>) -> Result<(), EngineError> {
        let (name, version) = (escape(&reference.name), escape(reference.version_text()));
        let mut request = Request::new(Method::POST, format!("/images/create?fromImage={name}&tag={version}"));
        if let Some(credential) = credential {
            request = request.header(AUTH_HEADER, &auth(credential));
        }
        let mut body = self.engine().open(request).await?;
        let mut progress = Progress::default();
        loop {
            let piece = tokio::time::timeout(SILENCE_MAX, body.piece()).await;
            let piece =
                piece.map_err(|_| EngineError::Away("the engine says nothing any more about the pull".to_owned()))?;
            match piece.map_err(|error| self.engine().away(&error))? {
                Some(piece) => progress.push(&piece),
                None => return progress.finish(),
            }
        }
    }
}

/// The manifest's credentials as the engine wants them (`edge-workload-and-management-api` §4).
fn auth(credential: &RegistryCredential) -> String {
    let auth = json!({
        "username": credential.username,
        "password": credential.password(),
        "serveraddress": credential.address,
    });
    URL_SAFE.encode(auth.to_string())
}

/// The engine has one status for all that goes wrong at registries, and their words in the message.
fn problem_of(status: StatusCode, message: &str) -> Problem {
    let message = message.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    if says(&[
        "unauthorized",
        "authentication required",
        "no basic auth",
        "access denied",
        "forbidden",
        "incorrect username",
    ]) {
        Problem::CredentialRefused
    } else if status == StatusCode::NOT_FOUND || says(&["not found", "manifest unknown", "name unknown"]) {
        Problem::ArtifactNotFound
    } else if status == StatusCode::BAD_REQUEST {
        Problem::SpecRefused
    } else {
        Problem::Failed
    }
}

/// The progress of a pull: JSON values one after the other, of which only an error matters.
#[derive(Debug, Default)]
struct Progress {
    line: Vec<u8>,
    error: Option<String>,
}

impl Progress {
    fn push(&mut self, piece: &[u8]) {
        for byte in piece {
            if *byte == b'\n' {
                self.end_line();
            } else if self.line.len() < PROGRESS_LINE_BYTES_MAX {
                self.line.push(*byte);
            }
        }
    }

    fn end_line(&mut self) {
        let value: Json = serde_json::from_slice(&self.line).unwrap_or(Json::Null);
        self.line.clear();
        let error = value["errorDetail"]["message"].as_str().or(value["error"].as_str());
        if let Some(error) = error {
            self.error = Some(error.to_owned());
        }
    }

    fn finish(mut self) -> Result<(), EngineError> {
        self.end_line();
        match self.error {
            Some(message) => Err(EngineError::Refused(StatusCode::INTERNAL_SERVER_ERROR, message)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_in_the_progress_is_found_however_it_is_cut() {
        let text = b"{\"status\":\"Pulling\"}\r\n{\"errorDetail\":{\"message\":\"unauthorized\"},\"error\":\"x\"}\r\n{\"status\":\"y\"}";
        for cut in 1..text.len() {
            let mut progress = Progress::default();
            text.chunks(cut).for_each(|piece| progress.push(piece));
            assert!(matches!(progress.finish(), Err(EngineError::Refused(_, message)) if message == "unauthorized"));
        }
        let mut progress = Progress::default();
        progress.push(b"{\"status\":\"done\"}\r\n");
        assert!(progress.finish().is_ok());
    }

    #[test]
    fn messages_of_registries_are_told_apart() {
        let server_error = StatusCode::INTERNAL_SERVER_ERROR;
        for (status, message, expected) in [
            (server_error, "Get \"https://r/v2/\": unauthorized: authentication required", Problem::CredentialRefused),
            (server_error, "Get \"https://r/v2/a/manifests/1\": no basic auth credentials", Problem::CredentialRefused),
            (StatusCode::NOT_FOUND, "pull access denied for a, repository does not exist", Problem::CredentialRefused),
            (StatusCode::NOT_FOUND, "manifest for r/a:1 not found: manifest unknown", Problem::ArtifactNotFound),
            (server_error, "manifest unknown", Problem::ArtifactNotFound),
            (server_error, "dial tcp: lookup r: no such host", Problem::Failed),
            (StatusCode::BAD_REQUEST, "invalid reference format", Problem::SpecRefused),
        ] {
            assert_eq!(problem_of(status, message), expected, "{message}");
        }
    }

    #[test]
    fn credentials_travel_as_url_safe_base64_of_json() {
        let credential = RegistryCredential::new("r", "reg.example:5000", "user", "p?>~\u{fc}");
        let decoded = URL_SAFE.decode(auth(&credential)).unwrap();
        let expected = json!({"username": "user", "password": "p?>~\u{fc}", "serveraddress": "reg.example:5000"});
        assert_eq!(serde_json::from_slice::<Json>(&decoded).unwrap(), expected);
    }

    proptest::proptest! {
        #[test]
        fn any_progress_is_read_without_panic(text: Vec<u8>) {
            let mut progress = Progress::default();
            progress.push(&text);
            let _ = progress.finish();
        }
    }
}
