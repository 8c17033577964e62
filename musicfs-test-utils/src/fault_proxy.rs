//! A TCP proxy that misbehaves to order, in this process, with Toxiproxy's vocabulary.
//!
//! A [`FaultProxy`] listens on a free port of the loopback and passes each connection on to a server. What it does
//! to them is a list of [`Toxic`]s per direction that can be changed at any time and acts on live connections.
//! Nothing is left to chance: the same toxics do the same things.
//!
//! * Latency is a delay line and not a pause per piece: it costs no throughput (up to [`IN_FLIGHT`] bytes).
//! * A reset is a real RST: what was on its way is lost, as with a machine that dies.
//! * Counters tell how many connections and bytes there were, so that a test can prove what a client asked for.
//!
//! The proxy ends, and resets what is open, when it is dropped.

mod pump;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use pump::{Reset, pump};

/// Bytes that may be on their way in one direction of a connection: what a delay line holds.
pub const IN_FLIGHT: usize = 16 << 20;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server: requests.
    Upstream,
    /// From the server to the client: answers.
    Downstream,
}

/// Something that goes wrong with a connection. The first seven are those of Toxiproxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toxic {
    /// Delays all bytes by so much.
    Latency(Duration),
    /// Lets no more than so many bytes a second through.
    Bandwidth(u64),
    /// Delays the end of the stream.
    SlowClose(Duration),
    /// Lets nothing through; ends the connection after this time, with [`Duration::MAX`] never. Taken away, what
    /// was held back goes on.
    Timeout(Duration),
    /// Resets the connection when it is so old.
    ResetPeer(Duration),
    /// Cuts the stream into pieces of so many bytes, with a pause between them.
    Slicer {
        /// Bytes of a piece.
        size: usize,
        /// Pause after each.
        delay: Duration,
    },
    /// Ends the connection, orderly, once so many bytes have passed.
    LimitData(u64),
    /// Resets the connection once so many bytes have passed.
    ResetAfter(u64),
    /// Lets nothing more through once so many bytes have passed, and never ends the connection.
    StallAfter(u64),
    /// Passes nothing on for so long after a connection is made: the round trips that making one costs on a long
    /// line, of which a proxy nearby relieves the client.
    Handshake(Duration),
}

/// What is in force.
#[derive(Clone, Debug, Default)]
struct State {
    down: bool,
    /// Raised to reset all that is open.
    cut: u64,
    toxics: Vec<(Direction, Toxic)>,
}

impl State {
    fn of(&self, direction: Direction) -> impl Iterator<Item = Toxic> + '_ {
        self.toxics.iter().filter(move |(d, _)| *d == direction).map(|(_, toxic)| *toxic)
    }
}

#[derive(Debug, Default)]
struct Counters {
    accepted: AtomicU64,
    open: AtomicU64,
    up: AtomicU64,
    down: AtomicU64,
    turns: AtomicU64,
    answered: AtomicBool,
}

