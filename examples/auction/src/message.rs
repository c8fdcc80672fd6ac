//! The messages on the wire.

use fanfare::channel::UserId;
use fanfare::group::offline::Urgency;
use serde::{Deserialize, Serialize};

use crate::lot::{Bid, BidId, Lot, Status};
use crate::money::Cents;

/// A message from a client.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(crate) enum FromClient {
    Bid {
        lot: u64,
        id: BidId,
        amount: Cents,
    },
    /// Asks for the server's time. `sent` is the client's own clock, and comes back unchanged.
    Time {
        sent: f64,
    },
}

/// A message to a client.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(crate) enum ToClient {
    /// All lots: the first message of a connection.
    Lots {
        lots: Vec<Shown>,
        now: u64,
    },
    /// A new lot.
    Lot {
        lot: Shown,
    },
    /// A bid was accepted, and leads. `closes` may have moved.
    Bid {
        lot: u64,
        #[serde(flatten)]
        bid: Bid,
        closes: u64,
        least: Option<Cents>,
    },
    /// A bid was refused: sent to its bidder only.
    Refused {
        lot: u64,
        id: BidId,
        amount: Cents,
        reason: String,
        least: Option<Cents>,
    },
    Status {
        lot: u64,
        status: Status,
        closes: u64,
    },
    Closed {
        lot: u64,
        winner: Option<UserId>,
        amount: Option<Cents>,
    },
    /// The server's clock, in milliseconds.
    Time {
        sent: f64,
        now: u64,
    },
}

impl ToClient {
    pub(crate) fn bid(lot: &Lot, bid: Bid) -> Self {
        Self::Bid { lot: lot.id, bid, closes: lot.closes, least: lot.least() }
    }

    pub(crate) fn status(lot: &Lot, now: u64) -> Self {
        match lot.status(now) {
            Status::Closed => {
                let winner = lot.leader();
                let (user, amount) = (winner.map(|bid| bid.user.clone()), winner.map(|bid| bid.amount));
                Self::Closed { lot: lot.id, winner: user, amount }
            }
            status => Self::Status { lot: lot.id, status, closes: lot.closes },
        }
    }
}

/// A lot, as one user sees it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Shown {
    id: u64,
    title: String,
    seller: Option<UserId>,
    opening: Cents,
    closes: u64,
    soft_close: u64,
    status: Status,
    least: Option<Cents>,
    /// The last bids, in order.
    bids: Vec<Bid>,
    /// The user's own highest bid.
    yours: Option<Cents>,
}

impl Shown {
    pub(crate) fn new(lot: &Lot, user: Option<&UserId>, now: u64) -> Self {
        Self {
            id: lot.id,
            title: lot.title.clone(),
            seller: lot.seller.clone(),
            opening: lot.opening,
            closes: lot.closes,
            soft_close: lot.soft_close,
            status: lot.status(now),
            least: lot.least(),
            bids: lot.last_bids().to_vec(),
            yours: lot.bids.iter().rfind(|bid| Some(&bid.user) == user).map(|bid| bid.amount),
        }
    }
}

/// A notice to one user: it waits until the user acknowledges it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Notice {
    pub(crate) user: UserId,
    /// Identifies the notice: a repeated send has the same key.
    pub(crate) key: String,
    pub(crate) urgency: Urgency,
    pub(crate) news: News,
}

/// The content of a notice.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct News {
    news: Kind,
    lot: u64,
    title: String,
    /// The price now, or the last one.
    amount: Option<Cents>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Outbid,
    Won,
    Lost,
    /// Sent to the seller, whether the lot is sold or not.
    Ended,
}

impl Notice {
    /// Returns the notice to the bidder of the first of two consecutive bids.
    pub(crate) fn outbid(lot: &Lot, pair: &[Bid]) -> Self {
        let (before, bid) = (&pair[0], &pair[1]);
        let key = format!("outbid {} {}", lot.id, bid.seq);
        Self::new(lot, &before.user, key, Urgency::High, Kind::Outbid, Some(bid.amount))
    }

