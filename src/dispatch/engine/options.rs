//! [`EmitOptions`]: how one emit runs.

/// How one emit runs: options for [`Event::emit_with`](crate::Event::emit_with) and
/// [`emit_async_with`](crate::Event::emit_async_with).
///
/// ```
/// use fanfare::{Dispatcher, dispatch::EmitOptions};
///
/// const CAREFUL: EmitOptions = EmitOptions::new().fail_fast();
///
/// let events = Dispatcher::new();
/// let order = events.event::<u64>("order.paid")?;
/// order.on(|cents| if *cents == 0 { Err("nothing was paid") } else { Ok(()) });
/// order.on(|_| println!("ship it"));
/// let report = order.emit_with(CAREFUL, &0);
/// assert!(report.is_stopped());
/// assert_eq!(report.ran(), 1);
/// # Ok::<(), fanfare::EventError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmitOptions {
    fail_fast: bool,
    limit: usize,
}

impl EmitOptions {
    /// Returns the defaults: a failure does not stop the emit, and async listeners are awaited one by one.
    #[must_use]
    pub const fn new() -> Self {
        Self { fail_fast: false, limit: 1 }
    }

    /// Stops the emit at the first failure, as a `Break` does; its report is then
    /// [stopped](crate::Report::is_stopped).
    #[must_use]
    pub const fn fail_fast(self) -> Self {
        Self { fail_fast: true, ..self }
    }

    /// Lets an async emit wait for up to `limit` async listeners at once.
    ///
    /// Async listeners start in the order of calls, and sync listeners between them run in their turn. While
    /// `limit` of them run, no further listener is called. A `Break`, or a failure in an emit that fails fast,
    /// keeps the rest from starting; the emit still waits for those that run. With 1, the default, each async
    /// listener ends before the next listener is called. A plain emit ignores this option.
    ///
    /// # Panics
    ///
    /// When `limit` is 0.
    #[must_use]
    #[track_caller]
    pub const fn concurrent(self, limit: usize) -> Self {
        assert!(limit > 0, "an emit that may run 0 listeners at once would never end");
        Self { limit, ..self }
    }

    pub(crate) const fn fails_fast(self) -> bool {
        self.fail_fast
    }

    pub(crate) const fn limit(self) -> usize {
        self.limit
    }
}

impl Default for EmitOptions {
    fn default() -> Self {
        Self::new()
    }
}
