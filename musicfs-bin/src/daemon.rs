//! The life of a mount, from the lock to the last scratch file.
//!
//! The order is what keeps it safe: the cache directory is locked before anything is looked at or changed, so
//! that whatever a killed daemon left is nobody's but ours; READY comes when the mount and the control socket
//! answer, and servers that are new had a moment to say who they are; the scan comes last, and nothing waits for it. Stopping goes backwards, each step with a limit.
//!
//! Blocking work runs on threads of its own or in the runtime's blocking pool; only the last steps of stopping
//! and the first of starting run on the main task.

mod caching;
mod first_look;
mod given;
mod origins;
mod reload;
mod scans;
mod state;
mod status;
mod stop;
mod tasks;
mod trash;
mod watches;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use musicfs_core::{Clock, SystemClock, TaskSupervisor, install_panic_hook};
use musicfs_fuse::{Cleared, MountHandles, MountOptions, Os, Session};
use musicfs_origins::BuiltOrigin;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

use crate::background::{self, Parent};
use crate::cli::MountArgs;
use crate::config::{Config, Flags, blake3_hex, check, keys};
use crate::context::{Context, Outcome, Usage, refuse};
use crate::control;
use crate::env::Env;
use crate::lock::{CacheLock, Holder};
use crate::log::LogControl;
use crate::progress::Progress;
use crate::wiring::{self, Engine};
use crate::{limits, memory, notify};

pub(crate) use origins::state_of;
pub(crate) use scans::{Part, by_origin, chain, result_of, status_of};
pub(crate) use state::state_word;

use first_look::FirstLooks;
use state::{Daemon, Setup};
pub(crate) use trash::{act as act_on_trash, filter_of};

/// What the table of mounts names our mounts.
pub(crate) const FS_NAME: &str = "musicfs";
/// The control socket's name in a mount's runtime directory.
const SOCKET: &str = "control.sock";

/// Returns the runtime directory of a mount.
pub(crate) fn mount_dir(runtime_dir: &Path, mountpoint: &Path) -> PathBuf {
    runtime_dir.join(&blake3_hex(mountpoint.as_os_str().as_encoded_bytes())[..16])
}

/// Returns the control socket in a mount's runtime directory.
pub(crate) fn socket_in(mount_dir: &Path) -> PathBuf {
    mount_dir.join(SOCKET)
}

/// Runs `musicfs mount`.
pub(crate) fn run(cx: &Context, args: &MountArgs) -> anyhow::Result<Outcome> {
    if cx.env.get(keys::STARTED_IN_BACKGROUND).is_some() {
        let mut parent = Parent::detach();
        let done = Plan::make(cx, args).and_then(|plan| plan.carry_out(cx, &mut parent));
        if let Err(error) = &done {
            parent.failed(error);
        }
        return done;
    }
    let plan = Plan::make(cx, args)?;
    if args.background {
        let text = background::start(&cx.args, &plan.log_path())?;
        cx.output.note(text);
        return Ok(Outcome::Done);
    }
    plan.carry_out(cx, &mut Parent::none())
}

/// What is to be mounted where, checked as far as it can be without touching anything.
struct Plan {
    flags: Flags,
    env: Env,
    config: Config,
    mountpoint: PathBuf,
}

impl Plan {
    fn make(cx: &Context, args: &MountArgs) -> anyhow::Result<Self> {
        let mut flags = args.settings.flags();
        if let Some(path) = &args.mountpoint {
            flags.values.insert(keys::MOUNTPOINT, path.into());
        }
        let env = if args.system && cx.env.uid == 0 { cx.env.clone().without_home() } else { cx.env.clone() };
        let (config, mut problems) = Config::load(&flags, &env);
        problems.extend(check::own_directories(&config));
        let mountpoint = config.mountpoint.as_deref().map(crate::paths::real);
        if let Some(mountpoint) = &mountpoint {
            problems.extend(check::mountpoint(&config, mountpoint));
        }
        refuse(&problems)?;
        let Some(mountpoint) = mountpoint else {
            return Err(Usage("where to mount? musicfs mount [OPTIONS] MOUNTPOINT".into()).into());
        };
        if config.origins.is_empty() {
            let help = "there is no music to show: name a directory or an address with --origin PATH|URL, or an \
                        [[origins]] table in the configuration";
            return Err(Usage(help.into()).into());
        }
        Ok(Self { flags, env, config, mountpoint })
    }

