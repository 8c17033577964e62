//! One direction of one connection.

use std::io;
use std::pin::pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::{Counters, Direction, IN_FLIGHT, State, Toxic};

/// Most that is read at once.
const PIECE: usize = 64 << 10;
/// A rate is kept by pieces of this part of a second.
const TICKS_PER_SECOND: u64 = 50;

/// The connection is to be reset.
#[derive(Debug)]
pub(super) struct Reset;

impl From<io::Error> for Reset {
    fn from(_: io::Error) -> Self {
        // The peer is gone in disorder, and so are we.
        Self
    }
}

/// Moves bytes from `rx` to `tx` as the toxics in `state` want, to an orderly end or a reset.
pub(super) async fn pump(
    rx: &mut OwnedReadHalf,
    tx: &mut OwnedWriteHalf,
    direction: Direction,
    state: &watch::Receiver<State>,
    counters: &Counters,
    born: Instant,
) -> Result<(), Reset> {
    let (line, mut arriving) = mpsc::channel::<(Instant, Bytes)>(IN_FLIGHT / PIECE);
    let watching = state.clone();
    let reading = async move {
        loop {
            let mut piece = BytesMut::with_capacity(PIECE);
            if rx.read_buf(&mut piece).await? == 0 {
                return Ok(());
            }
            let latency: Duration = of(&watching, direction, |toxic| match toxic {
                Toxic::Latency(delay) => Some(delay),
                _ => None,
            })
            .into_iter()
            .sum();
            if line.send((Instant::now() + latency, piece.freeze())).await.is_err() {
                // The writer has ended in order; what still comes is of no use.
                return Ok(());
            }
        }
    };
    let mut writer = Writer { tx, direction, state: state.clone(), counters, moved: 0 };
    let writing = async move {
        while let Some((due, piece)) = arriving.recv().await {
            sleep_until(due).await;
            if writer.pass(piece).await?.is_break() {
                break;
            }
        }
        writer.end().await
    };
    let aged = age_out(direction, state.clone(), born);
    let moving = async { tokio::try_join!(reading, writing).map(|_| ()) };
    let (mut moving, mut aged) = (pin!(moving), pin!(aged));
    tokio::select! {
        biased;
        () = &mut aged => Err(Reset),
        moved = &mut moving => moved,
    }
}

fn of<T>(
    state: &watch::Receiver<State>,
    direction: Direction,
    pick: impl FnMut(Toxic) -> Option<T>,
) -> Vec<T> {
    state.borrow().of(direction).filter_map(pick).collect()
}

/// Returns when the connection is as old as it may get.
async fn age_out(direction: Direction, mut state: watch::Receiver<State>, born: Instant) {
    loop {
        state.mark_unchanged();
        let ages = of(&state, direction, |toxic| match toxic {
            Toxic::ResetPeer(age) => Some(age),
            _ => None,
        });
        let Some(age) = ages.into_iter().min() else {
            if state.changed().await.is_err() {
                return;
            }
            continue;
        };
        tokio::select! {
            () = sleep_until(born + age) => return,
            changed = state.changed() => if changed.is_err() { return },
        }
    }
}

struct Writer<'a> {
    tx: &'a mut OwnedWriteHalf,
    direction: Direction,
    state: watch::Receiver<State>,
    counters: &'a Counters,
    moved: u64,
}

/// What to do with the next bytes.
struct Next {
    len: usize,
    pause: Duration,
    after: After,
}

#[derive(Clone, Copy, PartialEq)]
enum After {
    GoOn,
    End,
    Reset,
}

impl Writer<'_> {
    /// Decides on what is in front, without waiting. `None` to wait for better times, up to the given moment.
    fn decide(&self, len: usize) -> Result<Next, Duration> {
        let mut next = Next { len, pause: Duration::ZERO, after: After::GoOn };
        let mut wait = None;
        for toxic in self.state.borrow().of(self.direction) {
            let left = |limit: u64| usize::try_from(limit.saturating_sub(self.moved)).unwrap_or(usize::MAX);
            match toxic {
                Toxic::Latency(_) | Toxic::SlowClose(_) | Toxic::ResetPeer(_) | Toxic::Handshake(_) => {}
                Toxic::Bandwidth(rate) => {
                    let piece = usize::try_from((rate / TICKS_PER_SECOND).max(1)).unwrap_or(usize::MAX);
                    next.len = next.len.min(piece);
                    let nanos = next.len as u128 * 1_000_000_000 / u128::from(rate.max(1));
                    next.pause =
                        next.pause.max(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)));
                }
                Toxic::Slicer { size, delay } => {
                    next.len = next.len.min(size.max(1));
                    next.pause = next.pause.max(delay);
                }
                Toxic::Timeout(time) => wait = Some(wait.map_or(time, |w: Duration| w.min(time))),
                Toxic::StallAfter(limit) => match left(limit) {
                    0 => wait = wait.or(Some(Duration::MAX)),
                    left => next.len = next.len.min(left),
                },
                Toxic::LimitData(limit) | Toxic::ResetAfter(limit) => {
                    let left = left(limit);
                    if next.len >= left {
                        next.len = left;
                        next.after = match toxic {
                            Toxic::ResetAfter(_) => After::Reset,
                            _ if next.after == After::Reset => After::Reset,
                            _ => After::End,
                        };
                    }
                }
            }
        }
        wait.map_or(Ok(next), Err)
    }

    async fn pass(&mut self, mut piece: Bytes) -> Result<std::ops::ControlFlow<()>, Reset> {
        while !piece.is_empty() {
            self.state.mark_unchanged();
            let next = match self.decide(piece.len()) {
                Ok(next) => next,
                Err(wait) => {
                    if self.held(wait).await.is_break() {
                        return Ok(std::ops::ControlFlow::Break(()));
                    }
                    continue;
                }
            };
            let part = piece.split_to(next.len);
            self.tx.write_all(&part).await?;
            self.moved += part.len() as u64;
            self.counters.passed(self.direction, part.len());
            match next.after {
                After::GoOn => {}
                After::End => return Ok(std::ops::ControlFlow::Break(())),
                After::Reset => return Err(Reset),
            }
            if !next.pause.is_zero() {
                sleep(next.pause).await;
            }
        }
        Ok(std::ops::ControlFlow::Continue(()))
    }

    /// Waits for other toxics, or for the end that `limit` brings.
    async fn held(&mut self, limit: Duration) -> std::ops::ControlFlow<()> {
        let end = async {
            match Instant::now().checked_add(limit) {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = self.state.changed() => match changed {
                Ok(()) => std::ops::ControlFlow::Continue(()),
                Err(_) => std::ops::ControlFlow::Break(()),
            },
            () = end => std::ops::ControlFlow::Break(()),
        }
    }

    async fn end(self) -> Result<(), Reset> {
        let slow = of(&self.state, self.direction, |toxic| match toxic {
            Toxic::SlowClose(delay) => Some(delay),
            _ => None,
        });
        sleep(slow.into_iter().sum()).await;
        Ok(self.tx.shutdown().await?)
    }
}
