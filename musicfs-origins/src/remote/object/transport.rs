//! What opendal sends its requests through.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use futures::{StreamExt, future};
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, RANGE};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use musicfs_core::{Clock, OriginErrorKind};
use opendal::{Buffer, HttpBody, HttpTransport};

use super::sort::Sorted;
use crate::Progress;
use crate::remote::client::{Refused, kind_of, kind_of_status, send};
use crate::remote::expect::Expect;

/// Our client as opendal wants it, with what one read expects.
pub(super) struct Transport {
    client: reqwest::Client,
    clock: Arc<dyn Clock>,
    pub(super) progress: Progress,
    /// What a ranged answer must be of; without, it is taken as it comes.
    pub(super) expect: Option<Expect>,
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("expect", &self.expect).finish_non_exhaustive()
    }
}

impl Transport {
    pub(super) fn new(client: reqwest::Client, clock: Arc<dyn Clock>) -> Self {
        Self { client, clock, progress: Progress::default(), expect: None }
    }

    /// Decides what of a refusal opendal need not see: services tell more of the others in the body.
    fn refused(&self, status: StatusCode, headers: &HeaderMap) -> Option<Sorted> {
        let conditional = self.expect.is_some()
            && matches!(status, StatusCode::PRECONDITION_FAILED | StatusCode::RANGE_NOT_SATISFIABLE);
        let ours = conditional
            || status.is_server_error()
            || matches!(
                status,
                StatusCode::UNAUTHORIZED | StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS
            );
        let kind = ours.then(|| kind_of_status(status, headers, self.clock.unix()))?;
        Some(Sorted { kind, cause: Refused(status).to_string() })
    }
}

fn sorted(error: reqwest::Error) -> opendal::Error {
    let kind = kind_of(&error);
    let error = error.without_url();
    let mut cause = error.to_string();
    let mut source = error.source();
    while let Some(link) = source {
        cause.push_str(": ");
        cause.push_str(&link.to_string());
        source = link.source();
    }
    Sorted { kind, cause }.into_opendal()
}

impl HttpTransport for Transport {
    async fn fetch(&self, request: Request<Buffer>) -> opendal::Result<Response<HttpBody>> {
        let is_read = request.method() == Method::GET && request.headers().contains_key(RANGE);
        let is_head = request.method() == Method::HEAD;
        let uri = request.uri().clone();
        let (parts, body) = request.into_parts();
        let invalid = |e: url::ParseError| {
            Sorted { kind: OriginErrorKind::Invalid, cause: e.to_string() }.into_opendal()
        };
        let url = url::Url::parse(&uri.to_string()).map_err(invalid)?;
        let mut outgoing = self.client.request(parts.method, url).headers(parts.headers);
        if !body.is_empty() {
            outgoing = outgoing.body(body.to_bytes());
        }
        let mut answer = send(outgoing).await.map_err(sorted)?;
        let status = answer.status();
        if let Some(refused) = self.refused(status, answer.headers()) {
            return Err(refused.into_opendal());
        }
        let mut length = answer.content_length().filter(|_| !is_head);
        let mut window = None;
        if let (true, true, Some(expect)) = (is_read, status.is_success(), &self.expect) {
            let wrong = |kind| Sorted { kind, cause: "the answer is not of the version asked for".into() };
            let skip = expect.check(status, answer.headers()).map_err(|kind| wrong(kind).into_opendal())?;
            window = Some((skip, expect.range.len()));
            length = Some(expect.range.len());
        }
        let status = if window.is_some() { StatusCode::PARTIAL_CONTENT } else { status };
        let mut incoming = Response::builder().status(status).version(answer.version()).extension(uri);
        if let Some(headers) = incoming.headers_mut() {
            std::mem::swap(headers, answer.headers_mut());
            if let (Some(_), Some(expect)) = (window, &self.expect) {
                // The head is to tell of what is left of the body.
                headers.insert(CONTENT_LENGTH, expect.range.len().into());
                if let Ok(range) = expect.content_range().parse() {
                    headers.insert(CONTENT_RANGE, range);
                }
            }
        }
        let progress = self.progress.clone();
        let pieces = answer
            .bytes_stream()
            .map(move |piece| piece.map_err(sorted).inspect(|piece| progress.add(piece.len())));
        // Only what was asked for, and no more is waited for than that.
        let pieces = pieces.scan(window, |window, piece| {
            let cut = match (window, piece) {
                (_, Err(error)) => Some(Err(error)),
                (Some((_, 0)), Ok(_)) => None,
                (Some((skip, left)), Ok(mut piece)) => {
                    let before = usize::try_from(*skip).unwrap_or(usize::MAX).min(piece.len());
                    let _ = piece.split_to(before);
                    *skip -= before as u64;
                    piece.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= piece.len() as u64;
                    Some(Ok(piece))
                }
                (None, Ok(piece)) => Some(Ok(piece)),
            };
            future::ready(cut)
        });
        // An empty piece would be the end to opendal.
        let pieces = pieces
            .filter(|piece| future::ready(!matches!(piece, Ok(piece) if piece.is_empty())))
            .map(|piece| piece.map(Buffer::from));
        let build =
            |e: http::Error| Sorted { kind: OriginErrorKind::Corrupt, cause: e.to_string() }.into_opendal();
        incoming.body(HttpBody::new(pieces, length)).map_err(build)
    }
}
