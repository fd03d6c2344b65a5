//! Names that must resolve inside a module: a hosts file of its own, put over the machine's for this module alone.

use std::fmt::Write;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;

use rustix::mount::{MountPropagationFlags, mount_bind, mount_change};
use rustix::thread::UnshareFlags;

use crate::folder::ModuleFolder;

/// Where every resolver looks first.
const HOSTS: &str = "/etc/hosts";

/// Makes `names` resolve for this process and all it starts. Needs root, and a kernel that lets us.
pub(super) fn provide(folder: &ModuleFolder, names: &[(String, IpAddr)]) -> io::Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let hosts = folder.hosts();
    fs::write(&hosts, hosts_text(names, &fs::read_to_string(HOSTS).unwrap_or_default()))?;
    fs::set_permissions(&hosts, fs::Permissions::from_mode(0o644))?;
    leave_mounts_of_the_machine()?;
    // What the machine mounts later is seen here; what is mounted here is not seen there.
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
    mount_bind(&hosts, HOSTS)?;
    Ok(())
}

#[allow(unsafe_code, reason = "there is no safe call for it")]
fn leave_mounts_of_the_machine() -> rustix::io::Result<()> {
    // SAFETY: unsafe is only the unsharing of file descriptors, which is not asked for.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }
}

/// Our names come first: the machine's own name is often there already, for an address of the machine alone.
fn hosts_text(names: &[(String, IpAddr)], machine: &str) -> String {
    let mut text = String::new();
    for (name, address) in names {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{address}\t{name}");
    }
    text.push_str(machine);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_names_come_before_the_machines() {
        let names = [("edge.local".to_owned(), "127.0.0.2".parse::<IpAddr>().unwrap())];
        assert_eq!(hosts_text(&names, "127.0.0.1 localhost\n"), "127.0.0.2\tedge.local\n127.0.0.1 localhost\n");
    }
}
