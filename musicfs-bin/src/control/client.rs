//! The control socket's client, used by the commands.
//!
//! Each call is one connection with a time limit; a daemon that hangs, and a socket that nobody listens on any
//! more, each have their own error.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::api::cache::{CacheJob, CacheOrder, CacheReport};
use super::api::{
    CheckOrder, ExcludeOrder, Exclusions, Explanation, Failure, Health, OriginStatus, ScanJob, ScanOrder,
    Status, Stopping, Trash, TrashOrder,
};
use super::percent;
use crate::search::Answer;

/// Wait for an answer: a little longer than the server gives itself, so that its own message arrives.
const CALL_LIMIT: Duration = Duration::from_secs(10);

/// Most bytes of an address, which is more than any path makes that the system takes.
const LONGEST_ADDRESS: usize = 60_000;

/// Why a daemon could not be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// There is no socket.
    #[error("no daemon listens at {}", socket.display())]
    Absent {
        /// The socket.
        socket: PathBuf,
    },
    /// There is a socket, and nobody listens.
    #[error("the daemon that listened at {} has gone without cleaning up", socket.display())]
    Stale {
        /// The socket.
        socket: PathBuf,
    },
    /// It may not be asked.
    #[error("{} belongs to another user; ask as that user", socket.display())]
    Denied {
        /// The socket.
        socket: PathBuf,
    },
    /// It accepted and did not answer.
    #[error("the daemon at {} did not answer within {} s", socket.display(), CALL_LIMIT.as_secs())]
    TimedOut {
        /// The socket.
        socket: PathBuf,
    },
    /// It went away in the middle.
    #[error("the daemon at {} ended without a word", socket.display())]
    Ended {
        /// The socket.
        socket: PathBuf,
    },
    /// What it was asked makes no sense to it, and it said why.
    #[error("{0}")]
    Wrong(String),
    /// It refused, and said why.
    #[error("{0}")]
    Refused(String),
    /// There is nothing of that name.
    #[error("{0}")]
    NotFound(String),
    /// It cannot be asked that much at once.
    #[error(
        "what is asked about is too long: it makes {bytes} bytes of an address, and at most {LONGEST_ADDRESS} are sent"
    )]
    TooLong {
        /// What it makes.
        bytes: usize,
    },
    /// What came is no answer.
    #[error("the daemon at {} gave no proper answer", socket.display())]
    Broken {
        /// The socket.
        socket: PathBuf,
        /// What was wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl ClientError {
    /// Tells whether no daemon is there to be asked.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self, Self::Absent { .. } | Self::Stale { .. })
    }
}

/// Asks one daemon.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    socket: PathBuf,
    limit: Duration,
}

