//! A disk that loses power: what was not synced may be kept, lost or torn, in any order.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use skerry_log::disk::{Disk, DiskFile};

use crate::Dice;

/// What a disk writes whole or not at all, in bytes.
const SECTOR: usize = 512;

/// How a disk lies. An honest one does not; the others are there to show that a simulation notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Honesty {
    /// Keeps what it promises.
    Honest,
    /// Says that writes are durable while they are in its memory.
    LiesAboutWrites,
    /// Says that the directory is synced while it is in its memory.
    LiesAboutDirectory,
}

/// A simulated disk with one folder. Clones are the same disk; after a power cut, only what [`SimDisk::restart`] returns works.
#[derive(Debug, Clone)]
pub struct SimDisk {
    world: Arc<Mutex<World>>,
    era: u64,
}

#[derive(Debug)]
struct World {
    dice: Dice,
    honesty: Honesty,
    files: BTreeMap<u64, Content>,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    unsynced_names: Vec<NameChange>,
    next_file: u64,
    era: u64,
    operations: u64,
    /// The power goes at this operation.
    cut_at: Option<u64>,
    /// This operation fails, and the disk goes on.
    fail_at: Option<u64>,
    bytes_most: u64,
}

#[derive(Debug, Default)]
struct Content {
    bytes: Vec<u8>,
    /// For a disk that lies: what writes since the last power cut replaced, newest last.
    replaced: Vec<(usize, Vec<u8>)>,
}

#[derive(Debug, Clone)]
enum NameChange {
    Create(String, u64),
    Rename(String, String),
    Remove(String),
}

impl SimDisk {
    /// An empty disk whose whims are decided by `dice`.
    pub fn new(dice: Dice, honesty: Honesty) -> Self {
        let world = World {
            dice,
            honesty,
            files: BTreeMap::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            unsynced_names: Vec::new(),
            next_file: 1,
            era: 0,
            operations: 0,
            cut_at: None,
            fail_at: None,
            bytes_most: 0,
        };
        Self { world: Arc::new(Mutex::new(world)), era: 0 }
    }

    /// The power goes in the middle of the operation that many from now; 1 is the next. Everything fails from then on.
    pub fn cut_power_after(&self, operations: u64) {
        let mut world = self.world();
        world.cut_at = Some(world.operations + operations);
    }

    /// The operation that many from now fails with an I/O error, whatever of it was done; the disk goes on.
    pub fn fail_after(&self, operations: u64) {
        let mut world = self.world();
        world.fail_at = Some(world.operations + operations);
    }

    /// Whether the power is gone.
    pub fn is_off(&self) -> bool {
        let world = self.world();
        world.cut_at.is_some_and(|at| at <= world.operations)
    }

    /// Operations that changed something so far.
    pub fn operations(&self) -> u64 {
        self.world().operations
    }

    /// The most bytes that all files together ever had.
    pub fn bytes_most(&self) -> u64 {
        self.world().bytes_most
    }

    /// Cuts the power, if it is not gone, and comes back with what survived.
    #[must_use]
    pub fn restart(&self) -> Self {
        let mut world = self.world();
        world.lose_writes();
        world.lose_names();
        world.cut_at = None;
        world.fail_at = None;
        world.era += 1;
        Self { world: Arc::clone(&self.world), era: world.era }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The world of this era; an error when the power is gone.
    fn alive(&self) -> io::Result<MutexGuard<'_, World>> {
        let world = self.world();
        if world.era != self.era || world.cut_at.is_some_and(|at| at <= world.operations) {
            return Err(power_cut());
        }
        Ok(world)
    }
}

fn power_cut() -> io::Error {
    io::Error::other("the power is gone")
}

/// How an operation that changes something goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Done,
    Interrupted,
    Failed,
}

impl World {
    fn begin(&mut self) -> Fate {
        self.operations += 1;
        if self.cut_at == Some(self.operations) {
            Fate::Interrupted
        } else if self.fail_at == Some(self.operations) {
            Fate::Failed
        } else {
            Fate::Done
        }
    }

