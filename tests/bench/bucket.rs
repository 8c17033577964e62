//! A bucket with very many objects. The S3 servers of the tests look through all their files for each page of a
//! listing, which takes them minutes where a service takes milliseconds; this one has the listing in memory.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Path as Key, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use musicfs_tests::files;
use musicfs_tests::request_log::Asked;
use tokio::runtime::Runtime;

/// Most objects on a page.
pub(crate) const PAGE: usize = 1000;

/// Serves the files below a folder as the objects of the bucket `music`, by pages and by ranges, until it is dropped.
pub(crate) struct Bucket {
    addr: SocketAddr,
    objects: Arc<Objects>,
    _runtime: Runtime,
}

struct Objects {
    folder: PathBuf,
    /// In the order of their bytes, each with its length.
    keys: Vec<(String, u64)>,
    numbers: HashMap<String, usize>,
    asked: Mutex<Asked>,
}

impl Bucket {
    /// Starts to serve the files below `folder`.
    pub(crate) fn start(folder: &Path) -> Self {
        let length = |path: &PathBuf| folder.join(path).metadata().unwrap().len();
        let key = |path: PathBuf| (path.to_str().unwrap().to_owned(), length(&path));
        let mut keys: Vec<_> = files::files(folder).into_iter().map(key).collect();
        keys.sort();
        let numbers = keys.iter().enumerate().map(|(n, (key, _))| (key.clone(), n)).collect();
        let objects = Objects { folder: folder.to_owned(), keys, numbers, asked: Mutex::default() };
        let objects = Arc::new(objects);
        let routes = Router::new()
            .route("/music", get(list))
            .route("/music/", get(list))
            .route("/music/{*key}", get(read))
            .with_state(Arc::clone(&objects));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let addr = listener.local_addr().unwrap();
        runtime.spawn(async move { axum::serve(listener, routes).await });
        Self { addr, objects, _runtime: runtime }
    }

    /// Returns where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns what was asked since the last call.
    pub(crate) fn asked(&self) -> Asked {
        std::mem::take(&mut self.objects.asked.lock().unwrap())
    }
}

impl Objects {
    /// Returns the tag of the `n`th object.
    fn etag(n: usize) -> String {
        format!("\"{n:032x}\"")
    }
}

/// Answers `ListObjectsV2`. The token of a page is the number of its first object.
async fn list(State(objects): State<Arc<Objects>>, Query(query): Query<HashMap<String, String>>) -> Response {
    let number = |name: &str| query.get(name).and_then(|text| text.parse::<usize>().ok());
    let prefix = query.get("prefix").map_or("", String::as_str);
    {
        let mut asked = objects.asked.lock().unwrap();
        *(if query.contains_key("delimiter") { &mut asked.probes } else { &mut asked.pages }) += 1;
    }
    let first = match (number("continuation-token"), query.get("start-after")) {
        (Some(first), _) => first,
        (None, Some(after)) => objects.keys.partition_point(|(key, _)| key <= after),
        (None, None) => objects.keys.partition_point(|(key, _)| key.as_str() < prefix),
    };
    let most = number("max-keys").unwrap_or(PAGE).min(PAGE);
    let rest = objects.keys[first..].iter().enumerate();
    let page: Vec<_> = rest.take_while(|(_, (key, _))| key.starts_with(prefix)).take(most + 1).collect();
    let more = page.len() > most;
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListBucketResult><Name>music</Name><Prefix>{prefix}</Prefix>\
         <MaxKeys>{most}</MaxKeys><KeyCount>{}</KeyCount><IsTruncated>{more}</IsTruncated>",
        page.len().min(most)
    );
    if more {
        write!(text, "<NextContinuationToken>{}</NextContinuationToken>", first + most).unwrap();
    }
    for (n, (key, len)) in page.into_iter().take(most) {
        let etag = Objects::etag(first + n);
        write!(
            text,
            "<Contents><Key>{key}</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified><ETag>{etag}</ETag>\
             <Size>{len}</Size><StorageClass>STANDARD</StorageClass></Contents>"
        )
        .unwrap();
    }
    text.push_str("</ListBucketResult>");
    ([(header::CONTENT_TYPE, "application/xml")], text).into_response()
}

/// Answers `GetObject` and `HeadObject`.
async fn read(State(objects): State<Arc<Objects>>, Key(key): Key<String>, headers: HeaderMap) -> Response {
    objects.asked.lock().unwrap().others.push(format!("GET /music/{key}"));
    let Some(&n) = objects.numbers.get(&key) else { return StatusCode::NOT_FOUND.into_response() };
    let Ok(bytes) = tokio::fs::read(objects.folder.join(&key)).await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let told = [
        (header::ETAG, Objects::etag(n)),
        (header::LAST_MODIFIED, "Mon, 01 Jan 2024 00:00:00 GMT".to_owned()),
        (header::ACCEPT_RANGES, "bytes".to_owned()),
    ];
    let range = headers.get(header::RANGE).and_then(|range| range.to_str().ok()?.strip_prefix("bytes="));
    let Some((from, to)) = range.and_then(|range| range.split_once('-')) else {
        return (told, bytes).into_response();
    };
    let len = bytes.len();
    let from = from.parse().unwrap_or(0);
    let to = to.parse().map_or(len, |last: usize| last.saturating_add(1)).min(len);
    if from >= to {
        return StatusCode::RANGE_NOT_SATISFIABLE.into_response();
    }
    let content = [(header::CONTENT_RANGE, format!("bytes {from}-{}/{len}", to - 1))];
    (StatusCode::PARTIAL_CONTENT, told, content, bytes[from..to].to_vec()).into_response()
}
