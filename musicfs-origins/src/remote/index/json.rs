//! Indexes in JSON: nginx's `autoindex_format json` and Caddy's. Pure.

use musicfs_core::FileVersion;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::{Row, dates};
use crate::remote::expect::http_date;

/// An entry of either, as far as it is of use.
#[derive(Deserialize)]
struct Entry {
    name: String,
    size: Option<u64>,
    /// nginx: `file`, `directory` or `other`.
    #[serde(rename = "type")]
    kind: Option<String>,
    mtime: Option<String>,
    /// Caddy.
    is_dir: Option<bool>,
    mod_time: Option<String>,
}

/// Takes an index apart.
pub(super) fn parse(body: &[u8]) -> Result<Vec<Row>, serde_json::Error> {
    // nginx writes the bytes of a name as they are. One that is not UTF-8 cannot be told from here; it comes out
    // damaged, and the server will not know it.
    let text = String::from_utf8_lossy(body);
    let entries: Vec<Entry> = serde_json::from_str(&text)?;
    Ok(entries.into_iter().filter(|entry| entry.kind.as_deref() != Some("other")).map(row).collect())
}

fn row(entry: Entry) -> Row {
    let folder = entry.is_dir.unwrap_or(entry.kind.as_deref() == Some("directory"));
    let name = entry.name.strip_suffix('/').unwrap_or(&entry.name);
    let slash = if folder { "/" } else { "" };
    let mtime = match (entry.mtime, entry.mod_time) {
        (Some(date), _) => http_date(&date),
        (None, Some(date)) => dates::rfc3339(&date),
        (None, None) => None,
    };
    let version = entry.size.filter(|_| !folder).map(|size| FileVersion { size, mtime, etag: None });
    Row { href: format!("{}{slash}", utf8_percent_encode(name, NON_ALPHANUMERIC)), folder, version }
}

#[cfg(test)]
mod tests {
    use musicfs_core::UnixNanos;

    use super::*;

    #[test]
    fn nginx_and_caddy_tell_the_same() {
        let nginx = r#"[
{ "name":"a b", "type":"directory", "mtime":"Wed, 21 Oct 2015 07:28:30 GMT" },
{ "name":"c#d.flac", "type":"file", "mtime":"Wed, 21 Oct 2015 07:28:30 GMT", "size":12 },
{ "name":"pipe", "type":"other", "mtime":"Wed, 21 Oct 2015 07:28:30 GMT" }
]"#;
        let caddy = r##"[
{"name":"a b/","size":4096,"url":"./a%20b/","mod_time":"2015-10-21T07:28:30.1Z","mode":2147484141,"is_dir":true,"is_symlink":false},
{"name":"c#d.flac","size":12,"url":"./c%23d.flac","mod_time":"2015-10-21T07:28:30.9Z","mode":420,"is_dir":false,"is_symlink":false}
]"##;
        let rows = parse(nginx.as_bytes()).unwrap();
        assert_eq!(rows, parse(caddy.as_bytes()).unwrap());
        let mtime = Some(UnixNanos::from_parts(1_445_412_510, 0));
        let version = Some(FileVersion { size: 12, mtime, etag: None });
        assert_eq!(rows[0], Row { href: "a%20b/".into(), folder: true, version: None });
        assert_eq!(rows[1], Row { href: "c%23d%2Eflac".into(), folder: false, version });
    }

    #[test]
    fn json_of_another_kind_is_no_index() {
        assert!(parse(b"{}").is_err());
        assert!(parse(b"[{\"title\":1}]").is_err());
        assert!(parse(b"[{\"name\":\"cut").is_err());
    }
}
