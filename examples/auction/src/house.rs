//! The house: all lots, and for each a task that owns it.
//!
//! Bids for a lot come to its owner through one inbox, and only the owner changes the lot: no lock is needed to have
//! them in one order. It takes all that wait, writes those that are good in one commit, and then tells. So nobody
//! hears of a bid that a crash could take back, and the disk is waited for once, however many bids there are.
//!
//! When the disk fails the whole program ends, as if it had been killed then: the next start knows what is true.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fanfare::channel::{Sender, UserId};
use fanfare::{Dispatcher, Key};
use futures_util::future::join_all;
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until};

use crate::lot::{Accepted, Bid, BidId, Lot, Refusal};
use crate::message::{Notice, Shown, ToClient};
use crate::money::Cents;
use crate::store::{Opened, Store};

/// Something happened that everybody hears.
pub(crate) const NEWS: Key<ToClient> = Key::new("auction.news");
/// Something happened that one user is not to miss.
pub(crate) const NOTICE: Key<Notice> = Key::new("auction.notice");

/// How many bids may wait for an owner, or go into one commit; then who sends more is not read.
const INBOX: usize = 256;

#[derive(Debug)]
pub(crate) struct House {
    events: Dispatcher,
    clock: Clock,
    store: Store,
    /// As it was after the last commit of each lot: an immutable value behind one cell.
    board: watch::Sender<Board>,
    /// Takes the error that ends the program.
    broken: mpsc::Sender<fanfare::Error>,
}

/// All lots by their numbers.
pub(crate) type Board = BTreeMap<u64, Desk>;

/// Where a lot is found.
#[derive(Clone, Debug)]
pub(crate) struct Desk {
    lot: Arc<Lot>,
    inbox: mpsc::Sender<Offer>,
}

/// A bid on its way to the lot's owner.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) from: Sender,
    pub(crate) user: UserId,
    pub(crate) lot: u64,
    pub(crate) id: BidId,
    pub(crate) amount: Cents,
    /// When it came: what counts, however long the owner is busy with others.
    pub(crate) at: u64,
}

impl House {
    /// Opens the house with the lots of the file; what a crash has left undone is made up for by their owners.
    pub(crate) fn open(
        events: &Dispatcher,
        store: Store,
        broken: mpsc::Sender<fanfare::Error>,
    ) -> Result<Arc<Self>, fanfare::Error> {
        let lots = store.lots()?;
        let (clock, board) = (Clock::new(), watch::Sender::default());
        let house = Arc::new(Self { events: events.clone(), clock, store, board, broken });
        for lot in lots {
            house.employ(lot, None);
        }
        Ok(house)
    }

    pub(crate) fn now(&self) -> u64 {
        self.clock.now()
    }

    /// Follows what happens: the receiver has all lots as they are.
    pub(crate) fn board(&self) -> watch::Receiver<Board> {
        self.board.subscribe()
    }

    /// Returns all lots of a board, as a user sees them.
    pub(crate) fn lots(&self, board: &Board, user: &UserId) -> ToClient {
        let now = self.now();
        ToClient::Lots { lots: board.values().map(|desk| Shown::new(&desk.lot, Some(user), now)).collect(), now }
    }

    /// Opens a lot; `None` when too many are open.
    pub(crate) async fn add(self: &Arc<Self>, lot: Lot) -> Result<Option<u64>, fanfare::Error> {
        let Some(Opened { lot, gone }) = self.blocking(move |store| store.add(lot)).await? else { return Ok(None) };
        self.board.send_modify(|board| board.retain(|id, _| !gone.contains(id)));
        let (id, shown) = (lot.id, Shown::new(&lot, None, self.now()));
        self.employ(lot, Some(ToClient::Lot { lot: shown }));
        Ok(Some(id))
    }

    /// Hands a bid to its lot's owner, and waits while that one's inbox is full. The bidder gets an answer from there.
    pub(crate) async fn bid(&self, offer: Offer) {
        let inbox = self.board.borrow().get(&offer.lot).map(|desk| desk.inbox.clone());
        let refused = match inbox {
            Some(inbox) => inbox.send(offer).await.err().map(|unsent| unsent.0),
            None => Some(offer),
        };
        if let Some(offer) = refused {
            offer.refuse(&Refusal::NoLot, None);
        }
    }

    /// Ends the program.
    pub(crate) fn fail(&self, error: fanfare::Error) {
        // One error is enough: there is room for one.
        _ = self.broken.try_send(error);
    }

