//! [`Running`]: the future of an async listener, which runs inside the guard wherever it is polled.

use std::future::Future;
use std::mem;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::calls::InFlight;
use super::failure::{Failure, FailureCause};
use super::origin::Origin;
use crate::sync::{Arc, guard};

/// One call of an async listener, polled and dropped inside the guard.
pub(crate) struct Running {
    /// Empty once the future is finished.
    future: Option<BoxFuture>,
    origin: Arc<Origin>,
    in_flight: Option<InFlight>,
    /// It was handed to the runtime: no report waits for it.
    is_spawned: bool,
}

pub(crate) type BoxFuture = Pin<Box<dyn Future<Output = Result<ControlFlow<()>, FailureCause>> + Send>>;

impl Running {
    pub(crate) fn new(future: BoxFuture, origin: Arc<Origin>, in_flight: Option<InFlight>, is_spawned: bool) -> Self {
        Self { future: Some(future), origin, in_flight, is_spawned }
    }

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

/// A failure reaches the hook or the log when it happens.
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
            // A caller that drops an emit half-way does so on purpose; a dropped task should have finished.
            if self.is_spawned {
                drop(self.fail(FailureCause::Cancelled));
            }
        }
    }
}
