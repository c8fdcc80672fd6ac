//! [`GroupSend`]: a send to a group, with options.

use std::borrow::Cow;
use std::fmt;
use std::future::poll_fn;
use std::task::{Poll, Waker};
use std::time::SystemTime;

use serde::Serialize;

use super::log::Entry;
use super::report::{SendReport, Tally};
use super::state::{Keeper, Kind, LiveGroup, State};
use crate::channel::{ChannelId, Ticket};
use crate::frame::{Draft, EncodeError, Frame, tail};
use crate::group::history::resume::skip;
use crate::group::history::{Gone, Position};
use crate::observe::groups as observe;
use crate::sync::{Arc, lock};

/// A send to a group with options: [`Group::except`](crate::group::Group::except) and its neighbours begin one, `send`
/// ends it.
#[must_use = "nothing is sent before `send` or `send_frame`"]
pub struct GroupSend {
    /// `None` when the group does not exist: it has no members.
    group: Option<Arc<LiveGroup>>,
    /// The group that this send makes: it does not exist, and is to keep a history.
    unmade: Option<(Arc<dyn Keeper>, Box<str>)>,
    except: Option<ChannelId>,
    key: Option<Arc<str>>,
    ephemeral: bool,
}

impl GroupSend {
    pub(crate) fn to(group: Arc<LiveGroup>) -> Self {
        Self { group: Some(group), ..Self::to_nobody() }
    }

    /// Begins a send to a group that the send makes.
    pub(crate) fn to_new(keeper: Arc<dyn Keeper>, name: &str) -> Self {
        Self { unmade: Some((keeper, name.into())), ..Self::to_nobody() }
    }

    pub(crate) fn to_nobody() -> Self {
        Self { group: None, unmade: None, except: None, key: None, ephemeral: false }
    }

    /// Leaves one channel out.
    ///
    /// In a group that keeps a history this channel gets the offset instead of the message (`{"type":"skip",..}`), so
    /// that its client sees no gap. The history keeps the message as any other: a client that reconnects on another
    /// channel gets it.
    pub fn except(mut self, channel: ChannelId) -> Self {
        self.except = Some(channel);
        self
    }

    /// Makes the payload the latest value of `key`: in a group with the rule
    /// [`Conflate`](crate::channel::Overflow::Conflate) it replaces a message with the same key that still waits for a
    /// slow member. For one value per user, put the user into the key, as in `cursor:ada`.
    ///
    /// ```
    /// use fanfare::channel::{Channel, FarMessage, Overflow};
    /// use fanfare::group::{ChannelBox, GroupOptions};
    ///
    /// let channels = ChannelBox::builder().groups(|_| GroupOptions::default().overflow(Overflow::Conflate)).build();
    /// let (channel, mut far_end) = Channel::in_memory();
    /// let _membership = channels.join(&channel, "doc")?;
    /// channel.send_bytes(vec![0; 100_000])?; // fills the pipe: later messages wait
    /// for column in 0..1000 {
    ///     channels.group("doc").key("cursor:ada").send(&column)?;
    /// }
    /// assert!(matches!(far_end.try_recv(), Some(FarMessage::Binary(_))));
    /// assert_eq!(far_end.try_recv(), Some(FarMessage::Text("999".into())));
    /// assert_eq!(channel.sender().counts().dropped, 999);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn key(mut self, key: impl Into<Arc<str>>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Leaves the message out of the group's history: for a message without later use, such as "ada is typing".
    ///
    /// ```
    /// use fanfare::group::{ChannelBox, GroupOptions, HistoryLimits};
    ///
    /// let channels = ChannelBox::builder().groups(|_| GroupOptions::default().history(HistoryLimits::default())).build();
    /// assert!(channels.group("room").send("hello")?.position().is_some());
    /// assert!(channels.group("room").ephemeral().send("ada is typing")?.position().is_none());
    /// # Ok::<(), fanfare::frame::EncodeError>(())
    /// ```
    pub fn ephemeral(mut self) -> Self {
        self.ephemeral = true;
        self
    }

    /// Sends a payload as JSON text, serialised and framed once.
    ///
    /// # Errors
    ///
    /// When the payload cannot be serialised.
    pub fn send<T: Serialize + ?Sized>(mut self, payload: &T) -> Result<SendReport, EncodeError> {
        let message = match self.tail() {
            Some(tail) => Message::Saved(Draft::json(payload, &tail)?),
            None => Message::Passing(Frame::json(payload)?),
        };
        // Only after the payload was serialised, which may fail: an empty group would be left behind.
        self.make();
        Ok(self.send_message(message))
    }

