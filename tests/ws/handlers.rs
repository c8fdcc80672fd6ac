//! How a handler ends, and what that does to its client and to nobody else.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::routing::get;
use fanfare::Dispatcher;
use fanfare::channel::{Channel, CloseCode, UserId};
use fanfare::group::ChannelBox;
use fanfare::ws::{HANDLER_FAILED, Upgrade};
use futures_util::SinkExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use crate::sockets::{CLOSE, PING, PONG, Raw, TEXT, close_code, connect, next, serve, serve_router, serve_with, soon};
use crate::sockets::{masked, tells, told, upgrade};

/// Panics; of a type that handlers can return.
fn fall() -> Result<(), fanfare::Error> {
    panic!("on purpose")
}

#[tokio::test]
async fn how_the_handler_ends_decides_the_close_code() {
    let ends = async |channel: Channel| {
        let address = channel.peer_addr().expect("a TCP client has an address");
        assert!(address.ip().is_loopback());
        Ok(())
    };
    let fails = async |_channel: Channel| Err("on purpose".into());
    let panics = async |_channel: Channel| fall();
    for (address, code) in [(serve(ends).await, 1000), (serve(fails).await, 1011), (serve(panics).await, 1011)] {
        assert_eq!(close_code(&mut connect(address).await).await, code);
    }
}

#[tokio::test]
async fn a_failed_handler_is_an_event_and_no_other_connection_notices() {
    let events = Dispatcher::new();
    let failures = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&failures);
    let _listening = events.on(HANDLER_FAILED, move |failed| {
        heard.lock().expect("no panic").push((failed.is_panic(), failed.peer_addr().is_some(), failed.to_string()));
    });
    let address = serve_with(
        move |upgrade| upgrade.events(&events),
        async |mut channel: Channel| {
            while let Some(Ok(text)) = channel.recv_text().await {
                match &*text {
                    "fail" => return Err("no bread".into()),
                    "panic" => return fall(),
                    _ => channel.send_text(text)?,
                }
            }
            Ok(())
        },
    )
    .await;
    let mut bystander = connect(address).await;
    for ends in ["fail", "panic"] {
        let mut client = connect(address).await;
        client.send(Message::text(ends)).await.expect("the connection lives");
        assert_eq!(close_code(&mut client).await, 1011);
        bystander.send(Message::text("hello")).await.expect("the connection lives");
        assert_eq!(next(&mut bystander).await, Message::text("hello"));
    }
    let failures = failures.lock().expect("no panic");
    let [(false, true, failed), (true, true, panicked)] = &failures[..] else { panic!("{failures:?}") };
    assert!(failed.ends_with("failed: no bread"), "{failed}");
    assert!(panicked.ends_with("panicked: on purpose"), "{panicked}");
}

#[tokio::test]
async fn a_handler_that_panics_before_its_first_await_is_closed_too() {
    let route = async |upgrade: Upgrade| {
        upgrade.run(|channel: Channel| {
            if channel.sender().is_active() {
                panic!("before there is a future")
            }
            async { Ok(()) }
        })
    };
    let address = serve_router(Router::new().route("/", get(route))).await;
    assert_eq!(close_code(&mut connect(address).await).await, 1011);
}

#[tokio::test]
async fn what_a_handler_leaves_behind_may_panic_when_it_is_dropped() {
    struct Grenade;
    impl Drop for Grenade {
        fn drop(&mut self) {
            fall().ok();
        }
    }
    let handler = async |mut channel: Channel| {
        let _grenade = Grenade;
        channel.recv_message().await;
        Ok(())
    };
    let address = serve(handler).await;
    let mut client = connect(address).await;
    client.send(Message::text("go")).await.expect("the connection lives");
    assert_eq!(close_code(&mut client).await, 1011);
    assert_eq!(soon(futures_util::StreamExt::next(&mut client)).await.map(|end| end.is_err()), None, "in order");
}