    /// A change of names: visible at once, durable after the next sync.
    fn change_name(&mut self, change: NameChange) -> io::Result<()> {
        let fate = self.begin();
        if fate == Fate::Done || self.dice.chance(50) {
            apply(&mut self.names, &change);
            self.unsynced_names.push(change);
        }
        outcome(fate)
    }

    fn lose_names(&mut self) {
        let mut kept = self.durable_names.clone();
        let mut lost: Vec<String> = Vec::new();
        // Some disks keep a beginning of the changes, some any of them that do not depend on a lost one.
        let in_order = self.dice.chance(50);
        for change in std::mem::take(&mut self.unsynced_names) {
            let names = match &change {
                NameChange::Create(name, _) | NameChange::Remove(name) => vec![name.clone()],
                NameChange::Rename(from, to) => vec![from.clone(), to.clone()],
            };
            let depends = names.iter().any(|name| lost.contains(name)) || (in_order && !lost.is_empty());
            if depends || self.dice.chance(50) {
                lost.extend(names);
            } else {
                apply(&mut kept, &change);
            }
        }
        self.files.retain(|file, _| kept.values().any(|kept| kept == file));
        self.names = kept.clone();
        self.durable_names = kept;
    }

    fn lose_writes(&mut self) {
        for content in self.files.values_mut() {
            for (offset, old) in std::mem::take(&mut content.replaced).into_iter().rev() {
                for (index, sector) in old.chunks(SECTOR).enumerate() {
                    if self.dice.chance(50) {
                        let at = offset + index * SECTOR;
                        content.bytes[at..at + sector.len()].copy_from_slice(sector);
                    }
                }
            }
        }
    }

    fn write(&mut self, file: u64, bytes: &[u8], offset: usize) -> io::Result<()> {
        let fate = self.begin();
        let content = self.files.entry(file).or_default();
        let end = offset + bytes.len();
        let old_length = content.bytes.len();
        let length = match fate {
            Fate::Done => end,
            Fate::Interrupted | Fate::Failed => offset + self.dice.index(bytes.len() / SECTOR + 1) * SECTOR,
        };
        content.bytes.resize(old_length.max(length), 0);
        if fate == Fate::Done && self.honesty == Honesty::LiesAboutWrites {
            content.replaced.push((offset, content.bytes[offset..end].to_vec()));
        }
        // Torn: each sector of an interrupted write is on the disk or not.
        let keep_percent = if self.dice.chance(50) { 50 } else { 90 };
        for (index, sector) in bytes.chunks(SECTOR).enumerate() {
            let at = offset + index * SECTOR;
            let kept = fate == Fate::Done || self.dice.chance(keep_percent);
            if kept && at + sector.len() <= content.bytes.len() {
                content.bytes[at..at + sector.len()].copy_from_slice(sector);
            }
        }
        let used =
            self.names.values().filter_map(|file| self.files.get(file)).map(|content| content.bytes.len() as u64);
        self.bytes_most = self.bytes_most.max(used.sum());
        outcome(fate)
    }
}

fn outcome(fate: Fate) -> io::Result<()> {
    match fate {
        Fate::Done => Ok(()),
        Fate::Interrupted => Err(power_cut()),
        Fate::Failed => Err(io::Error::other("the disk failed")),
    }
}

fn apply(names: &mut BTreeMap<String, u64>, change: &NameChange) {
    match change {
        NameChange::Create(name, file) => {
            names.insert(name.clone(), *file);
        }
        NameChange::Rename(from, to) => {
            if let Some(file) = names.remove(from) {
                names.insert(to.clone(), file);
            }
        }
        NameChange::Remove(name) => {
            names.remove(name);
        }
    }
}

