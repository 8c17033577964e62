//! Whether files that are not listed are gone: decided purely, from what is known of a listing.
//!
//! A disk that is not mounted, another disk in its place, a server that answers with half of what it has: none of
//! these is a library of deleted files. So nothing is taken for gone but on evidence, and not much at once.

/// From so many files on a pass may stop; fewer are within what a person deletes in a day.
pub(super) const BRAKE_FILES: u64 = 50;
/// And from this part of all files on.
const BRAKE_PERCENT: u64 = 10;

/// What is known of a listing when it has ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Evidence {
    /// All that was asked for was listed.
    pub(super) complete: bool,
    /// The storage proved to be the one that it was before, at the beginning and at the end; `None` where the
    /// origin cannot tell.
    pub(super) same_storage: Option<bool>,
    /// It was not the whole origin that was asked for.
    pub(super) partial: bool,
    /// Files that were listed.
    pub(super) listed: u64,
    /// Files that were thought to be there.
    pub(super) expected: u64,
    /// Those of them that were neither listed nor found elsewhere.
    pub(super) gone: u64,
    /// The user has said that it is as it should be.
    pub(super) confirmed: bool,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// They are gone.
    Proven,
    /// They are kept, for this reason.
    Kept(&'static str),
    /// They are kept until the user confirms that they are gone.
    Braked(&'static str),
}

/// Decides.
pub(super) fn judge(evidence: &Evidence) -> Verdict {
    let Evidence { complete, same_storage, partial, listed, expected, gone, confirmed } = *evidence;
    if gone == 0 {
        Verdict::Proven
    } else if !complete {
        Verdict::Kept("the listing was cut short")
    } else if same_storage == Some(false) {
        Verdict::Kept("the storage was exchanged during the listing")
    } else if partial && same_storage.is_none() {
        Verdict::Kept("the origin cannot prove that it is the same as before; the next whole pass will tell")
    } else if confirmed {
        Verdict::Proven
    } else if listed == 0 && !partial {
        Verdict::Braked("the listing came back empty")
    } else if gone > BRAKE_FILES && gone.saturating_mul(100) > expected.saturating_mul(BRAKE_PERCENT) {
        Verdict::Braked("that is more than a tenth of all files")
    } else {
        Verdict::Proven
    }
}

/// Decides whether an origin whose storage is another than before holds the same library all the same: it was
/// copied to a new disk.
pub(super) fn is_same_library(expected: u64, found: u64) -> bool {
    found.saturating_mul(100) >= expected.saturating_mul(100 - BRAKE_PERCENT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SOUND: Evidence = Evidence {
        complete: true,
        same_storage: Some(true),
        partial: false,
        listed: 1000,
        expected: 1000,
        gone: 1,
        confirmed: false,
    };

    #[test]
    fn brake_needs_both_many_files_and_a_large_part() {
        let judged = |expected, gone| judge(&Evidence { expected, gone, ..SOUND });
        assert_eq!(judged(60, 50), Verdict::Proven);
        assert!(matches!(judged(60, 51), Verdict::Braked(_)));
        assert_eq!(judged(1000, 100), Verdict::Proven);
        assert!(matches!(judged(1000, 101), Verdict::Braked(_)));
        assert_eq!(judged(10_000, 1000), Verdict::Proven);
        assert_eq!(judge(&Evidence { expected: 60, gone: 60, confirmed: true, ..SOUND }), Verdict::Proven);
    }

    #[test]
    fn empty_listing_proves_nothing_until_confirmed() {
        let empty = Evidence { listed: 0, ..SOUND };
        assert!(matches!(judge(&empty), Verdict::Braked(_)));
        assert_eq!(judge(&Evidence { confirmed: true, ..empty }), Verdict::Proven);
        assert_eq!(judge(&Evidence { partial: true, ..empty }), Verdict::Proven, "the last file of a folder");
        let unproven = Evidence { partial: true, same_storage: None, ..empty };
        assert!(matches!(judge(&unproven), Verdict::Kept(_)));
    }

    #[test]
    fn library_on_a_new_disk_is_known_by_its_files() {
        assert!(is_same_library(0, 0) && is_same_library(100, 90));
        assert!(!is_same_library(100, 89) && !is_same_library(1, 0));
    }

    proptest! {
        #[test]
        fn nothing_is_concluded_from_a_listing_that_is_cut_or_of_another_disk(
            listed in 0u64..2000, expected in 1u64..2000, gone in 1u64..2000,
            partial: bool, confirmed: bool, complete: bool,
        ) {
            let base = Evidence { complete, partial, listed, expected, gone, confirmed, ..SOUND };
            let cut = judge(&Evidence { complete: false, ..base });
            prop_assert!(matches!(cut, Verdict::Kept(_)));
            let other = judge(&Evidence { same_storage: Some(false), ..base });
            prop_assert!(matches!(other, Verdict::Kept(_)));
        }
    }
}
