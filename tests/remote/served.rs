//! Folders of music behind servers, with the configuration that finds them.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use musicfs_core::AudioMeta;
use musicfs_test_utils::fault_proxy::FaultProxy;
use musicfs_test_utils::file_servers::{Rclone, Samba, ServerProcess, Sshd, WebServer};
use musicfs_test_utils::library::{library_of_every_format, noise_flac};
use tempfile::TempDir;

/// Name of the bucket, the share or whatever stands for them.
const NAME: &str = "music";
const KEY_ID: &str = "ACCESSKEY12345";
pub(crate) const SECRET: &str = "SECRETKEY1234567890";
/// A secret that opens nothing.
pub(crate) const STRANGERS_SECRET: &str = "STRANGERKEY0987654321";

/// Kinds of servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    S3,
    /// By key.
    Sftp,
    /// By password, of a server whose key is known.
    SftpByPassword,
    Smb,
    Nfs,
    Webdav,
    /// Of a server that says so when the folder is gone: rclone shows an empty one in its place.
    WebdavOfApache,
    Http,
}

enum Server {
    Rclone(Rclone),
    Sshd(Sshd),
    Samba(Samba),
    Web(WebServer),
}

/// A served folder.
pub(crate) struct Served {
    dir: TempDir,
    kind: Kind,
    server: Server,
    proxy: Option<(FaultProxy, tokio::runtime::Runtime)>,
}

