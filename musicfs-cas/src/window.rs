//! How far to read ahead: pure.
//!
//! A stream is somebody who reads a file forward. The first read of a stream fetches what it asks for and no more,
//! and so do those after it near the beginning of a file, so that a scanner that looks at heads pulls heads. From
//! then on the window is as long as what was read, and soon some times that, up to a bound; a seek begins anew.
//! Several streams on one file are told apart by where they are.
//!
//! A window is fetched by halves: what is fetched next is asked for when the reader has come to the half before, and
//! not with every read, so that a server gets few requests and large ones.

use musicfs_core::ByteRange;

/// The least window.
const LEAST_WINDOW: u64 = 256 << 10;
/// Who began at the beginning of a file and has not read more than this looks at its head: 256 KiB, and what the
/// kernel reads ahead of them.
const HEAD_ONLY: u64 = 384 << 10;
/// The largest window: at 200 ms for a round trip, 8 MiB in flight are 40 MB/s.
const MAX_WINDOW: u64 = 8 << 20;
/// Who has read this much goes on, most likely: the window is [`KEEN`] times what was read.
const KEEN_FROM: u64 = 1 << 20;
const KEEN: u64 = 4;
/// How far ahead of a reader cached chunks are loaded at the most: enough to have several read and hashed at once.
const MAX_LOAD: u64 = 8 << 20;
/// The largest stretch that is fetched in one request.
const MAX_STEP: u64 = MAX_WINDOW / 2;
/// How far a read may land from where its stream is expected and still belong to it: the kernel sends the reads of
/// its own read-ahead in parallel, so that they arrive out of order.
const TOLERANCE: u64 = 1 << 20;
/// Streams that are told apart on one file; the one unused longest is forgotten first.
const MAX_STREAMS: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stream {
    /// Where it began.
    began: u64,
    /// The furthest end of its reads.
    at: u64,
    window: u64,
}

/// What to do ahead of a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ahead {
    /// From the end of the read to that of the window.
    pub(crate) window: ByteRange,
    /// What is to be fetched of it by now, if it is not there.
    pub(crate) fetch: ByteRange,
    /// How much to fetch in one request.
    pub(crate) step: u64,
    /// What is to be loaded by now, if it is cached: disks are near.
    pub(crate) load: ByteRange,
    /// How far the stream has read forward; 0 for its first read.
    pub(crate) forward: u64,
}

/// The streams on one file.
#[derive(Debug, Default)]
pub(crate) struct ReadAhead {
    /// The one used last is last.
    streams: Vec<Stream>,
}

impl ReadAhead {
    /// Tells whether somebody who reads has not come to the end of `range` yet, and will soon.
    pub(crate) fn will_read(&self, range: ByteRange) -> bool {
        let near = |stream: &Stream| stream.at.saturating_add(MAX_WINDOW) > range.start();
        self.streams.iter().any(|stream| stream.at < range.end() && near(stream))
    }

