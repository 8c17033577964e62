//! How far a scan is: a bar on a terminal, a line now and then elsewhere.

use std::sync::Arc;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use musicfs_core::{Clock, MonoTime};

use crate::control::api::{ScanResult, ScanStatus};
use crate::output;

/// Time between lines where there is no terminal: often enough to see that it goes on, seldom enough for a log.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Shows the progress of scans.
pub(crate) struct Progress {
    clock: Arc<dyn Clock>,
    bars: MultiProgress,
    /// On a terminal.
    terminal: bool,
    /// Prints a line, elsewhere.
    line: fn(&str),
    bar: Option<ProgressBar>,
    last_line: Option<MonoTime>,
}

impl Progress {
    /// Makes progress that shows itself through `bars` on a terminal and through `line` elsewhere.
    pub(crate) fn new(clock: Arc<dyn Clock>, bars: MultiProgress, terminal: bool, line: fn(&str)) -> Self {
        Self { clock, bars, terminal, line, bar: None, last_line: None }
    }

    /// Shows what the scanner does now.
    pub(crate) fn show(&mut self, scan: &ScanStatus) {
        if scan.phase == "idle" && scan.verifying.is_none() {
            self.clear();
        } else if self.terminal {
            self.show_bar(scan);
        } else {
            let now = self.clock.now();
            let last = *self.last_line.get_or_insert(now);
            if now.since(last) >= LINE_INTERVAL {
                self.last_line = Some(now);
                (self.line)(&describe(scan));
            }
        }
    }

