//! Without the feature `tokio`: no listener is admitted.

use crate::dispatch::engine::failure::FailureCause;
use crate::dispatch::engine::running::Running;

/// The tasks of a dispatcher without a runtime, which admit no listener.
pub(crate) struct Tasks(());

/// An admission, which cannot exist without a runtime.
pub(crate) enum Admission {}

/// A task, which is never made without a runtime.
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
