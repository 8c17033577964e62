//! Requests about the cache.

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::response::Response;

use super::api::cache::{CacheOrder, CacheRequest};
use super::{Daemon, answer, given_order, job_of, not_found, refused};
use crate::refusal::Refusal;

pub(super) async fn report(State(daemon): Daemon) -> Response {
    answer(async move { daemon.cache(CacheRequest::Report).await.map_err(refused) }).await
}

pub(super) async fn order(State(daemon): Daemon, body: Bytes) -> Response {
    let order = given_order::<CacheOrder>(&body, "an order to the cache");
    answer(async move { daemon.cache(CacheRequest::Order(order?)).await.map_err(refused) }).await
}

pub(super) async fn progress(State(daemon): Daemon, RawQuery(query): RawQuery) -> Response {
    answer(async move {
        let job = daemon.cache(CacheRequest::Job(job_of(query.as_deref())?)).await;
        job.map_err(|why| match why {
            Refusal::Wrong(unknown) => not_found(unknown),
            why => refused(why),
        })
    })
    .await
}
