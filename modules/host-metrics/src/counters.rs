//! The kernel's counters as values: `/proc/stat`, `meminfo`, `loadavg`, `uptime`, `net/dev`, `diskstats`, `mounts`.
//! Text in, values out; what is not understood is left out, because kernels differ and a measurement less is no failure.

/// Processor time since the start, in the kernel's ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Processor {
    pub(crate) total: u64,
    /// Waiting for input counts as idle.
    pub(crate) idle: u64,
    /// Processors the kernel runs on.
    pub(crate) cores: u32,
}

/// Bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) total: u64,
    /// What programs could get without swapping.
    pub(crate) available: u64,
    pub(crate) swap_total: u64,
    pub(crate) swap_free: u64,
}

/// Traffic of one network interface since it came up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) name: String,
    pub(crate) received_bytes: u64,
    pub(crate) sent_bytes: u64,
    /// Both directions, errors and drops.
    pub(crate) problems: u64,
}

/// Traffic of one whole disk since the start, bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DiskTraffic {
    pub(crate) name: String,
    pub(crate) read_bytes: u64,
    pub(crate) written_bytes: u64,
}

/// A mounted file system on a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) device: String,
    pub(crate) folder: String,
    pub(crate) file_system: String,
}

/// `/proc/diskstats` counts in sectors of 512 bytes, whatever the device says.
const SECTOR: u64 = 512;

/// `/proc/stat`.
pub(crate) fn processor(text: &str) -> Option<Processor> {
    let line = text.lines().find(|line| line.starts_with("cpu "))?;
    let mut ticks = line.split_whitespace().skip(1).map_while(|field| field.parse::<u64>().ok());
    // user nice system idle iowait irq softirq steal; guest time behind them is already in user.
    let spent: Vec<u64> = ticks.by_ref().take(8).collect();
    let idle = spent.get(3)?.saturating_add(spent.get(4).copied().unwrap_or(0));
    let cores = text
        .lines()
        .filter(|line| line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit())));
    let total = spent.iter().fold(0_u64, |sum, ticks| sum.saturating_add(*ticks));
    Some(Processor { total, idle, cores: u32::try_from(cores.count()).unwrap_or(u32::MAX) })
}

/// `/proc/meminfo`.
pub(crate) fn memory(text: &str) -> Option<Memory> {
    let member = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
    };
    // Kernels before 3.14 do not know the estimate.
    let available = member("MemAvailable").or_else(|| member("MemFree"))?;
    Some(Memory {
        total: member("MemTotal")?,
        available,
        swap_total: member("SwapTotal").unwrap_or(0),
        swap_free: member("SwapFree").unwrap_or(0),
    })
}

/// `/proc/loadavg`: over one, five and fifteen minutes.
pub(crate) fn load(text: &str) -> Option<[f64; 3]> {
    let mut fields = text.split_whitespace().map_while(|field| field.parse().ok());
    Some([fields.next()?, fields.next()?, fields.next()?])
}

/// `/proc/uptime`, seconds.
pub(crate) fn uptime(text: &str) -> Option<f64> {
    text.split_whitespace().next()?.parse().ok()
}

/// `/proc/net/dev` without the loopback.
pub(crate) fn interfaces(text: &str) -> Vec<Interface> {
    let parse = |line: &str| {
        let (name, rest) = line.split_once(':')?;
        let fields: Vec<u64> = rest.split_whitespace().map_while(|field| field.parse().ok()).collect();
        // bytes packets errs drop fifo frame compressed multicast, then the same for sending.
        let at = |index: usize| fields.get(index).copied();
        let problems = [at(2)?, at(3)?, at(10)?, at(11)?].iter().fold(0_u64, |sum, count| sum.saturating_add(*count));
        Some(Interface { name: name.trim().to_owned(), received_bytes: at(0)?, sent_bytes: at(8)?, problems })
    };
    text.lines().filter_map(parse).filter(|interface| interface.name != "lo").collect()
}

/// `/proc/diskstats`, whole disks only: partitions, loop and memory devices would count the same bytes twice.
pub(crate) fn disk_traffic(text: &str) -> Vec<DiskTraffic> {
    let parse = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let sectors = |index: usize| fields.get(index)?.parse::<u64>().ok()?.checked_mul(SECTOR);
        let name = (*fields.get(2)?).to_owned();
        Some(DiskTraffic { name, read_bytes: sectors(5)?, written_bytes: sectors(9)? })
    };
    let disks: Vec<DiskTraffic> = text.lines().filter_map(parse).collect();
    let virtual_device =
        |name: &str| ["loop", "ram", "zram", "dm-", "md", "sr"].iter().any(|kind| name.starts_with(kind));
    let names: Vec<String> = disks.iter().map(|disk| disk.name.clone()).collect();
    let partition = |name: &str| {
        names.iter().any(|disk| {
            let rest = name.strip_prefix(disk.as_str()).unwrap_or_default();
            let number = rest.strip_prefix('p').unwrap_or(rest);
            !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
        })
    };
    disks.into_iter().filter(|disk| !virtual_device(&disk.name) && !partition(&disk.name)).collect()
}

