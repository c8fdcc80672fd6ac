//! The last messages, by the ids (nonces) that their senders gave them.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use fanfare::channel::UserId;

use crate::Nonce;

/// How many messages are remembered. A page repeats a message within seconds.
const KNOWN: usize = 4096;

/// The nonces of the last messages, with their senders.
#[derive(Default)]
pub(crate) struct Recent(Mutex<Known>);

#[derive(Default)]
struct Known {
    all: HashSet<Arc<(UserId, Nonce)>>,
    /// The oldest first.
    order: VecDeque<Arc<(UserId, Nonce)>>,
}

impl Recent {
    /// Remembers a message; returns false if it is a repetition.
    pub(crate) fn insert(&self, id: &UserId, nonce: &Nonce) -> bool {
        let said = Arc::new((id.clone(), nonce.clone()));
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.all.insert(Arc::clone(&said)) {
            return false;
        }
        known.order.push_back(said);
        if known.order.len() > KNOWN {
            let oldest = known.order.pop_front();
            oldest.map(|oldest| known.all.remove(&oldest));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_remembered_for_a_while_and_for_its_sender_alone() {
        let recent = Recent::default();
        let [ada, bob] = ["ada", "bob"].map(|name| UserId::new(name).expect("the id is good"));
        let nonce = |n: usize| Nonce::try_from(n.to_string()).expect("it is short");
        assert!(recent.insert(&ada, &nonce(0)) && !recent.insert(&ada, &nonce(0)) && recent.insert(&bob, &nonce(0)));
        assert!((1..KNOWN - 1).all(|n| recent.insert(&ada, &nonce(n))));
        assert!(!recent.insert(&ada, &nonce(0)), "the oldest that is remembered");
        assert!(recent.insert(&ada, &nonce(KNOWN)) && recent.insert(&ada, &nonce(0)), "forgotten, and so new again");
        assert_eq!(recent.0.lock().expect("no thread panics with the lock held").all.len(), KNOWN);
    }
}
