//! Control groups of version 1 and 2: one group per module, for limits and to end everything in it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::procfs;
use crate::record::Limits;

/// Length of the period in which processor time is shared out.
const CPU_PERIOD_MICROS: u32 = 100_000;
/// The smallest share of a period that the kernel takes.
const CPU_QUOTA_MICROS_MIN: u32 = 1_000;
/// What we need of controllers, where they are.
const CONTROLLERS: [&str; 3] = ["pids", "memory", "cpu"];

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hierarchy {
    mount: PathBuf,
    version: Version,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// The hierarchies of this machine that are of use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hierarchies(Vec<Hierarchy>);

impl Hierarchies {
    /// What is mounted now.
    pub(crate) fn detect() -> io::Result<Self> {
        Ok(Self::parse(&fs::read_to_string("/proc/self/mountinfo")?))
    }

    /// Reads `/proc/self/mountinfo`: `id parent major:minor root mount options … - type source super-options`.
    fn parse(mount_info: &str) -> Self {
        let mut found = Vec::new();
        for line in mount_info.lines() {
            let Some((left, right)) = line.split_once(" - ") else { continue };
            let mut left = left.split(' ').skip(4);
            let (Some(mount), Some(options)) = (left.next(), left.next()) else { continue };
            if options.split(',').any(|option| option == "ro") {
                continue;
            }
            let mut right = right.split(' ');
            let version = match right.next() {
                Some("cgroup2") => Version::Two,
                Some("cgroup") if right.nth(1).is_some_and(has_controller) => Version::One,
                _ => continue,
            };
            let hierarchy = Hierarchy { mount: PathBuf::from(mount), version };
            if !found.contains(&hierarchy) {
                found.push(hierarchy);
            }
        }
        Self(found)
    }

    /// The group `path` in every hierarchy.
    pub(crate) fn group(&self, path: &str) -> Group {
        let folders = self.0.iter().map(|hierarchy| Folder { hierarchy: hierarchy.clone(), path: path.into() });
        Group { folders: folders.collect() }
    }
}

fn has_controller(options: &str) -> bool {
    options.split(',').any(|option| CONTROLLERS.contains(&option))
}

/// A group, in every hierarchy.
#[derive(Debug)]
pub(crate) struct Group {
    folders: Vec<Folder>,
}

#[derive(Debug)]
struct Folder {
    hierarchy: Hierarchy,
    path: PathBuf,
}

impl Group {
    /// Makes the group and sets the limits; returns the names of limits that cannot be kept here.
    pub(crate) fn create(&self, limits: &Limits) -> io::Result<Vec<&'static str>> {
        for folder in &self.folders {
            folder.create()?;
        }
        let mut unkept = Vec::new();
        let mut set = |name, wanted: bool, done: &dyn Fn(&Folder) -> bool| {
            if wanted && !self.folders.iter().any(done) {
                unkept.push(name);
            }
        };
        let memory = limits.memory_bytes.unwrap_or_default();
        set("memoryBytes", limits.memory_bytes.is_some(), &|folder| folder.limit_memory(memory));
        let cpu = limits.cpu_millis.unwrap_or_default();
        set("cpus", limits.cpu_millis.is_some(), &|folder| folder.limit_cpu(cpu));
        let processes = limits.processes.unwrap_or_default();
        set("processes", limits.processes.is_some(), &|folder| folder.write("pids.max", processes));
        if limits.processes.is_none() {
            // It may be left from the end of a run before.
            for folder in &self.folders {
                folder.write("pids.max", "max");
            }
        }
        Ok(unkept)
    }

    /// Whether there is any hierarchy to be in.
    pub(crate) fn is_real(&self) -> bool {
        !self.folders.is_empty()
    }

    /// Files into which a process writes `0` to join.
    pub(crate) fn doors(&self) -> impl Iterator<Item = PathBuf> {
        self.folders.iter().map(|folder| folder.file("cgroup.procs"))
    }

    /// Ends every process in the group. New ones cannot be made meanwhile where the kernel can be told so.
    pub(crate) fn kill(&self) {
        for folder in &self.folders {
            folder.write("pids.max", 0);
            if folder.write("cgroup.kill", 1) {
                continue;
            }
            for process in folder.processes() {
                procfs::kill(process, || folder.processes().contains(&process));
            }
        }
    }

    /// Removes the group, which must be empty; tells whether it is gone.
    pub(crate) fn remove(&self) -> bool {
        self.folders.iter().fold(true, |gone, folder| {
            let removed = fs::remove_dir(folder.folder());
            gone & removed.err().is_none_or(|error| error.kind() == io::ErrorKind::NotFound)
        })
    }

    /// Names of the groups directly below.
    pub(crate) fn children(&self) -> Vec<String> {
        let entries = self.folders.iter().flat_map(|folder| fs::read_dir(folder.folder())).flatten().flatten();
        let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let mut names: Vec<String> = folders.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names.dedup();
        names
    }

    /// Whether the kernel ended a process of the group because of its memory limit.
    pub(crate) fn ran_out_of_memory(&self) -> bool {
        self.folders.iter().any(|folder| {
            let texts = ["memory.events", "memory.oom_control"].map(|name| fs::read_to_string(folder.file(name)));
            texts.into_iter().flatten().any(|text| counts_kills(&text))
        })
    }
}

