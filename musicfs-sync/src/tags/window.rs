//! The part of a file that has been fetched so far, and what is missing of it.
//!
//! Parsers run synchronously over a [`Window`]. For a local file it reads on demand. For an origin it holds what
//! the caller has fetched; a parser that asks for more stops with [`Stop::Missing`], the caller fetches that
//! range, puts it in, and runs the parser again from the start. Parsers therefore keep no state between runs and
//! cost little compared with a round trip.
//!
//! Invariants: stretches are sorted, disjoint, and never touch (what touches is merged), so that a range is held
//! either in one stretch or not whole. Bytes fetched, and reads made in one run, are bounded: a parser that is led
//! astray by a damaged file ends with an error.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

use bytes::Bytes;
use musicfs_core::ByteRange;

use super::ParseError;

/// Bytes fetched at once from an origin, at least: a round trip costs more than they do.
const REMOTE_BLOCK: u64 = 64 * 1024;
/// Bytes fetched at once of a file that is known: with what else is looked at after a change of tags, less than 64 KiB.
const FRUGAL_BLOCK: u64 = 16 * 1024;
/// Bytes read at once from a local file, at least: the head of most FLAC files without a picture.
const LOCAL_BLOCK: u64 = 16 * 1024;
/// Most blocks fetched at once, reached by doubling while misses follow on each other.
const MAX_STEP: u64 = 8;
/// Most bytes fetched of one file; one that needs more is given up.
pub(super) const MAX_FETCHED: u64 = 4 * 1024 * 1024;
/// Most reads in one run of a parser: far beyond what any file needs, and reached in milliseconds.
const MAX_READS: u32 = 500_000;
/// Largest buffer that a thread keeps for its next file.
const MAX_KEPT: usize = 256 * 1024;

/// Why a parser stopped.
#[derive(Debug)]
pub(super) enum Stop {
    /// These bytes are needed, and are not there.
    Missing(ByteRange),
    /// The file cannot be parsed.
    Failed(ParseError),
}

impl From<ParseError> for Stop {
    fn from(error: ParseError) -> Self {
        Self::Failed(error)
    }
}

thread_local! {
    /// The buffer of the file parsed last: most files fit into it, and it need not be zeroed again.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Bytes held from `start`. Only the first `filled` of `data` count; the rest is a reused buffer's.
struct Stretch {
    start: u64,
    data: Vec<u8>,
    filled: usize,
}

impl Stretch {
    fn end(&self) -> u64 {
        self.start + self.filled as u64
    }

    /// Makes room for `extra` bytes behind those that count, and returns it.
    fn room(&mut self, extra: usize) -> &mut [u8] {
        if self.data.len() < self.filled + extra {
            self.data.resize(self.filled + extra, 0);
        }
        &mut self.data[self.filled..self.filled + extra]
    }
}

/// Stretches of a file with their offsets.
pub(crate) type Parts = Vec<(u64, Bytes)>;

/// See the module.
pub(super) struct Window<'f> {
    len: u64,
    file: Option<&'f File>,
    block: u64,
    held: Vec<Stretch>,
    fetched: u64,
    reads: u32,
    run_end: u64,
    step: u64,
}

impl<'f> Window<'f> {
    /// Opens a window on a local file of `len` bytes.
    pub(super) fn local(file: &'f File, len: u64) -> Self {
        Self::new(len, Some(file), LOCAL_BLOCK)
    }

    /// Opens a window on a file of `len` bytes that the caller fetches from.
    pub(super) fn remote(len: u64) -> Self {
        Self::new(len, None, REMOTE_BLOCK)
    }

    /// As [`Window::remote`], with smaller fetches.
    pub(super) fn remote_frugal(len: u64) -> Self {
        Self::new(len, None, FRUGAL_BLOCK)
    }

    /// Returns how much is fetched at once, at least.
    pub(super) fn block(&self) -> u64 {
        self.block
    }

    fn new(len: u64, file: Option<&'f File>, block: u64) -> Self {
        Self { len, file, block, held: Vec::with_capacity(2), fetched: 0, reads: 0, run_end: 0, step: 1 }
    }

