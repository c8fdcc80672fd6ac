//! [`Message`]: what a client sends.

use bytes::Bytes;

/// A message of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Text, checked to be UTF-8.
    Text(String),
    /// Bytes.
    Binary(Bytes),
}

impl Message {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }
}
