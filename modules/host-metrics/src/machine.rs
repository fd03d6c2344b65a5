//! Reading the machine: the files below `/proc` and `/sys`, and the room on its file systems.

use std::fs;
use std::path::{Path, PathBuf};

use crate::counters;
use crate::measurement::{FileSystem, Reading, Temperature};

/// Where the machine's files are. In a container the host's are mounted elsewhere: `HOST_PROC`, `HOST_SYS`, `HOST_ROOT`.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    proc: PathBuf,
    sys: PathBuf,
    root: PathBuf,
}

impl Machine {
    pub(crate) fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Machine {
        let folder = |name: &str, default: &str| PathBuf::from(variable(name).unwrap_or_else(|| default.to_owned()));
        Machine { proc: folder("HOST_PROC", "/proc"), sys: folder("HOST_SYS", "/sys"), root: folder("HOST_ROOT", "/") }
    }

    /// The machine's name, or nothing where it tells none.
    pub(crate) fn host_name(&self) -> Option<String> {
        let name = self.text("sys/kernel/hostname")?;
        Some(name.trim().to_owned()).filter(|name| !name.is_empty())
    }

    /// Reads everything; a file that is missing leaves its part empty. `at`: monotonic seconds.
    pub(crate) fn read(&self, at: f64) -> Reading {
        // Process 1 lives in the host's network, also when we live in a container's and see the host's /proc.
        let network = self.text("1/net/dev").or_else(|| self.text("net/dev"));
        let mounts = self.text("1/mounts").or_else(|| self.text("mounts"));
        Reading {
            at,
            uptime: self.text("uptime").and_then(|text| counters::uptime(&text)),
            processor: self.text("stat").and_then(|text| counters::processor(&text)),
            load: self.text("loadavg").and_then(|text| counters::load(&text)),
            memory: self.text("meminfo").and_then(|text| counters::memory(&text)),
            interfaces: network.map(|text| counters::interfaces(&text)).unwrap_or_default(),
            disk_traffic: self.text("diskstats").map(|text| counters::disk_traffic(&text)).unwrap_or_default(),
            file_systems: mounts.map(|text| self.file_systems(&text)).unwrap_or_default(),
            temperatures: temperatures(&self.sys),
        }
    }

    fn text(&self, file: &str) -> Option<String> {
        fs::read_to_string(self.proc.join(file)).ok()
    }

    fn file_systems(&self, mounts: &str) -> Vec<FileSystem> {
        let room = |mount: counters::Mount| {
            let folder = self.root.join(mount.folder.trim_start_matches('/'));
            let found = rustix::fs::statvfs(&folder).ok()?;
            Some(FileSystem {
                folder: mount.folder,
                device: mount.device,
                kind: mount.file_system,
                total: found.f_blocks.saturating_mul(found.f_frsize),
                available: found.f_bavail.saturating_mul(found.f_frsize),
            })
        };
        counters::mounts(mounts).into_iter().filter_map(room).collect()
    }
}

/// `/sys/class/hwmon/hwmon*/temp*_input`, thousandths of a degree; thermal zones where there is no such chip.
fn temperatures(sys: &Path) -> Vec<Temperature> {
    let mut found = Vec::new();
    for chip in folders(&sys.join("class/hwmon")) {
        let name = line(&chip.join("name")).unwrap_or_default();
        for input in folders(&chip) {
            let Some(stem) = input.file_name().and_then(|file| file.to_str()?.strip_suffix("_input")) else { continue };
            if !stem.starts_with("temp") {
                continue;
            }
            let label = line(&chip.join(format!("{stem}_label"))).unwrap_or_else(|| stem.to_owned());
            found.extend(temperature(&input, format!("{name} {label}")));
        }
    }
    if found.is_empty() {
        for zone in folders(&sys.join("class/thermal")) {
            if let Some(kind) = line(&zone.join("type")) {
                found.extend(temperature(&zone.join("temp"), kind));
            }
        }
    }
    found
}

fn temperature(file: &Path, sensor: String) -> Option<Temperature> {
    let thousandths: f64 = line(file)?.parse().ok()?;
    Some(Temperature { sensor, celsius: thousandths / 1000.0 })
}

fn line(file: &Path) -> Option<String> {
    fs::read_to_string(file).ok().map(|text| text.trim().to_owned())
}

/// Entries of a folder in the order of their names; none where there is no such folder.
fn folders(folder: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    entries.sort();
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, file: &str, text: &str) {
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn machine(root: &Path) -> Machine {
        let folder = root.to_path_buf();
        Machine::from_environment(move |name| match name {
            "HOST_PROC" => Some(folder.join("proc").display().to_string()),
            "HOST_SYS" => Some(folder.join("sys").display().to_string()),
            _ => Some(folder.display().to_string()),
        })
    }

    #[test]
    fn an_empty_machine_measures_nothing_and_fails_at_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let machine = machine(folder.path());
        assert_eq!(machine.read(1.0), Reading { at: 1.0, ..Reading::default() });
        assert_eq!(machine.host_name(), None);
    }

    #[test]
    fn a_host_seen_from_a_container_is_read_through_process_one() {
        let folder = tempfile::tempdir().unwrap();
        let line = |name: &str| format!("{name}: 1 0 0 0 0 0 0 0 2 0 0 0 0 0 0 0\n");
        write(folder.path(), "proc/net/dev", &line("veth0"));
        write(folder.path(), "proc/1/net/dev", &line("eth0"));
        write(folder.path(), "proc/1/mounts", "/dev/vda / ext4 rw 0 0\n/dev/vdb /absent ext4 rw 0 0\n");
        let reading = machine(folder.path()).read(0.0);
        assert_eq!(reading.interfaces[0].name, "eth0");
        assert_eq!(reading.file_systems.len(), 1);
        assert!(0 < reading.file_systems[0].total);
    }

    #[test]
    fn sensors_are_named_by_chip_and_label() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "sys/class/hwmon/hwmon0/name", "coretemp\n");
        write(folder.path(), "sys/class/hwmon/hwmon0/temp1_input", "45500\n");
        write(folder.path(), "sys/class/hwmon/hwmon0/temp1_label", "Package id 0\n");
        write(folder.path(), "sys/class/hwmon/hwmon0/temp2_input", "-1000\n");
        write(folder.path(), "sys/class/hwmon/hwmon0/fan1_input", "900\n");
        write(folder.path(), "sys/class/thermal/thermal_zone0/type", "x86_pkg_temp\n");
        let found = temperatures(&folder.path().join("sys"));
        let expected = [("coretemp Package id 0", 45.5), ("coretemp temp2", -1.0)];
        assert_eq!(found, expected.map(|(sensor, celsius)| Temperature { sensor: sensor.to_owned(), celsius }));
    }

    #[test]
    fn a_board_without_chips_has_thermal_zones() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "sys/class/thermal/thermal_zone0/type", "cpu-thermal\n");
        write(folder.path(), "sys/class/thermal/thermal_zone0/temp", "51234\n");
        let found = temperatures(&folder.path().join("sys"));
        assert_eq!(found, [Temperature { sensor: "cpu-thermal".to_owned(), celsius: 51.234 }]);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_machine_has_a_processor_and_memory() {
        let reading = Machine::from_environment(|_| None).read(0.0);
        assert!(reading.processor.is_some_and(|processor| 0 < processor.cores));
        assert!(reading.memory.is_some_and(|memory| 0 < memory.total));
    }
}
