//! Where things are: the programs under test, the Python with Azure's SDKs, the repository.

use std::path::{Path, PathBuf};

/// A program of the workspace. From `SKERRY_PROGRAMS` (a folder) or from beside the running test.
///
/// # Panics
/// When it was not built; says how to.
pub fn program(name: &str) -> PathBuf {
    let folder = std::env::var_os("SKERRY_PROGRAMS").map_or_else(beside_the_test, PathBuf::from);
    let path = folder.join(name);
    assert!(path.is_file(), "{} is not there; `cargo build --bins` (or `cargo xtask test`) makes it", path.display());
    path
}

/// The Python that has Azure's SDKs. From `SKERRY_PYTHON` or from where `cargo xtask prepare` puts it.
///
/// # Panics
/// When it is not there; says how to get it.
pub fn python() -> PathBuf {
    let prepared =
        || beside_the_test().parent().map(|target| target.join("tools/python/bin/python")).unwrap_or_default();
    let path = std::env::var_os("SKERRY_PYTHON").map_or_else(prepared, PathBuf::from);
    assert!(path.is_file(), "{} is not there; `cargo xtask prepare` makes it", path.display());
    path
}

/// The root of the repository.
///
/// # Panics
/// When the test was not started by cargo or nextest, which say where its package is; what was so when it was built does not
/// count, since several checkouts may share the folder they build in.
pub fn repository() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).unwrap_or_default();
    let root = package.ancestors().find(|folder| folder.join("layers.toml").is_file());
    root.unwrap_or_else(|| panic!("{} is not in the repository: run tests with cargo", package.display())).to_owned()
}

/// `target/debug` for a test that runs as `target/debug/deps/name-hash`.
fn beside_the_test() -> PathBuf {
    let test = std::env::current_exe().unwrap_or_else(|cause| panic!("cannot tell where this test is: {cause}"));
    let folder = test.ancestors().find(|folder| folder.file_name().is_some_and(|name| name == "deps"));
    folder.and_then(Path::parent).or(test.parent()).map(Path::to_owned).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_is_the_folder_with_the_layers() {
        assert!(repository().join("layers.toml").is_file());
    }

    #[test]
    #[should_panic(expected = "`cargo build --bins`")]
    fn a_missing_program_says_how_to_make_it() {
        program("no-such-program");
    }
}
