//! `GET /v1/events`: what happens, as server-sent events, until the daemon ends or nobody reads any more.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{RawQuery, State};
use axum::response::sse::{Event as Sent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use musicfs_core::{Event, EventKind, EventStream};

use super::{Daemon, bad_request, failure, percent};

/// Time between two signs of life when nothing happens, by which a reader that went away is noticed.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);

/// Which events somebody wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter(Vec<String>);

impl Filter {
    /// Makes a filter of names and families (`file_*`), any of which lets an event pass; all pass when there is none.
    /// `lagged` always passes: what was missed might have been wanted.
    pub(crate) fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let names: Vec<String> =
            names.into_iter().map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
        let none = names.iter().find(|wanted| !EventKind::NAMES.iter().any(|name| fits(wanted, name)));
        none.map_or(Ok(()), |name| Err(unknown(name)))?;
        Ok(Self(names))
    }

    /// Makes the filter of somebody who names what is to be listened to: an empty name is a mistake.
    pub(crate) fn of_listener<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Result<Self, String> {
        if names.clone().any(|name| name.trim().is_empty()) {
            return Err(unknown(""));
        }
        Self::new(names)
    }

    fn passes(&self, kind: &EventKind) -> bool {
        let wanted = self.0.is_empty() || self.0.iter().any(|wanted| fits(wanted, kind.name()));
        wanted || matches!(kind, EventKind::Lagged { .. })
    }
}

fn unknown(name: &str) -> String {
    format!("there are no events '{name}'; there are: {}", EventKind::NAMES.join(", "))
}

fn fits(wanted: &str, name: &str) -> bool {
    match wanted.strip_suffix('*') {
        Some(family) => name.starts_with(family),
        None => wanted == name,
    }
}

/// Streams the events.
pub(super) async fn stream(State(daemon): Daemon, RawQuery(query): RawQuery) -> Response {
    let types = query.and_then(|query| percent::parameter(&query, "type")).unwrap_or_default();
    let filter = match Filter::new(String::from_utf8_lossy(&types).split(',')) {
        Ok(filter) => filter,
        Err(error) => return failure(bad_request(error)),
    };
    let events = futures::stream::unfold((daemon.events(), filter), |(mut events, filter)| async move {
        let event = next(&mut events, &filter).await?;
        Some((Ok::<_, Infallible>(event), (events, filter)))
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(SIGN_OF_LIFE)).into_response()
}

async fn next(events: &mut EventStream, filter: &Filter) -> Option<Sent> {
    loop {
        let event = events.next().await?;
        if filter.passes(&event.kind) {
            return Some(sent(&event));
        }
    }
}

fn sent(event: &Event) -> Sent {
    // JSON has no line breaks but within strings, where they are escaped.
    let json = serde_json::to_string(event).unwrap_or_default();
    Sent::default().id(event.seq.to_string()).event(event.kind.name()).data(json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filter_takes_names_and_families_and_refuses_what_never_happens() {
        let filter = Filter::new(["file_*", " sync_held"]).unwrap();
        assert!(filter.passes(&EventKind::SyncHeld { origin: "a".into(), reason: String::new() }));
        assert!(!filter.passes(&EventKind::SyncStarted { origin: "a".into() }));
        assert!(filter.passes(&EventKind::Lagged { missed: 1 }));
        assert!(Filter::new([""]).unwrap().passes(&EventKind::CacheAvailable));
        let error = Filter::new(["file_aded"]).unwrap_err();
        assert!(error.contains("file_aded") && error.contains("file_added"), "{error}");
        assert!(Filter::new(["x*"]).is_err());
        assert!(Filter::of_listener(["file_*", ""].into_iter()).is_err());
        assert!(Filter::of_listener(["file_*"].into_iter()).is_ok());
    }
}
