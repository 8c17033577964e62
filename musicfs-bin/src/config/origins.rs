//! Origins as the user names them: what was written, who wrote it, and what it means.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use musicfs_core::OriginId;
use musicfs_origins::{LocalSpec, OriginKind, OriginSpec, SpecError};
use toml::{Table, Value};

use super::Source;
use super::settings::{Base, Setting};

/// Keys whose values are files of this machine, beside those that end in `_file`.
const FILE_KEYS: [&str; 1] = ["known_hosts"];

/// An origin of the library. Two are equal when they mean the same, wherever they are written.
#[derive(Clone, Debug)]
pub(crate) struct NamedOrigin {
    /// What it means.
    pub(crate) spec: OriginSpec,
    /// What was written, as the file would have it, without what every origin has.
    written: Table,
    /// Who said so.
    pub(crate) source: Source,
}

impl PartialEq for NamedOrigin {
    fn eq(&self, other: &Self) -> bool {
        self.spec == other.spec
    }
}

/// What is wrong with an origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// The key to blame, when it is one.
    pub(crate) key: Option<String>,
    /// What is wrong, and what to do.
    pub(crate) message: String,
}

impl From<String> for Wrong {
    fn from(message: String) -> Self {
        Self { key: None, message }
    }
}

impl From<SpecError> for Wrong {
    fn from(error: SpecError) -> Self {
        let key = match &error {
            SpecError::UnknownKey { key, .. }
            | SpecError::SecretInPlace { key }
            | SpecError::Value { key, .. } => Some(key.clone()),
            SpecError::UnknownType { .. } | SpecError::NotBuiltIn(_) => Some("type".to_owned()),
            SpecError::Address { .. } => Some("url".to_owned()),
            _ => None,
        };
        Self { key, message: error.to_string() }
    }
}

impl NamedOrigin {
    /// Makes an origin of what a flag or a variable says: a URL, or a directory of this machine.
    pub(crate) fn from_text(raw: &OsStr, base: Base<'_>, source: Source) -> Result<Self, Wrong> {
        match scheme_of(raw) {
            Some(scheme) if scheme != "file" => {
                let url = raw.to_str().ok_or_else(|| format!("{raw:?} is not UTF-8"))?;
                Self::from_table(Table::from_iter([("url".to_owned(), url.into())]), base, source)
            }
            Some(_) | None => {
                let path = raw.as_bytes().strip_prefix(b"file://").map_or(raw, OsStr::from_bytes);
                let path = PathBuf::read(path, base)?;
                Ok(Self::local(derived_id(&path), path, source))
            }
        }
    }

    /// Makes an origin of a `[[origins]]` table. Without a type and an address it is a directory of this machine.
    pub(crate) fn from_table(mut table: Table, base: Base<'_>, source: Source) -> Result<Self, Wrong> {
        if !table.contains_key("type") && !table.contains_key("url") {
            table.insert("type".to_owned(), "local".into());
        }
        let is_local = table.get("type").and_then(Value::as_str) == Some("local");
        for (key, value) in &mut table {
            let is_file = key.ends_with("_file") || FILE_KEYS.contains(&key.as_str());
            if let Value::String(text) = value
                && (is_file || (is_local && key == "path"))
            {
                let path = PathBuf::read(OsStr::new(text.as_str()), base);
                let path = path.map_err(|message| Wrong { key: Some(key.clone()), message })?;
                *text = path.to_string_lossy().into_owned();
            }
        }
        let mut spec = OriginSpec::from_table(table.clone(), base.dir)?;
        if let OriginKind::Local(local) = &spec.kind
            && !table.contains_key("id")
        {
            spec.id = derived_id(&local.path);
        }
        for common in ["id", "type", "priority"] {
            table.remove(common);
        }
        Ok(Self { spec, written: table, source })
    }

    fn local(id: OriginId, path: PathBuf, source: Source) -> Self {
        let written = Table::from_iter([("path".to_owned(), path.show())]);
        let spec = OriginSpec::new(id, OriginKind::Local(LocalSpec { path }));
        Self { spec, written, source }
    }

    /// Returns its id.
    pub(crate) fn id(&self) -> &OriginId {
        &self.spec.id
    }

    /// Returns where it is, in words.
    pub(crate) fn place(&self) -> String {
        self.spec.kind.place()
    }

    /// Returns its directory, when it is one of this machine.
    pub(crate) fn path(&self) -> Option<&Path> {
        match &self.spec.kind {
            OriginKind::Local(local) => Some(&local.path),
            _ => None,
        }
    }

    /// Returns its directory's real path; see [`crate::paths::real_in_time`].
    pub(crate) fn real_path(&self) -> Option<PathBuf> {
        self.path().map(crate::paths::real_in_time)
    }

    /// Tells whether a user who names an origin means this one: by its id, its directory or its address.
    pub(crate) fn is_named(&self, name: &str) -> bool {
        self.id().as_str() == name
            || self.path().is_some_and(|path| path == Path::new(name))
            || self.place() == name
    }

    /// Returns it as the file would have it.
    pub(crate) fn to_table(&self) -> Table {
        let mut table = self.written.clone();
        table.insert("id".to_owned(), self.id().as_str().into());
        table.insert("type".to_owned(), self.spec.kind.name().into());
        table.insert("priority".to_owned(), Value::Integer(self.spec.priority.into()));
        table
    }
}

fn scheme_of(raw: &OsStr) -> Option<String> {
    let shown = raw.to_string_lossy();
    let (scheme, _) = shown.split_once("://")?;
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    (!scheme.is_empty() && scheme.chars().all(legal)).then(|| scheme.to_owned())
}