    /// Gives a lot its owner. What that one has to tell of a new lot comes before all bids for it.
    fn employ(self: &Arc<Self>, lot: Lot, first: Option<ToClient>) {
        let (inbox, offers) = mpsc::channel(INBOX);
        self.board.send_modify(|board| _ = board.insert(lot.id, Desk { lot: Arc::new(lot.clone()), inbox }));
        let house = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(error) = house.own(lot, first, offers).await {
                house.fail(error);
            }
        });
    }

    /// The life of an owner: until its lot has to go.
    async fn own(
        self: &Arc<Self>,
        mut lot: Lot,
        first: Option<ToClient>,
        mut inbox: mpsc::Receiver<Offer>,
    ) -> Result<(), fanfare::Error> {
        let mut offers = Vec::new();
        let mut status = lot.status(self.now());
        if let Some(news) = first {
            self.events.emit(NEWS, &news)?;
        }
        self.notify(&mut lot).await?;
        loop {
            let change = lot.next_change(self.now());
            tokio::select! {
                // A bid that has come is judged before the lot is closed.
                biased;
                received = inbox.recv_many(&mut offers, INBOX) => if received == 0 { return Ok(()) },
                () = self.clock.sleep_until(change.unwrap_or_default()), if change.is_some() => {}
            }
            let now = self.now();
            let judge = |offer: Offer| (lot.bid(offer.at, &offer.user, &offer.id, offer.amount), offer);
            let judged: Vec<_> = offers.drain(..).map(judge).collect();
            let new: Vec<_> = judged.iter().filter_map(|(verdict, _)| verdict.as_ref().ok()?.news()).collect();
            if lot.close(now) || !new.is_empty() {
                self.commit(&lot, new).await?;
            }
            for (verdict, offer) in judged {
                match verdict {
                    Ok(Accepted::New(bid)) => drop(self.events.emit(NEWS, &ToClient::bid(&lot, bid))?),
                    Ok(Accepted::Again(bid)) => offer.answer(&ToClient::bid(&lot, bid)),
                    Err(refusal) => offer.refuse(&refusal, lot.least()),
                }
            }
            if status != lot.status(now) {
                status = lot.status(now);
                self.events.emit(NEWS, &ToClient::status(&lot, now))?;
            }
            self.notify(&mut lot).await?;
        }
    }

    /// Writes a lot and its new bids, and then puts it on the board: before anybody is told.
    async fn commit(self: &Arc<Self>, lot: &Lot, new: Vec<Bid>) -> Result<(), fanfare::Error> {
        let lot = Arc::new(lot.clone());
        let written = Arc::clone(&lot);
        self.blocking(move |store| store.save(&written, &new)).await?;
        self.board.send_modify(|board| {
            // It may be gone by now.
            if let Some(desk) = board.get_mut(&lot.id) {
                desk.lot = lot;
            }
        });
        Ok(())
    }

    /// Sends the notices that are due, all at once. That they were sent is written with the next bids, or with the end:
    /// after a crash before that they are sent again under their old keys, and are known to be the same ones.
    async fn notify(self: &Arc<Self>, lot: &mut Lot) -> Result<(), fanfare::Error> {
        let notices = lot.notices();
        for report in join_all(notices.iter().map(|notice| self.events.emit_async(NOTICE, notice))).await {
            if let Some(failure) = report?.failures().first() {
                return Err(failure.to_string().into());
            }
        }
        lot.settle();
        if lot.is_closed && !notices.is_empty() {
            self.commit(lot, Vec::new()).await?;
        }
        Ok(())
    }

    /// Works with the store where waiting for the disk delays nobody else.
    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Store) -> Result<T, fanfare::Error> + Send + 'static,
    ) -> Result<T, fanfare::Error> {
        let house = Arc::clone(self);
        spawn_blocking(move || work(&house.store)).await?
    }
}

impl Accepted {
    fn news(&self) -> Option<Bid> {
        match self {
            Self::New(bid) => Some(bid.clone()),
            Self::Again(_) => None,
        }
    }
}

impl Offer {
    fn answer(&self, answer: &ToClient) {
        // A bidder who is gone sends the bid again.
        _ = self.from.send(answer);
    }

    fn refuse(&self, refusal: &Refusal, least: Option<Cents>) {
        let (lot, id, amount, reason) = (self.lot, self.id.clone(), self.amount, refusal.to_string());
        self.answer(&ToClient::Refused { lot, id, amount, reason, least });
    }
}

/// The clock of the auction: it says what the clock on the wall said at the start, and goes on evenly from there,
/// whatever somebody does to that one.
#[derive(Debug)]
struct Clock {
    started: Instant,
    /// Since 1970.
    wall: Duration,
}

impl Clock {
    fn new() -> Self {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { started: Instant::now(), wall }
    }

    fn now(&self) -> u64 {
        u64::try_from((self.wall + self.started.elapsed()).as_millis()).expect("it fits for a while")
    }