#[tokio::test]
async fn a_channel_that_was_handed_on_lives_until_it_is_dropped_there() {
    let (tell, mut tells) = tells();
    let handler = move |channel: Channel| {
        let tell = tell.clone();
        async move {
            tell.send(channel)?;
            Ok(())
        }
    };
    let mut client = Raw::connect(serve(handler).await).await;
    let mut channel = told(&mut tells).await;
    // The handler is done. Both ways work on, from another task, and control frames are answered.
    for text in ["one", "two", "three"] {
        client.send(TEXT, text.as_bytes()).await;
        client.send(PING, b"").await;
        let received = soon(channel.recv_text()).await.expect("it lives").expect("it is text");
        channel.send_text(&received).expect("it is open");
        let mut frames = [client.frame().await.expect("it lives"), client.frame().await.expect("it lives")];
        frames.sort();
        assert_eq!(frames, [(TEXT, text.into()), (PONG, Vec::new())]);
    }
    drop(channel);
    assert_eq!(client.close_code().await, Some(1000));
    client.send(CLOSE, &1000u16.to_be_bytes()).await;
    assert_eq!(client.frame().await, None);
}

#[tokio::test]
async fn a_channel_dropped_is_a_channel_closed_though_its_handler_runs_on() {
    let channels = ChannelBox::new();
    let in_box = channels.clone();
    let route = async move |upgrade: Upgrade| {
        upgrade.run(async move |channel| {
            let membership = in_box.join(&channel, "room")?;
            drop(channel);
            std::future::pending::<()>().await;
            drop(membership);
            Ok(())
        })
    };
    let address = serve_router(Router::new().route("/", get(route))).await;
    assert_eq!(close_code(&mut connect(address).await).await, 1000);
    assert_eq!((channels.stats().groups, channels.stats().channels), (0, 0));
}

#[tokio::test]
async fn a_channel_dropped_in_another_task_is_closed_though_its_handler_runs_on() {
    let (tell, mut tells) = tells();
    let handler = move |channel: Channel| {
        let tell = tell.clone();
        async move {
            tell.send(channel)?;
            std::future::pending().await
        }
    };
    let mut client = connect(serve(handler).await).await;
    let channel = told(&mut tells).await;
    client.send(Message::Ping("settled?".into())).await.expect("the connection lives");
    assert!(matches!(next(&mut client).await, Message::Pong(_)));
    drop(channel);
    assert_eq!(close_code(&mut client).await, 1000);
}

#[tokio::test]
async fn a_handler_that_closes_and_reads_on_is_told_of_the_end() {
    let (tell, mut tells) = tells();
    let handler = move |mut channel: Channel| {
        let tell = tell.clone();
        async move {
            assert!(channel.close(CloseCode::new(4001), "enough"));
            assert!(!channel.close(CloseCode::new(4002), "once only"));
            tell.send(channel.recv_message().await.is_none())?;
            Ok(())
        }
    };
    let mut client = connect(serve(handler).await).await;
    assert_eq!(close_code(&mut client).await, 4001);
    assert!(told(&mut tells).await);
}

