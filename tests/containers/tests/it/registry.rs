//! A private registry with a password: Debian's `docker-registry`, on an address of this machine.

use std::process::Command;

use serde_json::json;
use skerry_testkit::{Loopback, Program};
use tempfile::TempDir;

use crate::docker::docker;

pub(crate) const USER: &str = "robot";
pub(crate) const PASSWORD: &str = "right password";
/// `robot`, `right password` as `htpasswd -B` writes them.
const PASSWORDS: &str = "robot:$2y$05$aiqkkZKqFCyJR0i2q1GdueZofIPeWJe7uwMRCTvJnbxxjt2XP8OYS\n";

/// A running registry.
pub(crate) struct Registry {
    pub(crate) address: String,
    folder: TempDir,
    _program: Program,
}

impl Registry {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Engines take registries on 127.0.0.0/8 without TLS.
        let loopback = Loopback::next();
        let address = loopback.at(loopback.free_port()).to_string();
        let passwords = folder.path().join("passwords");
        std::fs::write(&passwords, PASSWORDS).unwrap();
        let config = json!({
            "version": 0.1,
            "storage": { "filesystem": { "rootdirectory": folder.path().join("images") } },
            "http": { "addr": address },
            "auth": { "htpasswd": { "realm": "test", "path": passwords } },
        });
        let file = folder.path().join("config.yml");
        std::fs::write(&file, config.to_string()).unwrap();
        let program = Program::start("docker-registry", Command::new("docker-registry").arg("serve").arg(&file));
        program.wait_for("listening on");
        Self { address, folder, _program: program }
    }

    /// Puts an image of the engine into the registry under a new name, and takes that name from the engine.
    pub(crate) fn publish(&self, image: &str, name: &str) -> Published {
        let reference = format!("{}/{name}", self.address);
        docker(&["tag", image, &reference]);
        let config = self.folder.path().join("docker").display().to_string();
        docker(&["--config", &config, "login", "--username", USER, "--password", PASSWORD, &self.address]);
        docker(&["--config", &config, "push", "--quiet", &reference]);
        docker(&["rmi", &reference]);
        Published { reference }
    }
}

/// An image in a registry; taken from the engine when dropped, should somebody have pulled it.
pub(crate) struct Published {
    pub(crate) reference: String,
}

impl Drop for Published {
    fn drop(&mut self) {
        let _ = crate::docker::try_docker(&["rmi", "--force", &self.reference]);
    }
}
