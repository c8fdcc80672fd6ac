//! The queue compared with a naive model: a vector and loops.

use proptest::prelude::*;

use super::super::memory::MemoryStore;
use super::super::store::OfflineStore;
use super::*;

const LIMITS: Limits = Limits { max_messages: 4, max_bytes: 20, max_age: 50 };
/// The limit of the store, in sizes of records.
const ROOM: u64 = 600;

#[derive(Clone, Debug)]
enum Act {
    Send {
        len: usize,
        urgency: Urgency,
        key: Option<u8>,
        expires_in: Option<u64>,
    },
    /// The index of the id among all that were sent.
    Ack(u64),
    Clear,
    Wait(u64),
    Reload,
    Purge,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let urgency = prop::sample::select(vec![Urgency::Low, Urgency::Normal, Urgency::High]);
    let send = (0..25usize, urgency, prop::option::of(0..6u8), prop::option::weighted(0.3, 0..60u64));
    let act = prop_oneof![
        6 => send.prop_map(|(len, urgency, key, expires_in)| Act::Send { len, urgency, key, expires_in }),
        3 => (0..40u64).prop_map(Act::Ack),
        1 => Just(Act::Clear),
        2 => (0..30u64).prop_map(Act::Wait),
        1 => Just(Act::Reload),
        1 => Just(Act::Purge),
    ];
    prop::collection::vec(act, 0..80)
}

/// All notifications that were ever sent; removed ones are marked.
#[derive(Default)]
struct Model {
    sent: Vec<ModelItem>,
}

#[derive(Clone)]
struct ModelItem {
    id: u64,
    time: u64,
    len: usize,
    urgency: Urgency,
    key: Option<u8>,
    expires: u64,
    state: ModelState,
}

#[derive(Clone, Copy, PartialEq)]
enum ModelState {
    Waiting,
    Tombstone,
    Gone,
}

impl Model {
    fn pass(&mut self, now: u64) {
        for item in &mut self.sent {
            let over = match item.state {
                ModelState::Waiting => item.expires <= now,
                ModelState::Tombstone => item.time + LIMITS.max_age <= now,
                ModelState::Gone => false,
            };
            if over {
                item.state = ModelState::Gone;
            }
        }
    }

    fn waiting(&self) -> Vec<u64> {
        self.sent.iter().filter(|item| item.state == ModelState::Waiting).map(|item| item.id).collect()
    }

    fn send(&mut self, new: ModelItem) -> Result<(u64, bool), Refusal> {
        let known = |item: &&ModelItem| item.state != ModelState::Gone && item.key.is_some() && item.key == new.key;
        if let Some(first) = self.sent.iter().find(known) {
            return Ok((first.id, true));
        }
        if new.len > LIMITS.max_bytes {
            return Err(Refusal::TooLarge);
        }
        let before = self.sent.clone();
        loop {
            let waiting = || self.sent.iter().filter(|item| item.state == ModelState::Waiting);
            let bytes: usize = waiting().map(|item| item.len).sum();
            if waiting().count() < LIMITS.max_messages && bytes + new.len <= LIMITS.max_bytes {
                break;
            }
            let least = waiting().min_by_key(|item| (item.urgency, item.id)).expect("something is too much").id;
            let least = self.sent.iter_mut().find(|item| item.id == least).expect("just found");
            if least.urgency > new.urgency {
                self.sent = before;
                return Err(Refusal::Full);
            }
            least.state = ModelState::Gone;
        }
        if self.size() + size(&new) > ROOM {
            self.sent = before;
            return Err(Refusal::NoRoom);
        }
        self.sent.push(new.clone());
        Ok((new.id, false))
    }

