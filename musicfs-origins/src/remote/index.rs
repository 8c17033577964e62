//! Directory indexes: what nginx, Apache, lighttpd, Caddy or Python's server show of a folder.
//!
//! # What a listing costs
//! One request a folder where the index tells sizes exactly: JSON (nginx with `autoindex_format json`, Caddy) and
//! nginx's HTML with its default of exact sizes. Every other index rounds sizes or has none, so that each of its
//! files costs a request for its head, eight at a time.
//!
//! nginx's HTML tells times by the minute, so that a file replaced within a minute by one of the same size looks
//! unchanged. JSON tells seconds, a head also an entity tag.
//!
//! Web servers leave hidden files out of an index; such a file is not listed here either, but can be read.

mod dates;
mod html;
mod json;

use http::Method;
use http::header::{ACCEPT, CONTENT_TYPE};
use musicfs_core::{FileVersion, OriginErrorKind, OriginPath};

use super::client::failure;
use super::place::Link;
use super::web::{Dialect, Found, Web, WebOrigin, What, web_origin};
use crate::Progress;
use crate::wire::Failure;

/// Listings longer than this are taken apart off the async threads.
const LONG: usize = 256 << 10;

/// A folder of a web server that shows directory indexes.
///
/// Reads are checked by entity tag where the version has one, else by size and modification time, and are right
/// even when the server ignores ranges.
pub struct HttpOrigin(WebOrigin<Index>);

web_origin!(HttpOrigin, Index);

pub(super) struct Index;

/// A link of an index, with what stands beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    /// As it stands in the page: still a link, with escapes.
    href: String,
    /// Known where the index says so; else the link's slash tells.
    folder: bool,
    /// Known where the index is exact.
    version: Option<FileVersion>,
}

/// Which kind of index a page is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Html,
    Json,
}

async fn rows(web: &Web<Index>, folder: &OriginPath, progress: &Progress) -> Result<Vec<Row>, Failure> {
    let request = web
        .request(Method::GET, web.place.folder(folder))
        .header(ACCEPT, "application/json, text/html;q=0.9");
    let answer = web.send(request).await?;
    let is_folder = answer.url().path().ends_with('/');
    let kind = answer.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).and_then(kind_of);
    let (true, Some(kind)) = (is_folder, kind) else {
        return Err(failure(OriginErrorKind::Unsupported, "that is no directory index"));
    };
    let body = Web::<Index>::body(answer, progress).await?;
    if body.len() <= LONG {
        return parse(kind, &body);
    }
    let parsing = tokio::task::spawn_blocking(move || parse(kind, &body));
    parsing.await.map_err(|e| failure(OriginErrorKind::Unavailable, e))?
}

fn kind_of(content_type: &str) -> Option<Kind> {
    match content_type.split(';').next()?.trim() {
        "text/html" | "application/xhtml+xml" => Some(Kind::Html),
        "application/json" => Some(Kind::Json),
        _ => None,
    }
}

fn parse(kind: Kind, body: &[u8]) -> Result<Vec<Row>, Failure> {
    match kind {
        Kind::Html => Ok(html::parse(body)),
        Kind::Json => json::parse(body).map_err(|e| failure(OriginErrorKind::Corrupt, e)),
    }
}

/// Turns the links that lead into `folder` into entries, each name once.
fn entries(web: &Web<Index>, folder: &OriginPath, rows: Vec<Row>) -> Vec<Found> {
    let mut seen = std::collections::HashSet::new();
    rows.into_iter()
        .filter_map(|row| match web.place.link(folder, &row.href) {
            Link::Inside { name, folder } if seen.insert(name.clone()) => {
                let what = match row.version {
                    _ if folder || row.folder => What::Folder,
                    Some(version) => What::File(version),
                    None => What::Vague,
                };
                Some(Found { name, what })
            }
            _ => None,
        })
        .collect()
}

impl Dialect for Index {
    const BY_MINUTE: bool = true;

    async fn list(web: &Web<Self>, folder: &OriginPath, progress: &Progress) -> Result<Vec<Found>, Failure> {
        Ok(entries(web, folder, rows(web, folder, progress).await?))
    }

    /// Looks into the index above, so that the version is the one a listing tells; a file that is not in it, or
    /// has no index above, is asked for itself.
    async fn look(web: &Web<Self>, path: &OriginPath) -> Result<Option<FileVersion>, Failure> {
        let progress = Progress::current();
        if path.is_root() {
            return rows(web, path, &progress).await.map(|_| None);
        }
        let above = path.parent();
        let found = match rows(web, &above, &progress).await {
            Ok(rows) => entries(web, &above, rows).into_iter().find(|found| found.name == path.file_name()),
            Err(lost) if lost.kind().is_transient() => return Err(lost),
            Err(_) => None,
        };
        match found.map(|found| found.what) {
            Some(What::Folder) => Ok(None),
            Some(What::File(version)) => Ok(Some(version)),
            Some(What::Vague) | None => web.head(path).await,
        }
    }
}
