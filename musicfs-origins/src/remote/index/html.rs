//! Indexes in HTML: the links of the page, and what stands behind each. Pure.

use html5gum::{Token, Tokenizer};
use musicfs_core::FileVersion;

use super::{Row, dates};

/// Takes a page apart: all its links, whether or not they lead into the folder.
pub(super) fn parse(body: &[u8]) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    // Text behind the last link, up to the next.
    let mut behind = String::new();
    let mut in_link = false;
    for token in Tokenizer::new(body).flatten() {
        match token {
            Token::StartTag(tag) if tag.name.as_slice() == b"a" => {
                finish(rows.last_mut(), &behind);
                behind.clear();
                let Some(href) = tag.attributes.get(&b"href"[..]) else { continue };
                in_link = true;
                let href = String::from_utf8_lossy(href.as_slice()).into_owned();
                rows.push(Row { folder: href.ends_with('/'), href, version: None });
            }
            Token::EndTag(tag) if tag.name.as_slice() == b"a" => in_link = false,
            Token::String(text) if !in_link => behind.push_str(&String::from_utf8_lossy(&text)),
            _ => {}
        }
    }
    finish(rows.last_mut(), &behind);
    rows
}

/// Takes what nginx writes behind a link: date, time, and the size in bytes. Other servers round the size, write
/// the time of their own zone, or both; theirs says nothing.
fn finish(row: Option<&mut Row>, behind: &str) {
    let Some(row) = row.filter(|row| !row.folder) else { return };
    let mut words = behind.split_whitespace();
    let (Some(date), Some(time), Some(size), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return;
    };
    if let (Some(mtime), Ok(size)) = (dates::nginx(date, time), size.parse()) {
        row.version = Some(FileVersion { size, mtime: Some(mtime), etag: None });
    }
}

#[cfg(test)]
mod tests {
    use musicfs_core::UnixNanos;

    use super::*;

    fn row(href: &str, size: Option<u64>) -> Row {
        let mtime = Some(UnixNanos::from_parts(1_445_412_480, 0));
        let version = size.map(|size| FileVersion { size, mtime, etag: None });
        Row { href: href.into(), folder: href.ends_with('/'), version }
    }

    #[test]
    fn nginx_page_tells_sizes() {
        let page = "<html>\r\n<head><title>Index of /</title></head>\r\n<body>\r\n<h1>Index of /</h1><hr><pre>\
<a href=\"../\">../</a>\r\n\
<a href=\"a%20b/\">a b/</a>                         21-Oct-2015 07:28                   -\r\n\
<a href=\"x%26&#39;y.flac\">x&amp;&#39;y.flac</a>   21-Oct-2015 07:28                1234\r\n\
<a href=\"last.mp3\">last.mp3</a>                   21-Oct-2015 07:28                   0\r\n\
</pre><hr></body>\r\n</html>\r\n";
        let expected =
            [row("../", None), row("a%20b/", None), row("x%26'y.flac", Some(1234)), row("last.mp3", Some(0))];
        assert_eq!(parse(page.as_bytes()), expected);
    }

    #[test]
    fn rounded_sizes_and_other_dates_are_not_believed() {
        let nginx = "<a href=\"a.flac\">a.flac</a> 21-Oct-2015 07:28  12M\n";
        let apache = "<img src=\"/icons/sound2.gif\" alt=\"[SND]\"> <a href=\"a.flac\">a.flac</a> \
            2015-10-21 07:28  1234  \n";
        let lighttpd = "<tr><td class=\"n\"><a href=\"a.flac\">a.flac</a></td><td class=\"m\">2015-Oct-21 \
            07:28:30</td><td class=\"s\">1.2K</td><td class=\"t\">audio/flac</td></tr>";
        let python = "<li><a href=\"a.flac\">a.flac</a></li>";
        for page in [nginx, apache, lighttpd, python] {
            assert_eq!(parse(page.as_bytes()), [row("a.flac", None)], "{page}");
        }
    }

    #[test]
    fn any_page_is_only_links() {
        assert_eq!(parse(b"<a name=top>x</a><a href>y</a><A HREF='z'>z"), [row("", None), row("z", None)]);
        assert_eq!(parse(b""), []);
        assert_eq!(parse(b"\xff<a href=\"\xfe\">").len(), 1);
    }
}
