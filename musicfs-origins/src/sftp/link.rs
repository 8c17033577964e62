//! One SFTP session: questions, answers, and the handles that the server lent us.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use musicfs_core::{Clock, FileVersion, MonoTime, OriginErrorKind, OriginPath};
use parking_lot::Mutex;
use russh::ChannelMsg;
use russh::client::Handle;

use super::login::{Guard, Receiving, Sending, Session};
use super::packet::{self, Ask, Attrs, Limits, Said};
use crate::wire::{Answer, Failure, Frames, Incoming, Link, Mux, Shared, Sink};

/// Longest packet that is taken: OpenSSH's own limit.
const MAX_PACKET: usize = 256 << 10;
/// Longest read that every server must serve.
const PLAIN_READ: u32 = 32 << 10;
/// Longest read that is asked for, with room for the packet around it.
const MAX_READ: u32 = 255 << 10;
/// Questions in flight: at the plain length of a read, 16 MiB of answers.
const IN_FLIGHT: usize = 512;
/// Open files kept for the next read of the same file.
const KEPT_FILES: usize = 24;
/// How long an open file that nobody reads is kept.
const KEPT_FOR: Duration = Duration::from_secs(10);

/// Cuts the channel's bytes into packets.
struct Packets {
    receiving: Receiving,
    buffer: BytesMut,
}

impl Packets {
    /// Takes a packet off the buffer, without its length.
    fn cut(&mut self) -> Result<Option<Bytes>, Failure> {
        let Some(head) = self.buffer.get(..4) else { return Ok(None) };
        let len = head.iter().fold(0usize, |len, byte| len << 8 | usize::from(*byte));
        if !(5..=MAX_PACKET).contains(&len) {
            return Err(Failure::garbled(format!(
                "the server sent a packet of {len} bytes; is its shell printing something at login?"
            )));
        }
        if self.buffer.len() < 4 + len {
            return Ok(None);
        }
        self.buffer.advance(4);
        Ok(Some(self.buffer.split_to(len).freeze()))
    }

    async fn packet(&mut self, line: Option<&Shared>) -> Result<Option<Bytes>, Failure> {
        loop {
            if let Some(packet) = self.cut()? {
                return Ok(Some(packet));
            }
            match self.receiving.wait().await {
                Some(ChannelMsg::Data { data }) => {
                    self.buffer.extend_from_slice(&data);
                    if let Some(line) = line {
                        // Behind the length of the packet.
                        let id = self.buffer.get(4..).and_then(packet::id_of);
                        line.heard(id.map(u64::from), data.len());
                    }
                }
                Some(ChannelMsg::Failure) => {
                    return Err(Failure::lost(
                        OriginErrorKind::Unsupported,
                        "the server has no SFTP subsystem",
                    ));
                }
                Some(ChannelMsg::Eof | ChannelMsg::Close) | None => return Ok(None),
                Some(_) => {}
            }
        }
    }
}

impl Frames for Packets {
    async fn next(&mut self, line: &Shared) -> Result<Option<Incoming>, Failure> {
        let Some(packet) = self.packet(Some(line)).await? else { return Ok(None) };
        match packet::id_of(&packet) {
            Some(id) => Ok(Some(Incoming { tag: u64::from(id), body: Some(packet), permits: 1 })),
            None => Err(Failure::garbled("a packet of the server is cut short")),
        }
    }
}

impl Sink for Sending {
    async fn send(&mut self, frame: Bytes) -> Result<(), Failure> {
        self.data_bytes(frame).await.map_err(|e| Failure::lost(OriginErrorKind::Unavailable, e))
    }
}

/// A handle that the server lent us; given back when dropped.
pub(super) struct Lent {
    handle: Bytes,
    mux: Weak<Shared>,
}

impl Lent {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.handle
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(mux) = self.mux.upgrade() {
            let handle = self.handle.clone();
            // Where the connection is gone, so is the handle.
            let _ = mux.say(|id| Ask::Close(&handle).encode(id as u32));
        }
    }
}

/// An open file of a certain version.
pub(super) struct OpenFile {
    path: OriginPath,
    version: FileVersion,
    pub(super) lent: Arc<Lent>,
    used: MonoTime,
}

/// One session with a server.
pub(super) struct SftpLink {
    mux: Mux,
    /// Open files, the last used last.
    kept: Arc<Mutex<VecDeque<OpenFile>>>,
    keep: usize,
    pub(super) max_read: u32,
    pub(super) fingerprint: String,
    clock: Arc<dyn Clock>,
    /// The connection lasts as long as this.
    _handle: Handle<Guard>,
}

impl Link for SftpLink {
    fn is_dead(&self) -> bool {
        self.mux.is_dead()
    }

    fn load(&self) -> usize {
        self.mux.in_flight()
    }
}

/// An answer that is on its way.
pub(super) type Coming<T> = Answer<T>;

