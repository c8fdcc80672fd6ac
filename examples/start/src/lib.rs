//! What the examples have in common: from environment to listening socket, and when to end.

use std::env;
use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::net::IpAddr;

use tokio::net::TcpListener;

/// Listens on `PORT` (3000 by default; 0 is any that is free) of `HOST` (this machine alone, by default),
/// and prints the address as the first line.
///
/// The future that comes with it resolves on Ctrl-C, and on SIGTERM where there is such a thing.
///
/// # Errors
///
/// When a variable is no port or address, or the port cannot be had.
pub async fn listen(name: &str) -> Result<(TcpListener, impl Future<Output = ()> + Send + 'static), Problem> {
    let port: u16 = match env::var("PORT") {
        Ok(port) => port.parse().map_err(|_| Problem(format!("PORT={port} is not a port number (0 to 65535)")))?,
        Err(_) => 3000,
    };
    let host: IpAddr = match env::var("HOST") {
        Ok(host) => host.parse().map_err(|_| Problem(format!("HOST={host} is not an IP address, such as 0.0.0.0")))?,
        Err(_) => IpAddr::from([127, 0, 0, 1]),
    };
    if !host.is_loopback() {
        eprintln!("{name}: warning: everybody who reaches {host} can take part");
    }
    let listener = TcpListener::bind((host, port)).await.map_err(|error| {
        Problem(match error.kind() {
            ErrorKind::AddrInUse => {
                format!("port {port} is in use; choose another one, as in PORT={}", port.wrapping_add(1).max(1024))
            }
            _ => format!("cannot listen on {host} port {port}: {error}"),
        })
    })?;
    // Before the address is known: nobody can end the program too early for it to notice.
    let told_to_end = told_to_end()?;
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{name} is at http://{}", listener.local_addr()?)?;
    stdout.flush()?;
    Ok((listener, told_to_end))
}

#[cfg(unix)]
fn told_to_end() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    use std::future::poll_fn;
    use tokio::signal::unix::{SignalKind, signal};

    let mut signals = [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?];
    Ok(async move {
        poll_fn(|cx| match signals.iter_mut().any(|signal| signal.poll_recv(cx).is_ready()) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        })
        .await;
    })
}

#[cfg(not(unix))]
fn told_to_end() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    Ok(async { drop(tokio::signal::ctrl_c().await) })
}

/// Why an example cannot start. Readable both ways: `main` prints what it returns by `Debug`.
pub struct Problem(String);

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Problem {}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}
