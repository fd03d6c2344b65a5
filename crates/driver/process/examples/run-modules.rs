//! Runs modules of type `process` from a small list, until its standard input closes. Shows how a program has to use the
//! runtime, and stands in for the edge in tests that kill it.
//!
//! `run-modules FOLDER CONTROL_GROUP NAME=SHELL_COMMAND…`

use std::collections::BTreeMap;
use std::error::Error;
use std::io::Read;
use std::process::ExitCode;

use skerry_model::manifest::{Artifact, DesiredStatus, ProcessArtifact, ProcessLimits, RestartPolicy, StartupOrder};
use skerry_model::{ModuleName, ModuleSpec};
use skerry_module_runtime::{Binding, ModuleRuntime};
use skerry_process::{ProcessConfig, ProcessRuntime, supervisor_main};

const SUPERVISE: &str = "supervise";

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    // Before anything else: the same program is also the supervisor of each module.
    if std::env::args_os().nth(1).is_some_and(|word| word == SUPERVISE) {
        args.next();
        return supervisor_main(args);
    }
    let args: Vec<String> = args.filter_map(|arg| arg.into_string().ok()).collect();
    let done = tokio::runtime::Runtime::new().map_err(Into::into).and_then(|runtime| runtime.block_on(run(&args)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &[String]) -> Result<(), Box<dyn Error>> {
    let [folder, control_group, modules @ ..] = args else {
        return Err("run-modules FOLDER CONTROL_GROUP NAME=SHELL_COMMAND…".into());
    };
    let mut config = ProcessConfig::new(folder, vec!["/proc/self/exe".into(), SUPERVISE.into()]);
    config.control_group.clone_from(control_group);
    let runtime = ProcessRuntime::open(config).await?;
    for module in modules {
        let (name, command) = module.split_once('=').ok_or("NAME=SHELL_COMMAND")?;
        let spec = spec(name, command)?;
        let workload_folder = std::path::Path::new(folder).join(format!("workload-{name}"));
        std::fs::create_dir_all(&workload_folder)?;
        runtime.remove(&spec.name).await?;
        runtime.create(&spec, &Binding { workload_folder, ..Binding::default() }).await?;
        runtime.start(&spec.name).await?;
    }
    println!("running");
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    Ok(())
}

fn spec(name: &str, command: &str) -> Result<ModuleSpec, Box<dyn Error>> {
    Ok(ModuleSpec {
        name: ModuleName::parse(name)?,
        artifact: Artifact::Process(ProcessArtifact {
            command: "/bin/sh".to_owned(),
            args: vec!["-c".to_owned(), command.to_owned()],
            working_directory: None,
            limits: ProcessLimits::default(),
        }),
        env: BTreeMap::new(),
        status: DesiredStatus::Running,
        restart: RestartPolicy::Never,
        startup_order: StartupOrder::LAST,
        version: String::new(),
    })
}
