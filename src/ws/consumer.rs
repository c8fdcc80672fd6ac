//! [`Consumer`]: a connection's handler as a type with a method per event, instead of one function.

use std::collections::HashMap;
use std::fmt;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::task::Poll;

use axum::response::Response;
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::upgrade::Upgrade;
use crate::channel::{Channel, ChannelId, CloseCode, Message, RecvError, SendError, Sender};
use crate::frame::EncodeError;
use crate::group::{ChannelBox, JoinError, JoinErrorReason, Membership, SendReport};
use crate::sync::guard;

/// Handles one connection. The route makes a new consumer for each, from the values that it extracts.
///
/// [`Upgrade::consume`] calls [`on_connect`](Self::on_connect) first, then
/// [`on_receive`](Self::on_receive) with one message after the other, and
/// [`on_disconnect`](Self::on_disconnect) last, in every case. All have `&mut self`: a consumer keeps
/// its client's state in its fields.
///
/// ```
/// use axum::{Router, extract::{Path, State}, response::Response, routing::get};
/// use fanfare::group::ChannelBox;
/// use fanfare::ws::{Consumer, JsonMessage, Session, Upgrade};
///
/// struct Chat { room: String, said: usize }
///
/// impl Consumer for Chat {
///     type Message = JsonMessage<String>;
///
///     async fn on_connect(&mut self, session: &mut Session) -> Result<(), fanfare::Error> {
///         session.join(&self.room)?;
///         session.send("welcome")?;
///         Ok(())
///     }
///
///     async fn on_receive(&mut self, session: &mut Session, message: Self::Message) -> Result<(), fanfare::Error> {
///         let JsonMessage(text) = message;
///         self.said += 1;
///         session.broadcast(&self.room, &text)?;
///         Ok(())
///     }
///
///     async fn on_disconnect(&mut self, session: &mut Session) -> Result<(), fanfare::Error> {
///         println!("{} said {} things", session.id(), self.said);
///         Ok(())
///     }
/// }
///
/// // Path parameters, state and middleware are axum's, as in any route.
/// async fn chat(upgrade: Upgrade, Path(room): Path<String>, State(channels): State<ChannelBox>) -> Response {
///     upgrade.consume(&channels, Chat { room, said: 0 })
/// }
///
/// let app: Router = Router::new().route("/chat/{room}", get(chat)).with_state(ChannelBox::new());
/// ```
pub trait Consumer: Send + 'static {
    /// What the client sends: [`JsonMessage<T>`](JsonMessage), `String` for text, `Bytes` for binary, or
    /// [`Message`] for either.
    type Message: Decode;

    /// The connection is open. An error that this or another method returns closes it, with the
    /// [code of that error](super::HandlerFailed#close-codes): 1011 for most.
    fn on_connect(&mut self, session: &mut Session) -> impl Future<Output = Result<(), crate::Error>> + Send {
        let _ = session;
        async { Ok(()) }
    }

    /// The client has sent a message. The next one is received when this is done.
    fn on_receive(
        &mut self,
        session: &mut Session,
        message: Self::Message,
    ) -> impl Future<Output = Result<(), crate::Error>> + Send;

    /// A message was not a [`Message`](Self::Message), or the connection broke.
    ///
    /// By default, a wrong message closes the connection, with code 1003 for a wrong type and 1007 for wrong content,
    /// and a broken connection is left to `on_disconnect`. Neither is a failure of the handler:
    /// [`HANDLER_FAILED`](super::HANDLER_FAILED) is emitted for errors that a method returns, and for panics.
    fn on_error(
        &mut self,
        session: &mut Session,
        error: RecvError,
    ) -> impl Future<Output = Result<(), crate::Error>> + Send {
        if !error.is_fatal() {
            let (code, reason) = error.close();
            session.close(code, reason);
        }
        async { Ok(()) }
    }

    /// The connection is over, or another method has failed or panicked. Its groups are left after this,
    /// or were left when the connection broke. It is not called when the runtime is shut down before.
    fn on_disconnect(&mut self, session: &mut Session) -> impl Future<Output = Result<(), crate::Error>> + Send {
        let _ = session;
        async { Ok(()) }
    }
}

/// A type that a [`Consumer`] can receive.
pub trait Decode: Sized + Send {
    /// Converts the client's message to a value.
    ///
    /// # Errors
    ///
    /// When the message has another type, or its content is not such a value.
    fn decode(message: Message) -> Result<Self, RecvError>;
}

/// A [`Consumer`]'s message that is JSON text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JsonMessage<T>(
    /// The value.
    pub T,
);

impl<T: DeserializeOwned + Send> Decode for JsonMessage<T> {
    fn decode(message: Message) -> Result<Self, RecvError> {
        match message {
            Message::Text(text) => serde_json::from_str(&text).map(Self).map_err(RecvError::Json),
            Message::Binary(_) => Err(RecvError::Binary),
        }
    }
}

impl Decode for String {
    fn decode(message: Message) -> Result<Self, RecvError> {
        match message {
            Message::Text(text) => Ok(text),
            Message::Binary(_) => Err(RecvError::Binary),
        }
    }
}

