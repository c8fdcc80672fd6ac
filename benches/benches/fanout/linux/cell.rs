//! One cell of a table: how many clients get what, when, from a server that is told what. A plain value.

use std::fmt;

use super::load::Pace;
use super::terms::{Deflate, Rule, Terms};
use super::wire::Payload;

#[derive(Clone, Copy)]
pub(super) struct Cell {
    pub(super) connections: usize,
    pub(super) bytes: usize,
    pub(super) content: Content,
    pub(super) pace: Pace,
    /// One more client does not read.
    pub(super) stalled: bool,
    pub(super) terms: Terms,
}

/// What a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// The same few words again and again: no bench of compression.
    Prose,
    /// A list, which compresses as such lists do.
    Orders,
}

impl Cell {
    pub(super) fn new(connections: usize, bytes: usize, pace: Pace) -> Self {
        Self { connections, bytes, content: Content::Prose, pace, stalled: false, terms: Terms::default() }
    }

    pub(super) fn payload(&self) -> Payload {
        match self.content {
            Content::Prose => Payload::new(self.bytes),
            Content::Orders => Payload::orders(self.bytes),
        }
    }

    /// Tells whether the clients ask for compressed messages, and take no others.
    pub(super) fn is_compressed(&self) -> bool {
        self.terms.deflate != Deflate::Off
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{} {}", self.connections, self.bytes, self.pace)?;
        if self.is_compressed() {
            write!(f, ", compressed: {:?}", self.terms.deflate)?;
        }
        if self.stalled {
            write!(f, ", beside a stalled client")?;
        }
        if self.terms.rule != Rule::Close {
            write!(f, ", {:?}", self.terms.rule)?;
        }
        Ok(())
    }
}
