//! [`Request`]: a client's request to the box, beside the application's own messages, and how the box serves it.
//!
//! There are two ways to serve the protocol: [`ChannelBox::recv`] receives and answers, [`ChannelBox::answer`] answers
//! a message that the handler has received. Requests come from the client. Whatever the JSON is, nothing here panics or
//! exceeds a stated bound: `serde_json` bounds the depth, and the connection's largest message the size.

use std::borrow::Cow;
use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::ChannelBox;
use super::offline::OfflineError;
use crate::Error;
use crate::channel::{Channel, RecvError, Sender};

/// A client's request to the server, beside the application's own messages.
///
/// An untagged enum combines it with the application's own type. Put it first if the other type accepts any message.
///
/// ```
/// use fanfare::group::Request;
/// use serde::Deserialize;
///
/// #[derive(Deserialize)]
/// struct Say { text: String }
///
/// #[derive(Deserialize)]
/// #[serde(untagged)]
/// enum FromClient { Asks(Request), Says(Say) }
///
/// let ack = serde_json::from_str(r#"{"type":"ack","notification_id":17}"#)?;
/// assert!(matches!(ack, FromClient::Asks(Request::Ack { notification_id: 17 })));
/// let say = serde_json::from_str(r#"{"type":"say","text":"hello"}"#)?;
/// assert!(matches!(say, FromClient::Says(Say { text }) if text == "hello"));
/// # Ok::<(), serde_json::Error>(())
/// ```
///
/// An untagged enum does not say what was wrong with a message. Two steps do: a message of another type belongs to the
/// application, and any other error is the client's.
///
/// ```
/// use fanfare::group::Request;
///
/// let wrong = r#"{"type":"ack","notification_id":"seventeen"}"#;
/// assert!(Request::is_one(wrong));
/// let error = serde_json::from_str::<Request>(wrong).expect_err("it is not a number");
/// assert!(error.to_string().contains("invalid type: string"));
/// assert!(!Request::is_one(r#"{"type":"say","text":"hello"}"#));
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
#[non_exhaustive]
pub enum Request {
    /// Acknowledges a notification: it will not be sent again.
    Ack {
        /// The id of the notification.
        notification_id: u64,
    },
    /// Asks for the users who are present in a group.
    Presence {
        /// The name of the group.
        group: String,
        /// The user after which the page begins.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<String>,
        /// The most users that the page may have.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<usize>,
    },
    /// Continues the connection with a new token of the same user.
    Refresh {
        /// The token.
        token: String,
    },
}

impl Request {
    /// Returns whether a message has the type of a request, even if it is otherwise malformed.
    #[must_use]
    pub fn is_one(message: &str) -> bool {
        Self::is_among(message, &["ack", "presence", "refresh"])
    }

    /// Returns whether a message is of one of these types.
    fn is_among(message: &str, kinds: &[&str]) -> bool {
        #[derive(Deserialize)]
        struct Tagged<'a> {
            #[serde(rename = "type", borrow)]
            kind: Cow<'a, str>,
        }
        serde_json::from_str::<Tagged<'_>>(message).is_ok_and(|tagged| kinds.contains(&&*tagged.kind))
    }
}

/// The answer to a request that failed.
#[derive(Serialize)]
#[serde(tag = "type", rename = "error")]
struct Failed<'a> {
    error: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    notification_id: Option<u64>,
}

