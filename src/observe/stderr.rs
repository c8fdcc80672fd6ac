//! The one writer of lines to stderr.

use std::io::{self, Write as _};

/// Writes a line to stderr, with the name of the library before it.
///
/// A closed stderr must not turn into a panic: the line is lost then. The text of a failure is also in the report of
/// its emit, if it has one.
pub(crate) fn write_line(text: &str) {
    let _ = io::stderr().write_all(format!("fanfare: {text}\n").as_bytes());
}
