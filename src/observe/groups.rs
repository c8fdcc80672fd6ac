//! Metrics and log events of groups. Group names are in log events, never in labels; the name of a user's inbox, which
//! is the user's id, is in neither.

#![cfg_attr(
    not(all(feature = "metrics", feature = "tracing")),
    allow(unused_variables, reason = "a feature that is off reports nothing")
)]

use std::fmt::Display;

#[cfg(feature = "metrics")]
use super::Told;
use super::{count, event, gauge};
#[cfg(feature = "metrics")]
use crate::sync::atomic::{AtomicU8, Ordering};

/// The kind of a group, and its name; `None` when the name identifies a user.
pub(crate) type Named<'a> = (&'static str, Option<&'a str>);

/// A group, while it is in its box.
///
/// ```text
/// NEW    -> OPEN   put in its box: the gauge rises
///        -> GONE   taken out before that, or never in the box: the gauge does not change
/// OPEN   -> GONE   taken out, or dropped with its box: the gauge falls
/// ```
#[derive(Debug, Default)]
pub(crate) struct Open {
    #[cfg(feature = "metrics")]
    state: AtomicU8,
    #[cfg(feature = "metrics")]
    kind: &'static str,
}

#[cfg(feature = "metrics")]
impl Open {
    const NEW: u8 = 0;
    const OPEN: u8 = 1;
    const GONE: u8 = 2;
}

impl Open {
    #[inline]
    pub(crate) fn new(kind: &'static str) -> Self {
        Self {
            #[cfg(feature = "metrics")]
            state: AtomicU8::new(Self::NEW),
            #[cfg(feature = "metrics")]
            kind,
        }
    }

    #[inline]
    pub(crate) fn begin(&self) {
        // Relaxed: the state alone decides which thread changes the gauge.
        #[cfg(feature = "metrics")]
        if self.state.compare_exchange(Self::NEW, Self::OPEN, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            gauge!("fanfare_groups", 1.0, "kind" => self.kind);
        }
    }

    #[inline]
    pub(crate) fn end(&self) {
        #[cfg(feature = "metrics")]
        if self.state.swap(Self::GONE, Ordering::Relaxed) == Self::OPEN {
            gauge!("fanfare_groups", -1.0, "kind" => self.kind);
        }
    }
}

/// Its box may be dropped first.
#[cfg(feature = "metrics")]
impl Drop for Open {
    fn drop(&mut self) {
        self.end();
    }
}

/// Records that a channel became a member.
#[inline]
pub(crate) fn joined(channel: impl Display, (kind, group): Named<'_>) {
    gauge!("fanfare_memberships", 1.0, "kind" => kind);
    count!("fanfare_joins_total", 1, "kind" => kind);
    event!(DEBUG, "group", "channel joined", %channel, kind, group);
}

/// Records a refused join.
#[inline]
pub(crate) fn join_refused(channel: impl Display, reason: &'static str) {
    count!("fanfare_joins_refused_total", 1, "reason" => reason);
    event!(DEBUG, "group", "channel may not join", %channel, reason);
}

/// Records that a channel left a group.
#[inline]
pub(crate) fn left(channel: impl Display, (kind, group): Named<'_>) {
    gauge!("fanfare_memberships", -1.0, "kind" => kind);
    event!(DEBUG, "group", "channel left", %channel, kind, group);
}

/// Records a message to a group, with the number of its members.
#[inline]
pub(crate) fn sent(group: Option<Named<'_>>, members: usize, accepted: bool) {
    #[cfg(feature = "metrics")]
    if accepted {
        count!("fanfare_group_sends_total", 1, "outcome" => "accepted");
    } else {
        count!("fanfare_group_sends_total", 1, "outcome" => "refused");
    }
    event!(TRACE, "group", "message sent", group = group.and_then(|(_, name)| name), members, accepted);
}

/// Records a join with recovery, and how many earlier messages were replayed.
#[inline]
pub(crate) fn recovered(channel: impl Display, group: &str, recovered: bool, replayed: usize) {
    #[cfg(feature = "metrics")]
    {
        let label = if recovered { "true" } else { "false" };
        count!("fanfare_recoveries_total", 1, "recovered" => label);
        count!("fanfare_replayed_total", replayed as u64);
    }
    event!(DEBUG, "group", "history replayed", %channel, group, recovered, replayed);
}

/// The queued and kept messages of a box.
#[cfg(feature = "metrics")]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Depth {
    pub(crate) outbox_messages: usize,
    pub(crate) outbox_bytes: usize,
    /// Channels with messages in their outbox.
    pub(crate) waiting_channels: usize,
    pub(crate) queue_messages: usize,
    pub(crate) queue_bytes: usize,
    pub(crate) history_messages: usize,
    pub(crate) history_bytes: usize,
}

/// The last reported depth of a box: subtracted again when the box is dropped.
#[derive(Debug, Default)]
pub(crate) struct Depths {
    #[cfg(feature = "metrics")]
    told: [Told; 7],
}

#[cfg(feature = "metrics")]
impl Depths {
    pub(crate) fn tell(&self, depth: &Depth) {
        let [outbox_messages, outbox_bytes, channels, queue_messages, queue_bytes, messages, bytes] = &self.told;
        gauge!("fanfare_outbox_messages", outbox_messages.change(depth.outbox_messages));
        gauge!("fanfare_outbox_bytes", outbox_bytes.change(depth.outbox_bytes));
        gauge!("fanfare_channels_waiting", channels.change(depth.waiting_channels));
        gauge!("fanfare_group_queue_messages", queue_messages.change(depth.queue_messages));
        gauge!("fanfare_group_queue_bytes", queue_bytes.change(depth.queue_bytes));
        gauge!("fanfare_history_messages", messages.change(depth.history_messages));
        gauge!("fanfare_history_bytes", bytes.change(depth.history_bytes));
    }
}

#[cfg(feature = "metrics")]
impl Drop for Depths {
    fn drop(&mut self) {
        self.tell(&Depth::default());
    }
}
