//! Lists a folder as an origin does, and says how long it took: `cargo run --release --example list -- DIR`.

use std::error::Error;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;

use futures::StreamExt;
use musicfs_core::{Clock, Origin, ScanRequest, SystemClock};
use musicfs_origins::LocalOrigin;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let root = std::env::args_os().nth(1).ok_or("which folder?")?;
    let clock = SystemClock::new();
    let origin = LocalOrigin::new("folder", std::path::PathBuf::from(root));
    let mut pages = origin.scan(ScanRequest::all());
    let (mut files, mut bytes, mut first) = (0, 0, None);
    let mut out = std::io::stdout().lock();
    while let Some(page) = pages.next().await {
        let page = page?;
        first.get_or_insert_with(|| clock.now());
        for entry in page.entries {
            files += 1;
            bytes += entry.version.size;
            out.write_all(std::ffi::OsStr::from_bytes(entry.path.as_bytes()).as_encoded_bytes())?;
            out.write_all(b"\n")?;
        }
        for folder in page.unlisted {
            eprintln!("not listed: {}", folder.error);
        }
    }
    eprintln!(
        "{files} files, {bytes} bytes, first page after {:?}, all after {:?}",
        first.unwrap_or_default().0,
        clock.now().0
    );
    Ok(())
}
