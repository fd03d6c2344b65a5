//! Limits of modules, and of their output.

use skerry_model::manifest::ProcessLimits;
use skerry_module_runtime::{LogRange, ModuleRuntime};

use crate::backend::{World, is_root, output, program, spec};

/// The last line of a shell script that runs under these limits, and how it ended.
async fn last_line(limits: ProcessLimits, script: &str) -> (Option<String>, Option<String>, Option<i64>) {
    let world = World::new(|_| ()).await;
    let mut artifact = program("/bin/bash", &["-c", script]);
    artifact.limits = limits;
    let module = spec("limited", artifact);
    world.start(&module).await.unwrap();
    let observed = world.until_exited(&module).await;
    let line = output(&world.runtime, &module.name, LogRange::default()).await.pop();
    world.finish().await;
    (line, observed.exit_reason, observed.exit_code)
}

#[tokio::test]
async fn open_files_are_limited() {
    let limits = ProcessLimits { open_files: Some(17), ..ProcessLimits::default() };
    assert_eq!(last_line(limits, "ulimit -n").await.0.as_deref(), Some("17"));
}

#[tokio::test]
async fn memory_is_limited_and_the_end_says_so() {
    let limits = ProcessLimits { memory_bytes: Some(32 << 20), ..ProcessLimits::default() };
    let fill = "x=$(head -c 1000000 /dev/zero | tr '\\0' x); for i in {1..200}; do y[i]=$x; done; echo survived";
    let (line, reason, code) = last_line(limits, fill).await;
    assert_ne!(line.as_deref(), Some("survived"));
    assert_ne!(code, Some(0));
    if is_root() {
        assert!(reason.is_some_and(|reason| reason.contains("memory limit")));
    }
}

#[tokio::test]
async fn processes_are_limited() {
    if !is_root() {
        // The kernel counts them by user, which we share with everything else of ours.
        return;
    }
    let limits = ProcessLimits { processes: Some(5), ..ProcessLimits::default() };
    let many = "for i in {1..20}; do sleep 3600 & done; echo survived";
    let (line, _, code) = last_line(limits, many).await;
    assert_ne!(line.as_deref(), Some("survived"));
    assert_ne!(code, Some(0));
}

#[tokio::test]
async fn processor_time_is_limited() {
    if !is_root() {
        return;
    }
    let limits = ProcessLimits { cpu_millis: Some(100), ..ProcessLimits::default() };
    // Throttled is the word of both versions of control groups.
    let script = "end=$((SECONDS+2)); while [ $SECONDS -lt $end ]; do :; done; \
                  file=$(grep -E ':cpu:|,cpu:|:cpu,|^0::/.' /proc/self/cgroup | head -1 | cut -d: -f3); \
                  cat /sys/fs/cgroup/cpu$file/cpu.stat /sys/fs/cgroup$file/cpu.stat 2>/dev/null | grep nr_throttled";
    let (line, _, _) = last_line(limits, script).await;
    let throttled: u64 = line.unwrap().split(' ').next_back().unwrap().parse().unwrap();
    assert!(throttled > 0);
}

#[tokio::test]
async fn output_is_bounded_and_the_newest_stays() {
    let world = World::new(|config| config.output_bytes_max = 256 * 1024).await;
    let module = spec("noisy", program("/usr/bin/seq", &["1", "200000"]));
    world.start(&module).await.unwrap();
    world.until_exited(&module).await;
    let folder = world.config.folder.join("modules/noisy");
    let sizes = ["output.log", "output.1.log"].map(|name| std::fs::metadata(folder.join(name)).unwrap().len());
    assert!(sizes.iter().sum::<u64>() <= 256 * 1024, "{sizes:?}");
    let range = LogRange { tail: Some(2), ..LogRange::default() };
    assert_eq!(output(&world.runtime, &module.name, range).await, ["199999", "200000"]);
    world.finish().await;
}

#[tokio::test]
async fn a_module_that_writes_without_end_can_be_stopped() {
    let world = World::new(|_| ()).await;
    let module = spec("yes", program("/usr/bin/yes", &[]));
    world.start(&module).await.unwrap();
    world.runtime.stop(&module.name, Some(std::time::Duration::from_secs(30))).await.unwrap();
    let observed = world.observed(&module).await;
    assert_eq!((observed.exit_code, observed.exit_reason.as_deref()), (Some(143), Some("ended by signal 15")));
    world.finish().await;
}
