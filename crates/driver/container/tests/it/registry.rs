//! A private registry with a password: Debian's `docker-registry`, on an address of this machine.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use serde_json::json;
use skerry_model::Json;
use skerry_model::manifest::{Artifact, ImageArtifact, PullPolicy, RegistryCredential};
use skerry_module_runtime::{ModuleRuntime, Problem};
use skerry_net::http::{HeaderName, Method, Request};
use tempfile::TempDir;

use crate::engine::{IMAGE, World, ask, get, make_image, spec, unique};

/// `robot`, `right password` as `htpasswd -B` writes them.
const PASSWORDS: &str = "robot:$2y$05$aiqkkZKqFCyJR0i2q1GdueZofIPeWJe7uwMRCTvJnbxxjt2XP8OYS\n";

struct Registry {
    child: Child,
    address: String,
    _folder: TempDir,
}

impl Registry {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Engines take registries on 127.0.0.0/8 without TLS.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let passwords = folder.path().join("passwords");
        std::fs::write(&passwords, PASSWORDS).unwrap();
        let config = json!({
            "version": 0.1,
            "storage": {"filesystem": {"rootdirectory": folder.path().join("images")}},
            "http": {"addr": address},
            "auth": {"htpasswd": {"realm": "test", "path": passwords}},
        });
        let file = folder.path().join("config.yml");
        std::fs::write(&file, config.to_string()).unwrap();
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("these tests need Debian's docker-registry");
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let listens = lines.by_ref().map_while(Result::ok).any(|line| line.contains("listening on"));
        assert!(listens, "the registry ended");
        // It must not find its pipe closed or full.
        std::thread::spawn(move || lines.count());
        Self { child, address, _folder: folder }
    }

    fn credential(&self, password: &str) -> RegistryCredential {
        RegistryCredential::new("private", &self.address, "robot", password)
    }

    /// Puts the image of the tests into the registry, and takes it from the engine. Returns its digest.
    async fn publish(&self, name: &str) -> String {
        make_image();
        let repository = format!("{}/{name}", self.address);
        let tag = format!("/images/{IMAGE}/tag?repo={repository}&tag=1");
        assert!(ask(Request::new(Method::POST, tag)).await.status.is_success());
        let auth = json!({"username": "robot", "password": "right password"}).to_string();
        let push = Request::new(Method::POST, format!("/images/{repository}/push?tag=1"));
        let push = push.header(HeaderName::from_static("x-registry-auth"), &URL_SAFE.encode(auth));
        let pushed = String::from_utf8(ask(push).await.body.to_vec()).unwrap();
        let digest = pushed.lines().find_map(|line| {
            let line: Json = serde_json::from_str(line).unwrap();
            line["aux"]["Digest"].as_str().map(str::to_owned)
        });
        let digest = digest.unwrap_or_else(|| panic!("not pushed: {pushed}"));
        ask(Request::new(Method::DELETE, format!("/images/{repository}:1"))).await;
        digest
    }

    fn image(&self, name: &str, digest: Option<&str>) -> Artifact {
        Artifact::Image(ImageArtifact {
            image: format!("{}/{name}", self.address),
            digest: digest.map(str::to_owned),
            create_options: json!({"Cmd": ["echo", "from the registry"]}).as_object().unwrap().clone(),
            pull: PullPolicy::OnCreate,
        })
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The address of a registry that knows no image, for all tests of this process.
pub(crate) fn empty_registry() -> String {
    static ADDRESS: OnceLock<String> = OnceLock::new();
    ADDRESS
        .get_or_init(|| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap().to_string();
            std::thread::spawn(move || listener.incoming().flatten().for_each(|stream| know_nothing(&stream)));
            address
        })
        .clone()
}

