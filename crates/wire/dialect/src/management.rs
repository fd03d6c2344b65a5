//! The part of the management API that lists, restarts and shows modules on their own machine.
//!
//! Source: `edge-workload-and-management-api` §4. Paths: `GET /modules`, `GET /modules/{m}/logs`, `POST /modules/{m}/restart`.

use serde_json::json;
use skerry_model::{Json, RequestError, Timestamp, json::JsonObject};

use crate::body::{invalid, member, object, text};
use crate::percent;

/// The version of the API that our command line asks for.
pub const API_VERSION: &str = "2022-08-03";

/// A module as its runtime sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManagedModule {
    /// Its name; the agent and the hub are `edgeAgent` and `edgeHub`.
    pub name: String,
    /// `docker` or `process`.
    pub kind: String,
    /// Image or command.
    pub image: String,
    /// `running`, `stopped`, `failed`, `backoff` or `unknown`.
    pub status: String,
    /// What the status does not say by itself; may be empty.
    pub description: String,
    /// When it was started last.
    pub started: Option<Timestamp>,
    /// When it ended last.
    pub exited: Option<Timestamp>,
    /// How it ended last.
    pub exit_code: Option<i64>,
}

/// The body of the answer to `GET /modules`.
pub fn modules_body(modules: &[ManagedModule]) -> String {
    let modules: Vec<_> = modules.iter().map(document).collect();
    json!({ "modules": modules }).to_string()
}

fn document(module: &ManagedModule) -> Json {
    let mut status = json!({ "runtimeStatus": { "status": module.status } });
    if !module.description.is_empty() {
        status["runtimeStatus"]["description"] = module.description.as_str().into();
    }
    if let Some(started) = module.started {
        status["startTime"] = started.to_string().into();
    }
    if let Some(exited) = module.exited {
        // The code is a text on this wire.
        let code = module.exit_code.unwrap_or_default().to_string();
        status["exitStatus"] = json!({ "exitTime": exited.to_string(), "statusCode": code });
    }
    json!({
        "id": "id",
        "name": module.name,
        "type": module.kind,
        "config": { "settings": { "image": module.image }, "env": [] },
        "status": status,
    })
}

/// Reads the body of the answer to `GET /modules`.
///
/// # Errors
/// When it is not a list of modules.
pub fn read_modules(body: &[u8]) -> Result<Vec<ManagedModule>, RequestError> {
    let body = object(body)?;
    let Some(Json::Array(modules)) = body.get("modules") else { return Err(invalid("`modules` is not an array")) };
    modules
        .iter()
        .map(|module| read(module.as_object().ok_or_else(|| invalid("an entry of `modules` is not an object"))?))
        .collect()
}

fn read(module: &JsonObject) -> Result<ManagedModule, RequestError> {
    let nothing = JsonObject::new();
    let config = member(module, "config")?.unwrap_or(&nothing);
    let settings = member(config, "settings")?.unwrap_or(&nothing);
    let status = member(module, "status")?.unwrap_or(&nothing);
    let runtime = member(status, "runtimeStatus")?.unwrap_or(&nothing);
    let exit = member(status, "exitStatus")?.unwrap_or(&nothing);
    let owned = |object: &JsonObject, name: &str| text(object, name).map(|value| value.unwrap_or_default().to_owned());
    let time = |object: &JsonObject, name: &str| {
        Ok::<_, RequestError>(text(object, name)?.and_then(|text| Timestamp::parse(text).ok()))
    };
    Ok(ManagedModule {
        name: owned(module, "name")?,
        kind: owned(module, "type")?,
        image: owned(settings, "image")?,
        status: owned(runtime, "status")?,
        description: owned(runtime, "description")?,
        started: time(status, "startTime")?,
        exited: time(exit, "exitTime")?,
        exit_code: text(exit, "statusCode")?.and_then(|code| code.parse().ok()),
    })
}

/// The body of every failed request: `{"message":"…"}`.
pub fn failure_body(message: &str) -> String {
    json!({ "message": message }).to_string()
}

/// Where modules are listed.
pub fn list_path() -> String {
    format!("/modules?api-version={API_VERSION}")
}

/// Where a module is restarted.
pub fn restart_path(module: &str) -> String {
    format!("/modules/{}/restart?api-version={API_VERSION}", percent::encode(module))
}

