//! How far to read ahead: pure.
//!
//! A stream is somebody who reads a file forward. The first read of a stream fetches what it asks for and no more,
//! and so do those after it near the beginning of a file, so that a scanner that looks at heads pulls heads; each
//! further read that goes on where the last ended doubles the window, up to a bound; a seek begins anew. Several
//! streams on one file are told apart by where they are.

use musicfs_core::ByteRange;

/// The window after the second read in a row.
const FIRST_WINDOW: u64 = 256 << 10;
/// Who began at the beginning of a file and has not read more than this looks at its head: 256 KiB, and what the
/// kernel reads ahead of them.
const HEAD_ONLY: u64 = 384 << 10;
/// The largest window: at 200 ms for a round trip, 8 MiB in flight are 40 MB/s.
const MAX_WINDOW: u64 = 8 << 20;
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

/// The streams on one file.
#[derive(Debug, Default)]
pub(crate) struct ReadAhead {
    /// The one used last is last.
    streams: Vec<Stream>,
}

impl ReadAhead {
    /// Takes note of a read of a file of `size` bytes; returns what to fetch beyond it, which may be nothing, and how
    /// far its stream has read forward, 0 for the first of a stream.
    pub(crate) fn on_read(&mut self, read: ByteRange, size: u64) -> (ByteRange, u64) {
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
                        stream.window = (stream.window * 2).clamp(FIRST_WINDOW, MAX_WINDOW);
                    }
                }
                (stream, stream.at.saturating_sub(stream.began).max(1))
            }
            None => (Stream { began: read.start(), at: read.end(), window: 0 }, 0),
        };
        let (stream, forward) = stream;
        if self.streams.len() == MAX_STREAMS {
            self.streams.remove(0);
        }
        self.streams.push(stream);
        (ByteRange::at(stream.at, stream.window).clamp_to(size), forward)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn first_read_fetches_nothing_beyond_itself() {
        let mut ahead = ReadAhead::default();
        assert!(ahead.on_read(ByteRange::at(0, 16 << 10), 30 * MIB).0.is_empty());
        // The tail of the file, as a scanner reads it next.
        assert!(ahead.on_read(ByteRange::at(29 * MIB, 64 << 10), 30 * MIB).0.is_empty());
    }

    #[test]
    fn window_doubles_while_reading_forward_up_to_its_bound() {
        let mut ahead = ReadAhead::default();
        let mut sizes = Vec::new();
        for n in 0..9 {
            sizes.push(ahead.on_read(ByteRange::at(n * 131_072, 131_072), 100 * MIB).0.len() >> 10);
        }
        assert_eq!(sizes, [0, 0, 0, 256, 512, 1024, 2048, 4096, 8192]);
        // Who begins in the middle does not look at the head.
        ahead.on_read(ByteRange::at(50 * MIB, 4096), 100 * MIB);
        let (window, forward) = ahead.on_read(ByteRange::at(50 * MIB + 4096, 4096), 100 * MIB);
        assert_eq!((window.len(), forward), (FIRST_WINDOW, 8192));
    }

    #[test]
    fn seek_begins_anew_and_two_streams_do_not_disturb_each_other() {
        let mut ahead = ReadAhead::default();
        for n in 0..5 {
            ahead.on_read(ByteRange::at(n * 131_072, 131_072), 100 * MIB);
            ahead.on_read(ByteRange::at(50 * MIB + n * 131_072, 131_072), 100 * MIB);
        }
        assert_eq!(ahead.on_read(ByteRange::at(5 * 131_072, 131_072), 100 * MIB).0.len(), MIB);
        assert!(ahead.on_read(ByteRange::at(80 * MIB, 4096), 100 * MIB).0.is_empty());
    }

    #[test]
    fn reads_out_of_order_stay_one_stream() {
        let mut ahead = ReadAhead::default();
        let k = 131_072;
        for n in [0, 1, 3, 2, 5, 4, 7, 6] {
            ahead.on_read(ByteRange::at(n * k, k), 100 * MIB);
        }
        let (window, _) = ahead.on_read(ByteRange::at(8 * k, k), 100 * MIB);
        assert!(window.len() >= MIB && window.start() == 9 * k, "{window:?}");
    }

    #[test]
    fn window_ends_with_the_file() {
        let mut ahead = ReadAhead::default();
        ahead.on_read(ByteRange::at(MIB, 1000), MIB + 1500);
        let (window, _) = ahead.on_read(ByteRange::at(MIB + 1000, 400), MIB + 1500);
        assert_eq!(window, ByteRange::new(MIB + 1400, MIB + 1500));
    }
}