impl Disk for SimDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.alive()?.names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut world = self.alive()?;
        if world.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = world.next_file;
        world.next_file += 1;
        world.files.insert(file, Content::default());
        world.change_name(NameChange::Create(name.to_owned(), file))?;
        Ok(Arc::new(SimFile { disk: self.clone(), file }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.alive()?.names.get(name).copied().ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(SimFile { disk: self.clone(), file }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut world = self.alive()?;
        if !world.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        world.change_name(NameChange::Rename(from.to_owned(), to.to_owned()))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut world = self.alive()?;
        if !world.names.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        world.change_name(NameChange::Remove(name.to_owned()))
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut world = self.alive()?;
        let fate = world.begin();
        if fate == Fate::Done && world.honesty != Honesty::LiesAboutDirectory {
            world.durable_names = world.names.clone();
            world.unsynced_names.clear();
        }
        outcome(fate)
    }
}

struct SimFile {
    disk: SimDisk,
    file: u64,
}

impl DiskFile for SimFile {
    fn bytes(&self) -> io::Result<u64> {
        let world = self.disk.alive()?;
        Ok(world.files.get(&self.file).map_or(0, |content| content.bytes.len() as u64))
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let world = self.disk.alive()?;
        let Some(content) = world.files.get(&self.file) else { return Ok(0) };
        let bytes = content.bytes.get(usize::try_from(offset).unwrap_or(usize::MAX)..).unwrap_or_default();
        let length = bytes.len().min(buffer.len());
        buffer[..length].copy_from_slice(&bytes[..length]);
        Ok(length)
    }

    fn write_durable(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let blocks = bytes.len().is_multiple_of(skerry_log::disk::BLOCK)
            && offset.is_multiple_of(skerry_log::disk::BLOCK as u64);
        assert!(blocks, "a write of {} bytes at {offset} is not of whole blocks", bytes.len());
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        self.disk.alive()?.write(self.file, bytes, offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(honesty: Honesty) -> SimDisk {
        let disk = SimDisk::new(Dice::new(1), honesty);
        let file = disk.create("a").unwrap();
        disk.sync_directory().unwrap();
        file.write_durable(&[7; 8192], 0).unwrap();
        disk
    }

    fn content(disk: &SimDisk) -> Vec<u8> {
        let file = disk.open("a").unwrap();
        let mut bytes = vec![0; usize::try_from(file.bytes().unwrap()).unwrap()];
        file.read_at(&mut bytes, 0).unwrap();
        bytes
    }

    #[test]
    fn an_honest_disk_keeps_what_it_promised() {
        let disk = written(Honesty::Honest).restart();
        assert_eq!(content(&disk), [7; 8192]);
        disk.create("b").unwrap();
        disk.rename("a", "c").unwrap();
        let names: std::collections::BTreeSet<_> = (0..50)
            .map(|seed| {
                let disk = written(Honesty::Honest);
                disk.world().dice = Dice::new(seed);
                disk.create("b").unwrap();
                disk.rename("a", "c").unwrap();
                disk.restart().list().unwrap()
            })
            .collect();
        assert_eq!(names.len(), 4, "unsynced names survive in every combination: {names:?}");
    }

    #[test]
    fn a_write_in_a_power_cut_is_torn_and_nothing_works_after_it() {
        let torn = (0..50).filter(|seed| {
            let disk = written(Honesty::Honest);
            let file = disk.open("a").unwrap();
            disk.world().dice = Dice::new(*seed);
            disk.cut_power_after(1);
            assert!(file.write_durable(&[8; 8192], 0).is_err());
            assert!(file.write_durable(&[9; 4096], 0).is_err() && file.bytes().is_err());
            assert!(disk.is_off() && disk.list().is_err());
            let content = content(&disk.restart());
            assert!(file.bytes().is_err(), "a handle of before the power cut is of no use");
            assert!(!content.contains(&9));
            content.contains(&7) && content.contains(&8)
        });
        assert!(25 < torn.count());
    }

    #[test]
    fn a_lying_disk_loses_writes() {
        let disk = written(Honesty::LiesAboutWrites);
        assert_eq!(content(&disk), [7; 8192]);
        assert!(content(&disk.restart()).contains(&0));
    }
}
