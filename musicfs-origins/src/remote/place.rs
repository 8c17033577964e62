//! Paths as URLs, and links as names. Pure.
//!
//! A path is bytes and so is a name in a URL, behind its escapes: a name that is not UTF-8 gets through.

use musicfs_core::OriginPath;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, percent_encode};
use url::Url;

use super::WebError;

/// All but what RFC 3986 calls unreserved: what nobody along the way gives a meaning to.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The URL of an origin's root.
#[derive(Clone, Debug)]
pub(super) struct Place {
    root: Url,
    /// The names of the path to the root, unescaped.
    above: Vec<Vec<u8>>,
}

/// What a link is to a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// It leads to the folder itself.
    Itself,
    /// It leads to something in the folder.
    Inside {
        /// The name.
        name: Vec<u8>,
        /// Whether it is written as a folder, with a slash behind.
        folder: bool,
    },
    /// It leads elsewhere.
    Elsewhere,
}

impl Place {
    pub(super) fn new(url: &str) -> Result<Self, WebError> {
        let bad = |reason: String| WebError::Url { url: without_secrets(url), reason };
        let mut root = Url::parse(url).map_err(|e| bad(e.to_string()))?;
        if !matches!(root.scheme(), "http" | "https") {
            return Err(bad("only http and https are spoken".into()));
        }
        if !root.username().is_empty() || root.password().is_some() {
            return Err(bad("credentials are not part of it; give them as username and password".into()));
        }
        if root.query().is_some() || root.fragment().is_some() {
            return Err(bad("it has a '?' or '#'; in a name, write %3F or %23".into()));
        }
        if !root.path().ends_with('/') {
            let path = format!("{}/", root.path());
            root.set_path(&path);
        }
        let above = names(&root).0;
        Ok(Self { root, above })
    }

    pub(super) fn root(&self) -> &Url {
        &self.root
    }

    /// Returns the URL of a file.
    pub(super) fn file(&self, path: &OriginPath) -> Url {
        self.url(path, false)
    }

    /// Returns the URL of a folder, which ends in a slash.
    pub(super) fn folder(&self, path: &OriginPath) -> Url {
        self.url(path, true)
    }

    fn url(&self, path: &OriginPath, folder: bool) -> Url {
        let mut escaped = self.root.path().to_owned();
        for (n, name) in path.components().enumerate() {
            if n > 0 {
                escaped.push('/');
            }
            escaped.extend(percent_encode(name, ESCAPED));
        }
        if folder && !path.is_root() {
            escaped.push('/');
        }
        let mut url = self.root.clone();
        url.set_path(&escaped);
        url
    }

    /// Tells what `link`, found in an answer for `folder`, leads to.
    pub(super) fn link(&self, folder: &OriginPath, link: &str) -> Link {
        let Ok(url) = self.folder(folder).join(link) else { return Link::Elsewhere };
        if url.query().is_some() {
            // A way to sort the listing, or a page of another kind.
            return Link::Elsewhere;
        }
        // Answers may name the server as it sees itself, so that only the path tells.
        let (found, slash) = names(&url);
        let mut expected = self.above.iter().map(Vec::as_slice).chain(folder.components());
        let mut found = found.into_iter();
        loop {
            match (expected.next(), found.next()) {
                (Some(wanted), Some(name)) if wanted == name => {}
                (None, Some(name)) => {
                    return match found.next() {
                        None => Link::Inside { name, folder: slash },
                        Some(_) => Link::Elsewhere,
                    };
                }
                (None, None) => return Link::Itself,
                _ => return Link::Elsewhere,
            }
        }
    }
}

/// Returns the unescaped names of a URL's path, and whether it ends in a slash.
fn names(url: &Url) -> (Vec<Vec<u8>>, bool) {
    let path = url.path();
    let names = path.split('/').filter(|name| !name.is_empty());
    (names.map(|name| percent_decode(name.as_bytes()).collect()).collect(), path.ends_with('/'))
}

/// Returns `url` fit to be shown.
fn without_secrets(url: &str) -> String {
    match Url::parse(url) {
        Ok(mut parsed) if parsed.password().is_some() => {
            // Fails only for URLs that cannot have one.
            let _ = parsed.set_password(Some("***"));
            parsed.into()
        }
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(bytes: impl AsRef<[u8]>) -> OriginPath {
        OriginPath::new(bytes).unwrap()
    }

    fn inside(name: impl AsRef<[u8]>, folder: bool) -> Link {
        Link::Inside { name: name.as_ref().to_vec(), folder }
    }

    #[test]
    fn any_name_survives_the_way_into_a_url_and_back() {
        let place = Place::new("https://host:8443/my%20music").unwrap();
        assert_eq!(place.root().as_str(), "https://host:8443/my%20music/");
        let names: [&[u8]; 10] = [
            b"a b",
            b"50% #1?.flac",
            b"a+b;c&d=e",
            b"'q\"uote'",
            b"back\\slash",
            b"a:b@c",
            "日本語.flac".as_bytes(),
            b"\xff\xfe",
            b" edge ",
            b"%41",
        ];
        for name in names {
            let folder = path(b"x \xff/#y");
            let file = folder.join(name).unwrap();
            let url = place.file(&file);
            assert_eq!(place.link(&folder, url.as_str()), inside(name, false), "{url}");
            assert_eq!(place.link(&folder, url.path()), inside(name, false), "{url}");
            let last = url.path().rsplit('/').next().unwrap();
            assert_eq!(place.link(&folder, &format!("./{last}/")), inside(name, true), "{url}");
        }
    }

    #[test]
    fn links_that_lead_elsewhere_are_told_apart() {
        let place = Place::new("http://host/music/").unwrap();
        let folder = path("a");
        for elsewhere in ["../", "/", "?C=N;O=D", "/music/ab/c", "b/c", "/other/a/b", "mailto:x@y", "b?x=1"] {
            assert_eq!(place.link(&folder, elsewhere), Link::Elsewhere, "{elsewhere}");
        }
        for itself in ["", "./", "/music/a/", "/music/a", "http://other-name/music/a/", "#top"] {
            assert_eq!(place.link(&folder, itself), Link::Itself, "{itself}");
        }
        assert_eq!(place.link(&folder, "a%20b/"), inside("a b", true));
        assert_eq!(place.link(&folder, "a b"), inside("a b", false));
        assert_eq!(place.link(&path(""), "/music/x"), inside("x", false));
    }

    #[test]
    fn address_with_credentials_is_refused_without_showing_them() {
        let error = Place::new("https://me:hunter2@host/").unwrap_err().to_string();
        assert!(error.contains("password") && !error.contains("hunter2"), "{error}");
        for bad in ["ftp://host/", "host/path", "https://host/?a", "https://host/#a"] {
            assert!(Place::new(bad).is_err(), "{bad}");
        }
    }
}
