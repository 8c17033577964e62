//! Whether an answer is of the version asked for. Pure.

use std::sync::Arc;

use http::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, LAST_MODIFIED};
use http::{HeaderMap, StatusCode};
use musicfs_core::{ByteRange, FileVersion, OriginErrorKind, UnixNanos};

/// What is asked for: a part of a version that lies wholly inside of it, and is not empty.
#[derive(Clone, Debug)]
pub(super) struct Expect {
    pub(super) version: FileVersion,
    pub(super) range: ByteRange,
    /// Whether the version's time may have been cut to the minute.
    pub(super) by_minute: bool,
}

impl Expect {
    /// Returns the value of the `Range` header.
    pub(super) fn range_header(&self) -> String {
        format!("bytes={}-{}", self.range.start(), self.range.end() - 1)
    }

    /// Returns the value of the `Content-Range` header of the right answer.
    #[cfg(feature = "opendal")]
    pub(super) fn content_range(&self) -> String {
        format!("bytes {}-{}/{}", self.range.start(), self.range.end() - 1, self.version.size)
    }

    /// Judges the head of an answer that was not refused. Returns how many bytes of its body come before those
    /// that were asked for.
    pub(super) fn check(&self, status: StatusCode, headers: &HeaderMap) -> Result<u64, OriginErrorKind> {
        if !self.is_of_version(headers) {
            return Err(OriginErrorKind::Changed);
        }
        // Some call a part a whole, and yet tell which part it is.
        if status == StatusCode::PARTIAL_CONTENT || headers.contains_key(CONTENT_RANGE) {
            let (start, end, total) = content_range(headers).ok_or(OriginErrorKind::Corrupt)?;
            if total.is_some_and(|total| total != self.version.size) {
                return Err(OriginErrorKind::Changed);
            }
            if start > self.range.start() || end < self.range.end() {
                return Err(OriginErrorKind::Corrupt);
            }
            return Ok(self.range.start() - start);
        }
        match number(headers) {
            // The server takes no ranges: all of it comes.
            Some(length) if length == self.version.size => Ok(self.range.start()),
            // Some send the part and do not even tell; without a tag that agrees it proves nothing.
            Some(length) if length == self.range.len() && self.version.etag.is_some() => Ok(0),
            Some(_) => Err(OriginErrorKind::Changed),
            None => Ok(self.range.start()),
        }
    }

    fn is_of_version(&self, headers: &HeaderMap) -> bool {
        let now = version_of(headers, self.version.size);
        if let (Some(wanted), Some(got)) = (&self.version.etag, &now.etag) {
            return wanted == got;
        }
        match (self.version.mtime, now.mtime) {
            (Some(wanted), Some(got)) => {
                // Answers tell whole seconds.
                let (wanted, got) = (wanted.parts().0, got.parts().0);
                wanted == got || (self.by_minute && wanted == got - got.rem_euclid(60))
            }
            _ => true,
        }
    }
}

/// Returns the version that an answer's head tells of, with the size left to the caller.
pub(super) fn version_of(headers: &HeaderMap, size: u64) -> FileVersion {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    FileVersion {
        size,
        mtime: text(LAST_MODIFIED).and_then(http_date),
        etag: text(ETAG).and_then(strong_etag),
    }
}

/// Returns the size of the whole file that an answer's head tells of.
pub(super) fn size_of(status: StatusCode, headers: &HeaderMap) -> Option<u64> {
    if status == StatusCode::PARTIAL_CONTENT { content_range(headers)?.2 } else { number(headers) }
}

/// Returns an entity tag in quotes, however it came; `None` for a weak one, which does not tell bytes apart.
pub(super) fn strong_etag(text: &str) -> Option<Arc<str>> {
    let text = text.trim();
    let bare = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text);
    if bare.is_empty() || text.starts_with("W/") || text.starts_with("w/") {
        return None;
    }
    Some(format!("\"{bare}\"").into())
}

/// Reads a date as HTTP writes it.
pub(super) fn http_date(text: &str) -> Option<UnixNanos> {
    let time = httpdate::parse_http_date(text.trim()).ok()?;
    let since = time.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(UnixNanos::from_parts(i64::try_from(since.as_secs()).ok()?, 0))
}

