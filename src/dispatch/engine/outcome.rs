//! The return values of listeners, and the payloads that async listeners can share.

use std::any::{Any, type_name};
use std::ops::ControlFlow;
use std::path::Path;

use self::sealed::{AnyValue, Values};
use super::failure::{BoxError, FailureCause};
use crate::sync::{Arc, guard};

/// The type of a listener's return value.
///
/// - `()`: the listener cannot fail.
/// - `Result<(), E>`, for any `E` that converts into a boxed error: an `Err` goes into the report, and the
///   other listeners run all the same.
/// - [`ControlFlow<()>`](ControlFlow): a `Break` stops the emit; listeners further down are not called.
/// - [`Value<V>`](Value), or `Result<Value<V>, E>`: a value for an emit that collects.
///
/// A closure that returns only one variant of a `Result` has to name the other type:
/// `Err::<(), _>("no paper")`, `Ok::<(), PrintError>(())`.
#[diagnostic::on_unimplemented(
    message = "a listener cannot return `{Self}`",
    note = "return `()`, a `Result` of it, a `ControlFlow<()>`, or a `Value`; to drop what the closure computes: `|payload| {{ ..; }}`"
)]
pub trait Outcome: sealed::Outcome {}

impl Outcome for () {}
impl<E: Into<BoxError>> Outcome for Result<(), E> {}
impl Outcome for ControlFlow<()> {}
impl<V: 'static> Outcome for Value<V> {}
impl<V: 'static, E: Into<BoxError>> Outcome for Result<Value<V>, E> {}

/// A value that a listener returns to an emit that collects values.
///
/// [`Event::emit_collect`](crate::Event::emit_collect) and [`emit_fold`](crate::Event::emit_fold) collect;
/// other emits drop the value, and every emit drops that of an async listener.
///
/// ```
/// use fanfare::{Dispatcher, dispatch::Value};
///
/// let events = Dispatcher::new();
/// let quote = events.event::<u32>("quote")?;
/// quote.on(|pieces| Value(pieces * 10));
/// quote.on(|pieces| Value(pieces * 9 + 5));
/// let (prices, report) = quote.emit_collect::<u32>(&3);
/// assert_eq!((prices, report.ran()), (vec![30, 32], 2));
/// # Ok::<(), fanfare::EventError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value<V>(
    /// The value that the emit gets.
    pub V,
);

/// A payload that async listeners can share.
///
/// Implemented for every `T: Clone`, and for `str`, `[U]` and `Path`. An emit makes one `Arc` when it
/// reaches its first async listener, however many there are; `emit_arc` makes none. A payload that cannot
/// be cloned travels in an `Arc`: `Key<Arc<Connection>>`.
#[diagnostic::on_unimplemented(
    message = "async listeners cannot share a payload of type `{Self}`",
    note = "derive `Clone` for it, or make the payload an `Arc`: `Key<Arc<..>>`"
)]
pub trait Payload: sealed::Payload + Send + Sync + 'static {}

impl<T: ?Sized + sealed::Payload + Send + Sync + 'static> Payload for T {}

/// The values of an emit that collects none.
pub(crate) struct Unasked;

impl Values for Unasked {
    fn accept(&mut self, _value: &mut dyn AnyValue) -> Result<ControlFlow<()>, FailureCause> {
        Ok(ControlFlow::Continue(()))
    }
}

/// The values of one emit, folded in the order of calls.
pub(crate) struct Folding<A, V, F> {
    /// Empty after the fold panicked.
    folded: Option<A>,
    fold: F,
    panic: Option<Box<dyn Any + Send>>,
    value: std::marker::PhantomData<fn(V)>,
}

impl<A, V, F: FnMut(A, V) -> ControlFlow<A, A>> Folding<A, V, F> {
    pub(crate) fn new(initial: A, fold: F) -> Self {
        Self { folded: Some(initial), fold, panic: None, value: std::marker::PhantomData }
    }

    /// Returns the folded values. A panic of the caller's `fold` resumes here, after the emit.
    pub(crate) fn finish(self) -> A {
        match (self.folded, self.panic) {
            (Some(folded), _) => folded,
            (None, Some(panic)) => std::panic::resume_unwind(panic),
            (None, None) => unreachable!("only a panic leaves nothing"),
        }
    }
}

