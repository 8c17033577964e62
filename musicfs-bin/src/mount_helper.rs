//! The calling convention of `mount(8)`: `mount.musicfs SOURCE DIR [-sfnv] [-N ns] [-o options]`.
//!
//! `mount` runs `/sbin/mount.musicfs` (a link to this binary) for a line of `/etc/fstab` whose type is `musicfs`.
//! The source is a directory with music, or `none` when the configuration names the origins. The helper returns
//! once the tree is mounted, as `mount` does.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::cli::{MountArgs, SettingArgs};

/// The name under which the binary behaves so.
const NAME: &str = "mount.musicfs";

/// What to do.
#[derive(Debug)]
pub(crate) enum Request {
    /// Mount.
    Mount {
        /// As for `musicfs mount`.
        args: Box<MountArgs>,
        /// Whether to say more.
        verbose: bool,
    },
    /// `-f`: only pretend.
    Pretend,
}

/// Options that concern `mount`, `systemd` or the kernel's defaults, and change nothing here: the tree is
/// read-only, and nothing in it is a device or a program that gains rights.
const IGNORED: &[&str] = &[
    "ro", "defaults", "auto", "noauto", "user", "nouser", "users", "owner", "group", "_netdev", "nofail", "exec",
    "noexec", "suid", "nosuid", "dev", "nodev", "async", "atime", "noatime", "relatime", "norelatime",
    "nodiratime", "diratime", "strictatime", "silent", "loud", "nosymfollow",
];

/// Tells whether the program was called as the helper.
pub(crate) fn is_called(program: Option<&OsString>) -> bool {
    program.and_then(|program| Path::new(program).file_name()) == Some(OsStr::new(NAME))
}

/// Reads the arguments that follow the program's name.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Request, String> {
    let mut args = args.into_iter();
    let mut plain: Vec<OsString> = Vec::new();
    let mut options: Vec<OsString> = Vec::new();
    let (mut pretend, mut verbose) = (false, false);
    while let Some(arg) = args.next() {
        let Some(flags) = arg.as_bytes().strip_prefix(b"-").filter(|flags| !flags.is_empty()) else {
            plain.push(arg);
            continue;
        };
        for (at, flag) in flags.iter().enumerate() {
            match flag {
                // Nothing is written to /etc/mtab, and options that are not understood are errors: -n, -s.
                b'n' | b's' => {}
                b'f' => pretend = true,
                b'v' => verbose = true,
                b'o' | b'N' | b't' => {
                    let rest = &flags[at + 1..];
                    let value = if rest.is_empty() { args.next() } else { Some(OsStr::from_bytes(rest).into()) };
                    let value = value.ok_or_else(|| format!("-{} needs a value", char::from(*flag)))?;
                    if *flag == b'N' {
                        return Err("-N: mounting into another namespace is not possible; use nsenter".into());
                    }
                    if *flag == b'o' {
                        options.push(value);
                    }
                    break;
                }
                other => return Err(format!("unknown option -{}; {}", char::from(*other), usage())),
            }
        }
    }
    let Ok([source, dir]) = <[OsString; 2]>::try_from(plain) else {
        return Err(format!("a source and a directory are needed; {}", usage()));
    };
    if pretend {
        return Ok(Request::Pretend);
    }
    let mut settings = SettingArgs::default();
    if !matches!(source.as_bytes(), b"none" | b"musicfs") {
        settings.origins.push(source);
    }
    for list in options {
        for option in split(&list) {
            apply(&option, &mut settings)?;
        }
    }
    let args = MountArgs {
        settings,
        background: true,
        system: true,
        started_in_background: false,
        mountpoint: Some(PathBuf::from(dir)),
    };
    Ok(Request::Mount { args: Box::new(args), verbose })
}

fn usage() -> String {
    format!("usage: {NAME} SOURCE DIR [-fnsv] [-o OPTIONS]")
}

/// Splits at commas; `\,` is a comma, as a template may have one.
fn split(list: &OsStr) -> Vec<OsString> {
    let mut options = vec![Vec::new()];
    let mut bytes = list.as_bytes().iter().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' if bytes.peek() == Some(&&b',') => {
                bytes.next();
                if let Some(last) = options.last_mut() {
                    last.push(b',');
                }
            }
            b',' => options.push(Vec::new()),
            byte => {
                if let Some(last) = options.last_mut() {
                    last.push(*byte);
                }
            }
        }
    }
    options.into_iter().filter(|option| !option.is_empty()).map(OsString::from_vec).collect()
}

