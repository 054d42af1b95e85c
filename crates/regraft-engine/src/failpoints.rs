//! Named places where a test makes the program stop, fail or lose its connection.
//!
//! They cost nothing unless the feature `failpoints` is on, as it is in the tests of
//! `regraft-cli`. Then the environment variable `FAILPOINTS` says what happens where, in the form
//! of the crate `fail`: `before-commit=5*off->1*return`, `after-drop=return(abort)`.

/// Before a batch's COMMIT is sent.
pub(crate) const BEFORE_COMMIT: &str = "before-commit";
/// After a batch's COMMIT was answered.
pub(crate) const AFTER_COMMIT: &str = "after-commit";
/// A batch's COMMIT was carried out, but its answer is lost.
pub(crate) const COMMIT_ANSWER_LOST: &str = "commit-answer-lost";
/// Indexes and constraints were taken off, and that is committed.
pub(crate) const AFTER_DROP: &str = "after-drop";
/// Before indexes and constraints are brought back.
pub(crate) const BEFORE_REBUILD: &str = "before-rebuild";
/// Between two of them.
pub(crate) const DURING_REBUILD: &str = "during-rebuild";
/// Where all of them would come back in one transaction; an error makes them come back one by one.
pub(crate) const REBUILD_TOGETHER: &str = "rebuild-together";
/// Before the run is marked as done.
pub(crate) const BEFORE_FINISH: &str = "before-finish";
/// Before a rollback's COMMIT.
pub(crate) const BEFORE_ROLLBACK_COMMIT: &str = "before-rollback-commit";

/// Carries out what a test asked for at `point`: the action `return` makes it an error there,
/// `return(abort)` ends the process at once, as SIGKILL would.
pub(crate) fn reach(point: &str) -> crate::Result<()> {
    #[cfg(feature = "failpoints")]
    {
        static ARMED: std::sync::Once = std::sync::Once::new();
        // Armed for as long as the process lives: dropping the scenario would disarm it.
        ARMED.call_once(|| std::mem::forget(fail::FailScenario::setup()));
    }
    fail::fail_point!(point, |action: Option<String>| {
        if action.as_deref() == Some("abort") {
            std::process::abort();
        }
        Err(crate::Error::new(
            crate::Kind::Unreachable,
            format!("failure injected at {point}"),
        ))
    });
    let _ = point;
    Ok(())
}
