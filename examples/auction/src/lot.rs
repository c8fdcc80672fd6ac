//! A lot and the rules of bidding: plain values, without tasks or disk. The caller passes the time, as milliseconds
//! since 1970 by the server's clock.

use std::collections::BTreeSet;
use std::fmt;

use fanfare::channel::UserId;
use serde::{Deserialize, Deserializer, Serialize};

use crate::message::Notice;
use crate::money::Cents;

/// How many bids a lot accepts. All are kept, so that a repeated bid is recognised.
pub(crate) const MOST_BIDS: usize = 2000;
/// How many of the last bids the pages show.
const SHOWN_BIDS: usize = 8;

/// A lot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Lot {
    pub(crate) id: u64,
    pub(crate) title: String,
    /// `None` for a lot of the house.
    pub(crate) seller: Option<UserId>,
    /// The least amount of the first bid.
    pub(crate) opening: Cents,
    /// The closing time, which late bids move: see `soft_close`.
    pub(crate) closes: u64,
    /// A bid less than this many milliseconds before the closing time moves that time to this long after the bid.
    pub(crate) soft_close: u64,
    pub(crate) is_closed: bool,
    /// The number of bids, from the first, whose outbid users have their notices.
    pub(crate) told: usize,
    /// Whether all users have the notice of the result.
    pub(crate) is_settled: bool,
    /// In order: the first has number 1, the last leads. On disk each bid has its own row.
    #[serde(skip)]
    pub(crate) bids: Vec<Bid>,
}

/// A bid that was accepted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Bid {
    /// The bid's number in its lot, from 1 without gaps.
    pub(crate) seq: u64,
    /// The client's own id for the bid.
    pub(crate) id: BidId,
    pub(crate) user: UserId,
    pub(crate) amount: Cents,
    pub(crate) time: u64,
}

/// The client's own id for a bid, which identifies a repetition: 1 to 64 characters, unique among its user's bids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct BidId(String);

impl BidId {
    pub(crate) fn new(id: String) -> Option<Self> {
        (1..=64).contains(&id.chars().count()).then_some(Self(id))
    }
}

impl<'de> Deserialize<'de> for BidId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let error = || serde::de::Error::custom("the id of a bid has 1 to 64 characters");
        Self::new(String::deserialize(from)?).ok_or_else(error)
    }
}

/// The phase of a lot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    Open,
    /// Near its end: a bid moves the closing time.
    Closing,
    Closed,
}

/// The outcome of a bid that is not refused.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Accepted {
    /// The bid leads.
    New(Bid),
    /// The bid was accepted before; its client has repeated it, without an answer.
    Again(Bid),
}

/// Why a bid is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// There is no such lot, or it was removed.
    NoLot,
    Closed,
    /// The lot has the maximum number of bids.
    Full,
    OwnLot,
    Leads,
    /// The amount is too low. Holds the least accepted amount; `None` if the price is the highest possible.
    TooLow(Option<Cents>),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLot => f.write_str("there is no such lot"),
            Self::Closed => f.write_str("the lot is closed"),
            Self::Full => write!(f, "the lot has had {MOST_BIDS} bids and takes no more"),
            Self::OwnLot => f.write_str("it is your own lot"),
            Self::Leads => f.write_str("you lead already"),
            Self::TooLow(Some(least)) => write!(f, "bid {least} or more"),
            Self::TooLow(None) => write!(f, "{} is the highest bid there is", Cents::MOST),
        }
    }
}

impl Lot {
    /// Returns a lot without bids. The store assigns its number.
    pub(crate) fn new(title: String, seller: Option<UserId>, opening: Cents, closes: u64, soft_close: u64) -> Self {
        let (is_closed, told, is_settled, bids) = (false, 0, false, Vec::new());
        Self { id: 0, title, seller, opening, closes, soft_close, is_closed, told, is_settled, bids }
    }

