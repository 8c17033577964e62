//! Tests of recognising and parsing audio files, on real files of every format.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

#[path = "tags/bounds.rs"]
mod bounds;
#[path = "tags/damage.rs"]
mod damage;
#[path = "tags/formats.rs"]
mod formats;
#[path = "tags/id3.rs"]
mod id3;
#[path = "tags/pictures.rs"]
mod pictures;
#[path = "tags/support.rs"]
mod support;
#[path = "tags/values.rs"]
mod values;
