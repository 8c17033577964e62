use std::fs;

use musicfs_core::SystemClock;
use musicfs_test_utils::{ManualClock, eventually};
use parking_lot::Mutex;
use tempfile::TempDir;

use super::*;

/// A folder that is watched, and what was said of it.
struct Watching {
    dir: TempDir,
    said: Arc<Mutex<Vec<Watched>>>,
    watcher: Arc<FolderWatcher>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watching {
    fn of(dir: TempDir, clock: Arc<dyn Clock>) -> Self {
        let said: Arc<Mutex<Vec<Watched>>> = Arc::default();
        let watcher = Arc::new(FolderWatcher::new(dir.path().join("music"), clock));
        let (hear, runs) = (said.clone(), watcher.clone());
        let task = tokio::spawn(async move { runs.run(move |what| hear.lock().push(what)).await });
        Self { dir, said, watcher, task }
    }

    /// Begins to watch folders, and waits until they are.
    async fn folders(folders: &[&str]) -> Self {
        let dir = TempDir::new().unwrap();
        for folder in folders {
            fs::create_dir_all(dir.path().join("music").join(folder)).unwrap();
        }
        let watching = Self::of(dir, Arc::new(SystemClock::new()));
        watching.everything().await;
        watching
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join("music").join(path)
    }

    /// Waits until all may have changed, and forgets what was said before.
    async fn everything(&self) {
        eventually("all to be told", || self.said.lock().contains(&Watched::Everything)).await;
        self.said.lock().clear();
    }

    /// Waits until each of these was told, and nothing else.
    async fn paths(&self, expected: &[&str]) {
        let expected: Vec<_> = expected.iter().map(|path| OriginPath::new(path).unwrap()).collect();
        eventually("the changes to be told", || {
            let said = self.said.lock();
            let told: Vec<_> = said
                .iter()
                .flat_map(|what| if let Watched::Paths(paths) = what { paths.clone() } else { Vec::new() })
                .collect();
            assert!(told.iter().all(|path| expected.contains(path)), "{told:?}");
            expected.iter().all(|path| told.contains(path))
        })
        .await;
        self.said.lock().clear();
    }

    async fn state(&self, what: &str, is: impl Fn(&WatchState) -> bool) {
        eventually(what, || {
            self.said.lock().iter().any(|what| matches!(what, Watched::State(state) if is(state)))
        })
        .await;
    }
}

#[tokio::test]
async fn files_that_come_change_move_and_go_are_told() {
    let watching = Watching::folders(&["a", "b"]).await;
    fs::write(watching.at("a/1.flac"), "1").unwrap();
    watching.paths(&["a/1.flac"]).await;
    fs::write(watching.at("a/1.flac"), "2").unwrap();
    watching.paths(&["a/1.flac"]).await;
    fs::rename(watching.at("a/1.flac"), watching.at("b/2.flac")).unwrap();
    watching.paths(&["a/1.flac", "b/2.flac"]).await;
    fs::remove_file(watching.at("b/2.flac")).unwrap();
    watching.paths(&["b/2.flac"]).await;
}

#[tokio::test]
async fn both_ends_of_a_move_are_told_together() {
    let watching = Watching::folders(&["a", "b"]).await;
    fs::write(watching.at("a/1.flac"), "1").unwrap();
    watching.paths(&["a/1.flac"]).await;
    fs::rename(watching.at("a"), watching.at("b/a")).unwrap();
    eventually("the move to be told", || {
        let both = ["a", "b/a"].map(|path| OriginPath::new(path).unwrap());
        watching.said.lock().contains(&Watched::Paths(both.to_vec()))
    })
    .await;
}

#[tokio::test]
async fn folders_that_are_new_or_renamed_are_watched_under_their_names() {
    let watching = Watching::folders(&["old/deep"]).await;
    fs::create_dir_all(watching.at("new/one/two")).unwrap();
    watching.paths(&["new"]).await;
    fs::write(watching.at("new/one/two/x.flac"), "x").unwrap();
    watching.paths(&["new/one/two/x.flac"]).await;
    fs::rename(watching.at("old"), watching.at("other")).unwrap();
    watching.paths(&["old", "other"]).await;
    fs::write(watching.at("other/deep/y.flac"), "y").unwrap();
    watching.paths(&["other/deep/y.flac"]).await;
}

#[tokio::test]
async fn folder_that_left_is_not_watched_any_more() {
    let watching = Watching::folders(&["a/deep", "b"]).await;
    let outside = watching.dir.path().join("outside");
    fs::rename(watching.at("a"), &outside).unwrap();
    watching.paths(&["a"]).await;
    fs::create_dir(watching.at("a")).unwrap();
    watching.paths(&["a"]).await;
    fs::write(outside.join("deep/1.flac"), "1").unwrap();
    fs::write(watching.at("b/2.flac"), "2").unwrap();
    watching.paths(&["b/2.flac"]).await;
    fs::write(watching.at("a/3.flac"), "3").unwrap();
    watching.paths(&["a/3.flac"]).await;
}

#[tokio::test]
async fn what_the_scanner_ignores_is_not_watched() {
    let watching = Watching::folders(&[".hidden", "a"]).await;
    fs::write(watching.at(".hidden/1.flac"), "1").unwrap();
    fs::write(watching.at("a/.2.flac"), "2").unwrap();
    fs::write(watching.at("a/3.flac"), "3").unwrap();
    watching.paths(&["a/3.flac"]).await;
}

#[tokio::test]
async fn root_that_goes_is_lost_and_watched_again_when_it_is_back() {
    let watching = Watching::folders(&["a"]).await;
    let away = watching.dir.path().join("away");
    fs::rename(watching.at(""), &away).unwrap();
    watching.state("the root to be lost", |state| matches!(state, WatchState::Lost { .. })).await;
    fs::rename(&away, watching.at("")).unwrap();
    watching.watcher.retry_now();
    watching.state("it to be watched again", WatchState::is_complete).await;
    watching.everything().await;
    fs::write(watching.at("a/1.flac"), "1").unwrap();
    watching.paths(&["a/1.flac"]).await;
}

#[tokio::test]
async fn another_folder_in_the_place_of_the_root_is_noticed() {
    let dir = TempDir::new().unwrap();
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    fs::create_dir(&one).unwrap();
    fs::create_dir(&two).unwrap();
    // A link is turned where a disk would be mounted over.
    std::os::unix::fs::symlink(&one, dir.path().join("music")).unwrap();
    let clock = ManualClock::new();
    let watching = Watching::of(dir, Arc::new(clock.clone()));
    watching.everything().await;
    std::os::unix::fs::symlink(&two, watching.dir.path().join("turned")).unwrap();
    fs::rename(watching.dir.path().join("turned"), watching.dir.path().join("music")).unwrap();
    eventually("the other to be watched", || {
        clock.advance(Duration::from_secs(1));
        watching.said.lock().contains(&Watched::Everything)
    })
    .await;
    watching.state("the first to be lost", |state| matches!(state, WatchState::Lost { .. })).await;
    watching.said.lock().clear();
    fs::write(two.join("1.flac"), "1").unwrap();
    eventually("what changes there to be told", || {
        clock.advance(Duration::from_millis(20));
        watching.said.lock().contains(&Watched::Paths(vec![OriginPath::new("1.flac").unwrap()]))
    })
    .await;
}

#[test]
fn folders_in_which_files_came_or_went_are_known_without_being_told() {
    let dir = TempDir::new().unwrap();
    for folder in ["a/deep", "b", "c"] {
        fs::create_dir_all(dir.path().join(folder)).unwrap();
    }
    fs::write(dir.path().join("b/1.flac"), "1").unwrap();
    fs::write(dir.path().join("c/1.flac"), "1").unwrap();
    let mut folders = Folders::open(dir.path().to_owned()).unwrap();
    let mut changed = || {
        folders.walk();
        let mut changed: Vec<_> = folders.changed().iter().map(ToString::to_string).collect();
        changed.sort();
        changed
    };
    assert_eq!(changed(), [""; 0]);
    fs::write(dir.path().join("a/deep/2.flac"), "2").unwrap();
    fs::remove_file(dir.path().join("b/1.flac")).unwrap();
    fs::write(dir.path().join("c/1.flac"), "rewritten").unwrap();
    assert_eq!(changed(), ["a/deep", "b"]);
    assert_eq!(changed(), [""; 0]);
    fs::create_dir(dir.path().join("new")).unwrap();
    assert_eq!(changed(), [""]);
    fs::write(dir.path().join("new/3.flac"), "3").unwrap();
    assert_eq!(changed(), ["new"]);
}

#[tokio::test]
async fn queue_that_overflows_makes_all_be_looked_at_changed_folders_first() {
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let limit: usize = limit.trim().parse().unwrap();
    let watching = Watching::folders(&["a", "b", "c"]).await;
    // On this one thread, so that nobody reads the queue meanwhile.
    for n in 0..=limit {
        fs::write(watching.at(if n % 2 == 0 { "a/x.flac" } else { "b/y.flac" }), "").unwrap();
    }
    eventually("all to be told", || watching.said.lock().contains(&Watched::Everything)).await;
    let folders = ["a", "b"].map(|path| OriginPath::new(path).unwrap()).to_vec();
    let said = watching.said.lock();
    let at = |what: Watched| said.iter().position(|said| *said == what);
    let (first, then) = (at(Watched::Paths(folders)), at(Watched::Everything));
    assert!(first.is_some() && first < then, "{said:?}");
}
