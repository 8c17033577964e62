//! Reading files from beginning to end.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use crate::measure::seconds;

/// Bytes asked for in one read.
const PIECE: usize = 1 << 20;

/// Drops the files' pages from memory.
pub(crate) fn forget(paths: &[PathBuf]) {
    for path in paths {
        // What has gone meanwhile has no pages.
        let Ok(file) = File::open(path) else { continue };
        posix_fadvise(file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).unwrap();
    }
}

/// Reads the files one after the other and returns the megabytes per second.
pub(crate) fn throughput(paths: &[PathBuf]) -> f64 {
    let mut piece = vec![0; PIECE];
    let (time, bytes) = seconds(|| {
        let mut bytes = 0;
        for path in paths {
            let mut file = File::open(path).unwrap();
            loop {
                match file.read(&mut piece).unwrap() {
                    0 => break,
                    n => bytes += n,
                }
            }
        }
        bytes
    });
    bytes as f64 / time / 1e6
}
