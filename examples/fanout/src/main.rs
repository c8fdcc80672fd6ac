//! Sends every text to all clients. `PORT=3000 cargo run --release -p fanout`; clients connect to `/`.

use axum::Router;
use axum::routing::get;
use fanfare::channel::{Channel, Message};
use fanfare::frame::Frame;
use fanfare::group::ChannelBox;
use fanfare::ws::{Upgrade, serve};

#[tokio::main]
async fn main() -> Result<(), fanfare::Error> {
    let (listener, told_to_end) = start::listen("fanout", 3000).await?;
    let channels = ChannelBox::new();
    let route = get(async move |upgrade: Upgrade| upgrade.run(async move |channel| fan_out(channel, channels).await));
    serve(listener, Router::new().route("/", route)).max_connections(20_000).shutdown_on(told_to_end).await;
    Ok(())
}

async fn fan_out(mut channel: Channel, channels: ChannelBox) -> Result<(), fanfare::Error> {
    let _membership = channels.join(&channel, "all")?;
    while let Some(Ok(message)) = channel.recv_message().await {
        if let Message::Text(text) = message {
            // A full group slows its senders down; no message is lost.
            channels.group("all").send_frame_when_room(&Frame::text(text)).await;
        }
    }
    Ok(())
}