    /// Accepts or refuses a bid. A refused bid changes nothing.
    pub(crate) fn bid(&mut self, now: u64, user: &UserId, id: &BidId, amount: Cents) -> Result<Accepted, Refusal> {
        if let Some(bid) = self.bids.iter().rfind(|bid| bid.id == *id && bid.user == *user) {
            return Ok(Accepted::Again(bid.clone()));
        }
        // The time decides, even if no timer has closed the lot yet.
        if self.is_closed || now >= self.closes {
            return Err(Refusal::Closed);
        }
        if self.bids.len() >= MOST_BIDS {
            return Err(Refusal::Full);
        }
        if self.seller.as_ref() == Some(user) {
            return Err(Refusal::OwnLot);
        }
        if self.leader().is_some_and(|leader| leader.user == *user) {
            return Err(Refusal::Leads);
        }
        let least = self.least();
        if least.is_none_or(|least| amount < least) {
            return Err(Refusal::TooLow(least));
        }
        let bid = Bid { seq: self.bids.len() as u64 + 1, id: id.clone(), user: user.clone(), amount, time: now };
        self.bids.push(bid.clone());
        self.closes = self.closes.max(now + self.soft_close);
        Ok(Accepted::New(bid))
    }

    /// Closes the lot if its time is over; returns whether this call closed it.
    pub(crate) fn close(&mut self, now: u64) -> bool {
        let is_due = !self.is_closed && now >= self.closes;
        self.is_closed |= is_due;
        is_due
    }

    /// Returns the leading or winning bid.
    pub(crate) fn leader(&self) -> Option<&Bid> {
        self.bids.last()
    }

    /// Returns the least amount of the next bid; `None` if no bid is accepted.
    pub(crate) fn least(&self) -> Option<Cents> {
        match self.leader() {
            _ if self.is_closed || self.bids.len() >= MOST_BIDS => None,
            Some(leader) => leader.amount.next(),
            None => Some(self.opening),
        }
    }

    pub(crate) fn status(&self, now: u64) -> Status {
        match self.is_closed {
            true => Status::Closed,
            false if now + self.soft_close >= self.closes => Status::Closing,
            false => Status::Open,
        }
    }

    /// Returns when the status changes by itself, unless a bid moves the closing time.
    pub(crate) fn next_change(&self, now: u64) -> Option<u64> {
        match self.status(now) {
            Status::Open => Some(self.closes - self.soft_close),
            Status::Closing => Some(self.closes),
            Status::Closed => None,
        }
    }

    /// Returns the last bids, in order.
    pub(crate) fn last_bids(&self) -> &[Bid] {
        &self.bids[self.bids.len().saturating_sub(SHOWN_BIDS)..]
    }

    /// Returns the notices that are due: to outbid users, and of the result. After a crash some may have been sent
    /// before.
    pub(crate) fn notices(&self) -> Vec<Notice> {
        let outbid = self.bids.windows(2).skip(self.told.saturating_sub(1)).map(|pair| Notice::outbid(self, pair));
        let mut notices: Vec<_> = outbid.collect();
        if self.is_closed && !self.is_settled {
            let winner = self.leader();
            notices.extend(winner.map(|bid| Notice::won(self, bid)));
            let losers: BTreeSet<_> = self.bids.iter().map(|bid| &bid.user).collect();
            let losers = losers.into_iter().filter(|user| winner.is_some_and(|bid| bid.user != **user));
            notices.extend(losers.map(|user| Notice::lost(self, user)));
            notices.extend(self.seller.as_ref().map(|seller| Notice::ended(self, seller)));
        }
        notices
    }

