//! What it costs the server that a client comes back and has missed a thousand messages: its own processor time, over
//! a real socket, from the join to the last byte.

use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use fanfare::group::{ChannelBox, GroupOptions, HistoryLimits, Position, Since};
use fanfare::ws::Upgrade;
use rustix::time::{ClockId, clock_gettime};
use tokio::net::TcpListener;
use tokio::runtime;

use super::engine::GROUP;
use super::machine::Machine;
use super::wire::{self, Agreed, Payload};

pub(super) const MISSED: u64 = 1000;

/// Returns the microseconds of each of that many replays.
pub(super) fn measure(machine: &Machine, bytes: usize, times: usize) -> Vec<f64> {
    let (tell, told) = mpsc::channel();
    let (tell_address, address) = mpsc::channel();
    machine.on_the_server_core(|| {
        thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("a thread has a runtime");
            runtime.block_on(serve(bytes, tell_address, tell)).expect("it serves until the process ends");
        })
    });
    machine.stay_on_the_load_core();
    let address = address.recv().expect("it listens");
    let mut payload = Payload::new(bytes);
    (0..times)
        .map(|_| {
            read_all(address, &mut payload);
            told.recv().expect("it tells of each").as_nanos() as f64 / 1000.0
        })
        .collect()
}

async fn serve(
    bytes: usize,
    tell_address: mpsc::Sender<SocketAddr>,
    tell: mpsc::Sender<Duration>,
) -> std::io::Result<()> {
    let channels = ChannelBox::builder().groups(|_| GroupOptions::default().history(HistoryLimits::default())).build();
    let mut payload = Payload::new(bytes);
    let sent = (0..MISSED).map(|seq| channels.group_send(GROUP, &payload.message(seq, 0)));
    let last = sent.last().and_then(Result::ok).and_then(|report| report.position()).expect("it is kept");
    let seen = Since::Position(Position { offset: 0, ..last });
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    _ = tell_address.send(listener.local_addr()?);
    let route = async move |upgrade: Upgrade| {
        upgrade.run(async move |channel| {
            let start = processor_time();
            let (_membership, recovery) = channels.group(GROUP).join_since(&channel, seen)?;
            channel.sender().drained().await;
            let spent = processor_time() - start;
            assert!(recovery.recovered && recovery.replayed as u64 == MISSED);
            Ok(tell.send(spent)?)
        })
    };
    axum::serve(listener, Router::new().route("/", get(route))).await
}

/// Returns what this thread has had of its processor.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Comes back, and reads all that it has missed.
fn read_all(address: SocketAddr, payload: &mut Payload) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    assert_eq!(wire::shake_hands(&mut stream, false).expect("it upgrades"), Agreed::Plain);
    let (mut bytes, mut next) = (Vec::new(), 0);
    while next < MISSED {
        wire::read_more(&mut stream, &mut bytes).expect("it sends");
        let mut start = 0;
        while let Some(frame) = wire::front(&bytes[start..]) {
            let received = &bytes[start + frame.payload.start..start + frame.payload.end];
            start += frame.payload.end;
            // The first one tells how the join went.
            if let Some((seq, _)) = payload.read(received) {
                assert_eq!(seq, next, "each once, in order");
                next += 1;
            }
        }
        bytes.drain(..start);
    }
}
