//! The HTTP client of an origin, and what goes wrong in it.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};
use musicfs_core::{Clock, OriginErrorKind, UnixNanos};
use reqwest::redirect;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::dns::{NoAddress, Remembering};
use crate::wire::Failure;

/// How long a connection that is not in use is kept.
const IDLE: Duration = Duration::from_secs(90);
/// Silence after which the operating system asks whether the other side is still there.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// Redirections that are followed.
const REDIRECTS: usize = 5;

/// How an origin's server is reached.
#[derive(Clone, Debug)]
pub struct WebOptions {
    /// Time for a connection to be made, TLS included.
    pub connect_timeout: Duration,
    /// Certificates, as PEM, of authorities that are trusted beside those of the system.
    pub authorities: Option<Vec<u8>>,
    /// URL of a proxy. The environment is not looked at.
    pub proxy: Option<String>,
}

impl Default for WebOptions {
    fn default() -> Self {
        Self { connect_timeout: Duration::from_secs(5), authorities: None, proxy: None }
    }
}

/// Why an origin over HTTP cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WebError {
    /// The address is not one.
    #[error("{url:?} is not an address of a server: {reason}")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The user name or password cannot be sent.
    #[error("the credentials cannot be sent over HTTP: {0}")]
    Credentials(&'static str),
    /// The certificates of authorities cannot be used.
    #[error("the certificates of authorities cannot be used")]
    Authorities(#[source] Box<dyn Error + Send + Sync>),
    /// The client cannot be made.
    #[error("the HTTP client cannot be made")]
    Client(#[source] Box<dyn Error + Send + Sync>),
    /// The service is not configured right.
    #[error("the service cannot be set up")]
    Service(#[source] Box<dyn Error + Send + Sync>),
}

/// Makes a client. Reads the system's authorities from disk.
pub(super) fn client(options: &WebOptions, clock: Arc<dyn Clock>) -> Result<reqwest::Client, WebError> {
    let failed = |error: Box<dyn Error + Send + Sync>| WebError::Client(error);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let extra: Vec<CertificateDer<'static>> = match &options.authorities {
        Some(pem) => CertificateDer::pem_slice_iter(pem)
            .collect::<Result<_, _>>()
            .map_err(|e| WebError::Authorities(e.into()))?,
        None => Vec::new(),
    };
    let verifier = rustls_platform_verifier::Verifier::new_with_extra_roots(extra, Arc::clone(&provider))
        .map_err(|e| WebError::Authorities(e.into()))?;
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| failed(e.into()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    let mut builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .user_agent(concat!("musicfs/", env!("CARGO_PKG_VERSION")))
        .dns_resolver(Arc::new(Remembering::new(clock)))
        .connect_timeout(options.connect_timeout)
        .pool_idle_timeout(IDLE)
        .tcp_keepalive(KEEPALIVE)
        .tcp_nodelay(true)
        .redirect(redirect::Policy::custom(follow))
        .referer(false)
        .no_proxy();
    if let Some(proxy) = &options.proxy {
        builder = builder.proxy(reqwest::Proxy::all(proxy).map_err(|e| failed(e.without_url().into()))?);
    }
    builder.build().map_err(|e| failed(e.into()))
}

/// Sends a request. One that a server drops without a word is sent once more: it closes connections that it has
/// kept for long or too many of, and a request may just be on its way. All requests here only ask.
pub(super) async fn send(request: reqwest::RequestBuilder) -> Result<reqwest::Response, reqwest::Error> {
    let again = request.try_clone();
    match (request.send().await, again) {
        (Err(dropped), Some(again))
            if dropped.is_request()
                && !dropped.is_connect()
                && kind_of(&dropped) == OriginErrorKind::Unavailable =>
        {
            again.send().await
        }
        (answer, _) => answer,
    }
}

/// Never from an encrypted line to one that is not.
fn follow(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let from_tls = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
    if from_tls && attempt.url().scheme() != "https" {
        return attempt.error("the server leads from https to http");
    }
    if attempt.previous().len() > REDIRECTS {
        return attempt.error("the server leads in a circle");
    }
    attempt.follow()
}

/// Makes a failure; one that may pass counts as a lost connection, so that a listing ends with it.
pub(super) fn failure(kind: OriginErrorKind, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Failure {
    if kind.is_transient() { Failure::lost(kind, cause) } else { Failure::new(kind, cause) }
}

/// Tells what kind of failure `error` is.
pub(super) fn kind_of(error: &reqwest::Error) -> OriginErrorKind {
    let mut chain: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(link) = chain {
        if link.is::<NoAddress>() {
            return OriginErrorKind::Dns;
        }
        // A certificate that is not trusted will not be by trying again; rustls hands it on inside an io::Error.
        let inner = link.downcast_ref::<std::io::Error>().and_then(|io| io.get_ref());
        let tls = inner.and_then(|e| e.downcast_ref()).or_else(|| link.downcast_ref::<rustls::Error>());
        if let Some(rustls::Error::InvalidCertificate(_)) = tls {
            return OriginErrorKind::Denied;
        }
        chain = link.source();
    }
    if error.is_timeout() {
        OriginErrorKind::TimedOut
    } else if error.is_redirect() || error.is_builder() {
        OriginErrorKind::Invalid
    } else {
        OriginErrorKind::Unavailable
    }
}

/// Sorts a failed request.
pub(super) fn failed(error: reqwest::Error) -> Failure {
    failure(kind_of(&error), error.without_url())
}

/// A server's refusal, for the chain of causes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused(pub(super) StatusCode);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let next = match self.0 {
            StatusCode::UNAUTHORIZED => "; look at the user, the password or the token",
            StatusCode::FORBIDDEN => "; this user may not read there, or nobody may",
            StatusCode::PROXY_AUTHENTICATION_REQUIRED => "; the proxy wants to know who is asking",
            _ => "",
        };
        write!(f, "the server answered {}{next}", self.0)
    }
}

impl Error for Refused {}

/// Sorts a refusal by its status; `now` is for a server that says until when to wait.
pub(super) fn kind_of_status(status: StatusCode, headers: &HeaderMap, now: UnixNanos) -> OriginErrorKind {
    let after = || retry_after(headers, now);
    match status {
        StatusCode::NOT_FOUND | StatusCode::GONE => OriginErrorKind::NotFound,
        StatusCode::UNAUTHORIZED
        | StatusCode::FORBIDDEN
        | StatusCode::PAYMENT_REQUIRED
        | StatusCode::PROXY_AUTHENTICATION_REQUIRED
        | StatusCode::UNAVAILABLE_FOR_LEGAL_REASONS => OriginErrorKind::Denied,
        StatusCode::PRECONDITION_FAILED | StatusCode::RANGE_NOT_SATISFIABLE => OriginErrorKind::Changed,
        StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT => OriginErrorKind::TimedOut,
        StatusCode::TOO_MANY_REQUESTS => OriginErrorKind::Throttled { after: after() },
        StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => OriginErrorKind::Unsupported,
        StatusCode::LOCKED | StatusCode::MISDIRECTED_REQUEST => OriginErrorKind::Unavailable,
        status if status.is_server_error() => match after() {
            Some(wait) => OriginErrorKind::Throttled { after: Some(wait) },
            None => OriginErrorKind::Unavailable,
        },
        _ => OriginErrorKind::Invalid,
    }
}

/// Reads how long a server asks to be left alone: seconds, or a date.
fn retry_after(headers: &HeaderMap, now: UnixNanos) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let (until, _) = super::expect::http_date(text)?.parts();
    Some(Duration::from_secs(u64::try_from(until - now.parts().0).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(status: u16, wait: Option<&str>) -> OriginErrorKind {
        let mut headers = HeaderMap::new();
        if let Some(wait) = wait {
            headers.insert(RETRY_AFTER, wait.parse().unwrap());
        }
        let now = UnixNanos::from_parts(1_445_412_480, 0);
        kind_of_status(StatusCode::from_u16(status).unwrap(), &headers, now)
    }

    #[test]
    fn refusals_are_sorted_by_what_can_be_done() {
        use OriginErrorKind as K;
        let throttled = |secs: Option<u64>| K::Throttled { after: secs.map(Duration::from_secs) };
        assert_eq!(kind(404, None), K::NotFound);
        assert_eq!(kind(401, None), K::Denied);
        assert_eq!(kind(403, None), K::Denied);
        assert_eq!(kind(412, None), K::Changed);
        assert_eq!(kind(416, None), K::Changed);
        assert_eq!(kind(400, None), K::Invalid);
        assert_eq!(kind(500, None), K::Unavailable);
        assert_eq!(kind(503, None), K::Unavailable);
        assert_eq!(kind(504, None), K::TimedOut);
        assert_eq!(kind(429, None), throttled(None));
        assert_eq!(kind(429, Some("7")), throttled(Some(7)));
        assert_eq!(kind(503, Some("Wed, 21 Oct 2015 07:28:30 GMT")), throttled(Some(30)));
        assert_eq!(kind(503, Some("Wed, 21 Oct 2015 07:00:00 GMT")), throttled(Some(0)));
        assert_eq!(kind(503, Some("soon")), K::Unavailable);
    }

    #[tokio::test]
    async fn name_that_does_not_exist_is_a_dns_failure_and_a_closed_port_is_not() {
        let clock: Arc<dyn Clock> = Arc::new(musicfs_core::SystemClock::new());
        let client = client(&WebOptions::default(), clock).unwrap();
        let error = client.get("http://no-such-host.invalid/").send().await.unwrap_err();
        assert_eq!(kind_of(&error), OriginErrorKind::Dns);
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let error = client.get(format!("http://localhost:{port}/")).send().await.unwrap_err();
        assert_eq!(kind_of(&error), OriginErrorKind::Unavailable);
    }
}