fn counts_kills(text: &str) -> bool {
    let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    count.is_some_and(|count| count.trim() != "0")
}

impl Folder {
    fn folder(&self) -> PathBuf {
        self.hierarchy.mount.join(&self.path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    fn create(&self) -> io::Result<()> {
        fs::create_dir_all(self.folder())?;
        if self.hierarchy.version == Version::Two {
            let mut above: Vec<&Path> = self.path.ancestors().skip(1).collect();
            above.reverse();
            for path in above {
                for controller in CONTROLLERS {
                    // Missing controllers show when their limit is set.
                    let file = self.hierarchy.mount.join(path).join("cgroup.subtree_control");
                    let _ = fs::write(file, format!("+{controller}"));
                }
            }
        }
        Ok(())
    }

    fn processes(&self) -> Vec<u32> {
        let text = fs::read_to_string(self.file("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    fn limit_memory(&self, bytes: u64) -> bool {
        match self.hierarchy.version {
            Version::One => {
                let kept = self.write("memory.limit_in_bytes", bytes);
                self.write("memory.memsw.limit_in_bytes", bytes);
                kept
            }
            Version::Two => {
                self.write("memory.swap.max", 0);
                self.write("memory.oom.group", 1);
                self.write("memory.max", bytes)
            }
        }
    }

    fn limit_cpu(&self, millis: u32) -> bool {
        let quota = millis.saturating_mul(CPU_PERIOD_MICROS / 1000).max(CPU_QUOTA_MICROS_MIN);
        match self.hierarchy.version {
            Version::One => self.write("cpu.cfs_period_us", CPU_PERIOD_MICROS) && self.write("cpu.cfs_quota_us", quota),
            Version::Two => self.write("cpu.max", format_args!("{quota} {CPU_PERIOD_MICROS}")),
        }
    }

    /// Writes to a file of the kernel's; `false` when it is not there or does not take the value.
    fn write(&self, name: &str, value: impl std::fmt::Display) -> bool {
        let file = fs::OpenOptions::new().write(true).open(self.file(name));
        file.and_then(|mut file| io::Write::write_all(&mut file, value.to_string().as_bytes())).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mounts(mount_info: &str) -> Vec<(String, Version)> {
        let found = Hierarchies::parse(mount_info).0;
        found.into_iter().map(|one| (one.mount.display().to_string(), one.version)).collect()
    }

    #[test]
    fn the_pure_second_version_is_found() {
        let text = "25 20 0:22 / /sys/fs/cgroup rw,nosuid,nodev shared:4 - cgroup2 cgroup2 rw,nsdelegate\n\
                    26 20 0:5 / /proc rw - proc proc rw\n";
        assert_eq!(mounts(text), [("/sys/fs/cgroup".to_owned(), Version::Two)]);
    }

    #[test]
    fn of_the_first_version_only_useful_and_writable_controllers_count() {
        let text = "30 1 0:26 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
                    31 1 0:27 / /sys/fs/cgroup/memory ro shared:9 - cgroup cgroup rw,memory\n\
                    32 1 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
                    33 1 0:29 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n";
        let expected = ["/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/pids"];
        assert_eq!(mounts(text), expected.map(|mount| (mount.to_owned(), Version::One)));
    }

    #[test]
    fn both_versions_count_kills_in_the_same_word() {
        assert!(counts_kills("low 0\noom 2\noom_kill 1\n"));
        assert!(!counts_kills("oom_kill_disable 0\nunder_oom 0\noom_kill 0\n"));
        assert!(!counts_kills(""));
    }

    proptest::proptest! {
        #[test]
        fn any_mount_table_is_read_without_panic(text: String) {
            Hierarchies::parse(&text);
        }
    }
}
