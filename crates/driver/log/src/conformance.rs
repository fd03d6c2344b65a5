//! What every implementation of [`Disk`] must do; `skerry_log::disk_suite!(make)` runs it.

use std::io::ErrorKind;
use std::sync::Arc;

use crate::disk::{BLOCK, Disk, DiskFile};

/// Makes a test of each case; `make` returns a guard and an empty disk.
#[macro_export]
macro_rules! disk_suite {
    ($make:expr) => {
        $crate::disk_suite!(@cases $make; files_are_made_once, names_change, writes_are_read_back, open_files_outlive_their_names);
    };
    (@cases $make:expr; $($case:ident),*) => {$(
        #[test]
        fn $case() {
            let (_guard, disk) = $make();
            $crate::conformance::$case(&disk);
        }
    )*};
}

fn content(file: &Arc<dyn DiskFile>) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(file.bytes().unwrap_or(0)).unwrap_or(0)];
    let read = file.read_at(&mut bytes, 0).unwrap_or(0);
    assert_eq!(read, bytes.len(), "a file is read to its end");
    bytes
}

fn write(file: &Arc<dyn DiskFile>, byte: u8, blocks: usize, offset: u64) {
    assert!(file.write_durable(&vec![byte; blocks * BLOCK], offset).is_ok());
}

/// A name is taken once; what is not there cannot be opened.
pub fn files_are_made_once(disk: &dyn Disk) {
    assert_eq!(disk.list().ok(), Some(vec![]));
    assert_eq!(disk.open("a").err().map(|error| error.kind()), Some(ErrorKind::NotFound));
    assert!(disk.create("a").is_ok_and(|file| file.bytes().is_ok_and(|bytes| bytes == 0)));
    assert_eq!(disk.create("a").err().map(|error| error.kind()), Some(ErrorKind::AlreadyExists));
    assert_eq!(disk.list().ok(), Some(vec!["a".to_owned()]));
    assert!(disk.sync_directory().is_ok());
}

/// Renaming keeps the content and replaces what has the name.
pub fn names_change(disk: &dyn Disk) {
    let (Ok(a), Ok(_)) = (disk.create("a"), disk.create("b")) else { panic!("two files cannot be made") };
    write(&a, 7, 1, 0);
    assert!(disk.rename("a", "b").is_ok());
    assert_eq!(disk.list().ok(), Some(vec!["b".to_owned()]));
    assert_eq!(disk.open("b").ok().map(|file| content(&file)), Some(vec![7; BLOCK]));
    assert_eq!(disk.rename("a", "c").err().map(|error| error.kind()), Some(ErrorKind::NotFound));
    assert!(disk.remove("b").is_ok());
    assert_eq!(disk.remove("b").err().map(|error| error.kind()), Some(ErrorKind::NotFound));
    assert_eq!(disk.list().ok(), Some(vec![]));
}

/// Writes extend a file, wherever their memory lies; reads stop at the end.
pub fn writes_are_read_back(disk: &dyn Disk) {
    let Ok(file) = disk.create("a") else { panic!("a file cannot be made") };
    write(&file, 1, 2, 0);
    write(&file, 2, 1, BLOCK as u64);
    write(&file, 3, 1, 3 * BLOCK as u64);
    let mut expected = vec![1; BLOCK];
    expected.resize(2 * BLOCK, 2);
    expected.resize(3 * BLOCK, 0);
    expected.resize(4 * BLOCK, 3);
    assert_eq!(content(&file), expected);
    for shift in [1, 512, BLOCK] {
        let memory = vec![9; 2 * BLOCK];
        assert!(file.write_durable(&memory[shift..shift + BLOCK], 0).is_ok());
        assert_eq!(content(&file)[..BLOCK], [9; BLOCK]);
    }
    let mut tail = [0; 100];
    assert_eq!(file.read_at(&mut tail, 4 * BLOCK as u64 - 10).ok(), Some(10));
    assert_eq!(file.read_at(&mut tail, 9 * BLOCK as u64).ok(), Some(0));
}

/// An open file is read and written whatever becomes of its name.
pub fn open_files_outlive_their_names(disk: &dyn Disk) {
    let Ok(file) = disk.create("a") else { panic!("a file cannot be made") };
    write(&file, 5, 1, 0);
    assert!(disk.rename("a", "b").is_ok());
    write(&file, 6, 1, 0);
    assert_eq!(disk.open("b").ok().map(|file| content(&file)), Some(vec![6; BLOCK]));
    assert!(disk.remove("b").is_ok());
    assert_eq!(content(&file), [6; BLOCK]);
}
