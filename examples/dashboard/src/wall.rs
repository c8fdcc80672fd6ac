//! The shared board: a viewer gets a snapshot, then each change.

use std::sync::{Arc, Mutex, MutexGuard};

use fanfare::channel::{Channel, UserId};
use fanfare::group::{ChannelBox, Membership};
use serde::Serialize;
use tokio::sync::Notify;

use crate::board::{Alert, Board, Limit, Metric, Snapshot, Taken, Time, Watch};

/// The group of the viewers.
pub(crate) const VIEWERS: &str = "viewers";

/// A message to a viewer.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(crate) enum ToViewer<'a> {
    Initial { data: Snapshot<'a>, timestamp: Time },
    Update(&'a Taken),
    Metric { data: &'a Metric, timestamp: Time },
    Watch { data: &'a Watch, timestamp: Time },
}

/// Changes the board and sends the change to the viewers, under one hold of the lock: viewers get changes in order, and
/// a new viewer's snapshot fits between two of them. A send never waits, so the lock is held only briefly.
///
/// Each message is the complete latest state of its key. So of two waiting for a slow viewer the older can be dropped.
#[derive(Clone, Debug)]
pub(crate) struct Wall {
    board: Arc<Mutex<Board>>,
    channels: ChannelBox,
    needed: Arc<Notify>,
}

impl Wall {
    pub(crate) fn new(board: Board, channels: ChannelBox) -> Self {
        Self { board: Arc::new(Mutex::new(board)), channels, needed: Arc::default() }
    }

    /// Makes a channel a viewer, until the membership is dropped.
    pub(crate) fn show(&self, channel: &Channel) -> Result<Membership, fanfare::Error> {
        let board = self.board();
        channel.send(&ToViewer::Initial { data: board.snapshot(), timestamp: Time::now() })?;
        let membership = self.channels.join(channel, VIEWERS)?;
        self.needed.notify_one();
        Ok(membership)
    }

    pub(crate) fn take(&self, reading: &Taken) -> Result<(), fanfare::Error> {
        self.tell("update", &ToViewer::Update(self.board().take(reading.clone())))
    }

    pub(crate) fn post(&self, metric: &Metric) -> Result<(), fanfare::Error> {
        let mut board = self.board();
        let metric = board.post(metric.clone())?;
        let key = format!("metric:{}", metric.name);
        self.tell(&key, &ToViewer::Metric { data: metric, timestamp: metric.timestamp })
    }

    pub(crate) fn set(&self, metric: &str, limit: Option<Limit<f64>>, by: &UserId) -> Result<(), fanfare::Error> {
        let mut board = self.board();
        board.set(metric, limit, by)?;
        self.needed.notify_one();
        self.tell_watch(&board)
    }

    pub(crate) fn note(&self, alert: &Alert) -> Result<(), fanfare::Error> {
        let mut board = self.board();
        board.note(alert.clone());
        self.tell_watch(&board)
    }

    /// Returns the crossings of thresholds since the last call.
    pub(crate) fn crossed(&self) -> Vec<Alert> {
        self.board().crossed()
    }

    /// Returns whether a reading is needed: there is a viewer or a threshold.
    pub(crate) fn is_needed(&self) -> bool {
        self.channels.group(VIEWERS).member_count() > 0 || self.board().is_watching()
    }

    /// Resolves when a reading is needed.
    pub(crate) async fn needed(&self) {
        while !self.is_needed() {
            // `Notify` stores a notification that came after the check.
            self.needed.notified().await;
        }
    }

    fn tell_watch(&self, board: &Board) -> Result<(), fanfare::Error> {
        self.tell("watch", &ToViewer::Watch { data: board.watch(), timestamp: Time::now() })
    }

    fn tell(&self, key: &str, message: &ToViewer<'_>) -> Result<(), fanfare::Error> {
        self.channels.group(VIEWERS).key(key).send(message)?;
        Ok(())
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().expect("no thread panics with the lock held")
    }
}
