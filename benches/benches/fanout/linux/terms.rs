//! How a server treats its connections, as one argument of its command line. A plain value.

use std::env;

use fanfare::channel::{OutboxLimits, Overflow};
use fanfare::group::{GroupOptions, HistoryLimits};
use serde::{Deserialize, Serialize};

const ARGUMENT: &str = "--terms=";

/// The send buffer that a connection gets by default.
const SEND_BUFFER: u64 = 64 << 10;
/// What the kernel may hold of a client's messages: it doubles what it is asked for, for its own bookkeeping, and looks
/// whether that is full before it begins a segment, which on the loopback device has up to 64 KiB.
pub(super) const SEND_QUEUE: u64 = 2 * SEND_BUFFER + (64 << 10);

/// What a server is told about its connections; by default nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct Terms {
    pub(super) deflate: Deflate,
    pub(super) rule: Rule,
    /// Instead of what an outbox holds by default.
    pub(super) outbox_bytes: Option<usize>,
    /// The group keeps what is said in it.
    pub(super) history: bool,
    /// Each client has a user, and is present in the group.
    pub(super) identity: bool,
}

/// Who compresses what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(super) enum Deflate {
    /// Nobody.
    #[default]
    Off,
    /// A message is compressed once, for all.
    Shared,
    /// A message is compressed for each client anew.
    Each,
}

/// What happens to a message for a client whose outbox is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(super) enum Rule {
    #[default]
    Close,
    DropNewest,
    DropOldest,
    Conflate,
}

impl Terms {
    pub(super) fn argument(&self) -> String {
        format!("{ARGUMENT}{}", serde_json::to_string(self).expect("it is plain data"))
    }

    /// Returns what this process was started with.
    pub(super) fn of_this_process() -> Self {
        let argument = env::args().find_map(|argument| argument.strip_prefix(ARGUMENT).map(str::to_owned));
        argument.map_or_else(Self::default, |terms| {
            serde_json::from_str(&terms).expect("they were written by this program")
        })
    }

    pub(super) fn group(&self) -> GroupOptions {
        let options = GroupOptions::default();
        if self.history { options.history(HistoryLimits::default()) } else { options }
    }

    pub(super) fn outbox(&self) -> OutboxLimits {
        let limits = OutboxLimits::default().overflow(self.rule.overflow());
        self.outbox_bytes.map_or(limits, |bytes| limits.max_bytes(bytes))
    }
}

impl Rule {
    /// Those that keep the client.
    pub(super) const DROPPING: [Self; 3] = [Self::DropNewest, Self::DropOldest, Self::Conflate];

    fn overflow(self) -> Overflow {
        match self {
            Self::Close => Overflow::Close,
            Self::DropNewest => Overflow::DropNewest,
            Self::DropOldest => Overflow::DropOldest,
            Self::Conflate => Overflow::Conflate,
        }
    }
}
