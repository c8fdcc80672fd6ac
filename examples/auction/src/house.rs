//! The house: all lots, and for each a task that owns it.
//!
//! Bids for a lot reach its owner through one inbox, and only the owner changes the lot: the bids have one order
//! without a lock. The owner takes all waiting bids, writes the accepted ones in one commit, and then announces them.
//! So no client sees a bid that a crash could undo, and a batch waits for the disk once, however many bids it has.
//!
//! When the disk fails the whole program ends, as if killed at that moment: the next start reads the true state.

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

/// News for all clients.
pub(crate) const NEWS: Key<ToClient> = Key::new("auction.news");
/// A notice for one user.
pub(crate) const NOTICE: Key<Notice> = Key::new("auction.notice");

/// How many bids may wait for an owner, or share one commit. With a full inbox, bidders' sockets are not read.
const INBOX: usize = 256;

#[derive(Debug)]
pub(crate) struct House {
    events: Dispatcher,
    clock: Clock,
    store: Store,
    /// The lots as of each one's last commit: an immutable value behind one cell.
    board: watch::Sender<Board>,
    /// Takes the error that ends the program.
    broken: mpsc::Sender<fanfare::Error>,
}

/// All lots, by number.
pub(crate) type Board = BTreeMap<u64, Desk>;

/// A lot as last committed, and its owner's inbox.
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
    /// When the bid arrived. This time counts, however long the bid waits for the owner.
    pub(crate) at: u64,
}

impl House {
    /// Opens the house with the lots of the file. Their owners complete what a crash has interrupted.
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

    /// Returns a receiver of the current lots.
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

    /// Passes a bid to its lot's owner, and waits while the inbox is full. The owner answers the bidder.
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
        // Only the first error is needed: the channel has room for one.
        _ = self.broken.try_send(error);
    }

    /// Starts the owner of a lot. `first` announces a new lot, before all bids for it.
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

    /// Runs an owner until its lot is removed.
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
                // A bid that has arrived is judged before the lot is closed.
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

    /// Writes a lot and its new bids, then puts the lot on the board. The caller announces them after that.
    async fn commit(self: &Arc<Self>, lot: &Lot, new: Vec<Bid>) -> Result<(), fanfare::Error> {
        let lot = Arc::new(lot.clone());
        let written = Arc::clone(&lot);
        self.blocking(move |store| store.save(&written, &new)).await?;
        self.board.send_modify(|board| {
            // The lot may have been removed since.
            if let Some(desk) = board.get_mut(&lot.id) {
                desk.lot = lot;
            }
        });
        Ok(())
    }

    /// Sends all due notices at once. The next commit records that they were sent. After a crash before it, they are
    /// sent again under the same keys, and the offline queues drop the repetitions.
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

    /// Runs `work` on a thread for blocking calls, where waiting for the disk delays no other task.
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
        // A bidder who has disconnected sends the bid again.
        _ = self.from.send(answer);
    }

    fn refuse(&self, refusal: &Refusal, least: Option<Cents>) {
        let (lot, id, amount, reason) = (self.lot, self.id.clone(), self.amount, refusal.to_string());
        self.answer(&ToClient::Refused { lot, id, amount, reason, least });
    }
}

/// The auction's clock: set from the system time at the start and monotonic from then on, even if the system time is
/// changed.
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
        u64::try_from((self.wall + self.started.elapsed()).as_millis()).expect("milliseconds fit into 64 bits")
    }

    /// Sleeps until the clock has reached `time`.
    async fn sleep_until(&self, time: u64) {
        // A millisecond more than the difference, because `now` rounds down.
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

    /// Places a bid, by ada and bob in turn.
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

    /// Reads the disk in the listener, just before the news goes to the clients.
    #[tokio::test(flavor = "multi_thread")]
    async fn bids_are_on_disk_before_they_are_announced_and_waiting_bids_share_a_commit() {
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
        assert!(heard.try_recv().is_err(), "nothing is announced before it is written");
        drop(slow_disk);

        let mut commits = BTreeSet::new();
        for expected in 1..=BIDS {
            let (seq, is_kept, kept) = heard.recv().await.expect("all bids are announced");
            assert_eq!((seq, is_kept), (expected, true));
            commits.insert(kept);
        }
        // The first commit has the bids that the owner had taken when the disk became slow, the second all the others.
        assert!(commits.len() <= 2, "bids in the file at each announcement: {commits:?}");
    }

    #[tokio::test]
    async fn a_failing_disk_ends_the_program_and_the_bid_is_not_announced() {
        let (events, (broken, mut breaks)) = (Dispatcher::new(), mpsc::channel(1));
        let (store, is_broken) = Store::in_memory();
        let house = House::open(&events, store, broken).expect("it is empty");
        let lot = open_lot(&house).await;
        let (told, mut heard) = mpsc::unbounded_channel();
        let is_bid = |news: &ToClient| matches!(news, ToClient::Bid { .. });
        events.listen(NEWS).expect("it is a name").filter(is_bid).on(move |_| told.send(()));
        is_broken.store(true, Ordering::SeqCst);
        bid(&house, lot, 0).await;
        let error = breaks.recv().await.expect("the program gets the error").to_string();
        assert!(error.contains("no space left"), "{error}");
        assert!(heard.try_recv().is_err(), "a bid that is not written is not announced");
    }

    #[tokio::test]
    async fn a_notice_that_cannot_be_stored_ends_the_program_and_is_due_again() {
        let (events, (broken, mut breaks)) = (Dispatcher::new(), mpsc::channel(1));
        let house = House::open(&events, Store::in_memory().0, broken).expect("it is empty");
        events.on(NOTICE, |_| Err::<(), _>("no space left")).expect("it is a name");
        let lot = open_lot(&house).await;
        for number in 0..2 {
            bid(&house, lot, number).await;
        }
        let error = breaks.recv().await.expect("the program gets the error").to_string();
        assert!(error.contains("no space left"), "{error}");
        let kept = house.store.lots().expect("memory works").remove(0);
        assert_eq!(kept.notices().len(), 1, "after the next start");
    }
}
