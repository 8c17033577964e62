//! Requests about the cache.

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::response::Response;

use super::api::cache::{CacheOrder, CacheRequest};
use super::{Daemon, answer, bad_request, percent, refused};

pub(super) async fn report(State(daemon): Daemon) -> Response {
    answer(async move { daemon.cache(CacheRequest::Report).await.map_err(refused) }).await
}

pub(super) async fn order(State(daemon): Daemon, body: Bytes) -> Response {
    let order = serde_json::from_slice::<CacheOrder>(&body);
    answer(async move {
        let order = order.map_err(|error| bad_request(format!("not an order to the cache: {error}")))?;
        daemon.cache(CacheRequest::Order(order)).await.map_err(refused)
    })
    .await
}

pub(super) async fn progress(State(daemon): Daemon, RawQuery(query): RawQuery) -> Response {
    let job = query.and_then(|query| percent::parameter(&query, "job"));
    let job = job.and_then(|job| String::from_utf8(job).ok()?.parse().ok());
    answer(async move {
        let job: u64 = job.ok_or_else(|| bad_request("job=NUMBER is missing".into()))?;
        daemon.cache(CacheRequest::Job(job)).await.map_err(refused)
    })
    .await
}
