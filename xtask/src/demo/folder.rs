//! Where a demo keeps everything: fresh at each start, and with copies of the programs, so that a build meanwhile changes nothing.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::run::Outcome;

/// Marks a folder that a demo made and may empty.
const MARK: &str = "made-by-demo";
/// Sockets of modules lie below, and their paths may have no more than 107 bytes.
const PATH_BYTES_MAX: usize = 55;

/// Where a demo is kept unless it is told otherwise: below the build's folder, if the path is short enough.
pub(super) fn usual(target: &Path) -> PathBuf {
    let below = target.join("demo");
    if below.as_os_str().len() <= PATH_BYTES_MAX {
        return below;
    }
    let user = fs::metadata("/proc/self").map_or(0, |own| own.uid());
    std::env::temp_dir().join(format!("skerry-demo-{user}"))
}

/// The folders of one demo.
pub(crate) struct Folder {
    root: PathBuf,
    /// Where users without rights can reach it: modules run as such users when the edge runs as root.
    open: PathBuf,
    /// `open` is elsewhere and goes with us.
    temporary: bool,
}

impl Folder {
    /// Empties `place` and copies `programs` of `built` there.
    pub(crate) fn make(place: &Path, built: &Path, programs: &[&str]) -> Outcome<Folder> {
        let root = std::path::absolute(place).map_err(|cause| format!("{}: {cause}", place.display()))?;
        if PATH_BYTES_MAX < root.as_os_str().len() {
            return Err(format!(
                "the path {} is too long for sockets below it; say `--dir` with a shorter one",
                root.display()
            ));
        }
        let unmarked = root.exists() && !root.join(MARK).exists();
        if unmarked && fs::read_dir(&root).is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(format!("{} holds something that is not of a demo; it is left alone", root.display()));
        }
        if root.exists() {
            fs::remove_dir_all(&root).map_err(|cause| format!("cannot empty {}: {cause}", root.display()))?;
        }
        make_folder(&root)?;
        write(&root.join(MARK), "")?;
        let (open, temporary) = match can_be_reached(&root) {
            true => (root.clone(), false),
            false => (std::env::temp_dir().join(format!("skerry-demo-{}", std::process::id())), true),
        };
        let folder = Folder { root, open, temporary };
        make_folder(&folder.open)?;
        for sub in ["programs", "logs"] {
            make_folder(&folder.path(sub))?;
        }
        make_folder(&folder.open.join("programs"))?;
        for program in programs {
            let to = folder.program(program);
            fs::copy(built.join(program), &to)
                .map_err(|cause| format!("cannot copy {program} to {}: {cause}", to.display()))?;
        }
        Ok(folder)
    }

    /// Something in the demo's folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The same as text, for command lines and settings.
    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_string_lossy().into_owned()
    }

    /// Where the edge keeps what its modules have to reach.
    pub(crate) fn modules(&self) -> PathBuf {
        self.open.join("modules")
    }

    /// The copy of a program.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.open.join("programs").join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.temporary {
            // What stays is in the system's folder for such things.
            let _ = fs::remove_dir_all(&self.open);
        }
    }
}

/// Writes a file that may hold a key.
pub(crate) fn write(path: &Path, text: &str) -> Outcome {
    fs::write(path, text)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o600)))
        .map_err(|cause| format!("cannot write {}: {cause}", path.display()))
}

fn make_folder(path: &Path) -> Outcome {
    fs::create_dir_all(path)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o755)))
        .map_err(|cause| format!("cannot create {}: {cause}", path.display()))
}

/// Whether modules get there: as ordinary user they are us, else every folder above must let strangers pass.
fn can_be_reached(path: &Path) -> bool {
    let is_root = fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    let passable = |folder: &Path| fs::metadata(folder).is_ok_and(|found| found.mode() & 0o001 != 0);
    !is_root || path.ancestors().filter(|folder| !folder.as_os_str().is_empty()).all(passable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deep_clone_has_its_demo_elsewhere() {
        assert_eq!(usual(Path::new("/src/skerry/target")), Path::new("/src/skerry/target/demo"));
        let deep = PathBuf::from("/deep".repeat(12));
        let place = usual(&deep);
        assert!(!place.starts_with(&deep) && place.as_os_str().len() <= PATH_BYTES_MAX, "{}", place.display());
    }

    #[test]
    fn only_what_a_demo_made_is_emptied() {
        let place = std::env::temp_dir().join(format!("xtask-demo-{}", std::process::id()));
        fs::create_dir_all(place.join("precious")).unwrap();
        let refused = Folder::make(&place, Path::new("/bin"), &["true"]).err().unwrap();
        assert!(refused.contains("left alone") && place.join("precious").exists(), "{refused}");
        fs::remove_dir_all(place.join("precious")).unwrap();
        for _ in 0..2 {
            let folder = Folder::make(&place, Path::new("/bin"), &["true"]).unwrap();
            assert!(folder.program("true").is_file() && !folder.path("left").exists());
            fs::write(folder.path("left"), "").unwrap();
        }
        fs::remove_dir_all(&place).unwrap();
    }
}