impl Client {
    /// Makes a client of the daemon that listens at `socket`.
    pub(crate) fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into(), limit: CALL_LIMIT }
    }

    /// Waits for answers no longer than `limit`.
    #[cfg(test)]
    pub(crate) fn with_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Returns the socket.
    #[cfg(test)]
    pub(crate) fn socket(&self) -> &std::path::Path {
        &self.socket
    }

    /// Asks how the mount is.
    pub(crate) async fn status(&self, all_problems: bool) -> Result<Status, ClientError> {
        self.get(if all_problems { "/v1/status?problems=all" } else { "/v1/status" }).await
    }

    /// Asks whether the mount works.
    pub(crate) async fn health(&self) -> Result<Health, ClientError> {
        self.get("/v1/health").await
    }

    /// Orders a scan.
    pub(crate) async fn scan(&self, order: &ScanOrder) -> Result<ScanJob, ClientError> {
        self.call(Method::POST, "/v1/scan", Some(order)).await
    }

    /// Lists missing files, or has something done with them.
    pub(crate) async fn trash(&self, order: &TrashOrder) -> Result<Trash, ClientError> {
        self.call(Method::POST, "/v1/trash", Some(order)).await
    }

    /// Has files left out of the tree or shown again, or lists them.
    pub(crate) async fn exclude(&self, order: &ExcludeOrder) -> Result<Exclusions, ClientError> {
        self.call(Method::POST, "/v1/exclude", Some(order)).await
    }

    /// Asks how far an order is.
    pub(crate) async fn job(&self, job: u64) -> Result<ScanJob, ClientError> {
        self.get(&format!("/v1/scan/progress?job={job}")).await
    }

    /// Cancels an order to scan.
    pub(crate) async fn cancel_scan(&self, job: u64) -> Result<ScanJob, ClientError> {
        self.call(Method::DELETE, &format!("/v1/scan?job={job}"), None::<&()>).await
    }

    /// Has origins asked how they are.
    pub(crate) async fn check_origins(&self, order: &CheckOrder) -> Result<Vec<OriginStatus>, ClientError> {
        self.call(Method::POST, "/v1/origins/check", Some(order)).await
    }

    /// Asks why something is as it is.
    pub(crate) async fn explain(&self, path: &[u8]) -> Result<Explanation, ClientError> {
        self.get(&format!("/v1/explain?path={}", percent::encode(path))).await
    }

    /// Asks for tracks.
    pub(crate) async fn search(&self, query: &str, limit: usize) -> Result<Answer, ClientError> {
        self.get(&format!("/v1/search?limit={limit}&q={}", percent::encode(query.as_bytes()))).await
    }

    /// Asks how the cache is.
    pub(crate) async fn cache_report(&self) -> Result<CacheReport, ClientError> {
        self.get("/v1/cache").await
    }

    /// Orders work on the cache.
    pub(crate) async fn cache_order(&self, order: &CacheOrder) -> Result<CacheJob, ClientError> {
        self.call(Method::POST, "/v1/cache", Some(order)).await
    }

    /// Asks how far work on the cache is.
    pub(crate) async fn cache_job(&self, job: u64) -> Result<CacheJob, ClientError> {
        self.get(&format!("/v1/cache/progress?job={job}")).await
    }

    /// Asks the daemon to unmount and end.
    pub(crate) async fn stop(&self) -> Result<Stopping, ClientError> {
        self.call(Method::POST, "/v1/stop", None::<&()>).await
    }

    /// Connects to the daemon.
    pub(super) async fn connect(&self) -> Result<UnixStream, ClientError> {
        let socket = || self.socket.clone();
        UnixStream::connect(&self.socket).await.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                ClientError::Absent { socket: socket() }
            }
            io::ErrorKind::ConnectionRefused => ClientError::Stale { socket: socket() },
            io::ErrorKind::PermissionDenied => ClientError::Denied { socket: socket() },
            _ => self.broken(error),
        })
    }

    /// Returns the socket.
    pub(super) fn place(&self) -> PathBuf {
        self.socket.clone()
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.call(Method::GET, path, None::<&()>).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, ClientError> {
        match tokio::time::timeout(self.limit, self.exchange(method, path, body)).await {
            Ok(result) => result,
            Err(_) => Err(ClientError::TimedOut { socket: self.socket.clone() }),
        }
    }

    async fn exchange<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, ClientError> {
        checked(path)?;
        let stream = self.connect().await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| self.broken(e))?;
        let body = body.map(serde_json::to_vec).transpose().map_err(|e| self.broken(e))?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(hyper::header::HOST, "musicfs")
            .header(hyper::header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body.unwrap_or_default())))
            .map_err(|e| self.broken(e))?;
        let asked = async {
            let response = sender.send_request(request).await?;
            let status = response.status();
            let bytes = response.into_body().collect().await?.to_bytes();
            Ok::<_, hyper::Error>((status, bytes))
        };
        // The connection makes no progress unless it is driven beside the request.
        let (status, bytes) = tokio::select! {
            biased;
            answer = asked => answer.map_err(|e| self.broken(e))?,
            ended = connection => {
                let error = ended.err().map_or_else(|| "the connection was closed".into(), Into::into);
                return Err(ClientError::Broken { socket: self.socket.clone(), source: error });
            }
        };
        if status.is_success() {
            return serde_json::from_slice(&bytes).map_err(|e| self.broken(e));
        }
        let failure: Failure = serde_json::from_slice(&bytes).map_err(|e| self.broken(e))?;
        Err(match status {
            hyper::StatusCode::BAD_REQUEST => ClientError::Wrong(failure.error),
            hyper::StatusCode::NOT_FOUND => ClientError::NotFound(failure.error),
            _ => ClientError::Refused(failure.error),
        })
    }

    pub(super) fn broken(&self, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ClientError {
        ClientError::Broken { socket: self.socket.clone(), source: error.into() }
    }
}

/// Refuses an address that no server takes.
pub(super) fn checked(address: &str) -> Result<(), ClientError> {
    match address.len() {
        bytes if bytes > LONGEST_ADDRESS => Err(ClientError::TooLong { bytes }),
        _ => Ok(()),
    }
}
