//! Tables and addresses to specs, and specs to origins.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use musicfs_core::{Clock, SystemClock};

use super::{OriginKind, OriginSpec, SecretCommand, SecretSource, build};

fn table(text: &str) -> Result<OriginSpec, String> {
    OriginSpec::from_table(text.parse().unwrap(), Path::new("/etc/musicfs")).map_err(|e| e.to_string())
}

fn argument(text: &str) -> Result<OriginSpec, String> {
    OriginSpec::from_argument(text, Path::new("/here")).map_err(|e| e.to_string())
}

fn nothing(_: &str) -> Option<OsString> {
    None
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new())
}

#[test]
fn table_and_address_say_the_same() {
    let pairs = [
        (
            "s3://bucket/my%20music/?endpoint=http://nas:9000&region=eu",
            "type='s3'\nbucket='bucket'\nprefix='my music'\nendpoint='http://nas:9000'\nregion='eu'",
        ),
        (
            "webdav+https://me@host:8443/my%20music/",
            "type='webdav'\nurl='https://host:8443/my%20music/'\nusername='me'",
        ),
        ("davs://host/m", "type='webdav'\nurl='https://host/m'"),
        ("http://host/music/", "type='http'\nurl='http://host/music/'"),
        (
            "sftp://me@host:2222/srv/my%20music",
            "type='sftp'\nhost='host'\nport=2222\nuser='me'\npath='/srv/my music'",
        ),
        ("sftp://me@[::1]/~/music", "type='sftp'\nhost='::1'\nuser='me'\npath='music'"),
        (
            "smb://dom;me@nas/share/sub/folder",
            "type='smb'\nhost='nas'\nshare='share'\npath='sub/folder'\nuser='me'\ndomain='dom'",
        ),
        ("nfs://nas/export/music?uid=1000", "type='nfs'\nhost='nas'\nexport='/export/music'\nuid=1000"),
        ("file:///srv/my%20music", "type='local'\npath='/srv/my music'"),
        ("/srv/my%20music", "type='local'\npath='/srv/my%20music'"),
    ];
    for (address, keys) in pairs {
        assert_eq!(argument(address), table(keys), "{address}");
        if address.contains("://") {
            assert_eq!(table(&format!("url=\"{address}\"")), table(keys), "{address}");
        }
    }
    assert_eq!(table("type='webdav'\nurl='https://host/m'"), argument("webdav+https://host/m"));
}

#[test]
fn common_keys_are_read_from_tables_and_addresses() {
    let spec = table(
        "url='http://host/'\nid='web'\npriority=3\nconcurrency=4\nbandwidth='8 MB'\nconnect_timeout='500ms'\n\
         read_timeout=20",
    )
    .unwrap();
    assert_eq!((spec.id.as_str(), spec.priority, spec.concurrency), ("web", 3, Some(4)));
    assert_eq!(spec.bandwidth, Some(8_000_000));
    assert_eq!(spec.connect_timeout, Some(Duration::from_millis(500)));
    assert_eq!(spec.read_timeout, Some(Duration::from_secs(20)));
    let spec = argument("http://host/?id=web&priority=3&bandwidth=8000000").unwrap();
    assert_eq!((spec.id.as_str(), spec.priority, spec.bandwidth), ("web", 3, Some(8_000_000)));
    assert_eq!(argument("rel/ative").unwrap().kind.place(), "/here/rel/ative");
}

#[test]
fn ids_follow_from_the_place_and_differ_between_places() {
    let id = |text: &str| argument(text).unwrap().id;
    assert!(id("s3://My_Bucket/a").as_str().starts_with("my-bucket-"));
    assert_eq!(id("s3://b/a"), id("s3://b/a/"));
    assert_eq!(id("s3://b/a"), id("s3://b/a?priority=7"));
    assert_ne!(id("s3://b/a"), id("s3://b/b"));
    assert_ne!(id("http://a/music/"), id("http://b/music/"));
}

#[test]
fn unknown_key_names_the_nearest() {
    let error = table("type='s3'\nbucket='b'\nendpiont='x'").unwrap_err();
    assert!(error.contains("'endpiont'") && error.contains("'endpoint'"), "{error}");
    let error = table("type='local'\npath='x'\nprioritiy=1").unwrap_err();
    assert!(error.contains("'priority'"), "{error}");
    let error = table("type='sft'\npath='x'").unwrap_err();
    assert!(error.contains("'sftp'"), "{error}");
    let error = table("type='nfs'\nhost='h'\nexport='/e'\nzzzz=1").unwrap_err();
    assert!(!error.contains("did you mean"), "{error}");
    assert!(argument("sft://host/").unwrap_err().contains("'sftp'"));
}

#[test]
fn wrong_value_names_its_key() {
    for (text, key) in [
        ("type='sftp'\nhost='h'\nport='x'", "'port'"),
        ("type='sftp'\nhost='h'\nport=70000", "'port'"),
        ("type='local'\npath=3", "'path'"),
        ("type=3", "'type'"),
        ("type='http'\nurl='http://h/'\nbandwidth='fast'", "'bandwidth'"),
        ("type='http'\nurl='http://h/'\nconcurrency=0", "'concurrency'"),
        ("type='local'\npath='x'\nid='a b'", "'id'"),
        ("url='s3://a/'\nbucket='b'", "'bucket'"),
        ("url='s3://a/'\ntype='sftp'", "'type'"),
    ] {
        let error = table(text).unwrap_err();
        assert!(error.contains(key), "{text}: {error}");
    }
    for (text, key) in
        [("type='s3'", "'bucket'"), ("type='local'", "'path'"), ("type='smb'\nhost='h'", "'share'")]
    {
        assert!(table(text).unwrap_err().contains(key), "{text}");
    }
    assert!(table("path='/x'").unwrap_err().contains("'type'"));
}