/// Which part of a module's output is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogQuery {
    /// Go on as more is written.
    pub follow: bool,
    /// Only the last so many lines.
    pub tail: Option<u64>,
    /// Only what was written at this moment (seconds since 1970) or later.
    pub since: Option<i64>,
    /// Only what was written before this moment (seconds since 1970).
    pub until: Option<i64>,
    /// Each line begins with its time.
    pub timestamps: bool,
}

impl LogQuery {
    /// Where this part of the output of `module` is.
    pub fn path(&self, module: &str) -> String {
        let mut path = format!("/modules/{}/logs?api-version={API_VERSION}", percent::encode(module));
        path.push_str(if self.follow { "&follow=true" } else { "" });
        path.push_str(if self.timestamps { "&timestamps=true" } else { "" });
        let numbers = [
            ("tail", self.tail.map(|lines| lines.to_string())),
            ("since", self.since.map(|seconds| seconds.to_string())),
            ("until", self.until.map(|seconds| seconds.to_string())),
        ];
        for (name, value) in numbers.into_iter().filter_map(|(name, value)| Some((name, value?))) {
            path.push_str(&format!("&{name}={value}"));
        }
        path
    }

    /// Reads the query of a request; `tail=all` means no limit.
    ///
    /// # Errors
    /// When a number is not one. Moments are seconds since 1970 or dates.
    pub fn read(query: &str) -> Result<Self, RequestError> {
        let parameter = |name| crate::http::query_parameter(query, name).filter(|value| !value.is_empty());
        let flag = |name| parameter(name).is_some_and(|value| value.eq_ignore_ascii_case("true") || value == "1");
        let moment = |name| match parameter(name) {
            None => Ok(None),
            Some(value) => value
                .parse()
                .ok()
                .or_else(|| Timestamp::parse(&value).ok().map(Timestamp::unix_seconds))
                .map(Some)
                .ok_or_else(|| invalid(format!("`{name}` is neither a number of seconds nor a date"))),
        };
        let tail = match parameter("tail").filter(|value| !value.eq_ignore_ascii_case("all")) {
            None => None,
            Some(value) => Some(value.parse().map_err(|_| invalid("`tail` is not a number of lines"))?),
        };
        Ok(Self {
            follow: flag("follow"),
            tail,
            since: moment("since")?,
            until: moment("until")?,
            timestamps: flag("timestamps"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn module() -> ManagedModule {
        ManagedModule {
            name: "sensor".into(),
            kind: "docker".into(),
            image: "registry/sensor:1".into(),
            status: "failed".into(),
            description: "ended with 137".into(),
            started: Some(Timestamp::from_unix_seconds(1)),
            exited: Some(Timestamp::from_unix_seconds(2)),
            exit_code: Some(137),
        }
    }

    #[test]
    fn modules_look_as_the_platform_shows_them_and_are_read_back() {
        let body = modules_body(&[module()]);
        let document: Json = serde_json::from_str(&body).unwrap();
        assert_eq!(
            document["modules"][0]["status"],
            json!({
                "runtimeStatus": { "status": "failed", "description": "ended with 137" },
                "startTime": "1970-01-01T00:00:01.000Z",
                "exitStatus": { "exitTime": "1970-01-01T00:00:02.000Z", "statusCode": "137" },
            })
        );
        assert_eq!(read_modules(body.as_bytes()), Ok(vec![module()]));
        let running = ManagedModule {
            status: "running".into(),
            description: String::new(),
            exited: None,
            exit_code: None,
            ..module()
        };
        assert_eq!(read_modules(modules_body(std::slice::from_ref(&running)).as_bytes()), Ok(vec![running]));
    }

    #[test]
    fn log_queries_are_read_back() {
        let query = LogQuery { follow: true, tail: Some(10), since: Some(5), until: None, timestamps: true };
        let path = query.path("a b");
        assert!(path.starts_with("/modules/a%20b/logs?api-version="), "{path}");
        assert_eq!(LogQuery::read(path.split_once('?').unwrap().1), Ok(query));
        let dated = LogQuery::read("tail=all&since=1970-01-01T00:00:09Z&follow=false").unwrap();
        assert_eq!(dated, LogQuery { since: Some(9), ..LogQuery::default() });
        assert!(LogQuery::read("tail=few").is_err());
        assert!(LogQuery::read("since=yesterday").is_err());
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_readers(text in ".{0,40}", bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = LogQuery::read(&text);
            let _ = read_modules(&bytes);
            let _ = read_modules(json!({ "modules": [{ "name": text, "status": { "exitStatus": text } }] }).to_string().as_bytes());
        }
    }
}
