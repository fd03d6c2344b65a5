//! What a module finds around itself: user, folder, environment, open files, signals.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use skerry_module_runtime::{Binding, LogRange, ModuleRuntime, Problem};

use crate::backend::{World, eventually, is_root, output, program, shell, spec};

#[tokio::test]
async fn the_environment_is_only_what_was_given() {
    let world = World::new(|_| ()).await;
    let module = spec("env", program("/usr/bin/env", &[]));
    world.start(&module).await.unwrap();
    world.until_exited(&module).await;
    let home = world.config.folder.join("modules/env/work");
    let mut lines = output(&world.runtime, &module.name, LogRange::default()).await;
    lines.sort();
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(lines, [format!("HOME={}", home.display()), path.to_owned()]);
    world.finish().await;
}

#[tokio::test]
async fn no_file_is_inherited_and_input_is_empty() {
    use std::os::fd::AsFd;
    let world = World::new(|_| ()).await;
    // Left open for programs we start, as a careless parent of the edge might do.
    let file = File::open("/etc/passwd").unwrap();
    rustix::io::fcntl_setfd(file.as_fd(), rustix::io::FdFlags::empty()).unwrap();
    let lines = world.output_of("exec ls -l /proc/self/fd").await;
    let open: Vec<_> = lines.iter().filter_map(|line| line.split_once(" -> ")).map(|(_, target)| target).collect();
    // The last one is the folder that is being listed.
    let [input, output, error, listed] = open[..] else { panic!("{lines:?}") };
    assert_eq!(input, "/dev/null");
    assert!(output.starts_with("pipe:") && error.starts_with("pipe:") && output != error, "{lines:?}");
    assert!(listed.ends_with("/fd"), "{lines:?}");
    world.finish().await;
}

#[tokio::test]
async fn signals_are_as_they_are_for_everybody() {
    let world = World::new(|_| ()).await;
    let lines = world.output_of("grep -E 'Sig(Blk|Ign)' /proc/self/status | cut -f 2").await;
    // Those from 32 on are the C library's own.
    let ordinary = lines.iter().map(|line| u64::from_str_radix(line, 16).unwrap() & 0x7fff_ffff);
    assert_eq!(ordinary.collect::<Vec<_>>(), [0, 0], "{lines:?}");
    world.finish().await;
}

#[tokio::test]
async fn the_working_directory_is_private_and_goes_with_the_module() {
    let world = World::new(|_| ()).await;
    let module = shell("m", "echo kept > file; pwd; stat -c %a .");
    world.start(&module).await.unwrap();
    world.until_exited(&module).await;
    let work = world.config.folder.join("modules/m/work");
    let lines = output(&world.runtime, &module.name, LogRange::default()).await;
    assert_eq!(lines, [work.to_str().unwrap(), "700"]);
    assert_eq!(fs::read_to_string(work.join("file")).unwrap(), "kept\n");
    let records = world.config.folder.join("modules/m/launch.json");
    assert_eq!(fs::metadata(records).unwrap().permissions().mode() & 0o777, 0o600);
    world.runtime.remove(&module.name).await.unwrap();
    assert!(!work.exists());
    world.finish().await;
}

#[tokio::test]
async fn another_working_directory_can_be_chosen_but_must_be_there() {
    let world = World::new(|_| ()).await;
    let mut artifact = program("/bin/pwd", &[]);
    artifact.working_directory = Some("/usr".to_owned());
    let module = spec("there", artifact.clone());
    world.start(&module).await.unwrap();
    world.until_exited(&module).await;
    assert_eq!(output(&world.runtime, &module.name, LogRange::default()).await, ["/usr"]);
    artifact.working_directory = Some("/nowhere".to_owned());
    let error = world.start(&spec("not-there", artifact)).await.unwrap_err();
    assert_eq!(error.problem, Problem::SpecRefused);
    assert!(error.reason.starts_with("cannot enter working directory `/nowhere`"), "{error}");
    world.finish().await;
}

