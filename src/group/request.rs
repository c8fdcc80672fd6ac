//! What a client may ask for, as values: [`Request`] in its messages, [`Recover`] when it connects.
//!
//! Both come from whoever connects. Nothing here panics or grows past a stated bound, whatever the JSON is: its depth
//! is bounded by `serde_json`, its size by the largest message of the connection, or by [`MAX_RECOVER_LEN`].

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::de::{self, DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::history::Position;
use super::offline::OfflineError;
use super::{ChannelBox, MAX_NAME_LEN};
use crate::Error;
use crate::channel::{Channel, RecvError, Sender};

/// The most groups that a client may ask to recover at once.
pub const MAX_RECOVER_GROUPS: usize = 64;
/// The longest JSON of a [`Recover`], in bytes.
pub const MAX_RECOVER_LEN: usize = 16 << 10;

/// What a client may ask of the server besides the application's own messages.
///
/// It stands beside an application's own type in an untagged enum. Put it first, when the other type takes anything.
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
/// An untagged enum does not say what was wrong with a message. Two steps do: a message whose type is none of these
/// is the application's, and any other error is told as it is.
///
/// ```
/// use fanfare::group::Request;
///
/// let wrong = r#"{"type":"ack","notification_id":"seventeen"}"#;
/// assert!(Request::is_one(wrong));
/// let error = serde_json::from_str::<Request>(wrong).expect_err("it is no number");
/// assert!(error.to_string().contains("invalid type: string"));
/// assert!(!Request::is_one(r#"{"type":"say","text":"hello"}"#));
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
#[non_exhaustive]
pub enum Request {
    /// A notification has arrived, and is not to come again.
    Ack {
        /// Which one.
        notification_id: u64,
    },
    /// Who is in a group?
    Presence {
        /// Which group.
        group: String,
        /// Users behind this one, in the order of their ids.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<String>,
        /// At most so many.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<usize>,
    },
    /// The connection goes on with a new token of the same user.
    Refresh {
        /// The token.
        token: String,
    },
}

impl Request {
    /// Returns whether a message is of a type that is asked of the server, even if it is otherwise wrong.
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

/// What a client is told when what it asked for failed.
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
    /// What a client asks of the box is done and answered on the way, as by [`take_request`](Self::take_request). A
    /// message that is no `T` is answered, too: `{"type":"error","error":..}` says what is wrong with it, and the
    /// connection goes on. So all that is left to a handler is what its application is about. One that does something
    /// else about such messages, or calls its own an `ack`, takes [`Channel::recv_text`] and `take_request`.
    ///
    /// # Errors
    ///
    /// When nothing more will be received, since the client broke the protocol or the connection broke; or the store
    /// of the offline queues has an error. A clean close is none.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no message. An acknowledgement that was begun is done; the client may not be told.
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
    /// let Some(FromClient::Say { text }) = channels.recv(&mut channel).await.transpose()? else { panic!("it says so") };
    /// assert_eq!(text, "hello");
    /// let Some(FarMessage::Text(told)) = far_end.recv().await else { panic!("it was told") };
    /// assert!(told.contains("unknown variant `shout`"), "{told}");
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
            match self.take_request(&sender, &text).await {
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

    /// Does what a client's message asks of the box, if it does; false when the message is something else.
    ///
    /// That is an acknowledgement, who is present in a group that the channel is in, or a new token for a channel that
    /// is [signed in](crate::ws::Upgrade::signed_in); on other channels a [`Request::Refresh`] is the application's. The
    /// client is told when it asked wrongly, or for what is not there: `{"type":"error","error":..}`. That is no error
    /// here. [`recv`](Self::recv) does this with every message, and returns the others.
    ///
    /// # Errors
    ///
    /// When the store of the offline queues has an error; the client is told that, too.
    ///
    /// # Cancel safety
    ///
    /// An acknowledgement that was begun is done; the client may not be told.
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
    /// assert!(!channels.take_request(&sender, r#"{"say":"something else"}"#).await?);
    ///
    /// assert!(channels.take_request(&sender, r#"{"type":"ack","notification_id":17}"#).await?);
    /// let told = r#"{"type":"error","error":"no such notification waits","notification_id":17}"#;
    /// assert_eq!(far_end.recv().await, Some(FarMessage::Text(told.into())));
    /// # Ok(()) }
    /// ```
    pub async fn take_request(&self, channel: &Sender, message: &str) -> Result<bool, OfflineError> {
        let kinds = ["ack", "presence", "refresh"];
        let answered = if channel.is_refreshed() { &kinds[..] } else { &kinds[..2] };
        // Most messages are none: they are not parsed twice.
        let may_be = ["\"ack\"", "\"presence\"", "\"refresh\""].iter().any(|kind| message.contains(kind));
        if !may_be || !Request::is_among(message, answered) {
            return Ok(false);
        }
        match serde_json::from_str::<Request>(message) {
            Ok(request) => self.answer(channel, &request).await,
            Err(error) => {
                fail(channel, &error.to_string(), None);
                Ok(true)
            }
        }
    }

    /// As [`take_request`](Self::take_request), for handlers that receive messages as a type with requests among them;
    /// false for a [`Request::Refresh`] on a channel that is not signed in.
    ///
    /// # Errors
    ///
    /// As [`take_request`](Self::take_request).
    ///
    /// # Cancel safety
    ///
    /// As [`take_request`](Self::take_request).
    pub async fn answer(&self, channel: &Sender, request: &Request) -> Result<bool, OfflineError> {
        match request {
            Request::Ack { notification_id } => self.answer_ack(channel, *notification_id).await.map(|()| true),
            Request::Presence { group, after, limit } => {
                if !self.answer_presence(channel.id(), group, after.as_deref(), *limit) {
                    fail(channel, "the channel is not in that group", None);
                }
                Ok(true)
            }
            Request::Refresh { token } => Ok(channel.answer_refresh(token)),
        }
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

/// Tells a client what went wrong. Whether it is still there is for who receives to see.
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

/// Which messages a client that comes back has seen: the last one of each group.
///
/// It is the JSON of the query parameter `recover`: at most [`MAX_RECOVER_GROUPS`] groups, in [`MAX_RECOVER_LEN`]
/// bytes. In a route it is an extractor, with the feature `ws`: empty where there is no such parameter, and a response
/// 400 that says what is wrong where it is malformed.
///
/// ```
/// use fanfare::group::{Position, Recover};
///
/// let recover: Recover = r#"{"room":[1763700000000,12]}"#.parse()?;
/// assert_eq!(recover.position("room"), Some(Position { epoch: 1_763_700_000_000, offset: 12 }));
/// assert_eq!(recover.position("elsewhere"), None);
/// # Ok::<(), fanfare::group::RecoverError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recover {
    /// No name twice.
    positions: Vec<(Box<str>, Position)>,
}

impl Recover {
    /// Returns the last message of a group that the client has seen, if it says so.
    #[must_use]
    pub fn position(&self, group: &str) -> Option<Position> {
        self.positions.iter().find(|(name, _)| **name == *group).map(|(_, position)| *position)
    }

    /// Returns whether there is nothing to recover.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    /// Returns the groups and positions, in the client's order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Position)> {
        self.positions.iter().map(|(name, position)| (&**name, *position))
    }
}

impl FromStr for Recover {
    type Err = RecoverError;

    fn from_str(json: &str) -> Result<Self, RecoverError> {
        if json.len() > MAX_RECOVER_LEN {
            return Err(RecoverError::TooLong);
        }
        serde_json::from_str(json).map_err(RecoverError::Json)
    }
}

impl<'de> Deserialize<'de> for Recover {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Positions;

        impl<'de> Visitor<'de> for Positions {
            type Value = Recover;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of groups and their [epoch, offset]")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Recover, A::Error> {
                let mut recover = Recover::default();
                while let Some(name) = map.next_key::<Box<str>>()? {
                    check_next(&recover, &name).map_err(de::Error::custom)?;
                    recover.positions.push((name, map.next_value()?));
                }
                Ok(recover)
            }
        }

        deserializer.deserialize_map(Positions)
    }
}

