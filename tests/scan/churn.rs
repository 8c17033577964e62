//! A library that changes in every way, again and again, while origins fail and passes are killed: in the end the tree
//! is exactly what the origin holds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use musicfs_core::{FileId, FileQuery, Ino, MetaDb, OriginErrorKind};
use musicfs_sync::{PassOptions, TrashFilter};
use musicfs_test_utils::eventually;

use crate::shelf::{Shelf, id, path, tagged};

/// Sequences of operations, each of which ends in a comparison.
const SEQUENCES: u32 = 1_000;
/// Most operations in a sequence.
const LONGEST: u64 = 12;
/// Most files: few enough for a loss of many to be a small number, which is believed.
const MOST: usize = 24;

/// A generator of numbers that are the same at each run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// What the origin holds: the audio and the title at each path.
struct Model {
    files: BTreeMap<String, (u32, u32)>,
    last: u32,
    random: Random,
}

impl Model {
    fn any(&mut self) -> Option<String> {
        let n = self.files.len() as u64;
        (n > 0).then(|| self.random.below(n)).and_then(|n| self.files.keys().nth(n as usize).cloned())
    }

    fn free(&mut self) -> String {
        self.last += 1;
        format!("{}/{}/{}.mp3", self.random.below(3), self.random.below(3), self.last)
    }

    fn put(&mut self, shelf: &Shelf, path: String, audio: u32) {
        self.last += 1;
        shelf.origin.put(&path, tagged(audio, &title(self.last)));
        self.files.insert(path, (audio, self.last));
    }

    fn add(&mut self, shelf: &Shelf) {
        if self.files.len() < MOST {
            let path = self.free();
            self.put(shelf, path, self.last);
        }
    }

    fn rename(&mut self, shelf: &Shelf, from: &str, to: String) {
        if let Some(file) = self.files.remove(from) {
            shelf.origin.rename(from, &to);
            self.files.insert(to, file);
        }
    }

    /// Renames some files at once to each other's names, around a cycle or along a chain with a free name at its end;
    /// returns where each is then.
    fn exchange(&mut self, shelf: &Shelf) -> BTreeMap<String, String> {
        let first = self.random.below(self.files.len() as u64) as usize;
        let some = 2 + self.random.below(5) as usize;
        let from: Vec<String> = self.files.keys().skip(first).take(some).cloned().collect();
        let mut to = from.clone();
        to.rotate_left(1);
        if self.random.below(2) == 0 {
            to.pop();
            to.push(self.free());
        }
        let names: BTreeMap<String, String> = from.into_iter().zip(to).collect();
        self.rename_all(shelf, &names);
        names
    }

    /// Renames files at once: all go before any comes.
    fn rename_all(&mut self, shelf: &Shelf, names: &BTreeMap<String, String>) {
        let going = |from: &str| format!("going/{from}");
        names.keys().for_each(|from| self.rename(shelf, from, going(from)));
        names.iter().for_each(|(from, to)| self.rename(shelf, &going(from), to.clone()));
    }

    /// Does something of the user's, or of a storage's.
    async fn step(&mut self, shelf: &mut Shelf) {
        let what = self.random.below(13);
        let any = self.any();
        match (what, any) {
            (0 | 1, _) | (_, None) => self.add(shelf),
            (2, Some(path)) => {
                let (audio, _) = self.files[&path];
                self.put(shelf, path, audio);
            }
            (3, Some(path)) => {
                let to = self.free();
                self.rename(shelf, &path, to);
            }
            (4, Some(path)) => {
                // A whole folder.
                let (folder, _) = path.split_once('/').unwrap();
                let all: Vec<String> =
                    self.files.keys().filter(|p| p.starts_with(&format!("{folder}/"))).cloned().collect();
                for path in all {
                    let (_, rest) = path.split_once('/').unwrap();
                    let to = format!("moved {}/{rest}", self.last);
                    self.rename(shelf, &path, to);
                }
                self.last += 1;
            }
            (5, Some(path)) if self.files.len() > 1 => {
                shelf.origin.remove(&path);
                self.files.remove(&path);
            }
            (6, Some(path)) => {
                self.last += 1;
                self.put(shelf, path, self.last);
            }
            (7, _) => {
                shelf.origin.take_down(OriginErrorKind::Unavailable);
                assert!(shelf.pass(&PassOptions::default()).await.is_err());
                shelf.origin.bring_up();
            }
            (8, _) => {
                match self.random.below(2) {
                    0 => shelf.origin.cut_listings(self.random.below(3) as usize),
                    _ => shelf.origin.fail_listings(self.random.below(3) as usize, OriginErrorKind::TimedOut),
                }
                let missing = shelf.db.totals().unwrap().missing;
                let _ = shelf.pass(&PassOptions::default()).await;
                assert!(shelf.db.totals().unwrap().missing <= missing, "a cut listing took something away");
                shelf.origin.heal_listings();
            }
            (9, _) => self.killed(shelf).await,
            (10, _) => shelf.restart(),
            (11, _) => drop(self.exchange(shelf)),
            (_, Some(_)) => drop(shelf.scan().await),
        }
    }

