//! What is read through a mount is what the library has.

use std::fs;

use crate::support::{Library, noise};

#[test]
fn file_read_whole_has_the_librarys_bytes() {
    let library = Library::new();
    let bytes = noise(1, 3_000_001);
    library.put_bytes("A/B/01.flac", &bytes);
    let mut mounted = library.mount();
    assert_eq!(fs::read(mounted.at("A/B/01.flac")).unwrap(), bytes);
    let names: Vec<_> = fs::read_dir(mounted.at("A")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["B"]);
    assert_eq!(fs::metadata(mounted.at("A/B/01.flac")).unwrap().len(), 3_000_001);
    mounted.unmount(std::time::Duration::from_secs(5)).unwrap();
}
