//! One session with a share: requests, answers, credits, and the handles that the server lent us.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use musicfs_core::Clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::runtime::Handle;

use super::login::Session;
use super::message::{self, CREDIT, Facts, Framer, HEAD, HandleId, Reply, Request, Want, charge};
use crate::wire::{Answer, Failure, Frames, Incoming, Link, Mux, Shared, Sink};

/// Longest frame that is taken: the longest answer that is asked for, with room around it.
const MAX_FRAME: usize = (1 << 20) + (64 << 10);
/// Longest read and longest part of a listing that is asked for.
const MAX_READ: u32 = 1 << 20;
const MAX_LIST: u32 = 256 << 10;
/// The same in an encrypted session, where an answer counts as a sign of life only when all of it is there: a line
/// of 13 kB/s still passes for a living one.
const MAX_SEALED: u32 = 128 << 10;
/// Credits that are kept at hand: 32 reads of the longest at once.
const CREDITS: usize = 512;
/// Credits asked for with one message beyond what it costs, while there are fewer.
const CREDITS_MORE: u16 = 64;

/// Cuts the stream into messages.
struct Messages {
    reading: OwnedReadHalf,
    framer: Arc<Framer>,
    ready: VecDeque<Reply>,
}

impl Messages {
    /// Fills `bytes`, which are part of the answer to `tag`; `false` when the stream ended before them.
    async fn fill(&mut self, bytes: &mut [u8], tag: Option<u64>, line: &Shared) -> Result<bool, Failure> {
        let mut filled = 0;
        while filled < bytes.len() {
            let got = self.reading.read(&mut bytes[filled..]).await.map_err(Failure::of_io)?;
            match got {
                0 if filled == 0 => return Ok(false),
                0 => return Err(Failure::of_io(std::io::ErrorKind::UnexpectedEof.into())),
                got => filled += got,
            }
            line.heard(tag, got);
        }
        Ok(true)
    }
}

impl Frames for Messages {
    async fn next(&mut self, line: &Shared) -> Result<Option<Incoming>, Failure> {
        while self.ready.is_empty() {
            let mut head = [0; 4];
            if !self.fill(&mut head, None, line).await? {
                return Ok(None);
            }
            let len = u32::from_be_bytes(head) as usize;
            if len > MAX_FRAME {
                return Err(Failure::garbled(format!("the server sent a message of {len} bytes")));
            }
            let mut frame = vec![0; len];
            let named = len.min(HEAD);
            if named > 0 && !self.fill(&mut frame[..named], None, line).await? {
                return Ok(None);
            }
            // Whose an encrypted message is shows when all of it is there.
            let tag = message::id_of(&frame);
            if len > named && !self.fill(&mut frame[named..], tag, line).await? {
                return Ok(None);
            }
            let first = self.framer.open(frame)?;
            if tag.is_none() {
                line.heard(Some(first.id()), len);
            }
            for message in first.messages() {
                let message = message?;
                if message.ends_all() {
                    return Err(message::of_status(message.status()));
                }
                self.ready.push_back(message);
            }
        }
        Ok(self.ready.pop_front().map(|reply| Incoming {
            tag: reply.id(),
            permits: usize::from(reply.credits()),
            body: (!reply.is_interim()).then(|| reply.message().clone()),
        }))
    }
}

struct Writing(OwnedWriteHalf);

impl Sink for Writing {
    async fn send(&mut self, frame: Bytes) -> Result<(), Failure> {
        self.0.write_all(&frame).await.map_err(Failure::of_io)
    }
}

/// A file or folder that the server opened for us; closed when dropped.
pub(super) struct Open {
    id: HandleId,
    pub(super) facts: Facts,
    lender: Weak<Lender>,
    runtime: Handle,
}