    /// Has a pass dropped wherever it is, as by a kill.
    async fn killed(&mut self, shelf: &mut Shelf) {
        let polls = self.random.below(40);
        let options = PassOptions { reread: self.random.below(4) == 0, ..PassOptions::default() };
        tokio::select! {
            biased;
            _ = shelf.pass(&options) => {}
            () = after(polls) => {}
        }
        let killed = Arc::downgrade(&shelf.db);
        shelf.restart();
        // A batch that was under way ends by itself here, where the process lives on.
        eventually("the killed pass to have ended", || killed.strong_count() == 0).await;
    }

    /// Has the listing of a pass cut.
    async fn cut(&mut self, shelf: &Shelf) {
        shelf.origin.cut_listings(self.random.below(3) as usize);
        drop(shelf.pass(&PassOptions::default()).await);
        shelf.origin.heal_listings();
    }

    /// Exchanges names, and checks that every file is itself after a pass, whether or not one was killed before, or
    /// its listing cut.
    async fn exchange_alone(&mut self, shelf: &mut Shelf, case: &str) {
        let before = shelf.paths();
        let names = self.exchange(shelf);
        match self.random.below(4) {
            0 | 1 => self.killed(shelf).await,
            2 => self.cut(shelf).await,
            _ => {}
        }
        shelf.scan().await;
        let now = |(path, id)| (names.get(&path).cloned().unwrap_or(path), id);
        let after: BTreeMap<String, FileId> = before.into_iter().map(now).collect();
        assert_eq!(shelf.paths(), after, "{case}: {names:?}");
    }

