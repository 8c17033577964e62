//! What was logged, for a test to look at.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;

/// What this thread logged since it was made, until it is dropped.
pub struct CapturedLogs {
    buffer: Buffer,
    _guard: DefaultGuard,
}

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

/// Captures what this thread logs, at all levels.
///
/// Other threads are not heard: a test that uses this runs its code on a runtime of one thread, and what happens
/// in the blocking pool goes past it.
pub fn captured_logs() -> CapturedLogs {
    let buffer = Buffer::default();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(buffer.clone())
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .without_time()
        .finish();
    CapturedLogs { buffer, _guard: tracing::subscriber::set_default(subscriber) }
}

impl CapturedLogs {
    /// Returns everything that was logged.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.buffer.0.lock()).into_owned()
    }

    /// Tells whether a line holds all of `parts`.
    pub fn has_line(&self, parts: &[&str]) -> bool {
        self.count(parts) > 0
    }

    /// Returns how many lines hold all of `parts`.
    pub fn count(&self, parts: &[&str]) -> usize {
        self.text().lines().filter(|line| parts.iter().all(|part| line.contains(part))).count()
    }
}

impl io::Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Buffer {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_captured_with_level_and_fields_until_dropped() {
        let logs = captured_logs();
        tracing::warn!(origin = "nas", "no answer");
        tracing::debug!("detail");
        assert!(logs.has_line(&["WARN", "no answer", "origin=\"nas\""]));
        assert_eq!(logs.count(&["detail"]), 1);
        assert!(!logs.has_line(&["no answer", "detail"]));
    }
}
