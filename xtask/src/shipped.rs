//! The programs as they ship: release, static on musl, stripped. Demo, images, budgets and benchmarks all use this one build.

use std::fs;
use std::path::{Path, PathBuf};

use object::elf::PT_INTERP;
use object::read::elf::{ElfFile64, FileHeader, ProgramHeader};
use object::{Endianness, Object};

use crate::run::{Outcome, Run};
use crate::workspace::{Workspace, cargo};

/// Compiles the C parts of a static build; Debian has it in `musl-tools`.
pub(crate) const MUSL: &str = "/usr/bin/musl-gcc";

/// Packages with a program of their name: those that ship, and those that show and measure them. They are always built
/// together: another choice would mean other features of what they share, and so a build of its own.
const PACKAGES: [&str; 8] = [
    "skerry-edge",
    "skerry-hub",
    "skerry",
    "host-metrics",
    "simulated-temperature-sensor",
    "threshold-filter",
    "skerry-demo",
    "skerry-bench-broker",
];

/// Rust's name for this machine's processor with musl as its C library.
fn target() -> String {
    format!("{}-unknown-linux-musl", std::env::consts::ARCH)
}

/// Builds all of them and checks that they can ship; the folder they are in.
pub(crate) fn build(workspace: &Workspace) -> Outcome<PathBuf> {
    let target = target();
    let add = Run::new("rustup").args(["target", "add", &target]).folder(&workspace.root);
    add.into_file(&workspace.tools().join("rustup.log"))?;
    release(workspace, &["--target", &target])?;
    let folder = workspace.target.join(target).join("release");
    for program in PACKAGES {
        check(&folder.join(program))?;
    }
    Ok(folder)
}

/// The same for those who only want to see it run: where static programs cannot be made, for this machine's own C library.
pub(crate) fn build_to_try(workspace: &Workspace) -> Outcome<PathBuf> {
    if Path::new(MUSL).exists() {
        return build(workspace);
    }
    release(workspace, &[])?;
    Ok(workspace.target.join("release"))
}

/// Refuses a program that needs anything of the machine it runs on, or that carries symbols. Its size in bytes.
pub(crate) fn check(program: &Path) -> Outcome<u64> {
    let failed = |cause: &dyn std::fmt::Display| format!("cannot read {}: {cause}", program.display());
    let bytes = fs::read(program).map_err(|cause| failed(&cause))?;
    let elf = ElfFile64::<Endianness>::parse(bytes.as_slice()).map_err(|cause| failed(&cause))?;
    let endian = elf.endian();
    let headers = elf.elf_header().program_headers(endian, bytes.as_slice()).map_err(|cause| failed(&cause))?;
    if headers.iter().any(|header| header.p_type(endian) == PT_INTERP) {
        return Err(format!("{} is not static: it asks for a dynamic linker", program.display()));
    }
    if elf.symbol_table().is_some() {
        return Err(format!("{} is not stripped: it has a table of symbols", program.display()));
    }
    Ok(bytes.len() as u64)
}

fn release(workspace: &Workspace, more: &[&str]) -> Outcome {
    let mut build = Run::new(cargo()).args(["build", "--release", "--locked", "--bins"]).args(more);
    for package in PACKAGES {
        build = build.args(["--package", package]);
    }
    build.folder(&workspace.root).go()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_program_that_ships_is_static_and_stripped() {
        let folder = std::env::temp_dir().join(format!("xtask-shipped-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let source = folder.join("main.c");
        fs::write(&source, "int main(void) { return 0; }\n").unwrap();
        let compiled = |name: &str, flags: &[&str]| {
            let program = folder.join(name);
            assert!(Command::new("cc").args(flags).arg(&source).arg("-o").arg(&program).status().unwrap().success());
            (fs::metadata(&program).unwrap().len(), check(&program))
        };
        let (size, ships) = compiled("ships", &["-static", "-s"]);
        let (_, symbols) = compiled("symbols", &["-static"]);
        let (_, dynamic) = compiled("dynamic", &["-s"]);
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(ships, Ok(size));
        assert!(symbols.unwrap_err().ends_with("it has a table of symbols"));
        assert!(dynamic.unwrap_err().ends_with("it asks for a dynamic linker"));
    }
}
