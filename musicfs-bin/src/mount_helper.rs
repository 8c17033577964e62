//! The calling convention of `mount(8)`: `mount.musicfs SOURCE DIR [-sfnv] [-N ns] [-o options]`.
//!
//! `mount` runs `/sbin/mount.musicfs` (a link to this binary) for a line of `/etc/fstab` whose type is `musicfs`.
//! The source is a directory with music, or `none` when the configuration names the origins. The helper returns
//! once the tree is mounted, as `mount` does.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// The name under which the binary behaves so.
const NAME: &str = "mount.musicfs";

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Run `musicfs` with these arguments, its own name included.
    Run(Vec<OsString>),
    /// `-f`: only pretend.
    Pretend,
}

/// Options with a value, as in the configuration.
const WITH_VALUE: &[&str] = &[
    "config",
    "origin",
    "cache_dir",
    "state_dir",
    "runtime_dir",
    "template",
    "cache_size",
    "cache_min_free",
    "cache_max_age",
    "prefetch",
    "recheck_after",
    "local_deadline",
    "remote_deadline",
    "failback_delay",
    "drain_limit",
    "health_interval",
    "rescan_interval",
    "missing_grace",
    "missing_max_age",
    "scan_workers",
    "log_level",
    "log_format",
];
/// Options without one.
const SWITCHES: &[&str] = &["allow_other", "no_passthrough", "no_watch"];
/// Options that concern `mount`, `systemd` or the kernel's defaults, and change nothing here: the tree is
/// read-only, and nothing in it is a device or a program that gains rights.
const IGNORED: &[&str] = &[
    "ro",
    "defaults",
    "auto",
    "noauto",
    "user",
    "nouser",
    "users",
    "owner",
    "group",
    "_netdev",
    "nofail",
    "exec",
    "noexec",
    "suid",
    "nosuid",
    "dev",
    "nodev",
    "async",
    "atime",
    "noatime",
    "relatime",
    "norelatime",
    "nodiratime",
    "diratime",
    "strictatime",
    "silent",
    "loud",
    "nosymfollow",
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
                    let value =
                        if rest.is_empty() { args.next() } else { Some(OsStr::from_bytes(rest).into()) };
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
    // Whoever starts it (a shell, systemd at boot), the system's directories and configuration are meant.
    let mut run: Vec<OsString> = ["musicfs", "mount", "--background", "--system"].map(OsString::from).into();
    if verbose {
        run.push("--verbose".into());
    }
    if !matches!(source.as_bytes(), b"none" | b"musicfs") {
        run.push(flag("origin", Some(&source)));
    }
    for list in options {
        for option in split(&list) {
            run.extend(translate(&option)?);
        }
    }
    run.extend(["--".into(), dir]);
    Ok(Request::Run(run))
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

/// Turns one option into a flag; `None` for those without effect.
fn translate(option: &OsStr) -> Result<Option<OsString>, String> {
    let bytes = option.as_bytes();
    let (name, value) = match bytes.iter().position(|b| *b == b'=') {
        Some(at) => (&bytes[..at], Some(OsStr::from_bytes(&bytes[at + 1..]))),
        None => (bytes, None),
    };
    let name = String::from_utf8_lossy(name);
    // What mount(8) and its callers keep for themselves: x-systemd.automount, comment=…
    if name.starts_with("x-") || name.starts_with("X-") || name == "comment" {
        return Ok(None);
    }
    match (&*name, value) {
        (name, Some(value)) if WITH_VALUE.contains(&name) => Ok(Some(flag(name, Some(value)))),
        (name, None) if WITH_VALUE.contains(&name) => Err(format!("option {name} needs a value: {name}=…")),
        (name, None) if SWITCHES.contains(&name) => Ok(Some(flag(name, None))),
        (name, Some(_)) if SWITCHES.contains(&name) => Err(format!("option {name} takes no value")),
        ("rw", None) => Err("option rw: the tree is read-only; write ro or leave it out".into()),
        (name, None) if IGNORED.contains(&name) => Ok(None),
        (name, _) => {
            let known = WITH_VALUE.iter().chain(SWITCHES).copied();
            Err(format!("unknown option {name}; {}", crate::config::keys::suggestion(name, known)))
        }
    }
}

fn flag(name: &str, value: Option<&OsStr>) -> OsString {
    let mut flag = OsString::from(format!("--{}", name.replace('_', "-")));
    if let Some(value) = value {
        flag.push("=");
        flag.push(value);
    }
    flag
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(args: &[&str]) -> Result<Request, String> {
        parse(args.iter().map(OsString::from))
    }

    fn run(args: &[&str]) -> Vec<String> {
        match request(args).unwrap() {
            Request::Run(args) => args[4..].iter().map(|arg| arg.to_str().unwrap().to_owned()).collect(),
            Request::Pretend => panic!("pretends"),
        }
    }

    #[test]
    fn line_of_fstab_becomes_a_mount() {
        let options =
            "ro,noauto,user,_netdev,x-systemd.automount,allow_other,cache_dir=/c,template=$artist\\, $title";
        assert_eq!(
            run(&["/music", "/mnt", "-n", "-o", options]),
            [
                "--origin=/music",
                "--allow-other",
                "--cache-dir=/c",
                "--template=$artist, $title",
                "--",
                "/mnt"
            ]
        );
    }

    #[test]
    fn source_may_be_left_to_the_configuration() {
        assert_eq!(run(&["none", "/mnt", "-oconfig=/e.toml"]), ["--config=/e.toml", "--", "/mnt"]);
    }

    #[test]
    fn what_is_made_is_a_legal_command_line() {
        use clap::Parser;
        let values = WITH_VALUE.iter().map(|name| format!("{name}=-x"));
        let all: Vec<String> = values.chain(SWITCHES.iter().map(ToString::to_string)).collect();
        let Ok(Request::Run(args)) = request(&["/m", "-v", "-o", &all.join(","), "/mnt"]) else {
            panic!("run")
        };
        crate::cli::Cli::try_parse_from(args).unwrap();
    }

    #[test]
    fn flags_of_mount_are_understood() {
        assert_eq!(request(&["a", "b", "-sf"]), Ok(Request::Pretend));
        assert_eq!(run(&["a", "b", "-v"])[0], "--verbose");
        let refused = |args: &[&str]| request(args).unwrap_err();
        assert!(refused(&["a", "b", "-N", "/proc/1/ns/mnt"]).contains("namespace"));
        assert!(refused(&["a", "b", "-o"]).contains("needs a value"));
        assert!(refused(&["a", "b", "-Z"]).contains("-Z"));
        assert!(refused(&["a"]).contains("usage"));
        assert!(refused(&["a", "b", "-o", "rw"]).contains("read-only"));
        assert!(refused(&["a", "b", "-o", "tempalte=x"]).contains("'template'"));
        assert!(refused(&["a", "b", "-o", "cache_dir"]).contains("needs a value"));
        assert!(refused(&["a", "b", "-o", "allow_other=1"]).contains("no value"));
    }

    #[test]
    fn helper_is_known_by_its_name() {
        assert!(is_called(Some(&"/sbin/mount.musicfs".into())));
        assert!(!is_called(Some(&"/usr/bin/musicfs".into())));
        assert!(!is_called(None));
    }
}
