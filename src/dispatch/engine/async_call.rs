//! Async listeners: a call makes a future, which runs inside the guard wherever it is polled.

use std::future::Future;
use std::marker::PhantomData;
use std::mem;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::calls::InFlight;
use super::emission::{Emission, Step};
use super::failure::{Failure, FailureCause};
use super::node::{Call, ListenerKind, Turn};
use super::origin::Origin;
use super::outcome::sealed::Outcome as _;
use super::outcome::{Outcome, Payload, Unasked};
use super::tasks::{Admission, Tasks};
use crate::sync::{Arc, guard};

/// Makes a future from the shared payload.
pub(crate) struct AsyncCall<F, T: ?Sized> {
    listener: F,
    /// Those of its dispatcher: where an emit that does not wait hands the future to.
    tasks: Arc<Tasks>,
    payload: PhantomData<fn(&T)>,
}

impl<F, T: ?Sized> AsyncCall<F, T> {
    pub(crate) fn new(listener: F, tasks: Arc<Tasks>) -> Self {
        Self { listener, tasks, payload: PhantomData }
    }
}

impl<T, F, Fut> Call<T> for AsyncCall<F, T>
where
    T: Payload + ?Sized,
    F: Fn(Arc<T>) -> Fut + Send + Sync,
    Fut: Future<Output: Outcome> + Send + 'static,
{
    const KIND: ListenerKind = ListenerKind::Async;

    /// A place on the runtime, for an emit that does not wait.
    type Ready = Option<Admission>;

    fn ready(&self, _: &Origin, emission: &Emission<'_, T>) -> Result<Option<Admission>, FailureCause> {
        if emission.awaits() { Ok(None) } else { self.tasks.admit().map(Some) }
    }

    fn call(&self, payload: &T, turn: Turn<'_, '_, T, Option<Admission>>) -> Step {
        let Turn { emission, origin, in_flight, ready } = turn;
        let made = {
            let _inside = in_flight.as_ref().map(InFlight::inside);
            guard(|| {
                let future = (self.listener)(emission.share(payload));
                Box::pin(async move { future.await.settle(&mut Unasked) })
            })
        };
        let future = match made {
            Ok(future) => future,
            Err(panic) => return emission.fail(origin, FailureCause::Panic(panic)),
        };
        let is_spawned = ready.is_some();
        let running = Running { future: Some(future), origin: Arc::clone(origin), in_flight, is_spawned };
        match ready {
            None => emission.wait_for(running),
            Some(admission) => emission.spawned(admission.spawn(running)),
        }
    }
}

/// A call of an async listener: polled and dropped inside the guard.
pub(crate) struct Running {
    /// Empty once the future is finished.
    future: Option<BoxFuture>,
    origin: Arc<Origin>,
    in_flight: Option<InFlight>,
    /// Nobody's report waits for it.
    is_spawned: bool,
}

type BoxFuture = Pin<Box<dyn Future<Output = Result<ControlFlow<()>, FailureCause>> + Send>>;

impl Running {
    #[cfg(feature = "tokio")]
    pub(crate) fn origin(&self) -> &Arc<Origin> {
        &self.origin
    }

    fn fail(&self, cause: FailureCause) -> Failure {
        if self.is_spawned { self.origin.fail_unreported(cause) } else { self.origin.fail(cause) }
    }

    fn end(&mut self) {
        let _inside = self.in_flight.as_ref().map(InFlight::inside);
        self.origin.drop_guarded(mem::take(&mut self.future));
    }
}

/// A failure is told of when it happens.
impl Future for Running {
    type Output = Result<ControlFlow<()>, Failure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { future: Some(future), in_flight, .. } = &mut *self else {
            return Poll::Ready(Ok(ControlFlow::Continue(())));
        };
        let polled = {
            let _inside = in_flight.as_ref().map(InFlight::inside);
            guard(|| future.as_mut().poll(cx))
        };
        let result = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(result)) => result,
            Err(panic) => Err(FailureCause::Panic(panic)),
        };
        self.end();
        self.in_flight = None;
        Poll::Ready(result.map_err(|cause| self.fail(cause)))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.future.is_some() {
            self.end();
            // Who drops an emit half-way knows it; a task that is dropped was to finish.
            if self.is_spawned {
                drop(self.fail(FailureCause::Cancelled));
            }
        }
    }
}