    fn log_path(&self) -> PathBuf {
        let name = &blake3_hex(self.mountpoint.as_os_str().as_encoded_bytes())[..16];
        self.config.state_dir.join("log").join(format!("{name}.log"))
    }

    /// Mounts, and serves until told to stop.
    fn carry_out(self, cx: &Context, parent: &mut Parent) -> anyhow::Result<Outcome> {
        let log = cx.log(&self.config);
        install_panic_hook();
        if parent.waits() {
            // Not to keep whatever disk it was started from.
            let _ = std::env::set_current_dir("/");
        }
        match limits::raise_open_files() {
            Ok(limit) => tracing::debug!(limit, "limit of open files raised"),
            Err(error) => warn!(%error, "the limit of open files could not be raised"),
        }
        memory::settle();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .thread_name("musicfs")
            .build()
            .context("cannot start threads")?;
        let done = runtime.block_on(self.serve(cx, log, parent));
        // What still hangs in a system call must not keep the process.
        runtime.shutdown_background();
        done
    }

    async fn serve(self, cx: &Context, log: LogControl, parent: &mut Parent) -> anyhow::Result<Outcome> {
        // Before anything else, so that a signal which comes early is not lost.
        let mut signals = Signals::new().context("cannot listen for signals")?;
        let clock = cx.clock.clone();
        let started = (clock.now(), clock.unix().parts().0);
        let holder = Holder::this(Some(self.mountpoint.clone()), started.1);
        let _lock = CacheLock::acquire(&self.config.cache_dir, &holder)?;

        let stores = wiring::open_stores(&self.config, &clock)?;
        for notice in &stores.notices {
            warn!("{notice}");
            cx.output.warn(notice);
        }
        let mut notices = stores.notices.clone();

        let dir = self.make_runtime_dir()?;
        let os = Os::default();
        self.clear_stale_mount(&os, &dir)?;
        check::directory_to_mount_on(&self.mountpoint).map_err(|message| anyhow!(message))?;
        let origins = self.build_origins(&clock).await?;
        let mut looks = FirstLooks::begin(&self.config, &origins, &stores.library, &clock)?;
        looks.folders(&*stores.db).await?;

        let (engine, notice) = Engine::new(&self.config, stores, origins, clock.clone()).await;
        if let Some(notice) = notice {
            warn!("{notice}");
            cx.output.warn(&notice);
            notices.push(notice);
        }
        let engine = Arc::new(engine);
        // Nobody alive listens there: that would have been a mount that is alive.
        let socket = socket_in(&dir);
        let listener = control::bind(&socket)
            .with_context(|| format!("cannot listen on the control socket {}", socket.display()))?;
        let session = match self.mount(&engine).await {
            Ok(session) => session,
            Err(error) => {
                control::remove_mount_dir(&dir);
                return Err(error);
            }
        };
        let handles = MountHandles {
            connection: session.connection(),
            control_socket: Some(socket.clone()),
            cache_dir: Some(self.config.cache_dir.clone()),
            ..MountHandles::of_this_process(&os, &self.mountpoint)
        };
        if let Err(error) = musicfs_fuse::write_handles(&dir, &handles) {
            warn!(error = chain(&error), "the scratch file could not be written");
        }

        let supervisor = TaskSupervisor::with_clock(clock.clone());
        let mountpoint = self.mountpoint.clone();
        let origins = self.config.origins.len();
        let daemon = Daemon::new(Setup {
            flags: self.flags,
            env: self.env,
            config: self.config,
            mountpoint: self.mountpoint,
            dir,
            os,
            handles,
            engine,
            session,
            supervisor,
            log,
            notices,
            started,
        });
        daemon.spawn_control(listener);
        daemon.spawn_origins();
        daemon.spawn_cache();
        daemon.spawn_watchdog();
        daemon.spawn_events();
        info!(mountpoint = %mountpoint.display(), ready_ms = clock.now().0.as_millis() as u64, "mounted");
        if let Err(error) = daemon.look_at_servers(looks).await {
            daemon.stop_in_order(&mut signals.end).await;
            return Err(error);
        }
        daemon.spawn_scans();
        daemon.spawn_recheck();
        daemon.spawn_memory();
        daemon.spawn_watches();
        daemon.spawn_progress(Progress::new(
            clock.clone(),
            cx.bars.clone(),
            cx.output.terminal && !cx.output.quiet && !parent.waits(),
            |line| info!("{line}"),
        ));

        let text = welcome(&mountpoint, origins);
        notify::ready(&daemon.status_line());
        if parent.waits() {
            parent.ready(&text);
        } else {
            cx.output.note(text);
        }
        // Last: nothing waits for it.
        daemon.spawn_search();
        daemon.serve_until_stopped(&mut signals).await;
        Ok(daemon.stop_in_order(&mut signals.end).await)
    }

