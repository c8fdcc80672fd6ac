//! [`ChannelBoxBuilder`]: makes a box with rules and options.

use std::fmt;

use super::offline::OfflineOptions;
use super::registry::Rules;
use super::{ChannelBox, GroupOptions};
use crate::channel::Sender;
use crate::dispatch::Dispatcher;

impl ChannelBox {
    /// Returns a builder for a box with rules and options.
    pub fn builder() -> ChannelBoxBuilder {
        ChannelBoxBuilder { rules: Rules::default(), offline: None }
    }
}

/// Makes a [`ChannelBox`] with rules and options: [`ChannelBox::builder`].
///
/// ```
/// use fanfare::channel::{Channel, ChannelOptions, UserId};
/// use fanfare::group::{ChannelBox, JoinErrorReason};
///
/// // Only a user may join the user's own group. Everyone may join the news, but only the editor may send them.
/// let channels = ChannelBox::builder()
///     .may_join(|channel, group| match group.strip_prefix("inbox:") {
///         Some(owner) => channel.user().is_some_and(|user| user.as_str() == owner),
///         None => true,
///     })
///     .may_send(|channel, group| group != "news" || channel.user().is_some_and(|user| user.as_str() == "editor"))
///     .build();
///
/// let (channel, _far_end) = Channel::in_memory_with(ChannelOptions::default().user(UserId::new("ada")?));
/// let refused = channels.join(&channel, "inbox:bob").expect_err("the group belongs to bob");
/// assert_eq!(refused.reason(), JoinErrorReason::Denied);
/// assert!(channels.group("news").send_as(&channel.sender()).is_err());
/// assert_eq!(channels.group("room").send_as(&channel.sender())?.send("hello")?.members(), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a builder makes nothing before `build`"]
pub struct ChannelBoxBuilder {
    rules: Rules,
    offline: Option<OfflineOptions>,
}

impl ChannelBoxBuilder {
    /// Sets the function that returns a group's options by its name.
    ///
    /// The box calls it whenever it makes a group; it should always return the same options for a name.
    pub fn groups(mut self, options: impl Fn(&str) -> GroupOptions + Send + Sync + 'static) -> Self {
        self.rules.options = Box::new(options);
        self
    }

    /// Sets the rule that decides which channel may join which group; by default every channel may join every group.
    ///
    /// The box calls it before every join, with the channel and the group's name, on the thread that joins and without
    /// a lock. A rule cannot wait: look permissions up when the channel begins, and leave the answer in the channel's
    /// [metadata](crate::channel::ChannelOptions::metadata).
    pub fn may_join(mut self, may_join: impl Fn(&Sender, &str) -> bool + Send + Sync + 'static) -> Self {
        self.rules.may_join = Box::new(may_join);
        self
    }

    /// Sets the rule that decides which client may send to which group; by default every client may send to every
    /// group.
    ///
    /// [`Group::send_as`](super::Group::send_as) calls it. The server's own sends, by
    /// [`Group::send`](super::Group::send), are not checked.
    pub fn may_send(mut self, may_send: impl Fn(&Sender, &str) -> bool + Send + Sync + 'static) -> Self {
        self.rules.may_send = Box::new(may_send);
        self
    }

    /// Sets the store and the bounds of the users' offline queues: see [`offline`](super::offline). By default the
    /// queues are in memory.
    pub fn offline(mut self, options: OfflineOptions) -> Self {
        self.offline = Some(options);
        self
    }

    /// Sets the dispatcher on which the box emits its events: [`PRESENCE_JOINED`](super::PRESENCE_JOINED),
    /// [`PRESENCE_UPDATED`](super::PRESENCE_UPDATED), [`PRESENCE_LEFT`](super::PRESENCE_LEFT) and
    /// [`OFFLINE_DROPPED`](super::offline::OFFLINE_DROPPED).
    pub fn events(mut self, events: &Dispatcher) -> Self {
        self.rules.events = Some(events.clone());
        self
    }

    /// Makes the box.
    #[must_use]
    pub fn build(self) -> ChannelBox {
        ChannelBox::with_rules(self.rules, self.offline.unwrap_or_default())
    }
}

impl fmt::Debug for ChannelBoxBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelBoxBuilder").finish_non_exhaustive()
    }
}