/// `/proc/mounts`: file systems on devices, each device once (the first place it is mounted at).
pub(crate) fn mounts(text: &str) -> Vec<Mount> {
    let mut mounts: Vec<Mount> = Vec::new();
    for line in text.lines() {
        let mut fields = line.split(' ');
        let (Some(device), Some(folder), Some(file_system)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        if !device.starts_with("/dev/") || device.starts_with("/dev/loop") || file_system == "squashfs" {
            continue;
        }
        let mount = Mount { device: unescape(device), folder: unescape(folder), file_system: file_system.to_owned() };
        if !mounts.iter().any(|known| known.device == mount.device) {
            mounts.push(mount);
        }
    }
    mounts
}

/// The kernel writes space, tab, newline and backslash as `\040` and so on.
fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 4).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) if code.is_ascii() => {
                out.push(char::from(code));
                rest = &rest[at + 4..];
            }
            _ => {
                out.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn processor_time_counts_waiting_as_idle_and_guests_once() {
        let text = "cpu  100 20 30 400 50 6 7 8 90 10\ncpu0 50 10 15 200 25 3 3 4 45 5\ncpu1 50 10 15 200 25 3 4 4 45 5\nintr 1\n";
        assert_eq!(processor(text), Some(Processor { total: 621, idle: 450, cores: 2 }));
        assert_eq!(processor("cpu  1 2\n"), None);
    }

    #[test]
    fn memory_is_in_bytes_and_old_kernels_have_an_answer() {
        let text = "MemTotal:  1000 kB\nMemFree:  100 kB\nMemAvailable:  600 kB\nSwapTotal: 50 kB\nSwapFree: 20 kB\n";
        let memory_of = |text| memory(text).unwrap();
        assert_eq!(
            memory_of(text),
            Memory { total: 1_024_000, available: 614_400, swap_total: 51_200, swap_free: 20_480 }
        );
        assert_eq!(memory_of("MemTotal: 10 kB\nMemFree: 1 kB\n").available, 1024);
        assert_eq!(memory("nothing"), None);
    }

    #[test]
    fn load_and_uptime_are_numbers() {
        assert_eq!(load("0.52 0.58 0.59 1/467 12345\n"), Some([0.52, 0.58, 0.59]));
        assert_eq!(uptime("12345.67 23456.78\n"), Some(12345.67));
        assert_eq!(load("0.52 x"), None);
    }

    #[test]
    fn interfaces_without_the_loopback() {
        let text = "Inter-|   Receive |  Transmit\n face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier compressed\n    lo: 5 1 0 0 0 0 0 0 5 1 0 0 0 0 0 0\n  eth0:1000 10 1 2 0 0 0 0 2000 20 3 4 0 0 0 0\n";
        let expected = Interface { name: "eth0".to_owned(), received_bytes: 1000, sent_bytes: 2000, problems: 10 };
        assert_eq!(interfaces(text), [expected]);
    }

    #[test]
    fn whole_disks_only() {
        let line = |name: &str| format!(" 254 0 {name} 10 0 2 0 20 0 4 0 0 0 0\n");
        let text: String =
            ["vda", "vda1", "nvme0n1", "nvme0n1p2", "loop0", "dm-0", "mmcblk0", "mmcblk0p1"].map(line).concat();
        let disks = disk_traffic(&text);
        let names: Vec<&str> = disks.iter().map(|disk| disk.name.as_str()).collect();
        assert_eq!(names, ["vda", "nvme0n1", "mmcblk0"]);
        assert_eq!((disks[0].read_bytes, disks[0].written_bytes), (1024, 2048));
    }

    #[test]
    fn mounts_on_devices_once_each() {
        let text = "/dev/vda / ext4 rw 0 0\nproc /proc proc rw 0 0\n/dev/vda /var ext4 rw 0 0\n/dev/sdb /a\\040b xfs rw 0 0\n/dev/loop1 /snap squashfs ro 0 0\n";
        let mounts = mounts(text);
        assert_eq!(mounts.len(), 2);
        assert_eq!((mounts[1].folder.as_str(), mounts[1].file_system.as_str()), ("/a b", "xfs"));
    }

    proptest! {
        #[test]
        fn no_text_breaks_a_parser(text in "(cpu[0-9]?|MemTotal:|eth0:|/dev/[a-z]{1,3}|\\\\[0-9]{0,3}|[ \n0-9a-z\\\\:.]){0,60}") {
            let _ = (processor(&text), memory(&text), load(&text), uptime(&text));
            let _ = (interfaces(&text), disk_traffic(&text), mounts(&text));
        }

        #[test]
        fn numbers_at_their_limit_break_nothing(n in any::<u64>()) {
            let text = format!("cpu {n} {n} {n} {n} {n} {n} {n} {n}\nMemTotal: {n} kB\nMemFree: {n} kB\n eth0: {n} 0 {n} {n} 0 0 0 0 {n} 0 {n} {n} 0 0 0 0\n1 1 sda 1 1 {n} 1 1 1 {n}\n");
            let _ = (processor(&text), memory(&text), interfaces(&text), disk_traffic(&text));
        }
    }
}