    /// Takes note of a read of a file of `size` bytes; returns what to do ahead of it.
    pub(crate) fn on_read(&mut self, read: ByteRange, size: u64) -> Ahead {
        let near = |stream: &Stream| {
            let slack = TOLERANCE.min(stream.window.max(1));
            read.start() <= stream.at.saturating_add(slack) && read.end().saturating_add(slack) >= stream.at
        };
        let stream = match self.streams.iter().rposition(near) {
            Some(n) => {
                let mut stream = self.streams.remove(n);
                if read.end() > stream.at {
                    stream.at = read.end();
                    if stream.began >= HEAD_ONLY || stream.at > HEAD_ONLY {
                        let forward = stream.at - stream.began;
                        let times = if forward < KEEN_FROM { 1 } else { KEEN };
                        stream.window = (forward * times).clamp(LEAST_WINDOW, MAX_WINDOW);
                    }
                }
                (stream, stream.at.saturating_sub(stream.began).max(1))
            }
            None => {
                // Who asks for more than a head at once does not look at heads.
                let bulk = read.start() == 0 && read.len() > HEAD_ONLY;
                let window = if bulk { (read.len() * KEEN).min(MAX_WINDOW) } else { 0 };
                (Stream { began: read.start(), at: read.end(), window }, 0)
            }
        };
        let (stream, forward) = stream;
        if self.streams.len() == MAX_STREAMS {
            self.streams.remove(0);
        }
        self.streams.push(stream);
        let window = ByteRange::at(stream.at, stream.window).clamp_to(size);
        let step = 1 << (stream.window / 2).clamp(LEAST_WINDOW / 2, MAX_STEP).ilog2();
        let end = if window.end() < size { window.end() / step * step } else { size };
        let load = if window.is_empty() { 0 } else { (stream.at - stream.began) * KEEN };
        Ahead {
            window,
            fetch: ByteRange::new(window.start(), end.max(window.start())),
            step,
            load: ByteRange::at(stream.at, load.min(MAX_LOAD)).clamp_to(size),
            forward,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const K: u64 = 128 << 10;

    #[test]
    fn first_read_fetches_nothing_beyond_itself() {
        let mut ahead = ReadAhead::default();
        assert!(ahead.on_read(ByteRange::at(0, 16 << 10), 30 * MIB).window.is_empty());
        // The tail of the file, as a scanner reads it next.
        assert!(ahead.on_read(ByteRange::at(29 * MIB, 64 << 10), 30 * MIB).window.is_empty());
    }

    #[test]
    fn window_widens_while_reading_forward_up_to_its_bound() {
        let mut ahead = ReadAhead::default();
        let mut sizes = Vec::new();
        for n in 0..16 {
            sizes.push(ahead.on_read(ByteRange::at(n * K, K), 100 * MIB).window.len() >> 10);
        }
        assert_eq!(sizes[..5], [0, 0, 0, 512, 640]);
        assert_eq!((sizes[6], sizes[7], sizes[15]), (896, 4096, 8192));
        // Who begins in the middle does not look at the head.
        ahead.on_read(ByteRange::at(50 * MIB, 4096), 100 * MIB);
        let next = ahead.on_read(ByteRange::at(50 * MIB + 4096, 4096), 100 * MIB);
        assert_eq!((next.window.len(), next.forward), (LEAST_WINDOW, 8192));
    }

    #[test]
    fn steady_reader_asks_for_half_a_window_at_a_time() {
        let mut ahead = ReadAhead::default();
        let (mut fetched, mut requests) = (0, Vec::new());
        for n in 0..512 {
            let next = ahead.on_read(ByteRange::at(n * K, K), 64 * MIB);
            if next.fetch.end() > fetched && !next.fetch.is_empty() {
                requests.push((next.fetch.end() - fetched.max(next.fetch.start())) >> 10);
                fetched = next.fetch.end();
            }
            // There is always something ahead.
            assert!(n < 16 || fetched == 64 * MIB || fetched - (n + 1) * K >= MAX_STEP - K, "{n}: {fetched}");
        }
        assert_eq!(fetched, 64 * MIB);
        let settled = requests.iter().position(|kib| *kib == MAX_STEP >> 10).unwrap();
        assert!(settled < 8, "{requests:?}");
        assert!(requests[settled..].iter().all(|kib| *kib == MAX_STEP >> 10), "{requests:?}");
    }

    #[test]
    fn seek_begins_anew_and_two_streams_do_not_disturb_each_other() {
        let mut ahead = ReadAhead::default();
        for n in 0..4 {
            ahead.on_read(ByteRange::at(n * K, K), 100 * MIB);
            ahead.on_read(ByteRange::at(50 * MIB + n * K, K), 100 * MIB);
        }
        assert_eq!(ahead.on_read(ByteRange::at(4 * K, K), 100 * MIB).window.len(), 5 * K);
        assert!(ahead.on_read(ByteRange::at(80 * MIB, 4096), 100 * MIB).window.is_empty());
    }

    #[test]
    fn reads_out_of_order_stay_one_stream() {
        let mut ahead = ReadAhead::default();
        for n in [0, 1, 3, 2, 5, 4, 7, 6] {
            ahead.on_read(ByteRange::at(n * K, K), 100 * MIB);
        }
        let window = ahead.on_read(ByteRange::at(8 * K, K), 100 * MIB).window;
        assert!(window.len() >= 6 * K && window.start() == 9 * K, "{window:?}");
    }

    #[test]
    fn what_is_read_soon_is_near_a_stream_and_not_behind_it() {
        let mut ahead = ReadAhead::default();
        ahead.on_read(ByteRange::at(20 * MIB, MIB), 100 * MIB);
        let will_read = |at: u64| ahead.will_read(ByteRange::at(at, MIB));
        assert!(!will_read(20 * MIB) && !will_read(0) && !will_read(40 * MIB));
        assert!(will_read(20 * MIB + 1) && will_read(21 * MIB) && will_read(25 * MIB));
    }

    #[test]
    fn window_ends_with_the_file() {
        let mut ahead = ReadAhead::default();
        ahead.on_read(ByteRange::at(MIB, 1000), MIB + 1500);
        let next = ahead.on_read(ByteRange::at(MIB + 1000, 400), MIB + 1500);
        let rest = ByteRange::new(MIB + 1400, MIB + 1500);
        assert_eq!((next.window, next.fetch), (rest, rest));
    }
}
