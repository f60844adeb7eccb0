//! The exit codes of rt, in one place. `process::exit` is called in `main` only.

/// What a command ends with: 0, a proof's verdict, rt's own failure, or the status of the process it ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExitStatus(pub u8);

impl ExitStatus {
    /// The command did what was asked.
    pub const SUCCESS: Self = Self(0);
    /// A runtime command failed (runc's code), or a memory limit does not hold.
    pub const FAILURE: Self = Self(1);
    /// Wrong usage of a proof command.
    pub const USAGE: Self = Self(2);
    /// The prover refused before it endangered something.
    pub const REFUSED: Self = Self(3);
    /// A proof came to no conclusion.
    pub const INCONCLUSIVE: Self = Self(4);
    /// The container's init died during a proof.
    pub const INIT_DIED: Self = Self(5);
    /// A proof command failed by itself.
    pub const PROVER_FAILURE: Self = Self(125);
    /// `exec` failed before the process ran (as in runc).
    pub const RUN_FAILURE: Self = Self(255);

    /// How bad the end of a proof is: a lost or harmed container, a broken limit, a failure of the prover, no conclusion, a
    /// refusal, all well. A code that no proof ends with is a failure.
    pub(crate) fn severity(self) -> u8 {
        match self {
            Self::INIT_DIED => 5,
            Self::FAILURE => 4,
            Self::INCONCLUSIVE => 2,
            Self::REFUSED => 1,
            Self::SUCCESS => 0,
            _ => 3,
        }
    }
}
