//! Origins whose protocols are spoken directly.

#[cfg(feature = "sftp")]
use std::path::PathBuf;
use std::sync::Arc;

use musicfs_core::Origin;

use super::Making;
#[cfg(any(feature = "sftp", feature = "smb"))]
use crate::spec::{SpecError, keys};

/// Names of private keys that are tried where none is given, in `~/.ssh`.
#[cfg(feature = "sftp")]
const KEYS: [&str; 3] = ["id_ed25519", "id_ecdsa", "id_rsa"];
/// The system's file of host keys.
#[cfg(feature = "sftp")]
const SYSTEM_KNOWN_HOSTS: &str = "/etc/ssh/ssh_known_hosts";

impl Making<'_> {
    #[cfg(feature = "sftp")]
    pub(super) fn sftp(&self, sftp: &crate::spec::SftpSpec) -> Result<Arc<dyn Origin>, SpecError> {
        use crate::{SftpAuth, SftpConfig, SftpOrigin};
        let user = sftp.user.clone().or_else(|| self.text(&["USER", "LOGNAME"]));
        let user = user.ok_or_else(|| keys::wrong("user", "it is missing, and USER is not set"))?;
        let ssh = self.env.variable("HOME").map(|home| PathBuf::from(home).join(".ssh"));
        let mut config = SftpConfig::new(&sftp.host, user);
        if let Some(port) = sftp.port {
            config.port = port;
        }
        config.root = sftp.path.clone().into_bytes();
        config.connect_timeout = self.connect_timeout();
        config.clock = Arc::clone(self.clock);
        config.known_hosts = match (&sftp.known_hosts, &ssh) {
            (Some(file), _) => vec![file.clone()],
            (None, Some(ssh)) => vec![ssh.join("known_hosts"), SYSTEM_KNOWN_HOSTS.into()],
            (None, None) => vec![SYSTEM_KNOWN_HOSTS.into()],
        };
        let passphrase = sftp.passphrase.as_ref().map(|source| source.get("passphrase", self.env));
        let passphrase = passphrase.transpose()?;
        let key = |path: PathBuf| SftpAuth::Key { path, passphrase: passphrase.clone() };
        // What was named comes first; what is merely there only where nothing was.
        let named = sftp.key_file.is_some() || sftp.password.is_some();
        config.auth.extend(sftp.key_file.clone().map(key));
        let socket = self.env.variable("SSH_AUTH_SOCK").filter(|socket| !socket.is_empty());
        match (sftp.agent, socket) {
            (Some(true), None) => {
                return Err(keys::wrong("agent", "SSH_AUTH_SOCK is not set, so that there is no agent"));
            }
            (Some(true), Some(socket)) => config.auth.push(SftpAuth::Agent { socket: socket.into() }),
            (None, Some(socket)) if !named => {
                config.auth.push(SftpAuth::Agent { socket: socket.into() });
            }
            _ => {}
        }
        if let (false, Some(ssh)) = (named, &ssh) {
            let there = KEYS.iter().map(|name| ssh.join(name)).filter(|path| path.is_file());
            config.auth.extend(there.map(key));
        }
        if let Some(password) = &sftp.password {
            config.auth.push(SftpAuth::Password(password.get("password", self.env)?));
        }
        if config.auth.is_empty() {
            let reason = "there is no way to log in: name a key_file, start an agent, or give password_env, \
                          password_file or password_command";
            return Err(keys::wrong("key_file", reason));
        }
        Ok(Arc::new(SftpOrigin::new(self.id(), config)))
    }

    #[cfg(feature = "smb")]
    pub(super) fn smb(&self, smb: &crate::spec::SmbSpec) -> Result<Arc<dyn Origin>, SpecError> {
        use crate::{SmbConfig, SmbOrigin};
        let mut config = SmbConfig::new(&smb.host, &smb.share);
        if let Some(port) = smb.port {
            config.port = port;
        }
        config.root = musicfs_core::OriginPath::new(smb.path.trim_matches('/'))
            .map_err(|e| keys::wrong("path", e.to_string()))?;
        match (&smb.user, &smb.password) {
            (None, None) => {}
            (Some(user), Some(password)) => {
                config.user.clone_from(user);
                config.password = Some(password.get("password", self.env)?);
            }
            (Some(_), None) => {
                return Err(keys::wrong("user", "it needs password_env, password_file or password_command"));
            }
            (None, Some(_)) => return Err(keys::wrong("user", "it is missing beside the password")),
        }
        config.domain = smb.domain.clone().unwrap_or_default();
        config.connect_timeout = self.connect_timeout();
        config.clock = Arc::clone(self.clock);
        Ok(Arc::new(SmbOrigin::new(self.id(), config)))
    }

    #[cfg(feature = "nfs")]
    pub(super) fn nfs(&self, nfs: &crate::spec::NfsSpec) -> Arc<dyn Origin> {
        use crate::{NfsConfig, NfsOrigin};
        let mut config = NfsConfig::new(&nfs.host, nfs.export.as_bytes());
        config.nfs_port = nfs.port;
        config.mount_port = nfs.mount_port.or(nfs.port);
        config.uid = nfs.uid.unwrap_or(config.uid);
        config.gid = nfs.gid.unwrap_or(config.gid);
        config.connect_timeout = self.connect_timeout();
        config.clock = Arc::clone(self.clock);
        Arc::new(NfsOrigin::new(self.id(), config))
    }
}
