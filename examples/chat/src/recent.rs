//! What was said last, by the names that its authors gave it.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use fanfare::channel::UserId;

use crate::Nonce;

/// How many are known. A page that says something again does so within seconds.
const KNOWN: usize = 4096;

/// Who said what last.
#[derive(Default)]
pub(crate) struct Recent(Mutex<Known>);

#[derive(Default)]
struct Known {
    all: HashSet<Arc<(UserId, Nonce)>>,
    /// The oldest first.
    order: VecDeque<Arc<(UserId, Nonce)>>,
}

impl Recent {
    /// Takes note of a message; false when it was said before.
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
    fn what_was_said_is_known_for_a_while_and_to_its_author_alone() {
        let recent = Recent::default();
        let [ada, bob] = ["ada", "bob"].map(|name| UserId::new(name).expect("the id is good"));
        let nonce = |n: usize| Nonce::try_from(n.to_string()).expect("it is short");
        assert!(recent.insert(&ada, &nonce(0)) && !recent.insert(&ada, &nonce(0)) && recent.insert(&bob, &nonce(0)));
        assert!((1..KNOWN - 1).all(|n| recent.insert(&ada, &nonce(n))));
        assert!(!recent.insert(&ada, &nonce(0)), "the last of all that are known");
        assert!(recent.insert(&ada, &nonce(KNOWN)) && recent.insert(&ada, &nonce(0)), "and then no more");
        assert_eq!(recent.0.lock().expect("nobody panics with it").all.len(), KNOWN);
    }
}