impl Counters {
    /// Counts bytes that were handed on.
    fn passed(&self, direction: Direction, bytes: usize) {
        let counter = match direction {
            Direction::Upstream => &self.up,
            Direction::Downstream => &self.down,
        };
        counter.fetch_add(bytes as u64, Ordering::SeqCst);
        let was_answer = self.answered.swap(direction == Direction::Downstream, Ordering::SeqCst);
        if was_answer && direction == Direction::Upstream {
            self.turns.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// What has passed through a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// Connections that were accepted, those that were reset at once included.
    pub accepted: u64,
    /// Connections that are open.
    pub open: u64,
    /// Bytes handed to the server.
    pub upstream: u64,
    /// Bytes handed to clients.
    pub downstream: u64,
    /// How often a client spoke after a server had: the round trips of a client that does one thing at a time,
    /// where answers are late enough ([`Toxic::Latency`]) for questions asked together to precede them all.
    pub turns: u64,
}

/// A proxy before one server. Starts without toxics.
#[derive(Debug)]
pub struct FaultProxy {
    addr: SocketAddr,
    state: watch::Sender<State>,
    counters: Arc<Counters>,
    task: JoinHandle<()>,
}

impl FaultProxy {
    /// Starts a proxy before the server at `upstream`, which need not be there yet.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(upstream: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let addr = listener.local_addr()?;
        let state = watch::Sender::new(State::default());
        let counters = Arc::<Counters>::default();
        let task = tokio::spawn(accept(listener, upstream, state.subscribe(), Arc::clone(&counters)));
        Ok(Self { addr, state, counters, task })
    }

    /// Returns where clients connect to.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Puts `toxics` in force, in place of all others, for answers.
    pub fn set(&self, toxics: impl IntoIterator<Item = Toxic>) {
        let toxics = toxics.into_iter().map(|toxic| (Direction::Downstream, toxic)).collect();
        self.state.send_modify(|state| state.toxics = toxics);
    }

    /// Adds `toxic` to those in force.
    pub fn add(&self, direction: Direction, toxic: Toxic) {
        self.state.send_modify(|state| state.toxics.push((direction, toxic)));
    }

    /// Takes all toxics away, and comes up again after [`FaultProxy::down`].
    pub fn heal(&self) {
        self.state.send_modify(|state| {
            state.toxics.clear();
            state.down = false;
        });
    }

    /// Resets all connections, and each that is made, until [`FaultProxy::heal`].
    pub fn down(&self) {
        self.state.send_modify(|state| {
            state.down = true;
            state.cut += 1;
        });
    }

    /// Resets all connections that are open now.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.cut += 1);
    }

    /// Returns what has passed so far.
    pub fn traffic(&self) -> Traffic {
        let get = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
        Traffic {
            accepted: get(&self.counters.accepted),
            open: get(&self.counters.open),
            upstream: get(&self.counters.up),
            downstream: get(&self.counters.down),
            turns: get(&self.counters.turns),
        }
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.task.abort();
        self.cut();
    }
}

async fn accept(
    listener: TcpListener,
    upstream: SocketAddr,
    state: watch::Receiver<State>,
    counters: Arc<Counters>,
) {
    // A connection that is lost before it is accepted is no reason to stop.
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        counters.accepted.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(connection(client, upstream, state.clone(), Arc::clone(&counters)));
    }
}

/// Counts an open connection until it is dropped.
struct Open(Arc<Counters>);

impl Open {
    fn new(counters: &Arc<Counters>) -> Self {
        counters.open.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(counters))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn connection(
    client: TcpStream,
    upstream: SocketAddr,
    mut state: watch::Receiver<State>,
    counters: Arc<Counters>,
) {
    let _open = Open::new(&counters);
    let born = tokio::time::Instant::now();
    let (down, cut, handshake) = {
        let state = state.borrow_and_update();
        let handshake = state.toxics.iter().find_map(|(_, toxic)| match toxic {
            Toxic::Handshake(delay) => Some(*delay),
            _ => None,
        });
        (state.down, state.cut, handshake)
    };
    if down {
        let _ = client.set_zero_linger();
        return;
    }
    if let Some(delay) = handshake {
        tokio::time::sleep(delay).await;
    }
    let Ok(server) = TcpStream::connect(upstream).await else {
        let _ = client.set_zero_linger();
        return;
    };
    // Small answers are not to wait for each other; without it they merely come later.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));

    let (mut client_rx, mut client_tx) = client.into_split();
    let (mut server_rx, mut server_tx) = server.into_split();
    let ended = {
        let upward = pump(&mut client_rx, &mut server_tx, Direction::Upstream, &state, &counters, born);
        let downward = pump(&mut server_rx, &mut client_tx, Direction::Downstream, &state, &counters, born);
        let mut cuts = state.clone();
        let cut_off = async move {
            // An error is the proxy itself gone.
            while cuts.changed().await.is_ok() {
                if cuts.borrow_and_update().cut > cut {
                    return;
                }
            }
        };
        // One direction that is to be reset ends both.
        tokio::select! {
            biased;
            () = cut_off => Err(Reset),
            ended = async { tokio::try_join!(upward, downward) } => ended.map(|_| ()),
        }
    };
    if ended.is_err() {
        let _ = (client_tx.as_ref().set_zero_linger(), server_tx.as_ref().set_zero_linger());
        // Else a FIN goes out before the RST, and the peer takes it for an orderly end.
        client_tx.forget();
        server_tx.forget();
    }
}
