//! opendal's errors by what can be done about them. Pure.

use std::error::Error;

use musicfs_core::OriginErrorKind;
use opendal::ErrorKind;

use crate::remote::client::failure;
use crate::wire::Failure;

/// Longest that a service's own words may be: some send whole pages.
const MAX_WORDS: usize = 200;

/// What the transport found, carried through opendal as the source of its error.
#[derive(Debug, thiserror::Error)]
#[error("{cause}")]
pub(super) struct Sorted {
    pub(super) kind: OriginErrorKind,
    pub(super) cause: String,
}

impl Sorted {
    /// Makes an error that opendal takes for final, so that nothing repeats it below our own retry.
    pub(super) fn into_opendal(self) -> opendal::Error {
        let kind = match self.kind {
            OriginErrorKind::Changed => ErrorKind::ConditionNotMatch,
            OriginErrorKind::Denied => ErrorKind::PermissionDenied,
            _ => ErrorKind::Unexpected,
        };
        opendal::Error::new(kind, self.cause.clone()).set_source(self)
    }
}

/// Sorts an error of what is at `place`. What opendal says of the request is left out: it is long, and the origin
/// and the path are said beside it.
pub(super) fn sort(error: opendal::Error, place: &str) -> Failure {
    let mut chain: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(link) = chain {
        if let Some(sorted) = link.downcast_ref::<Sorted>() {
            return failure(sorted.kind, format!("{place}: {}", sorted.cause));
        }
        chain = link.source();
    }
    let code = field(error.message(), "code");
    let kind = match error.kind() {
        // opendal counts it as a wrong configuration.
        _ if code == Some("NoSuchBucket") => OriginErrorKind::NoRoot,
        ErrorKind::NotFound => OriginErrorKind::NotFound,
        ErrorKind::PermissionDenied => OriginErrorKind::Denied,
        ErrorKind::ConditionNotMatch | ErrorKind::RangeNotSatisfied => OriginErrorKind::Changed,
        ErrorKind::IsADirectory | ErrorKind::NotADirectory => OriginErrorKind::Invalid,
        ErrorKind::RateLimited => OriginErrorKind::Throttled { after: None },
        ErrorKind::Unsupported => OriginErrorKind::Unsupported,
        // No key to sign with, of which opendal tells only by the place.
        ErrorKind::Unexpected if error.to_string().contains("reqsign::") => {
            let why = "there are no credentials; name access_key_id and a secret_access_key, or anonymous = true \
                       (of Azure: account_name and an account_key)";
            return failure(OriginErrorKind::Denied, format!("{place}: {why}"));
        }
        _ => OriginErrorKind::Unavailable,
    };
    let words = match (&code, field(error.message(), "message")) {
        (Some(code), Some(words)) => format!("{code} ({})", cut(words)),
        (Some(code), None) => (*code).to_owned(),
        (None, _) => cut(error.message().lines().next().unwrap_or_default()),
    };
    let words = if words.is_empty() { error.kind().into_static().to_owned() } else { words };
    match code.and_then(next_step) {
        Some(step) => failure(kind, format!("{place}: {words}; {step}")),
        None => failure(kind, format!("{place}: {words}")),
    }
}

/// Returns the first line of a field of a service's answer, which opendal hands on as Rust writes it for debugging.
fn field<'a>(message: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = message.split_once(&format!("{name}: \""))?;
    let (value, _) = rest.split_once('"')?;
    value.split("\\n").next().filter(|line| !line.is_empty())
}

fn cut(words: &str) -> String {
    if words.len() <= MAX_WORDS {
        return words.to_owned();
    }
    let end = (0..=MAX_WORDS).rev().find(|end| words.is_char_boundary(*end)).unwrap_or(0);
    format!("{}…", &words[..end])
}

/// Returns what to do about an error of S3 or of Azure.
fn next_step(code: &str) -> Option<&'static str> {
    Some(match code {
        "SignatureDoesNotMatch" => "the secret is wrong: look at secret_access_key_file, _env or _command",
        "InvalidAccessKeyId" => "the key is not known there: look at access_key_id and endpoint",
        "AccessDenied" | "AllAccessDisabled" => "the key must be allowed s3:ListBucket and s3:GetObject",
        "NoSuchBucket" => "look at bucket and endpoint",
        "ExpiredToken" | "InvalidToken" => "get a new session_token",
        "AuthorizationHeaderMalformed" | "PermanentRedirect" | "IllegalLocationConstraintException" => {
            "look at region and endpoint"
        }
        "RequestTimeTooSkewed" => "set this machine's clock right",
        "AuthenticationFailed" | "AuthorizationFailure" => {
            "the key is not taken: look at account_name and account_key_file, _env or _command"
        }
        "AuthorizationPermissionMismatch" => "who asks must be allowed to list and to read",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_transport_found_comes_through() {
        let after = Some(std::time::Duration::from_secs(3));
        for kind in [OriginErrorKind::Throttled { after }, OriginErrorKind::Dns, OriginErrorKind::Changed] {
            let error = Sorted { kind, cause: "why".into() }.into_opendal();
            let wrapped = opendal::Error::new(ErrorKind::Unexpected, "outer").set_source(error);
            let sorted = sort(wrapped, "bucket music");
            assert_eq!(sorted.kind(), kind);
            assert!(sorted.to_string().ends_with("bucket music: why"), "{sorted}");
        }
    }

    #[test]
    fn what_a_service_says_is_one_line_with_the_next_step() {
        let message =
            "S3Error { code: \"SignatureDoesNotMatch\", message: \"It does not match.\", resource: \"/\" }";
        let error = opendal::Error::new(ErrorKind::PermissionDenied, message)
            .with_context("response", "Parts { status: 403, headers: {\"date\": \"…\"} }");
        let said = sort(error, "bucket music at http://nas").to_string();
        let step = "the secret is wrong: look at secret_access_key_file, _env or _command";
        let wanted = "bucket music at http://nas: SignatureDoesNotMatch (It does not match.)";
        assert_eq!(said, format!("permission denied: {wanted}; {step}"));
        let message =
            "AzblobError { code: \"AuthorizationFailure\", message: \"No.\\nRequestId:1\\nTime:2\" }";
        let said = sort(opendal::Error::new(ErrorKind::PermissionDenied, message), "the service").to_string();
        let step = "the key is not taken: look at account_name and account_key_file, _env or _command";
        assert_eq!(said, format!("permission denied: the service: AuthorizationFailure (No.); {step}"));
        let error = opendal::Error::new(ErrorKind::NotFound, "");
        assert_eq!(sort(error, "bucket music").to_string(), "not found: bucket music: NotFound");
    }

    #[test]
    fn long_words_are_cut_between_characters() {
        let error = opendal::Error::new(ErrorKind::NotFound, "日本".repeat(1000));
        let failure = sort(error, "bucket music");
        assert_eq!(failure.kind(), OriginErrorKind::NotFound);
        assert!(failure.to_string().len() < MAX_WORDS + 100);
    }
}