    fn ack(&mut self, id: u64) -> bool {
        let Some(item) = self.sent.iter_mut().find(|item| item.id == id) else { return false };
        if item.state != ModelState::Waiting {
            return false;
        }
        item.state = if item.key.is_some() { ModelState::Tombstone } else { ModelState::Gone };
        let tombstones: Vec<_> = self.sent.iter_mut().filter(|item| item.state == ModelState::Tombstone).collect();
        let too_many = tombstones.len().saturating_sub(LIMITS.max_messages);
        tombstones.into_iter().take(too_many).for_each(|item| item.state = ModelState::Gone);
        true
    }

    fn size(&self) -> u64 {
        self.sent.iter().map(size).sum()
    }
}

fn size(item: &ModelItem) -> u64 {
    let key = u64::from(item.key.is_some());
    match item.state {
        ModelState::Waiting => 64 + key + item.len as u64,
        ModelState::Tombstone => 64 + key,
        ModelState::Gone => 0,
    }
}

proptest! {
    #[test]
    fn a_queue_does_what_the_naive_model_does_and_its_store_keeps_up(acts in acts()) {
        let user = UserId::new("ada").expect("it is one");
        let mut store = MemoryStore::new();
        let (mut queue, mut model) = (Queue::new(user.clone(), Vec::new()), Model::default());
        let (mut now, mut last_id) = (1000, 0);
        for act in acts {
            let mut plan = Plan::default();
            match act {
                Act::Send { len, urgency, key, expires_in } => {
                    model.pass(now);
                    let expires = now + expires_in.unwrap_or(u64::MAX).min(LIMITS.max_age);
                    let id = last_id + 1;
                    let new = ModelItem { id, time: now, len, urgency, key, expires, state: ModelState::Waiting };
                    let key = key.map(|key| Arc::from(key.to_string()));
                    let draft = Draft { payload: vec![b'1'; len].into(), urgency, key, expires_in };
                    let room = ROOM - queue.size();
                    let got = queue.send(&draft, id, now, &LIMITS, room, &mut plan);
                    let expected = model.send(new);
                    let got = got.map(|admission| match admission {
                        Admission::Taken(record) => (record.id, false),
                        Admission::Duplicate { id, .. } => (id, true),
                    });
                    prop_assert_eq!(got, expected);
                    last_id = id;
                }
                Act::Ack(id) => {
                    model.pass(now);
                    prop_assert_eq!(queue.ack(id, now, &LIMITS, &mut plan), model.ack(id));
                }
                Act::Clear => {
                    model.pass(now);
                    let ids = model.waiting();
                    ids.iter().for_each(|id| _ = model.ack(*id));
                    prop_assert_eq!(queue.clear(now, &LIMITS, &mut plan), ids.len());
                }
                Act::Wait(time) => now += time,
                Act::Reload => queue = Queue::new(user.clone(), store.load(&user).expect("it is in memory")),
                Act::Purge => {
                    let due = store.expired(now, 3).expect("it is in memory");
                    due.into_iter().for_each(|(_, record)| queue.end(record.id, &mut plan));
                }
            }
            store.commit(&plan.changes).expect("it is in memory");
            model.pass(now);
            let pending: Vec<_> = queue.pending(now).map(|record| record.id).collect();
            prop_assert_eq!(&pending, &model.waiting());
            prop_assert_eq!(queue.unread(now), pending.len());
            let kept = Queue::new(user.clone(), store.load(&user).expect("it is in memory"));
            prop_assert_eq!(kept.pending(now).collect::<Vec<_>>(), queue.pending(now).collect::<Vec<_>>());
            prop_assert_eq!(store.state().expect("it is in memory").size, queue.size());
            prop_assert!(queue.waiting.len() <= LIMITS.max_messages && queue.bytes <= LIMITS.max_bytes);
            prop_assert!(queue.tombstones.len() <= LIMITS.max_messages);
            let records = queue.waiting.values().chain(queue.tombstones.values());
            prop_assert_eq!(records.filter(|record| record.key.is_some()).count(), queue.keys.len());
            // No drop is reported twice, and every reported notification is gone.
            prop_assert!(plan.dropped.iter().all(|dropped| !queue.waiting.contains_key(&dropped.id)));
        }
    }
}