#[tokio::test]
async fn as_root_every_module_has_a_user_of_its_own() {
    let world = World::new(|config| config.users = Some(59_100..=59_101)).await;
    let ids = "id -u; id -g; id -G; grep -E 'CapEff|NoNewPrivs' /proc/self/status | cut -f 2";
    let (one, two) = (shell("one", ids), shell("two", ids));
    world.start(&one).await.unwrap();
    world.start(&two).await.unwrap();
    let mut found = Vec::new();
    for module in [&one, &two] {
        world.until_exited(module).await;
        found.push(output(&world.runtime, &module.name, LogRange::default()).await);
    }
    if is_root() {
        let expected = |user: &str| [user, user, user, "0000000000000000", "1"].map(str::to_owned);
        assert_eq!(found, [expected("59100"), expected("59101")]);
        assert_eq!(fs::metadata(world.workload_folder()).unwrap().uid(), 59_101);
        let error = world.start(&shell("three", "true")).await.unwrap_err();
        assert!(error.to_string().contains("every user of the configured range"), "{error}");
        // The user stays with the name.
        world.runtime.remove(&one.name).await.unwrap();
        world.start(&shell("one", "id -u")).await.unwrap();
        world.until_exited(&one).await;
        assert_eq!(output(&world.runtime, &one.name, LogRange::default()).await, ["59100"]);
    } else {
        let us = rustix::process::geteuid().as_raw().to_string();
        assert!(found.iter().all(|lines| lines[0] == us));
    }
    assert_eq!(fs::metadata(world.workload_folder()).unwrap().permissions().mode() & 0o777, 0o700);
    world.finish().await;
}

#[tokio::test]
async fn as_root_names_of_the_platform_resolve_in_the_module_alone() {
    let world = World::new(|_| ()).await;
    let module = shell("resolves", "getent hosts edge.skerry-test; grep -c . /etc/hosts");
    let binding = Binding {
        workload_folder: world.workload_folder(),
        host_names: vec![("edge.skerry-test".to_owned(), "127.7.7.7".parse().unwrap())],
        ..Binding::default()
    };
    world.runtime.create(&module, &binding).await.unwrap();
    world.runtime.start(&module.name).await.unwrap();
    world.until_exited(&module).await;
    let lines = output(&world.runtime, &module.name, LogRange::default()).await;
    if is_root() {
        assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>(), ["127.7.7.7", "edge.skerry-test"]);
        assert!(lines[1].parse::<usize>().unwrap() > 1, "the machine's names are there too");
    }
    assert!(!fs::read_to_string("/etc/hosts").unwrap().contains("edge.skerry-test"));
    world.finish().await;
}

#[tokio::test]
async fn a_folder_that_a_module_cannot_reach_is_named() {
    if !is_root() {
        // Without users of their own modules reach what we reach.
        return;
    }
    let world = World::new(|_| ()).await;
    fs::set_permissions(world.folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let error = world.start(&shell("m", "true")).await.unwrap_err();
    let expected = format!("`{}` is closed to it (chmod o+x)", world.folder.path().display());
    assert!(error.to_string().contains(&expected), "{error}");
    assert_eq!(world.runtime.observe().await, Ok(Vec::new()));
    world.finish().await;
}

#[tokio::test]
async fn a_module_is_known_as_itself_before_its_start_was_told() {
    // A supervisor whose word of the start takes as long as we like.
    let script = r#"go="$0"; "$@" | { read -r word; while [ ! -e "$go" ]; do sleep 0.01; done; echo "$word"; cat; }"#;
    let go = tempfile::tempdir().unwrap();
    let go = go.path().join("go");
    let slow = |config: &mut skerry_process::ProcessConfig| {
        let shell = ["/bin/sh".into(), "-c".into(), script.into(), go.clone().into_os_string()];
        config.supervisor.splice(0..0, shell);
    };
    let world = World::new(slow).await;
    let module = shell("quick", "echo $$ > pid; exec sleep 60");
    let pid = world.config.folder.join("modules/quick/work/pid");
    let asked = async {
        let written = || fs::read_to_string(&pid).is_ok_and(|text| text.ends_with('\n'));
        eventually("the module writes its number", written).await;
        let process = fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
        let known = world.runtime.is_member(&module.name, process).await;
        let stranger = world.runtime.is_member(&module.name, std::process::id()).await;
        fs::write(&go, "").unwrap();
        (known, stranger)
    };
    let (started, asked) = tokio::join!(world.start(&module), asked);
    assert_eq!((started, asked), (Ok(()), (Ok(true), Ok(false))));
    world.finish().await;
}
