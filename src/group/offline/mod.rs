//! Offline queues: what is sent to a user waits until it is acknowledged, whether or not somebody is connected.
//!
//! [`ChannelBox::user`](crate::group::ChannelBox::user) names the user. [`User::send`] returns when the notification is in the
//! [store](OfflineStore), and says by [`Sent::queued`] whether anybody was there to take it. It goes to every channel
//! of the user that is [attached](OfflineQueues::attach); one that attaches later first gets all that still waits, in
//! order, and then what comes. Any of them acknowledges for all.
//!
//! **At least once.** A client gets a notification again at every attachment until it is acknowledged, and tells
//! copies by their id. Ids are unique in a store and rise with time, also from one process to the next whose store has
//! forgotten them, as the one in memory does. Who sends again because the answer got lost
//! gives both sends the same [`idempotency_key`](User::idempotency_key).
//!
//! **Order.** All that is done with the queues of one box has one order, in which it is stored, delivered and answered.
//! So a user's notifications arrive by rising ids. With what goes through groups there is none.
//!
//! **Bounds.** A queue is bounded by count, bytes and age: see [`OfflineOptions`]. What is dropped for others, or because
//! it is too old, is told to [`OFFLINE_DROPPED`] and [counted](crate::group::ChannelBox::stats).
//!
//! **On the wire** (JSON text; the client answers with the last):
//!
//! ```json
//! {"type":"unread","unread":1}
//! {"type":"notification","notification_id":17,"priority":"normal","time":1763700000000,"data":{"any":"json"}}
//! {"type":"acked","notification_id":17,"unread":0}
//! {"type":"error","error":"no such notification waits","notification_id":18}
//! ```
//! ```json
//! {"type":"ack","notification_id":17}
//! ```
//!
//! The queues have a thread of their own per box, since stores block: see `writer`.

mod attachment;
mod counters;
mod error;
mod memory;
mod notification;
mod options;
mod queue;
mod queues;
mod record;
#[cfg(feature = "redb")]
mod redb;
mod send;
mod store;
mod user;
mod wire;
mod writer;

pub use attachment::Attachment;
pub use counters::OfflineCounts;
pub use error::{AttachError, MAX_KEY_LEN, NotifyError, OfflineError};
pub use memory::MemoryStore;
pub use notification::{Acked, DropReason, Dropped, Notification, OFFLINE_DROPPED, Sent};
pub use options::OfflineOptions;
pub use queues::OfflineQueues;
pub use record::{InvalidRecord, Record, Urgency};
#[cfg(feature = "redb")]
pub use redb::{RedbOpenError, RedbStore};
pub use send::OfflineSend;
pub use store::{Change, OfflineStore, StoreState};
pub use user::User;