    /// Excludes some folders and has folders take each other's names, or leave theirs to what is new; checks that each
    /// exclusion is where its folder is after a pass, whatever was before that.
    async fn exchange_excluded(&mut self, shelf: &mut Shelf, case: &str) {
        let depth = 1 + self.random.below(2) as usize;
        let folder = |at: &String| at.split('/').take(depth).collect::<Vec<_>>().join("/");
        let all: BTreeSet<String> = self.files.keys().map(folder).collect();
        let first = self.random.below(all.len() as u64) as usize;
        let from: Vec<String> = all.into_iter().skip(first).take(2 + self.random.below(2) as usize).collect();
        let mut to = from.clone();
        to.rotate_left(1);
        if from.len() == 1 || self.random.below(2) == 0 {
            self.last += 1;
            to.pop();
            to.push(["free", "free/1"][depth - 1].replace("free", &format!("free {}", self.last)));
        }
        let some = 1 + self.random.below((1 << from.len()) - 1);
        let chosen = |names: &[String]| -> Vec<String> {
            let chosen = names.iter().enumerate().filter(|(n, _)| some & 1 << n != 0);
            chosen.map(|(_, name)| name.clone()).collect()
        };
        let (excluded, mut hidden) = (chosen(&from), chosen(&to));
        hidden.sort();
        let ids = shelf.paths();
        let paths = |names: &[String]| names.iter().map(|at| path(at)).collect::<Vec<_>>();
        shelf.scanner.exclude(&id(), paths(&excluded)).await.unwrap();
        // What is shown is put into one of them, and scanned there or not.
        let into = &excluded[self.random.below(excluded.len() as u64) as usize];
        let came = self.put_into(shelf, &excluded, into, depth);
        let is_seen = self.random.below(2) == 0;
        if is_seen {
            shelf.scan().await;
        }
        // Something new goes along, or comes where one of them was or is.
        let new = self.random.below(4) as usize;
        let place = self.random.below(from.len() as u64) as usize;
        let add = |model: &mut Self, when: usize| {
            if new == when {
                let folder = [&from, &from, &to][when][place].as_str();
                model.put(shelf, file_in(folder, depth, model.last), model.last);
            }
        };
        add(self, 0);
        let mut names = BTreeMap::new();
        for at in self.files.keys() {
            let place = from.iter().position(|name| *name == folder(at));
            names.extend(place.map(|n| (at.clone(), at.replacen(&from[n], &to[n], 1))));
        }
        self.rename_all(shelf, &names);
        add(self, 1);
        add(self, 2);
        let what = self.random.below(6);
        match what {
            0 | 1 => self.killed(shelf).await,
            2 => self.cut(shelf).await,
            3 => {
                drop(shelf.scan_paths(&from.iter().chain(&to).map(String::as_str).collect::<Vec<_>>()).await)
            }
            4 => drop(shelf.scan_paths(&[to[place].as_str()]).await),
            _ => {}
        }
        shelf.scan().await;
        let case = format!("{case}: {from:?} {to:?}, {excluded:?} are excluded, new {new} {place}, {what}");
        let case = format!("{case}, {came:?} came, seen: {is_seen}");
        let left: Vec<String> =
            shelf.library.exclusions().unwrap().all().into_iter().map(|(_, at)| at.to_string()).collect();
        assert_eq!(left, hidden, "{case}");
        let is_shown = |at: &String| !hidden.contains(&folder(at));
        let mut expected = self.tree();
        expected.retain(|_, at| is_shown(at));
        assert_eq!(shown(shelf), expected, "{case}");
        shelf.scanner.include(&id(), paths(&hidden)).await.unwrap();
        shelf.scan().await;
        if what == 4 {
            // What was where the others are was not looked at.
            return;
        }
        let mut now = shelf.paths();
        now.retain(|_, id| ids.values().any(|was| was == id));
        let now_at = |at: String| {
            let at = came.get(&at).cloned().unwrap_or(at);
            names.get(&at).cloned().unwrap_or(at)
        };
        let expected: BTreeMap<String, FileId> = ids.into_iter().map(|(at, id)| (now_at(at), id)).collect();
        assert_eq!(now, expected, "{case}");
    }

    /// Moves a file or two that are shown into an excluded folder, where others are in the folder that they come from;
    /// returns where they are then.
    fn put_into(
        &mut self,
        shelf: &Shelf,
        excluded: &[String],
        into: &str,
        depth: usize,
    ) -> BTreeMap<String, String> {
        let mut came = BTreeMap::new();
        for _ in 0..self.random.below(3) {
            let Some(from) = self.any() else { continue };
            let folder = from.split('/').take(depth).collect::<Vec<_>>().join("/");
            let others = self.files.keys().filter(|at| at.starts_with(&format!("{folder}/"))).count();
            if excluded.contains(&folder) || others < 2 {
                continue;
            }
            self.last += 1;
            let to = file_in(into, depth, self.last);
            self.last += 1;
            self.rename(shelf, &from, to.clone());
            came.insert(from, to);
        }
        came
    }

    fn tree(&self) -> BTreeMap<String, String> {
        let shown = |(path, (audio, named)): (&String, &(u32, u32))| {
            let (album, track) = (audio / 10, audio % 10 + 1);
            (format!("/Artist/Album {album}/{track:02} - {}.mp3", title(*named)), path.clone())
        };
        self.files.iter().map(shown).collect()
    }
}

/// Where on the origin each file of the tree is.
fn shown(shelf: &Shelf) -> BTreeMap<String, String> {
    let at = |ino: Ino| shelf.file(ino.file_id().unwrap()).path.to_string();
    shelf.tree().into_iter().map(|(path, ino)| (path, at(ino))).collect()
}

/// A path in a folder so deep, as deep as all files are.
fn file_in(folder: &str, depth: usize, n: u32) -> String {
    format!("{folder}/{}{n}.mp3", ["1/", ""][depth - 1])
}

fn title(n: u32) -> String {
    format!("Title {n:06}")
}

