//! [`Mailbox`]: one message on its way from a connection's driver to the receiver of its channel.
//!
//! The driver reads on only when the message is taken: it reads one message ahead, and no more. Both sides
//! are often the same task; then neither wakes the other, since the driver checks again after the
//! handler has run.

use std::task::{Context, Poll, Waker};

use crate::channel::{Inbox, Message, RecvError};
use crate::sync::{Arc, Mutex, lock};

type Received = Result<Message, RecvError>;

#[derive(Default)]
pub(super) struct Mailbox(Mutex<Slot>);

#[derive(Default)]
struct Slot {
    message: Option<Message>,
    /// How the connection ended, unless by a clean close: the receiver gets it after `message`.
    error: Option<RecvError>,
    /// Nothing comes after these.
    ended: bool,
    /// The channel was dropped: no message will be taken.
    abandoned: bool,
    receiver: Option<Waker>,
    /// The driver, while it sleeps.
    driver: Option<Waker>,
}

/// The mailbox as the driver sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MailboxState {
    Free,
    /// A message waits to be received.
    Taken,
    /// The channel is gone: further messages are dropped.
    Abandoned,
}

impl Mailbox {
    pub(super) fn state(&self) -> MailboxState {
        lock(&self.0).state()
    }

    /// As `state`, for a driver about to sleep: a change wakes it.
    pub(super) fn poll_state(&self, cx: &Context<'_>) -> MailboxState {
        let mut slot = lock(&self.0);
        if !slot.driver.as_ref().is_some_and(|driver| driver.will_wake(cx.waker())) {
            slot.driver = Some(cx.waker().clone());
        }
        slot.state()
    }

    /// Puts a message in, for the channel to receive. There is room.
    pub(super) fn put(&self, message: Message, cx: &Context<'_>) {
        self.change(cx, |slot| {
            if !slot.abandoned {
                slot.message = Some(message);
            }
        });
    }

    /// Ends the mailbox, perhaps with an error, after the message in it. The first end counts.
    pub(super) fn end(&self, error: Option<RecvError>, cx: &Context<'_>) {
        self.change(cx, |slot| {
            if !slot.ended {
                slot.error = error;
            }
            slot.ended = true;
        });
    }

    fn change(&self, cx: &Context<'_>, change: impl FnOnce(&mut Slot)) {
        let receiver = {
            let mut slot = lock(&self.0);
            change(&mut slot);
            slot.receiver.take()
        };
        // The handler runs after the driver in the same task; within it, a part may have a waker of its own.
        if let Some(receiver) = receiver
            && !receiver.will_wake(cx.waker())
        {
            receiver.wake();
        }
    }
}

impl Slot {
    fn state(&self) -> MailboxState {
        match (&self.message, self.abandoned) {
            (_, true) => MailboxState::Abandoned,
            (Some(_), false) => MailboxState::Taken,
            (None, false) => MailboxState::Free,
        }
    }
}

/// The channel's side.
pub(super) struct Receiver(pub(super) Arc<Mailbox>);

impl Inbox for Receiver {
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Received>> {
        let (received, driver) = {
            let mut slot = lock(&self.0.0);
            match (slot.message.take(), slot.ended) {
                (Some(message), _) => {
                    // In its own task the driver checks again when the handler has run.
                    (Some(Ok(message)), slot.driver.take_if(|driver| !driver.will_wake(cx.waker())))
                }
                (None, true) => (slot.error.take().map(Err), None),
                (None, false) => {
                    if !slot.receiver.as_ref().is_some_and(|receiver| receiver.will_wake(cx.waker())) {
                        slot.receiver = Some(cx.waker().clone());
                    }
                    return Poll::Pending;
                }
            }
        };
        if let Some(driver) = driver {
            driver.wake();
        }
        Poll::Ready(received)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let driver = {
            let mut slot = lock(&self.0.0);
            slot.abandoned = true;
            slot.message = None;
            slot.driver.take()
        };
        if let Some(driver) = driver {
            driver.wake();
        }
    }
}