fn check_next(recover: &Recover, name: &str) -> Result<(), String> {
    if recover.positions.len() == MAX_RECOVER_GROUPS {
        return Err(format!("more than {MAX_RECOVER_GROUPS} groups"));
    }
    if name.is_empty() || name.len() > MAX_NAME_LEN || name.chars().any(char::is_control) {
        return Err("a group name has 1 to 255 bytes and no control characters".into());
    }
    if recover.position(name).is_some() {
        return Err(format!("group {name:?} twice"));
    }
    Ok(())
}

/// Why a text is no [`Recover`].
#[derive(Debug)]
#[non_exhaustive]
pub enum RecoverError {
    /// It is longer than [`MAX_RECOVER_LEN`].
    TooLong,
    /// It is not the JSON that is asked for.
    Json(serde_json::Error),
    /// The query parameter is there more than once, or is not UTF-8.
    Parameter(&'static str),
}

impl fmt::Display for RecoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("recover is not {\"group\":[epoch,offset]}: ")?;
        match self {
            Self::TooLong => write!(f, "it is longer than {MAX_RECOVER_LEN} bytes"),
            Self::Json(error) => error.fmt(f),
            Self::Parameter(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for RecoverError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Json(error) => Some(error),
            Self::TooLong | Self::Parameter(_) => None,
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
    fn what_is_no_request_is_refused_and_never_panics() {
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
            let _ = Request::is_one(json); // whatever it says of them
        }
    }

    #[test]
    fn a_token_is_not_shown() {
        let request = Request::Refresh { token: "secret".into() };
        assert_eq!(format!("{request:?}"), "Refresh { .. }");
    }

    #[test]
    fn recover_is_bounded_and_says_what_is_wrong() {
        let of = |groups: usize| {
            let groups: Vec<_> = (0..groups).map(|n| format!(r#""{n}":[1,{n}]"#)).collect();
            format!("{{{}}}", groups.join(","))
        };
        let most: Recover = of(MAX_RECOVER_GROUPS).parse().expect("so many are allowed");
        assert_eq!(most.iter().count(), MAX_RECOVER_GROUPS);
        assert_eq!(most.position("63"), Some(Position { epoch: 1, offset: 63 }));
        let long = format!(r#"{{"{}":[1,2]}}"#, "x".repeat(256));
        let huge = " ".repeat(MAX_RECOVER_LEN + 1);
        let wrong = [
            (&*of(MAX_RECOVER_GROUPS + 1), "more than 64 groups"),
            (&*huge, "longer than 16384 bytes"),
            (&*long, "a group name has 1 to 255 bytes"),
            (r#"{"":[1,2]}"#, "a group name has 1 to 255 bytes"),
            (r#"{"room":[1,2],"room":[1,3]}"#, r#"group "room" twice"#),
            (r#"{"room":[1]}"#, "invalid length 1"),
            (r#"{"room":[1,2,3]}"#, "trailing characters"),
            (r#"{"room":[1,-2]}"#, "invalid value"),
            (r#"{"room":[1,1e999]}"#, "number out of range"),
            (r#"{"room":{"epoch":1,"offset":2}}"#, "invalid type: map"),
            (r#"["room"]"#, "an object of groups"),
            ("", "EOF"),
        ];
        for (json, says) in wrong {
            let error = json.parse::<Recover>().expect_err("it is wrong").to_string();
            assert!(error.contains(says), "{json:.80}: {error}");
        }
        assert!("{}".parse::<Recover>().expect("it is empty").is_empty());
    }
}
