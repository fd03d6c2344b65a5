//! Where random bytes come from: the system, or a seed in simulations and tests.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// A source of random bytes. Cloning shares the source.
#[derive(Clone)]
pub struct Random(Source);

#[derive(Clone)]
enum Source {
    System,
    Seeded(Arc<Mutex<Seeded>>),
}

struct Seeded {
    key: ring::hmac::Key,
    counter: u64,
}

impl Random {
    /// The operating system's generator.
    pub const fn system() -> Self {
        Self(Source::System)
    }

    /// The same bytes for the same seed; for simulations and tests only.
    pub fn seeded(seed: u64) -> Self {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &seed.to_be_bytes());
        Self(Source::Seeded(Arc::new(Mutex::new(Seeded { key, counter: 0 }))))
    }

    /// Fills `bytes`.
    ///
    /// # Panics
    /// When the operating system has no random bytes to give: nothing that needs them may go on.
    pub fn fill(&self, bytes: &mut [u8]) {
        match &self.0 {
            #[allow(clippy::expect_used)] // A system without randomness must not make keys.
            Source::System => getrandom::fill(bytes).expect("the system gives random bytes"),
            Source::Seeded(seeded) => {
                let mut seeded = seeded.lock().unwrap_or_else(PoisonError::into_inner);
                for chunk in bytes.chunks_mut(32) {
                    let block = ring::hmac::sign(&seeded.key, &seeded.counter.to_be_bytes());
                    seeded.counter += 1;
                    chunk.copy_from_slice(&block.as_ref()[..chunk.len()]);
                }
            }
        }
    }

    /// `N` random bytes.
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        bytes
    }

    /// A random number.
    pub fn u64(&self) -> u64 {
        u64::from_be_bytes(self.bytes())
    }

    /// A random number.
    pub fn u128(&self) -> u128 {
        u128::from_be_bytes(self.bytes())
    }
}

impl fmt::Debug for Random {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self.0 {
            Source::System => "Random(system)",
            Source::Seeded(_) => "Random(seeded)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_and_the_system_does_not() {
        let (a, b) = (Random::seeded(7), Random::seeded(7));
        assert_eq!(a.bytes::<40>(), b.bytes::<40>());
        assert_eq!(a.u128(), b.u128());
        assert_ne!(a.u64(), a.u64());
        assert_ne!(Random::seeded(8).u64(), Random::seeded(7).u64());
        assert_ne!(Random::system().u128(), Random::system().u128());
    }
}
