//! Remote procedure calls (RFC 5531) over TCP, many at once.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use musicfs_core::{Clock, OriginErrorKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::xdr::{Reader, Writer};
use crate::wire::{Answer, Failure, Frames, Incoming, Link, Mux, Shared, Sink};

/// Longest answer that is taken: the longest read that is asked for, with room around it.
const MAX_RECORD: usize = (1 << 20) + (64 << 10);
/// Calls in flight on a connection.
const IN_FLIGHT: usize = 128;
/// The flavour of credentials that names a user by number.
const AUTH_SYS: u32 = 1;
/// Marks the last fragment of a record; all of ours have one.
const LAST: u32 = 0x8000_0000;

/// A service on a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) number: u32,
    pub(super) version: u32,
}

/// Who asks.
#[derive(Clone, Debug)]
pub(super) struct Credentials {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) gids: Vec<u32>,
}

impl Credentials {
    fn encode(&self) -> Bytes {
        // No more groups fit into the protocol.
        let gids = &self.gids[..self.gids.len().min(16)];
        let mut writer = Writer::default().u32(0).opaque(b"musicfs").u32(self.uid).u32(self.gid);
        writer = writer.u32(gids.len() as u32);
        for gid in gids {
            writer = writer.u32(*gid);
        }
        writer.done()
    }
}

/// A connection to a service.
pub(super) struct RpcLink {
    mux: Mux,
    program: Program,
    credentials: Bytes,
}

impl Link for RpcLink {
    fn is_dead(&self) -> bool {
        self.mux.is_dead()
    }

    fn load(&self) -> usize {
        self.mux.in_flight()
    }
}

impl RpcLink {
    pub(super) fn new(
        stream: TcpStream,
        program: Program,
        credentials: &Credentials,
        clock: Arc<dyn Clock>,
        silence: Duration,
    ) -> Self {
        // A server that remembers calls by number must not take ours for those of a connection before. The upper
        // half is kept free, so that a connection never runs out of numbers.
        let first = (clock.unix().0 as u64 >> 10) & 0x7fff_ffff;
        let (reading, writing) = stream.into_split();
        let mux = Mux::new(Records(reading), Writing(writing), (IN_FLIGHT, first), clock, silence);
        Self { mux, program, credentials: credentials.encode() }
    }

    /// Sends a call; its results are awaited apart from it.
    pub(super) async fn send(&self, procedure: u32, arguments: Bytes) -> Result<Answer<Reader>, Failure> {
        let build = |tag| self.frame(tag as u32, procedure, &arguments);
        self.mux.send(1, build, accepted).await
    }

    /// Calls a procedure and waits for its results.
    pub(super) async fn call(&self, procedure: u32, arguments: Bytes) -> Result<Reader, Failure> {
        self.send(procedure, arguments).await?.await
    }

    /// Ends the connection for everybody.
    pub(super) fn give_up(&self, why: Failure) {
        self.mux.die(why);
    }

    fn frame(&self, xid: u32, procedure: u32, arguments: &Bytes) -> Bytes {
        let call = Writer::default()
            .u32(xid)
            .u32(0)
            .u32(2)
            .u32(self.program.number)
            .u32(self.program.version)
            .u32(procedure)
            .u32(AUTH_SYS)
            .opaque(&self.credentials)
            .u32(0)
            .u32(0)
            .raw(arguments)
            .done();
        let mut frame = BytesMut::with_capacity(4 + call.len());
        frame.put_u32(call.len() as u32 | LAST);
        frame.put_slice(&call);
        frame.freeze()
    }
}

/// Takes the results out of a reply.
fn accepted(record: Bytes) -> Result<Reader, Failure> {
    let mut reader = Reader::new(record);
    let (_, kind, denied) = (reader.u32()?, reader.u32()?, reader.u32()?);
    if kind != 1 {
        return Err(Failure::garbled("the server calls us where it should answer"));
    }
    if denied != 0 {
        let (reason, detail) = (reader.u32()?, reader.u32()?);
        return Err(if reason == 1 {
            let why = format!("the server refuses our credentials (auth_stat {detail})");
            Failure::new(OriginErrorKind::Denied, why)
        } else {
            Failure::new(OriginErrorKind::Unsupported, "the server speaks another version of RPC")
        });
    }
    reader.u32()?;
    reader.opaque()?;
    match reader.u32()? {
        0 => Ok(reader),
        status @ 1..=3 => {
            let why = format!("the server does not offer that service (accept_stat {status})");
            Err(Failure::new(OriginErrorKind::Unsupported, why))
        }
        status => {
            let why = format!("the server could not make sense of a call (accept_stat {status})");
            Err(Failure::new(OriginErrorKind::Unavailable, why))
        }
    }
}

/// Cuts the stream into records.
struct Records(OwnedReadHalf);

impl Records {
    /// Fills `bytes`, which are part of the answer to `tag`; `false` when the stream ended before them.
    async fn fill(&mut self, bytes: &mut [u8], tag: Option<u64>, line: &Shared) -> Result<bool, Failure> {
        let mut filled = 0;
        while filled < bytes.len() {
            let got = self.0.read(&mut bytes[filled..]).await.map_err(Failure::of_io)?;
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

impl Frames for Records {
    async fn next(&mut self, line: &Shared) -> Result<Option<Incoming>, Failure> {
        let mut record = Vec::new();
        let mut tag = None;
        loop {
            let mut head = [0; 4];
            if !self.fill(&mut head, tag, line).await? {
                return Ok(None);
            }
            let head = u32::from_be_bytes(head);
            let len = (head & !LAST) as usize;
            let at = record.len();
            if at + len > MAX_RECORD {
                return Err(Failure::garbled(format!("the server sent a record of {} bytes", at + len)));
            }
            record.resize(at + len, 0);
            // The call's number comes first, in all that a server may be expected to send.
            let named = if tag.is_none() { len.min(4) } else { 0 };
            if named > 0 && !self.fill(&mut record[at..at + named], tag, line).await? {
                return Ok(None);
            }
            tag = tag.or_else(|| record.first_chunk().map(|xid| u64::from(u32::from_be_bytes(*xid))));
            if len > named && !self.fill(&mut record[at + named..], tag, line).await? {
                return Ok(None);
            }
            if head & LAST != 0 {
                break;
            }
        }
        let body = Bytes::from(record);
        let xid = Reader::new(body.clone()).u32()?;
        Ok(Some(Incoming { tag: u64::from(xid), body: Some(body), permits: 1 }))
    }
}

struct Writing(OwnedWriteHalf);

impl Sink for Writing {
    async fn send(&mut self, frame: Bytes) -> Result<(), Failure> {
        self.0.write_all(&frame).await.map_err(Failure::of_io)
    }
}
