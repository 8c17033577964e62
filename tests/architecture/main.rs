//! The shape of the workspace: who may know of whom, and what every crate has to have.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use cargo_metadata::{DependencyKind, Metadata, Package, PackageId};
use musicfs_tests::workspace;

/// The crates that meet in core's traits only.
const SIBLINGS: [&str; 4] = ["musicfs-cas", "musicfs-origins", "musicfs-sync", "musicfs-fuse"];

const MEMBERS: [&str; 8] = [
    "musicfs-bin",
    "musicfs-cas",
    "musicfs-core",
    "musicfs-fuse",
    "musicfs-origins",
    "musicfs-sync",
    "musicfs-test-utils",
    "musicfs-tests",
];

/// What must not come in through core: stores, kernel interfaces, network clients.
const NOT_IN_CORE: [&str; 20] = [
    "rusqlite",
    "libsqlite3-sys",
    "sqlite",
    "sqlx",
    "sled",
    "redb",
    "tantivy",
    "fuser",
    "fuse3",
    "libfuse-sys",
    "reqwest",
    "hyper",
    "ureq",
    "curl",
    "isahc",
    "attohttpc",
    "surf",
    "opendal",
    "object_store",
    "russh",
];

fn members(metadata: &Metadata) -> BTreeMap<&str, &Package> {
    metadata.workspace_packages().into_iter().map(|package| (package.name.as_str(), package)).collect()
}

/// Our own crates that `package` depends on, in the kinds asked for.
fn own_dependencies<'a>(package: &'a Package, kinds: &[DependencyKind]) -> BTreeSet<&'a str> {
    let own =
        package.dependencies.iter().filter(|d| d.name.starts_with("musicfs-") && kinds.contains(&d.kind));
    own.map(|dependency| dependency.name.as_str()).collect()
}

/// Everything that comes with `package` when it is built for use.
fn tree<'a>(metadata: &'a Metadata, package: &'a PackageId) -> BTreeSet<&'a str> {
    let resolve = metadata.resolve.as_ref().unwrap();
    let nodes: BTreeMap<_, _> = resolve.nodes.iter().map(|node| (&node.id, node)).collect();
    let mut seen = BTreeSet::new();
    let mut todo = vec![package];
    while let Some(id) = todo.pop() {
        if seen.insert(id) {
            let used = nodes[id]
                .deps
                .iter()
                .filter(|dep| dep.dep_kinds.iter().any(|kind| kind.kind != DependencyKind::Development));
            todo.extend(used.map(|dep| &dep.pkg));
        }
    }
    seen.into_iter().map(|id| metadata[id].name.as_str()).collect()
}

#[test]
fn workspace_has_the_eight_members_and_no_more() {
    let metadata = workspace::metadata();
    assert_eq!(members(&metadata).into_keys().collect::<Vec<_>>(), MEMBERS);
}

#[test]
fn siblings_know_core_only() {
    let metadata = workspace::metadata();
    let members = members(&metadata);
    for name in SIBLINGS {
        let used = own_dependencies(members[name], &[DependencyKind::Normal, DependencyKind::Build]);
        assert_eq!(used, BTreeSet::from(["musicfs-core"]), "{name}");
        // Their tests may use the doubles besides; an arrow to a sibling would be one all the same.
        let tested_with = own_dependencies(members[name], &[DependencyKind::Development]);
        assert!(tested_with.is_subset(&BTreeSet::from(["musicfs-core", "musicfs-test-utils"])), "{name}");
    }
}

#[test]
fn core_knows_none_of_the_others() {
    let metadata = workspace::metadata();
    let core = members(&metadata)["musicfs-core"];
    assert_eq!(own_dependencies(core, &[DependencyKind::Normal, DependencyKind::Build]), BTreeSet::new());
    assert!(
        own_dependencies(core, &[DependencyKind::Development])
            .is_subset(&BTreeSet::from(["musicfs-test-utils"]))
    );
}

