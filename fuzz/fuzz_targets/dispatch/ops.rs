//! The operations of a run of the fuzzer, and the listeners that they register.

use arbitrary::{Arbitrary, Result, Unstructured};

/// Events go by number; these are their names.
pub(crate) const NAMES: [&str; 3] = ["a", "b", "ns:c"];

/// Bounds of both sides, so that every input ends.
pub(crate) mod bounds {
    pub(crate) const OPS: usize = 60;
    pub(crate) const LISTENERS: usize = 200;
    pub(crate) const WALKS: usize = 8;
    /// Emits inside listeners, for each operation.
    pub(crate) const NESTED: u32 = 4;
    /// Emits of listeners without a bound of their own, for each input: a few more than may be nested.
    pub(crate) const ENDLESS: u32 = 70;
}

#[derive(Arbitrary, Debug)]
pub(crate) struct Input {
    #[arbitrary(with = limit)]
    pub(crate) limit: Option<usize>,
    pub(crate) ops: Vec<Op>,
}

/// One operation from outside. Numbers of things (`id`, `at`) are taken modulo how many there are.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) enum Op {
    On {
        #[arbitrary(with = name)]
        name: usize,
        plan: Plan,
    },
    /// Register this many plain listeners: a table of several chunks is another path.
    OnMany {
        #[arbitrary(with = name)]
        name: usize,
        #[arbitrary(with = many)]
        count: usize,
    },
    OnListener {
        #[arbitrary(with = name)]
        name: usize,
        which: bool,
        once: bool,
    },
    OffListener {
        #[arbitrary(with = name)]
        name: usize,
        which: bool,
    },
    Off {
        id: u8,
        by_dispatcher: bool,
    },
    OffAll {
        #[arbitrary(with = name)]
        name: usize,
    },
    /// `off_and_wait`, in one of its forms.
    Wait {
        id: u8,
    },
    Emit {
        #[arbitrary(with = name)]
        name: usize,
        payload: u8,
        way: Way,
    },
    Hold {
        #[arbitrary(with = name)]
        name: usize,
    },
    LetGo {
        #[arbitrary(with = name)]
        name: usize,
    },
    Pause {
        id: u8,
    },
    Resume {
        at: u8,
    },
    Mute {
        #[arbitrary(with = name)]
        name: usize,
    },
    Unmute {
        at: u8,
    },
    Count {
        #[arbitrary(with = name)]
        name: usize,
    },
    Publisher {
        #[arbitrary(with = name)]
        name: usize,
    },
    Refresh {
        at: u8,
    },
    DropPublisher {
        at: u8,
    },
    /// Start an async emit and poll it, or leave that to the next `Poll`.
    Start {
        #[arbitrary(with = name)]
        name: usize,
        payload: u8,
        by_name: bool,
        fail_fast: bool,
        #[arbitrary(with = concurrent)]
        concurrent: usize,
        poll: bool,
    },
    /// Let one tick pass, and poll that async emit.
    Poll {
        at: u8,
    },
    DropWalk {
        at: u8,
    },
    Stream {
        #[arbitrary(with = name)]
        name: usize,
        #[arbitrary(with = capacity)]
        capacity: usize,
        full: Full,
    },
    Next {
        #[arbitrary(with = name)]
        name: usize,
    },
    /// Take the next payload from that queue, without waiting.
    Take {
        at: u8,
    },
    /// Poll that queue once.
    Await {
        at: u8,
    },
    DropQueue {
        at: u8,
    },
}

/// How an emit is made. A handle is made for it if none is held.
#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Name,
    Handle,
    Publisher(u8),
    Arc,
    ArcByName,
    Options { fail_fast: bool },
    Collect,
    Fold(FoldEnd),
}

/// What a fold does at its second value.
#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FoldEnd {
    Never,
    Break,
    Panic,
}

#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    DropOldest,
    DropNewest,
    Close,
}

/// One listener.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) struct Plan {
    #[arbitrary(with = priority)]
    pub(crate) priority: i32,
    pub(crate) prepend: bool,
    #[arbitrary(with = times)]
    pub(crate) times: Option<u32>,
    pub(crate) filter: Filter,
    pub(crate) waitable: bool,
    /// Registered by `on`, which reports a refusal to the hook, not by `try_on`.
    pub(crate) infallible: bool,
    #[arbitrary(with = delay)]
    pub(crate) delay: Option<u32>,
    pub(crate) deed: Deed,
    pub(crate) answer: Answer,
}

impl Plan {
    pub(crate) const PLAIN: Self = Self {
        priority: 0,
        prepend: false,
        times: None,
        filter: Filter::All,
        waitable: false,
        infallible: true,
        delay: None,
        deed: Deed::Nothing,
        answer: Answer::Nothing,
    };

    pub(crate) fn is_async(&self) -> bool {
        self.delay.is_some()
    }
}

#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filter {
    All,
    Even,
    Panic,
    /// Takes its own listener off, and accepts.
    OffItself,
    /// Waits for the end of its own listener, and accepts.
    WaitsForItself,
}

/// What a listener does, an async one at its end.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) enum Deed {
    Nothing,
    On(#[arbitrary(with = name)] usize, #[arbitrary(with = priority)] i32),
    Off(u8),
    OffItself,
    OffAll(#[arbitrary(with = name)] usize),
    Wait(u8),
    WaitForItself,
    Emit(#[arbitrary(with = name)] usize),
    /// Emit however deep that is.
    EmitEndless(#[arbitrary(with = name)] usize),
    /// Start an async emit and poll it once.
    Start(#[arbitrary(with = name)] usize),
    Pause(u8),
    PauseItself,
    Resume(u8),
    Mute(#[arbitrary(with = name)] usize),
    Unmute(u8),
    /// Note how many listeners there are.
    Look(#[arbitrary(with = name)] usize),
}

/// What a listener returns.
#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Nothing,
    Panic,
    /// An async listener panics before there is a future.
    PanicAtOnce,
    Stop,
    Error,
    Value,
    /// A value of a type that no emit collects.
    OddValue,
    /// An error of a listener that could have returned a value.
    ErrorForValue,
}

fn limit(u: &mut Unstructured<'_>) -> Result<Option<usize>> {
    Ok(*u.choose(&[None, None, None, Some(0), Some(1), Some(2), Some(3), Some(70)])?)
}

fn name(u: &mut Unstructured<'_>) -> Result<usize> {
    u.int_in_range(0..=NAMES.len() - 1)
}

fn many(u: &mut Unstructured<'_>) -> Result<usize> {
    Ok(*u.choose(&[2, 2, 3, 3, 4, 5, 64, 130])?)
}

fn capacity(u: &mut Unstructured<'_>) -> Result<usize> {
    u.int_in_range(1..=3)
}

fn concurrent(u: &mut Unstructured<'_>) -> Result<usize> {
    Ok(*u.choose(&[1, 1, 2, 3, 100])?)
}

fn priority(u: &mut Unstructured<'_>) -> Result<i32> {
    Ok(*u.choose(&[0, 0, 1, -1, 100, -100, i32::MIN, i32::MAX])?)
}

fn times(u: &mut Unstructured<'_>) -> Result<Option<u32>> {
    Ok(*u.choose(&[None, None, Some(1), Some(1), Some(2), Some(3)])?)
}

/// After how many ticks an async listener is ready; `None` for a sync one.
fn delay(u: &mut Unstructured<'_>) -> Result<Option<u32>> {
    Ok(*u.choose(&[None, None, Some(0), Some(1), Some(2)])?)
}
