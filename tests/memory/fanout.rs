//! What a group send costs in memory: the same for any number of members, and no copy of the payload for any.
//!
//! Server and clients share the one thread of a runtime, whose allocations are counted. Clients read only when nobody
//! counts: what is sent lies in the kernel's buffers until then.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use allocation_counter::{AllocationInfo, measure};
use axum::Router;
use axum::routing::get;
use fanfare::frame::Frame;
use fanfare::group::{ChannelBox, Delivery};
use fanfare::ws::Upgrade;
use tokio::runtime::{Builder, Runtime};

use crate::sockets::{Raw, serve_router, tells, told};

/// As many as have their files where a process may have a thousand, both ends of each in this one.
const MANY: usize = 400;
/// For the same reason there is one room at a time.
static ONE_ROOM: Mutex<()> = Mutex::new(());
const PAYLOAD: usize = 4000;

struct Room {
    runtime: Runtime,
    channels: ChannelBox,
    clients: Vec<Raw>,
}

impl Room {
    /// `connect` says how the client of a number does.
    fn of(members: usize, connect: impl AsyncFn(usize, SocketAddr) -> Raw) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("there are files");
        let channels = ChannelBox::new();
        let in_box = channels.clone();
        let clients = runtime.block_on(async {
            let (tell, mut tells) = tells();
            let route = async move |upgrade: Upgrade| {
                #[cfg(feature = "deflate")]
                let upgrade = upgrade.deflate();
                upgrade.run(async move |mut channel| {
                    let _membership = in_box.join(&channel, "room")?;
                    tell.send(())?;
                    channel.discard().await;
                    Ok(())
                })
            };
            let address = serve_router(Router::new().route("/", get(route))).await;
            let mut clients = Vec::new();
            for number in 0..members {
                clients.push(connect(number, address).await);
                told(&mut tells).await;
            }
            clients
        });
        let mut room = Self { runtime, channels, clients };
        // The first sends make what later ones have: the compressor, the runtime's queues.
        for _ in 0..3 {
            room.cost();
        }
        room
    }

    /// What one send takes, from the payload to the last socket.
    fn cost(&mut self) -> AllocationInfo {
        let members = self.clients.len();
        let payload = "say it again ".repeat(PAYLOAD / 13);
        let cost = measure(|| {
            self.runtime.block_on(async {
                let report = self.channels.group("room").send_frame(&Frame::text(&payload));
                assert_eq!(report.settled().await, Delivery { written: members, queued: 0, dropped: 0 });
            });
        });
        self.runtime.block_on(async {
            for client in &mut self.clients {
                client.frame().await.expect("it lives");
            }
        });
        cost
    }

    /// The least of some: the runtime may have had something else to do in one of them.
    fn least_cost(&mut self) -> AllocationInfo {
        let costs = std::iter::repeat_with(|| self.cost()).take(5);
        costs.min_by_key(|cost| cost.count_total).expect("there are five")
    }
}

fn assert_costs_the_same(encodings: usize, connect: impl AsyncFn(usize, SocketAddr) -> Raw) {
    let _alone = ONE_ROOM.lock().unwrap_or_else(PoisonError::into_inner);
    let ten = Room::of(10, &connect).least_cost();
    let many = Room::of(MANY, &connect).least_cost();
    assert_eq!((many.count_total, many.bytes_total), (ten.count_total, ten.bytes_total), "{many:?} and {ten:?}");
    // The payload is written once for each way it is encoded; what else there is does not depend on it.
    assert!(many.bytes_total < (encodings * PAYLOAD + 2500) as u64, "{many:?}");
}

#[test]
fn a_send_costs_the_same_for_ten_and_for_hundreds_of_members() {
    assert_costs_the_same(1, async |_, address| Raw::connect(address).await);
}

#[cfg(feature = "deflate")]
#[test]
fn a_send_is_compressed_once_for_any_number_of_members() {
    assert_costs_the_same(2, async |_, address| Raw::connect_deflating(address).await);
}

#[cfg(feature = "deflate")]
#[test]
fn a_send_to_compressed_and_plain_members_is_encoded_once_for_either() {
    assert_costs_the_same(2, async |number, address| match number % 2 {
        0 => Raw::connect(address).await,
        _ => Raw::connect_deflating(address).await,
    });
}