fn number(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

/// Reads `bytes a-b/total` as a half-open range and the total, where it is told.
fn content_range(headers: &HeaderMap) -> Option<(u64, u64, Option<u64>)> {
    let text = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    let (range, total) = text.trim().strip_prefix("bytes")?.trim_start().split_once('/')?;
    let (start, last) = range.split_once('-')?;
    let total = match total.trim() {
        "*" => None,
        total => Some(total.parse().ok()?),
    };
    let last: u64 = last.trim().parse().ok()?;
    Some((start.trim().parse().ok()?, last.checked_add(1)?, total))
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    const DATE: &str = "Wed, 21 Oct 2015 07:28:30 GMT";
    const DATE_SECS: i64 = 1_445_412_510;

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    fn expect(etag: Option<&str>, mtime: Option<i64>) -> Expect {
        let version = FileVersion {
            size: 100,
            mtime: mtime.map(|secs| UnixNanos::from_parts(secs, 0)),
            etag: etag.and_then(strong_etag),
        };
        Expect { version, range: ByteRange::new(10, 20), by_minute: false }
    }

    fn judge(expect: &Expect, status: u16, pairs: &[(HeaderName, &str)]) -> Result<u64, OriginErrorKind> {
        expect.check(StatusCode::from_u16(status).unwrap(), &headers(pairs))
    }

    #[test]
    fn part_is_taken_only_when_it_is_the_part_and_of_that_size() {
        let expect = expect(None, None);
        let part = |range| judge(&expect, 206, &[(CONTENT_RANGE, range)]);
        assert_eq!(part("bytes 10-19/100"), Ok(0));
        assert_eq!(part("bytes 8-30/100"), Ok(2), "a wider part will do");
        assert_eq!(part("bytes 10-19/*"), Ok(0));
        assert_eq!(part("bytes 10-19/101"), Err(OriginErrorKind::Changed));
        assert_eq!(part("bytes 11-19/100"), Err(OriginErrorKind::Corrupt));
        assert_eq!(part("bytes 10-18/100"), Err(OriginErrorKind::Corrupt));
        assert_eq!(part("gibberish"), Err(OriginErrorKind::Corrupt));
        assert_eq!(judge(&expect, 206, &[]), Err(OriginErrorKind::Corrupt));
    }

    #[test]
    fn whole_is_cut_to_the_part_unless_its_length_says_otherwise() {
        let expect = expect(None, None);
        assert_eq!(judge(&expect, 200, &[(CONTENT_LENGTH, "100")]), Ok(10));
        assert_eq!(judge(&expect, 200, &[(CONTENT_LENGTH, "10"), (CONTENT_RANGE, "bytes 10-19/100")]), Ok(0));
        assert_eq!(judge(&expect, 200, &[(CONTENT_LENGTH, "10")]), Err(OriginErrorKind::Changed));
        let tagged = self::expect(Some("abc"), None);
        assert_eq!(judge(&tagged, 200, &[(CONTENT_LENGTH, "10"), (ETAG, "\"abc\"")]), Ok(0));
        assert_eq!(judge(&expect, 200, &[(CONTENT_LENGTH, "99")]), Err(OriginErrorKind::Changed));
        assert_eq!(judge(&expect, 200, &[]), Ok(10));
    }

    #[test]
    fn version_is_told_by_etag_where_both_have_one_else_by_time() {
        let length = (CONTENT_LENGTH, "100");
        let tagged = expect(Some("abc"), Some(1));
        let with = |etag| judge(&tagged, 200, &[length.clone(), (ETAG, etag), (LAST_MODIFIED, DATE)]);
        assert_eq!(with("\"abc\""), Ok(10), "the time does not matter then");
        assert_eq!(with("\"abd\""), Err(OriginErrorKind::Changed));
        assert_eq!(
            with("W/\"abc\""),
            Err(OriginErrorKind::Changed),
            "a weak tag proves nothing, the time counts"
        );
        let timed = |secs| judge(&expect(None, Some(secs)), 200, &[length.clone(), (LAST_MODIFIED, DATE)]);
        assert_eq!(timed(DATE_SECS), Ok(10));
        assert_eq!(timed(DATE_SECS - 30), Err(OriginErrorKind::Changed));
        let by_minute = Expect { by_minute: true, ..expect(None, Some(DATE_SECS - 30)) };
        assert_eq!(judge(&by_minute, 200, &[length, (LAST_MODIFIED, DATE)]), Ok(10));
    }

    #[test]
    fn etags_are_the_same_quoted_or_not_and_weak_ones_are_none() {
        assert_eq!(strong_etag("abc").as_deref(), Some("\"abc\""));
        assert_eq!(strong_etag(" \"abc\" ").as_deref(), Some("\"abc\""));
        assert_eq!(strong_etag("W/\"abc\""), None);
        assert_eq!(strong_etag("\"\""), None);
    }
}