#[tokio::test]
async fn one_client_that_floods_leaves_its_thread_to_others() {
    const MESSAGES: usize = 100_000;
    // All run on this one thread: while one connection works, no other does. The other here only counts its turns.
    let turns = Arc::new(AtomicUsize::new(0));
    let (tell, mut tells) = tells();
    let seen = Arc::clone(&turns);
    let address = serve(move |mut channel: Channel| {
        let (tell, seen) = (tell.clone(), Arc::clone(&seen));
        async move {
            let (mut received, mut turn, mut in_turn, mut most_in_turn) = (0, 0, 0, 0);
            while let Some(Ok(_)) = channel.recv_message().await {
                let now = seen.load(SeqCst);
                in_turn = if now == turn { in_turn + 1 } else { 1 };
                (received, turn, most_in_turn) = (received + 1, now, most_in_turn.max(in_turn));
            }
            tell.send((received, most_in_turn))?;
            Ok(())
        }
    })
    .await;
    let flood = Raw::connect(address).await.stream.into_std().expect("it is a socket");
    flood.set_nonblocking(false).expect("it is a socket");
    // A thread of its own: the client does not wait for the server's.
    let flooding = std::thread::spawn(move || {
        (&flood).write_all(&masked(0x81, b"x").repeat(MESSAGES)).expect("the server reads on");
        (&flood).write_all(&masked(0x88, b"")).expect("the server reads on");
        flood
    });
    let counting = tokio::spawn(async move {
        loop {
            turns.fetch_add(1, SeqCst);
            tokio::task::yield_now().await;
        }
    });
    let (received, most_in_turn) = told(&mut tells).await;
    counting.abort();
    assert_eq!(received, MESSAGES);
    assert!(most_in_turn <= 256, "{most_in_turn} messages of one client in a row");
    drop(flooding.join().expect("no panic"));
}

#[tokio::test]
async fn a_client_that_is_gone_before_the_handler_begins_is_no_failure_of_the_handler() {
    let (events, channels) = (Dispatcher::new(), ChannelBox::new());
    let (tell, mut tells) = tells();
    let _listening = events.on(HANDLER_FAILED, move |failed| tell.send(failed.is_clients_fault()));
    let address = serve_with(
        move |upgrade| upgrade.events(&events),
        move |channel| {
            let channels = channels.clone();
            async move {
                // The close came with the request: the driver has read it by now.
                let _membership = channels.join(&channel, "room")?;
                Ok(())
            }
        },
    )
    .await;
    let mut stream = TcpStream::connect(address).await.expect("the port is open");
    let mut request = upgrade(address, "").into_bytes();
    request.extend(masked(0x80 | CLOSE, &1000u16.to_be_bytes()));
    stream.write_all(&request).await.expect("it is sent");
    assert!(told(&mut tells).await);
}

#[tokio::test]
async fn a_client_that_is_gone_amid_the_handlers_beginning_is_no_failure_of_the_handler() {
    for attaches in [false, true] {
        let (events, channels) = (Dispatcher::new(), ChannelBox::new());
        let (tell, mut tells) = tells();
        let _listening = events.on(HANDLER_FAILED, move |failed| tell.send(failed.is_clients_fault()));
        let address = serve_with(
            move |upgrade| upgrade.events(&events).user(UserId::new("ada").expect("the id is good")),
            move |mut channel| {
                let channels = channels.clone();
                async move {
                    let membership = channels.join(&channel, "room")?;
                    channel.discard().await;
                    match attaches {
                        true => drop(channels.offline().attach(&channel).await?),
                        false => drop(membership.enter("here")?),
                    }
                    Ok(())
                }
            },
        )
        .await;
        let mut client = connect(address).await;
        client.close(None).await.expect("the connection lives");
        assert!(told(&mut tells).await, "attaches: {attaches}");
    }
}

#[tokio::test]
async fn a_handler_that_returns_what_its_client_did_closes_with_a_code_for_that() {
    let (events, channels) = (Dispatcher::new(), ChannelBox::new());
    let (tell, mut tells) = tells();
    let _listening = events.on(HANDLER_FAILED, move |failed| tell.send(failed.is_clients_fault()));
    let address = serve_with(
        move |upgrade| upgrade.events(&events),
        move |mut channel| {
            let channels = channels.clone();
            async move {
                let Some(room) = channel.recv::<String>().await else { return Ok(()) };
                let _membership = channels.join(&channel, room?)?;
                Ok(())
            }
        },
    )
    .await;
    for (message, code) in
        [(Message::text("no JSON"), 1007), (Message::binary(vec![1]), 1003), (Message::text(r#""\u0000""#), 1008)]
    {
        let mut client = connect(address).await;
        client.send(message).await.expect("the connection lives");
        assert_eq!(close_code(&mut client).await, code);
        assert!(told(&mut tells).await);
    }
}
