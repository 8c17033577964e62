//! `make bench`: the figures that MusicFS is held to, measured beside the plain disk and whichever peers are
//! installed, in one run.
//!
//! Ratios are the message: absolute figures differ between machines and, on a shared disk, between runs. Each figure
//! is the median of a few rounds. Nothing here fails when a bar is missed; the table says so.
//!
//! ```text
//! make bench                                   everything
//! make bench BENCH="--files 20000 --only walk" less of it: scan, walk, large, remote, catalogue, scale,
//!                                              listing, churn, search, peers
//! make bench BENCH="--only remote/cached"      a part: of remote cached, uncached, first-byte, stream, dead, readers
//! ```

#![expect(clippy::unwrap_used, reason = "a measurement that cannot go on has failed")]

mod bucket;
mod catalogue;
mod large;
mod library;
mod measure;
mod peers;
mod plain;
mod reading;
mod remote;
mod scale;
mod search;
mod table;

use std::path::PathBuf;

use musicfs_tests::workspace;

use table::Table;

/// What to measure.
struct Settings {
    /// Files of the library.
    files: usize,
    /// Tracks of the catalogue that has no files.
    tracks: usize,
    /// Rounds of each measurement.
    rounds: usize,
    /// The one section to run.
    only: Option<String>,
    /// Where libraries are kept between runs.
    dir: PathBuf,
}

impl Settings {
    fn read() -> Self {
        let target = workspace::metadata().target_directory;
        let mut settings = Self {
            files: 100_000,
            tracks: 1_000_000,
            rounds: 3,
            only: None,
            dir: target.join("bench").into(),
        };
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            let mut number = || args.next().and_then(|n| n.parse().ok()).unwrap_or_else(|| usage(&arg));
            match arg.as_str() {
                "--files" => settings.files = number(),
                "--tracks" => settings.tracks = number(),
                "--rounds" => settings.rounds = number(),
                "--only" => settings.only = args.next(),
                // What cargo adds.
                "--bench" => {}
                _ => usage(&arg),
            }
        }
        settings
    }

    /// Tells whether a section is run, or a part of it.
    fn runs(&self, section: &str) -> bool {
        self.only.as_deref().is_none_or(|only| only.split('/').next() == Some(section))
    }

    /// Tells whether a part of a section that is run is.
    fn runs_part(&self, part: &str) -> bool {
        let only = self.only.as_deref().and_then(|only| only.split_once('/'));
        only.is_none_or(|(_, wanted)| wanted == part)
    }
}

fn usage(arg: &str) -> ! {
    eprintln!(
        "{arg}: usage: [--files N] [--tracks N] [--rounds N] \
         [--only scan|walk|large|remote|catalogue|scale|listing|churn|search|peers]"
    );
    std::process::exit(2)
}

fn main() {
    let settings = Settings::read();
    let mut table = Table::default();
    if ["scan", "walk", "peers"].iter().any(|section| settings.runs(section)) {
        let music = library::prepare(&settings);
        let disk = library::walk_disk(&settings, &music);
        if settings.runs("scan") || settings.runs("walk") {
            library::run(&settings, &music, &disk, &mut table);
        }
        if settings.runs("peers") {
            peers::run(&music, &disk, &mut table);
        }
    }
    if settings.runs("large") {
        large::run(&settings, &mut table);
    }
    if settings.runs("remote") {
        remote::run(&settings, &mut table);
    }
    if settings.runs("catalogue") {
        catalogue::run(&settings, &mut table);
    }
    if settings.runs("scale") {
        scale::run(&settings, &mut table);
    }
    if settings.runs("listing") {
        scale::listing(&settings, &mut table);
    }
    if settings.runs("churn") {
        scale::churn(&settings, &mut table);
    }
    if settings.runs("search") {
        search::run(&settings, &mut table);
    }
    println!("\n{table}");
}
