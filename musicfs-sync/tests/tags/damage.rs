//! Damaged files: nothing panics, loops, or reads beyond the bounds.

use std::cell::Cell;
use std::sync::Once;

use proptest::prelude::*;

use musicfs_sync::tags::{ParseError, ParseFailure};

use crate::formats::tagged_files;
use crate::support::{Counting, Sparse, plain_files};

/// Most that may be asked of an origin for one file.
const MOST: u64 = 4 * 1024 * 1024;

thread_local! {
    /// Where this thread panicked last.
    static PANICKED_AT: Cell<String> = const { Cell::new(String::new()) };
}

/// Notes where panics come from, in place of printing them: lofty's are many, and proptest tells of the rest.
fn watch_panics() {
    static WATCHING: Once = Once::new();
    WATCHING.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let place = info.location().map(|place| place.file().to_owned()).unwrap_or_default();
            if !place.contains("lofty") {
                before(info);
            }
            PANICKED_AT.set(place);
        }));
    });
}

/// Parses what may be anything. Whatever comes of it, it ends, within the bound, and asks for no byte twice.
fn endure(name: &str, bytes: &[u8]) {
    watch_panics();
    let origin = Counting::new(Sparse::of(bytes));
    let result = origin.parse(name);
    assert!(origin.asked() <= MOST.min(bytes.len() as u64), "{name}: {} of {}", origin.asked(), bytes.len());
    match result {
        Ok(parsed) => assert_eq!(parsed.bytes_read, origin.asked()),
        Err(ParseFailure::Unparsable(error)) => {
            assert!(!matches!(error, ParseError::Read(_)), "{name}: {error}");
            if matches!(error, ParseError::Panicked(_)) {
                // lofty does on some damaged files, and is caught; own code must not.
                let place = PANICKED_AT.take();
                assert!(place.contains("lofty"), "{name}: {error} at {place}");
            }
            let text = error.to_string();
            assert!(!text.is_empty() && !text.contains('\n'), "{name}: {text:?}");
        }
        Err(ParseFailure::Origin(error)) => panic!("{name}: {error}"),
    }
}

fn every_file() -> Vec<(&'static str, Vec<u8>)> {
    let mut files = plain_files();
    files.extend(tagged_files());
    files
}

#[test]
fn every_truncation_of_every_format_is_endured() {
    for (name, bytes) in every_file() {
        // All cuts in the head, where headers are; then in steps.
        let cuts = (0..bytes.len().min(600)).chain((600..bytes.len()).step_by(37));
        for cut in cuts {
            endure(name, &bytes[..cut]);
        }
    }
}

#[test]
fn every_format_without_its_head_is_endured() {
    for (name, bytes) in every_file() {
        for cut in (0..bytes.len()).step_by(97) {
            endure(name, &bytes[cut..]);
        }
    }
}

#[test]
fn files_that_claim_to_be_huge_are_endured() {
    for (name, bytes) in every_file() {
        let origin = Counting::new(Sparse::of(&bytes).gap(1 << 45));
        let _ = origin.parse(name);
        assert!(origin.asked() <= MOST, "{name}: {}", origin.asked());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_are_endured(bytes in prop::collection::vec(any::<u8>(), 0..5000)) {
        endure("a.mp3", &bytes);
    }

    #[test]
    fn arbitrary_bytes_behind_a_mark_are_endured(
        mark in prop::sample::select(vec![
            &b"fLaC"[..], b"OggS\0\x02", b"RIFF\0\0\0\0WAVE", b"RF64\xff\xff\xff\xffWAVE", b"FORM\0\0\0\0AIFF",
            b"FORM\0\0\0\0AIFC", b"\0\0\0\x10ftypM4A \0\0\0\0", b"wvpk", b"MAC \x96\x0f", b"MPCK", b"MP+\x07",
            b"DSD \x1c\0\0\0\0\0\0\0", b"ID3\x02\0\0", b"ID3\x03\0\x80", b"ID3\x04\0\0", b"APETAGEX\xd0\x07\0\0",
            b"\xff\xfb\x90\0", b"\xff\xf1\x50\x80",
        ]),
        bytes in prop::collection::vec(any::<u8>(), 0..3000),
    ) {
        endure("a.mp3", &[mark, &bytes].concat());
    }

    #[test]
    fn mutations_of_every_format_are_endured(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..24),
    ) {
        let files = files();
        let (name, bytes) = which.get(files);
        let mut bytes = bytes.clone();
        for (at, value, in_head) in changes {
            // Headers are where damage tells.
            let range = if in_head { bytes.len().min(256) } else { bytes.len() };
            bytes[at.index(range)] = value;
        }
        endure(name, &bytes);
    }

    #[test]
    fn sizes_changed_to_extremes_are_endured(
        which in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        value in prop::sample::select(vec![0u32, 1, 7, 0xff, 0xffff, 0x7fff_ffff, 0x8000_0000, u32::MAX]),
        little in any::<bool>(),
    ) {
        let files = files();
        let (name, bytes) = which.get(files);
        let mut bytes = bytes.clone();
        let at = at.index(bytes.len() - 4);
        bytes[at..at + 4].copy_from_slice(&if little { value.to_le_bytes() } else { value.to_be_bytes() });
        endure(name, &bytes);
    }
}

fn files() -> &'static [(&'static str, Vec<u8>)] {
    static FILES: std::sync::LazyLock<Vec<(&'static str, Vec<u8>)>> = std::sync::LazyLock::new(every_file);
    &FILES
}
