//! A new token for an open connection: the extension, and the message that requests it.

use std::time::SystemTime;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::claims::ends_at;
use super::error::RefreshError;
use super::verifier::JwtVerifier;
use crate::channel::{Refresh, SendError, Sender, UserId};
use crate::clock::unix_millis;
use crate::frame::{EncodeError, Frame};

/// The most bytes of a message besides its token.
const ENVELOPE: usize = 1 << 10;

impl JwtVerifier {
    /// Extends a channel's life to the expiry of `token`, a new token of the same user; returns the new end.
    ///
    /// The new end replaces the one before. When the token is refused, nothing changes: the connection ends with its
    /// current token.
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

    /// As [`refresh`](Self::refresh), and sends the result to the client: `{"type":"refreshed","expires":<milliseconds
    /// since 1970>}`, or for example `{"type":"error","error":"token has expired"}`. The connection stays open in
    /// either case.
    ///
    /// For handlers and consumers that receive messages as a type of their own, with one for this among them.
    ///
    /// # Errors
    ///
    /// As [`Sender::send`].
    pub fn answer_refresh(&self, channel: &Sender, token: &str) -> Result<(), SendError> {
        channel.send(&answer(self.refresh(channel, token)))
    }

    /// Answers a message of the client if it is `{"type":"refresh","token":"..."}`, and returns whether it is.
    ///
    /// A message more than 1 KiB larger than the largest accepted token is not parsed: it belongs to the handler.
    ///
    /// Checking a token's signature takes up to a millisecond, on the connection's own task. A
    /// [rate limit](crate::ws::Upgrade::rate_limit) bounds how many checks a client can cause.
    ///
    /// # Errors
    ///
    /// As [`answer_refresh`](Self::answer_refresh).
    ///
    /// # Examples
    ///
    /// ```
    /// use axum::{Extension, response::Response};
    /// use fanfare::ws::{Jwt, JwtVerifier, Upgrade};
    ///
    /// async fn echo(token: Jwt, Extension(verifier): Extension<JwtVerifier>, upgrade: Upgrade) -> Response {
    ///     upgrade.signed_in(&token).run(async move |mut channel| {
    ///         let sender = channel.sender();
    ///         while let Some(text) = channel.recv_text().await {
    ///             let text = text?;
    ///             if !verifier.take_refresh(&sender, &text)? {
    ///                 sender.send_text(&text)?;
    ///             }
    ///         }
    ///         Ok(())
    ///     })
    /// }
    /// # let _: axum::Router = axum::Router::new().route("/", axum::routing::get(echo));
    /// ```
    pub fn take_refresh(&self, channel: &Sender, message: &str) -> Result<bool, SendError> {
        let longest = self.longest().saturating_add(ENVELOPE);
        let Some(token) = (message.len() <= longest).then(|| refresh_token(message)).flatten() else {
            return Ok(false);
        };
        self.answer_refresh(channel, &token).map(|()| true)
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

/// Returns the token of a refresh message; the empty token if the message has none.
fn refresh_token(message: &str) -> Option<String> {
    // Most messages are something else, and are not parsed twice.
    if !message.contains("refresh") {
        return None;
    }
    let Value::Object(mut message) = serde_json::from_str(message).ok()? else { return None };
    if message.get("type")? != "refresh" {
        return None;
    }
    match message.remove("token") {
        Some(Value::String(token)) => Some(token),
        _ => Some(String::new()),
    }
}
