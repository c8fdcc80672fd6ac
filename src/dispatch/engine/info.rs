//! [`ListenerInfo`]: a description of one registration.

use std::panic::Location;

use super::node::{Listen, ListenerKind};
use super::priority::Priority;
use super::table::EntryKey;

/// A registration at the moment of the call: see [`Event::listeners`](crate::Event::listeners).
///
/// ```
/// use fanfare::{Dispatcher, Priority};
///
/// let events = Dispatcher::new();
/// events.listen::<u32>("tick")?.priority(7).times(3).on(|_| {});
/// let listeners = events.listeners("tick");
/// assert_eq!(listeners[0].priority(), Priority::from(7));
/// assert_eq!(listeners[0].calls_left(), Some(3));
/// assert!(listeners[0].registered_at().file().ends_with(".rs"));
/// # Ok::<(), fanfare::EventError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ListenerInfo {
    priority: Priority,
    kind: ListenerKind,
    registered_at: &'static Location<'static>,
    calls_left: Option<u32>,
    paused: bool,
}

impl ListenerInfo {
    pub(crate) fn new<T: ?Sized>(key: EntryKey, listener: &dyn Listen<T>) -> Self {
        Self {
            priority: key.priority(),
            kind: listener.kind(),
            registered_at: listener.origin().registered_at,
            calls_left: listener.limit().map(super::conditions::Limit::left),
            paused: listener.state().is_paused(),
        }
    }

    /// Returns the priority.
    #[must_use]
    pub fn priority(&self) -> Priority {
        self.priority
    }

    /// Returns how the listener is called.
    #[must_use]
    pub fn kind(&self) -> ListenerKind {
        self.kind
    }

    /// Returns where the listener was registered.
    #[must_use]
    pub fn registered_at(&self) -> &'static Location<'static> {
        self.registered_at
    }

    /// Returns how many calls are left; `None` for no limit.
    #[must_use]
    pub fn calls_left(&self) -> Option<u32> {
        self.calls_left
    }

    /// Returns whether the listener is paused.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.paused
    }
}