    pub(crate) fn won(lot: &Lot, bid: &Bid) -> Self {
        Self::new(lot, &bid.user, format!("won {}", lot.id), Urgency::High, Kind::Won, Some(bid.amount))
    }

    pub(crate) fn lost(lot: &Lot, user: &UserId) -> Self {
        let amount = lot.leader().map(|bid| bid.amount);
        Self::new(lot, user, format!("lost {}", lot.id), Urgency::Normal, Kind::Lost, amount)
    }

    pub(crate) fn ended(lot: &Lot, seller: &UserId) -> Self {
        let amount = lot.leader().map(|bid| bid.amount);
        Self::new(lot, seller, format!("ended {}", lot.id), Urgency::Normal, Kind::Ended, amount)
    }

    fn new(lot: &Lot, user: &UserId, key: String, urgency: Urgency, news: Kind, amount: Option<Cents>) -> Self {
        let news = News { news, lot: lot.id, title: lot.title.clone(), amount };
        Self { user: user.clone(), key, urgency, news }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// The samples, which `messages.d.ts` is also checked with.
    fn samples() -> Value {
        serde_json::from_str(include_str!("samples.json")).expect("they are JSON")
    }

    fn user(name: &str) -> UserId {
        UserId::new(name).expect("it is a name")
    }

    fn cents(cents: u64) -> Cents {
        Cents::new(cents).expect("it is an amount")
    }

    #[test]
    fn every_client_sample_is_parsed() {
        let samples = samples();
        for sample in samples["client"].as_array().expect("a list") {
            serde_json::from_value::<FromClient>(sample.clone()).unwrap_or_else(|error| panic!("{sample}: {error}"));
        }
    }

    #[test]
    fn server_messages_match_the_samples() {
        let (ada, now) = (user("ada"), 1_763_700_000_000);
        let id = |id: &str| BidId::new(id.into()).expect("it is an id");
        let mut teapot = Lot::new("A teapot".into(), None, cents(1000), now + 60_000, 10_000);
        teapot.id = 1;
        teapot.bid(now, &ada, &id("b-1"), cents(1250)).expect("it is good");
        let mut kettle = Lot::new("A kettle".into(), Some(ada.clone()), cents(500), now + 60_000, 10_000);
        kettle.id = 2;
        let lots = ToClient::Lots { lots: vec![Shown::new(&teapot, Some(&ada), now)], now };
        let lot = ToClient::Lot { lot: Shown::new(&kettle, None, now) };
        let bid = ToClient::bid(&teapot, teapot.bids[0].clone());
        let (reason, least) = ("bid 13.50 or more".into(), teapot.least());
        let refused = ToClient::Refused { lot: 1, id: id("b-2"), amount: cents(1300), reason, least };
        let closing = ToClient::status(&teapot, now + 50_000);
        for lot in [&mut teapot, &mut kettle] {
            assert!(lot.close(now + 60_000));
        }
        let [sold, unsold] = [&teapot, &kettle].map(|lot| ToClient::status(lot, now + 60_000));
        let time = ToClient::Time { sent: 1234.5, now };
        let said = [lots, lot, bid, refused, closing, sold, unsold, time].map(|message| json!(message));
        let samples = samples();
        let mut expected = samples["server"].as_array().expect("a list").clone();
        let notification = expected.pop().expect("the last one is the library's");
        assert_eq!(said.to_vec(), expected);

        let better = Bid { seq: 2, id: id("b-3"), user: user("bob"), amount: cents(1350), time: now };
        let notice = Notice::outbid(&teapot, &[teapot.bids[0].clone(), better]);
        assert_eq!(json!(notice.news), notification["data"]);
        assert_eq!(notice.urgency.as_str(), notification["priority"]);
        assert_eq!((notice.user, &*notice.key), (ada, "outbid 1 2"));
    }
}
