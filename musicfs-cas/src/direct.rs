//! Reading and writing past the page cache.
//!
//! Who reads a file has what was fetched of it in the page cache already, under the file's own name. Chunks would
//! take room there a second time, and filling new pages is work: on a virtual machine with two processors, writing 200
//! chunks of 1 MiB by four threads and forcing them to disk took 0.4 to 0.7 s of processor time through the page cache,
//! and 0.1 s past it.
//! Reading them again is cheaper past it by as much as copying them.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read, Write};

use bytes::Bytes;
use rustix::fs::{FallocateFlags, OFlags, fallocate, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;

use crate::buffers::{Buffers, FEW};

/// What direct I/O asks of places in files, lengths, and addresses in memory: at the most a page, on the disks and
/// filesystems that can do it at all.
const ALIGNED: usize = 4 << 10;
/// Bytes that are written at a time.
const STEP: usize = 256 << 10;

thread_local! {
    /// What is written next, where it is aligned. Memory that is used over and over is there at once.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Writes `bytes` to the beginning of a new file: those that fill whole steps past the page cache if the filesystem can
/// do that, and the others as usual. They are on the disk after the next `fsync` only, either way.
///
/// # Errors
/// As those of [`Write::write_all`].
pub(crate) fn write_all(mut file: &File, bytes: &[u8]) -> io::Result<()> {
    let mut written = 0;
    if bytes.len() >= STEP && set_direct(file, true).is_ok() {
        // Files that are written at once by steps would lie mixed on the disk. Not all filesystems can do this, and one
        // that is full says so again.
        let _ = fallocate(file, FallocateFlags::empty(), 0, bytes.len() as u64);
        written = write_directly(file, &bytes[..bytes.len() / ALIGNED * ALIGNED])?;
        set_direct(file, false)?;
    }
    file.write_all(&bytes[written..])
}

/// Writes until all is written, or it turns out that the filesystem cannot do it this way after all; returns how much is
/// written.
fn write_directly(mut file: &File, bytes: &[u8]) -> io::Result<usize> {
    BUFFER.with_borrow_mut(|buffer| {
        buffer.resize(STEP + ALIGNED, 0);
        let start = buffer.as_ptr().align_offset(ALIGNED);
        let Some(aligned) = buffer.get_mut(start..start + STEP) else { return Ok(0) };
        let mut written = 0;
        for step in bytes.chunks(STEP) {
            let aligned = &mut aligned[..step.len()];
            aligned.copy_from_slice(step);
            let n = loop {
                match file.write(aligned) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    done => break done,
                }
            };
            match n {
                Ok(n) => written += n,
                Err(error) if is_refusal(&error) => return Ok(written),
                Err(error) => return Err(error),
            }
            if written % STEP != 0 {
                return Ok(written);
            }
        }
        Ok(written)
    })
}

/// Reads the first `len` bytes of a file, or all when it is shorter: past the page cache if the filesystem can do that,
/// and they are not few.
///
/// # Errors
/// As those of [`Read::read`], and when there is no memory.
pub(crate) fn read_all(file: &File, len: usize, buffers: &Buffers) -> io::Result<Bytes> {
    if len < FEW {
        let mut bytes = vec![0; len];
        let read = fill(file, &mut bytes, len, false)?;
        bytes.truncate(read);
        return Ok(bytes.into());
    }
    let mut buffer = buffers.take(len.next_multiple_of(ALIGNED))?;
    let read = fill(file, buffer.as_mut(), len, set_direct(file, true).is_ok())?;
    buffer.truncate(read);
    Ok(Bytes::from_owner(buffer))
}

/// Reads `len` bytes of a file, or all when it is shorter, and returns how many; `direct` says whether it is read directly,
/// for which `place` has room for a whole number of blocks.
fn fill(mut file: &File, place: &mut [u8], len: usize, mut direct: bool) -> io::Result<usize> {
    let mut read = 0;
    while read < len {
        match file.read(&mut place[read..]) {
            Ok(0) => break,
            Ok(n) => read += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // The filesystem may not be able to do it after all; if that is not why, it fails again.
            Err(_) if direct => {
                set_direct(file, false)?;
                direct = false;
            }
            Err(error) => return Err(error),
        }
        // From here nothing can be read directly, if there is anything.
        if direct && read < len && read % ALIGNED != 0 {
            set_direct(file, false)?;
            direct = false;
        }
    }
    Ok(read.min(len))
}

/// Tells whether an error means that the filesystem cannot do direct I/O.
fn is_refusal(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::INVAL | Errno::OPNOTSUPP))
}

