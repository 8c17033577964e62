//! Vocabulary, contracts and pure logic of MusicFS.
//!
//! MusicFS turns the music a person owns into one read-only tree arranged by its tags. This crate is the part
//! that everything else meets in; it does no I/O of its own and pulls in no database, kernel or network library.
//!
//! * **Names of things**: [`OriginId`], [`FileId`], [`Ino`], [`ChunkHash`], [`OriginPath`], [`Name`],
//!   [`ByteRange`], [`UnixNanos`].
//! * **Four contracts**: [`Origin`] (where music comes from), [`ChunkStore`] (where its bytes are cached),
//!   [`MetaDb`] (what is known of it), [`Clock`] (what time it is). Each is object-safe, has a blanket
//!   implementation for `Arc<T>`, and a conformance suite in `musicfs-test-utils`.
//! * **Seams** by which the kernel's side stays free of stores: [`ContentReader`], [`Refresher`],
//!   [`Searcher`].
//! * **Pure logic**: [`Template`] and [`layout`] (tags → path), [`VirtualTree`] (the rules of the tree),
//!   [`ReadPlan`] (offsets → sources), [`FileVersion`] (is it still the same file).
//! * **Running**: [`TaskSupervisor`], [`install_panic_hook`], [`EventBus`] (what happens, for those who listen).
//!
//! # Example: from tags to a path
//!
//! ```
//! use musicfs_core::{layout::{render, LayoutInput}, AudioMeta, OriginId, OriginPath, Template};
//!
//! let audio = AudioMeta {
//!     title: Some("So What".into()),
//!     artists: vec!["Miles Davis".into()],
//!     album: Some("Kind of Blue".into()),
//!     track: Some(1),
//!     ..AudioMeta::default()
//! };
//! let path = OriginPath::new("incoming/01.flac")?;
//! let origin = OriginId::from("nas");
//! let input = LayoutInput { audio: &audio, path: &path, origin: &origin, extension: "flac", multi_disc: false };
//! let shown = render(&Template::default(), &input);
//! assert_eq!(shown.to_string(), "Miles Davis/Kind of Blue/01 - So What.flac");
//! # Ok::<(), musicfs_core::InvalidPath>(())
//! ```

mod audio;
mod chunk;
mod clock;
mod content;
mod course;
mod events;
mod file;
mod ids;
pub mod layout;
mod metadb;
mod name;
mod origin;
mod parts;
mod path;
mod pin;
mod range;
mod search;
mod seen;
mod supervisor;
mod template;
mod tree;
mod units;

pub use audio::{
    AlbumKey, AudioIdentity, AudioMeta, Codec, Format, MusicBrainzIds, PictureKind, PictureRef,
    PictureStorage, ReplayGain, SortNames,
};
pub use chunk::{ChunkError, ChunkExtent, ChunkHash, ChunkManifest, ChunkStore, InvalidChunkHash};
pub use clock::{Clock, MonoTime, SystemClock, UnixNanos};
pub use content::{
    Compared, ContentReader, ContentVerifier, ReadError, ReadPlan, ReadSource, Refreshed, Refresher, Segment,
    SourceSlice,
};
pub use course::Course;
pub use events::{Event, EventBus, EventKind, EventStream, ServiceState};
pub use file::{ContentKey, FileKind, FileMeta, FileState, FileVersion};
pub use ids::{FileId, Ino, OriginId, ROOT_INODE};
pub use layout::VirtualPath;
pub use metadb::{
    Applied, Batch, Change, Changes, Cookie, FilePage, FileQuery, KnownFile, Mark, MarkedFile, MetaDb,
    MetaError, Node, NodeKind, Op, Placement, Revision, SavedManifest, ShownPage, Suffixed, Totals,
};
pub use name::{InvalidName, Name};
pub use origin::{
    FsBacking, LocalAccess, Origin, OriginCaps, OriginEntry, OriginError, OriginErrorKind, OriginHealth,
    Retry, ScanCursor, ScanPage, ScanRequest, ScanStream, UnlistedFolder, read_in_steps,
};
pub use parts::{Gathered, PartSink};
pub use path::{InvalidPath, OriginPath};
pub use pin::{Pin, PinSet};
pub use range::ByteRange;
pub use search::{Found, SearchFailure, Searcher};
pub use seen::{SeenFile, SeenKeeper};
pub use supervisor::{TaskReport, TaskStatus, TaskSupervisor, install_panic_hook};
pub use template::{Template, TemplateError};
pub use tree::{Shown, Standing, TreeChange, VirtualTree};
pub use units::byte_unit;
