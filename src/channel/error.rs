//! The errors of a channel: [`SendError`] and [`RecvError`].

use std::fmt;

use crate::frame::EncodeError;
use crate::frame::close_code::CloseCode;

/// Why a message to a client was refused.
#[derive(Debug)]
#[non_exhaustive]
pub enum SendError {
    /// The channel is closed, or closing.
    Closed,
    /// The outbox is full: the client reads too slowly. The channel is being closed with code 1013.
    Overflow,
    /// The outbox is full and the message was dropped, by the channel's [`Overflow`](super::Overflow) rule. The channel
    /// stays open.
    Full,
    /// The payload cannot be serialised.
    Encode(EncodeError),
}

impl From<EncodeError> for SendError {
    fn from(error: EncodeError) -> Self {
        Self::Encode(error)
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "channel is closed",
            Self::Overflow => "outbox is full: the client reads too slowly, its channel is being closed",
            Self::Full => "outbox is full: the client reads too slowly, the message was dropped",
            Self::Encode(_) => "payload is not serialisable as JSON",
        })
    }
}

impl std::error::Error for SendError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Encode(error) => error.source(),
            Self::Closed | Self::Overflow | Self::Full => None,
        }
    }
}

/// Why a message of a client could not be received.
#[derive(Debug)]
#[non_exhaustive]
pub enum RecvError {
    /// The text is not JSON of the type asked for. The channel stays open.
    Json(serde_json::Error),
    /// The message is binary where text was asked for. The channel stays open.
    Binary,
    /// The message is text where bytes were asked for. The channel stays open.
    Text,
    /// The client broke the protocol; the connection is being closed with this code.
    Protocol {
        /// The close code of RFC 6455, section 7.4.1.
        code: CloseCode,
        /// What the client did.
        reason: String,
    },
    /// The connection broke without a close handshake.
    Lost(std::io::Error),
}

impl RecvError {
    /// Returns the close code (RFC 6455, section 7.4.1) and the reason for a handler that ends with this error.
    #[cfg(feature = "ws")]
    pub(crate) fn close(&self) -> (CloseCode, &'static str) {
        match self {
            Self::Json(_) => (CloseCode::INVALID, "message is not the JSON asked for"),
            Self::Binary => (CloseCode::UNSUPPORTED, "message is binary, text was asked for"),
            Self::Text => (CloseCode::UNSUPPORTED, "message is text, bytes were asked for"),
            // The connection is closed already, or gone.
            Self::Protocol { code, .. } => (*code, "client broke the protocol"),
            Self::Lost(_) => (CloseCode::INTERNAL_ERROR, "connection was lost"),
        }
    }

    /// Returns the error's name in a label of a metric.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Json(_) => "json",
            Self::Binary => "binary",
            Self::Text => "text",
            Self::Protocol { .. } => "protocol",
            Self::Lost(_) => "lost",
        }
    }

    /// Returns whether no message will follow.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// use fanfare::channel::Channel;
    ///
    /// let (mut channel, far_end) = Channel::in_memory();
    /// far_end.send_text("not a number");
    /// let error = channel.recv::<u32>().await.expect("a message came").expect_err("it is not a number");
    /// assert!(!error.is_fatal());
    ///
    /// drop(far_end);
    /// let error = channel.recv::<u32>().await.expect("the end is an error").expect_err("the far end is gone");
    /// assert!(error.is_fatal());
    /// assert!(channel.recv::<u32>().await.is_none());
    /// # }
    /// ```
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::Protocol { .. } | Self::Lost(_))
    }
}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(error) => write!(f, "message is not the JSON asked for: {error}"),
            Self::Binary => f.write_str("message is binary, text was asked for"),
            Self::Text => f.write_str("message is text, bytes were asked for"),
            Self::Protocol { code, reason } => write!(f, "client broke the protocol ({code}): {reason}"),
            Self::Lost(_) => f.write_str("connection was lost"),
        }
    }
}

impl std::error::Error for RecvError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Lost(error) => Some(error),
            _ => None,
        }
    }
}
