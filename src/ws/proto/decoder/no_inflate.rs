//! Stands in for `inflate` where the feature `deflate` is off: nothing is compressed, and its type has no values.

use super::error::ProtocolError;

#[derive(Debug)]
pub(super) enum Inflater {}

impl Inflater {
    pub(super) const SIZE: usize = 0;

    pub(super) fn declare(&mut self, _: u64) -> Result<(), ProtocolError> {
        match *self {}
    }

    pub(super) fn step(&mut self, _: &mut &[u8], _: &mut [u8]) -> (usize, Result<bool, ProtocolError>) {
        match *self {}
    }

    pub(super) fn ends_here(&mut self) -> bool {
        match *self {}
    }
}
