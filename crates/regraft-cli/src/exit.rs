//! What the program says to the shell.

use std::process::ExitCode;

use regraft_engine::Kind;

/// The exit codes. They are part of the program's interface: scripts branch on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExitStatus {
    /// The work was done.
    Done = 0,
    /// The work was done, and something was found.
    Findings = 1,
    /// Wrong usage, or a project that can't be used.
    Usage = 2,
    /// A server can't be reached.
    Unreachable = 3,
    /// Data or a constraint stands in the way.
    Data = 4,
    /// A privilege is missing.
    Permission = 5,
    /// Stopped at a clean checkpoint.
    Interrupted = 6,
    /// A fault of this program.
    Internal = 7,
}

impl ExitStatus {
    /// All of them, in order.
    pub(crate) const ALL: [Self; 8] = [
        Self::Done,
        Self::Findings,
        Self::Usage,
        Self::Unreachable,
        Self::Data,
        Self::Permission,
        Self::Interrupted,
        Self::Internal,
    ];

    /// The number the shell sees.
    pub(crate) fn code(self) -> u8 {
        self as u8
    }

    /// What it means, for the reference.
    pub(crate) fn meaning(self) -> &'static str {
        match self {
            Self::Done => "Done.",
            Self::Findings => {
                "Findings: a validation failed, more rows are in quarantine than the project's budget allows, a rollback left rows that others have changed, or the analyzer found what needs doing."
            }
            Self::Usage => {
                "The command line, a setting or the project is wrong; nothing was written."
            }
            Self::Unreachable => "A server can't be reached, or a connection was lost for good.",
            Self::Data => "Data or a constraint stands in the way.",
            Self::Permission => "A log-in was refused or a privilege is missing.",
            Self::Interrupted => {
                "Stopped at a clean checkpoint: interrupted, or another process is at work on the same target."
            }
            Self::Internal => "A fault of the program itself.",
        }
    }
}

impl From<Kind> for ExitStatus {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Usage => Self::Usage,
            Kind::Unreachable => Self::Unreachable,
            Kind::Data => Self::Data,
            Kind::Permission => Self::Permission,
            Kind::Interrupted | Kind::Busy => Self::Interrupted,
            Kind::Internal => Self::Internal,
        }
    }
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_are_the_documented_ones() {
        let codes: Vec<u8> = ExitStatus::ALL.iter().map(|status| status.code()).collect();
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 7]);
    }
}
