//! The notes that both sides take: the claim is that they are equal, in the same order.

use std::cell::Cell;

/// An observation or an action of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Note {
    FilterAsked { id: usize, payload: u8 },
    Called { id: usize, payload: u8 },
    SharedCalled { which: bool },
    FutureMade { id: usize, payload: u8 },
    FutureFinished { id: usize },
    Registered(bool),
    Off(bool),
    OffAll(usize),
    Waited(Option<Waited>),
    Emitted(Summary),
    Started(Option<Summary>),
    Saw { listeners: usize, muted: bool },
}

/// A report, reduced to what can be compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) ran: usize,
    pub(crate) spawned: usize,
    pub(crate) stopped: bool,
    pub(crate) failures: Vec<Cause>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    Error,
    Panic,
    NoRuntime,
    ValueMismatch,
    TooDeep,
    Other,
}

/// The result of taking a listener off and waiting for its calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    Over(bool),
    WouldDeadlock,
    StillRunning,
}

/// The values that an emit collected; empty when its fold panicked.
pub(crate) type Values = Option<Vec<usize>>;

/// The payload: it counts its clones.
#[derive(Debug)]
pub(crate) struct Payload(pub(crate) u8);

thread_local! {
    static CLONES: Cell<usize> = const { Cell::new(0) };
}

impl Clone for Payload {
    fn clone(&self) -> Self {
        CLONES.set(CLONES.get() + 1);
        Self(self.0)
    }
}

/// Returns how often payloads were cloned since the last call.
pub(crate) fn take_clones() -> usize {
    CLONES.replace(0)
}
