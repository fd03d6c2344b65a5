//! Telling who started us that we are ready or stopping: a file, and systemd's notification socket, without a library.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;
use std::time::Duration;

/// Where to tell it. Failing to tell is logged and changes nothing else.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    file: Option<PathBuf>,
    socket: Option<OsString>,
    watchdog: Option<Duration>,
}

impl Readiness {
    /// From what systemd put in the environment (`NOTIFY_SOCKET`, `WATCHDOG_USEC`).
    pub fn from_environment() -> Self {
        let microseconds = std::env::var("WATCHDOG_USEC").ok().and_then(|text| text.parse().ok());
        Readiness {
            file: None,
            socket: std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()),
            watchdog: microseconds.map(Duration::from_micros),
        }
    }

    /// Also writes this file when ready and removes it when stopping; an old one is removed now.
    pub fn with_file(mut self, file: PathBuf) -> Self {
        let _ = fs::remove_file(&file);
        self.file = Some(file);
        self
    }

    /// Everything this program offers is open.
    pub fn ready(&self) {
        if let Some(file) = &self.file
            && let Err(cause) = fs::write(file, format!("{}\n", std::process::id()))
        {
            tracing::warn!(file = %file.display(), %cause, "cannot write the readiness file");
        }
        self.notify("READY=1\n");
    }

    /// It begins to close.
    pub fn stopping(&self) {
        if let Some(file) = &self.file {
            let _ = fs::remove_file(file);
        }
        self.notify("STOPPING=1\n");
    }

    /// One line for `systemctl status`.
    pub fn status(&self, line: &str) {
        self.notify(&format!("STATUS={}\n", line.replace('\n', " ")));
    }

    /// How often [`Readiness::alive`] must be called, when somebody watches: half the time they wait.
    pub fn alive_every(&self) -> Option<Duration> {
        self.watchdog.map(|wait| wait / 2)
    }

    /// Still alive.
    pub fn alive(&self) {
        self.notify("WATCHDOG=1\n");
    }

    fn notify(&self, text: &str) {
        let Some(name) = &self.socket else { return };
        if let Err(cause) = send(name, text) {
            tracing::warn!(socket = ?name, %cause, "cannot notify the service manager");
        }
    }
}

fn send(name: &OsString, text: &str) -> std::io::Result<()> {
    // A name that begins with `@` lies in Linux's abstract namespace.
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(hidden) => abstract_address(hidden)?,
        None => SocketAddr::from_pathname(name)?,
    };
    UnixDatagram::unbound()?.send_to_addr(text.as_bytes(), &address).map(drop)
}

#[cfg(target_os = "linux")]
fn abstract_address(name: &[u8]) -> std::io::Result<SocketAddr> {
    use std::os::linux::net::SocketAddrExt;
    SocketAddr::from_abstract_name(name)
}

#[cfg(not(target_os = "linux"))]
fn abstract_address(_name: &[u8]) -> std::io::Result<SocketAddr> {
    Err(std::io::Error::from(std::io::ErrorKind::Unsupported))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[test]
    fn a_file_and_a_socket_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let (path, file) = (folder.path().join("notify"), folder.path().join("ready"));
        fs::write(&file, "of an earlier run").unwrap();
        let socket = UnixDatagram::bind(&path).unwrap();
        let readiness =
            Readiness { socket: Some(path.into_os_string()), ..Readiness::default() }.with_file(file.clone());
        assert!(!file.exists(), "an old file says nothing");
        readiness.ready();
        assert_eq!(fs::read_to_string(&file).unwrap().trim(), std::process::id().to_string());
        assert_eq!(received(&socket), "READY=1\n");
        readiness.stopping();
        assert!(!file.exists());
        assert_eq!(received(&socket), "STOPPING=1\n");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn an_abstract_socket_is_told() {
        let name = format!("skerry-readiness-{}", std::process::id());
        let socket = UnixDatagram::bind_addr(&abstract_address(name.as_bytes()).unwrap()).unwrap();
        let readiness = Readiness { socket: Some(format!("@{name}").into()), ..Readiness::default() };
        readiness.status("two\nlines");
        assert_eq!(received(&socket), "STATUS=two lines\n");
    }
}
