//! Servers that let nobody in, and what is seen of the secrets that open them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;

use musicfs_test_utils::eventually_blocking;
use musicfs_tests::files;
use musicfs_tests::home::Home;
use musicfs_tests::mount::is_mounted;

use crate::served::{Kind, SECRET, STRANGERS_SECRET, Served};

/// What the HTTP header has of the user `me` and [`SECRET`].
const ENCODED: &str = "bWU6U0VDUkVUS0VZMTIzNDU2Nzg5MA==";

/// What is said of a wrong secret: the reason and the next step.
const REFUSALS: [(Kind, &str, &str); 5] = [
    (Kind::S3, "SignatureDoesNotMatch", "look at secret_access_key_file"),
    (Kind::Sftp, "Tried: key ", "authorized_keys"),
    (Kind::SftpByPassword, "Tried: password", "look at the user and the password"),
    (Kind::Smb, "wrong user or password", "look at the user, the password and the domain"),
    (Kind::Webdav, "401 Unauthorized", "look at the user, the password or the token"),
];

fn mount(home: &Home) -> Output {
    home.run(["mount".as_ref(), home.mountpoint().as_os_str()])
}

/// Tries to mount, which must be refused, and returns why.
fn refused(home: &Home) -> String {
    let output = mount(home);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(!is_mounted(&home.mountpoint()));
    said
}

/// Has the server's key known, by the line that the refusal tells.
fn get_known(home: &Home, served: &Served) {
    let said = refused(home);
    let advice = format!("add this line to {}:\n", served.known_hosts().display());
    let (_, line) = said.split_once(&advice).unwrap_or_else(|| panic!("no line to add: {said}"));
    fs::write(served.known_hosts(), line).unwrap();
}

#[test]
fn server_with_an_unknown_key_is_refused_until_the_line_it_tells_is_added() {
    let (served, home) = (Served::empty(Kind::SftpByPassword), Home::new());
    let wanted = served.add("song.flac", "Song", 200_000);
    home.configure(&served.table("nas", ""));
    let said = refused(&home);
    assert!(said.contains("origin nas: permission denied: the host key of 127.0.0.1 is not known"), "{said}");
    get_known(&home, &served);
    let mount = home.mount_configured();
    mount.wait_scanned();
    let path = mount.join(files::files(&mount.at()).remove(0));
    assert!(fs::read(path).unwrap() == wanted);
    mount.unmount();
}

#[test]
fn wrong_secret_is_refused_with_origin_reason_and_next_step() {
    for (kind, reason, step) in REFUSALS {
        let (served, home) = (Served::empty(kind), Home::new());
        home.configure(&served.table_of_a_stranger("nas"));
        if kind == Kind::SftpByPassword {
            get_known(&home, &served);
        }
        let said = refused(&home);
        let line = said.lines().find(|line| line.contains("origin nas: permission denied: "));
        let line = line.unwrap_or_else(|| panic!("{kind:?}: {said}"));
        assert!(line.contains(reason) && line.contains(step), "{kind:?}: {line}");
        assert!(line.len() < 400, "{kind:?}: {line}");
        assert!(!said.contains(STRANGERS_SECRET), "{kind:?}: {said}");
    }
}

#[test]
fn secret_that_is_no_longer_right_is_told_by_status_and_log() {
    for (kind, reason, step) in REFUSALS {
        let (served, home) = (Served::empty(kind), Home::new());
        home.configure(&served.table("nas", ""));
        if kind == Kind::SftpByPassword {
            get_known(&home, &served);
        }
        let mount = home.mount_configured();
        mount.wait_scanned();
        mount.unmount();
        home.configure(&served.table_of_a_stranger("nas"));
        let mount = home.mount_configured();
        let told = |text: &str| text.contains(reason) && text.contains(step);
        eventually_blocking("the status to tell", || {
            told(mount.status()["origins"][0]["reason"].as_str().unwrap_or_default())
        });
        let shown = home.run(["status"]);
        assert!(told(&String::from_utf8(shown.stdout).unwrap()), "{kind:?}");
        let checked = home.run(["origin", "check"]);
        let checked = String::from_utf8([checked.stdout, checked.stderr].concat()).unwrap();
        assert!(told(&checked), "{kind:?}: {checked}");
        eventually_blocking("the log to tell", || {
            mount.log().lines().any(|line| line.contains("WARN") && line.contains("nas") && told(line))
        });
        assert!(!mount.log().contains(STRANGERS_SECRET), "{kind:?}");
        mount.unmount();
    }
}

/// What is said of a root that is not there: the reason and the next step. NFS is left out: rclone, the one NFS server
/// that runs as an ordinary process, takes any export's name for that of the folder that it serves.
const NOTHING: [(Kind, &str, &str); 5] = [
    (Kind::S3, "NoSuchBucket", "look at bucket and endpoint"),
    (Kind::Sftp, "there is no folder /no/such/folder", "look at the path"),
    (Kind::Smb, "there is no such share", "look at the address"),
    (Kind::Webdav, "404 Not Found", "look at the address"),
    (Kind::Http, "404 Not Found", "look at the address"),
];