/// Answers one request.
fn know_nothing(mut stream: &TcpStream) {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let is_greeting = lines.next().is_some_and(|line| line.starts_with("GET /v2/ "));
    let _ = lines.find(String::is_empty);
    let (status, body) = match is_greeting {
        true => ("200 OK", "{}"),
        false => ("404 Not Found", r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#),
    };
    let length = body.len();
    let head = "Content-Type: application/json\r\nDocker-Distribution-Api-Version: registry/2.0\r\nConnection: close";
    let _ = write!(stream, "HTTP/1.1 {status}\r\n{head}\r\nContent-Length: {length}\r\n\r\n{body}");
}

async fn forget(reference: &str) {
    ask(Request::new(Method::DELETE, format!("/images/{reference}?force=1"))).await;
}

#[tokio::test]
async fn the_right_password_is_needed_and_enough() {
    let (world, registry, name) = (World::new(), Registry::start(), unique());
    registry.publish(&name).await;
    let image = registry.image(&format!("{name}:1"), None);
    for credential in [None, Some(registry.credential("wrong password"))] {
        let error = world.runtime.prepare(&image, credential.as_ref()).await.unwrap_err();
        assert_eq!(error.problem, Problem::CredentialRefused, "{error}");
        let text = error.to_string();
        assert!(text.contains(&registry.address) && !text.contains("wrong password"), "{text}");
    }
    world.runtime.prepare(&image, Some(&registry.credential("right password"))).await.unwrap();
    let module = spec("m", image);
    world.start(&module).await;
    assert_eq!(world.output(&module).await, ["from the registry"]);
    forget(&format!("{}/{name}:1", registry.address)).await;
}

#[tokio::test]
async fn a_digest_says_exactly_which_image() {
    let (world, registry, name) = (World::new(), Registry::start(), unique());
    let digest = registry.publish(&name).await;
    let credential = registry.credential("right password");
    let by_name = registry.image(&format!("{name}@{digest}"), None);
    let by_setting = registry.image(&format!("{name}:1"), Some(&digest));
    for (module, image) in [("by-name", by_name), ("by-setting", by_setting)] {
        world.runtime.prepare(&image, Some(&credential)).await.unwrap();
        let module = spec(module, image);
        world.start(&module).await;
        assert_eq!(world.output(&module).await, ["from the registry"]);
        let expected = format!("{}/{name}@{digest}", registry.address);
        assert_eq!(world.inspect(&module).await["Config"]["Image"], expected);
    }
    let other = registry.image(&format!("{name}:1"), Some(&format!("sha256:{}", "0".repeat(64))));
    let error = world.runtime.prepare(&other, Some(&credential)).await.unwrap_err();
    assert_eq!(error.problem, Problem::ArtifactNotFound, "{error}");
    let image = format!("{}/{name}@{digest}", registry.address);
    // Other tests may have the same image under names of their own.
    let known = get(&format!("/images/{image}/json")).await["RepoDigests"].take();
    assert!(known.as_array().unwrap().iter().any(|known| *known == image), "{known}");
    drop(world);
    forget(&image).await;
}

#[tokio::test]
async fn what_is_here_will_do_while_the_registry_is_away() {
    let (world, registry, name) = (World::new(), Registry::start(), unique());
    registry.publish(&name).await;
    let image = registry.image(&format!("{name}:1"), None);
    let credential = registry.credential("right password");
    world.runtime.prepare(&image, Some(&credential)).await.unwrap();
    let other = registry.image(&format!("{name}:2"), None);
    let error = world.runtime.prepare(&other, Some(&credential)).await.unwrap_err();
    assert_eq!(error.problem, Problem::ArtifactNotFound, "{error}");
    let address = registry.address.clone();
    drop(registry);
    world.runtime.prepare(&image, Some(&credential)).await.unwrap();
    let error = world.runtime.prepare(&other, Some(&credential)).await.unwrap_err();
    assert_eq!(error.problem, Problem::Failed, "{error}");
    forget(&format!("{address}/{name}:1")).await;
}

#[tokio::test]
async fn what_is_never_to_be_pulled_is_not_asked_for() {
    let (world, registry, name) = (World::new(), Registry::start(), unique());
    registry.publish(&name).await;
    let mut image = registry.image(&format!("{name}:1"), None);
    let credential = registry.credential("right password");
    let set_policy = |image: &mut Artifact, pull: PullPolicy| {
        if let Artifact::Image(image) = image {
            image.pull = pull;
        }
    };
    set_policy(&mut image, PullPolicy::Never);
    let error = world.runtime.prepare(&image, Some(&credential)).await.unwrap_err();
    assert_eq!(error.problem, Problem::ArtifactNotFound, "{error}");
    assert!(error.to_string().contains("its pull policy is `never`"), "{error}");
    set_policy(&mut image, PullPolicy::OnCreate);
    world.runtime.prepare(&image, Some(&credential)).await.unwrap();
    set_policy(&mut image, PullPolicy::Never);
    world.runtime.prepare(&image, Some(&registry.credential("wrong password"))).await.unwrap();
    forget(&format!("{}/{name}:1", registry.address)).await;
}