/// Lets other tasks run so many times.
async fn after(polls: u64) {
    for _ in 0..polls {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn thousand_random_sequences_end_in_exactly_what_the_origin_holds() {
    let mut shelf = Shelf::new();
    let mut model = Model { files: BTreeMap::new(), last: 0, random: Random(0x9e37_79b9_7f4a_7c15) };
    model.add(&shelf);
    for sequence in 0..SEQUENCES {
        let state = model.random.0;
        for _ in 0..=model.random.below(LONGEST) {
            model.step(&mut shelf).await;
            shelf.wait(Duration::from_secs(600));
        }
        let case = format!("sequence {sequence} from {state:#x}");
        let report = shelf.scan().await;
        assert!(report.complete && report.held_back.is_none(), "{case}: {report:?}");
        if sequence % 4 == 0 {
            model.exchange_alone(&mut shelf, &case).await;
        }
        if sequence % 4 == 2 {
            model.exchange_excluded(&mut shelf, &case).await;
        }
        assert_eq!(shown(&shelf), model.tree(), "{case}");
        let again = shelf.scan().await;
        assert_eq!((again.unchanged, again.listed), (model.files.len() as u64, model.files.len() as u64));
        if sequence % 50 == 49 {
            shelf.scanner.purge_trash(TrashFilter::default()).await.unwrap();
        }
    }
    // Some weeks' worth of changes have left nothing behind but what there is.
    let totals = shelf.db.totals().unwrap();
    assert_eq!((totals.files, totals.missing), (model.files.len() as u64, 0));
    shelf.db.checkpoint().unwrap();
    let size = std::fs::metadata(shelf.dir.path().join("catalogue.db")).unwrap().len();
    assert!(size < 4 << 20, "the catalogue of {} files has {size} bytes", totals.files);
}

/// Times in a week that files come and go: every three hours.
const WEEK: u32 = 7 * 8;
/// Tracks that come each time, and go a few times later: fewer than a pass stops at.
const EACH: u32 = 40;

#[tokio::test]
async fn week_of_churn_leaves_no_more_behind_than_a_day() {
    let shelf = Shelf::new();
    shelf.scanner.set_missing_max_age(Duration::from_secs(24 * 3600));
    let name = |n: u32| format!("{}/{n:05}.mp3", n / EACH);
    let mut sizes = Vec::new();
    for time in 0..WEEK {
        let first = time * EACH;
        for n in first..first + EACH {
            // Every fourth wants the same name as the one before.
            shelf.origin.put(name(n), tagged(n, &format!("Title {}", n - u32::from(n % 4 == 3))));
        }
        shelf.scan().await;
        // Of those of the time before some get other tags, and some move; older ones go.
        for n in (first.saturating_sub(EACH)..first).step_by(2) {
            let bytes = tagged(n, &format!("Other {n}"));
            shelf.origin.put(name(n), bytes.clone());
            if n % 8 == 0 {
                shelf.origin.remove(name(n));
                shelf.origin.put(format!("moved/{n}.mp3"), bytes);
            }
        }
        for n in first.saturating_sub(3 * EACH)..first.saturating_sub(2 * EACH) {
            for gone in [name(n), format!("moved/{n}.mp3")] {
                shelf.origin.remove(gone);
            }
        }
        shelf.clock.advance(Duration::from_secs(3 * 3600));
        let report = shelf.scan().await;
        assert!(report.held_back.is_none(), "{report:?}");
        let rows = shelf.db.files(&FileQuery::All, None, usize::MAX).unwrap().files.len();
        let library = shelf.library.identities().unwrap().len() + shelf.library.name_numbers().unwrap().len();
        sizes.push((rows, library));
    }
    let most = |times: &[(usize, usize)]| {
        (times.iter().map(|size| size.0).max().unwrap(), times.iter().map(|size| size.1).max().unwrap())
    };
    let (day, week) = (most(&sizes[..16]), most(&sizes));
    // Files that moved at the edge of a day are counted twice for a moment.
    let slack = EACH as usize;
    assert!(
        week.0 <= day.0 + slack && week.1 <= day.1 + slack,
        "{day:?} after two days, {week:?} after a week"
    );
    assert!(week.0 <= 14 * EACH as usize, "{week:?}: what has been gone for a day is not forgotten");
    let size = std::fs::metadata(shelf.dir.path().join("catalogue.db")).unwrap().len();
    assert!(size < 8 << 20, "the catalogue has {size} bytes");
}
