//! [`OfflineQueues`]: the queues of all users of one box, and their connection to the writer.

use std::fmt;

use tokio::sync::oneshot;

use super::counters::{Counters, OfflineCounts};
use super::error::OfflineError;
use super::options::OfflineOptions;
use super::writer::{Answer, Command, Commands};
use crate::group::registry::Registry;
use crate::sync::{Arc, Mutex, OnceLock, lock};

/// The offline queues of a box: [`ChannelBox::offline`](crate::group::ChannelBox::offline). A clone refers to the same
/// queues.
///
/// [`attach`](Self::attach) connects a channel to its user's queue, [`close`](Self::close) closes all queues. The queue
/// of one user is reached by [`ChannelBox::user`](crate::group::ChannelBox::user).
#[derive(Clone)]
pub struct OfflineQueues(Arc<Inner>);

struct Inner {
    /// `None` once the first command has started the writer, which takes them.
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

    /// Closes the offline queues of this box; resolves when all earlier operations are done and the store is dropped.
    /// Later operations return [`OfflineError::Stopped`].
    ///
    /// The queues also end some time after the box is dropped. Call this to know when: before the program opens the
    /// same store again, or ends the process.
    ///
    /// # Cancel safety
    ///
    /// The queues close once the future has been polled, even if it is then dropped; but while 4096 operations wait,
    /// dropping it may leave the queues open.
    pub async fn close(&self) {
        let (answer, answered) = oneshot::channel();
        if self.commands().submit(0, Command::Stop { answer }).await.is_ok() {
            // An error means that the writer has ended: another caller has closed it.
            _ = answered.await;
        }
    }

    /// Returns the channel to the writer, which the first call starts.
    fn commands(&self) -> &Commands {
        let Inner { options, commands, counters, registry } = &*self.0;
        commands.get_or_init(|| {
            let options = lock(options).take().unwrap_or_default();
            Commands::new(options, Arc::downgrade(registry), Arc::clone(counters))
        })
    }

    /// Hands a command to the writer, and returns its answer.
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
