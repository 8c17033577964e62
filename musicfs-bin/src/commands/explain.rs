//! `musicfs explain`

use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use anyhow::Context as _;
use musicfs_fuse::Os;

use crate::cli::ExplainArgs;
use crate::context::{Context, Outcome, small_runtime};
use crate::control::api::{Explanation, FileExplanation};
use crate::mounts::{self, Found, Known};
use crate::output::{self, Style};
use crate::paths;

/// Explains a path.
pub(crate) fn run(cx: &Context, args: &ExplainArgs) -> anyhow::Result<Outcome> {
    let found = mounts::find(&Os::default(), &cx.runtime_dir(&args.place.flags())?, cx.env.uid)?;
    let named = args.mount.as_deref().map(|path| cx.mountpoint(path)).transpose()?;
    let (known, path) = locate(cx, found, named.as_deref(), &args.path)?;
    let asked = small_runtime()?.block_on(known.client()?.explain(path.as_os_str().as_bytes()));
    let explanation =
        asked.with_context(|| format!("cannot explain it in the mount at {}", known.mountpoint.display()))?;
    if args.json {
        cx.output.json(&explanation)?;
    } else {
        print(cx, &explanation);
    }
    Ok(Outcome::Done)
}

/// Finds the mount that a path is in, and the path from its root. A path in no mount is taken from the root of
/// the mount that is named, or of the only one. Nothing in a mount is touched.
pub(super) fn locate(
    cx: &Context,
    found: Found,
    named: Option<&Path>,
    path: &Path,
) -> anyhow::Result<(Known, PathBuf)> {
    let points: Vec<PathBuf> = found.mounts.iter().map(|known| known.mountpoint.clone()).collect();
    let absolute = paths::absolute(path, &cx.env.cwd, cx.env.home()).map_err(crate::context::Usage)?;
    let resolved = paths::resolve(&absolute, |prefix| points.iter().any(|point| prefix.starts_with(point)));
    let within = |point: &PathBuf| named.is_none_or(|named| named == point) && resolved.starts_with(point);
    let inner = points.iter().filter(|point| within(point)).max_by_key(|point| point.as_os_str().len());
    if let Some(point) = inner {
        let rest = resolved.strip_prefix(point).unwrap_or(&resolved).to_owned();
        return Ok((mounts::choose(found, Some(point))?, rest));
    }
    let known = mounts::choose(found, named)?;
    let mut from_root = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => from_root.push(name),
            // It leads out of the tree at most, which is to say nowhere.
            Component::ParentDir => drop(from_root.pop()),
            Component::Prefix(_) | Component::RootDir | Component::CurDir => {}
        }
    }
    Ok((known, from_root))
}

fn print(cx: &Context, explanation: &Explanation) {
    let out = &cx.output;
    let path = if explanation.path.is_empty() { "/" } else { &explanation.path };
    out.line(out.paint(Style::Bold, path));
    if let Some(file) = &explanation.file {
        print_file(cx, file);
    } else {
        out.line(format!("  {}, changed {}", explanation.kind, output::timestamp(explanation.mtime)));
    }
    for line in &explanation.because {
        out.line(format!("  {line}"));
    }
    if let Some(other) = explanation.file.as_ref().and_then(|file| file.taken_by.as_ref()) {
        out.line(format!("  The name is that of {}:{}", other.origin, other.origin_path));
    }
}

fn print_file(cx: &Context, file: &FileExplanation) {
    let out = &cx.output;
    let line = |name: &str, value: String| out.line(format!("  {name:<9} {value}"));
    line("from", format!("{}:{}", file.origin, file.origin_path));
    line("size", format!("{} ({} bytes)", output::size(file.size), output::count(file.size)));
    let format = file.format.as_deref().map(|format| match file.codec.as_deref() {
        Some(codec) if codec != format => format!(", {format} with {codec}"),
        _ => format!(", {format}"),
    });
    line("state", format!("{}, {}{}", file.state, file.kind, format.unwrap_or_default()));
    line("cached", file.cached.clone());
    if let Some(problem) = &file.problem {
        line("problem", out.paint(Style::Bad, problem));
    }
    if let Some(template) = &file.template {
        line("template", template.clone());
        for field in &file.fields {
            let value =
                field.value.as_deref().map_or_else(|| "empty".to_owned(), |value| format!("{value:?}"));
            let text = format!("            {:<16} {value}", field.field);
            let text = if field.used { text } else { format!("{text}  (not used)") };
            out.line(if field.used { text } else { out.paint(Style::Dim, text) });
        }
    }
    if let Some(wanted) = &file.wanted {
        out.line(format!("  {:<9} {wanted}", "wants"));
    }
}