    /// Returns the file's length.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Returns how many bytes were fetched.
    pub(super) fn fetched(&self) -> u64 {
        self.fetched
    }

    /// Returns how many bytes may still be fetched.
    pub(super) fn left(&self) -> u64 {
        MAX_FETCHED.saturating_sub(self.fetched)
    }

    /// Returns what is held.
    pub(super) fn into_parts(mut self) -> Parts {
        let held = std::mem::take(&mut self.held);
        let part = |mut stretch: Stretch| {
            stretch.data.truncate(stretch.filled);
            (stretch.start, Bytes::from(stretch.data))
        };
        held.into_iter().map(part).collect()
    }

    /// Returns up to where the bytes from `at` on are held; `at` where they are not.
    pub(super) fn held_to(&self, at: u64) -> u64 {
        self.held.iter().find(|s| s.start <= at && at < s.end()).map_or(at, Stretch::end)
    }

    /// Begins a run of a parser.
    pub(super) fn restart(&mut self) {
        self.reads = 0;
    }

    /// Returns the `len` bytes at `at`.
    ///
    /// Fails with [`ParseError::Truncated`] where the file ends before.
    pub(super) fn bytes(&mut self, at: u64, len: usize) -> Result<&[u8], Stop> {
        let end = at.checked_add(len as u64).filter(|end| *end <= self.len).ok_or(ParseError::Truncated)?;
        if len == 0 {
            return Ok(&[]);
        }
        let stretch = self.hold(ByteRange::new(at, end))?;
        let from = (at - stretch.start) as usize;
        Ok(&stretch.data[from..from + len])
    }

    /// Returns up to `len` bytes at `at`: less, or none, where the file ends before.
    pub(super) fn up_to(&mut self, at: u64, len: usize) -> Result<&[u8], Stop> {
        let at = at.min(self.len);
        self.bytes(at, (self.len - at).min(len as u64) as usize)
    }

    /// Returns the `N` bytes at `at`.
    pub(super) fn array<const N: usize>(&mut self, at: u64) -> Result<[u8; N], Stop> {
        let mut out = [0; N];
        out.copy_from_slice(self.bytes(at, N)?);
        Ok(out)
    }

    /// Runs `parse` over a part of the file, as a stream. What it says counts only when it was never short of
    /// bytes, as it may take that for the file's end.
    pub(super) fn stream<T, E>(
        &mut self,
        part: ByteRange,
        parse: impl FnOnce(&mut View<'_, 'f>) -> Result<T, E>,
    ) -> Result<Result<T, E>, Stop> {
        let part = part.clamp_to(self.len);
        let mut view = View { window: self, part, at: 0, stop: None };
        let parsed = parse(&mut view);
        match view.stop {
            Some(stop) => Err(stop),
            None => Ok(parsed),
        }
    }

    /// Puts bytes in that [`Stop::Missing`] asked for.
    pub(super) fn insert(&mut self, start: u64, bytes: &[u8]) {
        let stretch = self.grow(start);
        stretch.room(bytes.len()).copy_from_slice(bytes);
        stretch.filled += bytes.len();
        self.fetched += bytes.len() as u64;
        self.merge();
    }

    fn find(&self, range: ByteRange) -> Option<usize> {
        self.held.iter().position(|s| s.start <= range.start() && range.end() <= s.end())
    }