impl<A, V: 'static, F: FnMut(A, V) -> ControlFlow<A, A>> Values for Folding<A, V, F> {
    fn accept(&mut self, value: &mut dyn AnyValue) -> Result<ControlFlow<()>, FailureCause> {
        let found = value.type_name();
        let Some(value) = (value as &mut dyn Any).downcast_mut::<Option<V>>().and_then(Option::take) else {
            return Err(FailureCause::ValueMismatch { expected: type_name::<V>(), found });
        };
        let Some(folded) = self.folded.take() else { return Ok(ControlFlow::Break(())) };
        // Caught here and resumed by `finish`: the emit sweeps and reports first.
        let next = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| (self.fold)(folded, value)));
        let (folded, flow) = match next {
            Ok(ControlFlow::Continue(folded)) => (folded, ControlFlow::Continue(())),
            Ok(ControlFlow::Break(folded)) => (folded, ControlFlow::Break(())),
            Err(panic) => {
                self.panic = Some(panic);
                return Ok(ControlFlow::Break(()));
            }
        };
        self.folded = Some(folded);
        Ok(flow)
    }
}

pub(crate) mod sealed {
    use super::{Any, Arc, BoxError, ControlFlow, FailureCause, Path, Value, guard, type_name};

    /// The receiver of listeners' values.
    pub trait Values {
        /// Takes the value out, or leaves it in place.
        fn accept(&mut self, value: &mut dyn AnyValue) -> Result<ControlFlow<()>, FailureCause>;
    }

    /// An `Option<V>` with `V` erased.
    pub trait AnyValue: Any {
        /// Returns the name of `V`.
        fn type_name(&self) -> &'static str;

        fn take_boxed(&mut self) -> Box<dyn AnyValue>;
    }

    impl<V: 'static> AnyValue for Option<V> {
        fn type_name(&self) -> &'static str {
            type_name::<V>()
        }

        fn take_boxed(&mut self) -> Box<dyn AnyValue> {
            Box::new(self.take())
        }
    }

    pub trait Outcome {
        /// Never unwinds: the conversion of an error is user code and runs inside the guard.
        fn settle(self, values: &mut dyn Values) -> Result<ControlFlow<()>, FailureCause>;
    }

    impl Outcome for () {
        #[inline]
        fn settle(self, _: &mut dyn Values) -> Result<ControlFlow<()>, FailureCause> {
            Ok(ControlFlow::Continue(()))
        }
    }

    impl<E: Into<BoxError>> Outcome for Result<(), E> {
        #[inline]
        fn settle(self, _: &mut dyn Values) -> Result<ControlFlow<()>, FailureCause> {
            self.map(ControlFlow::Continue).map_err(cause)
        }
    }

    impl Outcome for ControlFlow<()> {
        #[inline]
        fn settle(self, _: &mut dyn Values) -> Result<ControlFlow<()>, FailureCause> {
            Ok(self)
        }
    }

    impl<V: 'static> Outcome for Value<V> {
        fn settle(self, values: &mut dyn Values) -> Result<ControlFlow<()>, FailureCause> {
            let mut value = Some(self.0);
            let accepted = values.accept(&mut value);
            // A value that the emit did not take is dropped here, which is user code.
            guard(|| drop(value)).map_err(FailureCause::DropPanic).and(accepted)
        }
    }

    impl<V: 'static, E: Into<BoxError>> Outcome for Result<Value<V>, E> {
        fn settle(self, values: &mut dyn Values) -> Result<ControlFlow<()>, FailureCause> {
            self.map_err(cause).and_then(|value| value.settle(values))
        }
    }

    #[cold]
    fn cause<E: Into<BoxError>>(error: E) -> FailureCause {
        guard(|| error.into()).map_or_else(FailureCause::Panic, FailureCause::Error)
    }

    #[diagnostic::on_unimplemented(
        message = "async listeners cannot share a payload of type `{Self}`",
        note = "derive `Clone` for it, or make the payload an `Arc`: `Key<Arc<..>>`"
    )]
    pub trait Payload {
        fn to_arc(&self) -> Arc<Self>;
    }

    impl<T: Clone> Payload for T {
        fn to_arc(&self) -> Arc<Self> {
            Arc::new(self.clone())
        }
    }

    impl Payload for str {
        fn to_arc(&self) -> Arc<Self> {
            Arc::from(self)
        }
    }

    impl<U: Clone> Payload for [U] {
        fn to_arc(&self) -> Arc<Self> {
            Arc::from(self)
        }
    }

    impl Payload for Path {
        fn to_arc(&self) -> Arc<Self> {
            Arc::from(self)
        }
    }
}
