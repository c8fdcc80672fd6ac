//! [`GroupSend`]: one send to a group, with its options.

use std::fmt;
use std::future::poll_fn;
use std::task::{Poll, Waker};

use serde::Serialize;

use super::Group;
use super::log::Entry;
use super::report::SendReport;
use crate::channel::{ChannelId, Ticket};
use crate::frame::{EncodeError, Frame};
use crate::sync::{Arc, lock};

/// A group send in the making: [`ChannelBox::group`], then options, then `send`.
#[must_use = "nothing is sent before `send` or `send_frame`"]
pub struct GroupSend {
    /// `None` when there is no such group: nobody is in it.
    group: Option<Arc<Group>>,
    except: Option<ChannelId>,
    key: Option<Arc<str>>,
}

impl GroupSend {
    pub(super) fn new(group: Option<Arc<Group>>) -> Self {
        Self { group, except: None, key: None }
    }

    /// Leaves one channel out.
    pub fn except(mut self, channel: ChannelId) -> Self {
        self.except = Some(channel);
        self
    }

    /// Says what the payload is the latest value of: in a group with the rule
    /// [`Conflate`](crate::channel::Overflow::Conflate) it replaces one of that key which still waits
    /// for a slow member. A key that holds a value per user names the user too, as in `cursor:ada`.
    ///
    /// ```
    /// use fanfare::channel::{Channel, FarMessage, Overflow};
    /// use fanfare::group::{ChannelBox, GroupOptions};
    ///
    /// let channels = ChannelBox::with_options(|_| GroupOptions::default().overflow(Overflow::Conflate));
    /// let (channel, mut far_end) = Channel::in_memory();
    /// let _membership = channels.join(&channel, "doc")?;
    /// channel.send_bytes(vec![0; 100_000])?; // fills the pipe: what follows has to wait
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

    /// Sends a payload as JSON text, serialised and framed once.
    ///
    /// # Errors
    ///
    /// When the payload cannot be serialised.
    pub fn send<T: Serialize + ?Sized>(self, payload: &T) -> Result<SendReport, EncodeError> {
        Ok(self.send_frame(&Frame::json(payload)?))
    }

    /// Sends a frame: what is there already, or goes to several groups, is not framed again.
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
    ///     assert!(channels.group(group).send_frame(&frame).accepted());
    /// }
    /// assert_eq!(far_end.try_recv(), Some(FarMessage::Text("to both".into())));
    /// assert_eq!(far_end.try_recv(), Some(FarMessage::Text("to both".into())));
    /// # Ok::<(), fanfare::group::JoinError>(())
    /// ```
    pub fn send_frame(self, frame: &Frame) -> SendReport {
        let Some(group) = &self.group else { return SendReport::nobody() };
        let entry = self.entry(frame);
        let tally = Arc::clone(&entry.tally);
        let (accepted, members) = {
            let mut log = lock(&group.log);
            (log.append(entry, &group.options), log.members.len())
        };
        if accepted {
            group.sweep(members);
        }
        SendReport::new(members, accepted, tally)
    }

    /// Sends a frame as soon as there is room for it in the group: for a source that can wait, and must
    /// not lose anything. A frame larger than the group's bound is refused at once.
    ///
    /// Who waits together is served in no order.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped before it is ready the frame was not sent.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use fanfare::channel::Channel;
    /// use fanfare::frame::Frame;
    /// use fanfare::group::{ChannelBox, GroupOptions};
    ///
    /// let delay = std::time::Duration::from_millis(1);
    /// let channels =
    ///     ChannelBox::with_options(move |_| GroupOptions::default().max_waiting(1, 1024).write_delay(delay));
    /// let (channel, _far_end) = Channel::in_memory();
    /// let _membership = channels.join(&channel, "room")?;
    /// let frame = Frame::text("one at a time");
    /// assert!(channels.group("room").send_frame(&frame).accepted());
    /// assert!(!channels.group("room").send_frame(&frame).accepted(), "one waits, and that is the bound");
    /// assert!(channels.group("room").send_frame_when_room(&frame).await.accepted());
    /// # Ok(()) }
    /// ```
    pub async fn send_frame_when_room(mut self, frame: &Frame) -> SendReport {
        let mut place = None;
        poll_fn(|cx| {
            // A group whose last member left meanwhile may have been opened anew.
            while let Some(closed) = self.group.take_if(|group| lock(&group.log).closed) {
                closed.vanish();
                self.group = closed.successor();
            }
            let Some(group) = &self.group else { return Poll::Ready(SendReport::nobody()) };
            let place = place.get_or_insert_with(|| Waiting::new(group));
            if !Arc::ptr_eq(&place.group, group) {
                *place = Waiting::new(group);
            }
            let entry = self.entry(frame);
            let tally = Arc::clone(&entry.tally);
            let (accepted, members) = {
                let mut log = lock(&group.log);
                let accepted = log.append(entry, &group.options);
                // An empty log will not have more room than it has.
                let waits = !accepted && !log.is_empty();
                if waits {
                    log.waiting.put(place.ticket, cx.waker());
                }
                place.woken_for_nothing = waits;
                ((!waits).then_some(accepted), log.members.len())
            };
            // Asked for by who waits as well: the task of an earlier sweep may have gone with its runtime.
            if accepted != Some(false) {
                group.sweep(members);
            }
            accepted.map_or(Poll::Pending, |accepted| Poll::Ready(SendReport::new(members, accepted, tally)))
        })
        .await
    }

    fn entry(&self, frame: &Frame) -> Entry {
        Entry { except: self.except, key: self.key.clone(), ..Entry::new(frame.clone()) }
    }
}

/// A place among those who wait for room in a group, given back at the end.
struct Waiting {
    group: Arc<Group>,
    ticket: Ticket,
    /// The last look found no room: if it is woken after that and goes, the room is somebody else's.
    woken_for_nothing: bool,
}

impl Waiting {
    fn new(group: &Arc<Group>) -> Self {
        Self { group: Arc::clone(group), ticket: Ticket::new(), woken_for_nothing: false }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let next = {
            let mut log = lock(&self.group.log);
            let was_woken = !log.waiting.remove(self.ticket) && self.woken_for_nothing;
            if was_woken { log.waiting.take_first(1) } else { Vec::new() }
        };
        next.into_iter().for_each(Waker::wake);
    }
}

impl fmt::Debug for GroupSend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupSend")
            .field("group", &self.group.as_ref().map(|group| &*group.name))
            .field("except", &self.except)
            .finish()
    }
}