    fn hold(&mut self, range: ByteRange) -> Result<&Stretch, Stop> {
        self.reads += 1;
        if self.reads > MAX_READS {
            return Err(ParseError::TooInvolved.into());
        }
        loop {
            if let Some(i) = self.find(range) {
                return Ok(&self.held[i]);
            }
            let missing = self.plan(range)?;
            match self.file {
                None => return Err(Stop::Missing(missing)),
                Some(file) => self.read(file, missing).map_err(ParseError::Read)?,
            }
        }
    }
    /// Decides what to fetch for `range`: whole blocks, more of them the longer reading goes on in sequence, and
    /// nothing that is held already.
    fn plan(&mut self, range: ByteRange) -> Result<ByteRange, Stop> {
        let mut start = range.start() / self.block * self.block;
        if self.len - start < self.block {
            // What is read at a file's end often begins a little before its last block.
            start = self.len.saturating_sub(self.block);
        }
        // The first byte that is not held, of those from `start` on.
        let mut next_held = self.len;
        for stretch in &self.held {
            if stretch.start <= range.start() {
                start = start.max(stretch.end());
            } else if stretch.start >= start {
                next_held = next_held.min(stretch.start);
            }
        }
        self.step = if start == self.run_end && start > 0 { (self.step * 2).min(MAX_STEP) } else { 1 };
        let left = self.left();
        let wanted = range.end().max(start + self.step * self.block).min(start + left).min(next_held);
        let missing = ByteRange::new(start, wanted);
        if missing.is_empty() || (missing.end() < range.end() && missing.end() != next_held) {
            return Err(ParseError::TooMuch.into());
        }
        self.run_end = missing.end();
        Ok(missing)
    }

    /// Reads `range` of the local file into the stretch that it continues, or a new one.
    fn read(&mut self, file: &File, range: ByteRange) -> io::Result<()> {
        let stretch = self.grow(range.start());
        let got = file.read_exact_at(stretch.room(range.len() as usize), range.start());
        if got.is_ok() {
            stretch.filled += range.len() as usize;
            self.fetched += range.len();
        }
        self.held.retain(|s| s.filled > 0);
        self.merge();
        got
    }

    /// Returns the stretch that ends at `start`, making an empty one if there is none.
    fn grow(&mut self, start: u64) -> &mut Stretch {
        let i = match self.held.iter().position(|s| s.end() == start) {
            Some(i) => i,
            None => {
                let i = self.held.iter().take_while(|s| s.start < start).count();
                let data = if self.held.is_empty() { SPARE.take() } else { Vec::new() };
                self.held.insert(i, Stretch { start, data, filled: 0 });
                i
            }
        };
        &mut self.held[i]
    }

    /// Joins stretches that touch.
    fn merge(&mut self) {
        let mut i = 1;
        while i < self.held.len() {
            if self.held[i - 1].end() == self.held[i].start {
                let next = self.held.remove(i);
                let stretch = &mut self.held[i - 1];
                stretch.room(next.filled).copy_from_slice(&next.data[..next.filled]);
                stretch.filled += next.filled;
            } else {
                i += 1;
            }
        }
    }
}

impl Drop for Window<'_> {
    /// Keeps the first buffer for the thread's next file.
    fn drop(&mut self) {
        if let Some(first) = self.held.first_mut()
            && first.data.len() <= MAX_KEPT
        {
            SPARE.set(std::mem::take(&mut first.data));
        }
    }
}

/// A part of a file as a stream.
///
/// Where bytes are missing it fails and remembers why; from then on it fails always.
pub(super) struct View<'w, 'f> {
    window: &'w mut Window<'f>,
    part: ByteRange,
    at: u64,
    stop: Option<Stop>,
}

impl Read for View<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.is_some() {
            return Err(io::ErrorKind::Other.into());
        }
        let left = self.part.len().saturating_sub(self.at);
        let n = left.min(buffer.len() as u64).min(REMOTE_BLOCK) as usize;
        match self.window.bytes(self.part.start().saturating_add(self.at), n) {
            Ok(bytes) => {
                buffer[..n].copy_from_slice(bytes);
                self.at += n as u64;
                Ok(n)
            }
            Err(stop) => {
                self.stop = Some(stop);
                Err(io::ErrorKind::Other.into())
            }
        }
    }
}

