//! A new token for an open connection.

use std::time::SystemTime;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::claims::ends_at;
use super::error::RefreshError;
use super::verifier::JwtVerifier;
use crate::channel::{Refresh, Sender, UserId};
use crate::clock::unix_millis;
use crate::frame::{EncodeError, Frame};

impl JwtVerifier {
    /// Extends a channel's life to the expiry of `token`, a new token of the same user; returns the new end.
    ///
    /// The new end replaces the one before. When the token is refused, nothing changes: the connection ends with its
    /// current token.
    ///
    /// This is for a protocol of your own. A client that sends `{"type":"refresh","token":".."}` is answered by
    /// [`ChannelBox::recv`](crate::group::ChannelBox::recv) and [`answer`](crate::group::ChannelBox::answer).
    ///
    /// Checking a token's signature takes up to a millisecond, on the caller's thread. A
    /// [rate limit](crate::ws::Upgrade::rate_limit) bounds how many checks a client can cause.
    ///
    /// # Errors
    ///
    /// When the token is not accepted, is of another user than the channel, or the channel is closed already.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use fanfare::channel::{Channel, ChannelOptions, UserId};
    /// use fanfare::ws::JwtVerifier;
    /// use fanfare::ws::jwt::{JwtSigner, RefreshError};
    ///
    /// let verifier = JwtVerifier::hs256(&[7; 32], "chat")?;
    /// let signer = JwtSigner::hs256(&[7; 32], "chat")?;
    /// let (ada, bob) = (UserId::new("ada")?, UserId::new("bob")?);
    /// let (channel, _far_end) = Channel::in_memory_with(ChannelOptions::default().user(ada.clone()));
    ///
    /// let hour = Duration::from_secs(3600);
    /// assert!(verifier.refresh(&channel.sender(), &signer.sign(&ada, hour)?).is_ok());
    /// let refused = verifier.refresh(&channel.sender(), &signer.sign(&bob, hour)?);
    /// assert_eq!(refused, Err(RefreshError::OtherUser));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn refresh(&self, channel: &Sender, token: &str) -> Result<SystemTime, RefreshError> {
        self.extend(channel.user(), token, &|at| channel.sign_until(at))
    }

    /// Checks a new token of `user`, and calls `extend` with its end, which is false when the channel is closed.
    fn extend(
        &self,
        user: Option<&UserId>,
        token: &str,
        extend: &dyn Fn(Option<Instant>) -> bool,
    ) -> Result<SystemTime, RefreshError> {
        let verified = self.verify_at(token.as_bytes(), SystemTime::now())?;
        if user != Some(&verified.user) {
            return Err(RefreshError::OtherUser);
        }
        if !extend(ends_at(verified.expires)) {
            return Err(RefreshError::Closed);
        }
        Ok(verified.expires)
    }
}

impl Refresh for JwtVerifier {
    fn answer(
        &self,
        user: Option<&UserId>,
        token: &str,
        extend: &dyn Fn(Option<Instant>) -> bool,
    ) -> Result<Frame, EncodeError> {
        Frame::json(&answer(self.extend(user, token, extend)))
    }
}

/// Returns the message with the result of a refresh.
fn answer(refreshed: Result<SystemTime, RefreshError>) -> Value {
    match refreshed {
        Ok(expires) => json!({ "type": "refreshed", "expires": unix_millis(expires) }),
        Err(error) => json!({ "type": "error", "error": error.to_string() }),
    }
}