impl Decode for Bytes {
    fn decode(message: Message) -> Result<Self, RecvError> {
        match message {
            Message::Binary(bytes) => Ok(bytes),
            Message::Text(_) => Err(RecvError::Text),
        }
    }
}

impl Decode for Message {
    fn decode(message: Message) -> Result<Self, RecvError> {
        Ok(message)
    }
}

/// A [`Consumer`]'s access to its client and to groups.
pub struct Session {
    sender: Sender,
    channel: Channel,
    channels: ChannelBox,
    memberships: HashMap<String, Membership>,
}

impl Session {
    fn new(channel: Channel, channels: ChannelBox) -> Self {
        channels.add(&channel);
        Self { sender: channel.sender(), channel, channels, memberships: HashMap::new() }
    }

    /// Returns the id of the client's channel.
    #[must_use]
    pub fn id(&self) -> ChannelId {
        self.sender.id()
    }

    /// Returns the client's address, if it has one.
    #[must_use]
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.sender.peer_addr()
    }

    /// Returns a sender to the client, for other tasks and for text and bytes.
    #[must_use]
    pub fn sender(&self) -> &Sender {
        &self.sender
    }

    /// Sends a payload as JSON text to the client.
    ///
    /// # Errors
    ///
    /// As [`Sender::send`].
    pub fn send<T: Serialize + ?Sized>(&self, payload: &T) -> Result<(), SendError> {
        self.sender.send(payload)
    }

    /// Sends a payload as JSON text to another channel.
    ///
    /// # Errors
    ///
    /// As [`ChannelBox::send_to`].
    pub fn send_to<T: Serialize + ?Sized>(&self, channel: ChannelId, payload: &T) -> Result<(), SendError> {
        self.channels.send_to(channel, payload)
    }

    /// Joins a group, until [`leave`](Self::leave) or the end. Joining twice is not an error.
    ///
    /// # Errors
    ///
    /// As [`ChannelBox::join`].
    pub fn join(&mut self, group: impl AsRef<str>) -> Result<(), JoinError> {
        let group = group.as_ref();
        match self.channels.join(&self.channel, group) {
            // Another task may have removed it from the group since: then this replaces a membership that has ended.
            Ok(membership) => drop(self.memberships.insert(group.to_owned(), membership)),
            Err(error) if error.reason() == JoinErrorReason::AlreadyMember => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Leaves a group; false if the client is not in it.
    pub fn leave(&mut self, group: &str) -> bool {
        self.memberships.remove(group).is_some_and(|membership| membership.leave())
    }

    /// Sends a payload as JSON text to all members of a group, this client included if it is one.
    ///
    /// # Errors
    ///
    /// As [`ChannelBox::group_send`].
    pub fn broadcast<T: Serialize + ?Sized>(
        &self,
        group: impl AsRef<str>,
        payload: &T,
    ) -> Result<SendReport, EncodeError> {
        self.channels.group_send(group, payload)
    }

    /// As [`broadcast`](Self::broadcast), to all members except this client.
    ///
    /// # Errors
    ///
    /// As [`ChannelBox::group_send`].
    pub fn broadcast_others<T: Serialize + ?Sized>(
        &self,
        group: impl AsRef<str>,
        payload: &T,
    ) -> Result<SendReport, EncodeError> {
        self.channels.group(group).except(self.id()).send(payload)
    }

    /// Begins to close the connection: see [`Sender::close`].
    pub fn close(&self, code: CloseCode, reason: &str) -> bool {
        self.sender.close(code, reason)
    }

    /// Returns the groups of all clients.
    #[must_use]
    pub fn channels(&self) -> &ChannelBox {
        &self.channels
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.id())
            .field("groups", &self.memberships.keys())
            .finish_non_exhaustive()
    }
}

impl Upgrade {
    /// Answers the handshake and lets `consumer` handle the connection: [`run`](Self::run) with a [`Consumer`].
    pub fn consume<C: Consumer>(self, channels: &ChannelBox, mut consumer: C) -> Response {
        let channels = channels.clone();
        self.run(async move |channel| {
            let mut session = Session::new(channel, channels);
            let ended = unpanicked(serve(&mut consumer, &mut session)).await;
            let disconnected = consumer.on_disconnect(&mut session).await;
            ended.and(disconnected)
        })
    }
}

async fn serve<C: Consumer>(consumer: &mut C, session: &mut Session) -> Result<(), crate::Error> {
    consumer.on_connect(session).await?;
    while let Some(received) = session.channel.recv_message().await {
        match received.and_then(C::Message::decode) {
            Ok(message) => consumer.on_receive(session, message).await?,
            Err(error) => consumer.on_error(session, error).await?,
        }
    }
    Ok(())
}

/// Converts a panic to an error, so that the following steps still run.
async fn unpanicked(future: impl Future<Output = Result<(), crate::Error>>) -> Result<(), crate::Error> {
    let mut future = pin!(future);
    poll_fn(|cx| match guard(|| future.as_mut().poll(cx)) {
        Ok(poll) => poll,
        Err(panic) => Poll::Ready(Err(format!("a method of the consumer panicked: {panic}").into())),
    })
    .await
}
