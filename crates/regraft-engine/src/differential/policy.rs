//! What has become of a column since both sides last agreed on it, and what is done about it.

use regraft_project::Policy;

use crate::load::NULL_FINGERPRINT;

/// What has become of a column since both sides last agreed on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// Both sides say the same, whether or not that is what they agreed on.
    None,
    /// Only the source says something new.
    Source,
    /// Only the target does.
    Target,
    /// Both do, and not the same.
    Both,
}

impl Change {
    /// By whether both say the same, and the fingerprints of what was agreed on (`None`: never), of
    /// what the source says, and of what the target holds.
    pub(super) fn of(
        same: bool,
        agreed: Option<[u8; 4]>,
        source: [u8; 4],
        target: [u8; 4],
    ) -> Self {
        if same {
            return Self::None;
        }
        match agreed {
            // A column that the project has gained is empty until it is filled.
            None if target == NULL_FINGERPRINT => Self::Source,
            None => Self::Both,
            Some(agreed) if agreed == target => Self::Source,
            Some(agreed) if agreed == source => Self::Target,
            Some(_) => Self::Both,
        }
    }
}

/// What is done about a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// Nothing has to be done.
    Same,
    /// The source's value is written.
    Write,
    /// The target's value stays.
    Keep,
    /// Somebody has to decide.
    Open,
    /// The command isn't about this column.
    Aside,
}

/// What a policy does about a column; `source_is_newer` tells which side was changed later, where
/// that is known.
pub(super) fn decide(policy: Policy, change: Change, source_is_newer: Option<bool>) -> Decision {
    match (change, policy) {
        (Change::None, _) => Decision::Same,
        (Change::Source, _) | (Change::Target | Change::Both, Policy::SourceWins) => {
            Decision::Write
        }
        (Change::Target, _) | (Change::Both, Policy::TargetWins) => Decision::Keep,
        (Change::Both, Policy::Newest) => match source_is_newer {
            Some(true) => Decision::Write,
            Some(false) => Decision::Keep,
            None => Decision::Open,
        },
        (Change::Both, Policy::Manual) => Decision::Open,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: [u8; 4] = [1; 4];
    const NEW: [u8; 4] = [2; 4];
    const OTHER: [u8; 4] = [3; 4];

    #[test]
    fn a_change_is_told_by_what_was_agreed_on() {
        assert_eq!(Change::of(true, Some(OLD), OLD, OLD), Change::None);
        assert_eq!(
            Change::of(true, Some(OLD), NEW, NEW),
            Change::None,
            "both came to the same"
        );
        assert_eq!(Change::of(false, Some(OLD), NEW, OLD), Change::Source);
        assert_eq!(Change::of(false, Some(OLD), OLD, NEW), Change::Target);
        assert_eq!(Change::of(false, Some(OLD), NEW, OTHER), Change::Both);
        assert_eq!(Change::of(false, None, NEW, [0; 4]), Change::Source);
        assert_eq!(Change::of(false, None, NEW, OTHER), Change::Both);
    }

    #[test]
    fn only_source_wins_undoes_what_only_the_target_did() {
        for policy in Policy::ALL {
            let expected = match policy {
                Policy::SourceWins => Decision::Write,
                _ => Decision::Keep,
            };
            assert_eq!(decide(policy, Change::Target, Some(true)), expected);
            assert_eq!(decide(policy, Change::Source, Some(false)), Decision::Write);
        }
        assert_eq!(
            decide(Policy::Manual, Change::Both, Some(true)),
            Decision::Open
        );
        assert_eq!(decide(Policy::Newest, Change::Both, None), Decision::Open);
    }
}