impl Open {
    pub(super) fn id(&self) -> &HandleId {
        &self.id
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // Closing costs a credit, which may have to be waited for; where the connection is gone, so is the handle.
        if let Some(lender) = self.lender.upgrade() {
            let id = self.id;
            self.runtime.spawn(async move {
                if let Ok(answer) = lender.ask(Request::close(Some(&id))).await {
                    drop(answer.await);
                }
            });
        }
    }
}

/// What sends requests.
struct Lender {
    mux: Arc<Shared>,
    framer: Arc<Framer>,
    runtime: Handle,
}

impl Lender {
    /// Writes a frame, with the mark of its length.
    fn frame(&self, requests: &[Request], first: u64) -> Bytes {
        let more = if self.mux.spare() < CREDITS { CREDITS_MORE } else { 0 };
        let frame = self.framer.frame(requests, first, more);
        let mut out = BytesMut::with_capacity(4 + frame.len());
        out.put_u32(frame.len() as u32);
        out.put_slice(&frame);
        out.freeze()
    }

    async fn ask(&self, request: Request) -> Result<Answer<Reply>, Failure> {
        let build = |first| self.frame(std::slice::from_ref(&request), first);
        self.mux.send(u32::from(request.charge), build, Reply::new).await
    }
}

/// One session with a share.
pub(super) struct SmbLink {
    /// Serves the connection.
    mux: Mux,
    lender: Arc<Lender>,
    pub(super) max_read: u32,
    pub(super) max_list: u32,
    pub(super) server: [u8; 16],
}

impl Link for SmbLink {
    fn is_dead(&self) -> bool {
        self.mux.is_dead()
    }

    fn load(&self) -> usize {
        self.mux.in_flight()
    }
}

impl SmbLink {
    pub(super) fn begin(session: Session, clock: Arc<dyn Clock>, silence: Duration) -> Self {
        let Session { stream, framer, next, credits, max_read, max_list, server } = session;
        let (longest_read, longest_list) = match &framer.sealer {
            Some(_) => (MAX_SEALED, MAX_SEALED),
            None => (MAX_READ, MAX_LIST),
        };
        let framer = Arc::new(framer);
        let (reading, writing) = stream.into_split();
        let messages = Messages { reading, framer: Arc::clone(&framer), ready: VecDeque::new() };
        let mux = Mux::new(messages, Writing(writing), (credits, next), clock, silence);
        // A request must not need more credits than there may ever be.
        let affordable = u32::try_from(credits / 4).unwrap_or(u32::MAX).max(1).saturating_mul(CREDIT);
        let lender = Lender { mux: Arc::clone(mux.shared()), framer, runtime: Handle::current() };
        Self {
            mux,
            lender: Arc::new(lender),
            max_read: max_read.min(affordable).clamp(1, longest_read),
            max_list: max_list.min(affordable).clamp(1, longest_list),
            server,
        }
    }

    /// Sends a request; its answer is awaited apart from it.
    pub(super) async fn ask(&self, request: Request) -> Result<Answer<Reply>, Failure> {
        self.lender.ask(request).await
    }

    /// Sends requests in one frame: the server runs them one after the other, the later ones on what the first
    /// opened.
    pub(super) async fn ask_related(&self, requests: &[Request]) -> Result<Vec<Answer<Reply>>, Failure> {
        let costs: Vec<u32> = requests.iter().map(|request| u32::from(request.charge)).collect();
        self.mux.send_group(&costs, |first| self.lender.frame(requests, first), Reply::new).await
    }

    /// Opens what is at `name`. It is closed even when nobody waits for the answer.
    pub(super) async fn open(&self, name: &[u8], want: Want) -> Result<Open, Failure> {
        let (lender, runtime) = (Arc::downgrade(&self.lender), self.lender.runtime.clone());
        let opened = move |body| {
            let (id, facts) = message::opened(Reply::new(body)?)?;
            Ok(Open { id, facts, lender, runtime })
        };
        let request = Request::open(name, want);
        let build = |first| self.lender.frame(std::slice::from_ref(&request), first);
        self.mux.send(u32::from(charge(1)), build, opened).await?.await
    }
}
