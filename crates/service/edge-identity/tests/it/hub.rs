//! A hub that keeps modules of `edge1` as the wire says, checks the device's token, and can be made to fail.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use skerry_dialect::{error, http::Route, http::route, sas};
use skerry_model::{AuthScope, ClientId, ErrorCode, RequestError, Timestamp};
use skerry_net::http::{
    Body, ClientLimits, HttpAddress, HttpClient, Request, Response, ServerLimits, StatusCode, header, serve_http,
};
use skerry_net::{Clock, ListenAddress, Listener};
use skerry_pki::SymmetricKey;

#[derive(Clone)]
pub(crate) struct Hub(Arc<Mutex<State>>);

struct State {
    modules: BTreeMap<String, Value>,
    /// `METHOD module` of each request, with `*` when it came with `If-Match: *`.
    log: Vec<String>,
    next_generation: u64,
    /// Answers every request with this status.
    fail: Option<u16>,
    clock: Clock,
}

impl Hub {
    /// A hub on a unix socket in `folder`, with `$edgeAgent` and `$edgeHub` as they are after the device was made.
    pub(crate) fn start(folder: &std::path::Path, clock: Clock) -> (Self, HttpClient) {
        let mut modules = BTreeMap::new();
        for (name, generation) in [("$edgeAgent", "100"), ("$edgeHub", "101")] {
            modules.insert(name.to_owned(), document(name, "iotEdge", generation, &json!({ "type": "none" })));
        }
        let state = State { modules, log: Vec::new(), next_generation: 200, fail: None, clock };
        let hub = Self(Arc::new(Mutex::new(state)));
        let path = folder.join("hub.sock");
        let listener = Listener::bind(&ListenAddress::Unix { path: path.clone(), mode: 0o600 }).unwrap();
        let served = hub.clone();
        tokio::spawn(async move {
            loop {
                let stream = listener.accept().await.0.attach().unwrap();
                let served = served.clone();
                tokio::spawn(async move {
                    let handler = |request: Request| {
                        let response: Response<Body> = served.answer(&request).into();
                        async { response }
                    };
                    serve_http(stream, handler, &ServerLimits::default()).await
                });
            }
        });
        (hub, HttpClient::new(HttpAddress::Unix(path), ClientLimits::default()))
    }

    pub(crate) fn fail(&self, status: Option<u16>) {
        self.0.lock().unwrap().fail = status;
    }

    pub(crate) fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().log)
    }

    pub(crate) fn module(&self, name: &str) -> Option<Value> {
        self.0.lock().unwrap().modules.get(name).cloned()
    }

    /// An operator makes, or makes again, a module.
    pub(crate) fn put(&self, name: &str, managed_by: &str) {
        let mut state = self.0.lock().unwrap();
        let generation = state.generation();
        let keys = json!({"type": "sas", "symmetricKey": {"primaryKey": crate::KEY, "secondaryKey": crate::KEY}});
        let made = document(name, managed_by, &generation, &keys);
        state.modules.insert(name.to_owned(), made);
    }

    pub(crate) fn forget(&self, name: &str) {
        self.0.lock().unwrap().modules.remove(name);
    }

    fn answer(&self, request: &Request) -> Response {
        let mut state = self.0.lock().unwrap();
        match state.done(request) {
            Ok(response) => response,
            Err(failure) => {
                let status = StatusCode::from_u16(error::status(failure.code)).unwrap();
                let tracking = error::Tracking { id: "t", at: Timestamp::default() };
                Response::json(status, error::http_body(&failure, tracking))
            }
        }
    }
}

impl State {
    fn done(&mut self, request: &Request) -> Result<Response, RequestError> {
        self.check_token(request)?;
        assert_eq!(request.query_value("api-version").as_deref(), Some("2017-11-08-preview"));
        let any = request.header_text(header::IF_MATCH) == Some("*");
        let name = match route(request.method.as_str(), request.path())? {
            Route::Modules(device) if device.as_str() == "edge1" => None,
            Route::Module(id) if id.device.as_str() == "edge1" => Some(id.name.to_string()),
            other => panic!("unexpected {other:?}"),
        };
        let mark = if any { " *" } else { "" };
        self.log.push(format!("{} {}{mark}", request.method, name.as_deref().unwrap_or("modules")));
        if let Some(status) = self.fail {
            return Err(RequestError::new(error::code(status, None), "made to fail"));
        }
        let Some(name) = name else {
            let all: Vec<_> = self.modules.values().cloned().collect();
            return Ok(Response::json(StatusCode::OK, json!(all).to_string()));
        };
        let missing = || RequestError::new(ErrorCode::ModuleNotFound, format!("module {name} not registered"));
        match request.method.as_str() {
            "GET" => {
                let module = self.modules.get(&name).ok_or_else(missing)?;
                Ok(Response::json(StatusCode::OK, module.to_string()))
            }
            "PUT" => self.write(&name, any, &serde_json::from_slice(&request.body).unwrap()),
            "DELETE" => {
                assert!(any);
                self.modules.remove(&name).ok_or_else(missing)?;
                Ok(Response::new(StatusCode::NO_CONTENT))
            }
            other => panic!("unexpected {other}"),
        }
    }

    fn write(&mut self, name: &str, replace: bool, asked: &Value) -> Result<Response, RequestError> {
        let before = self.modules.get(name);
        if before.is_some() != replace {
            let code = if replace { ErrorCode::ModuleNotFound } else { ErrorCode::ModuleAlreadyExists };
            return Err(RequestError::new(code, name.to_owned()));
        }
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        let managed_by = text(asked.get("managedBy"))
            .or_else(|| text(before.and_then(|module| module.get("managedBy"))))
            .unwrap_or_default();
        let generation = match before {
            Some(module) => module["generationId"].as_str().unwrap().to_owned(),
            None => self.generation(),
        };
        let mut authentication = asked["authentication"].clone();
        if authentication["symmetricKey"]["primaryKey"].is_null() {
            authentication["symmetricKey"] = json!({"primaryKey": crate::KEY, "secondaryKey": crate::KEY});
        }
        let module = document(name, &managed_by, &generation, &authentication);
        self.modules.insert(name.to_owned(), module.clone());
        Ok(Response::json(StatusCode::OK, module.to_string()))
    }

    fn generation(&mut self) -> String {
        self.next_generation += 1;
        self.next_generation.to_string()
    }

    /// The device's own token for the hub's name without port, good for 30 s to an hour.
    fn check_token(&self, request: &Request) -> Result<(), RequestError> {
        let token = sas::parse(request.header_text(header::AUTHORIZATION).unwrap()).unwrap();
        let edge = ClientId::parse("edge1").unwrap();
        assert_eq!(sas::resource_matches(&token, &["hub.example.net"], &edge), Some(AuthScope::Device));
        let left = token.expiry.since(self.clock.now().wall).as_secs();
        assert!((30..=3600).contains(&left), "{left}");
        let key = SymmetricKey::from_base64(crate::KEY).unwrap();
        assert!(key.verify(token.signed_text().as_bytes(), &token.signature));
        Ok(())
    }
}

fn document(name: &str, managed_by: &str, generation: &str, authentication: &Value) -> Value {
    json!({
        "moduleId": name, "deviceId": "edge1", "managedBy": managed_by, "generationId": generation,
        "authentication": authentication,
    })
}