#[test]
fn wrong_name_is_refused_with_origin_reason_and_next_step() {
    for (kind, reason, step) in NOTHING {
        let (served, home) = (Served::empty(kind), Home::new());
        home.configure(&served.table_of_nothing("nas"));
        let said = refused(&home);
        let line = said.lines().find(|line| line.contains("origin nas: its root is not there: "));
        let line = line.unwrap_or_else(|| panic!("{kind:?}: {said}"));
        assert!(line.contains(reason) && line.contains(step), "{kind:?}: {line}");
        let checked = home.run(["origin", "check"]);
        assert_eq!(checked.status.code(), Some(1), "{kind:?}: {checked:?}");
        let checked = String::from_utf8(checked.stdout).unwrap();
        assert!(checked.contains(reason) && checked.contains(step), "{kind:?}: {checked}");
    }
}

#[test]
fn root_that_goes_takes_no_file_away_and_is_used_again_when_it_is_back() {
    for kind in [Kind::S3, Kind::Sftp, Kind::WebdavOfApache, Kind::Http] {
        let (served, home) = (Served::empty(kind), Home::new());
        let wanted = served.add("song.flac", "Song", 200_000);
        home.configure(&format!(
            "rescan_interval = \"0\"\nhealth_interval = \"1s\"\n{}",
            served.table("nas", "")
        ));
        let mount = home.mount_configured();
        mount.wait_scanned();
        let song = files::files(&mount.at()).remove(0);
        let away = served.music().with_file_name("away");
        fs::rename(served.music(), &away).unwrap();
        eventually_blocking(&format!("the status to tell of {kind:?}"), || {
            let reason = mount.status()["origins"][0]["reason"].clone();
            reason.as_str().unwrap_or_default().contains("its root is not there")
        });
        home.run(["scan", "nas"]);
        assert_eq!(files::files(&mount.at()), std::slice::from_ref(&song), "{kind:?}");
        // A mount anew is one of what is known.
        mount.unmount();
        let mount = home.mount_configured();
        assert_eq!(files::files(&mount.at()), std::slice::from_ref(&song), "{kind:?}");
        fs::rename(&away, served.music()).unwrap();
        eventually_blocking("all to be well again", || mount.status()["state"] == "ready");
        eventually_blocking("the song to be read", || {
            fs::read(mount.join(&song)).is_ok_and(|it| it == wanted)
        });
        mount.unmount();
    }
}

/// Checks that no file below `dir` holds a secret, but those that are there to hold one.
fn secret_is_in_no_file(dir: &Path, holders: &[&Path]) {
    for entry in fs::read_dir(dir).unwrap() {
        let (entry, path) = entry.map(|e| (e.file_type().unwrap(), e.path())).unwrap();
        if entry.is_dir() {
            secret_is_in_no_file(&path, holders);
        } else if entry.is_file() && !holders.contains(&path.as_path()) {
            secret_is_not_in(&path.display().to_string(), &fs::read(&path).unwrap());
        }
    }
}

fn secret_is_not_in(what: &str, bytes: &[u8]) {
    for secret in [SECRET, ENCODED] {
        let seen = bytes.windows(secret.len()).position(|window| window == secret.as_bytes());
        if let Some(at) = seen {
            let around = String::from_utf8_lossy(&bytes[at.saturating_sub(300)..at]);
            panic!("a secret is seen in {what} after: {around}");
        }
    }
}

#[test]
fn secrets_are_seen_nowhere() {
    let home = Home::new();
    let servers = [Kind::S3, Kind::SftpByPassword, Kind::Webdav].map(Served::empty);
    let [s3, ssh, dav] = &servers;
    for (served, title) in servers.iter().zip(["One", "Two", "Three"]) {
        served.add("song.flac", title, 200_000);
    }
    // The command's own place and environment are looked at as well.
    let (holder, command) = (home.folder("holder"), home.folder("ask"));
    fs::write(&holder, SECRET).unwrap();
    let script = format!(
        "#!/bin/sh\ncat /proc/$PPID/cmdline /proc/$$/cmdline /proc/$$/environ > {}\ncat {}\n",
        home.folder("seen-by-command").display(),
        holder.display()
    );
    fs::write(&command, script).unwrap();
    fs::set_permissions(&command, fs::Permissions::from_mode(0o755)).unwrap();
    let ssh_table = ssh.table("ssh", "");
    let ssh_table = ssh_table.lines().map(|line| match line.starts_with("password_file") {
        true => format!("password_command = [\"{}\"]\n", command.display()),
        false => format!("{line}\n"),
    });
    home.configure(&format!(
        "log_level = \"debug\"\n{}{}{}",
        s3.table("s3", ""),
        ssh_table.collect::<String>(),
        dav.table("dav", "")
    ));
    get_known(&home, ssh);

    let mount = home.mount_configured();
    mount.wait_scanned();
    let found = files::files(&mount.at());
    assert_eq!(found.len(), 3, "{found:?}");
    for path in found {
        assert!(fs::read(mount.join(path)).unwrap().len() > 100_000);
    }
    let process = format!("/proc/{}", mount.pid());
    for name in ["cmdline", "environ"] {
        secret_is_not_in(name, &fs::read(format!("{process}/{name}")).unwrap());
    }
    assert!(home.folder("seen-by-command").exists());
    for arguments in [
        &["status", "--json", "--problems"][..],
        &["status"],
        &["config", "show"],
        &["config", "show", "--json"],
        &["mounts", "--json"],
        &["origin", "list", "--json"],
        &["origin", "check"],
        &["doctor"],
    ] {
        let output = home.run(arguments);
        secret_is_not_in(&arguments.join(" "), &[output.stdout, output.stderr].concat());
    }
    assert!(mount.log().contains("DEBUG"), "the log tells little");
    mount.unmount();
    // The log, the catalogue, the library, what is in the runtime folder.
    secret_is_in_no_file(home.path(), &[&holder]);
}
