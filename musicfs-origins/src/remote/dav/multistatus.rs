//! The answer to `PROPFIND` (RFC 4918, 13). Pure.

use musicfs_core::FileVersion;
use quick_xml::NsReader;
use quick_xml::events::Event;
use quick_xml::name::ResolveResult;

use crate::remote::expect::{http_date, strong_etag};
use crate::remote::web::What;

/// One entry, as far as it is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) href: String,
    pub(super) folder: bool,
    size: Option<u64>,
    modified: Option<String>,
    etag: Option<String>,
}

impl Entry {
    pub(super) fn what(&self) -> What {
        match self.size {
            _ if self.folder => What::Folder,
            Some(size) => What::File(FileVersion {
                size,
                mtime: self.modified.as_deref().and_then(http_date),
                etag: self.etag.as_deref().and_then(strong_etag),
            }),
            None => What::Vague,
        }
    }
}

/// Why an answer could not be understood.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotUnderstood {
    #[error("the listing is not the XML it should be")]
    Xml(#[from] quick_xml::Error),
    #[error("the listing breaks off")]
    Cut,
    #[error("the answer is not a WebDAV listing")]
    Other,
}

/// Properties come in groups by status; only those of a group that was found count.
#[derive(Default)]
struct Group {
    properties: Entry,
    status: String,
}

impl Group {
    fn found(&self) -> bool {
        // `HTTP/1.1 200 OK`; a server that leaves it out means well.
        self.status.split_whitespace().nth(1).is_none_or(|code| code.starts_with('2'))
    }
}

/// Takes an answer apart.
pub(super) fn parse(body: &[u8]) -> Result<Vec<Entry>, NotUnderstood> {
    let mut reader = NsReader::from_reader(body);
    let config = reader.config_mut();
    // `<collection/>` and `<collection></collection>` are the same.
    config.expand_empty_elements = true;
    let mut entries = Vec::new();
    // Names of the elements around, those of other namespaces as nothing.
    let mut around: Vec<String> = Vec::new();
    let mut entry = Entry::default();
    let mut group = Group::default();
    let mut text = String::new();
    let mut complete = false;
    loop {
        let (namespace, event) = reader.read_resolved_event()?;
        match event {
            Event::Start(start) => {
                let dav = matches!(namespace, ResolveResult::Bound(ns) if ns.as_ref() == "DAV:");
                let name = if dav { start.local_name().as_ref().to_owned() } else { String::new() };
                if around.is_empty() && name != "multistatus" {
                    return Err(NotUnderstood::Other);
                }
                match name.as_str() {
                    "response" => entry = Entry::default(),
                    "propstat" => group = Group::default(),
                    _ => {}
                }
                around.push(name);
                text.clear();
            }
            Event::Text(piece) => text.push_str(&piece),
            Event::CData(piece) => text.push_str(&piece),
            Event::GeneralRef(reference) => {
                if let Some(c) = reference.resolve_char_ref()? {
                    text.push(c);
                } else {
                    match quick_xml::escape::resolve_predefined_entity(&reference) {
                        Some(resolved) => text.push_str(resolved),
                        None => return Err(NotUnderstood::Other),
                    }
                }
            }
            Event::End(_) => {
                let name = around.pop().unwrap_or_default();
                let inside = around.last().map(String::as_str).unwrap_or_default();
                let value = || text.trim().to_owned();
                match (inside, name.as_str()) {
                    ("response", "href") => entry.href = value(),
                    ("propstat", "status") => group.status = value(),
                    ("resourcetype", "collection") => group.properties.folder = true,
                    ("prop", "getcontentlength") => group.properties.size = text.trim().parse().ok(),
                    ("prop", "getlastmodified") => group.properties.modified = Some(value()),
                    ("prop", "getetag") => group.properties.etag = Some(value()),
                    ("response", "propstat") if group.found() => {
                        let Entry { folder, size, modified, etag, .. } =
                            std::mem::take(&mut group.properties);
                        entry.folder |= folder;
                        entry.size = size.or(entry.size);
                        entry.modified = modified.or(entry.modified.take());
                        entry.etag = etag.or(entry.etag.take());
                    }
                    ("multistatus", "response") => entries.push(std::mem::take(&mut entry)),
                    ("", "multistatus") => complete = true,
                    _ => {}
                }
                text.clear();
            }
            Event::Eof => break,
            _ => {}
        }
    }
    if complete { Ok(entries) } else { Err(NotUnderstood::Cut) }
}

#[cfg(test)]
mod tests {
    use musicfs_core::UnixNanos;

    use super::*;

    const ANSWER: &str = r#"<?xml version="1.0" encoding="utf-8"?>
<D:multistatus xmlns:D="DAV:" xmlns:o="urn:other">
 <D:response><D:href>/music/</D:href><D:propstat><D:prop>
  <D:resourcetype><D:collection/></D:resourcetype></D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat>
 </D:response>
 <D:response xmlns:x="DAV:"><x:href>/music/a%20&amp;%20b&#x2e;flac</x:href>
  <D:propstat><D:prop><x:resourcetype></x:resourcetype><x:getcontentlength> 123 </x:getcontentlength>
   <o:getetag>other</o:getetag>
   <D:getetag>"abc"</D:getetag><D:getlastmodified>Wed, 21 Oct 2015 07:28:30 GMT</D:getlastmodified></D:prop>
   <D:status>HTTP/1.1 200 OK</D:status></D:propstat>
  <D:propstat><D:prop><D:getcontentlength>9</D:getcontentlength></D:prop>
   <D:status>HTTP/1.1 404 Not Found</D:status></D:propstat>
 </D:response>
 <D:response><D:href>/music/odd</D:href><D:propstat><D:prop><D:resourcetype/></D:prop>
  <D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>
</D:multistatus>"#;

    #[test]
    fn listing_is_read_whatever_the_prefixes() {
        let entries = parse(ANSWER.as_bytes()).unwrap();
        assert_eq!(entries[0].what(), What::Folder);
        assert_eq!(entries[1].href, "/music/a%20&%20b.flac");
        let mtime = Some(UnixNanos::from_parts(1_445_412_510, 0));
        let version = FileVersion { size: 123, mtime, etag: Some("\"abc\"".into()) };
        assert_eq!(entries[1].what(), What::File(version));
        assert_eq!(entries[2].what(), What::Vague, "no size is told");
        assert_eq!(entries.len(), 3);
    }

    #[test]
    fn listing_that_breaks_off_anywhere_is_none() {
        for end in (0..ANSWER.trim_end().len()).step_by(7) {
            assert!(parse(&ANSWER.as_bytes()[..end]).is_err(), "up to {end}");
        }
    }

    #[test]
    fn page_of_another_kind_is_no_listing() {
        assert!(parse(b"<html><body>hello</body></html>").is_err());
        assert!(parse(b"").is_err());
    }
}
