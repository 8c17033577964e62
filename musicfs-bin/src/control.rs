//! The control socket's server: HTTP and JSON on a Unix socket that only the user can open.
//!
//! The server asks the daemon, never the mount, so that it answers while the mount hangs. Every request has a
//! time limit. The directory of the socket is for its owner alone (0700) and so is the socket (0600); there is no
//! other authentication, and nothing listens on a network.

pub(crate) mod api;
mod cache;
pub(crate) mod client;
pub(crate) mod events;
pub(crate) mod follow;
pub(crate) mod percent;

use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::de::DeserializeOwned;
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

use crate::refusal::Refusal;
use crate::search::Answer;
use api::cache::{CacheAnswer, CacheRequest};
use api::{
    CheckOrder, ExcludeOrder, Exclusions, Explanation, Failure, Health, OriginStatus, ScanJob, ScanOrder,
    Status, Stopping, Trash, TrashOrder,
};

/// Longest path that a socket's address holds (`sun_path` without its final NUL).
const SOCKET_PATH_MAX: usize = 107;
/// Longest time that an answer may take; the client waits a little longer.
const ANSWER_LIMIT: Duration = Duration::from_secs(8);

/// What can be asked of a daemon.
#[async_trait]
pub(crate) trait Controlled: Send + Sync + 'static {
    /// Returns how it is; `all_problems` names every file that could not be parsed.
    async fn status(&self, all_problems: bool) -> Result<Status, String>;
    /// Returns whether it works.
    async fn health(&self) -> Health;
    /// Orders a scan.
    async fn scan(&self, order: ScanOrder) -> Result<ScanJob, Refusal>;
    /// Asks origins how they are, and returns what they said.
    async fn check_origins(&self, order: CheckOrder) -> Result<Vec<OriginStatus>, Refusal>;
    /// Returns how far an order is; `None` when there is no such order.
    async fn job(&self, job: u64) -> Option<ScanJob>;
    /// Cancels an order, and returns how far it is; `None` when there is no such order.
    async fn cancel_scan(&self, job: u64) -> Option<ScanJob>;
    /// Lists missing files, or does something with them.
    async fn trash(&self, order: TrashOrder) -> Result<Trash, Refusal>;
    /// Leaves files out of the tree, shows them again, or lists them.
    async fn exclude(&self, order: ExcludeOrder) -> Result<Exclusions, Refusal>;
    /// Explains what is at a path; `None` when nothing is there.
    async fn explain(&self, path: &[u8]) -> Result<Option<Explanation>, String>;
    /// Finds at most `limit` tracks.
    async fn search(&self, query: String, limit: usize) -> Result<Answer, Refusal>;
    /// Listens to what happens from now on.
    fn events(&self) -> musicfs_core::EventStream;
    /// Says how the cache is, or works on it.
    async fn cache(&self, request: CacheRequest) -> Result<CacheAnswer, Refusal>;
    /// Begins to stop.
    fn stop(&self) -> Stopping;
}

