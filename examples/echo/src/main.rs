//! Sends every message back. `PORT=3000 cargo run --release -p echo`; clients connect to `/`.

use axum::Router;
use axum::routing::get;
use fanfare::channel::{Channel, Message};
use fanfare::frame::Frame;
use fanfare::ws::{Upgrade, serve};

#[tokio::main]
async fn main() -> Result<(), fanfare::Error> {
    let (listener, told_to_end) = start::listen("echo", 3000).await?;
    let route = get(async |upgrade: Upgrade| upgrade.max_message_size(16 << 20).deflate().run(echo));
    serve(listener, Router::new().route("/", route)).max_connections(20_000).shutdown_on(told_to_end).await;
    Ok(())
}

async fn echo(mut channel: Channel) -> Result<(), fanfare::Error> {
    // An error that ends the connection is the client's: the library has closed with a code and a reason.
    while let Some(Ok(message)) = channel.recv_message().await {
        channel.send_frame(&match message {
            Message::Text(text) => Frame::text(text),
            Message::Binary(bytes) => Frame::binary(bytes),
        })?;
    }
    Ok(())
}
