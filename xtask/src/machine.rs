//! What the tests need on the machine: Debian packages and a Python environment with pinned packages.

use std::fs;
use std::path::{Path, PathBuf};

use crate::run::{Outcome, Run};
use crate::workspace::Workspace;

/// Debian packages, and the program or file by which each is known to be there.
const DEBIAN: [(&str, &str); 13] = [
    ("apache2-utils", "/usr/bin/htpasswd"),
    ("busybox-static", "/bin/busybox"),
    ("ca-certificates", "/usr/sbin/update-ca-certificates"),
    ("debootstrap", "/usr/sbin/debootstrap"),
    ("docker-registry", "/usr/bin/docker-registry"),
    ("docker.io", "/usr/sbin/dockerd"),
    ("gcc", "/usr/bin/gcc"),
    ("iproute2", "/bin/ip"),
    ("iptables", "/usr/sbin/iptables"),
    ("mosquitto", "/usr/sbin/mosquitto"),
    ("mosquitto-clients", "/usr/bin/mosquitto_pub"),
    ("musl-tools", "/usr/bin/musl-gcc"),
    ("python3-venv", "/usr/share/doc/python3-venv"),
];

/// Debian's interpreter, so that what is installed fits the Python of images made from Debian's packages.
const PYTHON: &str = "/usr/bin/python3";

/// Lists of pinned Python packages, relative to the repository.
const REQUIREMENTS: [&str; 2] = ["tests/azure-sdk/requirements.txt", "xtask/requirements.txt"];

/// Tools that are there after [`prepare`].
pub(crate) struct Tools {
    pub(crate) python: PathBuf,
    pub(crate) cargo_deny: PathBuf,
    pub(crate) cargo_nextest: PathBuf,
}

/// Installs what is missing. Quick when nothing is.
pub(crate) fn prepare(workspace: &Workspace) -> Outcome<Tools> {
    fs::create_dir_all(workspace.tools())
        .map_err(|cause| format!("cannot create {}: {cause}", workspace.tools().display()))?;
    debian_packages(&workspace.tools())?;
    let venv = python_environment(workspace)?;
    let program = |name: &str| venv.join("bin").join(name);
    let tools =
        Tools { python: program("python"), cargo_deny: program("cargo-deny"), cargo_nextest: program("cargo-nextest") };
    println!("python: {}", Run::new(&tools.python).args(["--version"]).text()?.trim());
    println!("{}", Run::new(&tools.cargo_deny).args(["--version"]).text()?.trim());
    println!("{}", Run::new(&tools.cargo_nextest).args(["nextest", "--version"]).text()?.lines().next().unwrap_or(""));
    Ok(tools)
}

fn debian_packages(logs: &Path) -> Outcome {
    let missing: Vec<&str> =
        DEBIAN.iter().filter(|(_, sign)| !Path::new(sign).exists()).map(|(name, _)| *name).collect();
    if missing.is_empty() {
        println!("Debian packages: all {} there", DEBIAN.len());
        return Ok(());
    }
    println!("Debian packages: installing {}", missing.join(" "));
    let install = || -> Outcome {
        // Another installer may hold the lock for a while; RUNLEVEL=1 keeps new packages from starting services.
        let apt = || {
            Run::new("apt-get")
                .args(["--yes", "--option", "DPkg::Lock::Timeout=600"])
                .env("DEBIAN_FRONTEND", "noninteractive")
                .env("RUNLEVEL", "1")
        };
        apt().args(["update"]).into_file(&logs.join("apt-update.log"))?;
        apt().args(["install", "--no-install-recommends"]).args(&missing).into_file(&logs.join("apt-install.log"))
    };
    install().map_err(|failure| {
        format!("{failure}\n  the tests need, as root: apt-get update && apt-get install {}", missing.join(" "))
    })
}

/// Makes the environment, or keeps it when it was made from the same lists.
fn python_environment(workspace: &Workspace) -> Outcome<PathBuf> {
    let venv = workspace.tools().join("python");
    let mut lists = String::new();
    for list in REQUIREMENTS {
        let path = workspace.root.join(list);
        lists += &fs::read_to_string(&path).map_err(|cause| format!("cannot read {list}: {cause}"))?;
    }
    let mark = venv.join("made-from.txt");
    if fs::read_to_string(&mark).is_ok_and(|made_from| made_from == lists) {
        println!("Python packages: as pinned");
        return Ok(venv);
    }
    println!("Python packages: installing into {}", venv.display());
    let log = workspace.tools().join("python.log");
    Run::new(PYTHON).args(["-m", "venv", "--clear", &venv.to_string_lossy()]).into_file(&log)?;
    let mut pip = Run::new(venv.join("bin/python")).args(["-m", "pip", "install", "--disable-pip-version-check"]);
    for list in REQUIREMENTS {
        pip = pip.args(["--requirement", &workspace.root.join(list).to_string_lossy()]);
    }
    pip.into_file(&log)?;
    fs::write(&mark, lists).map_err(|cause| format!("cannot write {}: {cause}", mark.display()))?;
    Ok(venv)
}
