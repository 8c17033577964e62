//! Music behind a network: from the cache, through it, and beside an `rclone mount` with its cache full, over the
//! same server.

use std::fs::{self, File};
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use musicfs_core::AudioMeta;
use musicfs_test_utils::eventually_blocking;
use musicfs_test_utils::fault_proxy::{Direction, FaultProxy, Toxic};
use musicfs_test_utils::file_servers::Rclone;
use musicfs_test_utils::library::noise_flac;
use musicfs_tests::files;
use musicfs_tests::home::Home;
use musicfs_tests::mount::{Mount, clear, is_mounted};
use tokio::runtime::Runtime;

use crate::Settings;
use crate::measure::{median, middle, most_memory, seconds};
use crate::plain;
use crate::reading::{forget, throughput};
use crate::table::{Bar, Table};

/// Number of files.
const COUNT: usize = 33;
/// Length of each: as a track without loss.
const EACH: usize = 16 << 20;
/// Files that are read one after the other in a figure: more than is kept in memory.
const SOME: usize = 12;
/// Length of the head that is valid FLAC; the rest is noise.
const HEAD: usize = 64 << 10;

/// Measures all of it.
pub(crate) fn run(settings: &Settings, table: &mut Table) {
    let music = settings.dir.join("remote");
    prepare(&music);
    let server = Rclone::webdav(&music, None);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    if settings.runs_part("cached") {
        cached(settings, &music, server.addr(), table);
    }
    if settings.runs_part("uncached") {
        uncached(settings, &music, &runtime, table);
    }
    if settings.runs_part("first-byte") {
        first_byte(settings, server.addr(), &runtime, table);
    }
    if settings.runs_part("stream") {
        one_stream(settings, server.addr(), &runtime, table);
    }
    if settings.runs_part("dead") {
        dead_neighbour(settings, &music, server.addr(), &runtime, table);
    }
    if settings.runs_part("readers") {
        many_readers(server.addr(), table);
    }
}

/// Makes the files unless an earlier run has.
fn prepare(music: &Path) {
    let made = music.with_extension("made");
    if made.exists() {
        return;
    }
    let _ = fs::remove_dir_all(music);
    fs::create_dir_all(music).unwrap();
    for number in 1..=COUNT {
        fs::write(music.join(format!("{number:02}.flac")), noise(number)).unwrap();
    }
    // What is not on the disk yet cannot be dropped from memory.
    nix::unistd::sync();
    fs::write(made, "").unwrap();
}

/// Makes a track of its own.
fn noise(number: usize) -> Vec<u8> {
    let audio = AudioMeta {
        title: Some(format!("Noise {number:02}")),
        artists: vec!["Noise".to_owned()],
        album: Some(format!("Noise {number:02}")),
        track: Some(number as u32),
        ..AudioMeta::default()
    };
    let mut bytes = noise_flac(&audio, HEAD);
    let mut state = number as u64;
    while bytes.len() < EACH {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&(state ^ state >> 29).to_le_bytes());
    }
    bytes
}

/// MusicFS over a WebDAV server.
struct Musicfs<'a> {
    mount: Mount<'a>,
    home: &'a Home,
}

impl<'a> Musicfs<'a> {
    fn start(home: &'a Home, servers: &[SocketAddr], keys: &str) -> Self {
        let table = |(n, addr): (usize, &SocketAddr)| {
            format!("[[origins]]\nid = \"nas{n}\"\nurl = \"webdav+http://{addr}/\"\n")
        };
        let tables: String = servers.iter().enumerate().map(table).collect();
        home.configure(&format!("{keys}\n{tables}"));
        let mount = home.mount_configured();
        mount.wait_scanned();
        Self { mount, home }
    }

    /// Files in the mount, those of each server together.
    fn files(&self) -> Vec<PathBuf> {
        files::files(&self.mount.at()).iter().map(|path| self.mount.join(path)).collect()
    }

    /// Empties the cache.
    fn clear(&self) {
        self.home.succeed(["cache", "clear"]);
        forget(&self.files());
    }

    fn chunks(&self) -> Vec<PathBuf> {
        let dir = self.home.folder("cache/musicfs/chunks");
        files::files(&dir).iter().map(|path| dir.join(path)).collect()
    }
}

/// `rclone mount` over a WebDAV server, its own cache full.
struct Peer<'a> {
    home: &'a Home,
    child: Child,
}

impl<'a> Peer<'a> {
    fn start(home: &'a Home, server: SocketAddr) -> Self {
        let at = home.mountpoint();
        let log = File::create(home.folder("log")).unwrap();
        let mut mount = Command::new("rclone");
        mount.args(["mount", "--read-only", "--vfs-cache-mode=full", "--webdav-vendor=other"]);
        mount.arg(format!("--webdav-url=http://{server}")).arg("--cache-dir").arg(home.folder("cache"));
        mount.arg("--config").arg(home.folder("rclone.conf")).arg(":webdav:").arg(&at);
        let child = mount.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let peer = Self { home, child };
        eventually_blocking("the peer to mount", || is_mounted(&at));
        peer
    }