    /// Takes the bar away.
    pub(crate) fn clear(&mut self) {
        self.last_line = None;
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
            self.bars.remove(&bar);
        }
    }

    fn show_bar(&mut self, scan: &ScanStatus) {
        let bar = self.bar.get_or_insert_with(|| {
            let bar = self.bars.add(ProgressBar::no_length());
            let style = ProgressStyle::with_template("{spinner} [{bar:20}] {elapsed} {wide_msg}");
            if let Ok(style) = style {
                bar.set_style(style.progress_chars("=> "));
            }
            // The listing may wait for a slow disk; the spinner shows that the program does not.
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        bar.set_length(scan.to_parse.max(1));
        bar.set_position(scan.parsed.min(scan.to_parse));
        bar.set_message(describe(scan));
    }
}

/// A bar for work of which it is known how much it is; nothing where there is no terminal.
pub(crate) struct Bar {
    bars: MultiProgress,
    terminal: bool,
    bar: Option<ProgressBar>,
}

impl Bar {
    /// Makes a bar that shows itself on a terminal only.
    pub(crate) fn new(bars: MultiProgress, terminal: bool) -> Self {
        Self { bars, terminal, bar: None }
    }

    /// Shows how far it is.
    pub(crate) fn show(&mut self, done: u64, all: u64, text: String) {
        if !self.terminal {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let bar = self.bars.add(ProgressBar::no_length());
            if let Ok(style) = ProgressStyle::with_template("{spinner} [{bar:20}] {elapsed} {wide_msg}") {
                bar.set_style(style.progress_chars("=> "));
            }
            bar
        });
        bar.set_length(all.max(1));
        bar.set_position(done.min(all));
        bar.set_message(text);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
            self.bars.remove(&bar);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Says in a line what the scanner does.
pub(crate) fn describe(scan: &ScanStatus) -> String {
    let Some(now) = &scan.verifying else { return describe_pass(scan) };
    let (files, bytes) = (output::count(now.files), output::size(now.bytes));
    let differing = output::count(now.differing);
    let comparing =
        format!("comparing {}: {files} files and {bytes} of the cache, {differing} differ", now.origin);
    if scan.phase == "idle" { comparing } else { format!("{}; {comparing}", describe_pass(scan)) }
}

fn describe_pass(scan: &ScanStatus) -> String {
    let origin = scan.origin.as_deref().unwrap_or("the library");
    match scan.phase.as_str() {
        "idle" => "idle".to_owned(),
        "arranging" => format!("arranging the tree: {} files", output::count(scan.listed)),
        _ if scan.to_parse == 0 => format!("scanning {origin}: {} files found", output::count(scan.listed)),
        _ => format!(
            "scanning {origin}: {} files found, {} of {} read",
            output::count(scan.listed),
            output::count(scan.parsed),
            output::count(scan.to_parse)
        ),
    }
}

/// Says in a line how a pass ended.
pub(crate) fn summary(origin: &str, result: &ScanResult) -> String {
    let mut parts = Vec::new();
    let mut part = |n: u64, what: &str| {
        if n > 0 {
            parts.push(format!("{} {what}", output::count(n)));
        }
    };
    part(result.added, "new");
    part(result.changed, "changed");
    part(result.moved, "moved");
    part(result.returned, "back");
    part(result.missing, "gone");
    part(result.unchanged, "unchanged");
    part(result.problems, "that could not be parsed");
    part(result.verified.unwrap_or_default(), "as they are known to be");
    part(result.differing, "other than their size and time say");
    part(result.unread, "that could not be read");
    if parts.is_empty() {
        parts.push("no music".to_owned());
    }
    let took = output::duration(Duration::from_millis(result.elapsed_ms));
    let mut line = format!("{origin}: {} in {took}", parts.join(", "));
    match result.unlisted {
        0 => {}
        1 => line.push_str("; a folder could not be listed, and is kept as it was"),
        n => {
            let folders = output::count(n);
            line.push_str(&format!("; {folders} folders could not be listed, and are kept as they were"));
        }
    }
    if let Some(why) = &result.held_back {
        line.push_str(&format!("; nothing was taken for gone, because {why}"));
    }
    if result.needs_confirmation {
        line.push_str(&format!("; if that is as it should be: musicfs scan --confirm {origin}"));
    }
    if let Some(error) = &result.error {
        line = format!("{origin}: the scan failed after {took}: {error}");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::api::Verifying;

    #[test]
    fn summary_names_what_there_was() {
        let mut result = ScanResult { added: 1200, problems: 1, elapsed_ms: 1500, ..ScanResult::default() };
        assert_eq!(summary("nas", &result), "nas: 1,200 new, 1 that could not be parsed in 1.5 s");
        result.held_back = Some("the listing was cut short".into());
        assert!(
            summary("nas", &result)
                .ends_with("nothing was taken for gone, because the listing was cut short")
        );
        result.unlisted = 1200;
        assert!(summary("nas", &result).contains("1.5 s; 1,200 folders could not be listed, and are kept"));
        result.unlisted = 1;
        assert!(summary("nas", &result).contains("1.5 s; a folder could not be listed, and is kept"));
        result.error = Some("no route".into());
        assert_eq!(summary("nas", &result), "nas: the scan failed after 1.5 s: no route");
        assert_eq!(summary("nas", &ScanResult::default()), "nas: no music in 0 ms");
    }

    #[test]
    fn description_follows_the_phase() {
        let mut scan = ScanStatus {
            phase: "scanning".into(),
            origin: Some("nas".into()),
            listed: 5,
            ..Default::default()
        };
        assert_eq!(describe(&scan), "scanning nas: 5 files found");
        (scan.parsed, scan.to_parse) = (1, 4);
        let scanning = "scanning nas: 5 files found, 1 of 4 read";
        assert_eq!(describe(&scan), scanning);
        scan.verifying =
            Some(Verifying { origin: "disk".into(), files: 2, differing: 1, ..Verifying::default() });
        let comparing = "comparing disk: 2 files and 0 B of the cache, 1 differ";
        assert_eq!(describe(&scan), format!("{scanning}; {comparing}"));
        scan.phase = "idle".into();
        assert_eq!(describe(&scan), comparing);
    }
}
