//! Making a module: its folder, its user and the record of what to run.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use skerry_model::manifest::{Artifact, ProcessArtifact, ProcessLimits};
use skerry_model::{ModuleName, ModuleSpec};
use skerry_module_runtime::{Binding, Problem, RuntimeError};

use super::{Module, ProcessRuntime, on_disk};
use crate::folder::{self, ModuleFolder};
use crate::record::{self, Launch, Limits};

/// Where programs are looked for by modules that do not bring a `PATH` of their own.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl ProcessRuntime {
    pub(super) async fn create_module(&self, spec: &ModuleSpec, binding: &Binding) -> Result<(), RuntimeError> {
        let attempt = format!("cannot create module `{}`", spec.name);
        let program = check_program(&attempt, &spec.artifact)?;
        if self.modules().contains_key(&spec.name) {
            return Err(RuntimeError::new(Problem::NameTaken, attempt, "it exists"));
        }
        let failed = |error: io::Error| RuntimeError::new(Problem::Failed, attempt.clone(), error.to_string());
        let user = self.user_of(&spec.name).map_err(failed)?;
        let launch = self.launch(spec, program, binding, user);
        let module = Module::of(&launch, None);
        let (folder, workload) = (self.folder(&spec.name), binding.workload_folder.clone());
        on_disk(move || write(&folder, &launch, &workload)).await.map_err(failed)?;
        self.modules().insert(spec.name.clone(), module);
        self.0.changes.announce();
        Ok(())
    }

    fn user_of(&self, module: &ModuleName) -> io::Result<Option<u32>> {
        let Some(users) = &self.0.users else { return Ok(None) };
        let modules = self.modules();
        let exists = |name: &str| ModuleName::parse(name).is_ok_and(|name| modules.contains_key(&name));
        users.lock().unwrap_or_else(PoisonError::into_inner).of(module.as_str(), exists).map(Some)
    }

    fn launch(&self, spec: &ModuleSpec, program: &ProcessArtifact, binding: &Binding, user: Option<u32>) -> Launch {
        let working_directory =
            program.working_directory.as_ref().map_or_else(|| self.folder(&spec.name).work(), PathBuf::from);
        let group = |path: &String| format!("{path}/{}", folder::file_name(&spec.name));
        Launch {
            name: spec.name.to_string(),
            spec_digest: spec.digest().to_string(),
            generation: binding.generation.clone(),
            command: program.command.clone(),
            args: program.args.clone(),
            env: environment(spec, binding, &working_directory),
            host_names: binding.host_names.clone(),
            working_directory,
            user,
            control_group: self.0.control_group.as_ref().map(group),
            limits: limits(&program.limits),
            output_bytes_max: self.0.config.output_bytes_max,
            grace_millis: u64::try_from(self.0.config.grace.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// The program of a spec for this runtime, which must exist and be executable.
pub(super) fn check_program<'a>(attempt: &str, artifact: &'a Artifact) -> Result<&'a ProcessArtifact, RuntimeError> {
    let error = |problem, reason: String| RuntimeError::new(problem, attempt.to_owned(), reason);
    let program = match artifact {
        Artifact::Process(program) => program,
        Artifact::Image(image) => {
            return Err(error(Problem::SpecRefused, format!("`{}` is an image, not a program", image.image)));
        }
    };
    let command = &program.command;
    if !Path::new(command).is_absolute() {
        return Err(error(Problem::SpecRefused, format!("command `{command}` is not an absolute path")));
    }
    match fs::metadata(command) {
        Ok(metadata) if metadata.is_file() && metadata.permissions().mode() & 0o111 != 0 => Ok(program),
        Ok(_) => Err(error(Problem::SpecRefused, format!("`{command}` is not an executable file"))),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
            Err(error(Problem::ArtifactNotFound, format!("there is no `{command}` on this machine")))
        }
        Err(cause) => Err(error(Problem::Failed, format!("cannot look at `{command}`: {cause}"))),
    }
}

/// What every program expects, then the manifest's variables, then the platform's; later ones win.
fn environment(spec: &ModuleSpec, binding: &Binding, home: &Path) -> Vec<(String, String)> {
    let mut env = std::collections::BTreeMap::new();
    env.insert("PATH".to_owned(), DEFAULT_PATH.to_owned());
    env.insert("HOME".to_owned(), home.to_string_lossy().into_owned());
    env.extend(spec.env.iter().map(|(name, value)| (name.clone(), value.clone())));
    env.extend(binding.env.iter().cloned());
    env.into_iter().collect()
}

fn limits(limits: &ProcessLimits) -> Limits {
    Limits {
        memory_bytes: limits.memory_bytes,
        cpu_millis: limits.cpu_millis,
        open_files: limits.open_files,
        processes: limits.processes,
    }
}

/// Makes the folders and, last, the record that makes them a module.
fn write(folder: &ModuleFolder, launch: &Launch, workload_folder: &Path) -> io::Result<()> {
    if folder.path().exists() {
        fs::remove_dir_all(folder.path())?;
    }
    folder::make(folder.path(), if launch.user.is_some() { 0o711 } else { 0o700 })?;
    folder::make(&folder.work(), 0o700)?;
    folder::give(&folder.work(), launch.user)?;
    folder::give(workload_folder, launch.user)?;
    if let Some(user) = launch.user {
        for needed in [&folder.work(), workload_folder] {
            if let Some(barrier) = folder::barrier(needed, user)? {
                let (needed, barrier) = (needed.display(), barrier.display());
                let message = format!("user {user} cannot reach `{needed}`: `{barrier}` is closed to it (chmod o+x)");
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
            }
        }
    }
    record::write(&folder.launch(), launch)
}
