//! Offline queues: one suite over every store.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, SystemTime};

use fanfare::channel::{Channel, ChannelOptions, CloseCode, FarEnd, FarMessage, OutboxLimits, UserId};
use fanfare::group::ChannelBox;
use fanfare::group::offline::{
    AttachError, Change, DropReason, Dropped, NotifyError, OFFLINE_DROPPED, OfflineError, OfflineOptions, OfflineStore,
    Record, StoreState, Urgency, User,
};
use fanfare::{Dispatcher, Error};
use futures_util::FutureExt;
use futures_util::future::join_all;
use serde_json::{Value, json};

macro_rules! suite {
    ($store:ident, $open:expr) => {
        suite!($store, $open;
            what_waits_comes_in_order_before_what_is_live
            who_attaches_amid_sends_misses_nothing_and_gets_nothing_twice
            one_batch_keeps_the_order_of_what_was_asked
            one_channel_acknowledges_for_all
            an_unknown_id_is_an_error_for_the_client_that_named_it
            a_key_is_known_until_the_age_bound
            what_matters_least_is_evicted_first_and_the_oldest_of_it
            nothing_is_lost_in_silence
            bytes_and_the_whole_store_are_bounded
            what_is_too_old_is_gone
            what_is_too_old_is_removed_from_the_store_too
            all_can_be_acknowledged_at_once
            a_dropped_send_is_done_still_and_a_dropped_attach_is_not
            a_failing_store_fails_its_batch_and_nothing_else
            a_panicking_store_is_a_failing_one
            a_store_is_dropped_with_its_box
            who_closes_the_queues_waits_for_what_was_asked_before
            a_client_that_reads_too_slowly_comes_back_for_the_rest
            what_is_too_large_to_go_live_comes_with_the_next_connection
            revoked_users_keep_their_queues
            many_users_at_once_have_a_queue_each
            a_channel_is_attached_once_and_only_with_a_user
        );
    };
    ($store:ident, $open:expr; $($test:ident)*) => {
        mod $store {
            $(
                #[tokio::test]
                async fn $test() {
                    let folder = super::Folder::new(concat!(stringify!($store), "-", stringify!($test)));
                    super::$test($open(&folder)).await;
                }
            )*
        }
    };
}

suite!(memory, |_: &super::Folder| fanfare::group::offline::MemoryStore::new());
#[cfg(feature = "redb")]
suite!(redb, |folder: &super::Folder| folder.open());

