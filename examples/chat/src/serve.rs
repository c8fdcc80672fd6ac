//! From environment to listening socket, and from Ctrl-C to a clean end.

use std::env;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;

use axum::Router;
use fanfare::group::ChannelBox;
use tokio::net::TcpListener;

/// How long clients have to answer the close, once the program is told to end.
const FAREWELL: Duration = Duration::from_millis(500);

/// Serves until Ctrl-C.
pub(crate) async fn serve(router: Router, channels: &ChannelBox) -> ExitCode {
    let listener = match bind().await {
        Ok(listener) => listener,
        Err(problem) => {
            eprintln!("chat: {problem}");
            return ExitCode::FAILURE;
        }
    };
    match listener.local_addr() {
        Ok(address) => println!("chat is at http://{address}"),
        Err(error) => eprintln!("chat: the address is not known: {error}"),
    }
    tokio::select! {
        result = axum::serve(listener, router) => {
            let Err(error) = result else { return ExitCode::SUCCESS };
            eprintln!("chat: {error}");
            ExitCode::FAILURE
        }
        _ = tokio::signal::ctrl_c() => {
            say_goodbye(channels).await;
            ExitCode::SUCCESS
        }
    }
}

async fn say_goodbye(channels: &ChannelBox) {
    channels.close_all(1001, "the server is going away");
    // Who does not answer in time is cut off when the program ends.
    let _ = tokio::time::timeout(FAREWELL, channels.emptied()).await;
}

async fn bind() -> Result<TcpListener, String> {
    let port: u16 = match env::var("PORT") {
        Ok(port) => port.parse().map_err(|_| format!("PORT={port} is not a port number (0 to 65535)"))?,
        Err(_) => 3000,
    };
    let host: IpAddr = match env::var("HOST") {
        Ok(host) => host.parse().map_err(|_| format!("HOST={host} is not an IP address, such as 0.0.0.0"))?,
        Err(_) => IpAddr::from([127, 0, 0, 1]),
    };
    if !host.is_loopback() {
        eprintln!("chat: warning: everybody who reaches {host} can join this chat");
    }
    TcpListener::bind((host, port)).await.map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => {
            format!("port {port} is in use; choose another one, as in PORT={}", port.wrapping_add(1).max(1024))
        }
        _ => format!("cannot listen on {host} port {port}: {error}"),
    })
}
