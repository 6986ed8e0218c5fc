//! Whoever wrote a function, to be told of what it does wrong while it runs.
//!
//! Not here: what is wrong with its descriptors (`problem`), and how often something is said. Contract: telling holds nobody up, and
//! what cannot be told is in the log.

use std::sync::Arc;

use tokio::runtime::Handle as Runtime;

use super::awake::Awake;
use super::dialect::{Dialect, report};
use super::problem::Problem;

/// The author of one function.
#[derive(Clone, Debug)]
pub struct Author {
    dialect: Dialect,
    awake: Arc<Awake>,
    runtime: Runtime,
}

impl Author {
    /// Of the function that is this.
    pub fn new(dialect: Dialect, awake: Arc<Awake>) -> Author {
        Author {
            dialect,
            awake,
            runtime: Runtime::current(),
        }
    }

    /// Tells them, in the background.
    pub fn tell(&self, problem: Problem) {
        let Some(connection) = self.awake.now() else {
            // It is asleep: the log is told.
            return tracing::error!("the function: {problem}");
        };
        let dialect = self.dialect;
        self.runtime
            .spawn(async move { report(dialect, &connection, &problem).await });
    }
}
