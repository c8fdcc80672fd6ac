//! [`guard`]: runs user code and turns a panic into a value.
//!
//! In a model it lets panics through: otherwise a failing assertion inside a listener would become a
//! report, and the model would pass.

/// Runs user code; a panic comes back as its message.
#[inline]
pub(crate) fn guard<R>(run: impl FnOnce() -> R) -> Result<R, String> {
    #[cfg(loom)]
    return Ok(run());
    // Unwind safety: nothing of ours is half-changed while user code runs, and what the closure
    // captured is either dropped or the user's own to judge.
    #[cfg(not(loom))]
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).map_err(panic_message)
}

/// Returns what a panic said; a payload whose own destructor panics is leaked.
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