#[test]
fn binary_is_known_to_the_tests_at_most() {
    let metadata = workspace::metadata();
    let all = [DependencyKind::Normal, DependencyKind::Build, DependencyKind::Development];
    for (name, package) in members(&metadata) {
        let used = own_dependencies(package, &all);
        assert!(!used.contains("musicfs-tests"), "{name} depends on the tests");
        assert!(name == "musicfs-tests" || !used.contains("musicfs-bin"), "{name} depends on the binary");
    }
}

#[test]
fn core_brings_in_no_store_no_kernel_interface_and_no_client() {
    let metadata = workspace::metadata();
    let core = tree(&metadata, &members(&metadata)["musicfs-core"].id);
    let found: Vec<_> = NOT_IN_CORE.iter().filter(|name| core.contains(**name)).collect();
    assert!(found.is_empty(), "core brings in {found:?}");
    // The walk is worth something only if it sees a tree at all.
    assert!(core.contains("blake3") && core.len() > 20, "{core:?}");
}

#[test]
fn every_crate_is_ready_to_be_published() {
    let metadata = workspace::metadata();
    for (name, package) in members(&metadata) {
        assert_eq!(package.license.as_deref(), Some("MIT OR Apache-2.0"), "{name}");
        assert_eq!(package.edition.as_str(), "2024", "{name}");
        assert!(
            package.description.as_ref().is_some_and(|text| text.len() > 20),
            "{name} has no description"
        );
        if name == "musicfs-tests" {
            assert_eq!(package.publish, Some(vec![]), "{name} would be published");
            continue;
        }
        assert_eq!(package.publish, None, "{name} cannot be published");
        assert!(package.repository.is_some(), "{name} names no repository");
        assert!((1..=5).contains(&package.keywords.len()), "{name} has no keywords");
        assert!(!package.categories.is_empty(), "{name} has no categories");
        for dependency in package.dependencies.iter().filter(|d| d.kind != DependencyKind::Development) {
            let is_open = dependency.req.to_string() == "*";
            assert!(!is_open, "{name} takes any version of {}, which no registry accepts", dependency.name);
        }
    }
}

#[test]
fn every_crate_opens_with_a_tour() {
    let metadata = workspace::metadata();
    for (name, package) in members(&metadata) {
        let library = package.targets.iter().find(|target| target.is_lib()).unwrap();
        let source = fs::read_to_string(&library.src_path).unwrap();
        let tour: Vec<_> = source.lines().take_while(|line| line.starts_with("//!")).collect();
        assert!(tour.len() >= 5, "{name} opens with {} lines of documentation", tour.len());
    }
}

#[test]
fn every_crate_keeps_the_lints_of_the_workspace() {
    for name in MEMBERS {
        let folder = name.replace("musicfs-tests", "tests");
        let manifest = fs::read_to_string(workspace::root().join(folder).join("Cargo.toml")).unwrap();
        assert!(manifest.contains("[lints]\nworkspace = true"), "{name}");
    }
}

#[test]
fn units_tell_when_they_are_ready_clean_up_and_let_fusermount_work() {
    for unit in ["dist/musicfs.service", "dist/musicfs@.service", "dist/user/musicfs.service"] {
        let text = std::fs::read_to_string(workspace::root().join(unit)).unwrap();
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let has = |start: &str| lines.iter().any(|line| line.starts_with(start));
        for needed in ["Type=notify", "Restart=on-failure", "WatchdogSec=", "LimitNOFILE=", "MemoryMax="] {
            assert!(has(needed), "{unit} has no {needed}");
        }
        let cleans_up = |line: &&str| line.starts_with("ExecStopPost=") && line.contains("fusermount3 -uz");
        assert!(lines.iter().any(cleans_up), "{unit} leaves a dead mount behind");
        // Each gives the unit a mount namespace of its own, or keeps the setuid helper from mounting.
        for harmful in ["NoNewPrivileges=", "Private", "Protect", "ReadOnlyPaths=", "SystemCallFilter="] {
            assert!(!has(harmful), "{unit} has {harmful}, with which fusermount3 cannot mount");
        }
    }
}