    /// Sleeps until the clock says that, or later.
    async fn sleep_until(&self, time: u64) {
        // A millisecond more than the difference: `now` leaves out what is less than one.
        let until = (Duration::from_millis(time) + Duration::from_millis(1)).saturating_sub(self.wall);
        sleep_until(self.started + until).await;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::atomic::Ordering;

    use fanfare::channel::{Channel, ChannelOptions};

    use super::*;

    /// Has somebody bid, in turn ada and bob.
    async fn bid(house: &House, lot: u64, number: u64) {
        let user = UserId::new(["ada", "bob"][number as usize % 2]).expect("it is a name");
        let (channel, _far_end) = Channel::in_memory_with(ChannelOptions::default().user(user.clone()));
        let id = BidId::new(number.to_string()).expect("it is an id");
        let (from, amount, at) = (channel.sender(), cents(1000 + number * 100), house.now());
        house.bid(Offer { from, user, lot, id, amount, at }).await;
    }

    fn cents(cents: u64) -> Cents {
        Cents::new(cents).expect("it is an amount")
    }

    async fn open_lot(house: &Arc<House>) -> u64 {
        let lot = Lot::new("A teapot".into(), None, cents(1000), house.now() + 60_000, 10_000);
        house.add(lot).await.expect("it is stored").expect("none is open")
    }

    /// Looks at the disk from within the listener: the moment before anybody is told.
    #[tokio::test(flavor = "multi_thread")]
    async fn bids_are_on_the_disk_before_anybody_hears_of_them_and_those_that_wait_go_there_together() {
        const BIDS: u64 = 50;
        let (events, (broken, _breaks)) = (Dispatcher::new(), mpsc::channel(1));
        let house = House::open(&events, Store::in_memory().0, broken).expect("it is empty");
        let (told, mut heard) = mpsc::unbounded_channel();
        let looks = Arc::clone(&house);
        let listener = move |news: &ToClient| {
            if let ToClient::Bid { bid, .. } = news {
                let kept = looks.store.lots()?.remove(0).bids;
                told.send((bid.seq, kept.contains(bid), kept.len()))?;
            }
            Ok::<_, fanfare::Error>(())
        };
        events.on(NEWS, listener).expect("it is a name");

        let lot = open_lot(&house).await;
        let slow_disk = house.store.hold();
        for number in 0..BIDS {
            bid(&house, lot, number).await;
        }
        assert!(heard.try_recv().is_err(), "nothing is written, so nothing is told");
        drop(slow_disk);

        let mut commits = BTreeSet::new();
        for expected in 1..=BIDS {
            let (seq, is_kept, kept) = heard.recv().await.expect("all are told");
            assert_eq!((seq, is_kept), (expected, true));
            commits.insert(kept);
        }
        // What the owner had taken when the disk began to be slow, and all the others.
        assert!(commits.len() <= 2, "the file had so many bids: {commits:?}");
    }

    #[tokio::test]
    async fn a_disk_that_fails_ends_the_program_and_the_bid_is_not_told() {
        let (events, (broken, mut breaks)) = (Dispatcher::new(), mpsc::channel(1));
        let (store, is_broken) = Store::in_memory();
        let house = House::open(&events, store, broken).expect("it is empty");
        let lot = open_lot(&house).await;
        let (told, mut heard) = mpsc::unbounded_channel();
        let is_bid = |news: &ToClient| matches!(news, ToClient::Bid { .. });
        events.listen(NEWS).expect("it is a name").filter(is_bid).on(move |_| told.send(()));
        is_broken.store(true, Ordering::SeqCst);
        bid(&house, lot, 0).await;
        let error = breaks.recv().await.expect("the program is told to end").to_string();
        assert!(error.contains("no space left"), "{error}");
        assert!(heard.try_recv().is_err(), "nobody hears of a bid that is not written");
    }

    #[tokio::test]
    async fn a_notice_that_cannot_be_kept_ends_the_program_and_is_due_again() {
        let (events, (broken, mut breaks)) = (Dispatcher::new(), mpsc::channel(1));
        let house = House::open(&events, Store::in_memory().0, broken).expect("it is empty");
        events.on(NOTICE, |_| Err::<(), _>("no space left")).expect("it is a name");
        let lot = open_lot(&house).await;
        for number in 0..2 {
            bid(&house, lot, number).await;
        }
        let error = breaks.recv().await.expect("the program is told to end").to_string();
        assert!(error.contains("no space left"), "{error}");
        let kept = house.store.lots().expect("memory works").remove(0);
        assert_eq!(kept.notices().len(), 1, "after the next start");
    }
}