#[test]
fn secrets_are_refused_where_they_can_be_seen() {
    for text in [
        "type='webdav'\nurl='http://h/'\nusername='me'\npassword='hunter2'",
        "type='s3'\nbucket='b'\nsecret_access_key='hunter2'",
        "type='gcs'\nbucket='b'\ncredential='hunter2'",
        "url='webdav+http://me@h/?password=hunter2'",
        "url='sftp://me:hunter2@h/'",
        "url='s3://id:hunter2@bucket/'",
    ] {
        let error = table(text).unwrap_err();
        assert!(error.contains("_env"), "{text}: {error}");
        assert!(!error.contains("hunter2"), "{text}: {error}");
    }
    let error = argument("sftp://me:hunter2@h:notaport/").unwrap_err();
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn secrets_come_from_variable_file_or_command() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("secret"), "hunter2\n").unwrap();
    let env = |name: &str| (name == "SECRET").then(|| OsString::from("hunter2"));
    let words = |words: &[&str]| SecretCommand::Words(words.iter().map(|w| (*w).to_owned()).collect());
    let mut file = SecretSource::File("secret".into());
    file.below(dir.path());
    for source in [
        SecretSource::Env("SECRET".into()),
        file,
        SecretSource::Command(SecretCommand::Line("echo hunter2".into())),
        SecretSource::Command(words(&["printf", "%s", "hunter2"])),
    ] {
        let secret = source.get("password", &env).unwrap();
        assert_eq!(secret.expose(), "hunter2");
        assert!(!format!("{secret:?} {source:?}").contains("= hunter2"));
    }
    for (source, part) in [
        (SecretSource::Env("OTHER".into()), "the variable OTHER"),
        (SecretSource::File("/no/such/file".into()), "/no/such/file"),
        (SecretSource::Command(SecretCommand::Line("exit 3".into())), "exit 3"),
        (SecretSource::Command(words(&[])), "the command"),
        (SecretSource::Command(words(&["true"])), "true"),
    ] {
        let error = source.get("password", &env).unwrap_err().to_string();
        assert!(error.contains("password") && error.contains(part), "{error}");
    }
    let twice = "type='webdav'\nurl='http://h/'\nusername='me'\npassword_env='A'\npassword_file='b'";
    assert!(table(twice).unwrap_err().contains("one place"));
}

#[test]
fn files_are_below_the_folder_of_the_configuration() {
    let spec = table("type='sftp'\nhost='h'\nkey_file='keys/id'\npassword_file='/abs'").unwrap();
    let OriginKind::Sftp(sftp) = spec.kind else { panic!("{spec:?}") };
    assert_eq!(sftp.key_file.as_deref(), Some(Path::new("/etc/musicfs/keys/id")));
    assert_eq!(sftp.password, Some(SecretSource::File("/abs".into())));
}

#[test]
fn local_origin_is_built_with_its_layers() {
    let dir = tempfile::tempdir().unwrap();
    let spec = argument(dir.path().to_str().unwrap()).unwrap();
    let built = build(&spec, &nothing, &clock()).unwrap();
    assert_eq!((built.origin.id(), built.priority), (&spec.id, 100));
    assert!(built.origin.local().is_some());
    assert_eq!(built.metrics.snapshot().reads, 0);
}

#[cfg(all(feature = "s3", feature = "webdav", feature = "http", feature = "nfs", feature = "smb"))]
#[test]
fn every_kind_is_built_of_its_address() {
    for address in [
        "s3://bucket/x?endpoint=http://nas:9000&anonymous=true",
        "s3://bucket/x",
        "webdav+https://host/music",
        "https://host/music/",
        "nfs://host/export",
        "smb://nas/music/albums",
    ] {
        let built = build(&argument(address).unwrap(), &nothing, &clock()).expect(address);
        assert!(built.origin.caps().remote, "{address}");
    }
    let half = table("type='smb'\nhost='nas'\nshare='music'\nuser='me'").unwrap();
    let error = build(&half, &nothing, &clock()).unwrap_err().to_string();
    assert!(error.contains("password_env"), "{error}");
    let half = table("type='webdav'\nurl='http://h/'\nusername='me'").unwrap();
    let error = build(&half, &nothing, &clock()).unwrap_err();
    assert!(matches!(error, super::SpecError::Value { .. }), "{error}");
    let unset = table("type='webdav'\nurl='http://h/'\nusername='me'\npassword_env='NOT_SET'").unwrap();
    let error = build(&unset, &nothing, &clock()).unwrap_err().to_string();
    assert!(error.contains("NOT_SET"), "{error}");
}

#[cfg(feature = "sftp")]
#[test]
fn sftp_without_a_way_to_log_in_says_how() {
    let spec = argument("sftp://me@host/music").unwrap();
    let error = build(&spec, &nothing, &clock()).unwrap_err().to_string();
    assert!(error.contains("key_file") && error.contains("password_env"), "{error}");
    let env = |name: &str| (name == "SSH_AUTH_SOCK").then(|| OsString::from("/run/agent"));
    assert!(build(&spec, &env, &clock()).is_ok());
}