fn apply(option: &OsStr, settings: &mut SettingArgs) -> Result<(), String> {
    let bytes = option.as_bytes();
    let (name, value) = match bytes.iter().position(|b| *b == b'=') {
        Some(at) => (&bytes[..at], Some(OsStr::from_bytes(&bytes[at + 1..]).to_owned())),
        None => (bytes, None),
    };
    let shown = String::from_utf8_lossy(name).into_owned();
    // What mount(8) keeps for itself and its callers: x-systemd.automount, comment=…
    if shown.starts_with("x-") || shown.starts_with("X-") || shown == "comment" || shown == "context" {
        return Ok(());
    }
    let needs = |value: Option<OsString>| value.ok_or_else(|| format!("option {shown} needs a value: {shown}=…"));
    match shown.as_str() {
        "config" => settings.config = Some(needs(value)?.into()),
        "origin" => settings.origins.push(needs(value)?),
        "cache_dir" => settings.cache_dir = Some(needs(value)?),
        "state_dir" => settings.state_dir = Some(needs(value)?),
        "runtime_dir" => settings.runtime_dir = Some(needs(value)?),
        "template" => settings.template = Some(needs(value)?),
        "local_deadline" => settings.local_deadline = Some(needs(value)?),
        "remote_deadline" => settings.remote_deadline = Some(needs(value)?),
        "drain_limit" => settings.drain_limit = Some(needs(value)?),
        "rescan_interval" => settings.rescan_interval = Some(needs(value)?),
        "scan_workers" => settings.scan_workers = Some(needs(value)?),
        "log_level" => settings.log_level = Some(needs(value)?),
        "log_format" => settings.log_format = Some(needs(value)?),
        "allow_other" => settings.allow_other = true,
        "no_passthrough" => settings.no_passthrough = true,
        "rw" => return Err("option rw: the tree is read-only; write ro or leave it out".into()),
        name if IGNORED.contains(&name) => {}
        name => {
            let known = [
                "config", "origin", "cache_dir", "state_dir", "runtime_dir", "template", "allow_other",
                "no_passthrough", "local_deadline", "remote_deadline", "drain_limit", "rescan_interval",
                "scan_workers", "log_level", "log_format",
            ];
            let hint = crate::config::keys::suggestion(name, known.into_iter());
            return Err(format!("unknown option {name}; {hint}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(args: &[&str]) -> Result<Request, String> {
        parse(args.iter().map(OsString::from))
    }

    fn mount(args: &[&str]) -> MountArgs {
        match request(args).unwrap() {
            Request::Mount { args, .. } => *args,
            Request::Pretend => panic!("pretends"),
        }
    }

    #[test]
    fn line_of_fstab_becomes_a_mount() {
        let options = "ro,noauto,user,_netdev,x-systemd.automount,allow_other,cache_dir=/c,template=$artist\\, $title";
        let args = mount(&["/music", "/mnt", "-n", "-o", options]);
        assert_eq!(args.settings.origins, ["/music"]);
        assert_eq!(args.settings.cache_dir, Some("/c".into()));
        assert_eq!(args.settings.template, Some("$artist, $title".into()));
        assert!(args.settings.allow_other && args.background && args.system);
        assert_eq!(args.mountpoint, Some("/mnt".into()));
    }

    #[test]
    fn source_may_be_left_to_the_configuration() {
        assert!(mount(&["none", "/mnt"]).settings.origins.is_empty());
        assert_eq!(mount(&["none", "/mnt", "-oconfig=/e.toml"]).settings.config, Some("/e.toml".into()));
    }

    #[test]
    fn flags_of_mount_are_understood() {
        assert!(matches!(request(&["a", "b", "-sf"]), Ok(Request::Pretend)));
        assert!(matches!(request(&["a", "b", "-v"]), Ok(Request::Mount { verbose: true, .. })));
        assert!(request(&["a", "b", "-N", "/proc/1/ns/mnt"]).unwrap_err().contains("namespace"));
        assert!(request(&["a", "b", "-o"]).unwrap_err().contains("needs a value"));
        assert!(request(&["a", "b", "-Z"]).unwrap_err().contains("-Z"));
        assert!(request(&["a"]).unwrap_err().contains("usage"));
        assert!(request(&["a", "b", "-o", "rw"]).unwrap_err().contains("read-only"));
        assert!(request(&["a", "b", "-o", "tempalte=x"]).unwrap_err().contains("'template'"));
        assert!(request(&["a", "b", "-o", "cache_dir"]).unwrap_err().contains("needs a value"));
    }

    #[test]
    fn helper_is_known_by_its_name() {
        assert!(is_called(Some(&"/sbin/mount.musicfs".into())));
        assert!(!is_called(Some(&"/usr/bin/musicfs".into())));
        assert!(!is_called(None));
    }
}
