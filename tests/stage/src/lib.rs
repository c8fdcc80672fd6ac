//! What tests of whole programs share: a [`Program`] that is started, interrupted, killed and started again, and
//! browsers to look at it with.

mod browser;
mod http;
mod program;

use std::time::Duration;

pub use browser::{Driver, Tab};
pub use http::{Answer, ask};
pub use program::{Program, run_to_end};

/// Nothing here takes longer, or it hangs.
pub const DEADLINE: Duration = Duration::from_secs(20);
