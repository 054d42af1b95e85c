//! What somebody would look up by hand: where checkpoints stand, what is wrong with an entity, how
//! fast its runs were, and whether both servers and the ledger are in order.
//!
//! Nothing here writes, but [`reset_checkpoint`].

mod checkpoints;
mod debug;
mod health;
mod performance;
mod tables;

use regraft_pg::Session;

use crate::error::Result;

pub use checkpoints::{
    CheckpointOverview, CheckpointProgress, CheckpointState, ResetDone, checkpoint_status,
    checkpoint_to_reset, reset_checkpoint,
};
pub use debug::{
    Drift, EntityDebug, FailedCheck, LastValidation, OpenDifference, PlanNode, QueryPlan,
    Recommendation, TableLock, debug_entity,
};
pub use health::{Health, HealthCheck, Verdict, system_health};
pub use performance::{EntityPerformance, RunPerformance, Trend, entity_performance};

/// Lets a session give up soon where a table is locked: what is wrong is told, not waited for.
async fn dont_wait(session: &Session) -> Result<()> {
    session.batch_execute("set lock_timeout = '2s'").await?;
    Ok(())
}
