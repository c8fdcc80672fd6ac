//! Code that the examples share: the address, the data file, the shutdown signal, the page and the login.

#[cfg(feature = "login")]
mod login;
#[cfg(feature = "page")]
mod page;

use std::env::{self, VarError};
use std::error::Error;
use std::fmt;
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use tokio::net::TcpListener;

#[cfg(feature = "login")]
pub use login::{Login, NAME_RULE, is_name};
#[cfg(feature = "page")]
pub use page::{Page, script};

/// Listens on the port `PORT` (default: `port`; 0 takes a free one) of the address `HOST` (default: this machine only),
/// and prints the address as the first line.
///
/// The returned future resolves on Ctrl-C, and on Unix also on SIGTERM.
///
/// # Errors
///
/// When a variable is not a port or address, or the port is not available.
pub async fn listen(
    name: &str,
    port: u16,
) -> Result<(TcpListener, impl Future<Output = ()> + Send + 'static), Problem> {
    let port: u16 = match variable("PORT")? {
        Some(port) => port.parse().map_err(|_| Problem(format!("PORT={port} is not a port number (0 to 65535)")))?,
        None => port,
    };
    let host: IpAddr = match variable("HOST")? {
        Some(host) => {
            host.parse().map_err(|_| Problem(format!("HOST={host} is not an IP address, such as 0.0.0.0")))?
        }
        None => IpAddr::from([127, 0, 0, 1]),
    };
    if !host.is_loopback() {
        eprintln!("{name}: warning: everyone who can reach {host} can use this program");
    }
    let listener = TcpListener::bind((host, port)).await.map_err(|error| {
        Problem(match error.kind() {
            ErrorKind::AddrInUse => {
                format!("port {port} is in use; choose another, for example PORT={}", port.wrapping_add(1).max(1024))
            }
            _ => format!("cannot listen on {host} port {port}: {error}"),
        })
    })?;
    // Before the address is printed: a signal sent after that is never missed.
    let told_to_end = told_to_end()?;
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{name} is at http://{}", listener.local_addr()?)?;
    stdout.flush()?;
    Ok((listener, told_to_end))
}

fn variable(name: &str) -> Result<Option<String>, Problem> {
    match env::var(name) {
        Ok(value) => Ok(Some(value)),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(_)) => Err(Problem(format!("{name} is not UTF-8"))),
    }
}

/// Returns the data file: `DATA`, or by default `data/NAME.redb` below the current folder. Creates a missing folder.
///
/// # Errors
///
/// When `DATA` does not name a file, or the folder cannot be created.
pub fn data(name: &str) -> Result<PathBuf, Problem> {
    let file = env::var_os("DATA").map_or_else(|| PathBuf::from(format!("data/{name}.redb")), PathBuf::from);
    if file.file_name().is_none() {
        return Err(Problem(format!("DATA={} does not name a file", file.display())));
    }
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).map_err(|error| Problem(format!("DATA={}: {error}", file.display())))?;
    }
    eprintln!("{name}: data is in {}", file.display());
    Ok(file)
}

/// Returns the path of `file` with another ending appended: `data/auction.redb.key`.
#[must_use]
pub fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
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

/// Why an example cannot start. `Debug` prints the text of `Display`, because `main` prints its error by `Debug`.
pub struct Problem(String);

impl Problem {
    /// Adds the file's name and the causes to an error: `RedbStore::open(&file).map_err(Problem::with(&file))`.
    pub fn with<E: Into<Box<dyn Error + Send + Sync>>>(file: &Path) -> impl FnOnce(E) -> Self {
        move |error| {
            let error = error.into();
            let mut text = format!("{}: {error}", file.display());
            let mut source = error.source();
            while let Some(cause) = source {
                text += &format!(": {cause}");
                source = cause.source();
            }
            Self(text)
        }
    }
}

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

impl Error for Problem {}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}