/// A folder of a test's own.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("offline-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    #[cfg(feature = "redb")]
    fn open(&self) -> fanfare::group::offline::RedbStore {
        fanfare::group::offline::RedbStore::open(self.0.join("queue")).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A time that stands still until it is moved.
#[derive(Clone)]
struct Clock(Arc<AtomicU64>);

impl Clock {
    fn new() -> Self {
        Self(Arc::new(AtomicU64::new(1_763_700_000_000)))
    }

    fn pass(&self, time: Duration) {
        self.0.fetch_add(time.as_millis() as u64, SeqCst);
    }

    fn options(&self, store: impl OfflineStore) -> OfflineOptions {
        let time = Arc::clone(&self.0);
        OfflineOptions::default()
            .store(store)
            .clock(move || SystemTime::UNIX_EPOCH + Duration::from_millis(time.load(SeqCst)))
    }
}

fn with(options: OfflineOptions) -> ChannelBox {
    ChannelBox::builder().offline(options).build()
}

fn over(store: impl OfflineStore) -> ChannelBox {
    with(OfflineOptions::default().store(store))
}

fn id(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn connect(name: &str) -> (Channel, FarEnd) {
    Channel::in_memory_with(ChannelOptions::default().user(id(name)))
}

/// Receives one message; a test that waits in vain ends.
async fn next(far: &mut FarEnd) -> Option<FarMessage> {
    tokio::time::timeout(Duration::from_secs(20), far.recv()).await.expect("something comes")
}

async fn next_json(far: &mut FarEnd) -> Value {
    match next(far).await {
        Some(FarMessage::Text(text)) => serde_json::from_str(&text).unwrap(),
        other => panic!("no text: {other:?}"),
    }
}

/// Receives a notification: its id, and its data.
async fn notification(far: &mut FarEnd) -> (u64, Value) {
    let message = next_json(far).await;
    assert_eq!(message["type"], "notification", "{message}");
    (message["notification_id"].as_u64().unwrap(), message["data"].clone())
}

async fn waiting(user: &User) -> Vec<Value> {
    user.pending().await.unwrap().iter().map(|one| one.data().unwrap()).collect()
}

#[tokio::test]
async fn a_store_that_has_forgotten_its_ids_gives_none_of_them_again() {
    let clock = Clock::new();
    let mut last = 0;
    for _restart in 0..3 {
        let channels = with(clock.options(fanfare::group::offline::MemoryStore::new()));
        for n in 0..100 {
            let sent = channels.user(&id("ada")).send(&n).await.unwrap();
            assert!(sent.id > last && sent.id < 1 << 53, "{} behind {last}", sent.id);
            last = sent.id;
        }
        channels.offline().close().await;
        clock.pass(Duration::from_millis(1));
    }
}

async fn what_waits_comes_in_order_before_what_is_live(store: impl OfflineStore) {
    let clock = Clock::new();
    let channels = with(clock.options(store));
    let ada = channels.user(&id("ada"));
    let first = ada.urgency(Urgency::High).send(&json!({"n": 1})).await.unwrap();
    let second = ada.send(&2).await.unwrap();
    assert!(first.queued && second.queued && first.id < second.id && !first.duplicate);
    assert_eq!(first.delivered, 0);

    let (channel, mut far) = connect("ada");
    let attachment = channels.offline().attach(&channel).await.unwrap();
    assert_eq!((attachment.channel(), attachment.user().id()), (channel.id(), ada.id()));
    assert_eq!(next_json(&mut far).await, json!({"type": "unread", "unread": 2}));
    let expected = json!({"type": "notification", "notification_id": first.id, "priority": "high",
        "time": 1_763_700_000_000_u64, "data": {"n": 1}});
    assert_eq!(serde_json::to_value(&ada.pending().await.unwrap()[0]).unwrap(), expected, "asked for, it is the same");
    assert_eq!(next_json(&mut far).await, expected);
    assert_eq!(notification(&mut far).await, (second.id, json!(2)));
    assert_eq!(far.try_recv(), None);

    let third = ada.send(&3).await.unwrap();
    assert!(!third.queued && third.delivered == 1, "it was taken");
    assert_eq!(notification(&mut far).await, (third.id, json!(3)));
    assert_eq!(ada.unread().await.unwrap(), 3, "taken is not acknowledged");
    assert!(attachment.detach() && !attachment.detach());
    assert!(ada.send(&4).await.unwrap().queued);
    assert_eq!(far.try_recv(), None);
    let pending = ada.pending().await.unwrap();
    assert_eq!(pending[0].urgency(), Urgency::High);
    assert_eq!(pending[0].time(), SystemTime::UNIX_EPOCH + Duration::from_millis(1_763_700_000_000));
}

async fn who_attaches_amid_sends_misses_nothing_and_gets_nothing_twice(store: impl OfflineStore) {
    let channels = over(store);
    let ada = channels.user(&id("ada"));
    let (count, tabs) = (300, 6);
    let sends = join_all((0..count).map(|n| {
        let ada = ada.clone();
        tokio::spawn(async move { ada.send(&n).await.unwrap() })
    }));
    let attach = async {
        let mut clients = Vec::new();
        for _ in 0..tabs {
            let (channel, far) = connect("ada");
            let attachment = channels.offline().attach(&channel).await.unwrap();
            clients.push((channel, far, attachment));
        }
        clients
    };
    let (sent, clients) = tokio::join!(sends, attach);
    let sent: Vec<_> = sent.into_iter().map(|sent| sent.unwrap().id).collect();
    for (_channel, mut far, _attachment) in clients {
        assert_eq!(next_json(&mut far).await["type"], "unread");
        let mut got = Vec::new();
        for _ in 0..count {
            got.push(notification(&mut far).await);
        }
        assert!(got.is_sorted_by(|a, b| a.0 < b.0), "rising, each once");
        let mut data: Vec<_> = got.iter().map(|(id, data)| (*id, data.as_u64().unwrap())).collect();
        data.sort_by_key(|(_, n)| *n);
        assert!(data.iter().map(|(id, _)| id).eq(&sent), "all of them, under the ids that the senders know");
        assert_eq!(far.try_recv(), None);
    }
}

/// Commits when it may.
struct Gated<S> {
    store: S,
    entered: mpsc::Sender<usize>,
    gate: mpsc::Receiver<()>,
}

impl<S: OfflineStore> OfflineStore for Gated<S> {
    fn state(&mut self) -> Result<StoreState, Error> {
        self.store.state()
    }
    fn load(&mut self, user: &UserId) -> Result<Vec<Record>, Error> {
        self.store.load(user)
    }
    fn commit(&mut self, changes: &[Change]) -> Result<(), Error> {
        self.entered.send(changes.len())?;
        self.gate.recv()?;
        self.store.commit(changes)
    }
    fn expired(&mut self, now: u64, most: usize) -> Result<Vec<(UserId, Record)>, Error> {
        self.store.expired(now, most)
    }
}

async fn one_batch_keeps_the_order_of_what_was_asked(store: impl OfflineStore) {
    let ((entered, commits), (open, gate)) = (mpsc::channel(), mpsc::channel());
    let channels = over(Gated { store, entered, gate });
    let ada = channels.user(&id("ada"));
    let (channel, mut far) = connect("ada");
    let mut first = Box::pin(ada.send(&1));
    assert!((&mut first).now_or_never().is_none());
    assert_eq!(commits.recv().unwrap(), 1);
    // While that is committed, more comes: a batch of its own, of which half is before the channel and half after.
    let mut before = Box::pin(ada.idempotency_key("k").send(&2));
    let mut attach = Box::pin(channels.offline().attach(&channel));
    let mut after = Box::pin(ada.send(&3));
    let mut unread = Box::pin(ada.unread());
    let mut last = Box::pin(ada.send(&4));
    assert!((&mut before).now_or_never().is_none() && (&mut attach).now_or_never().is_none());
    assert!((&mut after).now_or_never().is_none() && (&mut unread).now_or_never().is_none());
    assert!((&mut last).now_or_never().is_none() && far.try_recv().is_none());
    open.send(()).unwrap();
    assert!(first.await.unwrap().queued);
    assert_eq!(commits.recv().unwrap(), 3, "they share a commit");
    assert!((&mut before).now_or_never().is_none() && far.try_recv().is_none(), "nothing before the commit");
    open.send(()).unwrap();
    let _attachment = attach.await.unwrap();
    let queued = [before.await.unwrap(), after.await.unwrap(), last.await.unwrap()].map(|sent| sent.queued);
    assert_eq!((queued, unread.await.unwrap()), ([true, false, false], 3));
    assert_eq!(next_json(&mut far).await["unread"], 2);
    for n in 1..=4 {
        assert_eq!(notification(&mut far).await.1, n);
    }
    assert_eq!(far.try_recv(), None);
}

async fn one_channel_acknowledges_for_all(store: impl OfflineStore) {
    let channels = over(store);
    let ada = channels.user(&id("ada"));
    let first = ada.send(&1).await.unwrap().id;
    let second = ada.send(&2).await.unwrap().id;
    let (phone, mut at_phone) = connect("ada");
    let (laptop, mut at_laptop) = connect("ada");
    let _on_phone = channels.offline().attach(&phone).await.unwrap();
    let _on_laptop = channels.offline().attach(&laptop).await.unwrap();
    for far in [&mut at_phone, &mut at_laptop] {
        assert_eq!(next_json(far).await["unread"], 2);
        assert_eq!((notification(far).await.0, notification(far).await.0), (first, second));
    }
    let ack = json!({"type": "ack", "notification_id": first}).to_string();
    assert!(channels.answer(&phone.sender(), &ack).await.unwrap());
    for far in [&mut at_phone, &mut at_laptop] {
        assert_eq!(next_json(far).await, json!({"type": "acked", "notification_id": first, "unread": 1}));
        assert_eq!(far.try_recv(), None);
    }
    let (tablet, mut at_tablet) = connect("ada");
    let _on_tablet = channels.offline().attach(&tablet).await.unwrap();
    assert_eq!(next_json(&mut at_tablet).await["unread"], 1);
    assert_eq!(notification(&mut at_tablet).await.0, second, "the first does not come again");
    assert_eq!((at_tablet.try_recv(), channels.stats().offline.acked), (None, 1));
}

async fn an_unknown_id_is_an_error_for_the_client_that_named_it(store: impl OfflineStore) {
    let channels = over(store);
    let bobs = channels.user(&id("bob")).send("for bob").await.unwrap().id;
    let (channel, mut far) = connect("ada");
    let (other, mut far_other) = connect("ada");
    let attachment = channels.offline().attach(&channel).await.unwrap();
    let _other = channels.offline().attach(&other).await.unwrap();
    assert_eq!(next_json(&mut far).await["unread"], 0);
    assert_eq!(next_json(&mut far_other).await["unread"], 0);
    for unknown in [0, bobs, u64::MAX] {
        let ack = json!({"type": "ack", "notification_id": unknown}).to_string();
        assert!(channels.answer(&channel.sender(), &ack).await.unwrap());
        let error = next_json(&mut far).await;
        assert_eq!((&error["type"], &error["notification_id"]), (&json!("error"), &json!(unknown)), "{error}");
        assert!(!attachment.user().ack(unknown).await.unwrap().known);
    }
    assert_eq!(far_other.try_recv(), None);
    assert_eq!(channels.user(&id("bob")).unread().await.unwrap(), 1, "nobody else's are touched");
    for wrong in [
        r#"{"type":"ack"}"#,
        r#"{"type":"ack","notification_id":-1}"#,
        r#"{"type":"ack","notification_id":"1"}"#,
        r#"{"type":"presence","group":"nobody is in it"}"#,
    ] {
        assert!(channels.answer(&channel.sender(), wrong).await.unwrap(), "{wrong}");
        assert_eq!(next_json(&mut far).await["type"], "error", "{wrong}");
    }
    for other in ["", "{", "[]", r#"{"type":"say","notification_id":1}"#, r#"{"say":"\"ack\""}"#] {
        assert!(!channels.answer(&channel.sender(), other).await.unwrap(), "{other}");
    }
    assert_eq!(far.try_recv(), None);
}

async fn a_key_is_known_until_the_age_bound(store: impl OfflineStore) {
    let clock = Clock::new();
    let channels = with(clock.options(store).max_age(Duration::from_secs(100)).max_messages(2));
    let ada = channels.user(&id("ada"));
    let send = async |key: &str| ada.idempotency_key(key).send(&key).await.unwrap();
    // At once, so perhaps in one commit.
    let (first, again) = tokio::join!(send("a"), send("a"));
    assert_eq!((first.duplicate, again.duplicate, again.id), (false, true, first.id));
    assert!(again.queued, "the first waits");
    assert!(ada.ack(first.id).await.unwrap().known);
    let after = send("a").await;
    assert_eq!((after.duplicate, after.queued, after.id), (true, false, first.id));
    assert!(!channels.user(&id("bob")).idempotency_key("a").send("a").await.unwrap().duplicate, "his own");

    // As many as may wait are remembered.
    for key in ["b", "c"] {
        assert!(ada.ack(send(key).await.id).await.unwrap().known);
    }
    assert!(send("b").await.duplicate && send("c").await.duplicate);
    clock.pass(Duration::from_secs(99));
    assert!(send("c").await.duplicate);
    clock.pass(Duration::from_secs(1));
    assert!(!send("c").await.duplicate);
    assert!(!send("a").await.duplicate, "it was pushed out");
    assert!(matches!(ada.idempotency_key("").send(&1).await, Err(NotifyError::InvalidKey)));
    assert!(matches!(ada.idempotency_key("x".repeat(129)).send(&1).await, Err(NotifyError::InvalidKey)));
    assert!(!send(&"x".repeat(128)).await.duplicate);
}

async fn what_matters_least_is_evicted_first_and_the_oldest_of_it(store: impl OfflineStore) {
    let channels = with(OfflineOptions::default().store(store).max_messages(4));
    let ada = channels.user(&id("ada"));
    for (urgency, n) in [(Urgency::Normal, 1), (Urgency::Low, 2), (Urgency::High, 3), (Urgency::Low, 4)] {
        ada.urgency(urgency).send(&n).await.unwrap();
    }
    ada.send(&5).await.unwrap();
    assert_eq!(waiting(&ada).await, [1, 3, 4, 5]);
    ada.urgency(Urgency::Low).send(&6).await.unwrap();
    assert_eq!(waiting(&ada).await, [1, 3, 5, 6], "the older of two that matter as much");
    ada.urgency(Urgency::High).send(&7).await.unwrap();
    assert_eq!(waiting(&ada).await, [1, 3, 5, 7]);
    let refused = ada.urgency(Urgency::Low).send(&8).await.unwrap_err();
    assert!(matches!(refused, NotifyError::Full), "{refused}");
    for n in 9..=10 {
        ada.urgency(Urgency::High).send(&n).await.unwrap();
    }
    assert_eq!(waiting(&ada).await, [3, 7, 9, 10]);
    assert!(matches!(ada.send(&11).await, Err(NotifyError::Full)));
    ada.urgency(Urgency::High).send(&12).await.unwrap();
    assert_eq!(waiting(&ada).await, [7, 9, 10, 12]);
}

async fn nothing_is_lost_in_silence(store: impl OfflineStore) {
    let (clock, events) = (Clock::new(), Dispatcher::new());
    let told: Arc<Mutex<Vec<Dropped>>> = Arc::default();
    let listener = Arc::clone(&told);
    events.on(OFFLINE_DROPPED, move |dropped| listener.lock().unwrap().push(dropped.clone())).unwrap();
    let options = clock.options(store).max_messages(2).max_age(Duration::from_secs(60));
    let channels = ChannelBox::builder().events(&events).offline(options).build();
    let ada = channels.user(&id("ada"));
    let mut sent = Vec::new();
    for n in 0..3 {
        sent.push(ada.send(&n).await.unwrap().id);
    }
    assert!(ada.urgency(Urgency::Low).send(&3).await.is_err());
    assert!(ada.ack(sent[1]).await.unwrap().known);
    clock.pass(Duration::from_secs(60));
    assert_eq!(ada.unread().await.unwrap(), 0);
    // The next batch, at the latest, clears up.
    ada.send(&4).await.unwrap();
    let told: Vec<_> = told.lock().unwrap().iter().map(|one| (one.user().clone(), one.id(), one.reason())).collect();
    assert_eq!(told, [(id("ada"), sent[0], DropReason::Evicted), (id("ada"), sent[2], DropReason::Expired)]);
    let counts = channels.stats().offline;
    assert_eq!((counts.stored, counts.refused, counts.acked, counts.evicted, counts.expired), (4, 1, 1, 1, 1));
}

async fn bytes_and_the_whole_store_are_bounded(store: impl OfflineStore) {
    let channels = with(OfflineOptions::default().store(store).max_bytes(100).max_store_bytes(500));
    let (ada, bob) = (channels.user(&id("ada")), channels.user(&id("bob")));
    let text = |len: usize| "x".repeat(len - 2);
    assert!(matches!(ada.send(&text(101)).await, Err(NotifyError::TooLarge)));
    for len in [60, 40, 30] {
        ada.send(&text(len)).await.unwrap();
    }
    let lens: Vec<_> = ada.pending().await.unwrap().iter().map(|one| one.json().len()).collect();
    assert_eq!(lens, [40, 30]);
    assert_eq!(ada.clear().await.unwrap(), 2);
    // A record counts for 64 and its payload.
    let mut sent = Vec::new();
    for user in [&ada, &bob, &ada] {
        sent.push(user.send(&text(100 - 64)).await.unwrap().id);
    }
    bob.send(&text(100)).await.expect("it takes the place of his first, which fits no more");
    assert_eq!(bob.unread().await.unwrap(), 1);
    assert!(matches!(channels.user(&id("eve")).send(&text(90)).await, Err(NotifyError::StoreFull)));
    assert!(ada.ack(sent[0]).await.unwrap().known);
    channels.user(&id("eve")).send(&text(90)).await.expect("there is room again");
}

async fn what_is_too_old_is_gone(store: impl OfflineStore) {
    let clock = Clock::new();
    let channels = with(clock.options(store).max_age(Duration::from_secs(100)));
    let ada = channels.user(&id("ada"));
    let code = ada.max_age(Duration::from_secs(10)).send("code").await.unwrap().id;
    let long = ada.max_age(Duration::from_secs(1000)).send("long").await.unwrap().id;
    clock.pass(Duration::from_secs(9));
    assert_eq!(waiting(&ada).await, ["code", "long"]);
    clock.pass(Duration::from_secs(1));
    assert_eq!(waiting(&ada).await, ["long"]);
    assert!(!ada.ack(code).await.unwrap().known);
    let (channel, mut far) = connect("ada");
    let _attachment = channels.offline().attach(&channel).await.unwrap();
    assert_eq!(next_json(&mut far).await["unread"], 1);
    assert_eq!((notification(&mut far).await.0, far.try_recv()), (long, None));
    clock.pass(Duration::from_secs(90));
    assert_eq!(ada.unread().await.unwrap(), 0, "nothing gets older than the bound");
}

/// Tells how many records a store has left.
struct Watched<S> {
    store: S,
    size: Arc<AtomicU64>,
}

impl<S: OfflineStore> OfflineStore for Watched<S> {
    fn state(&mut self) -> Result<StoreState, Error> {
        self.store.state()
    }
    fn load(&mut self, user: &UserId) -> Result<Vec<Record>, Error> {
        self.store.load(user)
    }
    fn commit(&mut self, changes: &[Change]) -> Result<(), Error> {
        self.store.commit(changes)?;
        self.size.store(self.store.state()?.size, SeqCst);
        Ok(())
    }
    fn expired(&mut self, now: u64, most: usize) -> Result<Vec<(UserId, Record)>, Error> {
        self.store.expired(now, most)
    }
}

async fn what_is_too_old_is_removed_from_the_store_too(store: impl OfflineStore) {
    let (clock, size) = (Clock::new(), Arc::new(AtomicU64::new(0)));
    let channels = with(clock.options(Watched { store, size: Arc::clone(&size) }));
    let users: Vec<_> = (0..300).map(|n| channels.user(&id(&format!("user {n}")))).collect();
    let sent = join_all(users.iter().map(|user| user.idempotency_key("k").send(&1))).await;
    assert!(sent.iter().all(Result::is_ok));
    assert!(users[0].ack(sent[0].as_ref().unwrap().id).await.unwrap().known, "a key is left of it");
    assert_eq!(size.load(SeqCst), 300 * 66 - 1);
    clock.pass(Duration::from_secs(8 * 24 * 3600));
    // A few at a time, for as long as there are some: nobody of the 300 has to come back.
    let eve = channels.user(&id("eve"));
    eve.unread().await.unwrap();
    tokio::time::timeout(Duration::from_secs(20), async {
        while size.load(SeqCst) > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the writer goes on by itself");
    assert_eq!(eve.unread().await.unwrap(), 0);
    assert_eq!(channels.stats().offline.expired, 299);
}

async fn all_can_be_acknowledged_at_once(store: impl OfflineStore) {
    let channels = over(store);
    let ada = channels.user(&id("ada"));
    for n in 0..5 {
        ada.send(&n).await.unwrap();
    }
    let (channel, mut far) = connect("ada");
    let _attachment = channels.offline().attach(&channel).await.unwrap();
    assert_eq!(next_json(&mut far).await["unread"], 5);
    for _ in 0..5 {
        notification(&mut far).await;
    }
    assert_eq!((ada.clear().await.unwrap(), ada.unread().await.unwrap()), (5, 0));
    assert_eq!(next_json(&mut far).await, json!({"type": "unread", "unread": 0}));
    assert_eq!(ada.clear().await.unwrap(), 0);
}

async fn a_dropped_send_is_done_still_and_a_dropped_attach_is_not(store: impl OfflineStore) {
    let channels = over(store);
    let ada = channels.user(&id("ada"));
    let never_polled = ada.send("never polled");
    drop(never_polled);
    drop(Box::pin(ada.send("dropped")).now_or_never());
    ada.send("after it").await.unwrap();
    assert_eq!(waiting(&ada).await, ["dropped", "after it"]);
    for _ in 0..20 {
        let (channel, _far) = connect("ada");
        drop(Box::pin(channels.offline().attach(&channel)).now_or_never());
        // It has been dealt with: all is in one order.
        ada.unread().await.unwrap();
        assert!(channels.offline().attach(&channel).await.is_ok(), "it was not attached");
    }
    assert!(ada.send("nobody there").await.unwrap().queued);
}

/// Fails when told to: it says so, or panics.
struct Failing<S> {
    store: S,
    fails: Arc<AtomicBool>,
    panics: bool,
}

impl<S> Failing<S> {
    fn check(&self) -> Result<(), Error> {
        assert!(!(self.panics && self.fails.load(SeqCst)), "on purpose");
        if self.fails.load(SeqCst) { Err("on purpose".into()) } else { Ok(()) }
    }
}

impl<S: OfflineStore> OfflineStore for Failing<S> {
    fn state(&mut self) -> Result<StoreState, Error> {
        self.store.state()
    }
    fn load(&mut self, user: &UserId) -> Result<Vec<Record>, Error> {
        self.store.load(user)
    }
    fn commit(&mut self, changes: &[Change]) -> Result<(), Error> {
        self.check()?;
        self.store.commit(changes)
    }
    fn expired(&mut self, now: u64, most: usize) -> Result<Vec<(UserId, Record)>, Error> {
        self.store.expired(now, most)
    }
}

async fn a_failing_store_fails_its_batch_and_nothing_else(store: impl OfflineStore) {
    let fails = Arc::new(AtomicBool::new(false));
    let channels = over(Failing { store, fails: Arc::clone(&fails), panics: false });
    let ada = channels.user(&id("ada"));
    let first = ada.send("first").await.unwrap().id;
    let (channel, mut far) = connect("ada");
    let _attachment = channels.offline().attach(&channel).await.unwrap();
    assert_eq!((next_json(&mut far).await["unread"].clone(), notification(&mut far).await.0), (json!(1), first));

    fails.store(true, SeqCst);
    let (late, mut far_late) = connect("ada");
    // In one batch, perhaps: who changes nothing has its answer, from what the store has.
    let key = || ada.idempotency_key("k").send("lost");
    let (lost, again, ack, unread, attached) =
        tokio::join!(key(), key(), ada.ack(first), ada.unread(), channels.offline().attach(&late));
    for error in [lost.unwrap_err(), again.unwrap_err()] {
        let NotifyError::Offline(OfflineError::Store(error)) = error else { panic!("{error}") };
        assert_eq!(error.to_string(), "on purpose");
    }
    assert!(matches!(ack, Err(OfflineError::Store(_))) && matches!(ada.clear().await, Err(OfflineError::Store(_))));
    assert_eq!(unread.unwrap(), 1);
    let _attached = attached.unwrap();
    assert_eq!(
        (next_json(&mut far_late).await["unread"].clone(), notification(&mut far_late).await.0),
        (json!(1), first)
    );
    let ack = json!({"type": "ack", "notification_id": first}).to_string();
    let handled = channels.answer(&channel.sender(), &ack).await;
    assert!(matches!(handled, Err(OfflineError::Store(_))));
    assert_eq!(next_json(&mut far).await["type"], "error");
    assert_eq!((far.try_recv(), far_late.try_recv()), (None, None), "nothing of it was delivered");

    fails.store(false, SeqCst);
    let second = ada.idempotency_key("k").send("second").await.unwrap();
    assert!(!second.duplicate && second.id > first, "the key of the lost one is free");
    assert_eq!(notification(&mut far).await, (second.id, json!("second")));
    assert_eq!(waiting(&ada).await, ["first", "second"]);
}

async fn a_panicking_store_is_a_failing_one(store: impl OfflineStore) {
    let fails = Arc::new(AtomicBool::new(true));
    let channels = over(Failing { store, fails: Arc::clone(&fails), panics: true });
    let ada = channels.user(&id("ada"));
    let error = ada.send(&1).await.unwrap_err();
    let NotifyError::Offline(OfflineError::Store(error)) = error else { panic!("{error}") };
    assert!(error.to_string().contains("panicked: on purpose"), "{error}");
    fails.store(false, SeqCst);
    ada.send(&2).await.unwrap();
    assert_eq!(waiting(&ada).await, [2]);
}

/// Tells when it is dropped.
struct Mortal<S> {
    store: S,
    _alive: mpsc::Sender<()>,
}

impl<S: OfflineStore> OfflineStore for Mortal<S> {
    fn state(&mut self) -> Result<StoreState, Error> {
        self.store.state()
    }
    fn load(&mut self, user: &UserId) -> Result<Vec<Record>, Error> {
        self.store.load(user)
    }
    fn commit(&mut self, changes: &[Change]) -> Result<(), Error> {
        self.store.commit(changes)
    }
    fn expired(&mut self, now: u64, most: usize) -> Result<Vec<(UserId, Record)>, Error> {
        self.store.expired(now, most)
    }
}

async fn a_store_is_dropped_with_its_box(store: impl OfflineStore) {
    let (alive, dropped) = mpsc::channel();
    let channels = over(Mortal { store, _alive: alive });
    let ada = channels.user(&id("ada"));
    drop(channels);
    ada.send("a handle holds the box").await.unwrap();
    let (channel, _far) = connect("ada");
    let attachment = ada.clone();
    drop(Box::pin(ada.send("asked before")).now_or_never());
    drop((ada, attachment, channel));
    assert_eq!(dropped.recv_timeout(Duration::from_secs(20)), Err(mpsc::RecvTimeoutError::Disconnected));
}

async fn who_closes_the_queues_waits_for_what_was_asked_before(store: impl OfflineStore) {
    let (alive, dropped) = mpsc::channel();
    let channels = over(Mortal { store, _alive: alive });
    let ada = channels.user(&id("ada"));
    let (sent, (), ()) = tokio::join!(ada.send("in time"), channels.offline().close(), channels.offline().close());
    assert!(sent.is_ok());
    assert_eq!(dropped.try_recv(), Err(mpsc::TryRecvError::Disconnected), "it is dropped by now");
    assert!(matches!(ada.send("too late").await, Err(NotifyError::Offline(OfflineError::Stopped))));
    assert!(matches!(ada.unread().await, Err(OfflineError::Stopped)));
    channels.offline().close().await;
}

async fn a_client_that_reads_too_slowly_comes_back_for_the_rest(store: impl OfflineStore) {
    let channels = over(store);
    let ada = channels.user(&id("ada"));
    let limits = OutboxLimits::default().max_messages(4);
    let options = ChannelOptions::default().outbox(limits).user(id("ada"));
    let (slow, mut far_slow) = Channel::in_memory_with(options);
    let attachment = channels.offline().attach(&slow).await.unwrap();
    let payload = "x".repeat(20_000);
    let mut sent = Vec::new();
    for _ in 0..12 {
        sent.push(ada.send(&payload).await.unwrap());
    }
    assert!(!sent[0].queued && sent[11].queued, "it has taken some, and then was closed");
    let mut last = None;
    while let Some(message) = next(&mut far_slow).await {
        let closes = matches!(message, FarMessage::Close { .. });
        last = Some(message);
        if closes {
            break;
        }
    }
    assert!(matches!(last, Some(FarMessage::Close { code: CloseCode::TRY_AGAIN_LATER, .. })), "{last:?}");
    drop((attachment, slow));
    let (channel, mut far) = connect("ada");
    let _attachment = channels.offline().attach(&channel).await.unwrap();
    assert_eq!(next_json(&mut far).await["unread"], 12);
    for sent in sent {
        assert_eq!(notification(&mut far).await.0, sent.id);
    }
}

async fn what_is_too_large_to_go_live_comes_with_the_next_connection(store: impl OfflineStore) {
    let channels = with(OfflineOptions::default().store(store).max_bytes(16 << 20));
    let ada = channels.user(&id("ada"));
    let (channel, mut far) = connect("ada");
    let attachment = channels.offline().attach(&channel).await.unwrap();
    assert_eq!(next_json(&mut far).await["unread"], 0);
    let large = ada.send(&"x".repeat(9 << 20)).await.unwrap();
    assert!(large.queued);
    assert!(matches!(next(&mut far).await, Some(FarMessage::Close { code: CloseCode::TRY_AGAIN_LATER, .. })));
    drop((attachment, channel));
    let (channel, mut far) = connect("ada");
    let _attachment = channels.offline().attach(&channel).await.unwrap();
    assert_eq!(next_json(&mut far).await["unread"], 1);
    assert_eq!(notification(&mut far).await.0, large.id);
}

async fn revoked_users_keep_their_queues(store: impl OfflineStore) {
    let channels = over(store);
    let ada = channels.user(&id("ada"));
    let (attached, mut far) = connect("ada");
    let (begun, _far_begun) = connect("ada");
    let _attachment = channels.offline().attach(&attached).await.unwrap();
    assert_eq!(channels.user(&id("ada")).revoke(), 1);
    assert!(ada.send("waits").await.unwrap().queued);
    assert_eq!(next_json(&mut far).await["unread"], 0);
    assert!(matches!(next(&mut far).await, Some(FarMessage::Close { code: CloseCode::REVOKED, .. })));
    assert!(matches!(channels.offline().attach(&begun).await, Err(AttachError::Denied)));
    let (back, mut far_back) = connect("ada");
    let _attachment = channels.offline().attach(&back).await.unwrap();
    assert_eq!(next_json(&mut far_back).await["unread"], 1);
}

async fn many_users_at_once_have_a_queue_each(store: impl OfflineStore) {
    let channels = over(store);
    let tasks = (0..20).map(|n| {
        let user = channels.user(&id(&format!("user {n}")));
        tokio::spawn(async move {
            let mut left = Vec::new();
            for k in 0..25 {
                let sent = user.send(&(n, k)).await.unwrap();
                if (n + k) % 3 == 0 {
                    assert!(user.ack(sent.id).await.unwrap().known);
                } else {
                    left.push(sent.id);
                }
            }
            let pending: Vec<_> = user.pending().await.unwrap().iter().map(|one| one.id()).collect();
            assert_eq!(pending, left);
            left
        })
    });
    let left: Vec<_> = join_all(tasks).await.into_iter().flat_map(Result::unwrap).collect();
    let unique: std::collections::HashSet<_> = left.iter().collect();
    assert_eq!(unique.len(), left.len(), "ids are the store's");
}

async fn a_channel_is_attached_once_and_only_with_a_user(store: impl OfflineStore) {
    let channels = over(store);
    let (nobody, _far_nobody) = Channel::in_memory();
    assert!(matches!(channels.offline().attach(&nobody).await, Err(AttachError::NoUser)));
    let (channel, mut far) = connect("ada");
    let first = channels.offline().attach(&channel).await.unwrap();
    assert!(matches!(channels.offline().attach(&channel).await, Err(AttachError::AlreadyAttached)));
    assert_eq!((channels.stats().groups, channels.user(&id("ada")).channels()), (0, vec![channel.id()]));
    drop(first);
    let _second = channels.offline().attach(&channel).await.unwrap();
    assert_eq!(
        (next_json(&mut far).await["unread"].clone(), next_json(&mut far).await["unread"].clone()),
        (json!(0), json!(0))
    );
    assert_eq!(far.try_recv(), None, "the refused one has got nothing");
    channel.close(CloseCode::NORMAL, "");
    let (closed, _far_closed) = connect("ada");
    closed.close(CloseCode::NORMAL, "");
    assert!(matches!(channels.offline().attach(&closed).await, Err(AttachError::Closed)));
}

#[cfg(feature = "redb")]
#[tokio::test]
async fn what_ended_while_nobody_ran_is_told_and_counted_once() {
    let (folder, clock) = (Folder::new("ended"), Clock::new());
    let channels = with(clock.options(folder.open()));
    let ada = channels.user(&id("ada"));
    for number in 0..3 {
        ada.max_age(Duration::from_secs(60)).send(&number).await.unwrap();
    }
    channels.offline().close().await;

    clock.pass(Duration::from_secs(3600));
    let (events, told) = (Dispatcher::new(), Arc::new(AtomicU64::new(0)));
    let count = Arc::clone(&told);
    events.on(OFFLINE_DROPPED, move |_| _ = count.fetch_add(1, SeqCst)).unwrap();
    // No more than that has room: were the old ones taken off twice, more would.
    let options = clock.options(folder.open()).max_store_bytes(400);
    let channels = ChannelBox::builder().events(&events).offline(options).build();
    let ada = channels.user(&id("ada"));
    assert_eq!(ada.unread().await.unwrap(), 0);
    let mut taken = 0;
    while ada.send(&"x".repeat(50)).await.is_ok() {
        taken += 1;
    }
    assert_eq!((told.load(SeqCst), channels.stats().offline.expired), (3, 3));
    assert!((1..=400 / 50).contains(&taken), "{taken} of 50 bytes and more in 400");
}

#[cfg(feature = "redb")]
#[tokio::test]
async fn a_file_outlasts_its_box_with_ids_keys_and_bounds() {
    use fanfare::group::offline::{RedbOpenError, RedbStore};

    let folder = Folder::new("restart");
    let channels = with(OfflineOptions::default().store(folder.open()).max_store_bytes(300));
    let ada = channels.user(&id("ada"));
    let kept = ada.urgency(Urgency::High).send(&"ä\u{1f980}").await.unwrap().id;
    let keyed = ada.idempotency_key("k").send("keyed").await.unwrap().id;
    let last = ada.send("acknowledged").await.unwrap().id;
    assert!(ada.ack(keyed).await.unwrap().known && ada.ack(last).await.unwrap().known);
    let in_use = RedbStore::open(folder.0.join("queue")).unwrap_err();
    assert!(matches!(in_use, RedbOpenError::InUse) && in_use.to_string().contains("in use"), "{in_use}");
    channels.offline().close().await;

    let channels = with(OfflineOptions::default().store(folder.open()).max_store_bytes(300));
    let ada = channels.user(&id("ada"));
    let pending = ada.pending().await.unwrap();
    assert_eq!((pending.len(), pending[0].id(), pending[0].urgency()), (1, kept, Urgency::High));
    assert_eq!(pending[0].data::<String>().unwrap(), "ä\u{1f980}");
    let again = ada.idempotency_key("k").send("keyed").await.unwrap();
    assert!(again.duplicate && again.id == keyed);
    let next = ada.send("next").await.unwrap().id;
    assert!(next > last, "the id of one that is gone is not used again");
    assert!(matches!(ada.send(&"x".repeat(100)).await, Err(NotifyError::StoreFull)), "what there was counts");
}
