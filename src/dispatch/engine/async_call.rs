//! Async listeners: a call makes a future, which the emit waits for or hands to the runtime.

use std::future::Future;
use std::marker::PhantomData;

use super::calls::InFlight;
use super::emission::{Emission, Step};
use super::failure::FailureCause;
use super::node::{Call, ListenerKind, Turn};
use super::origin::Origin;
use super::outcome::sealed::Outcome as _;
use super::outcome::{Outcome, Payload, Unasked};
use super::running::Running;
use super::tasks::{Admission, Tasks};
use crate::sync::{Arc, guard};

/// Makes a future from the shared payload.
pub(crate) struct AsyncCall<F, T: ?Sized> {
    listener: F,
    /// The tasks of the dispatcher: an emit that does not wait hands the future to them.
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

    /// A place among the tasks in flight, for an emit that does not wait.
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
        let running = Running::new(future, Arc::clone(origin), in_flight, is_spawned);
        match ready {
            None => emission.wait_for(running),
            Some(admission) => emission.spawned(admission.spawn(running)),
        }
    }
}
