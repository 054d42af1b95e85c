//! A worker's part of what other processes hand out.

use crate::context::Context;
use crate::error::Result;
use crate::migrate::BatchCrew;
use crate::validate::examine_offered;
use crate::work_queue::{Work, WorkKind};

/// What became of a piece of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    /// Its source rows are done, by this worker.
    Rows(i64),
    /// It is not to be done any more: it is done, or was taken back, or what it is a part of ended with
    /// an error that was met here.
    Nothing,
}

/// A worker's connections and what it knows of the runs that it takes part in.
pub struct Crew {
    context: Context,
    batches: BatchCrew,
}

impl Crew {
    /// A crew with connections to nothing yet. It moves as many batches side by side as the settings
    /// have workers.
    pub fn new(context: &Context) -> Self {
        Self {
            context: context.clone(),
            batches: BatchCrew::new(context),
        }
    }

    /// Does a piece of work. A fault that may pass is returned for somebody to try again, unless this is
    /// the `last` attempt; whatever else stands in the way ends the run or validation that it is of.
    ///
    /// # Errors
    /// A fault that may pass ([`crate::Kind::Unreachable`], deadlocks); a project, program or secret
    /// other than theirs ([`crate::Kind::Usage`]): this worker can't help.
    pub async fn carry_out(&self, work: &Work, last: bool) -> Result<Moved> {
        let rows = match work.kind {
            WorkKind::Batch => self.batches.carry_out(&work.read()?, last).await?,
            WorkKind::Entity => {
                let rows = examine_offered(&self.context, &work.read()?, last).await?;
                rows.map(|rows| i64::try_from(rows).unwrap_or(i64::MAX))
            }
        };
        Ok(rows.map_or(Moved::Nothing, Moved::Rows))
    }

    /// Leaves the runs that have nothing to hand out any more: a snapshot keeps the source from
    /// cleaning up.
    pub async fn leave_finished(&self) {
        self.batches.leave_finished().await;
    }
}
