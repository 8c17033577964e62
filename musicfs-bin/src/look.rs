//! A first look at an origin: is it there, and is it what it should be?

use std::path::Path;
use std::time::Duration;

use musicfs_core::{OriginError, OriginErrorKind};
use musicfs_origins::BuiltOrigin;

use crate::config::{NamedOrigin, check};
use crate::daemon::chain;
use crate::paths;

/// Wait for an origin to be looked at.
const LIMIT: Duration = Duration::from_secs(5);

/// What a look found.
pub(crate) enum Look {
    /// It answers.
    There,
    /// It will hardly be better later: a directory or a bucket that does not exist, a server that is not the one known.
    Wrong(String),
    /// It does not answer now.
    Silent(String),
}

/// Looks at an origin.
pub(crate) async fn at(named: &NamedOrigin, built: &BuiltOrigin) -> Look {
    let silent = || Look::Silent(format!("no answer within {} s", LIMIT.as_secs()));
    if let Some(path) = named.path().map(Path::to_owned) {
        let look = move || paths::in_time(LIMIT, move || check::listable(&path));
        return match tokio::task::spawn_blocking(look).await {
            Ok(Some(Ok(()))) => Look::There,
            Ok(Some(Err(message))) => Look::Wrong(message),
            Ok(None) | Err(_) => silent(),
        };
    }
    match tokio::time::timeout(LIMIT, built.origin.health()).await {
        Ok(Ok(_)) => Look::There,
        Ok(Err(error)) if error.kind == OriginErrorKind::NoRoot => Look::Wrong(reason(&error)),
        Ok(Err(error)) if error.kind.is_transient() => Look::Silent(reason(&error)),
        Ok(Err(error)) => Look::Wrong(reason(&error)),
        Err(_) => silent(),
    }
}

/// Says what failed and why, without the origin's name, which stands before it.
fn reason(error: &OriginError) -> String {
    match &error.source {
        Some(source) => format!("{}: {}", error.kind, chain(&**source)),
        None => error.kind.to_string(),
    }
}
