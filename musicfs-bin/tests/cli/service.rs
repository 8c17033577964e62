//! What the service manager is told, by a socket that stands in for it.

use std::os::unix::net::UnixDatagram;
use std::process::Command;

use crate::bench::{Bench, Daemon, SOON};

/// Listens as a service manager does.
struct Manager {
    socket: UnixDatagram,
}

impl Manager {
    fn listen(bench: &Bench) -> Self {
        let socket = UnixDatagram::bind(bench.path("notify")).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        Self { socket }
    }

    /// Waits for a message with this line, and returns all that came up to there.
    fn hear(&self, line: &str) -> String {
        let mut all = String::new();
        let mut buffer = [0; 4096];
        while !all.lines().any(|heard| heard.starts_with(line)) {
            let len = self.socket.recv(&mut buffer).unwrap_or_else(|e| panic!("{e} after {all}"));
            all.push_str(&String::from_utf8_lossy(&buffer[..len]));
            all.push('\n');
        }
        all
    }
}

fn service(bench: &Bench, vars: &[(&str, &str)]) -> Daemon {
    let mut command = bench.command();
    command.env("NOTIFY_SOCKET", bench.path("notify")).envs(vars.iter().copied());
    command.arg("mount").arg("--origin").arg(bench.music()).arg(bench.mountpoint());
    Daemon::start(command, bench.mountpoint(), bench.path("daemon.log"))
}

#[test]
fn manager_is_told_of_ready_reload_and_stop() {
    let bench = Bench::new();
    let manager = Manager::listen(&bench);
    let mut daemon = service(&bench, &[]);
    let told = manager.hear("READY=1");
    assert!(told.contains(&format!("STATUS=ready at {}", bench.mountpoint().display())), "{told}");
    daemon.signal(nix::sys::signal::Signal::SIGHUP);
    assert!(manager.hear("RELOADING=1").contains("MONOTONIC_USEC="));
    manager.hear("READY=1");
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    manager.hear("STOPPING=1");
    assert_eq!(daemon.ended().code(), Some(0));
}

#[test]
fn watchdog_falls_silent_while_something_covers_the_mount() {
    let bench = Bench::new();
    let manager = Manager::listen(&bench);
    let daemon = service(&bench, &[("WATCHDOG_USEC", "200000")]);
    manager.hear("WATCHDOG=1");
    let at = bench.mountpoint();
    assert!(Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&at).status().unwrap().success());
    daemon.until_logged("the mount does not work as it should");
    let health = bench.run(["status", "--json"]);
    assert_ne!(health.code, Some(0), "{health:?}");
    assert!(Command::new("umount").arg(&at).status().unwrap().success());
    bench.until("the daemon to be well again", |status| status["health"]["ok"] == true);
    manager.hear("WATCHDOG=1");
}

#[test]
fn watchdog_is_fed_while_all_is_well() {
    let bench = Bench::new();
    let manager = Manager::listen(&bench);
    let _daemon = service(&bench, &[("WATCHDOG_USEC", "200000")]);
    manager.hear("WATCHDOG=1");
    manager.hear("WATCHDOG=1");
}