/// Makes a directory of the user's own: 0700 and owned by the user, whoever could have made it before.
pub(crate) fn private_dir(dir: &Path) -> io::Result<()> {
    private_dir_if_new(dir)?;
    let meta = std::fs::symlink_metadata(dir)?;
    let uid = nix::unistd::geteuid().as_raw();
    if !meta.is_dir() || meta.uid() != uid {
        let message = format!("{} is not a directory of user {uid}'s; move it away", dir.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
    }
    if meta.mode() & 0o777 != 0o700 {
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// Makes a directory for the user alone; one that exists keeps its rights.
pub(crate) fn private_dir_if_new(dir: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| match error.kind() {
        kind @ (io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory) => {
            io::Error::new(kind, "it is, or is in, something that is no directory")
        }
        _ => error,
    })
}

/// Removes a mount's runtime directory with what this program puts there, and nothing else.
pub(crate) fn remove_mount_dir(dir: &Path) {
    // What is not there need not be removed, and a directory with something else in it stays.
    let _ = std::fs::remove_file(dir.join("control.sock"));
    let _ = std::fs::remove_dir(dir);
}

/// Binds the control socket, in place of one that a killed daemon left. The caller holds the cache directory's
/// lock, so that no other daemon of this mountpoint can be listening.
pub(crate) fn bind(socket: &Path) -> io::Result<UnixListener> {
    if socket.as_os_str().len() > SOCKET_PATH_MAX {
        let message = format!(
            "the path of the control socket is longer than the {SOCKET_PATH_MAX} bytes that the system allows; \
             set a shorter runtime_dir"
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(socket)?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves until `closing` is cancelled and the answers under way are given, or until dropped.
pub(crate) async fn serve(
    listener: UnixListener,
    controlled: Arc<dyn Controlled>,
    closing: CancellationToken,
) {
    let routes = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/health", get(health))
        .route("/v1/scan", post(scan).delete(cancel_scan))
        .route("/v1/scan/progress", get(progress))
        .route("/v1/origins/check", post(check_origins))
        .route("/v1/trash", post(trash))
        .route("/v1/exclude", post(exclude))
        .route("/v1/explain", get(explain))
        .route("/v1/search", get(search))
        .route("/v1/events", get(events::stream))
        .route("/v1/cache", get(cache::report).post(cache::order))
        .route("/v1/cache/progress", get(cache::progress))
        .route("/v1/stop", post(stop))
        .fallback(unknown)
        .with_state(controlled);
    let served = axum::serve(listener, routes).with_graceful_shutdown(closing.cancelled_owned());
    if let Err(error) = served.await {
        tracing::error!(%error, "the control socket failed");
    }
}

type Daemon = State<Arc<dyn Controlled>>;

async fn status(State(daemon): Daemon, RawQuery(query): RawQuery) -> Response {
    let all = query.is_some_and(|query| percent::parameter(&query, "problems").is_some_and(|v| v == b"all"));
    answer(async move { daemon.status(all).await.map_err(internal) }).await
}

async fn health(State(daemon): Daemon) -> Response {
    answer(async move { Ok(daemon.health().await) }).await
}

async fn scan(State(daemon): Daemon, body: Bytes) -> Response {
    let order = order_of(&body, "a scan order");
    answer(async move { daemon.scan(order?).await.map_err(refused) }).await
}

async fn check_origins(State(daemon): Daemon, body: Bytes) -> Response {
    let order = order_of(&body, "an order to check");
    answer(async move { daemon.check_origins(order?).await.map_err(refused) }).await
}

async fn trash(State(daemon): Daemon, body: Bytes) -> Response {
    let order = order_of(&body, "an order about the trash");
    answer(async move { daemon.trash(order?).await.map_err(refused) }).await
}

async fn exclude(State(daemon): Daemon, body: Bytes) -> Response {
    let order = order_of(&body, "an order to exclude");
    answer(async move { daemon.exclude(order?).await.map_err(refused) }).await
}

/// Reads an order; without one the usual is meant.
fn order_of<T: DeserializeOwned + Default>(body: &[u8], what: &str) -> Result<T, Denied> {
    if body.is_empty() { Ok(T::default()) } else { given_order(body, what) }
}

/// Reads an order that has no usual form.
fn given_order<T: DeserializeOwned>(body: &[u8], what: &str) -> Result<T, Denied> {
    serde_json::from_slice(body).map_err(|error| bad_request(format!("not {what}: {error}")))
}

async fn progress(State(daemon): Daemon, RawQuery(query): RawQuery) -> Response {
    answer(async move {
        let job = job_of(query.as_deref())?;
        daemon.job(job).await.ok_or_else(|| no_scan_order(job))
    })
    .await
}

async fn cancel_scan(State(daemon): Daemon, RawQuery(query): RawQuery) -> Response {
    answer(async move {
        let job = job_of(query.as_deref())?;
        daemon.cancel_scan(job).await.ok_or_else(|| no_scan_order(job))
    })
    .await
}

fn job_of(query: Option<&str>) -> Result<u64, Denied> {
    let job = query.and_then(|query| percent::parameter(query, "job"));
    let job = job.and_then(|job| String::from_utf8(job).ok()?.parse().ok());
    job.ok_or_else(|| bad_request("job=NUMBER is missing".into()))
}

fn no_scan_order(job: u64) -> Denied {
    not_found(format!("there is no scan order {job}"))
}

async fn explain(State(daemon): Daemon, RawQuery(query): RawQuery) -> Response {
    let path = query.and_then(|query| percent::parameter(&query, "path"));
    answer(async move {
        let path = path.ok_or_else(|| bad_request("path=… is missing".into()))?;
        let found = daemon.explain(&path).await.map_err(internal)?;
        found.ok_or_else(|| not_found(format!("nothing is at {}", String::from_utf8_lossy(&path))))
    })
    .await
}

async fn search(State(daemon): Daemon, RawQuery(query): RawQuery) -> Response {
    let parameter = |name| query.as_deref().and_then(|query| percent::parameter(query, name));
    let text = parameter("q").map(|text| String::from_utf8_lossy(&text).into_owned());
    let limit = parameter("limit").map(|limit| String::from_utf8_lossy(&limit).parse());
    answer(async move {
        let text = text.ok_or_else(|| bad_request("q=… is missing".into()))?;
        let limit = limit.transpose().map_err(|error| bad_request(format!("limit: {error}")))?;
        daemon.search(text, limit.unwrap_or(crate::search::LIMIT.into())).await.map_err(refused)
    })
    .await
}

async fn stop(State(daemon): Daemon) -> Response {
    answer(async move { Ok(daemon.stop()) }).await
}

async fn unknown() -> Response {
    failure(not_found("there is no such request".into()))
}

type Denied = (StatusCode, String);

fn refused(why: Refusal) -> Denied {
    match why {
        Refusal::Wrong(error) => bad_request(error),
        Refusal::Failed(error) => internal(error),
    }
}

fn internal(error: String) -> Denied {
    (StatusCode::INTERNAL_SERVER_ERROR, error)
}

fn bad_request(error: String) -> Denied {
    (StatusCode::BAD_REQUEST, error)
}

fn not_found(error: String) -> Denied {
    (StatusCode::NOT_FOUND, error)
}

fn failure((code, error): Denied) -> Response {
    (code, Json(Failure { error })).into_response()
}

async fn answer<T: serde::Serialize>(work: impl Future<Output = Result<T, Denied>>) -> Response {
    match tokio::time::timeout(ANSWER_LIMIT, work).await {
        Ok(Ok(value)) => Json(value).into_response(),
        Ok(Err(denied)) => failure(denied),
        Err(_) => failure((
            StatusCode::GATEWAY_TIMEOUT,
            format!("the daemon had no answer within {} s; its disk may hang", ANSWER_LIMIT.as_secs()),
        )),
    }
}

#[cfg(test)]
mod tests;