impl ChannelBox {
    /// Receives the next message that is the application's own, from JSON; `None` when the connection is over.
    ///
    /// Requests to the box are [answered](Self::answer) on the way. A message that is not a `T` is answered, too:
    /// `{"type":"error","error":..}` says what is wrong with it, and the connection goes on. So a handler sees the
    /// messages of its application and nothing else. A handler that treats malformed messages in its own way, or has
    /// messages of type `ack` itself, takes [`Channel::recv_text`] and [`answer`](Self::answer).
    ///
    /// # Errors
    ///
    /// When no message will follow, since the client broke the protocol or the connection broke; or when the store of
    /// the offline queues fails. A clean close is not an error.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no message. An acknowledgement that was begun is completed; its answer may not be
    /// sent.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), fanfare::Error> {
    /// use fanfare::channel::{Channel, FarMessage};
    /// use fanfare::group::ChannelBox;
    /// use serde::Deserialize;
    ///
    /// #[derive(Deserialize)]
    /// #[serde(tag = "type", rename_all = "lowercase")]
    /// enum FromClient { Say { text: String } }
    ///
    /// let channels = ChannelBox::new();
    /// let (mut channel, mut far_end) = Channel::in_memory();
    /// far_end.send_text(r#"{"type":"shout"}"#);
    /// far_end.send_text(r#"{"type":"say","text":"hello"}"#);
    /// let Some(FromClient::Say { text }) = channels.recv(&mut channel).await.transpose()? else { panic!("it said so") };
    /// assert_eq!(text, "hello");
    /// let Some(FarMessage::Text(answer)) = far_end.recv().await else { panic!("it was answered") };
    /// assert!(answer.contains("unknown variant `shout`"), "{answer}");
    /// # Ok(()) }
    /// ```
    pub async fn recv<T: DeserializeOwned>(&self, channel: &mut Channel) -> Option<Result<T, Error>> {
        let sender = channel.sender();
        loop {
            let text = match channel.recv_text().await? {
                Ok(text) => text,
                Err(error) if error.is_fatal() => return Some(Err(error.into())),
                Err(error) => {
                    fail(&sender, &error.to_string(), None);
                    continue;
                }
            };
            match self.answer(&sender, &text).await {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => return Some(Err(error.into())),
            }
            match serde_json::from_str(&text) {
                Ok(message) => return Some(Ok(message)),
                Err(error) => fail(&sender, &RecvError::Json(error).to_string(), None),
            }
        }
    }

    /// Does what a client's message asks of the box, and answers it; returns false when the message is not a request.
    ///
    /// A [`Request`] acknowledges a notification, asks for the presence of a group, or brings a new token for a channel
    /// that is [signed in](crate::ws::Upgrade::signed_in); on other channels a message of type `refresh` belongs to the
    /// application. A client that asks wrongly, or for something that is not there, gets
    /// `{"type":"error","error":..}`; that is not an error here. [`recv`](Self::recv) does this with every message, and
    /// returns the others.
    ///
    /// # Errors
    ///
    /// When the store of the offline queues fails; the client gets an error message, too.
    ///
    /// # Cancel safety
    ///
    /// An acknowledgement that was begun is completed; its answer may not be sent.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use fanfare::channel::{Channel, ChannelOptions, FarMessage, UserId};
    /// use fanfare::group::ChannelBox;
    ///
    /// let channels = ChannelBox::new();
    /// let options = ChannelOptions::default().user(UserId::new("ada")?);
    /// let (channel, mut far_end) = Channel::in_memory_with(options);
    /// let sender = channel.sender();
    /// assert!(!channels.answer(&sender, r#"{"say":"something else"}"#).await?);
    ///
    /// assert!(channels.answer(&sender, r#"{"type":"ack","notification_id":17}"#).await?);
    /// let answer = r#"{"type":"error","error":"no such notification waits","notification_id":17}"#;
    /// assert_eq!(far_end.recv().await, Some(FarMessage::Text(answer.into())));
    /// # Ok(()) }
    /// ```
    pub async fn answer(&self, channel: &Sender, message: &str) -> Result<bool, OfflineError> {
        let kinds = ["ack", "presence", "refresh"];
        let answered = if channel.is_refreshed() { &kinds[..] } else { &kinds[..2] };
        // Most messages are not requests: they are not parsed twice.
        let may_be = ["\"ack\"", "\"presence\"", "\"refresh\""].iter().any(|kind| message.contains(kind));
        if !may_be || !Request::is_among(message, answered) {
            return Ok(false);
        }
        match serde_json::from_str::<Request>(message) {
            Ok(Request::Ack { notification_id }) => self.answer_ack(channel, notification_id).await?,
            Ok(Request::Presence { group, after, limit }) => {
                if !self.rooms.answer(channel.id(), &group, after.as_deref(), limit) {
                    fail(channel, "the channel is not in that group", None);
                }
            }
            Ok(Request::Refresh { token }) => _ = channel.answer_refresh(&token),
            Err(error) => fail(channel, &error.to_string(), None),
        }
        Ok(true)
    }