    /// Records that all these notices were sent.
    pub(crate) fn settle(&mut self) {
        (self.told, self.is_settled) = (self.bids.len(), self.is_closed);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: u64 = 1_763_700_000_000;

    fn user(name: &str) -> UserId {
        UserId::new(name).expect("it is a name")
    }

    fn id(number: u32) -> BidId {
        BidId::new(number.to_string()).expect("it is an id")
    }

    fn cents(cents: u64) -> Cents {
        Cents::new(cents).expect("it is an amount")
    }

    /// Closes a minute after the start, softly in the last ten seconds.
    fn lot() -> Lot {
        Lot::new("A teapot".into(), Some(user("sue")), cents(1000), START + 60_000, 10_000)
    }

    fn bid(lot: &mut Lot, now: u64, name: &str, number: u32, amount: u64) -> Result<Accepted, Refusal> {
        lot.bid(START + now, &user(name), &id(number), cents(amount))
    }

    #[test]
    fn each_refusal_has_its_reason_and_changes_nothing() {
        let mut lot = lot();
        assert_eq!(bid(&mut lot, 0, "ada", 1, 999), Err(Refusal::TooLow(Some(cents(1000)))));
        assert_eq!(bid(&mut lot, 0, "sue", 1, 2000), Err(Refusal::OwnLot));
        bid(&mut lot, 0, "ada", 1, 1000).expect("the opening price will do");
        assert_eq!(bid(&mut lot, 0, "ada", 2, 2000), Err(Refusal::Leads));
        let before = lot.clone();
        assert_eq!(bid(&mut lot, 55_000, "bob", 1, 1099), Err(Refusal::TooLow(Some(cents(1100)))));
        assert_eq!(lot, before, "a refused bid does not move the closing time either");
        bid(&mut lot, 1, "bob", 1, 100_000_000).expect("the highest amount is one");
        assert_eq!(bid(&mut lot, 2, "ada", 3, 100_000_000), Err(Refusal::TooLow(None)));
    }

    #[test]
    fn a_bid_in_the_last_seconds_moves_the_closing_time_and_an_earlier_one_does_not() {
        let mut lot = lot();
        bid(&mut lot, 50_000, "ada", 1, 1000).expect("it is good");
        assert_eq!(lot.closes, START + 60_000);
        bid(&mut lot, 50_001, "bob", 1, 1100).expect("it is good");
        assert_eq!(lot.closes, START + 60_001);
        bid(&mut lot, 60_000, "ada", 2, 1200).expect("the old closing time is over, the new one is not");
        assert_eq!(lot.closes, START + 70_000);
    }

    #[test]
    fn a_bid_at_the_closing_time_is_late_even_if_the_lot_is_not_closed_yet() {
        let mut lot = lot();
        bid(&mut lot, 0, "ada", 1, 1000).expect("it is good");
        assert_eq!(bid(&mut lot, 60_000, "bob", 1, 1100), Err(Refusal::Closed));
        assert!(!lot.is_closed);
        let again = bid(&mut lot, 60_000, "ada", 1, 1000);
        assert!(matches!(again, Ok(Accepted::Again(bid)) if bid.seq == 1), "it was accepted in time");
        assert!(!lot.close(START + 59_999));
        assert!(lot.close(START + 60_000));
        assert!(!lot.close(START + 60_001), "once");
        assert_eq!((lot.least(), lot.next_change(START + 60_001)), (None, None));
    }

    #[test]
    fn the_status_changes_when_it_says() {
        let mut lot = lot();
        assert_eq!((lot.status(START), lot.next_change(START)), (Status::Open, Some(START + 50_000)));
        let now = START + 50_000;
        assert_eq!((lot.status(now), lot.next_change(now)), (Status::Closing, Some(START + 60_000)));
        lot.close(START + 60_000);
        assert_eq!(lot.status(now), Status::Closed);
    }

    #[test]
    fn a_full_lot_takes_no_more_and_still_knows_its_bids() {
        let mut lot = lot();
        // With the usual steps the price would reach its cap long before.
        for seq in 1..=MOST_BIDS as u64 {
            let (user, amount) = (user(["ada", "bob"][(seq % 2) as usize]), cents(seq));
            lot.bids.push(Bid { seq, id: id(seq as u32), user, amount, time: START });
        }
        assert_eq!(bid(&mut lot, 0, "cleo", 1, 90_000), Err(Refusal::Full));
        assert_eq!(lot.least(), None);
        assert!(matches!(bid(&mut lot, 0, "bob", 1, 1), Ok(Accepted::Again(_))));
    }

    #[test]
    fn notices_are_due_until_they_are_sent_and_keep_their_keys() {
        let keys = |lot: &Lot| -> Vec<_> {
            lot.notices().into_iter().map(|notice| format!("{}: {}", notice.user, notice.key)).collect()
        };
        let mut lot = lot();
        bid(&mut lot, 0, "ada", 1, 1000).expect("it is good");
        assert!(keys(&lot).is_empty());
        lot.settle();
        bid(&mut lot, 0, "bob", 1, 1100).expect("it is good");
        bid(&mut lot, 0, "ada", 2, 1200).expect("it is good");
        assert_eq!(keys(&lot), ["ada: outbid 0 2", "bob: outbid 0 3"]);
        assert_eq!(keys(&lot), keys(&lot.clone()), "a crash, and they are due again");
        lot.settle();
        assert!(keys(&lot).is_empty());
        lot.close(START + 60_000);
        assert_eq!(keys(&lot), ["ada: won 0", "bob: lost 0", "sue: ended 0"]);
        lot.settle();
        assert!(keys(&lot).is_empty());
    }

    /// The rules again, as simply as possible: a list of all accepted bids, searched for each question.
    #[derive(Default)]
    struct Naive {
        accepted: Vec<(u64, String, u32, u64)>,
    }

    impl Naive {
        fn closes(&self) -> u64 {
            self.accepted
                .iter()
                .fold(60_000, |closes, (time, ..)| if closes - time < 10_000 { time + 10_000 } else { closes })
        }

        fn price(&self) -> Option<u64> {
            self.accepted.iter().map(|(.., amount)| *amount).max()
        }

        fn least(&self) -> u64 {
            match self.price() {
                None => 1000,
                Some(price) if price < 10_000 => price + 100,
                Some(price) if price < 100_000 => price + 500,
                Some(price) => price + 2500,
            }
        }

        /// Returns the number of the bid, or `None`.
        fn bid(&mut self, now: u64, name: &str, id: u32, amount: u64) -> Option<usize> {
            if let Some(place) = self.accepted.iter().position(|(_, user, number, _)| user == name && *number == id) {
                return Some(place + 1);
            }
            let leads =
                self.accepted.iter().max_by_key(|(.., amount)| *amount).is_some_and(|(_, user, ..)| user == name);
            if now >= self.closes() || name == "sue" || leads || amount < self.least() {
                return None;
            }
            self.accepted.push((now, name.to_owned(), id, amount));
            Some(self.accepted.len())
        }
    }

    proptest! {
        #[test]
        fn a_lot_does_as_a_naive_model(
            tries in prop::collection::vec((0u64..3000, 0usize..4, 0u32..12, 0u64..40, any::<bool>()), 1..120)
        ) {
            let (mut lot, mut naive, mut now) = (lot(), Naive::default(), 0);
            for (later, who, number, more, is_jump) in tries {
                now += later;
                let name = ["ada", "bob", "cleo", "sue"][who];
                // Around the least accepted amount, or far above it.
                let amount = naive.least() + more * if is_jump { 1000 } else { 10 } - 50;
                let expected = naive.bid(now, name, number, amount);
                let got = bid(&mut lot, now, name, number, amount);
                let seq = got.as_ref().ok().map(|(Accepted::New(bid) | Accepted::Again(bid))| bid.seq as usize);
                prop_assert_eq!(seq, expected, "{:?}", got);
                prop_assert_eq!(lot.closes, START + naive.closes());
                prop_assert_eq!(lot.bids.len(), naive.accepted.len());
                prop_assert_eq!(lot.leader().map(|bid| bid.amount), naive.price().map(cents));
                prop_assert_eq!(lot.least(), Some(cents(naive.least())));
                let follows = |pair: &[Bid]| pair[0].amount < pair[1].amount && pair[0].seq + 1 == pair[1].seq;
                prop_assert!(lot.bids.windows(2).all(follows));
            }
        }
    }
}