    /// Sends a frame that exists already, or goes to several groups: it is not framed again.
    ///
    /// ```
    /// use fanfare::channel::{Channel, FarMessage};
    /// use fanfare::frame::Frame;
    /// use fanfare::group::ChannelBox;
    ///
    /// let channels = ChannelBox::new();
    /// let (channel, mut far_end) = Channel::in_memory();
    /// let _memberships = [channels.join(&channel, "north")?, channels.join(&channel, "south")?];
    /// let frame = Frame::text("to both");
    /// for group in ["north", "south"] {
    ///     assert!(channels.group(group).send_frame(&frame).is_accepted());
    /// }
    /// assert_eq!(far_end.try_recv(), Some(FarMessage::Text("to both".into())));
    /// assert_eq!(far_end.try_recv(), Some(FarMessage::Text("to both".into())));
    /// # Ok::<(), fanfare::group::JoinError>(())
    /// ```
    ///
    /// A group that keeps a history adds its fields to JSON, and frames it again. It does not keep a frame that is not
    /// JSON: then [`SendReport::position`] is `None`.
    pub fn send_frame(mut self, frame: &Frame) -> SendReport {
        let message = self.message(frame);
        self.make();
        self.send_message(message)
    }

    /// Sends a frame as soon as the group has room for it: for a source that can wait and must not lose a message. A
    /// frame larger than the group's bound is refused at once.
    ///
    /// Waiting senders are served in no particular order.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped before it is ready, the frame was not sent.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use fanfare::channel::Channel;
    /// use fanfare::frame::Frame;
    /// use fanfare::group::{ChannelBox, GroupOptions};
    ///
    /// let delay = std::time::Duration::from_millis(1);
    /// let channels =
    ///     ChannelBox::builder().groups(move |_| GroupOptions::default().max_messages(1).write_delay(delay)).build();
    /// let (channel, _far_end) = Channel::in_memory();
    /// let _membership = channels.join(&channel, "room")?;
    /// let frame = Frame::text("one at a time");
    /// assert!(channels.group("room").send_frame(&frame).is_accepted());
    /// assert!(!channels.group("room").send_frame(&frame).is_accepted(), "the group is full");
    /// assert!(channels.group("room").send_frame_when_room(&frame).await.is_accepted());
    /// # Ok(()) }
    /// ```
    pub async fn send_frame_when_room(mut self, frame: &Frame) -> SendReport {
        let mut message = Some(self.message(frame));
        self.make();
        let mut place = None;
        poll_fn(|cx| {
            self.leave_closed();
            let Some(group) = &self.group else { return Poll::Ready(SendReport::nobody()) };
            let place = place.get_or_insert_with(|| Waiting::new(group));
            if !Arc::ptr_eq(&place.group, group) {
                *place = Waiting::new(group);
            }
            let (posted, members) = {
                let mut state = lock(&group.state);
                // An empty log cannot gain room: a frame that does not fit there never will.
                let fits = message.as_ref().is_none_or(|message| state.log.has_room(message.len(), &group.options));
                let waits = !fits && !state.log.is_empty();
                if waits {
                    state.waiting.put(place.ticket, cx.waker());
                }
                place.woken_for_nothing = waits;
                let message = if waits { None } else { message.take() };
                (message.map(|message| self.post(group, &mut state, message)), state.members.len())
            };
            match posted {
                Some(posted) => Poll::Ready(posted.finish(group)),
                None => {
                    // The waiting sender asks for a sweep too: the task of an earlier one may have ended with its
                    // runtime.
                    group.sweep(members);
                    Poll::Pending
                }
            }
        })
        .await
    }

    fn name(&self) -> Option<&str> {
        let unmade = || self.unmade.as_ref().map(|(_, name)| &**name);
        self.group.as_ref().map(|group| &*group.name).or_else(unmade)
    }

    /// Makes the group, if this is its first send.
    fn make(&mut self) {
        if let Some((keeper, name)) = self.unmade.take() {
            self.group = Some(keeper.open(Kind::Named, &name));
        }
    }

