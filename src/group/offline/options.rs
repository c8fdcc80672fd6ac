//! [`OfflineOptions`]: the store and the bounds of a box's offline queues.

use std::fmt;
use std::time::{Duration, SystemTime};

use super::memory::MemoryStore;
use super::queue::Limits;
use super::store::OfflineStore;

/// Returns the current time.
pub(super) type Clock = dyn Fn() -> SystemTime + Send;

/// The store and the bounds of a box's offline queues: see
/// [`ChannelBoxBuilder::offline`](crate::group::ChannelBoxBuilder::offline).
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use fanfare::channel::UserId;
/// use fanfare::group::ChannelBox;
/// use fanfare::group::offline::{NotifyError, OfflineOptions, Urgency};
///
/// let options = OfflineOptions::default().max_messages(2).max_bytes(64 << 10).max_age(Duration::from_secs(24 * 3600));
/// let channels = ChannelBox::builder().offline(options).build();
/// let ada = channels.user(&UserId::new("ada")?);
/// for n in 0..3 {
///     ada.send(&n).await?; // the third evicts the first
/// }
/// let waiting: Vec<_> = ada.pending().await?.iter().map(|one| one.json().to_owned()).collect();
/// assert_eq!(waiting, ["1", "2"]);
///
/// // All waiting notifications are more urgent than this one.
/// let refused = ada.urgency(Urgency::Low).send("did you know?").await;
/// assert!(matches!(refused, Err(NotifyError::Full)));
/// # Ok(()) }
/// ```
pub struct OfflineOptions {
    pub(super) store: Box<dyn OfflineStore>,
    pub(super) limits: Limits,
    pub(super) max_store_bytes: u64,
    pub(super) clock: Box<Clock>,
}

impl Default for OfflineOptions {
    fn default() -> Self {
        Self {
            store: Box::new(MemoryStore::new()),
            limits: Limits { max_messages: 1000, max_bytes: 1 << 20, max_age: 7 * 24 * 3600 * 1000 },
            max_store_bytes: 256 << 20,
            clock: Box::new(SystemTime::now),
        }
    }
}

impl OfflineOptions {
    /// Sets where the queues are kept: by default in memory, so that they outlast connections but not the process.
    #[must_use]
    pub fn store(mut self, store: impl OfflineStore) -> Self {
        self.store = Box::new(store);
        self
    }

    /// Sets how many notifications may wait for a user: 1000 by default, at least 1. The same number of idempotency
    /// keys of acknowledged notifications is remembered.
    ///
    /// When the queue is full, the least urgent notifications are dropped, the oldest first. A new notification is
    /// refused if only more urgent ones could make room for it.
    #[must_use]
    pub fn max_messages(mut self, messages: usize) -> Self {
        self.limits.max_messages = messages.max(1);
        self
    }

    /// Sets how many bytes of JSON may wait for a user: 1 MiB by default. A larger payload is refused.
    #[must_use]
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.limits.max_bytes = bytes;
        self
    }

    /// Sets how long a notification may wait, and how long its idempotency key is remembered: 7 days by default.
    #[must_use]
    pub fn max_age(mut self, age: Duration) -> Self {
        self.limits.max_age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        self
    }

    /// Sets how much the store may keep for all users together, by the [`size`](super::Record::size) of its records:
    /// 256 MiB by default. Past that, a send that would enlarge its user's queue is refused.
    #[must_use]
    pub fn max_store_bytes(mut self, bytes: u64) -> Self {
        self.max_store_bytes = bytes;
        self
    }

    /// Sets the clock by which notifications age: for tests. The thread of the offline queues calls it.
    #[must_use]
    pub fn clock(mut self, clock: impl Fn() -> SystemTime + Send + 'static) -> Self {
        self.clock = Box::new(clock);
        self
    }
}

impl fmt::Debug for OfflineOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OfflineOptions")
            .field("limits", &self.limits)
            .field("max_store_bytes", &self.max_store_bytes)
            .finish_non_exhaustive()
    }
}
