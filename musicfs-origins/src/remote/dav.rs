//! WebDAV: folders by `PROPFIND`, one request for each; files as any web server gives them.

mod multistatus;

use http::{Method, StatusCode};
use musicfs_core::{FileVersion, OriginErrorKind, OriginPath};
use reqwest::Response;

use super::client::failure;
use super::place::Link;
use super::web::{Dialect, Found, Web, WebOrigin, What, web_origin};
use crate::Progress;
use crate::wire::Failure;
use multistatus::{Entry, parse};

/// What is asked of each entry. All of it is in RFC 4918; servers that are asked for everything may look into files.
const QUESTION: &str = r#"<?xml version="1.0" encoding="utf-8"?><propfind xmlns="DAV:"><prop><resourcetype/><getcontentlength/><getlastmodified/><getetag/></prop></propfind>"#;
/// Listings longer than this are taken apart off the async threads.
const LONG: usize = 256 << 10;

/// A folder of a WebDAV server: Nextcloud, ownCloud, a NAS, Apache, rclone.
///
/// Listing costs one request a folder. Versions are the server's entity tags where they are strong, else size and
/// modification time, and every read is checked against them.
pub struct WebdavOrigin(WebOrigin<Dav>);

web_origin!(WebdavOrigin, Dav);

pub(super) struct Dav;

async fn ask(web: &Web<Dav>, url: url::Url, depth: &'static str) -> Result<Response, Failure> {
    // A constant name that is a token, as methods are.
    let method = Method::from_bytes(b"PROPFIND").map_err(|e| failure(OriginErrorKind::Invalid, e))?;
    let request = web
        .request(method, url)
        .header("depth", depth)
        .header(http::header::CONTENT_TYPE, "application/xml; charset=utf-8")
        .body(QUESTION);
    let answer = web.send(request).await?;
    if answer.status() == StatusCode::MULTI_STATUS {
        Ok(answer)
    } else {
        Err(failure(OriginErrorKind::Unsupported, "the server does not speak WebDAV there"))
    }
}

async fn entries(body: bytes::Bytes) -> Result<Vec<Entry>, Failure> {
    let parsed = if body.len() > LONG {
        let parsing = tokio::task::spawn_blocking(move || parse(&body));
        parsing.await.map_err(|e| failure(OriginErrorKind::Unavailable, e))?
    } else {
        parse(&body)
    };
    parsed.map_err(|e| failure(OriginErrorKind::Corrupt, e))
}

impl Dialect for Dav {
    const BY_MINUTE: bool = false;

    async fn list(web: &Web<Self>, folder: &OriginPath, progress: &Progress) -> Result<Vec<Found>, Failure> {
        let answer = ask(web, web.place.folder(folder), "1").await?;
        let mut found = Vec::new();
        for entry in entries(Web::<Self>::body(answer, progress).await?).await? {
            match web.place.link(folder, &entry.href) {
                Link::Itself if !entry.folder => {
                    return Err(failure(OriginErrorKind::Invalid, "that is a file"));
                }
                Link::Itself | Link::Elsewhere => {}
                Link::Inside { name, .. } => found.push(Found { name, what: entry.what() }),
            }
        }
        Ok(found)
    }

    async fn look(web: &Web<Self>, path: &OriginPath) -> Result<Option<FileVersion>, Failure> {
        match one(web, path).await {
            Ok(What::Folder) => Ok(None),
            Ok(What::File(version)) => Ok(Some(version)),
            Ok(What::Vague) => web.head(path).await,
            // Some call it a bad question to ask for something below a file.
            Err(invalid) if invalid.kind() == OriginErrorKind::Invalid => {
                let mut above = path.clone();
                while !above.is_root() {
                    above = above.parent();
                    match one(web, &above).await {
                        Ok(What::Folder) => break,
                        Ok(_) => return Err(failure(OriginErrorKind::NotFound, "it would be below a file")),
                        Err(same) if same.kind() == OriginErrorKind::Invalid => {}
                        Err(_) => break,
                    }
                }
                Err(invalid)
            }
            Err(other) => Err(other),
        }
    }
}

/// Asks for one entry.
async fn one(web: &Web<Dav>, path: &OriginPath) -> Result<What, Failure> {
    let url = if path.is_root() { web.place.folder(path) } else { web.place.file(path) };
    let answer = ask(web, url, "0").await?;
    let body = Web::<Dav>::body(answer, &Progress::current()).await?;
    // One was asked for and one comes, by whatever name.
    let entry = entries(body).await?.into_iter().next();
    entry
        .map(|entry| entry.what())
        .ok_or_else(|| failure(OriginErrorKind::NotFound, "the server tells nothing of it"))
}
