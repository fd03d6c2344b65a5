//! The engine goes away and comes back; the real one stays, and the way to it is cut.

use std::path::{Path, PathBuf};
use std::time::Duration;

use skerry_module_runtime::{ModuleRuntime, ModuleState, Problem};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use crate::engine::{UNTIL_STOPPED, World, beside, shell, socket, until};

/// A way to the engine that can be cut: everything that comes to one socket goes on to the other.
struct Way {
    path: PathBuf,
    task: tokio::task::JoinHandle<()>,
}

impl Way {
    fn open(path: &Path) -> Self {
        let _ = std::fs::remove_file(path);
        let listener = UnixListener::bind(path).unwrap();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                connections.spawn(async move {
                    let mut far = UnixStream::connect(socket()).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                });
            }
        });
        Self { path: path.to_owned(), task }
    }

    /// Ends all connections.
    async fn cut(self) -> PathBuf {
        self.task.abort();
        let _ = self.task.await;
        std::fs::remove_file(&self.path).unwrap();
        self.path
    }
}

#[tokio::test]
async fn an_engine_that_goes_is_named_and_one_that_comes_back_is_used_again() {
    let folder = tempfile::tempdir().unwrap();
    let way = Way::open(&folder.path().join("engine.sock"));
    let world = World::at(way.path.clone());
    let module = shell("m", UNTIL_STOPPED);
    world.start(&module).await;
    let running =
        until(&world.runtime, |modules| modules.iter().find(|module| module.state == ModuleState::Running).cloned())
            .await;

    let mut events = world.runtime.events();
    let path = way.cut().await;
    tokio::time::timeout(Duration::from_secs(30), events.changed()).await.expect("the going is announced");
    let errors = [
        world.runtime.observe().await.unwrap_err(),
        world.runtime.start(&module.name).await.unwrap_err(),
        world.runtime.prepare(&module.artifact, None).await.unwrap_err(),
        world.runtime.ensure_network().await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.problem, Problem::Unavailable);
        let expected = format!("no container engine answers at `unix://{}`", path.display());
        assert!(error.to_string().contains(&expected), "{error}");
    }

    let way = Way::open(&path);
    tokio::time::timeout(Duration::from_secs(30), events.changed()).await.expect("the coming is announced");
    assert_eq!(world.observed(&module).await, running);
    world.runtime.stop(&module.name, Some(Duration::from_secs(10))).await.unwrap();
    assert_eq!(world.observed(&module).await.state, ModuleState::Exited);
    drop(world);
    way.cut().await;
}

#[tokio::test]
async fn what_happens_while_the_engine_is_out_of_reach_is_seen_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let way = Way::open(&folder.path().join("engine.sock"));
    let world = World::at(way.path.clone());
    let module = shell("m", UNTIL_STOPPED);
    world.start(&module).await;
    until(&world.runtime, |modules| modules.iter().find(|module| module.state == ModuleState::Running).cloned()).await;
    let path = way.cut().await;

    let direct = skerry_container::ContainerConfig { socket: socket(), ..world.config.clone() };
    let direct = skerry_container::ContainerRuntime::new(direct);
    direct.stop(&module.name, None).await.unwrap();
    direct.start(&module.name).await.unwrap();
    let restarted = crate::engine::observed(&direct, &module).await;

    let way = Way::open(&beside(&path, "engine.sock"));
    let seen = until(&world.runtime, |modules| modules.iter().find(|module| **module == restarted).cloned()).await;
    assert_eq!(seen, restarted);
    drop(world);
    way.cut().await;
}
