//! `cargo xtask images`: the modules as container images, made here without any registry. Rust modules are static programs
//! on nothing; the Python module lies on a Debian made by debootstrap, with its packages beside it.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use crate::run::{Outcome, Run};
use crate::shipped;
use crate::workspace::Workspace;

/// Rust modules; the image is `skerry/NAME` with the workspace's version as its tag.
const RUST_MODULES: [&str; 3] = ["host-metrics", "simulated-temperature-sensor", "threshold-filter"];
const PYTHON_MODULE: &str = "python-example";
/// The release whose Python the module's packages are made for.
const DEBIAN: &str = "bookworm";
/// Nobody in particular; modules need no rights.
const USER: &str = "USER 1000:1000";
/// Says what an image was made from, so that an unchanged one is kept.
const LABEL: &str = "net.skerry.made-from";

/// Makes all images in the running engine.
pub(crate) fn make(workspace: &Workspace) -> Outcome {
    let programs = shipped::build(workspace)?;
    for module in RUST_MODULES {
        let root = fresh(workspace, module)?;
        copy(&programs.join(module), &root.join(module))?;
        import(workspace, module, &root, &[USER, &format!("ENTRYPOINT [\"/{module}\"]")])?;
    }
    python_module(workspace)
}

/// The name of a module's image.
pub(crate) fn name(module: &str) -> String {
    format!("skerry/{module}:{}", env!("CARGO_PKG_VERSION"))
}

fn python_module(workspace: &Workspace) -> Outcome {
    let root = debian_with_python(workspace)?;
    let module = workspace.root.join("modules").join(PYTHON_MODULE);
    let place = root.join("opt/module");
    remove(&place)?;
    make_folder(&place)?;
    copy(&module.join("main.py"), &place.join("main.py"))?;
    // The machine's own Python is of the same release, so what pip chooses here fits there.
    let packages = place.join("packages").display().to_string();
    let list = module.join("requirements.txt").display().to_string();
    Run::new(workspace.tools().join("python/bin/python"))
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"])
        .args(["--target", &packages, "--requirement", &list])
        .into_file(&workspace.tools().join("python-module.log"))?;
    let entry = "ENTRYPOINT [\"python3\", \"-u\", \"/opt/module/main.py\"]";
    import(workspace, PYTHON_MODULE, &root, &["ENV PYTHONPATH=/opt/module/packages", USER, entry])
}

/// A minimal Debian with Python, kept between runs.
fn debian_with_python(workspace: &Workspace) -> Outcome<PathBuf> {
    let root = workspace.target.join("images").join(DEBIAN);
    let mark = workspace.target.join("images").join(format!("{DEBIAN}.made"));
    if mark.is_file() {
        return Ok(root);
    }
    println!("making a Debian with Python (once, about a minute)");
    remove(&root)?;
    make_folder(&root)?;
    Run::new("debootstrap")
        .args([
            "--variant=minbase",
            "--include=python3-minimal,python3,ca-certificates",
            DEBIAN,
            &root.display().to_string(),
        ])
        .into_file(&workspace.tools().join("debootstrap.log"))?;
    for unneeded in ["var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale", "usr/share/man"] {
        remove(&root.join(unneeded))?;
    }
    fs::write(&mark, "").map_err(|cause| format!("cannot write {}: {cause}", mark.display()))?;
    Ok(root)
}

/// Gives a folder to the engine as the only layer of an image, unless it has that image already.
fn import(workspace: &Workspace, module: &str, root: &Path, changes: &[&str]) -> Outcome {
    let image = name(module);
    let archive = workspace.target.join("images").join(format!("{module}.tar"));
    let archive_text = archive.display().to_string();
    // The same content always gives the same archive.
    Run::new("tar")
        .args(["--create", "--file", &archive_text, "--directory", &root.display().to_string()])
        .args(["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner", "--exclude=./dev/*", "."])
        .go()?;
    let made_from = fingerprint(&archive, changes)?;
    let format = format!("{{{{index .Config.Labels \"{LABEL}\"}}}}");
    let known = Run::new("docker").args(["image", "inspect", "--format", &format, &image]).text();
    if known.is_ok_and(|label| label.trim() == made_from) {
        println!("{image}: unchanged");
    } else {
        let mut import = Run::new("docker").args(["import", "--change", &format!("LABEL {LABEL}={made_from}")]);
        for change in changes {
            import = import.args(["--change", change]);
        }
        import.args([&archive_text, &image]).text()?;
        println!("{image}: made");
    }
    remove_file(&archive)
}

fn fingerprint(archive: &Path, changes: &[&str]) -> Outcome<String> {
    let content = fs::read(archive).map_err(|cause| format!("cannot read {}: {cause}", archive.display()))?;
    let mut hasher = DefaultHasher::new();
    (content, changes).hash(&mut hasher);
    Ok(format!("{:016x}", hasher.finish()))
}

/// An empty folder for a module's files.
fn fresh(workspace: &Workspace, module: &str) -> Outcome<PathBuf> {
    let root = workspace.target.join("images").join(module);
    remove(&root)?;
    make_folder(&root)?;
    Ok(root)
}

fn make_folder(folder: &Path) -> Outcome {
    fs::create_dir_all(folder).map_err(|cause| format!("cannot create {}: {cause}", folder.display()))
}

fn copy(from: &Path, to: &Path) -> Outcome {
    fs::copy(from, to).map(drop).map_err(|cause| format!("cannot copy {} to {}: {cause}", from.display(), to.display()))
}

fn remove(folder: &Path) -> Outcome {
    match fs::remove_dir_all(folder) {
        Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("cannot remove {}: {cause}", folder.display()))
        }
        _ => Ok(()),
    }
}

fn remove_file(file: &Path) -> Outcome {
    fs::remove_file(file).map_err(|cause| format!("cannot remove {}: {cause}", file.display()))
}
