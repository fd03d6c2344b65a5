//! Loopback addresses of our own, so that clients with fixed ports (443, 8883) meet the right program.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU8, Ordering};

/// An address in 127.0.0.0/8 that no other test uses at the same time; every port on it is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Loopback(Ipv4Addr);

/// Above the addresses people use by hand.
const FIRST: u8 = 16;

impl Loopback {
    /// The next address of this process.
    pub fn next() -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(FIRST);
        let second = NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(FIRST <= second, "a test process used up its addresses");
        let [.., third, fourth] = std::process::id().to_be_bytes();
        Loopback(Ipv4Addr::new(127, second, third, fourth))
    }

    /// With a port: `127.16.3.4:8883`.
    pub fn at(self, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(self.0), port)
    }

    /// A port that is free on this address now; for programs that cannot be told to pick one.
    pub fn free_port(self) -> u16 {
        let listener = TcpListener::bind(self.at(0)).unwrap_or_else(|cause| panic!("cannot bind {self}: {cause}"));
        listener.local_addr().map(|address| address.port()).unwrap_or_else(|cause| panic!("{self}: {cause}"))
    }
}

impl fmt::Display for Loopback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_differ_and_can_be_bound() {
        let (one, other) = (Loopback::next(), Loopback::next());
        assert_ne!(one, other);
        let port = one.free_port();
        let _on_one = TcpListener::bind(one.at(port)).unwrap();
        let _on_other = TcpListener::bind(other.at(port)).unwrap();
    }
}