impl Seek for View<'_, '_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.part.len().checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn numbered(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i / 7) as u8).collect()
    }

    fn missing(stop: Result<&[u8], Stop>) -> ByteRange {
        match stop {
            Err(Stop::Missing(range)) => range,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn local_window_reads_on_demand_and_joins_what_touches() {
        let content = numbered(300_000);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&content).unwrap();
        let mut window = Window::local(&file, 300_000);
        assert_eq!(window.bytes(10, 20).unwrap(), &content[10..30]);
        assert_eq!(window.fetched(), LOCAL_BLOCK);
        assert_eq!(window.bytes(200_000, 5).unwrap(), &content[200_000..200_005]);
        assert_eq!(window.bytes(0, 290_000).unwrap(), &content[..290_000]);
        assert_eq!(window.held.len(), 1);
        assert!(window.fetched() <= 300_000, "{}", window.fetched());
    }

    #[test]
    fn misses_in_sequence_grow_up_to_eight_blocks() {
        let mut window = Window::remote(100 * REMOTE_BLOCK);
        let mut lens = Vec::new();
        let mut at = 0;
        for _ in 0..6 {
            let range = missing(window.bytes(at, 1));
            lens.push(range.len() / REMOTE_BLOCK);
            window.insert(range.start(), &vec![0; range.len() as usize]);
            at = range.end();
        }
        assert_eq!(lens, [1, 2, 4, 8, 8, 8]);
        assert_eq!(missing(window.bytes(90 * REMOTE_BLOCK, 1)).len(), REMOTE_BLOCK);
    }

    #[test]
    fn file_end_is_fetched_as_one_block_however_it_lies() {
        let mut window = Window::remote(10 * REMOTE_BLOCK + 5);
        let range = missing(window.bytes(10 * REMOTE_BLOCK + 1, 2));
        assert_eq!(range, ByteRange::new(9 * REMOTE_BLOCK + 5, 10 * REMOTE_BLOCK + 5));
    }

    #[test]
    fn window_never_fetches_more_than_its_bound() {
        let mut window = Window::remote(1 << 40);
        let mut at = 0;
        let failed = loop {
            match window.bytes(at, 1) {
                Ok(_) => at += 1,
                Err(Stop::Missing(range)) => {
                    window.insert(range.start(), &vec![0; range.len() as usize]);
                    at = range.end();
                }
                Err(Stop::Failed(error)) => break error,
            }
        };
        assert!(matches!(failed, ParseError::TooMuch));
        assert_eq!(window.fetched(), MAX_FETCHED);
    }

    #[test]
    fn reads_are_bounded_in_one_run() {
        let mut window = Window::remote(10);
        window.insert(0, &[0; 10]);
        let ended = (0..=MAX_READS).any(|_| matches!(window.bytes(0, 1), Err(Stop::Failed(_))));
        assert!(ended);
        window.restart();
        assert!(window.bytes(0, 1).is_ok());
    }

    #[test]
    fn bytes_past_the_end_are_truncation() {
        let mut window = Window::remote(10);
        window.insert(0, &[1; 10]);
        assert!(matches!(window.bytes(5, 6), Err(Stop::Failed(ParseError::Truncated))));
        assert!(matches!(window.bytes(u64::MAX, 6), Err(Stop::Failed(ParseError::Truncated))));
        assert_eq!(window.up_to(5, 100).unwrap(), [1; 5]);
        assert_eq!(window.up_to(50, 100).unwrap(), [0u8; 0]);
    }

    #[test]
    fn what_a_stream_says_does_not_count_when_bytes_were_missing() {
        let mut window = Window::remote(200_000);
        window.insert(0, &numbered(1000));
        let part = ByteRange::new(100, 200_000);
        let short = window.stream(part, |view| {
            let mut all = Vec::new();
            // A parser that swallows errors.
            let _ = view.take(5000).read_to_end(&mut all);
            Ok::<_, ()>(all.len())
        });
        assert!(matches!(short, Err(Stop::Missing(range)) if range.start() == 1000), "{short:?}");
        let whole = window.stream(ByteRange::new(100, 110), |view| {
            let mut all = Vec::new();
            view.seek(SeekFrom::End(-4)).map_err(drop)?;
            view.read_to_end(&mut all).map_err(drop)?;
            Ok::<_, ()>(all)
        });
        assert_eq!(whole.unwrap().unwrap(), numbered(110)[106..]);
    }

    #[test]
    fn local_file_shorter_than_said_is_a_read_error() {
        let file = tempfile::tempfile().unwrap();
        let mut window = Window::local(&file, 100);
        assert!(matches!(window.bytes(0, 4), Err(Stop::Failed(ParseError::Read(_)))));
    }
}
