//! Power cuts at any operation of the disk: no message that was acknowledged is lost, none that was settled for good comes back,
//! every endpoint gets its messages in order, and the files never take more than the budget.

use std::sync::atomic::{AtomicU64, Ordering};

use skerry_sim::disk::{Honesty, SimDisk};
use skerry_sim::{Dice, Truth};

use crate::store::{BYTES_MAX, End, Running, SimClock};

/// Power cuts in a normal run; `SKERRY_CRASH_POINTS` asks for more (`cargo xtask power-cuts` sets it).
const CRASH_POINTS: u64 = 1_000;
/// Things that happen at most between two power cuts.
const STEPS: u64 = 400;
/// Seeds that failed once.
const PERMANENT: &[u64] =
    &[1, 20, 27, 32, 76, 89, 91, 99, 101, 1506, 3938, 6279, 6405, 30793, 138_371, 1_004_928, 5_008_505];

/// What one seed came to.
struct Run {
    crashes: u64,
    acknowledged: usize,
}

/// A life with some power cuts, ending with everything drained.
fn run(seed: u64, honesty: Honesty) -> Result<Run, String> {
    let mut dice = Dice::new(seed);
    let clock = SimClock::default();
    let mut disk = SimDisk::new(dice.split(), honesty);
    let mut truth = Truth::default();
    let mut next_message = 1;
    let mut crashes = 0;
    for _ in 0..=dice.below(3) {
        // Most power cuts come at work, some while the log recovers from the one before.
        let after = if dice.chance(25) { 1 + dice.below(6) } else { 1 + dice.below(300) };
        if dice.chance(10) {
            disk.fail_after(after)
        } else {
            disk.cut_power_after(after)
        }
        match live(&disk, &clock, dice.split(), &mut truth, &mut next_message) {
            Ok(()) | Err(End::Off) => {}
            Err(End::Wrong(wrong)) => return Err(format!("after {crashes} power cuts: {wrong}")),
        }
        disk = disk.restart();
        crashes += 1;
        truth.restarted();
    }
    let acknowledged = truth.acknowledged();
    let drained = Running::start(&disk, &clock, dice.split(), &mut truth).and_then(|running| {
        let now = running.drain(&mut truth)?;
        match truth.missing(now).as_slice() {
            [] => Ok(()),
            missing => Err(End::Wrong(format!("acknowledged and lost by {now}: {missing:#?}"))),
        }
    });
    match drained {
        Ok(()) if disk.bytes_most() <= BYTES_MAX => Ok(Run { crashes, acknowledged }),
        Ok(()) => Err(format!("the files took {} bytes of {BYTES_MAX}", disk.bytes_most())),
        Err(end) => Err(format!("at the end: {end:?}")),
    }
}

fn live(disk: &SimDisk, clock: &SimClock, dice: Dice, truth: &mut Truth, next_message: &mut u64) -> Result<(), End> {
    let mut running = Running::start(disk, clock, dice, truth)?;
    for _ in 0..STEPS {
        running.step(truth, next_message)?;
    }
    Ok(())
}

#[test]
fn no_power_cut_loses_what_was_acknowledged() {
    let points = std::env::var("SKERRY_CRASH_POINTS").ok().map_or(CRASH_POINTS, |points| points.parse().unwrap());
    let first = std::env::var("SKERRY_CRASH_SEED").ok().map_or(0, |seed| seed.parse().unwrap());
    let next_seed = AtomicU64::new(first);
    let crashes = AtomicU64::new(0);
    let acknowledged = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while crashes.load(Ordering::Relaxed) < points {
                    let seed = next_seed.fetch_add(1, Ordering::Relaxed);
                    let run = run(seed, Honesty::Honest);
                    let run = run.unwrap_or_else(|wrong| panic!("SKERRY_CRASH_SEED={seed}: {wrong}"));
                    crashes.fetch_add(run.crashes, Ordering::Relaxed);
                    acknowledged.fetch_add(run.acknowledged as u64, Ordering::Relaxed);
                }
            });
        }
    });
    let (crashes, acknowledged) = (crashes.into_inner(), acknowledged.into_inner());
    assert!(crashes * 20 < acknowledged, "only {acknowledged} messages were acknowledged in {crashes} lives");
    println!("{crashes} power cuts, {acknowledged} messages acknowledged, none lost");
}

#[test]
fn seeds_that_failed_once_pass() {
    for seed in PERMANENT {
        assert_eq!(run(*seed, Honesty::Honest).map(|_| ()), Ok(()), "seed {seed}");
    }
}

#[test]
fn the_simulation_notices_a_disk_that_lies() {
    for honesty in [Honesty::LiesAboutWrites, Honesty::LiesAboutDirectory] {
        let noticed =
            (0..100).any(|seed| std::panic::catch_unwind(|| run(seed, honesty)).map_or(true, |run| run.is_err()));
        assert!(noticed, "{honesty:?} was not noticed");
    }
}
