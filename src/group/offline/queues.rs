//! [`OfflineQueues`]: the queues of all users of one box, and the way to their writer.

use std::fmt;

use tokio::sync::oneshot;

use super::counters::{Counters, OfflineCounts};
use super::error::OfflineError;
use super::options::OfflineOptions;
use super::writer::{Answer, Command, Commands};
use crate::group::registry::Registry;
use crate::sync::{Arc, Mutex, OnceLock, lock};

/// The offline queues of a box: [`ChannelBox::offline`](crate::group::ChannelBox::offline). A clone is the same.
///
/// [`attach`](Self::attach) connects a channel with its user's queue, [`close`](Self::close) ends them all. What one
/// user has is behind [`ChannelBox::user`](crate::group::ChannelBox::user).
#[derive(Clone)]
pub struct OfflineQueues(Arc<Inner>);

struct Inner {
    /// Empty from the first command on: the writer has them.
    options: Mutex<Option<OfflineOptions>>,
    commands: OnceLock<Commands>,
    counters: Arc<Counters>,
    registry: Arc<Registry>,
}

impl OfflineQueues {
    pub(crate) fn new(registry: &Arc<Registry>, options: OfflineOptions) -> Self {
        Self(Arc::new(Inner {
            options: Mutex::new(Some(options)),
            commands: OnceLock::new(),
            counters: Arc::default(),
            registry: Arc::clone(registry),
        }))
    }

    pub(super) fn registry(&self) -> &Registry {
        &self.0.registry
    }

    pub(crate) fn counts(&self) -> OfflineCounts {
        self.0.counters.counts()
    }

    /// Ends the offline queues of this box, and resolves when what was asked of them before is done and the store is
    /// dropped. What is asked later is refused.
    ///
    /// They end by themselves when the box is dropped, some time after. This is for who has to know: to open the same
    /// store again, or before the process ends.
    ///
    /// # Cancel safety
    ///
    /// Once the future has been polled, dropping it changes nothing but, when 4096 others wait, that it may not have
    /// been heard.
    pub async fn close(&self) {
        let (answer, answered) = oneshot::channel();
        if self.commands().submit(0, Command::Stop { answer }).await.is_ok() {
            // An error means that the writer has ended: another caller has closed it.
            _ = answered.await;
        }
    }

    /// Returns the way to the writer, which begins with the first command.
    fn commands(&self) -> &Commands {
        let Inner { options, commands, counters, registry } = &*self.0;
        commands.get_or_init(|| {
            let options = lock(options).take().unwrap_or_default();
            Commands::new(options, Arc::downgrade(registry), Arc::clone(counters))
        })
    }

    /// Has a command done, and returns its answer.
    pub(super) async fn ask<T, E>(
        &self,
        len: usize,
        error: fn(OfflineError) -> E,
        command: impl FnOnce(Answer<T, E>) -> Command,
    ) -> Result<T, E> {
        let (answer, answered) = oneshot::channel();
        let stopped = || error(OfflineError::Stopped);
        self.commands().submit(len, command(answer)).await.map_err(|_| stopped())?;
        answered.await.unwrap_or_else(|_| Err(stopped()))
    }
}

impl fmt::Debug for OfflineQueues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OfflineQueues").field("counts", &self.counts()).finish_non_exhaustive()
    }
}
