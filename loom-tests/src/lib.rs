//! Models of fanfare's races, one in each file of `tests`, explored by loom under `--cfg loom`.
//!
//! What they prove is fanfare's own protocol over a snapshot cell and a name map that are
//! linearisable: loom sees into neither `arc-swap` nor `scc`, so both have stand-ins there.
//! `run.sh` also plants faults (`faults/*.patch`) and requires the models to fail on them.
//!
//! The models of channels and groups stand on `Channel::in_memory`: its far end plays the client, and its reads stand
//! for the task that flushes the outbox of a real connection. This file has what the models share.

#![cfg(loom)]

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use fanfare::channel::{FarEnd, FarMessage};
use fanfare::frame::Frame;
use loom::sync::Notify;

/// More bytes than the pipe of an in-memory channel takes at once.
pub const LARGE: usize = (64 << 10) + 100;
/// The length of a payload whose frame fills that pipe to the last byte.
pub const EXACT: usize = (64 << 10) - 4;
/// The number that stands for a close among those of received frames.
pub const CLOSE: u8 = 0;

/// Makes a frame in which each byte is the frame's number.
#[must_use]
pub fn frame(number: u8, len: usize) -> Frame {
    Frame::binary(vec![number; len])
}

/// Returns the number of a received frame.
///
/// # Panics
///
/// When the message is not one whole frame of [`frame`].
#[must_use]
pub fn number(message: &FarMessage) -> u8 {
    match message {
        FarMessage::Close { .. } => CLOSE,
        FarMessage::Binary(bytes) if !bytes.is_empty() && bytes.iter().all(|byte| *byte == bytes[0]) => bytes[0],
        _ => panic!("a frame is torn"),
    }
}

/// Returns the numbers of all frames that have arrived. Reads until the pipe is empty and no sender asks for room.
pub fn received(far_end: &mut FarEnd) -> Vec<u8> {
    std::iter::from_fn(|| far_end.try_recv()).map(|message| number(&message)).collect()
}

/// Runs a future on this thread. Sleeps while it is pending: without a wake-up, loom finds a deadlock.
pub fn wait<F: Future>(future: F) -> F::Output {
    struct Awake(Notify);
    impl Wake for Awake {
        fn wake(self: Arc<Self>) {
            self.0.notify();
        }
    }
    let awake = Arc::new(Awake(Notify::new()));
    let waker = Waker::from(Arc::clone(&awake));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => awake.0.wait(),
        }
    }
}

/// Returns the output of a future that is ready at once; `None` when it is pending.
pub fn now<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}
