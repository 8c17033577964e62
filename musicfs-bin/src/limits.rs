//! Limits that the system sets on this process.

/// Raises the soft limit of open files to the hard one, and returns it. The soft limit is low for the sake of old
/// programs that use `select`; a music server opens many files at once.
pub(crate) fn raise_open_files() -> std::io::Result<u64> {
    rlimit::increase_nofile_limit(rlimit::INFINITY)
}

/// Returns the soft and the hard limit of open files.
pub(crate) fn open_files() -> std::io::Result<(u64, u64)> {
    rlimit::Resource::NOFILE.get()
}
