//! Suites that tell whether an implementation keeps its contract.
//!
//! Each contract of [`musicfs_core`] has a module with one function for each promise of its text, and a macro that
//! makes them tests of their own: [`origin_conformance!`](crate::origin_conformance),
//! [`chunk_store_conformance!`](crate::chunk_store_conformance),
//! [`meta_db_conformance!`](crate::meta_db_conformance), [`clock_conformance!`](crate::clock_conformance). A macro
//! takes a name for the module of tests and an expression that makes a fixture, afresh for each test. The
//! expression may await where the contract is an async one. Whoever uses a macro needs no other crate for it.
//!
//! ```
//! use musicfs_test_utils::conformance::origin::{Fixture, sample_files};
//! use musicfs_test_utils::{MemoryOrigin, origin_conformance};
//!
//! fn fixture() -> Fixture {
//!     let origin = MemoryOrigin::new("mine");
//!     for (path, bytes) in sample_files() {
//!         origin.put(path.as_bytes(), bytes);
//!     }
//!     Fixture::new(origin, sample_files())
//! }
//!
//! origin_conformance!(my_origin, fixture());
//! # fn main() {}
//! ```

pub mod chunk_store;
pub mod clock;
pub mod meta_db;
pub mod origin;

use std::future::Future;
use std::time::Duration;

/// Longest that one check may take.
const LIMIT: Duration = Duration::from_secs(120);

/// Runs one check on a runtime of its own; one that hangs has failed.
///
/// # Panics
/// When the check fails, or does not end.
pub fn run(check: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let ended = runtime.block_on(async { tokio::time::timeout(LIMIT, check).await });
    // What hangs in the blocking pool must not keep the test from failing.
    runtime.shutdown_background();
    assert!(ended.is_ok(), "the check did not end within {LIMIT:?}");
}

/// Makes a module of tests of the checks of one contract.
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_suite {
    (async $contract:ident $suite:ident ($factory:expr) $($check:ident)*) => {
        mod $suite {
            #[allow(unused_imports, reason = "what the fixture's expression names is its caller's affair")]
            use super::*;
            $(
                #[test]
                fn $check() {
                    $crate::conformance::run(async {
                        $crate::conformance::$contract::$check($factory).await;
                    });
                }
            )*
        }
    };
    (sync $contract:ident $suite:ident ($factory:expr) $($check:ident)*) => {
        mod $suite {
            #[allow(unused_imports, reason = "what the fixture's expression names is its caller's affair")]
            use super::*;
            $(
                #[test]
                fn $check() {
                    $crate::conformance::$contract::$check($factory);
                }
            )*
        }
    };
}

/// Numbers that look random and are the same each time (SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    /// The names of the checks in a contract's modules, and those in its macro, which is in the first.
    fn checks<'t>(texts: &[&'t str]) -> (BTreeSet<&'t str>, BTreeSet<&'t str>) {
        let functions = texts.iter().flat_map(|text| text.lines()).filter_map(|line| {
            let (head, _) = line.split_once("(fixture: Fixture)")?;
            head.strip_prefix("pub async fn ").or_else(|| head.strip_prefix("pub fn "))
        });
        let (_, listed) = texts[0].split_once("($factory)").unwrap();
        let (listed, _) = listed.split_once('}').unwrap();
        (functions.collect(), listed.split_whitespace().collect())
    }

    #[test]
    fn every_check_is_in_its_macro() {
        let meta_db = [
            include_str!("conformance/meta_db.rs"),
            include_str!("conformance/meta_db/batches.rs"),
            include_str!("conformance/meta_db/copies.rs"),
            include_str!("conformance/meta_db/files.rs"),
            include_str!("conformance/meta_db/model.rs"),
            include_str!("conformance/meta_db/queries.rs"),
            include_str!("conformance/meta_db/tree.rs"),
        ];
        for texts in [
            &[include_str!("conformance/origin.rs")][..],
            &[include_str!("conformance/chunk_store.rs")],
            &[include_str!("conformance/clock.rs")],
            &meta_db,
        ] {
            let (functions, listed) = checks(texts);
            assert!(functions.len() > 4);
            assert_eq!(functions, listed);
        }
    }
}