    async fn answer_ack(&self, channel: &Sender, id: u64) -> Result<(), OfflineError> {
        let Some(user) = channel.user() else {
            fail(channel, "a channel without a user has no notifications", Some(id));
            return Ok(());
        };
        match self.user(user).ack(id).await {
            Ok(acked) if acked.known => Ok(()),
            Ok(_) => {
                fail(channel, "no such notification waits", Some(id));
                Ok(())
            }
            Err(error) => {
                fail(channel, "the acknowledgement was not stored", Some(id));
                Err(error)
            }
        }
    }
}

/// Sends a client the reason for a failed request. A client that is gone does not get it, and its receiver sees that.
fn fail(channel: &Sender, error: &str, notification_id: Option<u64>) {
    _ = channel.send(&Failed { error, notification_id });
}

/// A token is a secret: it is not shown.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ack { notification_id } => f.debug_struct("Ack").field("notification_id", notification_id).finish(),
            Self::Presence { group, after, limit } => {
                let mut shown = f.debug_struct("Presence");
                shown.field("group", group).field("after", after).field("limit", limit).finish()
            }
            Self::Refresh { token: _ } => f.debug_struct("Refresh").finish_non_exhaustive(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(untagged)]
    enum FromClient {
        Asks(Request),
        Says { text: String },
    }

    fn asks(json: &str) -> Option<Request> {
        match serde_json::from_str(json) {
            Ok(FromClient::Asks(request)) => Some(request),
            Ok(FromClient::Says { text }) => panic!("{text}"),
            Err(_) => None,
        }
    }

    #[test]
    fn requests_are_what_the_protocol_says() {
        assert_eq!(asks(r#"{"type":"ack","notification_id":17}"#), Some(Request::Ack { notification_id: 17 }));
        let presence = |after, limit| Some(Request::Presence { group: "room".into(), after, limit });
        assert_eq!(asks(r#"{"type":"presence","group":"room"}"#), presence(None, None));
        let page = r#"{"limit":100,"after":"ada","group":"room","type":"presence"}"#;
        assert_eq!(asks(page), presence(Some("ada".into()), Some(100)));
        assert_eq!(asks(r#"{"type":"refresh","token":"t"}"#), Some(Request::Refresh { token: "t".into() }));
        let says = serde_json::from_str(r#"{"type":"say","text":"hello"}"#).expect("it is the application's");
        assert!(matches!(says, FromClient::Says { text } if text == "hello"));
    }

    #[test]
    fn a_malformed_request_is_refused_and_never_panics() {
        let deep = format!(r#"{{"type":"ack","notification_id":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        let wrong = [
            "",
            "null",
            "[]",
            r#""ack""#,
            "{}",
            r#"{"type":null}"#,
            r#"{"type":["ack"],"notification_id":1}"#,
            r#"{"type":"ack"}"#,
            r#"{"type":"ack","notification_id":null}"#,
            r#"{"type":"ack","notification_id":"1"}"#,
            r#"{"type":"ack","notification_id":-1}"#,
            r#"{"type":"ack","notification_id":1.5}"#,
            r#"{"type":"ack","notification_id":1e3}"#,
            r#"{"type":"ack","notification_id":18446744073709551616}"#,
            r#"{"type":"ack","notification_id":1e999}"#,
            r#"{"type":"ack","notification_id":{"$serde_json::private::Number":"1"}}"#,
            r#"{"type":"ack","notification_id":{"$serde_json::private::RawValue":"1"}}"#,
            r#"{"type":"ack","notification_id":1,"notification_id":2}"#,
            r#"{"type":"ack","type":"refresh","notification_id":1}"#,
            r#"{"type":"Ack","notification_id":1}"#,
            r#"{"type":"presence","group":7}"#,
            r#"{"type":"presence","group":"room","limit":-1}"#,
            r#"{"type":"presence","group":"room","after":{}}"#,
            r#"{"type":"refresh","token":true}"#,
            r#"{"type":"refresh","token":"\ud800"}"#,
            r#"{"type":"refresh","token":"t"}}"#,
            &deep,
        ];
        for json in wrong {
            assert_eq!(asks(json), None, "{json:.80}");
            assert!(serde_json::from_str::<Request>(json).is_err(), "{json:.80}");
            let _ = Request::is_one(json); // must not panic
        }
    }

    #[test]
    fn a_token_is_not_shown() {
        let request = Request::Refresh { token: "secret".into() };
        assert_eq!(format!("{request:?}"), "Refresh { .. }");
    }
}
