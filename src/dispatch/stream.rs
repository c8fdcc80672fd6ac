//! Emits as values to wait for: the next one, or all of them through a bounded queue.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use crossbeam_queue::ArrayQueue;
use futures_util::stream::Stream;
use futures_util::task::AtomicWaker;

use super::engine::outcome::Payload;
use super::registration::Registration;
use super::subscription::{ScopedSubscription, Subscription};
use crate::sync::Arc;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What happens to a payload when the queue it should go to is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StreamOverflow {
    /// The one that waits longest makes room for it.
    DropOldest,
    /// It is dropped itself.
    DropNewest,
    /// It is dropped, the stream ends behind what waits in it, and its listener is taken off: nothing
    /// goes missing unnoticed.
    Close,
}

/// The payloads of one event as a stream: see [`Event::stream`](crate::Event::stream).
///
/// Yields each payload, shared, from the registration on, and ends when its listener is taken off.
/// Dropping it takes its listener off. It is a [`Stream`] too, for adapters.
#[must_use = "dropping it takes its listener off"]
pub struct EventStream<T: ?Sized + 'static> {
    queue: Arc<PayloadQueue<T>>,
    subscription: ScopedSubscription,
    /// The reader was told of the end: what comes in by a race is not for it.
    is_over: bool,
}

/// What the listener fills and the stream empties.
struct PayloadQueue<T: ?Sized> {
    payloads: ArrayQueue<Arc<T>>,
    overflow: StreamOverflow,
    /// Written by the listener's `off` or drop, or by an overflow that closes; nothing is waited for after it.
    closed: AtomicBool,
    dropped: AtomicU64,
    reader: AtomicWaker,
}

impl<T: Payload + ?Sized> EventStream<T> {
    pub(super) fn new(registration: Registration<T>, capacity: usize, overflow: StreamOverflow) -> Self {
        assert!(capacity > 0, "a stream needs room for at least one payload");
        let queue = Arc::new(PayloadQueue {
            payloads: ArrayQueue::new(capacity),
            overflow,
            closed: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
            reader: AtomicWaker::new(),
        });
        let writer = QueueWriter(Arc::clone(&queue));
        let ending = Arc::clone(&queue);
        let subscription = registration.on_shared(move |payload| writer.0.push(payload), move || ending.close());
        Self { queue, subscription: subscription.scoped(), is_over: false }
    }

    /// Waits for the next payload; `None` at the end.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Arc<T>> {
        poll_fn(|cx| self.poll_pop(cx)).await
    }

    /// Returns a payload that waits already; `None` says that none does, at the end or not.
    pub fn try_next(&mut self) -> Option<Arc<T>> {
        if self.is_over { None } else { self.queue.payloads.pop() }
    }

    fn poll_pop(&mut self, cx: &mut Context<'_>) -> Poll<Option<Arc<T>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let popped = self.queue.poll_pop(cx);
        self.is_over = matches!(popped, Poll::Ready(None));
        popped
    }

    /// Returns how many payloads found the queue full, and were dropped or put another out.
    ///
    /// With [`StreamOverflow::Close`] that is the one that closed it, and who raced it: emits after that are not
    /// this stream's any more.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        // Relaxed: a count, which publishes nothing.
        self.queue.dropped.load(Ordering::Relaxed)
    }

    /// Returns the handle to the registration behind the stream, to pause it or to end it.
    #[must_use]
    pub fn subscription(&self) -> &Subscription {
        &self.subscription
    }
}

impl<T: ?Sized> PayloadQueue<T> {
    /// Takes a payload in, or drops one; false when nothing more is wanted.
    fn push(&self, payload: Arc<T>) -> bool {
        let dropped = match self.overflow {
            // Relaxed: a push that misses the close by a moment came before it.
            StreamOverflow::Close if self.closed.load(Ordering::Relaxed) => Some(payload),
            StreamOverflow::DropOldest => self.payloads.force_push(payload),
            StreamOverflow::DropNewest | StreamOverflow::Close => self.payloads.push(payload).err(),
        };
        let is_over = dropped.is_some() && self.overflow == StreamOverflow::Close;
        if is_over {
            self.close();
        }
        if let Some(payload) = dropped {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            // The guard around this listener's call takes a panic of its destructor.
            drop(payload);
        }
        self.reader.wake();
        !is_over
    }

    fn close(&self) {
        // Release: pairs with the Acquire of `poll_pop`; what was pushed before is found after it.
        self.closed.store(true, Ordering::Release);
        self.reader.wake();
    }

    fn poll_pop(&self, cx: &mut Context<'_>) -> Poll<Option<Arc<T>>> {
        if let Some(payload) = self.payloads.pop() {
            return Poll::Ready(Some(payload));
        }
        self.reader.register(cx.waker());
        // Acquire: pairs with the Release of `close`. Read before the queue, so that a closed and empty one is at its end.
        let closed = self.closed.load(Ordering::Acquire);
        match self.payloads.pop() {
            Some(payload) => Poll::Ready(Some(payload)),
            None if closed => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

/// The listener's end of the queue: closes it when the listener is dropped, with its event say.
///
/// One that is taken off closes it by itself: an idle publisher may keep it from being dropped.
struct QueueWriter<T: ?Sized>(Arc<PayloadQueue<T>>);

impl<T: ?Sized> Drop for QueueWriter<T> {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl<T: Payload + ?Sized> Stream for EventStream<T> {
    type Item = Arc<T>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Arc<T>>> {
        self.poll_pop(cx)
    }
}

impl<T: ?Sized + 'static> fmt::Debug for EventStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStream")
            .field("subscription", &*self.subscription)
            .field("waiting", &self.queue.payloads.len())
            .field("capacity", &self.queue.payloads.capacity())
            .field("dropped", &self.queue.dropped.load(Ordering::Relaxed))
            .finish()
    }
}

/// The next payload of one event: see [`Event::next`](crate::Event::next).
#[must_use = "futures do nothing unless awaited"]
pub struct Next<T: ?Sized + 'static> {
    stream: EventStream<T>,
}

impl<T: Payload + ?Sized> Next<T> {
    pub(super) fn new(registration: Registration<T>) -> Self {
        Self { stream: EventStream::new(registration.once(), 1, StreamOverflow::DropNewest) }
    }
}

impl<T: Payload + ?Sized> Future for Next<T> {
    type Output = Option<Arc<T>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.stream.poll_pop(cx)
    }
}

impl<T: ?Sized + 'static> fmt::Debug for Next<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Next").field(&self.stream).finish()
    }
}
