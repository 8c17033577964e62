//! opendal's errors by what can be done about them. Pure.

use std::error::Error;

use musicfs_core::OriginErrorKind;
use opendal::ErrorKind;

use crate::remote::client::failure;
use crate::wire::Failure;

/// Longest message that is handed on: opendal adds whole answers to some.
const MAX_MESSAGE: usize = 400;

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

/// Sorts an error.
pub(super) fn sort(error: opendal::Error) -> Failure {
    let mut chain: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(link) = chain {
        if let Some(sorted) = link.downcast_ref::<Sorted>() {
            return failure(sorted.kind, sorted.cause.clone());
        }
        chain = link.source();
    }
    let kind = match error.kind() {
        ErrorKind::NotFound => OriginErrorKind::NotFound,
        ErrorKind::PermissionDenied => OriginErrorKind::Denied,
        ErrorKind::ConditionNotMatch | ErrorKind::RangeNotSatisfied => OriginErrorKind::Changed,
        ErrorKind::IsADirectory | ErrorKind::NotADirectory => OriginErrorKind::Invalid,
        ErrorKind::RateLimited => OriginErrorKind::Throttled { after: None },
        ErrorKind::Unsupported => OriginErrorKind::Unsupported,
        // No key to sign with, of which opendal tells only by the place.
        ErrorKind::Unexpected if error.to_string().contains("reqsign::") => OriginErrorKind::Denied,
        // Among others a bucket that is not there, which opendal counts as a wrong configuration.
        _ => OriginErrorKind::Unavailable,
    };
    let mut message = error.to_string();
    if message.len() > MAX_MESSAGE {
        let end = (0..=MAX_MESSAGE).rev().find(|end| message.is_char_boundary(*end)).unwrap_or(0);
        message.truncate(end);
        message.push('…');
    }
    failure(kind, message)
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
            assert_eq!(sort(wrapped).kind(), kind);
        }
    }

    #[test]
    fn long_messages_are_cut_between_characters() {
        let error = opendal::Error::new(ErrorKind::NotFound, "日本".repeat(1000));
        let failure = sort(error);
        assert_eq!(failure.kind(), OriginErrorKind::NotFound);
        assert!(failure.to_string().len() < MAX_MESSAGE + 100);
    }
}
