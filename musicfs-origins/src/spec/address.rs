//! Addresses of origins: URLs, and paths of this machine. Pure.

use percent_encoding::percent_decode_str;
use toml::{Table, Value};
use url::Url;

use super::kinds::TYPES;
use super::{SpecError, keys};

/// Takes what a command line names apart: a URL, or else a path of this machine. Returns the type and the keys.
pub(super) fn parse_argument(argument: &str) -> Result<(String, Table), SpecError> {
    let scheme = argument.split_once("://").map(|(scheme, _)| scheme);
    let is_scheme = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphabetic())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    };
    match scheme.filter(|scheme| is_scheme(scheme)) {
        Some(_) => parse(argument, None),
        None => Ok(("local".into(), Table::from_iter([("path".into(), argument.into())]))),
    }
}

/// Takes a URL apart. `kind` is the type if it was given: an address of the web may be that of either.
pub(super) fn parse(text: &str, kind: Option<&str>) -> Result<(String, Table), SpecError> {
    // A name that may be a password is not shown, whatever is wrong with the rest.
    let shown = match (text.split_once("://"), text.rfind('@')) {
        (Some((scheme, rest)), Some(at)) if !rest.is_empty() => format!("{scheme}://…{}", &text[at..]),
        _ => text.to_owned(),
    };
    let bad = |reason: String| SpecError::Address { url: shown.clone(), reason };
    let url = Url::parse(text).map_err(|e| bad(e.to_string()))?;
    if url.password().is_some() {
        return Err(bad(
            "it has a password, which whoever sees this machine's processes could read; say where it is found \
             with password_env, password_file or password_command"
                .into(),
        ));
    }
    if url.fragment().is_some() {
        return Err(bad("it has a '#'; in a name, write %23".into()));
    }
    let decoded = |escaped: &str| {
        let text = percent_decode_str(escaped).decode_utf8();
        text.map(String::from).map_err(|_| bad("it has a name that is not UTF-8".into()))
    };
    let mut table = Table::new();
    let mut put = |key: &str, value: String| {
        if !value.is_empty() {
            table.insert(key.to_owned(), Value::String(value));
        }
    };
    let host = decoded(url.host_str().unwrap_or_default())?;
    let bare_host = || host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let user = decoded(url.username())?;
    let path = decoded(url.path())?;
    let below = path.trim_matches('/');
    let port = url.port();
    let kind = match url.scheme() {
        "file" if host.is_empty() || host == "localhost" => {
            put("path", path.clone());
            "local"
        }
        "s3" => {
            put("bucket", host.clone());
            put("prefix", below.to_owned());
            put("access_key_id", user);
            "s3"
        }
        scheme @ ("http" | "https" | "webdav+http" | "webdav+https" | "dav" | "davs") => {
            let web = match scheme {
                "dav" => "http",
                "davs" => "https",
                other => other.trim_start_matches("webdav+"),
            };
            let port = port.map_or(String::new(), |port| format!(":{port}"));
            put("url", format!("{web}://{host}{port}{}", url.path()));
            put("username", user);
            if scheme == web && kind != Some("webdav") { "http" } else { "webdav" }
        }
        "sftp" | "ssh" => {
            put("host", bare_host());
            put("user", user);
            // As elsewhere: `~` is the user's own folder.
            let own = path.strip_prefix("/~/").or_else(|| (path == "/~").then_some(""));
            put("path", own.unwrap_or(&path).to_owned());
            "sftp"
        }
        "smb" | "cifs" => {
            put("host", bare_host());
            let (domain, name) =
                user.split_once(';').map_or((String::new(), user.as_str()), |(d, n)| (d.into(), n));
            put("domain", domain);
            put("user", name.to_owned());
            let (share, folder) = below.split_once('/').unwrap_or((below, ""));
            put("share", share.to_owned());
            put("path", folder.to_owned());
            "smb"
        }
        "nfs" => {
            put("host", bare_host());
            put("export", path.clone());
            "nfs"
        }
        other => {
            return Err(keys::unknown_type(other, &TYPES));
        }
    };
    if let (Some(port), "sftp" | "smb" | "nfs") = (port, kind) {
        table.insert("port".into(), Value::Integer(port.into()));
    }
    for (key, value) in url.query_pairs() {
        let typed = match &*value {
            "true" => Value::Boolean(true),
            "false" => Value::Boolean(false),
            number => number.parse().map_or_else(|_| Value::String(number.to_owned()), Value::Integer),
        };
        if table.insert(key.clone().into_owned(), typed).is_some() {
            return Err(bad(format!("it says '{key}' twice")));
        }
    }
    Ok((kind.into(), table))
}
