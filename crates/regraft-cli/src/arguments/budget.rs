//! What the work may cost the users of both servers.

use std::time::Duration;

use clap::Args;
use regraft_engine::{Budget, Limit};

/// What the work may cost the users of both servers.
#[derive(Debug, Args)]
pub(crate) struct BudgetArguments {
    /// Go slower while a probe query of either server takes more than N times what it took at first;
    /// `off` for never
    #[arg(long, value_name = "N", value_parser = str::parse::<Limit<f64>>)]
    max_load: Option<Limit<f64>>,
    /// Go slower while a standby of either server is further behind, such as `30s`; `off` for never
    #[arg(long, value_name = "TIME", value_parser = str::parse::<Limit<Duration>>)]
    max_replication_lag: Option<Limit<Duration>>,
    /// Begin nothing new while either server has fewer free connections; `off` for never
    #[arg(long, value_name = "N", value_parser = str::parse::<Limit<u32>>)]
    keep_connections: Option<Limit<u32>>,
}

impl BudgetArguments {
    /// What was given, over what the environment says.
    pub(crate) fn over(&self, environment: Budget) -> Budget {
        let given = Budget {
            load: self.max_load.unwrap_or_default(),
            replication_lag: self.max_replication_lag.unwrap_or_default(),
            connections: self.keep_connections.unwrap_or_default(),
        };
        given.or(environment)
    }
}
