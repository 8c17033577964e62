//! Mounting: by the system call where that is allowed, else by `fusermount3`, which is called by its absolute path.
//!
//! It is done here and not by the FUSE library, whose unmounting looks at the mount point only and could take
//! somebody else's mount away.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSliceMut, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg};

use super::{MountError, MountOptions};

/// The device.
const DEVICE: &str = "/dev/fuse";
/// Type of filesystem, as the table of mounts shows it after `fuse.`.
const SUBTYPE: &str = "musicfs";
/// Where fusermount3 may be. The search path is not asked: it is the user's, and the program is setuid.
const HELPER_DIRS: [&str; 4] = ["/usr/bin", "/bin", "/usr/sbin", "/usr/local/bin"];
/// Allows users other than the mounting one to give others access.
const FUSE_CONF: &str = "/etc/fuse.conf";

/// Returns where fusermount3 is.
pub(super) fn helper() -> Option<PathBuf> {
    HELPER_DIRS.iter().map(|dir| Path::new(dir).join("fusermount3")).find(|path| path.is_file())
}

/// Returns `path` as the table of mounts has it, without touching what is mounted there: the folder that holds it
/// is resolved, and symbolic links.
///
/// # Errors
/// When the folder that holds it does not exist.
pub fn resolve_mountpoint(path: &Path) -> io::Result<PathBuf> {
    let mut path = std::path::absolute(path)?;
    // As many links as the kernel follows.
    for _ in 0..40 {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return fs::canonicalize(&path);
        };
        let parent = fs::canonicalize(parent)?;
        // Reading a link asks nothing of a mount: its root is not one.
        match fs::read_link(parent.join(name)) {
            Ok(target) => path = parent.join(target),
            Err(_) if name == ".." => return fs::canonicalize(&path),
            Err(_) => return Ok(parent.join(name)),
        }
    }
    Err(io::Error::from_raw_os_error(nix::libc::ELOOP))
}

/// Mounts at `mountpoint`, a resolved path, and returns the device of the new connection.
pub(super) fn mount_at(mountpoint: &Path, options: &MountOptions) -> Result<OwnedFd, MountError> {
    let found = fs::metadata(mountpoint)
        .map_err(|source| MountError::Mountpoint { path: mountpoint.into(), source })?;
    if !found.is_dir() {
        let source = io::ErrorKind::NotADirectory.into();
        return Err(MountError::Mountpoint { path: mountpoint.into(), source });
    }
    let device = match OpenOptions::new().read(true).write(true).open(DEVICE) {
        Ok(device) => device,
        Err(source) if source.kind() == io::ErrorKind::PermissionDenied => {
            return Err(MountError::DeviceDenied(source));
        }
        Err(source) => return Err(MountError::NoDevice(source)),
    };
    match mount_directly(&device, mountpoint, found.permissions().mode(), options) {
        Ok(()) => Ok(device.into()),
        Err(Errno::EPERM) => {
            if options.allow_other && !user_allow_other() {
                return Err(MountError::UserAllowOther);
            }
            mount_by_helper(mountpoint, options)
        }
        Err(errno) => Err(MountError::Mount { path: mountpoint.into(), source: errno.into() }),
    }
}

fn mount_directly(device: &File, mountpoint: &Path, mode: u32, options: &MountOptions) -> nix::Result<()> {
    let mut data = format!(
        "fd={},rootmode={:o},user_id={},group_id={},default_permissions",
        device.as_raw_fd(),
        mode & nix::libc::S_IFMT,
        nix::unistd::getuid(),
        nix::unistd::getgid(),
    );
    if options.allow_other {
        data.push_str(",allow_other");
    }
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOATIME;
    let fs_type = format!("fuse.{SUBTYPE}");
    mount(Some(options.fs_name.as_str()), mountpoint, Some(fs_type.as_str()), flags, Some(data.as_str()))
}

/// Mounts by fusermount3, which sends the device over a socket: here its standard input.
fn mount_by_helper(mountpoint: &Path, options: &MountOptions) -> Result<OwnedFd, MountError> {
    let helper = helper().ok_or(MountError::NoHelper)?;
    let failed = |source| MountError::Mount { path: mountpoint.into(), source };
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    let name = options.fs_name.replace('\\', "\\\\").replace(',', "\\,");
    let mut list = format!("ro,nosuid,nodev,noatime,default_permissions,fsname={name},subtype={SUBTYPE}");
    if options.allow_other {
        list.push_str(",allow_other");
    }
    let mut child = Command::new(&helper)
        .arg("-o")
        .arg(list)
        .arg("--")
        .arg(mountpoint)
        .env("_FUSE_COMMFD", "0")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let received = receive_device(&ours);
    let mut said = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        // What it said is for the error's text only.
        let _ = stderr.read_to_string(&mut said);
    }
    let status = child.wait().map_err(failed)?;
    match received {
        Ok(device) if status.success() => Ok(device),
        Ok(_) | Err(_) => {
            let said = said.trim().to_owned();
            Err(MountError::Helper { helper, path: mountpoint.into(), said })
        }
    }
}

#[expect(unsafe_code, reason = "a file descriptor that came in a message has to be wrapped")]
fn receive_device(socket: &UnixStream) -> io::Result<OwnedFd> {
    let mut byte = [0];
    let mut parts = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!(std::os::fd::RawFd);
    let message = loop {
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        match recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags) {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
            Ok(message) => break message,
        }
    };
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = control
            && let Some(fd) = fds.first()
        {
            // SAFETY: the kernel has just made this descriptor for us, and nothing else knows of it.
            return Ok(unsafe { OwnedFd::from_raw_fd(*fd) });
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

/// Tells whether a user may give others access.
fn user_allow_other() -> bool {
    let conf = fs::read_to_string(FUSE_CONF).unwrap_or_default();
    conf.lines().any(|line| line.trim() == "user_allow_other")
}
