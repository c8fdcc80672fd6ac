//! The streams of the model: a listener that fills a bounded queue.

use std::collections::VecDeque;
use std::task::Poll;

use super::{Handle, Kind, Model, pick, take};
use crate::ops::{Full, Plan};

/// The payloads of a stream, or of a wait for the next emit.
pub(super) struct Queue {
    /// The listener that fills it.
    listener: usize,
    payloads: VecDeque<u8>,
    capacity: usize,
    full: Full,
    /// It overflowed, and accepts no more payloads.
    is_shut: bool,
    dropped: u64,
    is_next: bool,
}

impl Model {
    pub(crate) fn stream(&mut self, name: usize, capacity: usize, full: Full) {
        self.add_queue(name, capacity, full, false);
    }

    pub(crate) fn next(&mut self, name: usize) {
        self.add_queue(name, 1, Full::DropNewest, true);
    }

    fn add_queue(&mut self, name: usize, capacity: usize, full: Full, is_next: bool) {
        if !self.has_room() {
            return;
        }
        let listener = self.listeners.len();
        let payloads = VecDeque::new();
        self.queues.push(Some(Queue { listener, payloads, capacity, full, is_shut: false, dropped: 0, is_next }));
        let plan = Plan { times: is_next.then_some(1), ..Plan::PLAIN };
        let handle = if is_next { Handle::Nothing } else { Handle::Plain };
        self.register(name, Kind::Queue(self.queues.len() - 1), plan, handle);
    }

    /// Accepts a payload; returns false when the queue wants no more.
    pub(super) fn push(&mut self, at: usize, payload: u8) -> bool {
        let queue = self.queues[at].as_mut().expect("its listener is taken off before it goes");
        let is_full = queue.payloads.len() == queue.capacity;
        queue.dropped += u64::from(is_full || queue.is_shut);
        match queue.full {
            Full::Close if is_full || queue.is_shut => queue.is_shut = true,
            Full::DropNewest if is_full => {}
            Full::DropOldest if is_full => {
                queue.payloads.pop_front();
                queue.payloads.push_back(payload);
            }
            _ => queue.payloads.push_back(payload),
        }
        !queue.is_shut
    }

    /// Takes the next payload of that queue, without waiting.
    pub(crate) fn try_next(&mut self, at: u8) -> Option<u8> {
        let at = pick(at, self.queues.len())?;
        let queue = self.queues[at].as_mut().filter(|queue| !queue.is_next)?;
        queue.payloads.pop_front()
    }

    /// Polls that queue once; a wait for one emit is removed when it is ready.
    pub(crate) fn poll_next(&mut self, at: u8) -> Option<Poll<Option<u8>>> {
        let place = pick(at, self.queues.len())?;
        let queue = self.queues[place].as_mut()?;
        let polled = match queue.payloads.pop_front() {
            Some(payload) => Poll::Ready(Some(payload)),
            None if queue.is_shut => Poll::Ready(None),
            None if self.listeners[queue.listener].is_off => Poll::Ready(None),
            None => Poll::Pending,
        };
        if polled.is_ready() && self.queues[place].as_ref().is_some_and(|queue| queue.is_next) {
            self.drop_queue(at);
        }
        Some(polled)
    }

    pub(crate) fn drop_queue(&mut self, at: u8) {
        if let Some(queue) = take(&mut self.queues, at) {
            self.take_off(queue.listener);
        }
    }

    pub(crate) fn dropped_payloads(&self) -> impl Iterator<Item = Option<u64>> {
        self.queues.iter().map(|queue| queue.as_ref().filter(|queue| !queue.is_next).map(|queue| queue.dropped))
    }
}