impl SftpLink {
    /// Begins a session: agrees on the version and asks for the server's limits.
    pub(super) async fn begin(
        session: Session,
        clock: Arc<dyn Clock>,
        silence: Duration,
    ) -> Result<Self, Failure> {
        let Session { handle, receiving, mut sending, fingerprint } = session;
        let mut packets = Packets { receiving, buffer: BytesMut::new() };
        sending.send(packet::init()).await?;
        let Some(version) = packets.packet(None).await? else {
            return Err(Failure::lost(OriginErrorKind::Unavailable, "the server ended the session"));
        };
        packet::version(version)?;
        let mux = Mux::new(packets, sending, (IN_FLIGHT, 1), Arc::clone(&clock), silence);
        let mut link = Self {
            mux,
            kept: Arc::default(),
            keep: KEPT_FILES,
            max_read: PLAIN_READ,
            fingerprint,
            clock,
            _handle: handle,
        };
        // Servers that do not know the question say so, which is as good an answer.
        if let Said::Extended(body) = link.ask(Ask::Limits).await?.await?
            && let Some(Limits { read, handles }) = packet::limits(body)
        {
            if read > 0 {
                link.max_read = u32::try_from(read).unwrap_or(MAX_READ).clamp(1, MAX_READ);
            }
            if handles > 0 {
                link.keep = usize::try_from(handles / 4).unwrap_or(KEPT_FILES).min(KEPT_FILES);
            }
        }
        Ok(link)
    }

    /// Sends a question; the answer is awaited apart from it. Questions of one caller are answered in order.
    pub(super) async fn ask(&self, ask: Ask<'_>) -> Result<Coming<Said>, Failure> {
        self.mux.send(1, |id| ask.encode(id as u32), packet::decode).await
    }

    /// As [`SftpLink::ask`] for several questions, which reach the server one behind the other.
    pub(super) async fn ask_all(&self, asks: &[Ask<'_>]) -> Result<Vec<Coming<Said>>, Failure> {
        let build = |first| {
            let mut frame = BytesMut::new();
            for (id, ask) in (first..).zip(asks) {
                frame.extend_from_slice(&ask.encode(id as u32));
            }
            frame.freeze()
        };
        self.mux.send_group(&vec![1; asks.len()], build, packet::decode).await
    }

    /// Sends a question that is answered with a handle, which is given back even when nobody waits for it.
    async fn borrow(&self, ask: Ask<'_>) -> Result<Lent, Failure> {
        let mux = Arc::downgrade(self.mux.shared());
        let lend = move |body| match packet::decode(body)? {
            Said::Handle(handle) => Ok(Lent { handle, mux }),
            other => Err(other.failure()),
        };
        self.mux.send(1, |id| ask.encode(id as u32), lend).await?.await
    }

    pub(super) async fn open(&self, path: &[u8]) -> Result<Lent, Failure> {
        self.borrow(Ask::Open(path)).await
    }

    pub(super) async fn open_folder(&self, path: &[u8]) -> Result<Lent, Failure> {
        self.borrow(Ask::OpenDir(path)).await
    }

    pub(super) async fn stat(&self, path: &[u8]) -> Result<Attrs, Failure> {
        attrs(self.ask(Ask::Stat(path)).await?.await?)
    }

    /// Returns the open file of that version, when one was kept.
    pub(super) fn kept(&self, path: &OriginPath, version: &FileVersion) -> Option<Arc<Lent>> {
        let now = self.clock.now();
        let mut kept = self.kept.lock();
        let at = kept.iter().position(|open| open.path == *path && open.version.is_same(version))?;
        let mut open = kept.remove(at)?;
        open.used = now;
        let lent = Arc::clone(&open.lent);
        kept.push_back(open);
        Some(lent)
    }

    /// Keeps an open file for the next read.
    pub(super) fn keep(&self, path: &OriginPath, version: &FileVersion, lent: Arc<Lent>) {
        let open = OpenFile { path: path.clone(), version: version.clone(), lent, used: self.clock.now() };
        let mut dropped = Vec::new();
        let first = {
            let mut kept = self.kept.lock();
            if let Some(at) = kept.iter().position(|other| other.path == *path) {
                dropped.extend(kept.remove(at));
            }
            kept.push_back(open);
            while kept.len() > self.keep {
                dropped.extend(kept.pop_front());
            }
            kept.len() == 1
        };
        // Handles are given back outside of the lock.
        drop(dropped);
        if first {
            tokio::spawn(sweep(Arc::downgrade(&self.kept), Arc::clone(&self.clock)));
        }
    }

    /// Forgets an open file that turned out to be another version.
    pub(super) fn forget(&self, path: &OriginPath) {
        let forgotten = {
            let mut kept = self.kept.lock();
            kept.iter().position(|open| open.path == *path).and_then(|at| kept.remove(at))
        };
        // The handle is given back outside of the lock.
        drop(forgotten);
    }
}

/// Gives back what has not been used for a while, until nothing is kept.
async fn sweep(kept: Weak<Mutex<VecDeque<OpenFile>>>, clock: Arc<dyn Clock>) {
    loop {
        clock.sleep_until(clock.now().plus(KEPT_FOR)).await;
        let Some(kept) = kept.upgrade() else { return };
        let now = clock.now();
        let mut expired = Vec::new();
        let empty = {
            let mut kept = kept.lock();
            while kept.front().is_some_and(|open| now.since(open.used) >= KEPT_FOR) {
                expired.extend(kept.pop_front());
            }
            kept.is_empty()
        };
        drop(expired);
        if empty {
            return;
        }
    }
}

/// Takes attributes out of an answer.
pub(super) fn attrs(said: Said) -> Result<Attrs, Failure> {
    match said {
        Said::Attrs(attrs) => Ok(attrs),
        other => Err(other.failure()),
    }
}