fn set_direct(file: &File, direct: bool) -> io::Result<()> {
    let mut flags = fcntl_getfl(file)?;
    flags.set(OFlags::DIRECT, direct);
    Ok(fcntl_setfl(file, flags)?)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use musicfs_test_utils::library::random_bytes;

    use super::*;
    use crate::buffers::PIECE;

    #[test]
    fn bytes_of_any_length_are_in_the_file() {
        let dir = tempfile::tempdir().unwrap();
        for len in [0, 1, ALIGNED, STEP - 1, STEP, STEP + 1, STEP + ALIGNED, 2 * STEP, 5 * STEP + 4_321] {
            let (path, bytes) = (dir.path().join(len.to_string()), random_bytes(len, 3));
            write_all(&File::create_new(&path).unwrap(), &bytes).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().len(), len as u64);
            assert!(fs::read(&path).unwrap() == bytes, "{len} bytes");
        }
    }

    #[test]
    fn files_of_any_length_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let buffers = Buffers::new(PIECE, 1);
        for len in [1, ALIGNED, FEW - 1, FEW, FEW + 1, FEW + ALIGNED - 1, PIECE, PIECE + 4_321] {
            let (path, bytes) = (dir.path().join(len.to_string()), random_bytes(len, 3));
            fs::write(&path, &bytes).unwrap();
            let read = |expected| read_all(&File::open(&path).unwrap(), expected, &buffers).unwrap();
            assert!(read(len) == bytes, "{len} bytes");
            assert!(read(len - 1) == bytes[..len - 1], "{len} bytes");
            assert!(read(len + 2 * ALIGNED) == bytes, "{len} bytes");
        }
    }

    #[test]
    fn what_is_not_few_is_read_directly_where_that_can_be_done() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("chunk");
        fs::write(&path, "").unwrap();
        let can_be = set_direct(&File::open(&path).unwrap(), true).is_ok();
        for (len, expected) in [(FEW - 1, false), (FEW, can_be)] {
            fs::write(&path, random_bytes(len, 3)).unwrap();
            let file = File::open(&path).unwrap();
            read_all(&file, len, &Buffers::new(PIECE, 1)).unwrap();
            assert_eq!(fcntl_getfl(&file).unwrap().contains(OFlags::DIRECT), expected, "{len} bytes");
        }
    }

    #[test]
    fn what_cannot_be_read_directly_is_read_as_usual() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("chunk");
        let bytes = random_bytes(2 * ALIGNED, 3);
        fs::write(&path, &bytes).unwrap();
        let mut place = vec![0; 3 * ALIGNED + 1];
        // Nothing is put directly where no block begins.
        let file = File::open(&path).unwrap();
        set_direct(&file, true).unwrap();
        assert_eq!(fill(&file, &mut place[1..], bytes.len(), true).unwrap(), bytes.len());
        assert!(place[1..].starts_with(&bytes));
    }

    #[test]
    fn what_cannot_be_written_directly_is_written_as_usual() {
        // Pipes take the flag for something else, and files in /proc refuse it.
        let file = fs::OpenOptions::new().write(true).open("/proc/self/comm").unwrap();
        assert!(set_direct(&file, true).is_err());
        write_all(&file, b"direct").unwrap();
        assert_eq!(fs::read_to_string("/proc/self/comm").unwrap(), "direct\n");
    }
}