/// Splits a list of origins at its colons, as far as they are not those of a URL: `scheme://`, and the port after
/// its host.
pub(crate) fn split_list(list: &OsStr) -> Vec<OsString> {
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    let mut in_authority = false;
    for part in list.as_bytes().split(|byte| *byte == b':') {
        let is_port = || {
            let digits = part.iter().take_while(|byte| byte.is_ascii_digit()).count();
            digits > 0 && matches!(part.get(digits), None | Some(b'/' | b'?'))
        };
        let joins = match pieces.last() {
            Some(last) if part.starts_with(b"//") => scheme_of(&scheme_text(last)).is_some(),
            Some(_) => in_authority && is_port(),
            None => false,
        };
        in_authority = part.starts_with(b"//") && joins && !part[2..].contains(&b'/');
        match pieces.last_mut() {
            Some(last) if joins => {
                last.push(b':');
                last.extend_from_slice(part);
            }
            _ => pieces.push(part.to_vec()),
        }
    }
    pieces.into_iter().filter(|piece| !piece.is_empty()).map(OsString::from_vec).collect()
}

fn scheme_text(piece: &[u8]) -> OsString {
    let mut text = piece.to_vec();
    text.extend_from_slice(b"://");
    OsString::from_vec(text)
}

/// Derives an id from a directory: its name, and a hash of its real path that tells two of a name apart.
fn derived_id(path: &Path) -> OriginId {
    let real = crate::paths::real_in_time(path);
    let name = real.file_name().map(OsStr::to_string_lossy).unwrap_or_default();
    musicfs_origins::derived_id(&name, real.as_os_str().as_encoded_bytes())
}

/// Returns the BLAKE3 hash of bytes in hexadecimal.
pub(crate) fn blake3_hex(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Base<'static> {
        Base { dir: Path::new("/srv"), home: Some(Path::new("/home/u")) }
    }

    fn named(raw: &str) -> Result<NamedOrigin, Wrong> {
        NamedOrigin::from_text(OsStr::new(raw), base(), Source::Default)
    }

    fn table(text: &str) -> Result<NamedOrigin, Wrong> {
        NamedOrigin::from_table(text.parse().unwrap(), base(), Source::Default)
    }

    #[test]
    fn id_follows_from_the_real_path() {
        let dir = tempfile::tempdir().unwrap();
        let music = dir.path().join("My Müsic!");
        std::fs::create_dir(&music).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&music, &link).unwrap();
        let by_path = named(music.to_str().unwrap()).unwrap();
        assert!(by_path.id().as_str().starts_with("my-m-sic-"), "{}", by_path.id());
        assert_eq!(by_path.id().as_str().len(), "my-m-sic-".len() + 6);
        assert_eq!(named(link.to_str().unwrap()).unwrap().id(), by_path.id());
        let written = table(&format!("path = '{}'", link.display())).unwrap();
        assert_eq!(written.id(), by_path.id());
        assert_ne!(named("/a/Music").unwrap().id(), named("/b/Music").unwrap().id());
        assert!(named("/").unwrap().id().as_str().starts_with("music-"));
    }

    #[test]
    fn text_is_a_url_or_a_directory() {
        assert_eq!(named("file:///m").unwrap().path(), Some(Path::new("/m")));
        assert_eq!(named("rel").unwrap().path(), Some(Path::new("/srv/rel")));
        assert_eq!(named("~/Music").unwrap().path(), Some(Path::new("/home/u/Music")));
        let remote = named("sftp://me@nas:2222/music").unwrap();
        assert_eq!(remote.path(), None);
        assert_eq!(remote.place(), "sftp://me@nas:2222/music");
        assert!(remote.is_named("sftp://me@nas:2222/music"));
        assert_eq!(remote.to_table()["type"].as_str(), Some("sftp"));
        assert!(named("gopher://x/y").unwrap_err().message.contains("'gopher'"));
    }

    #[test]
    fn files_in_a_table_may_be_in_the_home_directory() {
        let nas = table("type = 'sftp'\nhost = 'nas'\nkey_file = '~/.ssh/id'\npassword_file = 'pw'").unwrap();
        assert_eq!(nas.to_table()["key_file"].as_str(), Some("/home/u/.ssh/id"));
        assert_eq!(nas.to_table()["password_file"].as_str(), Some("/srv/pw"));
    }

    #[test]
    fn wrong_key_is_named() {
        let key = |text: &str| table(text).unwrap_err().key;
        assert_eq!(key("pth = '/m'").as_deref(), Some("pth"));
        assert_eq!(key("path = '/m'\nid = 'a/b'").as_deref(), Some("id"));
        assert_eq!(key("type = 'sfpt'").as_deref(), Some("type"));
        assert_eq!(key("type = 'sftp'\nhost = 'h'\npassword = 'x'").as_deref(), Some("password"));
    }

    #[test]
    fn list_is_split_at_the_colons_that_are_no_urls() {
        let split = |list: &str| {
            let pieces = split_list(OsStr::new(list));
            pieces.iter().map(|piece| piece.to_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(split("/a:/b"), ["/a", "/b"]);
        assert_eq!(split(":/a::"), ["/a"]);
        assert_eq!(split("s3://b/p:/m"), ["s3://b/p", "/m"]);
        assert_eq!(
            split("/m:sftp://u@h:22/x:8/b:nfs://h:2049"),
            ["/m", "sftp://u@h:22/x", "8/b", "nfs://h:2049"]
        );
        assert_eq!(split("webdav+https://h/x:s3://b"), ["webdav+https://h/x", "s3://b"]);
    }
}
