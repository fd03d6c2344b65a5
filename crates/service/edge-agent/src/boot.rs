//! When this machine started.

use skerry_model::Timestamp;

/// When the kernel says that the machine started; moves when the clock is set. `None` where it does not say.
pub fn boot_time() -> Option<Timestamp> {
    read(&std::fs::read_to_string("/proc/stat").ok()?)
}

fn read(stat: &str) -> Option<Timestamp> {
    let seconds = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    seconds.trim().parse().ok().map(Timestamp::from_unix_seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_line_is_found() {
        assert_eq!(read("cpu 1 2\nbtime 1700000000\nprocesses 5\n"), Some(Timestamp::from_unix_seconds(1_700_000_000)));
        assert_eq!(read("cpu 1 2\nbtime soon\n"), None);
        assert_eq!(read(""), None);
    }
}
