//! What is said of passes: in the log, in events, and over the control socket.

use std::collections::BTreeMap;

use musicfs_core::{EventKind, OriginId};
use musicfs_sync::{PassProgress, ScanPhase, ScanProgress, ScanReport};
use tracing::warn;

use crate::control::api::{PassStatus, ScanResult, ScanStatus, Unlisted};
use crate::progress;

/// The scanner itself logs a pass that went well.
pub(super) fn log(origin: &OriginId, result: &ScanResult) {
    if result.error.is_some() || result.held_back.is_some() {
        warn!("{}", progress::summary(origin.as_str(), result));
    }
}

/// Returns the event that tells how a pass over an origin ended.
pub(super) fn outcome(origin: &OriginId, result: &ScanResult) -> EventKind {
    let origin = origin.clone();
    if let Some(reason) = result.error.clone() {
        return EventKind::SyncFailed { origin, reason };
    }
    if let Some(reason) = result.held_back.clone().filter(|_| result.needs_confirmation) {
        return EventKind::SyncHeld { origin, reason };
    }
    EventKind::SyncFinished {
        origin,
        listed: result.listed,
        added: result.added,
        changed: result.changed,
        missing: result.missing,
        returned: result.returned,
        complete: result.complete,
    }
}

/// Returns an error with its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = error.to_string();
        if !text.ends_with(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        cause = error.source();
    }
    text
}

/// Returns a report as it goes over the socket.
pub(crate) fn result_of(report: &ScanReport) -> ScanResult {
    ScanResult {
        listed: report.listed,
        unchanged: report.unchanged,
        added: report.added,
        changed: report.changed,
        moved: report.moved,
        missing: report.missing,
        returned: report.returned,
        problems: report.problems,
        complete: report.complete,
        held_back: report.held_back.clone(),
        needs_confirmation: report.needs_confirmation,
        elapsed_ms: report.elapsed_ms,
        unsettled: report.unsettled,
        nowhere: report.nowhere.iter().map(ToString::to_string).collect(),
        unlisted: report.unlisted,
        unlisted_folders: report.unlisted_folders.iter().map(unlisted).collect(),
        ..ScanResult::default()
    }
}

fn unlisted(folder: &musicfs_sync::Unlisted) -> Unlisted {
    Unlisted { path: folder.path.to_string(), reason: folder.why.to_string() }
}

/// Returns progress as it goes over the socket.
pub(crate) fn status_of(
    progress: &ScanProgress,
    last: BTreeMap<String, ScanResult>,
    next_in_s: Option<u64>,
) -> ScanStatus {
    let phase = |phase: ScanPhase| {
        let word = serde_json::to_value(phase).ok();
        word.and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
    };
    let passes = progress.passes.iter().map(|(origin, pass)| {
        let PassProgress { listed, parsed, to_parse, .. } = *pass;
        (origin.to_string(), PassStatus { phase: phase(pass.phase), listed, parsed, to_parse })
    });
    let passes: BTreeMap<String, PassStatus> = passes.collect();
    let all = progress.together();
    let origins: Vec<&str> = passes.keys().map(String::as_str).collect();
    ScanStatus {
        phase: phase(all.phase),
        origin: (!origins.is_empty()).then(|| origins.join(", ")),
        listed: all.listed,
        parsed: all.parsed,
        to_parse: all.to_parse,
        passes,
        last,
        next_in_s,
        verifying: None,
    }
}