    fn files(&self) -> Vec<PathBuf> {
        let at = self.home.mountpoint();
        files::files(&at).iter().map(|path| at.join(path)).collect()
    }

    fn cached(&self) -> Vec<PathBuf> {
        let dir = self.home.folder("cache");
        files::files(&dir).iter().map(|path| dir.join(path)).collect()
    }
}

impl Drop for Peer<'_> {
    fn drop(&mut self) {
        clear(&self.home.mountpoint());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What is in the cache, with nothing of it in memory.
fn cached(settings: &Settings, music: &Path, server: SocketAddr, table: &mut Table) {
    let (home, peers) = (Home::new(), Home::new());
    let (ours, peer) = (Musicfs::start(&home, &[server], ""), Peer::start(&peers, server));
    let disk: Vec<_> = files::files(music).iter().map(|path| music.join(path)).take(SOME).collect();
    let (seen, theirs) = (ours.files()[..SOME].to_vec(), peer.files()[..SOME].to_vec());
    for path in &seen {
        home.succeed(["cache".as_ref(), "warm".as_ref(), path.as_os_str()]);
    }
    throughput(&theirs);
    nix::unistd::sync();
    let (chunks, stored) = (ours.chunks(), peer.cached());
    let mut figures = [const { Vec::new() }; 3];
    // All take turns, so that a slow moment of the machine meets all.
    for _ in 0..settings.rounds.max(5) {
        for (n, paths) in [&disk, &seen, &theirs].into_iter().enumerate() {
            for of in [&disk, &seen, &theirs, &chunks, &stored] {
                forget(of);
            }
            figures[n].push(throughput(paths));
        }
    }
    let [disk, ours_cold, theirs] = figures.map(middle);
    table.compare("cached remote files, cold", ours_cold, "MB/s", ("ext4", disk), Bar::TimesAtLeast(0.8));
    table.compare("cached remote files, cold", ours_cold, "MB/s", ("rclone", theirs), Bar::TimesAtLeast(2.0));
    ours.mount.unmount();
}

/// What is not in the cache, as fast as the server goes: it has its files in memory, as the disk here is the cache's.
fn uncached(settings: &Settings, music: &Path, runtime: &Runtime, table: &mut Table) {
    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    let names: Vec<_> = files::files(music).into_iter().take(SOME).collect();
    for name in &names {
        let copy = memory.path().join(name);
        fs::copy(music.join(name), &copy).unwrap();
        let modified = fs::metadata(music.join(name)).unwrap().modified().unwrap();
        File::options().write(true).open(copy).unwrap().set_modified(modified).unwrap();
    }
    let server = Rclone::webdav(memory.path(), None);
    let server = server.addr();
    // Each round has a cache of its own, and all are kept: some filesystems are slow to make files where many have just
    // been removed.
    let homes: Vec<Home> = std::iter::repeat_with(Home::new).take(settings.rounds.max(5)).collect();
    let (mut through, mut plainly, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    for home in &homes {
        let ours = Musicfs::start(home, &[server], "prefetch = false");
        // What others have written is not to be written while this is measured.
        nix::unistd::sync();
        through.push(throughput(&ours.files()[..SOME]));
        ours.mount.unmount();
        plainly.push(runtime.block_on(plain::throughput(server, &names)));
        let peers = Home::new();
        let peer = Peer::start(&peers, server);
        nix::unistd::sync();
        theirs.push(throughput(&peer.files()[..SOME]));
    }
    let (through, plainly, theirs) = (middle(through), middle(plainly), middle(theirs));
    let bar = Bar::TimesAtLeast(0.7);
    table.compare("uncached, loopback", through, "MB/s", ("plain ranges", plainly), bar);
    table.compare("uncached, loopback", through, "MB/s", ("rclone", theirs), Bar::None);
}

/// Starts a proxy that makes the way to a server so long.
fn long_line(server: SocketAddr, round_trip: Duration, runtime: &Runtime) -> FaultProxy {
    let proxy = runtime.block_on(FaultProxy::start(server)).unwrap();
    proxy.add(Direction::Downstream, Toxic::Latency(round_trip / 2));
    proxy.add(Direction::Upstream, Toxic::Latency(round_trip / 2));
    proxy.add(Direction::Downstream, Toxic::Handshake(round_trip));
    proxy
}

/// Opens a file and reads its first byte; returns how long that took in seconds.
fn time_to_first_byte(path: &Path) -> f64 {
    seconds(|| File::open(path).unwrap().read_exact(&mut [0]).unwrap()).0
}

fn first_byte(settings: &Settings, server: SocketAddr, runtime: &Runtime, table: &mut Table) {
    const ROUND_TRIP: Duration = Duration::from_millis(50);
    let proxy = long_line(server, ROUND_TRIP, runtime);
    let home = Home::new();
    let ours = Musicfs::start(&home, &[proxy.addr()], "prefetch = false");
    let mut each = Vec::new();
    for _ in 0..settings.rounds {
        ours.clear();
        each.extend(ours.files()[..SOME].iter().map(|path| time_to_first_byte(path)));
    }
    let trips = |seconds: f64| seconds / ROUND_TRIP.as_secs_f64();
    let ours_first = trips(middle(each));
    let peers = Home::new();
    let peer = Peer::start(&peers, proxy.addr());
    let theirs = trips(middle(peer.files()[..SOME].iter().map(|path| time_to_first_byte(path)).collect()));
    table.add("first byte, uncached, 50 ms away", ours_first, "RTT", Bar::AtMost(2.5));
    table.add("rclone: first byte, 50 ms away", theirs, "RTT", Bar::None);
    ours.mount.unmount();
}

fn one_stream(settings: &Settings, server: SocketAddr, runtime: &Runtime, table: &mut Table) {
    let proxy = long_line(server, Duration::from_millis(200), runtime);
    let home = Home::new();
    let ours = Musicfs::start(&home, &[proxy.addr()], "prefetch = false");
    let files = ours.files();
    let ours_stream = median(settings.rounds, || {
        ours.clear();
        throughput(&files[..2])
    });
    let peers = Home::new();
    let peer = Peer::start(&peers, proxy.addr());
    let theirs = throughput(&peer.files()[..2]);
    table.add("one stream, 200 ms away", ours_stream, "MB/s", Bar::AtLeast(10.0));
    table.add("rclone: one stream, 200 ms away", theirs, "MB/s", Bar::None);
    ours.mount.unmount();
}

/// Reads files at once, a thread for each; returns the megabytes per second of all together.
fn at_once(paths: &[PathBuf]) -> f64 {
    let each = |path: &PathBuf| throughput(std::slice::from_ref(path));
    let (time, _) = seconds(|| {
        std::thread::scope(|scope| {
            let readers: Vec<_> = paths.iter().map(|path| scope.spawn(move || each(path))).collect();
            readers.into_iter().for_each(|reader| assert!(reader.join().is_ok(), "a reader failed"));
        });
    });
    (paths.len() * EACH) as f64 / time / 1e6
}

fn dead_neighbour(
    settings: &Settings,
    music: &Path,
    server: SocketAddr,
    runtime: &Runtime,
    table: &mut Table,
) {
    let other = music.with_file_name("remote-other");
    fs::create_dir_all(&other).unwrap();
    // Other music than that of the first server: a copy of that would be one file with it.
    fs::write(other.join("dead.flac"), noise(COUNT + 1)).unwrap();
    let second = Rclone::webdav(&other, None);
    let proxy = runtime.block_on(FaultProxy::start(second.addr())).unwrap();
    let home = Home::new();
    let ours = Musicfs::start(&home, &[server, proxy.addr()], "prefetch = false\nremote_deadline = \"60s\"");
    let origin = |path: &PathBuf| files::attribute(path, "user.musicfs.origin");
    let (dead, alive): (Vec<_>, Vec<_>) =
        ours.files().into_iter().partition(|path| origin(path).as_deref() == Some("nas1"));
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..settings.rounds {
        ours.clear();
        alone.push(at_once(&alive[..7]));
        ours.clear();
        proxy.set([Toxic::Timeout(Duration::MAX)]);
        let mut hanging = Command::new("cat");
        let mut hanging = hanging.arg(&dead[0]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        beside.push(at_once(&alive[..7]));
        assert!(hanging.try_wait().unwrap().is_none(), "the dead origin gave its file");
        proxy.heal();
        hanging.kill().unwrap();
        hanging.wait().unwrap();
    }
    let (alone, beside) = (middle(alone), middle(beside));
    table.compare(
        "seven streams beside a dead one",
        beside,
        "MB/s",
        ("alone", alone),
        Bar::TimesAtLeast(0.9),
    );
    ours.mount.unmount();
    let _ = fs::remove_dir_all(&other);
}

fn many_readers(server: SocketAddr, table: &mut Table) {
    let home = Home::new();
    let ours = Musicfs::start(&home, &[server], "");
    let pid = ours.mount.pid().as_raw();
    let files = ours.files();
    let speed = at_once(&files[..32]);
    table.add("32 readers, uncached", speed, "MB/s", Bar::None);
    table.add("most memory under 32 readers", most_memory(pid), "MB", Bar::AtMost(250.0));
    ours.mount.unmount();
}
