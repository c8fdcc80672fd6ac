//! How listeners are registered, and what their closures and futures do.

use std::future::{Future, poll_fn};
use std::ops::ControlFlow;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use fanfare::dispatch::{Outcome, Registration, Value};

use super::{Handle, World};
use crate::notes::{Note, Payload};
use crate::ops::{Answer, Deed, Filter, NAMES, Plan};

impl World {
    /// Registers a listener; `None` when there are enough for this input.
    pub(crate) fn on(self: &Arc<Self>, name: usize, plan: Plan) -> Option<bool> {
        self.has_room().then(|| match plan.answer {
            Answer::Nothing => self.register(name, plan, |_| ()),
            Answer::Panic | Answer::PanicAtOnce => self.register::<()>(name, plan, |_| panic!("on purpose")),
            Answer::Stop => self.register(name, plan, |_| ControlFlow::Break(())),
            Answer::Error => self.register(name, plan, |_| Err::<(), _>("on purpose")),
            Answer::Value => self.register(name, plan, Value),
            Answer::OddValue => self.register(name, plan, |_| Value("odd")),
            Answer::ErrorForValue => self.register(name, plan, |_| Err::<Value<usize>, _>("on purpose")),
        })
    }

    fn register<R>(self: &Arc<Self>, name: usize, plan: Plan, answer: fn(usize) -> R) -> bool
    where
        R: Outcome + Send + 'static,
    {
        let id = self.held().handles.len();
        let registration = self.registration(name, id, plan);
        let me = Arc::downgrade(self);
        let closure = Arc::new(());
        let is_alive = Arc::downgrade(&closure);
        let handle = match plan.delay {
            None => {
                let listener = move |payload: &Payload| {
                    let _captured = &closure;
                    with(&me, |world| {
                        world.note(Note::Called { id, payload: payload.0 });
                        world.deed(id, plan.deed);
                    });
                    answer(id)
                };
                match (plan.waitable, plan.infallible) {
                    (true, true) => Some(Handle::Waitable(registration.waitable().on(listener))),
                    (true, false) => registration.waitable().try_on(listener).ok().map(Handle::Waitable),
                    (false, true) => Some(Handle::Plain(registration.on(listener))),
                    (false, false) => registration.try_on(listener).ok().map(Handle::Plain),
                }
            }
            Some(delay) => {
                let listener = move |payload: Arc<Payload>| {
                    let _captured = &closure;
                    call_async(me.clone(), id, plan, delay, payload.0, answer)
                };
                match (plan.waitable, plan.infallible) {
                    (true, true) => Some(Handle::Waitable(registration.waitable().on_async(listener))),
                    (true, false) => registration.waitable().try_on_async(listener).ok().map(Handle::Waitable),
                    (false, true) => Some(Handle::Plain(registration.on_async(listener))),
                    (false, false) => registration.try_on_async(listener).ok().map(Handle::Plain),
                }
            }
        };
        let is_on = handle.as_ref().is_some_and(|handle| handle.is_active());
        self.keep(handle, is_alive);
        is_on
    }

    fn registration(self: &Arc<Self>, name: usize, id: usize, plan: Plan) -> Registration<Payload> {
        let mut registration = self.events.listen(NAMES[name]).expect("the name is good").priority(plan.priority);
        if plan.prepend {
            registration = registration.prepend();
        }
        registration = match plan.times {
            None => registration,
            Some(1) => registration.once(),
            Some(times) => registration.times(times),
        };
        if plan.filter == Filter::All {
            return registration;
        }
        let me = Arc::downgrade(self);
        registration.filter(move |payload| {
            with(&me, |world| world.note(Note::FilterAsked { id, payload: payload.0 }));
            match plan.filter {
                Filter::All => {}
                Filter::Even => return payload.0.is_multiple_of(2),
                Filter::Panic => panic!("on purpose"),
                Filter::OffItself => with(&me, |world| world.deed(id, Deed::OffItself)),
                Filter::WaitsForItself => with(&me, |world| world.deed(id, Deed::WaitForItself)),
            }
            true
        })
    }
}

/// Listeners outlive their world for a moment at its end.
fn with(me: &Weak<World>, act: impl FnOnce(&Arc<World>)) {
    if let Some(world) = me.upgrade() {
        act(&world);
    }
}

fn call_async<R: Outcome + Send + 'static>(
    me: Weak<World>,
    id: usize,
    plan: Plan,
    delay: u32,
    payload: u8,
    answer: fn(usize) -> R,
) -> impl Future<Output = R> + Send + 'static {
    let mut ready_at = 0;
    with(&me, |world| {
        world.note(Note::FutureMade { id, payload });
        ready_at = world.held().tick + delay;
    });
    if plan.answer == Answer::PanicAtOnce {
        panic!("on purpose");
    }
    let mut unfinished = Unfinished { me, id, is_finished: false };
    async move {
        poll_fn(|cx| unfinished.poll_tick(ready_at, cx)).await;
        unfinished.is_finished = true;
        with(&unfinished.me, |world| {
            world.note(Note::FutureFinished { id });
            world.deed(id, plan.deed);
        });
        answer(id)
    }
}

/// Notes that a future was dropped before its end.
struct Unfinished {
    me: Weak<World>,
    id: usize,
    is_finished: bool,
}

impl Unfinished {
    fn poll_tick(&self, ready_at: u32, cx: &mut Context<'_>) -> Poll<()> {
        let Some(world) = self.me.upgrade() else { return Poll::Ready(()) };
        let mut held = world.held();
        if held.tick >= ready_at {
            return Poll::Ready(());
        }
        held.wakers.push(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.is_finished {
            with(&self.me, |world| world.held().dropped_futures.push(self.id));
        }
    }
}
