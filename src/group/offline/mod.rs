//! Offline queues: notifications to a user wait until a client acknowledges them, whether or not one is connected.
//!
//! [`ChannelBox::user`](crate::group::ChannelBox::user) names the user. [`User::send`] returns when the notification is
//! in the [store](OfflineStore); [`Sent::queued`] says whether it waits, because no channel took it. It goes to every
//! channel of the user that is [attached](OfflineQueues::attach). A channel that attaches later first receives all
//! waiting notifications in order, then new ones. An acknowledgement by one channel counts for all.
//!
//! **At least once.** A client receives a notification again at every attachment until it is acknowledged, and
//! recognises copies by their id. Ids are unique in a store and rise with time, even across restarts with a store that
//! forgets them, such as [`MemoryStore`]. A sender that repeats a send because the answer was lost gives both sends the
//! same [`idempotency_key`](User::idempotency_key).
//!
//! **Order.** All operations on the queues of one box are stored, delivered and answered in one order. So a user's
//! notifications arrive by rising ids. Between notifications and group messages there is no order.
//!
//! **Bounds.** A queue is bounded by count, bytes and age: see [`OfflineOptions`]. A notification that is evicted or
//! expires is emitted as [`OFFLINE_DROPPED`] and counted in [`OfflineCounts`].
//!
//! **On the wire** (JSON text; the last one is the client's answer):
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
//! Since a store may block, each box has a thread for its queues: see `writer`.

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
