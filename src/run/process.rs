//! What runs in the process, and the order in which it ends.

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::Fault;

/// The stages in which the process ends, first to last: whoever calls others ends before them, and what a module leaves
/// to a worker is worked off after its last request.
#[derive(Clone, Copy, Debug)]
pub enum Stage {
    /// The gateway: nothing new comes in.
    Gateway,
    /// Cloud, which calls Admin.
    Cloud,
    /// Cloud's refusals, which Admin keeps.
    CloudRefusals,
    /// The Stack, which calls Admin, too.
    Stack,
    /// The registry of StackKits, which the Stack asks.
    Kits,
    /// What Admin hands to the others.
    Pushes,
    /// Admin.
    Admin,
    /// What the others stand on: stores' workers, keys, the identity provider.
    Rest,
}

impl Stage {
    const COUNT: usize = Self::Rest as usize + 1;
}

/// The process: what runs in each stage, and what ends it.
#[derive(Default)]
pub struct Process {
    stages: [(CancellationToken, JoinSet<()>); Stage::COUNT],
}

impl Process {
    /// Runs what `run` makes until its stage ends.
    pub fn spawn<F>(&mut self, stage: Stage, run: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (cancel, tasks) = &mut self.stages[stage as usize];
        tasks.spawn(run(cancel.clone()));
    }

    /// Ends one stage after the other, and waits for each.
    ///
    /// # Errors
    /// - if something that ran has panicked.
    pub async fn end(self) -> Result<(), Fault> {
        for (cancel, mut tasks) in self.stages {
            cancel.cancel();
            while let Some(ended) = tasks.join_next().await {
                ended?;
            }
        }
        Ok(())
    }
}
