//! Emits as futures and streams: the next payload, or all of them through a bounded queue.

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

/// What a stream does with a payload when its queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StreamOverflow {
    /// Drops the oldest payload in the queue to make room.
    DropOldest,
    /// Drops the new payload.
    DropNewest,
    /// Drops the new payload and takes the listener off. The stream yields what is queued and then ends,
    /// so that the reader notices the loss.
    Close,
}

/// The payloads of one event as a stream: see [`Event::stream`](crate::Event::stream).
///
/// Yields the shared payload of each emit since the registration, and ends when its listener is taken off.
/// Dropping the stream takes the listener off. It implements [`Stream`] too, for adapters.
#[must_use = "dropping it takes its listener off"]
pub struct EventStream<T: ?Sized + 'static> {
    queue: Arc<PayloadQueue<T>>,
    subscription: ScopedSubscription,
    /// The reader has got `None`: it gets no payload that a racing emit pushes later.
    is_over: bool,
}

/// The queue that the listener fills and the stream empties.
struct PayloadQueue<T: ?Sized> {
    payloads: ArrayQueue<Arc<T>>,
    overflow: StreamOverflow,
    /// Set by the listener's `off` or drop, or by an overflow with `Close`; the reader does not wait after it.
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

    /// Returns the next queued payload; `None` when the queue is empty, whether or not the stream has ended.
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

    /// Returns how many payloads were dropped because the queue was full.
    ///
    /// With [`StreamOverflow::Close`] these are the payload that closed the stream and those of emits that
    /// raced it; later emits are not counted.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        // Relaxed: a count, which publishes nothing.
        self.queue.dropped.load(Ordering::Relaxed)
    }

    /// Returns the handle to the stream's registration, to pause it or take it off.
    #[must_use]
    pub fn subscription(&self) -> &Subscription {
        &self.subscription
    }
}

impl<T: ?Sized> PayloadQueue<T> {
    /// Queues a payload, or drops one; false when the queue takes no more.
    fn push(&self, payload: Arc<T>) -> bool {
        let dropped = match self.overflow {
            // Relaxed: a push that does not see the close yet counts as one before it.
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
            // The guard around this listener's call catches a panic of the payload's destructor.
            drop(payload);
        }
        self.reader.wake();
        !is_over
    }

    fn close(&self) {
        // Release: pairs with the Acquire of `poll_pop`; a reader that sees the flag finds every earlier push.
        self.closed.store(true, Ordering::Release);
        self.reader.wake();
    }

    fn poll_pop(&self, cx: &mut Context<'_>) -> Poll<Option<Arc<T>>> {
        if let Some(payload) = self.payloads.pop() {
            return Poll::Ready(Some(payload));
        }
        self.reader.register(cx.waker());
        // Acquire: pairs with the Release of `close`. The flag is read before the queue: a push before the close
        // is then found, and a closed, empty queue has ended.
        let closed = self.closed.load(Ordering::Acquire);
        match self.payloads.pop() {
            Some(payload) => Poll::Ready(Some(payload)),
            None if closed => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

/// The listener's end of the queue: closes the queue when the listener is dropped, for example with its event.
///
/// `off` closes the queue by itself, because an idle publisher may keep the listener from being dropped.
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