    /// Returns the fields that a saved message has behind its payload; `None` when the group does not save it.
    fn tail(&self) -> Option<Cow<'_, [u8]>> {
        match (&self.group, &self.unmade) {
            _ if self.ephemeral => None,
            (Some(group), _) => group.tail.as_deref().map(Cow::Borrowed),
            (None, Some((_, name))) => Some(Cow::Owned(tail(name).into())),
            (None, None) => None,
        }
    }

    fn message(&self, frame: &Frame) -> Message {
        let draft = self.tail().and_then(|tail| Draft::of(frame, &tail));
        draft.map_or_else(|| Message::Passing(frame.clone()), Message::Saved)
    }

    fn send_message(mut self, message: Message) -> SendReport {
        loop {
            let Some(group) = &self.group else { return SendReport::nobody() };
            let mut state = lock(&group.state);
            if state.closed && matches!(message, Message::Saved(_)) {
                // The message must go to the history that later readers of this name find.
                drop(state);
                self.leave_closed();
                continue;
            }
            let posted = self.post(group, &mut state, message);
            drop(state);
            return posted.finish(group);
        }
    }

    /// Turns from a closed group to the one that has its name now, if there is one.
    fn leave_closed(&mut self) {
        while let Some(closed) = self.group.take_if(|group| lock(&group.state).closed) {
            closed.vanish();
            self.group = closed.successor();
        }
    }

    /// Appends a message to the log, and a saved one to the history. The caller holds the group's lock.
    fn post(&self, group: &LiveGroup, state: &mut State, message: Message) -> Posted {
        let tally = Arc::<Tally>::default();
        let mut posted = Posted {
            accepted: state.log.has_room(message.len(), &group.options),
            members: state.members.len(),
            position: None,
            gone: Gone::new(),
            tally: Arc::clone(&tally),
        };
        if posted.accepted {
            let frame = match message {
                Message::Passing(frame) => frame,
                Message::Saved(draft) => {
                    let saved = state.save(draft, SystemTime::now());
                    (posted.position, posted.gone) = (saved.position, saved.gone);
                    saved.frame
                }
            };
            let skipped = self.except.and(posted.position);
            let skip = skipped.map(|position| skip(&group.name, position.offset));
            state.log.append(Entry { frame, except: self.except, skip, key: self.key.clone(), tally });
        }
        posted
    }
}

/// The message of a send.
enum Message {
    /// It goes out as it is.
    Passing(Frame),
    /// The history keeps it. It gets its offset when it is appended.
    Saved(Draft),
}

impl Message {
    fn len(&self) -> usize {
        match self {
            Self::Passing(frame) => frame.bytes().len(),
            Self::Saved(draft) => draft.len(),
        }
    }
}

/// A message that was offered to a log.
struct Posted {
    accepted: bool,
    members: usize,
    position: Option<Position>,
    /// The frames that left the history to make room: dropped without the lock.
    gone: Gone,
    tally: Arc<Tally>,
}

impl State {
    /// Appends a message to the history, which gives it its offset.
    fn save(&mut self, draft: Draft, now: SystemTime) -> Saved {
        let offset = self.history.as_ref().map_or(0, |ring| ring.next());
        let frame = draft.finish(offset);
        let gone = self.history.as_mut().map(|ring| ring.append(frame.clone(), now)).unwrap_or_default();
        Saved { position: self.history.as_ref().map(|ring| ring.position()), frame, gone }
    }
}

/// A message in the history.
struct Saved {
    frame: Frame,
    position: Option<Position>,
    /// The frames that left the history to make room: the caller drops them without the lock.
    gone: Gone,
}

impl Posted {
    /// Asks for the sweep, and reports. Called without the group's lock.
    fn finish(self, group: &Arc<LiveGroup>) -> SendReport {
        drop(self.gone);
        observe::sent(Some(group.named()), self.members, self.accepted);
        if self.accepted {
            group.sweep(self.members);
        }
        if self.members == 0 {
            group.note_idle();
        }
        SendReport::new(self.members, self.accepted, self.tally).saved_at(self.position)
    }
}

/// A sender's place among those that wait for room in a group, given back when this is dropped.
struct Waiting {
    group: Arc<LiveGroup>,
    ticket: Ticket,
    /// The last look found no room. A sender that is woken after it and gives up passes the wake on to the next one.
    woken_for_nothing: bool,
}

impl Waiting {
    fn new(group: &Arc<LiveGroup>) -> Self {
        Self { group: Arc::clone(group), ticket: Ticket::new(), woken_for_nothing: false }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let next = {
            let mut state = lock(&self.group.state);
            let was_woken = !state.waiting.remove(self.ticket) && self.woken_for_nothing;
            if was_woken { state.waiting.take_first(1) } else { Vec::new() }
        };
        next.into_iter().for_each(Waker::wake);
    }
}

impl fmt::Debug for GroupSend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupSend")
            .field("group", &self.name())
            .field("except", &self.except)
            .field("ephemeral", &self.ephemeral)
            .finish()
    }
}
