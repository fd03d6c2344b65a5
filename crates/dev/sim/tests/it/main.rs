//! Whole parts of the platform in a simulated world.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends where something unexpected happens")]

mod crash;
mod store;
mod stream;

mod disk {
    use skerry_sim::Dice;
    use skerry_sim::disk::{Honesty, SimDisk};

    skerry_log::disk_suite!(|| ((), SimDisk::new(Dice::new(1), Honesty::Honest)));
}
