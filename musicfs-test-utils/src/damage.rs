//! What becomes of files on disks that fail.

use std::fs;
use std::path::Path;

/// Does something to a file. Panics when the disk refuses.
pub type Damage = fn(&Path);

/// Damages that any file may suffer, by name.
pub const DAMAGES: [(&str, Damage); 4] = [
    ("removed", |path| on_disk(fs::remove_file(path))),
    ("emptied", |path| on_disk(fs::write(path, b""))),
    ("cut in half", |path| {
        let bytes = on_disk(fs::read(path));
        on_disk(fs::write(path, &bytes[..bytes.len() / 2]));
    }),
    ("all garbage", |path| {
        let len = on_disk(fs::metadata(path)).len() as usize;
        on_disk(fs::write(path, vec![0xa5; len]));
    }),
];

fn on_disk<T>(done: std::io::Result<T>) -> T {
    done.expect("a disk that does as it is told")
}
