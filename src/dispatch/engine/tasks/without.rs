//! Without a runtime: no listener is admitted.

use crate::dispatch::engine::failure::FailureCause;
use crate::dispatch::engine::running::Running;

/// Without a runtime there is nowhere to hand a listener to.
pub(crate) struct Tasks(());

/// Nobody gets one.
pub(crate) enum Admission {}

/// There is none.
pub(crate) struct SpawnedTask(());

impl Tasks {
    pub(crate) fn new() -> Self {
        Self(())
    }

    pub(crate) fn admit(&self) -> Result<Admission, FailureCause> {
        Err(FailureCause::NoRuntime)
    }
}

impl Admission {
    pub(crate) fn spawn(self, _running: Running) -> SpawnedTask {
        match self {}
    }
}
