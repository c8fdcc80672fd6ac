//! [`guard`]: runs user code and turns a panic into a value.
//!
//! In a model it lets panics through: otherwise a failing assertion inside a listener would end up in a
//! report, and the model would pass.

/// Runs user code; returns the message of a panic as an error.
#[inline]
pub(crate) fn guard<R>(run: impl FnOnce() -> R) -> Result<R, String> {
    #[cfg(loom)]
    return Ok(run());
    // Unwind safety: none of our state is half-changed while user code runs. The values that the closure
    // captured are dropped, or are the user's own.
    #[cfg(not(loom))]
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).map_err(panic_message)
}

/// Returns the message of a panic. If dropping its payload panics too, that second payload is leaked.
#[cold]
#[cfg(not(loom))]
fn panic_message(payload: Box<dyn std::any::Any + Send>) -> String {
    let message = if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic whose payload is not a string".to_owned()
    };
    if let Err(second) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(second);
    }
    message
}
