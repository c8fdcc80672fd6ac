//! [`EmitAsync`]: an emit that waits for its async listeners.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::engine::awaited::Awaited;
use super::engine::core::AnySlot as _;
use super::engine::options::EmitOptions;
use super::engine::report::Report;
use super::engine::slot::Slot;

/// The future of [`Event::emit_async`](crate::Event::emit_async).
///
/// # Panics
///
/// When it is polled after it was ready.
#[must_use = "an async emit starts when it is awaited"]
pub struct EmitAsync<'a, T: ?Sized + 'static> {
    slot: &'a Slot<T>,
    walk: Awaited<'a, T>,
}

impl<'a, T: ?Sized + 'static> EmitAsync<'a, T> {
    pub(super) fn new(slot: &'a Slot<T>, options: EmitOptions, payload: &'a T) -> Self {
        Self { slot, walk: Awaited::new(payload, options) }
    }
}

impl<T: ?Sized + 'static> Future for EmitAsync<'_, T> {
    type Output = Report;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Report> {
        let Self { slot, walk } = &mut *self;
        if walk.is_new() {
            return walk.begin(slot, cx);
        }
        assert!(walk.is_waiting(), "an async emit was polled after it was ready");
        walk.resume(cx)
    }
}

impl<T: ?Sized + 'static> fmt::Debug for EmitAsync<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmitAsync")
            .field("event", self.slot.name())
            .field("waiting", &self.walk.is_waiting())
            .finish_non_exhaustive()
    }
}
