//! Pages of an Ogg file, and the packets that run through them.

use musicfs_core::ByteRange;

use crate::tags::ParseError;
use crate::tags::vorbis::Source;
use crate::tags::window::{Stop, Window};

/// Length of a page's header without its table of segments.
const HEAD_LEN: u64 = 27;
/// Set in the header of a stream's first page.
const FIRST: u8 = 0x02;
/// Position of a page on which no packet ends.
const NO_POSITION: u64 = u64::MAX;

/// Reads the serial number of a page's header.
pub(super) fn serial(head: &[u8; HEAD_LEN as usize]) -> u32 {
    u32::from_le_bytes([head[14], head[15], head[16], head[17]])
}

/// Reads the position of a page's header, where it has one.
pub(super) fn position(head: &[u8; HEAD_LEN as usize]) -> Option<u64> {
    let [_, _, _, _, _, _, a, b, c, d, e, f, g, h, ..] = *head;
    let position = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
    (position != NO_POSITION && position < 1 << 62).then_some(position)
}

/// A page.
pub(super) struct Page {
    pub(super) serial: u32,
    flags: u8,
    /// Offset of the first byte after the header.
    pub(super) payload: u64,
    pub(super) payload_len: u64,
    /// Lengths of the segments; a packet ends with the first below 255.
    segments: Vec<u8>,
}

impl Page {
    /// Reads the header of the page at `at`; `None` when there is none.
    pub(super) fn at(window: &mut Window<'_>, at: u64) -> Result<Option<Self>, Stop> {
        let Ok(head) = <[u8; HEAD_LEN as usize]>::try_from(window.up_to(at, HEAD_LEN as usize)?) else {
            return Ok(None);
        };
        if !head.starts_with(b"OggS\0") {
            return Ok(None);
        }
        let count = head[26];
        let segments = window.bytes(at + HEAD_LEN, usize::from(count))?.to_vec();
        let payload_len = segments.iter().map(|len| u64::from(*len)).sum();
        let payload = at + HEAD_LEN + u64::from(count);
        Ok(Some(Self { serial: serial(&head), flags: head[5], payload, payload_len, segments }))
    }

    pub(super) fn is_first(&self) -> bool {
        self.flags & FIRST != 0
    }

    /// Returns the offset of the next page.
    pub(super) fn end(&self) -> u64 {
        self.payload + self.payload_len
    }
}

/// The packets of one stream, read in sequence.
pub(super) struct Pages {
    serial: u32,
    next_page: u64,
    /// Offset of the page that the packet's next byte is on, and of that page's first byte after the header.
    page: u64,
    payload: u64,
    segments: std::vec::IntoIter<u8>,
    /// Offset of the packet's next byte.
    at: u64,
    /// Bytes of the packet left on this page.
    left: u64,
    /// Whether the packet goes on with the next page.
    goes_on: bool,
}

impl Pages {
    /// Begins at the page at `at`.
    pub(super) fn new(serial: u32, at: u64) -> Self {
        Self {
            serial,
            next_page: at,
            page: at,
            payload: at,
            segments: Vec::new().into_iter(),
            at,
            left: 0,
            goes_on: false,
        }
    }

    /// Goes to the next packet, past what is left of this one.
    pub(super) fn next_packet(&mut self, window: &mut Window<'_>) -> Result<(), Stop> {
        loop {
            self.at += self.left;
            self.left = 0;
            if !self.goes_on {
                break;
            }
            self.turn(window)?;
        }
        if self.segments.len() == 0 {
            self.turn(window)
        } else {
            self.open();
            Ok(())
        }
    }

    /// Goes to the stream's next page, and to the packet on it.
    fn turn(&mut self, window: &mut Window<'_>) -> Result<(), Stop> {
        loop {
            let page = Page::at(window, self.next_page)?.ok_or(ParseError::Truncated)?;
            let at = self.next_page;
            self.next_page = page.end();
            if page.serial == self.serial && !page.segments.is_empty() {
                (self.page, self.payload) = (at, page.payload);
                self.at = page.payload;
                self.segments = page.segments.into_iter();
                self.open();
                return Ok(());
            }
        }
    }

    /// Takes the next packet's segments off the table.
    fn open(&mut self) {
        self.left = 0;
        self.goes_on = true;
        for len in self.segments.by_ref() {
            self.left += u64::from(len);
            if len < 255 {
                self.goes_on = false;
                break;
            }
        }
    }

    /// Returns where the packet begins, with the header of its page where it is the first there.
    pub(super) fn start(&self) -> u64 {
        if self.at == self.payload { self.page } else { self.at }
    }

    /// Returns what is left of the page that the packet is on.
    pub(super) fn rest_of_page(&self) -> ByteRange {
        ByteRange::new(self.at, self.next_page)
    }

    /// Makes sure that a byte of the packet is at hand, and tells how many are in one piece.
    fn piece(&mut self, window: &mut Window<'_>) -> Result<u64, Stop> {
        while self.left == 0 {
            if !self.goes_on {
                return Err(ParseError::Truncated.into());
            }
            self.turn(window)?;
        }
        Ok(self.left)
    }
}

impl Source for Pages {
    fn take(&mut self, window: &mut Window<'_>, len: usize, out: &mut Vec<u8>) -> Result<(), Stop> {
        out.clear();
        while out.len() < len {
            let n = self.piece(window)?.min((len - out.len()) as u64);
            out.extend_from_slice(window.bytes(self.at, n as usize)?);
            self.at += n;
            self.left -= n;
        }
        Ok(())
    }

    fn skip(&mut self, window: &mut Window<'_>, len: u64) -> Result<(), Stop> {
        let mut len = len;
        while len > 0 {
            let n = self.piece(window)?.min(len);
            self.at += n;
            self.left -= n;
            len -= n;
        }
        Ok(())
    }

    /// Page headers lie on the way.
    fn skips_freely(&self) -> bool {
        false
    }

    fn offset(&self) -> u64 {
        self.at
    }
}
