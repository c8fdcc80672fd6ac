//! Metrics and log events of channels.

#![cfg_attr(
    not(all(feature = "metrics", feature = "tracing")),
    allow(unused_variables, reason = "a feature that is off reports nothing")
)]

use std::fmt::Display;
use std::net::SocketAddr;

use super::{count, event, gauge};

/// The code of a connection that ended without a close: RFC 6455, section 7.1.5.
pub(crate) const NO_CLOSE: u16 = 1006;

/// Why a message was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// The channel was closed already.
    Closed,
    /// The message did not fit into the outbox.
    Full,
    /// The message made room in the outbox for a later one.
    Replaced,
    /// The channel was closed because its outbox was full.
    Overflow,
    /// The message was in the outbox when the connection ended.
    Lost,
    /// The message was in the outbox when its user was revoked.
    Revoked,
}

/// Notes taken about a channel under its lock, to report after its release. Empty without a feature.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    #[cfg(any(feature = "metrics", feature = "tracing"))]
    learnt: Learnt,
}

#[cfg(any(feature = "metrics", feature = "tracing"))]
#[derive(Debug, Default)]
struct Learnt {
    anything: bool,
    /// Dropped messages, by [`Why`].
    dropped: [usize; 6],
    /// The code with which the channel was closed.
    closed: Option<u16>,
}

impl Notes {
    /// Notes dropped messages.
    #[inline]
    pub(crate) fn dropped(&mut self, why: Why, messages: usize) {
        #[cfg(any(feature = "metrics", feature = "tracing"))]
        {
            self.learnt.dropped[why as usize] += messages;
            self.learnt.anything = true;
        }
    }

    /// Notes that the channel takes no more messages; once per channel.
    #[inline]
    pub(crate) fn closed(&mut self, code: u16) {
        #[cfg(any(feature = "metrics", feature = "tracing"))]
        {
            self.learnt.closed = Some(code);
            self.learnt.anything = true;
        }
    }

    /// Reports the notes: call this without the lock.
    #[inline]
    pub(crate) fn tell(self, channel: impl Display) {
        #[cfg(any(feature = "metrics", feature = "tracing"))]
        if self.learnt.anything {
            self.learnt.tell(&channel);
        }
    }
}

#[cfg(any(feature = "metrics", feature = "tracing"))]
impl Learnt {
    #[cold]
    fn tell(self, channel: &dyn Display) {
        const WHY: [&str; 6] = ["closed", "full", "replaced", "overflow", "lost", "revoked"];
        for (reason, messages) in WHY.into_iter().zip(self.dropped).filter(|(_, messages)| *messages > 0) {
            count!("fanfare_messages_dropped_total", messages as u64, "reason" => reason);
            event!(TRACE, "channel", "messages dropped", %channel, reason, messages);
        }
        if let Some(code) = self.closed {
            closed(code);
            event!(DEBUG, "channel", "channel closed", %channel, code, dropped = self.dropped.iter().sum::<usize>());
        }
    }
}

#[cfg(any(feature = "metrics", feature = "tracing"))]
fn closed(code: u16) {
    gauge!("fanfare_channels_open", -1.0);
    count!("fanfare_closes_total", 1, "code" => label(code));
}

/// Returns the label of a close code. A client may choose any code: codes without a meaning for us share one label per
/// range of RFC 6455, section 7.4.2.
#[cfg(feature = "metrics")]
fn label(code: u16) -> &'static str {
    match code {
        1000 => "1000",
        1001 => "1001",
        1002 => "1002",
        1003 => "1003",
        NO_CLOSE => "1006",
        1007 => "1007",
        1008 => "1008",
        1009 => "1009",
        1011 => "1011",
        1013 => "1013",
        4401 => "4401",
        4403 => "4403",
        4408 => "4408",
        ..3000 => "other 1xxx",
        3000..4000 => "3xxx",
        _ => "other 4xxx",
    }
}

/// A channel, from its start until it is closed or dropped.
#[derive(Debug)]
pub(crate) struct OpenChannel {
    /// Whether the channel was not closed yet.
    #[cfg(feature = "metrics")]
    open: bool,
}

impl OpenChannel {
    #[inline]
    pub(crate) fn new(channel: impl Display, peer: Option<SocketAddr>) -> Self {
        gauge!("fanfare_channels_open", 1.0);
        count!("fanfare_channels_total", 1);
        event!(DEBUG, "channel", "channel opened", %channel, peer = peer.map(tracing::field::display));
        Self {
            #[cfg(feature = "metrics")]
            open: true,
        }
    }

    /// Marks the channel as closed; [`Notes`] report the close. May be called under a lock.
    #[inline]
    pub(crate) fn end(&mut self) {
        #[cfg(feature = "metrics")]
        {
            self.open = false;
        }
    }
}

/// The task of a connection may be dropped with its runtime, without a close.
#[cfg(feature = "metrics")]
impl Drop for OpenChannel {
    fn drop(&mut self) {
        if self.open {
            closed(NO_CLOSE);
        }
    }
}

/// The target of a send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum To {
    Group,
    Channel,
}

/// Counts deliveries: how many messages were written, queued and dropped.
#[inline]
pub(crate) fn delivered(to: To, counts: impl FnOnce() -> [usize; 3]) {
    #[cfg(feature = "metrics")]
    {
        // The labels are literals, so that the key is a constant.
        macro_rules! add {
            ($to:literal, $outcome:literal, $messages:expr) => {
                if $messages > 0 {
                    count!("fanfare_deliveries_total", $messages as u64, "to" => $to, "outcome" => $outcome);
                }
            };
        }
        let [written, queued, dropped] = counts();
        match to {
            To::Group => {
                add!("group", "written", written);
                add!("group", "queued", queued);
                add!("group", "dropped", dropped);
            }
            To::Channel => {
                add!("channel", "written", written);
                add!("channel", "queued", queued);
                add!("channel", "dropped", dropped);
            }
        }
    }
}

/// Records a message received from a client.
#[inline]
pub(crate) fn received(channel: impl Display, is_text: bool, bytes: usize) {
    #[cfg(feature = "metrics")]
    if is_text {
        count!("fanfare_received_total", 1, "type" => "text");
    } else {
        count!("fanfare_received_total", 1, "type" => "binary");
    }
    event!(TRACE, "channel", "message received", %channel, is_text, bytes);
}

/// Records a receive that ended in an error.
#[inline]
pub(crate) fn not_received(channel: impl Display, reason: &'static str) {
    count!("fanfare_receive_errors_total", 1, "reason" => reason);
    event!(DEBUG, "channel", "message not received", %channel, reason);
}