impl Served {
    /// Serves a folder that is empty yet.
    pub(crate) fn empty(kind: Kind) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let music = dir.path().join(NAME);
        fs::create_dir(&music).unwrap();
        let server = match kind {
            Kind::S3 => Server::Rclone(Rclone::s3(dir.path(), KEY_ID, SECRET)),
            Kind::Sftp => Server::Sshd(Sshd::start()),
            Kind::SftpByPassword => Server::Rclone(Rclone::sftp(&music, "me", SECRET)),
            Kind::Smb => Server::Samba(Samba::start(&music)),
            Kind::Nfs => Server::Rclone(Rclone::nfs(&music)),
            Kind::Webdav => Server::Rclone(Rclone::webdav(&music, Some(("me", SECRET)))),
            Kind::WebdavOfApache => Server::Web(WebServer::apache(dir.path())),
            Kind::Http => Server::Web(WebServer::nginx(&music, false)),
        };
        fs::write(dir.path().join("secret"), SECRET).unwrap();
        Self { dir, kind, server, proxy: None }
    }

    /// Serves music of every format, and one large file, `long.flac`, of about `large` bytes.
    pub(crate) fn library(kind: Kind, large: usize) -> Self {
        let served = Self::empty(kind);
        library_of_every_format(&served.music()).unwrap();
        served.add("long.flac", "Long", large);
        served
    }

    /// Adds a file of noise of about `len` bytes, by the artist Noise.
    pub(crate) fn add(&self, path: &str, title: &str, len: usize) -> Vec<u8> {
        self.write(path, &AudioMeta { title: Some(title.into()), ..AudioMeta::default() }, len)
    }

    /// Adds an album of noise by the artist Noise, of `count` tracks of about `len` bytes each; returns where each
    /// is in the mount, and its bytes.
    pub(crate) fn add_album(&self, album: &str, count: u32, len: usize) -> Vec<(PathBuf, Vec<u8>)> {
        let add = |track| {
            let title = format!("{album} {track}");
            let audio = AudioMeta {
                title: Some(title.clone()),
                album: Some(album.into()),
                track: Some(track),
                ..AudioMeta::default()
            };
            let bytes = self.write(&format!("{title}.flac"), &audio, len);
            (PathBuf::from(format!("Noise/{album}/{track:02} - {title}.flac")), bytes)
        };
        (1..=count).map(add).collect()
    }

    fn write(&self, path: &str, audio: &AudioMeta, len: usize) -> Vec<u8> {
        let mut bytes = noise_flac(&AudioMeta { artists: vec!["Noise".into()], ..audio.clone() }, len);
        // The same noise for all would make their chunks the same.
        let title = audio.title.as_deref().unwrap_or_default();
        let mut state =
            title.bytes().fold(len as u64 | 1, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        for byte in bytes.iter_mut().skip(64 << 10) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte ^= (state >> 56) as u8;
        }
        fs::write(self.music().join(path), &bytes).unwrap();
        bytes
    }

    /// Puts a proxy that can misbehave in front of the server.
    pub(crate) fn behind_proxy(mut self) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let proxy = runtime.block_on(FaultProxy::start(self.server_addr())).unwrap();
        self.proxy = Some((proxy, runtime));
        self
    }

    /// Returns the proxy.
    pub(crate) fn proxy(&self) -> &FaultProxy {
        &self.proxy.as_ref().unwrap().0
    }

    /// Returns the folder that is served.
    pub(crate) fn music(&self) -> PathBuf {
        self.dir.path().join(NAME)
    }

    fn server_addr(&self) -> SocketAddr {
        match &self.server {
            Server::Rclone(server) => server.addr(),
            Server::Sshd(server) => server.addr(),
            Server::Samba(server) => server.addr(),
            Server::Web(server) => server.addr(),
        }
    }

    fn process(&mut self) -> &mut ServerProcess {
        match &mut self.server {
            Server::Rclone(server) => server.process(),
            Server::Sshd(server) => server.process(),
            Server::Samba(server) => server.process(),
            Server::Web(server) => server.process(),
        }
    }

    /// Kills the server.
    pub(crate) fn kill(&mut self) {
        self.process().kill();
    }

    /// Returns the `[[origins]]` table, with more keys.
    pub(crate) fn table(&self, id: &str, more: &str) -> String {
        let addr = self.proxy.as_ref().map_or_else(|| self.server_addr(), |(proxy, _)| proxy.addr());
        let secret = self.dir.path().join("secret");
        let secret = secret.display();
        let own = match (self.kind, &self.server) {
            (Kind::S3, _) => format!(
                "url = \"s3://{KEY_ID}@{NAME}?endpoint=http://{addr}&region=us-east-1\"\n\
                 secret_access_key_file = \"{secret}\"\n"
            ),
            (Kind::Sftp, Server::Sshd(server)) => format!(
                "type = \"sftp\"\nhost = \"{}\"\nport = {}\nuser = \"{}\"\npath = \"{}\"\nkey_file = \"{}\"\n\
                 known_hosts = \"{}\"\n",
                addr.ip(),
                addr.port(),
                server.user(),
                self.music().display(),
                server.key().display(),
                server.known_hosts(addr, false).display(),
            ),
            (Kind::SftpByPassword, _) => format!(
                "url = \"sftp://me@{addr}/\"\npassword_file = \"{secret}\"\nknown_hosts = \"{}\"\n",
                self.known_hosts().display(),
            ),
            (Kind::Smb, Server::Samba(server)) => {
                fs::write(self.dir.path().join("secret"), server.password()).unwrap();
                format!("url = \"smb://{}@{addr}/{NAME}\"\npassword_file = \"{secret}\"\n", server.user())
            }
            (Kind::Nfs, _) => format!("url = \"nfs://{addr}/\"\nmount_port = {}\n", addr.port()),
            (Kind::Webdav, _) => {
                format!("url = \"webdav+http://me@{addr}/\"\npassword_file = \"{secret}\"\n")
            }
            (Kind::WebdavOfApache, _) => format!("url = \"webdav+http://{addr}/{NAME}/\"\n"),
            (Kind::Http, _) => format!("url = \"http://{addr}/\"\n"),
            (kind, _) => panic!("{kind:?} is served by another"),
        };
        format!("[[origins]]\nid = \"{id}\"\n{own}{more}\n")
    }

    /// As [`Served::table`], with something that is not there in place of what is served.
    pub(crate) fn table_of_nothing(&self, id: &str) -> String {
        let table = self.table(id, "");
        match self.kind {
            Kind::S3 => table.replace(&format!("@{NAME}?"), "@nothing?"),
            Kind::Smb => table.replace(&format!("/{NAME}\""), "/nothing\""),
            Kind::Sftp => table.replace(&self.music().display().to_string(), "/no/such/folder"),
            _ => table.replacen("/\"\n", "/nothing/\"\n", 1),
        }
    }

    /// As [`Served::table`] for somebody who does not have the secret.
    pub(crate) fn table_of_a_stranger(&self, id: &str) -> String {
        let table = self.table(id, "");
        fs::write(self.dir.path().join("secret"), STRANGERS_SECRET).unwrap();
        match &self.server {
            Server::Sshd(server) => {
                let (right, wrong) = (server.key(), server.strange_key());
                table.replace(&right.display().to_string(), &wrong.display().to_string())
            }
            _ => table,
        }
    }

    /// Returns a file of known hosts, which is empty at first.
    pub(crate) fn known_hosts(&self) -> PathBuf {
        self.dir.path().join("known_hosts")
    }
}

/// Returns the file on the server that a file in the mount shows.
pub(crate) fn original(served: &Served, path: &Path) -> PathBuf {
    let origin = musicfs_tests::files::attribute(path, "user.musicfs.path").unwrap();
    served.music().join(origin)
}
