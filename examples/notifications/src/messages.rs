//! Requests, the event, and the messages on the wire.

use std::sync::{Arc, OnceLock};

use fanfare::channel::UserId;
use fanfare::group::offline::{Sent, Urgency};
use serde::{Deserialize, Serialize};

/// The longest text, in characters.
const LONGEST_TEXT: usize = 500;

/// The body of `POST /notify`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Notify {
    to: To,
    #[serde(default)]
    priority: Urgency,
    text: Text,
}

/// The recipient of a notification.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) enum To {
    User(UserId),
    /// All users who have ever signed in, connected or not.
    Everybody,
}

impl TryFrom<String> for To {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        match UserId::new(&name) {
            Ok(_) if name == "*" => Ok(Self::Everybody),
            Ok(user) if start::is_name(&name) => Ok(Self::User(user)),
            _ => Err(format!("it is \"*\" for everyone, or a name: {}", start::NAME_RULE)),
        }
    }
}

impl To {
    /// Returns the recipient as a request names it.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::User(user) => user,
            Self::Everybody => "*",
        }
    }
}

/// The text of a notification.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct Text(String);

impl TryFrom<String> for Text {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.chars().count() {
            _ if text.trim().is_empty() => Err("it is empty".into()),
            0..=LONGEST_TEXT => Ok(Self(text)),
            length => Err(format!("it has {length} characters instead of 1 to {LONGEST_TEXT}")),
        }
    }
}

/// The event `notification.created`.
#[derive(Clone, Debug)]
pub(crate) struct Created {
    /// The user of the sender's token.
    pub(crate) from: UserId,
    pub(crate) to: To,
    pub(crate) priority: Urgency,
    pub(crate) text: String,
    /// Set by the push listener, for the listeners after it and for the route.
    pub(crate) outcome: Arc<OnceLock<Outcome>>,
}

impl Created {
    pub(crate) fn new(from: &UserId, Notify { to, priority, text: Text(text) }: Notify) -> Self {
        Self { from: from.clone(), to, priority, text, outcome: Arc::default() }
    }
}

/// The outcome of a notification, and the answer of `POST /notify`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Outcome {
    /// A notification to everyone is a copy for each user, each with its own id. This is then the lowest of them:
    /// earlier notifications have lower ids, later ones higher ids.
    notification_id: Option<u64>,
    /// How many connections accepted it.
    delivered: usize,
    /// Whether it waits for a user who is away.
    queued: bool,
    /// For how many users it waits.
    waiting: usize,
    /// How many users do not get it.
    pub(crate) failed: usize,
}

impl Outcome {
    pub(crate) fn add(&mut self, sent: Sent) {
        self.notification_id = Some(self.notification_id.map_or(sent.id, |id| id.min(sent.id)));
        self.delivered += sent.delivered;
        self.queued |= sent.queued;
        self.waiting += usize::from(sent.queued);
    }
}

/// The `data` of a notification.
#[derive(Debug, Serialize)]
pub(crate) struct Data<'a> {
    from: &'a UserId,
    text: &'a str,
    /// Whether it was sent to everyone.
    everybody: bool,
}

impl<'a> Data<'a> {
    pub(crate) fn of(created: &'a Created) -> Self {
        Self { from: &created.from, text: &created.text, everybody: created.to == To::Everybody }
    }
}

/// A message to all connected clients, besides the library's own.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(crate) enum FromServer<'a> {
    /// The outcome of a notification; `None` when the push failed before there was one.
    Audit { from: &'a UserId, to: &'a str, priority: Urgency, time: u128, outcome: Option<&'a Outcome> },
    /// A notification was dropped unread.
    Dropped { user: &'a UserId, notification_id: u64, reason: &'a str },
}

/// A message from a client, besides the library's own requests.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum FromClient {
    /// The user has read all waiting notifications up to this one.
    ReadUpTo { notification_id: u64 },
}

/// The answer of `GET /notifications?unread`.
#[derive(Debug, Serialize)]
pub(crate) struct Unread {
    pub(crate) unread: usize,
}

#[cfg(test)]
mod tests {
    use fanfare::group::Request;
    use serde_json::{Value, json};

    use super::*;

    fn samples(side: &str, kind: &str) -> Vec<Value> {
        let samples: Value = serde_json::from_str(include_str!("samples.json")).expect("it is JSON");
        let of_kind = |sample: &&Value| sample["type"] == kind;
        let samples: Vec<_> = samples[side].as_array().expect("it is a list").iter().filter(of_kind).cloned().collect();
        assert!(!samples.is_empty(), "no sample of {kind}");
        samples
    }

    /// Removes the fields that the group adds to each message of its history.
    fn without_place(mut sample: Value) -> Value {
        let fields = sample.as_object_mut().expect("a message is an object");
        assert!(fields.remove("group").is_some() && fields.remove("offset").is_some());
        sample
    }

    fn asked(body: Value) -> Result<Notify, String> {
        serde_json::from_value(body).map_err(|error| error.to_string())
    }

    #[test]
    fn server_messages_match_the_samples() {
        let ada = UserId::new("ada").expect("it is a name");
        let body = json!({"to": "bob", "priority": "high", "text": "The train leaves at six."});
        let mut created = Created::new(&ada, asked(body).expect("it is good"));
        assert_eq!(
            serde_json::to_value(Data::of(&created)).expect("it is JSON"),
            samples("server", "notification")[0]["data"]
        );

        let outcome = Outcome { notification_id: Some(17), delivered: 2, ..Outcome::default() };
        let audit = |created: &Created, outcome| {
            let Created { from, to, priority, .. } = created;
            let (to, priority, time) = (to.name(), *priority, 1_763_700_000_000);
            let told = FromServer::Audit { from, to, priority, time, outcome };
            serde_json::to_value(told).expect("it is JSON")
        };
        let expected: Vec<_> = samples("server", "audit").into_iter().map(without_place).collect();
        assert_eq!(audit(&created, Some(&outcome)), expected[0]);
        created.to = To::Everybody;
        assert_eq!(audit(&created, None), expected[1]);

        let dropped = FromServer::Dropped { user: &ada, notification_id: 17, reason: "evicted" };
        let dropped = serde_json::to_value(dropped).expect("it is JSON");
        assert_eq!(dropped, without_place(samples("server", "dropped").remove(0)));
    }

    #[test]
    fn client_samples_are_parsed() {
        let read = serde_json::from_value(samples("client", "read_up_to").remove(0)).expect("it is one");
        assert!(matches!(read, FromClient::ReadUpTo { notification_id: 17 }));
        let ack = serde_json::from_value(samples("client", "ack").remove(0)).expect("it is one");
        assert!(matches!(ack, Request::Ack { notification_id: 17 }));
    }

    #[test]
    fn recipient_and_text_are_bounded() {
        let longest = json!({"to": "n".repeat(32), "text": "ä".repeat(500)});
        assert_eq!(asked(longest).expect("it is good").priority, Urgency::Normal);
        assert_eq!(asked(json!({"to": "*", "text": "all"})).expect("it is good").to, To::Everybody);
        for (to, text, says) in [
            ("", "hello", "1 to 32 characters"),
            (" bob", "hello", "no space at either end"),
            ("b\u{7}b", "hello", "no control characters"),
            (&*"n".repeat(33), "hello", "1 to 32 characters"),
            ("bob", " \n", "it is empty"),
            ("bob", &*"t".repeat(501), "501 characters instead of 1 to 500"),
        ] {
            let refused = asked(json!({"to": to, "text": text})).expect_err("it is out of bounds");
            assert!(refused.contains(says), "{refused}");
        }
    }
}
