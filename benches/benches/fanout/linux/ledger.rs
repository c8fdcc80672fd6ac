//! What was sent and who has received it: the judge of order and completeness. A plain value.
//!
//! Messages of different clients may be taken by the server in another order than they were sent in. The
//! first connection that gets beyond all others says what that order is; every other one must agree.

/// A message that no connection has received yet.
const NOWHERE: u32 = u32::MAX;

pub(super) struct Ledger {
    /// How many connections have to receive each message.
    readers: u32,
    /// By number: the place of a message in `order`.
    places: Vec<u32>,
    /// In the order of all connections: the number, and how many have it.
    order: Vec<(u64, u32)>,
    /// By connection: how many it has received, which is the place in `order` of its next one.
    received: Vec<u32>,
    in_flight: usize,
}

impl Ledger {
    pub(super) fn new(readers: usize) -> Self {
        // Room for what a run sends: neither a message nor a delivery waits for memory.
        let messages = 1 << 20;
        Self {
            readers: readers as u32,
            places: Vec::with_capacity(messages),
            order: Vec::with_capacity(messages),
            received: vec![0; readers],
            in_flight: 0,
        }
    }

    /// Takes note of a message that is sent, and returns its number.
    pub(super) fn send(&mut self) -> u64 {
        self.places.push(NOWHERE);
        self.in_flight += 1;
        self.places.len() as u64 - 1
    }

    pub(super) fn sent(&self) -> usize {
        self.places.len()
    }

    /// Returns how many messages somebody still waits for.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Takes note of a delivery.
    ///
    /// # Errors
    /// When the message is not the one that is next for this connection.
    pub(super) fn receive(&mut self, connection: usize, seq: u64) -> Result<(), String> {
        let at = self.received[connection] as usize;
        if at == self.order.len() {
            self.open(seq)?;
        }
        let (expected, have) = &mut self.order[at];
        if *expected != seq {
            return Err(format!("connection {connection} got message {seq} where others got {expected}"));
        }
        *have += 1;
        if *have == self.readers {
            self.in_flight -= 1;
        }
        self.received[connection] += 1;
        Ok(())
    }

    /// A message arrives for the first time.
    fn open(&mut self, seq: u64) -> Result<(), String> {
        match self.places.get_mut(seq as usize) {
            None => Err(format!("message {seq} was never sent")),
            Some(place) if *place == NOWHERE => {
                *place = self.order.len() as u32;
                self.order.push((seq, 0));
                Ok(())
            }
            Some(place) => Err(format!("message {seq} came twice: at {place}, and at {}", self.order.len())),
        }
    }

    /// Returns the place of a message that all others have, for a connection that may miss some.
    pub(super) fn place(&self, seq: u64) -> Option<u32> {
        self.places.get(seq as usize).copied().filter(|place| *place != NOWHERE)
    }

    /// Says who waits for what, when something did not come.
    pub(super) fn state(&self) -> String {
        let (last, first) = (self.received.iter().max(), self.received.iter().min());
        format!(
            "{} messages sent, {} not received by all; connections have between {first:?} and {last:?}",
            self.sent(),
            self.in_flight
        )
    }
}
