//! A client that folds what it is told of presence, as the protocol says.

#![allow(dead_code, reason = "no program of tests uses all of it")]

use std::collections::HashMap;

use fanfare::channel::{Channel, ChannelOptions, FarEnd, FarMessage, OutboxLimits, UserId};
use fanfare::group::ChannelBox;
use serde_json::Value;

/// A channel of this user.
pub(crate) fn channel_of(user: &str) -> (Channel, FarEnd) {
    Channel::in_memory_with(ChannelOptions::default().user(UserId::new(user).expect("the id is good")))
}

/// A channel of this user which takes whatever comes.
pub(crate) fn patient_channel_of(user: &str) -> (Channel, FarEnd) {
    let limits = OutboxLimits::default().max_bytes(usize::MAX).max_messages(usize::MAX);
    let options = ChannelOptions::from(limits).user(UserId::new(user).expect("the id is good"));
    Channel::in_memory_with(options)
}

/// What has arrived, as JSON.
pub(crate) fn received(far: &mut FarEnd) -> Vec<Value> {
    std::iter::from_fn(|| far.try_recv()).filter_map(|message| json(&message)).collect()
}

pub(crate) fn json(message: &FarMessage) -> Option<Value> {
    let FarMessage::Text(text) = message else { return None };
    assert!(text.len() + 10 <= 64 << 10, "a frame is too long: {}", text.len());
    Some(serde_json::from_str(text).expect("a frame is JSON"))
}

/// A user as clients see it: info and connections.
pub(crate) type Seen = (Value, u64);

/// What a client knows.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct View {
    /// Epoch and version, once there was a state.
    pub(crate) known: Option<(u64, u64)>,
    pub(crate) count: u64,
    pub(crate) users: HashMap<String, Seen>,
    pages: Vec<Value>,
}

/// What a client does after a frame.
#[derive(Debug, PartialEq)]
pub(crate) enum Then {
    Goes,
    /// It asks for the state.
    Asks,
}

impl View {
    pub(crate) fn hear(&mut self, frame: &Value) -> Then {
        match frame["type"].as_str() {
            Some("presence") => self.hear_state(frame),
            Some("presence.diff") => self.hear_diff(frame),
            _ => Then::Goes,
        }
    }

    pub(crate) fn hear_all(&mut self, frames: &[Value]) {
        for frame in frames {
            assert_eq!(self.hear(frame), Then::Goes, "{frame}");
        }
    }

    fn hear_state(&mut self, frame: &Value) -> Then {
        if frame["page"] == 1 {
            self.pages.clear();
        }
        self.pages.push(frame.clone());
        if self.pages.len() as u64 == frame["pages"] {
            let users = self.pages.iter().flat_map(|page| page["users"].as_array().expect("a list"));
            self.users = users.map(entry).collect();
            self.known = Some(stamp(frame));
            self.count = frame["count"].as_u64().expect("a number");
        }
        Then::Goes
    }

    fn hear_diff(&mut self, frame: &Value) -> Then {
        let (Some((epoch, known)), (of, version)) = (self.known, stamp(frame)) else { return Then::Goes };
        if epoch == of && version <= known {
            return Then::Goes;
        }
        if epoch != of || version != known + 1 {
            self.known = None;
            return Then::Asks;
        }
        for user in frame["left"].as_array().expect("a list") {
            self.users.remove(user.as_str().expect("an id"));
        }
        for list in ["joined", "updated"] {
            self.users.extend(frame[list].as_array().expect("a list").iter().map(entry));
        }
        self.known = Some((of, version));
        self.count = frame["count"].as_u64().expect("a number");
        Then::Goes
    }
}

fn stamp(frame: &Value) -> (u64, u64) {
    (frame["epoch"].as_u64().expect("a number"), frame["version"].as_u64().expect("a number"))
}

fn entry(user: &Value) -> (String, Seen) {
    let id = user["user"].as_str().expect("an id").to_owned();
    (id, (user["info"].clone(), user["connections"].as_u64().expect("a number")))
}

/// What the server knows, as clients see it.
pub(crate) fn truth(channels: &ChannelBox, group: &str) -> HashMap<String, Seen> {
    let users = channels.group(group).presence().users();
    let entry = |user: &fanfare::group::PresenceUser| {
        (user.id().to_string(), (user.info().expect("it is JSON"), user.connections() as u64))
    };
    users.iter().map(entry).collect()
}
