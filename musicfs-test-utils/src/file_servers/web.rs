//! Web servers: nginx, Apache, and the one that comes with Python.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::TempDir;

use super::process::{ServerProcess, find};

/// Where Debian and its kin keep Apache's modules, and where others do.
const APACHE_MODULES: [&str; 3] =
    ["/usr/lib/apache2/modules", "/usr/lib64/httpd/modules", "/usr/lib/httpd/modules"];

/// Runs Python's server with room for more than the five connections that it lets wait. Linux drops what comes beyond
/// them only after the client was told that it is connected, whose request then fails by its deadline.
const PYTHON: &str = "import runpy, socketserver; socketserver.TCPServer.request_queue_size = 128; \
                      runpy.run_module('http.server', run_name='__main__')";

/// A web server that shows a folder.
#[derive(Debug)]
pub struct WebServer {
    _dir: TempDir,
    process: ServerProcess,
}

impl WebServer {
    /// Starts nginx with directory indexes in HTML, or in JSON.
    ///
    /// # Panics
    /// When it is not installed or does not start.
    pub fn nginx(folder: &Path, json: bool) -> Self {
        let dir = temp();
        let own = dir.path().to_owned();
        let process = ServerProcess::start(&find("nginx"), own.join("log"), |port| {
            let temp = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                .map(|kind| format!("{kind}_temp_path {}/{kind};", own.display()))
                .join(" ");
            let format = if json { "json" } else { "html" };
            let config = format!(
                "daemon off; master_process off; pid {own}/pid; error_log stderr;\n\
                 events {{ worker_connections 512; }}\n\
                 http {{ access_log off; {temp} default_type application/octet-stream;\n\
                 server {{ listen 127.0.0.1:{port}; root {root};\n\
                 autoindex on; autoindex_format {format}; }} }}\n",
                own = own.display(),
                root = folder.display(),
            );
            write(&own.join("nginx.conf"), &config);
            let path = |name: &str| own.join(name).display().to_string();
            vec!["-e".into(), "stderr".into(), "-p".into(), path(""), "-c".into(), path("nginx.conf")]
        });
        Self { _dir: dir, process }
    }

    /// Starts Apache, which serves `folder` by WebDAV and with its own directory indexes. The folder is made
    /// readable for all, as Apache does not stay root.
    ///
    /// # Panics
    /// When it is not installed or does not start.
    pub fn apache(folder: &Path) -> Self {
        let dir = temp();
        let own = dir.path().to_owned();
        mode(&own, 0o777);
        mode(folder, 0o755);
        let modules = APACHE_MODULES.iter().map(Path::new).find(|path| path.is_dir());
        let modules = modules.unwrap_or_else(|| {
            panic!("the modules of Apache are not installed; install it with scripts/test-servers.sh")
        });
        let load = ["mpm_event", "authz_core", "dav", "dav_fs", "autoindex"]
            .map(|name| format!("LoadModule {name}_module {}/mod_{name}.so\n", modules.display()))
            .concat();
        let process = ServerProcess::start(&find("apache2"), own.join("log"), |port| {
            let config = format!(
                "ServerRoot {own}\nServerName localhost\nListen 127.0.0.1:{port}\nPidFile {own}/pid\n\
                 {load}User nobody\nGroup nogroup\nErrorLog {own}/errors\nDavLockDB {own}/locks\n\
                 DefaultRuntimeDir {own}\nDocumentRoot {root}\nAcceptPathInfo Off\n\
                 <Directory {root}>\nDav On\nOptions Indexes\nIndexOptions FancyIndexing NameWidth=*\n\
                 Require all granted\n</Directory>\n",
                own = own.display(),
                root = folder.display(),
            );
            write(&own.join("apache.conf"), &config);
            vec!["-f".into(), own.join("apache.conf").display().to_string(), "-DFOREGROUND".into()]
        });
        Self { _dir: dir, process }
    }

    /// Starts Python's server, which takes no ranges and tells no sizes in its indexes.
    ///
    /// # Panics
    /// When it is not installed or does not start.
    pub fn python(folder: &Path) -> Self {
        let dir = temp();
        let process = ServerProcess::start(&find("python3"), dir.path().join("log"), |port| {
            let folder = folder.display().to_string();
            ["-c", PYTHON, "--bind", "127.0.0.1", "--directory", &folder, &port.to_string()]
                .map(str::to_owned)
                .to_vec()
        });
        Self { _dir: dir, process }
    }

    /// Returns where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.process.addr()
    }

    /// Returns the process.
    pub fn process(&mut self) -> &mut ServerProcess {
        &mut self.process
    }
}

fn temp() -> TempDir {
    TempDir::new().unwrap_or_else(|e| panic!("no folder: {e}"))
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

fn mode(path: &Path, mode: u32) {
    let set = fs::set_permissions(path, fs::Permissions::from_mode(mode));
    set.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}
