//! [`ChannelBoxBuilder`]: what is settled about a box before it begins.

use std::fmt;

use super::offline::{Offline, OfflineOptions};
use super::{ChannelBox, GroupOptions};
use crate::channel::Sender;
use crate::dispatch::Dispatcher;

/// What users of a box have said about it.
pub(super) struct Rules {
    pub(super) options: Box<dyn Fn(&str) -> GroupOptions + Send + Sync>,
    pub(super) may_join: Box<Gate>,
    pub(super) may_send: Box<Gate>,
    /// Where presence is told, and what offline queues have dropped.
    pub(super) events: Option<Dispatcher>,
}

/// Decides about one channel and one group.
type Gate = dyn Fn(&Sender, &str) -> bool + Send + Sync;

/// Makes a [`ChannelBox`] with options: [`ChannelBox::builder`].
///
/// ```
/// use fanfare::channel::{Channel, ChannelOptions, UserId};
/// use fanfare::group::{ChannelBox, JoinErrorReason};
///
/// // A user's own group is for that user alone; announcements are for all to hear, and for one to say.
/// let channels = ChannelBox::builder()
///     .on_join(|channel, group| match group.strip_prefix("inbox:") {
///         Some(owner) => channel.user().is_some_and(|user| user.as_str() == owner),
///         None => true,
///     })
///     .on_send(|channel, group| group != "news" || channel.user().is_some_and(|user| user.as_str() == "editor"))
///     .build();
///
/// let (channel, _far_end) = Channel::in_memory_with(ChannelOptions::default().user(UserId::new("ada")?));
/// let refused = channels.join(&channel, "inbox:bob").expect_err("that is somebody else's");
/// assert_eq!(refused.reason(), JoinErrorReason::Denied);
/// assert!(channels.group_as(&channel.sender(), "news").is_err());
/// assert_eq!(channels.group_as(&channel.sender(), "room")?.send("hello")?.members(), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a builder makes nothing before `build`"]
pub struct ChannelBoxBuilder {
    rules: Rules,
    offline: Option<OfflineOptions>,
}

impl ChannelBoxBuilder {
    pub(super) fn new() -> Self {
        Self {
            rules: Rules {
                options: Box::new(|_| GroupOptions::default()),
                may_join: Box::new(|_, _| true),
                may_send: Box::new(|_, _| true),
                events: None,
            },
            offline: None,
        }
    }

    /// Sets how a group is treated, by its name: see [`ChannelBox::with_options`].
    pub fn groups(mut self, options: impl Fn(&str) -> GroupOptions + Send + Sync + 'static) -> Self {
        self.rules.options = Box::new(options);
        self
    }

    /// Sets who may join which group: asked before every join, with the channel and the group's name. All may by
    /// default.
    ///
    /// It runs on whatever thread joins, with no lock held; one that has to look something up does that before,
    /// and leaves the answer in the channel's [metadata](crate::channel::ChannelOptions::metadata).
    pub fn on_join(mut self, may_join: impl Fn(&Sender, &str) -> bool + Send + Sync + 'static) -> Self {
        self.rules.may_join = Box::new(may_join);
        self
    }

    /// Sets whose messages may go to which group: asked by [`ChannelBox::group_as`]. All may by default. What the
    /// server sends by itself, by [`ChannelBox::group`], is not asked for.
    pub fn on_send(mut self, may_send: impl Fn(&Sender, &str) -> bool + Send + Sync + 'static) -> Self {
        self.rules.may_send = Box::new(may_send);
        self
    }

    /// Sets where the offline queues of users are kept, and what bounds them: see [`offline`](super::offline). In
    /// memory by default, with the default bounds.
    pub fn offline(mut self, options: OfflineOptions) -> Self {
        self.offline = Some(options);
        self
    }

    /// Sets the dispatcher on which the box tells who has come and gone: [`PRESENCE_JOINED`](super::PRESENCE_JOINED),
    /// [`PRESENCE_UPDATED`](super::PRESENCE_UPDATED) and [`PRESENCE_LEFT`](super::PRESENCE_LEFT).
    pub fn events(mut self, events: &Dispatcher) -> Self {
        self.rules.events = Some(events.clone());
        self
    }

    /// Makes the box.
    #[must_use]
    pub fn build(self) -> ChannelBox {
        ChannelBox::with_rules(self.rules, Offline::new(self.offline))
    }
}

impl fmt::Debug for ChannelBoxBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelBoxBuilder").finish_non_exhaustive()
    }
}
