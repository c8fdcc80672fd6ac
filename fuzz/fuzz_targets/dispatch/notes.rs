//! What both sides write down: equal notes in an equal order are the claim.

use std::cell::Cell;

/// Something a listener saw or did.
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

/// What came of taking a listener off and waiting for its calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    Over(bool),
    WouldDeadlock,
    StillRunning,
}

/// What an emit that asks for values got; empty when its fold panicked.
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

/// Returns how often payloads were cloned since the last time.
pub(crate) fn take_clones() -> usize {
    CLONES.replace(0)
}
