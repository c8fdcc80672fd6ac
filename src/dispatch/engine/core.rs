//! The state that all clones and namespaces of one dispatcher share, and a slot without its payload type.

use std::any::Any;

use super::info::ListenerInfo;
use super::origin::HookCell;
use super::table::EntryKey;
use super::tasks::Tasks;
use crate::sync::{Arc, NameMap, Weak};

/// The shared part of one dispatcher. Its handles keep it alive; its events do not.
pub(crate) struct Core {
    pub(crate) names: NameMap<Arc<str>, dyn AnySlot>,
    pub(crate) tasks: Arc<Tasks>,
    pub(crate) bounds: Bounds,
    pub(crate) hook: Arc<HookCell>,
}

impl Core {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self { names: NameMap::new(), tasks: Arc::new(Tasks::new()), bounds, hook: Arc::new(HookCell::new()) }
    }
}

impl Drop for Core {
    /// Removes the hook: events that outlive the dispatcher hold its cell.
    fn drop(&mut self) {
        self.hook.set(None);
    }
}

/// How many listeners an event may have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) warn_above: Option<usize>,
    pub(crate) listener_limit: Option<usize>,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { warn_above: Some(100), listener_limit: None }
    }
}

/// A slot with its payload type erased.
pub(crate) trait AnySlot: Any + Send + Sync {
    /// Acquires a reference; false when the slot is closed.
    fn acquire(&self) -> bool;

    /// Releases references; the last one closes the slot.
    fn release(&self, count: usize);

    fn is_closed(&self) -> bool;

    fn off(&self, key: EntryKey) -> bool;

    fn off_all(&self) -> usize;

    fn is_active(&self, key: EntryKey) -> bool;

    fn is_paused(&self, key: EntryKey) -> bool;

    /// Pauses a listener once more; false when it is gone.
    fn pause(&self, key: EntryKey) -> bool;

    fn resume(&self, key: EntryKey);

    fn listener_count(&self) -> usize;

    fn listeners(&self) -> Vec<ListenerInfo>;

    fn name(&self) -> &Arc<str>;

    /// Reports the event's counts to the recorder, if the event counts.
    #[cfg(feature = "metrics")]
    fn record_metrics(&self);

    fn payload_type(&self) -> &'static str;

    fn core(&self) -> &Weak<Core>;
}