    fn make_runtime_dir(&self) -> anyhow::Result<PathBuf> {
        let dir = mount_dir(&self.config.runtime_dir, &self.mountpoint);
        // The one above may be others' as well (/run, /tmp); it stays as it is.
        control::private_dir_if_new(&self.config.runtime_dir)
            .and_then(|()| control::private_dir(&dir))
            .with_context(|| {
                format!("cannot make the runtime directory {}; --runtime-dir names another", dir.display())
            })?;
        Ok(dir)
    }

    /// Clears what a killed daemon of ours has left at exactly this mountpoint.
    fn clear_stale_mount(&self, os: &Os, dir: &Path) -> anyhow::Result<()> {
        let found = musicfs_fuse::rediscover(os, dir, &self.mountpoint, FS_NAME)?;
        if let Some(problem) = found.problem {
            warn!(
                error = chain(&problem),
                "the scratch file of an earlier daemon is damaged and is not used"
            );
        }
        match musicfs_fuse::clear_dead_mount(os, &self.mountpoint, FS_NAME, found.handles.as_ref())? {
            Cleared::Nothing => {}
            Cleared::Unmounted(_) => {
                warn!(mountpoint = %self.mountpoint.display(), "cleared the mount of a daemon that was killed");
            }
        }
        Ok(())
    }

    /// Builds the origins, which may have to wait for commands that print their secrets.
    async fn build_origins(&self, clock: &Arc<SystemClock>) -> anyhow::Result<Vec<BuiltOrigin>> {
        let (config, env, clock) = (self.config.clone(), self.env.clone(), clock.clone());
        let building = tokio::task::spawn_blocking(move || wiring::build_origins(&config, &env, &clock));
        building.await.context("the origins could not be set up")?
    }

    async fn mount(&self, engine: &Engine) -> anyhow::Result<Session> {
        let options = MountOptions {
            allow_other: self.config.allow_other,
            passthrough: self.config.passthrough,
            fs_name: FS_NAME.into(),
            ..MountOptions::default()
        };
        let (fs, mountpoint) = (engine.filesystem(), self.mountpoint.clone());
        let runtime = tokio::runtime::Handle::current();
        let mounted = tokio::task::spawn_blocking(move || Session::mount(fs, &mountpoint, options, runtime));
        let session = mounted.await.context("mounting failed")?;
        session.with_context(|| format!("cannot mount at {}", self.mountpoint.display()))
    }
}

fn welcome(mountpoint: &Path, origins: usize) -> String {
    let shown = mountpoint.display();
    let of = if origins == 1 { "1 origin".to_owned() } else { format!("{origins} origins") };
    format!("Mounted {of} at {shown}\nUnmount with: musicfs umount {}", shell_quoted(&shown.to_string()))
}

/// Quotes a path for a shell, when it needs that.
pub(crate) fn shell_quoted(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '/' | '.' | '-' | '_' | '+' | ':' | ',');
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

/// The signals that a daemon listens to.
struct Signals {
    end: EndSignals,
    hangup: Signal,
}

/// Those that tell it to end.
struct EndSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        let end = EndSignals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        };
        Ok(Self { end, hangup: signal(SignalKind::hangup())? })
    }
}

impl EndSignals {
    /// Waits for a signal to stop, and returns its name.
    async fn wait(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

impl Daemon {
    /// Waits for what a first look at servers finds.
    async fn look_at_servers(&self, looks: FirstLooks) -> anyhow::Result<()> {
        looks.servers(&*self.engine.db).await
    }

    /// Serves until a signal, a request, or an unmount from outside ends it.
    async fn serve_until_stopped(self: &Arc<Self>, signals: &mut Signals) {
        let Some(session) = self.session() else { return };
        loop {
            tokio::select! {
                name = signals.end.wait() => {
                    info!(signal = name, "stopping");
                    return;
                }
                _ = signals.hangup.recv() => self.reload().await,
                () = self.stop.cancelled() => {
                    info!("stopping, as asked over the control socket");
                    return;
                }
                () = session.ended() => {
                    info!("unmounted from outside; stopping");
                    return;
                }
            }
        }
    }
}
